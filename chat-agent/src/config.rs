//! Settings: what was typed, exported and written down, and what it comes to.
//!
//! Flag, then environment, then file, then default. Each setting remembers which one won.

use crate::{args::AgentArgs, paths};
use protocol::{HostName, limits};
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
    pub servers: Setting<Vec<String>>,
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
    /// Puts the settings together.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with all that is wrong.
    pub fn load(args: &AgentArgs) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let file = args
            .config
            .clone()
            .unwrap_or_else(paths::default_agent_config);
        let written = read(&file, args.config.is_some()).unwrap_or_else(|problem| {
            problems.push(problem);
            Written::default()
        });
        let from_env = |name: &'static str| move || std::env::var_os(name).map(|_| name);
        let socket = choose(
            args.socket.clone(),
            from_env("CHAT_SOCKET"),
            written.socket,
            paths::default_socket,
        );
        let state_dir = choose(
            args.state_dir.clone(),
            from_env("CHAT_STATE_DIR"),
            written.state_dir,
            paths::default_state_dir,
        );
        let host = choose(
            args.host.clone().map(Some),
            from_env("CHAT_HOST"),
            written.host.map(Some),
            || None,
        );
        let host = Setting {
            origin: host.origin,
            value: host.value.and_then(|name| match HostName::parse(&name) {
                Ok(name) => Some(name),
                Err(error) => {
                    problems.push(format!("host {name:?} ({}): {error}", host.origin));
                    None
                }
            }),
        };
        let typed = (!args.servers.is_empty()).then(|| args.servers.clone());
        let servers = choose(typed, || None, written.servers, Vec::new);
        let servers = Setting {
            origin: servers.origin,
            value: if servers.value.is_empty() {
                Vec::new()
            } else {
                crate::session::check_servers(servers.value).unwrap_or_else(|error| {
                    problems.push(format!("server ({}): {error}", servers.origin));
                    Vec::new()
                })
            },
        };
        let group = choose(
            args.group.clone().map(Some),
            from_env("CHAT_GROUP"),
            written.group.map(Some),
            || None,
        );
        let outbox_limit_bytes = choose(
            args.outbox_limit,
            from_env("CHAT_OUTBOX_LIMIT"),
            written.outbox_limit,
            || DEFAULT_OUTBOX_LIMIT_BYTES,
        );
        let least = limits::MAX_ENCODED_BODY_BYTES as u64 * 2;
        if outbox_limit_bytes.value < least {
            problems.push(format!(
                "outbox limit {} ({}): must be at least {least} bytes",
                outbox_limit_bytes.value, outbox_limit_bytes.origin
            ));
        }
        let log = choose(args.log.clone(), from_env("CHAT_LOG"), written.log, || {
            "info".to_owned()
        });
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
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self
            .host
            .value
            .as_ref()
            .map_or("(the system's)", HostName::as_str);
        let group = self.group.value.as_deref().unwrap_or("(none)");
        let servers = match self.servers.value.as_slice() {
            [] => "(as remembered)".to_owned(),
            servers => servers.join(" "),
        };
        let lines = [
            (
                "socket",
                self.socket.value.display().to_string(),
                self.socket.origin,
            ),
            (
                "state_dir",
                self.state_dir.value.display().to_string(),
                self.state_dir.origin,
            ),
            ("host", host.to_owned(), self.host.origin),
            ("servers", servers, self.servers.origin),
            ("group", group.to_owned(), self.group.origin),
            (
                "outbox_limit",
                self.outbox_limit_bytes.value.to_string(),
                self.outbox_limit_bytes.origin,
            ),
            ("log", self.log.value.clone(), self.log.origin),
        ];
        writeln!(f, "# settings file: {}", self.file.display())?;
        for (name, value, origin) in lines {
            writeln!(f, "{name} = {value}  # {origin}")?;
        }
        Ok(())
    }
}

/// Flag and environment come as one value from the argument parser; a value that the environment
/// does not have was typed.
fn choose<T>(
    given: Option<T>,
    in_env: impl FnOnce() -> Option<&'static str>,
    written: Option<T>,
    default: impl FnOnce() -> T,
) -> Setting<T> {
    match (given, written) {
        (Some(value), _) => {
            let origin = in_env().map_or(Origin::Flag, Origin::Environment);
            Setting { value, origin }
        }
        (None, Some(value)) => Setting {
            value,
            origin: Origin::File,
        },
        (None, None) => Setting {
            value: default(),
            origin: Origin::Default,
        },
    }
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

    fn load(file: &str, change: impl FnOnce(&mut AgentArgs)) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, file).unwrap();
        let mut args = AgentArgs {
            config: Some(path),
            ..AgentArgs::default()
        };
        change(&mut args);
        Config::load(&args)
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
        assert_eq!(config.servers.value, ["bee:7667"]);
        assert_eq!(config.outbox_limit_bytes.origin, Origin::Default);
        assert!(config.to_string().contains("host = ada  # settings file"));
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
}
