//! Messages the server refused for good, kept so that their authors learn of it.
//!
//! A refusal is told to the sessions that are open, which may be none; so it is also kept for
//! [`KEPT_FOR`], at most [`KEPT_PER_AUTHOR`] of one author. It is forgotten when the same message
//! is taken after all.

use protocol::{MessageId, Room, Timestamp, UserName};
use room_log::StoreError;
use rusqlite::{Connection, params};
use std::time::Duration;

/// How long a refusal is kept: over a week-end and back.
pub const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Refusals of one author that are kept; newer ones push out the oldest.
pub const KEPT_PER_AUTHOR: u32 = 100;

/// A message that will not be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which message.
    pub id: MessageId,
    /// Where it was to go.
    pub room: Room,
    /// Why the server refused it, for people.
    pub reason: String,
    /// When, by this host's clock.
    pub at: Timestamp,
}

/// Keeps a refusal, and drops what is too old or too much.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn keep(
    transaction: &Connection,
    author: &UserName,
    refused: &Refused,
) -> Result<(), StoreError> {
    let author = author.to_string();
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO refused (id, room, author, reason, at)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            refused.id.to_bytes(),
            refused.room.as_str(),
            author,
            refused.reason,
            refused.at.micros(),
        ])?;
    transaction
        .prepare_cached("DELETE FROM refused WHERE at < ?1")?
        .execute([oldest(refused.at)])?;
    transaction
        .prepare_cached(
            "DELETE FROM refused WHERE number IN (SELECT number FROM refused WHERE author = ?1
             ORDER BY number DESC LIMIT -1 OFFSET ?2)",
        )?
        .execute(params![author, KEPT_PER_AUTHOR])?;
    Ok(())
}

/// Forgets the refusal of a message that was taken after all.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn forget(transaction: &Connection, id: MessageId) -> Result<(), StoreError> {
    transaction
        .prepare_cached("DELETE FROM refused WHERE id = ?1")?
        .execute([id.to_bytes()])?;
    Ok(())
}

/// The refusals of `author` that are kept at `now`, newest first.
///
/// # Errors
///
/// [`StoreError`].
pub fn of(
    connection: &Connection,
    author: &UserName,
    now: Timestamp,
) -> Result<Vec<Refused>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT id, room, reason, at FROM refused WHERE author = ?1 AND at >= ?2
         ORDER BY number DESC",
    )?;
    let mut rows = statement.query(params![author.to_string(), oldest(now)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let room: String = row.get(1)?;
        found.push(Refused {
            id: MessageId::from_bytes(row.get(0)?),
            room: Room::parse(&room).map_err(|_| StoreError::BadValue {
                what: "room",
                value: room,
            })?,
            reason: row.get(2)?,
            at: Timestamp::from_micros(row.get(3)?),
        });
    }
    Ok(found)
}

fn oldest(now: Timestamp) -> u64 {
    let kept = u64::try_from(KEPT_FOR.as_micros()).unwrap_or(u64::MAX);
    now.micros().saturating_sub(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::APPLICATION;
    use room_log::Database;

    const DAY: u64 = 24 * 60 * 60 * 1_000_000;

    fn refused(number: u64) -> Refused {
        Refused {
            id: MessageId::from_bytes(u128::from(number).to_be_bytes()),
            room: "alice@ada,bob@hopper".parse().unwrap(),
            reason: "no such host".to_owned(),
            at: Timestamp::from_micros(1_700_000_000_000_000 + number),
        }
    }

    #[test]
    fn refusals_are_their_authors_and_end_by_age_number_or_success() {
        let dir = tempfile::tempdir().unwrap();
        let (_database, connection) = Database::open(dir.path(), APPLICATION).unwrap();
        let (alice, bob) = ("alice@ada".parse().unwrap(), "bob@ada".parse().unwrap());
        let numbers = |author: &UserName, now: u64| -> Vec<u64> {
            let now = Timestamp::from_micros(1_700_000_000_000_000 + now);
            let found = of(&connection, author, now).unwrap();
            let number = |one: Refused| one.at.micros() - 1_700_000_000_000_000;
            found.into_iter().map(number).collect()
        };
        keep(&connection, &alice, &refused(0)).unwrap();
        keep(&connection, &bob, &refused(1)).unwrap();
        keep(&connection, &bob, &refused(2)).unwrap();
        assert_eq!(numbers(&alice, 3), [0]);
        assert_eq!(numbers(&bob, 3), [2, 1]);
        assert_eq!(numbers(&bob, 7 * DAY + 2), [2], "a week later");
        forget(&connection, refused(2).id).unwrap();
        assert_eq!(numbers(&bob, 3), [1]);
        for number in 10..10 + 2 * u64::from(KEPT_PER_AUTHOR) {
            keep(&connection, &bob, &refused(number)).unwrap();
        }
        let kept = numbers(&bob, 1_000);
        assert_eq!((kept.len(), kept[0]), (100, 209));
        assert_eq!(numbers(&alice, 1_000), [0], "others' refusals stay");
        keep(&connection, &bob, &refused(8 * DAY)).unwrap();
        let count = "SELECT count(*) FROM refused";
        let count: u64 = connection.query_row(count, (), |row| row.get(0)).unwrap();
        assert_eq!(count, 1, "what nobody is told any more is deleted");
    }
}
