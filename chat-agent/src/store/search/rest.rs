//! What the index does not have yet, found by reading it: on a full disk nothing can be indexed.
//!
//! It follows the index's rules: only what a message says now can be found.

use super::{Place, Spot, Wanted};
use bytes::Bytes;
use protocol::{Content, EncodedBody, MessageId, UserName};
use room_log::StoreError;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Messages behind the index.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// Those that are looked for, newest first.
    pub(super) spots: Vec<Spot>,
    /// Messages that the index has, by room and seq, and that say something else now.
    pub(super) gone: HashSet<(i64, i64)>,
}

impl Rest {
    /// Reads all messages of `places` that were there when the search began and are not indexed.
    pub(super) fn read<'a>(
        connection: &Connection,
        places: impl Iterator<Item = &'a Place>,
        wanted: &Wanted<'_>,
    ) -> Result<Self, StoreError> {
        let mut rest = Self::default();
        let mut indexed =
            connection.prepare_cached("SELECT seq FROM indexed WHERE room_id = ?1")?;
        for place in places {
            let seq: Option<i64> = indexed
                .query_row([place.room_id], |row| row.get(0))
                .optional()?;
            let seq = seq.unwrap_or(0);
            if seq < place.head {
                let mut room = Room::new(connection, place.room_id, seq);
                room.walk(wanted)?;
                rest.spots.extend(room.found.into_values());
                rest.gone.extend(room.gone);
            }
        }
        rest.spots
            .sort_unstable_by_key(|spot| std::cmp::Reverse(spot.order()));
        Ok(rest)
    }
}

/// A room on the way through it.
struct Room<'a> {
    connection: &'a Connection,
    room_id: i64,
    /// The last message that is indexed.
    indexed: i64,
    found: BTreeMap<i64, Spot>,
    gone: Vec<(i64, i64)>,
    /// Messages that were edited, with where they say what they say now, or taken back.
    amended: HashMap<MessageId, Option<i64>>,
}

impl<'a> Room<'a> {
    fn new(connection: &'a Connection, room_id: i64, indexed: i64) -> Self {
        Self {
            connection,
            room_id,
            indexed,
            found: BTreeMap::new(),
            gone: Vec::new(),
            amended: HashMap::new(),
        }
    }

    fn walk(&mut self, wanted: &Wanted<'_>) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT seq, committed_at, author, body FROM messages
             WHERE room_id = ?1 AND seq > ?2 ORDER BY seq",
        )?;
        let mut rows = statement.query([self.room_id, self.indexed])?;
        while let Some(row) = rows.next()? {
            let (seq, committed_at): (i64, i64) = (row.get(0)?, row.get(1)?);
            let author: String = row.get(2)?;
            let body = EncodedBody::from_bytes(Bytes::from(row.get::<_, Vec<u8>>(3)?));
            // What this version cannot read, it cannot find either.
            let Ok(content) = body.and_then(|body| body.decode()) else {
                continue;
            };
            let counts = match &content {
                Content::Edit { of, .. } => self.amend(*of, seq, &author, Some(seq))?,
                Content::Delete { of } => self.amend(*of, seq, &author, None)?,
                _ => true,
            };
            let Ok(author) = UserName::parse(&author) else {
                continue;
            };
            if counts && content.text().is_some() && wanted.includes(&author, &content) {
                let spot = Spot::unindexed(committed_at, self.room_id, seq);
                self.found.insert(seq, spot);
            }
        }
        Ok(())
    }

    /// As the index does it: `edit` takes the place of message `of` and its edits before. Whether
    /// anybody heeds that.
    fn amend(
        &mut self,
        of: MessageId,
        seq: i64,
        author: &str,
        edit: Option<i64>,
    ) -> Result<bool, StoreError> {
        let target: Option<(i64, bool)> = self
            .connection
            .prepare_cached(
                "SELECT seq, author = ?4 FROM messages
                 WHERE id = ?1 AND room_id = ?2 AND seq < ?3",
            )?
            .query_row(params![of.to_bytes(), self.room_id, seq, author], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let target = match target {
            Some((seq, true)) => seq,
            Some((_, false)) => return Ok(false),
            None => return Ok(true),
        };
        let before = match self.amended.get(&of) {
            Some(before) => Some(*before),
            None => self.indexed_edit(of)?,
        };
        let Some(now) = before.unwrap_or(Some(target)) else {
            // It was taken back.
            return Ok(false);
        };
        if now > self.indexed {
            self.found.remove(&now);
        } else {
            self.gone.push((self.room_id, now));
        }
        self.amended.insert(of, edit);
        Ok(true)
    }

    fn indexed_edit(&self, of: MessageId) -> Result<Option<Option<i64>>, StoreError> {
        let found = self
            .connection
            .prepare_cached("SELECT edit FROM amended WHERE room_id = ?1 AND id = ?2")?
            .query_row(params![self.room_id, of.to_bytes()], |row| row.get(0))
            .optional()?;
        Ok(found)
    }
}
