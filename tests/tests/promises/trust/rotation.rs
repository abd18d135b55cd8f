//! Both ends change their keys without losing each other, killed at any moment.

use super::{key_of, listed, wait_refused};
use rusqlite::{Connection, OpenFlags};
use tests::{Host, Keys, Sandbox, Server, eventually};

/// What the agent of `host` has stored of its server.
fn remembered(host: &Host) -> String {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = Connection::open_with_flags(host.database(), flags).expect("a database");
    let sql = "SELECT CAST(value AS TEXT) FROM meta WHERE key = 'servers'";
    let stored = database.query_row(sql, (), |row| row.get(0));
    stored.expect("servers")
}

/// Waits until the agent of `host` has stored the key that its server will have next.
fn wait_heard(host: &Host) {
    let what = format!("{} has heard of the next key", host.name());
    eventually(&what, || {
        let servers = remembered(host);
        servers.contains('+').then_some(()).ok_or(servers)
    });
}

fn rotate(server: &Server, words: &[&str]) -> String {
    let told = listed(server, &[&["rotate-key"], words].concat());
    told[0]["key"].as_str().expect("a key").to_owned()
}

#[test]
fn a_host_that_heard_of_the_server_s_next_key_goes_on_and_one_that_did_not_is_told() {
    let sandbox = Sandbox::new();
    let mut server = Server::start(&sandbox);
    let mut ada = Host::start(&sandbox, "ada", server.link());
    let mut bee = Host::start(&sandbox, "bee", server.link());
    ada.wait_online();
    bee.wait_online();
    bee.kill_agent();
    let early = server.order(&["rotate-key", "--now"]).expect_code(1);
    assert!(early.stderr.contains("without --now"), "{early:?}");
    let next = rotate(&server, &[]);
    wait_heard(&ada);
    // All die at once, and the key is still the next one.
    server.kill();
    ada.kill_agent();
    server.restart();
    assert_eq!(rotate(&server, &[]), next);
    ada.restart();
    ada.wait_online();
    assert_eq!(rotate(&server, &["--now"]), next);
    // Who is connected stays; who comes back meets the new key.
    ada.terminal("alice").send_committed("#ops", "still there");
    server.restart();
    let keys = Keys::of(&server.state_dir().join("server.pem"));
    assert_eq!(keys.fingerprint().to_string(), next);
    ada.wait_online();
    ada.terminal("alice").send_committed("#ops", "there again");
    // The old key is forgotten, also by an agent that was killed since.
    ada.restart();
    ada.wait_online();
    bee.restart();
    let told = wait_refused(&bee, "another key");
    assert!(
        told.contains("set up anew") && told.contains("chat join"),
        "{told}"
    );
    let invited = server.invite(1, Some("bee"));
    bee.terminal("bob").run(["join", &invited]).expect_code(0);
}

#[test]
fn a_line_that_was_pasted_again_does_not_keep_the_next_key_from_being_remembered() {
    let sandbox = Sandbox::new();
    let mut server = Server::start(&sandbox);
    let ada = Host::start_alone(&sandbox, "ada");
    let alice = ada.terminal("alice");
    for _ in 0..2 {
        alice.run(["join", &server.link()]).expect_code(0);
    }
    rotate(&server, &[]);
    wait_heard(&ada);
    rotate(&server, &["--now"]);
    server.restart();
    ada.wait_online();
    alice.send_committed("#ops", "with the new key");
}

#[test]
fn a_server_killed_while_it_changes_its_key_has_one_that_its_hosts_know() {
    let sandbox = Sandbox::new();
    let mut server = Server::start(&sandbox);
    let ada = Host::start(&sandbox, "ada", server.link());
    ada.wait_online();
    let alice = ada.terminal("alice");
    for round in 0..3 {
        rotate(&server, &[]);
        wait_heard(&ada);
        // The order may be answered or not: killed in the middle of it.
        let mut order = sandbox.place().chat();
        order.args(["server", "rotate-key", "--now", "--state-dir"]);
        order.arg(server.state_dir());
        let order = tests::Process::start("order", &mut order, &sandbox.dir("logs"));
        server.kill();
        drop(order);
        server.restart();
        alice.send_committed("#ops", &format!("round {round}"));
        let now = server.order(&["rotate-key", "--now"]);
        assert!(matches!(now.code, Some(0 | 1)), "{now:?}");
        server.restart();
        alice.send_committed("#ops", &format!("round {round}, done"));
        // What was learned is settled before the next round begins.
        eventually("the old key is forgotten", || {
            let servers = remembered(&ada);
            (!servers.contains('+')).then_some(()).ok_or(servers)
        });
    }
}

#[test]
fn an_agent_changes_its_key_once_the_server_knows_and_the_old_one_counts_no_more() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox);
    let mut ada = Host::start(&sandbox, "ada", server.link());
    ada.wait_online();
    let before = key_of(&server, "ada").expect("enrolled");
    let old = Keys::of(&ada.state_dir().join("agent.pem"));
    assert_eq!(old.fingerprint().to_string(), before);
    ada.terminate_agent().expect_code(0);
    let mut rotating = Host::new(&sandbox, "ada").with_args(&["--rotate-key"]);
    rotating.restart();
    eventually("the agent has its new key", || {
        let key = Keys::of(&rotating.state_dir().join("agent.pem")).fingerprint();
        (key.to_string() != before).then_some(()).ok_or(key)
    });
    rotating.kill_agent();
    ada.restart();
    ada.wait_online();
    let after = key_of(&server, "ada").expect("enrolled");
    assert_ne!(after, before);
    assert_eq!(listed(&server, &["agents"]).len(), 1);
    // Whoever stole the old one has nothing.
    let link = super::without_invitation(&server.link());
    let mut thief = tests::AgentPeer::silent(&link, &old).expect("TLS");
    let refused = thief.hello("ada");
    assert_eq!(refused, Err(protocol::federation::Refusal::NotEnrolled));
    ada.terminal("alice")
        .send_committed("#ops", "with the new key");
}

#[test]
fn an_agent_killed_while_it_changes_its_key_is_let_in_with_the_one_it_has() {
    let sandbox = Sandbox::new();
    let mut server = Server::start(&sandbox);
    let mut ada = Host::start(&sandbox, "ada", server.link());
    ada.wait_online();
    let moments = [
        "this host's next key",
        "connected to the server",
        "connecting with it",
    ];
    for moment in moments {
        ada.terminate_agent().expect_code(0);
        let rotating = Host::new(&sandbox, "ada").with_args(&["--rotate-key"]);
        let mut agent = rotating.launch();
        eventually(&format!("the agent says {moment:?}"), || {
            let said = agent.stderr();
            said.contains(moment).then_some(()).ok_or(said)
        });
        agent.kill();
        ada.restart();
        ada.wait_online();
        ada.terminal("alice").send_committed("#ops", moment);
        // Killed on both ends, and nobody has forgotten anything.
        server.restart();
        ada.restart();
        ada.wait_online();
    }
    assert_eq!(listed(&server, &["agents"]).len(), 1);
}
