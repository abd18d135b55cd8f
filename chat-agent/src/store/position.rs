//! How far the consumers of each user have come, by their own word.
//!
//! Unlike a read marker a position may go back: a consumer that says so wants to read again.

use protocol::{ConsumerName, Cursor, Epoch, Room, Seq, UserName, limits::MAX_POSITIONS_PER_USER};
use room_log::StoreError;
use rusqlite::{Connection, OptionalExtension, params};

/// Remembers that `consumer` of `user` is done with `room` up to `cursor`. Returns whether there
/// was room for it: a user has at most [`MAX_POSITIONS_PER_USER`].
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn confirm(
    transaction: &Connection,
    user: &UserName,
    consumer: &ConsumerName,
    room: &Room,
    cursor: Cursor,
) -> Result<bool, StoreError> {
    let is_new = position(transaction, user, consumer, room)?.is_none();
    let user = user.to_string();
    if is_new {
        let count: usize = transaction
            .prepare_cached("SELECT count(*) FROM positions WHERE user = ?1")?
            .query_row([&user], |row| row.get(0))?;
        if count >= MAX_POSITIONS_PER_USER {
            return Ok(false);
        }
    }
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO positions (user, consumer, room, epoch, seq)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            user,
            consumer.as_str(),
            room.as_str(),
            cursor.epoch.to_bytes(),
            i64::try_from(cursor.seq.number()).unwrap_or(i64::MAX),
        ])?;
    Ok(true)
}

/// What `consumer` of `user` confirmed last of `room`.
///
/// # Errors
///
/// [`StoreError`].
pub fn position(
    connection: &Connection,
    user: &UserName,
    consumer: &ConsumerName,
    room: &Room,
) -> Result<Option<Cursor>, StoreError> {
    let found = connection
        .prepare_cached(
            "SELECT epoch, seq FROM positions WHERE user = ?1 AND consumer = ?2 AND room = ?3",
        )?
        .query_row(
            params![user.to_string(), consumer.as_str(), room.as_str()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    Ok(found.map(|(epoch, seq)| Cursor {
        epoch: Epoch::from_bytes(epoch),
        seq: Seq::new(seq),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::APPLICATION;
    use room_log::Database;

    #[test]
    fn each_consumer_has_its_own_position_and_may_go_back() {
        let dir = tempfile::tempdir().unwrap();
        let (_database, connection) = Database::open(dir.path(), APPLICATION).unwrap();
        let (alice, bob) = ("alice@ada".parse().unwrap(), "bob@ada".parse().unwrap());
        let name = |text: &str| ConsumerName::parse(text).unwrap();
        let room: Room = "#ops".parse().unwrap();
        let at = |seq| Cursor {
            epoch: Epoch::from_bytes([1; 8]),
            seq: Seq::new(seq),
        };
        assert!(confirm(&connection, &alice, &name("a"), &room, at(9)).unwrap());
        assert!(confirm(&connection, &alice, &name("a"), &room, at(7)).unwrap());
        assert!(confirm(&connection, &bob, &name("a"), &room, at(3)).unwrap());
        let of = |user, consumer| position(&connection, user, &name(consumer), &room).unwrap();
        assert_eq!(of(&alice, "a"), Some(at(7)));
        assert_eq!(of(&bob, "a"), Some(at(3)));
        assert_eq!(of(&alice, "b"), None);
    }

    #[test]
    fn one_user_cannot_fill_the_file_with_positions() {
        let dir = tempfile::tempdir().unwrap();
        let (_database, connection) = Database::open(dir.path(), APPLICATION).unwrap();
        let (alice, room) = ("alice@ada".parse().unwrap(), "#ops".parse().unwrap());
        let cursor = Cursor {
            epoch: Epoch::from_bytes([1; 8]),
            seq: Seq::new(1),
        };
        let name = |number: usize| ConsumerName::parse(&number.to_string()).unwrap();
        for number in 0..MAX_POSITIONS_PER_USER {
            assert!(confirm(&connection, &alice, &name(number), &room, cursor).unwrap());
        }
        let one_more = name(MAX_POSITIONS_PER_USER);
        assert!(!confirm(&connection, &alice, &one_more, &room, cursor).unwrap());
        assert!(confirm(&connection, &alice, &name(0), &room, cursor).unwrap());
    }
}
