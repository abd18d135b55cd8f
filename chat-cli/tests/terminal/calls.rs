//! Messages that speak to the person call them, in the ways they want.

use crate::harness::{Agent, Terminal, chat};
use std::{fs, path::Path};

const OSC9: &str = "\x1b]9;bob: alice: ";
const OSC777: &str = "\x1b]777;notify;bob;alice: ";

/// Opens alice's terminal with a `terminal.toml` that says so.
fn open(dir: &Path, preferences: &str) -> Terminal {
    fs::create_dir_all(dir.join("chat")).unwrap();
    fs::write(dir.join("chat/terminal.toml"), preferences).unwrap();
    let mut alice = Terminal::open(dir, "alice");
    alice.expect("&lobby> ");
    alice
}

fn say(dir: &Path, to: &str, text: &str) {
    chat(dir, "bob", &["send", to], &format!("{text}\n"));
}

/// Has bob speak to alice; all that her terminal was sent with it, up to another line.
fn called(dir: &Path, alice: &mut Terminal, words: &str, until: &str) -> String {
    say(dir, "&lobby", &format!("alice: {words}"));
    let mut seen = alice.expect(&format!("alice: {words}"));
    seen += &alice.expect(until);
    seen
}

#[test]
fn each_way_of_calling_is_switched_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let dir = dir.path();
    let mut alice = open(dir, "");
    alice.expect("nobody has said anything here yet");
    // Nothing calls that is for everybody, or said by herself.
    say(dir, "&lobby", "malice and alices");
    alice.keys("alice speaks\r");
    let mut seen = alice.expect("alice  alice speaks\r\n");
    alice.keys("/set notify osc9\r");
    seen += &alice.expect("-- bell on, notify osc9, comings on, theme auto\r\n");
    assert!(!seen.contains('\x07'), "{seen:?}");
    called(dir, &mut alice, "one", &format!("{OSC9}one\x1b\\\x07"));
    alice.keys("/set notify on\r");
    alice.expect("-- notify can be off, osc9 or osc777, whichever your terminal knows\r\n");
    alice.keys("/set bell\r");
    alice.expect("-- bell is on; it can be on or off\r\n");
    alice.keys("/set bell false\r");
    alice.expect("-- bell off, notify osc9, comings on, theme auto\r\n");
    called(dir, &mut alice, "two", &format!("{OSC9}two\x1b\\"));
    alice.keys("/set notify osc777\r");
    let seen = alice.expect("-- bell off, notify osc777, comings on, theme auto\r\n");
    assert!(!seen.contains('\x07'), "{seen:?}");
    called(dir, &mut alice, "a;b", &format!("{OSC777}a,b\x1b\\"));
    alice.keys("/set notify off\r");
    alice.expect("-- bell off, notify off, comings on, theme auto\r\n");
    say(dir, "&lobby", "alice: three");
    let mut seen = alice.expect("alice: three\r\n");
    alice.keys("/set bell on\r");
    seen += &alice.expect("-- bell on, notify off, comings on, theme auto\r\n");
    assert!(
        !seen.contains("\x1b]") && !seen.contains('\x07'),
        "{seen:?}"
    );
    let seen = called(dir, &mut alice, "four", "\x07");
    assert!(!seen.contains("\x1b]"), "{seen:?}");
    // A message for her alone needs no name, also the first.
    say(dir, "alice", "psst");
    alice.expect("private bob  psst");
    alice.expect("\x07");
    alice.keys("\x04");
    alice.end();
}

#[test]
fn a_file_says_how_to_call() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let dir = dir.path();
    for (preferences, call, not) in [
        ("bell = false\nnotify = \"osc9\"\n", OSC9, "\x07"),
        ("bell = false\nnotify = \"osc777\"\n", OSC777, "\x07"),
        ("bell = true\nnotify = \"off\"\n", "\x07", "\x1b]"),
    ] {
        let mut alice = open(dir, preferences);
        let seen = called(dir, &mut alice, "you", call);
        assert!(!seen.contains(not), "{preferences}: {seen:?}");
        alice.keys("\x04");
        // What was said before she came is no reason to call her.
        let rest = alice.rest();
        assert!(!rest.contains(not), "{preferences}: {rest:?}");
    }
    let mut alice = open(dir, "bel = true\n");
    alice.expect("terminal.toml, line 1 is not understood: unknown field");
    alice.expect("`bel`");
    alice.keys("\x04");
    alice.end();
}

#[test]
fn a_burst_of_mentions_calls_now_and_then_and_leaves_no_blank_rows() {
    const MESSAGES: usize = 300;
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let mut alice = open(dir.path(), "notify = \"osc9\"\n");
    alice.expect("nobody has said anything here yet");
    let lines: String = (1..=MESSAGES).map(|at| format!("alice: {at}.\n")).collect();
    chat(dir.path(), "bob", &["send", "&lobby"], &lines);
    let mut seen = alice.expect(&format!("alice: {MESSAGES}.\r\n"));
    // The last of them are called together.
    seen += &alice.expect(" more)\x1b\\\x07\x1b[A\r\n");
    assert!(seen.contains(&format!("{OSC9}1.\x1b\\\x07")), "{seen:?}");
    let bells = seen.matches('\x07').count();
    assert!((2..MESSAGES / 4).contains(&bells), "{bells} bells");
    alice.keys("\x04");
    alice.end();
}
