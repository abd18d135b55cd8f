//! Rooms: what it takes to know them, to follow them, and to be given what is said in others.

use crate::{
    BASELINE,
    deployment::{Crowd, Deployment},
};
use anyhow::Context;
use protocol::{FederatedRoom, Nick, Room, Seq, federation::Request, limits::MAX_ROOMS_PER_USER};
use std::{
    fs,
    time::{Duration, Instant},
};
use tests::{
    AgentPeer, Sandbox,
    load::{self, Sender},
    measure::{Report, micros_each, scaled},
};

/// Requests ahead of their answers.
const WINDOW: usize = 256;

/// Rooms that are followed one after the other, each when the one before is. As many as a server asks
/// JetStream for by name.
const ONE_BY_ONE: usize = 400;

/// What rooms of one deployment cost, each.
struct Costs {
    /// That somebody joins, in microseconds of processor time: at the server that is asked.
    joining: f64,
    /// The same, at another one, which does it too.
    joining_elsewhere: f64,
    joining_nats: f64,
    /// That who is in a room is said to join it, as after every connecting: at the server, and of NATS.
    joining_again: [f64; 2],
    /// What the last server keeps of a room with two members, in bytes of memory and in its files.
    memory: f64,
    file: f64,
    /// Until one more room is followed, in microseconds: the first and the last of few.
    first_followed: f64,
    last_followed: f64,
    /// Until one more is followed beyond these.
    more_followed: f64,
    memory_followed: f64,
    /// That one more agent follows a room that is followed at its server, in microseconds of
    /// processor time.
    coming_back: f64,
    coming_back_nats: f64,
    /// What is said where nobody at a server follows, in microseconds of that server.
    overheard: f64,
}

pub(crate) fn measure(
    sandbox: &Sandbox,
    sqlite: &mut Deployment,
    several: &mut Deployment,
    report: &mut Report,
) -> anyhow::Result<()> {
    let crowd = Crowd::new(sandbox, "rooms", 4);
    let rooms = scaled(16_000);
    let said = scaled(10_000);
    let base = costs(sqlite, &crowd, rooms, said)?;
    let costs = costs(several, &crowd, rooms, said)?;
    let mut add = |name, figure, unit, value| report.add(name, figure, unit, BASELINE, value);
    add("server_cpu_per_join", costs.joining, "µs", base.joining);
    add(
        "other_server_cpu_per_join",
        costs.joining_elsewhere,
        "µs",
        base.joining,
    );
    add("nats_cpu_per_join", costs.joining_nats, "µs", base.joining);
    let [again, nats] = costs.joining_again;
    add(
        "server_cpu_per_join_again",
        again,
        "µs",
        base.joining_again[0],
    );
    add("nats_cpu_per_join_again", nats, "µs", base.joining_again[0]);
    add(
        "memory_per_room_not_followed",
        costs.memory,
        "B",
        base.memory,
    );
    add("file_per_room_with_2_members", costs.file, "B", base.file);
    add(
        "time_to_follow_one_of_the_first_50_rooms",
        costs.first_followed,
        "µs",
        base.first_followed,
    );
    add(
        "time_to_follow_one_of_the_last_50_of_400",
        costs.last_followed,
        "µs",
        base.last_followed,
    );
    add(
        "time_to_follow_one_beyond_400",
        costs.more_followed,
        "µs",
        base.more_followed,
    );
    add(
        "server_cpu_per_room_that_one_more_agent_follows",
        costs.coming_back,
        "µs",
        base.coming_back,
    );
    add(
        "nats_cpu_per_room_that_one_more_agent_follows",
        costs.coming_back_nats,
        "µs",
        base.coming_back,
    );
    add(
        "memory_per_room_followed",
        costs.memory_followed,
        "B",
        base.memory_followed,
    );
    add(
        "server_cpu_per_message_of_a_room_followed_elsewhere",
        costs.overheard,
        "µs",
        base.overheard,
    );
    report.note(format!(
        "{rooms} rooms with a member at each of two servers, followed by one agent; \"elsewhere\" \
         beside SQLite is the same server"
    ));
    Ok(())
}

fn costs(
    deployment: &mut Deployment,
    crowd: &Crowd,
    count: usize,
    said: usize,
) -> anyhow::Result<Costs> {
    deployment.restart_servers();
    deployment.enrol(crowd)?;
    let other = deployment.servers.len() - 1;
    let rooms: Vec<FederatedRoom> = (0..count)
        .map(|number| FederatedRoom::parse(&format!("#room{number:05}")))
        .collect::<Result<_, _>>()
        .context("a name")?;
    // What a server needs for the first few it does not need again for the others.
    let (some, rooms) = rooms.split_at(count / 8);
    let count = rooms.len();
    for (number, member) in [(0, 0), (other, 1)] {
        join(&mut deployment.agent(number, crowd, member)?, some)?;
    }
    let memory = deployment.memory_of(other);
    let file = state_bytes(deployment, other);

    let time = [0, other].map(|server| deployment.time_of(server));
    let nats = deployment.spent().nats;
    join(&mut deployment.agent(0, crowd, 0)?, rooms)?;
    // That the other server has done all of it, too, is known once somebody there was let in.
    let mut follower = deployment.agent(other, crowd, 1)?;
    join(&mut follower, &rooms[..1])?;
    let cpu = |now: Duration, before| micros_each(now - before, count);
    let joining = cpu(deployment.time_of(0), time[0]);
    let joining_elsewhere = cpu(deployment.time_of(other), time[1]);
    let joining_nats = cpu(deployment.spent().nats, nats);
    join(&mut follower, rooms)?;
    let bytes = |now: u64, before| now.saturating_sub(before) as f64 / count as f64;
    let known = deployment.memory_of(other);
    let files = state_bytes(deployment, other);

    let mut each = Vec::with_capacity(ONE_BY_ONE);
    let (few, more) = rooms.split_at(ONE_BY_ONE.min(count / 2));
    for room in few {
        let begun = Instant::now();
        follower.ask(follow(room))?;
        each.push(begun.elapsed());
    }
    let begun = Instant::now();
    load::ask_all(&mut follower, more.iter().map(follow), WINDOW)?;
    let more_followed = begun.elapsed();
    let some = 50.min(each.len());
    let total = |times: &[Duration]| micros_each(times.iter().sum(), some);
    let memory_followed = bytes(deployment.memory_of(other), known);

    let mut second = deployment.agent(other, crowd, 3)?;
    let mut coming_back = [Duration::ZERO; 2];
    let mut joining_again = [Duration::ZERO; 2];
    for rooms in rooms.chunks(1_000) {
        join(&mut second, rooms)?;
        let before = [deployment.time_of(other), deployment.spent().nats];
        join(&mut second, rooms)?;
        joining_again[0] += deployment.time_of(other) - before[0];
        joining_again[1] += deployment.spent().nats - before[1];
        // Neither is silent for long.
        follower.ask(Request::Ping)?;
        let before = [deployment.time_of(other), deployment.spent().nats];
        load::ask_all(&mut second, rooms.iter().map(follow), WINDOW)?;
        coming_back[0] += deployment.time_of(other) - before[0];
        coming_back[1] += deployment.spent().nats - before[1];
        follower.ask(Request::Ping)?;
    }

    let peer = deployment.agent(0, crowd, 2)?;
    let room: Room = "#elsewhere".parse()?;
    let mut sender = [Sender::new(peer, crowd.host(2), room, said)?];
    let before = deployment.time_of(other);
    load::send_all(&mut sender, WINDOW)?;
    let overheard = deployment.time_of(other) - before;
    follower.ask(Request::Ping)?;
    Ok(Costs {
        joining,
        joining_elsewhere,
        joining_nats,
        memory: bytes(known, memory),
        file: bytes(files, file),
        first_followed: total(&each[..some]),
        last_followed: total(&each[each.len() - some..]),
        more_followed: micros_each(more_followed, more.len()),
        memory_followed,
        joining_again: joining_again.map(|time| micros_each(time, count)),
        coming_back: micros_each(coming_back[0], count),
        coming_back_nats: micros_each(coming_back[1], count),
        overheard: micros_each(overheard, said),
    })
}

/// Lets somebody of the host of `peer` join all `rooms`; several, as nobody may be in all.
pub(crate) fn join(peer: &mut AgentPeer, rooms: &[FederatedRoom]) -> anyhow::Result<()> {
    for rooms in rooms.chunks(MAX_ROOMS_PER_USER / 2) {
        // Called after the first of the rooms that they are in.
        let first = rooms.first().map(ToString::to_string).unwrap_or_default();
        let nick = Nick::parse(&format!("of-{}", first.trim_start_matches('#')))?;
        let requests = rooms.iter().map(|room| Request::Join {
            room: room.clone(),
            nick: nick.clone(),
        });
        load::ask_all(peer, requests, WINDOW)?;
    }
    Ok(())
}

pub(crate) fn follow(room: &FederatedRoom) -> Request {
    Request::Subscribe {
        room: Room::Federated(room.clone()),
        after: Seq::START,
        after_id: None,
    }
}

/// Bytes of the files of one server.
fn state_bytes(deployment: &Deployment, number: usize) -> u64 {
    let entries = fs::read_dir(deployment.servers[number].state_dir());
    let files = entries.into_iter().flatten().flatten();
    files
        .filter_map(|file| Some(file.metadata().ok()?.len()))
        .sum()
}
