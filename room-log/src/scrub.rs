//! Writing the file anew, so that nothing of what was erased is left in it.
//!
//! SQLite overwrites what it deletes, but not what it leaves behind where it moved a row from when a
//! page was full: one erased message in some hundred is still there. So the whole file is written
//! anew after something was erased. That takes a second for each hundred megabytes, in which nobody
//! is answered: a large file is done when it is opened the next time.

use crate::{StoreError, checkpoint, erasing};
use rusqlite::{Connection, ErrorCode};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// Files up to this size are written anew while they are in use: a second or less.
pub(crate) const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// So many times as long as the last time took nobody has to wait for the next: whoever takes back one
/// message after the other holds up the others for a tenth of the time at most.
const PAUSE_FACTOR: u32 = 10;

/// A disk that hung once is no reason to leave erased words for long.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// What the writer knows of it.
#[derive(Debug)]
pub(crate) struct Scrub {
    due: bool,
    /// Only the WAL holds what is to go; somebody read there when it was last tried.
    wal_due: bool,
    not_before: Option<Instant>,
}

impl Scrub {
    /// As an earlier process left it.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub(crate) fn begin(connection: &Connection) -> Result<Self, StoreError> {
        Ok(Self {
            due: erasing::is_noted(connection)?,
            wal_due: false,
            not_before: None,
        })
    }

    /// Something was erased.
    pub(crate) const fn note(&mut self) {
        self.due = true;
    }

    /// Whether there is something to do when there is nothing else to do.
    pub(crate) fn is_due(&self) -> bool {
        self.wal_due || self.is_file_due()
    }

    fn is_file_due(&self) -> bool {
        let is_over = |pause: Instant| Instant::now() >= pause;
        self.due && self.not_before.is_none_or(is_over)
    }

    /// Does it. `prepare` deletes what is kept for its own sake only.
    ///
    /// # Errors
    ///
    /// [`StoreError`] with which the process must end.
    pub(crate) fn advance(
        &mut self,
        connection: &Connection,
        prepare: impl FnOnce(&Connection) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.wal_due = false;
        let done = if self.is_file_due() {
            self.due = false;
            let begun = Instant::now();
            let done = begin(connection, prepare);
            let pause = begun.elapsed().saturating_mul(PAUSE_FACTOR).min(MAX_PAUSE);
            self.not_before = Some(Instant::now() + pause);
            done
        } else {
            checkpoint::empty(connection)
        };
        match done {
            Err(error) if error.is_fatal() => Err(error),
            // Somebody reads: a moment later they will have read.
            Err(StoreError::Failed(error))
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) =>
            {
                self.wal_due = true;
                Ok(())
            }
            Err(error) => {
                // It is noted in the file: the next erasure or start tries again.
                warn!(%error, "what was erased may be left in the file for now");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

fn begin(
    connection: &Connection,
    prepare: impl FnOnce(&Connection) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    prepare(connection)?;
    let pages: u64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    let page: u64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    if pages * page > MAX_BYTES {
        info!("the file is large: what was erased is overwritten fully at the next start");
        return checkpoint::empty(connection);
    }
    scrub(connection)
}

/// Writes the file anew, and empties the WAL.
///
/// # Errors
///
/// [`StoreError`].
pub(crate) fn scrub(connection: &Connection) -> Result<(), StoreError> {
    connection.execute_batch("VACUUM")?;
    erasing::forget_note(connection)?;
    checkpoint::empty(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_not_written_anew_for_each_message_that_somebody_takes_back() {
        let dir = tempfile::tempdir().unwrap();
        let connection = Connection::open(dir.path().join("log.db")).unwrap();
        connection
            .execute_batch(
                "PRAGMA journal_mode = wal; CREATE TABLE meta (key TEXT PRIMARY KEY, value)",
            )
            .unwrap();
        let mut scrub = Scrub::begin(&connection).unwrap();
        assert!(!scrub.is_due());
        scrub.note();
        assert!(scrub.is_due());
        let slowly = |_: &Connection| {
            std::thread::sleep(Duration::from_millis(50));
            Ok(())
        };
        scrub.advance(&connection, slowly).unwrap();
        scrub.note();
        assert!(!scrub.is_due());
        std::thread::sleep(Duration::from_millis(50));
        assert!(!scrub.is_due());
        scrub.not_before = Some(Instant::now());
        assert!(scrub.is_due());
    }
}
