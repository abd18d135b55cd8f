//! Promise 1 seen from the kernel: in a trace of system calls the database is synchronised
//! before the acknowledgement is written.

use protocol::{
    Content, FederatedRoom, MessageId, Nick, Outgoing, RequestId, Timestamp, federation, local,
};
use std::{
    ffi::OsString,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
};
use tests::{AgentPeer, Host, Place, Process, Sandbox, Server, eventually, heavy};

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
    let room = FederatedRoom::parse("#ops").expect("a room");
    let nick = Nick::parse("alice").expect("a nick");
    peer.ask(federation::Request::Join {
        room: room.clone(),
        nick,
    })
    .expect("joined");
    for number in 0..MESSAGES {
        peer.ask(append(marker(number))).expect("appended");
    }
    assert_synchronised_first(&trace, "server.db", 0..MESSAGES);
}

/// Alice's, to `#ops`.
fn append(text: String) -> federation::Request {
    federation::Request::Append {
        attempt: 0,
        message: Outgoing {
            id: MessageId::new(),
            room: "#ops".parse().expect("a room"),
            author: "alice@ada".parse().expect("a user"),
            sent_at: Timestamp::from_micros(1),
            body: Content::Text(text).encode().expect("a body"),
        },
    }
}

/// Killed on its way to the fsync, it leaves the message where the next process finds it, though
/// a power cut would take it.
#[test]
fn a_server_killed_before_its_fsync_acknowledges_nothing_unsynchronised_later() {
    let _turn = heavy();
    let sandbox = Sandbox::new();
    let trace = sandbox.path().join("server.strace");
    let mut server = Server::start(&sandbox);
    let mut peer = AgentPeer::open(server.address(), "ada").expect("welcome");
    let again = append(marker(0));
    let wal = server.database().with_extension("db-wal");
    let _strace = meddle(server.process(), &wal, "signal=KILL:when=1", &sandbox);
    post(&mut peer, &again);
    assert_eq!(server.process().wait().signal, Some(9));

    let mut server = server.in_place(traced(&sandbox.place(), &trace));
    server.restart();
    let mut peer = AgentPeer::open(server.address(), "ada").expect("welcome");
    peer.ask(again).expect("appended");
    assert_synchronised_first(&trace, "server.db", 0..1);
}

#[test]
fn an_agent_killed_before_its_fsync_acknowledges_nothing_unsynchronised_later() {
    let _turn = heavy();
    let sandbox = Sandbox::new();
    let trace = sandbox.path().join("ada.strace");
    let mut host = Host::new(&sandbox, "ada").with_server(tests::server::free_loopback());
    host.restart();
    let mut alice = host.script("alice");
    let again = local::Request::Send {
        id: MessageId::new(),
        room: "#ops".parse().expect("a room"),
        content: Content::Text(marker(0)),
    };
    let wal = host.database().with_extension("db-wal");
    let _strace = meddle(host.agent(), &wal, "signal=KILL:when=1", &sandbox);
    alice.post(again.clone());
    assert_eq!(host.agent().wait().signal, Some(9));

    let mut host = host.in_place(traced(&sandbox.place(), &trace));
    host.restart();
    host.script("alice").ask(again).expect("accepted");
    assert_synchronised_first(&trace, "agent.db", 0..1);
}

/// A kernel tells of a failed fsync once. Whoever goes on after it takes the database for whole,
/// begins the WAL anew, and has lost acknowledged messages with the next power cut.
#[test]
fn a_failed_fsync_of_the_database_ends_the_server_and_loses_nothing() {
    const BODY_BYTES: usize = 60_000;
    let _turn = heavy();
    let sandbox = Sandbox::new();
    let mut server = Server::start(&sandbox);
    let database = server.database();
    let _strace = meddle(server.process(), &database, "error=EIO:when=1", &sandbox);
    let mut peer = AgentPeer::open(server.address(), "ada").expect("welcome");
    let mut acknowledged = 0;
    while server.process().is_running() {
        assert!(acknowledged < 1_000, "it goes on after a failed fsync");
        post(&mut peer, &append("x".repeat(BODY_BYTES)));
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
    let ada = Host::start(&sandbox, "ada", server.address());
    ada.wait_online();
    let read = ada.terminal("alice").read_all("#ops").len();
    assert!(read >= acknowledged, "{read} of {acknowledged}");
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
fn meddle(process: &Process, path: &Path, how: &str, sandbox: &Sandbox) -> Process {
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
        assert_synchronised_first(&trace, "agent.db", 0..MESSAGES);
    }
}

/// Finds, for every message, the write of it to the log, then the end of a synchronisation of
/// that file, and only then a reply to the peer.
fn assert_synchronised_first(trace: &PathBuf, database: &str, messages: Range<usize>) {
    let last = hex(&marker(messages.end - 1));
    // The tracer writes behind the program's back.
    let lines: Vec<String> = eventually("the trace is complete", || {
        let text = fs::read_to_string(trace).unwrap_or_default();
        let end = text.rfind(&last).unwrap_or(text.len());
        let answered = text[end..].lines().skip(1).any(is_reply);
        match answered {
            true => Ok(text.lines().map(str::to_owned).collect()),
            false => Err(format!("{} bytes", text.len())),
        }
    });
    for number in messages {
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
