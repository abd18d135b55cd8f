//! Keeping one agent's messages in order when some cannot be taken yet.
//!
//! The agent sends ahead of the acknowledgements (see [`protocol::federation`]), so after one
//! append was answered "not yet", those behind it must not get into the log before it: every
//! later append of the same attempt is refused too, until the agent begins the next attempt with
//! the oldest. Two places refuse, and what each refuses reaches differently far:
//!
//! * The connection, when the queue to the log is full. Appends that are in the queue already
//!   come before the refused one and may pass.
//! * The log, when a transaction was rolled back. Appends that wait in the queue come after the
//!   refused ones and must not pass.

use std::sync::atomic::{AtomicU64, Ordering};

/// One connection's way into the log.
#[derive(Debug, Default)]
pub struct Lane {
    /// Attempts below this were refused on the way into the queue.
    turned_away_below: AtomicU64,
    /// Attempts below this were refused by the log.
    rolled_back_below: AtomicU64,
}

impl Lane {
    /// A lane in which nothing was refused yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether an append of `attempt` may be queued. Asked by the connection, in order.
    #[must_use]
    pub fn may_queue(&self, attempt: u32) -> bool {
        u64::from(attempt) >= self.turned_away_below.load(Ordering::Acquire)
            && self.may_commit(attempt)
    }

    /// Notes that an append of `attempt` was not queued.
    pub fn turn_away(&self, attempt: u32) {
        self.turned_away_below
            .fetch_max(u64::from(attempt) + 1, Ordering::AcqRel);
    }

    /// Whether a queued append of `attempt` may be written. Asked by the log, in order.
    #[must_use]
    pub fn may_commit(&self, attempt: u32) -> bool {
        u64::from(attempt) >= self.rolled_back_below.load(Ordering::Acquire)
    }

    /// Notes that an append of `attempt` was written and taken back.
    pub fn roll_back(&self, attempt: u32) {
        self.rolled_back_below
            .fetch_max(u64::from(attempt) + 1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_holds_up_what_comes_later_but_not_what_is_queued() {
        let lane = Lane::new();
        assert!(lane.may_queue(0));
        lane.turn_away(0);
        assert!(!lane.may_queue(0));
        assert!(lane.may_commit(0));
        assert!(lane.may_queue(1));
        assert!(!lane.may_queue(0), "an old attempt stays refused");
    }

    #[test]
    fn a_rollback_holds_up_the_queue_too() {
        let lane = Lane::new();
        lane.roll_back(3);
        for attempt in 0..=3 {
            assert!(!lane.may_commit(attempt));
            assert!(!lane.may_queue(attempt));
        }
        assert!(lane.may_queue(4));
        lane.roll_back(1);
        assert!(!lane.may_commit(3), "an older refusal opens nothing");
        lane.roll_back(u32::MAX);
        assert!(!lane.may_queue(u32::MAX));
    }
}
