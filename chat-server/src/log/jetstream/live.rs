//! What comes from the stream: all commands, and what is said in the rooms that are followed here.
//!
//! One consumer of JetStream brings both, so that acts and messages of a room come in one order. It
//! keeps nothing and acknowledges nothing: whatever happens to it, another one goes on behind the
//! last entry that was handled. What it brings is pulled in bounded parts, and no part is asked for
//! before the one before it was taken.

use super::{
    Shared,
    entry::{Command, Ordered, read_said, ticket},
    subject::{Place, bucket},
};
use crate::{
    log::{Commit, judge::Outcome},
    nats::NatsError,
    reply::Answer,
};
use async_nats::{Message, Subscriber};
use futures_util::{FutureExt, StreamExt, future::join_all};
use protocol::{Committed, Room, Seq, Timestamp};
use room_log::StoreError;
use serde_json::{Value, json};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

/// Entries that are asked for at a time: with the largest bodies 33 MiB.
const PULL_ENTRIES: usize = 500;

/// Entries that are handled together: one transaction of the cache, one batch for the publisher.
const BATCH_ENTRIES: usize = 256;

/// How often JetStream says that there is nothing to say, and how long it may say nothing at all: a few
/// beats, and what readers notice when the node dies that brings them the log. A node that is only slow
/// costs another consumer.
const HEARTBEAT: Duration = Duration::from_millis(400);
const SILENCE: Duration = Duration::from_secs(2);

/// How long one request for entries stands.
const PULL_EXPIRES: Duration = Duration::from_secs(30);

/// How long JetStream remembers a consumer that nobody asks any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// How long to wait before the stream is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Followed rooms beyond which whole buckets are asked for: JetStream looks through the filters of a
/// consumer when they change (13 ms for 500, 193 ms for 2,000 were measured).
const MAX_ROOM_FILTERS: usize = 400;

/// A room that somebody wants to follow, and who waits for it.
#[derive(Debug)]
pub(super) struct Follow {
    pub(super) room: Room,
    pub(super) done: oneshot::Sender<Result<(), StoreError>>,
}

/// The task's own state.
#[derive(Debug)]
pub(super) struct Live {
    shared: Arc<Shared>,
    commits: mpsc::Sender<Vec<Commit>>,
    requests: mpsc::Receiver<Follow>,
    /// Ends the task after all that was written here has come.
    stop: CancellationToken,
    /// The last entry that was handled.
    position: Seq,
    /// The newest message of each followed room that was given, or was there before.
    followed: HashMap<Room, Seq>,
    /// Until the commands that were there at the start are done, nobody is told anything.
    ready: Option<oneshot::Sender<()>>,
    consumers: u64,
}

/// Why a consumer is of no use any more.
#[derive(Debug)]
enum Ended {
    /// Everything has come that was to come.
    Stopped,
    /// Another one goes on.
    Lost(String),
    /// The server must end.
    Failed(StoreError),
}

impl From<NatsError> for Ended {
    fn from(error: NatsError) -> Self {
        Self::Lost(error.to_string())
    }
}

/// One consumer.
struct Consumer {
    name: String,
    inbox: String,
    coming: Subscriber,
    /// As it was made; only the filters change.
    config: Value,
    /// Entries that it has brought.
    brought: u64,
    /// Entries that it may bring before it is asked again.
    asked: usize,
}

/// Something that came.
enum Item {
    Said(Committed),
    Command,
}

/// What JetStream says of an entry that it brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Delivery {
    seq: u64,
    number: u64,
    nanos: u64,
    pending: u64,
}

impl Live {
    pub(super) fn new(
        shared: Arc<Shared>,
        commits: mpsc::Sender<Vec<Commit>>,
        requests: mpsc::Receiver<Follow>,
        (position, ready): (Seq, oneshot::Sender<()>),
        stop: CancellationToken,
    ) -> Self {
        Self {
            shared,
            commits,
            requests,
            stop,
            position,
            followed: HashMap::new(),
            ready: Some(ready),
            consumers: 0,
        }
    }

    /// Handles what comes until it is told to stop.
    pub(super) async fn run(mut self) {
        loop {
            match self.consume().await {
                Ended::Stopped => return,
                Ended::Failed(reason) => {
                    error!(error = %reason, "the log had to stop");
                    self.shared.fail(reason);
                    return;
                }
                Ended::Lost(reason) => {
                    if self.stop.is_cancelled() {
                        debug!(%reason, "ended without the last of the log");
                        return;
                    }
                    warn!(%reason, "what is new in the log does not come");
                    self.shared.trouble(Some(reason));
                }
            }
            self.wait().await;
        }
    }

    /// Waits before the next attempt. While there is no connection, whoever wants to follow a room is
    /// told that it cannot be done.
    async fn wait(&mut self) {
        let mut links = self.shared.nats.links();
        let pause = sleep(RETRY_PAUSE);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return,
                Ok(()) = links.changed() => return,
                () = self.stop.cancelled() => return,
                Some(follow) = self.requests.recv(), if !self.shared.nats.is_connected() => {
                    let reason = "NATS: not connected".to_owned();
                    let _gone = follow.done.send(Err(StoreError::Unreachable(reason)));
                }
            }
        }
    }

    /// Handles what one consumer brings.
    async fn consume(&mut self) -> Ended {
        match self.try_consume().await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn try_consume(&mut self) -> Result<std::convert::Infallible, Ended> {
        let mut links = self.shared.nats.links();
        self.shared
            .check_epoch()
            .await
            .map_err(|error| match error {
                StoreError::Unreachable(reason) => Ended::Lost(reason),
                error => Ended::Failed(error),
            })?;
        let mut consumer = self.make().await?;
        self.shared.trouble(None);
        loop {
            if consumer.asked == 0 {
                self.pull(&mut consumer).await?;
            }
            let silence = timeout(SILENCE, consumer.coming.next());
            tokio::select! {
                message = silence => match message {
                    Ok(Some(message)) => self.take(&mut consumer, message).await?,
                    Ok(None) => return Err(Ended::Lost("the connection has ended".to_owned())),
                    Err(_) => return Err(Ended::Lost("JetStream says nothing".to_owned())),
                },
                Ok(()) = links.changed() => {
                    if !self.shared.nats.is_connected() {
                        return Err(Ended::Lost("NATS: not connected".to_owned()));
                    }
                    return Err(Ended::Lost("the connection is another one".to_owned()));
                }
                Some(follow) = self.requests.recv() => self.follow(&mut consumer, follow).await?,
                () = self.stop.cancelled() => {
                    if self.has_all(&consumer).await? {
                        return Err(Ended::Stopped);
                    }
                    // Something is still to come.
                    let message = timeout(SILENCE, consumer.coming.next()).await;
                    let Ok(Some(message)) = message else {
                        return Err(Ended::Lost("JetStream says nothing".to_owned()));
                    };
                    self.take(&mut consumer, message).await?;
                }
            }
        }
    }

    /// Whether the consumer has nothing more to bring.
    async fn has_all(&self, consumer: &Consumer) -> Result<bool, Ended> {
        let stream = self.shared.nats.stream();
        let question = format!("CONSUMER.INFO.{stream}.{}", consumer.name);
        let info = self.shared.nats.ask(&question, &json!({})).await?;
        let brought = info["delivered"]["consumer_seq"].as_u64();
        Ok(info["num_pending"] == 0 && brought == Some(consumer.brought))
    }

    /// Makes a consumer that goes on behind the last entry that was handled.
    async fn make(&mut self) -> Result<Consumer, Ended> {
        self.consumers += 1;
        let name = format!("{}-{}", self.shared.nats.instance(), self.consumers);
        let (inbox, coming) = self.shared.nats.inbox().await?;
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let config = json!({
            "name": name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self.position.number() + 1,
            "ack_policy": "none",
            "replay_policy": "instant",
            "filter_subjects": self.filters(),
            "mem_storage": true,
            // Of one that dies with its node another is made at once, wherever there is a node; one on
            // three nodes has a leader, and the choice of another takes NATS 4 to 9 s.
            "num_replicas": 1,
            "inactive_threshold": nanos(FORGOTTEN_AFTER),
        });
        let made = self.configure(&config, "create").await?;
        let pending = made["num_pending"].as_u64().unwrap_or_default();
        debug!(%name, pending, after = %self.position, "following the log");
        if pending == 0 {
            self.be_ready();
        } else if self.ready.is_some() {
            info!(commands = pending, "catching up with the log");
        }
        Ok(Consumer {
            name,
            inbox,
            coming,
            config,
            brought: 0,
            asked: 0,
        })
    }

    async fn configure(&self, config: &Value, action: &str) -> Result<Value, NatsError> {
        let stream = self.shared.nats.stream();
        let question = json!({ "stream_name": stream, "action": action, "config": config });
        let name = config["name"].as_str().unwrap_or_default();
        let subject = format!("CONSUMER.CREATE.{stream}.{name}");
        self.shared.nats.ask(&subject, &question).await
    }

    /// What is asked for: all commands, and the followed rooms or their buckets.
    fn filters(&self) -> Vec<String> {
        let subjects = &self.shared.subjects;
        let mut filters = vec![subjects.commands()];
        if self.followed.len() <= MAX_ROOM_FILTERS {
            filters.extend(self.followed.keys().map(|room| subjects.said(room)));
            filters[1..].sort_unstable();
        } else {
            let buckets: BTreeSet<u8> = self.followed.keys().map(bucket).collect();
            filters.extend(buckets.into_iter().map(|number| subjects.said_in(number)));
        }
        filters
    }

    async fn pull(&self, consumer: &mut Consumer) -> Result<(), Ended> {
        let stream = self.shared.nats.stream();
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let question = json!({
            "batch": PULL_ENTRIES,
            "expires": nanos(PULL_EXPIRES),
            "idle_heartbeat": nanos(HEARTBEAT),
        });
        let subject = format!("CONSUMER.MSG.NEXT.{stream}.{}", consumer.name);
        let nats = &self.shared.nats;
        nats.ask_for(&subject, &consumer.inbox, &question).await?;
        consumer.asked = PULL_ENTRIES;
        Ok(())
    }

    /// Takes what came, and whatever else is there already.
    async fn take(&mut self, consumer: &mut Consumer, first: Message) -> Result<(), Ended> {
        let mut messages = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message.status.map(|status| status.as_u16()) {
                None => {
                    consumer.asked = consumer.asked.saturating_sub(1);
                    messages.push(message);
                }
                // Nothing to say.
                Some(100) => {}
                // What was asked for has expired, or was brought.
                Some(404 | 408) => consumer.asked = 0,
                Some(status) => {
                    let words = message.description.unwrap_or_default();
                    // What came before that counts.
                    self.handle(consumer, messages).await?;
                    return Err(Ended::Lost(format!("{status} {words}")));
                }
            }
            next = match messages.len() {
                BATCH_ENTRIES.. => None,
                _ => consumer.coming.next().now_or_never().flatten(),
            };
        }
        if consumer.asked == 0 {
            self.pull(consumer).await?;
        }
        self.handle(consumer, messages).await?;
        self.forget_rooms(consumer).await
    }

    /// Does what came: commands into the cache, everything out to the publisher.
    async fn handle(
        &mut self,
        consumer: &mut Consumer,
        messages: Vec<Message>,
    ) -> Result<(), Ended> {
        let Some(last) = messages.last() else {
            return Ok(());
        };
        let last = delivery(last).ok_or_else(|| Ended::Lost("a reply is odd".to_owned()))?;
        let mut items = Vec::with_capacity(messages.len());
        let mut commands = Vec::new();
        let mut tickets = Vec::new();
        for message in messages {
            let about =
                delivery(&message).ok_or_else(|| Ended::Lost("a reply is odd".to_owned()))?;
            if about.number != consumer.brought + 1 {
                return Err(Ended::Lost("something was lost on the way".to_owned()));
            }
            consumer.brought = about.number;
            let seq = Seq::new(about.seq);
            // A replica that is behind begins at its own end when it is asked to begin beyond it:
            // what it gets then was brought by another one before.
            if seq <= self.position {
                continue;
            }
            let at = Timestamp::from_micros(about.nanos / 1_000);
            let headers = message.headers.unwrap_or_default();
            match self.shared.subjects.parse(&message.subject) {
                Some(Place::Command) => {
                    let command = Command::parse(&message.payload).map_err(|error| {
                        Ended::Failed(StoreError::bad(
                            "command, which a newer chat-server may know",
                            format!("{} at {seq}: {error}", message.subject),
                        ))
                    })?;
                    let own = ticket(&headers)
                        .filter(|(origin, _)| *origin == self.shared.nats.instance());
                    tickets.push(own.map(|(_, number)| number));
                    commands.push(Ordered { seq, at, command });
                    items.push(Item::Command);
                }
                Some(Place::Said { room, id }) if self.followed.contains_key(&room) => {
                    match read_said((room, id), (seq, at), &headers, message.payload) {
                        Some(said) => items.push(Item::Said(said)),
                        None => warn!(subject = %message.subject, %seq, "not a message"),
                    }
                }
                _ => {}
            }
        }
        let outcomes = self.apply(commands).await?;
        let (commits, answers) = self.arrange(items, outcomes, tickets);
        self.position = self.position.max(Seq::new(last.seq));
        // Pages may hold it from here on; what comes out can be read.
        self.shared.applied.send_replace(self.position);
        for (number, answer) in answers {
            self.shared.tickets.settle(number, answer);
        }
        if last.pending == 0 {
            self.be_ready();
        }
        if self.ready.is_none() && !commits.is_empty() && self.commits.send(commits).await.is_err()
        {
            error!("nobody takes commits any more");
        }
        Ok(())
    }

    /// Does the commands in the cache. A cache that cannot take them, its disk being full, is asked
    /// again until it can: nothing may be left out.
    async fn apply(&self, commands: Vec<Ordered>) -> Result<Vec<Outcome>, Ended> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        loop {
            match self.shared.cache.apply(commands.clone()).await {
                Ok(outcomes) => {
                    self.shared.trouble(None);
                    self.shared.erase.notify_one();
                    return Ok(outcomes);
                }
                Err(reason) => {
                    warn!(%reason, "commands of the log are not done yet");
                    self.shared.trouble(Some(reason));
                    tokio::select! {
                        error = self.shared.cache.fatal() => {
                            let text = error.to_string();
                            return Err(Ended::Failed(StoreError::Unreachable(text)));
                        }
                        () = sleep(RETRY_PAUSE) => {}
                    }
                }
            }
        }
    }

    /// Puts what was said and what was done in one order, each message naming the one before it, and
    /// tells who gets which answer.
    fn arrange(
        &mut self,
        items: Vec<Item>,
        outcomes: Vec<Outcome>,
        tickets: Vec<Option<u64>>,
    ) -> (Vec<Commit>, Vec<(u64, Answer)>) {
        let mut commits = Vec::with_capacity(items.len());
        let mut answers = Vec::new();
        let mut done = outcomes.into_iter().zip(tickets);
        for item in items {
            match item {
                Item::Said(said) => commits.extend(self.next_in_room(said)),
                Item::Command => {
                    let Some((outcome, ticket)) = done.next() else {
                        continue;
                    };
                    answers.extend(ticket.map(|number| (number, outcome.answer)));
                    for commit in outcome.commits {
                        match commit {
                            Commit::Message(act) => commits.extend(self.next_in_room(act)),
                            other => commits.push(other),
                        }
                    }
                }
            }
        }
        (commits, answers)
    }

    /// The message with the one before it; `None` if nobody follows its room, or from further on.
    fn next_in_room(&mut self, mut message: Committed) -> Option<Commit> {
        let last = self.followed.get_mut(&message.room)?;
        if message.seq <= *last {
            return None;
        }
        message.prev_seq = std::mem::replace(last, message.seq);
        Some(Commit::Message(message))
    }

    fn be_ready(&mut self) {
        if let Some(ready) = self.ready.take() {
            // Whoever opened the log has given up.
            let _gone = ready.send(());
        }
    }

    /// Follows a room, and all others that somebody waits for.
    async fn follow(&mut self, consumer: &mut Consumer, first: Follow) -> Result<(), Ended> {
        let mut wanted = vec![first];
        while wanted.len() < PULL_ENTRIES
            && let Ok(follow) = self.requests.try_recv()
        {
            wanted.push(follow);
        }
        let result = self.begin(consumer, &wanted).await;
        let (answer, ended) = match result {
            Ok(()) => (None, Ok(())),
            Err(Ended::Lost(reason)) => (Some(reason.clone()), Err(Ended::Lost(reason))),
            Err(ended) => (Some("the log ends".to_owned()), Err(ended)),
        };
        for Follow { done, .. } in wanted {
            let answer = answer.clone();
            let _gone =
                done.send(answer.map_or(Ok(()), |reason| Err(StoreError::Unreachable(reason))));
        }
        ended
    }

    async fn begin(&mut self, consumer: &mut Consumer, wanted: &[Follow]) -> Result<(), Ended> {
        let new: BTreeSet<&Room> = wanted
            .iter()
            .map(|follow| &follow.room)
            .filter(|room| !self.followed.contains_key(*room))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let before = self.followed.clone();
        self.retain_wanted();
        // Up to the head that is read next, nothing counts.
        let rooms: Vec<Room> = new.into_iter().cloned().collect();
        for room in &rooms {
            self.followed.insert(room.clone(), Seq::new(u64::MAX));
        }
        let begun = async {
            self.set_filters(consumer).await?;
            let mut heads = Vec::with_capacity(rooms.len());
            for some in rooms.chunks(32) {
                heads.extend(join_all(some.iter().map(|room| self.shared.head_so_far(room))).await);
            }
            Ok::<_, Ended>(heads)
        };
        let heads = match begun.await {
            Ok(heads) => heads,
            Err(ended) => {
                self.followed = before;
                return Err(ended);
            }
        };
        for (room, head) in rooms.iter().zip(heads) {
            match head {
                Ok(head) => {
                    let head = head.unwrap_or_default();
                    self.followed.insert(room.clone(), head.seq);
                }
                Err(error) => {
                    self.followed = before;
                    return Err(Ended::Lost(error.to_string()));
                }
            }
        }
        Ok(())
    }

    async fn set_filters(&self, consumer: &mut Consumer) -> Result<(), Ended> {
        let filters = json!(self.filters());
        if filters != consumer.config["filter_subjects"] {
            consumer.config["filter_subjects"] = filters;
            self.configure(&consumer.config, "update").await?;
        }
        Ok(())
    }

    /// Stops asking for rooms that nobody follows any more, when something came of one.
    async fn forget_rooms(&mut self, consumer: &mut Consumer) -> Result<(), Ended> {
        if self.retain_wanted() {
            self.set_filters(consumer).await?;
        }
        Ok(())
    }

    /// Forgets the rooms that nobody follows any more; tells whether there were any.
    fn retain_wanted(&mut self) -> bool {
        let before = self.followed.len();
        if let Some(wanted) = self.shared.followers.changed() {
            self.followed.retain(|room, _| wanted.contains_key(room));
        }
        self.followed.len() < before
    }
}

/// Reads the subject that an entry would be acknowledged under, which says where it is:
/// `$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<times>.<seq>.<number>.<nanos>.<pending>`, and
/// more words in the longer form.
fn delivery(message: &Message) -> Option<Delivery> {
    let words: Vec<&str> = message.reply.as_ref()?.as_str().split('.').collect();
    let from = match words.len() {
        9 => 5,
        11.. => 7,
        _ => return None,
    };
    let number = |index: usize| words.get(from + index)?.parse().ok();
    Some(Delivery {
        seq: number(0)?,
        number: number(1)?,
        nanos: number(2)?,
        pending: number(3)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coming(reply: &str) -> Message {
        Message {
            subject: "chat.dc.%23ops.c.join".into(),
            reply: Some(reply.into()),
            payload: bytes::Bytes::new(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        }
    }

    #[test]
    fn where_an_entry_is_stands_in_both_forms_of_its_reply() {
        let expected = Delivery {
            seq: 53_702,
            number: 1,
            nanos: 1_795_533_218_580_042_948,
            pending: 3,
        };
        for reply in [
            "$JS.ACK.T.C1.1.53702.1.1795533218580042948.3",
            "$JS.ACK.hub.ACC.T.C1.1.53702.1.1795533218580042948.3.tok",
            "$JS.ACK._.ACC.T.C1.1.53702.1.1795533218580042948.3",
        ] {
            assert_eq!(delivery(&coming(reply)), Some(expected), "{reply}");
        }
        assert_eq!(delivery(&coming("$JS.ACK.T.C1")), None);
        assert_eq!(delivery(&coming("$JS.ACK.T.C1.1.x.1.1.3")), None);
    }
}
