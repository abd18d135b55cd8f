//! Giving this server's agents to the others of its log: none is taken, and those that are here are
//! sent away, a group at a time, so that the others are not met by all of them at once.
//!
//! It is nothing that lasts: a server that was started again takes agents.

use crate::router::Router;
use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::info;

/// How fast agents are sent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How many at once.
    pub group: u32,
    /// The time from one group to the next.
    pub every: Duration,
}

/// Whether this server gives its agents away, and how far it has come.
#[derive(Debug)]
pub struct Drain {
    /// None while agents are taken.
    pace: watch::Sender<Option<Pace>>,
    sent: AtomicU32,
}

impl Drain {
    /// Agents are taken.
    pub(crate) const fn new(pace: watch::Sender<Option<Pace>>) -> Self {
        Self {
            pace,
            sent: AtomicU32::new(0),
        }
    }

    /// Takes no agents from now on, and sends those away that are here; or does so at another pace.
    pub fn begin(&self, pace: Pace) {
        self.pace.send_if_modified(|current| {
            if current.is_none() {
                info!(?pace, "agents are sent elsewhere, and none is taken");
                self.sent.store(0, Ordering::Relaxed);
            }
            current.replace(pace) != Some(pace)
        });
    }

    /// Takes agents again.
    pub fn end(&self) {
        self.pace.send_if_modified(|current| {
            let was_on = current.take().is_some();
            if was_on {
                info!("agents are taken again");
            }
            was_on
        });
    }

    /// Whether no agents are taken.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.pace.borrow().is_some()
    }

    /// Agents that were sent away since it began.
    #[must_use]
    pub fn sent(&self) -> u32 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Sends agents away whenever that is wanted. Never returns.
    pub(crate) async fn run(&self, router: &Router) {
        let mut wanted = self.pace.subscribe();
        // Also when the pace changes, the group before was a moment ago.
        let mut last: Option<Instant> = None;
        loop {
            let pace = *wanted.borrow_and_update();
            let due = match (pace, last) {
                (None, _) => None,
                (Some(_), None) => Some(Instant::now()),
                (Some(pace), Some(last)) => Some(last + pace.every),
            };
            let is_due = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Its other end is this one's own.
                _ = wanted.changed() => {}
                () = is_due => {
                    let group = pace.map_or(0, |pace| pace.group);
                    let sent = router.send_away(group);
                    self.sent.fetch_add(sent, Ordering::Relaxed);
                    last = Some(Instant::now());
                }
            }
        }
    }
}
