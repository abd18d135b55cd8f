//! What was erased, taken back, or kept for long enough, is not to be found in any file.

use super::{eventually_reads, log, room};
use crate::conversation::two_hosts;
use std::{fs, path::Path};
use tests::{Host, Sandbox, Terminal, eventually};

/// Waits until no file of `dir` has `text` in it.
pub(super) fn is_gone_from(dir: &Path, text: &str) {
    eventually(&format!("{text:?} is gone from {}", dir.display()), || {
        let files = fs::read_dir(dir).expect("a directory");
        for file in files {
            let path = file.expect("an entry").path();
            let bytes = fs::read(&path).unwrap_or_default();
            let found = bytes
                .windows(text.len())
                .any(|window| window == text.as_bytes());
            if found {
                return Err(format!("it is in {}", path.display()));
            }
        }
        Ok(())
    });
}

fn bodies(terminal: &Terminal, name: &str) -> Vec<String> {
    let said = log(terminal, name);
    let words = said.iter().filter_map(|one| one["body"].as_str());
    words.map(str::to_owned).collect()
}

#[test]
fn erased_words_are_gone_from_all_files_of_all_hosts() {
    let sandbox = Sandbox::new();
    let (mut server, ada, mut bee) = two_hosts(&sandbox);
    let (alice, bob) = (ada.terminal("alice"), bee.terminal("bob"));
    alice.send_committed("#ops", "before");
    let secret = bob.send_committed("#ops", "my password is swordfish").id;
    let other = bob.send_committed("#ops", "and it was marlin once").id;
    alice.send_committed("#ops", "after");
    eventually_reads(&alice, "#ops", "after");
    eventually_reads(&bob, "#ops", "after");
    assert!(bob.run(["search", "swordfish"]).code == Some(0));

    // A host that is away does it when it comes back.
    bee.kill_agent();
    room(&alice, &["erase", "#ops", &secret]);
    is_gone_from(ada.state_dir(), "swordfish");
    is_gone_from(server.state_dir(), "swordfish");
    server.kill();
    server.restart();
    bee.restart();
    bee.wait_online();
    is_gone_from(bee.state_dir(), "swordfish");
    bob.run(["search", "swordfish"]).expect_code(1);

    // Nobody erases what others said unless they keep order there; everybody their own.
    let refused = bob.run(["room", "erase", "#ops", &secret]);
    assert!(refused.code != Some(0));
    room(&bob, &["erase", "#ops", &other]);
    for dir in [ada.state_dir(), bee.state_dir(), server.state_dir()] {
        is_gone_from(dir, "marlin");
    }
    assert_eq!(bodies(&bob, "#ops"), ["before", "after"]);
    assert_eq!(bodies(&alice, "#ops"), ["before", "after"]);
    // Sent again by somebody who does not know, it is known.
    let again = bob.send_with("#ops", "after all", &["--wait", "committed"]);
    assert_eq!(again.state, "committed");
}

#[test]
fn what_is_taken_back_is_gone_with_its_edits() {
    let sandbox = Sandbox::new();
    let (server, ada, bee) = two_hosts(&sandbox);
    let (alice, bob) = (ada.terminal("alice"), bee.terminal("bob"));
    for name in ["#ops", "&den", "bob@bee"] {
        let mut session = alice.session();
        let room = session.room(name);
        let mut say = |content| {
            let id = protocol::MessageId::new();
            let (room, request) = (room.clone(), |room| protocol::local::Request::Send {
                id,
                room,
                content,
            });
            session.ask(request(room)).expect("taken");
            id
        };
        let of = say(protocol::Content::Text("it is swordfish".to_owned()));
        let text = "it is marlin".to_owned();
        say(protocol::Content::Edit { of, text });
        say(protocol::Content::Delete { of });
        drop(session);
        ada.wait_outbox_empty();
        alice.send(name, "done");
        eventually_reads(&alice, name, "done");
        if name != "&den" {
            let seen = if name == "#ops" { "#ops" } else { "alice@ada" };
            eventually_reads(&bob, seen, "done");
        }
    }
    for dir in [ada.state_dir(), bee.state_dir(), server.state_dir()] {
        is_gone_from(dir, "swordfish");
        is_gone_from(dir, "marlin");
    }
}

#[test]
fn a_room_keeps_as_many_messages_as_it_is_told_everywhere() {
    let sandbox = Sandbox::new();
    let (mut server, ada, bee) = two_hosts(&sandbox);
    let (alice, bob) = (ada.terminal("alice"), bee.terminal("bob"));
    for number in 0..20 {
        alice.send_committed("#ops", &format!("word {number:02}"));
    }
    eventually_reads(&bob, "#ops", "word 19");
    room(&alice, &["retention", "#ops", "--count", "5"]);
    let kept: Vec<_> = (15..20).map(|number| format!("word {number:02}")).collect();
    for reader in [&alice, &bob] {
        eventually("the rest is gone", || {
            let read = bodies(reader, "#ops");
            match read == kept {
                true => Ok(()),
                false => Err(format!("{read:?}")),
            }
        });
        let found = reader.run(["search", "word"]).ok();
        assert_eq!(found.lines().count(), 5, "{found}");
    }
    server.kill();
    server.restart();
    // Whoever comes new reads what is left, and who may do what; whoever was there goes on.
    let cat = Host::start(&sandbox, "cat", server.link());
    let carol = cat.terminal("carol");
    eventually_reads(&carol, "#ops", "word 19");
    assert_eq!(bodies(&carol, "#ops"), kept);
    let show = ["room", "show", "#ops", "--json"];
    assert_eq!(carol.run(show).ok(), alice.run(show).ok());
    alice.send_committed("#ops", "the next");
    for reader in [&alice, &bob, &carol] {
        eventually_reads(reader, "#ops", "the next");
    }
}

#[test]
fn a_room_keeps_messages_as_long_as_it_is_told() {
    let sandbox = Sandbox::new();
    let (server, ada, bee) = two_hosts(&sandbox);
    let (alice, bob) = (ada.terminal("alice"), bee.terminal("bob"));
    alice.send_committed("#ops", "swordfish for now");
    eventually_reads(&bob, "#ops", "swordfish for now");
    alice.send("&den", "marlin for now");
    for name in ["#ops", "&den"] {
        room(&alice, &["retention", name, "--age", "1s"]);
    }
    for reader in [&alice, &bob] {
        eventually("it is too old", || {
            let read = bodies(reader, "#ops");
            match read.is_empty() {
                true => Ok(()),
                false => Err(format!("{read:?}")),
            }
        });
    }
    eventually("it is too old here", || {
        let read = bodies(&alice, "&den");
        match read.is_empty() {
            true => Ok(()),
            false => Err(format!("{read:?}")),
        }
    });
    // A host that was away when its cursor went goes on behind it.
    room(&alice, &["retention", "#ops"]);
    alice.send_committed("#ops", "from here on");
    for reader in [&alice, &bob] {
        eventually_reads(reader, "#ops", "from here on");
    }
    drop(server);
}
