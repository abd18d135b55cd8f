//! A register that several servers share: each does the operations of the stream in its order, and
//! answers those that it asked for itself when it has done them.
//!
//! The file of each server says how far it is, in the same transaction as what came of it, so that
//! an operation is done once however often the server is killed. Two servers that ask for the same at
//! the same moment, say the last use of one invitation, agree on who got it.

use super::{
    OpenRegisterError, PutOut, Register, RegisterError, RegisterStreamError,
    operation::{Operation, Outcome},
    store,
    stream::{Ordered, RegisterStream},
    writing::{Command, RegisterStore},
};
use crate::{log::JetStreamSettings, nats::NatsError};
use async_nats::Subscriber;
use futures_util::{FutureExt, StreamExt};
use room_log::{Database, OpenError, Readers, StoreError, Writer};
use rusqlite::Connection;
use std::{
    collections::HashMap,
    fs,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use thiserror::Error;
use tokio::{
    sync::{Notify, oneshot, watch},
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

/// How often it is looked for what nobody told of.
const INTERVAL: Duration = Duration::from_secs(2);

/// How soon it is looked again when something is known to come, or when nobody answered.
const RETRY: Duration = Duration::from_millis(100);

/// How long whoever wants something done waits for it: less than a host has to say who it is.
const DONE_WITHIN: Duration = Duration::from_secs(4);

/// How long a host waits that is refused by what is known, until it is known whether that is all.
const KNOWN_WITHIN: Duration = Duration::from_secs(2);

/// What those who ask and the one who follows have in common.
#[derive(Debug)]
pub(super) struct Shared {
    stream: RegisterStream,
    /// Who waits for which operation; as many as there are connections at most.
    waiting: Mutex<HashMap<String, oneshot::Sender<Outcome>>>,
    /// There is something to look for.
    wake: Notify,
    rounds: watch::Sender<Rounds>,
    failed: watch::Sender<Option<Arc<StoreError>>>,
}

/// How often it was looked.
#[derive(Debug, Clone, Copy, Default)]
struct Rounds {
    begun: u64,
    ended: u64,
    /// Whether the last one found everything there was.
    complete: bool,
}

/// Why a round did not find everything.
#[derive(Debug, Error)]
enum RoundError {
    #[error(transparent)]
    Stream(#[from] RegisterStreamError),
    #[error(transparent)]
    Nats(#[from] NatsError),
    #[error("whoever answered has not got everything yet")]
    Behind,
    #[error("{0}")]
    NotWritten(#[from] RegisterError),
    /// The process must end.
    #[error("{0}")]
    Fatal(StoreError),
}

/// Takes its place among those who wait, until it is dropped.
struct Ticket<'s> {
    shared: &'s Shared,
    number: String,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.shared.lock_waiting().remove(&self.number);
    }
}

impl Shared {
    /// Has `operation` done by all servers; answers what came of it here.
    pub(super) async fn submit(&self, operation: &Operation) -> Result<Outcome, RegisterError> {
        if !self.stream.is_connected() {
            return Err(RegisterError::Unreachable("NATS: not connected".to_owned()));
        }
        let (answer, answered) = oneshot::channel();
        let number = format!("{:032x}", rand::random::<u128>());
        self.lock_waiting().insert(number.clone(), answer);
        let ticket = Ticket {
            shared: self,
            number,
        };
        let done = async {
            let appended = self.stream.append(&ticket.number, operation).await;
            appended.map_err(|error| RegisterError::Unreachable(error.to_string()))?;
            self.wake.notify_one();
            answered.await.map_err(|_| RegisterError::Busy)
        };
        match timeout(DONE_WITHIN, done).await {
            Ok(outcome) => outcome,
            Err(_) => Err(RegisterError::Unreachable(
                "NATS: no answer in time".to_owned(),
            )),
        }
    }

    /// Waits until everything is known here that was durable when this was called.
    pub(super) async fn refresh(&self) -> Result<(), RegisterError> {
        let mut rounds = self.rounds.subscribe();
        // One that is under way may have looked already.
        let enough = rounds.borrow().begun + 1;
        self.wake.notify_one();
        let looked = rounds.wait_for(|rounds| rounds.ended >= enough);
        match timeout(KNOWN_WITHIN, looked).await {
            Ok(Ok(rounds)) if rounds.complete => Ok(()),
            _ => Err(RegisterError::Unreachable(
                "whether another server has let them in is not known".to_owned(),
            )),
        }
    }

    /// Waits until nobody can follow any more; the process must end then.
    pub(super) async fn failed(&self) -> Arc<StoreError> {
        let mut failed = self.failed.subscribe();
        let found = failed.wait_for(Option::is_some).await;
        match found.ok().and_then(|found| found.clone()) {
            Some(error) => error,
            None => Arc::new(StoreError::Closed),
        }
    }

    fn lock_waiting(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Outcome>>> {
        // Held for one operation on the map.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does what comes of the stream, for ever.
#[derive(Debug)]
pub struct Follower {
    register: Register,
    shared: Arc<Shared>,
    news: Subscriber,
    epoch: String,
    /// Everything up to this entry was done.
    applied: u64,
}

/// Opens the cache in `state_dir`, and does what it has not done yet.
pub(super) async fn open(
    state_dir: &Path,
    settings: &JetStreamSettings,
) -> Result<(Register, Follower), OpenRegisterError> {
    let (stream, facts) = RegisterStream::open(settings).await?;
    let news = stream.listen().await.map_err(RegisterStreamError::from)?;
    let dir = state_dir.to_owned();
    let opening = spawn_blocking(move || {
        let (database, connection) = open_cache(&dir)?;
        let followed = store::followed(&connection)?;
        if followed.is_none() && !store::is_new(&connection)? {
            return Err(OpenRegisterError::OwnHosts {
                path: dir.join("register.db"),
            });
        }
        let writer = Writer::spawn(connection, RegisterStore).map_err(OpenRegisterError::Thread)?;
        Ok((Readers::new(database), writer, followed))
    });
    let opened = opening.await;
    let (readers, writer, followed) =
        opened.map_err(|error| OpenRegisterError::Thread(error.into()))??;
    let name = stream.name().to_owned();
    let shared = Arc::new(Shared {
        stream,
        waiting: Mutex::default(),
        wake: Notify::new(),
        rounds: watch::Sender::new(Rounds::default()),
        failed: watch::Sender::new(None),
    });
    let register = Register {
        readers,
        writer,
        revocations: Arc::default(),
        shared: Some(Arc::clone(&shared)),
    };
    let applied = match followed {
        Some((epoch, applied)) if epoch == facts.epoch && applied <= facts.newest => applied,
        other => {
            if other.is_some() {
                warn!(stream = %name, "this is another register than before: it is read anew");
            }
            let stream = Some(facts.epoch.clone());
            let begun = register.command(|answer| Command::Begin { stream, answer });
            begun
                .await
                .map_err(|error| StoreError::Unreachable(error.to_string()))?;
            0
        }
    };
    let mut follower = Follower {
        register: register.clone(),
        shared,
        news,
        epoch: facts.epoch,
        applied,
    };
    let mut attempts = 0;
    // A server that has not got everything yet, right after a start, soon has.
    while let Err(error) = follower.round(&|_| {}).await {
        attempts += 1;
        if attempts > 50 || !matches!(error, RoundError::Behind) {
            return Err(RegisterStreamError::NotFollowed {
                stream: name,
                reason: error.to_string(),
            }
            .into());
        }
        sleep(RETRY).await;
    }
    info!(stream = %name, entries = follower.applied, "the register is shared with other servers");
    Ok((register, follower))
}

/// Opens the file. One that is lost says nothing that the stream does not: it is begun anew.
fn open_cache(dir: &Path) -> Result<(Database, Connection), OpenError> {
    match Database::open(dir, store::REGISTER) {
        Err(OpenError::Missing { path, marker }) => {
            warn!(file = %path.display(), "the register's file is gone, and read anew");
            fs::remove_file(&marker).map_err(|reason| OpenError::Io {
                path: marker.clone(),
                reason,
            })?;
            Database::open(dir, store::REGISTER)
        }
        opened => opened,
    }
}

impl Follower {
    /// Follows, and tells `put_out` of everybody who is put out before anybody is answered. Returns
    /// only when nobody can follow any more.
    pub(crate) async fn run(mut self, put_out: impl Fn(PutOut)) {
        let mut links = self.shared.stream.links();
        let mut well = true;
        loop {
            let looked = self.look(&put_out).await;
            match &looked {
                Ok(()) if !well => info!("the register can be reached again"),
                Err(RoundError::Fatal(_)) => return,
                Err(error) if well => warn!(%error, "the register is not followed"),
                Ok(()) | Err(_) => {}
            }
            well = looked.is_ok() || matches!(looked, Err(RoundError::Behind));
            let pause = if looked.is_ok() { INTERVAL } else { RETRY };
            tokio::select! {
                () = self.shared.wake.notified() => {}
                Some(_) = self.news.next() => {
                    // One look is enough for all of them.
                    while let Some(Some(_)) = self.news.next().now_or_never() {}
                }
                Ok(()) = links.changed() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// A round that others can wait for.
    async fn look(&mut self, put_out: &impl Fn(PutOut)) -> Result<(), RoundError> {
        let rounds = self.shared.rounds.clone();
        rounds.send_modify(|rounds| rounds.begun += 1);
        let looked = self.round(put_out).await;
        if let Err(RoundError::Fatal(error)) = &looked {
            // Only its words are needed by others.
            let told = StoreError::bad("register", error);
            self.shared.failed.send_replace(Some(Arc::new(told)));
        }
        rounds.send_modify(|rounds| {
            rounds.ended = rounds.begun;
            rounds.complete = looked.is_ok();
        });
        looked
    }

    /// Does everything that there is.
    async fn round(&mut self, put_out: &impl Fn(PutOut)) -> Result<(), RoundError> {
        let shared = Arc::clone(&self.shared);
        let replaced = || RoundError::Fatal(StoreError::bad("stream", shared.stream.name()));
        let facts = shared.stream.facts().await?.ok_or_else(replaced)?;
        if facts.epoch != self.epoch || facts.newest < self.applied {
            return Err(replaced());
        }
        while self.applied < facts.newest {
            let page = shared.stream.read(self.applied).await?;
            if page.is_empty() {
                return Err(RoundError::Behind);
            }
            self.apply(page, put_out).await?;
        }
        Ok(())
    }

    async fn apply(
        &mut self,
        page: Vec<Ordered>,
        put_out: &impl Fn(PutOut),
    ) -> Result<(), RoundError> {
        let mut operations = Vec::with_capacity(page.len());
        let mut tickets = Vec::with_capacity(page.len());
        let mut last = self.applied;
        for entry in page {
            if entry.seq != last + 1 {
                let gap = format!("{} after {last}", entry.seq);
                return Err(RoundError::Fatal(StoreError::bad("entry", gap)));
            }
            // To leave it out would be to be of another mind than the others.
            let operation = entry.operation.map_err(|error| {
                let what = format!("entry {}: {error}: a newer server wrote it", entry.seq);
                RoundError::Fatal(StoreError::bad("operation", what))
            })?;
            operations.push(operation);
            tickets.push(entry.ticket);
            last = entry.seq;
        }
        let done = operations.clone();
        let following = self.register.command(|answer| Command::Follow {
            operations,
            last,
            answer,
        });
        let outcomes = following.await?;
        self.applied = last;
        for ((operation, outcome), ticket) in done.iter().zip(outcomes).zip(tickets) {
            if let Some(somebody) = operation.puts_out(&outcome) {
                self.register.note_revocation();
                put_out(somebody);
            }
            let waiting = ticket.and_then(|ticket| self.shared.lock_waiting().remove(&ticket));
            if waiting.is_some_and(|answer| answer.send(outcome).is_err()) {
                debug!("whoever asked for an operation has gone");
            }
        }
        Ok(())
    }
}
