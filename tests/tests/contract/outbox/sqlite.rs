//! The outbox in the agent's SQLite file.

use super::Shelf;
use crate::disk;
use chat_agent::store::{
    outbox::{self, Position, Usage},
    schema::APPLICATION,
};
use protocol::{MessageId, Outgoing};
use room_log::Database;
use rusqlite::Connection;
use tempfile::TempDir;

pub(super) struct SqliteShelf {
    dir: TempDir,
    connection: Connection,
}

impl SqliteShelf {
    fn open(dir: TempDir) -> Self {
        let (_, connection) = Database::open(dir.path(), APPLICATION).unwrap();
        let shelf = Self { dir, connection };
        shelf.sql("BEGIN IMMEDIATE");
        shelf
    }

    fn sql(&self, sql: &str) {
        self.connection.execute_batch(sql).unwrap();
    }
}

impl Shelf for SqliteShelf {
    type Position = Position;

    fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap())
    }

    fn push(&mut self, message: &Outgoing) {
        outbox::push(&self.connection, message).unwrap();
    }

    fn remove(&mut self, id: MessageId) -> Option<u64> {
        outbox::remove(&self.connection, id).unwrap()
    }

    fn find(&self, id: MessageId) -> Option<Outgoing> {
        outbox::find(&self.connection, id).unwrap()
    }

    fn page(&self, after: Option<Position>, limit: usize) -> Vec<(Position, Outgoing)> {
        // SQLite counts no further.
        let limit = limit.min(i64::MAX as usize);
        let page = outbox::page(&self.connection, after.unwrap_or(Position::START), limit);
        let entries = page.unwrap().into_iter();
        entries.map(|one| (one.position, one.message)).collect()
    }

    fn usage(&self) -> Usage {
        outbox::usage(&self.connection).unwrap()
    }

    fn commit(&mut self) {
        self.sql("COMMIT");
        self.sql("BEGIN IMMEDIATE");
    }

    fn roll_back(&mut self) {
        self.sql("ROLLBACK");
        self.sql("BEGIN IMMEDIATE");
    }

    fn reopen(&mut self) {
        self.sql("ROLLBACK");
        let aside = Connection::open_in_memory().unwrap();
        drop(std::mem::replace(&mut self.connection, aside));
        let (_, connection) = Database::open(self.dir.path(), APPLICATION).unwrap();
        self.connection = connection;
        self.sql("BEGIN IMMEDIATE");
    }

    fn kill(&mut self) {
        let image = disk::killed(self.dir.path(), APPLICATION.name);
        *self = Self::open(image);
    }
}
