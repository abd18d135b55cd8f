//! What a person missed is set off, and told when it is over.

use crate::harness::{Agent, Server, Terminal, chat};
use jiff::{Timestamp, tz::TimeZone};
use rustix::process::{Signal, kill_process};
use std::{fs, path::Path, process::Command};

/// A host with its terminal, in `#ops`.
fn host(dir: &Path, host: &str, nick: &str, server: &Server<'_>) -> Terminal {
    fs::create_dir(dir).unwrap();
    let mut terminal = Terminal::open_in(dir, nick, (80, 24), &[("CHAT_HOST", host)]);
    terminal.expect("○    &lobby> ");
    chat(dir, nick, &["join", &server.link], "");
    terminal.expect("connected to server");
    terminal.keys("/join #ops\r");
    terminal.expect("●    #ops> ");
    terminal.expect("nobody has said anything here yet");
    terminal
}

#[test]
fn a_time_without_server_is_seen_at_the_prompt_and_told_at_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path());
    let (ada, bee) = (dir.path().join("ada"), dir.path().join("bee"));
    let (agent, _agent) = (Agent(&ada), Agent(&bee));
    let mut alice = host(&ada, "ada", "alice", &server);
    let mut bob = host(&bee, "bee", "bob", &server);
    alice.keys("here?\r");
    bob.expect("alice@ada  here?");
    bob.keys("here!\r");
    alice.expect("bob@bee  here!");

    server.kill();
    alice.expect("◌    #ops> ");
    bob.expect("◌    #ops> ");
    for text in ["one", "two", "three"] {
        alice.keys(&format!("{text}\r"));
        alice.expect(&format!(
            ".. {text}  (pending: kept on this host until the server has it)\r\n"
        ));
    }
    alice.expect("◌3   #ops> ");
    let lines = |numbers: std::ops::RangeInclusive<u32>| -> String {
        numbers.map(|number| format!("no-{number}.\n")).collect()
    };
    chat(&bee, "bob", &["send", "#ops"], &lines(1..=11));
    // Alice's agent comes back last, so that all was said before.
    let pid = agent.pid().unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    server.come_back();
    bob.expect("●    #ops> ");
    let committed = ["send", "#ops", "--wait", "committed"];
    chat(&bee, "bob", &committed, &lines(12..=12));
    kill_process(pid, Signal::CONT).unwrap();
    let seen = alice.expect(" received\r\n");
    for text in [
        "-- connected to server",
        "alice  one  (delivered)\r\n",
        "bob@bee  no-12.\r\n",
    ] {
        assert!(seen.contains(text), "{text}: {seen}");
    }
    let summary = seen.rsplit("-- offline ").next().unwrap();
    let (times, counts) = summary.split_once(": ").unwrap();
    assert_eq!(counts, "3 sent, 12 received\r\n");
    let clock = |text: &str| text.len() == 5 && text.as_bytes()[2] == b':';
    assert!(times.split('–').all(clock), "{times}");
    assert!(seen.contains("●    #ops> "), "{seen}");
    for mut terminal in [alice, bob] {
        terminal.keys("\x04");
        terminal.end();
    }
}

#[test]
fn a_time_without_agent_is_one_without_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let (ada, bee) = (dir.path().join("ada"), dir.path().join("bee"));
    let (agent, _agent) = (Agent(&ada), Agent(&bee));
    let mut alice = host(&ada, "ada", "alice", &server);
    let bob = host(&bee, "bee", "bob", &server);
    // It stays ended until she writes.
    kill_process(agent.pid().unwrap(), Signal::TERM).unwrap();
    alice.expect("◌    #ops> ");
    let committed = ["send", "#ops", "--wait", "committed"];
    chat(&bee, "bob", &committed, "one\ntwo\n");
    alice.keys("back\r");
    let seen = alice.expect(" received\r\n");
    assert!(seen.ends_with(": 1 sent, 2 received\r\n"), "{seen}");
    for mut terminal in [alice, bob] {
        terminal.keys("\x04");
        terminal.end();
    }
}

#[test]
fn a_server_that_refuses_is_told_from_one_that_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path());
    let (ada, bee) = (dir.path().join("ada"), dir.path().join("bee"));
    let (_ada, _bee) = (Agent(&ada), Agent(&bee));
    let alice = host(&ada, "ada", "alice", &server);
    fs::create_dir(&bee).unwrap();
    let mut bob = Terminal::open_in(&bee, "bob", (200, 24), &[("CHAT_HOST", "ada")]);
    bob.expect("&lobby> ");
    Command::new(env!("CARGO_BIN_EXE_chat"))
        .args(["join", &server.link, "--nick", "bob", "--socket"])
        .arg(bee.join("agent.sock"))
        .output()
        .unwrap();
    let refuses = format!("-- server {} refuses this host (", server.address);
    bob.expect(&refuses);
    bob.expect("another host is enrolled as ada");
    bob.expect("◌    &lobby> ");
    server.kill();
    bob.expect(&format!("-- server {} cannot be reached (", server.address));
    for mut terminal in [alice, bob] {
        terminal.keys("\x04");
        terminal.end();
    }
}

#[test]
fn days_and_what_is_new_are_set_off() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent(dir.path());
    let mut bob = Terminal::open(dir.path(), "bob");
    bob.expect("&lobby> ");
    chat(
        dir.path(),
        "alice",
        &["send", "&lobby"],
        "the day before\nread\n",
    );
    bob.expect("alice  read\r\n");
    bob.keys("\x04");
    bob.end();
    chat(dir.path(), "alice", &["send", "&lobby"], "unread\nmore\n");
    agent.kill();
    let store = rusqlite::Connection::open(dir.path().join("state/agent.db")).unwrap();
    let first = "(SELECT min(seq) FROM messages)";
    let day = 86_400_000_000_i64;
    let changed = store
        .execute(
            &format!("UPDATE messages SET committed_at = committed_at - {day} WHERE seq = {first}"),
            [],
        )
        .unwrap();
    assert_eq!(changed, 1);
    let times = "SELECT min(committed_at), max(committed_at) FROM messages";
    let times: (i64, i64) = store
        .query_row(times, [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    drop(store);
    let rule = |words: String| format!("── {words} ───");
    let date = |micros: i64| {
        let time = Timestamp::from_microsecond(micros).unwrap();
        rule(
            TimeZone::system()
                .to_datetime(time)
                .strftime("%A %-d %B %Y")
                .to_string(),
        )
    };
    let mut bob = Terminal::open(dir.path(), "bob");
    let seen = bob.expect("alice  more\r\n");
    let mut rest = seen.as_str();
    for part in [
        &date(times.0),
        "alice  the day before\r\n",
        &date(times.1),
        "alice  read\r\n",
        &rule("new in &lobby".to_owned()),
        "alice  unread\r\n",
    ] {
        let at = rest.find(part);
        rest = &rest[at.unwrap_or_else(|| panic!("{part} in {seen}")) + part.len()..];
    }
    assert_eq!(seen.matches("── ").count(), 3, "{seen}");
    bob.keys("\x04");
    bob.end();
}

#[test]
fn the_next_terminal_knows_what_waits_and_what_was_joined_without_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path());
    let ada = dir.path().join("ada");
    let _agent = Agent(&ada);
    let mut alice = host(&ada, "ada", "alice", &server);
    server.kill();
    alice.expect("◌    #ops> ");
    alice.keys("/join #dev\r");
    alice.expect("◌    #dev> ");
    alice.keys("one\rtwo\r");
    alice.expect("◌2   #dev> ");
    alice.keys("\x04");
    alice.end();

    let env = [("CHAT_HOST", "ada")];
    let mut alice = Terminal::open_in(&ada, "alice", (80, 24), &env);
    alice.expect("◌2   &lobby> ");
    alice.keys("/switch #dev\r");
    alice.expect("◌2   #dev> ");
    alice.keys("/delete\r");
    alice.expect(".. take back: two  (pending: ");
    server.come_back();
    alice.expect("alice  one  (delivered)\r\n");
    alice.expect("(took back: two)  (delivered)\r\n");
    alice.expect("●    #dev> ");
    alice.keys("\x04");
    alice.end();
}

#[test]
fn who_is_over_a_limit_is_told_so_once_and_their_host_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), &["--user-rate", "5"]);
    let ada = dir.path().join("ada");
    let _agent = Agent(&ada);
    let mut alice = host(&ada, "ada", "alice", &server);
    let lines: String = (1..=30).map(|number| format!("no-{number}.\n")).collect();
    chat(&ada, "alice", &["send", "#ops"], &lines);
    let before =
        alice.expect("-- held up: alice@ada sends more than 5 messages a second; next try");
    let committed = ["send", "#ops", "--wait", "committed"];
    chat(&ada, "bob", &committed, "meanwhile\n");
    let during = alice.expect("bob  meanwhile");
    assert!(!during.contains("no-30."), "{during:?}");
    let rest = alice.expect("no-30.");
    for seen in [before.split_once("held up").unwrap().0, &during, &rest] {
        assert!(!seen.contains("held up"), "once is enough: {seen:?}");
    }
}
