//! chat-agent: one host's daemon.
//!
//! Terminals and scripts reach it through a Unix socket ([`socket`], [`listener`], one
//! [`session`] each). What they write goes through one writer thread ([`store`]): into the log of
//! rooms that this agent orders itself, or into the outbox. The [`link`] takes the outbox to the
//! server and brings what the server has committed into the replica. The [`hub`] is what these
//! share; readers are fed by `room_log`.

#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod answer;
pub mod args;
pub mod background;
pub mod backoff;
pub mod config;
pub mod hub;
pub mod link;
pub mod listener;
pub mod paths;
pub mod session;
pub mod socket;
pub mod store;

pub use args::AgentArgs;

use anyhow::{Context, bail};
use config::Config;
use hub::Hub;
use link::Link;
use protocol::{HostName, limits::SHUTDOWN_DEADLINE};
use room_log::{Database, Readers, Writer};
use rusqlite::Connection;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use session::Services;
use socket::{Access, Lock, Socket};
use std::{
    io::{self, IsTerminal, Write},
    os::unix::net::UnixListener,
    process::ExitCode,
    sync::Arc,
};
use store::{AgentStore, identity::Identity};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};
use tracing_subscriber::{EnvFilter, Registry, layer::SubscriberExt, reload};

/// This program and its version, as others see it.
pub const SOFTWARE: &str = concat!("chat-agent ", env!("CARGO_PKG_VERSION"));

type LogFilter = reload::Handle<EnvFilter, Registry>;

/// Runs the agent until it is told to stop; reports failures on standard error.
#[must_use]
pub fn run(args: &AgentArgs) -> ExitCode {
    let config = match Config::load(args) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("chat agent: {error}");
            return ExitCode::from(2);
        }
    };
    let ran = if args.print_config {
        // Nobody reads a closed pipe, and nothing is lost with it.
        let _closed_pipe = write!(io::stdout(), "{config}");
        Ok(())
    } else if args.background {
        background::start(&config)
    } else {
        run_here(args, config)
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The agent, from its files to its end, in this process.
fn run_here(args: &AgentArgs, mut config: Config) -> anyhow::Result<()> {
    config.socket.value = std::path::absolute(&config.socket.value)?;
    config.state_dir.value = std::path::absolute(&config.state_dir.value)?;
    if args.detached {
        background::detach()?;
    }
    let filter = start_logging(&config)?;
    raise_file_limit();
    let access = Access::of_group(config.group.value.as_deref())?;
    let state_dir = &config.state_dir.value;
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
        .recursive(true)
        .create(state_dir)
        .with_context(|| format!("cannot make {}", state_dir.display()))?;
    // Both are held to the end: one agent a socket, and one a state directory.
    let _state_lock = Lock::take(&state_dir.join("agent.lock"))?;
    let (socket, listener) = Socket::bind(&config.socket.value, access)?;
    let (database, connection) = Database::open(state_dir, store::schema::APPLICATION)?;
    let identity = identify(&connection, &config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let agent = Agent {
        args,
        config: &config,
        access,
        filter,
        socket: &socket,
    };
    runtime.block_on(agent.serve(listener, database, connection, identity))
}

/// Who this agent is: as its state says, or as it is told the first time.
fn identify(connection: &Connection, config: &Config) -> anyhow::Result<Identity> {
    let found = Identity::load(connection)?;
    let host = match (&config.host.value, &found) {
        (Some(wanted), Some(found)) if *wanted != found.host => bail!(
            "{} belongs to host {}, not to {wanted}: use --host {} or another --state-dir",
            config.state_dir.value.display(),
            found.host,
            found.host
        ),
        (Some(host), _) => host.clone(),
        (None, Some(found)) => found.host.clone(),
        (None, None) => system_host()?,
    };
    let mut identity = Identity::load_or_create(connection, &host)?;
    if !config.servers.value.is_empty() && config.servers.value != identity.servers {
        store::identity::set_servers(connection, &config.servers.value)?;
        identity.servers.clone_from(&config.servers.value);
    }
    Ok(identity)
}

/// Every session is an open file, and the usual limit is below
/// [`MAX_SESSIONS`](protocol::limits::MAX_SESSIONS).
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, "the limit of open files stays as it was");
    }
}

fn system_host() -> anyhow::Result<HostName> {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    HostName::parse(&name)
        .with_context(|| format!("this host's name {name:?} cannot be used, name it with --host"))
}

fn start_logging(config: &Config) -> anyhow::Result<LogFilter> {
    let (filter, handle) = reload::Layer::new(EnvFilter::try_new(&config.log.value)?);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let subscriber = Registry::default().with(filter).with(lines);
    tracing::subscriber::set_global_default(subscriber).context("cannot start logging")?;
    Ok(handle)
}

struct Agent<'a> {
    args: &'a AgentArgs,
    config: &'a Config,
    access: Access,
    filter: LogFilter,
    socket: &'a Socket,
}

impl Agent<'_> {
    async fn serve(
        self,
        listener: UnixListener,
        database: Database,
        connection: Connection,
        identity: Identity,
    ) -> anyhow::Result<()> {
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let hub = Arc::new(Hub::new(&identity, self.config.outbox_limit_bytes.value));
        restore(&hub, &connection)?;
        let readers = Readers::new(database);
        let writer = Writer::spawn(connection, AgentStore::new(Arc::clone(&hub)))
            .context("cannot start the writer thread")?;
        let (link, handle) = Link::new(Arc::clone(&hub), writer.clone(), readers.clone());
        let services = Services {
            hub: Arc::clone(&hub),
            writer: writer.clone(),
            readers,
            link: handle,
            state_dir: self.config.state_dir.value.display().to_string().into(),
        };
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(link.run(stop.child_token()));
        tasks.spawn(listener::accept(
            listener,
            self.access,
            services,
            tasks.clone(),
            stop.child_token(),
        ));
        info!(host = %hub.host(), socket = %self.socket.path().display(), "ready");
        self.say_ready();

        let ended = self.attend(&hub, &writer).await;
        stop.cancel();
        tasks.close();
        if timeout(SHUTDOWN_DEADLINE, tasks.wait()).await.is_err() {
            warn!(tasks = tasks.len(), "ended without waiting for everybody");
        }
        if timeout(SHUTDOWN_DEADLINE, writer.finish()).await.is_err() {
            warn!("ended without waiting for the writer");
        }
        ended
    }

    /// Tells whoever started this agent that it answers.
    fn say_ready(&self) {
        let mut stdout = io::stdout();
        // Nobody may be listening.
        let _closed_pipe = writeln!(
            stdout,
            "{}{}",
            background::READY,
            self.socket.path().display()
        )
        .and_then(|()| stdout.flush());
        if self.args.detached
            && let Err(error) = background::close_stdout()
        {
            warn!(%error, "cannot close standard output");
        }
    }

    /// Waits for signals, and for what ends the agent.
    async fn attend(&self, hub: &Hub, writer: &store::AgentWriter) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let mut dump = signal(SignalKind::user_defined1())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => self.reload(hub),
                _ = dump.recv() => dump_state(hub),
                fatal = writer.fatal() => bail!("{fatal}"),
            }
        }
        info!("stopping");
        // Whoever asks twice does not want to wait.
        tokio::spawn(async move {
            if interrupt.recv().await.is_some() {
                std::process::exit(130);
            }
        });
        Ok(())
    }

    fn reload(&self, hub: &Hub) {
        let config = match Config::load(self.args) {
            Ok(config) => config,
            Err(error) => {
                error!(%error, "settings not reloaded");
                return;
            }
        };
        hub.outbox()
            .set_limit_bytes(config.outbox_limit_bytes.value);
        match EnvFilter::try_new(&config.log.value) {
            Ok(filter) => {
                if let Err(error) = self.filter.reload(filter) {
                    warn!(%error, "log filter not changed");
                }
            }
            Err(error) => warn!(%error, "log filter not changed"),
        }
        let needs_restart = [
            ("socket", config.socket.value != self.config.socket.value),
            (
                "state_dir",
                config.state_dir.value != self.config.state_dir.value,
            ),
            ("host", config.host.value != self.config.host.value),
            ("group", config.group.value != self.config.group.value),
        ];
        for (name, _) in needs_restart.iter().filter(|(_, changed)| *changed) {
            warn!(setting = name, "changed, but only a restart makes it so");
        }
        info!("settings reloaded");
    }
}

/// Puts back into memory what is looked up too often to be read each time.
fn restore(hub: &Hub, connection: &Connection) -> anyhow::Result<()> {
    hub.restore_members(store::person::members(connection)?);
    hub.outbox().set(store::outbox::usage(connection)?);
    Ok(())
}

fn dump_state(hub: &Hub) {
    let (sessions, queued_bytes) = hub.sessions();
    let (rooms, followers) = hub.feed().size();
    let outbox = hub.outbox().usage();
    let link = hub.link().borrow().clone();
    let roll = hub.roll();
    info!(
        sessions,
        queued_bytes,
        followed_rooms = rooms,
        followers,
        outbox_messages = outbox.messages,
        outbox_bytes = outbox.bytes,
        federated_rooms = roll.members.len(),
        present = roll.present.len(),
        server_epoch = %hub.server_epoch(),
        ?link,
        problems = ?hub.problems(),
        "state"
    );
}
