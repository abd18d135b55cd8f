//! What one agent was told of the log.

use crate::{reply::event_frame, service::Service};
use protocol::{Features, LogStatus, federation::Event};
use room_log::Outbound;
use tokio::sync::watch;

/// What it was told, and what there is to tell. Nothing to an agent of a build that does not
/// understand it.
#[derive(Debug)]
pub(super) struct LogNews {
    status: Option<watch::Receiver<LogStatus>>,
    untold: bool,
}

impl LogNews {
    /// For an agent with these `features`, which was told nothing yet.
    pub(super) fn new(service: &Service, features: Features) -> Self {
        let understands = features.has(Features::LOG_STATUS);
        Self {
            status: understands.then(|| service.log_status()),
            untold: understands,
        }
    }

    /// Waits until there is something that it was not told.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn changed(&mut self) {
        if let Some(status) = &mut self.status
            && status.changed().await.is_ok()
        {
            self.untold = true;
            return;
        }
        std::future::pending().await
    }

    /// Tells it how the log is now, unless it was told or is behind: it is told later then.
    pub(super) fn tell(&mut self, outbound: &Outbound) {
        let Some(status) = self.status.as_mut().filter(|_| self.untold) else {
            return;
        };
        let status = status.borrow_and_update().clone();
        self.untold = !outbound.push_live(event_frame(Event::Log { status }));
    }
}
