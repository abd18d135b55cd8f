//! Taking erased messages out of the stream.
//!
//! That a message is to go is a command, so that every server knows it, also one that comes back after
//! a crash. Each then does the same: it writes what must remain (that the id is known, and whose it
//! is) under the room's `t`, and after that deletes the message, which overwrites its bytes. Both can
//! be done again without harm, so it does not matter who does them, and how often.

use super::{
    Shared, cache,
    entry::{Found, tombstone},
    reading::Limits,
};
use crate::nats::PublishError;
use protocol::{Committed, Content, MessageId, Room, Seq};
use room_log::StoreError;
use std::time::Duration;
use tokio::time::sleep;
use tracing::warn;

/// Messages that are erased in a row: each takes JetStream some milliseconds.
const BATCH_MESSAGES: usize = 64;

/// How long to wait after it did not work.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Erases what is to be erased, as it comes. Never returns.
pub(super) async fn run(shared: &Shared) {
    loop {
        match erase_some(shared).await {
            Ok(true) => {}
            Ok(false) => shared.erase.notified().await,
            Err(error) => {
                warn!(%error, "erased messages are in the log still");
                sleep(RETRY_PAUSE).await;
            }
        }
    }
}

async fn erase_some(shared: &Shared) -> Result<bool, StoreError> {
    let due = shared
        .cache
        .read(|connection| cache::to_erase(connection, BATCH_MESSAGES))
        .await?;
    if due.is_empty() {
        return Ok(false);
    }
    let mut gone = Vec::with_capacity(due.len());
    for (room, remains) in due {
        let entry = tombstone(&shared.subjects, &room, &remains);
        match shared.nats.publish(vec![entry]).await {
            // Somebody else was quicker.
            Ok(_) | Err(PublishError::Taken) => {}
            Err(PublishError::Unknown(reason) | PublishError::Full(reason)) => {
                return Err(StoreError::Unreachable(reason));
            }
        }
        shared.nats.erase(remains.seq).await?;
        gone.push(remains.seq);
    }
    shared
        .cache
        .erased(gone)
        .await
        .map_err(StoreError::Unreachable)?;
    Ok(true)
}

impl Shared {
    /// What there is in `room` of messages `ids` and of edits of them.
    ///
    /// Edits stand behind what they are of, so the room is read from the first of those on.
    pub(super) async fn found(
        &self,
        room: &Room,
        ids: &[MessageId],
    ) -> Result<Vec<Found>, StoreError> {
        let mut after: Option<Seq> = None;
        for part in ids.chunks(500) {
            for known in self.known(room, part).await? {
                if let super::reading::Known::Said(message) = known {
                    let before = Seq::new(message.seq.number() - 1);
                    after = Some(after.map_or(before, |after| after.min(before)));
                }
            }
        }
        let Some(mut after) = after else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        loop {
            let page = self
                .page(room, after, Limits::WIDE, None)
                .await?
                .unwrap_or_default();
            let Some(last) = page.last() else {
                return Ok(found);
            };
            after = last.seq;
            for message in page {
                let edits = edited(&message).filter(|of| ids.contains(of));
                let is_one = ids.contains(&message.id) || edits.is_some();
                if is_one && !message.body.is_act() && !message.body.is_erased() {
                    found.push(Found {
                        seq: message.seq,
                        id: message.id,
                        author: message.author,
                        sent_at: message.sent_at,
                        committed_at: message.committed_at,
                        edits,
                    });
                }
            }
        }
    }
}

/// The message that this has other words for, if it is an edit.
fn edited(message: &Committed) -> Option<MessageId> {
    if message.body.as_bytes().first() != protocol::EDIT_TAG.first() {
        return None;
    }
    match message.body.decode() {
        Ok(Content::Edit { of, .. }) => Some(of),
        _ => None,
    }
}
