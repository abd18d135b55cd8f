//! Bytes that are no preface, no frame, or the wrong one.

use super::{Scene, Target, framed, payload};
use protocol::{
    AgentId, HostName, Nick, RequestId, federation,
    limits::MAX_FRAME_BYTES,
    local::{self, Refusal, Request},
};
use tests::{AgentPeer, Random};

#[test]
fn bytes_that_are_no_preface_are_closed() {
    let mut scene = Scene::new();
    let mut random = Random::from_env("prefaces");
    let cases: [(&str, Vec<u8>); 7] = [
        (
            "another protocol",
            b"GET / HTTP/1.1\r\nHost: chat\r\n\r\n".to_vec(),
        ),
        ("garbage", random.bytes(5_000)),
        ("the start of a preface", b"chatL\0".to_vec()),
        (
            "a vocabulary nobody knows",
            b"chatX\0\0\x01\0\x01\0\0\0\0\0\0".to_vec(),
        ),
        (
            "a later version",
            b"chatL\0\0\x09\0\x09\0\0\0\0\0\0".to_vec(),
        ),
        ("no version", b"chatF\0\0\0\0\0\0\0\0\0\0\0".to_vec()),
        ("nothing", Vec::new()),
    ];
    for (what, bytes) in cases {
        for target in [Target::Agent(&scene.ada), Target::Server(&scene.server)] {
            // There is nobody to tell a reason: the preface that it sent has to do.
            let reasons = target.provoke(what, false, &bytes, true);
            assert_eq!(reasons, [""; 0], "{what}");
        }
        scene.assert_undisturbed(what);
    }
    // Each other's vocabulary.
    let agents = b"chatF\0\0\x01\0\x01\0\0\0\0\0\0";
    let reasons = Target::Agent(&scene.ada).provoke("agents' words", false, agents, false);
    assert_eq!(reasons, [""; 0]);
    let terminals = b"chatL\0\0\x01\0\x01\0\0\0\0\0\0";
    let server = Target::Server(&scene.server);
    let reasons = server.provoke("terminals' words", false, terminals, false);
    assert_eq!(reasons, [""; 0]);
    scene.assert_undisturbed("the wrong vocabulary");
    scene.assert_memory_bounded();
}

#[test]
fn bytes_that_are_no_frame_are_answered_and_closed() {
    let mut scene = Scene::new();
    let mut random = Random::from_env("frames");
    let max = u32::try_from(MAX_FRAME_BYTES).expect("a frame length");
    for _ in 0..3 {
        let mut cases: Vec<(&str, Vec<u8>)> = vec![
            ("a frame over the limit", (max + 1).to_be_bytes().to_vec()),
            ("a frame of 4 GiB", u32::MAX.to_be_bytes().to_vec()),
            ("an empty frame", framed(&[])),
            ("an unknown request", framed(&[0, 200])),
            (
                "a length bomb",
                framed(&[0, 0, 253, 255, 255, 255, 255, 255, 255, 255, 15]),
            ),
            (
                "a bomb just under the limit",
                framed(&[0, 0, 252, 0, 0, 15, 0]),
            ),
            ("garbage", framed(&random.bytes(2_000))),
            (
                "a large frame of garbage",
                framed(&random.bytes(MAX_FRAME_BYTES)),
            ),
        ];
        for target in [Target::Agent(&scene.ada), Target::Server(&scene.server)] {
            for (what, bytes) in &cases {
                let reasons = target.provoke(what, true, bytes, false);
                assert_eq!(reasons.len(), 1, "{what} gets one reason: {reasons:?}");
            }
        }
        cases.clear();
        scene.assert_undisturbed("frames that are none");
    }
    for target in [Target::Agent(&scene.ada), Target::Server(&scene.server)] {
        let hello = framed(&target.hello(b"mallory", "tests"));
        for cut in [1, 3, 4, 5, hello.len() - 1] {
            // The end of the stream inside a frame: nobody may be left to hear the reason.
            target.provoke("a truncated frame", true, &hello[..cut], true);
        }
        let trailing = framed(&[target.hello(b"mallory", "tests"), vec![0; 3]].concat());
        let reasons = target.provoke("trailing bytes", true, &trailing, false);
        assert!(reasons[0].contains('3'), "{reasons:?}");
    }
    scene.assert_undisturbed("truncated frames");
    scene.assert_memory_bounded();
}

#[test]
fn requests_out_of_place_end_the_session_with_a_reason() {
    let mut scene = Scene::new();
    let first = payload(&local::TerminalFrame {
        id: RequestId(0),
        request: Request::Status,
    });
    let target = Target::Agent(&scene.ada);
    let reasons = target.provoke("status first", true, &framed(&first), false);
    assert_eq!(reasons[0], Refusal::HelloOutOfPlace.to_string());
    let first = payload(&federation::AgentFrame {
        id: RequestId(0),
        request: federation::Request::Ping,
    });
    let target = Target::Server(&scene.server);
    let reasons = target.provoke("ping first", true, &framed(&first), false);
    assert_eq!(reasons[0], federation::Refusal::HelloOutOfPlace.to_string());

    let mut twice = scene.ada.script("twice");
    twice.post(Request::Hello {
        nick: Nick::parse("twice").expect("a nick"),
        software: String::new(),
        interactive: false,
    });
    let frames = twice.wire().receive_until_closed();
    assert!(!frames.is_empty(), "a reason is given");
    let mut twice = AgentPeer::open(scene.server.address(), "twice").expect("welcome");
    let again = federation::Request::Hello {
        host: HostName::parse("twice").expect("a host"),
        agent: AgentId::new(),
        software: String::new(),
    };
    let refusal = twice.ask(again).expect_err("one hello is enough");
    assert!(refusal.is_fatal(), "{refusal:?}");
    twice.wire().receive_until_closed();
    scene.assert_undisturbed("requests out of place");
}
