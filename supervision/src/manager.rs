//! The service manager: what it is told of this daemon, and when it wants to hear.

use crate::{is_for_this_process, notify::Notifier};
use rustix::time::{ClockId, clock_gettime};
use std::{env, time::Duration};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tracing::warn;

/// How often the status line is brought up to date where there is no watchdog.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// Whoever started this process and wants to know how it is; perhaps nobody.
#[derive(Debug)]
pub struct Manager {
    notifier: Option<Notifier>,
    /// How often it is told.
    every: Duration,
    ticks: Interval,
    watchdog: bool,
    /// The last status line.
    status: String,
}

impl Manager {
    /// The one that the environment names, if any. Called within a tokio runtime.
    #[must_use]
    pub fn from_environment() -> Self {
        let address = env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty());
        let notifier = address.and_then(|address| {
            Notifier::connect(&address)
                .inspect_err(|error| {
                    warn!(%error, ?address, "the service manager cannot be told anything");
                })
                .ok()
        });
        let text = |name| env::var(name).ok();
        let watchdog = watchdog(
            text("WATCHDOG_USEC").as_deref(),
            text("WATCHDOG_PID").as_deref(),
        );
        Self::new(notifier, watchdog)
    }

    /// Nobody, for a process that left the one behind that started it.
    #[must_use]
    pub fn none() -> Self {
        Self::new(None, None)
    }

    fn new(notifier: Option<Notifier>, watchdog: Option<Duration>) -> Self {
        // In half the time it has, as `sd_watchdog_enabled(3)` recommends.
        let every = watchdog.map_or(STATUS_INTERVAL, |limit| limit / 2);
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            notifier,
            every,
            ticks,
            watchdog: watchdog.is_some(),
            status: String::new(),
        }
    }

    /// The daemon does its work now.
    pub async fn ready(&mut self, status: &str) {
        status.clone_into(&mut self.status);
        self.tell(&["READY=1".to_owned(), status_line(status)])
            .await;
    }

    /// The daemon reads its settings again; [`ready`](Self::ready) follows.
    pub async fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        let lines = ["RELOADING=1".to_owned(), format!("MONOTONIC_USEC={micros}")];
        self.tell(&lines).await;
    }

    /// The daemon ends.
    pub async fn stopping(&self) {
        let lines = ["STOPPING=1".to_owned(), status_line("ending")];
        self.tell(&lines).await;
    }

    /// Waits until it is time to say how things are; for ever if nobody wants to hear.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn due(&mut self) {
        if self.notifier.is_none() {
            std::future::pending::<()>().await;
        }
        self.ticks.tick().await;
    }

    /// Says how things are: `status` is a line for people. A daemon whose writer has been at one
    /// transaction since `busy_since` is still well if that is not long; one that is not well
    /// keeps the watchdog waiting, which ends it in time and starts another.
    pub async fn report(&mut self, busy_since: Option<std::time::Instant>, status: &str) {
        let stuck = busy_since.is_some_and(|since| since.elapsed() > self.every);
        let mut lines = Vec::new();
        if self.watchdog && stuck {
            warn!(
                "a write takes longer than {:?}: the watchdog waits",
                self.every
            );
        } else if self.watchdog {
            lines.push("WATCHDOG=1".to_owned());
        }
        if self.status != status {
            status.clone_into(&mut self.status);
            lines.push(status_line(status));
        }
        if !lines.is_empty() {
            self.tell(&lines).await;
        }
    }

    async fn tell(&self, lines: &[String]) {
        if let Some(notifier) = &self.notifier {
            notifier.tell(lines).await;
        }
    }
}

/// One line, whatever a server called itself.
fn status_line(status: &str) -> String {
    format!("STATUS={}", status.replace(char::is_control, "?"))
}

/// How long this process may be silent, if it is this one that is watched.
fn watchdog(micros: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    let micros: u64 = micros?.parse().ok().filter(|micros| *micros > 0)?;
    let ours = is_for_this_process(pid).unwrap_or(true);
    ours.then(|| Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_watchdog_for_another_process_is_none_for_this_one() {
        let own = std::process::id().to_string();
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(Some("1000000"), None), second);
        assert_eq!(watchdog(Some("1000000"), Some(&own)), second);
        assert_eq!(watchdog(Some("1000000"), Some("1")), None);
        for nonsense in ["0", "", "-1", "soon"] {
            assert_eq!(watchdog(Some(nonsense), None), None);
        }
        assert_eq!(watchdog(None, Some(&own)), None);
    }

    #[tokio::test]
    async fn the_watchdog_hears_only_of_a_daemon_that_is_well() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::connect(path.as_os_str()).unwrap();
        let mut manager = Manager::new(Some(notifier), Some(Duration::from_secs(20)));
        let heard = || {
            let mut buffer = [0; 256];
            let len = socket.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..len].to_vec()).unwrap()
        };
        let ago = |seconds| std::time::Instant::now().checked_sub(Duration::from_secs(seconds));
        manager.ready("one").await;
        assert_eq!(heard(), "READY=1\nSTATUS=one");
        manager.report(None, "one").await;
        assert_eq!(heard(), "WATCHDOG=1");
        manager.report(ago(1), "two\nREADY=1").await;
        assert_eq!(heard(), "WATCHDOG=1\nSTATUS=two?READY=1");
        let long = ago(11);
        assert!(long.is_some(), "this machine has run for that long");
        manager.report(long, "stuck").await;
        assert_eq!(heard(), "STATUS=stuck");
        manager.reloading().await;
        assert!(heard().starts_with("RELOADING=1\nMONOTONIC_USEC="));
        manager.stopping().await;
        assert_eq!(heard(), "STOPPING=1\nSTATUS=ending");
    }
}
