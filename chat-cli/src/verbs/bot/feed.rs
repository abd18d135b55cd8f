//! What a bot's program is given, and when it is done with it.
//!
//! One message is given at a time, and the program gets it when it has come back for more; see
//! `process`. It is done with a message when it prints an answer, comes back for more, or ends with
//! success. What it was not done with when it died is given to its successor. One that it died over
//! three times is left out, or nothing would ever come after it.

use super::answer::Context;
use protocol::{Cursor, Room};
use std::collections::{BTreeMap, VecDeque};

/// Messages and bytes that wait for the program at most.
const MAX_WAITING: usize = 256;
const MAX_WAITING_BYTES: usize = 1024 * 1024;

/// Deaths over one message after which it is left out.
const MAX_DEATHS: u32 = 3;

/// A message on its way to the program.
#[derive(Debug)]
pub(super) struct Item {
    /// What it is given.
    pub(super) line: String,
    pub(super) context: Context,
    pub(super) at: Cursor,
    deaths: u32,
}

#[derive(Debug)]
enum Step {
    Give(Item),
    /// A message that is not for it.
    Pass(Room, Cursor),
}

/// Messages for the program, and how far it has come.
#[derive(Debug, Default)]
pub(super) struct Feed {
    waiting: VecDeque<Step>,
    bytes: usize,
    /// To be had when it comes back.
    given: Option<Item>,
    /// What it has, and perhaps works on.
    taken: Option<Item>,
    /// What it has passed without knowing, to be done with when it is done with what it has.
    passed: BTreeMap<Room, Cursor>,
    /// What it is done with, to be told to the agent.
    done: Vec<(Room, Cursor)>,
    last: Option<Context>,
}

impl Feed {
    /// Takes a message for the program.
    pub(super) fn push(&mut self, line: String, context: Context, at: Cursor) {
        self.bytes += line.len();
        self.waiting.push_back(Step::Give(Item {
            line,
            context,
            at,
            deaths: 0,
        }));
    }

    /// Notes a message that is not for it.
    pub(super) fn pass(&mut self, room: Room, at: Cursor) {
        match self.waiting.back_mut() {
            Some(Step::Pass(last, reached)) if *last == room => *reached = at,
            _ => self.waiting.push_back(Step::Pass(room, at)),
        }
    }

    /// Whether no more can be taken just now.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_WAITING || self.bytes >= MAX_WAITING_BYTES
    }

    /// The line to give it next.
    pub(super) fn give(&mut self) -> Option<&str> {
        while self.given.is_none() {
            match self.waiting.pop_front()? {
                Step::Give(item) => {
                    self.bytes -= item.line.len();
                    self.given = Some(item);
                }
                Step::Pass(room, at) if self.taken.is_none() => self.done.push((room, at)),
                Step::Pass(room, at) => {
                    self.passed.insert(room, at);
                }
            }
        }
        self.given.as_ref().map(|item| item.line.as_str())
    }

    /// Whether it is being given something.
    pub(super) const fn is_giving(&self) -> bool {
        self.given.is_some()
    }

    /// Notes that it has come back, and gets what it is given.
    pub(super) fn on_back(&mut self) {
        if let Some(item) = self.given.take() {
            self.finish();
            self.last = Some(item.context.clone());
            self.taken = Some(item);
        }
    }

    /// Notes that the program has answered what it took last.
    pub(super) fn on_answer(&mut self) {
        self.finish();
    }

    /// Notes that the program has ended; a message that it is not given any more is returned.
    pub(super) fn on_end(&mut self, success: bool) -> Option<Item> {
        if success {
            self.finish();
        }
        // What it was not done with comes again, and what it had not got behind that.
        let untaken = self.given.take();
        let mut left_out = None;
        let blamed = self.taken.take().map(|item| (item, true));
        let unblamed = untaken.map(|item| (item, false));
        for (mut item, blame) in [unblamed, blamed].into_iter().flatten() {
            item.deaths += u32::from(blame);
            if item.deaths >= MAX_DEATHS {
                self.done.push((item.context.room.clone(), item.at));
                left_out = Some(item);
            } else {
                self.bytes += item.line.len();
                self.waiting.push_front(Step::Give(item));
            }
        }
        if self.waiting.is_empty() || left_out.is_some() {
            self.settle_passed();
        } else {
            self.put_passed_back();
        }
        left_out
    }

    /// What the program is done with since this was asked last.
    pub(super) fn done(&mut self) -> impl Iterator<Item = (Room, Cursor)> + '_ {
        self.done.drain(..)
    }

    /// What the program took last.
    pub(super) const fn last(&self) -> Option<&Context> {
        self.last.as_ref()
    }

    fn finish(&mut self) {
        if let Some(item) = self.taken.take() {
            self.done.push((item.context.room, item.at));
        }
        self.settle_passed();
    }

    fn settle_passed(&mut self) {
        self.done.extend(std::mem::take(&mut self.passed));
    }

    /// Behind the message that it came after, which is given again.
    fn put_passed_back(&mut self) {
        let passed = std::mem::take(&mut self.passed);
        let rest = self.waiting.split_off(1);
        let passed = passed.into_iter().map(|(room, at)| Step::Pass(room, at));
        self.waiting.extend(passed.chain(rest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{at, room};
    use protocol::MessageId;

    fn push(feed: &mut Feed, name: &str, seq: u64) {
        let context = Context {
            room: room(name),
            id: MessageId::from_bytes([7; 16]),
        };
        feed.push(format!("{name} {seq}"), context, at(seq));
    }

    /// The program takes the next message, which is this.
    fn take(feed: &mut Feed, line: &str) {
        assert_eq!(feed.give(), Some(line));
        feed.on_back();
    }

    fn done(feed: &mut Feed) -> Vec<String> {
        let shown = |(room, at): (Room, Cursor)| format!("{room} {}", at.seq);
        feed.done().map(shown).collect()
    }

    #[test]
    fn a_message_is_done_with_when_it_is_answered_or_the_next_is_taken() {
        let mut feed = Feed::default();
        (1..=3).for_each(|seq| push(&mut feed, "#a", seq));
        take(&mut feed, "#a 1");
        assert_eq!(done(&mut feed), [""; 0]);
        feed.on_answer();
        assert_eq!(done(&mut feed), ["#a 1"]);
        feed.on_answer();
        take(&mut feed, "#a 2");
        assert_eq!(feed.give(), Some("#a 3"));
        assert_eq!(done(&mut feed), [""; 0]);
        feed.on_back();
        assert_eq!(done(&mut feed), ["#a 2"]);
        assert!(feed.on_end(true).is_none());
        assert_eq!(done(&mut feed), ["#a 3"]);
        assert_eq!(feed.give(), None);
    }

    #[test]
    fn what_a_dead_program_had_is_given_again_in_order() {
        let mut feed = Feed::default();
        push(&mut feed, "#a", 1);
        feed.pass(room("#b"), at(1));
        feed.pass(room("#a"), at(2));
        (3..=5).for_each(|seq| push(&mut feed, "#a", seq));
        take(&mut feed, "#a 1");
        assert_eq!(feed.give(), Some("#a 3"));
        assert!(feed.on_end(false).is_none());
        assert_eq!(done(&mut feed), [""; 0]);
        take(&mut feed, "#a 1");
        feed.on_answer();
        assert_eq!(done(&mut feed), ["#a 1"]);
        assert_eq!(feed.give(), Some("#a 3"));
        let mut passed = done(&mut feed);
        passed.sort();
        assert_eq!(passed, ["#a 2", "#b 1"]);
        feed.on_back();
        take(&mut feed, "#a 4");
        take(&mut feed, "#a 5");
        assert_eq!(done(&mut feed), ["#a 3", "#a 4"]);
    }

    #[test]
    fn what_is_not_for_it_is_not_done_with_before_what_came_first() {
        let mut feed = Feed::default();
        feed.pass(room("#a"), at(1));
        assert_eq!(feed.give(), None);
        assert_eq!(done(&mut feed), ["#a 1"]);
        push(&mut feed, "#a", 2);
        take(&mut feed, "#a 2");
        for seq in 3..1_000 {
            feed.pass(room("#a"), at(seq));
        }
        assert!(!feed.is_full());
        assert_eq!(feed.give(), None);
        assert_eq!(done(&mut feed), [""; 0]);
        feed.on_answer();
        assert_eq!(done(&mut feed), ["#a 2", "#a 999"]);
    }

    #[test]
    fn a_message_that_kills_is_left_out_after_three_deaths() {
        let mut feed = Feed::default();
        push(&mut feed, "#a", 1);
        push(&mut feed, "#a", 2);
        for death in 1..=3 {
            // Dying before anything was taken is nobody's fault.
            assert_eq!(feed.give(), Some("#a 1"));
            assert!(feed.on_end(false).is_none());
            take(&mut feed, "#a 1");
            assert_eq!(feed.give(), Some("#a 2"));
            let left_out = feed.on_end(false);
            assert_eq!(left_out.is_some(), death == 3);
        }
        assert_eq!(done(&mut feed), ["#a 1"]);
        take(&mut feed, "#a 2");
        assert_eq!(feed.bytes, 0);
    }

    #[test]
    fn it_says_when_it_is_full() {
        let mut feed = Feed::default();
        let mut seq = 0;
        while !feed.is_full() {
            seq += 1;
            push(&mut feed, "#a", seq);
        }
        assert_eq!(seq, MAX_WAITING as u64);
        assert!(feed.give().is_some());
        assert!(!feed.is_full());
    }
}
