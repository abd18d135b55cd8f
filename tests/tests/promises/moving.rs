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
    process::{ChildStdin, Command, Stdio},
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
        let lines = objects(&text);
        (file, lines)
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
        if object["type"] == "end" {
            object.remove("sha256");
        }
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
    let holds_marlin = |path: &Path| {
        let text = fs::read_to_string(path).expect("an export");
        text.contains(&base64_of("marlin"))
    };
    assert!(holds_marlin(&sandbox.path().join("before.jsonl")));
    assert!(!holds_marlin(&file), "what was erased is in the export");
    let back = sandbox.dir("back");
    fs::copy(
        server.state_dir().join("server.pem"),
        back.join("server.pem"),
    )
    .expect("the key");
    let near = Store::in_file(&sandbox, &back);
    // Who is let in somewhere is not written over, however often that is tried.
    let mut other = Server::start(&sandbox);
    other.terminate().expect_code(0);
    fs::remove_file(other.database()).expect("its log");
    fs::remove_file(other.state_dir().join("server.exists")).expect("its mark");
    let occupied = Store::in_file(&sandbox, other.state_dir());
    for _ in 0..2 {
        let finished = occupied.run("import", &file).expect_code(1);
        assert!(finished.stderr.contains("who is let in"), "{finished:?}");
    }
    near.import(&file);
    let (_, after) = near.export("after.jsonl");
    let last = after.len() - 1;
    assert_eq!(
        after[1..last],
        on_nats[1..last],
        "a file keeps the places, too"
    );
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

/// The same with more messages than are written at a time.
fn exported_large(sandbox: &Sandbox) -> (Server, PathBuf) {
    let mut server = Server::start_plaintext(sandbox);
    let ada = Host::start(sandbox, "ada", server.address());
    ada.wait_online();
    let mut said = ada.terminal("alice").start_piped(["send", "#a"]);
    let mut input = said.take_stdin().expect("a pipe");
    for number in 0..6_000 {
        writeln!(input, "message {number}").expect("a reader");
    }
    drop(input);
    said.wait().expect_code(0);
    ada.wait_outbox_empty();
    server.terminate().expect_code(0);
    let (file, lines) = Store::in_file(sandbox, server.state_dir()).export("whole.jsonl");
    assert_eq!(count(&lines, "message"), 6_000);
    (server, file)
}

fn objects(text: &str) -> Vec<Value> {
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect("objects")
}

/// An import that has written something, and waits for the rest of `text`.
fn half_imported(store: &Store<'_>, text: &str, is_written: impl Fn() -> bool) -> Half {
    let mut command = store.command("import", "-");
    let logs = store.sandbox.dir("logs");
    let mut process = Process::start_piped("import", &mut command, &logs);
    let mut input = process.take_stdin().expect("a pipe");
    // All but the end of the last room.
    let cut = text[..text.len() - 2_000].rfind('\n').expect("a line") + 1;
    input.write_all(&text.as_bytes()[..cut]).expect("a reader");
    input.flush().expect("a reader");
    eventually("something was written", || match is_written() {
        true => Ok(()),
        false => Err("nothing was"),
    });
    let rest = text[cut..].to_owned();
    Half {
        process,
        input,
        rest,
    }
}

struct Half {
    process: Process,
    input: ChildStdin,
    rest: String,
}

/// Bytes of the messages of the stream.
fn stored_bytes(nats: &NatsServer) -> u64 {
    let dir = nats.store().join("jetstream/$G/streams/chat/msgs");
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = files.filter_map(|file| file.metadata().ok());
    sizes.map(|metadata| metadata.len()).sum()
}

#[test]
fn an_import_that_was_killed_is_served_by_nobody_and_begins_anew() {
    let sandbox = Sandbox::new();
    let nats = NatsServer::start(&sandbox);
    let (server, file) = exported_large(&sandbox);
    let text = fs::read_to_string(&file).expect("an export");
    let whole = objects(&text);
    let (near, far) = (sandbox.dir("near"), sandbox.dir("far"));
    for store in [
        Store::in_file(&sandbox, &near),
        Store::on_nats(&sandbox, &far, &nats),
    ] {
        let is_near = store.flags.is_empty();
        let mut half = half_imported(&store, &text, || match is_near {
            true => is_there(&near.join("server.db"), "SELECT 1 FROM messages"),
            false => stored_bytes(&nats) > 500_000,
        });
        half.process.kill();

        let finished = store.server(&server).plaintext().launch().wait();
        assert!(finished.code != Some(0), "{finished:?}");
        assert!(
            finished.stderr.contains("restored in part only"),
            "{finished:?}"
        );
        store.import(&file);
        let (_, lines) = store.export(if is_near { "near.jsonl" } else { "far.jsonl" });
        assert_eq!(alike(&lines), alike(&whole));
        let mut served = store.server(&server).plaintext();
        served.restart();
        served.terminate().expect_code(0);
    }
}

#[test]
fn of_two_imports_into_one_stream_the_one_that_was_removed_writes_no_more() {
    let sandbox = Sandbox::new();
    let nats = NatsServer::start(&sandbox);
    let (server, file) = exported_large(&sandbox);
    let text = fs::read_to_string(&file).expect("an export");
    let (one, two) = (sandbox.dir("one"), sandbox.dir("two"));
    let first = Store::on_nats(&sandbox, &one, &nats);
    let second = Store::on_nats(&sandbox, &two, &nats);
    let mut half = half_imported(&first, &text, || stored_bytes(&nats) > 500_000);
    second.import(&file);
    let mut served = second.server(&server).plaintext();
    served.restart();
    // It may find out before it has read everything.
    let _closed = half.input.write_all(half.rest.as_bytes());
    drop(half.input);
    half.process.wait().expect_code(1);
    served.terminate().expect_code(0);
    let (_, lines) = second.export("second.jsonl");
    assert_eq!(alike(&lines), alike(&objects(&text)));
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
    let made = lines
        .iter()
        .position(|line| line.contains("\"made\""))
        .expect("a host");
    let people = lines
        .iter()
        .position(|line| line.contains("\"type\":\"room\""))
        .expect("a room")
        + 1;
    let member = r#"{"type":"people","members":["eve@evil"],"kicked":[]}"#;
    let mut joined = lines.clone();
    joined.insert(people, member);
    let mut swapped = lines.clone();
    swapped.swap(messages[0], messages[1]);
    let other = lines[messages[2]].replace("alice@ada", "alice@bee");
    let mut forged = lines.clone();
    forged[messages[2]] = &other;
    let mut twice = lines.clone();
    twice.insert(messages[3], lines[messages[3]]);
    let last = lines.len();
    let ends = |number: usize| format!("line {number} ");
    let damaged = [
        ("a message is missing", without(messages[1]), ends(checked)),
        ("two are the wrong way round", swapped, ends(checked + 1)),
        ("one is somebody else's", forged, ends(checked + 1)),
        ("one is there twice", twice, ends(checked + 2)),
        ("somebody joined", joined, ends(checked + 2)),
        ("a host made no rooms", without(made), ends(last - 1)),
        (
            "the end is missing",
            without(last - 1),
            "is not whole".to_owned(),
        ),
        ("the beginning is missing", without(0), ends(1)),
        ("it is none", vec!["hello"], ends(1)),
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
    refused(&near, "export", &file, "name another file, or remove it");
    let nothing = sandbox.dir("nothing");
    refused(
        &Store::in_file(&sandbox, &nothing),
        "export",
        &new,
        "no log",
    );
    assert!(!new.exists(), "a failed export left its file");

    // What was said since the export is not given up.
    server.restart();
    let mut peer = AgentPeer::open(server.address(), "ada").expect("a host");
    let appended = peer.append(MessageId::new(), "alice@ada", "#a", "since then");
    appended.expect("a message");
    drop(peer);
    server.terminate().expect_code(0);
    let moving = Store::on_nats(&sandbox, server.state_dir(), &nats);
    refused(&moving, "import", &file, "has gone on since");

    let (one, two) = (sandbox.dir("one"), sandbox.dir("two"));
    let far = Store::on_nats(&sandbox, &one, &nats);
    refused(&far, "export", &new, "no stream chat");
    let mut distant = far.server(&server).plaintext();
    distant.restart();
    let other = Store::on_nats(&sandbox, &two, &nats);
    refused(&other, "import", &file, "is there already");
    // It asks for what is new a moment after it listens.
    eventually("it is seen that a server follows", || {
        let finished = other.run("export", &new);
        let _not_there = fs::remove_file(&new);
        match finished.stderr.contains("still followed") {
            true => Ok(()),
            false => Err(finished.stderr),
        }
    });
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
