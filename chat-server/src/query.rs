//! Requests that only read.

use crate::{
    log::{self, Asker, Change, Listing, Log},
    reply::Answer,
    router::Router,
};
use protocol::{
    FederatedRoom, HostName, Member, MessageId, Room, Seq, UserName,
    federation::{Refusal, Reply},
    limits::{MAX_PAGE_BYTES, MAX_PAGE_ENTRIES},
};
use room_log::{Frames, Page, PageFuture, PageSource, StoreError};
use std::sync::{Arc, OnceLock};

/// Where a new subscription begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) room: Room,
    pub(crate) after: Seq,
    /// The newest message of the room.
    pub(crate) head: Seq,
}

/// A room that the log was told to follow, until this is dropped.
#[derive(Debug)]
pub(crate) struct Following {
    log: Arc<dyn Log>,
    room: Room,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.log.unfollow(&self.room);
    }
}

/// Follows `room`, and checks that the log continues what the agent has of it: the message `after_id`
/// at `after`.
pub(crate) async fn start(
    log: &Arc<dyn Log>,
    room: Room,
    after: Seq,
    after_id: Option<MessageId>,
) -> Result<(Start, Following), Refusal> {
    let followed = log.follow(&room);
    let following = Following {
        log: Arc::clone(log),
        room: room.clone(),
    };
    // Before the head is read: what is beyond it comes by itself.
    followed.await.map_err(unavailable)?;
    let head = log.head(&room).await.map_err(unavailable)?;
    let head = head.unwrap_or_default();
    let continues = match after_id {
        _ if after == Seq::START => true,
        None => after <= head.seq,
        // Most agents have everything or nearly so: no second look for them.
        Some(_) if after == head.seq => after_id == head.id,
        Some(id) => log.was_at(&room, after, id).await.map_err(unavailable)?,
    };
    if continues {
        let head = head.seq;
        Ok((Start { room, after, head }, following))
    } else {
        Err(Refusal::Diverged {
            room,
            head: head.seq,
        })
    }
}

/// Whether somebody of `host` is in `room`, also if they were made a member by what this agent asked
/// for just before.
///
/// Of a room with a charter this is known behind the answers to all that: an agent that reads its acts
/// anew must have heard who is in the room now before it hears who was let in or put out once.
pub(crate) async fn admit(log: &dyn Log, room: &Room, host: &HostName) -> Result<(), Refusal> {
    if !matches!(room, Room::Federated(_)) {
        return Ok(());
    }
    let charter = log.charter(room).await.map_err(unavailable)?;
    if charter.is_none() && log.has_reader(room, host).await.map_err(unavailable)? {
        return Ok(());
    }
    let (room, host) = (room.clone(), host.clone());
    match log::change(log, Change::AskForReader { room, host }).await {
        Some(answer) => answer.map(drop),
        None => Err(Refusal::Unavailable {
            reason: "the queue to the disk is full".to_owned(),
        }),
    }
}

/// The newest message of `room`; none if `host` may not know of it.
pub(crate) async fn head(log: &dyn Log, room: Room, host: HostName) -> Answer {
    let seq = if may_know_of(log, &room, &Asker::Host(host)).await? {
        let head = log.head(&room).await.map_err(unavailable)?;
        head.unwrap_or_default().seq
    } else {
        Seq::START
    };
    Ok(Reply::Head { head: seq })
}

/// One page of the rooms that `asker` may know of.
pub(crate) async fn rooms(log: &dyn Log, asker: Asker, after: Option<FederatedRoom>) -> Answer {
    let found = log.rooms(&asker, after.as_ref()).await;
    let Listing { entries, more } = found.map_err(unavailable)?;
    Ok(Reply::Rooms {
        rooms: entries,
        more,
    })
}

/// One page of the members of `room`, if `asker` may know of it.
pub(crate) async fn who(
    log: &dyn Log,
    router: &Router,
    asker: Asker,
    room: FederatedRoom,
    after: Option<UserName>,
) -> Answer {
    let federated = Room::Federated(room.clone());
    let found = if may_know_of(log, &federated, &asker).await? {
        let found = log.members(&room, after.as_ref()).await;
        found.map_err(unavailable)?
    } else {
        None
    };
    let Some(Listing { entries, more }) = found else {
        return Err(Refusal::NoSuchRoom { room: federated });
    };
    let there = router.availability(&entries);
    let members = entries
        .into_iter()
        .zip(there)
        .map(|(user, availability)| Member { user, availability })
        .collect();
    Ok(Reply::Members { members, more })
}

async fn may_know_of(log: &dyn Log, room: &Room, asker: &Asker) -> Result<bool, Refusal> {
    let charter = log.charter(room).await.map_err(unavailable)?;
    Ok(charter.is_none_or(|charter| asker.may_know_of(&charter)))
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

/// Pages of the log as frames, for an agent that is behind.
#[derive(Debug)]
pub(crate) struct LogPages {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) frames: Frames,
    /// Whose agent it is, once that is known.
    pub(crate) host: Arc<OnceLock<HostName>>,
}

impl PageSource for LogPages {
    fn page(&self, room: &Room, after: Seq) -> PageFuture {
        let (entries, bytes) = (MAX_PAGE_ENTRIES, MAX_PAGE_BYTES);
        let Some(host) = self.host.get() else {
            return Box::pin(std::future::ready(Err(StoreError::NotReadable)));
        };
        let reading = self.log.page_for(host, room, after, entries, bytes);
        let frames = self.frames;
        Box::pin(async move {
            let messages = reading.await?.ok_or(StoreError::NotReadable)?;
            Ok(Page::of(&messages, after, frames))
        })
    }
}
