//! Whatever is subscribed to, ended, renewed and interrupted, in whatever order: each subscription
//! is one run of messages without a gap or a double.

use crate::{
    memory::{Memory, frame, line, pages},
    support::room,
};
use proptest::{prelude::*, test_runner::FileFailurePersistence};
use protocol::{Room, Seq};
use room_log::{Delivery, Feed, Outbound, ReaderId};
use std::{collections::HashMap, sync::Arc};
use tokio::io::{AsyncReadExt, DuplexStream, duplex};

#[derive(Debug, Clone)]
enum Step {
    Publish {
        room: usize,
        count: usize,
    },
    /// After a message that the reader has, or from the beginning.
    Subscribe {
        room: usize,
        rewind: u64,
    },
    Unsubscribe {
        room: usize,
    },
    Renew,
    Reply,
    /// The socket takes so many bytes.
    Read(usize),
    /// Pages arrive.
    LetThrough(usize),
    /// The delivery works until it waits, and is dropped in the middle of that.
    Work,
}

fn step() -> impl Strategy<Value = Step> {
    let a_room = 0_usize..2;
    prop_oneof![
        4 => (a_room.clone(), 1_usize..30).prop_map(|(room, count)| Step::Publish { room, count }),
        2 => (a_room.clone(), 0_u64..20)
            .prop_map(|(room, rewind)| Step::Subscribe { room, rewind }),
        1 => a_room.prop_map(|room| Step::Unsubscribe { room }),
        1 => Just(Step::Renew),
        1 => Just(Step::Reply),
        4 => (1_usize..2_000).prop_map(Step::Read),
        3 => (1_usize..4).prop_map(Step::LetThrough),
        6 => Just(Step::Work),
    ]
}

struct World {
    feed: Arc<Feed>,
    memory: Arc<Memory>,
    reader: ReaderId,
    outbound: Arc<Outbound>,
    delivery: Delivery<DuplexStream>,
    far: DuplexStream,
    received: Vec<u8>,
    following: [bool; 2],
}

impl World {
    fn new() -> Self {
        let feed = Arc::new(Feed::new(frame));
        let memory = Memory::gated(8);
        let reader = feed.reader();
        let outbound = Arc::new(Outbound::new(200));
        let (near, far) = duplex(100);
        let delivery = Delivery::new(
            near,
            reader,
            Arc::clone(&outbound),
            Arc::clone(&feed),
            pages(&memory),
        );
        Self {
            feed,
            memory,
            reader,
            outbound,
            delivery,
            far,
            received: Vec::new(),
            following: [false; 2],
        }
    }

    async fn take(&mut self, step: &Step) {
        match *step {
            Step::Publish { room, count } => {
                for _ in 0..count {
                    let message = self.memory.append(&rooms()[room]);
                    self.feed.publish([&message]);
                }
            }
            Step::Subscribe { room, rewind } => {
                self.following[room] = true;
                let room = &rooms()[room];
                let head = self.memory.head(room).number();
                // Any place between messages will do: the next one says what came before it.
                let after = Seq::new(head.saturating_sub(rewind));
                self.outbound
                    .push_reply(line(&format!("subscribed {room} {after}")));
                self.feed
                    .subscribe(self.reader, &self.outbound, room, after);
            }
            Step::Unsubscribe { room } => {
                self.following[room] = false;
                self.feed.unsubscribe(self.reader, &rooms()[room]);
            }
            Step::Renew => {
                self.memory.renew();
                self.feed
                    .restart(|_| true, |room| line(&format!("renewed {room}")));
            }
            Step::Reply => self.outbound.push_reply(line("reply")),
            Step::Read(bytes) => self.read(bytes).await,
            Step::LetThrough(pages) => self.memory.let_through(pages),
            Step::Work => {
                self.work().await;
            }
        }
    }

    /// Returns whether a room caught up.
    async fn work(&mut self) -> bool {
        tokio::select! {
            biased;
            caught_up = self.delivery.run() => {
                caught_up.unwrap();
                true
            }
            () = tokio::task::yield_now() => false,
        }
    }

    async fn read(&mut self, bytes: usize) {
        let mut buffer = vec![0; bytes];
        tokio::select! {
            biased;
            read = self.far.read(&mut buffer) => {
                self.received.extend_from_slice(&buffer[..read.unwrap()]);
            }
            () = tokio::task::yield_now() => {}
        }
    }

    /// Lets everything arrive.
    async fn settle(&mut self) {
        self.outbound.push_reply(line("settled"));
        loop {
            self.memory.let_through(1);
            self.work().await;
            self.read(1_000).await;
            let live = (0..2).filter(|n| self.following[*n]).all(|n| {
                let room = &rooms()[n];
                self.feed.is_live(self.reader, room)
            });
            if live && self.outbound.bytes() == 0 {
                break;
            }
        }
        // What the delivery has in hand still.
        let Self { delivery, far, .. } = self;
        let mut rest = Vec::new();
        let (finished, read) = tokio::join!(delivery.finish(), async {
            let mut buffer = [0; 256];
            while let Ok(count) = far.read(&mut buffer).await
                && count > 0
            {
                rest.extend_from_slice(&buffer[..count]);
            }
        });
        finished.unwrap();
        let () = read;
        self.received.extend(rest);
    }

    /// Follows what was received, line by line.
    fn judge(&self) {
        let text = std::str::from_utf8(&self.received).unwrap();
        assert!(text.ends_with('\n'));
        // For each room: the life of the log, and where the reader stands. A cursor between two
        // messages is fine, so the first one only has to follow something at or before it.
        let mut stand: HashMap<&str, (Option<u64>, u64, bool)> = HashMap::new();
        for one in text.lines() {
            let words: Vec<&str> = one.split(' ').collect();
            match words[..] {
                ["reply" | "settled"] => {}
                ["subscribed", room, after] => {
                    stand.insert(room, (None, after.parse().unwrap(), true));
                }
                ["renewed", room] => {
                    stand.insert(room, (None, 0, true));
                }
                [room, life, prev, seq] => {
                    let (known, last, fresh) = stand.get_mut(room).unwrap();
                    let (prev, seq): (u64, u64) = (prev.parse().unwrap(), seq.parse().unwrap());
                    let follows = if *fresh { prev <= *last } else { prev == *last };
                    assert!(follows && seq > *last, "after {last} came {one:?}");
                    let life: u64 = life.parse().unwrap();
                    assert!(known.is_none_or(|known| known == life), "{one:?}");
                    (*known, *last, *fresh) = (Some(life), seq, false);
                }
                _ => panic!("{one:?}"),
            }
        }
        for (index, room) in rooms().iter().enumerate() {
            if self.following[index] {
                let (_, last, _) = stand[room.as_str()];
                let head = self.memory.head(room).number();
                assert!(last >= head, "{room} ends at {last} of {head}");
            }
        }
    }
}

fn rooms() -> [Room; 2] {
    ["#a", "&b"].map(room)
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "tests/rooms/regressions.txt",
        ))),
        ..ProptestConfig::default()
    })]
    #[test]
    fn each_subscription_is_one_run_of_messages(
        steps in proptest::collection::vec(step(), 1..80)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            for step in &steps {
                world.take(step).await;
            }
            world.settle().await;
            world.judge();
        });
    }
}
