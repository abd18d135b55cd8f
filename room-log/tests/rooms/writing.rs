//! One thread writes, many commands a transaction, and nobody is told before it is durable.

use crate::support::Disk;
use room_log::{Durability, Store, StoreError, SubmitError, Writer};
use rusqlite::Connection;
use std::{
    fs,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::Duration,
};

/// Bounds a hang; measures nothing.
const LIMIT: Duration = Duration::from_secs(60);

/// What the writer is asked to do.
#[derive(Debug)]
enum Command {
    Put(u32),
    /// As `Put`, for what can be had again.
    Copy(u32),
    /// Reports PRAGMA synchronous as it is during the transaction.
    Look(Durability),
    /// Keeps the transaction open until told, so that others queue up.
    Hold {
        holding: Sender<()>,
        release: Receiver<()>,
    },
    FillTheDisk,
    FailToSync,
    Panic,
}

/// What came of a transaction.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Committed(Vec<u32>),
    RolledBack(usize),
}

struct Recorder(Sender<Told>);

impl Store for Recorder {
    type Command = Command;
    type Outcome = u32;

    fn durability(&self, command: &Command) -> Durability {
        match command {
            Command::Look(durability) => *durability,
            Command::Copy(_) => Durability::Process,
            _ => Durability::Power,
        }
    }

    fn apply(&mut self, transaction: &Connection, command: &Command) -> Result<u32, StoreError> {
        match command {
            Command::Put(number) | Command::Copy(number) => {
                let sql = "INSERT INTO meta (key, value) VALUES (?1, x'00')";
                transaction.execute(sql, [number.to_string()])?;
                Ok(*number)
            }
            Command::Look(_) => {
                let level =
                    transaction.pragma_query_value(None, "synchronous", |row| row.get(0))?;
                Ok(level)
            }
            Command::Hold { holding, release } => {
                holding.send(()).unwrap();
                release.recv().unwrap();
                Ok(0)
            }
            Command::FillTheDisk => Err(StoreError::DiskFull),
            Command::FailToSync => Err(StoreError::SyncFailed("simulated".to_owned())),
            Command::Panic => panic!("simulated"),
        }
    }

    fn committed(&mut self, done: Vec<(Command, u32)>) {
        let outcomes = done.into_iter().map(|(_, outcome)| outcome).collect();
        self.0.send(Told::Committed(outcomes)).unwrap();
    }

    fn rolled_back(&mut self, commands: Vec<Command>, error: &StoreError) {
        assert!(!error.is_fatal());
        self.0.send(Told::RolledBack(commands.len())).unwrap();
    }
}

struct Running {
    dir: tempfile::TempDir,
    database: room_log::Database,
    writer: Writer<Command>,
    told: Receiver<Told>,
}

impl Running {
    fn new() -> Self {
        let Disk {
            dir,
            database,
            connection,
        } = Disk::new();
        let (sender, told) = channel();
        let writer = Writer::spawn(connection, Recorder(sender)).unwrap();
        Self {
            dir,
            database,
            writer,
            told,
        }
    }

    fn submit(&self, command: Command) {
        self.writer.try_submit(command).unwrap();
    }

    async fn fatal(&self) -> Arc<StoreError> {
        let fatal = tokio::time::timeout(LIMIT, self.writer.fatal());
        fatal.await.expect("the writer ends")
    }

    /// Holds the writer in a transaction; dropping what this returns lets it go on.
    fn hold(&self) -> Held {
        let (holding, held) = channel();
        let (go, release) = channel();
        self.submit(Command::Hold { holding, release });
        held.recv().unwrap();
        Held(go)
    }

    fn stored(&self) -> u32 {
        let reader = self.database.reader().unwrap();
        let sql = "SELECT count(*) FROM meta";
        reader.query_row(sql, (), |row| row.get(0)).unwrap()
    }
}

fn next(told: &Receiver<Told>) -> Told {
    told.recv_timeout(LIMIT).unwrap()
}

/// Waits for the end of the thread.
fn assert_nobody_else_told(told: &Receiver<Told>) {
    let ended = Err(RecvTimeoutError::Disconnected);
    assert_eq!(told.recv_timeout(LIMIT), ended);
}

struct Held(Sender<()>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.send(()).unwrap();
    }
}

#[test]
fn whatever_has_queued_up_becomes_one_transaction() {
    let running = Running::new();
    let held = running.hold();
    for number in 0..500 {
        running.submit(Command::Put(number));
    }
    assert_eq!(running.stored(), 0);
    drop(held);
    assert_eq!(next(&running.told), Told::Committed(vec![0]));
    let all = (0..500).collect();
    assert_eq!(next(&running.told), Told::Committed(all));
    assert_eq!(running.stored(), 500);
}

#[test]
fn a_transaction_that_takes_its_time_is_seen_from_outside() {
    let running = Running::new();
    assert_eq!(running.writer.busy_since(), None);
    let held = running.hold();
    assert!(running.writer.busy_since().is_some());
    drop(held);
    while running.writer.busy_since().is_some() {
        std::thread::yield_now();
    }
}

#[test]
fn a_rollback_answers_all_and_the_next_transaction_is_clean() {
    let running = Running::new();
    let held = running.hold();
    running.submit(Command::Put(1));
    running.submit(Command::FillTheDisk);
    running.submit(Command::Put(2));
    drop(held);
    assert_eq!(next(&running.told), Told::Committed(vec![0]));
    assert_eq!(next(&running.told), Told::RolledBack(3));
    assert_eq!(running.stored(), 0);
    running.submit(Command::Put(1));
    assert_eq!(next(&running.told), Told::Committed(vec![1]));
    // What SQLite itself refuses is rolled back just so.
    running.submit(Command::Put(1));
    assert_eq!(next(&running.told), Told::RolledBack(1));
    running.submit(Command::Put(2));
    assert_eq!(next(&running.told), Told::Committed(vec![2]));
    assert_eq!(running.stored(), 2);
}

#[test]
fn a_transaction_is_as_durable_as_its_most_demanding_command() {
    const NORMAL: u32 = 1;
    const FULL: u32 = 2;
    let running = Running::new();
    let look = |commands: &[Durability]| {
        let held = running.hold();
        for durability in commands {
            running.submit(Command::Look(*durability));
        }
        drop(held);
        assert_eq!(next(&running.told), Told::Committed(vec![0]));
        match next(&running.told) {
            Told::Committed(levels) => levels,
            other => panic!("{other:?}"),
        }
    };
    for _ in 0..2 {
        assert_eq!(look(&[Durability::Power]), [FULL]);
        assert_eq!(look(&[Durability::Process]), [NORMAL]);
        assert_eq!(look(&[Durability::Process; 2]), [NORMAL; 2]);
        assert_eq!(
            look(&[Durability::Process, Durability::Power, Durability::Process]),
            [FULL; 3]
        );
    }
}

/// Somebody is told that a message is known, which only an unsynchronised commit has.
#[test]
fn an_answer_that_rests_on_an_earlier_commit_waits_for_its_fsync() {
    let running = Running::new();
    let wal = running.dir.path().join("test.db-wal");
    let aside = running.dir.path().join("aside");
    let after = |command| {
        running.submit(command);
        next(&running.told)
    };
    let look = |durability| match after(Command::Look(durability)) {
        Told::Committed(_) => true,
        Told::RolledBack(_) => false,
    };
    for number in 0..3 {
        assert_eq!(after(Command::Copy(number)), Told::Committed(vec![number]));
        // Where it cannot be synchronised.
        fs::rename(&wal, &aside).unwrap();
        assert!(look(Durability::Process));
        assert!(!look(Durability::Power));
        fs::rename(&aside, &wal).unwrap();
        assert!(look(Durability::Power));
        fs::rename(&wal, &aside).unwrap();
        assert!(look(Durability::Power), "all is durable");
        fs::rename(&aside, &wal).unwrap();
    }
}

#[test]
fn a_full_queue_gives_the_command_back() {
    let running = Running::new();
    let held = running.hold();
    let mut queued = 0;
    let refused = loop {
        match running.writer.try_submit(Command::Put(queued)) {
            Ok(()) => queued += 1,
            Err(error) => break error,
        }
        assert!(queued < 100_000, "the queue has no end");
    };
    assert!(matches!(refused, SubmitError::Full(Command::Put(number)) if number == queued));
    drop(held);
    assert_eq!(next(&running.told), Told::Committed(vec![0]));
    let all = (0..queued).collect();
    assert_eq!(next(&running.told), Told::Committed(all));
}

#[tokio::test]
async fn whoever_waits_for_room_gets_it_or_has_queued_nothing() {
    let running = Running::new();
    let held = running.hold();
    let mut number = 0;
    while running.writer.try_submit(Command::Put(number)).is_ok() {
        number += 1;
    }
    let given_up = tokio::time::timeout(
        Duration::ZERO,
        running.writer.submit(Command::Put(u32::MAX)),
    );
    assert!(given_up.await.is_err());
    drop(held);
    let slot = running.writer.reserve().await.unwrap();
    slot.submit(Command::Put(number));
    running
        .writer
        .submit(Command::Put(number + 1))
        .await
        .unwrap();
    running.writer.finish().await;
    let told = running.told.iter().map(|told| match told {
        Told::Committed(numbers) => numbers,
        other => panic!("{other:?}"),
    });
    let expected: Vec<u32> = std::iter::once(0).chain(0..number + 2).collect();
    assert_eq!(told.flatten().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn finishing_writes_what_was_queued_and_leaves_one_whole_file() {
    let running = Running::new();
    // Somebody may still have the file open for reading, though not be reading.
    let reader = running.database.reader().unwrap();
    let sql = "SELECT count(*) FROM meta";
    reader.query_row(sql, (), |_| Ok(())).unwrap();
    let other = running.writer.clone();
    let held = running.hold();
    for number in 0..100 {
        running.submit(Command::Put(number));
    }
    let fatal = running.writer.fatal();
    let finished = tokio::spawn(running.writer.finish());
    other.try_submit(Command::Put(100)).unwrap();
    drop(other);
    drop(held);
    finished.await.unwrap();
    assert!(matches!(*fatal.await, StoreError::Closed));
    assert_eq!(next(&running.told), Told::Committed(vec![0]));
    assert_eq!(next(&running.told), Told::Committed((0..=100).collect()));
    assert_nobody_else_told(&running.told);
    // The file alone is enough, also before its last reader is gone.
    let wal = fs::metadata(running.dir.path().join("test.db-wal"));
    assert!(wal.map_or(0, |wal| wal.len()) == 0);
    let copy = tempfile::tempdir().unwrap();
    fs::copy(running.database.path(), copy.path().join("test.db")).unwrap();
    let copied = Connection::open(copy.path().join("test.db")).unwrap();
    let stored: u32 = copied.query_row(sql, (), |row| row.get(0)).unwrap();
    assert_eq!(stored, 101);
    drop(reader);
}

#[tokio::test]
async fn a_failed_sync_ends_the_writer_without_an_answer_to_anybody() {
    let running = Running::new();
    let held = running.hold();
    running.submit(Command::Put(1));
    running.submit(Command::FailToSync);
    drop(held);
    assert!(matches!(*running.fatal().await, StoreError::SyncFailed(_)));
    assert!(running.writer.reserve().await.is_err());
    let refused = running.writer.try_submit(Command::Put(2)).unwrap_err();
    assert!(matches!(refused, SubmitError::Closed(Command::Put(2))));
    assert_eq!(next(&running.told), Told::Committed(vec![0]));
    assert_nobody_else_told(&running.told);
    assert_eq!(running.stored(), 0);
    // Whoever asks later hears the same, and finishing does not hang.
    assert!(matches!(*running.fatal().await, StoreError::SyncFailed(_)));
    running.writer.finish().await;
}

#[tokio::test]
async fn a_panic_of_the_writer_is_noticed() {
    let running = Running::new();
    running.submit(Command::Panic);
    assert!(matches!(*running.fatal().await, StoreError::Closed));
    running.writer.finish().await;
    assert_nobody_else_told(&running.told);
}
