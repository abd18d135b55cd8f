//! Starts after a kill, on a log that holds many messages, and what NATS needs to hold them.

use crate::{
    BASELINE,
    deployment::{Crowd, Deployment},
    rooms,
};
use protocol::{FederatedRoom, Room};
use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};
use tests::{
    Sandbox, eventually,
    load::{self, Reader, Sender},
    measure::{Report, scaled},
};

/// Agents that fill the log together.
const SENDERS: usize = 4;

/// Messages that each of them has ahead of its acknowledgements.
const WINDOW: usize = 240;

/// How many messages the log is to have more of; `CHAT_BENCH_MESSAGES` says another number.
const MESSAGES: usize = 100_000;

pub(crate) fn measure(
    sandbox: &Sandbox,
    sqlite: &mut Deployment,
    several: &mut Deployment,
    report: &mut Report,
) -> anyhow::Result<()> {
    let wanted = std::env::var("CHAT_BENCH_MESSAGES").ok();
    let wanted = wanted.and_then(|text| text.parse().ok());
    let each = scaled(wanted.unwrap_or(MESSAGES)) / SENDERS;
    let crowd = Crowd::new(sandbox, "bulk", SENDERS + 1);
    fill(sqlite, &crowd, each)?;
    let base = start(sqlite, 0);

    let nats_before = restart_nats(several).1;
    let disk = several.grown();
    fill(several, &crowd, each)?;
    let count = (SENDERS * each) as f64;
    let disk = (several.grown() - disk) as f64 / count;
    let (nats_start, nats_after) = restart_nats(several);
    let last = several.servers.len() - 1;
    let warm = start(several, last);
    several.servers[last].kill();
    for name in ["jetstream", "register"] {
        forget(several.servers[last].state_dir(), name)?;
    }
    let cold = start(several, last);
    let follow_base = follow_some(sqlite, 0, &crowd)?;
    let followed = follow_some(several, last, &crowd)?;

    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let mut add = |name, figure, unit, value| report.add(name, figure, unit, BASELINE, value);
    add("start_of_a_server", millis(warm), "ms", millis(base));
    add(
        "start_of_a_server_without_its_caches",
        millis(cold),
        "ms",
        millis(base),
    );
    add("start_of_nats", millis(nats_start), "ms", millis(base));
    add(
        "time_to_follow_one_of_50_rooms_then",
        millis(followed),
        "ms",
        millis(follow_base),
    );
    let memory = nats_after.saturating_sub(nats_before) as f64 / count;
    report.add("nats_memory_per_message", memory, "B", "in its store", disk);
    report.note(format!(
        "starts after SIGKILL with {count} messages more than before in the log; a server without \
         its caches reads the commands and the register again"
    ));
    Ok(())
}

/// Puts messages into the log, and reads them.
fn fill(deployment: &Deployment, crowd: &Crowd, each: usize) -> anyhow::Result<()> {
    // A server soon notices that NATS is there again.
    eventually("hosts are let in", || deployment.enrol(crowd));
    let room: Room = "#bulk".parse()?;
    let mut senders = Vec::with_capacity(SENDERS);
    for number in 0..SENDERS {
        let peer = deployment.agent(number, crowd, number)?;
        senders.push(Sender::new(peer, crowd.host(number), room.clone(), each)?);
    }
    let sent = load::send_all(&mut senders, WINDOW)?;
    Reader::follow(deployment.agent(0, crowd, SENDERS)?, &room)?.verify(&sent.ids)
}

/// Follows rooms one after the other, at a server where nobody follows any; how long each takes.
fn follow_some(deployment: &Deployment, server: usize, crowd: &Crowd) -> anyhow::Result<Duration> {
    const ROOMS: u32 = 50;
    let mut peer = deployment.agent(server, crowd, SENDERS)?;
    let names = (0..ROOMS).map(|number| FederatedRoom::parse(&format!("#late{number}")));
    let rooms: Vec<FederatedRoom> = names.collect::<Result<_, _>>()?;
    rooms::join(&mut peer, &rooms)?;
    let begun = Instant::now();
    for room in &rooms {
        peer.ask(rooms::follow(room))?;
    }
    Ok(begun.elapsed() / ROOMS)
}

/// Kills and starts the `number`th server; how long until it listened.
fn start(deployment: &mut Deployment, number: usize) -> Duration {
    let server = &mut deployment.servers[number];
    server.kill();
    let begun = Instant::now();
    server.restart();
    begun.elapsed()
}

/// Kills and starts NATS; how long until it was ready, and the memory that it has more than when
/// it was empty.
fn restart_nats(deployment: &mut Deployment) -> (Duration, u64) {
    let Some(nats) = &mut deployment.nats else {
        return (Duration::ZERO, 0);
    };
    nats.kill();
    let begun = Instant::now();
    nats.restart();
    (begun.elapsed(), deployment.nats_grown())
}

/// Removes a database.
fn forget(dir: &Path, name: &str) -> io::Result<()> {
    for suffix in ["db", "db-wal", "db-shm", "exists"] {
        match fs::remove_file(dir.join(name).with_extension(suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
