//! Words that are erased, and messages that were kept for long enough.

use crate::support::{Disk, body, room, says};
use protocol::{
    Content, EncodedBody, Epoch, MessageId, Outgoing, Room, Seq, Timestamp, UserName,
    governance::{Act, Charter, Keep, Mode},
};
use room_log::{
    Appended, Chore, Deed, Durability, Governed, Governor, Ingested, Retention, RoomLog, Store,
    StoreError, Writer, charters, erasing, log,
};
use rusqlite::Connection;
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

fn alice() -> UserName {
    "alice@ada".parse().unwrap()
}

fn append(log: &mut RoomLog, disk: &Disk, message: &Outgoing, at: u64) -> Appended {
    let now = Timestamp::from_micros(at);
    log.append(&disk.connection, message, now).unwrap()
}

fn all(disk: &Disk, epoch: Epoch, room: &Room) -> Vec<protocol::Committed> {
    log::page(&disk.connection, epoch, room, Seq::START, 100, 1 << 20).unwrap()
}

/// Lets go of what is too much in `room` at `now`, in as many parts as it takes.
fn end(disk: &Disk, epoch: Epoch, now: u64) -> usize {
    let mut retention = Retention::default();
    let mut ended = 0;
    retention.look();
    while retention.chore() != Chore::None {
        let now = Timestamp::from_micros(now);
        let forget = |_| {
            ended += 1;
            Ok(())
        };
        retention
            .advance(&disk.connection, &[epoch], now, forget)
            .unwrap();
    }
    ended
}

fn keep(disk: &Disk, room: &Room, keep: Keep) {
    let mut charter = Charter::open(&alice(), Mode::Public, &[]).unwrap();
    charter.apply(&alice(), &Act::Retention { keep }).unwrap();
    charters::store(&disk.connection, room, &charter).unwrap();
}

#[test]
fn readers_anywhere_go_on_behind_what_ended_and_retries_are_known() {
    let disk = Disk::new();
    let epoch = Epoch::new();
    let mut log = RoomLog::new(epoch, 10);
    let ops = room("#ops");
    let mut said: Vec<Outgoing> = (0..600).map(|n| says(&ops, &n.to_string())).collect();
    // An act between them stays.
    said[300].body = Content::Act(Act::Left).encode().unwrap();
    for (message, at) in said.iter().zip(1..) {
        append(&mut log, &disk, message, at);
    }
    let before = log::page(&disk.connection, epoch, &ops, Seq::START, 1_000, 1 << 20).unwrap();
    let max_messages = Some(3);
    keep(
        &disk,
        &ops,
        Keep {
            max_messages,
            ..Keep::default()
        },
    );
    assert_eq!(end(&disk, epoch, 1_000), 596);
    log.note_pruned();
    let left = all(&disk, epoch, &ops);
    let places: Vec<_> = left
        .iter()
        .map(|one| (one.prev_seq.number(), one.seq.number()))
        .collect();
    assert_eq!(places, [(0, 301), (301, 598), (598, 599), (599, 600)]);
    assert_eq!(end(&disk, epoch, 1_000), 0, "that was all");

    let seq = Seq::new(11);
    let again = append(&mut log, &disk, &said[10], 1_001);
    assert_eq!(again, Appended::Known { seq });
    let elsewhere = Outgoing {
        room: room("#dev"),
        ..said[10].clone()
    };
    assert_eq!(
        append(&mut log, &disk, &elsewhere, 1_001),
        Appended::Conflict
    );
    let was_at = |seq| log::was_at(&disk.connection, epoch, &ops, seq, said[10].id).unwrap();
    assert!(was_at(seq) && !was_at(Seq::new(12)));

    // A replica that has some of it, and one that has none.
    for here in [0, 10, 400, 599] {
        let replica = Disk::new();
        let mut copy = RoomLog::new(epoch, 10);
        for message in &before[..here] {
            copy.ingest(&replica.connection, message).unwrap();
        }
        let head = before[..here].last().map_or(Seq::START, |last| last.seq);
        for message in left.iter().filter(|one| one.seq > head) {
            let taken = copy.ingest(&replica.connection, message).unwrap();
            assert_eq!(taken, Ingested::New, "{here}: {message:?}");
        }
    }
}

#[test]
fn the_newest_message_keeps_its_place_without_its_words() {
    let disk = Disk::new();
    let epoch = Epoch::new();
    let mut log = RoomLog::new(epoch, 10);
    let ops = room("#ops");
    for at in [1_000_000, 2_000_000] {
        append(&mut log, &disk, &says(&ops, "too old"), at);
    }
    keep(
        &disk,
        &ops,
        Keep {
            max_age_seconds: Some(10),
            ..Keep::default()
        },
    );
    assert_eq!(end(&disk, epoch, 11_500_000), 1);
    assert_eq!(end(&disk, epoch, 13_000_000), 1);
    assert_eq!(end(&disk, epoch, 14_000_000), 0);
    let left = all(&disk, epoch, &ops);
    assert_eq!(left.len(), 1);
    assert_eq!(
        (left[0].seq, left[0].prev_seq, left[0].body.is_erased()),
        (Seq::new(2), Seq::START, true)
    );
    append(&mut log, &disk, &says(&ops, "new"), 14_000_000);
    assert_eq!(end(&disk, epoch, 15_000_000), 1);
    assert_eq!(all(&disk, epoch, &ops).len(), 1);
    // The file opens: the room ends where it says.
    let dir = disk.dir;
    drop((disk.connection, disk.database));
    room_log::Database::open(dir.path(), crate::support::TEST).unwrap();
}

#[test]
fn what_is_erased_takes_its_edits_along_and_only_what_is_ones_own() {
    let disk = Disk::new();
    let epoch = Epoch::new();
    let mut log = RoomLog::new(epoch, 10);
    let ops = room("#ops");
    let first = says(&ops, "the password");
    append(&mut log, &disk, &first, 1);
    let edit = |author: &str| {
        let text = "still the password".to_owned();
        let of = first.id;
        Outgoing {
            author: author.parse().unwrap(),
            body: Content::Edit { of, text }.encode().unwrap(),
            ..says(&ops, "x")
        }
    };
    for author in ["alice@ada", "mallory@ada"] {
        let mut edit = edit(author);
        edit.id = MessageId::new();
        append(&mut log, &disk, &edit, 2);
    }
    let own = |author: &UserName| *author == alice();
    let erase = |id| erasing::erase(&disk.connection, &ops, id, own).unwrap();
    assert_eq!(erase(first.id).len(), 2);
    assert_eq!(erase(first.id).len(), 0, "once");
    let left = all(&disk, epoch, &ops);
    let erased: Vec<bool> = left.iter().map(|one| one.body.is_erased()).collect();
    assert_eq!(erased, [true, true, false]);
    let seq = left[0].seq;
    let again = append(&mut log, &disk, &first, 3);
    assert_eq!(again, Appended::Known { seq });
    assert_eq!(left[0].body, EncodedBody::erased());
}

#[test]
fn an_act_that_is_refused_leaves_no_trace() {
    let disk = Disk::new();
    let mut log = RoomLog::new(Epoch::new(), 10);
    let mut governor = Governor::default();
    let ops = room("#ops");
    append(&mut log, &disk, &says(&ops, "mine"), 1);
    charters::found(&disk.connection, &ops, &alice()).unwrap();
    // The first act would make alice the owner, but it is refused.
    let act = Act::Kick {
        user: "nobody@ada".parse().unwrap(),
    };
    let deed = Deed {
        room: &ops,
        actor: &alice(),
        id: MessageId::new(),
        act: &act,
    };
    let now = Timestamp::from_micros(2);
    let refused = governor.govern(&disk.connection, &mut log, deed, now);
    assert!(matches!(refused.unwrap(), Governed::Denied(_)));
    assert_eq!(charters::load(&disk.connection, &ops).unwrap(), None);
    assert_eq!(all(&disk, log.epoch(), &ops).len(), 1);
}

/// Erases whatever it is told, and says so.
struct Eraser(RoomLog, Arc<AtomicBool>);

impl Store for Eraser {
    type Command = Result<Outgoing, MessageId>;
    type Outcome = ();

    fn durability(&self, _: &Self::Command) -> Durability {
        Durability::Process
    }

    fn apply(
        &mut self,
        transaction: &Connection,
        command: &Self::Command,
    ) -> Result<(), StoreError> {
        match command {
            Ok(message) => {
                let now = Timestamp::from_micros(1);
                self.0.append(transaction, message, now).map(drop)
            }
            Err(id) => erasing::erase(transaction, &room("#ops"), *id, |_| true).map(drop),
        }
    }

    fn committed(&mut self, _: Vec<(Self::Command, ())>) {}

    fn rolled_back(&mut self, _: Vec<Self::Command>, _: &StoreError) {}

    fn take_traces(&mut self) -> bool {
        true
    }

    fn before_scrub(&mut self, _: &Connection) -> Result<(), StoreError> {
        self.1.store(true, Ordering::SeqCst);
        Ok(())
    }
}

/// SQLite leaves copies of rows behind where it moves them from when a page is full.
#[tokio::test]
async fn of_a_thousand_erased_messages_nothing_is_left_in_the_file() {
    let disk = Disk::new();
    let (ops, scrubbed) = (room("#ops"), Arc::new(AtomicBool::new(false)));
    let store = Eraser(RoomLog::new(Epoch::new(), 10), Arc::clone(&scrubbed));
    let Disk {
        dir,
        database,
        connection,
    } = disk;
    let writer = Writer::spawn(connection, store).unwrap();
    let mut ids = Vec::new();
    for number in 0..1_000_usize {
        let repeated = [1, 3, 30, 400][number % 4];
        let mut message = says(&ops, "x");
        message.body = body(&format!("marlin{number:04}").repeat(repeated));
        ids.push(message.id);
        writer.submit(Ok(message)).await.ok();
    }
    for id in ids {
        writer.submit(Err(id)).await.ok();
    }
    for _ in 0..3_000 {
        let files = ["test.db", "test.db-wal"].map(|name| fs::read(dir.path().join(name)).unwrap());
        let is_there = |bytes: &Vec<u8>| bytes.windows(6).any(|window| window == b"marlin");
        if scrubbed.load(Ordering::SeqCst) && !files.iter().any(is_there) {
            drop(database);
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("something is left");
}
