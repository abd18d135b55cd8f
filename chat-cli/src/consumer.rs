//! A consumer whose place in each room the agent keeps: it goes on where it was, whoever was
//! killed meanwhile.
//!
//! At least once: a place is told the agent only after what leads to it was taken, so what was
//! taken shortly before a crash may come again, and nothing is left out.

mod ledger;

use crate::{
    client::exit_of,
    conversation::Conversation,
    exit::{Failure, say},
};
use ledger::Ledger;
use protocol::{
    ConsumerName, Cursor, Room,
    local::{From, Refusal, Reply, Request},
};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::Instant;

/// How long an agent that could not store a place is left alone.
const HOLD: Duration = Duration::from_secs(1);

/// What was asked for a consumer.
#[derive(Debug)]
pub enum Ask {
    /// Where it is in a room.
    Position(Room),
    /// To remember where it is in a room.
    Confirm(Room),
}

/// A conversation of a consumer.
pub type Talk = Conversation<Ask>;

/// Whether a room cannot be opened where a reader was because its log is another one by now. (All
/// zeros: the agent has not met the server, and cannot know.)
#[must_use]
pub fn is_new_life(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::EpochChanged { current, .. } if current.to_bytes() != [0; 8])
}

/// Where a consumer is, by its own word and by the agent's.
#[derive(Debug)]
pub struct Consumer {
    name: ConsumerName,
    ledger: Ledger,
    /// Rooms of which the agent has not told where the consumer is.
    unknown: BTreeSet<Room>,
    /// The agent is not told anything until then.
    hold: Option<Instant>,
    /// Whether it was said that the agent cannot store anything.
    complained: bool,
}

impl Consumer {
    /// The consumer of this name, of which nothing is known yet.
    #[must_use]
    pub fn new(name: ConsumerName) -> Self {
        Self {
            name,
            ledger: Ledger::default(),
            unknown: BTreeSet::new(),
            hold: None,
            complained: false,
        }
    }

    /// What it calls itself.
    #[must_use]
    pub const fn name(&self) -> &ConsumerName {
        &self.name
    }

    /// Asks where the consumer is in these rooms; [`Consumer::on_answer`] tells.
    pub fn look_up(&mut self, talk: &mut Talk, rooms: impl IntoIterator<Item = Room>) {
        self.unknown.extend(rooms);
        self.ask_positions(talk);
    }

    /// Goes on after the agent was found again.
    pub fn on_reconnected(&mut self, talk: &mut Talk) {
        self.hold = None;
        self.ask_positions(talk);
    }

    fn ask_positions(&self, talk: &mut Talk) {
        if !talk.is_up() {
            return;
        }
        for room in &self.unknown {
            let request = Request::Position {
                consumer: self.name.clone(),
                room: room.clone(),
            };
            talk.ask(Ask::Position(room.clone()), request);
        }
    }

    /// Whether the agent has told of every room where the consumer is.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.unknown.is_empty()
    }

    /// Judges an answer. If it tells where the consumer is in a room, or that it was never there,
    /// that is to be read now.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the agent will not keep this consumer's places.
    pub fn on_answer(
        &mut self,
        ask: Ask,
        answer: Option<Result<Reply, Refusal>>,
    ) -> Result<Option<(Room, Option<Cursor>)>, Failure> {
        match (ask, answer) {
            (Ask::Position(room), Some(Ok(Reply::Position { cursor }))) => {
                // Asked twice if the agent was lost in between.
                Ok(self.unknown.remove(&room).then_some((room, cursor)))
            }
            (Ask::Confirm(room), Some(Ok(Reply::Done))) => {
                self.complained = false;
                self.ledger.settle(&room);
                Ok(None)
            }
            // A place in the log's old life, or of a room that is read no more.
            (
                Ask::Confirm(room),
                Some(Err(Refusal::EpochChanged { .. } | Refusal::Left { .. })),
            ) => {
                self.ledger.settle(&room);
                Ok(None)
            }
            (Ask::Confirm(room), None | Some(Err(Refusal::ShuttingDown))) => {
                self.ledger.retry(&room);
                Ok(None)
            }
            (Ask::Confirm(room), Some(Err(Refusal::Busy { retry_after_ms }))) => {
                self.hold(Duration::from_millis(retry_after_ms.into()));
                self.ledger.retry(&room);
                Ok(None)
            }
            (Ask::Confirm(room), Some(Err(refusal @ Refusal::StorageFailed { .. }))) => {
                self.hold(HOLD);
                self.ledger.retry(&room);
                if !std::mem::replace(&mut self.complained, true) {
                    say(&refusal.to_string());
                }
                Ok(None)
            }
            (Ask::Position(_), None | Some(Err(Refusal::ShuttingDown))) => Ok(None),
            (_, Some(Err(refusal))) => Err(Failure::new(
                exit_of(&refusal),
                format_args!("the place of {} cannot be kept: {refusal}", self.name),
            )),
            (_, Some(Ok(_))) => Err(Failure::failed(
                "the agent gave an answer that does not fit the question",
            )),
        }
    }

    fn hold(&mut self, pause: Duration) {
        self.hold = Some(Instant::now() + pause);
    }

    /// Goes on with a room whose log is not the one that the consumer was in any more, which is
    /// said.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the room cannot be read for another reason.
    pub fn on_refused<Q>(
        &self,
        talk: &mut Conversation<Q>,
        room: Room,
        refusal: &Refusal,
    ) -> Result<(), Failure> {
        let name = room.seen_by(talk.me());
        match refusal {
            refusal if is_new_life(refusal) => {
                say(&format!(
                    "the log of {name} was recreated or restored since {} was there: going on \
                     with the new one from its beginning",
                    self.name
                ));
                talk.read(room, From::Beginning);
                Ok(())
            }
            refusal => Err(Failure::new(
                exit_of(refusal),
                format_args!("{name} cannot be read: {refusal}"),
            )),
        }
    }

    /// Notes that a message was given to whoever reads; `end` grows with each.
    pub fn give(&mut self, end: u64, room: Room, at: Cursor) {
        self.ledger.give(end, room, at);
    }

    /// Notes that what was given up to `end` was taken.
    pub fn take(&mut self, end: u64) {
        self.ledger.take(end);
    }

    /// Notes that `room` is done with up to here.
    pub fn done(&mut self, room: Room, at: Cursor) {
        self.ledger.done(room, at);
    }

    /// Whether something that was given was not taken yet.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.ledger.is_waiting()
    }

    /// Whether the agent knows of all that was taken.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.ledger.is_settled()
    }

    /// Tells the agent what it can be told now.
    pub fn confirm(&mut self, talk: &mut Talk) {
        if !talk.is_up() || self.hold.is_some_and(|hold| Instant::now() < hold) {
            return;
        }
        self.hold = None;
        while let Some((room, cursor)) = self.ledger.next() {
            let request = Request::Confirm {
                consumer: self.name.clone(),
                room: room.clone(),
                cursor,
            };
            talk.ask(Ask::Confirm(room), request);
        }
    }

    /// When the agent can be told more, if it asked to wait.
    #[must_use]
    pub const fn held_until(&self) -> Option<Instant> {
        self.hold
    }
}
