//! What this host has of one's rooms can be found, server or not, and by nobody else.

use crate::conversation::two_hosts;
use protocol::{
    Content, MessageId,
    limits::{MAX_SEARCH_WORD_BYTES, MAX_SEARCH_WORDS},
    local::{Refusal, Reply, Request, SearchMark, SearchQuery},
};
use tests::{Host, MessageLine, Sandbox, Terminal};

/// What a search for `words` prints, oldest first.
fn search(terminal: &Terminal, words: &[&str]) -> Vec<MessageLine> {
    let words = ["search", "--json"].iter().chain(words);
    let printed = terminal.run(words).ok();
    let lines = printed.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect("messages")
}

fn bodies(terminal: &Terminal, words: &[&str]) -> Vec<String> {
    let found = search(terminal, words);
    found.into_iter().map(|line| line.body).collect()
}

/// As `grep`: nothing on either output, and exit code 1.
fn assert_nothing_found(terminal: &Terminal, words: &[&str]) {
    let words = ["search"].iter().chain(words);
    let finished = terminal.run(words).expect_code(1);
    assert_eq!((&*finished.stdout, &*finished.stderr), ("", ""));
}

#[test]
fn what_was_read_before_is_found_after_the_server_and_the_agents_died() {
    let sandbox = Sandbox::new();
    let (mut server, mut ada, mut bee) = two_hosts(&sandbox);
    let (alice, bob) = (ada.terminal("alice"), bee.terminal("bob"));
    alice.send_committed("#ops", "Deployed 7f3a to production");
    alice.send_committed("bob@bee", "你好，世界和平");
    alice.send_committed("#ops", "rolled back");
    bob.tail(&["#ops"], "0").wait_for("rolled back");
    bob.tail(&["alice@ada"], "0").wait_for("你好，世界和平");

    server.kill();
    bee.kill_agent();
    bee.restart();
    for words in [
        &["ployed"][..],
        &["PRODUCTION", "7f3a to"],
        &["7f", "from:alice"],
    ] {
        assert_eq!(
            bodies(&bob, words),
            ["Deployed 7f3a to production"],
            "{words:?}"
        );
    }
    assert_eq!(bodies(&bob, &["世界"]), ["你好，世界和平"]);
    assert_eq!(
        bodies(&bob, &["世界", "room:alice@ada"]),
        ["你好，世界和平"]
    );
    assert_nothing_found(&bob, &["世界", "room:#ops"]);
    assert_nothing_found(&bob, &["deployed", "rolled"]);
    assert_nothing_found(&bob, &["deployed", "before:1h"]);
    assert_nothing_found(&bob, &["deployed", "from:alice@bee"]);
    let both = ["Deployed 7f3a to production", "rolled back"];
    assert_eq!(bodies(&bob, &["room:#ops", "since:1h"]), both);
    assert_eq!(bodies(&bob, &["ro", "--limit", "1"]), ["rolled back"]);

    // A script can read on from there.
    let found = search(&bob, &["deployed"]);
    let rest = ["tail", "#ops", "--since", &found[0].cursor, "--json"];
    let rest = bob.run(rest).ok();
    assert!(
        rest.contains("rolled back") && !rest.contains("Deployed"),
        "{rest}"
    );
    let printed = bob.run(["search", "l"]).ok();
    let rooms: Vec<_> = printed
        .lines()
        .map(|line| line.contains("#ops alice@ada"))
        .collect();
    assert_eq!(rooms, [true, true], "{printed}");

    // And so does the host where it was written, with what it says there itself.
    ada.kill_agent();
    ada.restart();
    alice.send("&den", "deployed by hand");
    let all = ["Deployed 7f3a to production", "deployed by hand"];
    assert_eq!(bodies(&alice, &["deployed"]), all);
}

#[test]
fn what_waits_for_the_server_is_found_once_before_and_after_it_is_there() {
    let sandbox = Sandbox::new();
    let (mut server, ada, _bee) = two_hosts(&sandbox);
    let alice = ada.terminal("alice");
    alice.send_committed("#ops", "deployed one");
    assert_eq!(bodies(&alice, &["deployed"]), ["deployed one"]);
    server.kill();
    assert_eq!(alice.send("#ops", "deployed two").state, "queued");
    let printed = alice.run(["search", "--json", "deployed"]).ok();
    let types: Vec<_> = printed
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("an object"))
        .map(|one| (one["type"].clone(), one["body"].clone()))
        .collect();
    let expected = [("message", "deployed one"), ("pending", "deployed two")];
    assert_eq!(types, expected.map(|(a, b)| (a.into(), b.into())));
    let printed = alice.run(["search", "deployed"]).ok();
    assert!(
        printed.trim_end().ends_with("deployed two  (pending)"),
        "{printed}"
    );
    assert_nothing_found(&ada.terminal("carol"), &["deployed"]);

    server.restart();
    tests::eventually("it is in the log", || {
        let printed = alice.run(["search", "--json", "two"]).ok();
        // Never there twice.
        match (printed.lines().count(), printed.contains("committed_at")) {
            (1, true) => Ok(()),
            (0 | 1, _) => Err(printed),
            _ => panic!("{printed}"),
        }
    });
    assert_eq!(
        bodies(&alice, &["deployed"]),
        ["deployed one", "deployed two"]
    );
    assert_eq!(alice.run(["pending"]).ok(), "");
}

#[test]
fn nobody_finds_what_others_said_among_themselves() {
    let sandbox = Sandbox::new();
    let host = Host::start_alone(&sandbox, "ada");
    let (alice, bob) = (host.terminal("alice"), host.terminal("bob"));
    let carol = host.terminal("carol");
    alice.send("bob", "a secret between two");
    alice.send("&den", "a secret of the den");
    bob.run(["join", "&den"]).ok();
    assert_eq!(
        bodies(&bob, &["secret"]),
        ["a secret between two", "a secret of the den"]
    );
    assert_eq!(
        bodies(&bob, &["secret", "room:alice"]),
        ["a secret between two"]
    );
    assert_nothing_found(&carol, &["secret"]);
    assert_nothing_found(&carol, &["secret", "room:alice"]);
    assert_nothing_found(&carol, &["from:alice"]);
    let refused = carol.run(["search", "secret", "room:&den"]).expect_code(1);
    assert!(refused.stderr.contains("is not in &den"), "{refused:?}");
    let room = "alice@ada,bob@ada".parse().unwrap();
    let query = SearchQuery {
        room: Some(room),
        ..SearchQuery::default()
    };
    let refused = ask(&host, "carol", query, None);
    assert!(
        matches!(refused, Err(Refusal::NotYours { .. })),
        "{refused:?}"
    );
    // The right to read ends with the membership.
    bob.run(["leave", "&den"]).ok();
    assert_eq!(bodies(&bob, &["secret"]), ["a secret between two"]);
    carol.run(["join", "&den"]).ok();
    assert_eq!(bodies(&carol, &["secret"]), ["a secret of the den"]);
}

fn ask(
    host: &Host,
    nick: &str,
    query: SearchQuery,
    older_than: Option<SearchMark>,
) -> Result<Reply, Refusal> {
    host.script(nick).ask(Request::Search {
        query,
        older_than,
        limit: 9,
    })
}

#[test]
fn what_was_edited_or_taken_back_is_not_found_any_more() {
    let sandbox = Sandbox::new();
    let host = Host::start_alone(&sandbox, "ada");
    let alice = host.terminal("alice");
    let mut session = host.script("alice");
    let room: protocol::Room = "&den".parse().unwrap();
    let mut say = |content| {
        let id = MessageId::new();
        let room = room.clone();
        let request = Request::Send { id, room, content };
        session.ask(request).expect("taken");
        id
    };
    let of = say(Content::Text("the pasword".to_owned()));
    assert_eq!(bodies(&alice, &["pasword"]).len(), 1);
    let text = "the password".to_owned();
    say(Content::Edit { of, text });
    assert_nothing_found(&alice, &["pasword"]);
    let found = alice.run(["search", "--json", "password"]).ok();
    assert!(found.contains(r#""type":"edit""#), "{found}");
    say(Content::Delete { of });
    assert_nothing_found(&alice, &["password"]);
}

#[test]
fn every_message_that_was_taken_is_found_once_however_many_there_are() {
    let sandbox = Sandbox::new();
    let mut host = Host::start_alone(&sandbox, "ada");
    let alice = host.terminal("alice");
    let mut pipe = alice.pipe("&den");
    let all: Vec<_> = (0..2_500).map(|number| format!("word {number}")).collect();
    for text in &all {
        pipe.write(text).expect("chat send reads");
    }
    pipe.finish(tests::wait::limit()).expect_code(0);
    // More than a page, by the index and by reading.
    for word in ["word", "wo"] {
        assert_eq!(bodies(&alice, &[word, "--limit", "3000"]), all);
    }
    assert_eq!(bodies(&alice, &["word", "--limit", "1500"]), all[1_000..]);
    host.kill_agent();
    host.restart();
    alice.send("&den", "the last word");
    let found = bodies(&alice, &["word", "--limit", "3000"]);
    assert_eq!(found.len(), 2_501);
    assert_eq!(found.last().map(String::as_str), Some("the last word"));
}

#[test]
fn a_bad_search_is_refused_with_what_is_wrong() {
    let sandbox = Sandbox::new();
    let host = Host::start_alone(&sandbox, "ada");
    let alice = host.terminal("alice");
    for (words, says) in [
        (&[][..], "WORD"),
        (&[""], "what is to be found"),
        (&["since:never"], "is no time"),
        (&["room:a!b"], "cannot contain"),
        (&["from:bob", "from:carol"], "given twice"),
    ] {
        let words = ["search"].iter().chain(words);
        let refused = alice.run(words).expect_code(2);
        assert!(refused.stderr.contains(says), "{refused:?}");
    }
    let words = |words: Vec<String>| SearchQuery {
        words,
        ..SearchQuery::default()
    };
    let limit = MAX_SEARCH_WORDS.to_string();
    let bytes = MAX_SEARCH_WORD_BYTES.to_string();
    for (query, older_than, says) in [
        (SearchQuery::default(), None, "a search needs"),
        (
            words(vec!["x".to_owned(); MAX_SEARCH_WORDS + 1]),
            None,
            &*limit,
        ),
        (
            words(vec!["x".repeat(MAX_SEARCH_WORD_BYTES + 1)]),
            None,
            &*bytes,
        ),
        (words(vec![String::new()]), None, "empty"),
        (words(vec!["x".to_owned()]), Some(SearchMark(7)), "no mark"),
    ] {
        match ask(&host, "alice", query, older_than) {
            Err(Refusal::BadText { reason }) => assert!(reason.contains(says), "{reason}"),
            other => panic!("{says}: {other:?}"),
        }
    }
    // As many and as long as allowed, of whatever the index might take for its own language.
    let odd = "\"*^:(){}-+ AND OR NOT NEAR ' \\ \0".repeat(7);
    let query = words(vec![odd; MAX_SEARCH_WORDS]);
    let found = ask(&host, "alice", query, None);
    assert!(matches!(found, Ok(Reply::Found { ref hits, next: None }) if hits.is_empty()));
}
