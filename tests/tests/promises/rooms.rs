//! Promise 6 for rooms: nobody reads, lists or says anything where they do not belong, every reader
//! sees the same membership at the same seq, and what is to go is gone.

mod erasing;

use crate::conversation::two_hosts;
use protocol::{
    FederatedRoom, Room, Seq,
    federation::{self, Refusal},
    local::{self, From, Request},
};
use serde_json::Value;
use tests::{AgentPeer, Host, Sandbox, Terminal, eventually, secure::Keys};

/// `chat room WORDS…`, which must be done.
fn room(terminal: &Terminal, words: &[&str]) {
    terminal.run([&["room"], words].concat()).ok();
}

/// Everything that a room has, as JSON.
fn log(terminal: &Terminal, name: &str) -> Vec<Value> {
    let printed = terminal.run(["tail", name, "--since", "0", "--json"]).ok();
    let lines = printed.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect("objects")
}

/// The acts among them, by seq.
fn acts(terminal: &Terminal, name: &str) -> Vec<(u64, String, Value)> {
    let acts = log(terminal, name)
        .into_iter()
        .filter(|one| one["type"] == "act");
    acts.map(|one| {
        let seq = one["seq"].as_u64().expect("a seq");
        let act = one["act"].as_str().expect("an act").to_owned();
        (seq, act, one["user"].clone())
    })
    .collect()
}

fn names(terminal: &Terminal) -> Vec<String> {
    let printed = terminal.run(["rooms", "--json"]).ok();
    let name = |line: &str| {
        let value: Value = serde_json::from_str(line).expect("an object");
        value["room"].as_str().expect("a room").to_owned()
    };
    printed.lines().map(name).collect()
}

fn eventually_reads(terminal: &Terminal, name: &str, body: &str) {
    eventually(&format!("{} reads {body:?}", terminal.user()), || {
        let read = log(terminal, name);
        match read.iter().any(|one| one["body"] == body) {
            true => Ok(()),
            false => Err(format!("{read:?}")),
        }
    });
}

#[test]
fn a_stranger_cannot_read_list_or_probe_a_room_by_invitation() {
    let sandbox = Sandbox::new();
    let (server, ada, bee) = two_hosts(&sandbox);
    let (alice, bob, eve) = (
        ada.terminal("alice"),
        bee.terminal("bob"),
        ada.terminal("eve"),
    );
    room(&alice, &["create", "#den", "--mode", "invite-only"]);
    alice.send_committed("#den", "a word among us");
    let create = ["room", "create", "#den"];
    for stranger in [&bob, &eve] {
        // Also another user of the same host, whose agent has all of it.
        assert!(!names(stranger).contains(&"#den".to_owned()));
        for words in [
            &["history", "#den"][..],
            &["join", "#den"],
            &["tail", "#den", "--since", "0"],
            &create,
            &["room", "show", "#den"],
            &["room", "invite", "#den", "mallory"],
        ] {
            let refused = stranger.run(words);
            assert!(
                refused.code != Some(0) && !refused.stdout.contains("word"),
                "{words:?}: {refused:?}"
            );
        }
        let said = ["send", "#den", "hi", "--wait", "committed"];
        assert!(stranger.run(said).code != Some(0));
        let found = stranger.run(["search", "word"]).expect_code(1);
        assert_eq!(found.stdout, "");
        let who = stranger.run(["who", "#den"]);
        assert!(!who.stdout.contains("alice"), "{who:?}");
    }
    // A peer that keeps to no rules is told as much.
    let keys = Keys::new(&sandbox);
    let mut peer = AgentPeer::enrolled(&server.link(), &keys, "hopper").expect("welcome");
    let den = Room::parse("#den").expect("a room");
    let subscribe = federation::Request::Subscribe {
        room: den.clone(),
        after: Seq::START,
        after_id: None,
    };
    assert_eq!(
        peer.ask(subscribe),
        Err(Refusal::NoReader { room: den.clone() })
    );
    let who = federation::Request::Who {
        room: FederatedRoom::parse("#den").expect("a room"),
        after: None,
    };
    assert_eq!(peer.ask(who), Err(Refusal::NoSuchRoom { room: den }));

    room(&alice, &["invite", "#den", "bob@bee"]);
    assert!(names(&bob).contains(&"#den".to_owned()));
    eventually_reads(&bob, "#den", "a word among us");
}

#[test]
fn another_user_of_the_host_reads_nothing_of_it_without_the_server_either() {
    let sandbox = Sandbox::new();
    let (mut server, mut ada, _bee) = two_hosts(&sandbox);
    let (alice, eve) = (ada.terminal("alice"), ada.terminal("eve"));
    room(&alice, &["create", "#den", "--mode", "invite-only"]);
    alice.send_committed("#den", "a word among us");
    eventually_reads(&alice, "#den", "a word among us");
    room(&alice, &["create", "&nook", "--mode", "invite-only"]);
    alice.send("&nook", "another word");
    server.kill();
    ada.kill_agent();
    ada.restart();
    for name in ["#den", "&nook"] {
        assert!(!names(&eve).contains(&name.to_owned()));
        let mut session = ada.script("eve");
        let room = session.room(name);
        let requests = [
            Request::Open {
                room: room.clone(),
                from: From::Beginning,
            },
            Request::History {
                room: room.clone(),
                before: None,
                limit: 9,
            },
            Request::Join { room: room.clone() },
        ];
        for request in requests {
            let refused = session.ask(request);
            assert!(
                matches!(refused, Err(local::Refusal::NotOpen { .. })),
                "{refused:?}"
            );
        }
        let who = eve.run(["who", name]);
        assert!(!who.stdout.contains("alice"), "{who:?}");
    }
    eve.run(["search", "word"]).expect_code(1);
    assert_eq!(log(&alice, "#den").len(), 2);
    assert_eq!(log(&alice, "&nook").len(), 2);
}

#[test]
fn every_reader_sees_the_same_membership_at_the_same_seq_whatever_is_killed() {
    let sandbox = Sandbox::new();
    let (mut server, mut ada, mut bee) = two_hosts(&sandbox);
    let (alice, bob) = (ada.terminal("alice"), bee.terminal("bob"));
    room(&alice, &["create", "#den", "--mode", "invite-only"]);
    room(&alice, &["invite", "#den", "bob@bee"]);
    bob.send_committed("#den", "here");
    room(&alice, &["promote", "#den", "bob@bee"]);
    server.kill();
    bee.kill_agent();
    server.restart();
    bee.restart();
    bee.wait_online();
    ada.wait_online();
    room(&bob, &["mute", "#den", "carol@ada"]);
    ada.kill_agent();
    ada.restart();
    ada.wait_online();
    room(&alice, &["mode", "#den", "read-only"]);
    alice.send_committed("#den", "the end");
    for reader in [&alice, &bob] {
        eventually_reads(reader, "#den", "the end");
    }
    let seen = acts(&alice, "#den");
    assert_eq!(seen, acts(&bob, "#den"));
    let order: Vec<_> = seen.iter().map(|(_, act, _)| act.as_str()).collect();
    assert_eq!(order, ["opened", "invite", "promote", "mute", "mode"]);
    let show = ["room", "show", "#den", "--json"];
    assert_eq!(alice.run(show).ok(), bob.run(show).ok());
}

#[test]
fn whoever_is_kicked_reads_up_to_that_and_their_host_keeps_nothing() {
    let sandbox = Sandbox::new();
    let (_server, ada, bee) = two_hosts(&sandbox);
    let (alice, bob) = (ada.terminal("alice"), bee.terminal("bob"));
    room(&alice, &["create", "#den", "--mode", "invite-only"]);
    room(&alice, &["invite", "#den", "bob@bee"]);
    alice.send_committed("#den", "for both of us");
    let mut session = bee.script("bob");
    session.open_room("#den", From::Beginning);
    let mut read = Vec::new();
    while read.len() < 3 {
        read.push(session.next_message());
    }
    assert!(
        bob.run(["search", "both"]).code == Some(0),
        "it is found while they are in"
    );
    room(&alice, &["kick", "#den", "bob@bee"]);
    alice.send_committed("#den", "without him");
    let mut last = None;
    let reason = loop {
        match session.next_event() {
            local::Event::Committed(message) => last = Some(message),
            local::Event::Closed { reason, .. } => break reason,
            _ => {}
        }
    };
    assert!(
        last.is_some_and(|last| last.body.is_act()),
        "the kick itself"
    );
    assert!(
        matches!(reason, local::Refusal::Removed { .. }),
        "{reason:?}"
    );
    bob.run(["search", "both"]).expect_code(1);
    assert!(bob.run(["history", "#den"]).code != Some(0));
    assert!(!names(&bob).contains(&"#den".to_owned()));
    erasing::is_gone_from(bee.state_dir(), "for both of us");
}

#[test]
fn a_kick_reaches_a_host_that_was_away() {
    let sandbox = Sandbox::new();
    let (_server, ada, mut bee) = two_hosts(&sandbox);
    let (alice, bob) = (ada.terminal("alice"), bee.terminal("bob"));
    room(&alice, &["create", "#den", "--mode", "invite-only"]);
    room(&alice, &["invite", "#den", "bob@bee"]);
    alice.send_committed("#den", "for both of us");
    eventually_reads(&bob, "#den", "for both of us");
    bee.kill_agent();
    room(&alice, &["kick", "#den", "bob@bee"]);
    alice.send_committed("#den", "without him");
    bee.restart();
    bee.wait_online();
    eventually("bob is out", || {
        let joined = names(&bob);
        match joined.contains(&"#den".to_owned()) {
            false => Ok(()),
            true => Err(format!("{joined:?}")),
        }
    });
    let refused = bob.run(["history", "#den"]);
    assert!(
        refused.code != Some(0) && !refused.stdout.contains("us"),
        "{refused:?}"
    );
    erasing::is_gone_from(bee.state_dir(), "for both of us");
}

#[test]
fn whoever_may_not_speak_is_told_so_and_by_whom_it_could_be_allowed() {
    let sandbox = Sandbox::new();
    let (mut server, ada, bee) = two_hosts(&sandbox);
    let (alice, bob) = (ada.terminal("alice"), bee.terminal("bob"));
    alice.send_committed("#ops", "hello");
    bob.send_committed("#ops", "hello");
    room(&alice, &["mute", "#ops", "bob@bee"]);
    let refused = bob.run(["send", "#ops", "no", "--wait", "committed"]);
    assert!(refused.code != Some(0));
    assert!(
        refused.stderr.contains("muted") && refused.stderr.contains("alice@ada"),
        "{refused:?}"
    );
    let status = bob.run(["status"]).ok();
    assert!(status.contains("muted"), "{status}");
    // Rooms of one host need no server to have an owner.
    server.kill();
    let carol = ada.terminal("carol");
    alice.send("&den", "mine");
    carol.send("&den", "hello");
    room(&alice, &["mode", "&den", "read-only"]);
    let refused = carol.run(["send", "&den", "no"]).expect_code(77);
    assert!(refused.stderr.contains("alice@ada"), "{refused:?}");
    let refused = carol.run(["room", "kick", "&den", "alice"]).expect_code(77);
    assert!(refused.stderr.contains("ask alice@ada"), "{refused:?}");
    room(&alice, &["promote", "&den", "carol"]);
    carol.send("&den", "yes");
    // The lobby is nobody's.
    let host = Host::start_alone(&sandbox, "cat");
    let dora = host.terminal("dora");
    dora.send("&lobby", "first");
    let refused = dora
        .run(["room", "mode", "&lobby", "invite-only"])
        .expect_code(77);
    assert!(refused.stderr.contains("nobody owns it"), "{refused:?}");
}

#[test]
fn a_banned_host_is_out_and_an_agent_cannot_write_acts() {
    let sandbox = Sandbox::new();
    let (_server, ada, bee) = two_hosts(&sandbox);
    let (alice, bob) = (ada.terminal("alice"), bee.terminal("bob"));
    alice.send_committed("#ops", "hello");
    bob.send_committed("#ops", "hello");
    // By a terminal that keeps to no rules.
    let mut session = bee.script("bob");
    let forged = Request::Send {
        id: protocol::MessageId::new(),
        room: session.room("#ops"),
        content: protocol::Content::Act(protocol::governance::Act::Left),
    };
    let refused = session.ask(forged);
    assert!(
        matches!(refused, Err(local::Refusal::BadBody { .. })),
        "{refused:?}"
    );
    room(&alice, &["ban", "#ops", "*@bee"]);
    let refused = bob.run(["send", "#ops", "no", "--wait", "committed"]);
    assert!(
        refused.code != Some(0) && refused.stderr.contains("banned"),
        "{refused:?}"
    );
    let refused = bee.terminal("carol").run(["join", "#ops"]).expect_code(77);
    assert!(refused.stderr.contains("banned"), "{refused:?}");
    room(&alice, &["unban", "#ops", "*@bee"]);
    bob.send_committed("#ops", "back");
}
