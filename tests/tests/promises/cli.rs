//! What scripts rely on: exit codes, JSON, cursors, keys and pipes.

use crate::conversation::two_hosts;
use std::{
    io::{BufRead, BufReader, Read, Write},
    process::Stdio,
};
use tests::{
    Host, Sandbox, eventually,
    terminal::{message_lines, sent_lines},
};

#[test]
fn sent_and_message_lines_have_the_promised_shape() {
    let sandbox = Sandbox::new();
    let (_server, ada, bee) = two_hosts(&sandbox);
    let alice = ada.terminal("alice");
    let output = alice
        .run([
            "send",
            "#ops",
            "grüße, 世界",
            "--json",
            "--wait",
            "committed",
        ])
        .ok();
    let sent: serde_json::Value = serde_json::from_str(output.trim_end()).expect("one JSON object");
    let keys: Vec<_> = sent
        .as_object()
        .expect("an object")
        .keys()
        .cloned()
        .collect();
    assert_eq!(keys, ["type", "id", "room", "state", "seq"]);
    assert_eq!(sent["type"], "sent");
    assert_eq!(sent["room"], "#ops");
    assert_eq!(sent["state"], "committed");

    let output = bee
        .terminal("bob")
        .run(["tail", "#ops", "--json", "--since", "0"])
        .ok();
    let message: serde_json::Value =
        serde_json::from_str(output.trim_end()).expect("one JSON object");
    let keys: Vec<_> = message
        .as_object()
        .expect("an object")
        .keys()
        .cloned()
        .collect();
    let promised = [
        "type",
        "room",
        "seq",
        "id",
        "from",
        "body",
        "sent_at",
        "committed_at",
        "cursor",
        "live",
    ];
    assert_eq!(keys, promised);
    assert_eq!(message["type"], "message");
    assert_eq!(message["id"], sent["id"]);
    assert_eq!(message["seq"], sent["seq"]);
    assert_eq!(message["from"], "alice@ada");
    assert_eq!(message["body"], "grüße, 世界");
    for time in ["sent_at", "committed_at"] {
        let text = message[time].as_str().expect("a text");
        assert!(
            text.starts_with("20") && text.contains('T') && text.ends_with('Z'),
            "{text}"
        );
    }
}

#[test]
fn a_cursor_resumes_exactly_after_its_message() {
    let sandbox = Sandbox::new();
    let host = Host::start_alone(&sandbox, "ada");
    let alice = host.terminal("alice");
    let rooms = ["&one", "&two"];
    for number in 0..20 {
        alice.send(rooms[number % 2], &format!("message {number}"));
    }
    let bob = host.terminal("bob");
    let all = message_lines(
        &bob.run(["tail", "&one", "&two", "--since", "0", "--json"])
            .ok(),
    );
    assert_eq!(all.len(), 20);
    for (index, message) in all.iter().enumerate() {
        let words = ["tail", "&one", "&two", "--since", &message.cursor, "--json"];
        let rest = message_lines(&bob.run(words).ok());
        let ids = |lines: &[tests::MessageLine]| {
            let mut ids: Vec<_> = lines.iter().map(|line| line.id.clone()).collect();
            ids.sort();
            ids
        };
        assert_eq!(ids(&rest), ids(&all[index + 1..]), "after {index}");
    }
    let alone = bob.read_all("&one");
    for (index, message) in alone.iter().enumerate() {
        let words = ["tail", "&one", "--since", &message.cursor, "--json"];
        assert_eq!(message_lines(&bob.run(words).ok()), alone[index + 1..]);
    }
}

#[test]
fn exit_codes_are_as_documented() {
    let sandbox = Sandbox::new();
    let host = Host::start_alone(&sandbox, "ada");
    let alice = host.terminal("alice");
    alice.run(["send", "&den", "ok"]).expect_code(0);
    let usages: [&[&str]; 6] = [
        &["send"],
        &["send", "not a room", "x"],
        &["tail", "&den", "--since", "yesterday"],
        &["tail", "&den", "--count", "0"],
        &["frobnicate"],
        &["send", "&den", "x", "--wait", "forever"],
    ];
    for words in usages {
        let finished = alice.run(words).expect_code(2);
        assert!(
            !finished.stderr.is_empty() && finished.stdout.is_empty(),
            "{finished:?}"
        );
    }
    let long = "x".repeat(70_000);
    let refused = alice.run(["send", "&den", &long]).expect_code(1);
    assert!(refused.stderr.contains("65536"), "which limit? {refused:?}");
    alice
        .run(["tail", "&den", "--count", "2", "--timeout", "1"])
        .expect_code(124);
    alice.run(["--version"]).expect_code(0);
    alice.run(["--help"]).expect_code(0);
}

#[test]
fn tail_counts_waits_and_times_out() {
    let sandbox = Sandbox::new();
    let host = Host::start_alone(&sandbox, "ada");
    let alice = host.terminal("alice");
    for number in 0..5 {
        alice.send("&den", &format!("message {number}"));
    }
    let three = alice
        .run(["tail", "&den", "--since", "0", "--count", "3", "--json"])
        .ok();
    assert_eq!(message_lines(&three).len(), 3);
    let bob = host.terminal("bob");
    let mut waiting = bob.start(["tail", "&den", "--since", "0", "--count", "6", "--json"]);
    eventually("it has printed what is there", || {
        match waiting.stdout().lines().count() {
            5 => Ok(()),
            some => Err(some),
        }
    });
    alice.send("&den", "message 5");
    let six = message_lines(&waiting.wait().ok());
    assert_eq!(six.last().map(|line| line.body.as_str()), Some("message 5"));
    let words = ["tail", "&den", "--follow", "--timeout", "1", "--since", "0"];
    let timed_out = bob.run(words).expect_code(124);
    assert!(timed_out.stdout.contains("message 5"), "{timed_out:?}");
}

#[test]
fn lines_of_a_pipe_become_messages_in_order() {
    let sandbox = Sandbox::new();
    let host = Host::start_alone(&sandbox, "ada");
    let alice = host.terminal("alice");
    for dash in [&["-"][..], &[]] {
        let words = ["send", "&den", "--json"].iter().chain(dash);
        let mut process = alice.start_piped(words);
        let mut stdin = process.take_stdin().expect("a pipe");
        stdin
            .write_all(b"one\ntwo\n\nthree without an end")
            .expect("it reads");
        drop(stdin);
        let sent = sent_lines(&process.wait().ok());
        assert_eq!(sent.len(), 3, "empty lines are no messages: {sent:?}");
    }
    let bodies: Vec<_> = alice
        .read_all("&den")
        .into_iter()
        .map(|line| line.body)
        .collect();
    let expected = ["one", "two", "three without an end"];
    assert_eq!(bodies, [expected, expected].concat());
}

#[test]
fn keyed_lines_of_a_pipe_are_posted_once_however_often_it_is_repeated() {
    let sandbox = Sandbox::new();
    let host = Host::start_alone(&sandbox, "ada");
    let alice = host.terminal("alice");
    let mut ids = Vec::new();
    for _ in 0..3 {
        let mut process = alice.start_piped(["send", "&den", "--json", "--id", "batch-1"]);
        let mut stdin = process.take_stdin().expect("a pipe");
        stdin.write_all(b"one\ntwo\nthree\n").expect("it reads");
        drop(stdin);
        let sent = sent_lines(&process.wait().ok());
        ids.push(sent.into_iter().map(|line| line.id).collect::<Vec<_>>());
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[0], ids[2]);
    assert_eq!(alice.read_all("&den").len(), 3);
}

#[test]
fn a_reader_that_goes_away_ends_the_command_quietly() {
    let sandbox = Sandbox::new();
    let host = Host::start_alone(&sandbox, "ada");
    let alice = host.terminal("alice");
    alice.send("&den", "first");
    let mut command = alice.command(["tail", "&den", "--follow", "--since", "0"]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("one line");
    assert!(line.contains("first"), "{line}");
    drop(stdout);
    alice.send("&den", "second, which finds nobody");
    let status = eventually("it ends", || {
        alice.send("&den", "more");
        child.try_wait().expect("wait").ok_or("it runs")
    });
    let mut said = String::new();
    child
        .stderr
        .take()
        .expect("a pipe")
        .read_to_string(&mut said)
        .expect("text");
    assert_eq!(said, "", "quietly");
    // As a shell expects of a filter: success, or ended by SIGPIPE.
    use std::os::unix::process::ExitStatusExt;
    let quiet = status.success() || status.signal() == Some(13);
    assert!(quiet, "{status}");
}

#[test]
fn listings_tell_rooms_members_and_state() {
    let sandbox = Sandbox::new();
    let (_server, ada, bee) = two_hosts(&sandbox);
    let alice = ada.terminal("alice");
    alice.send_committed("#ops", "hello");
    alice.send("&den", "hello");
    bee.terminal("bob").run(["join", "#ops"]).ok();
    bee.terminal("bob")
        .run(["topic", "#ops", "what we run"])
        .ok();
    let rooms = alice.run(["rooms"]).ok();
    assert!(rooms.contains("#ops") && rooms.contains("&den"), "{rooms}");
    let seen = eventually("the topic is known", || {
        let rooms = alice.run(["rooms", "--json"]).ok();
        match rooms.contains("what we run") {
            true => Ok(rooms),
            false => Err(rooms),
        }
    });
    assert!(
        seen.lines()
            .all(|line| line.starts_with("{\"type\":\"room\"")),
        "{seen}"
    );
    let who = eventually("both are members", || {
        let who = alice.run(["who", "#ops", "--json"]).ok();
        match who.contains("alice@ada") && who.contains("bob@bee") {
            true => Ok(who),
            false => Err(who),
        }
    });
    assert_eq!(who.lines().count(), 2, "{who}");
    let status = alice.run(["status", "--json"]).ok();
    let status: serde_json::Value = serde_json::from_str(status.trim_end()).expect("JSON");
    assert_eq!(status["user"], "alice@ada");
    assert_eq!(status["link"]["state"], "online");
}

#[test]
fn a_pipe_into_chat_itself_sends_and_prints() {
    let sandbox = Sandbox::new();
    let host = Host::start_alone(&sandbox, "ada");
    let alice = host.terminal("alice");
    let mut bob = host.terminal("bob").tail(&["&lobby"], "0");
    let mut process = alice.start_piped([] as [&str; 0]);
    let mut stdin = process.take_stdin().expect("a pipe");
    stdin.write_all(b"from a pipe\n").expect("it reads");
    bob.wait_for("from a pipe");
    host.terminal("carol").send("&lobby", "to the pipe");
    eventually("what arrives is printed", || {
        let shown = process.stdout();
        match shown.contains("to the pipe") {
            true => Ok(()),
            false => Err(shown),
        }
    });
    drop(stdin);
    let finished = process.wait().expect_code(0);
    assert!(
        !finished.stdout.contains('\u{1b}'),
        "no terminal, no escape sequences"
    );
}

#[test]
fn a_commit_that_came_while_the_sender_was_stopped_counts() {
    let sandbox = Sandbox::new();
    let (mut server, ada, _bee) = two_hosts(&sandbox);
    let alice = ada.terminal("alice");
    alice.send_committed("#ops", "first");
    server.process().stop();
    let words = [
        "send",
        "#ops",
        "second",
        "--wait",
        "committed",
        "--timeout",
        "3",
        "--json",
    ];
    let mut sender = alice.start(words);
    eventually("the message is accepted", || {
        match ada.status().outbox_messages {
            1 => Ok(()),
            other => Err(other),
        }
    });
    sender.stop();
    server.process().cont();
    ada.wait_outbox_empty();
    // The sender's time goes by, as a command counts it.
    let quiet = ["tail", "&quiet", "--count", "1", "--timeout", "4"];
    alice.run(quiet).expect_code(124);
    sender.cont();
    let sent = sent_lines(&sender.wait().expect_code(0).stdout);
    assert_eq!(sent[0].state, "committed");
}

#[test]
fn the_demo_ends_with_success() {
    let sandbox = Sandbox::new();
    let _turn = tests::heavy();
    let mut command = sandbox.place().chat();
    command.arg("demo");
    let finished = tests::process::run("demo", &mut command, &sandbox.dir("logs"));
    let shown = finished.ok();
    assert!(
        shown.contains("pending") && shown.contains("verdict: PASS"),
        "{shown}"
    );
}
