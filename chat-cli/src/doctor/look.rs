//! Facts from this machine. Nothing is changed, and no lock is taken.

use super::{
    around::{Terminal, Units},
    files::{Database, Disk, Found, Kind, Lock},
};
use crate::daemons;
use rustix::fs::{major, minor, statvfs};
use std::{
    env,
    fs::{self, File},
    io::{IsTerminal, Read, stdin, stdout},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

/// Where an SQLite file has its format, counted by this program, and whose it is.
const USER_VERSION: usize = 60;
const APPLICATION_ID: usize = 68;
const HEADER_BYTES: usize = 100;

/// What is at `path`; links are followed. `None` if there is nothing, or nothing to be seen.
pub fn found(path: &Path) -> Option<Found> {
    let found = fs::metadata(path).ok()?;
    let kind = match found.file_type() {
        kind if kind.is_dir() => Kind::Directory,
        kind if kind.is_socket() => Kind::Socket,
        _ => Kind::Other,
    };
    Some(Found {
        kind,
        owner: found.uid(),
        mode: found.mode() & 0o7777,
    })
}

/// Who holds the state directory.
pub fn lock(state_dir: &Path) -> Lock {
    let (path, note) = daemons::state_lock(state_dir);
    let held = fs::metadata(&path)
        .ok()
        .zip(fs::read_to_string("/proc/locks").ok())
        .map(|(file, locks)| {
            let device = (major(file.dev()), minor(file.dev()));
            is_locked(&locks, device, file.ino(), note.as_ref().map(|note| note.0))
        });
    Lock {
        pid: note.as_ref().map(|note| note.0),
        socket: note.and_then(|note| note.1),
        held: held.unwrap_or(false),
    }
}

/// Whether the kernel's list of locks has one on this file. Some file systems show another device
/// there than to whoever asks for the file; the process settles it then.
fn is_locked(locks: &str, device: (u32, u32), inode: u64, noted: Option<u32>) -> bool {
    let device = format!("{:02x}:{:02x}:{inode}", device.0, device.1);
    let inode = format!(":{inode}");
    locks.lines().any(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        if words.next() != Some("FLOCK") {
            return false;
        }
        let mut words = words.skip(2);
        let pid = words.next().and_then(|pid| pid.parse().ok());
        let file = words.next().unwrap_or_default();
        file == device || (file.ends_with(&inode) && pid.is_some() && pid == noted)
    })
}

/// Where there is room for the files in `dir`, or for `dir` itself.
pub fn disk(dir: &Path) -> Option<Disk> {
    let there = dir.ancestors().find(|dir| dir.exists())?;
    let found = statvfs(there).ok()?;
    Some(Disk {
        free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        // Zero files in all: the file system makes them as they are needed.
        free_files: (found.f_files > 0).then_some(found.f_favail),
    })
}

/// The agent's database as its first bytes tell. It is not opened: somebody may be writing it.
pub fn database(state_dir: &Path) -> Database {
    let path = state_dir.join("agent.db");
    let is_marked = path.with_extension("exists").exists();
    let wal_bytes = fs::metadata(path.with_extension("db-wal")).map_or(0, |found| found.len());
    let mut header = Vec::new();
    let read =
        File::open(&path).and_then(|file| file.take(HEADER_BYTES as u64).read_to_end(&mut header));
    match read {
        Ok(0) if wal_bytes == 0 && is_marked => Database::Missing,
        Ok(0) if wal_bytes == 0 => Database::None,
        Ok(0) => Database::Unknown,
        Ok(_) => judge_header(&header, wal_bytes > 0),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && is_marked => {
            Database::Missing
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Database::None,
        Err(error) => Database::Closed(error.to_string()),
    }
}

fn judge_header(header: &[u8], has_wal: bool) -> Database {
    let number = |at: usize| {
        let bytes: [u8; 4] = header.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_be_bytes(bytes))
    };
    let (Some(format), Some(application)) = (number(USER_VERSION), number(APPLICATION_ID)) else {
        return Database::Foreign;
    };
    let (id, known) = daemons::agent_database();
    if !header.starts_with(b"SQLite format 3\0") {
        Database::Foreign
    } else if application == 0 && has_wal {
        // What would tell is in the WAL still.
        Database::Unknown
    } else if application != id {
        Database::Foreign
    } else {
        Database::Format {
            found: format,
            known,
        }
    }
}

/// Which of our units systemd would find.
pub fn units() -> Units {
    let config = env::var_os("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty());
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".config"));
    let own = config.map(PathBuf::from).or(home);
    let own = own.map(|dir| dir.join("systemd/user"));
    let is_in = |dirs: Vec<PathBuf>, names: &[&str]| {
        let mut there = names.iter().filter(|name| {
            dirs.iter()
                .any(|dir| fs::symlink_metadata(dir.join(name)).is_ok())
        });
        there.next().is_some()
    };
    let shared = |kind: &str| {
        ["/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"]
            .map(|dir| Path::new(dir).join("systemd").join(kind))
            .to_vec()
    };
    let users = own.into_iter().chain(shared("user")).collect();
    Units {
        runs: Path::new("/run/systemd/system").is_dir(),
        agent: is_in(users, &["chat-agent.socket", "chat-agent.service"]),
        server: is_in(shared("system"), &["chat-server.service"]),
    }
}

/// The terminal this runs at.
pub fn terminal() -> Terminal {
    let text = |name| {
        let value = env::var_os(name).filter(|value| !value.is_empty())?;
        Some(value.to_string_lossy().into_owned())
    };
    Terminal {
        reads: stdin().is_terminal(),
        writes: stdout().is_terminal(),
        term: text("TERM"),
        no_colour: text("NO_COLOR").is_some(),
        // The first of these that is set decides, as in `setlocale(3)`.
        locale: ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_is_found_in_the_kernels_list() {
        let locks = "1: POSIX  ADVISORY  WRITE 77 fd:01:42 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 123 fd:01:42 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 124 fd:01:42 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 125 00:2a:43 0 EOF\n";
        assert!(is_locked(locks, (0xfd, 1), 42, None));
        assert!(!is_locked(locks, (0xfd, 1), 43, None));
        assert!(!is_locked(locks, (0xfd, 1), 2, Some(77)));
        // Another device, but the process that the file names.
        assert!(is_locked(locks, (0, 0x19), 43, Some(125)));
        assert!(!is_locked(locks, (0, 0x19), 43, Some(126)));
        assert!(!is_locked("", (0xfd, 1), 42, None));
    }

    #[test]
    fn a_database_is_known_by_its_first_bytes() {
        let (id, known) = daemons::agent_database();
        let mut header = vec![0; HEADER_BYTES];
        header[..16].copy_from_slice(b"SQLite format 3\0");
        assert_eq!(judge_header(&header, true), Database::Unknown);
        assert_eq!(judge_header(&header, false), Database::Foreign);
        header[APPLICATION_ID..][..4].copy_from_slice(&id.to_be_bytes());
        header[USER_VERSION..][..4].copy_from_slice(&7_u32.to_be_bytes());
        assert_eq!(
            judge_header(&header, false),
            Database::Format { found: 7, known }
        );
        assert_eq!(judge_header(b"text", true), Database::Foreign);
        assert_eq!(judge_header(&[b'x'; 200], false), Database::Foreign);
    }

    #[test]
    fn what_is_not_there_is_told_from_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(database(dir.path()), Database::None);
        fs::write(dir.path().join("agent.exists"), "").unwrap();
        assert_eq!(database(dir.path()), Database::Missing);
        fs::write(dir.path().join("agent.db"), "").unwrap();
        assert_eq!(database(dir.path()), Database::Missing);
        assert!(disk(&dir.path().join("not/there")).is_some());
    }
}
