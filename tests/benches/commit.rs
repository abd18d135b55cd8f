//! Messages committed per second, with fsync, against a bare SQLite loop on the same disk.
//!
//! Ten agents send ahead of their acknowledgements to one server, once within what the server
//! queues and once with the whole window of a real agent. The bare loop is what nobody can beat
//! with this storage: rows of the same schema, in transactions of the size that the server made,
//! without a network, a second process, a check for known ids or anybody to answer.

use anyhow::{Context, bail, ensure};
use protocol::{
    Content, EncodedBody, Epoch, MessageId, Nick, Outgoing, RequestId, Room, Seq, Timestamp,
    UserName, encode_frame,
    federation::{AgentFrame, Event, Refusal, Reply, Request, ServerFrame},
    limits::APPEND_WINDOW,
};
use room_log::{Application, BASE_SCHEMA, Database};
use rusqlite::params;
use std::{
    collections::{HashMap, HashSet},
    sync::Barrier,
    thread,
    time::{Duration, Instant, SystemTime},
};
use tests::{
    AgentPeer, Sandbox, Server, Signal, eventually,
    measure::{Report, median, per_second, scaled},
};

const AGENTS: usize = 10;
const BODY_BYTES: usize = 128;

/// So that noise of other programs hits both sides alike, they take turns.
const ROUNDS: usize = 3;

/// Ten such windows fit into the transaction being written and the queue behind it, so nobody is
/// told "not yet".
const SMALL_WINDOW: usize = 100;

const BARE: &str = "bare SQLite loop";

fn main() -> anyhow::Result<()> {
    let each = scaled(4_000);
    let sandbox = Sandbox::new();
    let mut server = Server::start_plaintext(&sandbox);
    let mut report = Report::new(
        "commit",
        format!("{AGENTS} agents, {BODY_BYTES}-byte bodies, fsync on, medians of {ROUNDS} rounds"),
    );
    for (name, window) in [
        ("messages_committed", SMALL_WINDOW),
        ("messages_committed_with_full_windows", APPEND_WINDOW),
    ] {
        let mut rates = Vec::new();
        let mut bare_rates = Vec::new();
        let mut refused = 0;
        let before = log_stats(&mut server)?;
        for round in 0..ROUNDS {
            let room = format!("#{name}-{round}");
            let sent = send_round(&server, &room.parse()?, window, each)?;
            rates.push(per_second(sent.ids.len(), sent.elapsed));
            refused += sent.refused;
            verify(&server, &room.parse()?, &sent.ids)?;
            let size = log_stats(&mut server)?.since(before).mean_transaction();
            let bare = bare_loop(&sandbox, AGENTS * each, size)?;
            bare_rates.push(per_second(AGENTS * each, bare));
        }
        let stats = log_stats(&mut server)?.since(before);
        report.add(
            name,
            median(&rates),
            "messages/s",
            BARE,
            median(&bare_rates),
        );
        report.note(format!(
            "windows of {window}: {} messages in a transaction on average; {refused} of {} \
             appends answered \"not yet\"",
            stats.mean_transaction(),
            AGENTS * each * ROUNDS + refused,
        ));
    }
    ensure!(server.terminate().code == Some(0), "the server failed");
    report.finish()?;
    Ok(())
}

/// What ten agents did.
struct Sent {
    ids: Vec<MessageId>,
    elapsed: Duration,
    refused: usize,
}

/// Lets every agent get `each` messages acknowledged, as fast as `window` allows.
fn send_round(server: &Server, room: &Room, window: usize, each: usize) -> anyhow::Result<Sent> {
    let mut agents = Vec::new();
    for number in 0..AGENTS {
        agents.push(Agent::connect(server, number, room.clone(), each)?);
    }
    let start = Barrier::new(AGENTS + 1);
    let (begun, outcomes) = thread::scope(|scope| {
        let threads: Vec<_> = agents
            .iter_mut()
            .map(|agent| {
                scope.spawn(|| {
                    start.wait();
                    agent.run(window)
                })
            })
            .collect();
        start.wait();
        let begun = Instant::now();
        let outcomes: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().expect("an agent panicked"))
            .collect();
        (begun, outcomes)
    });
    let elapsed = begun.elapsed();
    outcomes.into_iter().collect::<anyhow::Result<()>>()?;
    Ok(Sent {
        ids: agents.iter().flat_map(Agent::ids).collect(),
        elapsed,
        refused: agents.iter().map(|agent| agent.refused).sum(),
    })
}

/// The appending half of an agent: a window, and go-back-N after "not yet".
struct Agent {
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

impl Agent {
    fn connect(server: &Server, number: usize, room: Room, each: usize) -> anyhow::Result<Self> {
        let host = format!("bench{number}");
        Ok(Self {
            peer: AgentPeer::open(server.address(), &host)?,
            author: format!("sender@{host}").parse()?,
            room,
            body: body()?,
            messages: Vec::with_capacity(each),
            acknowledged: vec![false; each],
            unacknowledged: each,
            next: 0,
            attempt: 1,
            next_request: 1_000,
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
        let ServerFrame::Reply { id, result } = frame.context("the server closed")? else {
            return Ok(());
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

fn body() -> anyhow::Result<EncodedBody> {
    Ok(Content::Text("x".repeat(BODY_BYTES)).encode()?)
}

/// Reads the room from its beginning: what was acknowledged is there, once, and nothing else.
fn verify(server: &Server, room: &Room, ids: &[MessageId]) -> anyhow::Result<()> {
    let mut reader = AgentPeer::open(server.address(), "verifier")?;
    if let Room::Federated(room) = room.clone() {
        let nick = Nick::parse("verifier")?;
        reader.ask(Request::Join { room, nick })?;
    }
    let subscribe = Request::Subscribe {
        room: room.clone(),
        after: Seq::START,
        after_id: None,
    };
    reader.ask(subscribe)?;
    let mut missing: HashSet<MessageId> = ids.iter().copied().collect();
    ensure!(missing.len() == ids.len(), "an id was used twice");
    let mut last = Seq::START;
    while !missing.is_empty() {
        let frame = reader.wire().receive()?.context("the server closed")?;
        if let ServerFrame::Event(Event::Committed(message)) = frame {
            ensure!(message.prev_seq == last, "a gap before {}", message.seq);
            ensure!(
                missing.remove(&message.id),
                "{} doubled or strange",
                message.id
            );
            last = message.seq;
        }
    }
    match reader.ask(Request::Head { room: room.clone() })? {
        Reply::Head { head } => ensure!(head == last, "{head} is one too many"),
        other => bail!("a question for the head got {other:?}"),
    }
    Ok(())
}

/// How many messages in how many transactions.
#[derive(Debug, Clone, Copy)]
struct LogStats {
    transactions: usize,
    messages: usize,
}

impl LogStats {
    const fn since(self, before: Self) -> Self {
        Self {
            transactions: self.transactions - before.transactions,
            messages: self.messages - before.messages,
        }
    }

    fn mean_transaction(self) -> usize {
        self.messages.div_ceil(self.transactions.max(1)).max(1)
    }
}

/// What the server says when it is asked to dump its state.
fn log_stats(server: &mut Server) -> anyhow::Result<LogStats> {
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
    Ok(LogStats {
        transactions: field("transactions")?,
        messages: field("messages")?,
    })
}

fn states(log: &str) -> impl Iterator<Item = &str> {
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    whole.lines().filter(|line| line.contains("transactions="))
}

/// Writes `count` messages in transactions of `size`; how long it took.
fn bare_loop(sandbox: &Sandbox, count: usize, size: usize) -> anyhow::Result<Duration> {
    let dir = tempfile::tempdir_in(sandbox.path())?;
    // The same tables, journal and level of synchronisation as the server's.
    let application = Application {
        name: "bare",
        id: 1,
        migrations: &[BASE_SCHEMA],
    };
    let (_, mut connection) = Database::open(dir.path(), application)?;
    let epoch = Epoch::new().to_bytes();
    connection.execute(
        "INSERT INTO rooms (epoch, name) VALUES (?1, '#bare')",
        [epoch],
    )?;
    let room_id = connection.last_insert_rowid();
    let body = body()?;
    let begun = Instant::now();
    let mut seq = 0_usize;
    while seq < count {
        let transaction = connection.transaction()?;
        let mut insert = transaction.prepare_cached(
            "INSERT INTO messages (room_id, seq, prev_seq, committed_at, id, author, sent_at, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        let mut id = MessageId::new();
        for _ in 0..size.min(count - seq) {
            id = MessageId::new();
            let now = Timestamp::from(SystemTime::now()).micros();
            insert.execute(params![
                room_id,
                seq + 1,
                seq,
                now,
                id.to_bytes(),
                "sender@bench0",
                now,
                body.as_bytes().as_ref(),
            ])?;
            seq += 1;
        }
        drop(insert);
        transaction
            .prepare_cached("UPDATE rooms SET head = ?2, head_id = ?3 WHERE room_id = ?1")?
            .execute(params![room_id, seq, id.to_bytes()])?;
        transaction.commit()?;
    }
    let elapsed = begun.elapsed();
    let rows: usize =
        connection.query_row("SELECT count(*) FROM messages", (), |row| row.get(0))?;
    ensure!(rows == count, "the bare loop wrote {rows} rows");
    Ok(elapsed)
}
