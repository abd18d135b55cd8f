//! What an agent may say that was let in: about its own host, and nothing else.

use super::{Scene, key_of, text, uses_left, wait_refused, without_invitation};
use protocol::{
    Committed, Content, EncodedBody, FederatedRoom, KeyFingerprint, MessageId, Nick, Outgoing,
    Room, Seq, Timestamp, encode_frame,
    federation::{AgentFrame, BadInvitation, Event, Refusal, Reply, Request, ServerFrame},
    governance::Act,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tests::{AgentPeer, Host, Keys, limit};

#[test]
fn an_author_of_another_host_is_refused() {
    let mut scene = Scene::new();
    let (mut mallory, _) = scene.mallory("mallory");
    mallory
        .append(MessageId::new(), "eve@mallory", "#ops", "as oneself")
        .expect("an honest message");
    assert_eq!(text(&scene.witness.next_message().body), "as oneself");
    for author in ["witness@ada", "eve@ada", "eve@nowhere"] {
        let forged = mallory.append(MessageId::new(), author, "#ops", "forged");
        assert!(
            matches!(forged, Err(Refusal::NotYours { .. })),
            "{forged:?}"
        );
    }
    scene.assert_undisturbed("forged authors");
}

#[test]
fn acts_and_erased_messages_are_not_an_agent_s_to_send() {
    let mut scene = Scene::new();
    let (mut mallory, _) = scene.mallory("mallory");
    for body in [
        Content::Act(Act::Left).encode().expect("a body"),
        EncodedBody::erased(),
    ] {
        let message = Outgoing {
            id: MessageId::new(),
            room: Room::parse("#ops").expect("a room"),
            author: "eve@mallory".parse().expect("a user"),
            sent_at: Timestamp::from_micros(0),
            body,
        };
        let attempt = 0;
        let refused = mallory.ask(Request::Append { attempt, message });
        assert!(
            matches!(refused, Err(Refusal::NotYours { .. })),
            "{refused:?}"
        );
    }
    scene.assert_undisturbed("an act of an agent's own");
}

#[test]
fn a_key_speaks_under_no_other_host_s_name() {
    let mut scene = Scene::new();
    let (_mallory, keys) = scene.mallory("mallory");
    let link = without_invitation(&scene.server.link());
    for name in ["ada", "nobody-yet"] {
        let mut peer = AgentPeer::silent(&link, &keys).expect("TLS");
        let refused = peer.hello(name);
        assert!(
            matches!(refused, Err(Refusal::OtherHost { .. })),
            "{refused:?}"
        );
    }
    scene.assert_undisturbed("other hosts' names");
}

#[test]
fn a_host_s_certificate_without_its_key_is_nobody_s() {
    let mut scene = Scene::new();
    let copied = scene.ada.state_dir().join("agent.pem");
    let keys = Keys::pretending(&scene.sandbox, &copied);
    let link = scene.server.link();
    // It does not even get to the prefaces.
    let refused = AgentPeer::silent(&link, &keys);
    assert!(refused.is_err(), "{refused:?}");
    scene.assert_undisturbed("a certificate without its key");
}

#[test]
fn a_name_that_is_taken_is_not_given_away_and_the_invitation_is_not_spent() {
    let mut scene = Scene::new();
    let link = scene.server.invite(1, None);
    let before = key_of(&scene.server, "ada");
    let keys = Keys::new(&scene.sandbox);
    let mut peer = AgentPeer::silent(&link, &keys).expect("TLS");
    let refused = peer.enrol(&link, "ada");
    assert!(
        matches!(refused, Err(Refusal::HostEnrolled { .. })),
        "{refused:?}"
    );
    assert_eq!(uses_left(&scene.server), 1);
    assert_eq!(key_of(&scene.server, "ada"), before);
    scene.assert_undisturbed("a name that is taken");
}

#[test]
fn a_name_that_a_key_gave_up_is_spoken_under_no_more() {
    let mut scene = Scene::new();
    let (mut before, keys) = scene.mallory("mallory");
    let link = scene.server.invite(1, None);
    let mut after = AgentPeer::enrolled(&link, &keys, "trudy").expect("another name");
    let reason = before.closing_reason();
    assert!(
        matches!(reason, Some(Refusal::OtherHost { .. })),
        "{reason:?}"
    );
    after.ask(Request::Ping).expect("served");
    // The name is free for somebody else, and nothing of the old right to it is left.
    let (mut other, _) = scene.mallory("mallory");
    let next = KeyFingerprint::of_spki(b"whatever");
    after.ask(Request::NextKey { key: next }).expect("its own");
    other.ask(Request::Ping).expect("served");
    scene.assert_undisturbed("names that were given up");
}

/// Follows `room` from its beginning.
fn subscribe(peer: &mut AgentPeer, room: &str) -> Result<Reply, Refusal> {
    peer.ask(Request::Subscribe {
        room: Room::parse(room).expect("a room"),
        after: Seq::START,
        after_id: None,
    })
}

fn next_committed(peer: &mut AgentPeer) -> Committed {
    loop {
        let frame = peer.wire().receive().expect("a frame").expect("not closed");
        if let ServerFrame::Event(Event::Committed(message)) = frame {
            return message;
        }
    }
}

#[test]
fn another_s_message_id_suppresses_nothing() {
    let mut scene = Scene::new();
    let (mut mallory, _) = scene.mallory("mallory");
    let join = Request::Join {
        room: FederatedRoom::parse("#ops").expect("a room"),
        nick: Nick::parse("eve").expect("a nick"),
    };
    mallory.ask(join).expect("a public room");
    subscribe(&mut mallory, "#ops").expect("a member of this host");
    scene.assert_undisturbed("the original");
    let original = next_committed(&mut mallory);
    for room in ["#ops", "#elsewhere"] {
        let again = mallory.append(original.id, "eve@mallory", room, "instead");
        assert!(
            matches!(again, Err(Refusal::IdConflict { .. })),
            "{again:?}"
        );
    }
    let read = scene.ada.terminal("alice").read_all("#ops");
    let bodies: Vec<&str> = read.iter().map(|line| line.body.as_str()).collect();
    assert_eq!(bodies, ["the original"]);
    scene.assert_undisturbed("ids of others");
}

#[test]
fn who_guesses_the_key_of_a_message_does_not_get_its_id_first() {
    let mut scene = Scene::new();
    let (mut mallory, _) = scene.mallory("mallory");
    let alice = scene.ada.terminal("alice");
    let user = alice.user().parse().expect("a user");
    let room = Room::parse("#ops").expect("a room");
    let guessed = MessageId::from_key(&user, &room, "deploy-7");
    let taken = mallory.append(guessed, "eve@mallory", "#ops", "instead");
    assert!(
        matches!(taken, Err(Refusal::IdOfAnother { .. })),
        "{taken:?}"
    );
    for _retry in 0..2 {
        let command = [
            "send",
            "#ops",
            "done",
            "--id",
            "deploy-7",
            "--wait",
            "committed",
        ];
        let sent = alice.run(command);
        sent.expect_code(0);
    }
    let read = alice.read_all("#ops");
    let bodies: Vec<&str> = read.iter().map(|line| line.body.as_str()).collect();
    assert_eq!(bodies, ["done"]);
    assert_eq!(text(&scene.witness.next_message().body), "done");
    scene.assert_undisturbed("ids that follow from keys");
}

#[test]
fn conversations_of_others_are_neither_read_nor_listed_nor_joined() {
    let scene = Scene::new();
    let bee = Host::start(&scene.sandbox, "bee", scene.server.link());
    let (alice, bob) = (scene.ada.terminal("alice"), bee.terminal("bob"));
    alice.send_committed(&bob.user(), "for bob alone");
    let (mut mallory, _) = scene.mallory("mallory");
    let theirs = "alice@ada,bob@bee";
    let room = Room::parse(theirs).expect("a conversation");
    for asked in [
        subscribe(&mut mallory, theirs),
        mallory.ask(Request::Head { room }),
        mallory.append(MessageId::new(), "eve@mallory", theirs, "me too"),
        mallory.append(MessageId::new(), "alice@ada", theirs, "me too"),
    ] {
        assert!(matches!(asked, Err(Refusal::NotYours { .. })), "{asked:?}");
    }
    match mallory.ask(Request::Directs { after: None }) {
        Ok(Reply::Directs {
            conversations,
            more: false,
        }) => assert_eq!(conversations, []),
        other => panic!("directs got {other:?}"),
    }
    match mallory.ask(Request::Rooms { after: None }) {
        Ok(Reply::Rooms { rooms, .. }) => {
            assert!(
                rooms.iter().all(|info| info.room.as_str() == "#ops"),
                "{rooms:?}"
            );
        }
        other => panic!("rooms got {other:?}"),
    }
    let mut tail = bob.tail(&[&alice.user()], "0");
    tail.wait_for("for bob alone");
    assert_eq!(tail.bodies().len(), 1);
}

#[test]
fn a_revoked_agent_is_cut_off_at_once_and_does_not_come_back() {
    let mut scene = Scene::new();
    let link = scene.server.invite(2, None);
    let keys = Keys::new(&scene.sandbox);
    let mut mallory = AgentPeer::enrolled(&link, &keys, "mallory").expect("welcome");
    scene.server.order(&["revoke", "mallory"]).expect_code(0);
    assert_eq!(mallory.closing_reason(), Some(Refusal::Revoked));
    let assert_out = |link: &str| {
        let mut peer = AgentPeer::silent(link, &keys).expect("TLS");
        assert_eq!(peer.hello("mallory"), Err(Refusal::Revoked));
        // With the rest of what it came with neither, nor under another name or key.
        for (keys, name) in [(&keys, "trudy"), (&Keys::new(&scene.sandbox), "mallory")] {
            let mut peer = AgentPeer::silent(link, keys).expect("TLS");
            let revoked = Err(Refusal::BadInvitation {
                reason: BadInvitation::Revoked,
            });
            assert_eq!(peer.enrol(link, name), revoked);
        }
    };
    assert_out(&link);
    scene.server.restart();
    assert_out(&link);
    scene.ada.wait_online();
    scene.assert_undisturbed("a revoked agent");
}

#[test]
fn the_people_of_a_revoked_host_are_told_so() {
    let scene = Scene::new();
    let alice = scene.ada.terminal("alice");
    scene.server.order(&["revoke", "ada"]).expect_code(0);
    let told = wait_refused(&scene.ada, "was revoked at the server");
    assert!(told.contains("ask who runs it"), "{told}");
    alice.send("#ops", "kept until then");
    let invited = scene.server.invite(1, Some("ada"));
    alice.run(["join", &invited]).expect_code(0);
    scene.ada.wait_outbox_empty();
}

#[test]
fn one_agent_that_sends_as_fast_as_it_can_keeps_nobody_from_being_heard() {
    const AT_ONCE: u32 = 256;
    let mut scene = Scene::new();
    let (mut mallory, _) = scene.mallory("mallory");
    let (done, taken) = (AtomicBool::new(false), AtomicU64::new(0));
    let alice = scene.ada.terminal("alice");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for id in 0..AT_ONCE {
                    let message = Outgoing {
                        id: MessageId::new(),
                        room: Room::parse("#flood").expect("a room"),
                        author: "eve@mallory".parse().expect("a user"),
                        sent_at: Timestamp::from_micros(0),
                        body: Content::Text("x".repeat(1_000)).encode().expect("a body"),
                    };
                    let request = Request::Append {
                        attempt: 0,
                        message,
                    };
                    let id = protocol::RequestId(1_000 + id);
                    let frame = encode_frame(&AgentFrame { id, request }).expect("a frame");
                    mallory.wire().send_bytes(&frame).expect("the server reads");
                }
                for _ in 0..AT_ONCE {
                    match mallory.wire().receive().expect("a frame") {
                        Some(ServerFrame::Reply { result: Ok(_), .. }) => {
                            taken.fetch_add(1, Ordering::Relaxed);
                        }
                        // Too fast is an answer, too.
                        Some(_) => {}
                        None => return,
                    }
                }
            }
        });
        for number in 0..20 {
            let text = format!("message {number}");
            let timeout = limit().as_secs().to_string();
            let options = ["--wait", "committed", "--timeout", &timeout];
            let sent = alice.send_with("#ops", &text, &options);
            assert_eq!(sent.state, "committed");
            assert_eq!(super::text(&scene.witness.next_message().body), text);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_ne!(taken.load(Ordering::Relaxed), 0, "there was no flood");
    scene.assert_undisturbed("a flood");
}
