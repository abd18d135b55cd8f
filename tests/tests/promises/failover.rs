//! A host with several servers is connected to one that lives, and loses nothing on the way.

use protocol::{Cursor, local::LinkStatus};
use std::{net::TcpListener, time::Instant};
use tests::{
    History, Host, MessageLine, Outcome, Sandbox, SentLine, Server, Servers, Tail, Terminal, check,
    eventually, recorder, server::free_loopback,
};

/// Alice on one host, and Bob, who reads on another all the time.
struct Conversation {
    ada: Host,
    alice: Terminal,
    bee: Host,
    bob: Terminal,
    live: Tail,
    history: History,
}

impl Conversation {
    fn start(sandbox: &Sandbox, servers: &Servers) -> Self {
        let (ada, bee) = (servers.host(sandbox, "ada"), servers.host(sandbox, "bee"));
        let (alice, bob) = (ada.terminal("alice"), bee.terminal("bob"));
        bob.run(["join", "#ops"]).expect_code(0);
        let live = bob.tail(&["#ops"], "0");
        let mut this = Self {
            ada,
            alice,
            bee,
            bob,
            live,
            history: History::new(),
        };
        let first = this.alice.send_committed("#ops", "before");
        this.sent("before", &first);
        this.live.wait_for("before");
        this
    }

    /// Alice says something, which is accepted whether there is a server or not.
    fn say(&mut self, body: &str) {
        let line = self.alice.send("#ops", body);
        self.sent(body, &line);
    }

    fn sent(&mut self, body: &str, line: &SentLine) {
        self.history.sent(recorder::Send {
            sender: self.alice.user(),
            room: "#ops".to_owned(),
            body: body.to_owned(),
            outcome: Outcome::Acknowledged,
            seq: line.seq,
            id: Some(line.id.clone()),
        });
    }

    /// Alice ends, and what Bob was shown is judged: what came as it was said, what a reader who
    /// comes back takes up behind its cursor, and what the room has.
    fn judge(mut self) {
        self.ada.wait_outbox_empty();
        let last = self.alice.send_committed("#ops", "the end");
        self.sent("the end", &last);
        self.live.wait_for("the end");
        // A log that is another one would be told of here, and read from its beginning.
        assert!(self.live.others().is_empty(), "{:?}", self.live.others());
        let live = self.live.messages().to_vec();
        let epoch = |line: &MessageLine| {
            let cursor: Cursor = line.cursor.parse().expect("a cursor");
            cursor.epoch
        };
        let first = epoch(&live[0]);
        assert!(live.iter().all(|line| epoch(line) == first), "{live:?}");
        let mut resumed = self.bob.tail(&["#ops"], &live[0].cursor);
        resumed.wait_for("the end");
        assert!(resumed.others().is_empty(), "{:?}", resumed.others());
        let resumed = [&live[..1], resumed.messages()].concat();
        let all = self.bob.read_all("#ops");
        let readers = ["live", "resumed", "all"];
        for (reader, lines) in readers.iter().zip([&live, &resumed, &all]) {
            self.history.read(reader, lines);
        }
        check(&self.history, &readers).expect("what was promised");
    }
}

#[test]
fn a_host_whose_server_ends_is_soon_at_another_and_delivers_what_was_accepted_meanwhile() {
    let sandbox = Sandbox::new();
    let mut servers = Servers::start(&sandbox, 2);
    let mut talk = Conversation::start(&sandbox, &servers);
    for how in ["SIGKILL", "SIGTERM", "SIGKILL again"] {
        let lost = servers.of(&talk.ada).address().to_string();
        let ended = Instant::now();
        match how {
            "SIGTERM" => drop(servers.of(&talk.ada).terminate()),
            _ => servers.of(&talk.ada).kill(),
        }
        for number in 0..10 {
            talk.say(&format!("{number} after {how}"));
        }
        servers.wait_elsewhere(&talk.ada, &lost);
        println!("online again {:?} after a {how}", ended.elapsed());
        talk.ada.wait_outbox_empty();
        servers.wait_elsewhere(&talk.bee, &lost);
        talk.live.wait_for(&format!("9 after {how}"));
        println!("delivered {:?} after a {how}", ended.elapsed());
        // The next one ends as well: then the first must be there again.
        servers.restart(&lost);
    }
    talk.judge();
}

#[test]
fn what_waits_for_any_server_at_all_is_delivered_once_by_the_first_that_comes_back() {
    let sandbox = Sandbox::new();
    let mut servers = Servers::start(&sandbox, 2);
    let mut talk = Conversation::start(&sandbox, &servers);
    let first = servers.of(&talk.ada).address().to_string();
    servers.at(&first).kill();
    servers.wait_elsewhere(&talk.ada, &first);
    servers.of(&talk.ada).kill();
    for number in 0..10 {
        talk.say(&format!("{number} to nobody"));
    }
    servers.restart(&first);
    talk.live.wait_for("9 to nobody");
    talk.judge();
}

#[test]
fn one_line_for_several_servers_federates_with_one_that_lives() {
    let sandbox = Sandbox::new();
    let dead = free_loopback();
    let alive = free_loopback();
    let public = format!("{dead},{alive}");
    let mut server = Server::new(&sandbox, alive).with_args(&["--public-address", &public]);
    server.restart();
    let line = server.invite(1, None);
    assert!(line.starts_with(&format!("chat://{public}/")), "{line}");
    let ada = Host::start_alone(&sandbox, "ada");
    let alice = ada.terminal("alice");
    let said = alice.run(["join", &line]).ok();
    assert!(
        said.starts_with(&format!("connected to {alive} (")),
        "{said}"
    );
    alice.send_committed("#ops", "here");
    // Its key is enough from now on: at this address and, once it is in, at the other.
    let mut ada = ada;
    ada.restart();
    ada.wait_online();
    server.terminate().expect_code(0);
    ada.wait_offline();
    let mut moved = Server::new(&sandbox, dead).with_state_dir(server.state_dir().to_owned());
    moved.restart();
    ada.wait_online();
    alice.send_committed("#ops", "there");
}

#[test]
fn a_server_that_takes_the_connection_and_never_answers_holds_nobody() {
    let sandbox = Sandbox::new();
    // The kernel accepts for it.
    let mute = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mute = mute.local_addr().map(|address| (mute, address));
    let (_open, address) = mute.expect("its address");
    let server = Server::start(&sandbox);
    let mut ada = Host::new(&sandbox, "ada")
        .with_server(format!("plain://{address}"))
        .with_server(server.link());
    let begun = Instant::now();
    ada.restart();
    ada.wait_online();
    println!("online {:?} after the start", begun.elapsed());
    ada.terminal("alice").send_committed("#ops", "heard");
}

#[test]
fn a_drained_server_gives_its_hosts_away_and_takes_them_again() {
    let sandbox = Sandbox::new();
    let mut servers = Servers::start(&sandbox, 2);
    let mut talk = Conversation::start(&sandbox, &servers);
    let more = ["cat", "dan"].map(|name| servers.host(&sandbox, name));
    let drained = servers.of(&talk.ada).address().to_string();

    let mut pipe = talk.alice.pipe("#ops");
    let bodies: Vec<String> = (0..200).map(|number| format!("message {number}")).collect();
    for body in &bodies[..100] {
        pipe.write(body).expect("taken");
    }
    let said = servers
        .at(&drained)
        .order(&["drain", "--group", "1", "--json"]);
    let said = said.ok();
    let last = said.lines().last().unwrap_or_default();
    assert!(last.contains(r#""draining":true,"connected":0"#), "{said}");
    for host in more.iter().chain([&talk.ada, &talk.bee]) {
        servers.wait_elsewhere(host, &drained);
    }
    for body in &bodies[100..] {
        pipe.write(body).expect("taken");
    }
    eventually("all are accepted", || match pipe.sent().len() {
        200 => Ok(()),
        some => Err(some.to_string()),
    });
    for (body, line) in bodies.iter().zip(pipe.sent()) {
        talk.sent(body, line);
    }
    talk.judge();

    // Who knows no other server waits, and so does what is said there.
    let only = servers.at(&drained);
    let eve = Host::start(&sandbox, "eve", only.link());
    eventually("eve is refused", || match eve.status().link {
        LinkStatus::Waiting { error, .. } if error.contains("drained") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let hers = eve.terminal("eve");
    assert_eq!(hers.send("#ops", "patience").state, "queued");
    let undone = only.order(&["drain", "--undo"]).ok();
    assert_eq!(undone, "hosts are let in again\n");
    eve.wait_online();
    eve.wait_outbox_empty();
    let read = hers.read_all("#ops");
    assert!(read.iter().any(|message| message.body == "patience"));
}
