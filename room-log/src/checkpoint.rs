//! Moving what the WAL holds into the database file.
//!
//! SQLite would do this by itself after some commits and when the last connection closes, and
//! keep to itself what came of it. But a kernel reports a failed fsync once: the next one
//! succeeds, SQLite takes the file for whole and gives up the WAL, which alone still had the
//! pages that were lost. So it is done here, where a failure ends the process.

use crate::StoreError;
use rusqlite::{Connection, config::DbConfig, ffi};
use std::{fs::File, time::Duration};
use tracing::warn;

/// Pages the WAL grows by between two checkpoints: 4 MiB.
const EVERY_PAGES: u64 = 1_000;

/// Pages in the WAL from which on a checkpoint waits for readers, so that the WAL begins anew
/// also if somebody reads at every moment: 16 MiB.
const WAIT_PAGES: u64 = 4 * EVERY_PAGES;

/// How long a checkpoint waits for readers; this crate's read a page at a time. A stranger that
/// reads for longer holds up the writer this long for every [`EVERY_PAGES`].
const PATIENCE: Duration = Duration::from_millis(250);

/// How long the writer waits otherwise: only a stranger ever writes beside it.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Only counts.
    Noop,
    /// Moves what no reader is in the way of.
    Passive,
    /// Waits for readers too, and lets the WAL begin anew.
    Restart,
    /// As `Restart`, and empties the WAL.
    Truncate,
}

#[derive(Debug)]
struct Wal {
    busy: bool,
    pages: u64,
}

/// Takes checkpoints over from SQLite, and makes durable what an earlier process left in the WAL.
///
/// That process may have been killed on its way to the fsync, or its fsync may have failed: SQLite
/// finds the transaction in the WAL all the same, and its messages would be answered for as known.
pub(crate) fn take_over(connection: &Connection) -> Result<(), StoreError> {
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    empty(connection)
}

/// Moves everything into the file, and empties the WAL.
///
/// # Errors
///
/// [`StoreError`], also if somebody reads for too long.
pub(crate) fn empty(connection: &Connection) -> Result<(), StoreError> {
    if !checkpoint(connection, Mode::Truncate)?.busy {
        return Ok(());
    }
    let busy = ffi::Error::new(ffi::SQLITE_BUSY);
    let who = "another program has it open for reading".to_owned();
    Err(rusqlite::Error::SqliteFailure(busy, Some(who)).into())
}

/// Makes durable what was committed without waiting for it. Needs no room on the disk.
pub(crate) fn sync_wal(connection: &Connection) -> Result<(), StoreError> {
    let path = format!("{}-wal", connection.path().unwrap_or_default());
    let wal = File::open(&path).map_err(|error| {
        let code = ffi::Error::new(ffi::SQLITE_CANTOPEN);
        rusqlite::Error::SqliteFailure(code, Some(format!("{path}: {error}")))
    })?;
    wal.sync_all()
        .map_err(|error| StoreError::SyncFailed(format!("{path}: {error}")))
}

/// Keeps the WAL when the connection closes: after a failed fsync nothing else can be trusted.
pub(crate) fn keep_wal(connection: &Connection) {
    if let Err(error) = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true) {
        warn!(%error, "the WAL may be given up");
    }
}

/// When a checkpoint is due.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    /// How many pages there were when the last was tried.
    tried_at: u64,
}

impl Schedule {
    /// Makes a checkpoint if the WAL has grown enough. What fails otherwise than fatally is tried
    /// again after the WAL has grown as much again: the commits are safe where they are.
    ///
    /// # Errors
    ///
    /// [`StoreError`] with which the process must end.
    pub(crate) fn after_commit(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let due = |wal: Wal| self.due(wal.pages);
        let tried = checkpoint(connection, Mode::Noop)
            .map(due)
            .and_then(|mode| mode.map_or(Ok(()), |mode| checkpoint(connection, mode).map(|_| ())));
        match tried {
            Err(error) if error.is_fatal() => Err(error),
            Err(error) => {
                warn!(%error, "the WAL could not be moved into the database yet");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn due(&mut self, pages: u64) -> Option<Mode> {
        if pages < self.tried_at {
            // It began anew.
            self.tried_at = 0;
        }
        if pages - self.tried_at < EVERY_PAGES {
            return None;
        }
        self.tried_at = pages;
        Some(if pages < WAIT_PAGES {
            Mode::Passive
        } else {
            Mode::Restart
        })
    }
}

fn checkpoint(connection: &Connection, mode: Mode) -> Result<Wal, StoreError> {
    let sql = match mode {
        Mode::Noop => "PRAGMA wal_checkpoint(noop)",
        Mode::Passive => "PRAGMA wal_checkpoint(passive)",
        Mode::Restart => "PRAGMA wal_checkpoint(restart)",
        Mode::Truncate => "PRAGMA wal_checkpoint(truncate)",
    };
    connection.busy_timeout(PATIENCE)?;
    let done = connection.prepare_cached(sql)?.query_row((), |row| {
        let pages: i64 = row.get(1)?;
        Ok(Wal {
            busy: row.get(0)?,
            // Negative if there is no WAL.
            pages: u64::try_from(pages).unwrap_or(0),
        })
    });
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let done = done.map_err(StoreError::from);
    if done.as_ref().is_err_and(StoreError::is_fatal) {
        keep_wal(connection);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Application, BASE_SCHEMA, Database};
    use std::{
        fs,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
            mpsc,
        },
        thread,
    };

    const TEST: Application = Application {
        name: "test",
        id: 0x7465_7374,
        migrations: &[BASE_SCHEMA],
    };

    fn put(connection: &Connection) {
        let sql = "INSERT INTO meta VALUES (hex(randomblob(16)), randomblob(8000))";
        connection.execute(sql, ()).unwrap();
    }

    #[test]
    fn the_wal_stays_bounded_while_somebody_reads_at_every_moment() {
        let dir = tempfile::tempdir().unwrap();
        let (database, connection) = Database::open(dir.path(), TEST).unwrap();
        connection
            .pragma_update(None, "synchronous", "off")
            .unwrap();
        // Two readers take turns: each ends and begins while the other reads.
        let (to_one, one) = mpsc::sync_channel(1);
        let (to_two, two) = mpsc::sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let readers = [(one, to_two), (two, to_one.clone())].map(|(turn, next)| {
            let (reader, stop) = (database.reader().unwrap(), Arc::clone(&stop));
            thread::spawn(move || {
                for () in turn {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    if !reader.is_autocommit() {
                        reader.execute_batch("COMMIT").unwrap();
                    }
                    reader.execute_batch("BEGIN").unwrap();
                    let sql = "SELECT count(*) FROM rooms";
                    reader.query_row(sql, (), |_| Ok(())).unwrap();
                    if next.send(()).is_err() {
                        break;
                    }
                }
            })
        });
        to_one.send(()).unwrap();
        drop(to_one);
        let mut schedule = Schedule::default();
        for _ in 0..10_000 {
            put(&connection);
            schedule.after_commit(&connection).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
        let wal = dir.path().join("test.db-wal");
        let pages = fs::metadata(&wal).unwrap().len() / 4_096;
        assert!(pages < 4 * WAIT_PAGES, "{pages} pages");
    }

    #[test]
    fn a_checkpoint_that_did_not_help_is_not_tried_with_every_commit() {
        let mut schedule = Schedule::default();
        assert_eq!(schedule.due(EVERY_PAGES - 1), None);
        assert_eq!(schedule.due(EVERY_PAGES), Some(Mode::Passive));
        assert_eq!(schedule.due(EVERY_PAGES + 1), None);
        assert_eq!(schedule.due(WAIT_PAGES), Some(Mode::Restart));
        assert_eq!(schedule.due(WAIT_PAGES + 1), None);
        assert_eq!(schedule.due(WAIT_PAGES + EVERY_PAGES), Some(Mode::Restart));
        assert_eq!(schedule.due(3), None, "it began anew");
        assert_eq!(schedule.due(EVERY_PAGES), Some(Mode::Passive));
    }

    #[test]
    fn what_an_earlier_process_left_in_the_wal_is_in_the_file_once_it_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let (_, connection) = Database::open(dir.path(), TEST).unwrap();
        put(&connection);
        // As after a kill: nobody closed it.
        let killed = tempfile::tempdir().unwrap();
        for name in ["test.db", "test.db-wal", "test.exists"] {
            fs::copy(dir.path().join(name), killed.path().join(name)).unwrap();
        }
        let wal = killed.path().join("test.db-wal");
        assert!(fs::metadata(&wal).unwrap().len() > 0);
        let opened = Database::open(killed.path(), TEST).unwrap();
        assert_eq!(fs::metadata(&wal).unwrap().len(), 0);
        drop((opened, connection));
    }
}
