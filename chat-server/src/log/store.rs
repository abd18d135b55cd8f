//! What the writer thread does with each change.

use super::{Change, Commit, Stats, Submission};
use crate::reply::Answer;
use protocol::{
    FederatedRoom, HostName, Outgoing, Room, Seq, Timestamp, UserName,
    federation::{Refusal, Reply, TooMany},
    governance::{Act, Denied},
    limits::{MAX_ROOMS, MAX_ROOMS_PER_HOST, MAX_ROOMS_PER_USER},
};
use room_log::{
    Appended, Chore, Deed, Durability, Governed, Governor, Retention, RoomLog, Silence, Store,
    StoreError, charters, erasing, roster,
};
use rusqlite::{Connection, OptionalExtension, params};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};
use tokio::sync::mpsc;
use tracing::error;

/// How long an agent waits after a transaction was rolled back: long enough that a full disk is
/// not hammered, short enough that nobody notices once there is space again.
const RETRY_AFTER_ROLLBACK_MS: u32 = 500;

/// The tables on disk, as the one writer sees them.
#[derive(Debug)]
pub(super) struct ServerStore {
    log: RoomLog,
    governor: Governor,
    retention: Retention,
    /// Whether something was erased since the writer asked.
    traces: bool,
    commits: mpsc::Sender<Vec<Commit>>,
    stats: Arc<Mutex<Stats>>,
}

/// What came of one change.
#[derive(Debug)]
pub(super) struct Outcome {
    answer: Answer,
    commits: Vec<Commit>,
}

impl Outcome {
    const fn quiet(answer: Answer) -> Self {
        Self {
            answer,
            commits: Vec::new(),
        }
    }
}

impl ServerStore {
    pub(super) fn new(
        log: RoomLog,
        commits: mpsc::Sender<Vec<Commit>>,
        stats: Arc<Mutex<Stats>>,
    ) -> Self {
        Self {
            log,
            governor: Governor::default(),
            retention: Retention::default(),
            traces: false,
            commits,
            stats,
        }
    }

    fn append(
        &mut self,
        transaction: &Connection,
        message: &Outgoing,
    ) -> Result<Outcome, StoreError> {
        let host = &message.author.host;
        let new_room = match self.creates(transaction, &message.room, host)? {
            Ok(new_room) => new_room,
            Err(refusal) => return Ok(Outcome::quiet(Err(refusal))),
        };
        let federated = matches!(message.room, Room::Federated(_));
        if federated
            && !new_room
            && let Some(silence) =
                self.governor
                    .silences(transaction, &message.room, &message.author)?
            // What was taken before they were silenced was taken.
            && self.log.known(transaction, message)?.is_none()
        {
            return Ok(Outcome::quiet(Err(refusal(&message.room, silence))));
        }
        let now = Timestamp::from(SystemTime::now());
        Ok(match self.log.append(transaction, message, now)? {
            Appended::New(committed) => {
                if new_room {
                    count_created(transaction, host)?;
                    if federated {
                        charters::found(transaction, &message.room, &message.author)?;
                    }
                }
                if let Some(of) = committed.body.takes_back() {
                    let own = |author: &UserName| *author == committed.author;
                    let spots = erasing::erase(transaction, &committed.room, of, own)?;
                    self.traces |= !spots.is_empty();
                }
                if committed.prev_seq == Seq::START
                    && let Room::Direct(direct) = &committed.room
                {
                    for end in direct.ends() {
                        transaction
                            .prepare_cached(
                                "INSERT OR IGNORE INTO direct_hosts (host, room) VALUES (?1, ?2)",
                            )?
                            .execute(params![end.host.as_str(), committed.room.as_str()])?;
                    }
                }
                Outcome {
                    answer: Ok(Reply::Appended { seq: committed.seq }),
                    commits: vec![Commit::Message(committed)],
                }
            }
            Appended::Known { seq } => Outcome::quiet(Ok(Reply::Appended { seq })),
            Appended::Conflict => Outcome::quiet(Err(Refusal::IdConflict { id: message.id })),
            Appended::TooManyRooms => Outcome::quiet(Err(too_many_rooms())),
        })
    }

    /// Whether a user of `host` would create `room` by using it, or why that is refused.
    fn creates(
        &self,
        transaction: &Connection,
        room: &Room,
        host: &HostName,
    ) -> Result<Result<bool, Refusal>, StoreError> {
        if self.log.has_room(transaction, room)? {
            return Ok(Ok(false));
        }
        let created: usize = transaction
            .prepare_cached("SELECT rooms FROM created WHERE host = ?1")?
            .query_row([host.as_str()], |row| row.get(0))
            .optional()?
            .unwrap_or_default();
        Ok(if created < MAX_ROOMS_PER_HOST {
            Ok(true)
        } else {
            Err(Refusal::TooMany {
                what: TooMany::RoomsOfHost,
                max: count(MAX_ROOMS_PER_HOST),
            })
        })
    }

    fn join(
        &mut self,
        transaction: &Connection,
        room: &FederatedRoom,
        user: &UserName,
    ) -> Result<Outcome, StoreError> {
        let log_room = Room::Federated(room.clone());
        let member = roster::is_member(transaction, &log_room, user)?;
        if !member && roster::room_count(transaction, user)? >= MAX_ROOMS_PER_USER {
            return Ok(Outcome::quiet(Err(Refusal::TooMany {
                what: TooMany::RoomsOfUser,
                max: count(MAX_ROOMS_PER_USER),
            })));
        }
        let new_room = match self.creates(transaction, &log_room, &user.host)? {
            Ok(new_room) => new_room,
            Err(refusal) => return Ok(Outcome::quiet(Err(refusal))),
        };
        if !new_room {
            if let Some(silence) = self.governor.excludes(transaction, &log_room, user)? {
                return Ok(Outcome::quiet(Err(refusal(&log_room, silence))));
            }
            if charters::was_kicked(transaction, &log_room, user)? {
                // Their host knows once it says that they are gone.
                let denied = Denied::Kicked { user: user.clone() };
                let room = log_room;
                return Ok(Outcome::quiet(Err(Refusal::Denied { room, denied })));
            }
        }
        let Some(head) = self.log.ensure_room(transaction, &log_room)? else {
            return Ok(Outcome::quiet(Err(too_many_rooms())));
        };
        if new_room {
            count_created(transaction, &user.host)?;
            charters::found(transaction, &log_room, user)?;
        }
        let new = roster::join(transaction, &log_room, user)?;
        let topic = roster::topic(transaction, &log_room)?;
        Ok(Outcome {
            answer: Ok(Reply::Joined { head, topic }),
            commits: new
                .then(|| Commit::Joined {
                    room: room.clone(),
                    user: user.clone(),
                })
                .into_iter()
                .collect(),
        })
    }

    fn leave(
        &mut self,
        transaction: &Connection,
        room: &FederatedRoom,
        user: &UserName,
    ) -> Result<Outcome, StoreError> {
        let log_room = Room::Federated(room.clone());
        charters::forget_kick(transaction, &log_room, user)?;
        let mut commits = Vec::new();
        if self.log.has_room(transaction, &log_room)? {
            let now = Timestamp::from(SystemTime::now());
            let log = &mut self.log;
            let left = self.governor.left(transaction, log, &log_room, user, now)?;
            commits.extend(left.map(Commit::Message));
        }
        if roster::leave(transaction, &log_room, user)? {
            commits.push(Commit::Left {
                room: room.clone(),
                user: user.clone(),
            });
            self.close(
                transaction,
                &log_room,
                std::slice::from_ref(user),
                &mut commits,
            )?;
        }
        Ok(Outcome {
            answer: Ok(Reply::Done),
            commits,
        })
    }

    fn govern(&mut self, transaction: &Connection, deed: Deed<'_>) -> Result<Outcome, StoreError> {
        let Deed { room, actor, .. } = deed;
        let host = &actor.host;
        let mut new_room = false;
        if matches!(deed.act, Act::Opened { .. }) {
            match self.creates(transaction, room, host)? {
                Ok(creates) => new_room = creates,
                Err(refusal) => return Ok(Outcome::quiet(Err(refusal))),
            }
        }
        let now = Timestamp::from(SystemTime::now());
        let governed = self
            .governor
            .govern(transaction, &mut self.log, deed, now)?;
        let room = room.clone();
        Ok(Outcome::quiet(match governed {
            Governed::Done(done) => {
                if new_room {
                    count_created(transaction, host)?;
                }
                self.traces |= !done.erased.is_empty();
                let seq = done.committed.last().map_or(Seq::START, |act| act.seq);
                let mut commits: Vec<Commit> =
                    done.committed.into_iter().map(Commit::Message).collect();
                if let Room::Federated(name) = &room {
                    commits.extend(done.gone.iter().map(|user| Commit::Left {
                        room: name.clone(),
                        user: user.clone(),
                    }));
                }
                self.close(transaction, &room, &done.gone, &mut commits)?;
                return Ok(Outcome {
                    answer: Ok(Reply::Appended { seq }),
                    commits,
                });
            }
            Governed::Known { seq } => Ok(Reply::Appended { seq }),
            Governed::Unchanged => Ok(Reply::Done),
            Governed::Conflict => Err(Refusal::IdConflict { id: deed.id }),
            Governed::TooManyRooms => Err(too_many_rooms()),
            Governed::NoSuchRoom => Err(Refusal::NoSuchRoom { room }),
            Governed::NotOpen => Err(Refusal::NotOpen { room }),
            Governed::Denied(denied) => Err(Refusal::Denied { room, denied }),
        }))
    }

    /// Ends what hosts read of `room` that have nobody there now that `gone` are gone.
    fn close(
        &self,
        transaction: &Connection,
        room: &Room,
        gone: &[UserName],
        commits: &mut Vec<Commit>,
    ) -> Result<(), StoreError> {
        let mut hosts: Vec<HostName> = Vec::new();
        for user in gone {
            if !hosts.contains(&user.host) && !charters::has_reader(transaction, room, &user.host)?
            {
                hosts.push(user.host.clone());
            }
        }
        if !hosts.is_empty() {
            let room = room.clone();
            commits.push(Commit::Closed { room, hosts });
        }
        Ok(())
    }

    fn set_topic(
        &mut self,
        transaction: &Connection,
        room: &FederatedRoom,
        user: &UserName,
        topic: &str,
    ) -> Result<Outcome, StoreError> {
        let log_room = Room::Federated(room.clone());
        if room_log::log::head(transaction, self.log.epoch(), &log_room)?.is_none() {
            return Ok(Outcome::quiet(Err(Refusal::NoSuchRoom { room: log_room })));
        }
        match self.governor.silences(transaction, &log_room, user)? {
            None => {}
            // As of a room that is not there.
            Some(Silence::NotOpen) => {
                return Ok(Outcome::quiet(Err(Refusal::NoSuchRoom { room: log_room })));
            }
            Some(silence) => return Ok(Outcome::quiet(Err(refusal(&log_room, silence)))),
        }
        roster::set_topic(transaction, &log_room, topic)?;
        Ok(Outcome {
            answer: Ok(Reply::Done),
            commits: vec![Commit::Topic {
                room: room.clone(),
                user: user.clone(),
                topic: topic.to_owned(),
            }],
        })
    }
}

impl Store for ServerStore {
    type Command = Submission;
    type Outcome = Outcome;

    fn durability(&self, _: &Submission) -> Durability {
        Durability::Power
    }

    fn apply(
        &mut self,
        transaction: &Connection,
        command: &Submission,
    ) -> Result<Outcome, StoreError> {
        match &command.change {
            Change::Append {
                message,
                attempt,
                lane,
            } => {
                if lane.may_commit(&message.author.nick, *attempt) {
                    self.append(transaction, message)
                } else {
                    Ok(Outcome::quiet(Err(not_yet("an earlier message failed"))))
                }
            }
            Change::Join { room, user } => self.join(transaction, room, user),
            Change::Leave { room, user } => self.leave(transaction, room, user),
            Change::Govern {
                room,
                user,
                id,
                act,
            } => {
                let deed = Deed {
                    room,
                    actor: user,
                    id: *id,
                    act,
                };
                self.govern(transaction, deed)
            }
            Change::AskForReader { room, host } => {
                let found = charters::has_reader(transaction, room, host)?;
                Ok(Outcome::quiet(if found {
                    Ok(Reply::Done)
                } else {
                    Err(Refusal::NoReader { room: room.clone() })
                }))
            }
            Change::Prune => {
                self.retention.look();
                Ok(Outcome::quiet(Ok(Reply::Done)))
            }
            Change::SetTopic { room, user, topic } => {
                self.set_topic(transaction, room, user, topic)
            }
        }
    }

    fn committed(&mut self, done: Vec<(Submission, Outcome)>) {
        let changes = done.len() as u64;
        let mut commits = Vec::with_capacity(done.len());
        for (submission, outcome) in done {
            submission.ticket.answer(outcome.answer);
            commits.extend(outcome.commits);
        }
        let messages = commits
            .iter()
            .filter(|commit| matches!(commit, Commit::Message(_)))
            .count() as u64;
        {
            let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
            stats.batches += 1;
            stats.messages += messages;
            stats.largest_batch = stats.largest_batch.max(changes);
        }
        if !commits.is_empty() && self.commits.blocking_send(commits).is_err() {
            error!("nobody takes commits any more");
        }
    }

    fn chore(&self) -> Chore {
        self.retention.chore()
    }

    fn do_chore(&mut self, transaction: &Connection) -> Result<(), StoreError> {
        let (epochs, now) = ([self.log.epoch()], Timestamp::from(SystemTime::now()));
        let nothing_else = |_| Ok(());
        if self
            .retention
            .advance(transaction, &epochs, now, nothing_else)?
        {
            // What the log knows of its rooms stays as it is: each keeps its newest message.
            self.log.note_pruned();
        }
        Ok(())
    }

    fn chore_done(&mut self, result: Result<(), StoreError>) {
        if result.is_err() {
            self.retention.failed();
        }
    }

    fn take_traces(&mut self) -> bool {
        std::mem::take(&mut self.traces)
    }

    fn rolled_back(&mut self, commands: Vec<Submission>, error: &StoreError) {
        self.log.forget();
        self.governor.forget();
        self.stats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .rolled_back += 1;
        let reason = error.to_string();
        for Submission { change, ticket } in commands {
            if let Change::Append {
                message,
                attempt,
                lane,
            } = change
            {
                lane.roll_back(&message.author.nick, attempt);
            }
            ticket.answer(Err(not_yet(&reason)));
        }
    }
}

fn count_created(transaction: &Connection, host: &HostName) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "INSERT INTO created (host, rooms) VALUES (?1, 1)
             ON CONFLICT (host) DO UPDATE SET rooms = rooms + 1",
        )?
        .execute([host.as_str()])?;
    Ok(())
}

fn refusal(room: &Room, silence: Silence) -> Refusal {
    let room = room.clone();
    match silence {
        Silence::NotOpen => Refusal::NotOpen { room },
        Silence::Denied(denied) => Refusal::Denied { room, denied },
    }
}

fn too_many_rooms() -> Refusal {
    Refusal::TooMany {
        what: TooMany::Rooms,
        max: count(MAX_ROOMS),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn not_yet(reason: &str) -> Refusal {
    Refusal::NotYet {
        retry_after_ms: RETRY_AFTER_ROLLBACK_MS,
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lane::Lane, reply::Ticket};
    use protocol::{Content, Epoch, MessageId};
    use room_log::{BASE_SCHEMA, GOVERNANCE_SCHEMA};
    use tokio::sync::oneshot;

    struct Rig {
        store: ServerStore,
        connection: Connection,
        _commits: mpsc::Receiver<Vec<Commit>>,
    }

    type Waiting = oneshot::Receiver<Answer>;

    impl Rig {
        fn new() -> Self {
            let connection = Connection::open_in_memory().unwrap();
            connection.execute_batch(BASE_SCHEMA).unwrap();
            connection
                .execute_batch(super::super::sqlite::SERVER_SCHEMA)
                .unwrap();
            connection
                .execute_batch(super::super::sqlite::CREATED_SCHEMA)
                .unwrap();
            connection.execute_batch(GOVERNANCE_SCHEMA).unwrap();
            let (sender, commits) = mpsc::channel(100);
            let log = RoomLog::new(Epoch::new(), MAX_ROOMS);
            Self {
                store: ServerStore::new(log, sender, Arc::default()),
                connection,
                _commits: commits,
            }
        }

        /// What the writer does with one batch; `fails` is the disk at the commit.
        fn batch(&mut self, commands: Vec<Submission>, fails: bool) {
            self.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
            let mut outcomes = Vec::new();
            for command in &commands {
                outcomes.push(self.store.apply(&self.connection, command).unwrap());
            }
            if fails {
                self.connection.execute_batch("ROLLBACK").unwrap();
                self.store.rolled_back(commands, &StoreError::DiskFull);
            } else {
                self.connection.execute_batch("COMMIT").unwrap();
                self.store
                    .committed(commands.into_iter().zip(outcomes).collect());
            }
        }
    }

    fn message(text: &str) -> Outgoing {
        Outgoing {
            id: MessageId::new(),
            room: "#ops".parse().unwrap(),
            author: "alice@ada".parse().unwrap(),
            sent_at: Timestamp::from_micros(1),
            body: Content::Text(text.to_owned()).encode().unwrap(),
        }
    }

    fn append(lane: &Arc<Lane>, attempt: u32, message: &Outgoing) -> (Submission, Waiting) {
        let (sender, waiting) = oneshot::channel();
        let submission = Submission {
            change: Change::Append {
                message: message.clone(),
                attempt,
                lane: Arc::clone(lane),
            },
            ticket: Ticket::Waiting(sender),
        };
        (submission, waiting)
    }

    fn is_not_yet(mut waiting: Waiting) -> bool {
        matches!(waiting.try_recv(), Ok(Err(Refusal::NotYet { .. })))
    }

    fn seq(mut waiting: Waiting) -> u64 {
        match waiting.try_recv() {
            Ok(Ok(Reply::Appended { seq })) => seq.number(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn after_a_rollback_nothing_behind_it_gets_in_before_the_next_attempt() {
        let mut rig = Rig::new();
        let (ada, bee) = (Arc::new(Lane::new()), Arc::new(Lane::new()));
        let [one, two, three] = ["one", "two", "three"].map(message);

        let (first, first_answer) = append(&ada, 0, &one);
        rig.batch(vec![first], true);
        assert!(is_not_yet(first_answer));

        // These were queued before the agent could know.
        let (second, second_answer) = append(&ada, 0, &two);
        let (other, other_answer) = append(&bee, 0, &three);
        // Nobody else of her host waits for that.
        let bobs = Outgoing {
            author: "bob@ada".parse().unwrap(),
            ..message("four")
        };
        let (bobs, bobs_answer) = append(&ada, 0, &bobs);
        rig.batch(vec![second, other, bobs], false);
        assert!(is_not_yet(second_answer));
        assert_eq!((seq(other_answer), seq(bobs_answer)), (1, 2));

        let (first, first_answer) = append(&ada, 1, &one);
        let (second, second_answer) = append(&ada, 1, &two);
        rig.batch(vec![first, second], false);
        assert_eq!((seq(first_answer), seq(second_answer)), (3, 4));
    }

    #[test]
    fn a_seq_that_was_rolled_back_is_given_again_without_a_gap_in_the_room() {
        let mut rig = Rig::new();
        let lane = Arc::new(Lane::new());
        let [one, two] = ["one", "two"].map(message);
        let (first, first_answer) = append(&lane, 0, &one);
        rig.batch(vec![first], false);
        assert_eq!(seq(first_answer), 1);
        let (second, _) = append(&lane, 0, &two);
        rig.batch(vec![second], true);
        let (second, second_answer) = append(&lane, 1, &two);
        rig.batch(vec![second], false);
        assert_eq!(seq(second_answer), 2);
        let prev: i64 = rig
            .connection
            .query_row("SELECT prev_seq FROM messages WHERE seq = 2", (), |row| {
                row.get(0)
            })
            .unwrap();
        assert_eq!(prev, 1);
    }
}
