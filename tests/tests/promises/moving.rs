//! A log that is moved to another place is what it was there: every room, every message once and in
//! order, and every host.

use protocol::{
    MessageId,
    federation::{Refusal, Reply},
};
use serde_json::Value;
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tests::{
    AgentPeer, Finished, Host, Keys, NatsServer, Process, Sandbox, Server, Terminal, eventually,
};

/// Where a log is kept, or is to be.
struct Store<'s> {
    sandbox: &'s Sandbox,
    state_dir: PathBuf,
    flags: Vec<String>,
}

impl<'s> Store<'s> {
    fn in_file(sandbox: &'s Sandbox, state_dir: &Path) -> Self {
        Self {
            sandbox,
            state_dir: state_dir.to_owned(),
            flags: Vec::new(),
        }
    }

    fn on_nats(sandbox: &'s Sandbox, state_dir: &Path, nats: &NatsServer) -> Self {
        Self {
            flags: ["--log", &nats.url(), "--nats-synced"]
                .map(str::to_owned)
                .into(),
            ..Self::in_file(sandbox, state_dir)
        }
    }

    /// `chat server export` or `import`.
    fn command(&self, order: &str, file: &str) -> Command {
        let mut command = self.sandbox.place().chat();
        command.args(["server", order, file]).args(&self.flags);
        command.arg("--state-dir").arg(&self.state_dir);
        command
    }

    fn run(&self, order: &str, file: &Path) -> Finished {
        let file = file.to_str().expect("a path in UTF-8");
        let logs = self.sandbox.dir("logs");
        Process::start(order, &mut self.command(order, file), &logs).wait()
    }

    /// The lines of an export into a new file, which it returns too.
    fn export(&self, name: &str) -> (PathBuf, Vec<Value>) {
        let file = self.sandbox.path().join(name);
        self.run("export", &file).expect_code(0);
        let text = fs::read_to_string(&file).expect("an export");
        let lines = text.lines().map(serde_json::from_str);
        (file, lines.collect::<Result<_, _>>().expect("objects"))
    }

    fn import(&self, file: &Path) {
        self.run("import", file).expect_code(0);
    }

    /// A server of this log, which does not run yet.
    fn server(&self, like: &Server) -> Server {
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        Server::new(self.sandbox, like.address())
            .with_state_dir(self.state_dir.clone())
            .with_args(&flags)
    }
}

/// What two exports of one log have in common, wherever it was.
fn alike(lines: &[Value]) -> Vec<Value> {
    let mut alike: Vec<Value> = lines[1..].to_vec();
    for line in &mut alike {
        let object = line.as_object_mut().expect("an object");
        object.remove("seq");
        if let Some(ids) = object.get_mut("ids").and_then(Value::as_array_mut) {
            for id in ids {
                *id = id[0].clone();
            }
        }
    }
    // What is gone is told in the order of each log.
    let (gone, mut rest): (Vec<Value>, Vec<Value>) =
        alike.into_iter().partition(|line| line["type"] == "gone");
    let mut ids: Vec<Value> = gone
        .into_iter()
        .flat_map(|line| {
            let room = line["room"].clone();
            let ids = line["ids"].as_array().cloned().unwrap_or_default();
            ids.into_iter()
                .map(move |id| Value::from(vec![room.clone(), id]))
        })
        .collect();
    ids.sort_by_key(ToString::to_string);
    rest.extend(ids);
    rest
}

fn count(lines: &[Value], kind: &str) -> usize {
    lines.iter().filter(|line| line["type"] == kind).count()
}

/// Says `number` things in a room, and waits until they are committed.
fn say(terminal: &Terminal, room: &str, words: &str, number: usize) {
    for index in 0..number {
        terminal.send_committed(room, &format!("{words} {index}"));
    }
}

fn bodies(terminal: &Terminal, room: &str) -> Vec<String> {
    let printed = terminal.run(["tail", room, "--since", "0", "--json"]).ok();
    let lines = printed.lines().map(serde_json::from_str::<Value>);
    let lines = lines.map(|line| line.expect("an object"));
    lines
        .filter_map(|line| line["body"].as_str().map(str::to_owned))
        .collect()
}

fn eventually_has(terminal: &Terminal, room: &str, expected: &[String]) {
    eventually(&format!("{} has all of {room}", terminal.user()), || {
        let found = bodies(terminal, room);
        match found == expected {
            true => Ok(()),
            false => Err(format!("{found:?}")),
        }
    });
}

#[test]
fn a_log_that_moves_to_nats_and_back_keeps_every_room_every_message_and_every_host() {
    let sandbox = Sandbox::new();
    let nats = NatsServer::start(&sandbox);
    let mut server = Server::start(&sandbox);
    let ada = Host::start(&sandbox, "ada", server.link());
    let bee = Host::start(&sandbox, "bee", server.link());
    let (alice, bob, eve) = (
        ada.terminal("alice"),
        bee.terminal("bob"),
        bee.terminal("eve"),
    );
    // Everything that a log can hold.
    for terminal in [&alice, &bob] {
        terminal.run(["join", "#ops"]).expect_code(0);
    }
    alice
        .run(["topic", "#ops", "on call: alice"])
        .expect_code(0);
    say(&alice, "#ops", "to all", 5);
    let secret = alice.send_committed("#ops", "swordfish").id;
    let later = bob.send_committed("#ops", "marlin").id;
    say(&bob, "#ops", "from bee", 5);
    alice.run(["room", "erase", "#ops", &secret]).expect_code(0);
    alice
        .run(["room", "create", "#den", "--mode", "invite-only"])
        .expect_code(0);
    alice
        .run(["room", "invite", "#den", "bob@bee"])
        .expect_code(0);
    bob.run(["join", "#den"]).expect_code(0);
    say(&alice, "#den", "between us", 3);
    say(&bob, "alice@ada", "psst", 2);
    alice.run(["room", "create", "#kept"]).expect_code(0);
    alice
        .run(["room", "ban", "#kept", "eve@bee"])
        .expect_code(0);
    let (keys, link) = (Keys::new(&sandbox), server.link());
    let mut mallory = AgentPeer::enrolled(&link, &keys, "mallory").expect("a host");
    let (told, gone) = (MessageId::new(), MessageId::new());
    let append = |peer: &mut AgentPeer, id, room, text| {
        let appended = peer.append(id, "m@mallory", room, text);
        appended.map(|reply| matches!(reply, Reply::Appended { .. }))
    };
    assert_eq!(append(&mut mallory, told, "#ops", "once"), Ok(true));
    assert_eq!(append(&mut mallory, gone, "#kept", "for a while"), Ok(true));
    say(&alice, "#kept", "kept", 4);
    alice
        .run(["room", "retention", "#kept", "--count", "2"])
        .expect_code(0);
    eventually("the server knows what is gone", || {
        match is_there(&server.database(), "SELECT 1 FROM pruned") {
            true => Ok(()),
            false => Err("nothing is"),
        }
    });
    drop(mallory);
    server.terminate().expect_code(0);
    // What is said meanwhile waits for the moved log.
    alice.send("#ops", "said meanwhile");

    let old = Store::in_file(&sandbox, server.state_dir());
    let (file, before) = old.export("before.jsonl");
    assert_eq!((count(&before, "room"), count(&before, "host")), (4, 3));
    assert!(count(&before, "gone") > 0, "nothing was retired");
    let distant = Store::on_nats(&sandbox, server.state_dir(), &nats);
    distant.import(&file);
    let (_, on_nats) = distant.export("on-nats.jsonl");
    assert_eq!(alike(&on_nats), alike(&before));

    let mut moved = distant.server(&server);
    moved.restart();
    let mut expected: Vec<String> = (0..5).map(|index| format!("to all {index}")).collect();
    expected.push("marlin".to_owned());
    expected.extend((0..5).map(|index| format!("from bee {index}")));
    expected.extend(["once", "said meanwhile"].map(str::to_owned));
    for terminal in [&alice, &bob] {
        eventually_has(terminal, "#ops", &expected);
    }
    // Who may what is as it was.
    eve.run(["join", "#den"]).expect_code(77);
    eve.run(["join", "#kept"]).expect_code(77);
    say(&bob, "#den", "still between us", 1);
    // Hosts come with their keys, and what was ever said is known: told, erased or gone.
    let mut mallory = AgentPeer::enrolled(&link, &keys, "mallory").expect("the same host");
    assert_eq!(append(&mut mallory, told, "#ops", "once"), Ok(true));
    assert_eq!(append(&mut mallory, gone, "#kept", "for a while"), Ok(true));
    let other = append(&mut mallory, told, "#ops", "another");
    assert_eq!(other, Err(Refusal::IdConflict { id: told }));
    drop(mallory);
    // What was moved can be erased like anything else.
    bob.run(["room", "erase", "#ops", &later]).expect_code(0);
    expected.retain(|body| body != "marlin");
    for terminal in [&alice, &bob] {
        eventually_has(terminal, "#ops", &expected);
    }
    moved.terminate().expect_code(0);

    let (file, on_nats) = distant.export("on-nats-later.jsonl");
    let text = fs::read_to_string(&file).expect("an export");
    let marlin = base64_of("marlin");
    assert!(!text.contains(&marlin), "what was erased is in the export");
    let back = sandbox.dir("back");
    fs::copy(
        server.state_dir().join("server.pem"),
        back.join("server.pem"),
    )
    .expect("the key");
    let near = Store::in_file(&sandbox, &back);
    near.import(&file);
    let (_, after) = near.export("after.jsonl");
    assert_eq!(after[1..], on_nats[1..], "a file keeps the places, too");
    let mut home = near.server(&server);
    home.restart();
    ada.wait_outbox_empty();
    alice.send_committed("#ops", "home again");
    expected.push("home again".to_owned());
    for terminal in [&alice, &bob] {
        eventually_has(terminal, "#ops", &expected);
    }
}

/// What stands for `text` in the file, of whatever is around it.
fn base64_of(text: &str) -> String {
    // A body is a tag and a length before its text.
    let mut body = vec![0, u8::try_from(text.len()).expect("a short text")];
    body.extend_from_slice(text.as_bytes());
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let whole = body.chunks_exact(3).flat_map(|three| {
        let number = three
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        [18, 12, 6, 0].map(|shift| char::from(digits[number >> shift & 63]))
    });
    whole.collect()
}

/// A plaintext server's log with some rooms, exported; the server has ended.
fn exported(sandbox: &Sandbox) -> (Server, PathBuf) {
    let mut server = Server::start_plaintext(sandbox);
    let mut peer = AgentPeer::open(server.address(), "ada").expect("a host");
    for number in 0..30 {
        let room = ["#a", "#b", "#c"][number % 3];
        let appended = peer.append(MessageId::new(), "alice@ada", room, &format!("{number}"));
        appended.expect("a message");
    }
    drop(peer);
    server.terminate().expect_code(0);
    let store = Store::in_file(sandbox, server.state_dir());
    let (file, _) = store.export("whole.jsonl");
    (server, file)
}

#[test]
fn an_import_that_was_killed_is_served_by_nobody_and_begins_anew() {
    let sandbox = Sandbox::new();
    let nats = NatsServer::start(&sandbox);
    let (server, file) = exported(&sandbox);
    let text = fs::read_to_string(&file).expect("an export");
    let (near, far) = (sandbox.dir("near"), sandbox.dir("far"));
    for store in [
        Store::in_file(&sandbox, &near),
        Store::on_nats(&sandbox, &far, &nats),
    ] {
        let begun = match store.flags.is_empty() {
            true => near.join("server.db-wal"),
            false => nats.store().join("jetstream/$G/streams/chat/msgs"),
        };
        let mut command = store.command("import", "-");
        let mut importing = Process::start_piped("import", &mut command, &sandbox.dir("logs"));
        let mut input = importing.take_stdin().expect("a pipe");
        // All but the end of the last room: it waits for more.
        let cut = text.rfind("{\"type\":\"checked\"").expect("a room");
        input.write_all(&text.as_bytes()[..cut]).expect("a reader");
        input.flush().expect("a reader");
        eventually("something was written", || match begun.exists() {
            true if is_marked(&store) => Ok(()),
            _ => Err(format!("no {}", begun.display())),
        });
        importing.kill();
        drop(input);

        let mut refused = store.server(&server).plaintext().launch();
        let finished = refused.wait();
        assert!(finished.code != Some(0), "{finished:?}");
        assert!(
            finished.stderr.contains("restored in part only"),
            "{finished:?}"
        );
        store.import(&file);
        let (_, lines) = store.export(match store.flags.is_empty() {
            true => "near.jsonl",
            false => "far.jsonl",
        });
        let whole = text.lines().map(serde_json::from_str::<Value>);
        let whole: Vec<Value> = whole.collect::<Result<_, _>>().expect("objects");
        assert_eq!(alike(&lines), alike(&whole));
        let mut served = store.server(&server).plaintext();
        served.restart();
        served.terminate().expect_code(0);
    }
}

/// Whether the file is marked as one that is not whole; a stream is made so.
fn is_marked(store: &Store<'_>) -> bool {
    if !store.flags.is_empty() {
        return true;
    }
    let database = store.state_dir.join("server.db");
    is_there(&database, "SELECT 1 FROM meta WHERE key = 'restoring'")
}

/// Whether a query of a database finds something.
fn is_there(database: &Path, query: &str) -> bool {
    let look = || -> rusqlite::Result<bool> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        rusqlite::Connection::open_with_flags(database, flags)?
            .prepare(query)?
            .exists(())
    };
    look().unwrap_or(false)
}

#[test]
fn a_file_that_was_damaged_is_refused_by_the_line() {
    let sandbox = Sandbox::new();
    let (_server, file) = exported(&sandbox);
    let text = fs::read_to_string(&file).expect("an export");
    let lines: Vec<&str> = text.lines().collect();
    let messages: Vec<usize> = (0..lines.len())
        .filter(|&index| lines[index].contains("\"type\":\"message\""))
        .collect();
    let checked = lines
        .iter()
        .position(|line| line.contains("\"checked\""))
        .expect("a room's end");
    let without = |index: usize| {
        let mut rest = lines.clone();
        rest.remove(index);
        rest
    };
    let mut swapped = lines.clone();
    swapped.swap(messages[0], messages[1]);
    let other = lines[messages[2]].replace("alice@ada", "alice@bee");
    let mut forged = lines.clone();
    forged[messages[2]] = &other;
    let mut twice = lines.clone();
    twice.insert(messages[3], lines[messages[3]]);
    let last = lines.len();
    let damaged = [
        (
            "a message is missing",
            without(messages[1]),
            format!("line {checked} "),
        ),
        ("two are the wrong way round", swapped, "line ".to_owned()),
        (
            "one is somebody else's",
            forged,
            format!("line {} ", checked + 1),
        ),
        ("one is there twice", twice, "line ".to_owned()),
        (
            "the end is missing",
            without(last - 1),
            "is not whole".to_owned(),
        ),
        ("the beginning is missing", without(0), "line 1 ".to_owned()),
        ("it is none", vec!["hello"], "line 1 ".to_owned()),
    ];
    let dir = sandbox.dir("new");
    let store = Store::in_file(&sandbox, &dir);
    for (what, lines, told) in damaged {
        let path = sandbox.path().join("damaged.jsonl");
        let mut file = File::create(&path).expect("a file");
        for line in lines {
            writeln!(file, "{line}").expect("a file");
        }
        let finished = store.run("import", &path).expect_code(1);
        assert!(finished.stderr.contains(&told), "{what}: {finished:?}");
    }
    // None of that is in the way of a whole one.
    store.import(&file);
}

#[test]
fn a_log_is_moved_only_while_nobody_serves_it_and_only_to_where_there_is_none() {
    let sandbox = Sandbox::new();
    let nats = NatsServer::start(&sandbox);
    let (mut server, file) = exported(&sandbox);
    let refused = |store: &Store<'_>, order: &str, path: &Path, told: &str| {
        let finished = store.run(order, path).expect_code(1);
        assert!(finished.stderr.contains(told), "{finished:?}");
    };
    let new = sandbox.path().join("new.jsonl");
    let near = Store::in_file(&sandbox, server.state_dir());
    refused(&near, "import", &file, "is there already");
    server.restart();
    refused(&near, "export", &new, "is held by");
    refused(&near, "import", &file, "is held by");
    server.terminate().expect_code(0);
    refused(&near, "export", &file, "File exists");
    let nothing = sandbox.dir("nothing");
    refused(
        &Store::in_file(&sandbox, &nothing),
        "export",
        &new,
        "no log",
    );
    assert!(!new.exists(), "a failed export left its file");

    let (one, two) = (sandbox.dir("one"), sandbox.dir("two"));
    let far = Store::on_nats(&sandbox, &one, &nats);
    refused(&far, "export", &new, "no stream chat");
    let mut distant = far.server(&server).plaintext();
    distant.restart();
    let other = Store::on_nats(&sandbox, &two, &nats);
    refused(&other, "import", &file, "is there already");
    refused(&other, "export", &new, "still followed");
    distant.terminate().expect_code(0);
    other.run("export", &new).expect_code(0);
    // Through a pipe as well.
    let mut exporting = near.command("export", "-");
    let mut exporting = exporting.stdout(Stdio::piped()).spawn().expect("chat");
    let output = exporting.stdout.take().expect("a pipe");
    let (piped, logs) = (sandbox.dir("piped"), sandbox.dir("logs"));
    let mut command = Store::in_file(&sandbox, &piped).command("import", "-");
    let importing = Process::start_with("import", &mut command, &logs, output.into());
    let mut importing = importing;
    importing.wait().expect_code(0);
    assert!(exporting.wait().expect("its end").success());
}
