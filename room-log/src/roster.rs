//! Members and topics of rooms.

use crate::StoreError;
use protocol::{Room, UserName};
use rusqlite::{Connection, OptionalExtension, params};

/// Makes `user` a member of `room`. Returns whether they were none before.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn join(transaction: &Connection, room: &Room, user: &UserName) -> Result<bool, StoreError> {
    let added = transaction
        .prepare_cached("INSERT OR IGNORE INTO members (room, user) VALUES (?1, ?2)")?
        .execute(params![room.as_str(), user.to_string()])?;
    Ok(added > 0)
}

/// Ends a membership. Returns whether there was one.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn leave(transaction: &Connection, room: &Room, user: &UserName) -> Result<bool, StoreError> {
    let removed = transaction
        .prepare_cached("DELETE FROM members WHERE room = ?1 AND user = ?2")?
        .execute(params![room.as_str(), user.to_string()])?;
    Ok(removed > 0)
}

/// Sets or, with an empty text, removes the topic of `room`.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn set_topic(transaction: &Connection, room: &Room, topic: &str) -> Result<(), StoreError> {
    if topic.is_empty() {
        transaction
            .prepare_cached("DELETE FROM topics WHERE room = ?1")?
            .execute([room.as_str()])?;
    } else {
        transaction
            .prepare_cached("INSERT OR REPLACE INTO topics (room, topic) VALUES (?1, ?2)")?
            .execute(params![room.as_str(), topic])?;
    }
    Ok(())
}

/// The topic of `room`; empty if none is set.
///
/// # Errors
///
/// [`StoreError`].
pub fn topic(connection: &Connection, room: &Room) -> Result<String, StoreError> {
    let found = connection
        .prepare_cached("SELECT topic FROM topics WHERE room = ?1")?
        .query_row([room.as_str()], |row| row.get(0))
        .optional()?;
    Ok(found.unwrap_or_default())
}

/// Whether `user` is a member of `room`.
///
/// # Errors
///
/// [`StoreError`].
pub fn is_member(
    connection: &Connection,
    room: &Room,
    user: &UserName,
) -> Result<bool, StoreError> {
    let found = connection
        .prepare_cached("SELECT 1 FROM members WHERE room = ?1 AND user = ?2")?
        .exists(params![room.as_str(), user.to_string()])?;
    Ok(found)
}

/// Up to `limit` members of `room` in order of name, after `after`.
///
/// # Errors
///
/// [`StoreError`].
pub fn members(
    connection: &Connection,
    room: &Room,
    after: &str,
    limit: usize,
) -> Result<Vec<UserName>, StoreError> {
    let sql = "SELECT user FROM members WHERE room = ?1 AND user > ?2 ORDER BY user LIMIT ?3";
    users(connection, sql, room, after, limit)
}

/// The users that `sql` finds of `room` (`?1`) after `after` (`?2`), up to `limit` (`?3`).
pub(crate) fn users(
    connection: &Connection,
    sql: &str,
    room: &Room,
    after: &str,
    limit: usize,
) -> Result<Vec<UserName>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![room.as_str(), after, limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        found.push(UserName::parse(&name).map_err(|_| StoreError::bad("user", name))?);
    }
    Ok(found)
}

/// How many members `room` has.
///
/// # Errors
///
/// [`StoreError`].
pub fn member_count(connection: &Connection, room: &Room) -> Result<u32, StoreError> {
    let count = connection
        .prepare_cached("SELECT count(*) FROM members WHERE room = ?1")?
        .query_row([room.as_str()], |row| row.get(0))?;
    Ok(count)
}

/// The rooms that `user` is a member of, in order of name.
///
/// # Errors
///
/// [`StoreError`].
pub fn rooms_of(connection: &Connection, user: &UserName) -> Result<Vec<Room>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT room FROM members WHERE user = ?1 ORDER BY room")?;
    let mut rows = statement.query([user.to_string()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        found.push(Room::parse(&name).map_err(|_| StoreError::bad("room", name))?);
    }
    Ok(found)
}

/// How many rooms `user` is a member of.
///
/// # Errors
///
/// [`StoreError`].
pub fn room_count(connection: &Connection, user: &UserName) -> Result<usize, StoreError> {
    let count = connection
        .prepare_cached("SELECT count(*) FROM members WHERE user = ?1")?
        .query_row([user.to_string()], |row| row.get(0))?;
    Ok(count)
}
