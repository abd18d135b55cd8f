//! Moving a log: out of one place into a file (`chat server export`), and out of the file into another
//! place where there is none (`chat server import`).
//!
//! The file is lines of JSON (`line.rs`) with what a log on SQLite and one on JetStream have in common:
//! rooms, who is in them, their charters, every message with its id and times, the ids of messages that
//! were kept for long enough, and the register. After each room stands how many messages it has and a
//! digest over them in their order. Whoever imports reads everything back and compares; until then the new
//! place is marked, and no server uses it.
//!
//! A log that was moved begins another epoch, so agents read their rooms anew and lose nothing of what
//! waits in their outboxes: ids stay known.

mod check;
mod exporting;
mod importing;
mod line;
mod lines;
mod source;
mod tally;
mod target;

use crate::{
    args::{ServerArgs, StoreArgs},
    config::{Config, ConfigError},
    daemon::lock_state,
    log::{OpenLogError, RestoreError},
    register::OpenRegisterError,
};
pub use exporting::export;
pub use importing::import;
use room_log::{PrivacyError, StoreError};
use std::{env, io, path::PathBuf};
use supervision::{Lock, LockError};
use thiserror::Error;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub step: Step,
    /// Messages that it was done with.
    pub messages: u64,
    /// How many there are, as far as is known; an estimate.
    pub of: u64,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The log is written into the file.
    Export,
    /// The file is written into the log.
    Import,
    /// The log is read back.
    Check,
}

/// What was moved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moved {
    /// From where or to where.
    pub log: String,
    /// Rooms, direct conversations among them.
    pub rooms: u64,
    /// Messages.
    pub messages: u64,
    /// Hosts that are let in, and keys that were.
    pub hosts: u64,
    /// Invitations, those that let in nobody any more among them.
    pub invitations: u64,
    /// What whoever moves it should know.
    pub notes: Vec<String>,
}

/// Why a log is not moved. The message says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MoveError {
    /// The settings mean nothing.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A server runs with this state directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Others could read the state directory.
    #[error(transparent)]
    Privacy(#[from] PrivacyError),
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] OpenLogError),
    /// The log cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log cannot be written.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The register cannot be read or written.
    #[error(transparent)]
    Register(#[from] OpenRegisterError),
    /// There is nothing to export.
    #[error("there is no log at {path}: name the server's --state-dir, or its --log", path = path.display())]
    NoLog {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file cannot be written.
    #[error("cannot write the file: {0}")]
    Write(#[source] io::Error),
    /// The file cannot be read.
    #[error("cannot read the file: {0}")]
    Read(#[source] io::Error),
    /// A line of the file is not what it should be.
    #[error("line {line} of the file: {problem}; nothing serves what was imported so far")]
    BadLine {
        /// Which, from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// The file has no end.
    #[error(
        "the file ends after line {line} without saying so: it is not whole; export it again \
         (nothing serves what was imported so far)"
    )]
    Cut {
        /// Its last line.
        line: u64,
    },
    /// What was read back is not what was written.
    #[error(
        "{what} was read back as {found}, not as {expected}: nothing serves what was imported; import \
         it again, and report this if it happens twice"
    )]
    Differs {
        /// What.
        what: String,
        /// As what it should have been read.
        expected: String,
        /// As what it was read.
        found: String,
    },
    /// Somebody wrote while the log was read.
    #[error(
        "a server has written into {log} meanwhile, and the file may not have all of it: end every server \
         that uses it, and export it again"
    )]
    Written {
        /// Which log.
        log: String,
    },
    /// The log that was exported is still here, and has gone on since.
    #[error(
        "{path} has gone on since the file was written, and what was said since would be lost: end its server, \
         and export it again",
        path = path.display()
    )]
    GoneOn {
        /// The log here.
        path: PathBuf,
    },
    /// There is a log here that is not the one in the file.
    #[error(
        "{path} is another log than the file holds: name another --state-dir, or move it and {marker} away",
        path = path.display(), marker = path.with_extension("exists").display()
    )]
    OtherLog {
        /// The log here.
        path: PathBuf,
    },
    /// The register here is not the one in the file.
    #[error(
        "{path} lets in hosts that the file says nothing of ({host}): export from this state \
         directory, or name another --state-dir",
        path = path.display()
    )]
    OtherHosts {
        /// The register here.
        path: PathBuf,
        /// One of them.
        host: String,
    },
    /// There is a register where one is to be restored.
    #[error(
        "{path} says already who is let in: name another --state-dir, or move it and {marker} away if nobody \
         needs them",
        path = path.display(), marker = path.with_extension("exists").display()
    )]
    HasRegister {
        /// The register here.
        path: PathBuf,
    },
    /// What was moved cannot be put aside.
    #[error("cannot rename {path}: {reason}", path = path.display())]
    PutAside {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        reason: io::Error,
    },
}

/// Who is told how far it is.
pub type Watcher<'w> = dyn FnMut(Progress) + Send + 'w;

/// What the flags of `chat server` mean for whoever moves its log.
fn settings(store: &StoreArgs) -> Result<Config, MoveError> {
    let args = ServerArgs {
        store: store.clone(),
        ..ServerArgs::default()
    };
    Ok(Config::load(&args, &|name| env::var_os(name))?)
}

/// Keeps servers out of the state directory.
fn lock(config: &Config) -> Result<Lock, MoveError> {
    let state_dir = &config.state_dir.value;
    room_log::private_dir(state_dir)?;
    Ok(lock_state(state_dir)?)
}

/// How it is told where a log is.
fn place(config: &Config) -> String {
    match &config.jetstream.value {
        Some(settings) => format!("the stream {} on {}", settings.stream, settings.servers),
        None => crate::log::SqliteLog::path(&config.state_dir.value)
            .display()
            .to_string(),
    }
}
