//! Signals, heartbeats, several servers, and logs that began a new life.

use crate::conversation::two_hosts;
use protocol::{
    Timestamp,
    local::{Event, From, LinkStatus},
};
use std::{fs, net::SocketAddr};
use tests::{Host, Process, Sandbox, Server, Signal, eventually, limit, server::free_loopback};

#[test]
fn any_free_port_is_told_on_standard_output() {
    let sandbox = Sandbox::new();
    let address = "127.0.0.1:0".parse().expect("an address");
    let server = Server::new(&sandbox, address).plaintext();
    let mut process = server.launch();
    let told = process.wait_for_line("listening on ");
    let told: SocketAddr = told.parse().expect("an address");
    assert_ne!(told.port(), 0);
    let ada = Host::start(&sandbox, "ada", format!("plain://{told}"));
    ada.wait_online();
}

#[test]
fn sigterm_keeps_what_was_acknowledged_and_ends_with_success() {
    let sandbox = Sandbox::new();
    let (mut server, mut ada, bee) = two_hosts(&sandbox);
    let alice = ada.terminal("alice");
    let mut bob = bee.terminal("bob").tail(&["#ops"], "0");
    let mut pipe = alice.pipe("#ops");
    for number in 0..500 {
        pipe.write(&format!("message {number}"))
            .expect("chat send reads its input");
        if number == 250 {
            server.terminate().expect_code(0);
        }
    }
    server.restart();
    eventually("all are accepted", || match pipe.sent().len() {
        500 => Ok(()),
        some => Err(some),
    });
    ada.terminate_agent().expect_code(0);
    ada.restart();
    bob.wait_count(500);
    let expected: Vec<_> = (0..500).map(|number| format!("message {number}")).collect();
    assert_eq!(bob.bodies(), expected);
}

#[test]
fn a_terminating_agent_says_so_and_removes_its_socket() {
    let sandbox = Sandbox::new();
    let mut ada = Host::start_alone(&sandbox, "ada");
    let mut alice = ada.session("alice");
    ada.terminate_agent().expect_code(0);
    alice.event(|event| matches!(event, Event::GoingAway { .. }).then_some(()));
    assert!(!ada.socket().exists(), "an orderly end leaves no socket");
}

#[test]
fn terminals_go_on_after_an_orderly_restart_of_their_agent() {
    let sandbox = Sandbox::new();
    let (_server, mut ada, bee) = two_hosts(&sandbox);
    let alice = ada.terminal("alice");
    let mut tails = ["&den", "#ops"].map(|room| ada.terminal("carol").tail(&[room], "0"));
    let mut pipes = ["&den", "#ops"].map(|room| alice.pipe(room));
    for round in 0..3 {
        for (pipe, tail) in pipes.iter_mut().zip(&mut tails) {
            let text = format!("before restart {round}");
            pipe.write(&text).expect("chat send reads its input");
            tail.wait_for(&text);
        }
        ada.terminate_agent().expect_code(0);
        // One is written while nobody is there to take it.
        for pipe in &mut pipes {
            let text = format!("during restart {round}");
            pipe.write(&text).expect("chat send reads its input");
        }
        ada.restart();
        for tail in &mut tails {
            tail.wait_for(&format!("during restart {round}"));
        }
    }
    let said = |round| ["before", "during"].map(|when| format!("{when} restart {round}"));
    let expected: Vec<String> = (0..3).flat_map(said).collect();
    for (mut pipe, mut tail) in pipes.into_iter().zip(tails) {
        pipe.finish(limit()).expect_code(0);
        assert_eq!(pipe.sent().len(), expected.len());
        assert_eq!(tail.bodies(), expected);
        assert!(tail.process().is_running());
    }
    let all = bee.terminal("bob").read_all("#ops").into_iter();
    assert_eq!(all.map(|line| line.body).collect::<Vec<_>>(), expected);
}

fn online_since(host: &Host) -> Timestamp {
    match host.status().link {
        LinkStatus::Online { since, .. } => since,
        other => panic!("{other:?}"),
    }
}

#[test]
fn sighup_takes_over_settings_on_the_same_connections() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox);
    let second = free_loopback();
    let mut moved = Server::prepared(&sandbox, second);
    let settings = sandbox.path().join("agent.toml");
    let write = |servers: &[String], outbox_limit: u32, log: &str| {
        let servers: Vec<String> = servers.iter().map(|server| format!("'{server}'")).collect();
        let servers = servers.join(", ");
        let text = format!("servers = [{servers}]\noutbox_limit = {outbox_limit}\nlog = '{log}'\n");
        fs::write(&settings, text).expect("settings");
    };
    let reload = |ada: &mut Host| {
        let before = ada.agent().stderr().len();
        ada.agent().signal(Signal::HUP);
        eventually("new settings", || {
            let log = ada.agent().stderr();
            let reloaded = log[before..].contains("settings reloaded");
            if reloaded { Ok(()) } else { Err(log) }
        });
    };
    write(&[server.link()], 2_000_000, "info");
    let config = settings.to_str().expect("a plain path");
    let mut ada = Host::new(&sandbox, "ada").with_args(&["--config", config]);
    ada.restart();
    ada.wait_online();
    let mut alice = ada.session("alice");
    let since = online_since(&ada);
    let debug = |ada: &mut Host| ada.agent().stderr().contains("DEBUG");
    assert!(!debug(&mut ada));

    write(&[server.link()], 200_000, "debug");
    reload(&mut ada);
    assert_eq!(online_since(&ada), since, "the same connection");
    alice.send("#ops", "before").expect("accepted");
    ada.wait_outbox_empty();
    assert!(debug(&mut ada), "the log tells more");

    // Another server, and one that is not there: the outbox fills up to its new limit.
    write(&[moved.link()], 200_000, "info");
    reload(&mut ada);
    ada.wait_offline();
    let text = "x".repeat(10_000);
    let refusal = (0..100).find_map(|_| alice.send("#ops", &text).err());
    let refusal = refusal.expect("the new limit is kept").to_string();
    assert!(refusal.contains("200000"), "{refusal}");
    moved.restart();
    ada.wait_outbox_empty();
    let server = match alice.status().link {
        LinkStatus::Online { server, .. } => server,
        other => panic!("{other:?}"),
    };
    assert_eq!(server, second.to_string());
}

#[test]
fn sighup_drops_no_connection() {
    let sandbox = Sandbox::new();
    let (mut server, mut ada, bee) = two_hosts(&sandbox);
    let mut alice = ada.session("alice");
    let mut bob = bee.session("bob");
    bob.open_room("#ops", From::Beginning);
    let before = [online_since(&ada), online_since(&bee)];
    for number in 0..3 {
        server.process().signal(Signal::HUP);
        ada.agent().signal(Signal::HUP);
        let text = format!("after hangup {number}");
        alice.send("#ops", &text).expect("accepted");
        assert_eq!(bob.next_message().author.to_string(), "alice@ada");
    }
    let after = [online_since(&ada), online_since(&bee)];
    assert_eq!(after, before, "the same connections");
}

#[test]
fn sigusr1_writes_the_state_to_the_log() {
    let sandbox = Sandbox::new();
    let (mut server, mut ada, _bee) = two_hosts(&sandbox);
    ada.terminal("alice")
        .send_committed("#ops", "a secret text");
    for (process, fact) in [
        (server.process(), "host=ada"),
        (ada.agent(), "outbox_messages=0"),
    ] {
        let before = process.stderr().len();
        process.signal(Signal::USR1);
        let dump = eventually("a state dump", || {
            let log = process.stderr();
            let dump = log[before..].to_owned();
            match dump.contains(fact) {
                true => Ok(dump),
                false => Err(format!("{dump:?}")),
            }
        });
        assert!(
            !dump.contains("a secret text"),
            "message text is never logged"
        );
        assert!(process.is_running());
    }
}

/// Tells `process`, which is starting, what does not end it.
fn disturb(process: &mut Process) {
    for signal in [Signal::HUP, Signal::USR1] {
        process.wait_takes(signal);
        process.signal(signal);
    }
}

fn wait_reloaded(process: &Process) {
    eventually("it reloads its settings", || {
        let log = process.stderr();
        let reloaded = log.contains(" reloaded");
        if reloaded { Ok(()) } else { Err(log) }
    });
}

#[test]
fn signals_while_an_agent_waits_for_the_last_ones_end_do_not_kill_it() {
    let sandbox = Sandbox::new();
    let mut last = Host::start_alone(&sandbox, "ada");
    // As `chat` starts it in the background: it gives the last one time to end.
    let ada = Host::new(&sandbox, "ada").with_args(&["--detached"]);
    let mut unwanted = ada.launch();
    disturb(&mut unwanted);
    unwanted.wait_takes(Signal::TERM);
    unwanted.terminate().expect_code(0);
    let mut next = ada.launch();
    disturb(&mut next);
    last.terminate_agent().expect_code(0);
    next.wait_for_line("ready on ");
    wait_reloaded(&next);
    next.terminate().expect_code(0);
}

#[test]
fn signals_while_a_server_opens_its_log_do_not_kill_it() {
    let sandbox = Sandbox::new();
    let mut server = Server::start(&sandbox);
    server.terminate().expect_code(0);
    let database = rusqlite::Connection::open(server.database()).expect("a database");
    // The server waits for a while for whoever holds this.
    let hold = "PRAGMA journal_mode = delete; BEGIN EXCLUSIVE";
    database.execute_batch(hold).expect("nobody else has it");
    let mut unwanted = server.launch();
    unwanted.wait_takes(Signal::TERM);
    unwanted.terminate().expect_code(0);
    let mut process = server.launch();
    disturb(&mut process);
    database.execute_batch("ROLLBACK").expect("released");
    process.wait_for_line("listening on ");
    wait_reloaded(&process);
    process.terminate().expect_code(0);
}

#[test]
fn a_server_that_stands_still_is_noticed_and_taken_back() {
    let sandbox = Sandbox::new();
    let (mut server, mut ada, mut bee) = two_hosts(&sandbox);
    let alice = ada.terminal("alice");
    let mut bob = bee.terminal("bob").tail(&["#ops"], "0");
    alice.send_committed("#ops", "before");
    server.process().stop();
    // The connection is open and even accepts bytes; only the heartbeat tells.
    for host in [&mut ada, &mut bee] {
        let silence = eventually("the silence is noticed", || {
            let log = host.agent().stderr();
            let silence = log.split_once("nothing heard for ");
            let seconds = silence.and_then(|(_, rest)| rest.split_once(" s"));
            match seconds {
                Some((seconds, _)) => Ok(seconds.to_owned()),
                None => Err(log),
            }
        });
        let seconds: f32 = silence.parse().expect("seconds");
        assert!(seconds <= 10.0, "noticed after {seconds} s");
    }
    ada.wait_offline();
    bee.wait_offline();
    assert_eq!(alice.send("#ops", "meanwhile").state, "queued");
    server.process().cont();
    bob.wait_for("meanwhile");
    assert_eq!(bob.bodies(), ["before", "meanwhile"]);
}

#[test]
fn several_server_addresses_are_tried_in_turn() {
    let sandbox = Sandbox::new();
    let mut server = Server::start(&sandbox);
    let first = free_loopback();
    let mut ada = Host::new(&sandbox, "ada")
        .with_server(server.link_by(first))
        .with_server(server.link());
    ada.restart();
    ada.wait_online();
    let alice = ada.terminal("alice");
    alice.send_committed("#ops", "over the second address");
    // The same log, found at an address that was no use before.
    server.terminate().expect_code(0);
    ada.wait_offline();
    let mut moved = Server::new(&sandbox, first).with_state_dir(server.state_dir().to_owned());
    moved.restart();
    ada.wait_online();
    alice.send_committed("#ops", "over the first address");
    assert_eq!(alice.read_all("#ops").len(), 2);
}

#[test]
fn a_recreated_server_log_is_a_new_epoch_that_readers_are_told_of() {
    let sandbox = Sandbox::new();
    let (mut server, ada, bee) = two_hosts(&sandbox);
    let alice = ada.terminal("alice");
    let bob = bee.terminal("bob");
    alice.send_committed("#ops", "in the old log");
    let mut session = bee.session("bob");
    session.open_room("#ops", From::Beginning);
    session.next_message();
    let cursor = bob.tail(&["#ops"], "0").wait_for("in the old log").cursor;

    server.kill();
    for name in [
        "server.db",
        "server.db-wal",
        "server.db-shm",
        "server.exists",
    ] {
        let path = server.state_dir().join(name);
        if path.exists() {
            fs::remove_file(path).expect("the log is removed on purpose");
        }
    }
    server.restart();
    ada.wait_online();
    bee.wait_online();
    let told = session.event(|event| match event {
        Event::EpochChanged { epoch, .. } => Some(epoch),
        _ => None,
    });
    assert!(
        !cursor.contains(&told.to_string()),
        "{cursor} is of the new life?"
    );
    alice.send_committed("#ops", "in the new log");
    let message = session.next_message();
    let text = message.body.decode().expect("a text");
    assert_eq!(text, protocol::Content::Text("in the new log".to_owned()));

    let words = ["tail", "#ops", "--json", "--since", &cursor];
    let refused = bob.run(words).expect_code(1);
    assert!(refused.stdout.is_empty(), "{refused:?}");
    assert!(refused.stderr.contains("--since 0"), "{refused:?}");
}

#[test]
fn a_restored_agent_resumes_no_cursor_in_the_wrong_place() {
    let sandbox = Sandbox::new();
    let mut ada = Host::start_alone(&sandbox, "ada");
    let alice = ada.terminal("alice");
    let backup = sandbox.dir("backup").join("agent.db");
    alice.send("&den", "one");
    ada.terminate_agent().expect_code(0);
    fs::copy(ada.database(), &backup).expect("a backup");
    ada.restart();
    alice.send("&den", "two");
    alice.send("&den", "three");
    let cursor = alice.tail(&["&den"], "0").wait_for("three").cursor;
    ada.terminate_agent().expect_code(0);
    fs::copy(&backup, ada.database()).expect("restored");
    ada.restart();
    let words = ["tail", "&den", "--json", "--since", &cursor];
    let refused = alice.run(words).expect_code(1);
    assert!(refused.stderr.contains("--new-epoch"), "{refused:?}");
    // Even where as much was said again.
    ada.terminate_agent().expect_code(0);
    let mut ada = ada.with_args(&["--new-epoch"]);
    ada.restart();
    for text in ["2", "3", "4"] {
        alice.send("&den", text);
    }
    let refused = alice.run(words).expect_code(1);
    assert!(refused.stderr.contains("--since 0"), "{refused:?}");
    assert_eq!(alice.read_all("&den").len(), 4);
}

#[test]
fn what_chat_leave_said_outlives_a_restart_with_the_same_flags() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox);
    let mut ada = Host::start(&sandbox, "ada", server.link());
    ada.wait_online();
    ada.terminal("alice").run(["leave"]).expect_code(0);
    ada.terminate_agent().expect_code(0);
    ada.restart();
    assert_eq!(ada.status().link, LinkStatus::LocalOnly);
    // Another setting is a new wish.
    let mut ada = ada.with_server(free_loopback());
    ada.restart();
    ada.wait_online();
}
