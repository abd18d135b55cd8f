//! Settings: what was typed, exported and written down, and what it comes to.
//!
//! Flag, then environment, then file, then default. Each setting remembers which one won.

use crate::{
    args::AgentArgs,
    paths::{self, Process, Surroundings},
};
use protocol::{HostName, ServerAddress, ServerLine, ServerTrust, limits};
use serde::Deserialize;
use std::{
    fmt, io,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Bytes of messages that may wait for the server, if nothing else is said: a quarter GiB, a
/// million short messages.
pub const DEFAULT_OUTBOX_LIMIT_BYTES: u64 = 256 * 1024 * 1024;

/// Where a setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// This environment variable.
    Environment(&'static str),
    /// The settings file.
    File,
    /// Nowhere: this program.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("command line"),
            Self::Environment(name) => write!(f, "environment, {name}"),
            Self::File => f.write_str("settings file"),
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
    fn map<U>(self, make: impl FnOnce(T) -> U) -> Setting<U> {
        Setting {
            value: make(self.value),
            origin: self.origin,
        }
    }
}

/// What an agent runs with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The socket for terminals.
    pub socket: Setting<PathBuf>,
    /// Where messages and settings are kept.
    pub state_dir: Setting<PathBuf>,
    /// What this host is called; `None` lets the state directory or the system decide.
    pub host: Setting<Option<HostName>>,
    /// Servers to federate with; empty leaves what is remembered.
    pub servers: Setting<Vec<ServerAddress>>,
    /// Whether servers of these settings are spoken to without encryption.
    pub insecure_plaintext: Setting<bool>,
    /// A certificate from elsewhere; `None` for one of the agent's own.
    pub tls_cert: Setting<Option<PathBuf>>,
    /// The private key of `tls_cert`.
    pub tls_key: Setting<Option<PathBuf>>,
    /// Who may vouch for servers.
    pub tls_ca: Setting<Option<PathBuf>>,
    /// The group that may use the agent too.
    pub group: Setting<Option<String>>,
    /// Bytes of messages that may wait for the server.
    pub outbox_limit_bytes: Setting<u64>,
    /// What to log.
    pub log: Setting<String>,
    /// The settings file that was looked for.
    pub file: PathBuf,
}

/// The settings file, as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    socket: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    host: Option<String>,
    servers: Option<Vec<String>>,
    insecure_plaintext: Option<bool>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    tls_ca: Option<PathBuf>,
    group: Option<String>,
    outbox_limit: Option<u64>,
    log: Option<String>,
}

/// Why the settings make no sense. Names every problem there is.
#[derive(Debug, Error)]
#[error("{}", problems.join("\n"))]
pub struct ConfigError {
    problems: Vec<String>,
}

impl Config {
    /// Puts the settings together. Relative paths begin at `dir`, so that whoever reads the
    /// settings again from another working directory comes to the same.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with all that is wrong.
    pub fn load(args: &AgentArgs, dir: &Path) -> Result<Self, ConfigError> {
        Self::load_in(args, dir, &Process)
    }

    /// As [`Config::load`], for a process with these surroundings.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with all that is wrong.
    pub fn load_in(
        args: &AgentArgs,
        dir: &Path,
        around: &impl Surroundings,
    ) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        // Set to nothing counts as not set.
        let exported = |name| around.var(name).filter(|value| !value.is_empty());
        let exported_text = |name| Some((name, exported(name)?.to_string_lossy().into_owned()));
        let exported_path = |name| Some((name, PathBuf::from(exported(name)?)));
        let absolute = |path: PathBuf| {
            let path = dir.join(path);
            std::path::absolute(&path).unwrap_or(path)
        };

        let named = args
            .config
            .clone()
            .or_else(|| Some(exported_path("CHAT_AGENT_CONFIG")?.1));
        let must_exist = named.is_some();
        let file = absolute(named.unwrap_or_else(|| paths::default_agent_config_in(around)));
        let written = read(&file, must_exist).unwrap_or_else(|problem| {
            problems.push(problem);
            Written::default()
        });
        let socket = choose(
            args.socket.clone(),
            exported_path("CHAT_SOCKET"),
            written.socket,
            || paths::default_socket_in(around),
        )
        .map(absolute);
        let state_dir = choose(
            args.state_dir.clone(),
            exported_path("CHAT_STATE_DIR"),
            written.state_dir,
            || paths::default_state_dir_in(around),
        )
        .map(absolute);
        let host = optional(args.host.clone(), exported_text("CHAT_HOST"), written.host);
        let origin = host.origin;
        let host = host.map(|name| {
            let name = name?;
            HostName::parse(&name)
                .map_err(|error| problems.push(format!("host {name:?} ({origin}): {error}")))
                .ok()
        });
        let typed = (!args.servers.is_empty()).then(|| args.servers.clone());
        let servers = choose(typed, None, written.servers, Vec::new);
        let insecure_plaintext = choose(
            args.insecure_plaintext.then_some(true),
            None,
            written.insecure_plaintext,
            || false,
        );
        let servers = checked_servers(servers, insecure_plaintext.value, &mut problems);
        let file_setting = |typed: &Option<PathBuf>, name, written| {
            let exported = exported_path(name);
            optional(typed.clone(), exported, written).map(|file| file.map(absolute))
        };
        let tls_cert = file_setting(&args.tls_cert, "CHAT_TLS_CERT", written.tls_cert);
        let tls_key = file_setting(&args.tls_key, "CHAT_TLS_KEY", written.tls_key);
        let tls_ca = file_setting(&args.tls_ca, "CHAT_TLS_CA", written.tls_ca);
        if tls_cert.value.is_some() != tls_key.value.is_some() {
            problems.push("tls_cert and tls_key belong together: give both or neither".to_owned());
        }
        let group = optional(
            args.group.clone(),
            exported_text("CHAT_GROUP"),
            written.group,
        );
        let limit = exported_text("CHAT_OUTBOX_LIMIT").and_then(|(name, text)| {
            let number = text.parse();
            let number = number.map_err(|error| problems.push(format!("{name}={text}: {error}")));
            Some((name, number.ok()?))
        });
        let outbox_limit_bytes = choose(args.outbox_limit, limit, written.outbox_limit, || {
            DEFAULT_OUTBOX_LIMIT_BYTES
        });
        let least = limits::MAX_ENCODED_BODY_BYTES as u64 * 2;
        if outbox_limit_bytes.value < least {
            problems.push(format!(
                "outbox limit {} ({}): must be at least {least} bytes",
                outbox_limit_bytes.value, outbox_limit_bytes.origin
            ));
        }
        let log = choose(
            args.log.clone(),
            exported_text("CHAT_LOG"),
            written.log,
            || "info".to_owned(),
        );
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&log.value) {
            problems.push(format!(
                "log filter {:?} ({}): {error}",
                log.value, log.origin
            ));
        }
        if problems.is_empty() {
            Ok(Self {
                socket,
                state_dir,
                host,
                servers,
                insecure_plaintext,
                tls_cert,
                tls_key,
                tls_ca,
                group,
                outbox_limit_bytes,
                log,
                file,
            })
        } else {
            Err(ConfigError { problems })
        }
    }
}

impl fmt::Display for Config {
    /// As a settings file that comes to the same, with the origins as comments.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |path: &Path| Ok(path.to_string_lossy().into_owned().into());
        let text = |text: Option<&str>, unset| text.map(toml::Value::from).ok_or(unset);
        let host = self.host.value.as_ref().map(HostName::as_str);
        let group = self.group.value.as_deref();
        let servers = match self.servers.value.as_slice() {
            [] => Err("as remembered"),
            servers => {
                let shown: Vec<String> = servers.iter().map(ServerAddress::reveal).collect();
                Ok(shown.into())
            }
        };
        let limit = &self.outbox_limit_bytes;
        let limit_bytes = i64::try_from(limit.value).unwrap_or(i64::MAX);
        let optional = |file: &Setting<Option<PathBuf>>, unset| match &file.value {
            Some(file) => path(file),
            None => Err(unset),
        };
        let plain = &self.insecure_plaintext;
        let own = "one of its own";
        let lines: [(&str, Result<toml::Value, &str>, Origin); 11] = [
            ("socket", path(&self.socket.value), self.socket.origin),
            (
                "state_dir",
                path(&self.state_dir.value),
                self.state_dir.origin,
            ),
            (
                "host",
                text(host, "as remembered, or the system's"),
                self.host.origin,
            ),
            ("servers", servers, self.servers.origin),
            ("insecure_plaintext", Ok(plain.value.into()), plain.origin),
            (
                "tls_cert",
                optional(&self.tls_cert, own),
                self.tls_cert.origin,
            ),
            ("tls_key", optional(&self.tls_key, own), self.tls_key.origin),
            ("tls_ca", optional(&self.tls_ca, "none"), self.tls_ca.origin),
            ("group", text(group, "none"), self.group.origin),
            ("outbox_limit", Ok(limit_bytes.into()), limit.origin),
            ("log", text(Some(&self.log.value), ""), self.log.origin),
        ];
        writeln!(f, "# settings file: {:?}", self.file)?;
        for (name, value, origin) in lines {
            match value {
                Ok(value) => writeln!(f, "{name} = {value}  # {origin}")?,
                Err(unset) => writeln!(f, "# {name} = ({unset})  # {origin}")?,
            }
        }
        Ok(())
    }
}

/// The servers of the settings. What names none of the three ways to know one is without
/// encryption if that was asked for.
fn checked_servers(
    servers: Setting<Vec<String>>,
    insecure_plaintext: bool,
    problems: &mut Vec<String>,
) -> Setting<Vec<ServerAddress>> {
    let origin = servers.origin;
    servers.map(|lines| {
        let mut checked = Vec::new();
        for text in lines {
            match ServerLine::parse(&text) {
                Ok(line) => checked.extend(line.servers()),
                Err(error) => problems.push(format!("server ({origin}): {error}")),
            }
        }
        for server in &mut checked {
            if insecure_plaintext && server.trust == ServerTrust::Authority {
                server.trust = ServerTrust::Plaintext;
            }
            if server.trust == ServerTrust::Plaintext && !insecure_plaintext {
                problems.push(format!(
                    "server {server} ({origin}): without encryption only with \
                     insecure_plaintext = true (--insecure-plaintext)"
                ));
            }
        }
        let max = limits::MAX_SERVER_ADDRS;
        if checked.len() > max {
            problems.push(format!("servers ({origin}): at most {max} can be given"));
        }
        checked
    })
}

/// The nearest of the sources that say something.
fn choose<T>(
    typed: Option<T>,
    exported: Option<(&'static str, T)>,
    written: Option<T>,
    default: impl FnOnce() -> T,
) -> Setting<T> {
    typed
        .map(|value| (value, Origin::Flag))
        .or_else(|| exported.map(|(name, value)| (value, Origin::Environment(name))))
        .or_else(|| written.map(|value| (value, Origin::File)))
        .map_or_else(
            || Setting {
                value: default(),
                origin: Origin::Default,
            },
            |(value, origin)| Setting { value, origin },
        )
}

/// The same, of what may be absent altogether.
fn optional<T>(
    typed: Option<T>,
    exported: Option<(&'static str, T)>,
    written: Option<T>,
) -> Setting<Option<T>> {
    let exported = exported.map(|(name, value)| (name, Some(value)));
    choose(typed.map(Some), exported, written.map(Some), || None)
}

fn read(file: &Path, must_exist: bool) -> Result<Written, String> {
    match std::fs::read_to_string(file) {
        Ok(text) => toml::from_str(&text).map_err(|error| format!("{}: {error}", file.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => {
            Ok(Written::default())
        }
        Err(error) => Err(format!("cannot read {}: {error}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    type Vars = &'static [(&'static str, &'static str)];

    struct Story(Vars);

    impl Surroundings for Story {
        fn var(&self, name: &str) -> Option<OsString> {
            let found = self.0.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.into())
        }

        fn uid(&self) -> u32 {
            1000
        }

        fn owner_of_dir(&self, _: &Path) -> Option<u32> {
            None
        }

        fn passwd(&self) -> Option<String> {
            None
        }
    }

    fn load(file: &str, change: impl FnOnce(&mut AgentArgs)) -> Result<Config, ConfigError> {
        load_with(&[], file, change)
    }

    fn load_with(
        vars: Vars,
        file: &str,
        change: impl FnOnce(&mut AgentArgs),
    ) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("agent.toml"), file).unwrap();
        let mut args = AgentArgs {
            config: Some("agent.toml".into()),
            ..AgentArgs::default()
        };
        change(&mut args);
        Config::load_in(&args, dir.path(), &Story(vars))
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let config = load("host = 'ada'\nlog = 'warn'\nservers = ['bee']", |args| {
            args.log = Some("debug".to_owned());
        })
        .unwrap();
        assert_eq!(config.host.value, Some(HostName::parse("ada").unwrap()));
        assert_eq!(config.host.origin, Origin::File);
        assert_eq!(
            config.log,
            Setting {
                value: "debug".to_owned(),
                origin: Origin::Flag
            }
        );
        assert_eq!(config.servers.value[0].place(), "bee:7667");
        assert_eq!(config.outbox_limit_bytes.origin, Origin::Default);
        assert!(
            config
                .to_string()
                .contains("host = \"ada\"  # settings file")
        );
    }

    #[test]
    fn printed_settings_can_be_read_again() {
        let without_origins = |config: &Config| -> Vec<String> {
            let text = config.to_string();
            let lines = text.lines().skip(1);
            lines
                .map(|line| {
                    line.rsplit_once("  # ")
                        .map_or(line, |(it, _)| it)
                        .to_owned()
                })
                .collect()
        };
        let full = load("log = 'warn'\nservers = ['bee', '[::1]:99']", |args| {
            args.socket = Some("/tmp/a \"b\"  # c\n/agent.sock".into());
            args.host = Some("ada".to_owned());
            args.group = Some("users".to_owned());
        });
        for config in [full, load("", |_| ())] {
            let config = config.unwrap();
            let again = load(&config.to_string(), |_| ()).unwrap();
            assert_eq!(again.socket.value, config.socket.value);
            assert_eq!(again.servers.value, config.servers.value);
            assert_eq!(again.host.value, config.host.value);
            assert_eq!(without_origins(&again), without_origins(&config));
        }
    }

    #[test]
    fn all_problems_are_named_at_once() {
        let error = load("host = 'a b'\noutbox_limit = 1\nservers = ['a b']", |_| ())
            .unwrap_err()
            .to_string();
        for part in ["a b", "outbox limit 1", "server"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(
            load("hots = 'ada'", |_| ())
                .unwrap_err()
                .to_string()
                .contains("hots")
        );
    }

    #[test]
    fn a_flag_is_not_taken_for_the_variable_beside_it() {
        let vars = &[("CHAT_LOG", "warn"), ("CHAT_OUTBOX_LIMIT", "1000000")];
        let config = load_with(vars, "outbox_limit = 2000000", |args| {
            args.log = Some("debug".to_owned());
        })
        .unwrap();
        assert_eq!(config.log.value, "debug");
        assert_eq!(config.log.origin, Origin::Flag);
        assert_eq!(config.outbox_limit_bytes.value, 1_000_000);
        let origin = Origin::Environment("CHAT_OUTBOX_LIMIT");
        assert_eq!(config.outbox_limit_bytes.origin, origin);
        assert!(load_with(&[("CHAT_OUTBOX_LIMIT", "many")], "", |_| ()).is_err());
    }

    #[test]
    fn a_variable_set_to_nothing_is_absent() {
        let vars = &[("CHAT_SOCKET", ""), ("CHAT_HOST", ""), ("CHAT_LOG", "")];
        let config = load_with(vars, "", |_| ()).unwrap();
        assert_eq!(config.socket.value, Path::new("/tmp/chat-1000/agent.sock"));
        for origin in [config.socket.origin, config.host.origin, config.log.origin] {
            assert_eq!(origin, Origin::Default);
        }
    }

    #[test]
    fn relative_paths_begin_at_the_given_directory() {
        let vars = &[("CHAT_STATE_DIR", "state")];
        let config = load_with(vars, "socket = './a.sock'", |_| ()).unwrap();
        let dir = config.file.parent().unwrap();
        assert!(dir.is_absolute());
        assert_eq!(config.socket.value, dir.join("a.sock"));
        assert_eq!(config.state_dir.value, dir.join("state"));
    }
}
