//! Running under a service manager: sockets it hands over, and what it wants to be told.
//!
//! The two protocols are systemd's, which others speak too: `sd_listen_fds(3)` is [`passed`],
//! `sd_notify(3)` with its watchdog is [`Manager`]. Without a service manager nothing is passed
//! and nobody is told, and a daemon runs just as well. Also what a daemon needs with or without
//! one: [`Lock`], so that it is alone with its files, and [`Signals`], what it is asked to do.

#![cfg_attr(not(test), deny(clippy::unwrap_used))]

pub mod lock;
mod manager;
mod notify;
pub mod passed;
mod signals;

pub use lock::{Holder, Lock, LockError};
pub use manager::Manager;
pub use passed::PassedError;
pub use signals::{Signal, Signals};

/// What a service manager puts into the environment of the process it starts, for that process
/// alone: whoever starts another one takes these away.
pub const VARIABLES: [&str; 6] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// Whether a variable that names a process names this one; none is named if it is absent.
fn is_for_this_process(pid: Option<&str>) -> Option<bool> {
    pid.map(|pid| pid.parse() == Ok(std::process::id()))
}
