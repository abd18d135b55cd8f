//! Taking the words out of messages, so that their bytes are gone.
//!
//! The row stays, with [`EncodedBody::erased`] in the place of its body: the message keeps its place,
//! and sent again it is known. The bytes are overwritten (`secure_delete`), and what SQLite may have
//! left of them elsewhere in the file when it moved rows between pages goes when the [`Writer`] next
//! has time to write the file anew: [`note`] asks for that.
//!
//! [`Writer`]: crate::Writer

use crate::StoreError;
use protocol::{EDIT_TAG, ERASED_TAG, EncodedBody, MessageId, Room, UserName};
use rusqlite::{Connection, params};

/// A message whose words are gone: its room's number in this file, and its seq.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// The room's number in this file.
    pub room_id: i64,
    /// The message's seq.
    pub seq: i64,
}

/// Where the writer finds that it is to write the file anew.
const TRACES: &str = "traces";

/// The lives of a room, found by the index over epoch and name: there are few epochs, and many rooms.
const LIVES: &str = "
    WITH RECURSIVE lives (epoch) AS (
        SELECT min(epoch) FROM rooms
        UNION ALL
        SELECT (SELECT min(epoch) FROM rooms WHERE epoch > lives.epoch) FROM lives
        WHERE lives.epoch IS NOT NULL
    )
    SELECT room_id FROM lives
    CROSS JOIN rooms ON rooms.epoch = lives.epoch AND rooms.name = ?1";

/// Takes the words out of message `id` of `room` and of its edits, in every life of the log that is
/// stored here, each if `may` says so of its author. Acts stay as they are. Returns whose words are
/// gone now.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn erase(
    transaction: &Connection,
    room: &Room,
    id: MessageId,
    may: impl Fn(&UserName) -> bool,
) -> Result<Vec<Spot>, StoreError> {
    let lives: Vec<i64> = transaction
        .prepare_cached(LIVES)?
        .query_map([room.as_str()], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut found: Vec<(Spot, String, Option<u8>)> = Vec::new();
    let mut collect = |room_id: i64, sql: &str, key: &[u8]| -> Result<(), StoreError> {
        let mut statement = transaction.prepare_cached(sql)?;
        let mut rows = statement.query(params![room_id, key])?;
        while let Some(row) = rows.next()? {
            let body = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
            let spot = Spot {
                room_id,
                seq: row.get(0)?,
            };
            found.push((spot, row.get(1)?, body.first().copied()));
        }
        Ok(())
    };
    const { assert!(EDIT_TAG[0] == 3 && EDIT_TAG[1] == 254) };
    for room_id in lives {
        collect(
            room_id,
            "SELECT seq, author, body FROM messages WHERE id = ?2 AND room_id = ?1",
            &id.to_bytes(),
        )?;
        collect(
            room_id,
            "SELECT seq, author, body FROM messages
             WHERE room_id = ?1 AND substr(body, 3, 16) = ?2 AND substr(body, 1, 2) = x'03fe'",
            &u128::from_be_bytes(id.to_bytes()).to_le_bytes(),
        )?;
    }
    let mut erased = Vec::new();
    for (spot, author, first) in found {
        let author = UserName::parse(&author).map_err(|_| StoreError::bad("author", author))?;
        if first == Some(ERASED_TAG) || is_act(first) || !may(&author) {
            continue;
        }
        blank(transaction, spot)?;
        erased.push(spot);
    }
    if !erased.is_empty() {
        note(transaction)?;
    }
    Ok(erased)
}

/// Takes the words out of one message.
pub(crate) fn blank(transaction: &Connection, spot: Spot) -> Result<(), StoreError> {
    transaction
        .prepare_cached("UPDATE messages SET body = ?3 WHERE room_id = ?1 AND seq = ?2")?
        .execute(params![
            spot.room_id,
            spot.seq,
            EncodedBody::erased().as_bytes().as_ref()
        ])?;
    Ok(())
}

/// Asks for what is left of deleted bytes to be overwritten.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn note(transaction: &Connection) -> Result<(), StoreError> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, x'01')")?
        .execute([TRACES])?;
    Ok(())
}

/// Whether that was asked for, and not done since.
pub(crate) fn is_noted(connection: &Connection) -> Result<bool, StoreError> {
    Ok(connection
        .prepare_cached("SELECT 1 FROM meta WHERE key = ?1")?
        .exists([TRACES])?)
}

/// It was done.
pub(crate) fn forget_note(connection: &Connection) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM meta WHERE key = ?1")?
        .execute([TRACES])?;
    Ok(())
}

/// Whether a body that begins so is an act.
const fn is_act(first: Option<u8>) -> bool {
    matches!(first, Some(protocol::ACT_TAG))
}
