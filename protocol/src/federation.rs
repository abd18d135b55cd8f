//! Agent and server.
//!
//! The agent sends [`AgentFrame`]s; the server answers each with one
//! [`ServerFrame::Reply`] and sends [`ServerFrame::Event`]s in between. `Hello` comes first.
//!
//! **The order of variants and fields is the wire format.** Append variants; never insert,
//! reorder or change one. Golden-byte tests hold the encoding still.
//!
//! # Appending
//!
//! An agent sends appends ahead of their acknowledgements, and one sender's messages must keep
//! their order. So a refusal that may succeed later ([`Refusal::NotYet`]) holds for every later
//! append of the same author and `attempt` on the connection too: the agent waits, and sends that
//! author's unacknowledged messages again, oldest first (go-back-N), under an attempt above every
//! one that it has used on the connection. The messages of other authors are not concerned. A
//! refusal that is final ([`Refusal::is_final`]) concerns its message alone; any other counts as
//! "not yet".

use crate::{
    AgentId, Availability, Committed, Epoch, FederatedRoom, HostName, Invitation, KeyFingerprint,
    LogStatus, Member, MessageId, Nick, Outgoing, RequestId, Room, Seq, UserName,
    governance::{Act, Denied},
    list::deserialize_page,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What an agent sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentFrame {
    /// Comes back in the reply.
    pub id: RequestId,
    /// What is asked.
    pub request: Request,
}

/// What a server sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerFrame {
    /// The answer to the request with this id.
    Reply {
        /// The request's id.
        id: RequestId,
        /// The answer.
        result: Result<Reply, Refusal>,
    },
    /// Something happened.
    Event(Event),
}

/// What an agent asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// First on every connection. Answered by [`Reply::Welcome`].
    Hello {
        /// What this host is called. The server refuses a name in use by another agent.
        host: HostName,
        /// Which agent this is: the same one replaces its own dead connection.
        agent: AgentId,
        /// Program and version, for logs and people.
        software: String,
    },
    /// Put a message into its room's log. Answered by [`Reply::Appended`] after the commit.
    Append {
        /// Rises for an author after each [`Refusal::NotYet`]; see the module docs.
        attempt: u32,
        /// The message. Its author's host must be the agent's.
        message: Outgoing,
    },
    /// Make a user of this host a member; creates the room. Answered by [`Reply::Joined`].
    Join {
        /// Which room.
        room: FederatedRoom,
        /// Who.
        nick: Nick,
    },
    /// End a membership. Answered by [`Reply::Done`], also if there was none.
    Leave {
        /// Which room.
        room: FederatedRoom,
        /// Who.
        nick: Nick,
    },
    /// Send what `room` has after `after`, and what comes. Replaces an earlier subscription to
    /// the room. Answered by [`Reply::Head`], then [`Event::Committed`] in seq order.
    Subscribe {
        /// Which room.
        room: Room,
        /// The last message this agent has.
        after: Seq,
        /// That message's id, so that a log that took another course is noticed.
        after_id: Option<MessageId>,
    },
    /// End a subscription. Answered by [`Reply::Done`].
    Unsubscribe {
        /// Which room.
        room: Room,
    },
    /// Ask for the seq of a room's newest message. Answered by [`Reply::Head`].
    Head {
        /// Which room.
        room: Room,
    },
    /// Say whether a user of this host is there. Answered by [`Reply::Done`].
    Presence {
        /// Who.
        nick: Nick,
        /// Whether they are there; `Offline` forgets them.
        availability: Availability,
    },
    /// Set a room's topic; empty removes it. Answered by [`Reply::Done`].
    SetTopic {
        /// Which room.
        room: FederatedRoom,
        /// Who sets it.
        nick: Nick,
        /// The topic, without line breaks or control characters.
        topic: String,
    },
    /// List rooms in order of name. Answered by [`Reply::Rooms`].
    Rooms {
        /// The last room of the page before.
        after: Option<FederatedRoom>,
    },
    /// List the members of a room in order of name. Answered by [`Reply::Members`].
    Who {
        /// Which room.
        room: FederatedRoom,
        /// The last user of the page before.
        after: Option<UserName>,
    },
    /// List this host's direct conversations in order of name. Answered by [`Reply::Directs`].
    Directs {
        /// The last conversation of the page before, by its text.
        after: Option<Room>,
    },
    /// Show life. Answered by [`Reply::Pong`].
    Ping,
    /// Let this agent's key in as `host`. Only before `Hello`, over TLS. Answered by
    /// [`Reply::Done`], also if it is in already.
    Enrol {
        /// What the host is called; no other key may have it.
        host: HostName,
        /// What lets it in.
        invitation: Invitation,
    },
    /// From now on this host may come with `key` too; once it does, the old key is forgotten.
    /// Answered by [`Reply::Done`].
    NextKey {
        /// The key it will have.
        key: KeyFingerprint,
    },
    /// Change who may do what in a room, or erase messages. Answered by [`Reply::Appended`] with the
    /// place of the act in the log, or by [`Reply::Done`] if it changes nothing.
    Govern {
        /// Which room; a conversation only to erase.
        room: Room,
        /// Who.
        nick: Nick,
        /// The act's id in the log. The same again is the same act.
        id: MessageId,
        /// What. [`Act::Opened`] makes the room.
        act: Act,
    },
    /// As `Rooms`, with those by invitation that this user is invited to.
    RoomsFor {
        /// Who asks.
        nick: Nick,
        /// The last room of the page before.
        after: Option<FederatedRoom>,
    },
    /// As `Who`, if this user may know.
    WhoFor {
        /// Which room.
        room: FederatedRoom,
        /// Who asks.
        nick: Nick,
        /// The last user of the page before.
        after: Option<UserName>,
    },
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To `Hello`.
    Welcome {
        /// The life of the server's log.
        epoch: Epoch,
        /// Program and version, for logs and people.
        software: String,
    },
    /// To `Append`: the message is durable at `seq`, now or since an earlier try.
    Appended {
        /// Its place.
        seq: Seq,
    },
    /// To `Join`.
    Joined {
        /// The room's newest message.
        head: Seq,
        /// The topic; empty if none is set.
        topic: String,
    },
    /// To requests that have nothing to report.
    Done,
    /// To `Subscribe` and `Head`.
    Head {
        /// The room's newest message, [`Seq::START`] if it has none.
        head: Seq,
    },
    /// To `Rooms`.
    Rooms {
        /// One page.
        #[serde(deserialize_with = "deserialize_page")]
        rooms: Vec<RoomInfo>,
        /// Whether another page follows.
        more: bool,
    },
    /// To `Who`.
    Members {
        /// One page.
        #[serde(deserialize_with = "deserialize_page")]
        members: Vec<Member>,
        /// Whether another page follows.
        more: bool,
    },
    /// To `Directs`.
    Directs {
        /// One page, as rooms' texts.
        #[serde(deserialize_with = "deserialize_page")]
        conversations: Vec<Room>,
        /// Whether another page follows.
        more: bool,
    },
    /// To `Ping`.
    Pong,
}

/// One line of a list of rooms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomInfo {
    /// Which room.
    pub room: FederatedRoom,
    /// How many members it has.
    pub members: u32,
    /// Its newest message.
    pub head: Seq,
    /// Its topic; empty if none is set.
    pub topic: String,
}

/// What a server tells without being asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A message of a subscribed room.
    Committed(Committed),
    /// Somebody came, went or stays away. Soft state: may be skipped for a reader that is
    /// behind; `Who` tells the truth.
    Presence {
        /// Who.
        user: UserName,
        /// Whether they are there.
        availability: Availability,
    },
    /// Somebody became a member. Soft, as `Presence`.
    Joined {
        /// Which room.
        room: FederatedRoom,
        /// Who.
        user: UserName,
    },
    /// Somebody's membership ended. Soft, as `Presence`.
    Left {
        /// Which room.
        room: FederatedRoom,
        /// Who.
        user: UserName,
    },
    /// A topic was set. Soft, as `Presence`; `Joined` replies carry it too.
    Topic {
        /// Which room.
        room: FederatedRoom,
        /// Who set it.
        user: UserName,
        /// The topic; empty if it was removed.
        topic: String,
    },
    /// A direct conversation with this host has its first message: subscribe to it.
    DirectOpened {
        /// Which conversation.
        conversation: Room,
    },
    /// The server ends, or is being drained: go to another one at once, or come back after this many
    /// milliseconds. What was asked before is answered.
    GoingAway {
        /// How long to wait.
        reconnect_in_ms: u32,
    },
    /// The last frame of a connection that cannot go on.
    Closing {
        /// Why.
        reason: Refusal,
    },
    /// A subscription ended because the room cannot be read; the others go on.
    Unsubscribed {
        /// Which room.
        room: Room,
        /// Why, and by [`Refusal::is_final`] whether to try again.
        reason: Refusal,
    },
    /// The server will have this key after one of its next starts: take it for the same server.
    NextKey {
        /// The key.
        key: KeyFingerprint,
    },
    /// How the server's log is: after the welcome, and when it changes. Only for who has
    /// [`Features::LOG_STATUS`](crate::Features::LOG_STATUS).
    Log {
        /// How it is.
        status: LogStatus,
    },
}

/// Why a server does not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Try again later; a message with a higher `attempt`. The user, their host or the room is over
    /// a limit, the queue or the disk is full, or an earlier append of this author and attempt was
    /// refused so.
    #[error("the server cannot take this message yet ({reason}), retry in {retry_after_ms} ms")]
    NotYet {
        /// How long to wait.
        retry_after_ms: u32,
        /// What is short, for people.
        reason: String,
    },
    /// Another message has this id.
    #[error("message id {id} belongs to another message already")]
    IdConflict {
        /// The id.
        id: MessageId,
    },
    /// There is no such room.
    #[error("there is no room {room}")]
    NoSuchRoom {
        /// The name.
        room: Room,
    },
    /// The agent spoke for a user of another host, or about a conversation it has no end of.
    #[error("host {host} has no say in {room}")]
    NotYours {
        /// The agent's host.
        host: HostName,
        /// What it spoke about.
        room: Room,
    },
    /// Another living agent has this host name.
    #[error(
        "another host is connected as {host}: end one of their agents and start it once with \
         `chat agent --rename-host OTHER-NAME`"
    )]
    HostInUse {
        /// The name.
        host: HostName,
    },
    /// A body, topic or other text is over its limit.
    #[error("the {what} has {len} bytes, at most {max} are allowed")]
    TooLong {
        /// Which text.
        what: LimitedText,
        /// Bytes given.
        len: u32,
        /// Bytes allowed.
        max: u32,
    },
    /// A text has control characters or is empty where it may not be.
    #[error("the {what} is empty or contains control characters")]
    BadText {
        /// Which text.
        what: LimitedText,
    },
    /// Too many of something.
    #[error("too many {what}, at most {max} are allowed")]
    TooMany {
        /// Of what.
        what: TooMany,
        /// How many are allowed.
        max: u32,
    },
    /// The server's log does not continue what this agent has of the room.
    #[error(
        "the server's log of {room} does not continue what this host has read (was it restored \
         from a backup?)"
    )]
    Diverged {
        /// Which room.
        room: Room,
        /// The server's newest message of the room.
        head: Seq,
    },
    /// `Hello` twice, or something else before `Hello`. Fatal.
    #[error("the connection must begin with exactly one Hello")]
    HelloOutOfPlace,
    /// The stream is not trusted any more. Fatal.
    #[error("{reason}")]
    Malformed {
        /// What was wrong with it.
        reason: String,
    },
    /// Nothing came for [`PEER_TIMEOUT`](crate::limits::PEER_TIMEOUT). Fatal.
    #[error("nothing was heard for too long")]
    TimedOut,
    /// A newer connection of the same agent took over. Fatal.
    #[error("a newer connection of the same agent took over")]
    Replaced,
    /// The server is ending. Fatal.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The server cannot read its own log. The request may succeed later.
    #[error("the server could not read its log: {reason}")]
    Unavailable {
        /// What failed, for people.
        reason: String,
    },
    /// A message in the server's log is damaged, and keeps the room from being read.
    #[error("the server's log is damaged there: {reason}")]
    Unreadable {
        /// What is damaged, for people.
        reason: String,
    },
    /// The agent's key is not known, and it has no invitation. Fatal.
    #[error(
        "the server does not know this host's key: ask for an invitation (`chat server invite` \
         there) and `chat join` with it"
    )]
    NotEnrolled,
    /// The invitation lets nobody in. Fatal.
    #[error("the invitation {reason}: ask for a new one (`chat server invite` there)")]
    BadInvitation {
        /// Why not.
        reason: BadInvitation,
    },
    /// The host's name belongs to another key. Fatal.
    #[error(
        "another host is enrolled as {host}: give this one another name (`chat agent \
         --rename-host OTHER-NAME`), or end the other one's right to it (`chat server revoke \
         {host}` there)"
    )]
    HostEnrolled {
        /// The name.
        host: HostName,
    },
    /// The agent's key belongs to another host's name. Fatal.
    #[error(
        "this host's key is enrolled as {enrolled}, not as {given}: `chat join` with a new \
         invitation for the new name"
    )]
    OtherHost {
        /// The name that its key has.
        enrolled: HostName,
        /// The name that it gave.
        given: HostName,
    },
    /// The agent's key was let in, and is not any more. Fatal.
    #[error("this host's key was revoked at the server: ask who runs it")]
    Revoked,
    /// The agent spoke without TLS. Fatal.
    #[error(
        "the server takes encrypted connections only: `chat join` with the whole line that \
         `chat server invite` prints there"
    )]
    TlsRequired,
    /// What was asked needs a connection with a key, and this one is unencrypted.
    #[error("this connection is unencrypted, there are no keys")]
    NoKey,
    /// The room's charter does not allow it.
    #[error("{room}: {denied}")]
    Denied {
        /// Which room.
        room: Room,
        /// Why, and who could allow it.
        denied: Denied,
    },
    /// The room is by invitation only. Nothing else is said of it.
    #[error("{room} is not open to you: ask for an invitation, or take another name")]
    NotOpen {
        /// Which room.
        room: Room,
    },
    /// Nobody of the agent's host is in the room, so it is not read there. Whether it exists is not
    /// said.
    #[error("nobody of this host is in {room}")]
    NoReader {
        /// Which room.
        room: Room,
    },
    /// The host's name could be taken for another. Fatal.
    #[error("host name {host} {reason}: start the agent once with `--rename-host OTHER-NAME`")]
    Deceptive {
        /// The name.
        host: HostName,
        /// What for.
        reason: String,
    },
    /// The id was made of a key of another author, who alone may use it.
    #[error("message id {id} was made of a key, and not by {author}: send it under another one")]
    IdOfAnother {
        /// The id.
        id: MessageId,
        /// Who wanted to use it.
        author: UserName,
    },
    /// The server gives its agents away and takes no others for now; another server of the same log
    /// does. Fatal.
    #[error("the server takes no hosts for now, it is being drained: another server does")]
    Draining,
}

/// Why an invitation lets nobody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BadInvitation {
    /// Nobody made it here.
    Unknown,
    /// Its time is over.
    Expired,
    /// It has let in as many as it was for.
    Used,
    /// It was taken back.
    Revoked,
    /// It is for another host.
    OtherHost,
}

impl std::fmt::Display for BadInvitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unknown => "is not known to this server",
            Self::Expired => "has expired",
            Self::Used => "was used already",
            Self::Revoked => "was revoked",
            Self::OtherHost => "is for another host's name",
        })
    }
}

impl Refusal {
    /// Whether the connection ends with this.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::HostInUse { .. }
                | Self::HelloOutOfPlace
                | Self::Malformed { .. }
                | Self::TimedOut
                | Self::Replaced
                | Self::ShuttingDown
                | Self::NotEnrolled
                | Self::BadInvitation { .. }
                | Self::HostEnrolled { .. }
                | Self::Deceptive { .. }
                | Self::OtherHost { .. }
                | Self::Revoked
                | Self::TlsRequired
                | Self::Draining
        )
    }

    /// Whether an agent is refused so until somebody does something about it.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        matches!(
            self,
            Self::NotEnrolled
                | Self::BadInvitation { .. }
                | Self::HostEnrolled { .. }
                | Self::HostInUse { .. }
                | Self::Deceptive { .. }
                | Self::OtherHost { .. }
                | Self::Revoked
                | Self::TlsRequired
                | Self::NoKey
        )
    }

    /// Whether the same request would be refused again, so that it need not be repeated.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::IdConflict { .. }
                | Self::IdOfAnother { .. }
                | Self::NoSuchRoom { .. }
                | Self::NotYours { .. }
                | Self::TooLong { .. }
                | Self::BadText { .. }
                | Self::TooMany { .. }
                | Self::Diverged { .. }
                | Self::Unreadable { .. }
                | Self::Denied { .. }
                | Self::NotOpen { .. }
        )
    }
}

/// Texts with a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LimitedText {
    /// A message body, encoded.
    Body,
    /// A topic.
    Topic,
    /// The software description in `Hello`.
    Software,
}

impl std::fmt::Display for LimitedText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Body => "message body",
            Self::Topic => "topic",
            Self::Software => "software description",
        })
    }
}

/// Things with a limited number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TooMany {
    /// Rooms in a log.
    Rooms,
    /// Rooms of one user.
    RoomsOfUser,
    /// Connected agents.
    Agents,
    /// Users of one host who are there at the same time.
    Users,
    /// Rooms that the users of one host created.
    RoomsOfHost,
    /// Rooms that one agent follows.
    Subscriptions,
}

impl std::fmt::Display for TooMany {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rooms => "rooms",
            Self::RoomsOfUser => "rooms of one user",
            Self::Agents => "agents",
            Self::Users => "users of one host",
            Self::RoomsOfHost => "rooms created by one host",
            Self::Subscriptions => "rooms followed by one host",
        })
    }
}
