//! How much of the disk the log may take.

use protocol::federation::Refusal;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long agents wait before they try again: somebody has to make room.
const RETRY_AFTER_MS: u32 = 5_000;

/// The quota of one database file.
#[derive(Debug)]
pub(crate) struct Quota {
    file: Option<PathBuf>,
    limit_bytes: u64,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    at: Option<Instant>,
    bytes: u64,
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
            seen: Mutex::new(Seen { at: None, bytes: 0 }),
        }
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
        // A plain number and a time.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let is_old = |at| now.saturating_duration_since(at) >= LOOK_EVERY;
        if seen.at.is_none_or(is_old) {
            seen.at = Some(now);
            // A file that cannot be looked at is the writer's trouble.
            seen.bytes = fs::metadata(file).map_or(seen.bytes, |found| found.len());
        }
        if seen.bytes < self.limit_bytes {
            return Ok(());
        }
        Err(Refusal::NotYet {
            retry_after_ms: RETRY_AFTER_MS,
            reason: format!(
                "the server's log has {} of {} bytes: raise log_limit there, or let rooms keep less",
                seen.bytes, self.limit_bytes
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
}
