//! Starting this host's agent when a conversation finds none.

use crate::paths::Settings;
use chat_agent::background::this_program;
use std::{io, path::PathBuf, process::Stdio};
use thiserror::Error;
use tokio::{io::AsyncReadExt, process::Command};

/// Bytes of the starter's complaints that are repeated.
const MAX_SAID_BYTES: u64 = 4096;

/// Why no agent could be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// This program could not be run again.
    #[error("{} could not be run as an agent: {reason}", program.display())]
    Spawn {
        /// Its file.
        program: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The starter says why.
    #[error("no agent could be started: {0}")]
    Failed(String),
}

/// Starts an agent in the background and returns when it accepts sessions.
///
/// Two terminals may do this at once: `chat agent --background` lets one of them win, and tells
/// both that an agent is there.
///
/// # Errors
///
/// [`StartError`] with what the starter said.
///
/// # Cancel safety
///
/// Safe to drop: the starter goes on by itself and ends soon.
pub async fn start_agent(settings: &Settings) -> Result<(), StartError> {
    let program = this_program();
    let spawn_error = |reason| StartError::Spawn {
        program: program.clone(),
        reason,
    };
    let mut starter = Command::new(&program)
        .arg0(std::env::args_os().next().unwrap_or_else(|| "chat".into()))
        .args(["agent", "--background", "--socket"])
        .arg(&settings.socket)
        .arg("--state-dir")
        .arg(&settings.state_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(spawn_error)?;
    let status = starter.wait().await.map_err(spawn_error)?;
    if status.success() {
        return Ok(());
    }
    // Only now: nobody else holds the other end when no agent was started.
    let mut said = Vec::new();
    if let Some(stderr) = starter.stderr.take() {
        let read = stderr.take(MAX_SAID_BYTES).read_to_end(&mut said).await;
        read.map_err(spawn_error)?;
    }
    let said = String::from_utf8_lossy(&said);
    let said: Vec<&str> = said.lines().map(str::trim).collect();
    let said = said.join("; ");
    Err(StartError::Failed(if said.is_empty() {
        format!("`chat agent --background` ended with {status}")
    } else {
        said
    }))
}
