//! What the agent remembers of its host's people: nicks, read markers, unfinished departures.

use protocol::{Cursor, Epoch, FederatedRoom, Nick, Room, Seq, UserName, likeness};
use room_log::StoreError;
use rusqlite::{Connection, OptionalExtension, params};

/// What came of claiming a nick.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Somebody else here has one that looks like it.
    LooksLike(Nick),
    /// It mixes letters of several scripts.
    Mixed,
}

/// Whose nick it is, if somebody's.
///
/// # Errors
///
/// [`StoreError`].
pub fn owner(connection: &Connection, nick: &Nick) -> Result<Option<u32>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT uid FROM nicks WHERE nick = ?1")?;
    Ok(statement
        .query_row([nick.as_str()], |row| row.get(0))
        .optional()?)
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
    if likeness::mixes_scripts(nick.as_str()) {
        return Ok(Claim::Mixed);
    }
    if let Some(other) = looks_like(transaction, nick, uid)? {
        return Ok(Claim::LooksLike(other));
    }
    transaction
        .prepare_cached("INSERT INTO nicks (nick, uid) VALUES (?1, ?2)")?
        .execute(params![nick.as_str(), uid])?;
    Ok(Claim::Owned)
}

/// A nick of another OS user that looks like `nick`.
fn looks_like(connection: &Connection, nick: &Nick, uid: u32) -> Result<Option<Nick>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT nick FROM nicks WHERE uid <> ?1")?;
    let mut rows = statement.query([uid])?;
    while let Some(row) = rows.next()? {
        let other: String = row.get(0)?;
        if likeness::look_alike(nick.as_str(), &other) {
            let bad = |_| StoreError::BadValue {
                what: "nick",
                value: other.clone(),
            };
            return Nick::parse(&other).map(Some).map_err(bad);
        }
    }
    Ok(None)
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

/// Where a departure stands among all there ever were on this host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DepartureNumber(u64);

/// Remembers that the server must be told of a departure.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn add_departure(
    transaction: &Connection,
    room: &FederatedRoom,
    user: &UserName,
) -> Result<DepartureNumber, StoreError> {
    let number = transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO departures (room, user) VALUES (?1, ?2) RETURNING number",
        )?
        .query_row(params![room.as_str(), user.to_string()], |row| row.get(0))?;
    Ok(DepartureNumber(number))
}

/// The server need not be told of a departure: it was told of all up to `up_to`, or the user is
/// back (`None`).
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn end_departure(
    transaction: &Connection,
    room: &FederatedRoom,
    user: &UserName,
    up_to: Option<DepartureNumber>,
) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "DELETE FROM departures WHERE room = ?1 AND user = ?2 AND number <= coalesce(?3, number)",
        )?
        .execute(params![
            room.as_str(),
            user.to_string(),
            up_to.map(|number| number.0),
        ])?;
    Ok(())
}

/// The departures the server must still be told of, oldest first.
///
/// # Errors
///
/// [`StoreError`].
pub fn departures(
    connection: &Connection,
) -> Result<Vec<(DepartureNumber, FederatedRoom, Nick)>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT room, user, number FROM departures ORDER BY number")?;
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
        found.push((DepartureNumber(row.get(2)?), room, user.nick));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::APPLICATION;
    use room_log::Database;

    #[test]
    fn news_of_an_earlier_departure_does_not_end_a_later_one() {
        let dir = tempfile::tempdir().unwrap();
        let (_database, connection) = Database::open(dir.path(), APPLICATION).unwrap();
        let room: FederatedRoom = FederatedRoom::parse("#ops").unwrap();
        let user: UserName = "alice@ada".parse().unwrap();
        let first = add_departure(&connection, &room, &user).unwrap();
        end_departure(&connection, &room, &user, None).unwrap();
        assert_eq!(departures(&connection).unwrap(), []);
        let second = add_departure(&connection, &room, &user).unwrap();
        end_departure(&connection, &room, &user, Some(first)).unwrap();
        let left = [(second, room.clone(), user.nick.clone())];
        assert_eq!(departures(&connection).unwrap(), left);
        end_departure(&connection, &room, &user, Some(second)).unwrap();
        assert_eq!(departures(&connection).unwrap(), []);
    }
}
