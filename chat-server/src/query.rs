//! Requests that only read.

use crate::{
    log::{Listing, Log},
    reply::Answer,
    router::Router,
};
use protocol::{
    FederatedRoom, HostName, Member, MessageId, Room, Seq, UserName,
    federation::{Refusal, Reply},
    limits::{MAX_PAGE_BYTES, MAX_PAGE_ENTRIES},
};
use room_log::{Frames, Page, PageFuture, PageSource, StoreError};
use std::sync::Arc;

/// Where a new subscription begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) room: Room,
    pub(crate) after: Seq,
    /// The newest message of the room.
    pub(crate) head: Seq,
}

/// Checks that the log continues what the agent has of `room`: the message `after_id` at `after`.
pub(crate) async fn start(
    log: &dyn Log,
    room: Room,
    after: Seq,
    after_id: Option<MessageId>,
) -> Result<Start, Refusal> {
    let head = log.head(&room).await.map_err(unavailable)?;
    let head = head.unwrap_or_default();
    let continues = match after_id {
        _ if after == Seq::START => true,
        None => after <= head.seq,
        // Most agents have everything or nearly so: no second look for them.
        Some(_) if after == head.seq => after_id == head.id,
        Some(_) => log.id_at(&room, after).await.map_err(unavailable)? == after_id,
    };
    if continues {
        Ok(Start {
            room,
            after,
            head: head.seq,
        })
    } else {
        Err(Refusal::Diverged {
            room,
            head: head.seq,
        })
    }
}

/// The newest message of `room`.
pub(crate) async fn head(log: &dyn Log, room: Room) -> Answer {
    let head = log.head(&room).await.map_err(unavailable)?;
    Ok(Reply::Head {
        head: head.unwrap_or_default().seq,
    })
}

/// One page of rooms.
pub(crate) async fn rooms(log: &dyn Log, after: Option<FederatedRoom>) -> Answer {
    let Listing { entries, more } = log.rooms(after.as_ref()).await.map_err(unavailable)?;
    Ok(Reply::Rooms {
        rooms: entries,
        more,
    })
}

/// One page of the members of `room`.
pub(crate) async fn who(
    log: &dyn Log,
    router: &Router,
    room: FederatedRoom,
    after: Option<UserName>,
) -> Answer {
    let found = log.members(&room, after.as_ref()).await;
    let Some(Listing { entries, more }) = found.map_err(unavailable)? else {
        let room = Room::Federated(room);
        return Err(Refusal::NoSuchRoom { room });
    };
    let there = router.availability(&entries);
    let members = entries
        .into_iter()
        .zip(there)
        .map(|(user, availability)| Member { user, availability })
        .collect();
    Ok(Reply::Members { members, more })
}

/// One page of the direct conversations that touch `host`.
pub(crate) async fn directs(log: &dyn Log, host: &HostName, after: Option<Room>) -> Answer {
    let found = log.directs(host, after.as_ref()).await;
    let Listing { entries, more } = found.map_err(unavailable)?;
    Ok(Reply::Directs {
        conversations: entries,
        more,
    })
}

fn unavailable(error: StoreError) -> Refusal {
    tracing::warn!(%error, "a request could not be answered");
    Refusal::Unavailable {
        reason: error.to_string(),
    }
}

/// Pages of the log as frames, for readers that are behind.
#[derive(Debug)]
pub(crate) struct LogPages {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) frames: Frames,
}

impl PageSource for LogPages {
    fn page(&self, room: &Room, after: Seq) -> PageFuture {
        let reading = self.log.page(room, after, MAX_PAGE_ENTRIES, MAX_PAGE_BYTES);
        let frames = self.frames;
        Box::pin(async move {
            let messages = reading.await?;
            Ok(Page::of(&messages, after, frames))
        })
    }
}
