//! Settings: flag before environment before file before default, each with its origin.

use crate::{
    args::ServerArgs,
    cluster::news::MAX_NAME_BYTES,
    log::{JetStreamSettings, NatsServers},
};
use protocol::{ServerLine, ServerTrust, limits::DEFAULT_PORT};
use serde::Deserialize;
use std::{
    ffi::OsString,
    fmt, fs, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};
use thiserror::Error;
use tracing_subscriber::EnvFilter;

/// Looks up an environment variable; a parameter so that tests need no environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Messages a second that an agent may send if nothing else is said: more than a LAN's scripts
/// need, and a fraction of what the log takes.
pub(crate) const DEFAULT_AGENT_RATE: u64 = 50_000;
/// The same, of one user.
pub(crate) const DEFAULT_USER_RATE: u64 = 10_000;
/// The same, of all in one room.
pub(crate) const DEFAULT_ROOM_RATE: u64 = 50_000;

/// Bytes that the log may have if nothing else is said: 32 GiB, a hundred million short messages.
pub(crate) const DEFAULT_LOG_LIMIT_BYTES: u64 = 32 * 1024 * 1024 * 1024;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag(&'static str),
    /// The environment.
    Environment(&'static str),
    /// The configuration file.
    File(PathBuf),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Environment(name) => write!(f, "${name}"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where it comes from.
    pub origin: Origin,
}

impl<T> Setting<T> {
    const fn new(value: T, origin: Origin) -> Self {
        Self { value, origin }
    }

    fn map<U>(self, make: impl FnOnce(T) -> U) -> Setting<U> {
        Setting::new(make(self.value), self.origin)
    }
}

/// Why the settings cannot be used. Names every problem at once.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The configuration file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The configuration file is no TOML, or has a key that is none of ours.
    #[error("{path}: {source}", path = path.display())]
    BadFile {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// Values that mean nothing.
    #[error("{}", .0.join("\n"))]
    BadValues(Vec<String>),
}

/// What was given, before it is checked.
#[derive(Debug, Clone, Default)]
pub struct RawConfig {
    listen: Option<Setting<String>>,
    state_dir: Option<Setting<PathBuf>>,
    log: Option<Setting<String>>,
    name: Option<Setting<String>>,
    log_url: Option<Setting<String>>,
    nats_stream: Option<Setting<String>>,
    nats_replicas: Option<Setting<u64>>,
    nats_credentials: Option<Setting<PathBuf>>,
    nats_ca: Option<Setting<PathBuf>>,
    nats_cert: Option<Setting<PathBuf>>,
    nats_key: Option<Setting<PathBuf>>,
    nats_synced: Option<Setting<bool>>,
    public_address: Option<Setting<String>>,
    tls_cert: Option<Setting<PathBuf>>,
    tls_key: Option<Setting<PathBuf>>,
    tls_client_ca: Option<Setting<PathBuf>>,
    insecure_plaintext: Option<Setting<bool>>,
    agent_rate: Option<Setting<u64>>,
    user_rate: Option<Setting<u64>>,
    room_rate: Option<Setting<u64>>,
    log_limit: Option<Setting<u64>>,
    /// Numbers that are none.
    problems: Vec<String>,
    /// Where data lies if nobody says otherwise; `None` without a home.
    default_state_dir: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: Option<String>,
    state_dir: Option<PathBuf>,
    log: Option<String>,
    name: Option<String>,
    log_url: Option<String>,
    nats_stream: Option<String>,
    nats_replicas: Option<u32>,
    nats_credentials: Option<PathBuf>,
    nats_ca: Option<PathBuf>,
    nats_cert: Option<PathBuf>,
    nats_key: Option<PathBuf>,
    nats_synced: Option<bool>,
    public_address: Option<String>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    tls_client_ca: Option<PathBuf>,
    insecure_plaintext: Option<bool>,
    agent_rate: Option<u32>,
    user_rate: Option<u32>,
    room_rate: Option<u32>,
    log_limit: Option<u64>,
}

impl RawConfig {
    /// Gathers the settings.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the configuration file was named and is not there, or is no good.
    pub fn gather(args: &ServerArgs, environment: Environment<'_>) -> Result<Self, ConfigError> {
        let (file, path) = read_file(args, environment)?;
        let text = |name| environment_text(environment, name);
        let directory = |name| environment_value(environment, name).map(PathBuf::from);
        let mut problems = Vec::new();
        let mut number = |name: &str, max: u64| {
            let written = environment_text(environment, name)?;
            match written.parse::<u64>() {
                Ok(number) if number <= max => Some(number),
                _ => {
                    problems.push(format!("{name}={written}: write a number up to {max}"));
                    None
                }
            }
        };
        let rates = ["CHAT_AGENT_RATE", "CHAT_USER_RATE", "CHAT_ROOM_RATE"];
        let [agent_rate, user_rate, room_rate] = rates.map(|name| number(name, u32::MAX.into()));
        let log_limit = number("CHAT_LOG_LIMIT", u64::MAX);
        let nats_replicas = number("CHAT_NATS_REPLICAS", 5);
        let nats_synced = match text("CHAT_NATS_SYNCED").as_deref() {
            None => None,
            Some("true") => Some(true),
            Some("false") => Some(false),
            Some(other) => {
                problems.push(format!("CHAT_NATS_SYNCED={other}: write true or false"));
                None
            }
        };
        let (urls, filters): (Vec<&String>, Vec<&String>) = args
            .store
            .log
            .iter()
            .partition(|text| NatsServers::is_meant_by(text));
        // Taken for a filter, it would hide what the server says, and the log would be a database.
        for meant in filters.iter().filter(|text| is_like_an_address(text)) {
            problems.push(format!(
                "--log {meant}: a place is written nats://HOST:PORT or tls://HOST:PORT"
            ));
        }
        if urls.len() > 1 || filters.len() > 1 {
            problems.push("--log: give one place and one filter at most".to_owned());
        }
        Ok(Self {
            listen: first(
                ("listen", args.listen.clone()),
                ("CHAT_LISTEN", text("CHAT_LISTEN")),
                (&path, file.listen),
            ),
            state_dir: first(
                ("state-dir", args.store.state_dir.clone()),
                ("CHAT_STATE_DIR", directory("CHAT_STATE_DIR")),
                (&path, file.state_dir),
            ),
            log: first(
                ("log", filters.first().map(|&text| text.clone())),
                ("CHAT_LOG", text("CHAT_LOG")),
                (&path, file.log),
            ),
            name: first(
                ("name", args.name.clone()),
                ("CHAT_SERVER_NAME", text("CHAT_SERVER_NAME")),
                (&path, file.name),
            ),
            log_url: first(
                ("log", urls.first().map(|&text| text.clone())),
                ("CHAT_LOG_URL", text("CHAT_LOG_URL")),
                (&path, file.log_url),
            ),
            nats_stream: first(
                ("nats-stream", args.store.nats_stream.clone()),
                ("CHAT_NATS_STREAM", text("CHAT_NATS_STREAM")),
                (&path, file.nats_stream),
            ),
            nats_replicas: first(
                ("nats-replicas", args.store.nats_replicas.map(u64::from)),
                ("CHAT_NATS_REPLICAS", nats_replicas),
                (&path, file.nats_replicas.map(u64::from)),
            ),
            nats_credentials: first(
                ("nats-credentials", args.store.nats_credentials.clone()),
                ("CHAT_NATS_CREDENTIALS", directory("CHAT_NATS_CREDENTIALS")),
                (&path, file.nats_credentials),
            ),
            nats_ca: first(
                ("nats-ca", args.store.nats_ca.clone()),
                ("CHAT_NATS_CA", directory("CHAT_NATS_CA")),
                (&path, file.nats_ca),
            ),
            nats_cert: first(
                ("nats-cert", args.store.nats_cert.clone()),
                ("CHAT_NATS_CERT", directory("CHAT_NATS_CERT")),
                (&path, file.nats_cert),
            ),
            nats_key: first(
                ("nats-key", args.store.nats_key.clone()),
                ("CHAT_NATS_KEY", directory("CHAT_NATS_KEY")),
                (&path, file.nats_key),
            ),
            nats_synced: first(
                ("nats-synced", args.store.nats_synced.then_some(true)),
                ("CHAT_NATS_SYNCED", nats_synced),
                (&path, file.nats_synced),
            ),
            public_address: first(
                ("public-address", args.public_address.clone()),
                ("CHAT_PUBLIC_ADDRESS", text("CHAT_PUBLIC_ADDRESS")),
                (&path, file.public_address),
            ),
            tls_cert: first(
                ("tls-cert", args.tls_cert.clone()),
                ("CHAT_TLS_CERT", directory("CHAT_TLS_CERT")),
                (&path, file.tls_cert),
            ),
            tls_key: first(
                ("tls-key", args.tls_key.clone()),
                ("CHAT_TLS_KEY", directory("CHAT_TLS_KEY")),
                (&path, file.tls_key),
            ),
            tls_client_ca: first(
                ("tls-client-ca", args.tls_client_ca.clone()),
                ("CHAT_TLS_CLIENT_CA", directory("CHAT_TLS_CLIENT_CA")),
                (&path, file.tls_client_ca),
            ),
            // No variable: what takes security away should be seen where the server is started.
            insecure_plaintext: first(
                (
                    "insecure-plaintext",
                    args.insecure_plaintext.then_some(true),
                ),
                ("", None),
                (&path, file.insecure_plaintext),
            ),
            agent_rate: first(
                ("agent-rate", args.agent_rate.map(u64::from)),
                ("CHAT_AGENT_RATE", agent_rate),
                (&path, file.agent_rate.map(u64::from)),
            ),
            user_rate: first(
                ("user-rate", args.user_rate.map(u64::from)),
                ("CHAT_USER_RATE", user_rate),
                (&path, file.user_rate.map(u64::from)),
            ),
            room_rate: first(
                ("room-rate", args.room_rate.map(u64::from)),
                ("CHAT_ROOM_RATE", room_rate),
                (&path, file.room_rate.map(u64::from)),
            ),
            log_limit: first(
                ("log-limit", args.log_limit),
                ("CHAT_LOG_LIMIT", log_limit),
                (&path, file.log_limit),
            ),
            problems,
            default_state_dir: home_dir(environment, "XDG_STATE_HOME", ".local/state"),
        })
    }
}

/// What the server runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where agents are accepted: `HOST:PORT`.
    pub listen: Setting<String>,
    /// Where the database lies.
    pub state_dir: Setting<PathBuf>,
    /// What is logged.
    pub log: Setting<String>,
    /// What it is called among several servers; `None` for the system's host name.
    pub name: Setting<Option<String>>,
    /// The stream on NATS that the log is in; `None` for a database in `state_dir`.
    pub jetstream: Setting<Option<JetStreamSettings>>,
    /// What agents are told to connect to: `HOST:PORT`, with commas between those of several servers of
    /// one log; `None` if that is to be found out.
    pub public_address: Setting<Option<String>>,
    /// Certificates from elsewhere; `None` for one of the server's own.
    pub tls_cert: Setting<Option<PathBuf>>,
    /// The private key of `tls_cert`.
    pub tls_key: Setting<Option<PathBuf>>,
    /// Who may vouch for agents.
    pub tls_client_ca: Setting<Option<PathBuf>>,
    /// Whether agents are accepted without encryption, and without being known.
    pub insecure_plaintext: Setting<bool>,
    /// Messages a second that one agent may send; 0 for no limit.
    pub agent_rate: Setting<u64>,
    /// The same, of one user.
    pub user_rate: Setting<u64>,
    /// The same, of all in one room whose host follows it: one of these may use it up with the
    /// others. A host has as much for all rooms that it does not follow.
    pub room_rate: Setting<u64>,
    /// Bytes that the log may have on the disk; 0 for no limit.
    pub log_limit: Setting<u64>,
}

impl Config {
    /// Gathers and checks the settings.
    ///
    /// # Errors
    ///
    /// [`ConfigError`].
    pub fn load(args: &ServerArgs, environment: Environment<'_>) -> Result<Self, ConfigError> {
        RawConfig::gather(args, environment)?.try_into()
    }

    /// Names of the settings that differ from `other` and need a restart.
    #[must_use]
    pub fn restart_needed(&self, other: &Self) -> Vec<&'static str> {
        let mut names = Vec::new();
        if self.listen.value != other.listen.value {
            names.push("listen");
        }
        if self.state_dir.value != other.state_dir.value {
            names.push("state_dir");
        }
        if self.name.value != other.name.value {
            names.push("name");
        }
        if self.jetstream.value != other.jetstream.value {
            names.push("log_url, nats_stream, nats_…");
        }
        if self.insecure_plaintext.value != other.insecure_plaintext.value {
            names.push("insecure_plaintext");
        }
        let files = |config: &Self| {
            let Self {
                tls_cert,
                tls_key,
                tls_client_ca,
                ..
            } = config;
            [tls_cert, tls_key, tls_client_ca].map(|file| file.value.clone())
        };
        if files(self) != files(other) {
            names.push("tls_cert, tls_key, tls_client_ca");
        }
        let limits = |config: &Self| {
            let Self {
                agent_rate,
                user_rate,
                room_rate,
                log_limit,
                ..
            } = config;
            [agent_rate, user_rate, room_rate, log_limit].map(|limit| limit.value)
        };
        if limits(self) != limits(other) {
            names.push("agent_rate, user_rate, room_rate, log_limit");
        }
        names
    }
}

impl fmt::Display for Config {
    /// As a configuration file, with the origins as comments.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |path: &Path| Some(path.to_string_lossy().into_owned().into());
        let optional = |file: &Setting<Option<PathBuf>>| file.value.as_deref().and_then(path);
        let public = self.public_address.value.clone();
        let place = &self.jetstream.origin;
        let of_nats =
            |value: fn(&JetStreamSettings) -> toml::Value| self.jetstream.value.as_ref().map(value);
        let path_of_nats = |found: fn(&JetStreamSettings) -> Option<&Path>| {
            let found = self.jetstream.value.as_ref().and_then(found);
            found.and_then(path)
        };
        let number =
            |limit: &Setting<u64>| Some(i64::try_from(limit.value).unwrap_or(i64::MAX).into());
        let lines: [(&str, Option<toml::Value>, &Origin, &str); 21] = [
            (
                "listen",
                Some(self.listen.value.clone().into()),
                &self.listen.origin,
                "",
            ),
            (
                "state_dir",
                path(&self.state_dir.value),
                &self.state_dir.origin,
                "",
            ),
            (
                "log",
                Some(self.log.value.clone().into()),
                &self.log.origin,
                "",
            ),
            (
                "name",
                self.name.value.clone().map(toml::Value::from),
                &self.name.origin,
                "the system's name",
            ),
            (
                "log_url",
                of_nats(|nats| nats.servers.to_string().into()),
                place,
                "a database in state_dir",
            ),
            (
                "nats_stream",
                of_nats(|nats| nats.stream.clone().into()),
                place,
                "none",
            ),
            (
                "nats_replicas",
                of_nats(|nats| i64::try_from(nats.replicas).unwrap_or(i64::MAX).into()),
                place,
                "none",
            ),
            (
                "nats_credentials",
                path_of_nats(|nats| nats.credentials.as_deref()),
                place,
                "none",
            ),
            (
                "nats_ca",
                path_of_nats(|nats| nats.authorities.as_deref()),
                place,
                "none",
            ),
            (
                "nats_cert",
                path_of_nats(|nats| nats.certificate.as_ref().map(|(path, _)| path.as_path())),
                place,
                "none",
            ),
            (
                "nats_key",
                path_of_nats(|nats| nats.certificate.as_ref().map(|(_, path)| path.as_path())),
                place,
                "none",
            ),
            (
                "nats_synced",
                of_nats(|nats| nats.synced.into()),
                place,
                "none",
            ),
            (
                "public_address",
                public.map(toml::Value::from),
                &self.public_address.origin,
                "the address, or the system's name",
            ),
            (
                "tls_cert",
                optional(&self.tls_cert),
                &self.tls_cert.origin,
                "one of its own",
            ),
            (
                "tls_key",
                optional(&self.tls_key),
                &self.tls_key.origin,
                "one of its own",
            ),
            (
                "tls_client_ca",
                optional(&self.tls_client_ca),
                &self.tls_client_ca.origin,
                "none",
            ),
            (
                "insecure_plaintext",
                Some(self.insecure_plaintext.value.into()),
                &self.insecure_plaintext.origin,
                "",
            ),
            (
                "agent_rate",
                number(&self.agent_rate),
                &self.agent_rate.origin,
                "",
            ),
            (
                "user_rate",
                number(&self.user_rate),
                &self.user_rate.origin,
                "",
            ),
            (
                "room_rate",
                number(&self.room_rate),
                &self.room_rate.origin,
                "",
            ),
            (
                "log_limit",
                number(&self.log_limit),
                &self.log_limit.origin,
                "",
            ),
        ];
        for (key, value, origin, unset) in lines {
            match value {
                Some(value) => writeln!(f, "{key} = {value}  # {origin}")?,
                None => writeln!(f, "# {key} = ({unset})  # {origin}")?,
            }
        }
        Ok(())
    }
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigError;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigError> {
        let mut problems = raw.problems;
        let listen = raw
            .listen
            .unwrap_or_else(|| Setting::new(format!("0.0.0.0:{DEFAULT_PORT}"), Origin::Default));
        let listen = listen.map(with_port);
        if !is_address(&listen.value) {
            problems.push(problem("listen", &listen, "write HOST:PORT"));
        }
        let log = raw
            .log
            .unwrap_or_else(|| Setting::new("info".to_owned(), Origin::Default));
        if let Err(error) = EnvFilter::try_new(&log.value) {
            problems.push(problem("log", &log, &error.to_string()));
        }
        let name = optional(raw.name);
        if let Some(text) = &name.value
            && !is_server_name(text)
        {
            let setting = name.clone().map(|_| text.clone());
            let advice = "write up to 255 bytes without control characters";
            problems.push(problem("name", &setting, advice));
        }
        let jetstream = jetstream(
            raw.log_url,
            Stream {
                name: raw.nats_stream,
                replicas: raw.nats_replicas,
                credentials: raw.nats_credentials,
                authorities: raw.nats_ca,
                certificate: raw.nats_cert,
                key: raw.nats_key,
                synced: raw.nats_synced,
            },
            &mut problems,
        );
        let public_address = optional(raw.public_address);
        if let Some(address) = &public_address.value
            && let Err(error) = ServerLine::new(address, ServerTrust::Plaintext)
        {
            let setting = public_address.clone().map(|_| address.clone());
            problems.push(problem("public_address", &setting, &error.to_string()));
        }
        let (tls_cert, tls_key) = (optional(raw.tls_cert), optional(raw.tls_key));
        if tls_cert.value.is_some() != tls_key.value.is_some() {
            problems.push("tls_cert and tls_key belong together: give both or neither".to_owned());
        }
        let insecure_plaintext = raw
            .insecure_plaintext
            .unwrap_or_else(|| Setting::new(false, Origin::Default));
        if insecure_plaintext.value && tls_cert.value.is_some() {
            let advice = "insecure_plaintext takes all connections without TLS: leave it or \
                          tls_cert away";
            problems.push(advice.to_owned());
        }
        let state_dir = raw.state_dir.or_else(|| {
            raw.default_state_dir
                .map(|path| Setting::new(path, Origin::Default))
        });
        match state_dir {
            Some(state_dir) if problems.is_empty() => Ok(Self {
                listen,
                state_dir,
                log,
                name,
                jetstream,
                public_address,
                tls_cert,
                tls_key,
                tls_client_ca: optional(raw.tls_client_ca),
                insecure_plaintext,
                agent_rate: limit(raw.agent_rate, DEFAULT_AGENT_RATE),
                user_rate: limit(raw.user_rate, DEFAULT_USER_RATE),
                room_rate: limit(raw.room_rate, DEFAULT_ROOM_RATE),
                log_limit: limit(raw.log_limit, DEFAULT_LOG_LIMIT_BYTES),
            }),
            Some(_) => Err(ConfigError::BadValues(problems)),
            None => {
                let advice = "no home directory to keep the database in: give --state-dir";
                problems.push(advice.to_owned());
                Err(ConfigError::BadValues(problems))
            }
        }
    }
}

/// What is said of the stream.
struct Stream {
    name: Option<Setting<String>>,
    replicas: Option<Setting<u64>>,
    credentials: Option<Setting<PathBuf>>,
    authorities: Option<Setting<PathBuf>>,
    certificate: Option<Setting<PathBuf>>,
    key: Option<Setting<PathBuf>>,
    synced: Option<Setting<bool>>,
}

fn jetstream(
    url: Option<Setting<String>>,
    stream: Stream,
    problems: &mut Vec<String>,
) -> Setting<Option<JetStreamSettings>> {
    let Some(url) = url else {
        return Setting::new(None, Origin::Default);
    };
    let servers = match NatsServers::new(&url.value) {
        Ok(servers) => servers,
        Err(error) => {
            // Without what was written: there may be a password in it.
            problems.push(format!("log_url ({}): {error}", url.origin));
            return Setting::new(None, url.origin);
        }
    };
    let mut settings = JetStreamSettings::new(servers);
    if let Some(name) = stream.name {
        if !JetStreamSettings::is_stream_name(&name.value) {
            let advice = "write up to 64 letters, digits, - and _";
            problems.push(problem("nats_stream", &name, advice));
        }
        settings.stream = name.value;
    }
    if let Some(replicas) = stream.replicas {
        if !(1..=5).contains(&replicas.value) {
            let shown = replicas.clone().map(|number| number.to_string());
            problems.push(problem(
                "nats_replicas",
                &shown,
                "write a number from 1 to 5",
            ));
        }
        settings.replicas = usize::try_from(replicas.value).unwrap_or(usize::MAX);
    }
    settings.certificate = match (stream.certificate, stream.key) {
        (Some(certificate), Some(key)) => Some((certificate.value, key.value)),
        (None, None) => None,
        _ => {
            problems
                .push("nats_cert and nats_key belong together: give both or neither".to_owned());
            None
        }
    };
    settings.credentials = stream.credentials.map(|path| path.value);
    settings.authorities = stream.authorities.map(|path| path.value);
    settings.synced = stream.synced.is_some_and(|synced| synced.value);
    Setting::new(Some(settings), url.origin)
}

fn limit(setting: Option<Setting<u64>>, default: u64) -> Setting<u64> {
    setting.unwrap_or_else(|| Setting::new(default, Origin::Default))
}

/// A setting that may be absent altogether.
fn optional<T>(setting: Option<Setting<T>>) -> Setting<Option<T>> {
    match setting {
        Some(setting) => setting.map(Some),
        None => Setting::new(None, Origin::Default),
    }
}

fn problem(key: &str, setting: &Setting<String>, what: &str) -> String {
    let Setting { value, origin } = setting;
    format!("{key} = {value:?} (from {origin}): {what}")
}

fn with_port(address: String) -> String {
    match address.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, DEFAULT_PORT).to_string(),
        Err(_) if !address.contains(':') => format!("{address}:{DEFAULT_PORT}"),
        Err(_) => address,
    }
}

/// Whether whoever wrote this filter will have meant a place.
fn is_like_an_address(text: &str) -> bool {
    let port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.contains('/') || text.rsplit_once(':').is_some_and(|(_, end)| port(end))
}

fn is_server_name(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn is_address(address: &str) -> bool {
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn first<T>(
    (flag_name, flag): (&'static str, Option<T>),
    (variable, environment): (&'static str, Option<T>),
    (path, file): (&Path, Option<T>),
) -> Option<Setting<T>> {
    flag.map(|value| Setting::new(value, Origin::Flag(flag_name)))
        .or_else(|| environment.map(|value| Setting::new(value, Origin::Environment(variable))))
        .or_else(|| file.map(|value| Setting::new(value, Origin::File(path.to_owned()))))
}

/// The configuration file; an empty one if none is there and none was named.
fn read_file(
    args: &ServerArgs,
    environment: Environment<'_>,
) -> Result<(File, PathBuf), ConfigError> {
    let named = args
        .store
        .config
        .clone()
        .or_else(|| environment_value(environment, "CHAT_SERVER_CONFIG").map(PathBuf::from));
    let by_default =
        || home_dir(environment, "XDG_CONFIG_HOME", ".config").map(|dir| dir.join("server.toml"));
    let is_named = named.is_some();
    let Some(path) = named.or_else(by_default) else {
        return Ok((File::default(), PathBuf::new()));
    };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_named => String::new(),
        Err(source) => return Err(ConfigError::Unreadable { path, source }),
    };
    match toml::from_str(&text) {
        Ok(file) => Ok((file, path)),
        Err(source) => Err(ConfigError::BadFile {
            path,
            source: Box::new(source),
        }),
    }
}

/// Our directory in one of the XDG base directories; relative ones are ignored, as XDG says.
fn home_dir(environment: Environment<'_>, variable: &str, in_home: &str) -> Option<PathBuf> {
    let absolute = |name| {
        environment_value(environment, name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(in_home)));
    base.map(|base| base.join("chat"))
}

/// A variable that is set to nothing counts as not set.
fn environment_value(environment: Environment<'_>, name: &str) -> Option<OsString> {
    environment(name).filter(|value| !value.is_empty())
}

fn environment_text(environment: Environment<'_>, name: &str) -> Option<String> {
    environment_value(environment, name).map(|value| value.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::StoreArgs;

    fn load(args: &ServerArgs, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::load(args, &|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn flag_wins_over_environment_over_file_over_default() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("server.toml");
        fs::write(&file, "listen = \"127.0.0.1:1\"\nlog = \"warn\"\n").unwrap();
        let args = ServerArgs {
            store: StoreArgs {
                config: Some(file.clone()),
                ..StoreArgs::default()
            },
            listen: Some("127.0.0.1:3".to_owned()),
            ..ServerArgs::default()
        };
        let home = ("HOME", "/home/ada");
        let config = load(&args, &[("CHAT_LISTEN", "127.0.0.1:2"), home]).unwrap();
        assert_eq!(config.listen.value, "127.0.0.1:3");
        assert_eq!(config.listen.origin, Origin::Flag("listen"));
        assert_eq!(config.log.value, "warn");
        assert_eq!(config.log.origin, Origin::File(file));
        assert_eq!(
            config.state_dir.value,
            Path::new("/home/ada/.local/state/chat")
        );
        assert_eq!(config.state_dir.origin, Origin::Default);

        let args = ServerArgs {
            listen: None,
            ..args
        };
        let variables = [("CHAT_LISTEN", "::1"), ("CHAT_STATE_DIR", ""), home];
        let config = load(&args, &variables).unwrap();
        assert_eq!(config.listen.value, "[::1]:7667");
        assert_eq!(config.listen.origin, Origin::Environment("CHAT_LISTEN"));
        let printed = config.to_string();
        assert!(
            printed.contains("listen = \"[::1]:7667\"  # $CHAT_LISTEN\n"),
            "{printed}"
        );
    }

    #[test]
    fn all_problems_are_named_at_once() {
        let args = ServerArgs {
            listen: Some("nowhere:port".to_owned()),
            store: StoreArgs {
                log: vec!["chat=loud=er".to_owned()],
                ..StoreArgs::default()
            },
            ..ServerArgs::default()
        };
        let error = load(&args, &[]).unwrap_err().to_string();
        for part in ["--listen", "nowhere:port", "--log", "--state-dir"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn a_log_on_nats_is_told_from_what_is_logged_and_its_password_is_never_shown() {
        let args = ServerArgs {
            store: StoreArgs {
                log: ["nats://chat:s3cret@one:4222", "debug"]
                    .map(str::to_owned)
                    .into(),
                nats_synced: true,
                ..StoreArgs::default()
            },
            ..ServerArgs::default()
        };
        let home = ("HOME", "/home/ada");
        let config = load(&args, &[home, ("CHAT_NATS_STREAM", "team")]).unwrap();
        assert_eq!(config.log.value, "debug");
        let settings = config.jetstream.value.as_ref().unwrap();
        assert_eq!((settings.stream.as_str(), settings.synced), ("team", true));
        let shown = format!("{config}{config:?}");
        assert!(
            shown.contains("log_url = \"nats://***@one:4222\"  # --log\n"),
            "{shown}"
        );
        assert!(!shown.contains("s3cret"), "{shown}");
        let variables = [home, ("CHAT_LOG_URL", "http://chat:s3cret@one")];
        let error = load(&ServerArgs::default(), &variables)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("CHAT_LOG_URL") && !error.contains("s3cret"),
            "{error}"
        );
        for meant in ["one:4222", "http://one:4222", "nats:/one"] {
            let args = ServerArgs {
                store: StoreArgs {
                    log: vec![meant.to_owned()],
                    ..StoreArgs::default()
                },
                ..ServerArgs::default()
            };
            let error = load(&args, &[home]).unwrap_err().to_string();
            assert!(error.contains("nats://HOST:PORT"), "{error}");
        }
        let plain = load(&ServerArgs::default(), &[home]).unwrap();
        assert_eq!(plain.jetstream.value, None);
    }

    #[test]
    fn a_named_file_must_be_there_and_hold_nothing_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("other.toml");
        let args = ServerArgs {
            store: StoreArgs {
                config: Some(file.clone()),
                ..StoreArgs::default()
            },
            ..ServerArgs::default()
        };
        assert!(matches!(
            load(&args, &[]),
            Err(ConfigError::Unreadable { .. })
        ));
        fs::write(&file, "listne = \"127.0.0.1:1\"\n").unwrap();
        let error = load(&args, &[]).unwrap_err().to_string();
        assert!(error.contains("listne"), "{error}");
    }
}
