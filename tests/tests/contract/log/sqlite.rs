//! The log in one SQLite file, and what only that one promises.

use super::{
    Backing,
    running::{Running, is_conflict, room, says, within_limit},
};
use crate::disk;
use chat_server::log::{Commits, Log, SqliteLog};
use protocol::Outgoing;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_is_in_one_room_is_refused_in_all_others() {
    within_limit(async {
        let running = Running::<SqliteFile>::new().await;
        let (ops, dev) = (room("#ops"), room("#dev"));
        let message = says("alice@ada", &ops, "deploy");
        let elsewhere = Outgoing {
            room: dev.clone(),
            ..message.clone()
        };
        // At once with the first, and when that is long written.
        let answers = running
            .append_all(&[message.clone(), elsewhere.clone()])
            .await;
        assert!(answers[0].is_ok());
        assert!(is_conflict(&answers[1], message.id));
        let again = running.append_all(&[elsewhere]).await;
        assert!(is_conflict(&again[0], message.id));
        assert_eq!(running.read(&ops).await.len(), 1);
        assert_eq!(running.read(&dev).await, []);
    })
    .await;
}
