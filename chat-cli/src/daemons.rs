//! The only file that runs the other two programs, so that one file is an installation.
//!
//! Each daemon brings its own flags, runtime, log and signals.

use crate::{
    args::server::Place,
    paths::{Setting, Source},
};
use chat_agent::{AgentArgs, config, lock};
pub use chat_server::moving::{MoveError, Moved, Progress, Step, export, import};
use chat_server::{ServerArgs, StoreArgs};
use protocol::ServerAddress;
use rustix::process::{Signal, set_parent_process_death_signal};
use serde_json::Value;
use std::{
    env, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// If this is set, a daemon ends with the process that started it, also if that is killed.
pub(crate) const ENDS_WITH_PARENT: &str = "CHAT_ENDS_WITH_PARENT";

fn heed_parent() {
    if env::var_os(ENDS_WITH_PARENT).is_some() {
        // Where the kernel cannot do this, the parent's own end of the daemon has to be enough.
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
    }
}

/// `chat agent`: runs this host's agent until it is told to stop.
#[must_use]
pub fn agent(args: &AgentArgs) -> ExitCode {
    heed_parent();
    chat_agent::run(args)
}

/// `chat server`: runs a server until it is told to stop.
#[must_use]
pub fn server(args: &ServerArgs) -> ExitCode {
    heed_parent();
    chat_server::run(args)
}

/// The lock of an agent's state directory: its file, and the process and socket noted there.
#[must_use]
pub fn state_lock(state_dir: &Path) -> (PathBuf, Option<(u32, Option<PathBuf>)>) {
    let path = state_dir.join(lock::STATE_LOCK);
    let note = lock::Note::read(&path).map(|note| (note.pid, note.socket));
    (path, note)
}

/// The number that an agent's database has in it, and the newest format this program knows.
#[must_use]
pub fn agent_database() -> (u32, u32) {
    let application = chat_agent::store::schema::APPLICATION;
    let newest = u32::try_from(application.migrations.len()).unwrap_or(u32::MAX);
    (application.id.cast_unsigned(), newest)
}

/// What `chat agent` would run with, given these flags.
///
/// # Errors
///
/// What makes no sense.
pub fn agent_settings(
    socket: Option<PathBuf>,
    state_dir: Option<PathBuf>,
) -> Result<Vec<Setting>, String> {
    let args = AgentArgs {
        socket,
        state_dir,
        ..AgentArgs::default()
    };
    // Unknown only if it was removed; relative paths lead nowhere then.
    let dir = env::current_dir().unwrap_or_default();
    let config = config::Config::load(&args, &dir).map_err(|error| error.to_string())?;
    let source = |origin| match origin {
        config::Origin::Flag => Source::Flag,
        config::Origin::Environment(name) => Source::Environment(name),
        config::Origin::File => Source::File(config.file.clone()),
        config::Origin::Default => Source::Default,
    };
    let setting = |name, value, unset, origin| Setting {
        of: "agent",
        name,
        value,
        unset,
        source: source(origin),
    };
    let text = |text: Option<String>| text.map_or(Value::Null, Value::from);
    let servers = match config.servers.value.as_slice() {
        [] => Value::Null,
        servers => servers
            .iter()
            .map(ServerAddress::to_string)
            .collect::<Vec<_>>()
            .into(),
    };
    let file = |name, file: &config::Setting<Option<PathBuf>>, unset| {
        let value = file.value.as_ref().map(|path| path.display().to_string());
        setting(name, text(value), unset, file.origin)
    };
    let (socket, state_dir) = (&config.socket, &config.state_dir);
    let host = config.host.value.as_ref().map(ToString::to_string);
    let limit = &config.outbox_limit_bytes;
    Ok(vec![
        setting(
            "socket",
            socket.value.display().to_string().into(),
            "",
            socket.origin,
        ),
        setting(
            "state_dir",
            state_dir.value.display().to_string().into(),
            "",
            state_dir.origin,
        ),
        setting(
            "host",
            text(host),
            "as at the first start, or the system's",
            config.host.origin,
        ),
        setting("servers", servers, "as remembered", config.servers.origin),
        setting(
            "insecure_plaintext",
            config.insecure_plaintext.value.into(),
            "",
            config.insecure_plaintext.origin,
        ),
        file("tls_cert", &config.tls_cert, "one of its own"),
        file("tls_key", &config.tls_key, "one of its own"),
        file("tls_ca", &config.tls_ca, "none"),
        setting(
            "group",
            text(config.group.value.clone()),
            "none",
            config.group.origin,
        ),
        setting("outbox_limit", limit.value.into(), "", limit.origin),
        setting(
            "log",
            config.log.value.clone().into(),
            "",
            config.log.origin,
        ),
    ])
}

/// What `chat server` would run with.
///
/// # Errors
///
/// What makes no sense.
pub fn server_settings() -> Result<Vec<Setting>, String> {
    let args = ServerArgs::default();
    let config = chat_server::Config::load(&args, &|name| env::var_os(name))
        .map_err(|error| error.to_string())?;
    let setting = |name, value: String, origin| Setting {
        of: "server",
        name,
        value: value.into(),
        unset: "",
        source: match origin {
            chat_server::Origin::Flag(_) => Source::Flag,
            chat_server::Origin::Environment(name) => Source::Environment(name),
            chat_server::Origin::File(path) => Source::File(path),
            chat_server::Origin::Default => Source::Default,
        },
    };
    let number = |name, limit: chat_server::Setting<u64>| Setting {
        value: limit.value.into(),
        ..setting(name, String::new(), limit.origin)
    };
    let file = |name, file: chat_server::Setting<Option<PathBuf>>, unset| Setting {
        unset,
        value: file.value.map(|path| path.display().to_string()).into(),
        ..setting(name, String::new(), file.origin)
    };
    let state_dir = config.state_dir.value.display().to_string();
    Ok(vec![
        setting("listen", config.listen.value, config.listen.origin),
        setting("state_dir", state_dir, config.state_dir.origin),
        setting("log", config.log.value, config.log.origin),
        Setting {
            unset: "the address, or the system's name",
            value: config.public_address.value.into(),
            ..setting(
                "public_address",
                String::new(),
                config.public_address.origin,
            )
        },
        file("tls_cert", config.tls_cert, "one of its own"),
        file("tls_key", config.tls_key, "one of its own"),
        file("tls_client_ca", config.tls_client_ca, "none"),
        Setting {
            value: config.insecure_plaintext.value.into(),
            ..setting(
                "insecure_plaintext",
                String::new(),
                config.insecure_plaintext.origin,
            )
        },
        number("agent_rate", config.agent_rate),
        number("user_rate", config.user_rate),
        number("room_rate", config.room_rate),
        number("log_limit", config.log_limit),
    ])
}

/// The state directory of the server that is meant.
///
/// # Errors
///
/// What makes no sense in its settings.
pub fn server_state_dir(place: &Place) -> Result<PathBuf, String> {
    let args = ServerArgs {
        store: StoreArgs {
            state_dir: place.state_dir.clone(),
            config: place.config.clone(),
            ..StoreArgs::default()
        },
        ..ServerArgs::default()
    };
    let config = chat_server::Config::load(&args, &|name| env::var_os(name));
    let config = config.map_err(|error| error.to_string())?;
    Ok(config.state_dir.value)
}

/// The socket of the server with this state directory, as a path that is short enough, and what
/// must be kept while that is used.
///
/// # Errors
///
/// What the system says of the directory.
pub fn server_socket(state_dir: &Path) -> io::Result<(PathBuf, OwnedFd)> {
    chat_server::administration::socket_path(state_dir)
}
