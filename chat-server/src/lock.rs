//! One server for one state directory.

use room_log::{PrivacyError, private_dir};
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Why the state directory is not ours.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another server has it.
    #[error(
        "another server{} runs in {dir}: stop it, or give this one another --state-dir",
        .pid.map_or_else(String::new, |pid| format!(" (process {pid})")),
        dir = dir.display()
    )]
    Held {
        /// Which directory.
        dir: PathBuf,
        /// Who has it, if that could be read.
        pid: Option<u32>,
    },
    /// The directory cannot be made, or is not this user's alone.
    #[error(transparent)]
    Privacy(#[from] PrivacyError),
    /// The lock cannot be opened.
    #[error("cannot use {path}: {source}", path = path.display())]
    Io {
        /// Which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Keeps other servers out of a state directory until it is dropped or the process ends.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Makes `dir` (mode 0700) if it is not there and takes it.
    ///
    /// # Errors
    ///
    /// [`LockError`], naming who has it.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |source| LockError::Io { path, source }
        };
        private_dir(dir)?;
        let path = dir.join("server.lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io_error(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // The holder may be about to write it.
                let read = file.read_to_string(&mut text);
                return Err(LockError::Held {
                    dir: dir.to_owned(),
                    pid: read.ok().and_then(|_| text.trim().parse().ok()),
                });
            }
            Err(TryLockError::Error(source)) => return Err(LockError::Io { path, source }),
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            // Without space for a number there may still be space for a message.
            .or_else(|error| match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Ok(()),
                _ => Err(error),
            })
            .map_err(io_error(&path))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_is_first() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let lock = StateLock::acquire(&state).unwrap();
        let error = StateLock::acquire(&state).unwrap_err().to_string();
        let process = format!("(process {})", std::process::id());
        assert!(error.contains(&process), "{error}");
        drop(lock);
        StateLock::acquire(&state).unwrap();
    }
}
