//! The log against a model: duplicates, conflicts, rooms in between each other, and an end, in
//! order or not, at any point.

use super::{
    Backing,
    running::{Running, assert_chain, is_conflict, messages_of, place, room, says, within_limit},
};
use crate::cases;
use proptest::{prelude::*, sample::Index, test_runner::TestRunner};
use protocol::{Committed, Content, MessageId, Outgoing, Room, Seq, Timestamp};
use room_log::Head;
use std::collections::HashMap;

#[derive(Debug, Clone)]
enum Step {
    /// Says so many things at once, each in one of the rooms.
    Say(Vec<Said>),
    /// Ends in order and comes back.
    Reopen,
    /// Is killed and comes back.
    Kill,
}

#[derive(Debug, Clone)]
enum Said {
    New {
        room: usize,
        author: usize,
    },
    /// Something said before, as after a lost acknowledgement.
    Again(Index),
    /// Another message under a known id.
    Clash(Index, Difference),
}

#[derive(Debug, Clone, Copy)]
enum Difference {
    Author,
    Body,
}

fn said() -> impl Strategy<Value = Said> {
    let difference = prop_oneof![Just(Difference::Author), Just(Difference::Body)];
    prop_oneof![
        5 => (0_usize..3, 0_usize..2).prop_map(|(room, author)| Said::New { room, author }),
        2 => any::<Index>().prop_map(Said::Again),
        1 => (any::<Index>(), difference).prop_map(|(index, how)| Said::Clash(index, how)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => proptest::collection::vec(said(), 1..12).prop_map(Step::Say),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ]
}

fn rooms() -> [Room; 3] {
    ["#ops", "#dev", "alice@ada,bob@bee"].map(room)
}

const AUTHORS: [&str; 2] = ["alice@ada", "bob@bee"];

/// What was said and where it is.
#[derive(Default)]
struct Model {
    said: Vec<Outgoing>,
    places: HashMap<MessageId, Seq>,
    logs: HashMap<Room, Vec<MessageId>>,
}

impl Model {
    fn message(&self, said: &Said) -> Outgoing {
        let number = self.said.len();
        match said {
            Said::Again(index) if number > 0 => Outgoing {
                sent_at: Timestamp::from_micros(number as u64),
                ..index.get(&self.said).clone()
            },
            Said::Clash(index, difference) if number > 0 => {
                let known = index.get(&self.said).clone();
                match difference {
                    Difference::Author => Outgoing {
                        author: "alice@bee".parse().unwrap(),
                        ..known
                    },
                    Difference::Body => Outgoing {
                        body: Content::Text("something else".to_owned()).encode().unwrap(),
                        ..known
                    },
                }
            }
            Said::New { room, author } => {
                says(AUTHORS[*author], &rooms()[*room], &number.to_string())
            }
            Said::Again(_) | Said::Clash(..) => says(AUTHORS[0], &rooms()[0], &number.to_string()),
        }
    }

    /// Everything that is said in one step; later ones may be about earlier ones.
    fn messages(&mut self, all: &[Said]) -> Vec<Outgoing> {
        let mut messages = Vec::new();
        for said in all {
            let message = self.message(said);
            if self.said.iter().all(|one| one.id != message.id) {
                self.said.push(message.clone());
            }
            messages.push(message);
        }
        messages
    }
}

struct World<B> {
    running: Running<B>,
    model: Model,
    /// What came out of logs that have ended in order.
    came: Vec<Committed>,
    killed: bool,
}

impl<B: Backing> World<B> {
    async fn new() -> Self {
        let running = Running::new().await;
        Self {
            running,
            model: Model::default(),
            came: Vec::new(),
            killed: false,
        }
    }

    async fn take(mut self, step: &Step) -> Self {
        match step {
            Step::Say(all) => self.say(all).await,
            Step::Reopen => {
                let commits;
                (self.running, commits) = self.running.reopen().await;
                self.came.extend(messages_of(&commits));
            }
            Step::Kill => {
                // What came out of a killed log is not known here.
                self.killed = true;
                self.running = self.running.kill().await;
            }
        }
        self
    }

    async fn say(&mut self, all: &[Said]) {
        let messages = self.model.messages(all);
        let answers = self.running.append_all(&messages).await;
        let Model { said, places, logs } = &mut self.model;
        for (message, answer) in messages.iter().zip(&answers) {
            let first = said.iter().find(|one| one.id == message.id).unwrap();
            let same = (&first.room, &first.author, &first.body)
                == (&message.room, &message.author, &message.body);
            if !same {
                assert!(is_conflict(answer, message.id), "{answer:?} to {message:?}");
            } else if let Some(known) = places.get(&message.id) {
                assert_eq!(place(answer), *known);
            } else {
                places.insert(message.id, place(answer));
                logs.entry(message.room.clone())
                    .or_default()
                    .push(message.id);
            }
        }
    }

    async fn check(mut self) {
        let log = &self.running.log;
        for room in rooms() {
            let found = self.running.read(&room).await;
            assert_chain(&found);
            let expected = self.model.logs.remove(&room).unwrap_or_default();
            assert!(found.iter().map(|one| one.id).eq(expected));
            assert!(
                found
                    .iter()
                    .all(|one| self.model.places[&one.id] == one.seq)
            );
            let head = found.last().map(|last| Head {
                seq: last.seq,
                id: Some(last.id),
            });
            assert_eq!(log.head(&room).await.unwrap(), head);
            for message in &found {
                let by_id = log.find(&room, message.id).await.unwrap();
                assert_eq!(by_id.as_ref(), Some(message));
            }
        }
        let mut logs = HashMap::new();
        for room in rooms() {
            logs.insert(room.clone(), self.running.read(&room).await);
        }
        let (_, commits) = self.running.close().await;
        self.came.extend(messages_of(&commits));
        for (room, log) in logs {
            let came: Vec<&Committed> = self.came.iter().filter(|one| one.room == room).collect();
            if self.killed {
                let mut log = log.iter();
                assert!(came.iter().all(|one| log.any(|other| other == *one)));
            } else {
                assert!(came.into_iter().eq(&log));
            }
        }
    }
}

/// Runs the model against one implementation.
pub(super) fn check<B: Backing>() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let steps = proptest::collection::vec(step(), 1..20);
    let tested = TestRunner::new(cases(24)).run(&steps, |steps| {
        runtime.block_on(within_limit(async {
            let mut world = World::<B>::new().await;
            for step in &steps {
                world = world.take(step).await;
            }
            world.check().await;
        }));
        Ok(())
    });
    if let Err(error) = tested {
        panic!("{error}");
    }
}
