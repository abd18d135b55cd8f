//! Where one reader stands in one room, as a pure state machine.
//!
//! ```text
//!            queue full
//!   Live ─────────────────▶ CatchingUp ──┐ a page was read, but the
//!    ▲                         │  ▲      │ room's head is further on
//!    └─────────────────────────┘  └──────┘
//!       a page reached the head
//! ```

use protocol::Seq;

/// Where a reader stands in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// Gets new messages as they are committed; `last` is the newest it was given.
    Live {
        /// The newest message given.
        last: Seq,
    },
    /// Is fed from the log at its own speed, after `after`.
    CatchingUp {
        /// The newest message given.
        after: Seq,
    },
}

/// What to do with a new message for one reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Put it into the reader's queue; if there is no room, call [`Position::fell_behind`].
    Send,
    /// The reader has it or will get it from the log.
    Skip,
}

impl Position {
    /// Judges a new message at `seq`, and takes it as given if the answer is [`Offer::Send`].
    #[must_use]
    pub fn offer(&mut self, seq: Seq) -> Offer {
        match self {
            Self::Live { last } if seq > *last => {
                *last = seq;
                Offer::Send
            }
            Self::Live { .. } | Self::CatchingUp { .. } => Offer::Skip,
        }
    }

    /// There was no room for the message that follows `before`.
    pub const fn fell_behind(&mut self, before: Seq) {
        *self = Self::CatchingUp { after: before };
    }

    /// Everything up to `after` was given from the log while the room's newest message is `head`.
    /// Returns whether the reader is live now.
    pub fn read_up_to(&mut self, after: Seq, head: Seq) -> bool {
        let live = head <= after;
        *self = if live {
            Self::Live { last: after }
        } else {
            Self::CatchingUp { after }
        };
        live
    }

    /// The newest message given.
    #[must_use]
    pub const fn last(self) -> Seq {
        match self {
            Self::Live { last } => last,
            Self::CatchingUp { after } => after,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        /// A message is committed; the queue may be full.
        Commit { full: bool },
        /// The reader reads a page of so many, taken at some earlier moment.
        Page { limit: usize, stale: usize },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let commit = any::<bool>().prop_map(|full| Step::Commit { full });
        let page = (1_usize..5, 0_usize..3).prop_map(|(limit, stale)| Step::Page { limit, stale });
        proptest::collection::vec(prop_oneof![3 => commit, 2 => page], 0..80)
    }

    proptest! {
        #[test]
        fn whatever_happens_each_message_is_given_once_in_order(steps in steps()) {
            let mut log: Vec<Seq> = Vec::new();
            let mut given: Vec<Seq> = Vec::new();
            let mut position = Position::CatchingUp { after: Seq::START };
            let mut next = 0;
            for step in steps {
                match step {
                    Step::Commit { full } => {
                        next += 3; // Seqs have gaps.
                        let seq = Seq::new(next);
                        let before = position.last();
                        log.push(seq);
                        if position.offer(seq) == Offer::Send {
                            if full { position.fell_behind(before) } else { given.push(seq) }
                        }
                    }
                    Step::Page { limit, stale } => {
                        if let Position::CatchingUp { after } = position {
                            let visible = &log[..log.len().saturating_sub(stale)];
                            let page: Vec<Seq> =
                                visible.iter().copied().filter(|s| *s > after).take(limit).collect();
                            let last = page.last().copied().unwrap_or(after);
                            given.extend(page);
                            position.read_up_to(last, log.last().copied().unwrap_or_default());
                        }
                    }
                }
                prop_assert_eq!(&given[..], &log[..given.len()]);
            }
            while let Position::CatchingUp { after } = position {
                let page: Vec<Seq> = log.iter().copied().filter(|s| *s > after).collect();
                let last = page.last().copied().unwrap_or(after);
                given.extend(page);
                position.read_up_to(last, log.last().copied().unwrap_or_default());
            }
            prop_assert_eq!(given, log);
        }
    }
}
