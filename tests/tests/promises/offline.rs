//! Promise 5: no server, no problem.

use crate::conversation::two_hosts;
use protocol::local::{Refusal, Request};
use tests::{Host, Sandbox, Server, server::free_loopback, wait::limit};

#[test]
fn a_host_alone_has_rooms_and_private_conversations() {
    let sandbox = Sandbox::new();
    let host = Host::start_alone(&sandbox, "ada");
    let (alice, bob) = (host.terminal("alice"), host.terminal("bob"));
    let mut den = bob.tail(&["&den"], "0");
    let mut private = bob.tail(&["alice"], "0");
    assert_eq!(alice.send("&den", "anybody?").state, "committed");
    assert_eq!(alice.send("bob", "psst").state, "committed");
    den.wait_for("anybody?");
    private.wait_for("psst");
    bob.send("alice", "yes?");
    assert_eq!(alice.read_all("bob").len(), 2);
}

#[test]
fn what_was_sent_without_a_server_is_pending_and_then_delivered_once() {
    let sandbox = Sandbox::new();
    let (mut server, mut ada, bee) = two_hosts(&sandbox);
    let alice = ada.terminal("alice");
    let mut bob = bee.terminal("bob").tail(&["#ops"], "0");
    alice.send_committed("#ops", "before");
    bob.wait_for("before");
    alice.tail(&["#ops"], "0").wait_for("before");

    server.kill();
    ada.wait_offline();
    let pending = alice.send("#ops", "pending one");
    assert_eq!((pending.state.as_str(), pending.seq), ("queued", None));
    let words = [
        "send",
        "#ops",
        "pending two",
        "--wait",
        "committed",
        "--timeout",
        "1",
    ];
    alice.run(words).expect_code(75);
    assert_eq!(ada.status().outbox_messages, 2);
    // The rest of the host lives on, and what it has read before can be read again.
    assert_eq!(alice.send("&den", "still here").state, "committed");
    assert_eq!(alice.send("carol", "you too?").state, "committed");
    let replica: Vec<_> = alice
        .read_all("#ops")
        .into_iter()
        .map(|line| line.body)
        .collect();
    assert_eq!(replica, ["before"]);
    let history = alice.run(["history", "#ops"]).ok();
    assert!(history.contains("before"), "{history}");

    // The outbox is on disk: neither end nor crash of the agent loses it.
    ada.kill_agent();
    ada.restart();
    assert_eq!(ada.status().outbox_messages, 2);
    alice.send("#ops", "pending three");
    ada.terminate_agent().expect_code(0);
    ada.restart();
    assert_eq!(ada.status().outbox_messages, 3);

    server.restart();
    bob.wait_for("pending three");
    ada.wait_outbox_empty();
    alice.send_committed("#ops", "after");
    bob.wait_for("after");
    let expected = [
        "before",
        "pending one",
        "pending two",
        "pending three",
        "after",
    ];
    assert_eq!(bob.bodies(), expected);
}

#[test]
fn an_agent_that_never_met_its_server_accepts_and_delivers_later() {
    let sandbox = Sandbox::new();
    let mut server = Server::prepared(&sandbox, free_loopback());
    let ada = Host::start(&sandbox, "ada", server.link());
    let alice = ada.terminal("alice");
    let mut own = alice.tail(&["#ops"], "0");
    assert_eq!(alice.send("#ops", "into the void").state, "queued");
    server.restart();
    own.wait_for("into the void");
    let bee = Host::start(&sandbox, "bee", server.link());
    bee.terminal("bob")
        .tail(&["#ops"], "0")
        .wait_for("into the void");
}

#[test]
fn a_direct_message_waits_for_a_host_that_was_never_there() {
    let sandbox = Sandbox::new();
    let mut server = Server::prepared(&sandbox, free_loopback());
    let ada = Host::start(&sandbox, "ada", server.link());
    let alice = ada.terminal("alice");
    assert_eq!(alice.send("bob@bee", "before the server").state, "queued");
    server.restart();
    ada.wait_outbox_empty();
    alice.send_committed("bob@bee", "before its host");
    server.terminate().expect_code(0);
    server.restart();
    ada.wait_online();
    alice.send_committed("bob@bee", "before its host again");
    let bee = Host::start(&sandbox, "bee", server.link());
    let mut bob = bee.terminal("bob").tail(&["alice@ada"], "0");
    bob.wait_for("before its host again");
    let expected = [
        "before the server",
        "before its host",
        "before its host again",
    ];
    assert_eq!(bob.bodies(), expected);
    let problems = ada.status().problems;
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn a_server_is_remembered_and_forgotten_as_told() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox);
    let mut ada = Host::start_alone(&sandbox, "ada");
    let alice = ada.terminal("alice");
    // Without any server a federated room is refused or waits, but never fails in silence.
    alice.run(["join", &server.link()]).ok();
    ada.wait_online();
    ada.kill_agent();
    ada.restart();
    ada.wait_online();
    alice.send_committed("#ops", "remembered");
    alice.run(["leave"]).ok();
    ada.wait_offline();
    ada.kill_agent();
    ada.restart();
    assert_eq!(ada.status().link, protocol::local::LinkStatus::LocalOnly);
    assert_eq!(alice.read_all("#ops").len(), 1, "what was read stays");
}

#[test]
fn a_full_outbox_refuses_clearly_and_takes_more_when_the_server_is_back() {
    let sandbox = Sandbox::new();
    let mut server = Server::prepared(&sandbox, free_loopback());
    let mut ada = Host::new(&sandbox, "ada")
        .with_server(server.link())
        .with_args(&["--outbox-limit", "200000"]);
    ada.restart();
    let alice = ada.terminal("alice");
    let text = |number: usize| format!("{number} {}", "x".repeat(10_000));
    let refused = (0..100).find_map(|number| {
        let finished = alice.run(["send", "#ops", &text(number)]);
        (finished.code != Some(0)).then_some((number, finished))
    });
    let (accepted, refused) = refused.expect("the quota is kept");
    assert!((5..20).contains(&accepted), "{accepted} accepted");
    let refused = refused.expect_code(1);
    assert!(refused.stderr.contains("outbox is full"), "{refused:?}");
    assert!(
        refused.stderr.contains("200000"),
        "which limit? {refused:?}"
    );
    // What needs no outbox still works.
    assert_eq!(alice.send("&den", "still here").state, "committed");

    server.restart();
    ada.wait_outbox_empty();
    alice.send_committed("#ops", &text(accepted));
    let all = alice.read_all("#ops");
    let bodies: Vec<_> = all.into_iter().map(|line| line.body).collect();
    assert_eq!(bodies, (0..=accepted).map(text).collect::<Vec<_>>());
}

#[test]
fn a_room_whose_first_message_was_refused_can_be_read_without_a_restart() {
    let sandbox = Sandbox::new();
    let mut server = Server::prepared(&sandbox, free_loopback());
    let mut ada = Host::new(&sandbox, "ada")
        .with_server(server.link())
        .with_args(&["--outbox-limit", "140000"]);
    ada.restart();
    let mut alice = ada.session("alice");
    let text = "x".repeat(60_000);
    let full = (0..3).find_map(|_| alice.send("#a", &text).err());
    assert!(matches!(full, Some(Refusal::OutboxFull { .. })), "{full:?}");
    let refusal = alice.send("#b", &text).expect_err("the outbox is full");
    assert!(matches!(refusal, Refusal::OutboxFull { .. }), "{refusal:?}");

    server.restart();
    let bee = Host::start(&sandbox, "bee", server.link());
    bee.wait_online();
    bee.terminal("bob").send_committed("#b", "from bee");
    ada.wait_online();
    let room = alice.room("#b");
    alice.ask(Request::Join { room }).expect("joined");
    let mut tail = ada.terminal("alice").tail(&["#b"], "0");
    tail.wait_for("from bee");
}

#[test]
fn the_first_visit_to_a_long_room_prints_the_newest_messages_only() {
    let sandbox = Sandbox::new();
    let (_server, ada, bee) = two_hosts(&sandbox);
    let mut pipe = ada.terminal("alice").pipe("#long");
    for number in 0..3_000 {
        pipe.write(&number.to_string()).expect("chat send reads");
    }
    pipe.finish(limit()).expect_code(0);
    ada.wait_outbox_empty();
    let printed = bee.terminal("bob").run(["tail", "#long"]).ok();
    let expected: Vec<_> = (2_990..3_000).map(|number| number.to_string()).collect();
    assert_eq!(printed.lines().count(), 10, "{printed}");
    for (line, body) in printed.lines().zip(expected) {
        assert!(line.ends_with(&body), "{line:?} is not {body}");
    }
    // The whole room came to this host all the same.
    assert_eq!(bee.terminal("bob").read_all("#long").len(), 3_000);
}
