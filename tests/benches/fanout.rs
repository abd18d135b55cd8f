//! One sender, a hundred terminals on two hosts: deliveries per second and what each costs,
//! against a minimal hub that does nothing but copy.
//!
//! The hub is a thread that reads frames from one Unix socket and writes the same bytes to a
//! hundred others: no log, no second host, no order to keep, no reader that may be slow. The
//! same readers take both, and look at every frame.

use anyhow::{Context, ensure};
use protocol::{
    Committed, Content, MessageId, Room, Seq, Timestamp, UserName, encode_frame,
    local::{AgentFrame, Event, From, Reply, Request, TerminalFrame},
};
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    sync::Barrier,
    thread,
    time::{Duration, Instant, SystemTime},
};
use tests::{
    Host, Sandbox, Server, Session,
    measure::{
        Report, median, micros_each, per_second, processor_time, processor_time_of_thread, scaled,
    },
    wire::{Stream, Wire},
};

const HOSTS: [&str; 2] = ["ada", "bee"];
const READERS_A_HOST: usize = 50;
const READERS: usize = HOSTS.len() * READERS_A_HOST;
const BODY_BYTES: usize = 128;

/// Both sides take turns, so that noise of other programs hits them alike.
const ROUNDS: usize = 3;

/// Messages the sender has unanswered at most; below what a session may have in flight.
const WINDOW: usize = 512;

/// Bytes that the hub copies at a time, as many as agent and server gather for one write.
const HUB_BYTES: usize = 64 * 1024;

const HUB: &str = "copying hub";

type LocalWire = Wire<AgentFrame, TerminalFrame>;

fn main() -> anyhow::Result<()> {
    let count = scaled(10_000);
    let sandbox = Sandbox::new();
    let mut server = Server::start(&sandbox);
    let mut hosts = HOSTS.map(|name| Host::start(&sandbox, name, server.link()));
    let mut product = Product::begin(&hosts)?;
    let mut hub = Hub::begin()?;

    let mut rates = [Vec::new(), Vec::new()];
    let mut hub_spent = Duration::ZERO;
    let server_before = processor_time(server.process().pid());
    let agents_before = processor_time_of(&mut hosts);
    for round in 0..ROUNDS {
        let texts = Texts::new(round, count);
        rates[0].push(deliveries(count, product.round(&texts)?));
        let (elapsed, spent) = hub.round(&texts)?;
        rates[1].push(deliveries(count, elapsed));
        hub_spent += spent;
    }
    let server_spent = processor_time(server.process().pid()) - server_before;
    let agents_spent = processor_time_of(&mut hosts) - agents_before;

    let mut report = Report::new(
        "fanout",
        format!(
            "1 sender, {READERS} terminals on {} hosts, {BODY_BYTES}-byte bodies, {count} \
             messages, medians of {ROUNDS} rounds",
            HOSTS.len()
        ),
    );
    let unit = "deliveries/s";
    report.add(
        "deliveries",
        median(&rates[0]),
        unit,
        HUB,
        median(&rates[1]),
    );
    let each = |spent| micros_each(spent, ROUNDS * count * READERS);
    for (name, spent) in [
        ("server_cpu_per_delivery", server_spent),
        ("agents_cpu_per_delivery", agents_spent),
    ] {
        report.add(name, each(spent), "µs", HUB, each(hub_spent));
    }
    report.note(format!(
        "{:.0} messages/s; the server sends one copy a host, the agents one a terminal",
        median(&rates[0]) / READERS as f64
    ));
    drop(product);
    for host in &mut hosts {
        ensure!(host.terminate_agent().code == Some(0), "an agent failed");
    }
    ensure!(server.terminate().code == Some(0), "the server failed");
    report.finish()?;
    Ok(())
}

fn deliveries(count: usize, elapsed: Duration) -> f64 {
    per_second(count * READERS, elapsed)
}

fn processor_time_of(hosts: &mut [Host]) -> Duration {
    let agents = hosts.iter_mut().map(Host::agent);
    agents.map(|agent| processor_time(agent.pid())).sum()
}

/// What is said in one round. Every text ends its frame, so a reader knows a message by the last
/// bytes of what it got, without decoding the rest: it should cost less than what it measures.
struct Texts {
    round: usize,
    count: usize,
}

impl Texts {
    const fn new(round: usize, count: usize) -> Self {
        Self { round, count }
    }

    fn text(&self, index: usize) -> String {
        let mark = format!("<{:03}:{index:08}>", self.round);
        format!("{mark:.>BODY_BYTES$}")
    }

    /// Which message a frame carries, if any of this round.
    fn index(&self, payload: &[u8]) -> Option<usize> {
        let mark = payload.last_chunk::<14>()?;
        let mark = std::str::from_utf8(mark).ok()?;
        let (round, index) = mark.strip_prefix('<')?.strip_suffix('>')?.split_once(':')?;
        let round: usize = round.parse().ok()?;
        (round == self.round).then(|| index.parse().ok()).flatten()
    }

    /// Reads until the last message; each must come once, in order.
    fn read(&self, wire: &mut LocalWire) -> anyhow::Result<Instant> {
        let mut expected = 0;
        while expected < self.count {
            let payload = wire.receive_payload()?.context("closed early")?;
            // What is no message is somebody's presence.
            if let Some(index) = self.index(&payload) {
                ensure!(index == expected, "{index} came instead of {expected}");
                expected += 1;
            }
        }
        Ok(Instant::now())
    }

    /// Lets everybody read while `send` sends; from the first byte to the last reader's last.
    fn measure<'w>(
        &self,
        wires: impl Iterator<Item = &'w mut LocalWire>,
        send: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<Duration> {
        let start = Barrier::new(READERS + 1);
        thread::scope(|scope| {
            let readers: Vec<_> = wires
                .map(|wire| {
                    scope.spawn(|| {
                        start.wait();
                        self.read(wire)
                    })
                })
                .collect();
            start.wait();
            let begun = Instant::now();
            let sent = send();
            let mut last = begun;
            for reader in readers {
                last = last.max(reader.join().expect("a reader panicked")?);
            }
            sent?;
            Ok(last - begun)
        })
    }
}

/// The real thing: a server, two agents, a session that sends and a hundred that read.
struct Product {
    sender: Session,
    room: Room,
    readers: Vec<Session>,
}

impl Product {
    fn begin(hosts: &[Host]) -> anyhow::Result<Self> {
        let mut readers = Vec::with_capacity(READERS);
        for host in hosts {
            host.wait_online();
            for number in 0..READERS_A_HOST {
                let mut reader = host.session(&format!("reader{number}"));
                reader.open_room("#bench", From::Beginning);
                reader.event(|event| matches!(event, Event::CaughtUp { .. }).then_some(()));
                readers.push(reader);
            }
        }
        let sender = hosts[0].session("sender");
        Ok(Self {
            room: sender.room("#bench"),
            sender,
            readers,
        })
    }

    fn round(&mut self, texts: &Texts) -> anyhow::Result<Duration> {
        let Self {
            sender,
            room,
            readers,
        } = self;
        texts.measure(readers.iter_mut().map(Session::wire), || {
            send(sender, room, texts)
        })
    }
}

fn send(sender: &mut Session, room: &Room, texts: &Texts) -> anyhow::Result<()> {
    let wire = sender.wire();
    let mut in_flight = 0;
    let mut next = 0;
    while next < texts.count || in_flight > 0 {
        // By half a window at a time: many frames a system call.
        if in_flight * 2 <= WINDOW && next < texts.count {
            let mut frames = Vec::new();
            while in_flight < WINDOW && next < texts.count {
                let request = Request::Send {
                    id: MessageId::new(),
                    room: room.clone(),
                    content: Content::Text(texts.text(next)),
                };
                let id = protocol::RequestId(1_000_000);
                frames.extend_from_slice(&encode_frame(&TerminalFrame { id, request })?);
                next += 1;
                in_flight += 1;
            }
            wire.send_bytes(&frames)?;
        }
        match wire.receive()?.context("the agent closed")? {
            AgentFrame::Reply {
                result: Ok(Reply::Sent { .. }),
                ..
            } => in_flight -= 1,
            AgentFrame::Reply { result, .. } => anyhow::bail!("a send got {result:?}"),
            AgentFrame::Event(_) => {}
        }
    }
    Ok(())
}

/// What both measure against: a thread that copies.
struct Hub {
    source: UnixStream,
    outputs: Vec<UnixStream>,
    input: UnixStream,
    readers: Vec<LocalWire>,
}

impl Hub {
    fn begin() -> anyhow::Result<Self> {
        let (source, input) = UnixStream::pair()?;
        let mut outputs = Vec::with_capacity(READERS);
        let mut readers = Vec::with_capacity(READERS);
        for _ in 0..READERS {
            let (output, reader) = UnixStream::pair()?;
            outputs.push(output);
            readers.push(Wire::silent(Stream::Unix(reader)));
        }
        Ok(Self {
            source,
            outputs,
            input,
            readers,
        })
    }

    /// How long it took, and how much processor time the hub spent.
    fn round(&mut self, texts: &Texts) -> anyhow::Result<(Duration, Duration)> {
        let Self {
            source,
            outputs,
            input,
            readers,
        } = self;
        let frames = frames(texts)?;
        let len = frames.len();
        thread::scope(|scope| {
            let hub = scope.spawn(move || copy(input, outputs, len));
            let elapsed = texts.measure(readers.iter_mut(), || Ok(source.write_all(&frames)?))?;
            Ok((elapsed, hub.join().expect("the hub panicked")?))
        })
    }
}

/// Copies `len` bytes to everybody; the processor time it took.
fn copy(
    input: &mut UnixStream,
    outputs: &mut [UnixStream],
    mut len: usize,
) -> anyhow::Result<Duration> {
    let mut buffer = vec![0; HUB_BYTES];
    while len > 0 {
        let count = input.read(&mut buffer)?;
        ensure!(count > 0, "the source closed");
        for output in &mut *outputs {
            output.write_all(&buffer[..count])?;
        }
        len -= count;
    }
    Ok(processor_time_of_thread())
}

/// The bytes that a terminal gets from its agent for these texts.
fn frames(texts: &Texts) -> anyhow::Result<Vec<u8>> {
    let room: Room = "#bench".parse()?;
    let author: UserName = "sender@ada".parse()?;
    let now = Timestamp::from(SystemTime::now());
    let mut bytes = Vec::new();
    for index in 0..texts.count {
        let message = Committed {
            room: room.clone(),
            seq: Seq::new(index as u64 + 1),
            prev_seq: Seq::new(index as u64),
            committed_at: now,
            id: MessageId::new(),
            author: author.clone(),
            sent_at: now,
            body: Content::Text(texts.text(index)).encode()?,
        };
        let frame = AgentFrame::Event(Event::Committed(message));
        bytes.extend_from_slice(&encode_frame(&frame)?);
    }
    Ok(bytes)
}
