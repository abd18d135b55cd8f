//! Disks that fail: what the kernel could not make durable is unknown, so the daemon ends.

use super::{append, meddle, ops, post};
use protocol::federation;
use std::fs;
use tests::{
    AgentPeer, Host, Place, Sandbox, Server, Terminal, eventually, heavy, server::free_loopback,
};

/// A kernel tells of a failed fsync once. Whoever goes on after it takes the database for whole,
/// begins the WAL anew, and has lost acknowledged messages with the next power cut.
#[test]
fn a_failed_fsync_of_the_database_ends_the_server_and_loses_nothing() {
    const BODY_BYTES: usize = 60_000;
    let _turn = heavy();
    let sandbox = Sandbox::new();
    let mut server = Server::start_plaintext(&sandbox);
    let database = server.database();
    let _strace = meddle(server.process(), &database, "error=EIO:when=1", &sandbox);
    let mut peer = AgentPeer::open(server.address(), "ada").expect("welcome");
    let mut acknowledged = 0;
    while server.process().is_running() {
        assert!(acknowledged < 1_000, "it goes on after a failed fsync");
        post(&mut peer, &append(&ops(), "x".repeat(BODY_BYTES)));
        while let Ok(Some(frame)) = peer.wire().receive() {
            if let federation::ServerFrame::Reply { result, .. } = frame {
                result.expect("appended");
                acknowledged += 1;
                break;
            }
        }
    }
    let ended = server.process().wait().expect_code(1);
    assert!(
        ended.stderr.contains("failed to make data durable"),
        "{ended:?}"
    );
    let wal = fs::metadata(database.with_extension("db-wal")).expect("the WAL is kept");
    assert!(wal.len() > 0);

    server.restart();
    let ada = Host::start(&sandbox, "ada", server.link());
    ada.wait_online();
    let read = ada.terminal("alice").read_all("#ops").len();
    assert!(read >= acknowledged, "{read} of {acknowledged}");
}

/// Runs daemons on a disk that fails after its first successes, as dying ones do.
fn on_a_failing_disk(place: &Place) -> Place {
    place.through([
        "strace",
        "-D",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=fdatasync,fsync",
        "-e",
        "inject=fdatasync,fsync:error=EIO:when=40+",
        "--",
    ])
}

/// What the kernel could not make durable is unknown: the server ends instead of answering.
#[test]
fn a_server_whose_disk_fails_to_synchronise_ends_and_its_successor_has_all() {
    let _turn = heavy();
    let sandbox = Sandbox::new();
    let address = free_loopback();
    let mut server = Server::new(&sandbox, address)
        .in_place(on_a_failing_disk(&sandbox.place()))
        .plaintext();
    server.restart();
    let ada = Host::start(&sandbox, "ada", server.link());
    ada.wait_online();
    let alice = ada.terminal("alice");
    let mut sent = Vec::new();
    while server.process().is_running() {
        assert!(sent.len() < 200, "it goes on without a disk");
        let text = format!("said {}", sent.len());
        let words = [
            "send",
            "#ops",
            &text,
            "--wait",
            "committed",
            "--timeout",
            "1",
        ];
        let finished = alice.run(words);
        assert!(matches!(finished.code, Some(0 | 75)), "{finished:?}");
        sent.push(text);
    }
    let finished = server.process().wait();
    assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
    assert!(finished.stderr.contains("durable"), "{finished:?}");
    let state_dir = server.state_dir().to_owned();
    let mut successor = Server::new(&sandbox, address)
        .with_state_dir(state_dir)
        .plaintext();
    successor.restart();
    ada.wait_outbox_empty();
    assert_eq!(bodies(&alice, "#ops"), sent);
}

/// The same for a host's agent, whose terminals hear nothing rather than a promise.
#[test]
fn an_agent_whose_disk_fails_to_synchronise_ends_and_its_successor_has_all() {
    let _turn = heavy();
    let sandbox = Sandbox::new();
    for room in ["&den", "#ops"] {
        let name = if room == "&den" { "ada" } else { "bee" };
        let host = || Host::new(&sandbox, name).with_server(free_loopback());
        let mut ada = host().in_place(on_a_failing_disk(&sandbox.place()));
        ada.restart();
        let alice = ada.terminal("alice").in_place(sandbox.place());
        let mut accepted = Vec::new();
        while ada.agent().is_running() {
            assert!(accepted.len() < 200, "it goes on without a disk");
            let text = format!("said {}", accepted.len());
            let mut send = alice.start(["send", "--json", room, &text]);
            // It waits for an agent to come back; this one will not.
            eventually("an answer or an end", || {
                let waits = send.is_running() && ada.agent().is_running();
                if waits { Err("neither") } else { Ok(()) }
            });
            send.kill();
            if !send.stdout().is_empty() {
                accepted.push(text);
            }
        }
        let finished = ada.agent().wait();
        assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
        assert!(finished.stderr.contains("durable"), "{finished:?}");
        let mut ada = host();
        ada.restart();
        if room == "&den" {
            // What was written and not promised may be there or not.
            let mut all = bodies(&alice, room);
            all.truncate(accepted.len());
            assert_eq!(all, accepted);
        } else {
            let pending = ada.status().outbox_messages;
            let pending = usize::try_from(pending).expect("few");
            assert!(
                [0, 1].contains(&(pending - accepted.len())),
                "{pending} of {accepted:?}"
            );
        }
    }
}

fn bodies(reader: &Terminal, room: &str) -> Vec<String> {
    let lines = reader.read_all(room).into_iter();
    lines.map(|line| line.body).collect()
}
