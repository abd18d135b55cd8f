//! What waits for one reader: a bounded queue of whole frames.

use crate::feed::Behind;
use bytes::{Bytes, BytesMut};
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// The queue between those who have something for a reader and the task that owns its socket.
///
/// Three kinds of frames go in, in one order: replies, which are never refused, so that whoever
/// takes requests must wait for [`relieved`](Self::relieved) or [`has_room`](Self::has_room) before
/// the next; live messages, which are refused when `limit` bytes wait; and soft events, which are
/// dropped then.
#[derive(Debug)]
pub struct Outbound {
    state: Mutex<State>,
    ready: Notify,
    room: Notify,
    limit_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Bytes>,
    bytes: usize,
    behind: VecDeque<Behind>,
}

impl Outbound {
    /// An empty queue that refuses live messages once `limit_bytes` wait.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            state: Mutex::default(),
            ready: Notify::new(),
            room: Notify::new(),
            limit_bytes,
        }
    }

    /// Queues a frame whatever waits already. For replies and a few words of farewell only.
    pub fn push_reply(&self, frame: Bytes) {
        let mut state = self.lock();
        state.bytes += frame.len();
        state.frames.push_back(frame);
        drop(state);
        self.ready.notify_one();
    }

    /// Queues a frame if there is room; says whether there was.
    #[must_use]
    pub fn push_live(&self, frame: Bytes) -> bool {
        let mut state = self.lock();
        // An empty queue takes any frame, or one over the limit could never pass.
        if state.bytes + frame.len() > self.limit_bytes && !state.frames.is_empty() {
            return false;
        }
        state.bytes += frame.len();
        state.frames.push_back(frame);
        drop(state);
        self.ready.notify_one();
        true
    }

    /// Queues a frame if there is room, and forgets it otherwise.
    pub fn push_soft(&self, frame: Bytes) {
        let _dropped_if_full = self.push_live(frame);
    }

    /// Bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Waits until fewer than `bytes` bytes wait. Whoever reads requests for this reader waits
    /// here first, so that a peer that asks and never reads cannot pile up replies. One task at a
    /// time may wait.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn relieved(&self, bytes: usize) {
        while self.bytes() >= bytes {
            self.room.notified().await;
        }
    }

    /// Moves frames to the end of `buffer` until it holds at least `enough` bytes or none are
    /// left.
    pub(crate) fn take_into(&self, buffer: &mut BytesMut, enough: usize) {
        let mut state = self.lock();
        while buffer.len() < enough {
            let Some(frame) = state.frames.pop_front() else {
                break;
            };
            state.bytes -= frame.len();
            buffer.extend_from_slice(&frame);
        }
        drop(state);
        self.room.notify_one();
    }

    /// Waits until less than the limit waits: the moment to read another request of a peer that
    /// does not take its replies. For one waiter.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn has_room(&self) {
        self.relieved(self.limit_bytes).await;
    }

    /// Notes that a room must be read from the log.
    pub(crate) fn push_behind(&self, behind: Behind) {
        self.lock().behind.push_back(behind);
        self.ready.notify_one();
    }

    /// A room to read from the log; `None` while frames wait. They were queued before the room
    /// fell behind, so they go first, and only under this lock is it certain that none came since
    /// the queue was found empty.
    pub(crate) fn pop_behind(&self) -> Option<Behind> {
        let mut state = self.lock();
        if state.frames.is_empty() {
            state.behind.pop_front()
        } else {
            None
        }
    }

    /// Waits until something was queued since the last wait.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a wake-up that was not waited for is kept.
    pub(crate) async fn ready(&self) {
        self.ready.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Seq;
    use std::{future::Future, pin::pin, task::Context};

    fn frame(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn behind() -> Behind {
        Behind {
            room: "#ops".parse().unwrap(),
            after: Seq::new(4),
            generation: 1,
        }
    }

    #[test]
    fn a_room_is_not_read_while_frames_wait_that_go_before_it() {
        let outbound = Outbound::new(8);
        assert!(outbound.push_live(frame("four")));
        assert!(!outbound.push_live(frame("fives")));
        outbound.push_behind(behind());
        assert_eq!(outbound.pop_behind(), None);
        let mut buffer = BytesMut::new();
        outbound.take_into(&mut buffer, 64);
        assert_eq!(&buffer[..], b"four");
        assert_eq!(outbound.pop_behind(), Some(behind()));
        assert_eq!(outbound.pop_behind(), None);
    }

    #[test]
    fn only_live_frames_are_refused_and_only_soft_ones_dropped() {
        let outbound = Outbound::new(4);
        assert!(outbound.push_live(frame("over the limit, but alone")));
        assert!(!outbound.push_live(frame("x")));
        outbound.push_soft(frame("dropped"));
        outbound.push_reply(frame("!"));
        assert_eq!(outbound.bytes(), 26);
        let mut buffer = BytesMut::new();
        outbound.take_into(&mut buffer, 1);
        assert_eq!(&buffer[..], b"over the limit, but alone");
        outbound.take_into(&mut buffer, 1_000);
        assert!(buffer.ends_with(b"!"));
        assert_eq!(outbound.bytes(), 0);
    }

    #[test]
    fn whoever_waits_for_room_or_for_frames_is_woken_and_no_wake_up_is_lost() {
        let context = &mut Context::from_waker(std::task::Waker::noop());
        let outbound = Outbound::new(4);
        outbound.push_reply(frame("full"));
        let mut room = pin!(outbound.has_room());
        assert!(room.as_mut().poll(context).is_pending());
        let mut buffer = BytesMut::new();
        outbound.take_into(&mut buffer, 1);
        assert!(room.as_mut().poll(context).is_ready());
        // Taken before anybody waited: the wait after it returns all the same.
        outbound.push_reply(frame("full"));
        outbound.take_into(&mut buffer, 9);
        assert!(pin!(outbound.has_room()).poll(context).is_ready());

        assert!(pin!(outbound.ready()).poll(context).is_ready());
        {
            let mut ready = pin!(outbound.ready());
            assert!(ready.as_mut().poll(context).is_pending());
            outbound.push_behind(behind());
            // Dropped after it was woken and before it noticed.
        }
        assert!(pin!(outbound.ready()).poll(context).is_ready());
    }
}
