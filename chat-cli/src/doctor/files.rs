//! What is thought of socket, lock, state directory, disk and database.

use super::Finding;
use crate::render::bytes;
use std::path::{Path, PathBuf};

/// Bytes the kernel has for a socket's path.
const MAX_PATH_BYTES: usize = 107;

/// Less free space than this, and messages cannot be taken before long.
const LEAST_BYTES: u64 = 16 * 1024 * 1024;

/// Less free space than this is worth a word.
const FEW_BYTES: u64 = 256 * 1024 * 1024;

/// An agent needs a handful of files; fewer than this leave no room for anybody's.
const FEW_FILES: u64 = 100;

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A socket.
    Socket,
    /// Anything else.
    Other,
}

/// What was found at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub kind: Kind,
    /// Whose it is.
    pub owner: u32,
    /// Its permissions.
    pub mode: u32,
}

impl Found {
    /// Whether others could put something else into this directory, in the place of what is there.
    const fn is_open(self) -> bool {
        self.mode & 0o022 != 0 && self.mode & 0o1000 == 0
    }
}

/// The lock of the state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// The process that wrote its number there.
    pub pid: Option<u32>,
    /// The socket that it serves.
    pub socket: Option<PathBuf>,
    /// Whether somebody holds it.
    pub held: bool,
}

/// Room on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that this user may still write.
    pub free_bytes: u64,
    /// Files that this user may still make; `None` if they are not counted.
    pub free_files: Option<u64>,
}

/// The agent's database, from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// There was none yet.
    None,
    /// There was one.
    Missing,
    /// It may not be read, for this reason.
    Closed(String),
    /// It is no database of an agent.
    Foreign,
    /// Its first bytes do not tell.
    Unknown,
    /// It is an agent's.
    Format {
        /// Its format.
        found: u32,
        /// The newest format that this program knows.
        known: u32,
    },
}

/// The socket itself.
pub fn socket(path: &Path, found: Option<Found>) -> Finding {
    const CHECK: &str = "socket";
    let shown = path.display();
    let bytes = path.as_os_str().len();
    if bytes > MAX_PATH_BYTES {
        let advice = "choose a shorter --socket or CHAT_SOCKET";
        let found = format!("{shown} has {bytes} bytes, a socket's may have {MAX_PATH_BYTES}");
        return Finding::fail(CHECK, found, advice);
    }
    match found {
        None => Finding::ok(CHECK, format!("{shown}, made by an agent when it starts")),
        Some(Found {
            kind: Kind::Socket,
            mode,
            ..
        }) => {
            if mode & 0o002 == 0 {
                return Finding::ok(CHECK, format!("{shown} (mode {mode:03o})"));
            }
            // The agent asks the kernel who connects, so that nobody gets in by this.
            let advice = format!("`chmod o-w {shown}`, or start the agent again");
            Finding::warn(CHECK, format!("{shown} has mode {mode:03o}"), advice)
        }
        Some(_) => Finding::fail(
            CHECK,
            format!("{shown} is no socket"),
            "move it away, or name another with --socket or CHAT_SOCKET",
        ),
    }
}

/// The directory of the socket, for OS user `uid`.
pub fn socket_dir(dir: &Path, found: Option<Found>, uid: u32) -> Finding {
    const CHECK: &str = "socket directory";
    let shown = dir.display();
    let Some(found) = found else {
        return Finding::ok(CHECK, format!("{shown}, made by an agent when it starts"));
    };
    if found.kind != Kind::Directory {
        let advice = "move it away, or name another socket with --socket or CHAT_SOCKET";
        return Finding::fail(CHECK, format!("{shown} is no directory"), advice);
    }
    let facts = format!("{shown} (uid {}, mode {:03o})", found.owner, found.mode);
    if found.is_open() {
        let advice = format!("others could put their own socket there: `chmod go-w {shown}`");
        return Finding::fail(CHECK, facts, advice);
    }
    if found.owner != uid && found.owner != 0 {
        let advice = "use it only if you trust whoever that is";
        return Finding::warn(CHECK, facts, advice);
    }
    Finding::ok(CHECK, facts)
}

/// Who holds the state directory, where an agent that has it answers at `socket` if `answers`.
pub fn lock(lock: &Lock, socket: &Path, answers: bool) -> Finding {
    const CHECK: &str = "lock";
    let holder = lock
        .pid
        .map_or_else(|| "a process".to_owned(), |pid| format!("process {pid}"));
    let kill = lock
        .pid
        .map_or_else(String::new, |pid| format!(" with `kill {pid}`"));
    match (&lock.socket, lock.held, answers) {
        (_, true, true) => Finding::ok(CHECK, format!("held by the agent, {holder}")),
        (_, false, true) => Finding::warn(
            CHECK,
            "not held, though an agent has this state: was its file removed?",
            format!("end the agent{kill}, and run `chat` again"),
        ),
        (Some(other), true, false) if other != socket => Finding::warn(
            CHECK,
            format!("held by {holder}, which serves {}", other.display()),
            format!("use --socket {}, or another --state-dir", other.display()),
        ),
        (_, true, false) => Finding::fail(
            CHECK,
            format!("held by {holder}, which does not answer"),
            format!("it may be starting or ending; if not, end it{kill}"),
        ),
        (_, false, false) => Finding::ok(CHECK, "free: no agent has this state"),
    }
}

/// The state directory, for OS user `uid`.
pub fn state_dir(dir: &Path, found: Option<Found>, uid: u32) -> Finding {
    const CHECK: &str = "state directory";
    let shown = dir.display();
    let Some(found) = found else {
        return Finding::ok(CHECK, format!("{shown}, made by an agent when it starts"));
    };
    let facts = format!("{shown} (uid {}, mode {:03o})", found.owner, found.mode);
    if found.kind != Kind::Directory {
        let advice = "move it away, or name another --state-dir";
        return Finding::fail(CHECK, format!("{shown} is no directory"), advice);
    }
    if found.owner != uid {
        let advice = format!("name another --state-dir, or `chown {uid} {shown}`");
        return Finding::fail(CHECK, facts, advice);
    }
    if found.mode & 0o022 != 0 {
        let advice = format!("others can write there: `chmod go-w {shown}`");
        return Finding::fail(CHECK, facts, advice);
    }
    Finding::ok(CHECK, facts)
}

/// Room for messages.
pub fn disk(dir: &Path, disk: Option<Disk>) -> Finding {
    const CHECK: &str = "disk";
    let Some(disk) = disk else {
        let found = format!("how much is free at {} cannot be told", dir.display());
        return Finding::warn(CHECK, found, "look at it with `df`");
    };
    let free = format!("{} free at {}", bytes(disk.free_bytes), dir.display());
    let advice = "free some space: without it no message can be taken";
    if disk.free_files.is_some_and(|files| files < FEW_FILES) {
        let files = disk.free_files.unwrap_or_default();
        let found = format!("{free}, and only {files} more files can be made");
        return Finding::fail(CHECK, found, advice);
    }
    match disk.free_bytes {
        ..LEAST_BYTES => Finding::fail(CHECK, free, advice),
        LEAST_BYTES..FEW_BYTES => Finding::warn(CHECK, free, advice),
        _ => Finding::ok(CHECK, free),
    }
}

/// The database, where an agent reads it if `is_read`.
pub fn database(database: &Database, is_read: bool, dir: &Path) -> Finding {
    const CHECK: &str = "database";
    let path = dir.join("agent.db");
    let shown = path.display();
    if is_read {
        return Finding::ok(CHECK, format!("{shown}, read by the agent"));
    }
    let marker = path.with_extension("exists");
    match database {
        Database::None => Finding::ok(CHECK, format!("{shown}, made by an agent when it starts")),
        Database::Missing => Finding::fail(
            CHECK,
            format!("{shown} is missing or empty, and held data"),
            format!(
                "restore it from a backup, or delete {} to begin with an empty one",
                marker.display()
            ),
        ),
        Database::Closed(reason) => Finding::fail(
            CHECK,
            format!("{shown} cannot be read: {reason}"),
            "give this user the right to read it",
        ),
        Database::Foreign => Finding::fail(
            CHECK,
            format!("{shown} is no database of an agent"),
            "restore it from a backup, or name another --state-dir",
        ),
        Database::Unknown => Finding::ok(CHECK, format!("{shown}, looked at by the next start")),
        Database::Format { found, known } if found > known => Finding::fail(
            CHECK,
            format!("{shown} has format {found}, this program knows up to {known}"),
            "use the version of `chat` that wrote it, or a newer one",
        ),
        Database::Format { found, .. } => Finding::ok(CHECK, format!("{shown}, format {found}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level::{Fail, Ok, Warn};

    const DIR: &str = "/run/user/1000/chat";

    fn a(kind: Kind, owner: u32, mode: u32) -> Option<Found> {
        Some(Found { kind, owner, mode })
    }

    #[test]
    fn a_socket_may_be_missing_but_nothing_else() {
        let path = Path::new("/s");
        for (found, level) in [
            (None, Ok),
            (a(Kind::Socket, 1000, 0o600), Ok),
            (a(Kind::Socket, 1000, 0o660), Ok),
            (a(Kind::Socket, 1000, 0o666), Warn),
            (a(Kind::Other, 1000, 0o600), Fail),
        ] {
            assert_eq!(socket(path, found).level, level, "{found:?}");
        }
        let long = PathBuf::from("/".to_owned() + &"x".repeat(107));
        assert_eq!(socket(&long, None).level, Fail);
    }

    #[test]
    fn a_directory_in_which_others_could_put_a_socket_fails() {
        let dir = Path::new(DIR);
        for (found, level) in [
            (None, Ok),
            (a(Kind::Directory, 1000, 0o700), Ok),
            (a(Kind::Directory, 0, 0o755), Ok),
            (a(Kind::Directory, 0, 0o1777), Ok),
            (a(Kind::Directory, 1000, 0o777), Fail),
            (a(Kind::Directory, 7, 0o755), Warn),
            (a(Kind::Other, 1000, 0o600), Fail),
        ] {
            assert_eq!(socket_dir(dir, found, 1000).level, level, "{found:?}");
        }
    }

    #[test]
    fn a_state_directory_is_ones_own_and_closed() {
        let dir = Path::new("/state");
        for (found, level) in [
            (None, Ok),
            (a(Kind::Directory, 1000, 0o700), Ok),
            (a(Kind::Directory, 1000, 0o770), Fail),
            (a(Kind::Directory, 0, 0o755), Fail),
            (a(Kind::Other, 1000, 0o600), Fail),
        ] {
            assert_eq!(state_dir(dir, found, 1000).level, level, "{found:?}");
        }
    }

    #[test]
    fn a_held_lock_says_by_whom_and_where_that_agent_answers() {
        let socket = Path::new("/s");
        let held = |pid, at: Option<&str>, held| Lock {
            pid,
            socket: at.map(PathBuf::from),
            held,
        };
        assert_eq!(
            lock(&held(Some(7), Some("/s"), true), socket, true).level,
            Ok
        );
        assert_eq!(
            lock(&held(Some(7), Some("/s"), false), socket, false).level,
            Ok
        );
        let elsewhere = lock(&held(Some(7), Some("/o"), true), socket, false);
        assert_eq!(elsewhere.level, Warn);
        assert!(elsewhere.advice.unwrap().contains("--socket /o"));
        let silent = lock(&held(Some(7), Some("/s"), true), socket, false);
        assert_eq!(silent.level, Fail);
        assert!(silent.advice.unwrap().contains("`kill 7`"));
        assert_eq!(lock(&held(None, None, false), socket, true).level, Warn);
    }

    #[test]
    fn a_disk_is_full_before_it_is_at_its_end() {
        let dir = Path::new("/state");
        let level = |free_bytes, free_files| {
            let found = Disk {
                free_bytes,
                free_files,
            };
            disk(dir, Some(found)).level
        };
        assert_eq!(level(FEW_BYTES, None), Ok);
        assert_eq!(level(FEW_BYTES - 1, Some(1 << 20)), Warn);
        assert_eq!(level(LEAST_BYTES - 1, None), Fail);
        assert_eq!(level(FEW_BYTES, Some(0)), Fail);
        assert_eq!(disk(dir, None).level, Warn);
    }

    #[test]
    fn a_database_that_cannot_be_used_fails_with_what_to_do() {
        let dir = Path::new("/state");
        let format = |found| Database::Format { found, known: 4 };
        for (found, level) in [
            (Database::None, Ok),
            (Database::Unknown, Ok),
            (format(3), Ok),
            (format(5), Fail),
            (Database::Missing, Fail),
            (Database::Foreign, Fail),
            (Database::Closed("denied".to_owned()), Fail),
        ] {
            assert_eq!(database(&found, false, dir).level, level, "{found:?}");
            assert_eq!(database(&found, true, dir).level, Ok);
        }
    }
}
