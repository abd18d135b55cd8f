//! A database in a temporary directory, and messages to put there.

use protocol::{Committed, Content, EncodedBody, Epoch, MessageId, Outgoing, Room, Seq, Timestamp};
use room_log::{Appended, Application, BASE_SCHEMA, Database, GOVERNANCE_SCHEMA, RoomLog};
use rusqlite::Connection;
use tempfile::TempDir;

pub(crate) const TEST: Application = Application {
    name: "test",
    id: 0x7465_7374,
    migrations: &[BASE_SCHEMA, GOVERNANCE_SCHEMA],
};

/// A database that goes away with its directory.
pub(crate) struct Disk {
    pub(crate) dir: TempDir,
    pub(crate) database: Database,
    pub(crate) connection: Connection,
}

impl Disk {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (database, connection) = Database::open(dir.path(), TEST).unwrap();
        Self {
            dir,
            database,
            connection,
        }
    }

    pub(crate) fn begin(&self) {
        self.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    }

    pub(crate) fn commit(&self) {
        self.connection.execute_batch("COMMIT").unwrap();
    }

    pub(crate) fn roll_back(&self) {
        self.connection.execute_batch("ROLLBACK").unwrap();
    }
}

pub(crate) fn room(name: &str) -> Room {
    name.parse().unwrap()
}

pub(crate) fn body(text: &str) -> EncodedBody {
    Content::Text(text.to_owned()).encode().unwrap()
}

/// A message of alice's that was never sent before.
pub(crate) fn says(room: &Room, text: &str) -> Outgoing {
    Outgoing {
        id: MessageId::new(),
        room: room.clone(),
        author: "alice@ada".parse().unwrap(),
        sent_at: Timestamp::from_micros(1),
        body: body(text),
    }
}

pub(crate) const NOW: Timestamp = Timestamp::from_micros(2);

/// Appends what must be new.
pub(crate) fn append(log: &mut RoomLog, connection: &Connection, message: &Outgoing) -> Committed {
    match log.append(connection, message, NOW).unwrap() {
        Appended::New(committed) => committed,
        other => panic!("{other:?} instead of a new message"),
    }
}

/// A log of one life with `count` messages in `room`.
pub(crate) fn filled(disk: &Disk, room: &Room, count: usize) -> (Epoch, Vec<Committed>) {
    let epoch = Epoch::new();
    let mut log = RoomLog::new(epoch, 100);
    disk.begin();
    let messages = (0..count)
        .map(|number| {
            // Seqs of one room are not contiguous when others are busy.
            append(&mut log, &disk.connection, &says(&elsewhere(), "noise"));
            append(&mut log, &disk.connection, &says(room, &number.to_string()))
        })
        .collect();
    disk.commit();
    (epoch, messages)
}

fn elsewhere() -> Room {
    room("#elsewhere")
}

/// A message at a place that somebody else gave it.
pub(crate) fn placed(room: &Room, prev_seq: u64, seq: u64) -> Committed {
    let Outgoing {
        id,
        room,
        author,
        sent_at,
        body,
    } = says(room, &seq.to_string());
    Committed {
        room,
        seq: Seq::new(seq),
        prev_seq: Seq::new(prev_seq),
        committed_at: NOW,
        id,
        author,
        sent_at,
        body,
    }
}
