//! The log on NATS JetStream, and what only that one promises.

use super::{
    Backing,
    running::{Running, assert_chain, federated, messages_of, place, room, says, within_limit},
};
use crate::disk;
use chat_server::log::{self, Change, Commits, JetStreamLog, JetStreamSettings, Log, NatsServers};
use protocol::{
    Committed, Content, HostName, MessageId, Outgoing, Seq,
    federation::{Refusal, Reply},
    governance::{Act, Keep, Subject},
};
use room_log::StoreError;
use std::{fs, path::Path, sync::Arc, time::Duration};
use tempfile::TempDir;
use tests::{NatsServer, Sandbox};

/// A NATS server of its own, and one chat server's state directory.
pub(super) struct JetStream {
    // Ends before its sandbox.
    nats: NatsServer,
    _sandbox: Sandbox,
    dir: TempDir,
    open: Option<Arc<JetStreamLog>>,
    kills: usize,
}

impl Backing for JetStream {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        Self {
            nats: NatsServer::start(&sandbox),
            _sandbox: sandbox,
            dir: tempfile::tempdir().unwrap(),
            open: None,
            kills: 0,
        }
    }

    async fn open(&mut self) -> (Arc<dyn Log>, Commits) {
        let settings = settings(&self.nats);
        let opened = JetStreamLog::open(self.dir.path(), &settings).await;
        let (log, commits) = opened.unwrap();
        let log = Arc::new(log);
        self.open = Some(Arc::clone(&log));
        (log, commits)
    }

    /// Every second time the state directory is lost as well, which holds nothing but a cache.
    async fn kill(&mut self, _: Arc<dyn Log>) {
        let image = disk::killed(self.dir.path(), "jetstream");
        if let Some(open) = self.open.take() {
            open.abandon().await;
        }
        self.kills += 1;
        self.dir = if self.kills.is_multiple_of(2) {
            tempfile::tempdir().unwrap()
        } else {
            image
        };
    }
}

fn settings(nats: &NatsServer) -> JetStreamSettings {
    JetStreamSettings {
        synced: true,
        ..JetStreamSettings::new(NatsServers::new(&nats.url()).unwrap())
    }
}

/// Two servers with one log, each with a cache of its own.
struct Two {
    first: Running<JetStream>,
    second: Arc<JetStreamLog>,
    _dir: TempDir,
    _commits: tokio::task::JoinHandle<()>,
}

impl Two {
    async fn new() -> Self {
        let mut backing = JetStream::new();
        let dir = tempfile::tempdir().unwrap();
        let (log, commits) = backing.open().await;
        for name in ["#ops", "#dev"] {
            log.follow(&room(name)).await.unwrap();
        }
        let opened = JetStreamLog::open(dir.path(), &settings(&backing.nats)).await;
        let (second, mut others) = opened.unwrap();
        Self {
            first: Running::collect(backing, log, commits),
            second: Arc::new(second),
            _dir: dir,
            _commits: tokio::spawn(async move { while others.next().await.is_some() {} }),
        }
    }

    async fn end(self) {
        self.second.close().await;
        self.first.close().await;
    }
}

async fn page(log: &dyn Log, name: &str) -> Vec<Committed> {
    let page = log.page(&room(name), Seq::START, 1_000, 1 << 20).await;
    page.unwrap()
}

fn govern(name: &str, user: &str, act: Act) -> Change {
    Change::Govern {
        room: room(name),
        user: super::running::user(user),
        id: MessageId::new(),
        act,
    }
}

fn joins(name: &str) -> Change {
    Change::Join {
        room: federated("#ops"),
        user: super::running::user(name),
    }
}

/// One message is retried through two servers at once, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_message_sent_through_two_servers_at_once_is_there_once() {
    within_limit(async {
        let two = Two::new().await;
        let (ops, mut places) = (room("#ops"), Vec::new());
        for round in 0..20 {
            let messages: Vec<Outgoing> = (0..10)
                .map(|n| says("alice@ada", &ops, &format!("{round} {n}")))
                .collect();
            let through_second = log::append_all(&*two.second, messages.clone());
            let (one, other) = tokio::join!(two.first.append(&messages), through_second);
            let other = other.into_iter().map(|answer| place(&answer.unwrap()));
            assert!(one.iter().copied().eq(other));
            places.extend(one);
        }
        let found = page(&*two.second, "#ops").await;
        assert_chain(&found);
        assert!(found.iter().map(|one| one.seq).eq(places));
        assert_eq!(page(&*two.first.log, "#ops").await, found);
        two.end().await;
    })
    .await;
}

/// Both servers judge by the same rules in the same order, whoever is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_are_of_one_mind_about_who_may_do_what() {
    within_limit(async {
        let mut two = Two::new().await;
        let (alice, eve) = ("alice@ada", "eve@bee");
        two.first.say(&says(alice, &room("#ops"), "mine")).await;
        let second = &*two.second;
        for (name, expected) in [(eve, false), (alice, true)] {
            let ban = Act::Ban {
                subject: Subject::User("mallory@bee".parse().unwrap()),
            };
            let answer = log::change(second, govern("#ops", name, ban))
                .await
                .unwrap();
            assert_eq!(answer.is_ok(), expected, "{name}: {answer:?}");
        }
        // To the one that was not asked it comes from the stream, as everything does.
        let came = two.first.commits(3).await;
        let said = page(&*two.first.log, "#ops").await;
        assert_eq!(
            said.len(),
            3,
            "a message, what opened the room, and the ban: {said:?}"
        );
        assert_chain(&said);
        let refused = says("mallory@bee", &room("#ops"), "let me in");
        let refused = two.first.append_all(&[refused]).await;
        assert!(
            matches!(refused[0], Err(Refusal::Denied { .. })),
            "{refused:?}"
        );
        let charters = [
            two.first.log.charter(&room("#ops")).await.unwrap(),
            second.charter(&room("#ops")).await.unwrap(),
        ];
        assert!(charters[0].is_some());
        assert_eq!(charters[0], charters[1]);
        // What came out is what can be read, acts in their places.
        assert_eq!(messages_of(&came), said);
        two.end().await;
    })
    .await;
}

/// An agent says of all its users where they are whenever it connects: that is no reason to write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_in_a_room_joins_it_again_without_a_place_in_the_log() {
    within_limit(async {
        let two = Two::new().await;
        let ops = room("#ops");
        two.first.change(joins("bob@bee")).await.unwrap();
        let before = two.first.say(&says("alice@ada", &ops, "before")).await;
        let joined = Ok(Reply::Joined {
            head: before,
            topic: String::new(),
        });
        for _ in 0..5 {
            let through_second = log::change(&*two.second, joins("bob@bee"));
            let (one, other) = tokio::join!(two.first.change(joins("bob@bee")), through_second);
            assert_eq!((one, other), (joined.clone(), Some(joined.clone())));
        }
        let after = two.first.say(&says("alice@ada", &ops, "after")).await;
        assert_eq!(after.number(), before.number() + 1);
        two.end().await;
    })
    .await;
}

/// A server does not take somebody for a member who has just left through another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_left_through_one_server_is_in_the_room_again_after_joining_through_another() {
    within_limit(async {
        let two = Two::new().await;
        let bob = super::running::user("bob@bee");
        let leave = || Change::Leave {
            room: federated("#ops"),
            user: bob.clone(),
        };
        two.first.change(joins("bob@bee")).await.unwrap();
        for round in 0..30 {
            log::change(&*two.second, leave()).await.unwrap().unwrap();
            two.first.change(joins("bob@bee")).await.unwrap();
            let members = two.first.log.members(&federated("#ops"), None).await;
            let members = members.unwrap().unwrap().entries;
            assert!(members.contains(&bob), "round {round}");
        }
        two.end().await;
    })
    .await;
}

/// A host that is kicked on one server reads nothing behind it on another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_behind_a_kick_is_read_through_another_server() {
    within_limit(async {
        let two = Two::new().await;
        let second = &*two.second;
        let bee = HostName::parse("bee").unwrap();
        let join = |name: &str| Change::Join {
            room: federated("#ops"),
            user: super::running::user(name),
        };
        for name in ["alice@ada", "eve@bee"] {
            assert!(two.first.change(join(name)).await.is_ok());
        }
        for round in 0..10 {
            let kick = Act::Kick {
                user: "eve@bee".parse().unwrap(),
            };
            let answer = two.first.change(govern("#ops", "alice@ada", kick)).await;
            assert!(answer.is_ok(), "{answer:?}");
            two.first
                .say(&says("alice@ada", &room("#ops"), "secret"))
                .await;
            let read = second
                .page_for(&bee, &room("#ops"), Seq::START, 100, 1 << 20)
                .await;
            assert_eq!(read.unwrap(), None, "round {round}");
            // Her host knows that she is out, and she comes back.
            let leave = Change::Leave {
                room: federated("#ops"),
                user: super::running::user("eve@bee"),
            };
            assert!(two.first.change(leave).await.is_ok());
            assert!(two.first.change(join("eve@bee")).await.is_ok());
        }
        two.end().await;
    })
    .await;
}

/// Words that are taken back are gone from the store, stay known, and leave the room readable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn erased_words_are_gone_for_all_servers_and_from_the_disk() {
    within_limit(async {
        let two = Two::new().await;
        let ops = room("#ops");
        let words = "the-password-is-swordfish";
        let slip = says("alice@ada", &ops, words);
        let first = two.first.say(&slip).await;
        let edit = Outgoing {
            body: Content::Edit {
                of: slip.id,
                text: format!("{words}, no"),
            }
            .encode()
            .unwrap(),
            ..says("alice@ada", &ops, "another")
        };
        two.first.say(&edit).await;
        let last = two.first.say(&says("bob@bee", &ops, "what?")).await;
        let store = two.first.backing().nats.store();
        assert!(is_in(&store, words), "the test looks in the wrong place");
        let back = Outgoing {
            body: Content::Delete { of: slip.id }.encode().unwrap(),
            ..says("alice@ada", &ops, "another")
        };
        two.first.say(&back).await;
        eventually_async("the bytes are overwritten", async || !is_in(&store, words)).await;
        for log in [&*two.first.log, &*two.second as &dyn Log] {
            let said = page(log, "#ops").await;
            assert_chain(&said);
            assert_eq!(said.len(), 4);
            assert!(
                said[0].body.is_erased() && said[1].body.is_erased(),
                "{said:?}"
            );
            assert_eq!(said[2].seq, last);
            assert!(log.was_at(&ops, first, slip.id).await.unwrap());
        }
        // A retry that comes after all that is known, on either server.
        assert_eq!(two.first.say(&slip).await, first);
        let again = log::append_all(&*two.second, vec![slip.clone()]).await;
        assert_eq!(place(again[0].as_ref().unwrap()), first);
        let others = Outgoing {
            author: "bob@bee".parse().unwrap(),
            ..slip
        };
        let conflict = two.first.append_all(std::slice::from_ref(&others)).await;
        assert!(super::running::is_conflict(&conflict[0], others.id));
        two.end().await;
    })
    .await;
}

/// What was kept for long enough goes, stays known, and leaves no gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_were_kept_for_long_enough_go_and_stay_known() {
    within_limit(async {
        let mut two = Two::new().await;
        let ops = room("#ops");
        let messages: Vec<Outgoing> = (0..1_200)
            .map(|n| says("alice@ada", &ops, &n.to_string()))
            .collect();
        let places = two.first.append(&messages).await;
        two.first.commits(messages.len()).await;
        let keep = |max_messages| Act::Retention {
            keep: Keep {
                max_age_seconds: None,
                max_messages: Some(max_messages),
            },
        };
        let answer = two.first.change(govern("#ops", "alice@ada", keep(3))).await;
        assert!(answer.is_ok(), "{answer:?}");
        eventually_async("the rest goes", async || {
            // Both look at the same time.
            let looked = log::change(&*two.second, Change::Prune);
            let (one, other) = tokio::join!(two.first.change(Change::Prune), looked);
            assert!(one.is_ok() && other.is_some());
            page(&*two.second, "#ops").await.len() == 5
        })
        .await;
        let kept = page(&*two.first.log, "#ops").await;
        assert_chain(&kept);
        // The last three, what opened the room, and the act.
        let said = kept.iter().filter(|one| !one.body.is_act());
        assert!(said.map(|one| one.seq).eq(places[1_197..].iter().copied()));
        assert_eq!(two.first.say(&messages[0]).await, places[0]);
        assert!(
            two.second
                .was_at(&ops, places[700], messages[700].id)
                .await
                .unwrap()
        );
        assert!(
            !two.second
                .was_at(&ops, places[700], messages[701].id)
                .await
                .unwrap()
        );
        two.end().await;
    })
    .await;
}

/// NATS is killed and comes back: nothing ends, nothing that was answered is lost, and what could
/// not be taken is taken later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_nats_is_away_agents_are_told_not_yet_and_nothing_ends() {
    within_limit(async {
        let mut running = Running::<JetStream>::new().await;
        let ops = room("#ops");
        running.say(&says("alice@ada", &ops, "before")).await;
        running.commits(1).await;
        running.backing_mut().nats.kill();
        let message = says("alice@ada", &ops, "meanwhile");
        let answers = running.append_all(std::slice::from_ref(&message)).await;
        assert!(
            matches!(answers[0], Err(Refusal::NotYet { .. })),
            "{answers:?}"
        );
        let page = running.log.page(&ops, Seq::START, 9, 1 << 20).await;
        assert!(matches!(page, Err(StoreError::Unreachable(_))), "{page:?}");
        eventually_async("it is said", async || {
            !running.log.status().health.is_well()
        })
        .await;
        running.backing_mut().nats.restart();
        eventually_async("it is taken", async || {
            let answers = running.append_all(std::slice::from_ref(&message)).await;
            matches!(answers[0], Ok(Reply::Appended { .. }))
        })
        .await;
        eventually_async("all is well", async || {
            running.log.status().health.is_well()
        })
        .await;
        let came = running.commits(2).await;
        assert_eq!(messages_of(&came), running.read(&ops).await);
        running.close().await;
    })
    .await;
}

/// A stream that was deleted and made anew is another log: a server that used the one before ends,
/// and one that starts has another epoch and an empty cache.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_made_anew_is_another_log() {
    within_limit(async {
        let mut running = Running::<JetStream>::new().await;
        running.say(&says("alice@ada", &room("#ops"), "gone")).await;
        // Whoever takes what comes out looks it up.
        running.commits(1).await;
        let epoch = running.log.epoch();
        let failed = running.log.failed();
        running.backing_mut().nats.forget();
        running.backing_mut().nats.restart();
        assert!(matches!(*failed.await, StoreError::Replaced(_)));
        let running = running.kill().await;
        assert_ne!(running.log.epoch(), epoch);
        assert_eq!(running.log.head(&room("#ops")).await.unwrap(), None);
        running.say(&says("alice@ada", &room("#ops"), "new")).await;
        running.close().await;
    })
    .await;
}

/// What a stream must be is looked at before it is used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_no_log_is_refused() {
    within_limit(async {
        let sandbox = Sandbox::new();
        let nats = NatsServer::start(&sandbox);
        let client = async_nats::connect(nats.url()).await.unwrap();
        let lossy = r#"{"name":"chat","subjects":["chat.>"],"max_age":3600000000000}"#;
        let made = client
            .request("$JS.API.STREAM.CREATE.chat", lossy.into())
            .await;
        made.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let refused = JetStreamLog::open(dir.path(), &settings(&nats)).await;
        let error = refused.unwrap_err().to_string();
        for part in [
            "max_age",
            "discard",
            "allow_atomic",
            "not made by chat server",
        ] {
            assert!(error.contains(part), "{error}");
        }
    })
    .await;
}

/// Whether `text` is in some file under `dir`.
fn is_in(dir: &Path, text: &str) -> bool {
    let Ok(entries) = fs::read_dir(dir) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return is_in(&path, text);
        }
        let bytes = fs::read(&path).unwrap_or_default();
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    })
}

/// Asks until it is so; the limit is that of the whole test.
async fn eventually_async(what: &str, mut probe: impl AsyncFnMut() -> bool) {
    eprintln!("waiting until {what}");
    while !probe().await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
