//! The process around the server: settings, logging, lock, signals, exit code.

use crate::{
    administration::{self, Administration},
    args::ServerArgs,
    cluster::{Cluster, ClusterError},
    config::{Config, ConfigError, Setting},
    identity::Door,
    keys::{Keys, KeysError, Source},
    log::{Commits, JetStreamLog, JetStreamSettings, Log, OpenLogError, SqliteLog},
    rates::Allowed,
    register::{OpenRegisterError, Register, RegisterError, moving},
    service::{Bounds, Membership, ServeError, Service, serve},
};
use room_log::{PrivacyError, private_dir};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    env,
    io::{self, Write},
    net,
    num::NonZeroU32,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use supervision::{Holder, Lock, LockError, Manager, PassedError, Signal, Signals, passed};
use thiserror::Error;
use tokio::{net::TcpListener, task::spawn_blocking};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use tracing_subscriber::{
    EnvFilter, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

/// The file in a state directory that keeps other servers out of it.
const STATE_LOCK: &str = "server.lock";

/// A server that wants a state directory.
const HOLDER: Holder = Holder {
    program: "server",
    flag: "--state-dir",
};

/// How many hosts the line of the first start lets in, and for how long: enough for an afternoon
/// of setting up, little enough to be forgotten.
const FIRST_INVITATION: (u32, Duration) = (10, Duration::from_secs(24 * 3_600));

/// Exit code for settings that mean nothing, as for flags that do not exist.
const EXIT_USAGE: u8 = 2;

/// Exit code after a second SIGINT: what a shell reports for the first.
const EXIT_INTERRUPTED: u8 = 130;

/// Why the daemon does not run, or not any more.
#[derive(Debug, Error)]
enum DaemonError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Privacy(#[from] PrivacyError),
    #[error(transparent)]
    Log(#[from] OpenLogError),
    #[error(
        "--new-epoch is for a log in a file: on NATS a stream that is made anew is another log, and \
         everybody notices"
    )]
    EpochElsewhere,
    #[error(
        "the log of the server in {dir} is on NATS: say where with --log nats://HOST:PORT, or name another \
         --state-dir for a log of its own",
        dir = dir.display()
    )]
    LogElsewhere { dir: PathBuf },
    #[error(transparent)]
    Register(#[from] OpenRegisterError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("cannot read who is let in: {0}")]
    Reading(#[from] RegisterError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("cannot make a socket for `chat server invite` in {dir}: {source}", dir = dir.display())]
    AdminSocket { dir: PathBuf, source: io::Error },
    #[error("cannot listen on {address}: {source}")]
    Listen { address: String, source: io::Error },
    #[error(transparent)]
    Passed(#[from] PassedError),
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl DaemonError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) => ExitCode::from(EXIT_USAGE),
            _ => ExitCode::FAILURE,
        }
    }
}

/// Runs the daemon until it is told to stop; reports failures on standard error.
///
/// Standard output gets one line when agents can connect: `listening on ADDRESS:PORT`.
#[must_use]
pub fn run(args: &ServerArgs) -> ExitCode {
    match try_run(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("chat server: {error}");
            error.exit_code()
        }
    }
}

fn try_run(args: &ServerArgs) -> Result<ExitCode, DaemonError> {
    let config = Config::load(args, &|name| env::var_os(name))?;
    if args.print_config {
        // Whoever closed the pipe has read enough.
        let _closed = write!(io::stdout(), "{config}");
        return Ok(ExitCode::SUCCESS);
    }
    let passed = passed::tcp_listener()?;
    let logging = Logging::start(&config.log.value);
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(live(args, config, passed, &logging));
    // Nobody waits for anything any more after a failed write, nor for a start that was given up.
    runtime.shutdown_background();
    outcome
}

/// The server, from its files to its end.
async fn live(
    args: &ServerArgs,
    config: Config,
    passed: Option<net::TcpListener>,
    logging: &Logging,
) -> Result<ExitCode, DaemonError> {
    // First of all: a signal that nobody has taken ends the process.
    let mut signals = Signals::take()?;
    let opening = async {
        let (settings, new_epoch) = (config.clone(), args.new_epoch);
        // Looking through the database takes a second or more.
        let opening = spawn_blocking(move || open(&settings, new_epoch));
        let (lock, opened) = opening.await.map_err(io::Error::from)??;
        let parts = match opened {
            Opened::Everything(parts) => *parts,
            Opened::Keys(keys, settings) => distant(&config, &settings, keys).await?,
        };
        // Looking up a name may take half a minute.
        let listener = listen(&config, passed).await?;
        Ok::<_, DaemonError>((lock, parts, listener))
    };
    let (_lock, parts, listener) = tokio::select! {
        opened = opening => opened?,
        () = signals.stop() => {
            info!("told to end while starting");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let service = parts.start(bounds(&config));
    let administration = Administration {
        service: service.clone(),
        public_address: public_address(&config, listener.local_addr()?),
    };
    let state_dir = &config.state_dir.value;
    let admin_socket =
        administration::bind(state_dir).map_err(|source| DaemonError::AdminSocket {
            dir: state_dir.clone(),
            source,
        })?;
    greet(&administration, &listener).await?;
    let mut manager = Manager::from_environment();
    manager.ready(&service.in_a_line()).await;
    let supervising = supervise(args, config, logging, listener, &service, signals, manager);
    tokio::select! {
        ended = supervising => ended,
        () = administration::serve(admin_socket, administration) => Ok(ExitCode::FAILURE),
    }
}

/// What a server has opened of its own before it serves anybody.
enum Opened {
    /// All there is, of a server that is alone.
    Everything(Box<Parts>),
    /// Its keys, if it knows agents by theirs. The rest is shared with other servers.
    Keys(Option<Keys>, Box<JetStreamSettings>),
}

/// All that a service is made of.
struct Parts {
    log: Arc<dyn Log>,
    commits: Commits,
    door: Door,
    /// None if it is alone.
    membership: Option<Membership>,
}

impl Parts {
    fn start(self, bounds: Bounds) -> Service {
        let Self {
            log,
            commits,
            door,
            membership,
        } = self;
        match membership {
            Some(membership) => Service::start_as_member(log, commits, door, bounds, membership),
            None => Service::start(log, commits, door, bounds),
        }
    }
}

/// Keeps other servers, and whoever moves the log, out of a state directory.
pub(crate) fn lock_state(state_dir: &Path) -> Result<Lock, LockError> {
    Lock::take(&state_dir.join(STATE_LOCK), HOLDER)
}

fn open(config: &Config, new_epoch: bool) -> Result<(Lock, Opened), DaemonError> {
    let state_dir = &config.state_dir.value;
    private_dir(state_dir)?;
    let lock = lock_state(state_dir)?;
    let keys = keys(config)?;
    if let Some(settings) = &config.jetstream.value {
        if new_epoch {
            return Err(DaemonError::EpochElsewhere);
        }
        return Ok((lock, Opened::Keys(keys, Box::new(settings.clone()))));
    }
    if new_epoch {
        let epoch = SqliteLog::renew_epoch(state_dir)?;
        info!(%epoch, "the log begins a new epoch");
    }
    if JetStreamLog::was_used(state_dir) && !SqliteLog::path(state_dir).exists() {
        let dir = state_dir.clone();
        return Err(DaemonError::LogElsewhere { dir });
    }
    let (log, commits) = SqliteLog::open(state_dir)?;
    let door = match keys {
        Some(keys) => door(keys, Register::open(state_dir)?),
        None => Door::Plaintext,
    };
    let parts = Parts {
        log: Arc::new(log),
        commits,
        door,
        membership: None,
    };
    Ok((lock, Opened::Everything(Box::new(parts))))
}

/// Opens what this server shares with others.
async fn distant(
    config: &Config,
    settings: &JetStreamSettings,
    keys: Option<Keys>,
) -> Result<Parts, DaemonError> {
    let state_dir = &config.state_dir.value;
    // Before a stream is made, which an import would find.
    if keys.is_some() && !moving::own_rows(state_dir)?.is_empty() {
        let path = moving::path(state_dir);
        return Err(OpenRegisterError::OwnHosts { path }.into());
    }
    let (log, commits) = JetStreamLog::open(state_dir, settings).await?;
    info!(servers = %settings.servers, stream = %settings.stream, epoch = %log.epoch(), "the log is on NATS");
    let (door, follower) = match keys {
        Some(keys) => {
            let (register, follower) = Register::open_shared(state_dir, settings).await?;
            (door(keys, register), Some(follower))
        }
        None => (Door::Plaintext, None),
    };
    let name = config.name.value.clone().unwrap_or_else(host_name);
    Ok(Parts {
        log: Arc::new(log),
        commits,
        door,
        membership: Some(Membership {
            cluster: Cluster::join(settings, &name).await?,
            follower,
        }),
    })
}

/// How much agents may do.
fn bounds(config: &Config) -> Bounds {
    let rate = |setting: &Setting<u64>| {
        let number = u32::try_from(setting.value).unwrap_or(u32::MAX);
        NonZeroU32::new(number)
    };
    let limit = config.log_limit.value;
    Bounds {
        rates: Allowed {
            agent: rate(&config.agent_rate),
            user: rate(&config.user_rate),
            room: rate(&config.room_rate),
        },
        log: (limit > 0 && config.jetstream.value.is_none())
            .then(|| (config.state_dir.value.join("server.db"), limit)),
    }
}

/// By what agents are known.
fn door(keys: Keys, register: Register) -> Door {
    Door::Tls {
        keys: Arc::new(keys),
        register,
    }
}

/// The keys of this server; none if it knows nobody by key.
fn keys(config: &Config) -> Result<Option<Keys>, DaemonError> {
    if config.insecure_plaintext.value {
        return Ok(None);
    }
    let source = match (&config.tls_cert.value, &config.tls_key.value) {
        (Some(certificate), Some(key)) => Source::Files {
            certificate: certificate.clone(),
            key: key.clone(),
        },
        _ => Source::Own,
    };
    let authorities = config.tls_client_ca.value.clone();
    let keys = Keys::open(&config.state_dir.value, source, authorities)?;
    Ok(Some(keys))
}

/// What the system calls itself.
fn host_name() -> String {
    let system = rustix::system::uname();
    system.nodename().to_string_lossy().into_owned()
}

/// What invitations tell agents to connect to.
fn public_address(config: &Config, bound: net::SocketAddr) -> String {
    match &config.public_address.value {
        Some(address) => address.clone(),
        None if bound.ip().is_unspecified() => format!("{}:{}", host_name(), bound.port()),
        None => bound.to_string(),
    }
}

/// Says on standard output where agents can connect and, at the first start, the line that lets
/// them in.
async fn greet(administration: &Administration, listener: &TcpListener) -> Result<(), DaemonError> {
    let bound = listener.local_addr()?;
    let mut lines = format!("listening on {bound}\n");
    match administration.service.door() {
        Door::Plaintext => warn!(
            %bound,
            "--insecure-plaintext: nothing is encrypted, and whoever reaches this port takes part"
        ),
        Door::Tls { keys, register } => {
            info!(key = %keys.key(), "agents know this server by its key");
            // Whoever has an authority of their own lets hosts in by it.
            if !keys.has_authorities() && register.is_new().await? {
                let (uses, valid) = FIRST_INVITATION;
                match administration.invite(uses, valid, None).await {
                    Ok((_, line, _)) => {
                        info!(
                            "the next line is for further hosts: it lets in {uses} of them, for a \
                             day; `chat server invite` makes others"
                        );
                        lines += &format!("chat join {}\n", line.reveal());
                    }
                    Err(error) => warn!(%error, "no invitation was made"),
                }
            }
        }
    }
    // Agents are queued by the kernel from here on. Nobody may be reading this.
    let mut stdout = io::stdout();
    if let Err(error) = stdout
        .write_all(lines.as_bytes())
        .and_then(|()| stdout.flush())
    {
        debug!(%error, "standard output");
    }
    Ok(())
}

async fn listen(
    config: &Config,
    passed: Option<net::TcpListener>,
) -> Result<TcpListener, DaemonError> {
    let address = config.listen.value.as_str();
    let bind_error = |source| DaemonError::Listen {
        address: address.to_owned(),
        source,
    };
    let listener = match passed {
        Some(listener) => TcpListener::from_std(listener)?,
        None => TcpListener::bind(address).await.map_err(bind_error)?,
    };
    let bound = listener.local_addr().map_err(bind_error)?;
    debug!(%bound, state_dir = %config.state_dir.value.display(), "listening");
    Ok(listener)
}

/// Serves, and does what signals ask, until one of them ends it.
async fn supervise(
    args: &ServerArgs,
    mut config: Config,
    logging: &Logging,
    listener: TcpListener,
    service: &Service,
    mut signals: Signals,
    mut manager: Manager,
) -> Result<ExitCode, DaemonError> {
    let shutdown = CancellationToken::new();
    let serving = serve(listener, service, shutdown.clone());
    tokio::pin!(serving);
    loop {
        tokio::select! {
            served = &mut serving => {
                served?;
                return Ok(ExitCode::SUCCESS);
            }
            signal = signals.next() => match signal {
                Signal::Stop if shutdown.is_cancelled() => {
                    warn!("ending at once");
                    return Ok(ExitCode::from(EXIT_INTERRUPTED));
                }
                Signal::Stop => {
                    manager.stopping().await;
                    shutdown.cancel();
                }
                Signal::Reload => {
                    manager.reloading().await;
                    reload(args, &mut config, logging, service.door());
                    manager.ready(&service.in_a_line()).await;
                }
                Signal::DumpState => service.dump(),
            },
            () = manager.due() => {
                manager.report(service.busy_since(), &service.in_a_line()).await;
            }
        }
    }
}

/// Takes over what can change while the server runs, and names what cannot.
fn reload(args: &ServerArgs, config: &mut Config, logging: &Logging, door: &Door) {
    if let Door::Tls { keys, .. } = door
        && let Err(error) = keys.reload()
    {
        warn!(%error, "key and certificate stay as they were");
    }
    let new = match Config::load(args, &|name| env::var_os(name)) {
        Ok(new) => new,
        Err(error) => {
            warn!(%error, "the configuration stays as it was");
            return;
        }
    };
    for name in config.restart_needed(&new) {
        warn!(setting = name, "the new value needs a restart");
    }
    if new.log.value != config.log.value {
        logging.set(&new.log.value);
    }
    config.log = new.log;
    info!("configuration reloaded");
}

/// The log on standard error, and the handle to change what goes there.
struct Logging {
    filter: Option<reload::Handle<EnvFilter, Registry>>,
}

impl Logging {
    fn start(filter: &str) -> Self {
        let (filter, handle) = reload::Layer::new(EnvFilter::new(filter));
        let format = tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(false);
        let begun = tracing_subscriber::registry()
            .with(filter)
            .with(format)
            .try_init();
        Self {
            // Somebody else logs for this process; their filter counts.
            filter: begun.is_ok().then_some(handle),
        }
    }

    fn set(&self, filter: &str) {
        if let Some(handle) = &self.filter
            && let Err(error) = handle.reload(EnvFilter::new(filter))
        {
            warn!(%error, "the log filter stays as it was");
        }
    }
}

/// An agent takes one descriptor, and the usual soft limit of 1,024 is for programs that use
/// `select`; the hard limit is what the administrator allows.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        debug!(%error, "the limit of open files stays as it was");
    }
}
