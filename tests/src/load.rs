//! Load on servers as agents make it, by the protocol they speak: messages sent ahead of their
//! acknowledgements, and rooms read from their beginning.
//!
//! What was acknowledged and what was read is compared: a benchmark that lost something measured
//! nothing.

use crate::{Server, Signal, eventually, session::AgentPeer};
use anyhow::{Context, bail, ensure};
use protocol::{
    Content, EncodedBody, MessageId, Nick, Outgoing, RequestId, Room, Seq, UserName, encode_frame,
    federation::{AgentFrame, Event, Refusal, Reply, Request, ServerFrame},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Barrier,
    thread,
    time::{Duration, Instant, SystemTime},
};

/// The text of every message, in bytes.
pub const BODY_BYTES: usize = 128;

/// Messages between two signs of life of a reader.
const SIGN_OF_LIFE: usize = 10_000;

/// Numbers of requests that a peer of its own numbering does not use.
const FIRST_REQUEST: u32 = 1_000;

/// The body of every message.
///
/// # Errors
///
/// If it cannot be encoded.
pub fn body() -> anyhow::Result<EncodedBody> {
    Ok(Content::Text("x".repeat(BODY_BYTES)).encode()?)
}

/// What senders did.
#[derive(Debug)]
pub struct Sent {
    /// What was acknowledged: all that they were to send.
    pub ids: Vec<MessageId>,
    /// From the first message to the last acknowledgement.
    pub elapsed: Duration,
    /// How many were answered "not yet" before.
    pub refused: usize,
}

/// Lets all `senders` get their messages acknowledged at the same time, each as fast as `window`
/// messages ahead of their acknowledgements allow.
///
/// # Errors
///
/// If a server closes, refuses for good, or acknowledges twice.
pub fn send_all(senders: &mut [Sender], window: usize) -> anyhow::Result<Sent> {
    let start = Barrier::new(senders.len() + 1);
    let (begun, outcomes) = thread::scope(|scope| {
        let threads: Vec<_> = senders
            .iter_mut()
            .map(|sender| {
                scope.spawn(|| {
                    start.wait();
                    sender.run(window)
                })
            })
            .collect();
        start.wait();
        let begun = Instant::now();
        let outcomes: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().expect("a sender panicked"))
            .collect();
        (begun, outcomes)
    });
    let elapsed = begun.elapsed();
    outcomes.into_iter().collect::<anyhow::Result<()>>()?;
    Ok(Sent {
        ids: senders.iter().flat_map(Sender::ids).collect(),
        elapsed,
        refused: senders.iter().map(|sender| sender.refused).sum(),
    })
}

/// The appending half of an agent: a window, and go-back-N after "not yet".
#[derive(Debug)]
pub struct Sender {
    peer: AgentPeer,
    author: UserName,
    room: Room,
    body: EncodedBody,
    messages: Vec<Outgoing>,
    acknowledged: Vec<bool>,
    unacknowledged: usize,
    /// The next message to send.
    next: usize,
    attempt: u32,
    next_request: u32,
    in_flight: HashMap<RequestId, usize>,
    paused_until: Option<Instant>,
    refused: usize,
}

impl Sender {
    /// One that has `count` messages for `room` and speaks for `host` over `peer`.
    ///
    /// # Errors
    ///
    /// If `host` is no name.
    pub fn new(peer: AgentPeer, host: &str, room: Room, count: usize) -> anyhow::Result<Self> {
        Ok(Self {
            peer,
            author: format!("sender@{host}").parse()?,
            room,
            body: body()?,
            messages: Vec::with_capacity(count),
            acknowledged: vec![false; count],
            unacknowledged: count,
            next: 0,
            attempt: 1,
            next_request: FIRST_REQUEST,
            in_flight: HashMap::new(),
            paused_until: None,
            refused: 0,
        })
    }

    fn ids(&self) -> impl Iterator<Item = MessageId> + '_ {
        self.messages.iter().map(|message| message.id)
    }

    fn run(&mut self, window: usize) -> anyhow::Result<()> {
        while self.unacknowledged > 0 {
            if let Some(until) = self.paused_until.take_if(|_| self.in_flight.is_empty()) {
                // The server asked for this pause; every message before it has its answer.
                thread::sleep(until.saturating_duration_since(Instant::now()));
                self.next = self.first_unacknowledged();
            }
            // By half a window at a time: many frames a system call, as a real agent writes them.
            if self.paused_until.is_none() && self.in_flight.len() * 2 <= window {
                self.fill(window)?;
            }
            self.take_reply()?;
        }
        Ok(())
    }

    fn first_unacknowledged(&self) -> usize {
        let first = self.acknowledged.iter().position(|done| !done);
        first.unwrap_or(self.acknowledged.len())
    }

    fn fill(&mut self, window: usize) -> anyhow::Result<()> {
        let mut frames = Vec::new();
        while self.in_flight.len() < window && self.next < self.acknowledged.len() {
            let index = self.next;
            self.next += 1;
            if self.acknowledged[index] {
                continue;
            }
            if index == self.messages.len() {
                self.messages.push(Outgoing {
                    id: MessageId::new(),
                    room: self.room.clone(),
                    author: self.author.clone(),
                    sent_at: SystemTime::now().into(),
                    body: self.body.clone(),
                });
            }
            let id = RequestId(self.next_request);
            self.next_request += 1;
            self.in_flight.insert(id, index);
            let request = Request::Append {
                attempt: self.attempt,
                message: self.messages[index].clone(),
            };
            frames.extend_from_slice(&encode_frame(&AgentFrame { id, request })?);
        }
        self.peer.wire().send_bytes(&frames)?;
        Ok(())
    }

    fn take_reply(&mut self) -> anyhow::Result<()> {
        let frame = self.peer.wire().receive()?;
        let (id, result) = match frame.context("the server closed")? {
            ServerFrame::Reply { id, result } => (id, result),
            ServerFrame::Event(Event::Closing { reason }) => return Err(reason.into()),
            ServerFrame::Event(_) => return Ok(()),
        };
        let index = self.in_flight.remove(&id).context("an unknown reply")?;
        match result {
            Ok(Reply::Appended { .. }) => {
                ensure!(!self.acknowledged[index], "acknowledged twice");
                self.acknowledged[index] = true;
                self.unacknowledged -= 1;
            }
            Err(Refusal::NotYet { retry_after_ms, .. }) => {
                self.refused += 1;
                if self.paused_until.is_none() {
                    self.attempt += 1;
                    let pause = Duration::from_millis(retry_after_ms.into());
                    self.paused_until = Some(Instant::now() + pause);
                }
            }
            other => bail!("an append got {other:?}"),
        }
        Ok(())
    }
}

/// Sends `requests` ahead of their answers, at most `window` of them, until all are answered.
///
/// # Errors
///
/// If the server closes or refuses one of them.
pub fn ask_all(
    peer: &mut AgentPeer,
    requests: impl IntoIterator<Item = Request>,
    window: usize,
) -> anyhow::Result<()> {
    let mut requests = requests.into_iter().peekable();
    let mut in_flight = 0;
    let mut number = FIRST_REQUEST;
    while in_flight > 0 || requests.peek().is_some() {
        let mut frames = Vec::new();
        for request in requests.by_ref().take(window - in_flight) {
            let id = RequestId(number);
            frames.extend_from_slice(&encode_frame(&AgentFrame { id, request })?);
            number += 1;
            in_flight += 1;
        }
        peer.wire().send_bytes(&frames)?;
        let frame = peer.wire().receive()?.context("the server closed")?;
        if let ServerFrame::Reply { result, .. } = frame {
            result.context("refused")?;
            in_flight -= 1;
        }
    }
    Ok(())
}

/// Somebody who follows one room from its beginning.
#[derive(Debug)]
pub struct Reader {
    peer: AgentPeer,
    room: Room,
    last: Seq,
}

impl Reader {
    /// Joins `room`, as somebody of the host that `peer` speaks for, and follows it.
    ///
    /// # Errors
    ///
    /// What the server refuses.
    pub fn follow(mut peer: AgentPeer, room: &Room) -> anyhow::Result<Self> {
        if let Room::Federated(room) = room.clone() {
            let nick = Nick::parse("reader")?;
            peer.ask(Request::Join { room, nick })?;
        }
        let subscribe = Request::Subscribe {
            room: room.clone(),
            after: Seq::START,
            after_id: None,
        };
        peer.ask(subscribe)?;
        Ok(Self {
            peer,
            room: room.clone(),
            last: Seq::START,
        })
    }

    /// Takes the next `count` messages: their ids, in order.
    ///
    /// # Errors
    ///
    /// If one does not follow the one before it, or the server closes.
    pub fn take(&mut self, count: usize) -> anyhow::Result<Vec<MessageId>> {
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count {
            // Who only reads is taken for dead after a while.
            if ids.len() % SIGN_OF_LIFE == SIGN_OF_LIFE - 1 {
                let (id, request) = (RequestId(FIRST_REQUEST), Request::Ping);
                self.peer.wire().send(&AgentFrame { id, request })?;
            }
            let frame = self.peer.wire().receive()?.context("the server closed")?;
            if let ServerFrame::Event(Event::Committed(message)) = frame {
                let gap = message.prev_seq != self.last;
                ensure!(!gap, "a gap before {}", message.seq);
                self.last = message.seq;
                ids.push(message.id);
            }
        }
        Ok(ids)
    }

    /// Reads to the end of the room: exactly `expected` is there, each once, and nothing else.
    ///
    /// # Errors
    ///
    /// If that is not so.
    pub fn verify(&mut self, expected: &[MessageId]) -> anyhow::Result<()> {
        let found = self.take(expected.len())?;
        same_messages(expected, &found)?;
        let room = self.room.clone();
        match self.peer.ask(Request::Head { room })? {
            Reply::Head { head } => ensure!(head == self.last, "{head} is one too many"),
            other => bail!("a question for the head got {other:?}"),
        }
        Ok(())
    }
}

/// Whether `found` is what was `expected`, in any order, each once.
///
/// # Errors
///
/// If something is missing, doubled or strange.
pub fn same_messages(expected: &[MessageId], found: &[MessageId]) -> anyhow::Result<()> {
    let mut missing: HashSet<MessageId> = expected.iter().copied().collect();
    ensure!(missing.len() == expected.len(), "an id was used twice");
    for id in found {
        ensure!(missing.remove(id), "{id} doubled or strange");
    }
    ensure!(missing.is_empty(), "{} messages are lost", missing.len());
    Ok(())
}

/// How many messages a server has committed, in how many transactions.
#[derive(Debug, Clone, Copy)]
pub struct LogStats {
    transactions: usize,
    messages: usize,
}

impl LogStats {
    /// What `server` says when it is asked to dump its state.
    ///
    /// # Errors
    ///
    /// If it does not say so.
    pub fn of(server: &mut Server) -> anyhow::Result<Self> {
        let process = server.process();
        let before = states(&process.stderr()).count();
        process.signal(Signal::USR1);
        let line = eventually("the server dumps its state", || {
            let log = process.stderr();
            let line = states(&log).nth(before).map(str::to_owned);
            line.ok_or(log)
        });
        let field = |name: &str| {
            line.split_whitespace()
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
                .with_context(|| format!("no {name} in {line:?}"))
        };
        Ok(Self {
            transactions: field("transactions")?,
            messages: field("messages")?,
        })
    }

    /// What came after `before`.
    #[must_use]
    pub const fn since(self, before: Self) -> Self {
        Self {
            transactions: self.transactions - before.transactions,
            messages: self.messages - before.messages,
        }
    }

    /// Messages in a transaction, rounded up, 1 at least.
    #[must_use]
    pub fn mean_transaction(self) -> usize {
        self.messages.div_ceil(self.transactions.max(1)).max(1)
    }
}

fn states(log: &str) -> impl Iterator<Item = &str> {
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    whole.lines().filter(|line| line.contains("transactions="))
}
