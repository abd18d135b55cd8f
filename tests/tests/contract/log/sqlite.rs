//! The log in one SQLite file.

use super::Backing;
use crate::disk;
use chat_server::log::{Commits, Log, SqliteLog};
use std::sync::Arc;
use tempfile::TempDir;

pub(super) struct SqliteFile {
    dir: TempDir,
    /// Of killed processes: whoever still reads what they wrote does so to the end.
    abandoned: Vec<TempDir>,
}

impl Backing for SqliteFile {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            abandoned: Vec::new(),
        }
    }

    async fn open(&mut self) -> (Arc<dyn Log>, Commits) {
        let (log, commits) = SqliteLog::open(self.dir.path()).unwrap();
        (Arc::new(log), commits)
    }

    async fn kill(&mut self, log: Arc<dyn Log>) {
        let image = disk::killed(self.dir.path(), "server");
        self.abandoned.push(std::mem::replace(&mut self.dir, image));
        log.close().await;
    }
}
