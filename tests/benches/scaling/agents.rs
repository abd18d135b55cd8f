//! Agents that are only there: what it takes to know them, to let them in and to hear from them,
//! at their own server and at the others.

use crate::{
    BASELINE,
    deployment::{Crowd, Deployment},
};
use anyhow::Context;
use protocol::{
    Availability, FederatedRoom, Nick, Room, Seq,
    federation::{Event, Request, ServerFrame},
};
use std::time::{Duration, Instant};
use tests::{
    AgentPeer, Sandbox,
    measure::{Report, micros_each, scaled},
};

/// Users who are there on each host.
const USERS: usize = 20;

/// How often each agent shows life.
const PINGS: usize = 10;

/// How many agents are connected before all show life again: fewer than come within a heartbeat.
const BETWEEN_PINGS: usize = 100;

/// What agents of one deployment cost, each.
struct Costs {
    /// From the first byte to the register's word, in microseconds.
    registering: f64,
    /// Of its own server, in bytes, without users.
    memory: f64,
    /// The same, of its users alone.
    memory_of_users: f64,
    /// Of another server, in bytes, with users.
    memory_elsewhere: f64,
    /// Of processor time, in microseconds.
    connecting: f64,
    ping: f64,
    presence: Presence,
}

/// What it costs that one user comes.
struct Presence {
    here: f64,
    elsewhere: f64,
    nats: f64,
}

pub(crate) fn measure(
    sandbox: &Sandbox,
    sqlite: &mut Deployment,
    several: &mut Deployment,
    report: &mut Report,
) -> anyhow::Result<()> {
    let count = scaled(1_000);
    let crowd = Crowd::new(sandbox, "idle", count + 1);
    let base = costs(sqlite, &crowd, count)?;
    let costs = costs(several, &crowd, count)?;
    let mut add = |name, figure, unit, value| report.add(name, figure, unit, BASELINE, value);
    add(
        "time_per_host_registered",
        costs.registering,
        "µs",
        base.registering,
    );
    add("memory_per_idle_agent", costs.memory, "B", base.memory);
    add(
        "server_cpu_per_connection",
        costs.connecting,
        "µs",
        base.connecting,
    );
    add("server_cpu_per_ping", costs.ping, "µs", base.ping);
    let (presence, alone) = (&costs.presence, &base.presence);
    add(
        "server_cpu_per_user_who_comes",
        presence.here,
        "µs",
        alone.here,
    );
    add(
        "other_server_cpu_per_user_who_comes",
        presence.elsewhere,
        "µs",
        alone.here,
    );
    add(
        "nats_cpu_per_user_who_comes",
        presence.nats,
        "µs",
        alone.here,
    );
    add(
        "memory_per_20_users_here",
        costs.memory_of_users,
        "B",
        base.memory_of_users,
    );
    add(
        "memory_per_agent_with_20_users_elsewhere",
        costs.memory_elsewhere,
        "B",
        base.memory_elsewhere,
    );
    report.note(format!(
        "{count} agents over TLS at one of two servers, {USERS} users each; users in no room, so \
         nobody is told of them"
    ));
    Ok(())
}

fn costs(deployment: &mut Deployment, crowd: &Crowd, count: usize) -> anyhow::Result<Costs> {
    // Nothing that an earlier measurement left behind is to be used again.
    deployment.restart_servers();
    let begun = Instant::now();
    deployment.enrol(crowd)?;
    let registering = begun.elapsed();

    let other = deployment.servers.len() - 1;
    let both = |deployment: &mut Deployment| [0, other].map(|one| deployment.memory_of(one));
    let mut memory = both(deployment);
    let time = deployment.time_of(0);
    let mut peers: Vec<AgentPeer> = Vec::with_capacity(count);
    let mut pinged = Duration::ZERO;
    // What a server needs for the first few it does not need again for the others.
    let some = count / 5;
    for member in 0..count {
        peers.push(deployment.agent(0, crowd, member)?);
        if peers.len().is_multiple_of(BETWEEN_PINGS) {
            pinged += ping_all(deployment, &mut peers)?;
        }
        if peers.len() == some {
            memory = both(deployment);
        }
    }
    let connecting = deployment.time_of(0) - time - pinged;
    let connected = deployment.memory_of(0);

    let mut ping = Duration::ZERO;
    for _ in 0..PINGS {
        ping += ping_all(deployment, &mut peers)?;
    }
    let observer = deployment.agent(other, crowd, count)?;
    let presence = come(deployment, &mut peers, observer)?;
    let bytes = |now: u64, before| now.saturating_sub(before) as f64;
    let rest = (count - some) as f64;
    Ok(Costs {
        registering: micros_each(registering, count + 1),
        connecting: micros_each(connecting, count),
        ping: micros_each(ping, PINGS * count),
        presence,
        memory: bytes(connected, memory[0]) / rest,
        memory_of_users: bytes(deployment.memory_of(0), connected) / count as f64,
        memory_elsewhere: bytes(deployment.memory_of(other), memory[1]) / rest,
    })
}

/// Lets everybody show life; the processor time of the server.
fn ping_all(deployment: &mut Deployment, peers: &mut [AgentPeer]) -> anyhow::Result<Duration> {
    let before = deployment.time_of(0);
    for peer in peers {
        peer.ask(Request::Ping)?;
    }
    Ok(deployment.time_of(0) - before)
}

/// Lets the users of all hosts come, until the `observer` has been told of the last of them.
fn come(
    deployment: &mut Deployment,
    peers: &mut [AgentPeer],
    mut observer: AgentPeer,
) -> anyhow::Result<Presence> {
    let other = deployment.servers.len() - 1;
    let last = Nick::parse(&format!("user{}", USERS - 1))?;
    let seen = FederatedRoom::parse("#seen")?;
    for (peer, nick) in [
        (peers.last_mut().context("an agent")?, last.clone()),
        (&mut observer, Nick::parse("observer")?),
    ] {
        let room = seen.clone();
        peer.ask(Request::Join { room, nick })?;
    }
    observer.ask(Request::Subscribe {
        room: Room::Federated(seen),
        after: Seq::START,
        after_id: None,
    })?;
    let time = [0, other].map(|server| deployment.time_of(server));
    let nats = deployment.spent().nats;
    // One of each host after the other, as people come in the morning.
    for user in 0..USERS {
        let nick = Nick::parse(&format!("user{user}"))?;
        for peer in &mut *peers {
            peer.ask(Request::Presence {
                nick: nick.clone(),
                availability: Availability::Online,
            })?;
        }
    }
    loop {
        let frame = observer.wire().receive()?.context("the server closed")?;
        if let ServerFrame::Event(Event::Presence { user, .. }) = frame
            && user.nick == last
        {
            break;
        }
    }
    let cpu = |now: Duration, before| micros_each(now - before, USERS * peers.len());
    Ok(Presence {
        here: cpu(deployment.time_of(0), time[0]),
        elsewhere: cpu(deployment.time_of(other), time[1]),
        nats: cpu(deployment.spent().nats, nats),
    })
}
