//! The end of messages that were kept for long enough.
//!
//! Acts stay: whoever reads a room from its beginning folds the same charter as everybody. The newest
//! message of a room keeps its place, without its words, so that the room's end is where it was. What
//! was behind a message that ended is behind the one before it from then on, so that a reader who was
//! somewhere in between goes on without a gap. Of each message its id remains, so that the same again
//! is known.

use crate::{
    Chore, StoreError,
    erasing::{self, Spot},
};
use protocol::{ACT_TAG, ERASED_TAG, Epoch, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};
use std::{collections::HashMap, time::Duration};

/// Messages that end in one transaction, which commands have to wait for.
const BATCH_MESSAGES: usize = 256;

/// Looks that were due, one after the other, before they are done although commands keep coming.
const PATIENCE_LOOKS: u32 = 6;

/// When there is something to end, and where.
#[derive(Debug, Default)]
pub struct Retention {
    /// Looks that are due.
    due: u32,
    /// The room that was looked at last.
    after: String,
    /// The limit and the newest message of each room when there was nothing to end by number.
    looked: HashMap<i64, (i64, i64)>,
}

/// What is kept of a room.
#[derive(Debug, Clone, Copy)]
struct Kept {
    max_age: Option<i64>,
    max_messages: Option<i64>,
}

impl Retention {
    /// How often to look: so long messages may stay beyond what is kept.
    pub const INTERVAL: Duration = Duration::from_secs(5);

    /// It is time to look.
    pub const fn look(&mut self) {
        self.due = self.due.saturating_add(1);
    }

    /// Whether there is something to do.
    #[must_use]
    pub const fn chore(&self) -> Chore {
        match self.due {
            0 => Chore::None,
            1..=PATIENCE_LOOKS => Chore::WhenIdle,
            _ => Chore::Soon,
        }
    }

    /// A part was rolled back: the next look begins anew.
    pub fn failed(&mut self) {
        *self = Self::default();
    }

    /// Looks at one room, and ends what is due there as far as one transaction goes; `forget` is called
    /// for each message before. Returns whether any ended.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the transaction must be rolled back then.
    pub fn advance(
        &mut self,
        transaction: &Connection,
        epochs: &[Epoch],
        now: Timestamp,
        mut forget: impl FnMut(Spot) -> Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        let next = transaction
            .prepare_cached(
                "SELECT room, max_age, max_messages FROM charters
                 WHERE room > ?1 AND (max_age IS NOT NULL OR max_messages IS NOT NULL)
                 ORDER BY room LIMIT 1",
            )?
            .query_row([&self.after], |row| {
                let max_age = row.get(1)?;
                let max_messages = row.get(2)?;
                let kept = Kept {
                    max_age,
                    max_messages,
                };
                Ok((row.get::<_, String>(0)?, kept))
            })
            .optional()?;
        let Some((room, kept)) = next else {
            self.due = 0;
            self.after.clear();
            return Ok(false);
        };
        let mut ended = 0;
        for epoch in epochs {
            let found = transaction
                .prepare_cached("SELECT room_id, head FROM rooms WHERE epoch = ?1 AND name = ?2")?
                .query_row(params![epoch.to_bytes(), room], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?;
            if let Some((room_id, head)) = found {
                ended += self.end(transaction, room_id, head, kept, now, &mut forget)?;
            }
        }
        if ended < BATCH_MESSAGES {
            self.after = room;
        }
        Ok(ended > 0)
    }

    fn end(
        &mut self,
        transaction: &Connection,
        room_id: i64,
        head: i64,
        kept: Kept,
        now: Timestamp,
        forget: &mut impl FnMut(Spot) -> Result<(), StoreError>,
    ) -> Result<usize, StoreError> {
        let (cut, oldest) = (
            self.cut(transaction, room_id, head, kept)?,
            kept.max_age.map(|age| micros(now).saturating_sub(age)),
        );
        let limit = i64::try_from(BATCH_MESSAGES).unwrap_or(i64::MAX);
        let mut statement = transaction.prepare_cached(
            "SELECT seq, committed_at, id, body = ?4 FROM messages
             WHERE room_id = ?1 AND substr(body, 1, 1) <> ?3 ORDER BY seq LIMIT ?2",
        )?;
        let mut rows = statement.query(params![room_id, limit, [ACT_TAG], [ERASED_TAG]])?;
        let mut due: Vec<(i64, [u8; 16], bool)> = Vec::new();
        while let Some(row) = rows.next()? {
            let (seq, committed_at): (i64, i64) = (row.get(0)?, row.get(1)?);
            if seq > cut && oldest.is_none_or(|oldest| committed_at >= oldest) {
                break;
            }
            due.push((seq, row.get(2)?, row.get(3)?));
        }
        let mut ended = 0;
        for (seq, id, erased) in &due {
            let spot = Spot { room_id, seq: *seq };
            if *seq == head {
                if !erased {
                    forget(spot)?;
                    erasing::blank(transaction, spot)?;
                    ended += 1;
                }
                continue;
            }
            forget(spot)?;
            transaction
                .prepare_cached(
                    "INSERT OR IGNORE INTO pruned (id, room_id, seq) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![id, room_id, seq])?;
            transaction
                .prepare_cached("DELETE FROM messages WHERE room_id = ?1 AND seq = ?2")?
                .execute([room_id, *seq])?;
            ended += 1;
        }
        if let (Some((first, ..)), Some((last, ..))) = (due.first(), due.last()) {
            link(transaction, room_id, *first, *last)?;
        }
        Ok(ended)
    }

    /// The newest message that is one too many; before all if none is.
    fn cut(
        &mut self,
        transaction: &Connection,
        room_id: i64,
        head: i64,
        kept: Kept,
    ) -> Result<i64, StoreError> {
        let Some(max_messages) = kept.max_messages else {
            return Ok(-1);
        };
        // Those that are too many are counted from the end, which takes a while if there are many.
        let state = (max_messages, head);
        if self.looked.get(&room_id) == Some(&state) {
            return Ok(-1);
        }
        let cut = transaction
            .prepare_cached(
                "SELECT seq FROM messages WHERE room_id = ?1 AND substr(body, 1, 1) <> ?3
                 ORDER BY seq DESC LIMIT 1 OFFSET ?2",
            )?
            .query_row(params![room_id, max_messages, [ACT_TAG]], |row| row.get(0))
            .optional()?;
        if cut.is_none() {
            self.looked.insert(room_id, state);
        }
        Ok(cut.unwrap_or(-1))
    }
}

/// Makes each message from `first` on name the one before it, up to the one behind `last`.
fn link(transaction: &Connection, room_id: i64, first: i64, last: i64) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "UPDATE messages SET prev_seq = coalesce((SELECT max(seq) FROM messages AS before
                 WHERE before.room_id = messages.room_id AND before.seq < messages.seq), 0)
             WHERE room_id = ?1 AND seq >= ?2 AND seq <= coalesce(
                 (SELECT min(seq) FROM messages WHERE room_id = ?1 AND seq > ?3), ?3)",
        )?
        .execute([room_id, first, last])?;
    Ok(())
}

fn micros(time: Timestamp) -> i64 {
    i64::try_from(time.micros()).unwrap_or(i64::MAX)
}
