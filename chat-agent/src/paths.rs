//! Where the agent's socket and state are when nobody says otherwise.
//!
//! Terminals and agents call the same functions, so that both come to the same path in every
//! environment: a login session, `su`, `sudo`, cron. Nothing here creates or opens anything.

use std::{
    ffi::OsString,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// What the defaults depend on: the process environment and the file system, or a test's own.
pub trait Surroundings {
    /// The value of an environment variable.
    fn var(&self, name: &str) -> Option<OsString>;
    /// Who runs this process.
    fn uid(&self) -> u32;
    /// Who owns the directory at `path`; `None` if there is none.
    fn owner_of_dir(&self, path: &Path) -> Option<u32>;
    /// The text of `/etc/passwd`.
    fn passwd(&self) -> Option<String>;
}

/// The real environment and file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process;

impl Surroundings for Process {
    fn var(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn uid(&self) -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn owner_of_dir(&self, path: &Path) -> Option<u32> {
        let found = std::fs::metadata(path).ok()?;
        found.is_dir().then(|| found.uid())
    }

    fn passwd(&self) -> Option<String> {
        let bytes = std::fs::read("/etc/passwd").ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The agent's settings file: `$XDG_CONFIG_HOME/chat/agent.toml`, or `.config` in the home
/// directory; a path that cannot exist if there is no home either.
pub fn default_agent_config_in(around: &impl Surroundings) -> PathBuf {
    let home = absolute(around.var("HOME")).map(|home| home.join(".config"));
    let base = absolute(around.var("XDG_CONFIG_HOME")).or(home);
    base.map_or_else(
        || PathBuf::from("/nonexistent"),
        |base| base.join("chat/agent.toml"),
    )
}

/// The terminal's settings file, beside the agent's.
#[must_use]
pub fn terminal_config() -> PathBuf {
    default_agent_config_in(&Process).with_file_name("terminal.toml")
}

/// The first of these that can be used:
///
/// 1. `$XDG_RUNTIME_DIR/chat/agent.sock`, if that directory belongs to this user: after `su` or
///    `sudo` the variable may still name the other user's;
/// 2. `/run/user/UID/chat/agent.sock`, if that directory belongs to this user: cron and `su`
///    leave the variable out although the directory is there;
/// 3. `/tmp/chat-UID/agent.sock`.
pub fn default_socket_in(around: &impl Surroundings) -> PathBuf {
    let uid = around.uid();
    let runtime = absolute(around.var("XDG_RUNTIME_DIR"));
    let of_login = PathBuf::from(format!("/run/user/{uid}"));
    runtime
        .into_iter()
        .chain([of_login])
        .find(|dir| around.owner_of_dir(dir) == Some(uid))
        .map_or_else(
            || PathBuf::from(format!("/tmp/chat-{uid}/agent.sock")),
            |dir| dir.join("chat/agent.sock"),
        )
}

/// The first of these that can be used:
///
/// 1. `$XDG_STATE_HOME/chat`;
/// 2. `$HOME/.local/state/chat`;
/// 3. the same below the home directory that `/etc/passwd` names for this user;
/// 4. `/var/tmp/chat-UID`, which outlives a reboot.
pub fn default_state_dir_in(around: &impl Surroundings) -> PathBuf {
    if let Some(state) = absolute(around.var("XDG_STATE_HOME")) {
        return state.join("chat");
    }
    let uid = around.uid();
    let home = absolute(around.var("HOME")).or_else(|| {
        let passwd = around.passwd()?;
        absolute(Some(passwd_field(&passwd, uid, HOME)?.into()))
    });
    home.map_or_else(
        || PathBuf::from(format!("/var/tmp/chat-{uid}")),
        |home| home.join(".local/state/chat"),
    )
}

/// The login name of this process's user: `$USER`, `$LOGNAME`, or what `/etc/passwd` says.
pub fn login_name_in(around: &impl Surroundings) -> Option<String> {
    ["USER", "LOGNAME"]
        .into_iter()
        .filter_map(|name| around.var(name)?.into_string().ok())
        .find(|name| !name.is_empty())
        .or_else(|| passwd_field(&around.passwd()?, around.uid(), LOGIN))
}

const LOGIN: usize = 0;
const UID: usize = 2;
const HOME: usize = 5;

fn passwd_field(passwd: &str, uid: u32, field: usize) -> Option<String> {
    let uid = uid.to_string();
    passwd
        .lines()
        .find(|line| line.split(':').nth(UID) == Some(&uid))
        .and_then(|line| line.split(':').nth(field))
        .map(str::to_owned)
}

/// The XDG specification says to ignore relative paths; an empty one counts as absent.
fn absolute(path: Option<OsString>) -> Option<PathBuf> {
    path.map(PathBuf::from).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Default)]
    struct Story {
        vars: BTreeMap<&'static str, &'static str>,
        dirs: BTreeMap<&'static str, u32>,
        passwd: Option<&'static str>,
    }

    impl Surroundings for Story {
        fn var(&self, name: &str) -> Option<OsString> {
            self.vars.get(name).map(Into::into)
        }

        fn uid(&self) -> u32 {
            1000
        }

        fn owner_of_dir(&self, path: &Path) -> Option<u32> {
            self.dirs.get(path.to_str()?).copied()
        }

        fn passwd(&self) -> Option<String> {
            self.passwd.map(str::to_owned)
        }
    }

    fn socket(vars: &[(&'static str, &'static str)], dirs: &[(&'static str, u32)]) -> String {
        let story = Story {
            vars: vars.iter().copied().collect(),
            dirs: dirs.iter().copied().collect(),
            passwd: None,
        };
        default_socket_in(&story).to_str().unwrap().to_owned()
    }

    #[test]
    fn a_login_session_uses_its_runtime_directory() {
        let given = [("XDG_RUNTIME_DIR", "/run/user/1000")];
        assert_eq!(
            socket(&given, &[("/run/user/1000", 1000)]),
            "/run/user/1000/chat/agent.sock"
        );
    }

    #[test]
    fn cron_finds_the_same_socket_without_the_variable() {
        for given in [&[][..], &[("XDG_RUNTIME_DIR", "")]] {
            assert_eq!(
                socket(given, &[("/run/user/1000", 1000)]),
                "/run/user/1000/chat/agent.sock"
            );
        }
    }

    #[test]
    fn after_su_the_other_users_directory_is_not_used() {
        let given = [("XDG_RUNTIME_DIR", "/run/user/0")];
        assert_eq!(
            socket(&given, &[("/run/user/0", 0), ("/run/user/1000", 1000)]),
            "/run/user/1000/chat/agent.sock"
        );
        assert_eq!(
            socket(&given, &[("/run/user/0", 0)]),
            "/tmp/chat-1000/agent.sock"
        );
    }

    #[test]
    fn nothing_at_all_still_gives_one_stated_path() {
        assert_eq!(socket(&[], &[]), "/tmp/chat-1000/agent.sock");
        assert_eq!(
            socket(&[("XDG_RUNTIME_DIR", "run")], &[("run", 1000)]),
            "/tmp/chat-1000/agent.sock"
        );
    }

    #[test]
    fn state_follows_xdg_then_home_then_passwd() {
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";
        for (vars, passwd, expected) in [
            (
                &[("XDG_STATE_HOME", "/s"), ("HOME", "/h")][..],
                None,
                "/s/chat",
            ),
            (
                &[("XDG_STATE_HOME", ""), ("HOME", "/h")],
                None,
                "/h/.local/state/chat",
            ),
            (&[], Some(passwd), "/home/ann/.local/state/chat"),
            (&[], None, "/var/tmp/chat-1000"),
        ] {
            let story = Story {
                vars: vars.iter().copied().collect(),
                passwd,
                ..Story::default()
            };
            assert_eq!(default_state_dir_in(&story), Path::new(expected));
        }
    }

    #[test]
    fn a_login_name_is_found_without_the_environment() {
        let story = Story {
            passwd: Some("ann:x:1000:1000::/home/ann:/bin/sh\n"),
            ..Story::default()
        };
        assert_eq!(login_name_in(&story).as_deref(), Some("ann"));
    }
}
