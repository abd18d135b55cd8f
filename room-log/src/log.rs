//! The messages of rooms.

use crate::{
    StoreError,
    erasing::{self, Spot},
};
use bytes::Bytes;
use protocol::{
    ACT_TAG, Committed, ERASED_TAG, EncodedBody, Epoch, MessageId, Outgoing, Room, Seq, Timestamp,
    UserName,
};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};
use std::collections::HashMap;

/// What came of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// It has a place now.
    New(Committed),
    /// It had one already: the same message was appended before.
    Known {
        /// Its place.
        seq: Seq,
    },
    /// Another message has its id.
    Conflict,
    /// Its room would be one too many.
    TooManyRooms,
}

/// What came of taking over a message that another log ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ingested {
    /// It continues the room.
    New,
    /// It is here already.
    Known,
    /// It does not continue the room: messages between are missing, or no log could have it
    /// there. `head` is the newest message here.
    Gap {
        /// The newest message here.
        head: Seq,
    },
}

/// The newest message of a room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Head {
    /// Its place; [`Seq::START`] if there is none.
    pub seq: Seq,
    /// Its id.
    pub id: Option<MessageId>,
}

/// The epoch of rooms that were put aside: no log has it.
const ASIDE: [u8; 8] = [0xff; 8];

/// One life of a log, as its one writer sees it.
///
/// Seqs are given across all rooms, so that within a room they rise with gaps, as those of a
/// distributed log do.
#[derive(Debug)]
pub struct RoomLog {
    epoch: Epoch,
    max_rooms: usize,
    /// What the rooms table holds, loaded as needed; forgotten when a transaction is rolled back.
    rooms: HashMap<Room, Entry>,
    /// How many rooms the epoch has, so that creating the next one does not count them all.
    count: Option<usize>,
    last: Option<Seq>,
    pruned: Option<bool>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    room_id: i64,
    head: Seq,
}

impl RoomLog {
    /// The life `epoch` of a log, with at most `max_rooms` rooms.
    #[must_use]
    pub fn new(epoch: Epoch, max_rooms: usize) -> Self {
        Self {
            epoch,
            max_rooms,
            rooms: HashMap::new(),
            count: None,
            last: None,
            pruned: None,
        }
    }

    /// Which life this is.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Forgets what was cached, after a transaction was rolled back.
    pub fn forget(&mut self) {
        self.rooms.clear();
        self.count = None;
        self.last = None;
        self.pruned = None;
    }

    /// The next message gets the place behind `last`, which is no lower than any given before: for
    /// a log whose places are given elsewhere.
    pub const fn resume_behind(&mut self, last: Seq) {
        self.last = Some(last);
    }

    /// Gives `message` the next place in its room, creating the room.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the transaction must be rolled back then.
    pub fn append(
        &mut self,
        transaction: &Connection,
        message: &Outgoing,
        now: Timestamp,
    ) -> Result<Appended, StoreError> {
        if let Some(known) = self.known(transaction, message)? {
            return Ok(known);
        }
        let author = message.author.to_string();
        let Some(entry) = self.create(transaction, &message.room)? else {
            return Ok(Appended::TooManyRooms);
        };
        let last = self.last(transaction)?;
        let seq = Seq::new(last.number() + 1);
        let committed = Committed {
            room: message.room.clone(),
            seq,
            prev_seq: entry.head,
            committed_at: now,
            id: message.id,
            author: message.author.clone(),
            sent_at: message.sent_at,
            body: message.body.clone(),
        };
        self.insert(transaction, entry, &committed, entry.head, &author)?;
        self.last = Some(seq);
        Ok(Appended::New(committed))
    }

    /// What [`append`](Self::append) would say of a message whose id is in use; `None` if it is not.
    /// Of a message whose words are gone, or that was kept for long enough, nobody knows any more
    /// whether it said the same.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn known(
        &mut self,
        transaction: &Connection,
        message: &Outgoing,
    ) -> Result<Option<Appended>, StoreError> {
        let said = |body: &[u8]| body == message.body.as_bytes() || body == [ERASED_TAG];
        let (id, room) = (message.id, &message.room);
        let found = find_id(transaction, id, room, &message.author, said)?;
        if found.is_some() || !self.has_pruned(transaction)? {
            return Ok(found);
        }
        let pruned = transaction
            .prepare_cached(
                "SELECT rooms.name = ?2, seq FROM pruned JOIN rooms USING (room_id) WHERE id = ?1",
            )?
            .query_row(params![id.to_bytes(), room.as_str()], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        Ok(match pruned {
            Some((true, seq)) => Some(Appended::Known { seq: to_seq(seq)? }),
            Some((false, _)) => Some(Appended::Conflict),
            None => None,
        })
    }

    /// As [`known`](Self::known), of an act of `author`, whatever it came to say.
    pub(crate) fn known_act(
        &self,
        transaction: &Connection,
        room: &Room,
        author: &UserName,
        id: MessageId,
    ) -> Result<Option<Appended>, StoreError> {
        find_id(transaction, id, room, author, |body| {
            body.first() == Some(&ACT_TAG)
        })
    }

    /// Whether messages were pruned ever, so that one that never prunes does not look for them.
    fn has_pruned(&mut self, transaction: &Connection) -> Result<bool, StoreError> {
        if let Some(pruned) = self.pruned {
            return Ok(pruned);
        }
        let pruned = transaction
            .prepare_cached("SELECT 1 FROM pruned LIMIT 1")?
            .exists(())?;
        self.pruned = Some(pruned);
        Ok(pruned)
    }

    /// Messages were pruned.
    pub const fn note_pruned(&mut self) {
        self.pruned = Some(true);
    }

    /// Takes over a message that the log of this epoch has ordered elsewhere, creating the room.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the transaction must be rolled back then.
    pub fn ingest(
        &mut self,
        transaction: &Connection,
        message: &Committed,
    ) -> Result<Ingested, StoreError> {
        let Some(entry) = self.create(transaction, &message.room)? else {
            // The server limits rooms too; an agent has no use for a second opinion.
            return Ok(Ingested::Gap { head: Seq::START });
        };
        if message.seq <= entry.head {
            return Ok(Ingested::Known);
        }
        let gap = Ingested::Gap { head: entry.head };
        let storable = i64::try_from(message.seq.number()).is_ok() && message.body.check().is_ok();
        // That the log has nothing between the two says all that matters: what is here beyond the
        // first of them, the log keeps no more.
        if message.prev_seq > entry.head || !storable {
            return Ok(gap);
        }
        let prev_seq = entry.head;
        let author = message.author.to_string();
        match self.insert(transaction, entry, message, prev_seq, &author) {
            Ok(()) => Ok(Ingested::New),
            // Its id is in the room already. A log that says so is wrong, and must not take the
            // whole transaction with it.
            Err(StoreError::Failed(error))
                if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) =>
            {
                Ok(gap)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the room exists.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn has_room(&self, transaction: &Connection, room: &Room) -> Result<bool, StoreError> {
        Ok(self.rooms.contains_key(room) || head(transaction, self.epoch, room)?.is_some())
    }

    /// Makes the room exist. `None` if it would be one too many.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the transaction must be rolled back then.
    pub fn ensure_room(
        &mut self,
        transaction: &Connection,
        room: &Room,
    ) -> Result<Option<Seq>, StoreError> {
        Ok(self.create(transaction, room)?.map(|entry| entry.head))
    }

    /// Puts all that is here of `room` aside, to be deleted with [`discard`]: it is as if it had
    /// never been.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the transaction must be rolled back then.
    pub fn put_aside(&mut self, transaction: &Connection, room: &Room) -> Result<(), StoreError> {
        self.rooms.remove(room);
        self.count = None;
        // The number keeps two lives of a room apart.
        transaction
            .prepare_cached(
                "UPDATE rooms SET epoch = ?3, name = name || ' ' || room_id
                 WHERE epoch = ?1 AND name = ?2",
            )?
            .execute(params![self.epoch.to_bytes(), room.as_str(), ASIDE])?;
        Ok(())
    }

    fn create(
        &mut self,
        transaction: &Connection,
        room: &Room,
    ) -> Result<Option<Entry>, StoreError> {
        if let Some(entry) = self.rooms.get(room) {
            return Ok(Some(*entry));
        }
        let found = transaction
            .prepare_cached("SELECT room_id, head FROM rooms WHERE epoch = ?1 AND name = ?2")?
            .query_row(params![self.epoch.to_bytes(), room.as_str()], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let entry = if let Some((room_id, head)) = found {
            Entry {
                room_id,
                head: to_seq(head)?,
            }
        } else {
            let count = match self.count {
                Some(count) => count,
                None => transaction
                    .prepare_cached("SELECT count(*) FROM rooms WHERE epoch = ?1")?
                    .query_row([self.epoch.to_bytes()], |row| row.get(0))?,
            };
            self.count = Some(count);
            if count >= self.max_rooms {
                return Ok(None);
            }
            transaction
                .prepare_cached("INSERT INTO rooms (epoch, name) VALUES (?1, ?2)")?
                .execute(params![self.epoch.to_bytes(), room.as_str()])?;
            self.count = Some(count + 1);
            Entry {
                room_id: transaction.last_insert_rowid(),
                head: Seq::START,
            }
        };
        self.rooms.insert(room.clone(), entry);
        Ok(Some(entry))
    }

    fn last(&self, transaction: &Connection) -> Result<Seq, StoreError> {
        if let Some(last) = self.last {
            return Ok(last);
        }
        let last = transaction
            .prepare_cached("SELECT coalesce(max(head), 0) FROM rooms WHERE epoch = ?1")?
            .query_row([self.epoch.to_bytes()], |row| row.get(0))?;
        to_seq(last)
    }

    fn insert(
        &mut self,
        transaction: &Connection,
        entry: Entry,
        message: &Committed,
        prev_seq: Seq,
        author: &str,
    ) -> Result<(), StoreError> {
        let seq = from_seq(message.seq);
        transaction
            .prepare_cached(
                "INSERT INTO messages
                 (room_id, seq, prev_seq, committed_at, id, author, sent_at, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                entry.room_id,
                seq,
                from_seq(prev_seq),
                from_time(message.committed_at),
                message.id.to_bytes(),
                author,
                from_time(message.sent_at),
                message.body.as_bytes().as_ref(),
            ])?;
        transaction
            .prepare_cached("UPDATE rooms SET head = ?2, head_id = ?3 WHERE room_id = ?1")?
            .execute(params![entry.room_id, seq, message.id.to_bytes()])?;
        self.rooms.insert(
            message.room.clone(),
            Entry {
                head: message.seq,
                ..entry
            },
        );
        Ok(())
    }
}

/// Deletes up to `limit` messages of a room that was put aside, or the room itself. `forget` is called
/// for each before. Returns whether there was one.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn discard(
    transaction: &Connection,
    limit: usize,
    mut forget: impl FnMut(Spot) -> Result<(), StoreError>,
) -> Result<bool, StoreError> {
    let room_id: Option<i64> = transaction
        .prepare_cached("SELECT room_id FROM rooms WHERE epoch = ?1 LIMIT 1")?
        .query_row([ASIDE], |row| row.get(0))
        .optional()?;
    let Some(room_id) = room_id else {
        return Ok(false);
    };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // Oldest first: a room ends with its newest message as long as there is one.
    let seqs: Vec<i64> = transaction
        .prepare_cached("SELECT seq FROM messages WHERE room_id = ?1 ORDER BY seq LIMIT ?2")?
        .query_map([room_id, limit], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for seq in &seqs {
        forget(Spot { room_id, seq: *seq })?;
    }
    if let Some(last) = seqs.last() {
        transaction
            .prepare_cached("DELETE FROM messages WHERE room_id = ?1 AND seq <= ?2")?
            .execute([room_id, *last])?;
        let rest = transaction
            .prepare_cached("SELECT 1 FROM messages WHERE room_id = ?1 LIMIT 1")?
            .exists([room_id])?;
        if rest {
            return Ok(true);
        }
    }
    for sql in [
        "DELETE FROM pruned WHERE room_id = ?1",
        "DELETE FROM rooms WHERE room_id = ?1",
    ] {
        transaction.prepare_cached(sql)?.execute([room_id])?;
    }
    erasing::note(transaction)?;
    Ok(true)
}

/// What became of message `id` if somebody sends it again as `author`'s to `room`, saying what `said`
/// finds the same; `None` if nobody has it.
fn find_id(
    transaction: &Connection,
    id: MessageId,
    room: &Room,
    author: &UserName,
    said: impl Fn(&[u8]) -> bool,
) -> Result<Option<Appended>, StoreError> {
    let author = author.to_string();
    let known = transaction
        .prepare_cached(
            "SELECT rooms.name, seq, author, body FROM messages JOIN rooms USING (room_id)
             WHERE id = ?1",
        )?
        .query_row([id.to_bytes()], |row| {
            let same = row.get_ref(0)?.as_str()? == room.as_str()
                && row.get_ref(2)?.as_str()? == author
                && said(row.get_ref(3)?.as_blob()?);
            Ok((same, row.get::<_, i64>(1)?))
        })
        .optional()?;
    Ok(match known {
        Some((true, seq)) => Some(Appended::Known { seq: to_seq(seq)? }),
        Some((false, _)) => Some(Appended::Conflict),
        None => None,
    })
}

/// Reads messages of `room` after `after`, oldest first: at most `max_entries`, and no more once
/// their bodies have `max_bytes`.
///
/// # Errors
///
/// [`StoreError`].
pub fn page(
    connection: &Connection,
    epoch: Epoch,
    room: &Room,
    after: Seq,
    max_entries: usize,
    max_bytes: usize,
) -> Result<Vec<Committed>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, prev_seq, committed_at, id, author, sent_at, body FROM messages
         WHERE room_id = (SELECT room_id FROM rooms WHERE epoch = ?1 AND name = ?2) AND seq > ?3
         ORDER BY seq LIMIT ?4",
    )?;
    let rows = statement.query(params![
        epoch.to_bytes(),
        room.as_str(),
        from_seq(after),
        i64::try_from(max_entries).unwrap_or(i64::MAX)
    ])?;
    collect(rows, room, max_bytes)
}

/// Reads the newest messages of `room` before `before`, oldest first, within the same limits as
/// [`page`]. Also tells whether older ones exist.
///
/// # Errors
///
/// [`StoreError`].
pub fn page_before(
    connection: &Connection,
    epoch: Epoch,
    room: &Room,
    before: Option<Seq>,
    max_entries: usize,
    max_bytes: usize,
) -> Result<(Vec<Committed>, bool), StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, prev_seq, committed_at, id, author, sent_at, body FROM messages
         WHERE room_id = (SELECT room_id FROM rooms WHERE epoch = ?1 AND name = ?2) AND seq < ?3
         ORDER BY seq DESC LIMIT ?4",
    )?;
    let before = before.map_or(i64::MAX, from_seq);
    let limit = i64::try_from(max_entries).unwrap_or(i64::MAX);
    let rows = statement.query(params![epoch.to_bytes(), room.as_str(), before, limit])?;
    let mut messages = collect(rows, room, max_bytes)?;
    messages.reverse();
    let more = messages
        .first()
        .is_some_and(|first| first.prev_seq > Seq::START);
    Ok((messages, more))
}

/// Where to begin so that the newest `count` messages follow.
///
/// # Errors
///
/// [`StoreError`].
pub fn before_newest(
    connection: &Connection,
    epoch: Epoch,
    room: &Room,
    count: u32,
) -> Result<Seq, StoreError> {
    let found = connection
        .prepare_cached(
            "SELECT seq FROM messages
             WHERE room_id = (SELECT room_id FROM rooms WHERE epoch = ?1 AND name = ?2)
             ORDER BY seq DESC LIMIT 1 OFFSET ?3",
        )?
        .query_row(params![epoch.to_bytes(), room.as_str(), count], |row| {
            row.get(0)
        })
        .optional()?;
    found.map_or(Ok(Seq::START), to_seq)
}

/// Where to begin so that the first message committed at `time` or later follows; the end of what
/// there is if none was.
///
/// Looks at each message before that: a clock may have been set back, so that times do not rise
/// with seqs.
///
/// # Errors
///
/// [`StoreError`].
pub fn before_time(
    connection: &Connection,
    epoch: Epoch,
    room: &Room,
    time: Timestamp,
) -> Result<Seq, StoreError> {
    let found = connection
        .prepare_cached(
            "SELECT prev_seq FROM messages
             WHERE room_id = (SELECT room_id FROM rooms WHERE epoch = ?1 AND name = ?2)
             AND committed_at >= ?3 ORDER BY seq LIMIT 1",
        )?
        .query_row(
            params![epoch.to_bytes(), room.as_str(), from_time(time)],
            |row| row.get(0),
        )
        .optional()?;
    match found {
        Some(prev_seq) => to_seq(prev_seq),
        None => Ok(head(connection, epoch, room)?.unwrap_or_default().seq),
    }
}

/// Messages that are looked at for each that is counted: what `reader` said is passed over.
const LOOKED_AT: u32 = 10;

/// Counts the messages of `room` after `after` that are not by `reader`, up to `limit`, among the
/// newest there: of somebody who says much and reads nothing, not all that they said is looked at.
///
/// # Errors
///
/// [`StoreError`].
pub fn count_unread(
    connection: &Connection,
    epoch: Epoch,
    room: &Room,
    reader: &UserName,
    after: Seq,
    limit: u32,
) -> Result<u32, StoreError> {
    let count = connection
        .prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM (SELECT author FROM messages
             WHERE room_id = (SELECT room_id FROM rooms WHERE epoch = ?1 AND name = ?2)
             AND seq > ?3 ORDER BY seq DESC LIMIT ?6) WHERE author != ?4 LIMIT ?5)",
        )?
        .query_row(
            params![
                epoch.to_bytes(),
                room.as_str(),
                from_seq(after),
                reader.to_string(),
                limit,
                limit.saturating_mul(LOOKED_AT)
            ],
            |row| row.get(0),
        )?;
    Ok(count)
}

/// The newest message of `room`, or `None` if there is no such room.
///
/// # Errors
///
/// [`StoreError`].
pub fn head(
    connection: &Connection,
    epoch: Epoch,
    room: &Room,
) -> Result<Option<Head>, StoreError> {
    let found: Option<(i64, Option<[u8; 16]>)> = connection
        .prepare_cached("SELECT head, head_id FROM rooms WHERE epoch = ?1 AND name = ?2")?
        .query_row(params![epoch.to_bytes(), room.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    found
        .map(|(seq, id)| {
            Ok(Head {
                seq: to_seq(seq)?,
                id: id.map(MessageId::from_bytes),
            })
        })
        .transpose()
}

/// The id of the message of `room` at `seq`, if there is one.
///
/// # Errors
///
/// [`StoreError`].
pub fn id_at(
    connection: &Connection,
    epoch: Epoch,
    room: &Room,
    seq: Seq,
) -> Result<Option<MessageId>, StoreError> {
    let found: Option<[u8; 16]> = connection
        .prepare_cached(
            "SELECT id FROM messages
             WHERE room_id = (SELECT room_id FROM rooms WHERE epoch = ?1 AND name = ?2)
             AND seq = ?3",
        )?
        .query_row(
            params![epoch.to_bytes(), room.as_str(), from_seq(seq)],
            |row| row.get(0),
        )
        .optional()?;
    Ok(found.map(MessageId::from_bytes))
}

/// Whether message `id` of `room` stands at `seq`, or did until it was kept for long enough.
///
/// # Errors
///
/// [`StoreError`].
pub fn was_at(
    connection: &Connection,
    epoch: Epoch,
    room: &Room,
    seq: Seq,
    id: MessageId,
) -> Result<bool, StoreError> {
    let mut had = false;
    for sql in [
        "SELECT 1 FROM messages WHERE id = ?4 AND seq = ?3
         AND room_id = (SELECT room_id FROM rooms WHERE epoch = ?1 AND name = ?2)",
        "SELECT 1 FROM pruned WHERE id = ?4 AND seq = ?3
         AND room_id = (SELECT room_id FROM rooms WHERE epoch = ?1 AND name = ?2)",
    ] {
        had = had
            || connection.prepare_cached(sql)?.exists(params![
                epoch.to_bytes(),
                room.as_str(),
                from_seq(seq),
                id.to_bytes()
            ])?;
    }
    Ok(had)
}

/// The message of `room` at `seq`, if there is one.
///
/// # Errors
///
/// [`StoreError`].
pub fn at(
    connection: &Connection,
    epoch: Epoch,
    room: &Room,
    seq: Seq,
) -> Result<Option<Committed>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, prev_seq, committed_at, id, author, sent_at, body FROM messages
         WHERE room_id = (SELECT room_id FROM rooms WHERE epoch = ?1 AND name = ?2)
         AND seq = ?3",
    )?;
    let rows = statement.query(params![epoch.to_bytes(), room.as_str(), from_seq(seq)])?;
    Ok(collect(rows, room, usize::MAX)?.pop())
}

/// The message with this id, in whichever room of this epoch. What only another life of the log
/// had is not found: nobody can read it any more.
///
/// # Errors
///
/// [`StoreError`].
pub fn find(
    connection: &Connection,
    epoch: Epoch,
    id: MessageId,
) -> Result<Option<Committed>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, prev_seq, committed_at, id, author, sent_at, body, name
         FROM messages JOIN rooms USING (room_id) WHERE id = ?1 AND epoch = ?2 LIMIT 1",
    )?;
    let mut rows = statement.query(params![id.to_bytes(), epoch.to_bytes()])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let name: String = row.get(7)?;
    let room = Room::parse(&name).map_err(|_| StoreError::bad("room", name))?;
    message(row, &room).map(Some)
}

/// Every room of this epoch with its newest message.
///
/// # Errors
///
/// [`StoreError`].
pub fn heads(connection: &Connection, epoch: Epoch) -> Result<Vec<(Room, Head)>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT name, head, head_id FROM rooms WHERE epoch = ?1")?;
    let mut rows = statement.query([epoch.to_bytes()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let room = Room::parse(&name).map_err(|_| StoreError::bad("room", name))?;
        let id: Option<[u8; 16]> = row.get(2)?;
        found.push((
            room,
            Head {
                seq: to_seq(row.get(1)?)?,
                id: id.map(MessageId::from_bytes),
            },
        ));
    }
    Ok(found)
}

/// Up to `limit` rooms of this epoch in order of name, after `after`, each with its newest
/// message.
///
/// # Errors
///
/// [`StoreError`].
pub fn rooms(
    connection: &Connection,
    epoch: Epoch,
    after: &str,
    limit: usize,
) -> Result<Vec<(Room, Seq)>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT name, head FROM rooms WHERE epoch = ?1 AND name > ?2 ORDER BY name LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![epoch.to_bytes(), after, limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let room = Room::parse(&name).map_err(|_| StoreError::bad("room", name))?;
        found.push((room, to_seq(row.get(1)?)?));
    }
    Ok(found)
}

fn collect(
    mut rows: rusqlite::Rows<'_>,
    room: &Room,
    max_bytes: usize,
) -> Result<Vec<Committed>, StoreError> {
    let mut messages = Vec::new();
    let mut bytes = 0;
    while bytes < max_bytes
        && let Some(row) = rows.next()?
    {
        let message = match message(row, room) {
            Ok(message) => message,
            // What comes before it can be had; the next page begins with it, and says why not.
            Err(_) if !messages.is_empty() => break,
            Err(error) => return Err(error),
        };
        bytes += message.body.as_bytes().len();
        messages.push(message);
    }
    Ok(messages)
}

fn message(row: &Row<'_>, room: &Room) -> Result<Committed, StoreError> {
    let author = row.get_ref(4)?.as_str().map_err(rusqlite::Error::from)?;
    let author = UserName::parse(author).map_err(|_| StoreError::bad("author", author))?;
    let body = row.get_ref(6)?.as_blob().map_err(rusqlite::Error::from)?;
    let body = EncodedBody::from_bytes(Bytes::copy_from_slice(body))
        .map_err(|error| StoreError::bad("body", error))?;
    Ok(Committed {
        room: room.clone(),
        seq: to_seq(row.get(0)?)?,
        prev_seq: to_seq(row.get(1)?)?,
        committed_at: to_time(row.get(2)?)?,
        id: MessageId::from_bytes(row.get(3)?),
        author,
        sent_at: to_time(row.get(5)?)?,
        body,
    })
}

fn to_seq(number: i64) -> Result<Seq, StoreError> {
    u64::try_from(number)
        .map(Seq::new)
        .map_err(|_| StoreError::bad("seq", number))
}

fn from_seq(seq: Seq) -> i64 {
    // A cursor may hold any number; beyond what SQLite stores there is nothing either way.
    i64::try_from(seq.number()).unwrap_or(i64::MAX)
}

fn to_time(micros: i64) -> Result<Timestamp, StoreError> {
    let micros = u64::try_from(micros).map_err(|_| StoreError::bad("time", micros))?;
    Ok(Timestamp::from_micros(micros))
}

fn from_time(time: Timestamp) -> i64 {
    i64::try_from(time.micros()).unwrap_or(i64::MAX)
}
