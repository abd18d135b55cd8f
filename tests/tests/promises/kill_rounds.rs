//! Promises 1, 2 and 3 under SIGKILL: acknowledged means durable, exactly once to the reader,
//! one order for all.
//!
//! Senders write numbered messages into two shared rooms, some as scripts (one `chat send --id` a
//! message, retried under its key), the others through pipes. Readers follow both rooms and resume
//! from their cursors. Two hosts have two of each; of six, each has one. Every round kills
//! somebody.

mod actor;

use crate::conversation::two_hosts;
use actor::{Actor, ROOMS, Running, Shared, lock};
use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};
use tests::{
    Host, NatsServer, Outcome, Place, Random, Sandbox, Server, Servers, check, eventually, heavy,
    server::free_loopback,
    wait::{eventually_within, limit},
};

#[test]
fn acknowledged_messages_survive_every_kill_exactly_once_in_one_order() {
    let sandbox = Sandbox::new();
    let federation = Federation::around_one(&sandbox, &sandbox.place());
    kill_everybody("kill_rounds", rounds(100), &sandbox, federation);
}

/// How often somebody is killed: `CHAT_KILL_ROUNDS` times, or `usual`.
fn rounds(usual: u32) -> u32 {
    let given = std::env::var("CHAT_KILL_ROUNDS").ok();
    given.map_or(usual, |text| {
        text.parse().expect("CHAT_KILL_ROUNDS: a number")
    })
}

/// Six hosts know three servers by one line, and the servers share a log on NATS, which is killed
/// like everybody else.
#[test]
fn acknowledged_messages_survive_kills_of_three_servers_and_of_nats_under_them() {
    let sandbox = Sandbox::new();
    let servers = Servers::start(&sandbox, 3);
    let names = ["ada", "bee", "cow", "dog", "elk", "fox"];
    let federation = Federation::of_many(&sandbox, servers, &names);
    kill_everybody("kill_rounds, on NATS", rounds(40), &sandbox, federation);
}

/// Two servers share a log that three NATS servers store, each of which is killed, one at a time: every
/// second round one goes, and the others may have to do without it until everybody has got on.
#[test]
fn killing_nodes_of_the_log_cluster_loses_and_doubles_nothing() {
    let sandbox = Sandbox::new();
    let servers = Servers::on_cluster(&sandbox, 2);
    let federation = Federation::of_many(&sandbox, servers, &["ada", "bee", "cow"]);
    let rounds = rounds(8);
    kill_everybody("kill_rounds, on a cluster", rounds, &sandbox, federation);
}

/// As above, with milliseconds before each write to a database: now most kills hit a
/// transaction that is under way, and whoever tells of it too soon is found out.
#[test]
fn acknowledged_messages_survive_kills_while_the_disk_writes_slowly() {
    let sandbox = Sandbox::new();
    let slow = [
        "strace",
        "-D",
        "-f",
        "-qq",
        "--seccomp-bpf",
        "-o",
        "/dev/null",
        "-e",
        "trace=pwrite64",
        "-e",
        "inject=pwrite64:delay_enter=4000",
        "--",
    ];
    let daemons = sandbox.place().through(slow);
    let federation = Federation::around_one(&sandbox, &daemons);
    kill_everybody("kill_rounds, slowly", rounds(50), &sandbox, federation);
}

/// The daemons that are killed, and where they run.
struct Federation {
    servers: Vec<Server>,
    hosts: Vec<Host>,
    /// Beneath all servers, if they share a log: one, or the nodes of a cluster.
    nats: Vec<NatsServer>,
    /// How many nodes of a cluster were killed.
    nodes_killed: usize,
}

impl Federation {
    /// Two hosts and their server.
    fn around_one(sandbox: &Sandbox, daemons: &Place) -> Self {
        let mut server = Server::new(sandbox, free_loopback()).in_place(daemons.clone());
        server.restart();
        let hosts = ["ada", "bee"].map(|name| {
            let mut host = Host::new(sandbox, name)
                .with_server(server.link())
                .in_place(daemons.clone());
            host.restart();
            host
        });
        Self {
            servers: vec![server],
            hosts: hosts.into(),
            nats: Vec::new(),
            nodes_killed: 0,
        }
    }

    /// Hosts that know all of `servers`.
    fn of_many(sandbox: &Sandbox, servers: Servers, names: &[&str]) -> Self {
        let hosts = names.iter().map(|name| servers.host(sandbox, name));
        let hosts = hosts.collect();
        let (servers, nats) = servers.into_parts();
        Self {
            servers,
            hosts,
            nats,
            nodes_killed: 0,
        }
    }

    fn any_server(&mut self, random: &mut Random) -> &mut Server {
        any(&mut self.servers, random)
    }

    /// Whether a node of a cluster is to be killed in this round.
    const fn is_turn_of_a_node(&self, round: u32) -> bool {
        self.nats.len() > 1 && round % 2 == 1
    }

    /// Kills the next node of the cluster and starts it again, `down` later or when the others have got
    /// on without it, and waits until the cluster is whole: more it does not promise to survive.
    fn kill_a_node(&mut self, random: &mut Random, down: Duration, get_on: impl Fn()) {
        let next = self.nodes_killed % self.nats.len();
        self.nodes_killed += 1;
        self.nats[next].kill();
        match random.chance(50) {
            true => get_on(),
            false => thread::sleep(down),
        }
        self.nats[next].restart();
        self.nats.iter().for_each(NatsServer::wait_healthy);
    }

    /// Kills one of the daemons, or two, and starts them again after `down`.
    fn kill_some(&mut self, random: &mut Random, which: u64, down: Duration) {
        if let [nats] = &mut self.nats[..]
            && random.chance(25)
        {
            nats.kill();
            thread::sleep(down);
            return nats.restart();
        }
        match which {
            0..=2 => {
                let server = self.any_server(random);
                server.kill();
                thread::sleep(down);
                server.restart();
            }
            3..=5 => {
                let host = any(&mut self.hosts, random);
                host.kill_agent();
                thread::sleep(down);
                host.restart();
            }
            _ => {
                self.any_server(random).kill();
                let host = any(&mut self.hosts, random);
                host.kill_agent();
                thread::sleep(down);
                host.restart();
                for server in &mut self.servers {
                    server.ensure_running();
                }
            }
        }
    }
}

/// One of `some`; of a single one nothing is drawn.
fn any<'a, T>(some: &'a mut [T], random: &mut Random) -> &'a mut T {
    let index = match some.len() {
        1 => 0,
        count => usize::try_from(random.within(0..count as u64)).expect("a small number"),
    };
    &mut some[index]
}

/// Lets everybody talk, kills somebody in each of `rounds` and judges what was told and read.
fn kill_everybody(test: &str, rounds: u32, sandbox: &Sandbox, mut federation: Federation) {
    let _turn = heavy();
    let mut random = Random::from_env(test);
    let terminal = |host: &Host, nick: &str| host.terminal(nick).in_place(sandbox.place());

    let shared = Arc::new(Shared::default());
    let mut senders = Vec::new();
    let mut readers = Vec::new();
    let few = federation.hosts.len() == 2;
    for (number, host) in federation.hosts.iter().enumerate() {
        if few || number % 2 == 0 {
            let script = Actor::new(terminal(host, "script"), &shared, &mut random);
            senders.push(script.spawn(Actor::send_as_script));
        }
        if few || number % 2 == 1 {
            let pipe = Actor::new(terminal(host, "pipe"), &shared, &mut random);
            senders.push(pipe.spawn(Actor::send_as_pipe));
        }
        for nick in if few {
            &["early", "late"][..]
        } else {
            &["early"]
        } {
            let reader = Actor::new(terminal(host, nick), &shared, &mut random);
            readers.push(reader.spawn(Actor::read));
        }
    }
    wait_for_progress(&senders, &readers);

    for round in 1..=rounds {
        thread::sleep(random.pause(200));
        let down = random.pause(150);
        match random.within(0..10) {
            _ if federation.is_turn_of_a_node(round) => {
                federation.kill_a_node(&mut random, down, || wait_for_progress(&senders, &readers));
            }
            which @ 0..=6 => federation.kill_some(&mut random, which, down),
            7..=8 => random.pick(&senders).kill(),
            _ => random.pick(&readers).kill(),
        }
        if round % 5 == 0 {
            wait_for_progress(&senders, &readers);
            if round % (rounds / 10).max(5) == 0 {
                let acknowledged = shared.acknowledged();
                eprintln!("round {round} of {rounds}: {acknowledged} acknowledged");
            }
        }
    }

    shared.senders_stop.store(true, Ordering::Relaxed);
    for sender in &mut senders {
        sender.join();
    }
    // Whatever a sender left behind comes before its fence, and every reader gets the fences.
    let mut fences = HashSet::new();
    for host in &federation.hosts {
        host.wait_online();
        host.wait_outbox_empty();
    }
    for sender in &senders {
        let (nick, host) = sender.user.split_once('@').expect("a user");
        let mut hosts = federation.hosts.iter();
        let host = hosts.find(|one| one.name() == host).expect("a host");
        for room in ROOMS {
            let terminal = terminal(host, nick);
            let body = format!("{} ends in {room}", sender.user);
            let line = terminal.send_committed(room, &body);
            let acknowledged = Outcome::Acknowledged;
            shared.sent(&sender.user, room, &body, acknowledged, Some(&line));
            fences.insert(body);
        }
    }
    shared.expect_fences(fences);
    for reader in &mut readers {
        reader.join();
    }

    let history = lock(&shared.history);
    eprintln!(
        "{rounds} rounds: {} acknowledged of {} tried",
        history.acknowledged(),
        history.sends.len()
    );
    let readers: Vec<&str> = readers.iter().map(|reader| reader.user.as_str()).collect();
    if let Err(violations) = check(&history, &readers) {
        let path = sandbox.path().join("history.json");
        history.save(&path).expect("history saved");
        let some: Vec<_> = violations.iter().take(10).collect();
        panic!(
            "{} broken promises in {}: {some:#?}",
            violations.len(),
            path.display()
        );
    }
}

/// Waits until every sender has been told something and every reader has read something, from
/// now on: nobody hangs after a kill.
fn wait_for_progress(senders: &[Running], readers: &[Running]) {
    let before: Vec<_> = senders
        .iter()
        .chain(readers)
        .map(Running::progress)
        .collect();
    eventually_within(limit() * 2, "everybody gets on", || {
        for (actor, before) in senders.iter().chain(readers).zip(&before) {
            if actor.progress() == *before {
                return Err(format!("{} still at {before}", actor.user));
            }
        }
        Ok(())
    });
}

#[test]
fn a_message_retried_under_its_key_is_there_once() {
    let sandbox = Sandbox::new();
    let (mut server, mut ada, bee) = two_hosts(&sandbox);
    let alice = ada.terminal("alice");
    let mut bob = bee.terminal("bob").tail(&["#ops"], "0");
    let first = alice.send_with(
        "#ops",
        "deployed",
        &["--id", "deploy-7", "--wait", "committed"],
    );
    ada.kill_agent();
    server.kill();
    ada.restart();
    server.restart();
    let again = alice.send_with(
        "#ops",
        "deployed",
        &["--id", "deploy-7", "--wait", "committed"],
    );
    assert_eq!(first, again);
    let other = alice.send_with("#ops", "done", &["--wait", "committed"]);
    assert_ne!(other.id, first.id);
    bob.wait_for("done");
    assert_eq!(bob.bodies(), ["deployed", "done"]);

    let conflict = alice.run(["send", "#ops", "something else", "--id", "deploy-7"]);
    assert!(!conflict.expect_code(1).stderr.is_empty());
    let stays = eventually("the room is read whole", || {
        match bee.terminal("bob").read_all("#ops") {
            all if all.len() >= 2 => Ok(all),
            some => Err(format!("{some:?}")),
        }
    });
    assert_eq!(stays.len(), 2, "{stays:?}");
}
