//! Keeping each user's messages in order when some cannot be taken yet.
//!
//! The agent sends ahead of the acknowledgements (see [`protocol::federation`]), so after one
//! append was answered "not yet", those of the same author behind it must not get into the log
//! before it: every later one of the same attempt is refused too, until the agent begins a higher
//! attempt with the oldest. Other authors of the agent are not concerned. Two places refuse, and
//! what each refuses reaches differently far:
//!
//! * The connection, when somebody is too fast or the queue to the log is full. Appends that are
//!   in the queue already come before the refused one and may pass.
//! * The log, when a transaction was rolled back. Appends that wait in the queue come after the
//!   refused ones and must not pass.

use protocol::Nick;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Authors of one connection that may wait for a higher attempt, each in its own right: at some
/// 100 bytes each they cost at most 200 KiB for both places. When there are more, all authors of
/// the connection wait for an attempt above any that was refused.
const MAX_WAITING: usize = 1_024;

/// One connection's way into the log.
#[derive(Debug, Default)]
pub struct Lane {
    /// Refused on the way into the queue.
    turned_away: Mutex<Refused>,
    /// Refused by the log.
    rolled_back: Mutex<Refused>,
}

/// Which attempts count no more.
#[derive(Debug, Default)]
struct Refused {
    /// Attempts of anybody below this were refused.
    below: u64,
    /// The same of one author, where it is more.
    below_of: HashMap<Nick, u64>,
}

impl Refused {
    fn may_pass(&self, author: &Nick, attempt: u32) -> bool {
        let below = self.below_of.get(author).copied().unwrap_or(0);
        u64::from(attempt) >= below.max(self.below)
    }

    /// As [`may_pass`](Self::may_pass), asked in the order in which the author's appends came: once
    /// a higher attempt has passed, none of a refused one can follow.
    fn pass(&mut self, author: &Nick, attempt: u32) -> bool {
        let passes = self.may_pass(author, attempt);
        if passes {
            self.below_of.remove(author);
        }
        passes
    }

    fn note(&mut self, author: &Nick, attempt: u32) {
        let attempt_behind = u64::from(attempt) + 1;
        if attempt_behind <= self.below {
            return;
        }
        if self.below_of.len() >= MAX_WAITING && !self.below_of.contains_key(author) {
            let highest = self.below_of.drain().map(|(_, below)| below).max();
            self.below = self.below.max(highest.unwrap_or(0)).max(attempt_behind);
            return;
        }
        let below = self.below_of.entry(author.clone()).or_default();
        *below = attempt_behind.max(*below);
    }
}

impl Lane {
    /// A lane in which nothing was refused yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether an append of `author` and `attempt` may be queued. Asked by the connection, in order.
    #[must_use]
    pub fn may_queue(&self, author: &Nick, attempt: u32) -> bool {
        // What was rolled back is forgotten in the order of the queue, so not here.
        lock(&self.rolled_back).may_pass(author, attempt)
            && lock(&self.turned_away).pass(author, attempt)
    }

    /// Notes that an append of `author` and `attempt` was not queued.
    pub fn turn_away(&self, author: &Nick, attempt: u32) {
        lock(&self.turned_away).note(author, attempt);
    }

    /// Whether a queued append of `author` and `attempt` may be written. Asked by the log, in order.
    #[must_use]
    pub fn may_commit(&self, author: &Nick, attempt: u32) -> bool {
        lock(&self.rolled_back).pass(author, attempt)
    }

    /// Notes that an append of `author` and `attempt` was written and taken back, or not written.
    pub fn roll_back(&self, author: &Nick, attempt: u32) {
        lock(&self.rolled_back).note(author, attempt);
    }
}

fn lock(refused: &Mutex<Refused>) -> MutexGuard<'_, Refused> {
    // No code that can panic runs under these locks.
    refused.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nick(text: &str) -> Nick {
        text.parse().unwrap()
    }

    #[test]
    fn a_full_queue_holds_up_what_comes_later_but_not_what_is_queued() {
        let (lane, alice) = (Lane::new(), nick("alice"));
        assert!(lane.may_queue(&alice, 0));
        lane.turn_away(&alice, 0);
        assert!(!lane.may_queue(&alice, 0));
        assert!(lane.may_commit(&alice, 0));
        assert!(lane.may_queue(&alice, 1));
    }

    #[test]
    fn a_rollback_holds_up_the_queue_too() {
        let (lane, alice) = (Lane::new(), nick("alice"));
        lane.roll_back(&alice, 3);
        for attempt in 0..=3 {
            assert!(!lane.may_commit(&alice, attempt));
            assert!(!lane.may_queue(&alice, attempt));
        }
        assert!(lane.may_queue(&alice, 4));
        lane.roll_back(&alice, 1);
        assert!(
            !lane.may_commit(&alice, 3),
            "an older refusal opens nothing"
        );
        assert!(lane.may_commit(&alice, 4));
        lane.roll_back(&alice, u32::MAX);
        assert!(!lane.may_queue(&alice, u32::MAX));
    }

    #[test]
    fn what_is_queued_stays_held_up_when_the_next_attempt_is_queued_behind_it() {
        let (lane, alice) = (Lane::new(), nick("alice"));
        assert!(lane.may_queue(&alice, 0), "stays in the queue");
        lane.roll_back(&alice, 0);
        assert!(lane.may_queue(&alice, 1));
        assert!(!lane.may_commit(&alice, 0));
        assert!(lane.may_commit(&alice, 1));
    }

    #[test]
    fn who_is_held_up_holds_up_nobody_else() {
        let (lane, alice, bob) = (Lane::new(), nick("alice"), nick("bob"));
        for attempt in 0..100 {
            lane.turn_away(&alice, attempt);
            lane.roll_back(&alice, attempt);
            assert!(!lane.may_queue(&alice, attempt));
            assert!(lane.may_queue(&bob, 0) && lane.may_commit(&bob, 0));
        }
    }

    #[test]
    fn more_authors_than_are_remembered_wait_together_and_come_through() {
        let lane = Lane::new();
        let author = |number: usize| nick(&format!("user-{number}"));
        for number in 0..=MAX_WAITING {
            lane.turn_away(&author(number), 6);
        }
        assert!(lock(&lane.turned_away).below_of.is_empty());
        for number in 0..=MAX_WAITING {
            assert!(!lane.may_queue(&author(number), 6));
            assert!(lane.may_queue(&author(number), 7));
        }
        // Whoever comes through takes no place any more.
        for number in 0..MAX_WAITING * 2 {
            lane.turn_away(&author(number), 8);
            assert!(!lane.may_queue(&author(number), 8));
            assert!(lane.may_queue(&author(number), 9));
        }
        assert!(lane.may_queue(&nick("bob"), 7));
    }
}
