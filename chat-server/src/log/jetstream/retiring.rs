//! The end of messages that were kept for long enough.
//!
//! What must remain of each is written first, as of one that is erased: an id stays known, however late
//! it is sent again, for some hundred bytes a message. Then all of the room up to there goes at once.
//! The newest message of a room keeps its place without its words, so that the room's end is where it
//! was. Acts are commands, and stay. Every server looks, and what one has done the others find done.

use super::{
    Shared,
    entry::{Command, Found, Remains, committed_at, tombstone},
};
use crate::nats::{Entry, PublishError, number};
use protocol::{Committed, ERASED_TAG, Epoch, Room, Seq, Timestamp};
use room_log::StoreError;
use rusqlite::{Connection, OptionalExtension, params};
use std::time::SystemTime;
use tracing::{debug, warn};

/// Messages that end together.
const BATCH_MESSAGES: usize = 500;

/// Bytes of them that are read at a time.
const BATCH_BYTES: usize = 8 << 20;

/// What is kept of a room.
#[derive(Debug, Clone)]
struct Kept {
    room: Room,
    max_age: Option<u64>,
    max_messages: Option<u64>,
}

/// Ends what is due whenever it is time to look. Never returns.
pub(super) async fn run(shared: &Shared) {
    loop {
        shared.retire.notified().await;
        if let Err(error) = look(shared).await {
            warn!(%error, "messages are kept for longer than they should be");
        }
    }
}

async fn look(shared: &Shared) -> Result<(), StoreError> {
    for kept in shared.cache.read(rooms).await? {
        while end_some(shared, &kept).await? {}
    }
    Ok(())
}

/// Ends the oldest messages of a room that are due; tells whether there may be more.
async fn end_some(shared: &Shared, kept: &Kept) -> Result<bool, StoreError> {
    let filter = shared.subjects.said(&kept.room);
    let (stored, all) = shared
        .nats
        .read(&filter, 1, BATCH_MESSAGES + 1, BATCH_BYTES)
        .await?;
    let behind = stored
        .first()
        .and_then(|first| number(&first.headers, "Nats-Num-Pending"));
    let count = behind.map_or(0, |behind| behind + 1);
    let too_many = kept.max_messages.map_or(0, |max| count.saturating_sub(max));
    let now = Timestamp::from(SystemTime::now()).micros();
    let oldest = kept.max_age.map_or(0, |age| now.saturating_sub(age));
    let mut due = Vec::new();
    let mut newest = None;
    let last = stored.len() - usize::from(!stored.is_empty());
    for (index, one) in stored.into_iter().enumerate() {
        if index as u64 >= too_many && committed_at(&one).micros() >= oldest {
            break;
        }
        let message = shared.committed(one)?;
        if index == last && all {
            newest = Some(message);
        } else if due.len() < BATCH_MESSAGES {
            due.push(message);
        }
    }
    let more = due.len() == BATCH_MESSAGES;
    let up_to = due.last().map(|last| last.seq);
    if let Some(up_to) = up_to {
        debug!(room = %kept.room, messages = due.len(), %up_to, "kept for long enough");
        remember(shared, &kept.room, &due).await?;
        shared.nats.purge(&filter, up_to).await?;
    }
    if let Some(newest) = newest {
        blank(shared, newest).await?;
    }
    forget_remains(shared, kept, up_to.unwrap_or_default(), oldest).await?;
    Ok(more)
}

/// Writes what must remain of messages.
async fn remember(shared: &Shared, room: &Room, due: &[Committed]) -> Result<(), StoreError> {
    let entries: Vec<Entry> = due
        .iter()
        .map(|message| {
            let remains = Remains {
                seq: message.seq,
                id: message.id,
                author: Some(message.author.clone()),
            };
            tombstone(&shared.subjects, room, &remains)
        })
        .collect();
    match shared.store(entries.clone()).await {
        Ok(_) => return Ok(()),
        Err(PublishError::Taken) => {}
        Err(error) => return Err(StoreError::Unreachable(error.to_string())),
    }
    // Of some it is there already: another server is at it, or a crash came between.
    for entry in entries {
        match shared.store(vec![entry]).await {
            Ok(_) | Err(PublishError::Taken) => {}
            Err(error) => return Err(StoreError::Unreachable(error.to_string())),
        }
    }
    Ok(())
}

/// Takes the words out of the newest message of a room.
async fn blank(shared: &Shared, message: Committed) -> Result<(), StoreError> {
    let found = Found {
        seq: message.seq,
        id: message.id,
        author: message.author.clone(),
        sent_at: message.sent_at,
        committed_at: message.committed_at,
        edits: None,
    };
    let command = Command::TakenBack {
        room: message.room,
        by: message.author,
        id: message.id,
        found: vec![found],
    };
    shared.order(command).await
}

/// Has all servers forget where erased messages of a room were that would have ended by now.
async fn forget_remains(
    shared: &Shared,
    kept: &Kept,
    up_to: Seq,
    oldest: u64,
) -> Result<(), StoreError> {
    let (epoch, room) = (shared.epoch, kept.room.clone());
    let head = shared.head(&room).await?.unwrap_or_default().seq;
    let find = move |connection: &Connection| {
        last_remains(connection, epoch, &room, (up_to, oldest), head)
    };
    match shared.cache.read(find).await? {
        Some(up_to) => {
            let room = kept.room.clone();
            shared.order(Command::Retired { room, up_to }).await
        }
        None => Ok(()),
    }
}

/// The rooms that do not keep everything.
fn rooms(connection: &Connection) -> Result<Vec<Kept>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT room, max_age, max_messages FROM charters
         WHERE max_age IS NOT NULL OR max_messages IS NOT NULL ORDER BY room",
    )?;
    let mut rows = statement.query(())?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        found.push(Kept {
            room: Room::parse(&name).map_err(|_| StoreError::bad("room", name))?,
            max_age: row.get(1)?,
            max_messages: row.get(2)?,
        });
    }
    Ok(found)
}

/// The newest erased message before `head` that is at most at `up_to`, or older than `oldest`.
fn last_remains(
    connection: &Connection,
    epoch: Epoch,
    room: &Room,
    (up_to, oldest): (Seq, u64),
    head: Seq,
) -> Result<Option<Seq>, StoreError> {
    let found: Option<Option<u64>> = connection
        .prepare_cached(
            "SELECT max(seq) FROM messages
             WHERE room_id = (SELECT room_id FROM rooms WHERE epoch = ?1 AND name = ?2)
             AND body = ?3 AND seq < ?6 AND (seq <= ?4 OR committed_at < ?5)
             AND seq NOT IN (SELECT seq FROM erasing)",
        )?
        .query_row(
            params![
                epoch.to_bytes(),
                room.as_str(),
                [ERASED_TAG],
                up_to.number(),
                oldest,
                head.number()
            ],
            |row| row.get(0),
        )
        .optional()?;
    Ok(found.flatten().map(Seq::new))
}
