//! What the writer thread is asked, and what came of it.

use super::{
    governing::Gone,
    person::{Claim, DepartureNumber},
};
use crate::answer::Answer;
use protocol::{
    Committed, ConsumerName, Cursor, Epoch, FederatedRoom, MessageId, Nick, Outgoing, Room, Seq,
    ServerAddress, UserName, federation,
    governance::Act,
    local::{Delivery, Refusal},
};
use tokio::sync::oneshot;

/// Something to write.
#[derive(Debug)]
pub enum Command {
    /// Accept a message: into the log if this agent orders its room, into the outbox otherwise.
    Send {
        /// The message, its author checked.
        message: Outgoing,
        /// Gets `Reply::Sent`.
        answer: Answer,
    },
    /// Take over what the server has committed. Need not survive a power cut: the server has it.
    Ingest {
        /// In the order they came.
        messages: Vec<Committed>,
        /// Told which rooms have a gap, or why nothing was kept.
        done: oneshot::Sender<Result<Vec<Gap>, String>>,
    },
    /// Take out of the outbox what the server has taken or refused.
    Settle {
        /// What became of each.
        results: Vec<Settled>,
        /// Told when it is done, or given back what was not.
        done: oneshot::Sender<Result<(), Vec<Settled>>>,
    },
    /// The server's log is another one than the replica's.
    BeginEpoch {
        /// The server's.
        epoch: Epoch,
        /// Told when the replica belongs to it.
        done: oneshot::Sender<Result<(), String>>,
    },
    /// Let an OS user speak as a nick.
    Claim {
        /// The nick.
        nick: Nick,
        /// Who wants it.
        uid: u32,
        /// Told the verdict.
        done: oneshot::Sender<Result<Claim, String>>,
    },
    /// Make a user of this host a member.
    Join {
        /// Of which `#room` or `&room`.
        room: Room,
        /// Who.
        user: UserName,
        /// Told when it is done.
        done: oneshot::Sender<Result<(), Refusal>>,
    },
    /// End a membership.
    Leave {
        /// Of which `#room` or `&room`.
        room: Room,
        /// Who.
        user: UserName,
        /// Gets `Reply::Done`.
        answer: Answer,
    },
    /// The server knows of a departure.
    Departed {
        /// From which room.
        room: FederatedRoom,
        /// Who.
        user: UserName,
        /// The last departure it can have been told of.
        up_to: DepartureNumber,
    },
    /// Set the topic of a room that this agent orders.
    SetTopic {
        /// Which `&room`.
        room: Room,
        /// Who.
        user: UserName,
        /// The topic, checked.
        topic: String,
        /// Gets `Reply::Done`.
        answer: Answer,
    },
    /// Do an act in a room that this agent orders.
    Govern {
        /// Which `&room`, or which conversation of this host.
        room: Room,
        /// Who.
        user: UserName,
        /// The act's id.
        id: MessageId,
        /// What.
        act: Act,
        /// Gets `Reply::Sent`, or `Reply::Done` if it changes nothing.
        answer: Answer,
    },
    /// The server does not let a member in.
    Expel {
        /// Into which `#room`.
        room: Room,
        /// Whom.
        user: UserName,
        /// Whether they may not read either what is here of it.
        closed: bool,
    },
    /// Look for messages that were kept for long enough.
    Prune,
    /// Keep a copy of the topic the server told.
    CopyTopic {
        /// Which room.
        room: FederatedRoom,
        /// The topic.
        topic: String,
    },
    /// Remember how far a user has read.
    MarkRead {
        /// Who.
        user: UserName,
        /// Which room.
        room: Room,
        /// The last message read.
        cursor: Cursor,
        /// Gets `Reply::Done`.
        answer: Answer,
    },
    /// Remember what a consumer of a user is done with.
    Confirm {
        /// Whose.
        user: UserName,
        /// Which consumer.
        consumer: ConsumerName,
        /// Which room.
        room: Room,
        /// The last message it is done with.
        cursor: Cursor,
        /// Gets `Reply::Done`.
        answer: Answer,
    },
    /// Take over the servers of the settings if they have changed.
    Configure {
        /// None if the settings name none.
        servers: Vec<ServerAddress>,
    },
    /// Remember a server as something was learned of it, if it is still among those to try.
    Learn {
        /// As it was.
        server: ServerAddress,
        /// As it is to be remembered.
        learned: ServerAddress,
    },
    /// Remember the servers to try.
    SetServers {
        /// None for local only.
        servers: Vec<ServerAddress>,
        /// Gets `Reply::Done`.
        answer: Answer,
    },
    /// Index a part of what is missing of some rooms, soon.
    Index {
        /// Their numbers in this file.
        rooms: Vec<i64>,
        /// Told when a part is indexed, or why not.
        done: oneshot::Sender<Result<(), String>>,
    },
}

/// A message of a room did not follow the one before it here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Which room.
    pub room: Room,
    /// The newest message here.
    pub head: Seq,
}

/// What the server said of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Which message.
    pub id: MessageId,
    /// Where it went.
    pub room: Room,
    /// Who sent it.
    pub author: UserName,
    /// Its place, or why it has none.
    pub result: Result<Delivery, federation::Refusal>,
}

/// What came of a command, until its transaction is durable.
#[derive(Debug)]
pub enum Outcome {
    /// Of `Send`.
    Sent {
        /// The answer.
        result: Result<Delivery, Refusal>,
        /// The message, if this agent gave it its place now.
        committed: Option<Box<Committed>>,
        /// Whether it made its author a member of the room, and the hub must learn it.
        joined: bool,
    },
    /// Of `Ingest`: which messages are new, where some were missing, and which were given the name
    /// of a user here who has not said them.
    Ingested {
        /// One for each message.
        new: Vec<bool>,
        /// Rooms to ask for again.
        gaps: Vec<Gap>,
        /// Which of the messages, and what each was kept as.
        disowned: Vec<(usize, Committed)>,
        /// Whose membership ended, each with the number of the message that says so.
        gone: Vec<(usize, Gone)>,
    },
    /// Of `Settle`: which of the results are news, as their messages still waited.
    Settled(Vec<bool>),
    /// Of `Claim`.
    Claimed(Claim),
    /// Of `Join`: whether the hub must learn it, or why not.
    Joined(Result<bool, Refusal>),
    /// Of `Leave`.
    Left {
        /// Whether it changed anything.
        left: bool,
        /// What the server must be told.
        departure: Option<DepartureNumber>,
        /// What the room's log says of it, if it does.
        committed: Option<Box<Committed>>,
    },
    /// Of `Govern`.
    Governed {
        /// The act's place, none if it changes nothing, or why it is not done.
        result: Result<Option<Seq>, Refusal>,
        /// What is in the log now.
        committed: Vec<Committed>,
        /// Whose membership ended.
        gone: Vec<Gone>,
    },
    /// Of `BeginEpoch`: whose membership ended.
    Begun(Vec<Gone>),
    /// Of `Expel`: what the hub must learn.
    Expelled(Option<Gone>),
    /// Of `SetTopic`: it may not be set.
    Refused(Refusal),
    /// Of `Confirm`: whether there was room for it.
    Confirmed(bool),
    /// Of `Configure`: whether the settings won.
    Configured(bool),
    /// The servers to try, as they are known now.
    Learned(Vec<ServerAddress>),
    /// Of `SetServers`: nothing tells whether what answers at this place is the right server.
    Unknown(String),
    /// Of commands that have nothing to report.
    Done,
}
