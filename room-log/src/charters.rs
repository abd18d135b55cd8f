//! The charters of rooms, as stored: what the acts in their logs come to.

use crate::{StoreError, roster};
use protocol::{Epoch, HostName, Room, UserName, governance::Charter};
use rusqlite::{Connection, OptionalExtension, params};

/// Who may do what in rooms, and what is kept of them; a migration of server and agent.
pub const GOVERNANCE_SCHEMA: &str = "
-- Who may do what in a room, as the acts in its log say; a room without one is open to all and
-- nobody's.
CREATE TABLE charters (
    room         TEXT PRIMARY KEY,
    charter      BLOB NOT NULL,
    max_age      INTEGER,
    max_messages INTEGER
) WITHOUT ROWID;

-- Who made each room, until its charter says who owns it.
CREATE TABLE founders (
    room TEXT PRIMARY KEY,
    user TEXT NOT NULL
) WITHOUT ROWID;

-- Who was kicked out of a room that is open to all, until their host knows.
CREATE TABLE kicked (
    room TEXT NOT NULL,
    user TEXT NOT NULL,
    PRIMARY KEY (room, user)
) WITHOUT ROWID;

-- Messages that were kept for long enough, so that the same again is known.
CREATE TABLE pruned (
    id      BLOB NOT NULL,
    room_id INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    PRIMARY KEY (id, room_id)
) WITHOUT ROWID;

-- Which hosts have somebody in a room.
CREATE INDEX members_by_host ON members (room, substr(user, instr(user, '@') + 1));

-- Edits by the message they are of, as protocol::EDIT_TAG says where that stands.
CREATE INDEX edits ON messages (room_id, substr(body, 3, 16)) WHERE substr(body, 1, 2) = x'03fe';
";

/// The charter of `room`, if it has one.
///
/// # Errors
///
/// [`StoreError`].
pub fn load(connection: &Connection, room: &Room) -> Result<Option<Charter>, StoreError> {
    let stored: Option<Vec<u8>> = connection
        .prepare_cached("SELECT charter FROM charters WHERE room = ?1")?
        .query_row([room.as_str()], |row| row.get(0))
        .optional()?;
    stored
        .map(|bytes| Charter::from_bytes(&bytes).map_err(|error| StoreError::bad("charter", error)))
        .transpose()
}

/// Keeps the charter of `room` in place of the one before.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn store(transaction: &Connection, room: &Room, charter: &Charter) -> Result<(), StoreError> {
    let bytes = charter
        .to_bytes()
        .map_err(|error| StoreError::bad("charter", error))?;
    let keep = charter.keep();
    let number = |given: Option<u64>| given.and_then(|given| i64::try_from(given).ok());
    let micros = |seconds: u64| seconds.saturating_mul(1_000_000);
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO charters (room, charter, max_age, max_messages)
             VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            room.as_str(),
            bytes.as_ref(),
            number(keep.max_age_seconds.map(micros)),
            number(keep.max_messages),
        ])?;
    Ok(())
}

/// Forgets the charter of `room`.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn remove(transaction: &Connection, room: &Room) -> Result<(), StoreError> {
    transaction
        .prepare_cached("DELETE FROM charters WHERE room = ?1")?
        .execute([room.as_str()])?;
    Ok(())
}

/// Puts the charters of all federated rooms aside, as those of the log of epoch `old`, and takes
/// those out again that were put aside as the log of epoch `new`: what is stored of its messages is
/// not read anew, and says who may read it.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn change_epoch(transaction: &Connection, old: Epoch, new: Epoch) -> Result<(), StoreError> {
    if old == new {
        return Ok(());
    }
    // No room has a name that begins so.
    let prefix = |epoch: Epoch| format!("{epoch} ");
    transaction
        .prepare_cached(
            "UPDATE OR REPLACE charters SET room = ?1 || room WHERE substr(room, 1, 1) = '#'",
        )?
        .execute([prefix(old)])?;
    transaction
        .prepare_cached(
            "UPDATE OR REPLACE charters SET room = substr(room, length(?1) + 1)
             WHERE substr(room, 1, length(?1)) = ?1",
        )?
        .execute([prefix(new)])?;
    Ok(())
}

/// Members of federated rooms whose charter, as it is known here, does not admit them.
///
/// # Errors
///
/// [`StoreError`].
pub fn strangers(connection: &Connection) -> Result<Vec<(Room, UserName)>, StoreError> {
    let rooms: Vec<String> = connection
        .prepare_cached("SELECT room FROM charters WHERE substr(room, 1, 1) = '#'")?
        .query_map((), |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut strangers = Vec::new();
    for name in rooms {
        let room = Room::parse(&name).map_err(|_| StoreError::bad("room", name))?;
        let Some(charter) = load(connection, &room)? else {
            continue;
        };
        let members = roster::members(connection, &room, "", usize::MAX)?;
        let out = members.into_iter().filter(|user| !charter.admits(user));
        strangers.extend(out.map(|user| (room.clone(), user)));
    }
    Ok(strangers)
}

/// Remembers that `user` made `room`.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn found(transaction: &Connection, room: &Room, user: &UserName) -> Result<(), StoreError> {
    transaction
        .prepare_cached("INSERT OR IGNORE INTO founders (room, user) VALUES (?1, ?2)")?
        .execute(params![room.as_str(), user.to_string()])?;
    Ok(())
}

/// Who made `room`, if that is known.
///
/// # Errors
///
/// [`StoreError`].
pub fn founder(connection: &Connection, room: &Room) -> Result<Option<UserName>, StoreError> {
    let stored: Option<String> = connection
        .prepare_cached("SELECT user FROM founders WHERE room = ?1")?
        .query_row([room.as_str()], |row| row.get(0))
        .optional()?;
    stored
        .map(|name| UserName::parse(&name).map_err(|_| StoreError::bad("founder", name)))
        .transpose()
}

/// Whether somebody of `host` is a member of `room`.
///
/// # Errors
///
/// [`StoreError`].
pub fn has_reader(
    connection: &Connection,
    room: &Room,
    host: &HostName,
) -> Result<bool, StoreError> {
    let found = connection
        .prepare_cached(
            "SELECT 1 FROM members WHERE room = ?1 AND substr(user, instr(user, '@') + 1) = ?2",
        )?
        .exists(params![room.as_str(), host.as_str()])?;
    Ok(found)
}

/// Remembers that `user` was kicked out of `room`.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn note_kick(transaction: &Connection, room: &Room, user: &UserName) -> Result<(), StoreError> {
    transaction
        .prepare_cached("INSERT OR IGNORE INTO kicked (room, user) VALUES (?1, ?2)")?
        .execute(params![room.as_str(), user.to_string()])?;
    Ok(())
}

/// Up to `limit` users in order of name, after `after`, who were kicked out of `room` and whose hosts do not
/// know yet.
///
/// # Errors
///
/// [`StoreError`].
pub fn kicked(
    connection: &Connection,
    room: &Room,
    after: &str,
    limit: usize,
) -> Result<Vec<UserName>, StoreError> {
    let sql = "SELECT user FROM kicked WHERE room = ?1 AND user > ?2 ORDER BY user LIMIT ?3";
    roster::users(connection, sql, room, after, limit)
}

/// The host of `user` knows that they are out.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn forget_kick(
    transaction: &Connection,
    room: &Room,
    user: &UserName,
) -> Result<(), StoreError> {
    transaction
        .prepare_cached("DELETE FROM kicked WHERE room = ?1 AND user = ?2")?
        .execute(params![room.as_str(), user.to_string()])?;
    Ok(())
}

/// Whether `user` was kicked out of `room` and their host does not know yet.
///
/// # Errors
///
/// [`StoreError`].
pub fn was_kicked(
    connection: &Connection,
    room: &Room,
    user: &UserName,
) -> Result<bool, StoreError> {
    let found = connection
        .prepare_cached("SELECT 1 FROM kicked WHERE room = ?1 AND user = ?2")?
        .exists(params![room.as_str(), user.to_string()])?;
    Ok(found)
}
