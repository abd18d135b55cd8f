//! One temporary directory for a test, and the turn-taking of expensive tests.

use crate::process::Place;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};
use tempfile::TempDir;

/// A directory that a test owns. Kept, and its place printed, when the test fails.
#[derive(Debug)]
pub struct Sandbox {
    dir: Option<TempDir>,
    path: PathBuf,
}

impl Sandbox {
    /// A fresh, empty one.
    #[must_use]
    pub fn new() -> Self {
        // Short, because a Unix socket's path has 108 bytes at most.
        let dir = tempfile::Builder::new()
            .prefix("chat-")
            .tempdir_in("/tmp")
            .expect("temporary directory");
        let path = dir.path().to_owned();
        fs::create_dir(path.join("logs")).expect("log directory");
        Self {
            dir: Some(dir),
            path,
        }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets other users of this machine pass through, for tests with several OS users.
    pub fn open_to_all(&self) {
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o755)).expect("chmod");
    }

    /// Creates a subdirectory and returns its path.
    #[must_use]
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::create_dir_all(&path).expect("subdirectory");
        path
    }

    /// The plain place to run commands: this network, this user, this directory as home.
    #[must_use]
    pub fn place(&self) -> Place {
        Place::new(self.path.clone())
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("kept for inspection: {}", dir.keep().display());
        }
    }
}

/// Takes the turn of the expensive tests: one of them runs at a time, beside the cheap ones, so
/// that two processor cores are enough.
pub fn heavy() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed has left nothing half done behind this lock.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
