//! What can wait is done in parts between the transactions of commands, and never at their cost.

use crate::support::Disk;
use room_log::{Chore, Database, Durability, Store, StoreError, Writer};
use rusqlite::Connection;
use std::{
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};

/// Bounds a hang; measures nothing.
const LIMIT: Duration = Duration::from_secs(60);

/// What the writer is asked to do.
enum Command {
    Nothing,
    /// Makes so many parts due.
    Due(Chore, u32),
    /// Keeps the transaction open until told, so that others queue up.
    Hold {
        holding: Sender<()>,
        release: Receiver<()>,
    },
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Committed(usize),
    Done,
    Failed,
}

struct Housekeeper {
    told: Sender<Told>,
    due: (Chore, u32),
    fails: Option<fn() -> StoreError>,
}

impl Store for Housekeeper {
    type Command = Command;
    type Outcome = ();

    fn durability(&self, _: &Command) -> Durability {
        Durability::Power
    }

    fn apply(&mut self, _: &Connection, command: &Command) -> Result<(), StoreError> {
        match command {
            Command::Nothing => {}
            Command::Due(chore, parts) => self.due = (*chore, *parts),
            Command::Hold { holding, release } => {
                holding.send(()).unwrap();
                release.recv().unwrap();
            }
        }
        Ok(())
    }

    fn committed(&mut self, done: Vec<(Command, ())>) {
        self.told.send(Told::Committed(done.len())).unwrap();
    }

    fn rolled_back(&mut self, _: Vec<Command>, error: &StoreError) {
        panic!("{error}");
    }

    fn chore(&self) -> Chore {
        match self.due {
            (_, 0) => Chore::None,
            (chore, _) => chore,
        }
    }

    fn do_chore(&mut self, transaction: &Connection) -> Result<(), StoreError> {
        assert!(!transaction.is_autocommit());
        let sql = "INSERT INTO meta VALUES (hex(randomblob(16)), x'00')";
        transaction.execute(sql, ())?;
        self.fails.map_or(Ok(()), |fails| Err(fails()))
    }

    fn chore_done(&mut self, result: Result<(), StoreError>) {
        self.due.1 -= 1;
        let told = match result {
            Ok(()) => Told::Done,
            Err(_) => Told::Failed,
        };
        self.told.send(told).unwrap();
    }
}

struct Running {
    _dir: tempfile::TempDir,
    database: Database,
    writer: Writer<Command>,
    told: Receiver<Told>,
}

impl Running {
    fn new(fails: Option<fn() -> StoreError>) -> Self {
        let Disk {
            dir,
            database,
            connection,
        } = Disk::new();
        let (told, receiver) = channel();
        let due = (Chore::None, 0);
        let store = Housekeeper { told, due, fails };
        Self {
            _dir: dir,
            database,
            writer: Writer::spawn(connection, store).unwrap(),
            told: receiver,
        }
    }

    fn submit(&self, command: Command) {
        assert!(self.writer.try_submit(command).is_ok());
    }

    /// Holds the writer in a transaction until the sender is used.
    fn hold(&self) -> Sender<()> {
        let (holding, held) = channel();
        let (go, release) = channel();
        self.submit(Command::Hold { holding, release });
        held.recv_timeout(LIMIT).unwrap();
        go
    }

    fn next(&self) -> Told {
        self.told.recv_timeout(LIMIT).unwrap()
    }

    fn stored(&self) -> u32 {
        let reader = self.database.reader().unwrap();
        let sql = "SELECT count(*) FROM meta";
        reader.query_row(sql, (), |row| row.get(0)).unwrap()
    }
}

#[test]
fn parts_follow_each_other_while_nobody_has_a_command() {
    let running = Running::new(None);
    for chore in [Chore::WhenIdle, Chore::Soon] {
        let before = running.stored();
        running.submit(Command::Due(chore, 3));
        assert_eq!(running.next(), Told::Committed(1));
        for _ in 0..3 {
            assert_eq!(running.next(), Told::Done);
        }
        assert_eq!(running.stored(), before + 3);
    }
}

#[test]
fn commands_that_wait_come_before_a_chore_that_is_not_wanted_soon() {
    let running = Running::new(None);
    for (chore, expected) in [
        (Chore::WhenIdle, [Told::Committed(1), Told::Done]),
        (Chore::Soon, [Told::Done, Told::Committed(1)]),
    ] {
        let first = running.hold();
        running.submit(Command::Due(chore, 1));
        let (holding, held) = channel();
        let (go, release) = channel();
        running.submit(Command::Hold { holding, release });
        first.send(()).unwrap();
        held.recv_timeout(LIMIT).unwrap();
        running.submit(Command::Nothing);
        go.send(()).unwrap();
        assert_eq!(running.next(), Told::Committed(1));
        assert_eq!(running.next(), Told::Committed(2));
        assert_eq!([running.next(), running.next()], expected);
    }
}

#[test]
fn a_failed_part_is_undone_and_nobody_elses_loss() {
    let running = Running::new(Some(|| StoreError::DiskFull));
    running.submit(Command::Due(Chore::Soon, 1));
    assert_eq!(running.next(), Told::Committed(1));
    assert_eq!(running.next(), Told::Failed);
    running.submit(Command::Nothing);
    assert_eq!(running.next(), Told::Committed(1));
    assert_eq!(running.stored(), 0);
}

#[tokio::test]
async fn an_ending_writer_leaves_the_rest_undone() {
    let running = Running::new(None);
    let go = running.hold();
    running.submit(Command::Due(Chore::Soon, u32::MAX));
    let finish = tokio::spawn(running.writer.finish());
    tokio::task::yield_now().await;
    go.send(()).unwrap();
    tokio::time::timeout(LIMIT, finish).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_part_that_could_not_be_made_durable_ends_the_writer() {
    let running = Running::new(Some(|| StoreError::SyncFailed("simulated".to_owned())));
    running.submit(Command::Due(Chore::WhenIdle, 1));
    let fatal = tokio::time::timeout(LIMIT, running.writer.fatal()).await;
    assert!(matches!(*fatal.unwrap(), StoreError::SyncFailed(_)));
}
