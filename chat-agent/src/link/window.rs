//! What is on its way from the outbox to the server, as a pure state machine.
//!
//! Messages are sent in the order of the outbox, up to a window ahead of their acknowledgements.
//! After a "not yet" everything unacknowledged is sent again under the next attempt, oldest
//! first; after a reconnect too. So a sender's messages reach the log in the order they were
//! accepted, whatever is lost or refused on the way.

use crate::store::outbox::{Position, Waiting};
use protocol::{MessageId, Outgoing};
use std::collections::VecDeque;

/// The part of the outbox that is held in memory, and how far it has been sent.
#[derive(Debug)]
pub struct Window {
    entries: VecDeque<Waiting>,
    /// How many of `entries`, from the front, were sent under the current attempt.
    sent: usize,
    attempt: u32,
    /// The last entry that was loaded.
    loaded: Position,
    /// Whether the outbox may hold entries behind `loaded`.
    more: bool,
    capacity: usize,
}

impl Window {
    /// A window of a new connection: nothing loaded, nothing sent.
    #[must_use]
    pub const fn new(capacity: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            sent: 0,
            attempt: 1,
            loaded: Position::START,
            more: true,
            capacity,
        }
    }

    /// Where to load from and how many, if there is room for half a window. The caller loads;
    /// until then this wants no more, unless the outbox grows.
    pub fn wants(&mut self) -> Option<(Position, usize)> {
        let room = self.capacity - self.entries.len();
        if !self.more || room * 2 < self.capacity {
            return None;
        }
        self.more = false;
        Some((self.loaded, room))
    }

    /// Takes what was loaded for [`Window::wants`]. What the outbox grew by meanwhile may be
    /// missing from it.
    pub fn load(&mut self, entries: Vec<Waiting>, wanted: usize) {
        self.more |= entries.len() >= wanted;
        if let Some(last) = entries.last() {
            self.loaded = last.position;
        }
        self.entries.extend(entries);
    }

    /// The outbox grew.
    pub const fn grew(&mut self) {
        self.more = true;
    }

    /// The next message to send, with its attempt; counts it as sent.
    pub fn next_to_send(&mut self) -> Option<(u32, &Outgoing)> {
        let entry = self.entries.get(self.sent)?;
        self.sent += 1;
        Some((self.attempt, &entry.message))
    }

    /// The server took the message or refused it for good. `None` if it is not waited for.
    pub fn settle(&mut self, id: MessageId) -> Option<Outgoing> {
        // Acknowledgements come in order but for refusals, so this looks at the front mostly.
        let index = self
            .entries
            .iter()
            .take(self.sent)
            .position(|one| one.message.id == id)?;
        self.sent -= 1;
        self.entries.remove(index).map(|entry| entry.message)
    }

    /// The server cannot take a message of `attempt` yet. Returns whether this is news: then the
    /// caller waits before it sends on.
    pub const fn not_yet(&mut self, attempt: u32) -> bool {
        if attempt != self.attempt {
            return false;
        }
        self.attempt += 1;
        self.sent = 0;
        true
    }

    /// Messages sent and neither taken nor refused.
    #[must_use]
    pub const fn in_flight(&self) -> usize {
        self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::{Content, Timestamp};
    use std::collections::{BTreeMap, HashMap};

    #[derive(Debug, Clone)]
    enum Step {
        Accept,
        /// A page is read from the outbox as it is now ..
        LoadBegin,
        /// .. and arrives.
        LoadEnd,
        Send,
        /// The server handles the oldest append on the wire.
        Serve {
            full: bool,
        },
        /// The oldest reply arrives.
        Reply,
        /// The connection is lost with everything on it.
        Cut,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Accept),
            3 => Just(Step::LoadBegin),
            3 => Just(Step::LoadEnd),
            6 => Just(Step::Send),
            5 => (0..8_u8).prop_map(|die| Step::Serve { full: die == 0 }),
            5 => Just(Step::Reply),
            1 => Just(Step::Cut),
        ];
        proptest::collection::vec(step, 0..200)
    }

    fn message(number: u64) -> Waiting {
        Waiting {
            position: Position::at(number),
            message: Outgoing {
                id: MessageId::from_bytes(u128::from(number).to_be_bytes()),
                room: "#ops".parse().unwrap(),
                author: "alice@ada".parse().unwrap(),
                sent_at: Timestamp::from_micros(number),
                body: Content::Text(number.to_string()).encode().unwrap(),
            },
        }
    }

    /// A server and a wire that behave as `federation`'s docs say.
    #[derive(Default)]
    struct World {
        outbox: BTreeMap<u64, Waiting>,
        log: Vec<MessageId>,
        loading: Option<(Vec<Waiting>, usize)>,
        appends: VecDeque<(u32, MessageId)>,
        replies: VecDeque<(u32, MessageId, bool)>,
        refused: u32,
    }

    impl World {
        fn serve(&mut self, full: bool) {
            let Some((attempt, id)) = self.appends.pop_front() else {
                return;
            };
            let taken = attempt > self.refused && !full;
            if !taken {
                self.refused = self.refused.max(attempt);
            } else if !self.log.contains(&id) {
                self.log.push(id);
            }
            self.replies.push_back((attempt, id, taken));
        }

        fn reply(&mut self, window: &mut Window) {
            let Some((attempt, id, taken)) = self.replies.pop_front() else {
                return;
            };
            if !taken {
                window.not_yet(attempt);
            } else if window.settle(id).is_some() {
                self.outbox.retain(|_, entry| entry.message.id != id);
            }
        }

        fn begin_load(&mut self, window: &mut Window) {
            if self.loading.is_none()
                && let Some((after, limit)) = window.wants()
            {
                let behind = self.outbox.values().filter(|entry| entry.position > after);
                self.loading = Some((behind.take(limit).cloned().collect(), limit));
            }
        }

        fn end_load(&mut self, window: &mut Window) {
            if let Some((page, limit)) = self.loading.take() {
                window.load(page, limit);
            }
        }
    }

    #[test]
    fn a_message_accepted_while_a_page_is_read_is_sent_without_another_one() {
        let mut window = Window::new(4);
        let (after, limit) = window.wants().unwrap();
        let snapshot = Vec::new();
        window.grew();
        window.load(snapshot, limit);
        assert_eq!(window.wants(), Some((after, limit)));
        assert_eq!(window.wants(), None, "one page at a time");
    }

    proptest! {
        #[test]
        fn every_message_reaches_the_log_once_in_the_order_it_was_accepted(steps in steps()) {
            let mut world = World::default();
            let mut window = Window::new(4);
            let mut accepted = 0;
            for step in steps {
                match step {
                    Step::Accept => {
                        accepted += 1;
                        world.outbox.insert(accepted, message(accepted));
                        window.grew();
                    }
                    Step::LoadBegin => world.begin_load(&mut window),
                    Step::LoadEnd => world.end_load(&mut window),
                    Step::Send => {
                        if let Some((attempt, message)) = window.next_to_send() {
                            world.appends.push_back((attempt, message.id));
                        }
                    }
                    Step::Serve { full } => world.serve(full),
                    Step::Reply => world.reply(&mut window),
                    Step::Cut => {
                        let (outbox, log) = (world.outbox, world.log);
                        world = World { outbox, log, ..World::default() };
                        window = Window::new(4);
                    }
                }
                prop_assert!(window.entries.len() <= 4);
            }
            // Left alone, everything is delivered.
            for _ in 0..10 * (accepted + 1) {
                world.end_load(&mut window);
                world.begin_load(&mut window);
                while let Some((attempt, message)) = window.next_to_send() {
                    world.appends.push_back((attempt, message.id));
                }
                world.serve(false);
                world.reply(&mut window);
            }
            let expected: Vec<MessageId> = (1..=accepted).map(|n| message(n).message.id).collect();
            prop_assert_eq!(&world.log, &expected);
            prop_assert!(world.outbox.is_empty());
            let counts = world.log.iter().fold(HashMap::new(), |mut counts, id| {
                *counts.entry(id).or_insert(0) += 1;
                counts
            });
            prop_assert!(counts.values().all(|count| *count == 1));
        }
    }
}
