//! Reading one agent's requests, no faster than they are answered.

use futures_util::StreamExt;
use protocol::{
    CodecError, FrameCodec,
    federation::{AgentFrame, ServerFrame},
    limits::MAX_IN_FLIGHT,
};
use room_log::{Heard, Outbound};
use std::sync::Arc;
use tokio::{
    io::AsyncRead,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::codec::FramedRead;

/// The read half of a connection.
///
/// A request is read only while fewer than [`MAX_IN_FLIGHT`] are unanswered and fewer than
/// `max_waiting_bytes` wait to be written, so that a peer that asks without listening costs
/// bounded memory and in the end fills its own socket buffer.
#[derive(Debug)]
pub(crate) struct Inbound<R> {
    frames: FramedRead<Heard<R>, FrameCodec<AgentFrame, ServerFrame>>,
    outbound: Arc<Outbound>,
    max_waiting_bytes: usize,
    in_flight: Arc<Semaphore>,
    /// The share of the request that is read next.
    share: Option<OwnedSemaphorePermit>,
}

/// A request, with its share of the requests in flight.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) frame: AgentFrame,
    pub(crate) in_flight: OwnedSemaphorePermit,
}

impl<R: AsyncRead + Unpin> Inbound<R> {
    pub(crate) fn new(io: R, outbound: Arc<Outbound>, max_waiting_bytes: usize) -> Self {
        Self {
            frames: FramedRead::new(Heard::new(io), FrameCodec::new()),
            outbound,
            max_waiting_bytes,
            in_flight: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            share: None,
        }
    }

    /// The next request; `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// [`CodecError`]; the stream is of no further use then.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing that was read is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<Received>, CodecError> {
        self.outbound.relieved(self.max_waiting_bytes).await;
        if self.share.is_none() {
            let in_flight = Arc::clone(&self.in_flight);
            let waited = in_flight.available_permits() == 0;
            // The semaphore is never closed.
            self.share = in_flight.acquire_owned().await.ok();
            if waited {
                self.forgive_silence();
            }
        }
        let Some(frame) = self.frames.next().await.transpose()? else {
            return Ok(None);
        };
        let received = self.share.take();
        Ok(received.map(|in_flight| Received { frame, in_flight }))
    }

    /// Waits until every request was answered. Reads no more.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn answered(&mut self) {
        self.share = None;
        let all = u32::try_from(MAX_IN_FLIGHT).unwrap_or(u32::MAX);
        let _all = self.in_flight.acquire_many(all).await;
    }

    /// When anything was received last, or could have been but for this side.
    pub(crate) fn last_heard(&self) -> Instant {
        self.frames.get_ref().last()
    }

    /// The peer was not listened to until now.
    pub(crate) fn forgive_silence(&mut self) {
        self.frames.get_mut().forgive_silence();
    }

    /// Whether nothing is read because answers are owed by this side.
    pub(crate) fn is_held_up(&self) -> bool {
        self.share.is_none() && self.in_flight.available_permits() == 0
    }

    /// Who counts the requests in flight.
    pub(crate) const fn in_flight(&self) -> &Arc<Semaphore> {
        &self.in_flight
    }

    /// The bare stream.
    pub(crate) fn into_inner(self) -> R {
        self.frames.into_inner().into_inner()
    }
}
