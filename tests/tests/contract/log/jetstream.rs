//! The log on NATS JetStream, and what only that one promises.

use super::Backing;
use crate::disk;
use chat_server::log::{Commits, JetStreamLog, JetStreamSettings, Log, NatsServers};
use std::sync::Arc;
use tempfile::TempDir;
use tests::{NatsServer, Sandbox};

/// A NATS server of its own, and one chat server's state directory.
pub(super) struct JetStream {
    // Ends before its sandbox.
    nats: NatsServer,
    _sandbox: Sandbox,
    dir: TempDir,
    open: Option<Arc<JetStreamLog>>,
    kills: usize,
}

impl Backing for JetStream {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        Self {
            nats: NatsServer::start(&sandbox),
            _sandbox: sandbox,
            dir: tempfile::tempdir().unwrap(),
            open: None,
            kills: 0,
        }
    }

    async fn open(&mut self) -> (Arc<dyn Log>, Commits) {
        let settings = settings(&self.nats);
        let opened = JetStreamLog::open(self.dir.path(), &settings).await;
        let (log, commits) = opened.unwrap();
        let log = Arc::new(log);
        self.open = Some(Arc::clone(&log));
        (log, commits)
    }

    /// Every second time the state directory is lost as well, which holds nothing but a cache.
    async fn kill(&mut self, _: Arc<dyn Log>) {
        let image = disk::killed(self.dir.path(), "jetstream");
        if let Some(open) = self.open.take() {
            open.abandon().await;
        }
        self.kills += 1;
        self.dir = if self.kills.is_multiple_of(2) {
            tempfile::tempdir().unwrap()
        } else {
            image
        };
    }
}

fn settings(nats: &NatsServer) -> JetStreamSettings {
    JetStreamSettings {
        synced: true,
        ..JetStreamSettings::new(NatsServers::new(&nats.url()).unwrap())
    }
}
