//! Several servers on one log are one server to everybody: who is let in, who is connected, who is
//! there.

use crate::presence::wait_for;
use protocol::{
    AgentId, Availability, ServerAddress,
    federation::{BadInvitation, Refusal},
    local::{Event, From, Request},
};
use serde_json::Value;
use std::{fs, io, sync::Barrier, thread};
use tests::{AgentPeer, Host, Keys, NatsServer, Sandbox, Server, Session, eventually};

/// Two servers, called `one` and `two`, on one NATS.
struct Cluster {
    // The servers end before what they stand on.
    one: Server,
    two: Server,
    nats: NatsServer,
    sandbox: Sandbox,
}

impl Cluster {
    fn start() -> Self {
        let sandbox = Sandbox::new();
        let nats = NatsServer::start(&sandbox);
        let [one, two] = ["one", "two"].map(|name| {
            let args = ["--log", &nats.url(), "--nats-synced", "--name", name];
            let mut server = Server::new(&sandbox, tests::server::free_loopback()).with_args(&args);
            server.restart();
            server
        });
        Self {
            one,
            two,
            nats,
            sandbox,
        }
    }

    /// Real hosts, one at each server, with somebody in `#ops` on both.
    fn people(&self) -> (Host, Session, Host, Session) {
        let [(ada, alice), (bee, bob)] = [("ada", "alice", &self.one), ("bee", "bob", &self.two)]
            .map(|(host, nick, server)| {
                let host = Host::start(&self.sandbox, host, server.link());
                host.wait_online();
                let mut session = host.session(nick);
                session.open_room("#ops", From::Beginning);
                (host, session)
            });
        (ada, alice, bee, bob)
    }
}

/// The place and key of `server`, and what `invitation` of another server lets in, if anything.
fn link(server: &Server, invitation: Option<&str>) -> String {
    let parse = |link: &str| ServerAddress::parse(link).expect("a server's address");
    let mut address = parse(&server.link());
    let invitation = invitation.and_then(|link| parse(link).trust.invitation());
    address.trust.set_invitation(invitation);
    address.reveal()
}

/// Connects to `server` with `keys` as the `agent` of `host`, which was let in before.
fn enter(server: &Server, keys: &Keys, host: &str, agent: AgentId) -> Result<AgentPeer, Refusal> {
    let mut peer = AgentPeer::silent(&link(server, None), keys).expect("TLS");
    peer.hello_as(host, agent).map(|()| peer)
}

/// Lets `host` in at `server`.
fn enrol(server: &Server, keys: &Keys, host: &str) -> Result<(), Refusal> {
    let invited = server.invite(1, Some(host));
    let mut peer = AgentPeer::silent(&invited, keys).expect("TLS");
    peer.enrol(&invited, host)
}

/// What `server` says of `host`, if it knows it.
fn listed(server: &Server, host: &str) -> Option<Value> {
    let output = server.order(&["agents", "--json"]).ok();
    let mut lines = output.lines().map(|line| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        line
    });
    lines.find(|line| line["host"] == host)
}

/// Waits until `server` says that `host` is connected to the server called `name`.
fn wait_connected_to(server: &Server, host: &str, name: &str) {
    eventually(&format!("{host} is connected to {name}"), || {
        let seen = listed(server, host);
        match &seen {
            Some(line) if line["state"] == "connected" && line["server"] == name => Ok(()),
            _ => Err(format!("{seen:?}")),
        }
    });
}

#[test]
fn a_host_that_one_server_let_in_is_let_in_by_the_other_and_leaves_the_first() {
    let cluster = Cluster::start();
    let Cluster { one, two, .. } = &cluster;
    let (keys, agent) = (Keys::new(&cluster.sandbox), AgentId::new());
    enrol(one, &keys, "ada").expect("let in");
    let mut first = enter(one, &keys, "ada", agent).expect("let in");
    wait_connected_to(two, "ada", "one");
    let _second = enter(two, &keys, "ada", agent).expect("let in");
    assert_eq!(first.closing_reason(), Some(Refusal::Replaced));
    wait_connected_to(one, "ada", "two");
}

#[test]
fn another_agent_under_the_name_is_refused_while_the_first_is_connected_anywhere() {
    let cluster = Cluster::start();
    let Cluster { one, two, .. } = &cluster;
    let keys = Keys::new(&cluster.sandbox);
    enrol(one, &keys, "ada").expect("let in");
    let first = enter(one, &keys, "ada", AgentId::new()).expect("let in");
    wait_connected_to(two, "ada", "one");
    let refused = enter(two, &keys, "ada", AgentId::new()).map(drop);
    let host = "ada".parse().expect("a host");
    assert_eq!(refused, Err(Refusal::HostInUse { host }));
    drop(first);
    let mut entered = None;
    eventually("the name is free everywhere", || {
        entered = Some(enter(two, &keys, "ada", AgentId::new())?);
        Ok::<_, Refusal>(())
    });
}

#[test]
fn an_invitation_with_one_use_lets_in_one_host_when_two_servers_are_asked_at_once() {
    let cluster = Cluster::start();
    let Cluster { one, two, .. } = &cluster;
    for round in 0..10 {
        let invited = one.invite(1, None);
        let together = Barrier::new(2);
        let answers = thread::scope(|scope| {
            let asked = [(one, "left"), (two, "right")].map(|(server, name)| {
                let (together, link) = (&together, link(server, Some(&invited)));
                let keys = Keys::new(&cluster.sandbox);
                scope.spawn(move || {
                    let mut peer = AgentPeer::silent(&link, &keys).expect("TLS");
                    together.wait();
                    peer.enrol(&link, &format!("{name}{round}"))
                })
            });
            asked.map(|answer| answer.join().expect("an answer"))
        });
        let used = Err(Refusal::BadInvitation {
            reason: BadInvitation::Used,
        });
        let count = |wanted: &Result<(), Refusal>| {
            answers.iter().filter(|answer| *answer == wanted).count()
        };
        assert_eq!((count(&Ok(())), count(&used)), (1, 1), "{answers:?}");
    }
}

#[test]
fn a_host_that_is_revoked_at_one_server_is_cut_off_at_the_other_and_stays_out() {
    let cluster = Cluster::start();
    let Cluster { one, two, .. } = &cluster;
    let (keys, agent) = (Keys::new(&cluster.sandbox), AgentId::new());
    enrol(two, &keys, "ada").expect("let in");
    let mut peer = enter(two, &keys, "ada", agent).expect("let in");
    one.order(&["revoke", "ada"]).expect_code(0);
    assert_eq!(peer.closing_reason(), Some(Refusal::Revoked));
    for server in [one, two] {
        let refused = enter(server, &keys, "ada", agent).map(drop);
        assert_eq!(refused, Err(Refusal::Revoked));
    }
}

#[test]
fn who_is_there_is_the_same_through_any_server() {
    let cluster = Cluster::start();
    let (_ada, mut alice, bee, mut bob) = cluster.people();
    wait_for(&mut bob, "#ops", "alice@ada", Some(Availability::Online));
    wait_for(&mut alice, "#ops", "bob@bee", Some(Availability::Online));
    wait_connected_to(&cluster.one, "bee", "two");
    wait_connected_to(&cluster.two, "bee", "two");
    alice.ask(Request::SetAway { away: true }).expect("away");
    bob.event(|event| match event {
        Event::Presence { user, availability } => {
            (user.to_string() == "alice@ada" && availability == Availability::Away).then_some(())
        }
        _ => None,
    });
    wait_for(&mut bob, "#ops", "alice@ada", Some(Availability::Away));
    drop(bob);
    wait_for(&mut alice, "#ops", "bob@bee", Some(Availability::Offline));
    let _bob = bee.session("bob");
    wait_for(&mut alice, "#ops", "bob@bee", Some(Availability::Online));
}

#[test]
fn users_behind_a_server_that_was_killed_go_offline_and_come_back_with_their_agent() {
    let mut cluster = Cluster::start();
    let (_ada, mut alice, _bee, mut bob) = cluster.people();
    wait_for(&mut bob, "#ops", "alice@ada", Some(Availability::Online));
    cluster.one.kill();
    wait_for(&mut bob, "#ops", "alice@ada", Some(Availability::Offline));
    cluster.one.restart();
    wait_for(&mut bob, "#ops", "alice@ada", Some(Availability::Online));
    wait_for(&mut alice, "#ops", "bob@bee", Some(Availability::Online));
}

#[test]
fn hosts_that_are_in_stay_in_while_nats_is_away_and_others_are_told_why_they_wait() {
    let mut cluster = Cluster::start();
    let (_ada, mut alice, _bee, mut bob) = cluster.people();
    let (keys, agent) = (Keys::new(&cluster.sandbox), AgentId::new());
    enrol(&cluster.one, &keys, "cow").expect("let in");
    drop(enter(&cluster.two, &keys, "cow", agent).expect("let in"));
    // Somebody is about to be let in.
    let invited = cluster.two.invite(1, None);
    cluster.nats.kill();
    let stranger = Keys::new(&cluster.sandbox);
    let mut waiting = AgentPeer::silent(&invited, &stranger).expect("TLS");
    let refused = waiting.enrol(&invited, "dog");
    assert!(
        matches!(&refused, Err(Refusal::Unavailable { reason }) if reason.contains("NATS")),
        "{refused:?}"
    );
    let refused = cluster.one.order(&["invite"]).expect_code(1);
    assert!(refused.stderr.contains("NATS"), "{refused:?}");
    let _in = enter(&cluster.two, &keys, "cow", agent).expect("let in");
    // What is not known any more is not said to be so.
    wait_for(&mut alice, "#ops", "bob@bee", Some(Availability::Unknown));
    cluster.nats.restart();
    eventually("the stranger is let in", || {
        let mut peer = AgentPeer::silent(&invited, &stranger).expect("TLS");
        peer.enrol(&invited, "dog")
    });
    wait_for(&mut alice, "#ops", "bob@bee", Some(Availability::Online));
    wait_for(&mut bob, "#ops", "alice@ada", Some(Availability::Online));
}

#[test]
fn a_server_that_lost_its_register_reads_it_anew() {
    let mut cluster = Cluster::start();
    let (keys, agent) = (Keys::new(&cluster.sandbox), AgentId::new());
    enrol(&cluster.one, &keys, "ada").expect("let in");
    cluster.two.kill();
    for file in ["register.db", "register.db-wal", "register.db-shm"] {
        if let Err(error) = fs::remove_file(cluster.two.state_dir().join(file)) {
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{file}");
        }
    }
    cluster.two.restart();
    drop(enter(&cluster.two, &keys, "ada", agent).expect("let in"));
    // It was this server's own, so no other knows of these hosts.
    let mut alone = Server::start(&cluster.sandbox);
    enrol(&alone, &keys, "ada").expect("let in");
    alone.kill();
    let url = cluster.nats.url();
    let moved = alone.with_args(&["--log", &url, "--nats-synced"]);
    let ended = moved.launch().wait();
    assert!(ended.stderr.contains("register.db"), "{ended:?}");
    assert!(
        ended.stderr.contains("invite those hosts anew"),
        "{ended:?}"
    );
}
