//! The log in one SQLite file.

use super::Backing;
use crate::disk;
use chat_server::log::{Commits, Log, SqliteLog};
use std::sync::Arc;
use tempfile::TempDir;

pub(super) struct SqliteFile {
    dir: TempDir,
}

impl Backing for SqliteFile {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    async fn open(&mut self) -> (Arc<dyn Log>, Commits) {
        let (log, commits) = SqliteLog::open(self.dir.path()).unwrap();
        (Arc::new(log), commits)
    }

    async fn kill(&mut self, log: Arc<dyn Log>) {
        let image = disk::killed(self.dir.path(), "server");
        let abandoned = std::mem::replace(&mut self.dir, image);
        // The old directory is used to the end by the thread that writes there.
        log.close().await;
        drop(abandoned);
    }
}
