//! A log in use: somebody takes its commits, as the server's publisher does, and checks them.

use super::Backing;
use chat_server::{
    Answer, Ticket,
    log::{self, Change, Commit, Commits, Log, Rejected, Submission},
};
use protocol::{
    Committed, Content, FederatedRoom, MessageId, Outgoing, Room, Seq, Timestamp, UserName,
    federation::{Refusal, Reply},
};
use std::{future::Future, sync::Arc};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};

/// Nothing takes longer, or something hangs.
pub(super) async fn within_limit(test: impl Future<Output = ()>) {
    let limit = tests::limit();
    if tokio::time::timeout(limit, test).await.is_err() {
        panic!("not done within {limit:?}");
    }
}

/// The rooms that somebody follows here, as readers on connections do.
const FOLLOWED: [&str; 3] = ["#ops", "#dev", "alice@ada,bob@bee"];

/// A log, and what came out of it.
pub(super) struct Running<B> {
    backing: B,
    pub(super) log: Arc<dyn Log>,
    seen: watch::Receiver<Vec<Commit>>,
    collector: JoinHandle<()>,
}

impl<B: Backing> Running<B> {
    /// A log that nobody has used yet.
    pub(super) async fn new() -> Self {
        Self::open(B::new()).await
    }

    async fn open(mut backing: B) -> Self {
        let (log, commits) = backing.open().await;
        for followed in FOLLOWED {
            log.follow(&room(followed)).await.unwrap();
        }
        Self::collect(backing, log, commits)
    }

    /// Begins to take what comes out.
    pub(super) fn collect(backing: B, log: Arc<dyn Log>, commits: Commits) -> Self {
        let (sender, seen) = watch::channel(Vec::new());
        let collector = tokio::spawn(collect(Arc::clone(&log), commits, sender));
        Self {
            backing,
            log,
            seen,
            collector,
        }
    }

    /// What the log stands on.
    pub(super) const fn backing(&self) -> &B {
        &self.backing
    }

    /// The same, to do something to it.
    pub(super) const fn backing_mut(&mut self) -> &mut B {
        &mut self.backing
    }

    /// Ends in order; gives everything that came out.
    pub(super) async fn close(self) -> (B, Vec<Commit>) {
        self.log.close().await;
        self.collector.await.unwrap();
        let commits = self.seen.borrow().clone();
        (self.backing, commits)
    }

    /// Ends in order and opens again; gives everything that came out.
    pub(super) async fn reopen(self) -> (Self, Vec<Commit>) {
        let (backing, commits) = self.close().await;
        (Self::open(backing).await, commits)
    }

    /// Is killed and opens again.
    pub(super) async fn kill(self) -> Self {
        let Self {
            mut backing,
            log,
            collector,
            ..
        } = self;
        backing.kill(log).await;
        collector.await.unwrap();
        Self::open(backing).await
    }

    /// Waits until so many commits came out; gives all so far.
    pub(super) async fn commits(&mut self, count: usize) -> Vec<Commit> {
        let enough = self.seen.wait_for(|seen| seen.len() >= count).await;
        enough.unwrap().clone()
    }

    /// Makes one change.
    pub(super) async fn change(&self, change: Change) -> Answer {
        log::change(&*self.log, change).await.unwrap()
    }

    /// Makes many changes at once; gives the answers in the same order.
    pub(super) async fn change_all(
        &self,
        changes: impl IntoIterator<Item = Change>,
    ) -> Vec<Answer> {
        let mut answers = Vec::new();
        let mut waiting = Vec::new();
        for change in changes {
            let (sender, answer) = oneshot::channel();
            let mut submission = Submission {
                change,
                ticket: Ticket::Waiting(sender),
            };
            while let Err(rejected) = self.log.submit(submission) {
                let Rejected::Full(given_back) = rejected else {
                    panic!("the log has ended");
                };
                submission = *given_back;
                // Once the queue has been worked off there is room again.
                for answer in std::mem::take(&mut waiting) {
                    answers.push(answered(answer).await);
                }
            }
            waiting.push(answer);
        }
        for answer in waiting {
            answers.push(answered(answer).await);
        }
        answers
    }

    /// Appends in order, in one lane.
    pub(super) async fn append_all(&self, messages: &[Outgoing]) -> Vec<Answer> {
        let mut answers = Vec::new();
        // A part at a time, or the queue might fill.
        for part in messages.chunks(200) {
            let some = log::append_all(&*self.log, part.to_vec()).await;
            answers.extend(some.into_iter().map(Option::unwrap));
        }
        answers
    }

    /// Appends what is not refused; gives the places.
    pub(super) async fn append(&self, messages: &[Outgoing]) -> Vec<Seq> {
        let answers = self.append_all(messages).await;
        answers.into_iter().map(|answer| place(&answer)).collect()
    }

    /// Says one thing and gives its place.
    pub(super) async fn say(&self, message: &Outgoing) -> Seq {
        self.append(std::slice::from_ref(message)).await[0]
    }

    /// All of a room, read in small pages.
    pub(super) async fn read(&self, room: &Room) -> Vec<Committed> {
        let mut found: Vec<Committed> = Vec::new();
        loop {
            let after = found.last().map_or(Seq::START, |last| last.seq);
            let page = self.log.page(room, after, 7, 1 << 20).await.unwrap();
            if page.is_empty() {
                return found;
            }
            found.extend(page);
        }
    }
}

pub(super) async fn answered(answer: oneshot::Receiver<Answer>) -> Answer {
    answer.await.expect("every change is answered")
}

/// Takes commits until there are no more. What comes out can be read at once.
async fn collect(log: Arc<dyn Log>, mut commits: Commits, seen: watch::Sender<Vec<Commit>>) {
    while let Some(batch) = commits.next().await {
        for commit in &batch {
            if let Commit::Message(message) = commit {
                let found = log.find(&message.room, message.id).await.unwrap();
                assert_eq!(found.as_ref(), Some(message));
            }
        }
        seen.send_modify(|seen| seen.extend(batch));
    }
}

/// The place in an answer.
pub(super) fn place(answer: &Answer) -> Seq {
    match answer {
        Ok(Reply::Appended { seq }) => *seq,
        other => panic!("{other:?} instead of a place"),
    }
}

/// The messages among what came out.
pub(super) fn messages_of(commits: &[Commit]) -> Vec<Committed> {
    let messages = commits.iter().filter_map(|commit| match commit {
        Commit::Message(message) => Some(message.clone()),
        _ => None,
    });
    messages.collect()
}

/// Checks that each of `log` follows the one before.
pub(super) fn assert_chain(log: &[Committed]) {
    let mut head = Seq::START;
    for message in log {
        assert!(message.seq > head, "{message:?} after {head}");
        assert_eq!(message.prev_seq, head);
        head = message.seq;
    }
}

pub(super) fn room(text: &str) -> Room {
    text.parse().unwrap()
}

pub(super) fn federated(text: &str) -> FederatedRoom {
    FederatedRoom::parse(text).unwrap()
}

pub(super) fn user(text: &str) -> UserName {
    text.parse().unwrap()
}

/// Something that `author` never said before.
pub(super) fn says(author: &str, room: &Room, text: &str) -> Outgoing {
    Outgoing {
        id: MessageId::new(),
        room: room.clone(),
        author: user(author),
        sent_at: Timestamp::from_micros(1_700_000_000_000_000),
        body: Content::Text(text.to_owned()).encode().unwrap(),
    }
}

pub(super) fn is_conflict(answer: &Answer, id: MessageId) -> bool {
    *answer == Err(Refusal::IdConflict { id })
}
