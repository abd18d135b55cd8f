//! The answer to one request, carried to wherever it can be given.

use bytes::Bytes;
use protocol::{
    RequestId, encode_frame,
    local::{AgentFrame, Event, Refusal, Reply},
};
use room_log::Outbound;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tracing::error;

/// Encodes a frame for terminals.
///
/// A frame over the limit cannot happen with the limits on pages and bodies; should it happen
/// all the same, the reader gets nothing and the log says so.
#[must_use]
pub(crate) fn frame(frame: &AgentFrame) -> Bytes {
    encode_frame(frame).unwrap_or_else(|error| {
        error!(%error, "a frame for a terminal cannot be encoded");
        Bytes::new()
    })
}

/// Encodes an event for terminals.
#[must_use]
pub(crate) fn event(event: Event) -> Bytes {
    frame(&AgentFrame::Event(event))
}

/// Owes one session the answer to one request, and holds one of the session's places for
/// requests in flight until it is given.
#[derive(Debug)]
pub struct Answer {
    outbound: Arc<Outbound>,
    id: RequestId,
    place: OwnedSemaphorePermit,
}

impl Answer {
    /// An answer owed for request `id`.
    #[must_use]
    pub const fn new(outbound: Arc<Outbound>, id: RequestId, place: OwnedSemaphorePermit) -> Self {
        Self {
            outbound,
            id,
            place,
        }
    }

    /// Queues the answer.
    pub fn give(self, result: Result<Reply, Refusal>) {
        drop(self.give_and_keep_place(result));
    }

    /// Queues the answer to a request that has not come to its end by that.
    pub(crate) fn give_and_keep_place(
        self,
        result: Result<Reply, Refusal>,
    ) -> OwnedSemaphorePermit {
        self.outbound.push_reply(frame(&AgentFrame::Reply {
            id: self.id,
            result,
        }));
        self.place
    }
}
