//! Too long, too many, too silent.

use super::{Scene, Target};
use protocol::{
    Content, EncodedBody, MessageId, Outgoing, RequestId, Room, Timestamp, encode_frame,
    federation,
    limits::{HANDSHAKE_TIMEOUT, MAX_BODY_BYTES, MAX_OPEN_ROOMS, MAX_ROOMS_PER_USER},
    local::{self, Refusal, Reply, Request},
};
use serde::{Deserialize, de::value::BytesDeserializer};
use std::time::Duration;
use tests::{AgentPeer, Host, Sandbox, Server, Session, eventually};

#[test]
fn texts_over_their_limits_are_refused_and_the_session_goes_on() {
    let mut scene = Scene::new();
    let mut alice = scene.ada.script("alice");
    let most = "x".repeat(MAX_BODY_BYTES);
    alice.send("#ops", &most).expect("as much as is allowed");
    scene.witness.next_message();
    for room in ["#ops", "&den", "bob", "bob@bee"] {
        let over = alice.send(room, &format!("{most}x")).expect_err("too long");
        assert!(matches!(over, Refusal::BadBody { .. }), "{room}: {over:?}");
        let empty = alice.send(room, "").expect_err("empty");
        assert!(
            matches!(empty, Refusal::BadBody { .. }),
            "{room}: {empty:?}"
        );
    }
    let room = alice.room("#ops");
    for topic in [
        "x".repeat(513),
        "two\nlines".to_owned(),
        "\u{1b}[31m".to_owned(),
    ] {
        let topic = Request::SetTopic {
            room: room.clone(),
            topic,
        };
        let refusal = alice.ask(topic).expect_err("no topic");
        assert!(!refusal.is_fatal(), "{refusal:?}");
    }
    alice.ask(Request::Ping).expect("the session goes on");

    // The same for an agent that does not check.
    let mut mallory = AgentPeer::open(scene.server.address(), "mallory").expect("welcome");
    let mut append = |author: &str, room: &str, len: usize| {
        let body = Content::Text("x".to_owned()).encode().expect("a body");
        let body = match len {
            1 => body,
            _ => unchecked_body(len),
        };
        let message = Outgoing {
            id: MessageId::new(),
            room: Room::parse(room).expect("a room"),
            author: author.parse().expect("a user"),
            sent_at: Timestamp::from_micros(0),
            body,
        };
        mallory.ask(federation::Request::Append {
            attempt: 0,
            message,
        })
    };
    append("eve@mallory", "#ops", 1).expect("an honest message");
    scene.witness.next_message();
    let too_long = append("eve@mallory", "#ops", 70_000).expect_err("too long");
    assert!(
        matches!(too_long, federation::Refusal::TooLong { .. }),
        "{too_long:?}"
    );
    let forged = append("witness@ada", "#ops", 1).expect_err("forged");
    assert!(
        matches!(forged, federation::Refusal::NotYours { .. }),
        "{forged:?}"
    );
    let foreign = append("eve@mallory", "alice@ada,witness@ada", 1).expect_err("not theirs");
    assert!(
        matches!(foreign, federation::Refusal::NotYours { .. }),
        "{foreign:?}"
    );
    append("eve@mallory", "#ops", 1).expect("the connection goes on");
    scene.witness.next_message();
    scene.assert_undisturbed("texts over their limits");
}

/// A body of `len` bytes, past every check on this side.
fn unchecked_body(len: usize) -> EncodedBody {
    let bytes = vec![0; len];
    let bytes = BytesDeserializer::<serde::de::value::Error>::new(&bytes);
    EncodedBody::deserialize(bytes).expect("a body is its bytes")
}

#[test]
fn thousands_of_rooms_are_refused_at_the_limit_and_cost_little() {
    let mut scene = Scene::new();
    let mut alice = scene.ada.script("alice");
    for sigil in ['&', '#'] {
        let mut refused = None;
        for number in 0..MAX_ROOMS_PER_USER * 2 + 2 {
            let room = alice.room(&format!("{sigil}room-{number}"));
            match alice.ask(Request::Join { room }) {
                Ok(Reply::Done) => {}
                Ok(other) => panic!("a join got {other:?}"),
                Err(refusal) => {
                    refused = Some(refusal);
                    break;
                }
            }
        }
        let refusal = refused.expect("the limit is kept");
        assert!(refusal.to_string().contains("1000"), "{refusal}");
    }
    alice.ask(Request::Ping).expect("the session goes on");
    let mut rooms = 0;
    let mut after = None;
    loop {
        match alice.ask(Request::Rooms { after }) {
            Ok(Reply::Rooms { rooms: page, more }) => {
                rooms += page.len();
                after = page.last().map(|info| info.room.clone());
                if !more {
                    break;
                }
            }
            other => panic!("rooms got {other:?}"),
        }
    }
    assert!(rooms >= MAX_ROOMS_PER_USER, "{rooms} listed");
    scene.assert_undisturbed("thousands of rooms");
    scene.assert_memory_bounded();
}

#[test]
fn a_thousand_pages_that_nobody_reads_are_not_made() {
    const PAGES: usize = 1_000;
    let mut scene = Scene::new();
    let mut alice = scene.ada.script("alice");
    for _ in 0..8 {
        alice.send("&big", &"x".repeat(65_000)).expect("accepted");
    }
    let history = Request::History {
        room: alice.room("&big"),
        before: None,
        limit: 1_000,
    };
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let mut session = scene.ada.script("alice");
        let frame = local::TerminalFrame {
            id: RequestId(1),
            request: history.clone(),
        };
        let requests = encode_frame(&frame).expect("a frame").repeat(PAGES);
        session.wire().send_bytes(&requests).expect("they fit");
        sessions.push(session);
    }
    scene.assert_undisturbed("pages that nobody reads");
    // The others go on asking while one is read. Whoever reads in the end gets every page.
    for session in &mut sessions {
        for _ in 0..PAGES {
            match session.next_frame() {
                local::AgentFrame::Reply {
                    result: Ok(Reply::History { messages, .. }),
                    ..
                } => assert!(!messages.is_empty()),
                other => panic!("history got {other:?}"),
            }
        }
    }
    scene.assert_memory_bounded();
}

#[test]
fn invented_conversations_are_opened_up_to_the_limit() {
    let mut scene = Scene::new();
    let mut alice = scene.ada.script("alice");
    let open = |alice: &mut Session, number: usize| {
        let room = alice.room(&format!("nobody-{number}"));
        let from = local::From::Beginning;
        alice.ask(Request::Open { room, from })
    };
    for number in 0..MAX_OPEN_ROOMS {
        open(&mut alice, number).expect("under the limit");
    }
    for number in MAX_OPEN_ROOMS..MAX_OPEN_ROOMS * 3 {
        let refusal = open(&mut alice, number).expect_err("over the limit");
        assert!(matches!(refusal, Refusal::TooMany { .. }), "{refusal:?}");
    }
    open(&mut alice, 7).expect("it is open already");
    let room = alice.room("nobody-7");
    alice.ask(Request::Close { room }).expect("closed");
    open(&mut alice, MAX_OPEN_ROOMS).expect("there is a place again");
    scene.assert_undisturbed("invented conversations");
    scene.assert_memory_bounded();
}

#[test]
fn connections_that_say_nothing_are_closed_in_time() {
    const SILENT: usize = 200;
    let mut scene = Scene::new();
    let files = |scene: &mut Scene| {
        [
            scene.server.process().open_files(),
            scene.ada.agent().open_files(),
        ]
    };
    let before = files(&mut scene);
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        for target in [Target::Agent(&scene.ada), Target::Server(&scene.server)] {
            silent.push(target.stream());
        }
    }
    scene.assert_undisturbed("silent connections");
    for target in [Target::Agent(&scene.ada), Target::Server(&scene.server)] {
        // Nor may one begin and then stop.
        let seconds = HANDSHAKE_TIMEOUT.as_secs().to_string();
        let reasons = target.provoke("a preface and no more", true, &[], false);
        let [reason] = reasons.as_slice() else {
            panic!("one reason is given: {reasons:?}");
        };
        assert!(
            reason.contains(&seconds) || reason.contains("heard"),
            "{reason}"
        );
    }
    eventually("the silent ones are closed", || {
        let now = files(&mut scene);
        match now[0] <= before[0] + 2 && now[1] <= before[1] + 2 {
            true => Ok(()),
            false => Err(format!("{now:?} files open, {before:?} before")),
        }
    });
    drop(silent);
    scene.assert_undisturbed("silent connections closed");
    scene.assert_memory_bounded();
}

#[test]
fn running_out_of_files_passes_when_files_are_free_again() {
    let sandbox = Sandbox::new();
    let few = sandbox.place().through(["prlimit", "--nofile=64", "--"]);
    let mut server = Server::new(&sandbox, tests::server::free_loopback())
        .in_place(few.clone())
        .plaintext();
    server.restart();
    let mut ada = Host::new(&sandbox, "ada")
        .with_server(server.link())
        .in_place(few);
    ada.restart();
    ada.wait_online();
    let mut witness = ada.session("witness");
    witness.open_room("#ops", local::From::Beginning);
    let mut crowd = Vec::new();
    for _ in 0..100 {
        // Beyond the limit they wait in the kernel, or are closed.
        crowd.extend(Target::Agent(&ada).try_stream());
        crowd.extend(Target::Server(&server).try_stream());
    }
    witness.send("#ops", "during the crush").expect("accepted");
    witness.next_message();
    drop(crowd);
    let plain = ada.terminal("alice").in_place(sandbox.place());
    plain.send_committed("#ops", "after the crush");
    let mut peer = AgentPeer::open(server.address(), "bee").expect("welcome");
    peer.ask(federation::Request::Ping).expect("served");
    assert!(server.process().is_running() && ada.agent().is_running());
}

#[test]
fn a_client_that_never_reads_its_replies_is_bounded() {
    let mut scene = Scene::new();
    let mut alice = scene.ada.script("alice");
    let frame = encode_frame(&local::TerminalFrame {
        id: RequestId(9),
        request: Request::Rooms { after: None },
    })
    .expect("a frame");
    let many = frame.repeat(1_000);
    let stream = alice.wire().stream();
    let patience = Duration::from_millis(500);
    stream.set_write_timeout(patience).expect("a timeout");
    // The agent stops reading before its memory suffers; the kernel's buffers then fill.
    for _ in 0..2_000 {
        if alice.wire().send_bytes(&many).is_err() {
            break;
        }
    }
    scene.assert_undisturbed("a client that never reads");
    scene.assert_memory_bounded();
}
