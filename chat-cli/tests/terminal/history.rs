//! What was typed before is there in the next terminal.

use crate::harness::{Agent, Terminal};
use rustix::process::Signal;
use std::{fs, os::unix::fs::PermissionsExt};

#[test]
fn a_killed_terminal_loses_nothing_that_was_typed() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    alice.keys("a haystack\r");
    alice.expect("alice  a haystack");
    alice.keys(" a secret\r");
    alice.expect(" a secret\r\n");
    alice.keys("/topic\r");
    alice.expect("topic");
    let mut other = Terminal::open(dir.path(), "alice");
    other.expect("&lobby> ");
    other.keys("two\x1b\rlines\r");
    other.expect("lines\r\n");
    alice.signal(Signal::KILL);
    other.signal(Signal::KILL);
    alice.child.0.wait().unwrap();
    other.child.0.wait().unwrap();

    let path = dir.path().join("state/history-alice");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(text, "a haystack\n/topic\ntwo\\nlines\n");

    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    alice.keys("\x1b[A");
    alice.expect("&lobby> two\r\nlines");
    alice.keys("\x1b[A\x1b[A");
    alice.expect("&lobby> /topic");
    alice.keys("\x12hays");
    alice.expect("`hays': a haystack");
    alice.keys("\r");
    alice.expect("alice  a haystack");
    alice.keys("\x04");
    alice.end();
}

#[test]
fn a_file_that_cannot_be_used_is_said_and_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    // The agent makes the directory.
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    alice.keys("\x04");
    alice.end();
    fs::create_dir(dir.path().join("state/history-bob")).unwrap();
    fs::write(dir.path().join("state/history-carol"), b"fine\n\xff\n").unwrap();
    let mut bob = Terminal::open(dir.path(), "bob");
    bob.expect("remembered by this terminal only");
    bob.keys("still here\r");
    bob.expect("bob  still here");
    bob.keys("\x1b[A");
    bob.expect("&lobby> still here");
    bob.keys("\x15\x04");
    bob.end();
    let mut carol = Terminal::open(dir.path(), "carol");
    carol.expect("1 damaged lines");
    carol.keys("\x1b[A");
    carol.expect("&lobby> fine");
    carol.keys("\x15\x04");
    carol.end();
}
