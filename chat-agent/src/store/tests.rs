use super::*;
use crate::answer::Answer;
use protocol::{Content, MessageId, RequestId, Seq, federation, governance::Act};
use room_log::charters;
use room_log::{Database, Outbound};
use schema::APPLICATION;
use tempfile::TempDir;
use tokio::sync::{Semaphore, oneshot};

/// An agent's store, without the thread that writes and with one transaction for all.
struct Desk {
    _dir: TempDir,
    connection: Connection,
    store: AgentStore,
}

impl Desk {
    fn new(outbox_limit: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (_, connection) = Database::open(dir.path(), APPLICATION).unwrap();
        let host = "ada".parse().unwrap();
        let identity = identity::Identity::load_or_create(&connection, &host).unwrap();
        let store = AgentStore::new(Arc::new(Hub::new(&identity, outbox_limit)));
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self {
            _dir: dir,
            connection,
            store,
        }
    }

    /// Writes commands as one batch, and tells the hub.
    fn write(&mut self, commands: Vec<Command>) {
        let mut done = Vec::new();
        for command in commands {
            let outcome = self.store.apply(&self.connection, &command).unwrap();
            done.push((command, outcome));
        }
        self.store.committed(done);
    }

    fn send(&mut self, message: &Outgoing) -> Result<Delivery, Refusal> {
        let command = Command::Send {
            message: message.clone(),
            answer: answer(),
        };
        let outcome = self.store.apply(&self.connection, &command).unwrap();
        let Outcome::Sent { result, .. } = &outcome else {
            panic!("a send came to {outcome:?}");
        };
        let result = result.clone();
        self.store.committed(vec![(command, outcome)]);
        result
    }

    fn begin_epoch(&mut self, epoch: Epoch) {
        let (done, _) = oneshot::channel();
        self.write(vec![Command::BeginEpoch { epoch, done }]);
    }

    fn is_member(&self, room: &str) -> bool {
        let known = self
            .store
            .hub
            .is_member(&room.parse().unwrap(), &alice().nick);
        let room = room.parse().unwrap();
        let stored = roster::is_member(&self.connection, &room, &alice()).unwrap();
        assert_eq!(known, stored, "the hub knows what is stored");
        known
    }
}

fn answer() -> Answer {
    let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    Answer::new(Arc::new(Outbound::new(1024)), RequestId(1), place)
}

fn alice() -> UserName {
    "alice@ada".parse().unwrap()
}

fn says(room: &str, text: &str) -> Outgoing {
    Outgoing {
        id: MessageId::new(),
        room: room.parse().unwrap(),
        author: alice(),
        sent_at: Timestamp::from_micros(0),
        body: Content::Text(text.to_owned()).encode().unwrap(),
    }
}

#[test]
fn a_refused_message_makes_its_author_a_member_everywhere_or_nowhere() {
    let mut desk = Desk::new(1_000);
    let first = says("#a", "hello");
    assert_eq!(desk.send(&first), Ok(Delivery::Queued));
    let conflicting = Outgoing {
        room: "#b".parse().unwrap(),
        ..first
    };
    assert!(matches!(
        desk.send(&conflicting),
        Err(Refusal::IdConflict { .. })
    ));
    let large = says("#c", &"x".repeat(1_000));
    assert!(matches!(desk.send(&large), Err(Refusal::OutboxFull { .. })));
    let conflicting = Outgoing {
        room: "&d".parse().unwrap(),
        ..conflicting
    };
    assert!(matches!(
        desk.send(&conflicting),
        Err(Refusal::IdConflict { .. })
    ));
    for room in ["#a", "#b", "#c", "&d"] {
        desk.is_member(room);
    }
    let (done, _) = oneshot::channel();
    let (room, user) = ("#c".parse().unwrap(), alice());
    desk.write(vec![Command::Join { room, user, done }]);
    assert!(desk.is_member("#c"));
}

#[test]
fn who_leaves_and_joins_in_one_batch_is_a_member() {
    let mut desk = Desk::new(1_000);
    desk.send(&says("#ops", "hello")).unwrap();
    let room: Room = "#ops".parse().unwrap();
    let (done, _) = oneshot::channel();
    desk.write(vec![
        Command::Leave {
            room: room.clone(),
            user: alice(),
            answer: answer(),
        },
        Command::Join {
            room,
            user: alice(),
            done,
        },
    ]);
    assert!(desk.is_member("#ops"));
}

#[test]
fn a_message_that_only_a_log_before_had_is_sent_again() {
    let mut desk = Desk::new(1_000);
    let (before, now) = (Epoch::new(), Epoch::new());
    desk.begin_epoch(before);
    let message = says("#ops", "hello");
    let seq = Seq::new(7);
    let committed = Committed {
        room: message.room.clone(),
        seq,
        prev_seq: Seq::START,
        committed_at: Timestamp::from_micros(0),
        id: message.id,
        author: alice(),
        sent_at: message.sent_at,
        body: message.body.clone(),
    };
    authored::note(&desk.connection, &message).unwrap();
    let (done, _) = oneshot::channel();
    let messages = vec![committed];
    desk.write(vec![Command::Ingest { messages, done }]);
    let place = Delivery::Committed { epoch: before, seq };
    assert_eq!(desk.send(&message), Ok(place));
    // The server was restored from a copy without it.
    desk.begin_epoch(now);
    assert_eq!(desk.send(&message), Ok(Delivery::Queued));
    let waiting = outbox::find(&desk.connection, message.id).unwrap();
    assert_eq!(waiting, Some(message));
}

#[test]
fn what_a_full_disk_kept_from_being_settled_is_given_back() {
    let mut desk = Desk::new(1_000);
    let (done, mut settled) = oneshot::channel();
    let results = vec![Settled {
        id: MessageId::new(),
        room: "#ops".parse().unwrap(),
        author: alice(),
        result: Ok(Delivery::Queued),
    }];
    let command = Command::Settle {
        results: results.clone(),
        done,
    };
    desk.store.rolled_back(vec![command], &StoreError::DiskFull);
    assert_eq!(settled.try_recv(), Ok(Err(results)));
}

#[test]
fn what_became_of_a_message_is_news_once() {
    let mut desk = Desk::new(1_000);
    let message = says("#ops", "hello");
    desk.send(&message).unwrap();
    let refusal = federation::Refusal::ShuttingDown;
    let mut settle = || {
        let (done, _) = oneshot::channel();
        let results = vec![Settled {
            id: message.id,
            room: message.room.clone(),
            author: alice(),
            result: Err(refusal.clone()),
        }];
        let command = Command::Settle { results, done };
        match desk.store.apply(&desk.connection, &command).unwrap() {
            Outcome::Settled(new) => new,
            other => panic!("settling came to {other:?}"),
        }
    };
    assert_eq!(settle(), [true]);
    assert_eq!(settle(), [false]);
}

#[test]
fn conversations_with_nobody_are_begun_up_to_the_limit() {
    let mut desk = Desk::new(u64::MAX);
    desk.begin_epoch(Epoch::new());
    let with = |number: usize| match number % 2 {
        0 => format!("alice@ada,nobody-{number}@ada"),
        _ => format!("alice@ada,nobody-{number}@bee"),
    };
    for number in 0..MAX_DIRECTS_PER_USER {
        desk.send(&says(&with(number), "hello")).unwrap();
    }
    for _ in 0..2 {
        for number in [MAX_DIRECTS_PER_USER, MAX_DIRECTS_PER_USER + 1] {
            let refusal = desk.send(&says(&with(number), "hello"));
            assert!(
                matches!(refusal, Err(Refusal::TooMany { .. })),
                "{refusal:?}"
            );
        }
        for number in [0, 1] {
            desk.send(&says(&with(number), "this one exists")).unwrap();
        }
        // What was begun is known after a restart too.
        desk.store = AgentStore::new(Arc::clone(&desk.store.hub));
    }
    let from_bob = Outgoing {
        author: "bob@ada".parse().unwrap(),
        ..says("alice@ada,bob@ada", "do you hear me?")
    };
    desk.send(&from_bob).unwrap();
    desk.send(&says("alice@ada,bob@ada", "an answer")).unwrap();
}

fn committed(seq: u64, prev_seq: u64, said: Outgoing) -> Committed {
    Committed {
        room: said.room,
        seq: Seq::new(seq),
        prev_seq: Seq::new(prev_seq),
        committed_at: Timestamp::from_micros(0),
        id: said.id,
        author: said.author,
        sent_at: said.sent_at,
        body: said.body,
    }
}

fn does(author: &str, room: &str, act: Act) -> Outgoing {
    Outgoing {
        author: author.parse().unwrap(),
        body: Content::Act(act).encode().unwrap(),
        ..says(room, "replaced")
    }
}

#[test]
fn a_private_room_is_still_private_when_this_host_comes_back_from_another_server() {
    let mut desk = Desk::new(1_000);
    let (one, other) = (Epoch::new(), Epoch::new());
    desk.begin_epoch(one);
    let opened = Act::Opened {
        mode: protocol::governance::Mode::InviteOnly,
        members: vec![alice()],
    };
    let (done, _) = oneshot::channel();
    let messages = vec![committed(1, 0, does("owner@bee", "#secret", opened))];
    desk.write(vec![Command::Ingest { messages, done }]);
    let joins = |nick: &str, desk: &mut Desk| {
        let user = UserName::new(nick.parse().unwrap(), "ada".parse().unwrap());
        let room = "#secret".parse().unwrap();
        desk.store.join(&desk.connection, &room, &user).unwrap()
    };
    assert!(matches!(
        joins("bob", &mut desk),
        Err(Refusal::NotOpen { .. })
    ));
    desk.begin_epoch(other);
    let room: Room = "#secret".parse().unwrap();
    assert_eq!(charters::load(&desk.connection, &room).unwrap(), None);
    // The other server's room of that name is open to all.
    for nick in ["alice", "bob"] {
        let user = UserName::new(nick.parse().unwrap(), "ada".parse().unwrap());
        let (room, (done, _)) = (room.clone(), oneshot::channel());
        desk.write(vec![Command::Join { room, user, done }]);
    }
    desk.begin_epoch(one);
    let bob = "bob@ada".parse().unwrap();
    assert!(!roster::is_member(&desk.connection, &room, &bob).unwrap());
    assert!(!desk.store.hub.is_member(&room, &bob.nick));
    assert!(matches!(
        joins("bob", &mut desk),
        Err(Refusal::NotOpen { .. })
    ));
    assert!(desk.is_member("#secret"), "alice is let in by both");
}

#[test]
fn what_is_erased_goes_from_earlier_lives_of_the_log_too() {
    let mut desk = Desk::new(1_000);
    let said = says("#ops", "a secret");
    authored::note(&desk.connection, &said).unwrap();
    for epoch in [Epoch::new(), Epoch::new()] {
        desk.begin_epoch(epoch);
        let (done, _) = oneshot::channel();
        let messages = vec![committed(1, 0, said.clone())];
        desk.write(vec![Command::Ingest { messages, done }]);
    }
    let delete = Content::Delete { of: said.id };
    let taking_back = Outgoing {
        body: delete.encode().unwrap(),
        ..says("#ops", "replaced")
    };
    authored::note(&desk.connection, &taking_back).unwrap();
    let (done, _) = oneshot::channel();
    let messages = vec![committed(2, 1, taking_back)];
    desk.write(vec![Command::Ingest { messages, done }]);
    let bodies: Vec<Vec<u8>> = desk
        .connection
        .prepare("SELECT body FROM messages WHERE id = ?1")
        .unwrap()
        .query_map([said.id.to_bytes()], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let erased = protocol::EncodedBody::erased().as_bytes().to_vec();
    assert_eq!(bodies, [erased.clone(), erased]);
}

#[test]
fn what_was_said_before_this_host_lost_its_state_can_still_be_erased() {
    let mut desk = Desk::new(1_000);
    desk.begin_epoch(Epoch::new());
    let [taken_back, erased] = ["one", "two"].map(|text| says("#ops", text));
    let delete = Content::Delete { of: taken_back.id };
    let taking_back = Outgoing {
        body: delete.encode().unwrap(),
        ..says("#ops", "replaced")
    };
    authored::note(&desk.connection, &taking_back).unwrap();
    let erasing = Act::Erase {
        messages: vec![erased.id],
    };
    let (done, _) = oneshot::channel();
    let ids = [taken_back.id, erased.id];
    let messages = vec![
        committed(1, 0, taken_back),
        committed(2, 1, erased),
        committed(3, 2, taking_back),
        committed(4, 3, does("alice@ada", "#ops", erasing)),
    ];
    desk.write(vec![Command::Ingest { messages, done }]);
    for id in ids {
        let epoch = desk.store.replica.epoch();
        let stored = log::find(&desk.connection, epoch, id).unwrap().unwrap();
        assert_eq!(stored.author.to_string(), "alice@ada.unverified");
        assert!(stored.body.is_erased(), "{stored:?}");
    }
}
