//! What the agent remembers of its host's people: nicks, read markers, unfinished departures.

use protocol::{Cursor, Epoch, FederatedRoom, Nick, Room, Seq, UserName};
use room_log::StoreError;
use rusqlite::{Connection, OptionalExtension, params};

/// What came of claiming a nick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It belongs to the claiming OS user, now or since before.
    Owned,
    /// It belongs to another OS user.
    TakenBy {
        /// Whom.
        uid: u32,
    },
    /// The claiming OS user has too many.
    TooMany,
}

/// Lets OS user `uid` own `nick`, unless somebody else does or they own `limit` already.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn claim(
    transaction: &Connection,
    nick: &Nick,
    uid: u32,
    limit: usize,
) -> Result<Claim, StoreError> {
    if let Some(owner) = owner(transaction, nick)? {
        return Ok(if owner == uid {
            Claim::Owned
        } else {
            Claim::TakenBy { uid: owner }
        });
    }
    let count: usize = transaction
        .prepare_cached("SELECT count(*) FROM nicks WHERE uid = ?1")?
        .query_row([uid], |row| row.get(0))?;
    if count >= limit {
        return Ok(Claim::TooMany);
    }
    transaction
        .prepare_cached("INSERT INTO nicks (nick, uid) VALUES (?1, ?2)")?
        .execute(params![nick.as_str(), uid])?;
    Ok(Claim::Owned)
}

/// The OS user that owns `nick`.
///
/// # Errors
///
/// [`StoreError`].
pub fn owner(connection: &Connection, nick: &Nick) -> Result<Option<u32>, StoreError> {
    let found = connection
        .prepare_cached("SELECT uid FROM nicks WHERE nick = ?1")?
        .query_row([nick.as_str()], |row| row.get(0))
        .optional()?;
    Ok(found)
}

/// Who of this host is in which `#room` and `&room`.
///
/// # Errors
///
/// [`StoreError`].
pub fn members(connection: &Connection) -> Result<Vec<(Room, Nick)>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT room, user FROM members")?;
    let mut rows = statement.query(())?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (room, user): (String, String) = (row.get(0)?, row.get(1)?);
        let parsed = Room::parse(&room).ok().zip(UserName::parse(&user).ok());
        let (room, user) = parsed.ok_or(StoreError::BadValue {
            what: "member",
            value: room,
        })?;
        found.push((room, user.nick));
    }
    Ok(found)
}

/// Remembers how far `user` has read. A marker only moves forward within one life of the log.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn mark_read(
    transaction: &Connection,
    user: &UserName,
    room: &Room,
    cursor: Cursor,
) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "INSERT INTO read_markers (user, room, epoch, seq) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (user, room) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq
             WHERE epoch <> excluded.epoch OR seq < excluded.seq",
        )?
        .execute(params![
            user.to_string(),
            room.as_str(),
            cursor.epoch.to_bytes(),
            i64::try_from(cursor.seq.number()).unwrap_or(i64::MAX),
        ])?;
    Ok(())
}

/// How far `user` has read in this life of the log.
///
/// # Errors
///
/// [`StoreError`].
pub fn read_marker(
    connection: &Connection,
    user: &UserName,
    room: &Room,
    epoch: Epoch,
) -> Result<Option<Seq>, StoreError> {
    let found: Option<u64> = connection
        .prepare_cached(
            "SELECT seq FROM read_markers WHERE user = ?1 AND room = ?2 AND epoch = ?3",
        )?
        .query_row(
            params![user.to_string(), room.as_str(), epoch.to_bytes()],
            |row| row.get(0),
        )
        .optional()?;
    Ok(found.map(Seq::new))
}

/// Remembers that the server must still be told of a departure, or that it was.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn set_departure(
    transaction: &Connection,
    room: &FederatedRoom,
    user: &UserName,
    pending: bool,
) -> Result<(), StoreError> {
    let sql = if pending {
        "INSERT OR IGNORE INTO departures (room, user) VALUES (?1, ?2)"
    } else {
        "DELETE FROM departures WHERE room = ?1 AND user = ?2"
    };
    transaction
        .prepare_cached(sql)?
        .execute(params![room.as_str(), user.to_string()])?;
    Ok(())
}

/// The departures the server must still be told of.
///
/// # Errors
///
/// [`StoreError`].
pub fn departures(connection: &Connection) -> Result<Vec<(FederatedRoom, Nick)>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT room, user FROM departures")?;
    let mut rows = statement.query(())?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (room, user): (String, String) = (row.get(0)?, row.get(1)?);
        let parsed = FederatedRoom::parse(&room)
            .ok()
            .zip(UserName::parse(&user).ok());
        let (room, user) = parsed.ok_or(StoreError::BadValue {
            what: "departure",
            value: room,
        })?;
        found.push((room, user.nick));
    }
    Ok(found)
}
