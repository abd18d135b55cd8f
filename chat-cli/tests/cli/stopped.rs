//! A command that was stopped for a while goes on as if it had not been.

use super::{Host, chat, json, lost_agents::Ended, lost_agents::pid_of_agent, stderr};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
};

const LINES: usize = 2_000;

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Lets so many seconds go by, as a command counts them.
fn pass(host: &Host, seconds: u32) {
    let seconds = seconds.to_string();
    let tail = host.run(&["tail", "&quiet", "--count", "1", "--timeout", &seconds]);
    assert_eq!(tail.status.code(), Some(124), "{}", stderr(&tail));
}

#[test]
fn answers_that_came_while_a_sender_was_stopped_count() {
    let host = Host::new();
    let args = ["send", "&lobby", "--json", "--timeout", "3"];
    let mut command = host.chat(&args);
    let mut sender = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = sender.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        for number in 0..LINES {
            writeln!(stdin, "{number}").unwrap();
        }
    });
    let mut stdout = BufReader::new(sender.stdout.take().unwrap());
    let mut printed = String::new();
    stdout.read_line(&mut printed).unwrap();
    // What is under way now is answered once the sender does not look any more.
    signal(&host.agent, Signal::STOP);
    signal(&sender, Signal::STOP);
    signal(&host.agent, Signal::CONT);
    pass(&host, 4);
    signal(&sender, Signal::CONT);
    std::io::Read::read_to_string(&mut stdout, &mut printed).unwrap();
    writer.join().unwrap();
    let output = sender.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(printed.lines().count(), LINES);
    let all = json(&host.run(&["tail", "&lobby", "--since", "0", "--json"]));
    let bodies: Vec<_> = all.iter().map(|m| m["body"].as_str().unwrap()).collect();
    let expected: Vec<_> = (0..LINES).map(|number| number.to_string()).collect();
    assert!(bodies == expected, "{} messages", bodies.len());
}

#[test]
fn a_reader_that_was_stopped_does_not_start_an_agent_that_was_ended() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| -> Command {
        let mut command = chat();
        command.args(args);
        for name in ["XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME"] {
            command.env(name, dir.path());
        }
        command
    };
    let socket = dir.path().join("chat/agent.sock");
    let _agent = Ended(&socket);
    let args = ["tail", "&lobby", "--follow", "--since", "0"];
    let mut tail = run(&args)
        .args(["--timeout", "30"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(tail.stdout.take().unwrap());
    let mut stderr = BufReader::new(tail.stderr.take().unwrap());
    let sent = run(&["send", "&lobby", "first"]).status().unwrap();
    assert_eq!(sent.code(), Some(0));
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert!(line.ends_with("first\n"), "{line}");
    signal(&tail, Signal::STOP);
    // More than its socket and the agent's queue for it hold: no word gets through after that.
    let text = "x".repeat(60_000);
    let mut sender = run(&["send", "&lobby"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = sender.stdin.take().unwrap();
    for _ in 0..100 {
        writeln!(stdin, "{text}").unwrap();
    }
    drop(stdin);
    assert_eq!(sender.wait().unwrap().code(), Some(0));
    let agent = pid_of_agent(&socket).unwrap();
    kill_process(agent, Signal::TERM).unwrap();
    while socket.exists() {
        std::thread::yield_now();
    }
    signal(&tail, Signal::CONT);
    let reader = std::thread::spawn(move || stdout.lines().map_while(Result::ok).count());
    let mut said = String::new();
    while !said.contains("started again for the next message") {
        let read = stderr.read_line(&mut said).unwrap();
        assert_ne!(read, 0, "it ended: {said}");
    }
    assert_eq!(pid_of_agent(&socket), None);
    signal(&tail, Signal::KILL);
    tail.wait().unwrap();
    reader.join().unwrap();
}
