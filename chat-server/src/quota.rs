//! How much of the disk the log may take.

use protocol::federation::Refusal;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long agents wait before they try again: somebody has to make room.
const RETRY_AFTER_MS: u32 = 5_000;

/// The quota of one database file. What was deleted leaves room in the file, which does not shrink:
/// that room is written again before the file grows.
#[derive(Debug)]
pub(crate) struct Quota {
    file: Option<PathBuf>,
    limit_bytes: u64,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    at: Option<Instant>,
    /// How long the file is.
    bytes: u64,
    free: Free,
}

/// Room in the file.
#[derive(Debug, Default)]
struct Free {
    bytes: u64,
    /// How long the file was: in one that is longer now, that room is used up.
    of: u64,
}

impl Seen {
    fn look(&mut self, file: &Path) {
        self.at = Some(Instant::now());
        // A file that cannot be looked at is the writer's trouble.
        self.bytes = fs::metadata(file).map_or(self.bytes, |found| found.len());
    }

    const fn used_bytes(&self) -> u64 {
        if self.free.of == self.bytes {
            self.bytes.saturating_sub(self.free.bytes)
        } else {
            self.bytes
        }
    }
}

impl Quota {
    /// The database at `file` may have `limit_bytes`, and its WAL a few MiB beside it.
    pub(crate) fn new(file: &Path, limit_bytes: u64) -> Self {
        Self {
            file: Some(file.to_owned()),
            limit_bytes,
            seen: Mutex::default(),
        }
    }

    /// No quota.
    pub(crate) const fn none() -> Self {
        Self {
            file: None,
            limit_bytes: u64::MAX,
            seen: Mutex::new(Seen {
                at: None,
                bytes: 0,
                free: Free { bytes: 0, of: 0 },
            }),
        }
    }

    /// Whether it matters how much room there is in the file.
    pub(crate) fn is_short(&self) -> bool {
        let Some(file) = &self.file else {
            return false;
        };
        let mut seen = self.lock();
        seen.look(file);
        seen.bytes >= self.limit_bytes
    }

    /// So much room is in the file.
    pub(crate) fn note_free(&self, bytes: u64) {
        let mut seen = self.lock();
        seen.free = Free {
            bytes,
            of: seen.bytes,
        };
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Plain numbers and a time.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is room for another message.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotYet`], naming the quota.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let mut seen = self.lock();
        let now = Instant::now();
        let is_old = |at| now.saturating_duration_since(at) >= LOOK_EVERY;
        if seen.at.is_none_or(is_old) {
            seen.look(file);
        }
        let used = seen.used_bytes();
        if used < self.limit_bytes {
            return Ok(());
        }
        Err(Refusal::NotYet {
            retry_after_ms: RETRY_AFTER_MS,
            reason: format!(
                "the server's log has {used} of {} bytes: raise log_limit there, or let rooms keep less",
                self.limit_bytes
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_at_its_quota_takes_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("server.db");
        fs::write(&file, [0; 100]).unwrap();
        assert_eq!(Quota::new(&file, 101).check(), Ok(()));
        let refusal = Quota::new(&file, 100).check().unwrap_err();
        assert!(!refusal.is_final());
        assert!(
            refusal.to_string().contains("100 of 100 bytes"),
            "{refusal}"
        );
        assert_eq!(Quota::none().check(), Ok(()));
    }

    #[test]
    fn room_in_the_file_counts_until_the_file_has_grown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("server.db");
        fs::write(&file, [0; 100]).unwrap();
        let quota = Quota::new(&file, 100);
        assert!(quota.is_short());
        assert!(quota.check().is_err());
        quota.note_free(10);
        assert_eq!(quota.check(), Ok(()));
        fs::write(&file, [0; 101]).unwrap();
        assert!(quota.is_short());
        assert!(quota.check().is_err());
        assert!(!Quota::none().is_short());
    }
}
