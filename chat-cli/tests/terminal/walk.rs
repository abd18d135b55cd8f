//! The walk in docs/walk.md is what two people really see.
//!
//! `CHAT_BLESS=1` writes it anew.

use crate::{harness::Agent, tmux::Tmux};
use std::{env, fs};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/walk.md");

/// A clock and a calendar that stand still.
fn still(line: &str) -> String {
    let bytes = line.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let clock = digit(0) && digit(1) && bytes.get(2) == Some(&b':') && digit(3) && digit(4);
    if clock {
        format!("14:02{}", &line[5..])
    } else if line.starts_with("── ") && line.contains(" 20") {
        "── Tuesday 24 November 2026 ────────────────────────────────".to_owned()
    } else {
        line.to_owned()
    }
}

/// What is in a window, once it is as the document has it.
fn frame(title: &str, terminal: &Tmux) -> String {
    let document = fs::read_to_string(FILE).unwrap_or_default();
    let settled = |lines: &[String]| document.contains(&written(title, lines));
    if env::var_os("CHAT_BLESS").is_some() {
        return written(title, &terminal.lines());
    }
    written(
        title,
        &terminal.await_lines("what docs/walk.md has", settled),
    )
}

fn written(title: &str, lines: &[String]) -> String {
    let shown: Vec<String> = lines.iter().map(|line| still(line)).collect();
    format!("{title}\n\n```text\n{}\n```\n\n", shown.join("\n").trim())
}

#[test]
fn the_walk_in_the_documents_is_what_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    fs::create_dir(dir.path().join("chat")).unwrap();
    // Comings and goings come when they come.
    fs::write(dir.path().join("chat/terminal.toml"), "comings = false\n").unwrap();
    let alice = Tmux::open(dir.path(), "alice", 76, 24);
    alice.await_end("&lobby>");
    alice.await_end("nobody has said anything here yet");
    let bob = Tmux::open(dir.path(), "bob", 76, 24);
    bob.await_end("nobody has said anything here yet");
    let say = |who: &Tmux, keys: &str| {
        who.keys(keys);
        who.key("Enter");
    };
    let mut walk = String::from(
        "# A walk with two terminals\n\n\
         What alice and bob see on one host, in windows of 76 columns. A test types what stands behind the\n\
         prompts and compares; the clock stands still here.\n\n",
    );
    say(
        &alice,
        "good morning! the plan is at https://example.org/plan",
    );
    bob.await_end("https://example.org/plan");
    say(&bob, "/reply reading it");
    alice.await_end("reading it");
    say(&alice, "/react :+1:");
    bob.await_lines("the reaction", |lines| lines.concat().contains("👍"));
    walk += &frame(
        "Alice speaks, bob answers her, she likes that. Alice's window:",
        &alice,
    );
    bob.keys("half typed");
    say(
        &alice,
        "bob, 世界 are two wide characters, and what is too long for a line goes on under its beginning",
    );
    bob.await_end("beginning");
    bob.await_end("> half typed");
    walk += &frame("A message comes while bob is typing. Bob's window:", &bob);
    bob.key("C-u");
    say(&bob, "/jion &den");
    bob.await_lines("the suggestion", |lines| {
        lines.concat().contains("did you mean /join?")
    });
    say(&bob, "/join &den");
    bob.await_end("&den>");
    bob.await_lines("the room", |lines| {
        lines.concat().matches("nobody has said").count() == 2
    });
    say(&alice, "/msg bob psst");
    bob.await_end("psst");
    say(&alice, "teh end");
    bob.await_end("teh end");
    say(&alice, "/edit the end");
    bob.await_end("(edited, was: teh end)");
    walk += &frame(
        "Bob goes to another room; what is said elsewhere says where. Bob's window:",
        &bob,
    );
    if env::var_os("CHAT_BLESS").is_some() {
        fs::write(FILE, &walk).unwrap();
    }
    assert_eq!(
        walk,
        fs::read_to_string(FILE).unwrap_or_default(),
        "CHAT_BLESS=1 writes it"
    );
}
