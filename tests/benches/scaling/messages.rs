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

/// Agents that send at once: to one server, or to each; they can be divided among two and three.
const SENDERS: usize = 12;

/// Messages that each of them has ahead of its acknowledgements. All of them fit into what one
/// server queues, so nobody is told "not yet".
const WINDOW: usize = 80;

/// Agents that a room is delivered to in the end.
const FOLLOWERS: usize = 48;

/// How one sends whom many read.
struct Pace {
    /// Behind the names of its figures.
    name: &'static str,
    /// Messages ahead of their acknowledgements.
    window: usize,
    /// Messages in a round.
    count: usize,
}

/// What one deployment did in all rounds.
#[derive(Default)]
struct Tally {
    /// By `SENDERS` at all servers together.
    spread: Committed,
    /// By as many at each server.
    full: Committed,
    /// One sender, at each pace.
    told: [Told; 2],
    /// How much the log grew, and by how many messages.
    grown: u64,
    messages: usize,
}

/// What it took to commit what many senders had.
#[derive(Default)]
struct Committed {
    way: Way,
    messages: usize,
    /// Messages in a batch of the first server.
    batch: usize,
}

/// What it took to tell all messages of one pace.
#[derive(Default)]
struct Told {
    /// To nobody.
    alone: Way,
    /// To one agent at each server.
    thin: Way,
    /// To `FOLLOWERS` agents.
    wide: Way,
    /// In how many messages.
    messages: usize,
    servers: usize,
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
    let each = scaled(2_000);
    let paces = [
        Pace {
            name: "",
            window: 256,
            count: scaled(6_000),
        },
        Pace {
            name: "_one_by_one",
            window: 1,
            count: scaled(300),
        },
    ];
    // Those who follow, and one who speaks to them.
    let crowd = Crowd::new(sandbox, "bench", FOLLOWERS + 1);
    let mut tallies: Vec<Tally> = deployments.iter().map(|_| Tally::default()).collect();
    for deployment in &*deployments {
        deployment.enrol(&crowd)?;
    }
    for round in 0..ROUNDS {
        for (deployment, tally) in deployments.iter_mut().zip(&mut tallies) {
            let room = format!("#spread-{round}").parse()?;
            commit(
                deployment,
                &mut tally.spread,
                &crowd,
                (SENDERS, each),
                &room,
            )?;
            let room = format!("#full-{round}").parse()?;
            let senders = SENDERS * deployment.servers.len();
            commit(deployment, &mut tally.full, &crowd, (senders, each), &room)?;
            tally.messages += (SENDERS + senders) * each;
            for (pace, told) in paces.iter().zip(&mut tally.told) {
                tally.messages += tell_some(deployment, told, &crowd, pace, round)?;
            }
            tally.grown = deployment.grown();
        }
    }
    add_figures(&paces, deployments, &tallies, report);
    Ok(())
}

/// Tells a room of nobody, of few and of many; how many messages that were.
fn tell_some(
    deployment: &mut Deployment,
    told: &mut Told,
    crowd: &Crowd,
    pace: &Pace,
    round: usize,
) -> anyhow::Result<usize> {
    told.servers = deployment.servers.len();
    for (way, followers) in [
        (&mut told.alone, 0),
        (&mut told.thin, told.servers),
        (&mut told.wide, FOLLOWERS),
    ] {
        let room = format!("#told{}-{round}-{followers}", pace.name).parse()?;
        let (elapsed, spent) = tell_all(deployment, crowd, &room, followers, pace)?;
        way.add(pace.count * followers.max(1), elapsed, spent);
    }
    told.messages += pace.count;
    Ok(3 * pace.count)
}

/// Many send into one room, each as many messages, and one reads it afterwards at another server than
/// the first.
fn commit(
    deployment: &mut Deployment,
    committed: &mut Committed,
    crowd: &Crowd,
    (count, each): (usize, usize),
    room: &Room,
) -> anyhow::Result<()> {
    let mut senders = Vec::with_capacity(count);
    for number in 0..count {
        let peer = deployment.agent(number, crowd, number)?;
        let host = crowd.host(number);
        senders.push(Sender::new(peer, host, room.clone(), each)?);
    }
    let stats_before = LogStats::of(&mut deployment.servers[0])?;
    let before = deployment.spent();
    let sent = load::send_all(&mut senders, WINDOW)?;
    let spent = deployment.spent().since(before);
    let stats = LogStats::of(&mut deployment.servers[0])?.since(stats_before);
    committed.batch = stats.mean_transaction();
    committed.messages += sent.ids.len();
    committed.way.add(sent.ids.len(), sent.elapsed, spent);
    let last = deployment.servers.len() - 1;
    let reader = deployment.agent(last, crowd, FOLLOWERS)?;
    let verified = Reader::follow(reader, room)?.verify(&sent.ids);
    verified.with_context(|| format!("{room} at server {last}"))
}

/// One sends, `followers` agents read; from the first message to the last one's last.
fn tell_all(
    deployment: &mut Deployment,
    crowd: &Crowd,
    room: &Room,
    followers: usize,
    pace: &Pace,
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
        pace.count,
    )?];
    let before = deployment.spent();
    let begun = Instant::now();
    let (sent, read) = thread::scope(|scope| {
        let readers: Vec<_> = readers
            .iter_mut()
            .map(|reader| scope.spawn(|| reader.take(pace.count)))
            .collect();
        let sent = load::send_all(&mut sender, pace.window);
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

fn add_figures(
    paces: &[Pace; 2],
    deployments: &[Deployment],
    tallies: &[Tally],
    report: &mut Report,
) {
    let Some((base, _)) = tallies.split_first() else {
        return;
    };
    for (deployment, tally) in deployments.iter().zip(tallies) {
        if deployment.nats.is_none() {
            continue;
        }
        let servers = deployment.servers.len();
        let mut add = |name: &str, figure: f64, unit, value: f64| {
            let name = format!("{name}_with_{servers}_servers");
            report.add(&name, figure, unit, BASELINE, value);
        };
        for (name, now, then) in [
            ("", &tally.spread, &base.spread),
            ("_full", &tally.full, &base.full),
        ] {
            let mut add = |figure: &str, value, unit, baseline| {
                add(&format!("{figure}{name}"), value, unit, baseline);
            };
            let alone = then.cost(|spent| spent.servers);
            let rates = [now, then].map(|one| median(&one.way.rates));
            add("messages_committed", rates[0], "messages/s", rates[1]);
            add(
                "server_cpu_per_message_committed",
                now.cost(|spent| spent.servers),
                "µs",
                alone,
            );
            add(
                "nats_cpu_per_message_committed",
                now.cost(|spent| spent.nats),
                "µs",
                alone,
            );
            add(
                "bytes_written_per_message",
                now.written(),
                "B",
                then.written(),
            );
        }
        add(
            "log_bytes_per_message",
            tally.log_bytes(),
            "B",
            base.log_bytes(),
        );
        for ((pace, told), base) in paces.iter().zip(&tally.told).zip(&base.told) {
            let mut add = |name: &str, figure, unit, value| {
                add(&format!("{name}{}", pace.name), figure, unit, value);
            };
            let alone = base.commit(|spent| spent.servers);
            if pace.window == 1 {
                add(
                    "messages",
                    median(&told.alone.rates),
                    "messages/s",
                    median(&base.alone.rates),
                );
                add(
                    "server_cpu_per_message",
                    told.commit(|spent| spent.servers),
                    "µs",
                    alone,
                );
                add(
                    "nats_cpu_per_message",
                    told.commit(|spent| spent.nats),
                    "µs",
                    alone,
                );
            } else {
                let rate = |told: &Told| median(&told.wide.rates);
                add("deliveries", rate(told), "deliveries/s", rate(base));
            }
            add(
                "server_cpu_per_message_brought",
                told.brought(|spent| spent.servers),
                "µs",
                alone,
            );
            add(
                "nats_cpu_per_message_brought",
                told.brought(|spent| spent.nats),
                "µs",
                alone,
            );
            add(
                "server_cpu_per_delivery",
                told.delivery(),
                "µs",
                base.delivery(),
            );
        }
        report.note(format!(
            "with {servers}: {} messages in a batch of the first server on average, {} when full; \
                 SQLite: {} in a transaction",
            tally.spread.batch, tally.full.batch, base.full.batch
        ));
    }
    report.note(format!(
            "committed: {SENDERS} senders in all, or at each server when full, {WINDOW} messages \
             ahead, {BODY_BYTES}-byte bodies, {ROUNDS} rounds; brought, delivered: 1 sender, {} or 1 ahead, {FOLLOWERS} agents that \
             follow at all servers; brought: to a server that somebody follows at",
            paces[0].window
        ));
}

impl Tally {
    fn log_bytes(&self) -> f64 {
        self.grown as f64 / self.messages as f64
    }
}

impl Committed {
    fn cost(&self, of: fn(&Spent) -> Duration) -> f64 {
        micros_each(of(&self.way.spent), self.messages)
    }

    fn written(&self) -> f64 {
        self.way.spent.written as f64 / self.messages as f64
    }
}

impl Told {
    fn commit(&self, of: fn(&Spent) -> Duration) -> f64 {
        micros_each(of(&self.alone.spent), self.messages)
    }

    /// What the first follower at each server costs.
    fn brought(&self, of: fn(&Spent) -> Duration) -> f64 {
        let more = of(&self.thin.spent).saturating_sub(of(&self.alone.spent));
        micros_each(more, self.messages * self.servers)
    }

    /// What one more agent costs that a message is delivered to, where its server has it already.
    fn delivery(&self) -> f64 {
        let [wide, thin] = [&self.wide, &self.thin].map(|way| way.spent.servers);
        let more = wide.saturating_sub(thin);
        micros_each(more, self.messages * (FOLLOWERS - self.servers))
    }
}
