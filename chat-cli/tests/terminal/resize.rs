//! A terminal that changes its width takes away no message, and leaves nothing behind.

use crate::{
    harness::{Agent, chat},
    tmux::Tmux,
};
use std::path::Path;

/// Widths that widen and narrow, a little and much, also such that rows are exactly full.
const WIDTHS: [u16; 12] = [140, 50, 30, 44, 108, 60, 27, 41, 90, 36, 54, 200];

/// How often `part` is in what is seen, also where the line being typed goes on in the next row.
fn count(lines: &[String], part: &str) -> usize {
    lines.concat().matches(part).count()
}

/// Resizes while `words` are half typed, with arrivals in between; the cursor is before the last
/// `back` of them, each of four characters.
fn resize(words: &[String], back: usize) {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let bob = Tmux::open(dir.path(), "bob", 50, 12);
    bob.await_end("○    &lobby>");
    let (left, right) = words.split_at(words.len() - back);
    let (mut before, after) = (left.concat(), right.concat());
    bob.keys(&words.concat());
    bob.await_lines("what was typed", |lines| count(lines, &words.concat()) == 1);
    for _ in 0..4 * back {
        bob.key("Left");
    }
    let mut said = Vec::new();
    for (round, width) in WIDTHS.into_iter().enumerate() {
        // Words that each stay whole where the message is broken into lines.
        let parts: Vec<_> = (0..=round)
            .map(|at| format!("m{round:02}p{at:02}."))
            .collect();
        let text = parts.join(" ");
        chat(
            dir.path(),
            "alice",
            &["send", "&lobby"],
            &format!("{text}\n"),
        );
        bob.await_end(&parts[round]);
        said.extend(parts);
        // Read is what is known to be on the terminal: nothing is being painted any more.
        while unread(dir.path(), "bob") > 0 {}
        bob.resize(width);
        // Once the key is there, the program has come to terms with the new width.
        let key = char::from(b'A' + u8::try_from(round).unwrap());
        bob.keys(&key.to_string());
        before.push(key);
        let prompt = format!("&lobby> {before}{after}");
        let lines = bob.await_lines(&prompt, |lines| lines.concat().ends_with(&prompt));
        let seen = lines.join("\n");
        for text in &said {
            assert_eq!(count(&lines, text), 1, "{text} at {width}:\n{seen}");
        }
        for word in words {
            assert_eq!(count(&lines, word), 1, "{word} at {width}:\n{seen}");
        }
        assert_eq!(count(&lines, "&lobby> "), 1, "at {width}:\n{seen}");
    }
    bob.key("Enter");
    bob.await_end(&format!("bob  {before}{after}"));
}

/// How many messages somebody has not read.
fn unread(dir: &Path, nick: &str) -> i64 {
    chat(dir, nick, &["rooms", "--json"], "")
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|room| room["unread"].as_i64().unwrap())
        .sum()
}

fn words(number: usize, letter: &str) -> Vec<String> {
    (10..10 + number)
        .map(|at| format!("{at}{letter}"))
        .collect()
}

#[test]
fn a_new_width_takes_no_message_away_and_leaves_nothing_behind() {
    resize(&words(25, "xy"), 0);
}

#[test]
fn a_new_width_keeps_the_cursor_in_the_middle_of_the_line() {
    resize(&words(25, "xy"), 14);
}

#[test]
fn a_new_width_is_no_trouble_for_wide_characters() {
    resize(&words(20, "日本"), 0);
    resize(&words(20, "語e\u{301}"), 8);
}

#[test]
fn a_new_width_is_no_trouble_for_a_full_row() {
    // With the prompt and a letter each, rows are exactly full in between.
    resize(&words(21, "xy"), 0);
}
