//! The conversation at a real terminal: a pseudo-terminal that is read byte by byte, or tmux, which
//! knows what a person would see.

mod absence;
mod attacks;
mod calls;
mod commands;
mod completion;
mod editor;
mod harness;
mod history;
mod keys;
mod paste;
mod resize;
mod ssh;
mod storm;
mod suspend;
mod tables;
mod tmux;
mod walk;

use harness::{Agent, Terminal, chat, said};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    thread,
};

#[test]
fn a_half_typed_line_survives_arrivals() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    let mut bob = Terminal::open(dir.path(), "bob");
    bob.expect("&lobby> ");
    bob.keys("half ty");
    bob.expect("half ty");
    alice.keys("an arrival\r");
    bob.expect("an arrival");
    // It is painted again below the arrival, and can be gone on with.
    bob.expect("&lobby> half ty");
    bob.keys("ped\r");
    alice.expect("half typed");
    alice.keys("/quit\r");
    alice.end();
    bob.keys("\x04");
    bob.end();
}

#[test]
fn the_prompt_shows_the_state_while_a_line_is_typed() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent(dir.path());
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("○    &lobby> ");
    alice.keys("half ty");
    alice.expect("half ty");
    agent.kill();
    alice.expect("◌    &lobby> half ty");
    alice.expect("○    &lobby> half ty");
    alice.keys("ped\r");
    alice.expect("alice  half typed");
    alice.keys("/quit\r");
    alice.end();
}

#[test]
fn the_marker_has_a_colour_only_if_that_is_wanted_and_is_ascii_where_that_is_all() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let env = [("NO_COLOR", ""), ("LC_ALL", "C")];
    let mut alice = Terminal::open_in(dir.path(), "alice", (80, 24), &env);
    alice.expect("\x1b[2m-   \x1b[0m &lobby> ");
    alice.keys("\x04");
    alice.end();
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    alice.keys("\x04");
    assert!(!alice.rest().contains("\x1b[2m"));
}

#[test]
fn keys_typed_ahead_of_a_command_are_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    alice.keys("one\r/join &other\rtwo\r//three\r");
    alice.expect("&other> ");
    alice.expect("alice  two");
    alice.expect("alice  /three");
    alice.keys("/quit\r");
    alice.end();
}

#[test]
fn what_was_typed_before_the_end_is_done_first() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    alice.signal(Signal::STOP);
    alice.await_stop();
    alice.keys("one\r/topic changed\rtwo\r/join &other\rthree\rhalf ty");
    alice.signal(Signal::TERM);
    alice.signal(Signal::CONT);
    alice.end();
    assert_eq!(said(dir.path()), ["one", "two"]);
    let args = ["tail", "&other", "--since", "0", "--json"];
    assert_eq!(chat(dir.path(), "bob", &args, "").lines().count(), 1);
    let topic = chat(dir.path(), "bob", &["topic", "&lobby"], "");
    assert_eq!(topic, "changed\n");
}

#[test]
fn a_terminal_outlives_its_agent() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent(dir.path());
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    alice.keys("before\r");
    alice.expect("alice  before");
    agent.kill();
    alice.expect("the agent is gone");
    alice.keys("meanwhile\r");
    alice.expect("the agent is back");
    alice.expect("alice  meanwhile");
    alice.keys("\x03");
    alice.expect("Ctrl-C once more");
    alice.keys("\x03");
    alice.end();
}

#[test]
fn lines_pasted_at_once_stay_separate_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    let lines: Vec<String> = (1..=400).map(|number| format!("line {number}")).collect();
    let keys = lines.join("\r") + "\r";
    // Its other end may wait for what it prints to be read.
    let mut control = alice.control.try_clone().unwrap();
    let typing = thread::spawn(move || control.write_all(keys.as_bytes()).unwrap());
    alice.expect("alice  line 400");
    typing.join().unwrap();
    let args = ["tail", "&lobby", "--since", "0", "--json"];
    let said: Vec<String> = chat(dir.path(), "bob", &args, "")
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|message| message["body"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(said, lines);
    alice.keys("/quit\r");
    alice.end();
}

/// Ends a terminal that is stuck amid direct messages; all are shown by it or by the next one.
fn direct_messages_outlive_a_terminal(signal: Signal) {
    const MESSAGES: usize = 4_000;
    let mark = |number: usize| format!("direct-{number:04};");
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let mut bob = Terminal::open(dir.path(), "bob");
    bob.expect("&lobby> ");
    let mut input = String::new();
    for number in 1..=MESSAGES {
        input.push_str(&mark(number));
        input.push_str(&"x".repeat(200));
        input.push('\n');
    }
    chat(dir.path(), "alice", &["send", "bob"], &input);
    bob.expect(&mark(200));
    bob.signal(signal);
    let status = bob.child.0.wait().unwrap();
    if signal == Signal::TERM {
        assert_eq!(status.code(), Some(0));
        assert!(bob.is_as_found(), "the terminal was left otherwise");
    }
    let shown = bob.rest();
    let first = (1..=MESSAGES)
        .rev()
        .find(|number| shown.contains(&mark(*number)))
        .map_or(201, |number| number + 1);
    assert!(first < MESSAGES, "the terminal was not stuck");
    let mut bob = Terminal::open(dir.path(), "bob");
    for number in first..=MESSAGES {
        bob.expect(&mark(number));
    }
    bob.keys("\x04");
    bob.end();
    // The end waited until all was on the terminal, and only then marked it read.
    let rooms = chat(dir.path(), "bob", &["rooms", "--json"], "");
    let unread: Vec<_> = rooms
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|room| room["unread"] != 0)
        .collect();
    assert!(unread.is_empty(), "{unread:?}");
}

#[test]
fn direct_messages_that_a_killed_terminal_had_not_shown_are_shown_by_the_next() {
    direct_messages_outlive_a_terminal(Signal::KILL);
}

#[test]
fn a_stopped_terminal_can_be_told_to_end_and_loses_no_direct_message() {
    direct_messages_outlive_a_terminal(Signal::TERM);
}

#[test]
fn the_only_room_is_not_left() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    alice.keys("/leave\r");
    alice.expect("this is the only open room");
    alice.keys("still heard\r");
    alice.expect("alice  still heard");
    alice.keys("/join &other\r");
    alice.expect("&other> ");
    alice.keys("/leave\r");
    alice.expect("you left &other");
    alice.keys("/quit\r");
    alice.end();
}

#[test]
fn the_tour_leaves_nothing_behind_when_its_terminal_is_closed() {
    let dir = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
    let mut tour = Command::new(env!("CARGO_BIN_EXE_chat"))
        .arg("demo")
        .env("TMPDIR", dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tour.stdout.take().unwrap()).lines();
    let reached = lines.any(|line| line.unwrap().starts_with("3."));
    assert!(reached, "the tour ended before its third step");
    kill_process(Pid::from_child(&tour), Signal::HUP).unwrap();
    drop(lines);
    assert_eq!(tour.wait().unwrap().code(), Some(1));
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_tour_fits_under_a_long_temporary_directory() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("x".repeat(100));
    std::fs::create_dir(&long).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_chat"))
        .arg("demo")
        .env("TMPDIR", &long)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
