//! The only file that runs the other two programs, so that one file is an installation.
//!
//! Each daemon brings its own flags, runtime, log and signals.

use chat_agent::AgentArgs;
use chat_server::ServerArgs;
use rustix::process::{Signal, set_parent_process_death_signal};
use std::process::ExitCode;

/// If this is set, a daemon ends with the process that started it, also if that is killed.
pub(crate) const ENDS_WITH_PARENT: &str = "CHAT_ENDS_WITH_PARENT";

fn heed_parent() {
    if std::env::var_os(ENDS_WITH_PARENT).is_some() {
        // Where the kernel cannot do this, the parent's own end of the daemon has to be enough.
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
    }
}

/// `chat agent`: runs this host's agent until it is told to stop.
#[must_use]
pub fn agent(args: &AgentArgs) -> ExitCode {
    heed_parent();
    chat_agent::run(args)
}

/// `chat server`: runs a server until it is told to stop.
#[must_use]
pub fn server(args: &ServerArgs) -> ExitCode {
    heed_parent();
    chat_server::run(args)
}
