//! The seam to the log: what the server needs of it, whoever keeps it.
//!
//! What every implementation promises, and a contract test checks:
//!
//! * Changes are made in the order in which they were submitted, those of one author in one lane at least, and
//!   each is answered once, after it is durable. [`Lane`] tells how a change that could not be
//!   made holds up those behind it.
//! * A message's id is in its room once. The same message again is answered with its first place,
//!   another message with that id by [`Refusal::IdConflict`]. A log may refuse an id in all rooms but
//!   one; nobody relies on it, and readers know a message by its room and id.
//! * Within a room seqs rise, and each message names the one before it.
//! * What was answered can be read. What comes out of [`Commits`] can be read, comes once, and
//!   comes in order within a room. Messages come of rooms that somebody here follows
//!   ([`Log::follow`]), and may come of others; who comes and goes is told of all.
//!
//! [`Refusal::IdConflict`]: protocol::federation::Refusal::IdConflict

mod jetstream;
mod judge;
mod restoring;
mod sqlite;
mod store;

pub use jetstream::{
    BadServers, DEFAULT_STREAM, JetStreamLog, JetStreamSettings, NatsServers, StreamError,
};
pub(crate) use jetstream::{JetStreamRestore, Purpose};
pub use restoring::RestoreError;
pub(crate) use restoring::{Encoded, Part, RoomState};
pub use sqlite::SqliteLog;
pub(crate) use sqlite::{SqliteRestore, newest};

use crate::{
    lane::Lane,
    reply::{Answer, Ticket},
};
use protocol::{
    Committed, Direct, Epoch, FederatedRoom, HostName, LogStatus, MessageId, Outgoing, Room, Seq,
    UserName,
    federation::RoomInfo,
    governance::{Act, Charter},
};
use room_log::{Head, OpenError, StoreError};
use std::{fmt, future::Future, io, path::PathBuf, pin::Pin, sync::Arc, time::Instant};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

/// Why the log cannot be opened. The message says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenLogError {
    /// The database is not used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gives no thread to write in.
    #[error("cannot start the writer: {0}")]
    Thread(#[source] io::Error),
    /// NATS is not there, or does not let this server in.
    #[error("cannot connect to {servers}: {reason}")]
    Connect {
        /// Where, without passwords.
        servers: String,
        /// Why not.
        #[source]
        reason: io::Error,
    },
    /// The stream is no log.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// A log was to be moved here, and that did not come to its end.
    #[error(
        "the log in {path} was restored in part only: run `chat server import` again, which begins \
         anew, or remove it and {marker} to begin with an empty log",
        path = path.display(), marker = path.with_extension("exists").display()
    )]
    HalfRestored {
        /// The file.
        path: PathBuf,
    },
}

/// Something being read from the log.
///
/// Dropping it is harmless.
pub type Reading<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// Something to be written.
#[derive(Debug)]
pub enum Change {
    /// Append a message; creates the room. Answered by `Appended`.
    ///
    /// The hosts of a direct conversation need not have been here yet.
    Append {
        /// The message. The caller has checked that the author may say this there.
        message: Outgoing,
        /// The agent's attempt, for `lane`.
        attempt: u32,
        /// The connection's lane.
        lane: Arc<Lane>,
    },
    /// Make `user` a member; creates the room. Answered by `Joined`.
    Join {
        /// Which room.
        room: FederatedRoom,
        /// Who.
        user: UserName,
    },
    /// End a membership. Answered by `Done`, also if there was none.
    Leave {
        /// Which room.
        room: FederatedRoom,
        /// Who.
        user: UserName,
    },
    /// Set the topic of a room that exists; empty removes it. Answered by `Done`.
    SetTopic {
        /// Which room.
        room: FederatedRoom,
        /// Who sets it.
        user: UserName,
        /// The topic. The caller has checked it.
        topic: String,
    },
    /// Do something with a room's charter, or erase messages. Answered by `Appended`, or by `Done`
    /// if it changes nothing.
    Govern {
        /// Which room.
        room: Room,
        /// Who.
        user: UserName,
        /// The act's id.
        id: MessageId,
        /// What. The caller has checked that it is possible there.
        act: Act,
    },
    /// Ask, behind all that was submitted before, whether somebody of `host` is in a room. Answered
    /// by `Done` or [`Refusal::NoReader`](protocol::federation::Refusal::NoReader).
    AskForReader {
        /// Which room.
        room: Room,
        /// Which host.
        host: HostName,
    },
    /// Look for messages that were kept for long enough. Answered by `Done`.
    Prune,
}

/// A change and who waits for it.
#[derive(Debug)]
pub struct Submission {
    /// What to write.
    pub change: Change,
    /// Who gets the answer.
    pub ticket: Ticket,
}

/// Why a change was not queued. Gives it back.
#[derive(Debug)]
pub enum Rejected {
    /// As many changes as allowed are waiting.
    Full(Box<Submission>),
    /// The log has ended.
    Closed(Box<Submission>),
}

/// Something that was written and concerns others than its author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Commit {
    /// A message got its place.
    Message(Committed),
    /// Somebody became a member.
    Joined {
        /// Which room.
        room: FederatedRoom,
        /// Who.
        user: UserName,
    },
    /// Somebody's membership ended.
    Left {
        /// Which room.
        room: FederatedRoom,
        /// Who.
        user: UserName,
    },
    /// A topic was set or, if empty, removed.
    Topic {
        /// Which room.
        room: FederatedRoom,
        /// Who set it.
        user: UserName,
        /// The topic.
        topic: String,
    },
    /// A direct conversation began, which is told by its first message as well.
    Opened {
        /// Which.
        conversation: Direct,
    },
    /// Nobody of these hosts is in a room any more.
    Closed {
        /// Which room.
        room: Room,
        /// Which hosts.
        hosts: Vec<HostName>,
    },
}

/// Who asks what there is.
#[derive(Debug, Clone)]
pub enum Asker {
    /// An agent, for whoever uses it.
    Host(HostName),
    /// One user of it.
    User(UserName),
}

impl Asker {
    /// Whether they may know of a room with this charter.
    #[must_use]
    pub fn may_know_of(&self, charter: &Charter) -> bool {
        !charter.is_private()
            || match self {
                Self::Host(host) => charter.people().any(|(user, _)| user.host == *host),
                Self::User(user) => charter.admits(user),
            }
    }
}

/// All that is written, in order.
#[derive(Debug)]
pub struct Commits(mpsc::Receiver<Vec<Commit>>);

impl Commits {
    /// Batches that may wait to be fanned out while one is. The log waits when there are more. A
    /// batch is no larger than the log's own queue: with the largest bodies 64 MiB.
    const QUEUE_BATCHES: usize = 1;

    /// The two ends: whoever keeps the log sends.
    #[must_use]
    pub fn channel() -> (mpsc::Sender<Vec<Commit>>, Self) {
        let (sender, receiver) = mpsc::channel(Self::QUEUE_BATCHES);
        (sender, Self(receiver))
    }

    /// The next batch, or `None` after the log has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no batch is lost.
    pub async fn next(&mut self) -> Option<Vec<Commit>> {
        self.0.recv().await
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing<T> {
    /// What is on it.
    pub entries: Vec<T>,
    /// Whether another page follows.
    pub more: bool,
}

/// What a log has done since it was opened, for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transactions made durable.
    pub batches: u64,
    /// Messages appended.
    pub messages: u64,
    /// Most changes in one transaction.
    pub largest_batch: u64,
    /// Transactions rolled back.
    pub rolled_back: u64,
}

/// A log of rooms, their members and topics, and the hosts that were here.
pub trait Log: fmt::Debug + Send + Sync + 'static {
    /// Which life of the log this is.
    fn epoch(&self) -> Epoch;

    /// Queues a change without waiting.
    ///
    /// # Errors
    ///
    /// [`Rejected`] gives it back. The caller answers, and tells the lane.
    fn submit(&self, submission: Submission) -> Result<(), Rejected>;

    /// Reads messages of `room` after `after`, oldest first: at most `max_entries`, and no more
    /// once their bodies have `max_bytes`. None if there is no such room.
    fn page(
        &self,
        room: &Room,
        after: Seq,
        max_entries: usize,
        max_bytes: usize,
    ) -> Reading<Vec<Committed>>;

    /// The newest message of `room`; `None` if there is no such room.
    fn head(&self, room: &Room) -> Reading<Option<Head>>;

    /// The id of the message of `room` at `seq`, if there is one.
    fn id_at(&self, room: &Room, seq: Seq) -> Reading<Option<MessageId>>;

    /// The message of `room` with this id.
    fn find(&self, room: &Room, id: MessageId) -> Reading<Option<Committed>>;

    /// Has what is said in `room` come out of [`Commits`] from here on: all that is beyond the head
    /// that is read after this is done, until [`unfollow`](Self::unfollow) was called as often as this.
    fn follow(&self, _room: &Room) -> Reading<()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Takes one [`follow`](Self::follow) back that was done, or given up.
    fn unfollow(&self, _room: &Room) {}

    /// As [`page`](Self::page), for an agent: none if nobody of its `host` is in the federated
    /// `room` at that moment.
    fn page_for(
        &self,
        host: &HostName,
        room: &Room,
        after: Seq,
        max_entries: usize,
        max_bytes: usize,
    ) -> Reading<Option<Vec<Committed>>>;

    /// Whether message `id` of `room` stands at `seq`, or did until it was kept for long enough.
    fn was_at(&self, room: &Room, seq: Seq, id: MessageId) -> Reading<bool>;

    /// Who may do what in `room`; `None` if it is open to all.
    fn charter(&self, room: &Room) -> Reading<Option<Charter>>;

    /// Whether somebody of `host` is in `room`.
    fn has_reader(&self, room: &Room, host: &HostName) -> Reading<bool>;

    /// Federated rooms that `asker` may know of in order of name, one page after `after`.
    fn rooms(&self, asker: &Asker, after: Option<&FederatedRoom>) -> Reading<Listing<RoomInfo>>;

    /// Members of `room` in order of name, one page after `after`; `None` if there is no such
    /// room.
    fn members(
        &self,
        room: &FederatedRoom,
        after: Option<&UserName>,
    ) -> Reading<Option<Listing<UserName>>>;

    /// The rooms that `user` is a member of.
    fn rooms_of(&self, user: &UserName) -> Reading<Vec<Room>>;

    /// Direct conversations with an end on `host` in order of their text, one page after `after`.
    fn directs(&self, host: &HostName, after: Option<&Room>) -> Reading<Listing<Room>>;

    /// How many bytes that the log has on disk are free to be written again.
    fn free_bytes(&self) -> Reading<u64>;

    /// Waits until the log had to give up; the process must end then.
    fn failed(&self) -> Pin<Box<dyn Future<Output = Arc<StoreError>> + Send>>;

    /// Takes no more changes, and waits until all that were queued are durable and answered.
    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// What it has done so far.
    fn stats(&self) -> Stats;

    /// What its acknowledgements promise, and whether it takes anything now.
    fn status(&self) -> LogStatus;

    /// Since when it has been at one transaction; `None` if it is idle, or does not know. A disk
    /// that hangs is told by a time long ago.
    fn busy_since(&self) -> Option<Instant> {
        None
    }
}

/// Makes a change and waits for the answer; `None` if the log is full or has ended.
///
/// # Cancel safety
///
/// If it is dropped, the change is made all the same.
pub async fn change(log: &dyn Log, change: Change) -> Option<Answer> {
    let (sender, answer) = oneshot::channel();
    let ticket = Ticket::Waiting(sender);
    log.submit(Submission { change, ticket }).ok()?;
    answer.await.ok()
}

/// Appends `messages`, those of each author in order, in a lane of their own, and waits for all answers; `None` for
/// those that were not queued or not answered.
///
/// # Cancel safety
///
/// If it is dropped, the messages are appended all the same.
pub async fn append_all(log: &dyn Log, messages: Vec<Outgoing>) -> Vec<Option<Answer>> {
    let lane = Arc::new(Lane::new());
    let mut waiting = Vec::with_capacity(messages.len());
    for message in messages {
        let (sender, answer) = oneshot::channel();
        let author = message.author.nick.clone();
        let change = Change::Append {
            message,
            attempt: 0,
            lane: Arc::clone(&lane),
        };
        let ticket = Ticket::Waiting(sender);
        let queued =
            lane.may_queue(&author, 0) && log.submit(Submission { change, ticket }).is_ok();
        if !queued {
            lane.turn_away(&author, 0);
        }
        waiting.push(queued.then_some(answer));
    }
    let mut answers = Vec::with_capacity(waiting.len());
    for answer in waiting {
        answers.push(match answer {
            Some(answer) => answer.await.ok(),
            None => None,
        });
    }
    answers
}
