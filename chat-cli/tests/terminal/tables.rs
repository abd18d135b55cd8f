//! Tables and lists of messages fit the terminal, also a narrow one, whatever they are made of.

use crate::harness::{Agent, Terminal, chat};
use std::path::Path;
use unicode_width::UnicodeWidthStr;

const ROOM: &str = "&日本語の部屋-with-a-rather-long-name";
const TOPIC: &str = "世界 🚀 e\u{301}: 今日は何をしますか、皆さん, and so on, and so on";
const OTHER: &str = "李雷-with-a-long-nick";

/// Some people and rooms with long and wide names.
fn furnish(dir: &Path) {
    chat(dir, "alice", &["join", ROOM], "");
    chat(dir, "alice", &["topic", ROOM, TOPIC], "");
    chat(dir, "alice", &["topic", "&lobby", "x"], "");
    let said = "一二三四五六七八九十一二三四五六七八九十 findme one two three four five six";
    chat(dir, OTHER, &["send", ROOM, said], "");
    chat(dir, "alice", &["send", "#ops", "waits findme"], "");
}

/// What a verb prints at a terminal, without spaces and line ends; no line is too wide.
fn shown(dir: &Path, columns: u16, args: &[&str]) -> String {
    let terminal = Terminal::verb(dir, "alice", (columns, 24), args, &[]);
    let text = terminal.rest();
    for line in text.lines() {
        let width = line.trim_end_matches('\r').width();
        assert!(
            width <= columns.into(),
            "{args:?}: {width} columns: {line:?}"
        );
    }
    text.split_whitespace().collect()
}

#[test]
fn no_verb_prints_a_line_that_is_wider_than_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    // It starts the agent.
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    furnish(dir.path());
    for columns in [40, 80] {
        let rooms = shown(dir.path(), columns, &["rooms"]);
        assert!(rooms.contains("今日は何をしますか"), "{rooms}");
        let who = shown(dir.path(), columns, &["who", ROOM]);
        assert!(who.contains("online") && who.contains("李雷"), "{who}");
        let status = shown(dir.path(), columns, &["status"]);
        assert!(status.contains("1messagewaiting"), "{status}");
        let found = shown(dir.path(), columns, &["search", "findme"]);
        assert!(found.contains("fourfivesix"), "{found}");
        let pending = shown(dir.path(), columns, &["pending"]);
        assert!(pending.contains("waitsfindme(pending)"), "{pending}");
        let alone = shown(dir.path(), columns, &["send", "&alone", "hi"]);
        assert!(alone.contains("nobodyelseisin&alone"), "{alone}");
        for verb in [
            &["history", ROOM][..],
            &["tail", ROOM],
            &["doctor"],
            &["config"],
        ] {
            assert!(!shown(dir.path(), columns, verb).is_empty(), "{verb:?}");
        }
    }
    alice.keys("/quit\r");
    alice.end();
}

#[test]
fn tables_at_the_prompt_fit_a_narrow_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let mut alice = Terminal::open_in(dir.path(), "alice", (40, 24), &[]);
    alice.expect("&lobby> ");
    furnish(dir.path());
    for (command, last) in [
        ("/rooms", "1 unread"),
        (&format!("/who {ROOM}"), "offline"),
        ("/status", "waiting"),
    ] {
        alice.keys(&format!("{command}\r"));
        let text = alice.expect(last);
        let rows = text.lines().filter(|line| line.starts_with("   "));
        for row in rows {
            assert!(row.trim_end().width() <= 40, "{row:?}");
        }
    }
    alice.keys("/quit\r");
    alice.end();
}
