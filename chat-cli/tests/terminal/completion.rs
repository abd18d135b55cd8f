//! The Tab key and the search in what was typed before, while messages arrive.

use crate::harness::{Agent, Terminal, chat};

/// Has `nick` say `count` numbered messages; how they begin.
fn say(dir: &std::path::Path, nick: &str, from: usize, count: usize) -> Vec<String> {
    let said: Vec<String> = (from..from + count)
        .map(|at| format!("no-{at:04}."))
        .collect();
    let rest = format!(" {}\n", "x".repeat(150));
    chat(dir, nick, &["send", "&lobby"], &(said.join(&rest) + &rest));
    said
}

#[test]
fn tab_completes_commands_rooms_people_and_emoji() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    say(dir.path(), "bertram", 0, 1);
    alice.expect("bertram  no-0000.");
    for (keys, line) in [
        ("bert\t", "bertram: "),
        ("hi bert\t", "hi bertram "),
        ("/sta\t", "/status "),
        ("/switch &l\t", "/switch &lobby "),
        ("in &l\t", "in &lobby "),
        (":rocke\t", "🚀"),
        ("so :tada:\t", "so 🎉"),
    ] {
        alice.keys(keys);
        alice.expect(&format!("&lobby> {line}"));
        alice.keys("\x15");
    }
    alice.keys("as it is :tada:\r");
    alice.expect("alice  as it is :tada:\r\n");
    alice.keys("\x04");
    alice.end();
}

#[test]
fn choices_are_listed_among_what_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    alice.keys("/h\t");
    alice.expect("-- /help  /history\r\n");
    alice.expect("&lobby> /h");
    // No key comes after the list, and yet nothing waits for one.
    for text in say(dir.path(), "bob", 0, 300) {
        alice.expect(&text);
    }
    alice.expect("&lobby> /h");
    alice.keys("is\t");
    alice.expect("&lobby> /history ");
    alice.keys("\x15\x04");
    alice.end();
}

#[test]
fn what_arrives_during_a_search_comes_after_it_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    alice.keys("needle in the hay\r");
    alice.expect("alice  needle in the hay\r\n");
    alice.keys("half ty\x12need");
    alice.expect("(reverse-i-search)`need': needle in the hay");
    // More than all queues between them hold.
    let said = say(dir.path(), "bob", 0, 3_000);
    alice.keys("le");
    alice.expect("(reverse-i-search)`needle': needle in the hay");
    alice.keys("\x07");
    let mut seen = String::new();
    for text in &said {
        seen.push_str(&alice.expect(text));
    }
    assert!(
        !seen.contains("reverse"),
        "some came before the search ended"
    );
    for text in &said {
        assert_eq!(seen.matches(text.as_str()).count(), 1, "{text}");
    }
    alice.expect("&lobby> half ty");
    alice.keys("ped\r");
    alice.expect("alice  half typed\r\n");
    alice.keys("\x04");
    alice.end();
}
