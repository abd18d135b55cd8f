//! Promises 2, 3 and 5 on bad networks: cut, slow, lossy, delayed, sliced.

use crate::conversation::{Conversation, two_hosts};
use std::time::Duration;
use tests::{
    Chaos, ChaosProxy, Host, Network, Random, Sandbox, Server, eventually, heavy, limit,
    network::Link,
    privilege::{Need, privileged},
};

/// Long enough for a slow line on a busy machine.
const WITHIN: Duration = Duration::from_secs(180);

/// A server and two hosts, each in a network namespace of its own.
struct Apart {
    server: Server,
    ada: Host,
    bee: Host,
    server_link: Link,
    ada_link: Link,
    bee_link: Link,
    // Last, so that the processes go before their networks.
    _network: Network,
}

impl Apart {
    fn new(sandbox: &Sandbox) -> Self {
        let mut network = Network::new();
        let [server_link, ada_link, bee_link] =
            ["server", "ada", "bee"].map(|name| network.node(name));
        let address = server_link.address(7667);
        let mut server = Server::new(sandbox, address).in_place(server_link.place(sandbox));
        server.restart();
        let host = |name: &str, link: &Link| {
            let mut host = Host::new(sandbox, name)
                .with_server(server.link())
                .in_place(link.place(sandbox));
            host.restart();
            host.wait_online();
            host
        };
        Self {
            ada: host("ada", &ada_link),
            bee: host("bee", &bee_link),
            server,
            server_link,
            ada_link,
            bee_link,
            _network: network,
        }
    }
}

#[test]
fn messages_sent_during_a_cut_arrive_once_in_one_order() {
    let name = "network::messages_sent_during_a_cut_arrive_once_in_one_order";
    privileged(Need::Namespaces, name, || {
        let sandbox = Sandbox::new();
        let apart = Apart::new(&sandbox);
        let mut conversation = Conversation::start(&[&apart.ada, &apart.bee]);
        conversation.say(10);

        apart.ada_link.cut();
        // Before anybody has noticed, and after the heartbeat has.
        conversation.say(10);
        apart.ada.wait_offline();
        conversation.say(10);
        apart.ada_link.heal();
        apart.ada.wait_online();
        conversation.say(10);

        apart.server_link.cut();
        conversation.say(10);
        apart.ada.wait_offline();
        apart.bee.wait_offline();
        conversation.say(10);
        apart.server_link.heal();
        conversation.finish(WITHIN);
    });
}

#[test]
fn slow_and_lossy_links_lose_nothing() {
    let name = "network::slow_and_lossy_links_lose_nothing";
    privileged(Need::Namespaces, name, || {
        let _turn = heavy();
        let sandbox = Sandbox::new();
        let mut apart = Apart::new(&sandbox);
        apart.ada_link.slow_down("256kbit");
        apart.bee_link.lose(10);
        let mut conversation = Conversation::start(&[&apart.ada, &apart.bee]);
        conversation.say(150);
        // A new connection has to get through this as well.
        apart.server.restart();
        conversation.say(50);
        conversation.finish(WITHIN);
    });
}

#[test]
fn delayed_sliced_and_cut_streams_lose_nothing() {
    let _turn = heavy();
    let mut random = Random::from_env("chaos proxy");
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox);
    let bad = Chaos {
        max_delay_ms: 4,
        max_slice: 200,
        mean_bytes_to_cut: Some(12_000),
    };
    let proxies = [(); 2].map(|()| ChaosProxy::start(server.address(), bad, random.fork()));
    let ada = Host::start(&sandbox, "ada", server.link_by(proxies[0].address()));
    let bee = Host::start(&sandbox, "bee", server.link_by(proxies[1].address()));
    let mut conversation = Conversation::start(&[&ada, &bee]);
    for _ in 0..5 {
        conversation.say(40);
        proxies[0].cut_all();
    }
    // What was said waits on disk: it is the lines that take their time.
    eventually("both lines are cut by their own bad luck", || {
        conversation.say(5);
        let cuts = proxies.each_ref().map(ChaosProxy::cuts);
        match cuts.contains(&0) {
            false => Ok(()),
            true => Err(format!("{cuts:?} times")),
        }
    });
    // Lines that break every few frames may need longer than a test has: mend them to finish.
    for proxy in &proxies {
        proxy.set(Chaos::CALM);
    }
    conversation.finish(WITHIN);
}

#[test]
fn a_host_that_comes_back_gets_what_it_missed_and_not_everything() {
    const MESSAGES: usize = 1_000;
    let mut random = Random::from_env("coming back");
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox);
    let proxy = ChaosProxy::start(server.address(), Chaos::CALM, random.fork());
    let ada = Host::start(&sandbox, "ada", server.link());
    let bee = Host::start(&sandbox, "bee", server.link_by(proxy.address()));
    let alice = ada.terminal("alice");
    let mut bob = bee.terminal("bob").tail(&["#ops"], "0");
    let mut pipe = alice.pipe("#ops");
    for number in 0..MESSAGES {
        pipe.write(&format!("{number} {:.<100}", ""))
            .expect("chat send reads its input");
    }
    pipe.finish(limit()).expect_code(0);
    bob.wait_count(MESSAGES);
    let history = proxy.bytes_down();
    assert!(
        history > 100_000,
        "the history came this way: {history} bytes"
    );

    let connections = proxy.connections();
    proxy.cut_all();
    eventually("bee comes back", || match proxy.connections() {
        more if more > connections => Ok(()),
        same => Err(same),
    });
    alice.send_committed("#ops", "and one more");
    bob.wait_for("and one more");
    assert_eq!(bob.messages().len(), MESSAGES + 1);
    let missed = proxy.bytes_down() - history;
    assert!(
        missed < history / 10,
        "{missed} bytes for one message after {history}"
    );
}

#[test]
fn two_hosts_talk_across_namespaces_and_in_private() {
    let name = "network::two_hosts_talk_across_namespaces_and_in_private";
    privileged(Need::Namespaces, name, || {
        let sandbox = Sandbox::new();
        let apart = Apart::new(&sandbox);
        let alice = apart.ada.terminal("alice");
        let bob = apart.bee.terminal("bob");
        let mut to_bob = bob.tail(&["alice@ada"], "0");
        let mut to_alice = alice.tail(&["bob@bee"], "0");
        alice.send_committed("bob@bee", "psst");
        to_bob.wait_for("psst");
        bob.send_committed("alice@ada", "yes?");
        to_alice.wait_for("yes?");
        to_bob.wait_for("yes?");
        assert_eq!(to_alice.bodies(), to_bob.bodies());
    });
}

#[test]
fn a_direct_conversation_is_seen_by_its_two_ends_only() {
    let sandbox = Sandbox::new();
    let (_server, ada, bee) = two_hosts(&sandbox);
    ada.terminal("alice")
        .send_committed("bob@bee", "between us");
    bee.terminal("bob")
        .tail(&["alice@ada"], "0")
        .wait_for("between us");
    // Their conversations with the same people are others.
    for (host, peer) in [(&ada, "bob@bee"), (&bee, "alice@ada")] {
        assert_eq!(host.terminal("mallory").read_all(peer), []);
    }
    let mut mallory = ada.session("mallory");
    let theirs = ada.session("alice").room("bob@bee");
    let refused = mallory.ask(protocol::local::Request::Open {
        room: theirs,
        from: protocol::local::From::Beginning,
    });
    let refusal = refused.expect_err("not mallory's");
    assert!(refusal.is_permission(), "{refusal:?}");
}
