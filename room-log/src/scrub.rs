//! Writing the file anew, so that nothing of what was erased is left in it.
//!
//! SQLite overwrites what it deletes, but not what it leaves behind where it moved a row from when a
//! page was full: one erased message in some hundred is still there. So the whole file is written
//! anew after something was erased. That takes a second for each hundred megabytes, in which nobody
//! is answered: a large file is done when it is opened the next time.

use crate::{StoreError, checkpoint, erasing};
use rusqlite::{Connection, ErrorCode};
use tracing::{info, warn};

/// Files up to this size are written anew while they are in use: a second or less.
pub(crate) const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// What the writer knows of it.
#[derive(Debug)]
pub(crate) struct Scrub {
    due: bool,
    /// Only the WAL holds what is to go; somebody read there when it was last tried.
    wal_due: bool,
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
        })
    }

    /// Something was erased.
    pub(crate) const fn note(&mut self) {
        self.due = true;
    }

    /// Whether there is something to do when there is nothing else to do.
    pub(crate) const fn is_due(&self) -> bool {
        self.due || self.wal_due
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
        let was_due = std::mem::take(&mut self.due);
        self.wal_due = false;
        let done = if was_due {
            begin(connection, prepare)
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
