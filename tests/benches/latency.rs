//! From one terminal to another: end-to-end latency at a hundred messages a second, against raw
//! relays over the same hops.
//!
//! A relay is a thread that reads bytes and writes them on. Across hosts there are four hops
//! (Unix, TCP, TCP, Unix) through three relays; on one host two, through one. The second baseline
//! of each has relays that also write what they got to a file and wait for fdatasync, where the
//! promise "acknowledged means durable" needs it: in the outbox and in the server's log, or in the
//! log of the host. Their files have their full length before the clock runs, so that fdatasync
//! is as quick as it can be.

use anyhow::{Context, bail, ensure};
use protocol::{
    Committed, Content, MessageId, RequestId, Room, Seq, encode_frame,
    local::{AgentFrame, Event, From, Reply, Request, TerminalFrame},
};
use std::{
    fs::File,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::{fs::FileExt, net::UnixStream},
    path::Path,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tests::{
    Host, Sandbox, Server, Session,
    measure::{Report, Samples, scaled},
};

const BODY_BYTES: usize = 128;

/// A hundred messages a second.
const INTERVAL: Duration = Duration::from_millis(10);

/// All ways take turns, so that noise of other programs hits them alike.
const ROUNDS: usize = 4;

/// Messages at the beginning of a turn that do not count: caches were used by others.
const WARM_UP: usize = 10;

fn main() -> anyhow::Result<()> {
    let count = scaled(150);
    let sandbox = Sandbox::new();
    let mut server = Server::start(&sandbox);
    let ada = Host::start(&sandbox, "ada", server.link());
    let bee = Host::start(&sandbox, "bee", server.link());
    ada.wait_online();
    bee.wait_online();
    let file = |name: &str| Journal::create(&sandbox.path().join(name));
    let mut ways = [
        product(&ada, &bee, "#bench")?,
        four_hops([None, None])?,
        four_hops([Some(file("outbox")?), Some(file("log")?)])?,
        product(&ada, &ada, "&bench")?,
        two_hops(None)?,
        two_hops(Some(file("local")?))?,
    ];
    for _ in 0..ROUNDS {
        for way in &mut ways {
            way.turn(WARM_UP + count)?;
        }
    }

    let mut report = Report::new(
        "latency",
        format!(
            "terminal to terminal, {BODY_BYTES}-byte bodies, 100 messages/s, {} messages each way",
            ways[0].samples.len()
        ),
    );
    let [across, relay, durable, local, short, short_durable] = &ways;
    for (name, way, baselines) in [
        (
            "across_hosts",
            across,
            [
                ("raw relay of four hops", relay),
                ("relay with two fdatasync", durable),
            ],
        ),
        (
            "same_host",
            local,
            [
                ("raw relay of two hops", short),
                ("relay with one fdatasync", short_durable),
            ],
        ),
    ] {
        for percent in [50, 99] {
            for (baseline, relay) in baselines {
                report.add(
                    &format!("{name}_p{percent}"),
                    way.samples.percentile(percent),
                    "µs",
                    baseline,
                    relay.samples.percentile(percent),
                );
            }
        }
    }
    for way in ways {
        way.end()?;
    }
    for mut host in [ada, bee] {
        ensure!(host.terminate_agent().code == Some(0), "an agent failed");
    }
    ensure!(server.terminate().code == Some(0), "the server failed");
    report.finish()?;
    Ok(())
}

type Receive = Box<dyn FnMut() -> anyhow::Result<usize> + Send>;

/// A way for messages, from a sender to a receiver.
struct Way {
    sender: Sender,
    /// Waits for the next message; which it was.
    receive: Receive,
    relays: Vec<JoinHandle<io::Result<()>>>,
    next: usize,
    samples: Samples,
}

enum Sender {
    Session { session: Box<Session>, room: Room },
    Stream(UnixStream),
}

impl Sender {
    fn send(&mut self, index: usize) -> anyhow::Result<()> {
        match self {
            Self::Session { session, room } => {
                session.post(send(room.clone(), index));
            }
            Self::Stream(stream) => stream.write_all(&raw_message(index)?)?,
        }
        Ok(())
    }

    /// Takes the answers to what was sent, once nobody looks at the clock any more.
    fn settle(&mut self, count: usize) -> anyhow::Result<()> {
        let Self::Session { session, .. } = self else {
            return Ok(());
        };
        let mut answered = 0;
        while answered < count {
            match session.next_frame() {
                AgentFrame::Reply {
                    result: Ok(Reply::Sent { .. }),
                    ..
                } => answered += 1,
                AgentFrame::Reply { result, .. } => bail!("a send got {result:?}"),
                AgentFrame::Event(_) => {}
            }
        }
        Ok(())
    }
}

impl Way {
    fn new(sender: Sender, receive: Receive, relays: Vec<JoinHandle<io::Result<()>>>) -> Self {
        Self {
            sender,
            receive,
            relays,
            next: 0,
            samples: Samples::default(),
        }
    }

    /// Sends `count` messages, one every [`INTERVAL`] whatever becomes of them, and notes how
    /// long each but the first took. Each must come once, in order.
    fn turn(&mut self, count: usize) -> anyhow::Result<()> {
        let Self {
            sender, receive, ..
        } = self;
        let indices = self.next..self.next + count;
        self.next += count;
        let (sent, received) = thread::scope(|scope| {
            let expected = indices.clone();
            let receiver = scope.spawn(move || {
                let mut received = Vec::with_capacity(count);
                for expected in expected {
                    let index = receive()?;
                    received.push(Instant::now());
                    ensure!(index == expected, "{index} came instead of {expected}");
                }
                Ok(received)
            });
            let mut sent = Vec::with_capacity(count);
            let mut due = Instant::now();
            for index in indices {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                due += INTERVAL;
                sent.push(Instant::now());
                sender.send(index)?;
            }
            let received = receiver.join().expect("a receiver panicked")?;
            anyhow::Ok((sent, received))
        })?;
        sender.settle(count)?;
        let latencies = received.iter().zip(sent).map(|(end, start)| *end - start);
        self.samples.extend(latencies.skip(WARM_UP));
        Ok(())
    }

    /// Ends the relays from the sending end on.
    fn end(self) -> anyhow::Result<()> {
        drop(self.sender);
        for relay in self.relays {
            relay.join().expect("a relay panicked")?;
        }
        Ok(())
    }
}

/// The real thing, from a session on one host to a session on another or the same.
fn product(from: &Host, to: &Host, room: &str) -> anyhow::Result<Way> {
    let mut receiver = to.session("receiver");
    receiver.open_room(room, From::Beginning);
    receiver.event(|event| matches!(event, Event::CaughtUp { .. }).then_some(()));
    let session = Box::new(from.session("sender"));
    let room = session.room(room);
    let mut last = Seq::START;
    let receive = move || {
        let Committed {
            body,
            seq,
            prev_seq,
            ..
        } = receiver.next_message();
        ensure!(prev_seq == last, "a gap before {seq}");
        last = seq;
        let Content::Text(text) = body.decode()? else {
            bail!("another content");
        };
        index_in(text.as_bytes())
    };
    let sender = Sender::Session { session, room };
    Ok(Way::new(sender, Box::new(receive), Vec::new()))
}

/// Four hops through three relays, the first two of which may keep a file.
fn four_hops([outbox, log]: [Option<Journal>; 2]) -> anyhow::Result<Way> {
    let (sender, first) = UnixStream::pair()?;
    let (to_second, second) = tcp_pair()?;
    let (to_third, third) = tcp_pair()?;
    let (to_receiver, receiver) = UnixStream::pair()?;
    let relays = vec![
        thread::spawn(move || relay(first, to_second, outbox)),
        thread::spawn(move || relay(second, to_third, log)),
        thread::spawn(move || relay(third, to_receiver, None)),
    ];
    Ok(Way::new(Sender::Stream(sender), raw(receiver)?, relays))
}

/// Two hops through one relay.
fn two_hops(log: Option<Journal>) -> anyhow::Result<Way> {
    let (sender, input) = UnixStream::pair()?;
    let (output, receiver) = UnixStream::pair()?;
    let relays = vec![thread::spawn(move || relay(input, output, log))];
    Ok(Way::new(Sender::Stream(sender), raw(receiver)?, relays))
}

fn tcp_pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    Ok((near, far))
}

/// Copies until its input ends.
fn relay(
    mut input: impl Read,
    mut output: impl Write,
    mut journal: Option<Journal>,
) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let count = input.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        if let Some(journal) = &mut journal {
            journal.write(&buffer[..count])?;
        }
        output.write_all(&buffer[..count])?;
    }
}

/// A file that is written from its beginning to its end and then over again, as SQLite writes
/// its own journal.
struct Journal {
    file: File,
    next: u64,
}

impl Journal {
    const BYTES: usize = 1024 * 1024;

    fn create(path: &Path) -> io::Result<Self> {
        let mut file = File::create_new(path)?;
        file.write_all(&vec![0; Self::BYTES])?;
        file.sync_all()?;
        Ok(Self { file, next: 0 })
    }

    /// Returns when `bytes` are on disk.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = bytes.len() as u64;
        if self.next + len > Self::BYTES as u64 {
            self.next = 0;
        }
        self.file.write_all_at(bytes, self.next)?;
        self.next += len;
        self.file.sync_data()
    }
}

fn raw(mut stream: UnixStream) -> anyhow::Result<Receive> {
    // A relay that failed is noticed, not waited for.
    stream.set_read_timeout(Some(tests::limit()))?;
    let mut message = raw_message(0)?;
    Ok(Box::new(move || {
        stream.read_exact(&mut message)?;
        index_in(&message)
    }))
}

/// The bytes that a terminal would send; as many for every index.
fn raw_message(index: usize) -> anyhow::Result<Vec<u8>> {
    let request = send("#bench".parse()?, index);
    let id = RequestId(1);
    Ok(encode_frame(&TerminalFrame { id, request })?.to_vec())
}

fn send(room: Room, index: usize) -> Request {
    Request::Send {
        id: MessageId::new(),
        room,
        content: Content::Text(format!("{index:0>BODY_BYTES$}")),
    }
}

fn index_in(bytes: &[u8]) -> anyhow::Result<usize> {
    let digits = bytes.last_chunk::<8>().context("a message too short")?;
    Ok(std::str::from_utf8(digits)?.parse()?)
}
