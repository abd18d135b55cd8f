//! The command line through the real binary: exit codes, streams, and the shapes that scripts
//! rely on.

mod around;
mod documented;
mod federating;
mod generated;
mod lost_agents;
mod scripts;
mod starting;
mod stopped;

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
};

const CHAT: &str = env!("CARGO_BIN_EXE_chat");

fn chat() -> Command {
    let mut command = Command::new(CHAT);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"CHAT_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// A host without a server: an agent in a directory of its own.
struct Host {
    dir: tempfile::TempDir,
    agent: Child,
    _stdout: BufReader<ChildStdout>,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (agent, stdout) = start_agent(dir.path(), &[]);
        Self {
            dir,
            agent,
            _stdout: stdout,
        }
    }

    /// Starts the agent again after it was killed.
    fn restart(&mut self) {
        (self.agent, self._stdout) = start_agent(self.dir.path(), &[]);
    }

    /// Ends the agent, and starts it with its logs in a new life.
    fn renew(&mut self) {
        self.agent.kill().unwrap();
        self.agent.wait().unwrap();
        (self.agent, self._stdout) = start_agent(self.dir.path(), &["--new-epoch"]);
    }

    fn chat(&self, args: &[&str]) -> Command {
        let mut command = chat();
        command
            .args(args)
            .env("CHAT_SOCKET", self.socket())
            .env("CHAT_STATE_DIR", self.dir.path().join("state"))
            .env("CHAT_NICK", "alice");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.chat(args).output().unwrap()
    }

    fn run_with_input(&self, args: &[&str], input: &[u8]) -> Output {
        let mut child = self
            .chat(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // It may end early, on purpose.
        let _ = stdin.write_all(input);
        drop(stdin);
        child.wait_with_output().unwrap()
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }
}

/// Starts an agent with its files in `dir`, and returns when it answers.
fn start_agent(dir: &Path, flags: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut command = chat();
    command
        .arg("agent")
        .arg("--socket")
        .arg(dir.join("agent.sock"))
        .arg("--state-dir")
        .arg(dir.join("state"))
        .args(["--host", "ada"])
        .args(flags)
        .env("XDG_CONFIG_HOME", dir);
    let (agent, stdout, _) = start(&mut command, "ready on ");
    (agent, stdout)
}

/// Starts a daemon, and returns when it has said `ready`, with what it said behind that.
fn start(command: &mut Command, ready: &str) -> (Child, BufReader<ChildStdout>, String) {
    let mut daemon = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(daemon.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with(ready) {
        line.clear();
        assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "it ended");
    }
    let rest = line[ready.len()..].trim().to_owned();
    (daemon, stdout, rest)
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

fn json(output: &Output) -> Vec<serde_json::Value> {
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn no_agent_is_69_and_names_the_path_and_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    for verb in [
        &["send", "&lobby", "x"][..],
        &["tail", "&lobby"],
        &["history", "&lobby"],
        &["rooms"],
        &["who"],
        &["status"],
        &["join", "#ops"],
        &["leave"],
        &["topic", "&lobby"],
        &["wait", "&lobby"],
        &["request", "&lobby", "x"],
        &[
            "reply",
            "&lobby",
            "01a20d02-54a0-7000-8000-000000000000",
            "x",
        ],
    ] {
        let output = chat()
            .args(verb)
            .arg("--socket")
            .arg(&path)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(69), "{verb:?}");
        assert!(output.stdout.is_empty(), "{verb:?}");
        let said = stderr(&output);
        assert!(said.contains(path.to_str().unwrap()), "{said}");
        assert!(said.contains("chat agent"), "{said}");
    }
}

#[test]
fn nonsense_is_2_and_help_is_0() {
    for (args, code) in [
        (&["frobnicate"][..], 2),
        (&["send"], 2),
        (&["send", "no room", "x"], 2),
        (&["who", "--nick", "a b"], 2),
        (&["--nick", "x", "server"], 2),
        (&["--help"], 0),
        (&["tail", "--help"], 0),
        (&["--version"], 0),
    ] {
        let output = chat().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert_eq!(output.stdout.is_empty(), code == 2, "{args:?}");
    }
}

#[test]
fn what_is_sent_is_read_with_cursors_that_resume() {
    let host = Host::new();
    let sent = host.run(&["send", "&lobby", "one", "--json"]);
    assert_eq!(sent.status.code(), Some(0), "{}", stderr(&sent));
    let sent = json(&sent);
    assert_eq!(sent[0]["type"], "sent");
    assert_eq!(sent[0]["state"], "committed");
    let quiet = host.run_with_input(&["send", "&lobby"], b"two\n\nthree\n");
    assert_eq!(quiet.status.code(), Some(0), "{}", stderr(&quiet));
    assert!(quiet.stdout.is_empty());

    let all = json(&host.run(&["tail", "&lobby", "--since", "0", "--json"]));
    let bodies: Vec<_> = all.iter().map(|m| m["body"].as_str().unwrap()).collect();
    assert_eq!(bodies, ["one", "two", "three"]);
    assert_eq!(all[0]["id"], sent[0]["id"]);
    assert_eq!(all[0]["from"], "alice@ada");
    let cursor = all[0]["cursor"].as_str().unwrap();
    let rest = json(&host.run(&["tail", "&lobby", "--since", cursor, "--json"]));
    assert_eq!(rest, all[1..]);
    let mut page = json(&host.run(&["history", "&lobby", "--limit", "2", "--json"]));
    for message in &mut page {
        message["live"] = false.into();
    }
    assert_eq!(page, all[1..]);
}

#[test]
fn a_retried_key_posts_once() {
    let host = Host::new();
    let send = || json(&host.run(&["send", "&lobby", "x", "--id", "deploy-7", "--json"]));
    assert_eq!(send(), send());
    let lines = || host.run_with_input(&["send", "&lobby", "--id", "k", "--json"], b"a\nb\n");
    assert_eq!(json(&lines()), json(&lines()));
    let all = json(&host.run(&["tail", "&lobby", "--since", "0", "--json"]));
    assert_eq!(all.len(), 3);
    let conflict = host.run(&["send", "&lobby", "other words", "--id", "deploy-7"]);
    assert_eq!(conflict.status.code(), Some(1), "{}", stderr(&conflict));
}

#[test]
fn waiting_ends_with_the_code_for_what_was_waited_for() {
    let host = Host::new();
    let tail = host.run(&["tail", "&lobby", "--count", "1", "--timeout", "0"]);
    assert_eq!(tail.status.code(), Some(124), "{}", stderr(&tail));
    let args = ["send", "#ops", "x", "--wait", "committed", "--timeout", "0"];
    let send = host.run(&[&args[..], &["--json"]].concat());
    assert!(
        matches!(send.status.code(), Some(75 | 124)),
        "{}",
        stderr(&send)
    );
    let args = ["send", "#ops", "x", "--wait", "committed", "--timeout", "1"];
    let send = host.run(&[&args[..], &["--json"]].concat());
    assert_eq!(send.status.code(), Some(75), "{}", stderr(&send));
    assert_eq!(json(&send)[0]["state"], "queued");
    assert!(json(&send)[0]["seq"].is_null());
}

#[test]
fn one_stray_byte_does_not_end_a_pipe() {
    let host = Host::new();
    let long = vec![b'x'; 64 * 1024 + 1];
    let input = [b"one\nb\xffd\nthree\n", &long[..], b"\nfive\n"].concat();
    for args in [&["send", "&sent"][..], &["--room", "&piped"]] {
        let output = host.run_with_input(args, &input);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        for words in ["line 2", "line 4", "2 lines were not sent"] {
            assert!(said.contains(words), "{said}");
        }
        let all = json(&host.run(&["tail", args[1], "--since", "0", "--json"]));
        let bodies: Vec<_> = all.iter().map(|m| m["body"].as_str().unwrap()).collect();
        assert_eq!(bodies, ["one", "three", "five"], "{args:?}");
    }
}

#[test]
fn a_count_begins_with_the_newest() {
    let host = Host::new();
    let input: String = (1..=12).map(|n| format!("{n}\n")).collect();
    host.run_with_input(&["send", "&lobby"], input.as_bytes());
    for (count, first) in [("2", "11"), ("12", "1")] {
        let args = ["tail", "&lobby", "--count", count, "--json"];
        let newest = json(&host.run(&args));
        assert_eq!(newest[0]["body"], first);
        assert_eq!(newest.last().unwrap()["body"], "12");
    }
}

#[test]
fn a_conversation_has_no_topic_and_is_not_left() {
    let host = Host::new();
    for args in [
        &["topic", "carol", "x"][..],
        &["topic", "carol"],
        &["leave", "carol"],
    ] {
        let output = host.run(args);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("a conversation with carol"), "{said}");
    }
}

#[test]
fn leaving_what_was_never_joined_says_so() {
    let host = Host::new();
    host.run(&["join", "&den"]);
    for (args, code, words) in [
        (&["leave", "#never"][..], 1, "no member of #never"),
        (&["leave", "&den"], 0, ""),
        (&["leave", "&den"], 1, "no member of &den"),
        (&["leave"], 0, "on its own already"),
    ] {
        let output = host.run(args);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(words), "{said}");
        assert_eq!(said.is_empty(), words.is_empty(), "{said}");
    }
    host.run(&["send", "#ops", "hi"]);
    let said = stderr(&host.run(&["leave"]));
    assert!(said.contains("1 message"), "{said}");
}

#[test]
fn a_cursor_for_a_server_that_was_never_met_says_so() {
    let host = Host::new();
    let output = host.run(&["tail", "#builds", "--since", "792512b72eb7e0ba.42"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("has not met the server"), "{said}");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let host = Host::new();
    let input: String = (0..2_000).map(|n| format!("line {n}\n")).collect();
    host.run_with_input(&["send", "&lobby"], input.as_bytes());
    let mut tail = host
        .chat(&["tail", "&lobby", "--since", "0", "--follow"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(tail.stdout.take());
    let output = tail.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_quiet_tail_ends_when_nobody_reads_it_any_more() {
    let host = Host::new();
    let mut tail = host
        .chat(&["tail", "&quiet", "--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(tail.stdout.take());
    assert_eq!(tail.wait().unwrap().code(), Some(0));
}

#[test]
fn a_sender_whose_reader_went_away_sends_everything() {
    let host = Host::new();
    let input: String = (0..2_000).map(|n| format!("{n}\n")).collect();
    for args in [&["send", "&lobby", "--json"][..], &[]] {
        let mut sender = host
            .chat(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        drop(sender.stdout.take());
        let mut stdin = sender.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        assert_eq!(sender.wait().unwrap().code(), Some(0), "{args:?}");
    }
    let all = json(&host.run(&["history", "&lobby", "--limit", "9999", "--json"]));
    let bodies: Vec<_> = all.iter().map(|m| m["body"].as_str().unwrap()).collect();
    let expected: Vec<_> = input.lines().chain(input.lines()).collect();
    assert!(bodies == expected, "{} messages", bodies.len());
}

#[test]
fn input_that_does_not_wait_is_waited_for() {
    let host = Host::new();
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&reader, true).unwrap();
    let mut command = host.chat(&["send", "&lobby", "--json"]);
    let mut send = command
        .stdin(reader)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(send.stdout.take().unwrap());
    for text in ["one\n", "two\n"] {
        writer.write_all(text.as_bytes()).unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert!(line.contains("sent"), "{line}");
    }
    drop(writer);
    assert_eq!(send.wait().unwrap().code(), Some(0));
}

#[test]
fn all_input_is_accepted_before_75_is_reported() {
    let host = Host::new();
    let input: String = (1..=600).map(|n| format!("{n}\n")).collect();
    let args = [
        "send",
        "#ops",
        "--wait",
        "committed",
        "--timeout",
        "1",
        "--json",
    ];
    let sent = host.run_with_input(&args, input.as_bytes());
    assert_eq!(sent.status.code(), Some(75), "{}", stderr(&sent));
    assert!(stderr(&sent).contains("600 messages"), "{}", stderr(&sent));
    assert_eq!(json(&sent).len(), 600);
    assert!(json(&sent).iter().all(|sent| sent["state"] == "queued"));
    let status = json(&host.run(&["status", "--json"]));
    assert_eq!(status[0]["outbox"]["messages"], 600);
    // None of it is in the room yet, and what is there may not be all.
    let history = host.run(&["history", "#ops"]);
    assert!(
        stderr(&history).contains("no server"),
        "{}",
        stderr(&history)
    );
}

#[test]
fn a_bad_line_counts_for_more_than_a_late_one() {
    let host = Host::new();
    let input = [b"good\n", &[b'x'; 70_000][..], b"\nnext\n"].concat();
    let args = ["send", "#ops", "--wait", "committed", "--timeout", "1"];
    let output = host.run_with_input(&args, &input);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("line 2") && said.contains("2 messages;"),
        "{said}"
    );
}

#[test]
fn an_agent_that_does_not_answer_is_124() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    for verb in [&["send", "&lobby", "x"][..], &["tail", "&lobby"]] {
        let mut command = chat();
        command.args(verb).args(["--timeout", "1", "--socket"]);
        let output = command.arg(&path).output().unwrap();
        assert_eq!(output.status.code(), Some(124), "{}", stderr(&output));
        assert!(stderr(&output).contains("did not answer within 1 s"));
    }
}

#[test]
fn a_tail_that_nobody_reads_ends_at_its_timeout() {
    let host = Host::new();
    let line = [&[b'x'; 60_000][..], b"\n"].concat();
    host.run_with_input(&["send", "&lobby"], &line.repeat(20));
    let args = ["tail", "&lobby", "--since", "0", "--timeout", "1"];
    let mut tail = host.chat(&args).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(tail.wait().unwrap().code(), Some(124));
}

#[test]
fn lines_of_two_writers_to_one_pipe_are_whole() {
    let host = Host::new();
    let input: String = (0..3_000).map(|n| format!("{n}\n")).collect();
    host.run_with_input(&["send", "&lobby"], input.as_bytes());
    let (reader, writer) = std::io::pipe().unwrap();
    let tail = || {
        host.chat(&["tail", "&lobby", "--since", "0", "--json"])
            .stdout(writer.try_clone().unwrap())
            .spawn()
            .unwrap()
    };
    let mut tails = [tail(), tail()];
    drop(writer);
    let mut lines = 0;
    for line in BufReader::new(reader).lines() {
        serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap();
        lines += 1;
    }
    assert_eq!(lines, 6_000);
    for tail in &mut tails {
        assert_eq!(tail.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn history_of_many_pages_is_in_order_and_ends_at_its_limit() {
    let host = Host::new();
    let input: String = (0..2_500).map(|n| format!("{n}\n")).collect();
    host.run_with_input(&["send", "&lobby"], input.as_bytes());
    let page = json(&host.run(&["history", "&lobby", "--limit", "2300", "--json"]));
    let bodies: Vec<_> = page.iter().map(|m| m["body"].as_str().unwrap()).collect();
    let expected: Vec<_> = input.lines().skip(200).collect();
    assert!(bodies == expected, "{} messages", bodies.len());
}

#[test]
fn what_cannot_work_is_2_before_anything_is_tried() {
    let long = format!("/tmp/{}", "y".repeat(120));
    for args in [
        &["status", "--socket", &long][..],
        &["--socket", &long],
        &[
            "tail",
            "#a",
            "#b",
            "--since",
            "792512b72eb7e0ba.42",
            "--socket",
            "/nowhere",
        ],
    ] {
        let output = chat().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    }
}

#[test]
fn an_agent_that_cannot_be_started_is_69() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let mut command = chat();
    command.arg("--socket").arg(dir.path().join("agent.sock"));
    let output = command.arg("--state-dir").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
}

#[test]
fn a_conversation_in_a_pipe_prints_its_own_lines_and_ends() {
    let host = Host::new();
    let output = host.run_with_input(&[], b"hello\nworld\n");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].ends_with("hello") && lines[1].ends_with("world"));
    assert!(!text.contains('\x1b'), "{text}");
}

#[test]
fn remote_text_cannot_command_the_terminal() {
    let host = Host::new();
    host.run(&["send", "&lobby", "\x1b]0;owned\x07\u{9b}2J\u{202e}"]);
    for args in [
        &["tail", "&lobby"][..],
        &["tail", "&lobby", "--json"],
        &["history", "&lobby"],
    ] {
        let output = host.run(args);
        let text = String::from_utf8(output.stdout).unwrap();
        let obeyed = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(text.contains("owned"), "{text:?}");
        assert!(!text.contains(obeyed), "{text:?}");
    }
}

#[test]
fn what_waits_for_a_server_is_listed_and_found() {
    let host = Host::new();
    let sent = host.run(&["send", "#ops", "deploy \u{1b}[2J now"]);
    assert_eq!(sent.status.code(), Some(0));
    assert!(stderr(&sent).contains("no server"), "{}", stderr(&sent));
    assert!(stderr(&sent).contains("chat join"), "{}", stderr(&sent));
    host.run(&["send", "bob@bee", "deploy later"]);
    host.run(&["send", "&den", "deploy here"]);
    host.run(&["send", "#ops", "by another", "--nick", "bob"]);

    let listed = json(&host.run(&["pending", "--json"]));
    let bodies = |objects: &[serde_json::Value]| {
        let body = |one: &serde_json::Value| one["body"].as_str().unwrap().to_owned();
        objects.iter().map(body).collect::<Vec<_>>()
    };
    assert_eq!(bodies(&listed), ["deploy \u{1b}[2J now", "deploy later"]);
    assert!(listed.iter().all(|one| one["type"] == "pending"));
    let text = String::from_utf8(host.run(&["pending"]).stdout).unwrap();
    assert!(text.contains("deploy \\x1b[2J now  (pending)"), "{text}");

    let found = json(&host.run(&["search", "deploy", "--json"]));
    assert_eq!(
        bodies(&found),
        ["deploy here", "deploy \u{1b}[2J now", "deploy later"]
    );
    let found = json(&host.run(&["search", "later", "room:bob@bee", "--json"]));
    assert_eq!(bodies(&found), ["deploy later"]);
    let found = json(&host.run(&["search", "deploy", "--limit", "1", "--json"]));
    assert_eq!(bodies(&found), ["deploy later"]);
    let others = host.run(&["search", "deploy", "--nick", "bob"]);
    assert_eq!(others.status.code(), Some(1), "it is not theirs");
    let nothing = host.run(&["pending", "--nick", "carol"]);
    assert_eq!(nothing.status.code(), Some(0));
    assert!(nothing.stdout.is_empty() && nothing.stderr.is_empty());
}

#[test]
fn a_nick_that_nobody_ever_had_is_said_to_be_unknown() {
    let host = Host::new();
    let sent = host.run(&["send", "bbo", "hi"]);
    assert_eq!(sent.status.code(), Some(0));
    assert!(
        stderr(&sent).contains("nobody called bbo"),
        "{}",
        stderr(&sent)
    );
    host.run(&["send", "&den", "hi", "--nick", "bob"]);
    let sent = host.run(&["send", "bob", "hi"]);
    assert!(sent.stderr.is_empty(), "{}", stderr(&sent));
}

#[test]
fn what_one_said_oneself_is_not_unread() {
    let host = Host::new();
    host.run(&["send", "&den", "hi"]);
    host.run(&["send", "&den", "hi", "--nick", "bob"]);
    let rooms = json(&host.run(&["rooms", "--json"]));
    assert_eq!(rooms[0]["unread"], 1, "{rooms:?}");
}

#[test]
fn a_topic_is_an_object_for_scripts() {
    let host = Host::new();
    host.run(&["join", "&den"]);
    let none = json(&host.run(&["topic", "&den", "--json"]));
    assert_eq!(none[0]["topic"], "");
    host.run(&["topic", "&den", "what runs"]);
    let topic = json(&host.run(&["topic", "&den", "--json"]));
    assert_eq!(
        (&topic[0]["type"], &topic[0]["room"], &topic[0]["topic"]),
        (&"topic".into(), &"&den".into(), &"what runs".into())
    );
}
