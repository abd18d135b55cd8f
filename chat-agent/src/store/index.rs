//! The index of what was said: written behind the messages, by the same thread, when it has time.
//!
//! A room is looked through in the order of its log, and how far is committed together with what
//! was found there. So a crash leaves nothing undone or done twice, and a file from before there
//! was an index is like one that has fallen far behind.
//!
//! Only what a message says now can be found: who edits a message or takes it back removes it.

use super::wording::fold;
use crate::hub::Hub;
use bytes::Bytes;
use protocol::{Content, EncodedBody, Epoch, MessageId};
use room_log::{Chore, StoreError, erasing::Spot};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::oneshot;
use tracing::debug;

/// Messages that are new before they are indexed without anybody asking: together they take less
/// of the disk and of the processor than one by one.
const FRESH_MESSAGES: usize = 128;

/// Messages that are new before they are indexed although commands keep coming: a second's work,
/// which a search would have to wait for.
const LATE_MESSAGES: usize = 64 * 1024;

/// Messages indexed in one transaction, which commands have to wait for; and bytes of bodies after
/// which it ends.
const BATCH_MESSAGES: usize = 256;
/// See [`BATCH_MESSAGES`].
const BATCH_BYTES: usize = 64 * 1024;

/// Rooms looked into in one transaction. Each has at least one new message.
const BATCH_ROOMS: usize = BATCH_MESSAGES;

/// Told that a part was indexed, or why not.
type Done = oneshot::Sender<Result<(), String>>;

/// When the writer thread has something to index.
#[derive(Debug)]
pub(super) struct Indexing {
    /// Messages that came and were not indexed yet, about.
    fresh: usize,
    /// Whether the index may be without messages that are not fresh.
    behind: bool,
    /// Who waits for which rooms; one for each search at most.
    waiting: Vec<(Vec<i64>, Done)>,
}

impl Indexing {
    /// Nothing is known of the index yet.
    pub(super) const fn new() -> Self {
        Self {
            fresh: 0,
            behind: true,
            waiting: Vec::new(),
        }
    }

    /// A message was written.
    pub(super) const fn note(&mut self) {
        self.fresh = self.fresh.saturating_add(1);
    }

    /// Somebody waits until a part of what is missing of these rooms is indexed.
    pub(super) fn want(&mut self, rooms: Vec<i64>, done: Done) {
        self.waiting.push((rooms, done));
    }

    pub(super) const fn chore(&self) -> Chore {
        if !self.waiting.is_empty() || self.fresh >= LATE_MESSAGES {
            Chore::Soon
        } else if self.behind || self.fresh >= FRESH_MESSAGES {
            Chore::WhenIdle
        } else {
            Chore::None
        }
    }

    /// Indexes a part: of the rooms somebody waits for, else of any.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the transaction must be rolled back then.
    pub(super) fn advance(
        &mut self,
        transaction: &Connection,
        epochs: [Epoch; 2],
    ) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for room_id in self.waiting.iter().flat_map(|(rooms, _)| rooms) {
            if batch.is_full() {
                break;
            }
            if let Some(behind) = room_behind(transaction, *room_id)? {
                batch.index(transaction, behind)?;
            }
        }
        if !batch.is_full() {
            for behind in rooms_behind(transaction, epochs)? {
                if batch.is_full() {
                    break;
                }
                batch.index(transaction, behind)?;
            }
        }
        // There is more, or the next part will be empty. Rooms looked into have one message each.
        self.behind = batch.is_full();
        self.fresh = if self.behind {
            self.fresh.saturating_sub(batch.messages)
        } else {
            0
        };
        debug!(messages = batch.messages, more = self.behind, "indexed");
        Ok(())
    }

    /// The part was committed or rolled back.
    pub(super) fn done(&mut self, result: Result<(), StoreError>, hub: &Hub) {
        let result = match result {
            Ok(()) => {
                hub.clear_problem("index");
                Ok(())
            }
            Err(error) => {
                // Tried again when as many messages have come, or when somebody searches.
                self.behind = false;
                self.fresh = 0;
                let problem = match error {
                    StoreError::DiskFull => format!("{error}: free some space"),
                    _ => error.to_string(),
                };
                hub.set_problem("index", format!("new messages cannot be found: {problem}"));
                Err(problem)
            }
        };
        for (_, done) in self.waiting.drain(..) {
            let _search_is_gone = done.send(result.clone());
        }
    }
}

/// A room with messages that are not indexed.
#[derive(Debug, Clone, Copy)]
struct Behind {
    room_id: i64,
    /// The last message that was looked at.
    seq: i64,
    head: i64,
}

fn room_behind(transaction: &Connection, room_id: i64) -> Result<Option<Behind>, StoreError> {
    let found = transaction
        .prepare_cached(
            "SELECT coalesce(seq, 0), head FROM rooms LEFT JOIN indexed USING (room_id)
             WHERE room_id = ?1 AND head > coalesce(seq, 0)",
        )?
        .query_row([room_id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(found.map(|(seq, head)| Behind { room_id, seq, head }))
}

/// Rooms of these epochs that have messages to index; of a log that is over nobody finds anything.
fn rooms_behind(transaction: &Connection, epochs: [Epoch; 2]) -> Result<Vec<Behind>, StoreError> {
    let mut statement = transaction.prepare_cached(
        "SELECT room_id, coalesce(seq, 0), head FROM rooms LEFT JOIN indexed USING (room_id)
         WHERE epoch IN (?1, ?2) AND head > coalesce(seq, 0) LIMIT ?3",
    )?;
    let [one, other] = epochs.map(Epoch::to_bytes);
    let limit = i64::try_from(BATCH_ROOMS).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![one, other, limit], |row| {
        Ok(Behind {
            room_id: row.get(0)?,
            seq: row.get(1)?,
            head: row.get(2)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What one transaction has indexed.
#[derive(Debug, Default)]
struct Batch {
    messages: usize,
    bytes: usize,
}

/// A message as it stands in its room.
struct Entry<'a> {
    room_id: i64,
    seq: i64,
    committed_at: i64,
    author: &'a str,
}

impl Batch {
    const fn is_full(&self) -> bool {
        self.messages >= BATCH_MESSAGES || self.bytes >= BATCH_BYTES
    }

    /// Looks through a room until its end, or until this is full.
    fn index(&mut self, transaction: &Connection, behind: Behind) -> Result<(), StoreError> {
        let room_id = behind.room_id;
        let mut statement = transaction.prepare_cached(
            "SELECT seq, committed_at, author, body FROM messages
             WHERE room_id = ?1 AND seq > ?2 ORDER BY seq",
        )?;
        let mut rows = statement.query(params![room_id, behind.seq])?;
        let mut reached = behind.head;
        while let Some(row) = rows.next()? {
            let entry = Entry {
                room_id,
                seq: row.get(0)?,
                committed_at: row.get(1)?,
                author: row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?,
            };
            let body = row.get_ref(3)?.as_blob().map_err(rusqlite::Error::from)?;
            self.messages += 1;
            self.bytes += body.len();
            let body = EncodedBody::from_bytes(Bytes::copy_from_slice(body));
            // What this version cannot read, it cannot find either.
            if let Ok(content) = body.and_then(|body| body.decode()) {
                entry.take(transaction, &content)?;
            }
            if self.is_full() {
                reached = entry.seq;
                break;
            }
        }
        transaction
            .prepare_cached("INSERT OR REPLACE INTO indexed (room_id, seq) VALUES (?1, ?2)")?
            .execute([room_id, reached])?;
        Ok(())
    }
}

impl Entry<'_> {
    fn take(&self, transaction: &Connection, content: &Content) -> Result<(), StoreError> {
        let is_found = match content {
            Content::Edit { of, .. } => self.amend(transaction, *of, Some(self.seq))?,
            Content::Delete { of } => self.amend(transaction, *of, None)?,
            _ => true,
        };
        match content.text() {
            Some(text) if is_found => self.add(transaction, text),
            _ => Ok(()),
        }
    }

    fn add(&self, transaction: &Connection, text: &str) -> Result<(), StoreError> {
        transaction
            .prepare_cached(
                "INSERT INTO findable (committed_at, room_id, seq) VALUES (?1, ?2, ?3)",
            )?
            .execute([self.committed_at, self.room_id, self.seq])?;
        transaction
            .prepare_cached("INSERT INTO trigrams (rowid, text) VALUES (?1, ?2)")?
            .execute(params![transaction.last_insert_rowid(), fold(text)])?;
        Ok(())
    }

    /// Puts `edit` in the place of message `of` and its edits before, or nothing. Returns whether
    /// anybody heeds this.
    fn amend(
        &self,
        transaction: &Connection,
        of: MessageId,
        edit: Option<i64>,
    ) -> Result<bool, StoreError> {
        let target = transaction
            .prepare_cached(
                "SELECT seq, author = ?4 FROM messages
                 WHERE id = ?1 AND room_id = ?2 AND seq < ?3",
            )?
            .query_row(
                params![of.to_bytes(), self.room_id, self.seq, self.author],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        let target: i64 = match target {
            Some((seq, true)) => seq,
            Some((_, false)) => return Ok(false),
            // Of a message that is not here nobody can say whose it is: it stands for itself.
            None => return Ok(true),
        };
        let before: Option<Option<i64>> = transaction
            .prepare_cached("SELECT edit FROM amended WHERE room_id = ?1 AND id = ?2")?
            .query_row(params![self.room_id, of.to_bytes()], |row| row.get(0))
            .optional()?;
        let Some(now) = before.unwrap_or(Some(target)) else {
            // It was taken back.
            return Ok(false);
        };
        self.remove(transaction, now)?;
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO amended (room_id, id, edit) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![self.room_id, of.to_bytes(), edit])?;
        Ok(true)
    }

    /// Makes the message of this room at `seq` impossible to find.
    fn remove(&self, transaction: &Connection, seq: i64) -> Result<(), StoreError> {
        let room_id = self.room_id;
        forget(transaction, Spot { room_id, seq })
    }
}

/// Makes a message that is still there impossible to find.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub(super) fn forget(transaction: &Connection, spot: Spot) -> Result<(), StoreError> {
    let Spot { room_id, seq } = spot;
    let number: Option<i64> = transaction
        .prepare_cached(
            "SELECT number FROM messages JOIN findable USING (committed_at, room_id, seq)
             WHERE room_id = ?1 AND seq = ?2 AND gone = 0",
        )?
        .query_row([room_id, seq], |row| row.get(0))
        .optional()?;
    if let Some(number) = number {
        transaction
            .prepare_cached("UPDATE findable SET gone = 1 WHERE number = ?1")?
            .execute([number])?;
        transaction
            .prepare_cached("DELETE FROM trigrams WHERE rowid = ?1")?
            .execute([number])?;
    }
    Ok(())
}

/// Forgets how far rooms were looked through that are not here any more.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub(super) fn forget_rooms(transaction: &Connection) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM indexed WHERE room_id NOT IN (SELECT room_id FROM rooms)",
        "DELETE FROM amended WHERE room_id NOT IN (SELECT room_id FROM rooms)",
    ] {
        transaction.prepare_cached(sql)?.execute(())?;
    }
    Ok(())
}

/// Writes the index anew, without what it keeps of messages that are gone.
///
/// # Errors
///
/// [`StoreError`].
pub(super) fn compact(connection: &Connection) -> Result<(), StoreError> {
    connection.execute("INSERT INTO trigrams (trigrams) VALUES ('optimize')", ())?;
    Ok(())
}
