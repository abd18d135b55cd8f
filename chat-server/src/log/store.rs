//! What the writer thread does with each change.

use super::{Change, Commit, Stats, Submission};
use crate::reply::Answer;
use protocol::{
    FederatedRoom, HostName, Outgoing, Room, Seq, Timestamp, UserName,
    federation::{Refusal, Reply, TooMany},
    limits::{MAX_ROOMS, MAX_ROOMS_PER_HOST, MAX_ROOMS_PER_USER},
};
use room_log::{Appended, Durability, RoomLog, Store, StoreError, roster};
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
    commits: mpsc::Sender<Vec<Commit>>,
    stats: Arc<Mutex<Stats>>,
}

/// What came of one change.
#[derive(Debug)]
pub(super) struct Outcome {
    answer: Answer,
    commit: Option<Commit>,
}

impl Outcome {
    const fn quiet(answer: Answer) -> Self {
        Self {
            answer,
            commit: None,
        }
    }
}

impl ServerStore {
    pub(super) const fn new(
        log: RoomLog,
        commits: mpsc::Sender<Vec<Commit>>,
        stats: Arc<Mutex<Stats>>,
    ) -> Self {
        Self {
            log,
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
        let now = Timestamp::from(SystemTime::now());
        Ok(match self.log.append(transaction, message, now)? {
            Appended::New(committed) => {
                if new_room {
                    count_created(transaction, host)?;
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
                    commit: Some(Commit::Message(committed)),
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
        let Some(head) = self.log.ensure_room(transaction, &log_room)? else {
            return Ok(Outcome::quiet(Err(too_many_rooms())));
        };
        if new_room {
            count_created(transaction, &user.host)?;
        }
        let new = roster::join(transaction, &log_room, user)?;
        let topic = roster::topic(transaction, &log_room)?;
        Ok(Outcome {
            answer: Ok(Reply::Joined { head, topic }),
            commit: new.then(|| Commit::Joined {
                room: room.clone(),
                user: user.clone(),
            }),
        })
    }

    fn set_topic(
        &self,
        transaction: &Connection,
        room: &FederatedRoom,
        user: &UserName,
        topic: &str,
    ) -> Result<Outcome, StoreError> {
        let log_room = Room::Federated(room.clone());
        if room_log::log::head(transaction, self.log.epoch(), &log_room)?.is_none() {
            return Ok(Outcome::quiet(Err(Refusal::NoSuchRoom { room: log_room })));
        }
        roster::set_topic(transaction, &log_room, topic)?;
        Ok(Outcome {
            answer: Ok(Reply::Done),
            commit: Some(Commit::Topic {
                room: room.clone(),
                user: user.clone(),
                topic: topic.to_owned(),
            }),
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
                if lane.may_commit(*attempt) {
                    self.append(transaction, message)
                } else {
                    Ok(Outcome::quiet(Err(not_yet("an earlier message failed"))))
                }
            }
            Change::Join { room, user } => self.join(transaction, room, user),
            Change::Leave { room, user } => {
                let left = roster::leave(transaction, &Room::Federated(room.clone()), user)?;
                Ok(Outcome {
                    answer: Ok(Reply::Done),
                    commit: left.then(|| Commit::Left {
                        room: room.clone(),
                        user: user.clone(),
                    }),
                })
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
            commits.extend(outcome.commit);
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

    fn rolled_back(&mut self, commands: Vec<Submission>, error: &StoreError) {
        self.log.forget();
        self.stats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .rolled_back += 1;
        let reason = error.to_string();
        for Submission { change, ticket } in commands {
            if let Change::Append { attempt, lane, .. } = change {
                lane.roll_back(attempt);
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
    use room_log::BASE_SCHEMA;
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
        rig.batch(vec![second, other], false);
        assert!(is_not_yet(second_answer));
        assert_eq!(seq(other_answer), 1);

        let (first, first_answer) = append(&ada, 1, &one);
        let (second, second_answer) = append(&ada, 1, &two);
        rig.batch(vec![first, second], false);
        assert_eq!((seq(first_answer), seq(second_answer)), (2, 3));
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
