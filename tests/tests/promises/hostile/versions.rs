//! Peers of another version: turned away with the reason, on both sides.

use super::{Scene, Target};
use protocol::{
    Preface, Vocabulary,
    local::{LinkStatus, Status},
};
use std::{
    io::{self, Read, Write},
    net::TcpListener,
    os::unix::net::UnixListener,
    thread,
};
use tests::{
    Host, Process, Sandbox, eventually,
    server::free_loopback,
    wire::{PREFACE_BYTES, Wire},
};

const LATER: u16 = 9;

fn later(vocabulary: Vocabulary) -> [u8; PREFACE_BYTES] {
    let ours = Preface::ours(vocabulary);
    let later = Preface {
        newest: LATER,
        oldest: LATER,
        ..ours
    };
    later.to_bytes()
}

/// Answers everybody as the next version would, for as long as the test runs.
fn answer<S: Read + Write>(
    vocabulary: Vocabulary,
    mut accept: impl FnMut() -> io::Result<S> + Send + 'static,
) {
    thread::spawn(move || {
        while let Ok(mut stream) = accept() {
            // It may have closed at the sight of the preface.
            let _ = stream.write_all(&later(vocabulary));
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
}

#[test]
fn an_agent_tells_that_its_server_is_of_a_later_version() {
    let sandbox = Sandbox::new();
    let address = free_loopback();
    let listener = TcpListener::bind(address).expect("a free address");
    answer(Vocabulary::Federation, move || Ok(listener.accept()?.0));
    let ada = Host::start(&sandbox, "ada", address);
    let error = eventually("a reason", || match ada.status() {
        Status {
            link: LinkStatus::Waiting { error, .. },
            ..
        } => Ok(error),
        other => Err(format!("{:?}", other.link)),
    });
    assert!(error.contains("speaks protocol 9"), "{error}");
    assert!(error.contains("upgrade the local one"), "{error}");
    let said = ada.terminal("alice").run(["status"]).ok();
    assert!(said.contains("speaks protocol 9"), "{said}");
}

#[test]
fn a_terminal_tells_that_its_agent_is_of_a_later_version() {
    let sandbox = Sandbox::new();
    let socket = sandbox.dir("run").join("agent.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    answer(Vocabulary::Local, move || Ok(listener.accept()?.0));
    let mut status = sandbox.place().chat();
    status.arg("status").arg("--socket").arg(&socket);
    let finished = Process::start("alice", &mut status, &sandbox.dir("logs")).wait();
    let said = finished.expect_code(1).stderr;
    assert!(said.contains("newer"), "{said}");
    assert!(said.contains("speaks protocol 9"), "{said}");
}

#[test]
fn a_peer_of_a_later_version_learns_which_one_it_has_reached() {
    let mut scene = Scene::new();
    for target in [Target::Agent(&scene.ada), Target::Server(&scene.server)] {
        let mut wire: Wire<(), ()> = Wire::silent(target.stream());
        wire.send_bytes(&later(target.vocabulary())).expect("sent");
        let theirs = wire.read_preface().expect("an answer").expect("a preface");
        assert_eq!(theirs, Preface::ours(target.vocabulary()));
        // No frame follows: there is no version to say it in.
        let rest = wire.receive_payload().unwrap_or_default();
        assert_eq!(rest, None, "{target:?}");
    }
    let log = eventually("the server tells its administrator", || {
        let log = scene.server.process().stderr();
        match log.contains("speaks protocol 9") {
            true => Ok(log),
            false => Err(log),
        }
    });
    assert!(log.contains("upgrade"), "{log}");
    scene.assert_undisturbed("a later version");
}
