//! What is submitted, into the stream: one task, which takes whatever has queued up.
//!
//! A run of messages becomes one batch that JetStream stores as a whole and syncs once, as the writer
//! of a SQLite log makes one transaction of it: 500 in 6 ms were measured, one alone takes 2 ms. One
//! batch is on its way at a time, which keeps each sender's order. A batch in which an id is known is
//! refused as a whole; then those that are known are looked up and answered, and the rest is sent
//! again. What was not answered is unknown: its lane is rolled back, and the agent sends the same ids.
//!
//! A run of commands is a batch as well, and each is answered when it was done here, in its place.

use super::{
    Shared,
    entry::{Command, said},
    reading::{Known, kept_with_id},
    subject::hex,
};
use crate::{
    lane::Lane,
    log::{
        Change, Submission,
        judge::{joined_already, refusal},
    },
    nats::{Entry, PublishError},
    reply::{Answer, Ticket},
};
use futures_util::{StreamExt, future::join_all, stream};
use protocol::{
    Committed, HostName, MessageId, Outgoing, Room, Seq, UserName,
    federation::{Refusal, Reply},
    governance::{Act, Charter},
};
use room_log::{Silence, StoreError, charters};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tracing::debug;

/// Changes that may wait: with the largest bodies 64 MiB.
pub(super) const QUEUE_CHANGES: usize = 1_024;

/// Most entries of one batch; JetStream takes 1,000.
const BATCH_ENTRIES: usize = 500;

/// Bytes of bodies after which a batch ends.
const BATCH_BYTES: usize = 8 << 20;

/// How long a command may take from the stream back to here.
const DONE_WITHIN: Duration = Duration::from_secs(10);

/// How long an agent waits before it tries again.
const RETRY_AFTER_MS: u32 = 500;

/// Rooms that are looked up at the same time.
const LOOKUPS: usize = 64;

/// How often a batch is sent again without those whose ids are known.
const MAX_ROUNDS: usize = 8;

/// How long to wait before that if none is known yet, and twice as long the next time: an id that is
/// taken by what is not replicated yet cannot be read.
const ROUND_PAUSE: Duration = Duration::from_millis(20);

/// A message that waits for its place.
struct Waiting {
    message: Outgoing,
    attempt: u32,
    lane: Arc<Lane>,
    ticket: Ticket,
}

/// A command that waits to be done.
struct Pending {
    change: Change,
    ticket: Ticket,
}

/// Takes what is submitted until there is no more.
pub(super) async fn run(shared: Arc<Shared>, mut queue: mpsc::Receiver<Submission>) {
    let mut batch = Vec::with_capacity(BATCH_ENTRIES);
    while queue.recv_many(&mut batch, BATCH_ENTRIES).await > 0 {
        let mut messages = Vec::new();
        let mut commands = Vec::new();
        let mut asked = Vec::new();
        for Submission { change, ticket } in batch.drain(..) {
            match change {
                Change::Append {
                    message,
                    attempt,
                    lane,
                } => {
                    shared.command(std::mem::take(&mut commands)).await;
                    messages.push(Waiting {
                        message,
                        attempt,
                        lane,
                        ticket,
                    });
                }
                // Behind the commands; what follows may be done before as well.
                Change::AskForReader { room, host } => asked.push((room, host, ticket)),
                Change::Prune => {
                    shared.retire.notify_one();
                    ticket.answer(Ok(Reply::Done));
                }
                change => {
                    shared.append(std::mem::take(&mut messages)).await;
                    commands.push(Pending { change, ticket });
                }
            }
        }
        shared.append(messages).await;
        shared.command(commands).await;
        let answered = asked.into_iter().map(|(room, host, ticket)| async {
            ticket.answer(shared.ask_for_reader(room, host).await);
        });
        stream::iter(answered)
            .for_each_concurrent(LOOKUPS, |answered| answered)
            .await;
    }
}

impl Shared {
    /// Gives `messages` their places, in order.
    async fn append(&self, messages: Vec<Waiting>) {
        let mut messages = messages;
        while !messages.is_empty() {
            let mut bytes = 0;
            let count = messages
                .iter()
                .take_while(|one| {
                    let fits = bytes < BATCH_BYTES;
                    bytes += one.message.body.as_bytes().len();
                    fits
                })
                .count();
            let rest = messages.split_off(count);
            self.append_some(std::mem::replace(&mut messages, rest))
                .await;
        }
    }

    async fn append_some(&self, mut messages: Vec<Waiting>) {
        messages = turn_away_behind_refused(messages);
        if messages.is_empty() {
            return;
        }
        match self.judge(&mut messages).await {
            Ok(()) => {}
            Err(reason) => return roll_back(messages, &reason),
        }
        // The same id twice: the second is looked up when the first has its place.
        let mut ids = HashSet::new();
        let (mut fresh, mut again): (Vec<Waiting>, Vec<Waiting>) =
            turn_away_behind_refused(messages)
                .into_iter()
                .partition(|one| ids.insert((one.message.room.clone(), one.message.id)));
        let mut pause = ROUND_PAUSE;
        for _ in 0..MAX_ROUNDS {
            if fresh.is_empty() {
                break;
            }
            let entries = fresh.iter().map(|one| said(&self.subjects, &one.message));
            match self.store(entries.collect()).await {
                Ok(seqs) => {
                    self.count(fresh.len(), true);
                    let placed = std::mem::take(&mut fresh);
                    self.answer_placed(placed.into_iter().zip(seqs).collect())
                        .await;
                }
                Err(PublishError::Taken) => {
                    let (known, rest) = match self.answer_known(fresh).await {
                        Ok(found) => found,
                        Err((unanswered, reason)) => {
                            return roll_back_all(unanswered, again, &reason);
                        }
                    };
                    debug!(known, "ids are known already");
                    fresh = rest;
                    if known == 0 {
                        sleep(pause).await;
                        pause *= 2;
                    }
                }
                Err(error) => {
                    self.count(0, false);
                    return roll_back_all(fresh, again, &error.to_string());
                }
            }
        }
        if !fresh.is_empty() {
            return roll_back_all(fresh, again, "the log does not say what it knows");
        }
        again = turn_away_behind_refused(again);
        match self.answer_known(again).await {
            Ok((_, rest)) => roll_back(rest, "the first of two was not kept"),
            Err((unanswered, reason)) => roll_back(unanswered, &reason),
        }
    }

    fn count(&self, messages: usize, committed: bool) {
        let mut stats = self.lock_stats();
        if committed {
            stats.batches += 1;
            stats.messages += messages as u64;
            stats.largest_batch = stats.largest_batch.max(messages as u64);
        } else {
            stats.rolled_back += 1;
        }
    }

    /// Makes rooms that are not there, and answers those who may not write.
    async fn judge(&self, messages: &mut Vec<Waiting>) -> Result<(), String> {
        let rooms: HashSet<Room> = messages
            .iter()
            .map(|one| one.message.room.clone())
            .collect();
        let text = |error: StoreError| error.to_string();
        let mut known = self.charters(rooms).await.map_err(text)?;
        let mut new: Vec<Command> = Vec::new();
        for Waiting { message, .. } in messages.iter() {
            if !known.contains_key(&message.room) {
                known.insert(message.room.clone(), None);
                new.push(Command::Found {
                    room: message.room.clone(),
                    by: message.author.clone(),
                });
            }
        }
        if !new.is_empty() {
            self.make_rooms(messages, new).await?;
        }
        self.refuse_silenced(messages, &known).await.map_err(text)
    }

    /// The charters of those of `rooms` that exist.
    async fn charters(
        &self,
        rooms: HashSet<Room>,
    ) -> Result<HashMap<Room, Option<Charter>>, StoreError> {
        let epoch = self.epoch;
        self.cache
            .read(move |connection| {
                let mut known = HashMap::new();
                for room in rooms {
                    if room_log::log::head(connection, epoch, &room)?.is_some() {
                        let charter = charters::load(connection, &room)?;
                        known.insert(room, charter);
                    }
                }
                Ok(known)
            })
            .await
    }

    async fn make_rooms(
        &self,
        messages: &mut Vec<Waiting>,
        new: Vec<Command>,
    ) -> Result<(), String> {
        let rooms: Vec<Room> = new
            .iter()
            .filter_map(|command| match command {
                Command::Found { room, .. } => Some(room.clone()),
                _ => None,
            })
            .collect();
        let answers = self.carry_out(new).await;
        let mut refused: HashMap<Room, Refusal> = HashMap::new();
        for (room, answer) in rooms.into_iter().zip(answers) {
            match answer {
                Ok(_) => {}
                Err(Refusal::NotYet { reason, .. }) => return Err(reason),
                Err(refusal) => {
                    refused.insert(room, refusal);
                }
            }
        }
        *messages = answer_some(std::mem::take(messages), |message| {
            refused.get(&message.room).cloned().map(Err)
        });
        Ok(())
    }

    async fn refuse_silenced(
        &self,
        messages: &mut Vec<Waiting>,
        charters: &HashMap<Room, Option<Charter>>,
    ) -> Result<(), StoreError> {
        let silence = |message: &Outgoing| -> Option<Silence> {
            if !matches!(message.room, Room::Federated(_)) {
                return None;
            }
            let charter = charters.get(&message.room)?.as_ref()?;
            Silence::under(charter, &message.author)
        };
        let mut answers: HashMap<(Room, MessageId), Answer> = HashMap::new();
        for Waiting { message, .. } in messages.iter() {
            let Some(silence) = silence(message) else {
                continue;
            };
            // What was taken before they were silenced was taken.
            let known = self.known(&message.room, &[message.id]).await?;
            let answer = match known.first() {
                Some(known) => known_as(message, known),
                None => Err(refusal(&message.room, silence)),
            };
            answers.insert((message.room.clone(), message.id), answer);
        }
        // An act has its id, or what remains of a message: the cache knows those.
        let asked: Vec<(Room, MessageId)> = messages
            .iter()
            .map(|one| (one.message.room.clone(), one.message.id))
            .collect();
        let epoch = self.epoch;
        let kept = self.cache.read(move |connection| {
            let mut kept = Vec::new();
            for (room, id) in asked {
                kept.extend(kept_with_id(connection, epoch, &room, id)?);
            }
            Ok(kept)
        });
        let kept: HashMap<(Room, MessageId), Committed> = kept
            .await?
            .into_iter()
            .map(|kept| ((kept.room.clone(), kept.id), kept))
            .collect();
        *messages = answer_some(std::mem::take(messages), |message| {
            let key = (message.room.clone(), message.id);
            if let Some(kept) = kept.get(&key) {
                let same = kept.body.is_erased() && kept.author == message.author;
                return Some(known(message, same, kept.seq));
            }
            answers.remove(&key)
        });
        Ok(())
    }

    /// Answers messages that have a place now. One that takes another back is answered after that
    /// is on its way to be erased.
    async fn answer_placed(&self, placed: Vec<(Waiting, Seq)>) {
        for (
            Waiting {
                message,
                attempt,
                lane,
                ticket,
            },
            seq,
        ) in placed
        {
            let answer = self.take_back(&message).await;
            match answer {
                Ok(()) => ticket.answer(Ok(Reply::Appended { seq })),
                Err(reason) => {
                    // It has its place; asked again, the rest is done.
                    lane.roll_back(&message.author.nick, attempt);
                    ticket.answer(Err(not_yet(&reason)));
                }
            }
        }
    }

    /// Answers those of `messages` whose ids are known, and gives the others back.
    async fn answer_known(
        &self,
        messages: Vec<Waiting>,
    ) -> Result<(usize, Vec<Waiting>), (Vec<Waiting>, String)> {
        if messages.is_empty() {
            return Ok((0, messages));
        }
        let filters: Vec<String> = messages
            .iter()
            .map(|one| self.subjects.known(&one.message.room, one.message.id))
            .collect();
        let found = match self.known_by(&filters).await {
            Ok(found) => found,
            Err(error) => return Err((messages, error.to_string())),
        };
        let mut by_message: HashMap<String, Vec<Known>> = HashMap::new();
        for known in found {
            let key = match &known {
                Known::Said(message) => self.subjects.known(&message.room, message.id),
                Known::Remains(room, remains) => self.subjects.known(room, remains.id),
                Known::Act(subject) => subject.clone(),
            };
            by_message.entry(key).or_default().push(known);
        }
        let mut rest = Vec::new();
        let mut answered = 0;
        for one in messages {
            let message = &one.message;
            let keys = [
                self.subjects.known(&message.room, message.id),
                self.subjects.command(&message.room, &hex(message.id)),
            ];
            let known = keys.iter().find_map(|key| by_message.get(key)?.first());
            let Some(known) = known else {
                rest.push(one);
                continue;
            };
            answered += 1;
            let answer = known_as(message, known);
            let done = match &answer {
                Ok(_) => self.take_back(message).await,
                Err(_) => Ok(()),
            };
            match done {
                Ok(()) => one.ticket.answer(answer),
                Err(reason) => {
                    one.lane.roll_back(&one.message.author.nick, one.attempt);
                    one.ticket.answer(Err(not_yet(&reason)));
                }
            }
        }
        Ok((answered, rest))
    }

    /// If `message` takes another back, has that erased.
    async fn take_back(&self, message: &Outgoing) -> Result<(), String> {
        let Some(id) = message.body.takes_back() else {
            return Ok(());
        };
        let found = self.found(&message.room, &[id]).await;
        let found = found.map_err(|error| error.to_string())?;
        if found.is_empty() {
            return Ok(());
        }
        let command = Command::TakenBack {
            room: message.room.clone(),
            by: message.author.clone(),
            id,
            found,
        };
        self.order(command).await.map_err(|error| error.to_string())
    }

    /// Has one command carried out that nobody can refuse.
    pub(super) async fn order(&self, command: Command) -> Result<(), StoreError> {
        match self.carry_out(vec![command]).await.pop() {
            Some(Ok(_)) => Ok(()),
            Some(Err(refusal)) => Err(StoreError::Unreachable(refusal.to_string())),
            None => Err(StoreError::Closed),
        }
    }

    /// Has changes made in the order of the stream, and answers each when it was.
    async fn command(&self, pending: Vec<Pending>) {
        let pending = self.answer_members(pending).await;
        if pending.is_empty() {
            return;
        }
        let mut commands = Vec::with_capacity(pending.len());
        // Which of the commands is whose.
        let mut tickets = Vec::with_capacity(pending.len());
        for Pending { change, ticket } in pending {
            match self.prepare(change).await {
                Ok(mut prepared) => {
                    commands.append(&mut prepared);
                    tickets.push((ticket, commands.len() - 1));
                }
                Err(refusal) => ticket.answer(Err(refusal)),
            }
        }
        let rooms: Vec<Option<Room>> = commands
            .iter()
            .map(|command| match command {
                Command::Join { room, .. } => Some(Room::Federated(room.clone())),
                _ => None,
            })
            .collect();
        let mut answers: Vec<Option<Answer>> = self
            .carry_out(commands)
            .await
            .into_iter()
            .map(Some)
            .collect();
        for (ticket, index) in tickets {
            let Some(answer) = answers.get_mut(index).and_then(Option::take) else {
                continue;
            };
            let room = rooms.get(index).and_then(Option::as_ref);
            ticket.answer(self.with_head(answer, room).await);
        }
    }

    /// Answers those who join a room that they are in, and gives the others back. An agent says of all
    /// its users where they are whenever it connects: if each of that were a command, every server would
    /// do it, and the stream would keep it for ever.
    ///
    /// What is in the stream now counts. In a room that something else is changed of here at the same
    /// time, joining is a command.
    async fn answer_members(&self, pending: Vec<Pending>) -> Vec<Pending> {
        let mut changed: HashSet<Room> = HashSet::new();
        let mut joining: HashMap<Room, Vec<UserName>> = HashMap::new();
        for one in &pending {
            match &one.change {
                Change::Join { room, user } => {
                    let users = joining.entry(Room::Federated(room.clone()));
                    users.or_default().push(user.clone());
                }
                Change::Leave { room, .. } | Change::SetTopic { room, .. } => {
                    changed.insert(Room::Federated(room.clone()));
                }
                Change::Govern { room, .. } => {
                    changed.insert(room.clone());
                }
                _ => {}
            }
        }
        joining.retain(|room, _| !changed.contains(room));
        let joining: Vec<(Room, Vec<UserName>)> = joining.into_iter().collect();
        let mut answers: HashMap<(Room, UserName), Answer> = HashMap::new();
        let mut is_known = true;
        for some in joining.chunks(LOOKUPS) {
            let found = some.iter().map(|(room, users)| self.members(room, users));
            for found in join_all(found).await {
                match found {
                    Ok(found) => answers.extend(found),
                    Err(error) => {
                        debug!(%error, "whether somebody is in a room is not known");
                        is_known = false;
                    }
                }
            }
            // What cannot be known now would keep everybody waiting for each of the others, too.
            if !is_known {
                break;
            }
        }
        let mut rest = Vec::with_capacity(pending.len());
        for one in pending {
            let answer = match &one.change {
                Change::Join { room, user } => {
                    answers.get(&(Room::Federated(room.clone()), user.clone()))
                }
                _ => None,
            };
            match answer {
                Some(answer) => one.ticket.answer(answer.clone()),
                None => rest.push(one),
            }
        }
        rest
    }

    /// What those of `users` are told who join `room` and are in it.
    async fn members(
        &self,
        room: &Room,
        users: &[UserName],
    ) -> Result<Vec<((Room, UserName), Answer)>, StoreError> {
        // Before it is looked who is in the room: a host takes all acts up to there for known, and one that
        // puts somebody out must not be among them unless it was heeded.
        let head = self.head_so_far(room).await?.unwrap_or_default().seq;
        self.catch_up(room).await?;
        let (name, asked) = (room.clone(), users.to_vec());
        let found = self.cache.read(move |connection| {
            let mut found = Vec::new();
            for user in asked {
                if let Some(topic) = joined_already(connection, &name, &user)? {
                    found.push((user, topic));
                }
            }
            Ok(found)
        });
        let found = found.await?;
        let answers = found.into_iter().map(|(user, topic)| {
            let answer = Ok(Reply::Joined { head, topic });
            ((room.clone(), user), answer)
        });
        Ok(answers.collect())
    }

    /// What the cache cannot say of a room that somebody joined: what was said last.
    async fn with_head(&self, answer: Answer, room: Option<&Room>) -> Answer {
        let (Ok(Reply::Joined { topic, .. }), Some(room)) = (&answer, room) else {
            return answer;
        };
        match self.head(room).await {
            Ok(head) => Ok(Reply::Joined {
                head: head.unwrap_or_default().seq,
                topic: topic.clone(),
            }),
            Err(error) => Err(not_yet(&error.to_string())),
        }
    }

    /// The commands that make a change; what comes of the last one is what comes of it.
    async fn prepare(&self, change: Change) -> Result<Vec<Command>, Refusal> {
        let later = |error: StoreError| not_yet(&error.to_string());
        Ok(match change {
            Change::Join { room, user } => vec![Command::Join { room, user }],
            Change::Leave { room, user } => vec![Command::Leave {
                room,
                user,
                id: MessageId::new(),
            }],
            Change::SetTopic { room, user, topic } => vec![Command::Topic { room, user, topic }],
            Change::Govern {
                room,
                user,
                id,
                act,
            } => {
                let taken = self.known(&room, &[id]).await.map_err(later)?;
                if taken.iter().any(|known| !matches!(known, Known::Act(_))) {
                    return Err(Refusal::IdConflict { id });
                }
                let found = match &act {
                    Act::Erase { messages } => self.found(&room, messages).await.map_err(later)?,
                    _ => Vec::new(),
                };
                self.catch_up(&room).await.map_err(later)?;
                let name = room.clone();
                let charter = self
                    .cache
                    .read(move |connection| charters::load(connection, &name))
                    .await
                    .map_err(later)?;
                let placed = charter.is_none() && !matches!(act, Act::Opened { .. });
                let mut commands = Vec::new();
                if placed {
                    commands.push(Command::Place { room: room.clone() });
                }
                commands.push(Command::Act {
                    room,
                    user,
                    id,
                    act,
                    placed,
                    found,
                });
                commands
            }
            Change::Append { .. } | Change::AskForReader { .. } | Change::Prune => Vec::new(),
        })
    }

    /// Writes commands into the stream as one batch, and waits for each to be done here.
    async fn carry_out(&self, commands: Vec<Command>) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(commands.len());
        let mut rest = commands;
        while !rest.is_empty() {
            let mut some = rest;
            // A place and what it is for are in one batch.
            let mut count = some.len().min(BATCH_ENTRIES);
            if matches!(some[count - 1], Command::Place { .. }) && count > 1 {
                count -= 1;
            }
            rest = some.split_off(count);
            answers.extend(self.carry_out_some(&some).await);
        }
        answers
    }

    async fn carry_out_some(&self, commands: &[Command]) -> Vec<Answer> {
        let mut waiting = Vec::with_capacity(commands.len());
        let mut entries: Vec<Entry> = Vec::with_capacity(commands.len());
        for command in commands {
            let (number, answer) = self.tickets.draw();
            let entry = command.entry(&self.subjects, (self.nats.instance(), number));
            waiting.push((number, answer));
            match entry {
                Ok(entry) => entries.push(entry),
                Err(error) => {
                    return self.give_up(waiting, commands.len(), &error.to_string());
                }
            }
        }
        if let Err(error) = self.store(entries).await {
            return self.give_up(waiting, commands.len(), &error.to_string());
        }
        let mut answers = Vec::with_capacity(commands.len());
        for (number, answer) in waiting {
            answers.push(match timeout(DONE_WITHIN, answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) | Err(_) => {
                    self.tickets.forget(number);
                    Err(not_yet("what was written does not come back"))
                }
            });
        }
        answers
    }

    fn give_up(
        &self,
        waiting: Vec<(u64, oneshot::Receiver<Answer>)>,
        count: usize,
        reason: &str,
    ) -> Vec<Answer> {
        for (number, _) in waiting {
            self.tickets.forget(number);
        }
        vec![Err(not_yet(reason)); count]
    }

    async fn ask_for_reader(&self, room: Room, host: HostName) -> Answer {
        let asked = async {
            self.catch_up(&room).await?;
            let name = room.clone();
            let reading = self
                .cache
                .read(move |connection| charters::has_reader(connection, &name, &host));
            reading.await
        };
        match asked.await {
            Ok(true) => Ok(Reply::Done),
            Ok(false) => Err(Refusal::NoReader { room }),
            Err(error) => Err(Refusal::Unavailable {
                reason: error.to_string(),
            }),
        }
    }
}

/// The tickets of commands that are on their way.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    next: std::sync::atomic::AtomicU64,
    waiting: std::sync::Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
}

impl Tickets {
    fn draw(&self) -> (u64, oneshot::Receiver<Answer>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.lock().insert(number, sender);
        (number, answer)
    }

    /// What the ticket was for is done.
    pub(super) fn settle(&self, number: u64, answer: Answer) {
        if let Some(waiting) = self.lock().remove(&number) {
            // Whoever waited has given up.
            let _gone = waiting.send(answer);
        }
    }

    fn forget(&self, number: u64) {
        self.lock().remove(&number);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Answer>>> {
        // Held for one operation on the map.
        self.waiting
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What `message` is answered with, having an id that belongs to something already.
fn known_as(message: &Outgoing, other: &Known) -> Answer {
    match other {
        Known::Said(first) => {
            let same = first.author == message.author && first.body == message.body;
            known(message, same, first.seq)
        }
        // What it said nobody knows any more.
        Known::Remains(_, remains) => {
            let author = remains.author.as_ref();
            let same = author.is_none_or(|author| *author == message.author);
            known(message, same, remains.seq)
        }
        Known::Act(_) => known(message, false, Seq::START),
    }
}

fn known(message: &Outgoing, same: bool, seq: Seq) -> Answer {
    if same {
        Ok(Reply::Appended { seq })
    } else {
        Err(Refusal::IdConflict { id: message.id })
    }
}

/// Answers those for whom there is an answer, and gives the others back.
fn answer_some(
    messages: Vec<Waiting>,
    mut answer: impl FnMut(&Outgoing) -> Option<Answer>,
) -> Vec<Waiting> {
    let mut rest = Vec::with_capacity(messages.len());
    for one in messages {
        match answer(&one.message) {
            Some(answer) => one.ticket.answer(answer),
            None => rest.push(one),
        }
    }
    rest
}

/// Refuses what must not overtake something that was rolled back.
fn turn_away_behind_refused(messages: Vec<Waiting>) -> Vec<Waiting> {
    let mut rest = Vec::with_capacity(messages.len());
    for one in messages {
        if one.lane.may_commit(&one.message.author.nick, one.attempt) {
            rest.push(one);
        } else {
            one.ticket.answer(Err(not_yet("an earlier message failed")));
        }
    }
    rest
}

/// Nothing is known to be kept of these.
fn roll_back(messages: Vec<Waiting>, reason: &str) {
    for one in messages {
        one.lane.roll_back(&one.message.author.nick, one.attempt);
        one.ticket.answer(Err(not_yet(reason)));
    }
}

fn roll_back_all(messages: Vec<Waiting>, more: Vec<Waiting>, reason: &str) {
    roll_back(messages, reason);
    roll_back(more, reason);
}

fn not_yet(reason: &str) -> Refusal {
    Refusal::NotYet {
        retry_after_ms: RETRY_AFTER_MS,
        reason: reason.to_owned(),
    }
}
