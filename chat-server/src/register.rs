//! Who is let in: the agents by their keys, and the invitations for new ones.
//!
//! Kept in a file of its own beside the log: what it says is asked once a connection, and belongs
//! to no room. Everything is durable before it is answered.
//!
//! It is the server's own, or several servers share it: then what changes it goes through a stream of
//! NATS JetStream (`follower.rs`), and the file is a cache of what came of that.

mod follower;
pub(crate) mod moving;
mod operation;
mod store;
mod stream;
mod writing;

use crate::log::JetStreamSettings;
pub use follower::Follower;
use follower::Shared;
pub(crate) use operation::{Admitted, PutOut};
use operation::{Operation, Outcome};
use protocol::{
    HostName, Invitation, KeyFingerprint, Timestamp,
    admin::{AgentInfo, InvitationInfo},
    federation::Refusal,
    limits::MAX_PAGE_ENTRIES,
};
use room_log::{Database, OpenError, Readers, StoreError, SubmitError, Writer};
use serde::{Deserialize, Serialize};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};
use store::Enrolment;
pub use stream::RegisterStreamError;
use thiserror::Error;
use tokio::sync::oneshot;
use trust::Peer;
use writing::{Command, RegisterStore};

/// Why the register cannot be opened. The message says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenRegisterError {
    /// The database is not used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The system gives no thread to write in.
    #[error("cannot start the writer: {0}")]
    Thread(#[source] io::Error),
    /// The tables cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stream that servers share is not used.
    #[error(transparent)]
    Stream(#[from] RegisterStreamError),
    /// Hosts were let in by this server alone, and the stream knows nothing of them.
    #[error(
        "{path} says whom this server let in before it had a log on NATS, and no other server knows \
         of them: bring them there with `chat server export` and `chat server import`; or move the \
         file away, start again, and invite those hosts anew",
        path = path.display()
    )]
    OwnHosts {
        /// The file.
        path: PathBuf,
    },
}

/// Why something was not noted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The rules say no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What was named is not there.
    #[error("there is no such entry")]
    Missing,
    /// It could not be read or written.
    #[error("{0}")]
    Store(String),
    /// Servers share it, and where it is kept nobody answers. What is known here can be read; what was
    /// asked may have been done all the same, and may be asked again.
    #[error("who is let in cannot be changed now: {0}")]
    Unreachable(String),
    /// More is waiting to be written than may wait, or the server ends.
    #[error("the register is busy or closed")]
    Busy,
}

impl RegisterError {
    /// What an agent is told.
    fn into_refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            other => Refusal::Unavailable {
                reason: other.to_string(),
            },
        }
    }
}

impl From<StoreError> for RegisterError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

/// How an invitation is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewInvitation {
    /// How many hosts it lets in.
    pub uses: u32,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The one host that it is for, if it is not for any.
    pub host: Option<HostName>,
}

/// One page of a list.
pub type Page<T> = (Vec<T>, bool);

/// The register of agents and invitations. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Register {
    readers: Readers,
    writer: Writer<Command>,
    revocations: Arc<AtomicU64>,
    /// What servers share; `None` for a register that is this server's own.
    shared: Option<Arc<Shared>>,
}

impl Register {
    /// Opens or makes `<state dir>/register.db`, which is this server's own. The caller holds the
    /// directory's lock.
    ///
    /// # Errors
    ///
    /// [`OpenRegisterError`], saying what to do.
    pub fn open(state_dir: &Path) -> Result<Self, OpenRegisterError> {
        let (database, connection) = Database::open(state_dir, store::REGISTER)?;
        // If it was a cache, it will not be what the stream says for long.
        store::follow_nothing(&connection)?;
        moving::unmark(&connection)?;
        let writer = Writer::spawn(connection, RegisterStore).map_err(OpenRegisterError::Thread)?;
        Ok(Self {
            readers: Readers::new(database),
            writer,
            revocations: Arc::default(),
            shared: None,
        })
    }

    /// Opens the register that all servers of the log of `settings` share, and catches up with it.
    /// `<state dir>/register.db` is a cache of it; the caller holds the directory's lock. It goes on
    /// as long as the [`Follower`] runs.
    ///
    /// # Errors
    ///
    /// [`OpenRegisterError`], saying what to do.
    pub async fn open_shared(
        state_dir: &Path,
        settings: &JetStreamSettings,
    ) -> Result<(Self, Follower), OpenRegisterError> {
        follower::open(state_dir, settings).await
    }

    /// Lets the agent with `key` in as `host`, also if it is in already. Returns the name that
    /// the key gave up for it: nobody may speak under that one any more.
    ///
    /// # Errors
    ///
    /// The [`Refusal`] to answer.
    pub(crate) async fn enrol(
        &self,
        key: KeyFingerprint,
        host: HostName,
        invitation: Invitation,
    ) -> Result<Option<HostName>, Refusal> {
        let (invitation, now) = (invitation.digest(), now());
        if let Some(shared) = &self.shared {
            // What is refused, or done already, is not written into a stream that keeps everything.
            let mut judged = self.judge_enrolment(key, &host, invitation, now).await?;
            if judged.is_err() {
                shared
                    .refresh()
                    .await
                    .map_err(RegisterError::into_refusal)?;
                judged = self.judge_enrolment(key, &host, invitation, now).await?;
            }
            if judged? == Enrolment::Already {
                return Ok(None);
            }
        }
        let operation = Operation::Enrol {
            key,
            host,
            invitation,
            now,
        };
        match self.write(operation).await {
            Ok(Outcome::Enrolled(gave_up)) => Ok(gave_up),
            Ok(outcome) => Err(unexpected(&outcome).into_refusal()),
            Err(error) => Err(error.into_refusal()),
        }
    }

    async fn judge_enrolment(
        &self,
        key: KeyFingerprint,
        host: &HostName,
        digest: [u8; 32],
        now: Timestamp,
    ) -> Result<Result<Enrolment, Refusal>, Refusal> {
        let host = host.clone();
        let judged = self
            .readers
            .run(move |tables| store::judge_enrolment(tables, key, &host, &digest, now));
        let judged = judged.await;
        judged.map_err(|error| RegisterError::from(error).into_refusal())
    }

    /// Whether the agent behind `peer` may speak for `host`.
    ///
    /// # Errors
    ///
    /// The [`Refusal`] to answer.
    pub(crate) async fn admit(&self, peer: &Peer, host: &HostName) -> Result<Admitted, Refusal> {
        let mut judged = self.judge(peer, host).await;
        if let (Err(_), Some(shared)) = (&judged, &self.shared) {
            // Another server may have let them in a moment ago.
            shared
                .refresh()
                .await
                .map_err(RegisterError::into_refusal)?;
            judged = self.judge(peer, host).await;
        }
        if let Some(admitted) = judged? {
            return Ok(admitted);
        }
        let operation = Operation::Admit {
            key: peer.key,
            host: host.clone(),
            vouched: peer.vouched.contains(host),
            now: now(),
        };
        match self.write(operation).await {
            Ok(Outcome::Admitted(admitted)) => Ok(admitted),
            Ok(outcome) => Err(unexpected(&outcome).into_refusal()),
            Err(error) => Err(error.into_refusal()),
        }
    }

    /// What the tables say of that; `None` if something is to be noted of it first.
    async fn judge(&self, peer: &Peer, host: &HostName) -> Result<Option<Admitted>, Refusal> {
        let key = peer.key;
        let found = self
            .readers
            .run(move |connection| store::find(connection, key))
            .await;
        let found = found.map_err(|error| RegisterError::from(error).into_refusal())?;
        match found {
            Some(entry) if entry.revoked => Err(Refusal::Revoked),
            Some(entry) if entry.host == *host && entry.is_current => Ok(Some(Admitted::AsBefore)),
            Some(entry) if entry.host != *host && entry.is_current => Err(Refusal::OtherHost {
                enrolled: entry.host,
                given: host.clone(),
            }),
            // Strangers do not keep the writer busy.
            None if !peer.vouched.contains(host) => Err(Refusal::NotEnrolled),
            _ => Ok(None),
        }
    }

    /// Lets the agent of `host`, which has `key`, come with `next` too, and with it alone once it
    /// did.
    ///
    /// # Errors
    ///
    /// The [`Refusal`] to answer.
    pub(crate) async fn note_next_key(
        &self,
        host: HostName,
        key: KeyFingerprint,
        next: KeyFingerprint,
    ) -> Result<(), Refusal> {
        if self.shared.is_some() {
            // It says so whenever it connects.
            let asked = host.clone();
            let noted = self
                .readers
                .run(move |tables| store::has_noted(tables, &asked, next));
            let noted = noted.await;
            if noted.map_err(|error| RegisterError::from(error).into_refusal())? {
                return Ok(());
            }
        }
        let operation = Operation::NextKey { host, key, next };
        let noted = self.write(operation).await;
        noted.map(drop).map_err(RegisterError::into_refusal)
    }

    /// Makes an invitation; returns its number.
    ///
    /// # Errors
    ///
    /// [`RegisterError`].
    pub async fn invite(
        &self,
        invitation: &Invitation,
        new: NewInvitation,
    ) -> Result<u32, RegisterError> {
        let operation = Operation::Invite {
            digest: invitation.digest(),
            new,
            now: now(),
        };
        match self.write(operation).await? {
            Outcome::Invited(invitation) => Ok(invitation),
            outcome => Err(unexpected(&outcome)),
        }
    }

    /// Takes an invitation back.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Missing`] if there is none with this number.
    pub async fn revoke_invitation(&self, invitation: u32) -> Result<(), RegisterError> {
        let operation = Operation::RevokeInvitation { invitation };
        self.write(operation).await.map(drop)
    }

    /// Lets a host in no more.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Missing`] if none is in under this name.
    pub async fn revoke_agent(&self, host: HostName) -> Result<(), RegisterError> {
        let operation = Operation::RevokeAgent { host, now: now() };
        self.write(operation).await.map(drop)
    }

    /// Changes with every host or key that is let in no more: whoever was admitted before must be asked
    /// about again once others can find them.
    pub(crate) fn revocations(&self) -> u64 {
        self.revocations.load(Ordering::SeqCst)
    }

    /// Invitations, oldest first, one page after the one with this number.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Store`].
    pub async fn invitations(
        &self,
        after: Option<u32>,
    ) -> Result<Page<InvitationInfo>, RegisterError> {
        let now = now();
        let read = self
            .readers
            .run(move |connection| store::invitations(connection, after, now, MAX_PAGE_ENTRIES));
        Ok(read.await?)
    }

    /// Agents in order of host name, one page after this host. Whether one is connected is for
    /// the caller to say.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Store`].
    pub async fn agents(&self, after: Option<HostName>) -> Result<Page<AgentInfo>, RegisterError> {
        let read = self
            .readers
            .run(move |connection| store::agents(connection, after.as_ref(), MAX_PAGE_ENTRIES));
        Ok(read.await?)
    }

    /// Whether nobody was ever let in or invited.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Store`].
    pub async fn is_new(&self) -> Result<bool, RegisterError> {
        Ok(self.readers.run(store::is_new).await?)
    }

    /// How many agents are let in.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Store`].
    pub async fn enrolled(&self) -> Result<u32, RegisterError> {
        let read = self.readers.run(store::enrolled);
        Ok(read.await?)
    }

    /// Waits until the register had to give up; the process must end then.
    pub(crate) fn failed(&self) -> impl Future<Output = Arc<StoreError>> + Send + use<> {
        let fatal = self.writer.fatal();
        let shared = self.shared.clone();
        async move {
            match shared {
                None => fatal.await,
                Some(shared) => tokio::select! {
                    error = fatal => error,
                    error = shared.failed() => error,
                },
            }
        }
    }

    /// Waits until the file is closed; the last handle must be this one.
    #[cfg(test)]
    async fn close(self) {
        self.writer.finish().await;
    }

    /// Does `operation`, here or everywhere; what comes of it is durable.
    async fn write(&self, operation: Operation) -> Result<Outcome, RegisterError> {
        let outcome = match &self.shared {
            Some(shared) => shared.submit(&operation).await?,
            None => {
                let (noted, asked) = (operation.clone(), |answer| Command::Do {
                    operation,
                    answer,
                });
                let outcome = self.command(asked).await?;
                if noted.puts_out(&outcome).is_some() {
                    self.note_revocation();
                }
                outcome
            }
        };
        match outcome {
            Outcome::Refused(refusal) => Err(RegisterError::Refused(refusal)),
            Outcome::Missing => Err(RegisterError::Missing),
            done => Ok(done),
        }
    }

    fn note_revocation(&self) {
        self.revocations.fetch_add(1, Ordering::SeqCst);
    }

    /// Has the writer do something.
    async fn command<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, String>>) -> Command,
    ) -> Result<T, RegisterError> {
        let (answer, answered) = oneshot::channel();
        match self.writer.try_submit(command(answer)) {
            Ok(()) => {}
            Err(SubmitError::Full(_) | SubmitError::Closed(_)) => return Err(RegisterError::Busy),
        }
        match answered.await {
            Ok(done) => done.map_err(RegisterError::Store),
            Err(_) => Err(RegisterError::Busy),
        }
    }
}

/// Of an operation came what cannot come of it.
fn unexpected(outcome: &Outcome) -> RegisterError {
    RegisterError::Store(format!("the register answers {outcome:?}"))
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

#[cfg(test)]
mod tests;
