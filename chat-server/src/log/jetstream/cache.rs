//! What all commands of the stream come to, in a SQLite file of this server's own.
//!
//! Rooms, members, topics and charters are a state machine: every server does the same commands in
//! the same order with the same time, and has the same tables. The file is a cache. It says which
//! commands are in it, in the transaction that did them, and one that does not fit the stream is
//! thrown away and made anew. Of messages it holds acts, which are computed here, and what remains of
//! those that were erased.

use super::entry::{Command, Found, Ordered, Remains};
use crate::log::{
    Commit,
    judge::{Judge, Outcome, too_many_rooms},
    sqlite::{CREATED_SCHEMA, SERVER_SCHEMA},
};
use protocol::{
    Committed, EDIT_TAG, ERASED_TAG, EncodedBody, Epoch, MessageId, Room, Seq, UserName,
    federation::{Refusal, Reply},
    governance::Act,
    limits::MAX_ROOMS,
};
use room_log::{
    Application, BASE_SCHEMA, Database, Deed, Durability, GOVERNANCE_SCHEMA, Ingested, OpenError,
    Readers, RoomLog, Store, StoreError, Writer, erasing,
};
use rusqlite::{Connection, OptionalExtension, params};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;
use tracing::{info, warn};

/// Messages whose words are gone here, and not yet from the stream.
const ERASING_SCHEMA: &str = "
CREATE TABLE erasing (
    seq    INTEGER PRIMARY KEY,
    room   TEXT NOT NULL,
    id     BLOB NOT NULL,
    author TEXT NOT NULL
);
";

const CACHE: Application = Application {
    name: "jetstream",
    // \"chtj\" in ASCII.
    id: 0x6368_746a,
    migrations: &[
        BASE_SCHEMA,
        SERVER_SCHEMA,
        CREATED_SCHEMA,
        GOVERNANCE_SCHEMA,
        ERASING_SCHEMA,
    ],
};

/// The epoch of the stream that the cache is of.
const EPOCH: &str = "epoch";

/// The last command that is done here.
const APPLIED: &str = "applied";

/// What is said of a cache that has ended.
const CLOSED: &str = "the cache of the log is closed";

/// How long an agent waits before it asks again for what could not be judged.
const RETRY_AFTER_MS: u32 = 200;

/// The cache, open.
#[derive(Debug)]
pub(super) struct Cache {
    /// Taken away at the end; held for no longer than it takes to clone it.
    writer: Mutex<Option<Writer<Task>>>,
    readers: Readers,
}

/// Something for the thread that writes.
#[derive(Debug)]
pub(super) enum Task {
    /// Do commands.
    Apply {
        commands: Vec<Ordered>,
        done: oneshot::Sender<Result<Vec<Outcome>, String>>,
    },
    /// These are gone from the stream.
    Erased { seqs: Vec<Seq> },
}

impl Cache {
    /// Opens the cache in `state_dir` of the stream of life `epoch`, whose newest entry is `newest`;
    /// makes it anew if it is of another or damaged. Returns which command is the last one in it, too.
    pub(super) fn open(
        state_dir: &Path,
        epoch: Epoch,
        newest: Seq,
    ) -> Result<(Self, Seq), OpenError> {
        let (database, connection, applied) = match Self::try_open(state_dir, epoch, newest) {
            Ok(Some(opened)) => opened,
            other => {
                match other {
                    Err(error @ (OpenError::Io { .. } | OpenError::Privacy(_))) => {
                        return Err(error);
                    }
                    Err(error) => warn!(%error, "the cache of the log is made anew"),
                    Ok(_) => info!("the cache is of another log, and made anew"),
                }
                let path = Self::path(state_dir);
                for suffix in ["db", "db-wal", "db-shm", "exists"] {
                    let path = path.with_extension(suffix);
                    match fs::remove_file(&path) {
                        Err(reason) if reason.kind() != io::ErrorKind::NotFound => {
                            return Err(OpenError::Io { path, reason });
                        }
                        _ => {}
                    }
                }
                match Self::try_open(state_dir, epoch, newest)? {
                    Some(opened) => opened,
                    None => {
                        let what = StoreError::bad("epoch", "another than just written");
                        let path = path.with_extension("db");
                        return Err(OpenError::Store { path, reason: what });
                    }
                }
            }
        };
        let path = database.path().to_owned();
        let store = CacheStore {
            judge: Judge::new(RoomLog::new(epoch, MAX_ROOMS)),
        };
        let writer =
            Writer::spawn(connection, store).map_err(|reason| OpenError::Io { path, reason })?;
        let readers = Readers::new(database);
        let writer = Mutex::new(Some(writer));
        Ok((Self { writer, readers }, applied))
    }

    /// Where the cache of a server with this state directory is.
    pub(super) fn path(state_dir: &Path) -> PathBuf {
        state_dir.join(CACHE.name).with_extension("db")
    }

    fn try_open(
        state_dir: &Path,
        epoch: Epoch,
        newest: Seq,
    ) -> Result<Option<(Database, Connection, Seq)>, OpenError> {
        let (database, connection) = Database::open(state_dir, CACHE)?;
        let look = || -> Result<Option<Seq>, StoreError> {
            let stored: Option<[u8; 8]> = meta(&connection, EPOCH)?;
            let Some(stored) = stored else {
                connection.execute(
                    "INSERT INTO meta (key, value) VALUES (?1, ?2)",
                    params![EPOCH, epoch.to_bytes()],
                )?;
                return Ok(Some(Seq::START));
            };
            let applied = meta(&connection, APPLIED)?.map_or(0, u64::from_be_bytes);
            let fits = Epoch::from_bytes(stored) == epoch && applied <= newest.number();
            Ok(fits.then_some(Seq::new(applied)))
        };
        let applied = look().map_err(|reason| OpenError::Store {
            path: database.path().to_owned(),
            reason,
        })?;
        Ok(applied.map(|applied| (database, connection, applied)))
    }

    /// Does `commands`, the next ones of the stream, and tells what came of each.
    pub(super) async fn apply(&self, commands: Vec<Ordered>) -> Result<Vec<Outcome>, String> {
        let (done, outcomes) = oneshot::channel();
        self.submit(Task::Apply { commands, done }).await?;
        outcomes.await.map_err(|_| CLOSED.to_owned())?
    }

    /// These messages are gone from the stream.
    pub(super) async fn erased(&self, seqs: Vec<Seq>) -> Result<(), String> {
        self.submit(Task::Erased { seqs }).await
    }

    async fn submit(&self, task: Task) -> Result<(), String> {
        let writer = self.lock().clone();
        let Some(writer) = writer else {
            return Err(CLOSED.to_owned());
        };
        let submitted = writer.submit(task).await;
        submitted.map_err(|_| CLOSED.to_owned())
    }

    /// Runs `query` on what is done by now.
    pub(super) async fn read<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.readers.run(query).await
    }

    /// Waits until the thread that writes had to stop, or has ended.
    pub(super) async fn fatal(&self) -> Arc<StoreError> {
        let fatal = self.lock().as_ref().map(Writer::fatal);
        match fatal {
            Some(fatal) => fatal.await,
            None => Arc::new(StoreError::Closed),
        }
    }

    /// Ends after all that was submitted is done.
    pub(super) async fn close(&self) {
        let writer = self.lock().take();
        if let Some(writer) = writer {
            writer.finish().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Writer<Task>>> {
        // It is cloned or taken, nothing in between.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Messages that are to be erased from the stream, oldest first.
pub(super) fn to_erase(
    connection: &Connection,
    limit: usize,
) -> Result<Vec<(Room, Remains)>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT seq, room, id, author FROM erasing ORDER BY seq LIMIT ?1")?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statement.query([limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (seq, room, id, author): (u64, String, [u8; 16], String) =
            (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        let remains = Remains {
            seq: Seq::new(seq),
            id: MessageId::from_bytes(id),
            author: Some(UserName::parse(&author).map_err(|_| StoreError::bad("author", author))?),
        };
        let room = Room::parse(&room).map_err(|_| StoreError::bad("room", room))?;
        found.push((room, remains));
    }
    Ok(found)
}

fn meta<const N: usize>(
    connection: &Connection,
    key: &str,
) -> Result<Option<[u8; N]>, rusqlite::Error> {
    connection
        .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| {
            row.get(0)
        })
        .optional()
}

/// What the thread that writes does with each command.
#[derive(Debug)]
struct CacheStore {
    judge: Judge,
}

impl CacheStore {
    fn apply(
        &mut self,
        transaction: &Connection,
        ordered: &Ordered,
    ) -> Result<Outcome, StoreError> {
        let Ordered { seq, at, command } = ordered;
        // What this writes gets the command's own place.
        let before = Seq::new(seq.number().saturating_sub(1));
        self.judge.log.resume_behind(before);
        match command {
            Command::Found { room, by } => self.found(transaction, room, by),
            Command::Join { room, user } => self.judge.join(transaction, room, user),
            Command::Leave { room, user, id } => {
                self.judge.leave(transaction, room, user, (*id, *at))
            }
            Command::Topic { room, user, topic } => {
                self.judge.set_topic(transaction, room, user, topic)
            }
            Command::Place { .. } => Ok(Outcome::quiet(Ok(Reply::Done))),
            Command::Act {
                room,
                user,
                id,
                act,
                placed,
                found,
            } => {
                let opens = matches!(act, Act::Opened { .. });
                if !opens
                    && self.judge.log.has_room(transaction, room)?
                    && !self.judge.is_governed(transaction, room)?
                {
                    if !placed {
                        // Whoever sent this knew of another room; asked again, it knows of this.
                        return Ok(Outcome::quiet(Err(changed_meanwhile())));
                    }
                    let before = Seq::new(seq.number().saturating_sub(2));
                    self.judge.log.resume_behind(before);
                }
                self.lay_out(transaction, room, found)?;
                let deed = Deed {
                    room,
                    actor: user,
                    id: *id,
                    act,
                };
                let outcome = self.judge.govern(transaction, deed, *at)?;
                self.put_away(transaction, room, found)?;
                Ok(outcome)
            }
            Command::TakenBack {
                room,
                by,
                id,
                found,
            } => {
                self.lay_out(transaction, room, found)?;
                let own = |author: &UserName| author == by;
                let erased = erasing::erase(transaction, room, *id, own)?;
                self.put_away(transaction, room, found)?;
                Ok(Outcome {
                    answer: Ok(Reply::Done),
                    commits: Vec::new(),
                    erased,
                })
            }
            Command::Retired { room, up_to } => {
                transaction
                    .prepare_cached(
                        "DELETE FROM messages WHERE seq <= ?3 AND body = ?4 AND room_id =
                         (SELECT room_id FROM rooms WHERE epoch = ?1 AND name = ?2)",
                    )?
                    .execute(params![
                        self.judge.log.epoch().to_bytes(),
                        room.as_str(),
                        up_to.number(),
                        [ERASED_TAG]
                    ])?;
                Ok(Outcome::quiet(Ok(Reply::Done)))
            }
            Command::Restored { room, state } => {
                let restored = self.judge.restore(transaction, room, state)?;
                Ok(Outcome::quiet(restored.map(|()| Reply::Done)))
            }
            Command::RestoredPeople {
                room,
                members,
                kicked,
            } => {
                self.judge
                    .restore_people(transaction, room, members, kicked)?;
                Ok(Outcome::quiet(Ok(Reply::Done)))
            }
            Command::Record { .. } => self.record(transaction, *seq, command),
            Command::Made { host, rooms } => {
                self.judge.restore_made(transaction, host, *rooms)?;
                Ok(Outcome::quiet(Ok(Reply::Done)))
            }
        }
    }

    /// Keeps an act, or what remains of a message, as it was in another log.
    fn record(
        &mut self,
        transaction: &Connection,
        seq: Seq,
        command: &Command,
    ) -> Result<Outcome, StoreError> {
        let Command::Record {
            room,
            id,
            author,
            sent_at,
            committed_at,
            body,
        } = command
        else {
            return Ok(Outcome::quiet(Ok(Reply::Done)));
        };
        let body = EncodedBody::from_bytes(body.0.clone())
            .map_err(|error| StoreError::bad("body", error))?;
        let message = Committed {
            room: room.clone(),
            seq,
            prev_seq: Seq::START,
            committed_at: *committed_at,
            id: *id,
            author: author.clone(),
            sent_at: *sent_at,
            body,
        };
        match self.judge.log.ingest(transaction, &message)? {
            Ingested::New => Ok(Outcome::quiet(Ok(Reply::Done))),
            // All servers find the same: it was written after something with its id.
            other => {
                warn!(%room, %seq, ?other, "a record has no place");
                Ok(Outcome::quiet(Ok(Reply::Done)))
            }
        }
    }

    fn found(
        &mut self,
        transaction: &Connection,
        room: &Room,
        by: &UserName,
    ) -> Result<Outcome, StoreError> {
        match self.judge.creates(transaction, room, &by.host)? {
            Ok(true) => {}
            Ok(false) => return Ok(Outcome::quiet(Ok(Reply::Done))),
            Err(refusal) => return Ok(Outcome::quiet(Err(refusal))),
        }
        if self.judge.log.ensure_room(transaction, room)?.is_none() {
            return Ok(Outcome::quiet(Err(too_many_rooms())));
        }
        self.judge.created(transaction, room, by)?;
        self.judge.introduce(transaction, room)?;
        let mut outcome = Outcome::quiet(Ok(Reply::Done));
        if let Room::Direct(conversation) = room {
            let conversation = conversation.clone();
            outcome.commits.push(Commit::Opened { conversation });
        }
        Ok(outcome)
    }

    /// Puts what is known of messages where those look that judge who may erase them.
    fn lay_out(
        &self,
        transaction: &Connection,
        room: &Room,
        found: &[Found],
    ) -> Result<(), StoreError> {
        for one in found {
            let mut body = Vec::with_capacity(EDIT_TAG.len() + 16);
            match one.edits {
                Some(of) => {
                    body.extend_from_slice(&EDIT_TAG);
                    body.extend(of.to_bytes().iter().rev());
                }
                None => body.push(0),
            }
            transaction
                .prepare_cached(
                    "INSERT OR IGNORE INTO messages
                     (room_id, seq, prev_seq, committed_at, id, author, sent_at, body)
                     SELECT room_id, ?3, 0, ?4, ?5, ?6, ?7, ?8 FROM rooms
                     WHERE epoch = ?1 AND name = ?2",
                )?
                .execute(params![
                    self.judge.log.epoch().to_bytes(),
                    room.as_str(),
                    one.seq.number(),
                    one.committed_at.micros(),
                    one.id.to_bytes(),
                    one.author.to_string(),
                    one.sent_at.micros(),
                    body,
                ])?;
        }
        Ok(())
    }

    /// Takes away again what was not erased, and remembers what is to go from the stream.
    fn put_away(
        &self,
        transaction: &Connection,
        room: &Room,
        found: &[Found],
    ) -> Result<(), StoreError> {
        let epoch = self.judge.log.epoch().to_bytes();
        for one in found {
            let seq = one.seq.number();
            let erased = transaction
                .prepare_cached(
                    "INSERT OR IGNORE INTO erasing (seq, room, id, author)
                     SELECT seq, name, id, author FROM messages JOIN rooms USING (room_id)
                     WHERE epoch = ?1 AND name = ?2 AND seq = ?3 AND body = ?4",
                )?
                .execute(params![epoch, room.as_str(), seq, [ERASED_TAG]])?;
            if erased == 0 {
                transaction
                    .prepare_cached(
                        "DELETE FROM messages WHERE seq = ?3 AND body <> ?4 AND room_id =
                         (SELECT room_id FROM rooms WHERE epoch = ?1 AND name = ?2)",
                    )?
                    .execute(params![epoch, room.as_str(), seq, [ERASED_TAG]])?;
            }
        }
        Ok(())
    }
}

impl Store for CacheStore {
    type Command = Task;
    type Outcome = Vec<Outcome>;

    fn durability(&self, _: &Task) -> Durability {
        // All of it can be had again from the stream.
        Durability::Process
    }

    fn apply(&mut self, transaction: &Connection, task: &Task) -> Result<Vec<Outcome>, StoreError> {
        match task {
            Task::Apply { commands, .. } => {
                let mut outcomes = Vec::with_capacity(commands.len());
                for ordered in commands {
                    outcomes.push(Self::apply(self, transaction, ordered)?);
                }
                if let Some(last) = commands.last() {
                    transaction
                        .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)")?
                        .execute(params![APPLIED, last.seq.number().to_be_bytes()])?;
                }
                Ok(outcomes)
            }
            Task::Erased { seqs } => {
                for seq in seqs {
                    transaction
                        .prepare_cached("DELETE FROM erasing WHERE seq = ?1")?
                        .execute([seq.number()])?;
                }
                Ok(Vec::new())
            }
        }
    }

    fn committed(&mut self, done: Vec<(Task, Vec<Outcome>)>) {
        for (task, outcomes) in done {
            if let Task::Apply { done, .. } = task {
                // Whoever asked has ended.
                let _gone = done.send(Ok(outcomes));
            }
        }
    }

    fn rolled_back(&mut self, tasks: Vec<Task>, error: &StoreError) {
        self.judge.forget();
        for task in tasks {
            if let Task::Apply { done, .. } = task {
                let _gone = done.send(Err(error.to_string()));
            }
        }
    }
}

fn changed_meanwhile() -> Refusal {
    Refusal::NotYet {
        retry_after_ms: RETRY_AFTER_MS,
        reason: "the room has changed meanwhile".to_owned(),
    }
}
