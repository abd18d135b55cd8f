//! Terminal and agent.
//!
//! The terminal sends [`TerminalFrame`]s; the agent answers each with one [`AgentFrame::Reply`]
//! and sends [`AgentFrame::Event`]s in between. `Hello` comes first.
//!
//! **The order of variants and fields is the wire format.** Append variants; never insert,
//! reorder or change one. Golden-byte tests hold the encoding still.

use crate::{
    Availability, Committed, ConsumerName, Content, Cursor, Epoch, LogStatus, Member, MessageId,
    Nick, Outgoing, RequestId, Room, Seq, Timestamp, UserName, federation,
    governance::{Act, Charter, Denied},
    list::deserialize_page,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a terminal sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalFrame {
    /// Comes back in the reply.
    pub id: RequestId,
    /// What is asked.
    pub request: Request,
}

/// What an agent sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentFrame {
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

/// What a terminal asks.
///
/// Using a `#room` or `&room` (opening it, sending to it, setting its topic) joins it first;
/// `Leave` ends that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// First on every connection. Answered by [`Reply::Welcome`].
    Hello {
        /// Who the session speaks as. The first OS user to use a nick owns it.
        nick: Nick,
        /// Program and version, for logs and people.
        software: String,
        /// Whether somebody reads here: only then the user counts as online.
        interactive: bool,
    },
    /// Send a message. Answered by [`Reply::Sent`] once it is durable in the outbox or, for a
    /// room that this agent orders, in its log. The same id twice is one message.
    Send {
        /// Made by the terminal, so that it can retry after a lost connection.
        id: MessageId,
        /// Where to.
        room: Room,
        /// What.
        content: Content,
    },
    /// Send what `room` has, from `from` on, and what comes. Replaces an earlier opening.
    /// Answered by [`Reply::Opened`], then [`Event::Committed`] in seq order and once
    /// [`Event::CaughtUp`].
    Open {
        /// Which room.
        room: Room,
        /// Where to begin.
        from: From,
    },
    /// End what `Open` began. Answered by [`Reply::Done`].
    Close {
        /// Which room.
        room: Room,
    },
    /// Open every direct conversation of this user, now and as they arise. Each is announced by
    /// [`Event::DirectOpened`] and begins at the user's read marker. Answered by [`Reply::Done`].
    OpenDirects,
    /// One page of history, newest last. Answered by [`Reply::History`].
    History {
        /// Which room.
        room: Room,
        /// Only messages before this one; the newest if absent.
        before: Option<Cursor>,
        /// At most so many, and at most
        /// [`MAX_PAGE_ENTRIES`](crate::limits::MAX_PAGE_ENTRIES).
        limit: u32,
    },
    /// Become a member of a room. Answered by [`Reply::Done`].
    Join {
        /// Which `#room` or `&room`.
        room: Room,
    },
    /// End a membership, and this user's openings of the room. Answered by [`Reply::Done`].
    Leave {
        /// Which `#room` or `&room`.
        room: Room,
    },
    /// Remember that this user has read up to here. Answered by [`Reply::Done`].
    MarkRead {
        /// Which room.
        room: Room,
        /// The last message read.
        cursor: Cursor,
    },
    /// Set a room's topic; empty removes it. Answered by [`Reply::Done`].
    SetTopic {
        /// Which `#room` or `&room`.
        room: Room,
        /// The topic, without line breaks or control characters.
        topic: String,
    },
    /// Be away (true) or back (false), in all of this user's sessions. Answered by
    /// [`Reply::Done`].
    SetAway {
        /// Away or back.
        away: bool,
    },
    /// List rooms in order of name: this host's, this user's conversations, and the server's
    /// when it can be asked. Answered by [`Reply::Rooms`].
    Rooms {
        /// The last room of the page before.
        after: Option<Room>,
    },
    /// List members of a room in order of name. Answered by [`Reply::Members`].
    Who {
        /// Which room.
        room: Room,
        /// The last user of the page before.
        after: Option<UserName>,
    },
    /// Ask how things are. Answered by [`Reply::Status`].
    Status,
    /// Federate with a server and remember it; replaces what was remembered. Answered by
    /// [`Reply::Done`]; the connection follows in the background.
    Federate {
        /// `HOST:PORT`s to try in turn.
        #[serde(deserialize_with = "deserialize_page")]
        servers: Vec<String>,
    },
    /// Forget the server. What is in the outbox stays there. Answered by [`Reply::Done`].
    Defederate,
    /// Answered by [`Reply::Done`].
    Ping,
    /// Look for messages in what this host has of the rooms and conversations this user may
    /// read, newest first. Answered by [`Reply::Found`].
    Search {
        /// What to look for.
        query: SearchQuery,
        /// Only what is older than the page before.
        older_than: Option<SearchMark>,
        /// At most so many, and at most
        /// [`MAX_PAGE_ENTRIES`](crate::limits::MAX_PAGE_ENTRIES).
        limit: u32,
    },
    /// Remember that a consumer of this user is done with `room` up to here. Answered by
    /// [`Reply::Done`] once that is durable.
    Confirm {
        /// Which consumer.
        consumer: ConsumerName,
        /// Which room.
        room: Room,
        /// The last message it is done with. An earlier one than before is taken, too.
        cursor: Cursor,
    },
    /// Ask what a consumer of this user confirmed last. Answered by [`Reply::Position`].
    Position {
        /// Which consumer.
        consumer: ConsumerName,
        /// Which room.
        room: Room,
    },
    /// List what this user said that waits for the server, oldest first. Answered by
    /// [`Reply::Pending`].
    Pending {
        /// What to look for; everything if it asks for nothing. Its times are compared with when
        /// a message was written.
        query: SearchQuery,
        /// Only what is behind the page before.
        after: Option<SearchMark>,
    },
    /// Change who may do what in a room, or erase messages. Answered by [`Reply::Sent`] once it is
    /// in the room's log, or by [`Reply::Done`] if it changes nothing.
    Govern {
        /// Which room; a conversation only to erase.
        room: Room,
        /// The act's id in the log. The same again is the same act.
        id: MessageId,
        /// What. [`Act::Opened`] makes the room.
        act: Act,
    },
    /// Ask who may do what in a room that this user is in. Answered by [`Reply::Charter`].
    Charter {
        /// Which room.
        room: Room,
    },
    /// Ask how the server's log is. Answered by [`Reply::Log`]. Only for an agent that has
    /// [`Features::LOG_STATUS`](crate::Features::LOG_STATUS).
    Log,
}

/// What a search looks for. Everything given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchQuery {
    /// Texts that the message contains, in any case; at most
    /// [`MAX_SEARCH_WORDS`](crate::limits::MAX_SEARCH_WORDS).
    #[serde(deserialize_with = "deserialize_page")]
    pub words: Vec<String>,
    /// Only in this room.
    pub room: Option<Room>,
    /// Only by this author.
    pub from: Option<Author>,
    /// Only what was committed at this time or later.
    pub since: Option<Timestamp>,
    /// Only what was committed before this time.
    pub before: Option<Timestamp>,
}

/// Whose messages a search looks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Author {
    /// Whoever is called so, on whichever host.
    Nick(Nick),
    /// This user.
    User(UserName),
}

/// Where a page of found messages ended; means something to the agent that gave it only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchMark(pub u64);

/// A message that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// The life of the log it is in; with its seq the cursor to read on from.
    pub epoch: Epoch,
    /// The message.
    pub message: Committed,
}

/// Where an opened room begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum From {
    /// With its first message.
    Beginning,
    /// After this one.
    After(Cursor),
    /// With the newest so many.
    Newest(u32),
    /// After this user's read marker; with the newest so many if there is none.
    Unread(u32),
    /// With the first message committed at this time or later.
    Since(Timestamp),
}

/// What an agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To `Hello`.
    Welcome {
        /// Who the session speaks as.
        user: UserName,
        /// Program and version, for logs and people.
        software: String,
    },
    /// To `Send`: the message is durable.
    Sent {
        /// Where it is.
        state: Delivery,
    },
    /// To `Open`.
    Opened {
        /// The life of the room's log; cursors are made of it and of seqs.
        epoch: Epoch,
        /// Messages follow after this one.
        after: Seq,
        /// The newest message known here.
        head: Seq,
        /// The topic; empty if none is set or known.
        topic: String,
        /// This user's read marker.
        read: Option<Seq>,
    },
    /// To requests that have nothing to report.
    Done,
    /// To `History`.
    History {
        /// The life of the room's log.
        epoch: Epoch,
        /// One page, oldest first.
        #[serde(deserialize_with = "deserialize_page")]
        messages: Vec<Committed>,
        /// Whether older ones exist.
        more: bool,
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
    /// To `Status`.
    Status(Box<Status>),
    /// To `Search`.
    Found {
        /// One page, newest first.
        #[serde(deserialize_with = "deserialize_page")]
        hits: Vec<Hit>,
        /// Where to look on for older ones, if there may be any: also behind a page that is empty,
        /// as an agent does not look for longer than a moment at once.
        next: Option<SearchMark>,
    },
    /// To `Position`.
    Position {
        /// The last message the consumer confirmed, if it ever did.
        cursor: Option<Cursor>,
    },
    /// To `Pending`.
    Pending {
        /// One page, oldest first.
        #[serde(deserialize_with = "deserialize_page")]
        messages: Vec<Outgoing>,
        /// Where to look on, if there may be more: also behind a page that is empty.
        next: Option<SearchMark>,
    },
    /// To `Charter`.
    Charter {
        /// As known here; `None` for a room that is open to all and nobody's.
        charter: Option<Box<Charter>>,
    },
    /// To `Log`.
    Log {
        /// As the server told; `None` if none is connected, or it is of a build that does not tell.
        status: Option<LogStatus>,
    },
}

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// In the outbox; the server has not acknowledged it.
    Queued,
    /// In its room's log.
    Committed {
        /// The life of the log.
        epoch: Epoch,
        /// Its place.
        seq: Seq,
    },
}

/// One line of a list of rooms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomInfo {
    /// Which room.
    pub room: Room,
    /// Whether this user is a member.
    pub joined: bool,
    /// How many members it has; `None` if the server cannot be asked.
    pub members: Option<u32>,
    /// Its newest message known here.
    pub head: Seq,
    /// Messages of others after this user's read marker; at most 1,000 are counted.
    pub unread: u32,
    /// Its topic; empty if none is set or known.
    pub topic: String,
}

/// How things are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The asking user.
    pub user: UserName,
    /// The agent's program and version.
    pub software: String,
    /// The agent's process id.
    pub pid: u32,
    /// Where its files are.
    pub state_dir: String,
    /// Sessions open now.
    pub sessions: u32,
    /// Messages the server has not acknowledged.
    pub outbox_messages: u64,
    /// Their bytes.
    pub outbox_bytes: u64,
    /// Bytes the outbox may hold.
    pub outbox_limit_bytes: u64,
    /// The connection to the server.
    pub link: LinkStatus,
    /// What does not work right now and what to do, for people; empty if all is well.
    #[serde(deserialize_with = "deserialize_page")]
    pub problems: Vec<String>,
}

/// The agent's connection to its server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkStatus {
    /// Not federated: local only.
    LocalOnly,
    /// Trying.
    Connecting {
        /// The address being tried.
        server: String,
    },
    /// Waiting for the next try.
    Waiting {
        /// The address tried last.
        server: String,
        /// Why it failed.
        error: String,
        /// Failed attempts in a row.
        attempt: u32,
        /// When the next try is due, by this host's clock.
        until: Timestamp,
    },
    /// Connected.
    Online {
        /// The server's address.
        server: String,
        /// The life of its log.
        epoch: Epoch,
        /// The server's program and version.
        software: String,
        /// Since when, by this host's clock.
        since: Timestamp,
    },
}

impl LinkStatus {
    /// The address of the server that is tried or connected.
    #[must_use]
    pub fn server(&self) -> Option<&str> {
        match self {
            Self::LocalOnly => None,
            Self::Connecting { server }
            | Self::Waiting { server, .. }
            | Self::Online { server, .. } => Some(server),
        }
    }
}

/// What an agent tells without being asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A message of an opened room.
    Committed(Committed),
    /// All that the room had when it was opened has been sent; what follows is live.
    CaughtUp {
        /// Which room.
        room: Room,
        /// Whether the server could be asked what the newest is.
        complete: bool,
    },
    /// A message of this user, from any of their sessions, was taken or refused by the server.
    /// Soft, as `Presence`: a terminal that waits for one can send the message again under its
    /// id, and is told where it is.
    Outcome {
        /// Which message.
        id: MessageId,
        /// Where it went.
        room: Room,
        /// Its place, or why it will never have one.
        result: Result<Delivery, federation::Refusal>,
    },
    /// The log of an opened room has begun a new life: cursors of the old one mean nothing, and
    /// messages follow from the new one's beginning.
    EpochChanged {
        /// Which room.
        room: Room,
        /// The new life.
        epoch: Epoch,
    },
    /// A direct conversation was opened for [`Request::OpenDirects`].
    DirectOpened {
        /// Which conversation.
        room: Room,
        /// The life of its log.
        epoch: Epoch,
    },
    /// Somebody came, went or stays away. Soft state: may be skipped for a slow terminal.
    Presence {
        /// Who.
        user: UserName,
        /// Whether they are there.
        availability: Availability,
    },
    /// Somebody became a member of an opened room. Soft, as `Presence`.
    Joined {
        /// Which room.
        room: Room,
        /// Who.
        user: UserName,
    },
    /// Somebody's membership of an opened room ended. Soft, as `Presence`.
    Left {
        /// Which room.
        room: Room,
        /// Who.
        user: UserName,
    },
    /// An opened room's topic was set. Soft, as `Presence`.
    Topic {
        /// Which room.
        room: Room,
        /// Who set it.
        user: UserName,
        /// The topic; empty if it was removed.
        topic: String,
    },
    /// The connection to the server changed. Soft, as `Presence`.
    Link(LinkStatus),
    /// The agent ends; come back after this many milliseconds.
    GoingAway {
        /// How long to wait.
        reconnect_in_ms: u32,
    },
    /// The last frame of a session that cannot go on.
    Closing {
        /// Why.
        reason: Refusal,
    },
    /// An opened room cannot be read any further; it is not open any more.
    Closed {
        /// Which room.
        room: Room,
        /// Why.
        reason: Refusal,
    },
    /// The server is there but does not take messages of this user yet: something is over a limit.
    /// They wait in the outbox and are tried again. Told once until the server takes messages as
    /// they come again, and to sessions that begin meanwhile and are no person's. Soft, as
    /// `Presence`: `Status` names it among the problems for as long as it is so.
    HeldUp {
        /// What is over which limit, for people.
        reason: String,
        /// In how many milliseconds the next try is due.
        retry_in_ms: u32,
    },
    /// The server's log is in another state now. Soft, as `Presence`. Only for who has
    /// [`Features::LOG_STATUS`](crate::Features::LOG_STATUS).
    Log {
        /// As in [`Reply::Log`].
        status: Option<LogStatus>,
    },
}

/// Why an agent does not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The nick belongs to another OS user of this host. Fatal.
    #[error("nick {nick} belongs to uid {uid} on this host: choose another with --nick")]
    NickTaken {
        /// The nick.
        nick: Nick,
        /// Its owner.
        uid: u32,
    },
    /// This OS user may not use this agent. Fatal.
    #[error("uid {uid} may not use this agent, which serves {serves}")]
    NotAllowed {
        /// Who asked.
        uid: u32,
        /// Whom it serves, for people.
        serves: String,
    },
    /// The conversation is somebody else's, or a direct conversation where a room is needed.
    #[error("{room} is not for {user}")]
    NotYours {
        /// Which room.
        room: Room,
        /// Who asked.
        user: UserName,
    },
    /// The message body is refused.
    #[error("{reason}")]
    BadBody {
        /// Which rule it breaks.
        reason: String,
    },
    /// A topic, server address or other text is refused.
    #[error("{reason}")]
    BadText {
        /// Which rule it breaks.
        reason: String,
    },
    /// Another message has this id.
    #[error("message id {id} belongs to another message already: a key stands for one message")]
    IdConflict {
        /// The id.
        id: MessageId,
    },
    /// The outbox is at its quota.
    #[error(
        "the outbox is full ({used} of {limit} bytes): the server must come back first, see \
         `chat status`"
    )]
    OutboxFull {
        /// Bytes waiting.
        used: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The agent cannot write its state now; nothing was accepted.
    #[error("the agent could not store this: {reason}")]
    StorageFailed {
        /// What failed and what to do, for people.
        reason: String,
    },
    /// The queue to the disk is full; nothing was accepted.
    #[error("the agent is busy, retry in {retry_after_ms} ms")]
    Busy {
        /// How long to wait.
        retry_after_ms: u32,
    },
    /// The cursor is from another life of the log.
    #[error("{}", other_epoch(room, *given, *current))]
    EpochChanged {
        /// Which room.
        room: Room,
        /// The cursor's.
        given: Epoch,
        /// The log's; all zeros on a host that has not met a server yet.
        current: Epoch,
    },
    /// The server says no.
    #[error("the server refused: {0}")]
    ByServer(federation::Refusal),
    /// The server would be needed for this and cannot be reached.
    #[error("this needs the server, which cannot be reached: see `chat status`")]
    Offline,
    /// This agent is not federated, and the request needs a server.
    #[error("this host has no server: `chat join HOST` federates it")]
    LocalOnly,
    /// Too many of something.
    #[error("too many {what}, at most {max} are allowed")]
    TooMany {
        /// Of what, for people.
        what: String,
        /// How many are allowed.
        max: u32,
    },
    /// The user left the room in another session, which ends its openings here.
    #[error("{user} left {room}")]
    Left {
        /// Which room.
        room: Room,
        /// Who.
        user: UserName,
    },
    /// `Hello` twice, or something else before `Hello`. Fatal.
    #[error("the session must begin with exactly one Hello")]
    HelloOutOfPlace,
    /// The stream is not trusted any more. Fatal.
    #[error("{reason}")]
    Malformed {
        /// What was wrong with it.
        reason: String,
    },
    /// The preface or `Hello` did not come in time. Fatal.
    #[error("the session did not begin within {seconds} s")]
    TimedOut {
        /// How long it had.
        seconds: u32,
    },
    /// The agent is ending. Fatal.
    #[error("the agent is shutting down")]
    ShuttingDown,
    /// The agent's log or its copy of the room cannot be read.
    #[error("the agent could not read its log: {reason}")]
    Unreadable {
        /// What failed, for people.
        reason: String,
    },
    /// Only the OS user who runs the agent may do this to the whole host.
    #[error(
        "uid {uid} may not change this host's server: only uid {owner}, who runs the agent, may"
    )]
    NotOwner {
        /// Who asked.
        uid: u32,
        /// Who may.
        owner: u32,
    },
    /// The cursor is beyond the newest message of a log that this host keeps.
    #[error(
        "the cursor is after message {given} of {room}, which ends with {head}: was this host's \
         state restored from a backup? Then start its agent once with --new-epoch, and here again \
         with --since 0"
    )]
    CursorAhead {
        /// Which room.
        room: Room,
        /// The cursor's.
        given: Seq,
        /// The log's newest.
        head: Seq,
    },
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
    /// The user may not be in the room any more, which ends its openings here.
    #[error("{user} is not in {room} any more")]
    Removed {
        /// Which room.
        room: Room,
        /// Who.
        user: UserName,
    },
    /// There is no such room, or none that this user may know of.
    #[error("there is no room {room}")]
    NoSuchRoom {
        /// Which room.
        room: Room,
    },
    /// The nick is new here, and could be taken for another. Fatal.
    #[error("nick {nick} {reason}: choose another with --nick")]
    Deceptive {
        /// The nick.
        nick: Nick,
        /// What for.
        reason: String,
    },
    /// The id was made of a key of another user, who alone may use it.
    #[error("message id {id} was made of a key, and not by {user}: send it under another one")]
    IdOfAnother {
        /// The id.
        id: MessageId,
        /// Who wanted to use it.
        user: UserName,
    },
}

fn other_epoch(room: &Room, given: Epoch, current: Epoch) -> String {
    if current.to_bytes() == [0; 8] {
        return format!(
            "this host has not met the server that keeps {room} yet: run this again when \
             `chat status` says that it is connected"
        );
    }
    format!(
        "the cursor is from log {given}, but {room} is now log {current}: it was recreated or \
         restored, so start again with --since 0"
    )
}

impl Refusal {
    /// Whether the session ends with this.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::NickTaken { .. }
                | Self::NotAllowed { .. }
                | Self::Deceptive { .. }
                | Self::HelloOutOfPlace
                | Self::Malformed { .. }
                | Self::TimedOut { .. }
                | Self::ShuttingDown
        )
    }

    /// Whether the asking OS user lacks a right: exit code 77 at the command line.
    #[must_use]
    pub const fn is_permission(&self) -> bool {
        matches!(
            self,
            Self::NickTaken { .. }
                | Self::NotAllowed { .. }
                | Self::Deceptive { .. }
                | Self::NotYours { .. }
                | Self::NotOwner { .. }
                | Self::Denied { .. }
                | Self::NotOpen { .. }
                | Self::ByServer(
                    federation::Refusal::Denied { .. } | federation::Refusal::NotOpen { .. }
                )
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_of_a_server_that_was_never_met_is_not_called_outdated() {
        let refusal = |current| Refusal::EpochChanged {
            room: "#builds".parse().unwrap(),
            given: Epoch::from_bytes([7; 8]),
            current: Epoch::from_bytes([current; 8]),
        };
        let never_met = refusal(0).to_string();
        assert!(never_met.contains("has not met the server"), "{never_met}");
        assert!(refusal(1).to_string().contains("recreated"));
    }
}
