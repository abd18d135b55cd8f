//! The only file that runs the other two programs, so that one file is an installation.
//!
//! Each daemon brings its own flags, runtime, log and signals.

use chat_agent::AgentArgs;
use chat_server::ServerArgs;
use std::process::ExitCode;

/// `chat agent`: runs this host's agent until it is told to stop.
#[must_use]
pub fn agent(args: &AgentArgs) -> ExitCode {
    chat_agent::run(args)
}

/// `chat server`: runs a server until it is told to stop.
#[must_use]
pub fn server(args: &ServerArgs) -> ExitCode {
    chat_server::run(args)
}
