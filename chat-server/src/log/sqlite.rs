//! The log in one SQLite file: the default.

mod restoring;

pub(crate) use restoring::SqliteRestore;

use super::{
    Asker, Commits, Listing, Log, OpenLogError, Reading, Rejected, Stats, Submission, store,
};
use protocol::{
    Committed, Epoch, FederatedRoom, HostName, LogHealth, LogStatus, MessageId, Room, RoomError,
    Seq, UserName,
    federation::RoomInfo,
    governance::Charter,
    limits::{MAX_PAGE_ENTRIES, MAX_ROOMS},
};
use room_log::{
    Application, BASE_SCHEMA, Database, GOVERNANCE_SCHEMA, Head, Readers, RoomLog, StoreError,
    SubmitError, Writer, charters, log, roster,
};
use rusqlite::{Connection, OptionalExtension, params};
use std::{
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

/// Tables that only a server has.
pub(super) const SERVER_SCHEMA: &str = "
-- Hosts that were here, so that a message to a mistyped one is refused.
CREATE TABLE hosts (
    host      TEXT PRIMARY KEY,
    agent     BLOB NOT NULL,
    last_seen INTEGER NOT NULL
) WITHOUT ROWID;

-- Which direct conversations touch a host.
CREATE TABLE direct_hosts (
    host TEXT NOT NULL,
    room TEXT NOT NULL,
    PRIMARY KEY (host, room)
) WITHOUT ROWID;
";

/// How many rooms the users of each host created: nobody needs to know any more which hosts there
/// are, because what is said to one that comes later is kept for it.
pub(super) const CREATED_SCHEMA: &str = "
DROP TABLE hosts;

CREATE TABLE created (
    host  TEXT PRIMARY KEY,
    rooms INTEGER NOT NULL
) WITHOUT ROWID;
";

const SERVER: Application = Application {
    name: "server",
    // \"chts\" in ASCII.
    id: 0x6368_7473,
    migrations: &[
        BASE_SCHEMA,
        SERVER_SCHEMA,
        CREATED_SCHEMA,
        GOVERNANCE_SCHEMA,
    ],
};

/// Bytes of names and topics after which a page of a list ends, so that it stays well under
/// [`MAX_FRAME_BYTES`](protocol::limits::MAX_FRAME_BYTES).
const LIST_PAGE_BYTES: usize = 384 * 1024;

/// From here on a transaction is worth a word: one takes milliseconds.
const SLOW_AFTER: Duration = Duration::from_secs(2);

/// A log in `<state dir>/server.db`. See [`room_log`].
#[derive(Debug)]
pub struct SqliteLog {
    epoch: Epoch,
    readers: Readers,
    /// Taken away by [`Log::close`]; held for no longer than it takes to queue.
    writer: RwLock<Option<Writer<Submission>>>,
    stats: Arc<Mutex<Stats>>,
}

impl SqliteLog {
    /// Opens or makes the log in `state_dir`. The caller holds the directory's lock.
    ///
    /// # Errors
    ///
    /// [`OpenLogError`], saying what to do.
    pub fn open(state_dir: &Path) -> Result<(Self, Commits), OpenLogError> {
        let opened = Database::open(state_dir, SERVER)?;
        if restoring::is_half(&opened.1)? {
            let path = opened.0.path().to_owned();
            return Err(OpenLogError::HalfRestored { path });
        }
        Self::open_with(opened)
    }

    fn open_with(
        (database, connection): (Database, Connection),
    ) -> Result<(Self, Commits), OpenLogError> {
        let epoch = epoch(&connection)?;
        let (sender, commits) = Commits::channel();
        let stats = Arc::new(Mutex::new(Stats::default()));
        let log = RoomLog::new(epoch, MAX_ROOMS);
        let store = store::ServerStore::new(log, sender, Arc::clone(&stats));
        let writer = Writer::spawn(connection, store).map_err(OpenLogError::Thread)?;
        let opened = Self {
            epoch,
            readers: Readers::new(database),
            writer: RwLock::new(Some(writer)),
            stats,
        };
        Ok((opened, commits))
    }

    /// Gives the log in `state_dir` a new epoch and keeps all that is in it: everybody who
    /// follows a room is told and begins it anew. For a log that was restored from a backup, and
    /// so may give seqs again that it gave before. The caller holds the directory's lock.
    ///
    /// # Errors
    ///
    /// [`OpenLogError`], saying what to do.
    pub fn renew_epoch(state_dir: &Path) -> Result<Epoch, OpenLogError> {
        let (_, mut connection) = Database::open(state_dir, SERVER)?;
        let old = epoch(&connection)?;
        let new = Epoch::new();
        let mut renew = || -> Result<(), rusqlite::Error> {
            let transaction = connection.transaction()?;
            transaction.execute(
                "UPDATE meta SET value = ?1 WHERE key = 'epoch'",
                [new.to_bytes()],
            )?;
            transaction.execute(
                "UPDATE rooms SET epoch = ?1 WHERE epoch = ?2",
                params![new.to_bytes(), old.to_bytes()],
            )?;
            transaction.commit()
        };
        renew().map_err(StoreError::from)?;
        Ok(new)
    }

    /// Where the log of a server with this state directory is.
    #[must_use]
    pub(crate) fn path(state_dir: &Path) -> PathBuf {
        state_dir.join(SERVER.name).with_extension("db")
    }

    /// Which log is in `state_dir`, and the newest place that it has given; `None` if there is none.
    pub(crate) fn look(state_dir: &Path) -> Result<Option<(Epoch, Seq)>, OpenLogError> {
        let path = Self::path(state_dir);
        let there = path.try_exists();
        let there = there.map_err(|reason| room_log::OpenError::Io { path, reason })?;
        if !there {
            return Ok(None);
        }
        let (_, connection) = Database::open(state_dir, SERVER)?;
        Ok(Some((epoch(&connection)?, newest(&connection)?)))
    }

    /// Runs `query` on the tables.
    pub(crate) fn read<T, F>(&self, query: F) -> Reading<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let readers = self.readers.clone();
        Box::pin(async move { readers.run(query).await })
    }
}

impl Log for SqliteLog {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn submit(&self, submission: Submission) -> Result<(), Rejected> {
        let writer = self.writer.read().unwrap_or_else(PoisonError::into_inner);
        let Some(writer) = &*writer else {
            return Err(Rejected::Closed(Box::new(submission)));
        };
        writer.try_submit(submission).map_err(|error| match error {
            SubmitError::Full(submission) => Rejected::Full(Box::new(submission)),
            SubmitError::Closed(submission) => Rejected::Closed(Box::new(submission)),
        })
    }

    fn page(
        &self,
        room: &Room,
        after: Seq,
        max_entries: usize,
        max_bytes: usize,
    ) -> Reading<Vec<Committed>> {
        let (epoch, room) = (self.epoch, room.clone());
        self.read(move |connection| {
            log::page(connection, epoch, &room, after, max_entries, max_bytes)
        })
    }

    fn head(&self, room: &Room) -> Reading<Option<Head>> {
        let (epoch, room) = (self.epoch, room.clone());
        self.read(move |connection| log::head(connection, epoch, &room))
    }

    fn id_at(&self, room: &Room, seq: Seq) -> Reading<Option<MessageId>> {
        let (epoch, room) = (self.epoch, room.clone());
        self.read(move |connection| log::id_at(connection, epoch, &room, seq))
    }

    fn find(&self, room: &Room, id: MessageId) -> Reading<Option<Committed>> {
        let (epoch, room) = (self.epoch, room.clone());
        self.read(move |connection| {
            let found = log::find(connection, epoch, id)?;
            Ok(found.filter(|message| message.room == room))
        })
    }

    fn page_for(
        &self,
        host: &HostName,
        room: &Room,
        after: Seq,
        max_entries: usize,
        max_bytes: usize,
    ) -> Reading<Option<Vec<Committed>>> {
        let (epoch, room, host) = (self.epoch, room.clone(), host.clone());
        self.read(move |connection| {
            // Both are of one moment, so that nothing behind a kick is read.
            let transaction = connection.unchecked_transaction()?;
            if matches!(room, Room::Federated(_))
                && !charters::has_reader(&transaction, &room, &host)?
            {
                return Ok(None);
            }
            log::page(&transaction, epoch, &room, after, max_entries, max_bytes).map(Some)
        })
    }

    fn was_at(&self, room: &Room, seq: Seq, id: MessageId) -> Reading<bool> {
        let (epoch, room) = (self.epoch, room.clone());
        self.read(move |connection| log::was_at(connection, epoch, &room, seq, id))
    }

    fn charter(&self, room: &Room) -> Reading<Option<Charter>> {
        let room = room.clone();
        self.read(move |connection| charters::load(connection, &room))
    }

    fn has_reader(&self, room: &Room, host: &HostName) -> Reading<bool> {
        let (room, host) = (room.clone(), host.clone());
        self.read(move |connection| charters::has_reader(connection, &room, &host))
    }

    fn rooms(&self, asker: &Asker, after: Option<&FederatedRoom>) -> Reading<Listing<RoomInfo>> {
        let after = after.map_or_else(String::new, ToString::to_string);
        let (epoch, asker) = (self.epoch, asker.clone());
        self.read(move |connection| rooms(connection, epoch, &asker, after))
    }

    fn members(
        &self,
        room: &FederatedRoom,
        after: Option<&UserName>,
    ) -> Reading<Option<Listing<UserName>>> {
        let (epoch, room) = (self.epoch, Room::Federated(room.clone()));
        let after = after.map_or_else(String::new, ToString::to_string);
        self.read(move |connection| {
            if log::head(connection, epoch, &room)?.is_none() {
                return Ok(None);
            }
            let found = roster::members(connection, &room, &after, MAX_PAGE_ENTRIES + 1)?;
            Ok(Some(cut(found)))
        })
    }

    fn rooms_of(&self, user: &UserName) -> Reading<Vec<Room>> {
        let user = user.clone();
        self.read(move |connection| roster::rooms_of(connection, &user))
    }

    fn directs(&self, host: &HostName, after: Option<&Room>) -> Reading<Listing<Room>> {
        let host = host.clone();
        let after = after.map_or_else(String::new, ToString::to_string);
        self.read(move |connection| directs(connection, &host, &after))
    }

    fn free_bytes(&self) -> Reading<u64> {
        self.read(|connection| {
            let number = |name| connection.pragma_query_value(None, name, |row| row.get(0));
            let (pages, page): (u64, u64) = (number("freelist_count")?, number("page_size")?);
            Ok(pages * page)
        })
    }

    fn failed(&self) -> Pin<Box<dyn Future<Output = Arc<StoreError>> + Send>> {
        let writer = self.writer.read().unwrap_or_else(PoisonError::into_inner);
        match &*writer {
            Some(writer) => Box::pin(writer.fatal()),
            None => Box::pin(std::future::ready(Arc::new(StoreError::Closed))),
        }
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let taken = self
            .writer
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        Box::pin(async move {
            if let Some(writer) = taken {
                writer.finish().await;
            }
        })
    }

    fn busy_since(&self) -> Option<Instant> {
        let writer = self.writer.read().unwrap_or_else(PoisonError::into_inner);
        writer.as_ref().and_then(Writer::busy_since)
    }

    fn status(&self) -> LogStatus {
        let hangs = self.busy_since();
        let health = match hangs.is_some_and(|since| since.elapsed() >= SLOW_AFTER) {
            true => LogHealth::Slow {
                reason: "its disk takes long to answer".to_owned(),
            },
            false => LogHealth::Well,
        };
        LogStatus {
            health,
            ..LogStatus::database()
        }
    }

    fn stats(&self) -> Stats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The newest place that the log has given.
pub(crate) fn newest(connection: &Connection) -> Result<Seq, StoreError> {
    let newest = "SELECT coalesce(max(head), 0) FROM rooms";
    Ok(Seq::new(
        connection.query_row(newest, (), |row| row.get(0))?,
    ))
}

/// Which life this is: drawn when the file is new, kept from then on.
fn epoch(connection: &Connection) -> Result<Epoch, StoreError> {
    let stored: Option<[u8; 8]> = connection
        .query_row("SELECT value FROM meta WHERE key = 'epoch'", (), |row| {
            row.get(0)
        })
        .optional()?;
    if let Some(bytes) = stored {
        return Ok(Epoch::from_bytes(bytes));
    }
    let epoch = Epoch::new();
    connection.execute(
        "INSERT INTO meta (key, value) VALUES ('epoch', ?1)",
        [epoch.to_bytes()],
    )?;
    Ok(epoch)
}

pub(super) fn rooms(
    connection: &Connection,
    epoch: Epoch,
    asker: &Asker,
    mut after: String,
) -> Result<Listing<RoomInfo>, StoreError> {
    let mut entries = Vec::new();
    let mut bytes = 0;
    let mut more = true;
    // Rooms that nobody there may know of are passed over, so that a page is empty at the end only.
    while more {
        let found = log::rooms(connection, epoch, &after, MAX_PAGE_ENTRIES)?;
        more = found.len() == MAX_PAGE_ENTRIES;
        for (room, head) in found {
            // In order of name, `#` comes before everything that direct conversations begin with.
            let Room::Federated(name) = &room else {
                more = false;
                break;
            };
            if entries.len() == MAX_PAGE_ENTRIES || bytes >= LIST_PAGE_BYTES {
                return Ok(Listing {
                    entries,
                    more: true,
                });
            }
            room.as_str().clone_into(&mut after);
            let charter = charters::load(connection, &room)?;
            if charter.is_some_and(|charter| !asker.may_know_of(&charter)) {
                continue;
            }
            let topic = roster::topic(connection, &room)?;
            bytes += room.as_str().len() + topic.len() + size_of::<RoomInfo>();
            entries.push(RoomInfo {
                room: name.clone(),
                members: roster::member_count(connection, &room)?,
                head,
                topic,
            });
        }
    }
    Ok(Listing {
        entries,
        more: false,
    })
}

pub(super) fn directs(
    connection: &Connection,
    host: &HostName,
    after: &str,
) -> Result<Listing<Room>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT room FROM direct_hosts WHERE host = ?1 AND room > ?2 ORDER BY room LIMIT ?3",
    )?;
    let limit = MAX_PAGE_ENTRIES as i64 + 1;
    let mut rows = statement.query(params![host.as_str(), after, limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let room = Room::parse(&name).map_err(|_: RoomError| StoreError::BadValue {
            what: "direct conversation",
            value: name,
        })?;
        found.push(room);
    }
    Ok(cut(found))
}

/// Makes a page of what was read with one entry more than a page has.
pub(super) fn cut<T>(mut entries: Vec<T>) -> Listing<T> {
    let more = entries.len() > MAX_PAGE_ENTRIES;
    entries.truncate(MAX_PAGE_ENTRIES);
    Listing { entries, more }
}
