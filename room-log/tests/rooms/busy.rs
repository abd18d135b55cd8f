//! Threads that publish while readers of every speed come, go and resume.

use crate::{
    memory::{Memory, Reader, frame, pages},
    support::room,
};
use protocol::{Room, Seq};
use room_log::Feed;
use std::{collections::HashMap, sync::Arc, thread};

/// A multiple of the rooms.
const MESSAGES: u64 = 21_000;

/// Reads until it has the last message of every room, and checks each on the way.
async fn read_all(mut reader: Reader, rooms: Vec<Room>, heads: HashMap<Room, Seq>, pace: u32) {
    let mut last: HashMap<String, u64> = rooms.iter().map(|room| (room.to_string(), 0)).collect();
    let mut count: u32 = 0;
    while rooms
        .iter()
        .any(|room| last[room.as_str()] < heads[room].number())
    {
        let text = reader.line().await;
        let [room, _, prev, seq] = text.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{text:?}");
        };
        let known = last.get_mut(room).unwrap();
        assert_eq!(prev.parse(), Ok(*known), "after {known} came {text:?}");
        *known = seq.parse().unwrap();
        count += 1;
        if count.is_multiple_of(pace) {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn readers_of_every_speed_get_everything_once_and_in_order() {
    let feed = Arc::new(Feed::new(frame));
    let memory = Memory::new(50);
    let rooms = ["#a", "#b", "&c"].map(room).to_vec();
    // All rooms' last seqs are known beforehand: they are written in turn.
    let heads: HashMap<Room, Seq> = (0..3)
        .map(|n| (rooms[n as usize].clone(), Seq::new(MESSAGES - 2 + n)))
        .collect();
    let mut readers = Vec::new();
    for (limit, pipe, pace) in [
        (64, 64, 1),
        (300, 512, 7),
        (4_096, 64, 100),
        (1 << 20, 8_192, 1),
    ] {
        let reader = Reader::new(&feed, pages(&memory), limit, pipe);
        for room in &rooms {
            feed.subscribe(reader.id, &reader.outbound, room, Seq::START);
        }
        readers.push(tokio::spawn(read_all(
            reader,
            rooms.clone(),
            heads.clone(),
            pace,
        )));
    }
    // One that reads nothing until all is written.
    let stopped = Reader::new(&feed, pages(&memory), 1_024, 64);
    for room in &rooms {
        feed.subscribe(stopped.id, &stopped.outbound, room, Seq::START);
    }
    let publisher = {
        let (feed, memory, rooms) = (Arc::clone(&feed), Arc::clone(&memory), rooms.clone());
        tokio::task::spawn_blocking(move || {
            for number in 0..MESSAGES {
                let room = &rooms[(number % 3) as usize];
                feed.publish([&memory.append(room)]);
                if number.is_multiple_of(64) {
                    thread::yield_now();
                }
            }
        })
    };
    publisher.await.unwrap();
    for room in &rooms {
        assert_eq!(memory.head(room), heads[room]);
    }
    assert!(stopped.outbound.bytes() <= 1_024);
    readers.push(tokio::spawn(read_all(stopped, rooms.clone(), heads, 9)));
    for reader in readers {
        reader.await.unwrap();
    }
    assert_eq!(feed.size().1, 5 * rooms.len());
}
