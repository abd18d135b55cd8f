//! Promise 1 seen from the kernel: in a trace of system calls the database is synchronised
//! before the acknowledgement is written.

mod failing;
mod nats;
mod trace;

use protocol::{
    Content, FederatedRoom, MessageId, Nick, Outgoing, RequestId, Room, Seq, Timestamp, federation,
    local::{From, Request},
};
use std::{fs, path::Path, process::Command};
use tests::{AgentPeer, Host, Process, Sandbox, Server, eventually, heavy, server::free_loopback};
use trace::{Trace, traced};

const MESSAGES: usize = 20;

/// Texts, topics and names that are found again in a trace.
fn markers(what: &str, count: usize) -> Vec<String> {
    let marker = |number| format!("{what}-{number:04}-marker");
    (0..count).map(marker).collect()
}

#[test]
fn the_server_synchronises_before_it_acknowledges_or_publishes() {
    let _turn = heavy();
    let sandbox = Sandbox::new();
    let trace = sandbox.path().join("server.strace");
    let mut server = Server::new(&sandbox, free_loopback())
        .in_place(traced(&sandbox.place(), &trace))
        .plaintext();
    server.restart();
    // The only peer, which never pings: every write to it answers or tells something.
    let mut peer = AgentPeer::open(server.address(), "ada").expect("welcome");
    let nick = Nick::parse("alice").expect("a nick");
    let mut join = |room: &str| {
        let room = FederatedRoom::parse(&format!("#{room}")).expect("a room");
        let nick = nick.clone();
        peer.ask(federation::Request::Join {
            room: room.clone(),
            nick,
        })
        .expect("joined");
        // Nobody may read what is not durable either.
        peer.ask(federation::Request::Subscribe {
            room: Room::Federated(room.clone()),
            after: Seq::START,
            after_id: None,
        })
        .expect("subscribed");
        room
    };
    let rooms = markers("joined", MESSAGES);
    let last = rooms.iter().map(|room| join(room)).last();
    let room = last.expect("at least one");
    let messages = markers("said", MESSAGES);
    for text in &messages {
        peer.ask(append(&room, text.clone())).expect("appended");
    }
    let topics = markers("topic", MESSAGES);
    for topic in &topics {
        peer.ask(federation::Request::SetTopic {
            room: room.clone(),
            nick: nick.clone(),
            topic: topic.clone(),
        })
        .expect("set");
    }
    let trace = Trace::new(trace, "server.db", topics.last().expect("one"), true);
    trace.assert_synchronised_first(&rooms, false);
    trace.assert_synchronised_first(&messages, true);
    trace.assert_synchronised_first(&topics, true);
}

/// Alice's.
fn append(room: &FederatedRoom, text: String) -> federation::Request {
    federation::Request::Append {
        attempt: 0,
        message: Outgoing {
            id: MessageId::new(),
            room: Room::Federated(room.clone()),
            author: "alice@ada".parse().expect("a user"),
            sent_at: Timestamp::from_micros(1),
            body: Content::Text(text).encode().expect("a body"),
        },
    }
}

fn ops() -> FederatedRoom {
    FederatedRoom::parse("#ops").expect("a room")
}

#[test]
fn the_agent_synchronises_before_it_acknowledges_or_publishes() {
    let _turn = heavy();
    let sandbox = Sandbox::new();
    for sigil in ["&", "#"] {
        let name = if sigil == "&" { "ada" } else { "bee" };
        let trace = sandbox.path().join(format!("{name}.strace"));
        let mut host = Host::new(&sandbox, name).in_place(traced(&sandbox.place(), &trace));
        if sigil == "#" {
            // Federated, with nobody there: only the outbox can take it.
            host = host.with_server(free_loopback());
        }
        host.restart();
        let mut alice = host.script("alice");
        let room = format!("{sigil}den");
        // Nobody may read what is not durable either.
        let mut bob = host.script("bob");
        bob.open_room(&room, From::Beginning);
        let messages = markers("said", MESSAGES);
        for text in &messages {
            alice.send(&room, text).expect("accepted");
        }
        let mut rooms = Vec::new();
        let mut topics = Vec::new();
        if sigil == "&" {
            rooms = markers("joined", MESSAGES);
            for room in &rooms {
                let room = alice.room(&format!("&{room}"));
                alice.ask(Request::Join { room }).expect("joined");
            }
            topics = markers("topic", MESSAGES);
            for topic in &topics {
                let (room, topic) = (alice.room(&room), topic.clone());
                alice.ask(Request::SetTopic { room, topic }).expect("set");
            }
        }
        let last = topics.last().or_else(|| messages.last()).expect("one");
        let trace = Trace::new(trace, "agent.db", last, sigil == "&");
        trace.assert_synchronised_first(&messages, sigil == "&");
        trace.assert_synchronised_first(&rooms, false);
        trace.assert_synchronised_first(&topics, true);
    }
}

/// Killed on its way to the fsync, it leaves the message where the next process finds it, though
/// a power cut would take it.
#[test]
fn a_server_killed_before_its_fsync_acknowledges_nothing_unsynchronised_later() {
    let _turn = heavy();
    let sandbox = Sandbox::new();
    let trace = sandbox.path().join("server.strace");
    let mut server = Server::start_plaintext(&sandbox);
    let mut peer = AgentPeer::open(server.address(), "ada").expect("welcome");
    let messages = markers("said", 1);
    let again = append(&ops(), messages[0].clone());
    let wal = server.database().with_extension("db-wal");
    let _strace = meddle(server.process(), &wal, "signal=KILL:when=1", &sandbox);
    post(&mut peer, &again);
    assert_eq!(server.process().wait().signal, Some(9));

    let mut server = server.in_place(traced(&sandbox.place(), &trace));
    server.restart();
    let mut peer = AgentPeer::open(server.address(), "ada").expect("welcome");
    peer.ask(again).expect("appended");
    let trace = Trace::new(trace, "server.db", &messages[0], false);
    trace.assert_synchronised_first(&messages, false);
}

#[test]
fn an_agent_killed_before_its_fsync_acknowledges_nothing_unsynchronised_later() {
    let _turn = heavy();
    let sandbox = Sandbox::new();
    let trace = sandbox.path().join("ada.strace");
    let mut host = Host::new(&sandbox, "ada").with_server(free_loopback());
    host.restart();
    let mut alice = host.script("alice");
    let messages = markers("said", 1);
    let again = Request::Send {
        id: MessageId::new(),
        room: "#ops".parse().expect("a room"),
        content: Content::Text(messages[0].clone()),
    };
    let wal = host.database().with_extension("db-wal");
    let _strace = meddle(host.agent(), &wal, "signal=KILL:when=1", &sandbox);
    alice.post(again.clone());
    assert_eq!(host.agent().wait().signal, Some(9));

    let mut host = host.in_place(traced(&sandbox.place(), &trace));
    host.restart();
    host.script("alice").ask(again).expect("accepted");
    let trace = Trace::new(trace, "agent.db", &messages[0], false);
    trace.assert_synchronised_first(&messages, false);
}

/// Sends a request to a server that will not answer.
fn post(peer: &mut AgentPeer, request: &federation::Request) {
    let frame = federation::AgentFrame {
        id: RequestId(u32::MAX),
        request: request.clone(),
    };
    // The server may be gone already.
    let _ = peer.wire().send(&frame);
}

/// Has strace interfere with what a running process does to synchronise the file at `path`.
pub(crate) fn meddle(process: &Process, path: &Path, how: &str, sandbox: &Sandbox) -> Process {
    let pid = process.pid();
    let mut command = Command::new("strace");
    command
        .args(["-f", "-qq", "-e", "trace=fsync,fdatasync", "-e"])
        .arg(format!("inject=fsync,fdatasync:{how}"))
        .args(["-o", "/dev/null", "-p", &pid.to_string(), "-P"])
        .arg(path);
    let strace = Process::start("strace", &mut command, &sandbox.dir("logs"));
    eventually("strace holds every thread", || {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).map_err(|error| error.to_string())?;
        for task in tasks.flatten() {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            if status.contains("TracerPid:\t0\n") {
                return Err(format!(
                    "{} is free; {}",
                    task.path().display(),
                    strace.stderr()
                ));
            }
        }
        Ok(())
    });
    strace
}
