//! What is acknowledged is as durable as the log makes it, and a log may be away: whoever asks is
//! told both, and a log that comes back is used again without anybody's doing.

use protocol::{
    AgentId, Durability, Features, LogHealth, LogKeeper, LogStatus, Preface, RequestId, Vocabulary,
    federation::{AgentFrame, Event, Reply, Request, ServerFrame},
    local::{self, From},
};
use serde_json::Value;
use tests::{
    Host, NatsServer, Sandbox, Server, Terminal, eventually,
    server::free_loopback,
    wire::{Stream, Wire},
};

/// A server whose log is on a NATS of its own, and a host that is connected to it.
struct Scene {
    host: Host,
    server: Server,
    /// What it stands on, which ends after it.
    nats: NatsServer,
    _sandbox: Sandbox,
}

impl Scene {
    /// `more` are further arguments of the server.
    fn start(more: &[&str]) -> Self {
        let sandbox = Sandbox::new();
        let nats = NatsServer::start(&sandbox);
        let url = nats.url();
        let args = [&["--log", &url], more].concat();
        let mut server = Server::new(&sandbox, free_loopback()).with_args(&args);
        server.restart();
        let host = Host::start(&sandbox, "ada", server.link());
        host.wait_online();
        Self {
            host,
            server,
            nats,
            _sandbox: sandbox,
        }
    }

    fn alice(&self) -> Terminal {
        self.host.terminal("alice")
    }

    /// Waits until `chat status` tells of the log what `is_it` says.
    fn wait_for(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let alice = self.alice();
        eventually(what, || {
            let status = json(&alice.run(["status", "--json"]).ok());
            match is_it(&status["log"]) {
                true => Ok(status),
                false => Err(status.to_string()),
            }
        })
    }
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).expect("one JSON object")
}

#[test]
fn status_says_when_the_log_is_weaker_than_the_promise() {
    let scene = Scene::start(&[]);
    let status = scene.wait_for("the log is told", |log| log["state"] == "well");
    assert_eq!(status["log"]["keeper"], "jetstream");
    assert_eq!(status["log"]["durability"], "unknown");
    let told = [
        scene.alice().run(["status"]).ok(),
        scene.server.order(&["status"]).ok(),
    ];
    for told in told {
        assert!(told.contains("on NATS JetStream; whether"), "{told}");
        let warning = told.lines().find(|line| line.starts_with("warning "));
        let warning = warning.expect("what to do");
        assert!(warning.contains("sync_interval: always"), "{warning}");
        assert!(warning.contains("--nats-synced"), "{warning}");
    }
    let told = scene.alice().run(["doctor"]).ok();
    let check = told.lines().find(|line| line.starts_with("warn  log "));
    assert!(
        check.expect("a warning").contains("--nats-synced"),
        "{told}"
    );
}

#[test]
fn status_has_no_word_for_a_log_that_keeps_the_promise() {
    let scene = Scene::start(&["--nats-synced"]);
    let status = scene.wait_for("the log is told", |log| log["state"] == "well");
    assert_eq!(status["log"]["durability"], "synced");
    let told = scene.alice().run(["status"]).ok();
    let says = |what: &str| told.lines().any(|line| line.starts_with(what));
    assert!(
        !says("log") && !says("warning") && !says("problem"),
        "{told}"
    );
    let told = scene.alice().run(["doctor"]).ok();
    assert!(
        told.lines().any(|line| line.starts_with("ok  log ")),
        "{told}"
    );
    let told = scene.server.order(&["status"]).ok();
    assert!(told.contains("synced to the disk before it is acknowledged"));
}

#[test]
fn status_says_when_nats_is_away_and_when_it_is_back() {
    let mut scene = Scene::start(&["--nats-synced"]);
    let alice = scene.alice();
    alice.send_committed("#ops", "before");
    let since = json(&alice.run(["status", "--json"]).ok())["link"]["since"].clone();
    scene.nats.kill();
    let status = scene.wait_for("the log is away", |log| log["state"] == "away");
    // The server is there: that is another trouble than none.
    assert_eq!(status["link"]["state"], "online");
    assert_eq!(alice.send("#ops", "meanwhile").state, "queued");
    let told = alice.run(["status"]).ok();
    let problem = told.lines().find(|line| line.starts_with("problem "));
    let problem = problem.expect("the problem");
    for words in [
        "is reached, but its log is not",
        "waits here",
        "nothing needs doing",
    ] {
        assert!(problem.contains(words), "{told}");
    }
    let told = scene.server.order(&["status"]).ok();
    assert!(
        told.contains("the log is away (NATS: not connected)"),
        "{told}"
    );
    // Whoever waits for it at the command line is told the same.
    let waits = ["send", "#ops", "waits", "--wait", "committed"];
    let mut waiting = alice.start(waits);
    eventually("the sender is told", || {
        let told = waiting.stderr();
        match told.contains("its log is not") && told.contains("nothing is lost") {
            true => Ok(()),
            false => Err(told),
        }
    });
    scene.nats.restart();
    waiting.wait().ok();
    let status = scene.wait_for("the log is back", |log| log["state"] == "well");
    scene.host.wait_outbox_empty();
    assert_eq!(status["problems"], Value::Array(Vec::new()));
    assert_eq!(status["link"]["since"], since, "nobody had to connect anew");
    let read = alice.read_all("#ops");
    let read: Vec<&str> = read.iter().map(|message| message.body.as_str()).collect();
    assert_eq!(read, ["before", "meanwhile", "waits"]);
}

#[test]
fn status_says_when_nats_hangs_and_when_it_goes_on() {
    let mut scene = Scene::start(&["--nats-synced"]);
    let alice = scene.alice();
    alice.send_committed("#ops", "before");
    scene.nats.process().stop();
    alice.send("#ops", "meanwhile");
    let status = scene.wait_for("the log is slow", |log| log["state"] == "slow");
    let problem = status["problems"][0].as_str().expect("a problem");
    assert!(
        problem.contains("does not answer as it should"),
        "{problem}"
    );
    scene.nats.process().cont();
    scene.wait_for("the log answers", |log| log["state"] == "well");
    scene.host.wait_outbox_empty();
    assert_eq!(alice.read_all("#ops").len(), 2);
}

/// A session that is open meanwhile hears of it, for a prompt that tells a person.
#[test]
fn a_session_hears_when_the_log_goes_and_comes() {
    let mut scene = Scene::start(&["--nats-synced"]);
    let mut alice = scene.host.session("alice");
    alice.open_room("#ops", From::Beginning);
    let well = LogStatus {
        keeper: LogKeeper::JetStream,
        durability: Durability::Synced,
        weaker: None,
        health: LogHealth::Well,
    };
    scene.wait_for("the log is told", |log| log["state"] == "well");
    scene.nats.kill();
    let mut next = |is_it: fn(&LogHealth) -> bool| {
        alice.event(|event| match event {
            local::Event::Log { status } => status.filter(|status| is_it(&status.health)),
            _ => None,
        })
    };
    let away = next(|health| matches!(health, LogHealth::Away { .. }));
    let health = LogHealth::Well;
    assert_eq!(LogStatus { health, ..away }, well);
    scene.nats.restart();
    assert_eq!(next(LogHealth::is_well), well);
}

/// An agent of an earlier build would take the connection for broken.
#[test]
fn an_agent_of_an_earlier_build_is_not_told_what_it_does_not_understand() {
    let sandbox = Sandbox::new();
    let server = Server::start_plaintext(&sandbox);
    for (features, host) in [(Features::NONE, "ada"), (Features::OURS, "bee")] {
        let stream = Stream::tcp(server.address()).expect("connected");
        let mut wire: Wire<ServerFrame, AgentFrame> = Wire::silent(stream);
        let ours = Preface::ours(Vocabulary::Federation);
        let preface = Preface { features, ..ours };
        wire.send_bytes(&preface.to_bytes()).expect("sent");
        wire.read_preface().expect("an answer").expect("a preface");
        let hello = Request::Hello {
            host: host.parse().expect("a name"),
            agent: AgentId::new(),
            software: "tests".to_owned(),
        };
        for (id, request) in (0..).zip([hello, Request::Ping]) {
            let id = RequestId(id);
            wire.send(&AgentFrame { id, request }).expect("sent");
        }
        let mut told = Vec::new();
        loop {
            match wire.receive().expect("a frame").expect("no end") {
                ServerFrame::Reply {
                    result: Ok(Reply::Pong),
                    ..
                } => break,
                ServerFrame::Reply { .. } => {}
                ServerFrame::Event(event) => told.push(event),
            }
        }
        let status = LogStatus::database();
        let expected = match features {
            Features::NONE => Vec::new(),
            _ => vec![Event::Log { status }],
        };
        assert_eq!(told, expected, "{host}");
    }
}
