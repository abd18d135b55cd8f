//! Messages: committed, brought to the servers that want them, and delivered to agents.

use crate::{
    BASELINE,
    deployment::{Crowd, Deployment, Spent},
};
use anyhow::Context;
use protocol::Room;
use std::{
    thread,
    time::{Duration, Instant},
};
use tests::{
    Sandbox,
    load::{self, BODY_BYTES, LogStats, Reader, Sender},
    measure::{Report, median, micros_each, per_second, scaled},
};

/// All deployments take turns, so that noise of other programs hits them alike.
const ROUNDS: usize = 3;

/// Agents that send at once; as many at each server, of one, two or three.
const SENDERS: usize = 12;

/// Messages that each of them has ahead of its acknowledgements. All of them fit into what one
/// server queues, so nobody is told "not yet".
const WINDOW: usize = 80;

/// The same, of the one that sends to many.
const WINDOW_ALONE: usize = 256;

/// Agents that a room is delivered to in the end.
const FOLLOWERS: usize = 48;

/// What one deployment did in all rounds.
#[derive(Default)]
struct Tally {
    committed: Way,
    /// One sender, and nobody follows.
    alone: Way,
    /// One sender, and one agent at each server follows.
    thin: Way,
    /// One sender, and `FOLLOWERS` agents follow.
    wide: Way,
    batch: usize,
    /// How much the log grew.
    grown: u64,
    messages: usize,
}

#[derive(Default)]
struct Way {
    rates: Vec<f64>,
    spent: Spent,
}

impl Way {
    fn add(&mut self, count: usize, elapsed: Duration, spent: Spent) {
        self.rates.push(per_second(count, elapsed));
        self.spent += spent;
    }
}

pub(crate) fn measure(
    sandbox: &Sandbox,
    deployments: &mut [Deployment],
    report: &mut Report,
) -> anyhow::Result<()> {
    let sizes = Sizes {
        each: scaled(2_000),
        told: scaled(6_000),
    };
    // Those who follow, and one who speaks to them.
    let crowd = Crowd::new(sandbox, "bench", FOLLOWERS + 1);
    let mut tallies: Vec<Tally> = deployments.iter().map(|_| Tally::default()).collect();
    for deployment in &*deployments {
        deployment.enrol(&crowd)?;
    }
    for round in 0..ROUNDS {
        for (deployment, tally) in deployments.iter_mut().zip(&mut tallies) {
            play(deployment, tally, &crowd, sizes, round)?;
        }
    }
    tell(deployments, &tallies, sizes, report);
    Ok(())
}

#[derive(Clone, Copy)]
struct Sizes {
    /// Messages of each of many senders.
    each: usize,
    /// Messages of the one.
    told: usize,
}

fn play(
    deployment: &mut Deployment,
    tally: &mut Tally,
    crowd: &Crowd,
    sizes: Sizes,
    round: usize,
) -> anyhow::Result<()> {
    commit(deployment, tally, crowd, sizes.each, round)?;
    let servers = deployment.servers.len();
    for (name, followers) in [("alone", 0), ("thin", servers), ("wide", FOLLOWERS)] {
        let room = format!("#{name}-{round}").parse()?;
        let way = match name {
            "alone" => &mut tally.alone,
            "thin" => &mut tally.thin,
            _ => &mut tally.wide,
        };
        let (elapsed, spent) = tell_all(deployment, crowd, &room, followers, sizes.told)?;
        way.add(sizes.told * followers.max(1), elapsed, spent);
        tally.messages += sizes.told;
    }
    tally.grown = deployment.grown();
    Ok(())
}

/// Many send into one room, and one reads it afterwards at another server than the first.
fn commit(
    deployment: &mut Deployment,
    tally: &mut Tally,
    crowd: &Crowd,
    each: usize,
    round: usize,
) -> anyhow::Result<()> {
    let room: Room = format!("#commit-{round}").parse()?;
    let mut senders = Vec::with_capacity(SENDERS);
    for number in 0..SENDERS {
        let peer = deployment.agent(number, crowd, number)?;
        let host = crowd.host(number);
        senders.push(Sender::new(peer, host, room.clone(), each)?);
    }
    let stats_before = LogStats::of(&mut deployment.servers[0])?;
    let before = deployment.spent();
    let sent = load::send_all(&mut senders, WINDOW)?;
    let spent = deployment.spent().since(before);
    let stats = LogStats::of(&mut deployment.servers[0])?.since(stats_before);
    tally.batch = stats.mean_transaction();
    tally.committed.add(sent.ids.len(), sent.elapsed, spent);
    tally.messages += sent.ids.len();
    let last = deployment.servers.len() - 1;
    let reader = deployment.agent(last, crowd, SENDERS)?;
    let verified = Reader::follow(reader, &room)?.verify(&sent.ids);
    verified.with_context(|| format!("{room} at server {last}"))
}

/// One sends, `followers` agents read; from the first message to the last one's last.
fn tell_all(
    deployment: &mut Deployment,
    crowd: &Crowd,
    room: &Room,
    followers: usize,
    count: usize,
) -> anyhow::Result<(Duration, Spent)> {
    let mut readers = Vec::with_capacity(followers);
    for number in 0..followers {
        let peer = deployment.agent(number, crowd, number)?;
        readers.push(Reader::follow(peer, room)?);
    }
    let peer = deployment.agent(0, crowd, FOLLOWERS)?;
    let mut sender = [Sender::new(
        peer,
        crowd.host(FOLLOWERS),
        room.clone(),
        count,
    )?];
    let before = deployment.spent();
    let begun = Instant::now();
    let (sent, read) = thread::scope(|scope| {
        let readers: Vec<_> = readers
            .iter_mut()
            .map(|reader| scope.spawn(|| reader.take(count)))
            .collect();
        let sent = load::send_all(&mut sender, WINDOW_ALONE);
        let read: Vec<_> = readers
            .into_iter()
            .map(|reader| reader.join().expect("a reader panicked"))
            .collect();
        (sent, read)
    });
    let elapsed = begun.elapsed();
    let spent = deployment.spent().since(before);
    let sent = sent?;
    for (number, read) in read.into_iter().enumerate() {
        let compared = read.and_then(|read| load::same_messages(&sent.ids, &read));
        compared.with_context(|| format!("{room} as {} read it", crowd.host(number)))?;
    }
    Ok((elapsed, spent))
}

fn tell(deployments: &[Deployment], tallies: &[Tally], sizes: Sizes, report: &mut Report) {
    let Some((base, _)) = tallies.split_first() else {
        return;
    };
    let committed = ROUNDS * SENDERS * sizes.each;
    let told = ROUNDS * sizes.told;
    let cost = |spent: Duration, count: usize| micros_each(spent, count);
    for (deployment, tally) in deployments.iter().zip(tallies) {
        if deployment.nats.is_none() {
            continue;
        }
        let count = deployment.servers.len();
        let mut add = |name: &str, figure: f64, unit, value: f64| {
            report.add(
                &format!("{name}_with_{count}_servers"),
                figure,
                unit,
                BASELINE,
                value,
            );
        };
        add(
            "messages_committed",
            median(&tally.committed.rates),
            "messages/s",
            median(&base.committed.rates),
        );
        let base_commit = cost(base.committed.spent.servers, committed);
        let each = |way: &Way| cost(way.spent.servers, committed);
        add(
            "server_cpu_per_message_committed",
            each(&tally.committed),
            "µs",
            base_commit,
        );
        add(
            "nats_cpu_per_message_committed",
            cost(tally.committed.spent.nats, committed),
            "µs",
            base_commit,
        );
        add(
            "deliveries",
            median(&tally.wide.rates),
            "deliveries/s",
            median(&base.wide.rates),
        );
        add(
            "server_cpu_per_delivery",
            tally.delivery(count, told),
            "µs",
            base.delivery(1, told),
        );
        add(
            "server_cpu_per_message_brought_to_a_server",
            tally.brought(count, told, |spent| spent.servers),
            "µs",
            base.brought(1, told, |spent| spent.servers),
        );
        add(
            "nats_cpu_per_message_brought_to_a_server",
            tally.brought(count, told, |spent| spent.nats),
            "µs",
            base.brought(1, told, |spent| spent.servers),
        );
        add(
            "bytes_written_per_message",
            tally.committed.spent.written as f64 / committed as f64,
            "B",
            base.committed.spent.written as f64 / committed as f64,
        );
        add(
            "log_bytes_per_message",
            tally.log_bytes(),
            "B",
            base.log_bytes(),
        );
        report.note(format!(
            "{count} on NATS: {} messages in a batch of the first server on average; SQLite: {} \
             in a transaction",
            tally.batch, base.batch
        ));
    }
    report.note(format!(
        "committed: {SENDERS} senders, {WINDOW} messages ahead, {BODY_BYTES}-byte bodies, {ROUNDS} \
         rounds; delivered: 1 sender, {WINDOW_ALONE} ahead, {FOLLOWERS} agents that follow"
    ));
}

impl Tally {
    /// What one more agent costs that a message is delivered to, where its server has it already.
    fn delivery(&self, servers: usize, messages: usize) -> f64 {
        let more = self
            .wide
            .spent
            .servers
            .saturating_sub(self.thin.spent.servers);
        micros_each(more, messages * (FOLLOWERS - servers))
    }

    /// What the first follower at each server costs.
    fn brought(&self, servers: usize, messages: usize, of: fn(&Spent) -> Duration) -> f64 {
        let more = of(&self.thin.spent).saturating_sub(of(&self.alone.spent));
        micros_each(more, messages * servers)
    }

    fn log_bytes(&self) -> f64 {
        self.grown as f64 / self.messages as f64
    }
}
