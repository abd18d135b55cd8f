//! Many messages arrive while somebody types, or changes the terminal's width.

use crate::{
    harness::{Agent, Kept, Terminal, chat, said},
    tmux::Tmux,
};
use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Instant,
};

fn mark(number: usize) -> String {
    format!("no-{number:04}.")
}

/// Has somebody say so many messages; what they say.
fn input(count: usize) -> String {
    (0..count).map(|number| mark(number) + "\n").collect()
}

/// Types while messages arrive, a key after every few of them.
pub(crate) fn type_during_arrivals(dir: &Path, mut alice: Terminal, how: &str) {
    const MESSAGES: usize = 2_000;
    const PER_KEY: usize = 10;
    let text: String = ('a'..='z').cycle().take(MESSAGES / PER_KEY).collect();
    let path = dir.to_owned();
    let began = Instant::now();
    let bob = thread::spawn(move || chat(&path, "bob", &["send", "&lobby"], &input(MESSAGES)));
    let mut seen = String::new();
    for (number, key) in text.chars().enumerate() {
        seen += &alice.expect(&mark(number * PER_KEY));
        alice.keys(&key.to_string());
    }
    seen += &alice.expect(&mark(MESSAGES - 1));
    let took = began.elapsed();
    bob.join().unwrap();
    // It is whole, and below all of them.
    alice.keys("!\r");
    seen += &alice.expect("alice  ");
    let mut from = 0;
    for number in 0..MESSAGES {
        let mark = mark(number);
        let at = seen[from..]
            .find(&mark)
            .unwrap_or_else(|| panic!("{mark} is not in order"));
        from += at + mark.len();
        assert_eq!(seen.matches(&mark).count(), 1, "{mark}");
    }
    assert!(said(dir).contains(&format!("{text}!")));
    let pace = f64::from(u32::try_from(MESSAGES).unwrap()) / took.as_secs_f64();
    eprintln!(
        "{MESSAGES} messages and {} keys, {how}, in {took:?}, {pace:.0} messages a second",
        text.len(),
    );
    alice.keys("\x04");
    alice.end();
}

fn type_at(columns: u16) {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let mut alice = Terminal::open_in(dir.path(), "alice", (columns, 24), &[]);
    alice.expect("&lobby> ");
    type_during_arrivals(dir.path(), alice, &format!("{columns} columns"));
}

/// Somebody who says a line when told to.
struct Speaker(Kept);

impl Speaker {
    fn open(dir: &Path, nick: &str) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_chat"))
            .args(["--nick", nick, "--socket"])
            .arg(dir.join("agent.sock"))
            .args(["send", "&lobby"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Self(Kept(child))
    }

    fn say(&mut self, text: &str) {
        let stdin = self.0.0.stdin.as_mut().unwrap();
        writeln!(stdin, "{text}").unwrap();
    }
}

#[test]
fn a_line_that_is_typed_during_thousands_of_arrivals_stays_whole() {
    type_at(80);
}

#[test]
fn a_line_that_is_typed_during_arrivals_in_a_narrow_terminal_stays_whole() {
    type_at(40);
}

#[test]
fn a_line_that_is_typed_between_single_arrivals_stays_whole() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let mut alice = Terminal::open_in(dir.path(), "alice", (40, 24), &[]);
    alice.expect("&lobby> ");
    let mut bob = Speaker::open(dir.path(), "bob");
    let text: String = ('a'..='z').cycle().take(500).collect();
    for (number, key) in text.chars().enumerate() {
        bob.say(&mark(number));
        alice.keys(&key.to_string());
        alice.expect(&mark(number));
    }
    alice.keys("\r");
    alice.expect("alice  ");
    assert!(said(dir.path()).contains(&text));
    alice.keys("\x04");
    alice.end();
}

#[test]
fn a_terminal_that_changes_its_width_during_arrivals_shows_each_once_and_leaves_nothing() {
    const MESSAGES: usize = 1_000;
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let bob = Tmux::open(dir.path(), "bob", 80, 24);
    bob.await_end("○    &lobby>");
    let text: String = ('a'..='z').cycle().take(150).collect();
    bob.keys(&text);
    bob.await_lines("what was typed", |lines| lines.concat().contains(&text));
    let mut alice = Speaker::open(dir.path(), "alice");
    let mut widths = [100, 70, 140, 50, 120, 80].into_iter().cycle();
    for number in 0..MESSAGES {
        alice.say(&mark(number));
        if number % 15 == 0 {
            bob.resize(widths.next().unwrap());
        }
    }
    let last = mark(MESSAGES - 1);
    bob.await_lines(&last, |lines| lines.concat().contains(&last));
    bob.resize(120);
    bob.keys("!");
    let lines = bob.await_lines("the line", |lines| {
        lines.concat().ends_with(&format!("{text}!"))
    });
    let seen = lines.join("\n");
    let mut from = 0;
    for number in 0..MESSAGES {
        let mark = mark(number);
        assert_eq!(seen.matches(&mark).count(), 1, "{mark}");
        let at = seen[from..].find(&mark);
        from += at.unwrap_or_else(|| panic!("{mark} is not in order"));
    }
    assert_eq!(seen.matches("&lobby> ").count(), 1, "left behind:\n{seen}");
}
