//! Answers on their way back to the agent that asked.

use bytes::Bytes;
use protocol::{
    Committed, RequestId, encode_frame,
    federation::{Event, Refusal, Reply, ServerFrame},
};
use room_log::Outbound;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tracing::error;

/// What comes of a request.
pub type Answer = Result<Reply, Refusal>;

/// The right to answer one request of one connection.
///
/// It holds the request's share of [`MAX_IN_FLIGHT`](protocol::limits::MAX_IN_FLIGHT). Dropped
/// without an answer it gives that back, which happens only when the process or the connection
/// ends.
#[derive(Debug)]
pub struct PendingReply {
    id: RequestId,
    outbound: Arc<Outbound>,
    _in_flight: OwnedSemaphorePermit,
}

impl PendingReply {
    pub(crate) const fn new(
        id: RequestId,
        outbound: Arc<Outbound>,
        in_flight: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            id,
            outbound,
            _in_flight: in_flight,
        }
    }

    /// Queues the answer for the connection.
    pub fn answer(self, result: Answer) {
        let frame = ServerFrame::Reply {
            id: self.id,
            result,
        };
        self.outbound.push_reply(encode(&frame));
    }
}

/// Who waits for what comes of a change.
#[derive(Debug)]
pub enum Ticket {
    /// An agent, on its connection.
    Reply(PendingReply),
    /// Somebody in this process. Dropped without an answer if the log ended.
    Waiting(oneshot::Sender<Answer>),
}

impl Ticket {
    /// Hands the answer over.
    pub fn answer(self, answer: Answer) {
        match self {
            Self::Reply(reply) => reply.answer(answer),
            // Whoever stopped waiting does not want to know.
            Self::Waiting(waiting) => drop(waiting.send(answer)),
        }
    }
}

/// `event` as a frame.
pub(crate) fn event_frame(event: Event) -> Bytes {
    encode(&ServerFrame::Event(event))
}

/// A message as the frame that its followers get; see [`room_log::Frames`].
pub(crate) fn committed_frame(message: &Committed) -> Bytes {
    event_frame(Event::Committed(message.clone()))
}

fn encode(frame: &ServerFrame) -> Bytes {
    // Everything that goes into a frame was limited when it came in. Should that be wrong once,
    // the agent misses a frame and notices, rather than the server ending.
    encode_frame(frame).unwrap_or_else(|error| {
        error!(%error, "a frame could not be encoded");
        Bytes::new()
    })
}
