//! The durable queue of messages the server has not acknowledged.

use super::search::{Wanted, micros};
use bytes::Bytes;
use protocol::{
    EncodedBody, MessageId, Outgoing, Room, Timestamp, UserName,
    limits::{MAX_PAGE_BYTES, MAX_PAGE_ENTRIES},
    local::{SearchMark, SearchQuery},
};
use room_log::StoreError;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::HashSet;

/// What an entry costs beside its body: the row, its index entry and the names, roughly.
const ENTRY_OVERHEAD_BYTES: u64 = 128;

/// Entries that are looked at for one page, found or not.
const EXAMINED: usize = 20_000;

/// Where an entry stands in the outbox; entries are sent in this order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(i64);

impl Position {
    /// Before the first entry.
    pub const START: Self = Self(0);

    /// Behind the last entry there can be.
    const END: Self = Self(i64::MAX);

    /// Behind everything that is before this.
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    #[cfg(test)]
    pub(crate) fn at(number: u64) -> Self {
        Self(i64::try_from(number).unwrap())
    }
}

/// A message that waits for the server's acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its place in the queue.
    pub position: Position,
    /// The message.
    pub message: Outgoing,
}

/// How much waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Messages.
    pub messages: u64,
    /// Bytes of bodies, and what each entry costs beside.
    pub bytes: u64,
}

impl Usage {
    /// What `body` adds to the bytes.
    #[must_use]
    pub fn of(body: &EncodedBody) -> u64 {
        body.as_bytes().len() as u64 + ENTRY_OVERHEAD_BYTES
    }
}

/// Puts a message at the end. The caller has checked that its id is new.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn push(transaction: &Connection, message: &Outgoing) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "INSERT INTO outbox (id, room, author, sent_at, body) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            message.id.to_bytes(),
            message.room.as_str(),
            message.author.to_string(),
            message.sent_at.micros(),
            message.body.as_bytes().as_ref(),
        ])?;
    Ok(())
}

/// Takes a message out, once the server has taken or refused it. Returns the bytes it held, or
/// `None` if it was not there.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn remove(transaction: &Connection, id: MessageId) -> Result<Option<u64>, StoreError> {
    let len: Option<u64> = transaction
        .prepare_cached("DELETE FROM outbox WHERE id = ?1 RETURNING length(body)")?
        .query_row([id.to_bytes()], |row| row.get(0))
        .optional()?;
    Ok(len.map(|len| len + ENTRY_OVERHEAD_BYTES))
}

/// The message with this id, if it waits.
///
/// # Errors
///
/// [`StoreError`].
pub fn find(connection: &Connection, id: MessageId) -> Result<Option<Outgoing>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT position, id, room, author, sent_at, body FROM outbox WHERE id = ?1",
    )?;
    let mut rows = statement.query([id.to_bytes()])?;
    rows.next()?
        .map(|row| waiting(row).map(|entry| entry.message))
        .transpose()
}

/// Up to `limit` messages behind `after`, in order.
///
/// # Errors
///
/// [`StoreError`].
pub fn page(
    connection: &Connection,
    after: Position,
    limit: usize,
) -> Result<Vec<Waiting>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT position, id, room, author, sent_at, body FROM outbox WHERE position > ?1
         ORDER BY position LIMIT ?2",
    )?;
    let mut rows = statement.query(params![after.0, limit])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        entries.push(waiting(row)?);
    }
    Ok(entries)
}

/// Part of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What was looked for, in order.
    pub entries: Vec<Waiting>,
    /// Up to where was looked.
    pub up_to: Position,
    /// Whether there may be more behind that.
    pub more: bool,
}

/// Up to `limit` messages behind `after`, in order, of all authors but those in `without`.
/// Of long stretches of theirs only a part is looked at; [`Part::more`] is true then.
///
/// # Errors
///
/// [`StoreError`].
pub fn part_without<S: std::hash::BuildHasher>(
    connection: &Connection,
    after: Position,
    limit: usize,
    without: &HashSet<UserName, S>,
) -> Result<Part, StoreError> {
    let without: HashSet<String> = without.iter().map(ToString::to_string).collect();
    part(connection, (after, Position::END), limit, |author| {
        !without.contains(author)
    })
}

/// Up to `limit` messages of `author` behind `after` and not behind `up_to`, in order. Of long
/// stretches of others only a part is looked at; [`Part::more`] is true then.
///
/// # Errors
///
/// [`StoreError`].
pub fn part_of(
    connection: &Connection,
    author: &UserName,
    (after, up_to): (Position, Position),
    limit: usize,
) -> Result<Part, StoreError> {
    let wanted = author.to_string();
    let mut part = part(connection, (after, up_to), limit, |author| author == wanted)?;
    if !part.more {
        part.up_to = up_to;
    }
    Ok(part)
}

fn part(
    connection: &Connection,
    (after, up_to): (Position, Position),
    limit: usize,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Part, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT position, id, room, author, sent_at, body FROM outbox
         WHERE position > ?1 AND position <= ?2 ORDER BY position LIMIT ?3",
    )?;
    let mut rows = statement.query(params![after.0, up_to.0, EXAMINED])?;
    let mut part = Part {
        entries: Vec::new(),
        up_to: after,
        more: true,
    };
    let mut examined = 0;
    while part.entries.len() < limit {
        let Some(row) = rows.next()? else {
            part.more = examined >= EXAMINED;
            return Ok(part);
        };
        examined += 1;
        part.up_to = Position(row.get(0)?);
        if is_wanted(row.get_ref(3)?.as_str().unwrap_or_default()) {
            part.entries.push(waiting(row)?);
        }
    }
    Ok(part)
}

/// A page of what waits of one author, oldest first, and where to look on.
#[derive(Debug)]
pub struct Pending {
    /// The messages.
    pub messages: Vec<Outgoing>,
    /// `None` if there is nothing behind them.
    pub next: Option<SearchMark>,
}

/// What `author` has in the outbox that `query` is looking for, behind `after`. A time of the
/// query is compared with when a message was written.
///
/// # Errors
///
/// [`StoreError`].
pub fn pending(
    connection: &Connection,
    author: &UserName,
    query: &SearchQuery,
    after: Option<SearchMark>,
) -> Result<Pending, StoreError> {
    let wanted = Wanted::of(query);
    let after = after.map_or(0, |mark| i64::try_from(mark.0).unwrap_or(i64::MAX));
    let mut statement = connection.prepare_cached(
        "SELECT position, id, room, author, sent_at, body FROM outbox
         WHERE position > ?1 AND author = ?2 AND (?3 IS NULL OR room = ?3)
         AND (?4 IS NULL OR sent_at >= ?4) AND (?5 IS NULL OR sent_at < ?5) ORDER BY position",
    )?;
    let mut rows = statement.query(params![
        after,
        author.to_string(),
        query.room.as_ref().map(Room::as_str),
        query.since.map(micros),
        query.before.map(micros),
    ])?;
    let (mut messages, mut bytes, mut examined) = (Vec::new(), 0, 0);
    while let Some(row) = rows.next()? {
        let Waiting { position, message } = waiting(row)?;
        examined += 1;
        if wanted.admits(&message.author, &message.body) {
            bytes += message.body.as_bytes().len();
            messages.push(message);
        }
        let is_full = messages.len() >= MAX_PAGE_ENTRIES || bytes >= MAX_PAGE_BYTES;
        if is_full || examined >= EXAMINED {
            let next = u64::try_from(position.0).ok().map(SearchMark);
            return Ok(Pending { messages, next });
        }
    }
    Ok(Pending {
        messages,
        next: None,
    })
}

/// How much waits.
///
/// # Errors
///
/// [`StoreError`].
pub fn usage(connection: &Connection) -> Result<Usage, StoreError> {
    let usage = connection.query_row(
        "SELECT count(*), coalesce(sum(length(body)), 0) FROM outbox",
        (),
        |row| {
            let messages: u64 = row.get(0)?;
            let bytes: u64 = row.get(1)?;
            Ok(Usage {
                messages,
                bytes: bytes + messages * ENTRY_OVERHEAD_BYTES,
            })
        },
    )?;
    Ok(usage)
}

fn waiting(row: &Row<'_>) -> Result<Waiting, StoreError> {
    fn bad(what: &'static str, value: impl ToString) -> StoreError {
        StoreError::BadValue {
            what,
            value: value.to_string(),
        }
    }
    let room: String = row.get(2)?;
    let author: String = row.get(3)?;
    let body: Vec<u8> = row.get(5)?;
    let message = Outgoing {
        id: MessageId::from_bytes(row.get(1)?),
        room: Room::parse(&room).map_err(|_| bad("room", room))?,
        author: UserName::parse(&author).map_err(|_| bad("author", author))?,
        sent_at: Timestamp::from_micros(row.get(4)?),
        body: EncodedBody::from_bytes(Bytes::from(body)).map_err(|error| bad("body", error))?,
    };
    Ok(Waiting {
        position: Position(row.get(0)?),
        message,
    })
}

#[cfg(test)]
mod tests;
