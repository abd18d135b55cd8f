//! The process around the agent: settings, logging, files, signals, exit code.

use crate::{
    args::AgentArgs,
    background::{self, incumbent::refuse_elsewhere},
    config::Config,
    hub::Hub,
    keys::{Keys, Sources},
    link::Link,
    listener,
    lock::{Lock, OF_STATE, STATE_LOCK},
    session::{MAX_LOOKUPS, Services},
    socket::{Access, Socket},
    store::{
        self, AgentStore, AgentWriter, Command,
        identity::Identity,
        renaming::{Renamed, rename_host},
    },
};
use anyhow::{Context, anyhow, bail};
use protocol::{HostName, ServerTrust, limits::SHUTDOWN_DEADLINE};
use room_log::{Database, Readers, Retention, Writer, private_dir};
use rusqlite::Connection;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    io::{self, IsTerminal, Write},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use supervision::{Manager, Signal, Signals, passed};
use tokio::{
    sync::Semaphore,
    task::{JoinHandle, spawn_blocking},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};
use tracing_subscriber::{EnvFilter, Registry, layer::SubscriberExt, reload};

/// Exit code of an agent that was told twice to end: what a shell reports for SIGINT.
const EXIT_INTERRUPTED: u8 = 130;

/// How long an agent may take to end: its sessions, then its writer.
pub(crate) const LONGEST_END: Duration = SHUTDOWN_DEADLINE.saturating_mul(2);

type LogFilter = reload::Handle<EnvFilter, Registry>;

/// Runs the agent until it is told to stop; reports failures on standard error.
#[must_use]
pub fn run(args: &AgentArgs) -> ExitCode {
    // Unknown only if it was removed; relative paths lead nowhere then.
    let dir = std::env::current_dir().unwrap_or_default();
    let config = match Config::load(args, &dir) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("chat agent: {error}");
            return ExitCode::from(2);
        }
    };
    let ran = if args.print_config {
        // Nobody reads a closed pipe, and nothing is lost with it.
        let _closed_pipe = write!(io::stdout(), "{config}");
        Ok(ExitCode::SUCCESS)
    } else if args.background {
        background::start(&config).map(|()| ExitCode::SUCCESS)
    } else {
        run_here(args, &dir, &config)
    };
    match ran {
        Ok(code) => code,
        Err(error) => {
            eprintln!("chat agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The agent, from its start to its end, in this process.
fn run_here(args: &AgentArgs, dir: &Path, config: &Config) -> anyhow::Result<ExitCode> {
    // Whoever starts an agent in the background may come while the last one is ending.
    let (patience, passed) = if args.detached {
        background::detach()?;
        (LONGEST_END, None)
    } else {
        (Duration::ZERO, passed::unix_listener()?)
    };
    let filter = start_logging(config)?;
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let agent = Agent {
        args,
        dir: dir.to_owned(),
        config,
        filter,
    };
    let ended = runtime.block_on(agent.live(patience, passed));
    // A name that is being looked up would be waited for, and so would a start that was given up.
    runtime.shutdown_background();
    ended
}

/// What an agent has taken and opened before it serves anybody.
struct Files {
    // Both locks are held to the end: one agent a state directory, and one a socket.
    _state_lock: Lock,
    socket: Socket,
    listener: UnixListener,
    access: Access,
    database: Database,
    connection: Connection,
    identity: Identity,
    keys: Arc<Keys>,
}

impl Files {
    /// Waits as long as `patience` for another agent to end, then opens everything.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, what was taken is given back.
    async fn open(
        config: &Config,
        patience: Duration,
        passed: Option<UnixListener>,
        args: &AgentArgs,
    ) -> anyhow::Result<Self> {
        let settings = config.clone();
        let (state_lock, socket, listener, access) = blocking(move || {
            let access = Access::of_group(settings.group.value.as_deref())?;
            let state_dir = &settings.state_dir.value;
            private_dir(state_dir)?;
            if passed.is_none() {
                refuse_elsewhere(state_dir, &settings.socket.value)?;
            }
            let lock = state_dir.join(STATE_LOCK);
            let mut lock = Lock::take_within(&lock, OF_STATE, patience)?;
            let (socket, listener) = match passed {
                Some(listener) => Socket::adopt(listener)?,
                None => Socket::bind(&settings.socket.value, access, patience)?,
            };
            lock.note_socket(socket.path());
            Ok((lock, socket, listener, access))
        })
        .await?;
        let settings = config.clone();
        let (new_epoch, new_name) = (args.new_epoch, args.rename_host.clone());
        let rotate_key = args.rotate_key;
        let (database, connection, identity, keys) = blocking(move || {
            let state_dir = &settings.state_dir.value;
            let (database, mut connection) = Database::open(state_dir, store::schema::APPLICATION)?;
            if new_epoch {
                let epoch = store::identity::renew_local_epoch(&mut connection)?;
                info!(%epoch, "this host's rooms begin a new epoch");
            }
            if let Some(new) = &new_name {
                rename(&mut connection, new, &settings)?;
            }
            store::authored::begin(&mut connection)?;
            let identity = identify(&connection, &settings, new_name.as_ref())?;
            if rotate_key && settings.tls_cert.value.is_some() {
                bail!(
                    "this host's key comes from a file ({}): replace it and send the agent SIGHUP",
                    settings.tls_cert.origin
                );
            }
            if rotate_key {
                let key = Keys::prepare_next(state_dir)?;
                info!(%key, "this host's next key: it counts once the server has been told");
            }
            let keys = Arc::new(Keys::open(state_dir, key_sources(&settings))?);
            Ok((database, connection, identity, keys))
        })
        .await?;
        Ok(Self {
            _state_lock: state_lock,
            socket,
            listener,
            access,
            database,
            connection,
            identity,
            keys,
        })
    }
}

fn key_sources(config: &Config) -> Sources {
    let own = config
        .tls_cert
        .value
        .clone()
        .zip(config.tls_key.value.clone());
    Sources {
        own,
        authorities: config.tls_ca.value.clone(),
    }
}

/// Does what waits for locks and disks where signals need not wait for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    spawn_blocking(work).await.context("cannot start")?
}

/// Gives this host another name, if no setting would call it by the old one at the next start.
fn rename(connection: &mut Connection, new: &HostName, config: &Config) -> anyhow::Result<()> {
    if let Some(set) = config.host.value.as_ref().filter(|set| *set != new) {
        bail!(
            "the settings call this host {set} ({}): write {new} there first",
            config.host.origin
        );
    }
    // The other machine of this name may have the key as well.
    let rekey = || Keys::replace(&config.state_dir.value).map_err(anyhow::Error::from);
    match rename_host(connection, new, rekey)? {
        Renamed::From(old) => info!(%old, %new, "this host has another name, and another key"),
        Renamed::Nothing => info!(name = %new, "this host has this name already"),
    }
    Ok(())
}

/// Who this agent is: as its state says, or as it is told the first time.
fn identify(
    connection: &Connection,
    config: &Config,
    renamed: Option<&HostName>,
) -> anyhow::Result<Identity> {
    let found = Identity::load(connection)?;
    let host = match (renamed.or(config.host.value.as_ref()), &found) {
        (Some(wanted), Some(found)) if *wanted != found.host => bail!(
            "{} belongs to host {host}, not to {wanted}: use --host {host} or another --state-dir, \
             or give host {host} another name with --rename-host {wanted}",
            config.state_dir.value.display(),
            host = found.host,
        ),
        (Some(host), _) => host.clone(),
        (None, Some(found)) => found.host.clone(),
        (None, None) => system_host()?,
    };
    let mut identity = Identity::load_or_create(connection, &host)?;
    let servers = &config.servers.value;
    if store::identity::configure(connection, servers)? {
        identity.servers.clone_from(servers);
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
    /// Where relative paths begin.
    dir: PathBuf,
    config: &'a Config,
    filter: LogFilter,
}

impl Agent<'_> {
    async fn live(
        self,
        patience: Duration,
        passed: Option<UnixListener>,
    ) -> anyhow::Result<ExitCode> {
        // First of all: a signal that nobody has taken ends the process.
        let mut signals = Signals::take()?;
        let opening = Files::open(self.config, patience, passed, self.args);
        let files = tokio::select! {
            files = opening => files?,
            () = signals.stop() => {
                info!("told to end while starting");
                return Ok(ExitCode::SUCCESS);
            }
        };
        self.serve(files, signals).await
    }

    async fn serve(self, files: Files, mut signals: Signals) -> anyhow::Result<ExitCode> {
        let Files {
            _state_lock,
            socket,
            listener,
            access,
            database,
            connection,
            identity,
            keys,
        } = files;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let hub = Arc::new(Hub::new(&identity, self.config.outbox_limit_bytes.value));
        hub.set_authorities(self.config.tls_ca.value.is_some());
        restore(&hub, &connection)?;
        let readers = Readers::new(database);
        let writer = Writer::spawn(connection, AgentStore::new(Arc::clone(&hub)))
            .context("cannot start the writer thread")?;
        for server in &identity.servers {
            if server.trust == ServerTrust::Plaintext {
                let server = server.place();
                warn!(%server, "nothing is encrypted to this server (--insecure-plaintext)");
            }
        }
        let (link, handle) = Link::new(
            Arc::clone(&hub),
            writer.clone(),
            readers.clone(),
            Arc::clone(&keys),
        );
        let services = Services {
            hub: Arc::clone(&hub),
            writer: writer.clone(),
            readers,
            link: handle,
            state_dir: self.config.state_dir.value.display().to_string().into(),
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
        };
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(prune(writer.clone(), stop.child_token()));
        let linking = tasks.spawn(link.run(stop.child_token()));
        let accepting = tasks.spawn(listener::accept(
            listener,
            access,
            services,
            tasks.clone(),
            stop.child_token(),
        ));
        info!(host = %hub.host(), socket = %socket.path().display(), "ready");
        self.say_ready(socket.path());
        let mut manager = if self.args.detached {
            Manager::none()
        } else {
            Manager::from_environment()
        };
        manager.ready(&hub.in_a_line()).await;

        let broken = async {
            tokio::select! {
                error = broken("link", linking) => error,
                error = broken("listener", accepting) => error,
            }
        };
        let ended = tokio::select! {
            ended = self.attend(&hub, &writer, &keys, &mut signals, &mut manager) => ended,
            error = broken => Err(error),
        };
        manager.stopping().await;
        stop.cancel();
        tasks.close();
        let wind_down = async {
            if timeout(SHUTDOWN_DEADLINE, tasks.wait()).await.is_err() {
                warn!(tasks = tasks.len(), "ended without waiting for everybody");
            }
            if timeout(SHUTDOWN_DEADLINE, writer.finish()).await.is_err() {
                warn!("ended without waiting for the writer");
            }
        };
        tokio::select! {
            () = wind_down => ended.map(|()| ExitCode::SUCCESS),
            // Whoever asks twice does not want to wait.
            () = signals.stop() => {
                warn!("ending at once");
                Ok(ExitCode::from(EXIT_INTERRUPTED))
            }
        }
    }

    /// Tells whoever started this agent that it answers.
    fn say_ready(&self, socket: &Path) {
        let mut stdout = io::stdout();
        // Nobody may be listening.
        let _closed_pipe = writeln!(stdout, "{}{}", background::READY, socket.display())
            .and_then(|()| stdout.flush());
        if self.args.detached
            && let Err(error) = background::close_stdout()
        {
            warn!(%error, "cannot close standard output");
        }
    }

    /// Does what signals ask, until one of them or a failure ends the agent.
    async fn attend(
        &self,
        hub: &Hub,
        writer: &AgentWriter,
        keys: &Keys,
        signals: &mut Signals,
        manager: &mut Manager,
    ) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Stop => break,
                    Signal::Reload => {
                        manager.reloading().await;
                        self.reload(hub, writer, keys);
                        manager.ready(&hub.in_a_line()).await;
                    }
                    Signal::DumpState => hub.dump(),
                },
                () = manager.due() => {
                    manager.report(writer.busy_since(), &hub.in_a_line()).await;
                }
                fatal = writer.fatal() => bail!("{fatal}"),
            }
        }
        info!("stopping");
        Ok(())
    }

    fn reload(&self, hub: &Hub, writer: &AgentWriter, keys: &Keys) {
        if let Err(error) = keys.reload() {
            warn!(%error, "key and certificate stay as they were");
        }
        let config = match Config::load(self.args, &self.dir) {
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
        let servers = config.servers.value.clone();
        if let Err(error) = writer.try_submit(Command::Configure { servers }) {
            warn!(%error, "servers not looked at, send SIGHUP again");
        }
        let needs_restart = [
            ("socket", config.socket.value != self.config.socket.value),
            (
                "state_dir",
                config.state_dir.value != self.config.state_dir.value,
            ),
            ("host", config.host.value != self.config.host.value),
            ("group", config.group.value != self.config.group.value),
            (
                "tls_cert, tls_key, tls_ca",
                key_sources(&config) != key_sources(self.config),
            ),
        ];
        for (name, _) in needs_restart.iter().filter(|(_, changed)| *changed) {
            warn!(setting = name, "changed, but only a restart makes it so");
        }
        info!("settings reloaded");
    }
}

/// Waits for the end of a task without which the agent would take messages that go nowhere.
async fn broken(task: &str, running: JoinHandle<()>) -> anyhow::Error {
    match running.await {
        Ok(()) => anyhow!("the {task} ended too soon"),
        Err(reason) => anyhow!("the {task} broke down: {reason}"),
    }
}

/// Puts back into memory what is looked up too often to be read each time.
fn restore(hub: &Hub, connection: &Connection) -> anyhow::Result<()> {
    hub.restore_members(store::person::members(connection)?);
    hub.outbox().set(store::outbox::usage(connection)?);
    Ok(())
}

/// Has the writer look for messages that were kept for long enough, again and again.
async fn prune(writer: AgentWriter, stop: CancellationToken) {
    let mut times = interval(Retention::INTERVAL);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let looking = async {
        loop {
            times.tick().await;
            // A writer that is too busy for it looks the next time.
            let _looked = writer.try_submit(Command::Prune);
        }
    };
    stop.run_until_cancelled(looking).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_link_that_panicked_is_named() {
        let link = TaskTracker::new().spawn(async { panic!("simulated") });
        let error = broken("link", link).await.to_string();
        assert!(error.starts_with("the link broke down: "), "{error}");
        assert!(error.contains("simulated"), "{error}");
    }
}
