//! Promises 1 and 6 against a server that refuses or oversteps: what will never be delivered does
//! not vanish in silence, what may be delivered later is kept, and a host's own rooms are its own.

use protocol::{
    Committed, Content, Epoch, FederatedRoom, HostName, MessageId, Room, Seq, Timestamp,
    Vocabulary,
    federation::{AgentFrame, Event, Refusal, Reply, Request, ServerFrame},
    local,
};
use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};
use tests::{
    Host, Sandbox, Session,
    server::free_loopback,
    wait::eventually,
    wire::{Stream, Wire},
};

type Answer = Result<Reply, Refusal>;

/// A server that answers appends as `append` says, and sends `events` to each agent first.
fn pretend(events: Vec<Event>, append: impl Fn() -> Answer + Send + Sync + 'static) -> SocketAddr {
    pretend_with(move |request| match request {
        Request::Hello { .. } => Some((welcome(), events.clone())),
        Request::Append { .. } => Some((append(), Vec::new())),
        _ => None,
    })
}

fn welcome() -> Answer {
    Ok(Reply::Welcome {
        epoch: Epoch::from_bytes([7; 8]),
        software: "pretender".to_owned(),
    })
}

/// What a server says to a request: the answer, and what it tells right after.
type Said = (Answer, Vec<Event>);

/// A server that does as `say` says, and as an empty one would where that is `None`.
fn pretend_with(say: impl Fn(&Request) -> Option<Said> + Send + Sync + 'static) -> SocketAddr {
    let address = free_loopback();
    let listener = TcpListener::bind(address).unwrap();
    let by_itself = |request: &Request| match request {
        Request::Hello { .. } => welcome(),
        Request::Join { .. } => Ok(Reply::Joined {
            head: Seq::START,
            topic: String::new(),
        }),
        Request::Subscribe { .. } | Request::Head { .. } => Ok(Reply::Head { head: Seq::START }),
        Request::Directs { .. } => Ok(Reply::Directs {
            conversations: Vec::new(),
            more: false,
        }),
        Request::Ping => Ok(Reply::Pong),
        _ => Ok(Reply::Done),
    };
    let answer =
        move |request: &Request| say(request).unwrap_or_else(|| (by_itself(request), Vec::new()));
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            // A connection may end at any time; its thread ends with it.
            thread::spawn(move || converse(Stream::Tcp(stream), &*answer));
        }
    });
    address
}

fn converse(stream: Stream, answer: &dyn Fn(&Request) -> Said) -> std::io::Result<()> {
    let mut wire: Wire<AgentFrame, ServerFrame> = Wire::open(stream, Vocabulary::Federation)?;
    while let Ok(Some(AgentFrame { id, request })) = wire.receive() {
        let (result, events) = answer(&request);
        wire.send(&ServerFrame::Reply { id, result })?;
        for event in events {
            wire.send(&ServerFrame::Event(event))?;
        }
    }
    Ok(())
}

#[test]
fn a_message_refused_for_good_is_named_to_its_author_until_it_is_taken() {
    let sandbox = Sandbox::new();
    let takes = Arc::new(AtomicBool::new(false));
    let taking = Arc::clone(&takes);
    let address = pretend(Vec::new(), move || {
        if taking.load(Ordering::SeqCst) {
            return Ok(Reply::Appended { seq: Seq::new(1) });
        }
        let host = HostName::parse("hopper").unwrap();
        let room = Room::parse("#ops").unwrap();
        Err(Refusal::NotYours { host, room })
    });
    let mut ada = Host::start(&sandbox, "ada", address);
    let alice = ada.terminal("alice");
    let words = ["send", "bob@hopper", "are you there?", "--id", "job-7"];
    alice.run(words).ok();
    ada.wait_outbox_empty();

    ada.kill_agent();
    ada.restart();
    let status = alice.run(["status"]).ok();
    assert!(status.contains("to bob@hopper was refused"), "{status}");
    let others = ada.terminal("bob").run(["status"]).ok();
    assert!(!others.contains("refused"), "{others}");

    takes.store(true, Ordering::SeqCst);
    alice.run(words).ok();
    ada.wait_outbox_empty();
    let status = alice.run(["status"]).ok();
    assert!(!status.contains("refused"), "{status}");
}

#[test]
fn a_message_the_server_cannot_take_now_is_kept_and_sent_again() {
    let sandbox = Sandbox::new();
    let takes = Arc::new(AtomicBool::new(false));
    let taking = Arc::clone(&takes);
    let address = pretend(Vec::new(), move || {
        if taking.load(Ordering::SeqCst) {
            return Ok(Reply::Appended { seq: Seq::new(1) });
        }
        let reason = "too many open files".to_owned();
        Err(Refusal::Unavailable { reason })
    });
    let ada = Host::start(&sandbox, "ada", address);
    ada.terminal("alice").send("#ops", "hello");
    eventually("the problem is shown", || {
        let problems = ada.status().problems;
        match problems
            .iter()
            .any(|one| one.contains("too many open files"))
        {
            true => Ok(()),
            false => Err(format!("{problems:?}")),
        }
    });
    assert_eq!(ada.status().outbox_messages, 1);
    takes.store(true, Ordering::SeqCst);
    ada.wait_outbox_empty();
    // That nothing is encrypted here stays.
    let problems = ada.status().problems;
    let left = |one: &String| !one.contains("--insecure-plaintext");
    assert!(!problems.iter().any(left), "{problems:?}");
}

#[test]
fn a_server_cannot_give_a_users_name_to_what_that_user_never_said() {
    let sandbox = Sandbox::new();
    // The server has a message of alice's in #ops that she never sent.
    let forged = Committed {
        room: Room::parse("#ops").unwrap(),
        seq: Seq::new(1),
        prev_seq: Seq::START,
        committed_at: Timestamp::from_micros(1),
        id: MessageId::new(),
        author: "alice@ada".parse().unwrap(),
        sent_at: Timestamp::from_micros(1),
        body: Content::Text("send me your passwords".to_owned())
            .encode()
            .unwrap(),
    };
    let address = pretend_with(move |request| match request {
        Request::Subscribe { .. } | Request::Head { .. } => Some((
            Ok(Reply::Head { head: Seq::new(1) }),
            vec![Event::Committed(forged.clone())],
        )),
        _ => None,
    });
    let ada = Host::start(&sandbox, "ada", address);
    let bob = ada.terminal("bob");
    let mut tail = bob.tail(&["#ops"], "0");
    let shown = tail.wait_for("send me your passwords");
    assert_eq!(shown.from, "alice@ada.unverified");
    let found = bob.run(["search", "passwords", "from:alice@ada", "--json"]);
    assert_eq!(found.code, Some(1), "{found:?}");
    let mut log = ada;
    assert!(log.agent().stderr().contains("nobody here has said"));
}

#[test]
fn a_server_cannot_set_a_topic_in_the_name_of_a_user_who_did_not() {
    let sandbox = Sandbox::new();
    let told = |user: &str, topic: &str| Event::Topic {
        room: FederatedRoom::parse("#ops").unwrap(),
        user: user.parse().unwrap(),
        topic: topic.to_owned(),
    };
    let address = pretend_with(move |request| match request {
        Request::SetTopic { topic, .. } => {
            let forged = told("alice@ada", "send me your passwords");
            Some((Ok(Reply::Done), vec![forged, told("bob@ada", topic)]))
        }
        _ => None,
    });
    let ada = Host::start(&sandbox, "ada", address);
    ada.wait_online();
    let mut bob = Session::open(ada.socket(), "bob", true).unwrap();
    bob.open_room("#ops", local::From::Newest(1));
    let room = bob.room("#ops");
    let topic = "plans".to_owned();
    bob.ask(local::Request::SetTopic { room, topic }).unwrap();
    let mut next_topic = || {
        bob.event(|event| match event {
            local::Event::Topic { user, topic, .. } => Some((user.to_string(), topic)),
            _ => None,
        })
    };
    let forged = next_topic();
    let said = "send me your passwords".to_owned();
    assert_eq!(forged, ("alice@ada.unverified".to_owned(), said));
    assert_eq!(next_topic(), ("bob@ada".to_owned(), "plans".to_owned()));
}

#[test]
fn a_server_cannot_write_into_a_hosts_own_rooms() {
    for room in ["&lobby", "alice@ada,bob@ada"] {
        let sandbox = Sandbox::new();
        let injected = Event::Committed(Committed {
            room: Room::parse(room).unwrap(),
            seq: Seq::new(1 << 40),
            prev_seq: Seq::START,
            committed_at: Timestamp::from_micros(1),
            id: MessageId::new(),
            author: "alice@ada".parse().unwrap(),
            sent_at: Timestamp::from_micros(1),
            body: Content::Text("injected".to_owned()).encode().unwrap(),
        });
        let address = pretend(vec![injected], || Ok(Reply::Done));
        let ada = Host::start(&sandbox, "ada", address);
        eventually("the agent says what is wrong", || {
            let link = format!("{:?}", ada.status().link);
            match link.contains("not its to speak of") {
                true => Ok(()),
                false => Err(link),
            }
        });
        let alice = ada.terminal("alice");
        assert!(alice.read_all("&lobby").is_empty());
        assert!(alice.read_all("bob").is_empty());
    }
}
