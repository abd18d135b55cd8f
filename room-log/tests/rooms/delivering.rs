//! Every reader gets every message once and in order, from the log or live, at its own speed.

use crate::{
    memory::{Memory, Reader, frame, line, pages},
    support::room,
};
use protocol::{Room, Seq};
use room_log::{CaughtUp, Feed, PageFuture, PageSource, StoreError};
use std::sync::{Arc, Mutex};

const LIMIT: usize = 1_024;

fn feed() -> Arc<Feed> {
    Arc::new(Feed::new(frame))
}

fn publish(feed: &Feed, memory: &Memory, room: &Room, count: usize) {
    for _ in 0..count {
        feed.publish([&memory.append(room)]);
    }
}

#[tokio::test]
async fn the_log_comes_first_and_then_what_is_new() {
    let (feed, memory, ops) = (feed(), Memory::new(3), room("#ops"));
    publish(&feed, &memory, &ops, 10);
    let mut reader = Reader::new(&feed, pages(&memory), LIMIT, 64);
    // What is answered before a subscription is read before its messages.
    reader.outbound.push_reply(line("opened"));
    feed.subscribe(reader.id, &reader.outbound, &ops, Seq::new(2));
    assert_eq!(reader.line().await, "opened");
    reader.expect(&ops, 3, 10).await;
    let caught_up = CaughtUp {
        room: ops.clone(),
        last: Seq::new(10),
    };
    assert_eq!(reader.caught_up.recv().await, Some(caught_up));
    assert!(feed.is_live(reader.id, &ops));
    publish(&feed, &memory, &ops, 2);
    reader.expect(&ops, 11, 12).await;
    // Published again, as after a lost answer: nobody gets it twice.
    feed.publish([&memory.append(&ops), &crate::support::placed(&ops, 11, 12)]);
    reader.expect(&ops, 13, 13).await;
    reader.outbound.push_reply(line("end"));
    assert_eq!(reader.line().await, "end");
}

#[tokio::test]
async fn a_slow_reader_is_fed_from_the_log_while_another_stays_live() {
    let (feed, memory, ops) = (feed(), Memory::new(7), room("#ops"));
    let mut slow = Reader::new(&feed, pages(&memory), LIMIT, 64);
    let mut fast = Reader::new(&feed, pages(&memory), LIMIT, 64);
    for reader in [&mut slow, &mut fast] {
        feed.subscribe(reader.id, &reader.outbound, &ops, Seq::START);
        reader.caught_up.recv().await.unwrap();
    }
    for seq in 1..=8_000 {
        publish(&feed, &memory, &ops, 1);
        fast.expect(&ops, seq, seq).await;
        assert!(feed.is_live(fast.id, &ops));
        assert!(slow.outbound.bytes() <= LIMIT);
    }
    assert!(!feed.is_live(slow.id, &ops));
    slow.expect(&ops, 1, 8_000).await;
    let caught_up = slow.caught_up.recv().await.unwrap();
    assert_eq!(caught_up.last, Seq::new(8_000));
    assert!(feed.is_live(slow.id, &ops));
    publish(&feed, &memory, &ops, 3);
    slow.expect(&ops, 8_001, 8_003).await;
    fast.expect(&ops, 8_001, 8_003).await;
}

/// While pages of one room are read, the queue goes on, and no room waits for another for ever.
#[tokio::test]
async fn one_room_that_is_behind_holds_up_no_other() {
    let (feed, memory) = (feed(), Memory::gated(2));
    let (ops, dev) = (room("#ops"), room("#dev"));
    let mut reader = Reader::new(&feed, pages(&memory), LIMIT, 64);
    feed.subscribe(reader.id, &reader.outbound, &dev, Seq::START);
    memory.let_through(1);
    reader.caught_up.recv().await.unwrap();
    memory.reading().await;
    publish(&feed, &memory, &ops, 1);
    feed.subscribe(reader.id, &reader.outbound, &ops, Seq::START);
    memory.reading().await;
    // The page is held back; this is not.
    feed.publish([&memory.append(&dev)]);
    assert_eq!(reader.line().await, "#dev 0 0 2");
    memory.let_through(10);
    assert_eq!(reader.line().await, "#ops 0 0 1");
    assert_eq!(reader.caught_up.recv().await.unwrap().room, ops);
}

#[tokio::test]
async fn subscribing_again_with_a_page_on_its_way_doubles_nothing() {
    let (feed, memory, ops) = (feed(), Memory::gated(100), room("#ops"));
    publish(&feed, &memory, &ops, 10);
    let mut reader = Reader::new(&feed, pages(&memory), LIMIT, 64);
    feed.subscribe(reader.id, &reader.outbound, &ops, Seq::START);
    memory.reading().await;
    feed.subscribe(reader.id, &reader.outbound, &ops, Seq::new(7));
    memory.let_through(3);
    reader.expect(&ops, 8, 10).await;
    assert_eq!(reader.caught_up.recv().await.unwrap().last, Seq::new(10));
    publish(&feed, &memory, &ops, 1);
    reader.expect(&ops, 11, 11).await;
    assert_eq!(feed.size(), (1, 1));
    assert!(reader.caught_up.try_recv().is_err());
}

#[tokio::test]
async fn a_page_that_nobody_wants_any_more_is_dropped() {
    let (feed, memory, ops) = (feed(), Memory::gated(100), room("#ops"));
    publish(&feed, &memory, &ops, 10);
    let mut reader = Reader::new(&feed, pages(&memory), LIMIT, 64);
    feed.subscribe(reader.id, &reader.outbound, &ops, Seq::START);
    memory.reading().await;
    feed.unsubscribe(reader.id, &ops);
    memory.let_through(1);
    // Another room follows it through the same gate.
    let dev = room("#dev");
    publish(&feed, &memory, &dev, 1);
    feed.subscribe(reader.id, &reader.outbound, &dev, Seq::START);
    memory.let_through(2);
    assert_eq!(reader.line().await, "#dev 0 0 11");
    assert_eq!(reader.caught_up.recv().await.unwrap().room, dev);
    publish(&feed, &memory, &ops, 1);
    reader.outbound.push_reply(line("end"));
    assert_eq!(reader.line().await, "end");
}

#[tokio::test]
async fn a_new_life_of_the_log_is_told_and_read_from_its_beginning() {
    let (feed, memory) = (feed(), Memory::gated(100));
    let (ops, local) = (room("#ops"), room("&local"));
    publish(&feed, &memory, &ops, 5);
    let mut reader = Reader::new(&feed, pages(&memory), LIMIT, 64);
    feed.subscribe(reader.id, &reader.outbound, &local, Seq::START);
    memory.let_through(1);
    reader.caught_up.recv().await.unwrap();
    memory.reading().await;
    feed.subscribe(reader.id, &reader.outbound, &ops, Seq::START);
    memory.reading().await;
    memory.renew();
    memory.append(&ops);
    feed.restart(
        |room| matches!(room, Room::Federated(_)),
        |room| line(&format!("new {room}")),
    );
    memory.let_through(10);
    assert_eq!(reader.line().await, "new #ops");
    assert_eq!(reader.line().await, "#ops 1 0 1");
    assert_eq!(reader.caught_up.recv().await.unwrap().room, ops);
    publish(&feed, &memory, &ops, 1);
    assert_eq!(reader.line().await, "#ops 1 1 2");
    assert!(feed.is_live(reader.id, &local), "the other room goes on");
}

#[tokio::test]
async fn a_soft_event_is_told_once_to_each_and_dropped_when_there_is_no_room() {
    let (feed, memory) = (feed(), Memory::new(100));
    let (ops, dev) = (room("#ops"), room("#dev"));
    let mut reader = Reader::new(&feed, pages(&memory), LIMIT, 64);
    for room in [&ops, &dev] {
        feed.subscribe(reader.id, &reader.outbound, room, Seq::START);
        reader.caught_up.recv().await.unwrap();
    }
    feed.publish_soft([&ops, &dev], &line("bob is here"));
    reader.outbound.push_reply(line("end"));
    assert_eq!(reader.line().await, "bob is here");
    assert_eq!(reader.line().await, "end");
    for number in 0..1_000 {
        feed.publish_soft([&ops], &line(&format!("{number:0100}")));
    }
    assert!(reader.outbound.bytes() <= LIMIT);
    reader.outbound.push_reply(line("end"));
    let mut told = 0;
    while reader.line().await != "end" {
        told += 1;
    }
    assert!((1..1_000).contains(&told), "{told} of 1,000");
}

/// Commits a message with every page that is read, and publishes them only when told.
struct Busy {
    memory: Arc<Memory>,
    room: Room,
    unpublished: Arc<Mutex<Vec<protocol::Committed>>>,
    inner: Box<dyn PageSource>,
}

impl PageSource for Busy {
    fn page(&self, room: &Room, after: Seq) -> PageFuture {
        let committed = self.memory.append(&self.room);
        self.unpublished.lock().unwrap().push(committed);
        self.inner.page(room, after)
    }
}

/// In a room where something is committed during every read, no page is ever the last one.
#[tokio::test]
async fn a_reader_catches_up_in_a_room_that_never_rests() {
    let (feed, memory, ops) = (feed(), Memory::new(100), room("#ops"));
    let unpublished: Arc<Mutex<Vec<protocol::Committed>>> = Arc::default();
    let source = Busy {
        memory: Arc::clone(&memory),
        room: ops.clone(),
        unpublished: Arc::clone(&unpublished),
        inner: pages(&memory),
    };
    let mut reader = Reader::new(&feed, Box::new(source), LIMIT, 64);
    feed.subscribe(reader.id, &reader.outbound, &ops, Seq::START);
    reader.expect(&ops, 1, 5).await;
    let waiting = std::mem::take(&mut *unpublished.lock().unwrap());
    feed.publish(&waiting);
    let last = reader.caught_up.recv().await.unwrap().last;
    let waiting = std::mem::take(&mut *unpublished.lock().unwrap());
    feed.publish(&waiting);
    publish(&feed, &memory, &ops, 1);
    let head = memory.head(&ops);
    assert!(head > last);
    reader.expect(&ops, 6, head.number()).await;
}

/// Cannot read one room.
struct Broken {
    room: Room,
    inner: Box<dyn PageSource>,
}

impl PageSource for Broken {
    fn page(&self, room: &Room, after: Seq) -> PageFuture {
        if *room == self.room {
            return Box::pin(std::future::ready(Err(StoreError::DiskFull)));
        }
        self.inner.page(room, after)
    }
}

#[tokio::test]
async fn a_room_that_cannot_be_read_costs_its_reader_that_room_only() {
    let (feed, memory) = (feed(), Memory::new(9));
    let (old, ops) = (room("#old"), room("#ops"));
    let source = Broken {
        room: old.clone(),
        inner: pages(&memory),
    };
    let mut reader = Reader::new(&feed, Box::new(source), LIMIT, 64);
    feed.subscribe(reader.id, &reader.outbound, &old, Seq::new(4));
    feed.subscribe(reader.id, &reader.outbound, &ops, Seq::START);
    let given_up = reader.unreadable.recv().await.unwrap();
    assert_eq!((given_up.room, given_up.after), (old.clone(), Seq::new(4)));
    assert!(matches!(given_up.error, StoreError::DiskFull));
    publish(&feed, &memory, &ops, 3);
    publish(&feed, &memory, &old, 1);
    publish(&feed, &memory, &ops, 1);
    reader.expect(&ops, 1, 3).await;
    assert_eq!(reader.line().await, "#ops 0 3 5");
    assert!(!feed.is_following(reader.id, &old));
}
