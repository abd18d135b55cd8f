//! Promises 4 and 6: whoever sends or stores too much waits and is told why, loses nothing, and
//! keeps nobody else.

use protocol::{
    Content, MessageId, Outgoing, Timestamp,
    federation::{Refusal, Request},
    limits::MAX_UNKNOWN_PER_ADDRESS,
    local::Event,
};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use std::{
    io::Read,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
};
use tests::{AgentPeer, Host, Keys, Sandbox, Server, eventually, limit, server::free_loopback};

/// A server with these settings, and a host in it.
fn limited(sandbox: &Sandbox, args: &[&str]) -> (Server, Host) {
    let mut server = Server::new(sandbox, free_loopback()).with_args(args);
    server.restart();
    let ada = Host::start(sandbox, "ada", server.link());
    ada.wait_online();
    (server, ada)
}

fn wait_for_problem(host: &Host, words: &str) {
    eventually(words, || {
        let problems = host.status().problems;
        match problems.iter().any(|one| one.contains(words)) {
            true => Ok(()),
            false => Err(format!("{problems:?}")),
        }
    });
}

#[test]
fn a_user_who_is_too_fast_waits_is_told_so_and_loses_nothing() {
    let sandbox = Sandbox::new();
    let (server, ada) = limited(&sandbox, &["--user-rate", "20"]);
    let bee = Host::start(&sandbox, "bee", server.link());
    let mut bob = bee.terminal("bob").tail(&["#ops"], "0");
    let mut pipe = ada.terminal("alice").pipe("#ops");
    for number in 0..120 {
        pipe.write(&format!("message {number}")).expect("taken");
    }
    wait_for_problem(&ada, "alice@ada sends more than 20 messages a second");
    // Nobody else waits for that.
    bee.terminal("carol")
        .send_committed("#elsewhere", "at once");
    bob.wait_count(120);
    let expected: Vec<_> = (0..120).map(|number| format!("message {number}")).collect();
    assert_eq!(bob.bodies(), expected);
    ada.wait_outbox_empty();
    let problems = ada.status().problems;
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn a_user_over_a_limit_delays_nobody_else_of_the_host_and_hears_of_it_once() {
    const ALICES: usize = 60;
    let sandbox = Sandbox::new();
    let (server, ada) = limited(&sandbox, &["--user-rate", "5"]);
    let bee = Host::start(&sandbox, "bee", server.link());
    let mut carol = bee.terminal("carol").tail(&["#ops"], "0");
    let mut prompt = ada.session("alice");
    let mut pipe = ada.terminal("alice").pipe("#ops");
    for number in 0..ALICES {
        pipe.write(&format!("alice {number}")).expect("taken");
    }
    let mut outcomes = 0;
    loop {
        match prompt.next_event() {
            Event::HeldUp { reason, .. } => {
                let words = "alice@ada sends more than 5 messages a second";
                assert!(reason.contains(words), "{reason}");
                break;
            }
            Event::Outcome { .. } => outcomes += 1,
            _ => {}
        }
    }
    let later = ada.terminal("alice").run(["send", "#elsewhere", "later"]);
    assert!(
        later.stderr.contains("held up: alice@ada"),
        "{}",
        later.stderr
    );
    // Those of hers that wait are in front of his, in one outbox.
    let mut bob = ada.session("bob");
    for number in 0..5 {
        bob.send("#ops", &format!("bob {number}")).expect("taken");
    }
    carol.wait_count(ALICES + 5);
    let bodies = carol.bodies();
    let of = |nick: &str| -> Vec<usize> {
        let theirs = bodies.iter().filter_map(|body| body.strip_prefix(nick));
        theirs
            .map(|number| number.trim().parse().expect("a number"))
            .collect()
    };
    assert!(of("alice").into_iter().eq(0..ALICES));
    assert!(of("bob").into_iter().eq(0..5));
    let last = |nick: &str| bodies.iter().rposition(|body| body.starts_with(nick));
    assert!(last("bob") < last("alice"), "{bodies:?}");
    ada.wait_outbox_empty();
    assert_eq!(ada.status().problems, [""; 0]);
    while outcomes <= ALICES {
        match prompt.next_event() {
            Event::HeldUp { reason, .. } => panic!("she was told before: {reason}"),
            Event::Outcome { .. } => outcomes += 1,
            _ => {}
        }
    }
}

#[test]
fn who_joins_very_many_rooms_is_in_all_of_them_in_time() {
    let sandbox = Sandbox::new();
    let (server, ada) = limited(&sandbox, &["--user-rate", "5"]);
    let bee = Host::start(&sandbox, "bee", server.link());
    let rooms: Vec<String> = (0..20).map(|number| format!("#room-{number}")).collect();
    let names: Vec<&str> = rooms.iter().map(String::as_str).collect();
    let mut alice = ada.terminal("alice").tail(&names, "0");
    let mut bob = bee.session("bob");
    for room in &rooms {
        bob.send(room, &format!("hello {room}")).expect("taken");
    }
    alice.wait_count(rooms.len());
    let mut heard = alice.bodies();
    heard.sort_unstable();
    let mut said: Vec<String> = rooms.iter().map(|room| format!("hello {room}")).collect();
    said.sort_unstable();
    assert_eq!(heard, said);
    for room in &names {
        eventually("the server knows the member", || {
            let who = bee.terminal("bob").run(["who", room, "--json"]).ok();
            match who.contains("alice@ada") {
                true => Ok(()),
                false => Err(who),
            }
        });
    }
}

#[test]
fn acts_and_topics_are_as_limited_as_messages() {
    let sandbox = Sandbox::new();
    let (_server, ada) = limited(&sandbox, &["--room-rate", "1"]);
    let alice = ada.terminal("alice");
    alice.run(["room", "create", "#den"]).ok();
    for words in [
        [
            &["room", "mute", "#den", "bob@bee"][..],
            &["room", "unmute", "#den", "bob@bee"],
        ],
        [&["topic", "#den", "one"], &["topic", "#den", "other"]],
    ] {
        let mut tries = words.into_iter().cycle().take(20);
        let refused = tries.find_map(|words| {
            let told = alice.run(words).stderr;
            // Before the host follows the room, that is what it is told of.
            told.contains("#den gets more than 1 messages a second")
                .then_some(())
        });
        assert_eq!(refused, Some(()), "too fast");
    }
}

#[test]
fn strangers_do_not_use_up_the_pace_of_a_room() {
    let sandbox = Sandbox::new();
    let (server, ada) = limited(&sandbox, &["--room-rate", "5"]);
    let bee = Host::start(&sandbox, "bee", server.link());
    let (alice, bob) = (ada.terminal("alice"), bee.terminal("bob"));
    let create = ["room", "create", "#den", "--mode", "invite-only"];
    alice.run(create).ok();
    alice.run(["room", "invite", "#den", "bob@bee"]).ok();
    bob.send_committed("#den", "let in");
    let keys = Keys::new(&sandbox);
    let mut mallory = AgentPeer::enrolled(&server.link(), &keys, "hopper").expect("welcome");
    let mut too_fast = 0;
    for attempt in 0..100 {
        let body = Content::Text("let me in".to_owned());
        let message = Outgoing {
            id: MessageId::new(),
            room: "#den".parse().expect("a room"),
            author: "mallory@hopper".parse().expect("a user"),
            sent_at: Timestamp::from_micros(0),
            body: body.encode().expect("a body"),
        };
        let refused = mallory.ask(Request::Append { attempt, message });
        match refused.expect_err("she was not invited") {
            Refusal::NotYet { reason, .. } => {
                let own = "host hopper sends into rooms that it does not follow";
                assert!(reason.starts_with(own), "{reason}");
                too_fast += 1;
            }
            refusal => assert!(refusal.is_final(), "{refusal}"),
        }
    }
    assert!(too_fast > 0, "she was slow");
    bob.send_committed("#den", "from bee");
    alice.send_committed("#den", "from ada");
}

#[test]
fn a_log_at_its_quota_makes_messages_wait_until_there_is_room() {
    let sandbox = Sandbox::new();
    let (server, ada) = limited(&sandbox, &["--log-limit", "400000"]);
    let mut alice = ada.session("alice");
    let text = "x".repeat(20_000);
    // The file grows once there is enough beside it.
    let mut sent = 0;
    while ada.status().problems.is_empty() && sent < 2_000 {
        for _ in 0..20 {
            alice.send("#ops", &text).expect("accepted");
        }
        sent += 20;
    }
    wait_for_problem(&ada, "of 400000 bytes");
    let waiting = ada.status().outbox_messages;
    assert!(waiting > 0);
    let mut roomier = Server::new(&sandbox, server.address())
        .with_state_dir(server.state_dir().to_owned())
        .with_args(&["--log-limit", "0"]);
    drop(server);
    roomier.restart();
    ada.wait_outbox_empty();
    assert_eq!(ada.terminal("alice").read_all("#ops").len(), sent);
}

/// A connection to `server` from `source`.
fn connect_from(source: Ipv4Addr, server: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddr::new(IpAddr::V4(source), 0)).expect("an address");
    connect(&socket, &server).expect("connected");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(limit())).expect("set");
    stream
}

#[test]
fn one_address_crowds_the_door_for_itself_alone() {
    let sandbox = Sandbox::new();
    let (server, ada) = limited(&sandbox, &[]);
    let source = Ipv4Addr::new(127, 9, 9, 9);
    let crowd: Vec<_> = (0..MAX_UNKNOWN_PER_ADDRESS)
        .map(|_| connect_from(source, server.address()))
        .collect();
    // One more is closed unheard, while the others may still say who they are.
    let mut surplus = connect_from(source, server.address());
    assert_eq!(surplus.read(&mut [0; 1]).expect("closed"), 0);
    let bee = Host::start(&sandbox, "bee", server.link());
    bee.wait_online();
    let mut bob = bee.terminal("bob").tail(&["#ops"], "0");
    ada.terminal("alice")
        .send_committed("#ops", "in spite of the crowd");
    bob.wait_for("in spite of the crowd");
    drop(crowd);
}

#[test]
fn who_fails_again_and_again_is_slowed_down_and_told_of_in_the_log() {
    let sandbox = Sandbox::new();
    let (mut server, _ada) = limited(&sandbox, &[]);
    let source = Ipv4Addr::new(127, 9, 9, 8);
    for _ in 0..12 {
        drop(connect_from(source, server.address()));
    }
    eventually("the log tells of it", || {
        let log = server.process().stderr();
        let words = [
            "connections that did not say who they are; further ones wait",
            "127.9.9.8",
        ];
        let told = |line: &str| words.iter().all(|words| line.contains(words));
        match log.lines().any(told) {
            true => Ok(()),
            false => Err(log),
        }
    });
    let bee = Host::start(&sandbox, "bee", server.link());
    bee.wait_online();
}
