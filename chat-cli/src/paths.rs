//! What the flags, the environment and the defaults come to: socket, state directory, nick.
//!
//! A flag after the verb wins over one before it, then comes the environment, then the default.

use crate::{args::Connection, exit::Failure};
use chat_agent::{
    AgentArgs,
    config::Config,
    paths::{Process, Surroundings, default_socket_in, default_state_dir_in, login_name_in},
};
use protocol::{Nick, limits::MAX_NICK_BYTES};
use serde_json::Value;
use std::{ffi::OsString, path::PathBuf};

/// Which agent to talk to, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The agent's socket.
    pub socket: PathBuf,
    /// Whether that is another than this user's own by default.
    pub socket_given: bool,
    /// The state directory of an agent that this terminal starts.
    pub state_dir: PathBuf,
    /// Who speaks.
    pub nick: Nick,
}

impl Settings {
    /// Settles what `outer` (before the verb), `inner` (after it) and the environment say.
    ///
    /// # Errors
    ///
    /// Exit code 2 if the nick that was given is none.
    pub fn resolve(outer: &Connection, inner: &Connection) -> Result<Self, Failure> {
        Self::resolve_in(outer, inner, &Process)
    }

    fn resolve_in(
        outer: &Connection,
        inner: &Connection,
        around: &impl Surroundings,
    ) -> Result<Self, Failure> {
        let path = |inner: &Option<PathBuf>, outer: &Option<PathBuf>, name| {
            let flag = inner.clone().or_else(|| outer.clone());
            flag.or_else(|| variable(around, name).map(PathBuf::from))
        };
        let socket = path(&inner.socket, &outer.socket, "CHAT_SOCKET");
        let state_dir = path(&inner.state_dir, &outer.state_dir, "CHAT_STATE_DIR");
        let socket_given = socket.is_some();
        let (socket, state_dir) = match (socket, state_dir) {
            (Some(socket), Some(state_dir)) => (socket, state_dir),
            (socket, state_dir) => of_agent(socket, state_dir, around),
        };
        Ok(Self {
            socket_given,
            socket,
            state_dir,
            nick: nick(inner.nick.as_deref().or(outer.nick.as_deref()), around)?,
        })
    }
}

/// Where this user's agent is, by its settings as far as nothing else says so: an agent that is
/// started here must be the one that `chat agent` would start. Settings that make no sense count as
/// none here: they start no agent, which says why.
fn of_agent(
    socket: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    around: &impl Surroundings,
) -> (PathBuf, PathBuf) {
    let args = AgentArgs {
        socket: socket.clone(),
        state_dir: state_dir.clone(),
        ..AgentArgs::default()
    };
    let dir = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let (its_socket, its_state_dir) = match Config::load_in(&args, &dir, around) {
        Ok(config) => (config.socket.value, config.state_dir.value),
        Err(_) => (default_socket_in(around), default_state_dir_in(around)),
    };
    // What was named is shown as it was named.
    (
        socket.unwrap_or(its_socket),
        state_dir.unwrap_or(its_state_dir),
    )
}

/// A setting as `chat config` tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Whose it is: `terminal`, `agent` or `server`.
    pub of: &'static str,
    /// What it is called in a settings file.
    pub name: &'static str,
    /// What it is; null if it is not set.
    pub value: Value,
    /// What it means that it is not set.
    pub unset: &'static str,
    /// Where it comes from.
    pub source: Source,
}

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// This environment variable.
    Environment(&'static str),
    /// This settings file.
    File(PathBuf),
    /// Nobody set it.
    Default,
}

/// The settings of a terminal, as `settings` came out of the flags and the environment.
#[must_use]
pub fn terminal_settings(
    settings: &Settings,
    outer: &Connection,
    inner: &Connection,
) -> Vec<Setting> {
    let source = |flag: bool, name| match flag {
        true => Source::Flag,
        false if variable(&Process, name).is_some() => Source::Environment(name),
        false => Source::Default,
    };
    let flags = |of: fn(&Connection) -> bool| of(outer) || of(inner);
    let setting = |name, value: String, source| Setting {
        of: "terminal",
        name,
        value: value.into(),
        unset: "",
        source,
    };
    vec![
        setting(
            "socket",
            settings.socket.display().to_string(),
            source(flags(|c| c.socket.is_some()), "CHAT_SOCKET"),
        ),
        setting(
            "state_dir",
            settings.state_dir.display().to_string(),
            source(flags(|c| c.state_dir.is_some()), "CHAT_STATE_DIR"),
        ),
        setting(
            "nick",
            settings.nick.to_string(),
            source(flags(|c| c.nick.is_some()), "CHAT_NICK"),
        ),
    ]
}

fn variable(around: &impl Surroundings, name: &str) -> Option<OsString> {
    around.var(name).filter(|value| !value.is_empty())
}

fn nick(flag: Option<&str>, around: &impl Surroundings) -> Result<Nick, Failure> {
    let (text, origin) = if let Some(text) = flag {
        (text.to_owned(), "--nick")
    } else if let Some(text) = variable(around, "CHAT_NICK") {
        (text.to_string_lossy().into_owned(), "CHAT_NICK")
    } else {
        return Ok(nick_of_login(
            login_name_in(around).as_deref(),
            around.uid(),
        ));
    };
    Nick::parse(&text).map_err(|error| {
        Failure::usage(format_args!(
            "{origin} {text:?} cannot be used: {error}; try --nick alice"
        ))
    })
}

/// The login name with everything left out that no nick has; `uid1000` if nothing remains.
fn nick_of_login(login: Option<&str>, uid: u32) -> Nick {
    let mut clean = String::new();
    for c in login.unwrap_or_default().chars() {
        let fits = c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        let leads = clean.is_empty() && matches!(c, '-' | '.');
        if fits && !leads && clean.len() + c.len_utf8() <= MAX_NICK_BYTES {
            clean.push(c);
        }
    }
    Nick::parse(&clean)
        .or_else(|_| Nick::parse(&format!("uid{uid}")))
        .expect("`uid` and digits are a nick")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeMap, path::Path};

    struct Story(BTreeMap<&'static str, &'static str>);

    impl Surroundings for Story {
        fn var(&self, name: &str) -> Option<OsString> {
            self.0.get(name).map(Into::into)
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

    fn connection(socket: Option<&str>, nick: Option<&str>) -> Connection {
        Connection {
            socket: socket.map(PathBuf::from),
            state_dir: None,
            nick: nick.map(str::to_owned),
        }
    }

    #[test]
    fn the_nearest_source_wins() {
        let around = Story(BTreeMap::from([
            ("CHAT_SOCKET", "/env"),
            ("CHAT_NICK", "eve"),
            ("USER", "ann"),
        ]));
        let none = Connection::default();
        let socket = |outer: &Connection, inner: &Connection| {
            let settings = Settings::resolve_in(outer, inner, &around).unwrap();
            (settings.socket, settings.nick.to_string())
        };
        let outer = connection(Some("/outer"), Some("outer"));
        let inner = connection(Some("/inner"), None);
        assert_eq!(socket(&outer, &inner), ("/inner".into(), "outer".into()));
        assert_eq!(socket(&outer, &none), ("/outer".into(), "outer".into()));
        assert_eq!(socket(&none, &none), ("/env".into(), "eve".into()));
    }

    #[test]
    fn nothing_given_means_the_login_name_and_the_stated_paths() {
        let around = Story(BTreeMap::from([("USER", "ann"), ("CHAT_NICK", "")]));
        let none = Connection::default();
        let settings = Settings::resolve_in(&none, &none, &around).unwrap();
        assert_eq!(settings.nick.as_str(), "ann");
        assert_eq!(settings.socket, Path::new("/tmp/chat-1000/agent.sock"));
        assert!(!settings.socket_given);
        assert_eq!(settings.state_dir, Path::new("/var/tmp/chat-1000"));
    }

    #[test]
    fn a_login_name_becomes_a_nick_whatever_it_is() {
        for (login, nick) in [
            (Some("ann"), "ann"),
            (Some("DOMAIN\\ann smith"), "DOMAINannsmith"),
            (Some("-.x"), "x"),
            (Some("@"), "uid7"),
            (None, "uid7"),
        ] {
            assert_eq!(nick_of_login(login, 7).as_str(), nick);
        }
        assert_eq!(nick_of_login(Some(&"é".repeat(40)), 7).as_str().len(), 32);
    }

    #[test]
    fn a_given_nick_is_never_bent_into_shape() {
        let around = Story(BTreeMap::new());
        let bad = connection(None, Some("a b"));
        let failure = Settings::resolve_in(&Connection::default(), &bad, &around).unwrap_err();
        assert_eq!(failure.exit, crate::exit::Exit::Usage);
        assert!(failure.message.contains("\"a b\""), "{failure}");
    }
}
