//! A damaged database stops the daemon with advice; it never goes on with an empty one.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
};
use tests::{Host, Process, Sandbox, Server, eventually, heavy};

/// A way to damage a file.
type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 5] = [
    ("header overwritten", |path| overwrite(path, 0, 100)),
    ("pages in the middle overwritten", |path| {
        let len = fs::metadata(path).expect("database").len();
        overwrite(path, len / 3, len / 3);
    }),
    ("cut in half", |path| {
        let len = fs::metadata(path).expect("database").len();
        let file = OpenOptions::new().write(true).open(path).expect("database");
        file.set_len(len / 2).expect("truncated");
    }),
    ("emptied", |path| fs::write(path, b"").expect("emptied")),
    ("deleted", |path| fs::remove_file(path).expect("deleted")),
];

fn overwrite(path: &Path, offset: u64, len: u64) {
    let file = OpenOptions::new().write(true).open(path).expect("database");
    let garbage = vec![0xA5; usize::try_from(len).expect("a small database")];
    file.write_all_at(&garbage, offset).expect("overwritten");
}

/// Damages `database` in every way and expects `launch` to end with advice each time; leaves it
/// whole.
fn refuses_every_damage(database: &Path, launch: impl Fn() -> Process) {
    let whole = fs::read(database).expect("a closed database");
    assert!(whole.len() > 64 * 1024, "enough to damage: {}", whole.len());
    let wal = database.with_extension("db-wal");
    assert!(
        fs::metadata(&wal).map_or(0, |meta| meta.len()) == 0,
        "an orderly end leaves all in the database"
    );
    for (damage, apply) in DAMAGES {
        apply(database);
        let damaged = fs::read(database).ok();
        let finished = launch().wait();
        let said = &finished.stderr;
        assert!(
            finished.code.is_some_and(|code| code != 0),
            "{damage}: {finished:?}"
        );
        let path = database.to_str().expect("a plain path");
        assert!(said.contains(path), "{damage}: which file? {said}");
        assert!(
            said.contains("restore") || said.contains("backup") || said.contains("delete"),
            "{damage}: what is to be done? {said}"
        );
        assert!(!said.contains("panicked"), "{damage}: {said}");
        assert_eq!(fs::read(database).ok(), damaged, "{damage}: it was touched");
        fs::write(database, &whole).expect("restored");
    }
}

#[test]
fn a_server_refuses_a_damaged_log_and_takes_it_back_when_mended() {
    let _turn = heavy();
    let sandbox = Sandbox::new();
    let mut server = Server::start(&sandbox);
    let ada = Host::start(&sandbox, "ada", server.link());
    let alice = ada.terminal("alice");
    fill(&alice, "#ops");
    ada.wait_outbox_empty();
    server.terminate().expect_code(0);
    refuses_every_damage(&server.database(), || server.launch());
    server.restart();
    let bee = Host::start(&sandbox, "bee", server.link());
    bee.wait_online();
    assert_eq!(bee.terminal("bob").read_all("#ops").len(), 300);
}

#[test]
fn an_agent_refuses_a_damaged_store_and_takes_it_back_when_mended() {
    let _turn = heavy();
    let sandbox = Sandbox::new();
    let mut ada = Host::start_alone(&sandbox, "ada");
    let alice = ada.terminal("alice");
    fill(&alice, "&den");
    ada.terminate_agent().expect_code(0);
    refuses_every_damage(&ada.database(), || ada.launch());
    ada.restart();
    assert_eq!(alice.read_all("&den").len(), 300);
}

/// Gives `room` 300 messages of half a kilobyte.
fn fill(alice: &tests::Terminal, room: &str) {
    let mut pipe = alice.pipe(room);
    for number in 0..300 {
        let text = format!("{number} {}", "filler ".repeat(70));
        pipe.write(&text).expect("chat send reads its input");
    }
    pipe.finish(tests::limit()).expect_code(0);
}

/// A row that SQLite finds whole and this program cannot read.
#[test]
fn a_damaged_message_costs_a_host_its_room_only() {
    let sandbox = Sandbox::new();
    let mut server = Server::start(&sandbox);
    let ada = Host::start(&sandbox, "ada", server.link());
    let alice = ada.terminal("alice");
    for text in ["one", "two"] {
        alice.send_committed("#old", text);
        alice.send_committed("#ops", text);
    }
    server.terminate();
    let database = rusqlite::Connection::open(server.database()).expect("a database");
    let spoil = "UPDATE messages SET author = 'al ice@ada'
        WHERE seq = (SELECT head FROM rooms WHERE name = '#old')";
    assert_eq!(database.execute(spoil, ()), Ok(1));
    drop(database);
    server.restart();

    let bee = Host::start(&sandbox, "bee", server.link());
    let bob = bee.terminal("bob");
    eventually("what comes before it can be had", || {
        let lines = bob.read_all("#old");
        match lines
            .iter()
            .map(|one| one.body.as_str())
            .collect::<Vec<_>>()[..]
        {
            ["one"] => Ok(()),
            _ => Err(format!("{lines:?}")),
        }
    });
    assert_eq!(bob.read_all("#ops").len(), 2);
    bob.send_committed("#ops", "three");
    eventually("the host tells what is wrong", || {
        let problems = bee.status().problems;
        match problems
            .iter()
            .any(|one| one.contains("#old") && one.contains("damaged"))
        {
            true => Ok(()),
            false => Err(format!("{problems:?}")),
        }
    });
    let said = server.process().stderr();
    assert_eq!(said.matches("a room cannot be read").count(), 1, "{said}");
}

/// A log that says itself that something is gone from it.
#[test]
fn a_lost_message_costs_a_host_its_room_only() {
    let sandbox = Sandbox::new();
    let mut server = Server::start(&sandbox);
    let ada = Host::start(&sandbox, "ada", server.link());
    let alice = ada.terminal("alice");
    for text in ["one", "two", "three"] {
        alice.send_committed("#old", text);
        alice.send_committed("#ops", text);
    }
    server.terminate();
    let database = rusqlite::Connection::open(server.database()).expect("a database");
    let lose = "DELETE FROM messages
        WHERE seq = (SELECT prev_seq FROM messages JOIN rooms ON seq = head WHERE name = '#old')";
    assert_eq!(database.execute(lose, ()), Ok(1));
    drop(database);
    server.restart();

    let bee = Host::start(&sandbox, "bee", server.link());
    bee.wait_online();
    let link = bee.status().link;
    let bob = bee.terminal("bob");
    assert!(bob.read_all("#old").len() <= 1, "nothing behind the hole");
    eventually("the host tells what is wrong", || {
        let problems = bee.status().problems;
        match problems
            .iter()
            .any(|one| one.contains("#old") && one.contains("missing"))
        {
            true => Ok(()),
            false => Err(format!("{problems:?}")),
        }
    });
    let had: Vec<_> = bob
        .read_all("#old")
        .into_iter()
        .map(|one| one.body)
        .collect();
    assert_eq!(had, ["one"]);
    assert_eq!(bob.read_all("#ops").len(), 3);
    bob.send_committed("#ops", "four");
    alice.send_committed("#old", "and on");
    assert_eq!(
        bee.status().link,
        link,
        "the connection has lived through it"
    );
}
