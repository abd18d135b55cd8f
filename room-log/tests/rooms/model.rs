//! The log against a model: duplicates, conflicts, rooms in between each other, transactions that
//! are rolled back, and reopening at any point.

use crate::support::{Disk, NOW, body, room};
use proptest::{prelude::*, sample::Index, test_runner::FileFailurePersistence};
use protocol::{Committed, Epoch, MessageId, Outgoing, Room, Seq, Timestamp};
use room_log::{Appended, Database, RoomLog, log};
use rusqlite::Connection;
use std::collections::HashMap;

#[derive(Debug, Clone)]
enum Step {
    Append {
        room: usize,
    },
    /// The same message again, as after a lost acknowledgement.
    Repeat(Index),
    /// Another message under a known id.
    Clash(Index),
    Commit,
    RollBack,
    /// The process ends, orderly or not: what is not committed is gone.
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_usize..3).prop_map(|room| Step::Append { room }),
        3 => any::<Index>().prop_map(Step::Repeat),
        1 => any::<Index>().prop_map(Step::Clash),
        3 => Just(Step::Commit),
        1 => Just(Step::RollBack),
        1 => Just(Step::Reopen),
    ]
}

/// What a log should hold.
#[derive(Debug, Clone, Default)]
struct Model {
    rooms: HashMap<Room, Vec<Committed>>,
    seqs: HashMap<MessageId, Seq>,
}

struct World {
    disk: Disk,
    log: RoomLog,
    /// With what the open transaction has changed.
    now: Model,
    committed: Model,
    /// All that was ever said, whatever became of it.
    said: Vec<Outgoing>,
}

impl World {
    fn new() -> Self {
        let disk = Disk::new();
        // The last commit's fsync is not what is tested here, and would cost minutes.
        disk.connection
            .pragma_update(None, "synchronous", "off")
            .unwrap();
        disk.begin();
        Self {
            disk,
            log: RoomLog::new(Epoch::new(), 10),
            now: Model::default(),
            committed: Model::default(),
            said: Vec::new(),
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Append { room } => {
                let message = Outgoing {
                    id: MessageId::new(),
                    room: rooms()[*room].clone(),
                    author: "alice@ada".parse().unwrap(),
                    sent_at: NOW,
                    body: body(&self.said.len().to_string()),
                };
                self.said.push(message.clone());
                self.append(&message);
            }
            Step::Repeat(index) if !self.said.is_empty() => {
                let message = Outgoing {
                    sent_at: Timestamp::from_micros(77),
                    ..index.get(&self.said).clone()
                };
                self.append(&message);
            }
            Step::Clash(index) if !self.said.is_empty() => {
                let message = Outgoing {
                    body: body("something else"),
                    ..index.get(&self.said).clone()
                };
                if self.now.seqs.contains_key(&message.id) {
                    let appended = self.log.append(&self.disk.connection, &message, NOW);
                    assert_eq!(appended.unwrap(), Appended::Conflict);
                }
            }
            Step::Repeat(_) | Step::Clash(_) => {}
            Step::Commit => {
                self.disk.commit();
                self.committed = self.now.clone();
                self.check();
                self.disk.begin();
            }
            Step::RollBack => {
                self.disk.roll_back();
                self.log.forget();
                self.now = self.committed.clone();
                self.disk.begin();
            }
            Step::Reopen => {
                let epoch = self.log.epoch();
                let closed = Connection::open_in_memory().unwrap();
                drop(std::mem::replace(&mut self.disk.connection, closed));
                let (_, connection) =
                    Database::open(self.disk.dir.path(), crate::support::TEST).unwrap();
                self.disk.connection = connection;
                self.log = RoomLog::new(epoch, 10);
                self.now = self.committed.clone();
                self.check();
                self.disk.begin();
            }
        }
    }

    fn append(&mut self, message: &Outgoing) {
        let appended = self
            .log
            .append(&self.disk.connection, message, NOW)
            .unwrap();
        if let Some(seq) = self.now.seqs.get(&message.id) {
            assert_eq!(appended, Appended::Known { seq: *seq });
            return;
        }
        let Appended::New(committed) = appended else {
            panic!("{appended:?} for a new message");
        };
        let log = self.now.rooms.entry(message.room.clone()).or_default();
        let before = log.last().map_or(Seq::START, |last| last.seq);
        assert!(committed.seq > before);
        assert_eq!(committed.prev_seq, before);
        assert_eq!(committed.body, message.body);
        self.now.seqs.insert(message.id, committed.seq);
        log.push(committed);
    }

    /// What another connection reads is what was committed.
    fn check(&self) {
        let reader = self.disk.database.reader().unwrap();
        for room in rooms() {
            let epoch = self.log.epoch();
            let found = log::page(&reader, epoch, &room, Seq::START, 1_000, 1 << 20).unwrap();
            let expected = self.committed.rooms.get(&room);
            assert_eq!(found, expected.cloned().unwrap_or_default());
            let head = log::head(&reader, epoch, &room).unwrap();
            let last = found.last().map(|last| (last.seq, Some(last.id)));
            assert_eq!(head.map(|head| (head.seq, head.id)), last);
        }
    }
}

fn rooms() -> [Room; 3] {
    ["#ops", "&dev", "alice@ada,bob@bee"].map(room)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "tests/rooms/regressions.txt",
        ))),
        ..ProptestConfig::default()
    })]
    #[test]
    fn the_log_holds_what_was_committed_once_and_in_order(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.take(&Step::Commit);
    }
}
