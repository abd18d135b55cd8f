//! Promise 1 seen from the kernel: in a trace of system calls the database is synchronised
//! before the acknowledgement is written.

use protocol::{
    Content, FederatedRoom, MessageId, Nick, Outgoing, Room, Timestamp, UserName, federation,
};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};
use tests::{AgentPeer, Host, Place, Sandbox, Server, eventually, heavy};

const MESSAGES: usize = 20;

fn marker(number: usize) -> String {
    format!("durable-{number:04}-marker")
}

/// Runs daemons under strace, which follows them from a process of its own.
fn traced(place: &Place, trace: &Path) -> Place {
    let words = [
        "strace",
        "-D",
        "-f",
        "-qq",
        "-yy",
        "-x",
        "-s",
        "8192",
        "-e",
        "trace=fdatasync,fsync,write,writev,pwrite64,sendto,sendmsg",
        "-o",
    ];
    let words = words.iter().map(OsString::from);
    place.through(words.chain([trace.as_os_str().to_owned(), "--".into()]))
}

#[test]
fn the_server_synchronises_before_it_acknowledges() {
    let _turn = heavy();
    let sandbox = Sandbox::new();
    let trace = sandbox.path().join("server.strace");
    let mut server = Server::new(&sandbox, tests::server::free_loopback())
        .in_place(traced(&sandbox.place(), &trace));
    server.restart();
    // The only peer, which never pings: every write to it answers something.
    let mut peer = AgentPeer::open(server.address(), "ada").expect("welcome");
    let alice: UserName = "alice@ada".parse().expect("a user");
    let room = FederatedRoom::parse("#ops").expect("a room");
    let nick = Nick::parse("alice").expect("a nick");
    peer.ask(federation::Request::Join {
        room: room.clone(),
        nick,
    })
    .expect("joined");
    for number in 0..MESSAGES {
        let body = Content::Text(marker(number)).encode().expect("a body");
        let message = Outgoing {
            id: MessageId::new(),
            room: Room::Federated(room.clone()),
            author: alice.clone(),
            sent_at: Timestamp::from_micros(1),
            body,
        };
        let append = federation::Request::Append {
            attempt: 0,
            message,
        };
        peer.ask(append).expect("appended");
    }
    assert_synchronised_first(&trace, "server.db");
}

#[test]
fn the_agent_synchronises_before_it_acknowledges() {
    let _turn = heavy();
    let sandbox = Sandbox::new();
    for room in ["&den", "#ops"] {
        let name = if room == "&den" { "ada" } else { "bee" };
        let trace = sandbox.path().join(format!("{name}.strace"));
        let mut host = Host::new(&sandbox, name).in_place(traced(&sandbox.place(), &trace));
        if room == "#ops" {
            // Federated, with nobody there: only the outbox can take it.
            host = host.with_server(tests::server::free_loopback());
        }
        host.restart();
        let mut alice = host.script("alice");
        for number in 0..MESSAGES {
            alice.send(room, &marker(number)).expect("accepted");
        }
        assert_synchronised_first(&trace, "agent.db");
    }
}

/// Finds, for every message, the write of it to the log, then the end of a synchronisation of
/// that file, and only then a reply to the peer.
fn assert_synchronised_first(trace: &PathBuf, database: &str) {
    let last = hex(&marker(MESSAGES - 1));
    // The tracer writes behind the program's back.
    let lines: Vec<String> = eventually("the trace is complete", || {
        let text = std::fs::read_to_string(trace).unwrap_or_default();
        let end = text.rfind(&last).unwrap_or(text.len());
        let answered = text[end..].lines().skip(1).any(is_reply);
        match answered {
            true => Ok(text.lines().map(str::to_owned).collect()),
            false => Err(format!("{} bytes", text.len())),
        }
    });
    for number in 0..MESSAGES {
        let marker = hex(&marker(number));
        let written = position(&lines, 0, |line| {
            line.contains("pwrite64(") && line.contains(database) && line.contains(&marker)
        })
        .unwrap_or_else(|| panic!("{marker} was never written to {database}"));
        let synchronised = position(&lines, written, |line| ends_sync(line, &lines, database))
            .unwrap_or_else(|| panic!("{marker} was never synchronised"));
        let told = position(&lines, written, is_reply)
            .unwrap_or_else(|| panic!("{marker} was never acknowledged"));
        assert!(
            synchronised < told,
            "{marker}: written in line {written}, acknowledged in line {told}, synchronised in \
             line {synchronised} of {}",
            trace.display()
        );
    }
}

fn position(lines: &[String], from: usize, test: impl Fn(&str) -> bool) -> Option<usize> {
    let found = lines.iter().skip(from).position(|line| test(line));
    found.map(|index| from + index)
}

/// Whether a call that began in this or an earlier line of the same thread and synchronises
/// `database` ends here.
fn ends_sync(line: &str, lines: &[String], database: &str) -> bool {
    let sync = |line: &str| line.contains(" fdatasync(") || line.contains(" fsync(");
    if sync(line) {
        return line.contains(database) && line.ends_with("= 0");
    }
    if !(line.contains("<... fdatasync resumed>") || line.contains("<... fsync resumed>")) {
        return false;
    }
    let thread = line.split_whitespace().next();
    let here = lines
        .iter()
        .position(|other| std::ptr::eq(other.as_str(), line));
    let before = &lines[..here.unwrap_or(0)];
    let of_thread = |other: &&String| other.split_whitespace().next() == thread && sync(other);
    let began = before.iter().rev().find(of_thread);
    line.ends_with("= 0") && began.is_some_and(|began| began.contains(database))
}

/// Whether this line writes to a socket, and a reply is among the frames.
fn is_reply(line: &str) -> bool {
    const LENGTH_BYTES: usize = 4;
    let calls = [" write(", " writev(", " sendto(", " sendmsg("];
    let sockets = ["<TCP", "<UNIX", "<socket:"];
    let written = calls.iter().find_map(|call| {
        let (_, args) = line.split_once(call)?;
        let file = args.trim_start_matches(|c: char| c.is_ascii_digit());
        let to_socket = sockets.iter().any(|socket| file.starts_with(socket));
        to_socket.then(|| file.split_once(">, "))?
    });
    let Some((_, data)) = written else {
        return false;
    };
    let bytes = unhex(data);
    let mut rest = bytes.as_slice();
    while let Some((length, frame)) = rest.split_first_chunk::<LENGTH_BYTES>() {
        // Both vocabularies have replies first and events second.
        if frame.first() == Some(&0) {
            return true;
        }
        let length = usize::try_from(u32::from_be_bytes(*length)).expect("a length");
        rest = frame.get(length..).unwrap_or_default();
    }
    false
}

/// As `strace -x` prints a buffer that has this in it.
fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("\\x{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let parts = text.split("\\x").skip(1);
    let byte = |part: &str| u8::from_str_radix(part.get(..2)?, 16).ok();
    parts.filter_map(byte).collect()
}
