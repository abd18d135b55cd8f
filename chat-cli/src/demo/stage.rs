//! The tour's server, hosts and people, and how long each step may take.

use super::{
    daemon::{Daemon, Place},
    journal::{Journal, Number, Said},
    person::{Order, Report, live},
};
use crate::{
    conversation::{Conversation, Options},
    exit::Failure,
    paths::Settings,
    render,
};
use protocol::{Direct, MessageId, Nick, Room, ServerAddress, UserName};
use std::{ffi::OsString, time::Duration};
use tempfile::TempDir;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, interval, timeout_at},
};

/// The people, by number.
pub(super) const ALICE: usize = 0;
pub(super) const ADAM: usize = 1;
pub(super) const BEA: usize = 2;
pub(super) const BOB: usize = 3;
const NAMES: [&str; 4] = ["alice@ada", "adam@ada", "bea@bee", "bob@bee"];
const HOSTS: [&str; 2] = ["ada", "bee"];

/// How long any one step may take.
const STEP: Duration = Duration::from_secs(15);

/// How often the agents are asked for the state of their link while it is awaited.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Reports that wait to be read; people wait when it is full.
const REPORTS: usize = 256;

/// Bytes of a socket's path at most, by Linux's `sun_path` without its final zero.
const SOCKET_PATH_BYTES: usize = 107;

pub(super) struct Stage {
    people: Vec<mpsc::Sender<Order>>,
    users: Vec<UserName>,
    reports: mpsc::Receiver<Report>,
    lives: JoinSet<Result<(), Failure>>,
    journal: Journal,
    killed: Option<Instant>,
    server: Option<Daemon>,
    server_place: Place,
    address: String,
    agents: Vec<Daemon>,
    // Last, so that the files go after those who use them.
    dir: TempDir,
}

impl Stage {
    /// Starts everybody and waits until both hosts are connected.
    pub(super) async fn set() -> Result<Self, Failure> {
        let dir = directory()
            .map_err(|error| Failure::failed(format_args!("no temporary directory: {error}")))?;
        let server_place = Place::new(dir.path(), "server");
        // The first start says what lets other hosts in.
        let server = start_server(&server_place, "127.0.0.1:0", "chat join ").await?;
        let invitation = server.ready.clone();
        let address = ServerAddress::parse(&invitation).map_err(Failure::failed)?;
        let address = address.place().to_owned();
        let mut agents = Vec::new();
        let (tx, reports) = mpsc::channel(REPORTS);
        let (mut people, mut users) = (Vec::new(), Vec::new());
        let mut lives = JoinSet::new();
        for host in HOSTS {
            let place = Place::new(dir.path(), host);
            agents.push(start_agent(&place, host, &invitation).await?);
            for name in NAMES.iter().filter(|name| name.ends_with(host)) {
                let (user, talk) = connect(&place, name).await?;
                let (orders, told) = mpsc::channel(8);
                lives.spawn(live(people.len(), talk, told, tx.clone()));
                people.push(orders);
                users.push(user);
            }
        }
        let mut stage = Self {
            people,
            users,
            reports,
            lives,
            journal: Journal::default(),
            killed: None,
            server: Some(server),
            server_place,
            address,
            agents,
            dir,
        };
        stage.until_linked(true).await?;
        Ok(stage)
    }

    /// Has these people open a room.
    pub(super) async fn open(&mut self, who: &[usize], room: &Room) -> Result<(), Failure> {
        for person in who {
            self.tell(*person, Order::Read(room.clone())).await?;
        }
        let what = format!("{room} open for all");
        self.until(&what, |journal| {
            who.iter().all(|person| journal.is_open(*person, room))
        })
        .await
    }

    /// The conversation of two people.
    pub(super) fn direct(&self, one: usize, other: usize) -> Room {
        Direct::between(self.users[one].clone(), self.users[other].clone()).into()
    }

    /// Says something and waits until all have read it; a line that tells of it.
    pub(super) async fn talk(
        &mut self,
        by: usize,
        room: &Room,
        text: &str,
    ) -> Result<String, Failure> {
        let number = self.say(by, room, text).await?;
        self.until_arrived(number).await?;
        Ok(self.line(number, self.journal.said[number].at))
    }

    /// Says something and waits until it is durable on its host.
    pub(super) async fn say_pending(
        &mut self,
        by: usize,
        room: &Room,
        text: &str,
    ) -> Result<Number, Failure> {
        let number = self.say(by, room, text).await?;
        self.until(&format!("{text:?} accepted"), |journal| {
            journal.said[number].queued.is_some()
        })
        .await?;
        Ok(number)
    }

    /// A line about a message that waits for the server.
    pub(super) fn pending(&self, number: Number) -> String {
        let said = &self.journal.said[number];
        let state = if said.committed.is_some() {
            "delivered already"
        } else {
            "pending"
        };
        let queued = said
            .queued
            .map_or_else(String::new, |at| since(said.at, at));
        format!("{}  kept on its host {queued}, {state}", self.head(said))
    }

    /// Waits for a pending message to arrive; a line that tells of it.
    pub(super) async fn delivered(&mut self, number: Number) -> Result<String, Failure> {
        self.until_arrived(number).await?;
        let from = self.killed.unwrap_or(self.journal.said[number].at);
        Ok(self.line(number, from))
    }

    /// Kills the server and waits until both hosts have noticed.
    pub(super) async fn kill_server(&mut self) -> Result<(), Failure> {
        if let Some(server) = self.server.take() {
            server.kill().await?;
        }
        self.until_linked(false).await
    }

    /// Starts the server again, on the same address and state.
    pub(super) async fn restart_server(&mut self) -> Result<(), Failure> {
        self.killed = Some(Instant::now());
        self.server = Some(start_server(&self.server_place, &self.address, "listening on ").await?);
        Ok(())
    }

    /// Sends the people home; what went wrong on the whole.
    pub(super) async fn faults(&mut self) -> Result<Vec<String>, Failure> {
        self.people.clear();
        while let Some(report) = self.reports.recv().await {
            self.journal.note(report);
        }
        while let Some(life) = self.lives.join_next().await {
            life.map_err(Failure::failed)??;
        }
        Ok(self.journal.faults(&NAMES))
    }

    /// Ends the daemons and removes their files. Dropping does the same, but without waiting for
    /// the daemons to be gone.
    pub(super) async fn strike(self) {
        for daemon in self.server.into_iter().chain(self.agents) {
            // A daemon that is gone already is what is wanted.
            let _ = daemon.kill().await;
        }
        // What cannot be removed is in the temporary directory, which is cleaned by others.
        let _ = self.dir.close();
    }

    /// What the tour proved, in a line.
    pub(super) fn summary(&self) -> String {
        format!(
            "{} messages, {} readings by {} people on {} hosts:\neach message read exactly once \
             by all of its readers, in one order",
            self.journal.said.len(),
            self.journal.readings(),
            NAMES.len(),
            HOSTS.len()
        )
    }

    async fn say(&mut self, by: usize, room: &Room, text: &str) -> Result<Number, Failure> {
        let id = MessageId::new();
        let audience = (0..NAMES.len()).filter(|who| self.reads(*who, by, room));
        self.journal.said.push(Said {
            id,
            room: room.clone(),
            by,
            text: text.to_owned(),
            at: Instant::now(),
            queued: None,
            committed: None,
            audience: audience.collect(),
        });
        let order = Order::Say {
            id,
            room: room.clone(),
            text: text.to_owned(),
        };
        self.tell(by, order).await?;
        Ok(self.journal.said.len() - 1)
    }

    /// Who reads what `by` says in `room`.
    fn reads(&self, who: usize, by: usize, room: &Room) -> bool {
        match room {
            Room::Federated(_) => true,
            Room::Local(_) => self.users[who].host == self.users[by].host,
            Room::Direct(direct) => direct.includes(&self.users[who]),
        }
    }

    async fn tell(&self, who: usize, order: Order) -> Result<(), Failure> {
        let told = self.people[who].send(order).await;
        told.map_err(|_| Failure::failed(format_args!("{} is gone", NAMES[who])))
    }

    async fn until_arrived(&mut self, number: Number) -> Result<(), Failure> {
        let what = format!("{:?} read by all", self.journal.said[number].text);
        self.until(&what, |journal| journal.has_arrived(number))
            .await
    }

    async fn until_linked(&mut self, linked: bool) -> Result<(), Failure> {
        self.journal.forget_links();
        let mut ask = interval(ASK_EVERY);
        let deadline = Instant::now() + STEP;
        let reached = |journal: &Journal| {
            [ALICE, BOB].iter().all(|who| {
                if linked {
                    journal.is_online(*who)
                } else {
                    journal.is_offline(*who)
                }
            })
        };
        while !reached(&self.journal) {
            tokio::select! {
                _ = ask.tick() => {
                    self.tell(ALICE, Order::AskLink).await?;
                    self.tell(BOB, Order::AskLink).await?;
                }
                report = next_report(&mut self.reports, &mut self.lives) => {
                    self.journal.note(report?);
                }
                () = tokio::time::sleep_until(deadline) => {
                    let what = if linked { "connected" } else { "cut off" };
                    return Err(late(&format!("both hosts {what}"), &self.journal));
                }
            }
        }
        Ok(())
    }

    async fn until(
        &mut self,
        what: &str,
        reached: impl Fn(&Journal) -> bool,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + STEP;
        while !reached(&self.journal) {
            let next = next_report(&mut self.reports, &mut self.lives);
            match timeout_at(deadline, next).await {
                Ok(report) => self.journal.note(report?),
                Err(_) => return Err(late(what, &self.journal)),
            }
        }
        Ok(())
    }

    fn head(&self, said: &Said) -> String {
        let me = &self.users[said.by];
        let who = match &said.room {
            Room::Direct(direct) => format!("{} to {}", me.nick, direct.peer_of(me).nick),
            room => format!("{} {room}", me.nick),
        };
        let who = render::pad(&who, 13);
        format!("   {who}  {}", render::pad(&said.text, 22))
    }

    /// A message with the latency of each hop, counted from `from`.
    fn line(&self, number: Number, from: Instant) -> String {
        let said = &self.journal.said[number];
        let me = &self.users[said.by];
        let local = said.room.is_local_to(&me.host);
        let hop = |at: Option<Instant>| at.map_or_else(|| "?".to_owned(), |at| since(from, at));
        let mut line = self.head(said);
        if local {
            line.push_str(&format!("  agent {}", hop(said.queued)));
        } else {
            if said.at >= from {
                line.push_str(&format!("  agent {}", hop(said.queued)));
            }
            line.push_str(&format!("  server {}", hop(said.committed)));
        }
        let others = said.audience.iter().filter(|who| **who != said.by);
        let reader = if local {
            others.min_by_key(|who| self.journal.read_at(**who, number))
        } else {
            let remote = others.filter(|who| self.users[**who].host != me.host);
            remote.max_by_key(|who| self.journal.read_at(**who, number))
        };
        if let Some(reader) = reader {
            let at = hop(self.journal.read_at(*reader, number));
            line.push_str(&format!("  {} {at}", self.users[*reader].nick));
        }
        line
    }
}

/// A temporary directory with a path short enough for sockets in it.
fn directory() -> std::io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("chat-demo-");
    let dir = builder.tempdir()?;
    let socket = Place::new(dir.path(), HOSTS[0]).socket;
    if socket.as_os_str().len() <= SOCKET_PATH_BYTES {
        return Ok(dir);
    }
    builder.tempdir_in("/tmp")
}

fn late(what: &str, journal: &Journal) -> Failure {
    let seconds = STEP.as_secs();
    let troubles = journal.troubles.join("; ");
    Failure::failed(format_args!(
        "not within {seconds} s: {what} ({} messages said, {} readings) {troubles}",
        journal.said.len(),
        journal.readings()
    ))
}

async fn next_report(
    reports: &mut mpsc::Receiver<Report>,
    lives: &mut JoinSet<Result<(), Failure>>,
) -> Result<Report, Failure> {
    tokio::select! {
        Some(report) = reports.recv() => Ok(report),
        Some(life) = lives.join_next() => match life {
            Ok(Err(failure)) => Err(failure),
            Ok(Ok(())) => Err(Failure::failed("a person of the tour left early")),
            Err(error) => Err(Failure::failed(error)),
        },
        else => Err(Failure::failed("everybody of the tour left early")),
    }
}

async fn connect(place: &Place, name: &str) -> Result<(UserName, Conversation<()>), Failure> {
    let nick = name.split('@').next().unwrap_or(name);
    let settings = Settings {
        socket: place.socket.clone(),
        socket_given: true,
        state_dir: place.state.clone(),
        nick: Nick::parse(nick).map_err(Failure::failed)?,
    };
    let options = Options {
        interactive: true,
        reconnect: true,
        directs: true,
        patience: Some(STEP),
        ..Options::default()
    };
    let talk = Conversation::begin(&settings, options).await?;
    Ok((talk.me().clone(), talk))
}

async fn start_server(place: &Place, listen: &str, ready: &str) -> Result<Daemon, Failure> {
    let args: [OsString; 5] = [
        "server".into(),
        "--listen".into(),
        listen.into(),
        "--state-dir".into(),
        place.state.clone().into(),
    ];
    Daemon::start(args, ready, &place.log).await
}

async fn start_agent(place: &Place, host: &str, server: &str) -> Result<Daemon, Failure> {
    let args: [OsString; 9] = [
        "agent".into(),
        "--socket".into(),
        place.socket.clone().into(),
        "--state-dir".into(),
        place.state.clone().into(),
        "--host".into(),
        host.into(),
        "--server".into(),
        server.into(),
    ];
    Daemon::start(args, "ready on ", &place.log).await
}

fn since(from: Instant, at: Instant) -> String {
    let millis = at.saturating_duration_since(from).as_secs_f64() * 1_000.0;
    if millis < 10.0 {
        format!("{millis:.1} ms")
    } else {
        format!("{millis:.0} ms")
    }
}
