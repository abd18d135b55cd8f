//! Answers that are long: worked out one at a time, and only while the reader takes them.
//!
//! An answer cannot be refused once it is made, so this is what bounds the memory of a terminal
//! that asks for a thousand pages and reads none.

use super::request::Done;
use futures_util::future::BoxFuture;
use std::collections::VecDeque;

/// The pages that one session has asked for, in the order it asked.
#[derive(Default)]
pub(super) struct Pages {
    /// Not begun: a future does nothing before it is polled. Bounded by the places for requests
    /// in flight.
    waiting: VecDeque<BoxFuture<'static, Done>>,
    running: Option<BoxFuture<'static, Done>>,
}

impl Pages {
    /// Puts work at the end.
    pub(super) fn push(&mut self, work: impl Future<Output = Done> + Send + 'static) {
        self.waiting.push_back(Box::pin(work));
    }

    /// Whether the next may be begun, once there is room for its answer.
    pub(super) fn may_begin(&self) -> bool {
        self.running.is_none() && !self.waiting.is_empty()
    }

    /// Begins the next, if none is being worked out.
    pub(super) fn begin(&mut self) {
        if self.running.is_none() {
            self.running = self.waiting.pop_front();
        }
    }

    /// Waits for the one that was begun; forever if there is none.
    ///
    /// Cancel safe.
    pub(super) async fn next(&mut self) -> Done {
        let Some(running) = &mut self.running else {
            return std::future::pending().await;
        };
        let done = running.await;
        self.running = None;
        done
    }
}
