//! What a person's commands do, as they and others see it.

use crate::harness::{Agent, Server, Terminal, chat, said};
use std::path::Path;

/// Two people in the lobby who both know that the other is there.
fn two(dir: &Path) -> (Terminal, Terminal) {
    let mut alice = Terminal::open(dir, "alice");
    alice.expect("-- nobody has said anything here yet");
    let mut bob = Terminal::open(dir, "bob");
    bob.expect("-- nobody has said anything here yet");
    alice.expect("bob joined &lobby");
    (alice, bob)
}

#[test]
fn what_is_done_to_a_message_is_seen_by_all() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let (mut alice, mut bob) = two(dir.path());
    alice.keys("one\rtwo\r");
    bob.expect("alice  two\r\n");
    for (who, keys, seen) in [
        ('b', "/me waves", "*  bob waves\r\n"),
        ('b', "/reply ^2 to the first", "↳ alice: one\r\n"),
        ('b', "", "to the first\r\n"),
        ('b', "/reply ^alice to the last", "↳ alice: two\r\n"),
        ('b', "/react :tada:", "bob  🎉 → alice: two\r\n"),
        (
            'b',
            "/react :tda:",
            "-- there is no emoji :tda:, did you mean :tada:?",
        ),
        ('b', "/unreact :tada:", "bob  (no more) 🎉 → alice: two\r\n"),
        (
            'b',
            "/unreact :tada:",
            "-- you have not reacted to that with 🎉",
        ),
        ('b', "/edit ^3 bows", "*  bob bows (edited, was: waves)\r\n"),
        ('a', "/edit ^2 One", "alice  One (edited, was: one)\r\n"),
        ('a', "/delete", "alice  (took back: two)\r\n"),
        ('a', "/delete", "-- you took that message back already; ^2"),
        ('a', "/edit no", "-- you took that message back already; ^2"),
        ('a', "/delete ^9", "-- there is no such message of yours"),
        ('b', "//me waves", "bob  /me waves\r\n"),
    ] {
        let (by, other) = match who {
            'a' => (&mut alice, &mut bob),
            _ => (&mut bob, &mut alice),
        };
        if !keys.is_empty() {
            by.keys(&format!("{keys}\r"));
        }
        by.expect(seen);
        if !seen.starts_with("-- ") {
            other.expect(seen);
        }
    }
    alice.keys("\x04");
    alice.end();
    bob.keys("\x04");
    bob.end();
}

#[test]
fn a_topic_and_who_is_there_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let (mut alice, mut bob) = two(dir.path());
    alice.keys("/topic\r");
    alice.expect("-- no topic is set\r\n");
    alice.keys("/topic the plan 世界\r");
    bob.expect("-- alice set the topic of &lobby: the plan 世界\r\n");
    bob.keys("/topic\r");
    bob.expect("-- the plan 世界\r\n");
    let mut carol = Terminal::open(dir.path(), "carol");
    carol.expect("-- topic of &lobby: the plan 世界\r\n");
    carol.keys("\x04");
    carol.end();

    bob.keys("/away\r");
    bob.expect("-- you show as away; /back ends that\r\n");
    alice.expect("bob is away");
    alice.keys("/who\r");
    alice.expect("-- in &lobby:\r\n");
    alice.expect("   alice  online\r\n");
    alice.expect("   bob    away\r\n");
    bob.keys("/back\r");
    bob.expect("-- you show as here\r\n");
    alice.expect("bob is here");
    alice.keys("/who &lobby\r");
    alice.expect("   bob    online\r\n");
    alice.keys("\x04");
    alice.end();
    bob.keys("\x04");
    bob.end();
}

#[test]
fn what_was_said_is_found_at_the_prompt_also_what_waits() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    chat(dir.path(), "alice", &["join", "&den"], "");
    chat(dir.path(), "bob", &["send", "&den"], "世界 over there\n");
    alice.keys("世界 here\r/msg bob@bee 世界 waits\r");
    alice.expect("(pending: ");
    alice.keys("/search 界\r");
    alice.expect("-- the newest 2 that were found:\r\n");
    alice.expect("&den bob  世界 over there\r\n");
    alice.expect("alice  世界 here\r\n");
    alice.expect("-- of yours, not in the room's log yet:\r\n");
    alice.expect("bob@bee alice  世界 waits  (pending)\r\n");
    for (words, answer) in [
        ("世界 from:bob", "-- the newest 1 that were found:\r\n"),
        ("nowhere", "-- nothing was found"),
        ("since:never", "is no time"),
    ] {
        alice.keys(&format!("/search {words}\r"));
        alice.expect(answer);
    }
    alice.keys("\x04");
    alice.end();
}

#[test]
fn what_waits_for_another_room_says_for_which() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    alice.keys("/msg bob@bee psst\r");
    alice.expect(".. @bob@bee: psst  (pending: ");
    alice.keys("/join #ops\r");
    alice.expect("#ops> ");
    alice.keys("here\r");
    alice.expect(".. here  (pending: ");
    alice.keys("\x04");
    alice.end();
}

#[test]
fn what_waits_is_changed_and_taken_back_before_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let mut server = Server::start(dir.path());
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    chat(dir.path(), "alice", &["join", &server.link], "");
    alice.expect("-- connected to server");
    alice.keys("/join #ops\rthere\r");
    alice.expect("alice  there\r\n");
    server.kill();
    alice.expect("what you say in #rooms is kept here meanwhile");
    alice.keys("teh word\r");
    alice.expect(".. teh word  (pending: ");
    alice.keys("/edit the word\r");
    alice.expect(".. the word (edit of: teh word)  (pending: ");
    alice.keys("oops\r");
    alice.expect(".. oops  (pending: ");
    alice.keys("/delete\r");
    alice.expect(".. take back: oops  (pending: ");
    alice.keys("/edit no\r");
    alice.expect("-- you took that message back already");
    server.come_back();
    alice.expect("the word (edited, was: teh word)  (delivered)\r\n");
    alice.expect("(took back: oops)  (delivered)\r\n");
    alice.keys("\x04");
    alice.end();
}

#[test]
fn a_person_goes_on_under_another_name() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let (mut alice, mut bob) = two(dir.path());
    // A line that follows at once is said under the new name.
    alice.keys("before\r/join &other\r/nick carol\rafter\r");
    bob.expect("alice  before\r\n");
    let mut seen = alice.expect("-- you are carol@");
    seen += &alice.expect("carol  after\r\n");
    alice.keys("/switch &lobby\r");
    seen += &alice.expect("&lobby> ");
    alice.keys("here too\r");
    bob.expect("carol  here too\r\n");
    // She is spoken to by that name, alone, too.
    bob.keys("/msg carol psst\r");
    seen += &alice.expect("private bob  psst\x07\r\n");
    // What was read is read on; the agent may have it before it is seen.
    assert_eq!(seen.matches("alice  before\r\n").count(), 1, "{seen:?}");
    for (name, why) in [("no name", "/nick NAME"), ("carol", "-- you are carol@")] {
        alice.keys(&format!("/nick {name}\r"));
        alice.expect(why);
    }
    alice.keys("\x04");
    alice.end();
    assert_eq!(said(dir.path()), ["before", "here too"]);
    bob.keys("\x04");
    bob.end();
}

#[test]
fn nothing_is_seen_of_somebody_who_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let say = |who: &str, to: &str, text: &str| {
        chat(dir.path(), who, &["send", to], &format!("{text}\n"));
    };
    let (mut alice, mut bob) = two(dir.path());
    alice.keys("/ignore bob\r");
    alice.expect("-- bob is ignored; /unignore bob ends that\r\n");
    alice.keys("/ignore\r");
    alice.expect("-- ignored: bob\r\n");
    bob.keys("alice: not seen\r/msg alice nor this\r/away\r");
    bob.expect("you show as away");
    say("bob", "&lobby", "nor that");
    say("carol", "&lobby", "first.");
    let seen = alice.expect("carol  first.\r\n");
    for part in ["not seen", "nor", "away", "\x07"] {
        assert!(!seen.contains(part), "{part}: {seen:?}");
    }
    alice.keys("/history\r");
    let seen = alice.expect("that was before");
    assert!(!seen.contains("bob"), "{seen:?}");
    assert!(seen.contains("-- the last 1 of &lobby:"), "{seen:?}");
    alice.keys("\x04");
    alice.end();

    // It is remembered, and what was not shown counts as read.
    let mut alice = Terminal::open(dir.path(), "alice");
    let seen = alice.expect("carol  first.\r\n");
    assert!(!seen.contains("nor"), "{seen:?}");
    alice.keys("/unignore bob\r");
    alice.expect("-- bob is not ignored any more\r\n");
    alice.keys("/unignore bob\r");
    alice.expect("-- bob was not ignored\r\n");
    bob.keys("seen again\r");
    let seen = alice.expect("bob  seen again\r\n");
    assert!(!seen.contains("nor"), "{seen:?}");
    alice.keys("\x04");
    alice.end();
    bob.keys("\x04");
    bob.end();
}

#[test]
fn whoever_goes_to_a_conversation_sees_what_was_said_there() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    alice.keys("/msg bob psst\r");
    alice.expect("psst\r\n");
    alice.keys("\x04");
    alice.end();
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    alice.keys("/join bob\r");
    // Again, or as something new: that it was read may be written only after she is back.
    alice.expect("alice  psst\r\n");
    // A room is not a person.
    alice.keys("/join &ops\r/join ops\r");
    alice.expect("-- ops is a person here: did you mean the room &ops?\r\n");
    alice.keys("\x04");
    alice.end();
}
