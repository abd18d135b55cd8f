//! A log that is moved into a file here from another place.
//!
//! The file says that it is not whole until everything in it was read back: no server uses it before.

use super::{SERVER, SqliteLog, epoch};
use crate::log::{Commits, OpenLogError, Part, RestoreError, judge::Judge};
use protocol::{MessageId, Room, Seq, limits::MAX_ROOMS};
use room_log::{Database, Ingested, RoomLog, StoreError};
use rusqlite::{Connection, params};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// In the table `meta`, while the log is not whole.
const RESTORING: &str = "restoring";

/// Rows that are written in one transaction, and bytes of messages.
const BATCH_ROWS: usize = 2_500;
const BATCH_BYTES: usize = 8 << 20;

/// A file that a log is written into.
#[derive(Debug)]
pub(crate) struct SqliteRestore {
    connection: Connection,
    judge: Judge,
    /// Rows of the transaction that has begun, and bytes of messages in them.
    rows: usize,
    bytes: usize,
}

impl SqliteRestore {
    /// Makes the file, marked as one that is not whole; removes one that an earlier attempt left so.
    /// Returns whether there was one. The caller holds the lock of `state_dir`.
    pub(crate) fn begin(state_dir: &Path) -> Result<(Self, bool), RestoreError> {
        let path = SqliteLog::path(state_dir);
        let exists = |path: &Path| {
            path.try_exists().map_err(|reason| RestoreError::Remove {
                path: path.to_owned(),
                reason,
            })
        };
        let mut again = false;
        if exists(&path)? || exists(&path.with_extension("exists"))? {
            let (_, connection) = Database::open(state_dir, SERVER)?;
            again = is_half(&connection)?;
            // One without a room holds nothing: a server was started once, or an import was killed at once.
            if !again && has_rooms(&connection)? {
                let marker = path.with_extension("exists");
                return Err(RestoreError::Exists {
                    what: path.display().to_string(),
                    flag: "--state-dir",
                    otherwise: format!(
                        "move it and {} away if nobody needs them",
                        marker.display()
                    ),
                });
            }
            drop(connection);
            remove(&path)?;
        }
        let (_, connection) = Database::open(state_dir, SERVER)?;
        connection.execute(
            "INSERT INTO meta (key, value) VALUES (?1, x'01')",
            [RESTORING],
        )?;
        let epoch = epoch(&connection)?;
        connection.execute_batch("BEGIN")?;
        let this = Self {
            connection,
            judge: Judge::new(RoomLog::new(epoch, MAX_ROOMS)),
            rows: 0,
            bytes: 0,
        };
        Ok((this, again))
    }

    /// Writes a part behind those before.
    pub(crate) fn put(&mut self, part: Part) -> Result<(), RestoreError> {
        self.rows += 1;
        match part {
            Part::Room { room, state } => {
                let restored = self.judge.restore(&self.connection, &room, &state)?;
                restored.map_err(|refusal| RestoreError::Bad(refusal.to_string()))?;
            }
            Part::People {
                room,
                members,
                kicked,
            } => {
                self.rows += members.len();
                self.judge
                    .restore_people(&self.connection, &room, &members, &kicked)?;
            }
            Part::Messages(messages) => {
                self.rows += messages.len();
                for message in messages {
                    self.bytes += message.body.as_bytes().len();
                    match self.judge.log.ingest(&self.connection, &message)? {
                        Ingested::New => {}
                        other => {
                            return Err(RestoreError::Bad(format!(
                                "message {} of {} has no place at {}: {other:?}",
                                message.id, message.room, message.seq
                            )));
                        }
                    }
                }
            }
            Part::Gone { room, ids } => {
                self.rows += ids.len();
                self.gone(&room, &ids)?;
            }
            Part::Made { host, rooms } => {
                self.judge.restore_made(&self.connection, &host, rooms)?;
            }
        }
        if self.rows < BATCH_ROWS && self.bytes < BATCH_BYTES {
            return Ok(());
        }
        (self.rows, self.bytes) = (0, 0);
        self.connection.execute_batch("COMMIT")?;
        Database::settle(&self.connection)?;
        Ok(self.connection.execute_batch("BEGIN")?)
    }

    fn gone(&self, room: &Room, ids: &[(MessageId, Seq)]) -> Result<(), RestoreError> {
        for (id, seq) in ids {
            self.connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO pruned (id, room_id, seq)
                     SELECT ?3, room_id, ?4 FROM rooms WHERE epoch = ?1 AND name = ?2",
                )?
                .execute(params![
                    self.judge.log.epoch().to_bytes(),
                    room.as_str(),
                    id.to_bytes(),
                    seq.number()
                ])?;
        }
        Ok(())
    }

    /// Everything was written.
    pub(crate) fn written(self) -> Result<(), RestoreError> {
        self.connection.execute_batch("COMMIT")?;
        Ok(Database::settle(&self.connection)?)
    }

    /// Opens what was written, to be read back.
    pub(crate) fn open(state_dir: &Path) -> Result<(SqliteLog, Commits), OpenLogError> {
        SqliteLog::open_with(Database::open(state_dir, SERVER)?)
    }

    /// Everything was written and read back: a server may use the file.
    pub(crate) fn end(state_dir: &Path) -> Result<(), RestoreError> {
        let (_, connection) = Database::open(state_dir, SERVER)?;
        connection.execute("DELETE FROM meta WHERE key = ?1", [RESTORING])?;
        Ok(Database::settle(&connection)?)
    }
}

fn has_rooms(connection: &Connection) -> Result<bool, StoreError> {
    let any = connection
        .prepare("SELECT 1 FROM rooms LIMIT 1")?
        .exists(())?;
    Ok(any)
}

/// Whether a log was moved here in part only.
pub(super) fn is_half(connection: &Connection) -> Result<bool, StoreError> {
    let found = connection
        .prepare("SELECT 1 FROM meta WHERE key = ?1")?
        .exists([RESTORING])?;
    Ok(found)
}

/// Removes a database with all that belongs to it; what says that it is there goes last.
fn remove(database: &Path) -> Result<(), RestoreError> {
    let beside = |suffix: &str| -> PathBuf { database.with_extension(suffix) };
    // Without the mark that it was there first, or a crash would leave a loss to be reported.
    for path in [
        beside("exists"),
        beside("db-wal"),
        beside("db-shm"),
        beside("db"),
    ] {
        match fs::remove_file(&path) {
            Err(reason) if reason.kind() != io::ErrorKind::NotFound => {
                return Err(RestoreError::Remove { path, reason });
            }
            _ => {}
        }
    }
    Ok(())
}
