//! Being stopped and going on, and ending, leave a terminal that can be used.

use crate::{
    harness::{Agent, LIMIT, Terminal, chat},
    tmux::Tmux,
};
use rustix::{
    process::Signal,
    termios::{OptionalActions, tcgetattr, tcsetattr},
};
use std::{thread, time::Instant};

#[test]
fn a_stopped_conversation_gives_the_terminal_back_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    for round in 0..3 {
        alice.keys("half ty\x02\x02");
        alice.expect("half ty");
        alice.keys("\x1a");
        alice.await_stop();
        assert!(alice.is_as_found(), "stopped in raw mode");
        alice.expect("\x1b[?2004l");
        // Somebody else writes, and messages arrive.
        chat(
            dir.path(),
            "bob",
            &["send", "&lobby"],
            &format!("meanwhile {round}\n"),
        );
        alice.signal(Signal::CONT);
        alice.expect("\x1b[?2004h");
        alice.expect("&lobby> half ty");
        alice.expect(&format!("meanwhile {round}"));
        assert!(!alice.is_as_found(), "it does not edit");
        alice.keys("\x05ped\r");
        alice.expect("alice  half typed\r\n");
    }
    alice.keys("\x04");
    alice.end();
}

#[test]
fn a_conversation_that_was_stopped_from_outside_takes_the_terminal_again() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    let found = {
        let bob = Terminal::open(dir.path(), "bob");
        tcgetattr(&bob.line).unwrap()
    };
    for signal in [Signal::STOP, Signal::TSTP] {
        alice.keys("half ty");
        alice.expect("half ty");
        let editing = format!("{:?}", tcgetattr(&alice.line).unwrap());
        alice.signal(signal);
        alice.await_stop();
        // As a shell does.
        tcsetattr(&alice.line, OptionalActions::Now, &found).unwrap();
        alice.signal(Signal::CONT);
        alice.expect("\x1b[?2004h");
        alice.expect("&lobby> half ty");
        assert_eq!(format!("{:?}", tcgetattr(&alice.line).unwrap()), editing);
        alice.keys("ped\r");
        alice.expect("alice  half typed\r\n");
    }
    alice.keys("\x04");
    alice.end();
}

#[test]
fn every_end_gives_the_terminal_back() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    for signal in [Signal::TERM, Signal::HUP] {
        let mut alice = Terminal::open(dir.path(), "alice");
        alice.expect("&lobby> ");
        alice.keys("half typed\x02\x02");
        alice.expect("half typed");
        alice.signal(signal);
        alice.expect("\x1b[?2004l");
        alice.end();
    }
}

#[test]
fn a_shell_and_a_conversation_share_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let shell = Tmux::open_shell(dir.path(), "shell", 60, 20);
    shell.keys("PS1='shell: '");
    shell.key("Enter");
    shell.await_end("shell:");
    let at = dir.path().display();
    let chat_here = env!("CARGO_BIN_EXE_chat");
    // In a group with another process.
    shell.keys(&format!(
        "sh -c '{chat_here} --nick bob --socket {at}/agent.sock --state-dir {at}/state; :'"
    ));
    shell.key("Enter");
    shell.await_end("○    &lobby>");
    chat(dir.path(), "alice", &["send", "&lobby"], "before.\n");
    shell.await_end("before.");
    let text: Vec<String> = (10..50).map(|at| format!("{at}xy")).collect();
    let text = text.concat();
    shell.keys(&text);
    shell.await_lines("what was typed", |lines| lines.concat().contains(&text));
    for _ in 0..100 {
        shell.key("Left");
    }
    shell.key("C-z");
    shell.await_end("shell:");
    chat(dir.path(), "alice", &["send", "&lobby"], "meanwhile.\n");
    shell.keys("stty | grep -c icanon; echo in-between");
    shell.key("Enter");
    shell.await_lines("the shell", |lines| {
        lines.iter().any(|line| line == "in-between")
    });
    shell.keys("fg");
    shell.key("Enter");
    shell.await_end("meanwhile.");
    shell.keys("!");
    let (left, right) = text.split_at(text.len() - 100);
    let prompt = format!("○    &lobby> {left}!{right}");
    let lines = shell.await_lines(&prompt, |lines| lines.concat().ends_with(&prompt));
    let seen = lines.join("\n");
    for once in ["before.", "meanwhile.", "\nin-between", "\nshell: fg"] {
        assert_eq!(seen.matches(once).count(), 1, "{once}:\n{seen}");
    }
    // What was typed when it was stopped stays above, as with every program.
    assert_eq!(lines.concat().matches(right).count(), 2, "{seen}");
    shell.key("C-u");
    shell.key("C-k");
    shell.key("C-d");
    // What is typed before that may still be the conversation's.
    shell.await_end("shell:");
    shell.keys("echo back");
    shell.key("Enter");
    let deadline = Instant::now() + LIMIT;
    while !shell.lines().iter().any(|line| line == "back") {
        assert!(Instant::now() < deadline, "{}", shell.lines().join("\n"));
        thread::yield_now();
    }
}
