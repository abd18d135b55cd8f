//! Who is let in: the agents by their keys, and the invitations for new ones.
//!
//! Kept in a file of its own beside the log: what it says is asked once a connection, and belongs
//! to no room. Everything is durable before it is answered.

mod store;

use protocol::{
    HostName, Invitation, KeyFingerprint, Timestamp,
    admin::{AgentInfo, InvitationInfo},
    federation::Refusal,
    limits::MAX_PAGE_ENTRIES,
};
use room_log::{Database, OpenError, Readers, StoreError, SubmitError, Writer};
use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};
pub(crate) use store::Admitted;
use store::{Command, RegisterStore, Rejected};
use thiserror::Error;
use tokio::sync::oneshot;
use trust::Peer;

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
#[derive(Debug, Clone, PartialEq, Eq)]
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
}

impl Register {
    /// Opens or makes `<state dir>/register.db`. The caller holds the directory's lock.
    ///
    /// # Errors
    ///
    /// [`OpenRegisterError`], saying what to do.
    pub fn open(state_dir: &Path) -> Result<Self, OpenRegisterError> {
        let (database, connection) = Database::open(state_dir, store::REGISTER)?;
        let writer = Writer::spawn(connection, RegisterStore).map_err(OpenRegisterError::Thread)?;
        Ok(Self {
            readers: Readers::new(database),
            writer,
            revocations: Arc::default(),
        })
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
        let digest = invitation.digest();
        let written = self.write(|answer| Command::Enrol {
            key,
            host,
            invitation: digest,
            now: now(),
            answer,
        });
        let gave_up = written.await.map_err(RegisterError::into_refusal)?;
        if gave_up.is_some() {
            self.revocations.fetch_add(1, Ordering::SeqCst);
        }
        Ok(gave_up)
    }

    /// Whether the agent behind `peer` may speak for `host`.
    ///
    /// # Errors
    ///
    /// The [`Refusal`] to answer.
    pub(crate) async fn admit(&self, peer: &Peer, host: &HostName) -> Result<Admitted, Refusal> {
        let (key, wanted) = (peer.key, host.clone());
        let found = self
            .readers
            .run(move |connection| store::find(connection, key))
            .await;
        let found = found.map_err(|error| RegisterError::from(error).into_refusal())?;
        match found {
            Some(entry) if entry.revoked => return Err(Refusal::Revoked),
            Some(entry) if entry.host == wanted && entry.is_current => {
                return Ok(Admitted::AsBefore);
            }
            Some(entry) if entry.host != wanted && entry.is_current => {
                return Err(Refusal::OtherHost {
                    enrolled: entry.host,
                    given: wanted,
                });
            }
            // Strangers do not keep the writer busy.
            None if !peer.vouched.contains(host) => return Err(Refusal::NotEnrolled),
            _ => {}
        }
        let vouched = peer.vouched.contains(host);
        let written = self.write(|answer| Command::Admit {
            key,
            host: wanted,
            vouched,
            now: now(),
            answer,
        });
        let admitted = written.await.map_err(RegisterError::into_refusal)?;
        if admitted == Admitted::WithNextKey {
            self.revocations.fetch_add(1, Ordering::SeqCst);
        }
        Ok(admitted)
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
        let written = self.write(|answer| Command::NextKey {
            host,
            key,
            next,
            answer,
        });
        written.await.map_err(RegisterError::into_refusal)
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
        let digest = invitation.digest();
        let now = now();
        self.write(|answer| Command::Invite {
            digest,
            new,
            now,
            answer,
        })
        .await
    }

    /// Takes an invitation back.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Missing`] if there is none with this number.
    pub async fn revoke_invitation(&self, invitation: u32) -> Result<(), RegisterError> {
        self.write(|answer| Command::RevokeInvitation { invitation, answer })
            .await
    }

    /// Lets a host in no more.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Missing`] if none is in under this name.
    pub async fn revoke_agent(&self, host: HostName) -> Result<(), RegisterError> {
        let now = now();
        self.write(|answer| Command::RevokeAgent { host, now, answer })
            .await?;
        self.revocations.fetch_add(1, Ordering::SeqCst);
        Ok(())
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
        self.writer.fatal()
    }

    /// Waits until the file is closed; the last handle must be this one.
    #[cfg(test)]
    async fn close(self) {
        self.writer.finish().await;
    }

    async fn write<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Rejected>>) -> Command,
    ) -> Result<T, RegisterError> {
        let (answer, answered) = oneshot::channel();
        match self.writer.try_submit(command(answer)) {
            Ok(()) => {}
            Err(SubmitError::Full(_) | SubmitError::Closed(_)) => return Err(RegisterError::Busy),
        }
        match answered.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Rejected::Refused(refusal))) => Err(RegisterError::Refused(refusal)),
            Ok(Err(Rejected::Missing)) => Err(RegisterError::Missing),
            Ok(Err(Rejected::Store(error))) => Err(RegisterError::Store(error)),
            Err(_) => Err(RegisterError::Busy),
        }
    }
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

#[cfg(test)]
mod tests;
