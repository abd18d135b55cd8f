//! Lock files: which daemon holds a socket or a state directory, told by the kernel.

use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
    process::geteuid,
};
use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};
use thiserror::Error;

/// Who takes a lock, for whoever is told that it is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// What it is: `agent`, `server`.
    pub program: &'static str,
    /// The flag that says where the lock is.
    pub flag: &'static str,
}

/// How often a lock that somebody holds is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Why a lock was not taken.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process has the socket or the state.
    #[error(
        "{path} is held by another {program}{}: end it{}, or name another {flag}",
        pid.map_or_else(String::new, |pid| format!(" (process {pid})")),
        pid.map_or_else(String::new, |pid| format!(" with `kill {pid}`")),
        path = path.display(),
        program = holder.program,
        flag = holder.flag
    )]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, if the file says.
        pid: Option<u32>,
        /// Who asks.
        holder: Holder,
    },
    /// What stands there was not made by a daemon of this user.
    #[error(
        "{path} is no lock file of uid {uid}: move it away, or name another {flag}",
        path = path.display(),
        flag = holder.flag
    )]
    Foreign {
        /// The lock file.
        path: PathBuf,
        /// Which user asks.
        uid: u32,
        /// Who asks.
        holder: Holder,
    },
    /// The system said no.
    #[error("cannot lock {path}", path = path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A lock file, held as long as this lives.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// What a lock file says of who wrote it last: perhaps its holder, perhaps a dead process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The process.
    pub pid: u32,
    /// The socket it serves, once it does.
    pub socket: Option<PathBuf>,
}

impl Note {
    /// Reads the note in the lock file at `path`; `None` if nobody left one there.
    #[must_use]
    pub fn read(path: &Path) -> Option<Self> {
        Self::parse(&std::fs::read(path).ok()?)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let mut lines = text.splitn(2, |byte| *byte == b'\n');
        let pid = std::str::from_utf8(lines.next()?).ok()?.trim();
        let socket = lines.next().and_then(|rest| rest.strip_suffix(b"\n"));
        Some(Self {
            pid: pid.parse().ok()?,
            socket: socket.map(|path| PathBuf::from(OsStr::from_bytes(path))),
        })
    }
}

impl Lock {
    /// Takes the lock for `holder`, or says who has it and what to do.
    ///
    /// # Errors
    ///
    /// [`LockError`].
    pub fn take(path: &Path, holder: Holder) -> Result<Self, LockError> {
        let mut file = open(path, holder)?;
        let locked = loop {
            let locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
            if locked.is_err() || is_at(&file, path).map_err(io_error(path))? {
                break locked;
            }
            // Somebody removed it between opening and locking: whoever comes next finds another.
            file = open(path, holder)?;
        };
        match locked {
            Ok(()) => Ok(Self::held(file)),
            Err(Errno::WOULDBLOCK) => Err(LockError::Held {
                path: path.to_owned(),
                pid: noted(file),
                holder,
            }),
            Err(error) => Err(io_error(path)(error.into())),
        }
    }

    /// Takes the lock, giving whoever has it so long to end.
    ///
    /// # Errors
    ///
    /// [`LockError`].
    pub fn take_within(path: &Path, holder: Holder, patience: Duration) -> Result<Self, LockError> {
        let deadline = Instant::now() + patience;
        loop {
            match Self::take(path, holder) {
                Err(LockError::Held { .. }) if Instant::now() < deadline => {
                    thread::sleep(RETRY_INTERVAL);
                }
                taken => return taken,
            }
        }
    }

    /// Notes in the file which socket its holder serves from now on.
    pub fn note_socket(&mut self, socket: &Path) {
        let path = socket.as_os_str().as_bytes();
        // Whoever finds the lock held is helped by it, and does without if there is no space.
        let _written = self.file.write_all(&[path, b"\n"].concat());
    }

    /// Loses the lock as a killed process does, with the note that it left.
    ///
    /// # Errors
    ///
    /// If the system does not let it.
    pub fn abandon(&self) -> io::Result<()> {
        Ok(flock(&self.file, FlockOperation::Unlock)?)
    }

    fn held(mut file: File) -> Self {
        // For people only; without space for a number there may still be space for a message.
        let _written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Self { file }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The file stays: removing it would let two daemons hold locks on two files of one name.
        let _emptied = self.file.set_len(0);
    }
}

/// Opens the file, which is written to: so not one that somebody put or linked there.
fn open(path: &Path, holder: Holder) -> Result<File, LockError> {
    let uid = geteuid().as_raw();
    let foreign = || LockError::Foreign {
        path: path.to_owned(),
        uid,
        holder,
    };
    let no_follow = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(no_follow.cast_signed())
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(code) if code == Errno::LOOP.raw_os_error() => foreign(),
            _ => io_error(path)(error),
        })?;
    let found = file.metadata().map_err(io_error(path))?;
    if !found.is_file() || found.uid() != uid || found.nlink() > 1 {
        return Err(foreign());
    }
    Ok(file)
}

/// Whether `file` is still what stands at `path`.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn noted(mut file: File) -> Option<u32> {
    let mut text = Vec::new();
    file.read_to_end(&mut text).ok()?;
    Some(Note::parse(&text)?.pid)
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> LockError {
    let path = path.to_owned();
    move |source| LockError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const HOLDER: Holder = Holder {
        program: "agent",
        flag: "--state-dir",
    };

    #[test]
    fn a_held_lock_says_who_has_it_and_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.lock");
        let _held = Lock::take(&path, HOLDER).unwrap();
        let refused = Lock::take_within(&path, HOLDER, Duration::ZERO).unwrap_err();
        let pid = std::process::id();
        let remedy =
            format!("(process {pid}): end it with `kill {pid}`, or name another --state-dir");
        assert!(refused.to_string().ends_with(&remedy), "{refused}");
        fs::write(&path, "").unwrap();
        let refused = Lock::take(&path, HOLDER).unwrap_err().to_string();
        let remedy = "by another agent: end it, or name another --state-dir";
        assert!(refused.ends_with(remedy), "{refused}");
    }

    #[test]
    fn a_lock_file_says_which_socket_its_holder_serves() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.lock");
        assert_eq!(Note::read(&path), None);
        let mut held = Lock::take(&path, HOLDER).unwrap();
        let pid = std::process::id();
        let socket = None;
        assert_eq!(Note::read(&path), Some(Note { pid, socket }));
        // A path may have any byte.
        let socket = Path::new(OsStr::from_bytes(b"/run/a\nb\xff.sock"));
        held.note_socket(socket);
        let socket = Some(socket.to_owned());
        assert_eq!(Note::read(&path), Some(Note { pid, socket }));
        let refused = Lock::take(&path, HOLDER).unwrap_err().to_string();
        assert!(refused.contains(&format!("(process {pid})")), "{refused}");
        drop(held);
        assert_eq!(Note::read(&path), None);
    }

    #[test]
    fn a_lock_is_waited_for_while_its_holder_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.lock");
        let held = Lock::take(&path, HOLDER).unwrap();
        let waiting =
            thread::spawn(move || Lock::take_within(&path, HOLDER, Duration::from_secs(60)));
        drop(held);
        waiting.join().unwrap().unwrap();
    }

    #[test]
    fn a_link_in_the_locks_place_does_not_empty_what_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let precious = dir.path().join("precious");
        fs::write(&precious, "text").unwrap();
        let path = dir.path().join("agent.lock");
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        assert!(matches!(
            Lock::take(&path, HOLDER),
            Err(LockError::Foreign { .. })
        ));
        fs::remove_file(&path).unwrap();
        fs::hard_link(&precious, &path).unwrap();
        assert!(matches!(
            Lock::take(&path, HOLDER),
            Err(LockError::Foreign { .. })
        ));
        assert_eq!(fs::read_to_string(&precious).unwrap(), "text");
    }
}
