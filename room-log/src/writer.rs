//! The one thread that writes: whatever has queued up becomes one transaction.

use crate::{
    StoreError,
    checkpoint::{self, Schedule},
    quiet::recv_many_within,
    scrub::Scrub,
    trouble::Trouble,
};
use rusqlite::Connection;
use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

/// Commands that may wait, and the most in one transaction: with bodies of 64 KiB at most
/// 64 MiB wait, and one fsync serves a thousand messages.
const QUEUE_COMMANDS: usize = 1_024;

/// How long no command has come when the writer is idle. Between two lines of a busy sender it is
/// not: a chore there would make the next line wait.
const QUIET: Duration = Duration::from_millis(20);

/// How much a commit must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// A crash of the process. For what can be had again from elsewhere.
    Process,
    /// A power cut: the commit waits for fsync.
    Power,
}

/// How urgent a store's chore is: work in small parts that no command's answer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chore {
    /// There is none.
    None,
    /// It is done when no command has come for a while, until the next one comes.
    WhenIdle,
    /// It takes turns with the transactions of commands.
    Soon,
}

/// What the writer thread does with its commands.
pub trait Store: Send + 'static {
    /// Something to write.
    type Command: Send + 'static;
    /// What came of it, kept until the transaction is durable.
    type Outcome;

    /// How much this command's commit must survive.
    fn durability(&self, command: &Self::Command) -> Durability;

    /// Writes one command into the open transaction.
    ///
    /// # Errors
    ///
    /// [`StoreError`] rolls the whole transaction back. What concerns this command alone is an
    /// outcome, not an error.
    fn apply(
        &mut self,
        transaction: &Connection,
        command: &Self::Command,
    ) -> Result<Self::Outcome, StoreError>;

    /// The transaction is durable: answer, and tell everybody.
    fn committed(&mut self, done: Vec<(Self::Command, Self::Outcome)>);

    /// Nothing of these was kept: answer, and forget what was cached on the way.
    fn rolled_back(&mut self, commands: Vec<Self::Command>, error: &StoreError);

    /// Whether a part of a chore is to be done. A writer that ends leaves it for the next start.
    fn chore(&self) -> Chore {
        Chore::None
    }

    /// Does a part that is small enough for commands to wait for, in a transaction of its own that
    /// need only survive a crash of the process.
    ///
    /// # Errors
    ///
    /// [`StoreError`] rolls the transaction back.
    fn do_chore(&mut self, _transaction: &Connection) -> Result<(), StoreError> {
        Ok(())
    }

    /// The part was committed, or rolled back: what failed should not be due again at once.
    fn chore_done(&mut self, _result: Result<(), StoreError>) {}

    /// Whether something was erased since this was asked last, so that the file must be written anew.
    fn take_traces(&mut self) -> bool {
        false
    }

    /// Deletes what is left of erased words in tables of the store's own, before the file is
    /// written anew. Not in a transaction.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it is tried again some time later.
    fn before_scrub(&mut self, _connection: &Connection) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Why a command was not queued. Gives it back.
#[derive(Error)]
pub enum SubmitError<C> {
    /// As many commands as allowed are waiting.
    #[error("the queue to the disk is full")]
    Full(C),
    /// The writer has ended.
    #[error("the database is closed")]
    Closed(C),
}

impl<C> fmt::Debug for SubmitError<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full",
            Self::Closed(_) => "Closed",
        })
    }
}

/// The handle to the writer thread. Cheap to clone; the thread ends after the last clone is
/// dropped and all that was queued is written. The file alone is whole then: what was in the WAL
/// has been moved there.
pub struct Writer<C> {
    commands: mpsc::Sender<C>,
    ended: watch::Receiver<Option<Arc<StoreError>>>,
    done: watch::Receiver<()>,
    busy: Busy,
}

/// Since when the thread has been at its transaction; `None` while it waits for commands.
#[derive(Debug, Clone, Default)]
struct Busy(Arc<Mutex<Option<Instant>>>);

impl Busy {
    fn set(&self, since: Option<Instant>) {
        // These are plain values.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for one command in the queue.
#[derive(Debug)]
pub struct Slot<'w, C>(mpsc::Permit<'w, C>);

impl<C> Slot<'_, C> {
    /// Queues the command.
    pub fn submit(self, command: C) {
        self.0.send(command);
    }
}

impl<C> Clone for Writer<C> {
    fn clone(&self) -> Self {
        Self {
            commands: self.commands.clone(),
            ended: self.ended.clone(),
            done: self.done.clone(),
            busy: self.busy.clone(),
        }
    }
}

impl<C> fmt::Debug for Writer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl<C: Send + 'static> Writer<C> {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub fn spawn<S: Store<Command = C>>(connection: Connection, store: S) -> io::Result<Self> {
        let (commands, queue) = mpsc::channel(QUEUE_COMMANDS);
        let (failed, ended) = watch::channel(None);
        let (alive, done) = watch::channel(());
        let busy = Busy::default();
        let at_work = busy.clone();
        thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || {
                // Dropped last, also by a panic: whoever waits for the thread then sees its end.
                let _alive = alive;
                if let Err(fatal) = write(connection, store, queue, &at_work) {
                    error!(error = %fatal, "the writer stopped");
                    failed.send_replace(Some(Arc::new(fatal)));
                }
            })?;
        Ok(Self {
            commands,
            ended,
            done,
            busy,
        })
    }

    /// Since when the thread has been at one transaction, with what belongs to it; `None` while it
    /// waits for commands. A disk that hangs is told by a time long ago.
    #[must_use]
    pub fn busy_since(&self) -> Option<Instant> {
        self.busy.since()
    }

    /// Queues a command if there is room.
    ///
    /// # Errors
    ///
    /// [`SubmitError`] gives the command back.
    pub fn try_submit(&self, command: C) -> Result<(), SubmitError<C>> {
        self.commands
            .try_send(command)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(command) => SubmitError::Full(command),
                mpsc::error::TrySendError::Closed(command) => SubmitError::Closed(command),
            })
    }

    /// Queues a command, waiting for room.
    ///
    /// # Errors
    ///
    /// [`SubmitError::Closed`] gives the command back.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, the command was not queued.
    pub async fn submit(&self, command: C) -> Result<(), SubmitError<C>> {
        self.commands
            .send(command)
            .await
            .map_err(|error| SubmitError::Closed(error.0))
    }

    /// Waits until there is room for one command.
    ///
    /// # Errors
    ///
    /// [`StoreError::Closed`] if the writer has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn reserve(&self) -> Result<Slot<'_, C>, StoreError> {
        self.commands
            .reserve()
            .await
            .map(Slot)
            .map_err(|_| StoreError::Closed)
    }

    /// Waits until the writer had to stop; the process must end then. The future keeps nothing
    /// of this handle, so that the writer can [`finish`](Self::finish) while somebody waits:
    /// then it gives [`StoreError::Closed`].
    pub fn fatal(&self) -> impl Future<Output = Arc<StoreError>> + Send + use<C> {
        let mut ended = self.ended.clone();
        async move {
            match ended.wait_for(Option::is_some).await {
                Ok(error) => error
                    .clone()
                    .unwrap_or_else(|| Arc::new(StoreError::Closed)),
                Err(_) => Arc::new(StoreError::Closed),
            }
        }
    }

    /// Gives this handle up and waits until the thread has written everything and ended. Other
    /// clones keep it going.
    pub async fn finish(self) {
        let Self {
            commands, mut done, ..
        } = self;
        drop(commands);
        while done.changed().await.is_ok() {}
    }
}

fn write<S: Store>(
    connection: Connection,
    mut store: S,
    mut queue: mpsc::Receiver<S::Command>,
    busy: &Busy,
) -> Result<(), StoreError> {
    let mut disk = Disk {
        level: Durability::Power,
        // That the WAL was emptied when the file was opened is not durable yet.
        unsynced: true,
        scrub: Scrub::begin(&connection)?,
        connection,
        checkpoints: Schedule::default(),
    };
    let mut trouble = Trouble::default();
    let mut batch = Vec::with_capacity(QUEUE_COMMANDS);
    let mut idle = false;
    loop {
        let chore = match store.chore() {
            _ if queue.is_closed() => Chore::None,
            Chore::None if disk.scrub.is_due() => Chore::WhenIdle,
            chore => chore,
        };
        if chore == Chore::Soon || chore == Chore::WhenIdle && idle && queue.is_empty() {
            busy.set(Some(Instant::now()));
            if store.chore() == Chore::None {
                disk.scrub(&mut store)?;
                // What could not be done is not tried again before a while has passed.
                idle = false;
            } else {
                disk.do_chore(&mut store)?;
            }
            busy.set(None);
            if queue.is_empty() {
                continue;
            }
        }
        let received = if chore == Chore::WhenIdle && !idle {
            recv_many_within(&mut queue, &mut batch, QUEUE_COMMANDS, QUIET)
        } else {
            Some(queue.blocking_recv_many(&mut batch, QUEUE_COMMANDS))
        };
        idle = received.is_none();
        match received {
            Some(0) => break,
            Some(_) => {}
            None => continue,
        }
        busy.set(Some(Instant::now()));
        let mut commands = std::mem::take(&mut batch);
        let changes = disk.connection.total_changes();
        match disk.commit(&mut store, &commands) {
            Ok(outcomes) => {
                // A full disk takes a commit that changes nothing.
                if disk.connection.total_changes() != changes
                    && let Some(left_out) = trouble.worked()
                {
                    info!(left_out, "transactions are committed again");
                }
                store.committed(commands.drain(..).zip(outcomes).collect());
                disk.look_for_traces(&mut store);
                disk.checkpoints.after_commit(&disk.connection)?;
            }
            Err(error) => {
                disk.roll_back();
                if error.is_fatal() {
                    // What is on disk is unknown: nobody gets an answer from this process.
                    checkpoint::keep_wal(&disk.connection);
                    return Err(error);
                }
                if let Some(left_out) = trouble.failed(Instant::now()) {
                    let commands = commands.len();
                    let file = disk.connection.path().unwrap_or_default();
                    warn!(%error, file, commands, left_out, "a transaction was rolled back");
                }
                store.rolled_back(std::mem::take(&mut commands), &error);
            }
        }
        batch = commands;
        busy.set(None);
    }
    match checkpoint::empty(&disk.connection) {
        Err(error) if !error.is_fatal() => {
            // The next start does it.
            warn!(%error, "the WAL was left behind");
            Ok(())
        }
        done => done,
    }
}

/// The one connection that writes.
struct Disk {
    connection: Connection,
    /// What its commits survive now.
    level: Durability,
    /// Whether a power cut could undo something that was committed before.
    unsynced: bool,
    checkpoints: Schedule,
    scrub: Scrub,
}

impl Disk {
    fn commit<S: Store>(
        &mut self,
        store: &mut S,
        commands: &[S::Command],
    ) -> Result<Vec<S::Outcome>, StoreError> {
        let needed = commands
            .iter()
            .map(|one| store.durability(one))
            .max()
            .unwrap_or(Durability::Power);
        self.set_level(needed)?;
        let connection = &self.connection;
        let changes = connection.total_changes();
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            outcomes.push(store.apply(connection, command)?);
        }
        if needed == Durability::Power && self.unsynced && connection.total_changes() == changes {
            // The answers rest on what was committed before, and a commit without a change
            // synchronises nothing.
            checkpoint::sync_wal(connection)?;
        }
        connection.prepare_cached("COMMIT")?.execute(())?;
        self.unsynced = needed < Durability::Power;
        Ok(outcomes)
    }

    /// Commits a part of the store's chore.
    ///
    /// # Errors
    ///
    /// [`StoreError`] with which the process must end.
    fn do_chore<S: Store>(&mut self, store: &mut S) -> Result<(), StoreError> {
        match self.commit_chore(store) {
            Ok(()) => {
                store.chore_done(Ok(()));
                self.look_for_traces(store);
                self.checkpoints.after_commit(&self.connection)
            }
            Err(error) => {
                self.roll_back();
                if error.is_fatal() {
                    checkpoint::keep_wal(&self.connection);
                    return Err(error);
                }
                warn!(%error, "a chore was rolled back");
                store.chore_done(Err(error));
                Ok(())
            }
        }
    }

    fn commit_chore<S: Store>(&mut self, store: &mut S) -> Result<(), StoreError> {
        self.set_level(Durability::Process)?;
        let connection = &self.connection;
        let changes = connection.total_changes();
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
        store.do_chore(connection)?;
        connection.prepare_cached("COMMIT")?.execute(())?;
        self.unsynced |= connection.total_changes() != changes;
        Ok(())
    }

    fn look_for_traces<S: Store>(&mut self, store: &mut S) {
        if store.take_traces() {
            self.scrub.note();
        }
    }

    /// Writes the file anew.
    ///
    /// # Errors
    ///
    /// [`StoreError`] with which the process must end.
    fn scrub<S: Store>(&mut self, store: &mut S) -> Result<(), StoreError> {
        self.set_level(Durability::Power)?;
        let done = self.scrub.advance(&self.connection, |connection| {
            store.before_scrub(connection)
        });
        self.roll_back();
        if done.is_err() {
            checkpoint::keep_wal(&self.connection);
        }
        done
    }

    fn set_level(&mut self, needed: Durability) -> Result<(), StoreError> {
        if needed != self.level {
            let level = match needed {
                Durability::Process => "normal",
                Durability::Power => "full",
            };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.level = needed;
        }
        Ok(())
    }

    fn roll_back(&self) {
        // SQLite has rolled back on its own after some errors.
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            warn!(%error, "rolling back failed");
        }
    }
}
