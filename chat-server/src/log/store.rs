//! What the writer thread does with each change.

use super::{
    Change, Commit, Stats, Submission,
    judge::{Judge, Outcome, refusal, too_many_rooms},
};
use protocol::{
    MessageId, Outgoing, Room, Seq, Timestamp, UserName,
    federation::{Refusal, Reply},
};
use room_log::{
    Appended, Chore, Deed, Durability, Retention, RoomLog, Store, StoreError, charters, erasing,
};
use rusqlite::Connection;
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
    judge: Judge,
    retention: Retention,
    /// Whether something was erased since the writer asked.
    traces: bool,
    commits: mpsc::Sender<Vec<Commit>>,
    stats: Arc<Mutex<Stats>>,
}

impl ServerStore {
    pub(super) fn new(
        log: RoomLog,
        commits: mpsc::Sender<Vec<Commit>>,
        stats: Arc<Mutex<Stats>>,
    ) -> Self {
        Self {
            judge: Judge::new(log),
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
        let new_room = match self.judge.creates(transaction, &message.room, host)? {
            Ok(new_room) => new_room,
            Err(refusal) => return Ok(Outcome::quiet(Err(refusal))),
        };
        let federated = matches!(message.room, Room::Federated(_));
        if federated
            && !new_room
            && let Some(silence) =
                self.judge
                    .silences(transaction, &message.room, &message.author)?
            // What was taken before they were silenced was taken.
            && self.judge.log.known(transaction, message)?.is_none()
        {
            return Ok(Outcome::quiet(Err(refusal(&message.room, silence))));
        }
        let now = Timestamp::from(SystemTime::now());
        Ok(match self.judge.log.append(transaction, message, now)? {
            Appended::New(committed) => {
                if new_room {
                    self.judge
                        .created(transaction, &message.room, &message.author)?;
                }
                if let Some(of) = committed.body.takes_back() {
                    let own = |author: &UserName| *author == committed.author;
                    let spots = erasing::erase(transaction, &committed.room, of, own)?;
                    self.traces |= !spots.is_empty();
                }
                if committed.prev_seq == Seq::START {
                    self.judge.introduce(transaction, &committed.room)?;
                }
                Outcome {
                    answer: Ok(Reply::Appended { seq: committed.seq }),
                    commits: vec![Commit::Message(committed)],
                    erased: Vec::new(),
                }
            }
            Appended::Known { seq } => Outcome::quiet(Ok(Reply::Appended { seq })),
            Appended::Conflict => Outcome::quiet(Err(Refusal::IdConflict { id: message.id })),
            Appended::TooManyRooms => Outcome::quiet(Err(too_many_rooms())),
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
            Change::Join { room, user } => self.judge.join(transaction, room, user),
            Change::Leave { room, user } => {
                let act = (MessageId::new(), Timestamp::from(SystemTime::now()));
                self.judge.leave(transaction, room, user, act)
            }
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
                let now = Timestamp::from(SystemTime::now());
                let outcome = self.judge.govern(transaction, deed, now)?;
                self.traces |= !outcome.erased.is_empty();
                Ok(outcome)
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
                self.judge.set_topic(transaction, room, user, topic)
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
        let (epochs, now) = ([self.judge.log.epoch()], Timestamp::from(SystemTime::now()));
        let nothing_else = |_| Ok(());
        if self
            .retention
            .advance(transaction, &epochs, now, nothing_else)?
        {
            // What the log knows of its rooms stays as it is: each keeps its newest message.
            self.judge.log.note_pruned();
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
        self.judge.forget();
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

fn not_yet(reason: &str) -> Refusal {
    Refusal::NotYet {
        retry_after_ms: RETRY_AFTER_ROLLBACK_MS,
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lane::Lane,
        reply::{Answer, Ticket},
    };
    use protocol::{Content, Epoch, limits::MAX_ROOMS};
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
