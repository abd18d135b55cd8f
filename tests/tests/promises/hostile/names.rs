//! Names that are none, names of others, and texts that would steer a terminal.

use super::{Scene, Target, framed, payload};
use protocol::{FederatedRoom, Nick, RequestId, federation};
use tests::{AgentPeer, Host, Sandbox, Server};

#[test]
fn names_that_are_none_are_refused_before_they_are_believed() {
    let mut scene = Scene::new();
    let long = vec![b'x'; 65];
    let cases: [(&str, &[u8]); 9] = [
        ("empty", b""),
        ("too long", &long),
        ("an escape sequence", b"a\x1b[31mb"),
        ("a line break", b"a\nb"),
        ("a null", b"a\0b"),
        ("invalid UTF-8", b"a\xff\xfeb"),
        ("a right-to-left override", "a\u{202e}b".as_bytes()),
        ("a path", b"../../etc"),
        ("a space", b"a b"),
    ];
    for (what, name) in cases {
        for target in [Target::Agent(&scene.ada), Target::Server(&scene.server)] {
            let bytes = framed(&target.hello(name, "tests"));
            let reasons = target.provoke(what, true, &bytes, false);
            assert_eq!(reasons.len(), 1, "{what}: {reasons:?}");
            let reason = &reasons[0];
            assert!(!reason.chars().any(char::is_control), "{what}: {reason:?}");
        }
        scene.assert_undisturbed(what);
    }
}

#[test]
fn the_room_of_an_unchecked_join_is_checked() {
    let mut scene = Scene::new();
    let mut mallory = AgentPeer::open(scene.server.address(), "mallory").expect("welcome");
    let room = FederatedRoom::parse("#abcd").expect("a room");
    let nick = Nick::parse("eve").expect("a nick");
    let good = payload(&federation::AgentFrame {
        id: RequestId(1),
        request: federation::Request::Join { room, nick },
    });
    let at = good
        .windows(4)
        .position(|part| part == b"abcd")
        .expect("the name");
    for evil in [b"ab\x1bd", b"ab\xffd", b"ab d", b"ab#d"] {
        let mut bad = good.clone();
        bad[at..at + 4].copy_from_slice(evil);
        mallory.wire().send_payload(&bad).expect("the server reads");
        let mut frames = mallory.wire().receive_until_closed();
        // How the log is, is told to everybody.
        frames.retain(|frame| {
            !matches!(
                frame,
                federation::ServerFrame::Event(federation::Event::Log { .. })
            )
        });
        assert_eq!(frames.len(), 1, "one reason: {frames:?}");
        mallory = AgentPeer::open(scene.server.address(), "mallory").expect("welcome again");
    }
    scene.assert_undisturbed("rooms that are none");
}

#[test]
fn a_host_name_in_use_is_refused_to_another_agent() {
    let sandbox = Sandbox::new();
    let server = Server::start_plaintext(&sandbox);
    let first = Host::start(&sandbox, "ada", server.link());
    first.wait_online();
    let error = AgentPeer::open(server.address(), "ada").expect_err("in use");
    assert!(error.to_string().contains("--rename-host"), "{error}");
    first
        .terminal("alice")
        .send_committed("#ops", "undisturbed");
}

#[test]
fn control_sequences_never_reach_a_terminal() {
    let sandbox = Sandbox::new();
    let host = Host::start_alone(&sandbox, "ada");
    let mut mallory = host.script("mallory");
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2Jred\u{9b}31m \u{202e}txet\u{7f}";
    mallory.send("&den", evil).expect("any text is text");
    let bob = host.terminal("bob");
    for words in [&["history", "&den"][..], &["tail", "&den", "--since", "0"]] {
        let shown = bob.run(words).ok();
        let line = shown.trim_end_matches('\n');
        assert!(line.contains("owned"), "{shown:?}");
        assert!(
            !line.chars().any(|c| c.is_control() || c == '\u{202e}'),
            "{shown:?}"
        );
    }
    // A program gets the text as it is.
    assert_eq!(bob.read_all("&den")[0].body, evil);
}
