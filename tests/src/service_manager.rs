//! A stand-in for systemd: passes a socket, listens to notifications, keeps a watchdog's clock.

use crate::{
    process::{Place, Process},
    wait::limit,
};
use std::{
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// Moves what came as standard input to descriptor 3, as systemd passes the first socket, says
/// whom it is for, and becomes the daemon: same process id, nothing in between.
const PASS_INPUT_AS_SOCKET: &str = "exec 3<&0 0</dev/null; \
    export LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=chat; exec \"$@\"";

/// The same without a socket: only says who is watched.
const NAME_PROCESS: &str = "export WATCHDOG_PID=$$; exec \"$@\"";

/// Receives what one daemon notifies.
#[derive(Debug)]
pub struct ServiceManager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl ServiceManager {
    /// One with its notification socket in `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).expect("a notification socket");
        let timeout = Some(limit());
        socket.set_read_timeout(timeout).expect("a timeout");
        Self { socket, path }
    }

    /// `place` for a daemon that notifies this one.
    #[must_use]
    pub fn place(&self, place: &Place) -> Place {
        place.with_env("NOTIFY_SOCKET", &self.path)
    }

    /// The same, with a watchdog that wants to hear within `limit`.
    #[must_use]
    pub fn watching(&self, place: &Place, limit: Duration) -> Place {
        self.place(place)
            .with_env("WATCHDOG_USEC", limit.as_micros().to_string())
            .through(["sh", "-c", NAME_PROCESS, "sh"])
    }

    /// The next notification.
    ///
    /// # Panics
    ///
    /// If none comes within the [`limit`].
    pub fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let len = self.socket.recv(&mut buffer).expect("a notification");
        String::from_utf8(buffer[..len].to_vec()).expect("text")
    }

    /// The next notification with this line, after others without.
    pub fn wait_for(&self, line: &str) -> String {
        loop {
            let next = self.next();
            if next.lines().any(|one| one == line) {
                return next;
            }
        }
    }

    /// Takes all that is there without waiting.
    ///
    /// # Panics
    ///
    /// If there is no socket any more.
    pub fn drain(&self) -> Vec<String> {
        self.socket.set_nonblocking(true).expect("a socket");
        let mut buffer = [0; 4096];
        let mut found = Vec::new();
        while let Ok(len) = self.socket.recv(&mut buffer) {
            found.push(String::from_utf8_lossy(&buffer[..len]).into_owned());
        }
        self.socket.set_nonblocking(false).expect("a socket");
        found
    }
}

/// `place` for daemons that take over the socket they get as standard input.
#[must_use]
pub fn passing(place: &Place) -> Place {
    place.through(["sh", "-c", PASS_INPUT_AS_SOCKET, "sh"])
}

/// Starts a daemon, its `command` made in [`passing`], with this socket.
pub fn activate(
    name: &str,
    command: &mut Command,
    logs: &Path,
    socket: impl Into<OwnedFd>,
) -> Process {
    Process::start_with(name, command, logs, Stdio::from(socket.into()))
}
