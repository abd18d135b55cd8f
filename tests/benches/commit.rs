//! Messages committed per second, with fsync, against a bare SQLite loop on the same disk.
//!
//! Ten agents send ahead of their acknowledgements to one server, once within what the server
//! queues and once with the whole window of a real agent. The bare loop is what nobody can beat
//! with this storage: rows of the same schema, in transactions of the size that the server made,
//! without a network, a second process, a check for known ids or anybody to answer.

use anyhow::ensure;
use protocol::{Epoch, MessageId, Room, Timestamp, limits::APPEND_WINDOW};
use room_log::{Application, BASE_SCHEMA, Database};
use rusqlite::params;
use std::time::{Duration, Instant, SystemTime};
use tests::{
    AgentPeer, Sandbox, Server,
    load::{self, BODY_BYTES, LogStats, Reader, Sender, Sent},
    measure::{Report, median, per_second, scaled},
};

const AGENTS: usize = 10;

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
        let before = LogStats::of(&mut server)?;
        for round in 0..ROUNDS {
            let room = format!("#{name}-{round}");
            let sent = send_round(&server, &room.parse()?, window, each)?;
            rates.push(per_second(sent.ids.len(), sent.elapsed));
            refused += sent.refused;
            verify(&server, &room.parse()?, &sent.ids)?;
            let size = LogStats::of(&mut server)?.since(before).mean_transaction();
            let bare = bare_loop(&sandbox, AGENTS * each, size)?;
            bare_rates.push(per_second(AGENTS * each, bare));
        }
        let stats = LogStats::of(&mut server)?.since(before);
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

/// Lets every agent get `each` messages acknowledged, as fast as `window` allows.
fn send_round(server: &Server, room: &Room, window: usize, each: usize) -> anyhow::Result<Sent> {
    let mut senders = Vec::new();
    for number in 0..AGENTS {
        let host = format!("bench{number}");
        let peer = AgentPeer::open(server.address(), &host)?;
        senders.push(Sender::new(peer, &host, room.clone(), each)?);
    }
    load::send_all(&mut senders, window)
}

/// Reads the room from its beginning: what was acknowledged is there, once, and nothing else.
fn verify(server: &Server, room: &Room, ids: &[MessageId]) -> anyhow::Result<()> {
    let reader = AgentPeer::open(server.address(), "verifier")?;
    Reader::follow(reader, room)?.verify(ids)
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
    let body = load::body()?;
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
