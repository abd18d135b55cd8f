//! Opening the file: private, whole, of our kind, and of this version.

use crate::{
    StoreError, checkpoint, erasing,
    private::{PrivacyError, private_dir, private_file},
    scrub,
};
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// The tables that every log has; the first migration of server and agent.
pub const BASE_SCHEMA: &str = "
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

-- A room in one life of a log. After the log it belongs to began a new life, the old row and its
-- messages stay, under the old epoch.
CREATE TABLE rooms (
    room_id INTEGER PRIMARY KEY,
    epoch   BLOB NOT NULL,
    name    TEXT NOT NULL,
    head    INTEGER NOT NULL DEFAULT 0,
    head_id BLOB,
    UNIQUE (epoch, name)
);

CREATE TABLE messages (
    room_id      INTEGER NOT NULL REFERENCES rooms,
    seq          INTEGER NOT NULL,
    prev_seq     INTEGER NOT NULL,
    committed_at INTEGER NOT NULL,
    id           BLOB NOT NULL,
    author       TEXT NOT NULL,
    sent_at      INTEGER NOT NULL,
    body         BLOB NOT NULL,
    PRIMARY KEY (room_id, seq)
) WITHOUT ROWID;

CREATE UNIQUE INDEX messages_by_id ON messages (id, room_id);

-- Memberships and topics belong to the room's name, whichever life of the log.
CREATE TABLE members (
    room TEXT NOT NULL,
    user TEXT NOT NULL,
    PRIMARY KEY (room, user)
) WITHOUT ROWID;
CREATE INDEX members_by_user ON members (user, room);

CREATE TABLE topics (
    room  TEXT PRIMARY KEY,
    topic TEXT NOT NULL
) WITHOUT ROWID;
";

/// Files up to this size are checked page by page before they are used, and an agent's index of
/// what was said entry by entry: three seconds or less.
/// Of larger ones only the header, the length and the tables' names are; SQLite reports other
/// damage when it meets it.
const FULL_CHECK_BYTES: u64 = 512 * 1024 * 1024;

/// Prepared statements kept by a connection; more than this crate and its users have.
const STATEMENT_CACHE: usize = 64;

/// Which program a database belongs to, and how it grew.
#[derive(Debug, Clone, Copy)]
pub struct Application {
    /// What people call it: `server` or `agent`. The file is `<name>.db`.
    pub name: &'static str,
    /// SQLite's `application_id`, so that one program does not open the other's file.
    pub id: i32,
    /// SQL from each version to the next, beginning with an empty file. Only ever added to.
    pub migrations: &'static [&'static str],
}

/// Why a database is not used. The message says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file cannot be opened.
    #[error("cannot open {path}: {reason}", path = path.display())]
    Io {
        /// Which path.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// Others could read or write what is kept there.
    #[error(transparent)]
    Privacy(#[from] PrivacyError),
    /// The database was here before and is not any more.
    #[error(
        "{path} is missing or empty, but {marker} says that it held data: move {path}-wal and \
         {path}-shm away if they are there, then restore it from a backup, or delete {marker} to \
         begin with an empty one",
        path = path.display(), marker = marker.display()
    )]
    Missing {
        /// Which file.
        path: PathBuf,
        /// The file that remembers.
        marker: PathBuf,
    },
    /// The database is damaged.
    #[error(
        "{path} is damaged ({reason}): move it away, {path}-wal and {path}-shm too if they are \
         there, then restore it from a backup, or move {marker} away as well to begin with an \
         empty one",
        path = path.display(), marker = marker.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// The file that remembers that there was data.
        marker: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file belongs to another program.
    #[error("{path} is not a database of chat-{application}: name another --state-dir", path = path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// Which program wanted it.
        application: &'static str,
    },
    /// A newer version of this program wrote it.
    #[error(
        "{path} has format {found}, and this program knows formats up to {known}: use the \
         program that wrote it, or a newer one",
        path = path.display()
    )]
    TooNew {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: usize,
        /// The newest known format.
        known: usize,
    },
    /// SQLite failed otherwise.
    #[error("cannot use {path}: {reason}", path = path.display())]
    Store {
        /// Which file.
        path: PathBuf,
        /// What failed.
        reason: StoreError,
    },
}

/// A database that was found whole. Makes connections to it.
#[derive(Debug, Clone)]
pub struct Database {
    path: PathBuf,
}

impl Database {
    /// Opens `<dir>/<name>.db`, making directory (0700) and file (0600) if this is the first
    /// time, and migrates it. The caller holds the lock that makes it the only one.
    ///
    /// Beside the file stands `<name>.exists`. It is there once the database has been made, so
    /// that a database that vanished or became empty is noticed instead of begun anew.
    ///
    /// # Errors
    ///
    /// [`OpenError`], saying what to do.
    pub fn open(dir: &Path, application: Application) -> Result<(Self, Connection), OpenError> {
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |reason| OpenError::Io { path, reason }
        };
        private_dir(dir)?;
        let path = dir.join(application.name).with_extension("db");
        let marker = path.with_extension("exists");
        let len = private_file(&path)?;
        for beside in ["db-wal", "db-shm"] {
            private_file(&path.with_extension(beside))?;
        }
        let marked = marker.try_exists().map_err(io_error(&marker))?;
        if len == 0 && marked {
            return Err(OpenError::Missing { path, marker });
        }
        // SQLite gives its own files the mode of the main one.
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io_error(&path))?;

        let database = Self { path };
        let opened = database.prepare(application, len, marked);
        let connection = opened.map_err(|error| database.explain(error, application, &marker))?;
        if !marked {
            let make = || {
                fs::OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(0o600)
                    .open(&marker)?
                    .sync_all()?;
                fs::File::open(dir)?.sync_all()
            };
            make().map_err(io_error(&marker))?;
        }
        Ok((database, connection))
    }

    /// A connection that only reads.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if SQLite cannot open the file.
    pub fn reader(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
        // A reader waits only while a checkpoint resets the WAL.
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        Ok(connection)
    }

    /// Moves all that `connection` has committed into the file: for whoever writes without a
    /// [`Writer`](crate::Writer), which sees to it by itself.
    ///
    /// # Errors
    ///
    /// [`StoreError`], also if somebody reads for too long.
    pub fn settle(connection: &Connection) -> Result<(), StoreError> {
        checkpoint::empty(connection)
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn prepare(
        &self,
        application: Application,
        len: u64,
        marked: bool,
    ) -> Result<Connection, Problem> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&self.path, flags)?;
        connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
        connection.busy_timeout(checkpoint::BUSY_TIMEOUT)?;
        connection.pragma_update(None, "foreign_keys", false)?;
        // What is deleted is overwritten: people take words back, and outboxes are emptied.
        connection.execute_batch("PRAGMA secure_delete = on")?;
        let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let version: usize =
            connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        // Who never set either may still have tables here.
        let tables: u64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
        if id != application.id && (id, version, tables) != (0, 0, 0) {
            return Err(Problem::Foreign);
        }
        if version > application.migrations.len() {
            return Err(Problem::TooNew(version));
        }
        if version == 0 && marked {
            // What it held was in a WAL that is gone.
            return Err(Problem::Missing);
        }
        if let Err(error) = examine(&connection, len, version) {
            // The file stays as it was put there: a WAL beside it may be another's.
            checkpoint::keep_wal(&connection);
            return Err(error.into());
        }
        connection.pragma_update(None, "synchronous", "full")?;
        checkpoint::take_over(&connection)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        let pending = application.migrations.iter().enumerate().skip(version);
        for (index, sql) in pending {
            let transaction = connection.transaction()?;
            transaction.execute_batch(sql)?;
            transaction.pragma_update(None, "application_id", application.id)?;
            transaction.pragma_update(None, "user_version", index + 1)?;
            transaction.commit()?;
        }
        // What is too large for that while it is in use.
        if len > scrub::MAX_BYTES && erasing::is_noted(&connection)? {
            scrub::scrub(&connection)?;
        }
        Ok(connection)
    }

    fn explain(&self, problem: Problem, application: Application, marker: &Path) -> OpenError {
        let path = self.path.clone();
        match problem {
            Problem::Missing => OpenError::Missing {
                path,
                marker: marker.to_owned(),
            },
            Problem::Foreign => OpenError::Foreign {
                path,
                application: application.name,
            },
            Problem::TooNew(found) => OpenError::TooNew {
                path,
                found,
                known: application.migrations.len(),
            },
            Problem::Store(StoreError::Damaged(reason)) => OpenError::Damaged {
                path,
                marker: marker.to_owned(),
                reason,
            },
            Problem::Store(reason) => OpenError::Store { path, reason },
        }
    }
}

/// Looks for damage, before anything is written.
fn examine(connection: &Connection, len: u64, version: usize) -> Result<(), StoreError> {
    if len <= FULL_CHECK_BYTES {
        let verdict: String =
            connection.query_row("PRAGMA quick_check(1)", (), |row| row.get(0))?;
        if verdict != "ok" {
            return Err(StoreError::Damaged(verdict));
        }
    }
    // The tables came with the first version.
    if version > 0 {
        check_heads(connection)?;
    }
    Ok(())
}

/// Finds what SQLite takes for whole: it reads whatever WAL lies beside the file, also beside a
/// backup that was put in the place of the file which the WAL belongs to.
fn check_heads(connection: &Connection) -> Result<(), StoreError> {
    let torn: Option<String> = connection
        .query_row(
            "SELECT name FROM rooms WHERE head <> coalesce(
                (SELECT max(seq) FROM messages WHERE messages.room_id = rooms.room_id), 0)
             LIMIT 1",
            (),
            |row| row.get(0),
        )
        .optional()?;
    torn.map_or(Ok(()), |room| {
        let reason = format!("the messages of {room} do not end with its newest");
        Err(StoreError::Damaged(reason))
    })
}

enum Problem {
    Missing,
    Foreign,
    TooNew(usize),
    Store(StoreError),
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: Application = Application {
        name: "test",
        id: 0x7465_7374,
        migrations: &[BASE_SCHEMA],
    };

    #[test]
    fn a_database_opens_again_and_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        drop(Database::open(dir.path(), TEST).unwrap());
        let (database, connection) = Database::open(dir.path(), TEST).unwrap();
        let version: i32 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        assert_eq!(version, 1);
        let mode = fs::metadata(database.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_vanished_or_emptied_database_is_never_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = Database::open(dir.path(), TEST)
            .unwrap()
            .0
            .path()
            .to_owned();
        fs::remove_file(&path).unwrap();
        assert!(matches!(
            Database::open(dir.path(), TEST),
            Err(OpenError::Missing { .. })
        ));
        fs::write(&path, b"").unwrap();
        assert!(matches!(
            Database::open(dir.path(), TEST),
            Err(OpenError::Missing { .. })
        ));
    }

    #[test]
    fn a_database_whose_wal_is_gone_is_never_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (database, connection) = Database::open(dir.path(), TEST).unwrap();
        // The file as it is before the first checkpoint: everything is in the WAL.
        let copy = tempfile::tempdir().unwrap();
        for name in ["test.db", "test.exists"] {
            fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
        }
        assert!(fs::metadata(database.path()).unwrap().len() > 0);
        let error = Database::open(copy.path(), TEST).unwrap_err();
        assert!(matches!(error, OpenError::Missing { .. }), "{error}");
        fs::copy(
            dir.path().join("test.db-wal"),
            copy.path().join("test.db-wal"),
        )
        .unwrap();
        Database::open(copy.path(), TEST).unwrap();
        drop(connection);
    }

    #[test]
    fn damage_is_refused_with_advice() {
        let dir = tempfile::tempdir().unwrap();
        let (database, connection) = Database::open(dir.path(), TEST).unwrap();
        connection.execute_batch("BEGIN").unwrap();
        for number in 0..2_000 {
            let key = format!("{number:0200}");
            connection
                .execute("INSERT INTO meta VALUES (?1, x'00')", [key])
                .unwrap();
        }
        connection.execute_batch("COMMIT").unwrap();
        drop(connection);
        let whole = fs::read(database.path()).unwrap();
        let mut middle = whole.clone();
        for byte in &mut middle[whole.len() / 2..whole.len() / 2 + 5_000] {
            *byte = 0xa5;
        }
        let mut header = whole.clone();
        header[..16].copy_from_slice(b"no database here");
        for bytes in [&whole[..whole.len() / 2], &middle, &header, &whole[..100]] {
            fs::write(database.path(), bytes).unwrap();
            let error = Database::open(dir.path(), TEST).unwrap_err();
            assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
            assert!(error.to_string().contains("backup"));
        }
        fs::write(database.path(), &whole).unwrap();
        Database::open(dir.path(), TEST).unwrap();
    }

    #[test]
    fn a_backup_put_beside_the_wal_of_a_killed_process_is_refused_until_that_is_moved_away() {
        const ROOMS: &str = "INSERT INTO rooms VALUES (1, '', '#a', 0, ''), (2, '', '#b', 0, '')";
        const SAY: &str = "INSERT INTO messages
            VALUES (?1, ?2, 0, 0, printf('%d%015d', ?1, ?2), 'alice@ada', 0, zeroblob(100))";
        const HEAD: &str = "UPDATE rooms SET head = ?2 WHERE room_id = ?1";
        let say = |connection: &Connection, room: u32, seq: u32| {
            connection.execute(SAY, [room, seq]).unwrap();
            connection.execute(HEAD, [room, seq]).unwrap();
        };
        let dir = tempfile::tempdir().unwrap();
        let (database, connection) = Database::open(dir.path(), TEST).unwrap();
        connection.execute_batch(ROOMS).unwrap();
        say(&connection, 1, 1);
        // Table and index have their ends on other pages than #a.
        for seq in 2..500 {
            say(&connection, 2, seq);
        }
        drop(connection);
        let backup = fs::read(database.path()).unwrap();
        let (_, connection) = Database::open(dir.path(), TEST).unwrap();
        say(&connection, 1, 500);
        drop(connection);
        let (_, connection) = Database::open(dir.path(), TEST).unwrap();
        say(&connection, 2, 501);

        let killed = tempfile::tempdir().unwrap();
        let [file, wal, shm] =
            ["", "-wal", "-shm"].map(|suffix| killed.path().join(format!("test.db{suffix}")));
        for name in ["test.db-wal", "test.exists"] {
            fs::copy(dir.path().join(name), killed.path().join(name)).unwrap();
        }
        drop(connection);
        fs::write(&file, &backup).unwrap();
        for _ in 0..2 {
            let error = Database::open(killed.path(), TEST).unwrap_err();
            assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
            for path in [&file, &wal, &shm] {
                let named = path.to_str().unwrap();
                assert!(error.to_string().contains(named), "{error}");
            }
            assert_eq!(fs::read(&file).unwrap(), backup, "it was touched");
        }
        for path in [&file, &wal, &shm] {
            let _not_there = fs::remove_file(path);
        }
        fs::write(&file, &backup).unwrap();
        Database::open(killed.path(), TEST).unwrap();
    }

    #[test]
    fn a_migration_that_fails_leaves_the_file_as_it_was() {
        const NEXT: &str = "CREATE TABLE more (x); INSERT INTO meta VALUES ('k', x'02');";
        let dir = tempfile::tempdir().unwrap();
        let (_, connection) = Database::open(dir.path(), TEST).unwrap();
        let put = "INSERT INTO meta VALUES ('k', x'01')";
        connection.execute_batch(put).unwrap();
        drop(connection);
        let next = Application {
            migrations: &[BASE_SCHEMA, NEXT],
            ..TEST
        };
        let error = Database::open(dir.path(), next).unwrap_err();
        assert!(matches!(error, OpenError::Store { .. }), "{error}");
        let (_, connection) = Database::open(dir.path(), TEST).unwrap();
        connection.execute_batch("DELETE FROM meta").unwrap();
        assert!(connection.prepare("SELECT * FROM more").is_err());
        drop(connection);
        let (_, connection) = Database::open(dir.path(), next).unwrap();
        let version: i32 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        assert_eq!(version, 2);
    }

    #[test]
    fn another_programs_or_a_newer_database_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (_, connection) = Database::open(dir.path(), TEST).unwrap();
        let other = Application { id: 1, ..TEST };
        assert!(matches!(
            Database::open(dir.path(), other),
            Err(OpenError::Foreign { .. })
        ));
        let strangers = tempfile::tempdir().unwrap();
        let stranger = Connection::open(strangers.path().join("test.db")).unwrap();
        stranger.execute_batch("CREATE TABLE diary (day)").unwrap();
        assert!(matches!(
            Database::open(strangers.path(), TEST),
            Err(OpenError::Foreign { .. })
        ));
        connection.pragma_update(None, "user_version", 9).unwrap();
        assert!(matches!(
            Database::open(dir.path(), TEST),
            Err(OpenError::TooNew {
                found: 9,
                known: 1,
                ..
            })
        ));
    }
}
