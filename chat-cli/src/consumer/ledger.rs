//! What a consumer was given, has taken, and what of that the agent knows.

use protocol::{Cursor, Room};
use std::collections::{BTreeMap, VecDeque};

/// How far a consumer has come in each room.
///
/// ```text
/// given ──taken──▶ due ──next──▶ asked ──answered──▶ the agent has it
///                   ▲──────────────┘ not this time
/// ```
///
/// Of several places in a room only the last counts, and one at a time is asked about: so the
/// agent is told as often as it can take, however fast messages go.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Given and not taken, each with where it ends.
    given: VecDeque<(u64, Room, Cursor)>,
    due: BTreeMap<Room, Cursor>,
    asked: BTreeMap<Room, Cursor>,
}

impl Ledger {
    /// Notes that a message was given; `end` grows with each.
    pub(super) fn give(&mut self, end: u64, room: Room, at: Cursor) {
        self.given.push_back((end, room, at));
    }

    /// Notes that what ends by `end` was taken.
    pub(super) fn take(&mut self, end: u64) {
        while let Some((_, room, at)) = self.given.pop_front_if(|(given, ..)| *given <= end) {
            self.due.insert(room, at);
        }
    }

    /// Notes that a consumer is done with `room` up to here.
    pub(super) fn done(&mut self, room: Room, at: Cursor) {
        self.due.insert(room, at);
    }

    /// The next place to tell the agent.
    pub(super) fn next(&mut self) -> Option<(Room, Cursor)> {
        let mut free = self
            .due
            .keys()
            .filter(|room| !self.asked.contains_key(room));
        let room = free.next()?.clone();
        let at = self.due.remove(&room)?;
        self.asked.insert(room.clone(), at);
        Some((room, at))
    }

    /// Notes that the agent has the place in `room` that it was told, or never will.
    pub(super) fn settle(&mut self, room: &Room) {
        self.asked.remove(room);
    }

    /// Notes that the agent has to be told again.
    pub(super) fn retry(&mut self, room: &Room) {
        if let Some(at) = self.asked.remove(room) {
            self.due.entry(room.clone()).or_insert(at);
        }
    }

    /// Whether something that was given was not taken.
    pub(super) fn is_waiting(&self) -> bool {
        !self.given.is_empty()
    }

    /// Whether the agent has all that was taken.
    pub(super) fn is_settled(&self) -> bool {
        self.due.is_empty() && self.asked.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{at, room};

    #[test]
    fn only_what_was_taken_is_told_and_only_the_last_of_it() {
        let mut ledger = Ledger::default();
        for (end, name, seq) in [(10, "#a", 1), (20, "#b", 1), (30, "#a", 2), (40, "#a", 3)] {
            ledger.give(end, room(name), at(seq));
        }
        ledger.take(9);
        assert_eq!(ledger.next(), None);
        ledger.take(39);
        assert_eq!(ledger.next(), Some((room("#a"), at(2))));
        assert_eq!(ledger.next(), Some((room("#b"), at(1))));
        assert_eq!(ledger.next(), None);
        assert!(ledger.is_waiting() && !ledger.is_settled());
    }

    #[test]
    fn one_place_a_room_is_under_way() {
        let mut ledger = Ledger::default();
        ledger.done(room("#a"), at(1));
        assert_eq!(ledger.next(), Some((room("#a"), at(1))));
        ledger.done(room("#a"), at(2));
        ledger.done(room("#a"), at(3));
        assert_eq!(ledger.next(), None);
        ledger.settle(&room("#a"));
        assert_eq!(ledger.next(), Some((room("#a"), at(3))));
        ledger.settle(&room("#a"));
        assert!(ledger.is_settled());
    }

    #[test]
    fn what_the_agent_did_not_take_is_told_again_unless_there_is_news() {
        let mut ledger = Ledger::default();
        ledger.done(room("#a"), at(1));
        ledger.next();
        ledger.retry(&room("#a"));
        assert_eq!(ledger.next(), Some((room("#a"), at(1))));
        ledger.done(room("#a"), at(2));
        ledger.retry(&room("#a"));
        assert_eq!(ledger.next(), Some((room("#a"), at(2))));
    }
}
