//! Many strangers at once cost those who belong nothing.

use super::{Scene, text, without_invitation};
use protocol::local::{From, LinkStatus};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};
use tests::{AgentPeer, Host, Keys, Sandbox, Server, eventually, heavy, server::free_loopback};

/// Connections that begin and then say no more.
const HALF_OPEN: usize = 1_000;

/// The most memory a server may have had resident with all of them: 64 MiB as ever, and 32 KiB
/// for each.
const MEMORY_BOUND_BYTES: u64 = 96 * 1024 * 1024;

/// Every stranger is a file of this process too.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).expect("files");
}

/// Connects, says `words`, and nothing more.
fn fall_silent(address: SocketAddr, words: &[u8]) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(words)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Whether the other end has closed `stream`.
fn is_closed(mut stream: &TcpStream) -> bool {
    let mut chunk = [0; 4_096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn a_thousand_half_open_handshakes_disturb_none_of_ten_agents() {
    const HOSTS: usize = 10;
    const EACH: usize = 20;
    let _turn = heavy();
    raise_file_limit();
    let sandbox = Sandbox::new();
    let mut server = Server::start(&sandbox);
    let names: Vec<String> = (0..HOSTS).map(|number| format!("host-{number}")).collect();
    let hosts: Vec<Host> = names
        .iter()
        .map(|name| Host::start(&sandbox, name, server.link()))
        .collect();
    let since = |host: &Host| match host.status().link {
        LinkStatus::Online { since, .. } => since,
        other => panic!("{} is not online: {other:?}", host.name()),
    };
    let mut sessions: Vec<_> = hosts.iter().map(|host| host.session("alice")).collect();
    for (host, session) in hosts.iter().zip(&mut sessions) {
        host.wait_online();
        session.open_room("#ops", From::Beginning);
    }
    let before: Vec<_> = hosts.iter().map(since).collect();
    let hello = Keys::new(&sandbox).client_hello(&server.link());
    let (done, open, turned_away) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    let address = server.address();
    thread::scope(|scope| {
        // Whoever is closed is replaced, so that they are a thousand all the time.
        for words in [&[][..], &hello] {
            let (done, open, turned_away) = (&done, &open, &turned_away);
            scope.spawn(move || {
                let mut crowd = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    while crowd.len() < HALF_OPEN / 2 {
                        // None is let in for a moment: that is an answer, too.
                        let Ok(stream) = fall_silent(address, words) else {
                            break;
                        };
                        crowd.push(stream);
                        open.fetch_add(1, Ordering::Relaxed);
                    }
                    let were = crowd.len();
                    crowd.retain(|stream| !is_closed(stream));
                    turned_away.fetch_add(were - crowd.len(), Ordering::Relaxed);
                    thread::yield_now();
                }
            });
        }
        eventually("the crowd is there", || {
            match open.load(Ordering::Relaxed) {
                HALF_OPEN.. => Ok(()),
                fewer => Err(fewer),
            }
        });
        for round in 0..EACH {
            for (name, session) in names.iter().zip(&mut sessions) {
                let said = format!("{round} of {name}");
                session.send("#ops", &said).expect("accepted");
            }
        }
        for session in &mut sessions {
            let mut heard: Vec<String> = (0..HOSTS * EACH)
                .map(|_| text(&session.next_message().body))
                .collect();
            heard.sort();
            heard.dedup();
            assert_eq!(heard.len(), HOSTS * EACH, "each once");
        }
        // Until some have been waited for in vain: none of them keeps a place for ever.
        eventually("silent ones are closed", || {
            match turned_away.load(Ordering::Relaxed) {
                0 => Err("none yet"),
                _ => Ok(()),
            }
        });
        done.store(true, Ordering::Relaxed);
    });
    let after: Vec<_> = hosts.iter().map(since).collect();
    assert_eq!(after, before, "somebody was dropped");
    let peak = server.process().peak_memory();
    assert!(peak < MEMORY_BOUND_BYTES, "{peak} bytes resident");
}

#[test]
fn a_server_without_a_free_file_lets_in_again_when_there_are_some() {
    let sandbox = Sandbox::new();
    let few = sandbox.place().through(["prlimit", "--nofile=64", "--"]);
    let mut server = Server::new(&sandbox, free_loopback()).in_place(few);
    server.restart();
    let ada = Host::start(&sandbox, "ada", server.link());
    ada.wait_online();
    let mut witness = ada.session("witness");
    witness.open_room("#ops", From::Beginning);
    let hello = Keys::new(&sandbox).client_hello(&server.link());
    let mut crowd = Vec::new();
    for number in 0..200 {
        let words: &[u8] = if number % 2 == 0 { &[] } else { &hello };
        // Beyond the limit they wait in the kernel.
        crowd.extend(fall_silent(server.address(), words));
    }
    eventually("the files run out", || {
        let said = server.process().stderr();
        said.contains("cannot accept agents")
            .then_some(())
            .ok_or(said)
    });
    witness.send("#ops", "during the crush").expect("accepted");
    witness.next_message();
    drop(crowd);
    let keys = Keys::new(&sandbox);
    let mut bee = AgentPeer::enrolled(&server.link(), &keys, "bee").expect("welcome");
    bee.ask(protocol::federation::Request::Ping)
        .expect("served");
}

#[test]
fn a_thousand_strangers_with_keys_leave_no_trace_and_little_memory() {
    let _turn = heavy();
    raise_file_limit();
    let mut scene = Scene::new();
    let link = without_invitation(&scene.server.link());
    let keys = Keys::new(&scene.sandbox);
    let before = scene.server.process().open_files();
    thread::scope(|scope| {
        // Who fails so often waits longer and longer: many at once, so that they come to an end.
        for _ in 0..100 {
            scope.spawn(|| {
                for _ in 0..HALF_OPEN / 100 {
                    let mut peer = AgentPeer::silent(&link, &keys).expect("TLS");
                    peer.hello("stranger").expect_err("a stranger");
                }
            });
        }
    });
    scene.assert_undisturbed("a thousand strangers");
    let process = scene.server.process();
    eventually("their connections are gone", || {
        match process.open_files() {
            // The register's readers have opened theirs meanwhile.
            files if files <= before + 16 => Ok(()),
            files => Err(format!("{files} files, {before} before")),
        }
    });
    let peak = process.peak_memory();
    assert!(peak < MEMORY_BOUND_BYTES, "{peak} bytes resident");
}
