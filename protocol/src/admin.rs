//! Command and server: who runs a server says whom it lets in.
//!
//! Spoken on the server's own socket, by the user who runs it. The command sends
//! [`CommandFrame`]s; the server answers each with one [`ServerFrame`].
//!
//! **The order of variants and fields is the wire format.** Append variants; never insert,
//! reorder or change one. Golden-byte tests hold the encoding still.

use crate::{HostName, KeyFingerprint, LogStatus, RequestId, Timestamp, list::deserialize_page};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a command sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandFrame {
    /// Comes back in the reply.
    pub id: RequestId,
    /// What is asked.
    pub request: Request,
}

/// What a server sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFrame {
    /// The request's id.
    pub id: RequestId,
    /// The answer.
    pub result: Result<Reply, Refusal>,
}

/// What a command asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Make an invitation. Answered by [`Reply::Invited`].
    Invite {
        /// How many hosts it lets in.
        uses: u32,
        /// For how many seconds.
        valid_for_s: u64,
        /// For a host of this name alone.
        host: Option<HostName>,
    },
    /// List invitations, oldest first. Answered by [`Reply::Invitations`].
    Invitations {
        /// The last one of the page before.
        after: Option<u32>,
    },
    /// Take an invitation back. Answered by [`Reply::Done`].
    RevokeInvitation {
        /// Its number.
        invitation: u32,
    },
    /// List agents in order of host name. Answered by [`Reply::Agents`].
    Agents {
        /// The host of the last one of the page before.
        after: Option<HostName>,
    },
    /// Let a host in no more, and end its connection. Answered by [`Reply::Done`].
    RevokeAgent {
        /// Its name.
        host: HostName,
    },
    /// Make the key that the server will have next, and tell the agents. Answered by
    /// [`Reply::Key`], also if there is one already.
    NextKey,
    /// Take the next key into use. Answered by [`Reply::Key`].
    ChangeKey,
    /// Take no agents, and send those that are connected elsewhere, a group at a time; of a server
    /// that does so already, another pace. Answered by [`Reply::Drain`].
    Drain {
        /// Agents that are sent away at once.
        group: u32,
        /// Milliseconds from one group to the next.
        every_ms: u32,
    },
    /// How far that has come. Answered by [`Reply::Drain`].
    DrainProgress,
    /// Take agents again. Answered by [`Reply::Drain`], also if the server does.
    Undrain,
    /// Ask how things are. Answered by [`Reply::Status`]. Only for a server that has
    /// [`Features::LOG_STATUS`](crate::Features::LOG_STATUS).
    Status,
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To `Invite`.
    Invited {
        /// Its number, by which it can be revoked.
        invitation: u32,
        /// What `chat join` takes, secret and all.
        address: String,
        /// When it ends, by the server's clock.
        expires_at: Timestamp,
    },
    /// To `Invitations`.
    Invitations {
        /// One page.
        #[serde(deserialize_with = "deserialize_page")]
        invitations: Vec<InvitationInfo>,
        /// Whether another page follows.
        more: bool,
    },
    /// To `Agents`.
    Agents {
        /// One page.
        #[serde(deserialize_with = "deserialize_page")]
        agents: Vec<AgentInfo>,
        /// Whether another page follows.
        more: bool,
    },
    /// To requests that have nothing to report.
    Done,
    /// To `NextKey` and `ChangeKey`.
    Key {
        /// The key it was about.
        key: KeyFingerprint,
        /// Agents that are connected, and so have been told.
        connected: u32,
        /// Agents that are let in.
        enrolled: u32,
    },
    /// To `Drain`, `DrainProgress` and `Undrain`.
    Drain {
        /// Whether the server takes no agents.
        draining: bool,
        /// Agents that are connected.
        connected: u32,
        /// Agents that were sent elsewhere since it was first told so.
        sent: u32,
    },
    /// To `Status`.
    Status {
        /// Program and version.
        software: String,
        /// Agents that are connected.
        connected: u32,
        /// Users who are there, on the hosts of these.
        users: u32,
        /// Whether the server takes no agents.
        draining: bool,
        /// How its log is.
        log: LogStatus,
    },
}

/// One line of a list of invitations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitationInfo {
    /// Its number.
    pub invitation: u32,
    /// Which host alone it is for.
    pub host: Option<HostName>,
    /// How many hosts it still lets in.
    pub uses_left: u32,
    /// When it was made.
    pub made_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Whether it lets anybody in.
    pub state: InvitationState,
}

/// Whether an invitation lets anybody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum InvitationState {
    /// It does.
    Open,
    /// Its time is over.
    Expired,
    /// It has let in as many as it was for.
    Used,
    /// It was taken back.
    Revoked,
}

/// One line of a list of agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentInfo {
    /// What its host is called.
    pub host: HostName,
    /// Its key.
    pub key: KeyFingerprint,
    /// When it was let in.
    pub enrolled_at: Timestamp,
    /// Whether it is there.
    pub state: AgentState,
}

/// Whether an agent is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentState {
    /// It is.
    Connected,
    /// It is not, and may come.
    Away,
    /// It is let in no more.
    Revoked,
    /// It is, and this is to which of several servers.
    ConnectedTo {
        /// What people call that.
        server: String,
    },
}

/// Why a server does not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The server does not know agents by key.
    #[error("the server runs with --insecure-plaintext: whoever reaches it takes part")]
    Plaintext,
    /// There is no such invitation.
    #[error("there is no invitation {invitation}: see `chat server invitations`")]
    NoSuchInvitation {
        /// The number given.
        invitation: u32,
    },
    /// There is no such agent.
    #[error("no host is enrolled as {host}: see `chat server agents`")]
    NoSuchAgent {
        /// The name given.
        host: HostName,
    },
    /// A number makes no sense.
    #[error("{reason}")]
    BadNumber {
        /// Which, and why.
        reason: String,
    },
    /// There is no next key to take into use.
    #[error("there is no next key yet: run `chat server rotate-key` first, without --now")]
    NoNextKey,
    /// The server's key comes from files of its settings.
    #[error(
        "the server's certificate comes from files (tls_cert, tls_key): replace those and send it \
         SIGHUP"
    )]
    OwnCertificate,
    /// The server could not store this.
    #[error("the server could not store this: {reason}")]
    Unavailable {
        /// What failed, for people.
        reason: String,
    },
    /// The stream is not trusted any more. Fatal.
    #[error("{reason}")]
    Malformed {
        /// What was wrong with it.
        reason: String,
    },
    /// Somebody else than who runs the server asked. Fatal.
    #[error("uid {uid} may not administer this server: only who runs it, and root, may")]
    NotAllowed {
        /// Who asked.
        uid: u32,
    },
}
