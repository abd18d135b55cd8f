//! The one thread that writes: whatever has queued up becomes one transaction.

use crate::StoreError;
use rusqlite::Connection;
use std::{fmt, io, sync::Arc, thread, time::Duration};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tracing::{error, warn};

/// Commands that may wait, and the most in one transaction: with bodies of 64 KiB at most
/// 64 MiB wait, and one fsync serves a thousand messages.
const QUEUE_COMMANDS: usize = 1_024;

/// How long the last checkpoint waits for readers: those who end the process wait with it.
const CHECKPOINT_PATIENCE: Duration = Duration::from_secs(1);

/// How much a commit must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// A crash of the process. For what can be had again from elsewhere.
    Process,
    /// A power cut: the commit waits for fsync.
    Power,
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
        thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || {
                // Dropped last, also by a panic: whoever waits for the thread then sees its end.
                let _alive = alive;
                if let Err(fatal) = write(connection, store, queue) {
                    error!(error = %fatal, "the writer stopped");
                    failed.send_replace(Some(Arc::new(fatal)));
                }
            })?;
        Ok(Self {
            commands,
            ended,
            done,
        })
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
) -> Result<(), StoreError> {
    let mut synced = Durability::Power;
    let mut batch = Vec::with_capacity(QUEUE_COMMANDS);
    while queue.blocking_recv_many(&mut batch, QUEUE_COMMANDS) > 0 {
        let mut commands = std::mem::take(&mut batch);
        let needed = commands
            .iter()
            .map(|one| store.durability(one))
            .max()
            .unwrap_or(Durability::Power);
        match commit(&connection, &mut store, &commands, needed, &mut synced) {
            Ok(outcomes) => store.committed(commands.drain(..).zip(outcomes).collect()),
            Err(error) => {
                if let Err(rollback) = roll_back(&connection) {
                    warn!(error = %rollback, "rolling back failed");
                }
                if error.is_fatal() {
                    // What is on disk is unknown: nobody gets an answer from this process.
                    return Err(error);
                }
                warn!(%error, commands = commands.len(), "a transaction was rolled back");
                store.rolled_back(std::mem::take(&mut commands), &error);
            }
        }
        batch = commands;
    }
    if let Err(error) = checkpoint(&connection) {
        // The next start does it.
        warn!(%error, "the WAL was left behind");
    }
    Ok(())
}

fn commit<S: Store>(
    connection: &Connection,
    store: &mut S,
    commands: &[S::Command],
    needed: Durability,
    synced: &mut Durability,
) -> Result<Vec<S::Outcome>, StoreError> {
    if needed != *synced {
        let level = match needed {
            Durability::Process => "normal",
            Durability::Power => "full",
        };
        connection.pragma_update(None, "synchronous", level)?;
        *synced = needed;
    }
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
    let mut outcomes = Vec::with_capacity(commands.len());
    for command in commands {
        outcomes.push(store.apply(connection, command)?);
    }
    connection.prepare_cached("COMMIT")?.execute(())?;
    Ok(outcomes)
}

fn roll_back(connection: &Connection) -> Result<(), StoreError> {
    // SQLite has rolled back on its own after some errors.
    if !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    Ok(())
}

/// Moves everything from the WAL to the file, and empties the WAL unless somebody reads.
fn checkpoint(connection: &Connection) -> Result<(), StoreError> {
    connection.busy_timeout(CHECKPOINT_PATIENCE)?;
    connection.query_row("PRAGMA wal_checkpoint(truncate)", (), |_| Ok(()))?;
    Ok(())
}
