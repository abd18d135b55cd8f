//! Promises 1, 2 and 3 under SIGKILL: acknowledged means durable, exactly once to the reader,
//! one order for all.
//!
//! Four senders on two hosts write numbered messages into two shared rooms, two as scripts (one
//! `chat send --id` a message, retried under its key), two through pipes. Four readers follow
//! both rooms and resume from their cursors. Every round kills somebody.

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
    Host, NatsServer, Outcome, Place, Random, Sandbox, Server, check, eventually, heavy,
    server::free_loopback,
    wait::{eventually_within, limit},
};

#[test]
fn acknowledged_messages_survive_every_kill_exactly_once_in_one_order() {
    let rounds = std::env::var("CHAT_KILL_ROUNDS").ok();
    let rounds: u32 = rounds.map_or(100, |text| {
        text.parse().expect("CHAT_KILL_ROUNDS: a number")
    });
    let sandbox = Sandbox::new();
    let federation = Federation::around_one(&sandbox, &sandbox.place());
    kill_everybody("kill_rounds", rounds, &sandbox, federation);
}

/// Each host has a server of its own, and the servers share a log on NATS, which is killed like
/// everybody else.
#[test]
fn acknowledged_messages_survive_kills_of_two_servers_and_of_nats_under_them() {
    let sandbox = Sandbox::new();
    let federation = Federation::on_nats(&sandbox, 2);
    kill_everybody("kill_rounds, on NATS", 50, &sandbox, federation);
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
    kill_everybody("kill_rounds, slowly", 50, &sandbox, federation);
}

/// The daemons that are killed, and where they run.
struct Federation {
    /// Beneath all servers, if they share a log.
    nats: Option<NatsServer>,
    servers: Vec<Server>,
    hosts: [Host; 2],
}

impl Federation {
    fn around_one(sandbox: &Sandbox, daemons: &Place) -> Self {
        let server = Server::new(sandbox, free_loopback()).in_place(daemons.clone());
        Self::of(sandbox, daemons, vec![server], None)
    }

    fn on_nats(sandbox: &Sandbox, servers: usize) -> Self {
        let nats = NatsServer::start(sandbox);
        let args = ["--log", &nats.url(), "--nats-synced"];
        let server = |_| {
            Server::new(sandbox, free_loopback())
                .with_args(&args)
                .plaintext()
        };
        let servers = (0..servers).map(server).collect();
        Self::of(sandbox, &sandbox.place(), servers, Some(nats))
    }

    fn of(
        sandbox: &Sandbox,
        daemons: &Place,
        mut servers: Vec<Server>,
        nats: Option<NatsServer>,
    ) -> Self {
        for server in &mut servers {
            server.restart();
        }
        let mut count = 0;
        let hosts = ["ada", "bee"].map(|name| {
            let server = &servers[count % servers.len()];
            count += 1;
            let mut host = Host::new(sandbox, name)
                .with_server(server.link())
                .in_place(daemons.clone());
            host.restart();
            host
        });
        Self {
            nats,
            servers,
            hosts,
        }
    }

    fn any_server(&mut self, random: &mut Random) -> &mut Server {
        // With one server nothing is drawn, so that a seed means what it always did.
        let index = match self.servers.len() {
            1 => 0,
            count => usize::try_from(random.within(0..count as u64)).expect("a small number"),
        };
        &mut self.servers[index]
    }

    /// Kills one of the daemons, or two, and starts them again after `down`.
    fn kill_some(&mut self, random: &mut Random, which: u64, down: Duration) {
        if let Some(nats) = &mut self.nats
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
                let index = usize::from(random.chance(50));
                self.hosts[index].kill_agent();
                thread::sleep(down);
                self.hosts[index].restart();
            }
            _ => {
                self.any_server(random).kill();
                let index = usize::from(random.chance(50));
                self.hosts[index].kill_agent();
                thread::sleep(down);
                self.hosts[index].restart();
                for server in &mut self.servers {
                    server.ensure_running();
                }
            }
        }
    }
}

/// Lets everybody talk, kills somebody in each of `rounds` and judges what was told and read.
fn kill_everybody(test: &str, rounds: u32, sandbox: &Sandbox, mut federation: Federation) {
    let _turn = heavy();
    let mut random = Random::from_env(test);
    let terminal = |host: &Host, nick: &str| host.terminal(nick).in_place(sandbox.place());

    let shared = Arc::new(Shared::default());
    let mut senders = Vec::new();
    let mut readers = Vec::new();
    for host in &federation.hosts {
        let script = Actor::new(terminal(host, "script"), &shared, &mut random);
        let pipe = Actor::new(terminal(host, "pipe"), &shared, &mut random);
        senders.extend([
            script.spawn(Actor::send_as_script),
            pipe.spawn(Actor::send_as_pipe),
        ]);
        for nick in ["early", "late"] {
            let reader = Actor::new(terminal(host, nick), &shared, &mut random);
            readers.push(reader.spawn(Actor::read));
        }
    }
    wait_for_progress(&senders, &readers);

    for round in 1..=rounds {
        thread::sleep(random.pause(200));
        let down = random.pause(150);
        match random.within(0..10) {
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
        for nick in ["script", "pipe"] {
            for room in ROOMS {
                let terminal = terminal(host, nick);
                let body = format!("{} ends in {room}", terminal.user());
                let line = terminal.send_committed(room, &body);
                shared.sent(
                    &terminal.user(),
                    room,
                    &body,
                    Outcome::Acknowledged,
                    Some(&line),
                );
                fences.insert(body);
            }
        }
        host.wait_outbox_empty();
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
