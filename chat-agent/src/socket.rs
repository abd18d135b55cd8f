//! The agent's socket: who holds it, who may come in.
//!
//! The socket is a file that outlives a killed agent. Whether an agent lives is told by a lock on
//! a file beside it, which the kernel releases with the process: with the lock held, a socket
//! found at the path is a dead agent's and is replaced; without it, a living agent's and left
//! alone. Whatever else stands at the path is never removed.

use nix::unistd::{Gid, Group};
use rustix::{
    fs::{FlockOperation, Mode, flock},
    io::Errno,
    process::{geteuid, umask},
};
use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown},
        net::UnixListener,
    },
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Why the agent cannot listen. The message says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SocketError {
    /// Another agent has the socket or the state.
    #[error("{path} is held by another agent (process {pid})", path = path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, as far as the file says.
        pid: String,
    },
    /// Something that is no socket stands at the path.
    #[error("{path} exists and is not a socket: move it away, or name another --socket", path = path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The directory is somebody else's, so anybody's socket could stand there.
    #[error(
        "{path} belongs to uid {owner}, not to uid {uid}: name another --socket",
        path = path.display()
    )]
    ForeignDirectory {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who asks.
        uid: u32,
    },
    /// The directory can be written by others.
    #[error(
        "{path} can be written by others (mode {mode:03o}), who could put their own socket \
         there: chmod it, or name another --socket",
        path = path.display()
    )]
    OpenDirectory {
        /// The directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// There is no such group.
    #[error("there is no group {name:?} on this host")]
    NoSuchGroup {
        /// Its name or number.
        name: String,
    },
    /// The system said no.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Whom the socket lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The OS user that runs the agent.
    Owner,
    /// That user, and whoever the kernel lets connect as a member of this group.
    Group(u32),
}

impl Access {
    /// The group with this name or number, or only the owner.
    ///
    /// # Errors
    ///
    /// [`SocketError::NoSuchGroup`].
    pub fn of_group(name: Option<&str>) -> Result<Self, SocketError> {
        let Some(name) = name else {
            return Ok(Self::Owner);
        };
        let missing = || SocketError::NoSuchGroup {
            name: name.to_owned(),
        };
        let found = match name.parse() {
            Ok(number) => Some(Gid::from_raw(number)),
            Err(_) => Group::from_name(name)
                .map_err(|_| missing())?
                .map(|group| group.gid),
        };
        found
            .map(|gid| Self::Group(gid.as_raw()))
            .ok_or_else(missing)
    }

    /// Whether OS user `uid` may have a session. With a group the kernel has checked the
    /// membership when it let `uid` connect.
    #[must_use]
    pub fn allows(self, uid: u32) -> bool {
        match self {
            Self::Owner => uid == geteuid().as_raw(),
            Self::Group(_) => true,
        }
    }

    const fn modes(self) -> (u32, u32) {
        match self {
            Self::Owner => (0o700, 0o600),
            Self::Group(_) => (0o750, 0o660),
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uid = geteuid().as_raw();
        match self {
            Self::Owner => write!(f, "uid {uid}"),
            Self::Group(gid) => write!(f, "uid {uid} and group {gid}"),
        }
    }
}

/// A lock file, held as long as this lives.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock, or says who has it.
    ///
    /// # Errors
    ///
    /// [`SocketError::Held`] or [`SocketError::Io`].
    pub fn take(path: &Path) -> Result<Self, SocketError> {
        let file = open_lock(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Self::held(file, path),
            Err(Errno::WOULDBLOCK) => Err(SocketError::Held {
                path: path.to_owned(),
                pid: holder(file),
            }),
            Err(error) => Err(io_error("lock", path)(error.into())),
        }
    }

    /// Takes the lock, waiting for whoever has it.
    ///
    /// # Errors
    ///
    /// [`SocketError::Io`].
    pub fn wait(path: &Path) -> Result<Self, SocketError> {
        let file = open_lock(path)?;
        loop {
            match flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Self::held(file, path),
                Err(Errno::INTR) => {}
                Err(error) => return Err(io_error("lock", path)(error.into())),
            }
        }
    }

    fn held(mut file: File, path: &Path) -> Result<Self, SocketError> {
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(io_error("write", path))?;
        Ok(Self { file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The file stays: removing it would let two agents hold locks on two files of one name.
        let _emptied = self.file.set_len(0);
    }
}

fn open_lock(path: &Path) -> Result<File, SocketError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(io_error("open", path))
}

fn holder(mut file: File) -> String {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

/// The socket, listening, with the lock that makes it this agent's.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    /// Which file it is, so that only this one is removed at the end.
    inode: (u64, u64),
    _lock: Lock,
}

impl Socket {
    /// Makes the directory, takes the lock, replaces a dead agent's socket, and listens.
    ///
    /// Called before any thread is started: the umask belongs to the whole process.
    ///
    /// # Errors
    ///
    /// [`SocketError`].
    pub fn bind(path: &Path, access: Access) -> Result<(Self, UnixListener), SocketError> {
        let (dir_mode, socket_mode) = access.modes();
        prepare_dir(path, access, dir_mode)?;
        let lock = Lock::take(&lock_path(path))?;
        match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => {
                fs::remove_file(path).map_err(io_error("replace", path))?;
            }
            Ok(_) => {
                return Err(SocketError::NotASocket {
                    path: path.to_owned(),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("look at", path)(error)),
        }
        // There is no moment at which others could connect.
        let before = umask(Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(path);
        umask(before);
        let listener = bound.map_err(io_error("bind", path))?;
        if let Access::Group(gid) = access {
            chown(path, None, Some(gid)).map_err(io_error("change the group of", path))?;
            fs::set_permissions(path, fs::Permissions::from_mode(socket_mode))
                .map_err(io_error("change the mode of", path))?;
        }
        listener
            .set_nonblocking(true)
            .map_err(io_error("use", path))?;
        let made = fs::symlink_metadata(path).map_err(io_error("look at", path))?;
        let socket = Self {
            path: path.to_owned(),
            inode: (made.dev(), made.ino()),
            _lock: lock,
        };
        Ok((socket, listener))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Ok(found) = fs::symlink_metadata(&self.path)
            && (found.dev(), found.ino()) == self.inode
        {
            let _removed = fs::remove_file(&self.path);
        }
    }
}

/// The lock file that belongs to a socket.
#[must_use]
pub fn lock_path(socket: &Path) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// Makes the socket's directory if there is none, and refuses one that others could tamper with.
///
/// # Errors
///
/// [`SocketError`].
pub fn prepare_dir(socket: &Path, access: Access, mode: u32) -> Result<(), SocketError> {
    let dir = match socket.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    if !dir.try_exists().map_err(io_error("look at", dir))? {
        if let Some(above) = dir.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(above)
                .map_err(io_error("make", above))?;
        }
        match DirBuilder::new().mode(mode).create(dir) {
            Ok(()) => {
                if let Access::Group(gid) = access {
                    chown(dir, None, Some(gid)).map_err(io_error("change the group of", dir))?;
                }
            }
            // Another agent made it just now.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io_error("make", dir)(error)),
        }
    }
    let found = fs::metadata(dir).map_err(io_error("look at", dir))?;
    let uid = geteuid().as_raw();
    let mode = found.permissions().mode() & 0o7777;
    let sticky = mode & 0o1000 != 0;
    if found.uid() != uid && found.uid() != 0 {
        let path = dir.to_owned();
        return Err(SocketError::ForeignDirectory {
            path,
            owner: found.uid(),
            uid,
        });
    }
    let open_to_group = mode & 0o020 != 0 && found.gid() != rustix::process::getegid().as_raw();
    if !sticky && (mode & 0o002 != 0 || open_to_group) {
        return Err(SocketError::OpenDirectory {
            path: dir.to_owned(),
            mode,
        });
    }
    Ok(())
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SocketError {
    let path = path.to_owned();
    move |source| SocketError::Io {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_agents_socket_is_replaced_and_a_living_ones_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chat/agent.sock");
        let (socket, listener) = Socket::bind(&path, Access::Owner).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(
            Socket::bind(&path, Access::Owner),
            Err(SocketError::Held { .. })
        ));
        // A killed agent leaves its socket and loses its lock.
        std::mem::forget(listener);
        let Socket { _lock: lock, .. } = &socket;
        flock(&lock.file, FlockOperation::Unlock).unwrap();
        let (again, _listener) = Socket::bind(&path, Access::Owner).unwrap();
        drop(socket);
        assert!(
            path.exists(),
            "the old agent's end must not remove the new agent's socket"
        );
        drop(again);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_socket_is_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.sock");
        fs::write(&file, "precious").unwrap();
        let refused = Socket::bind(&file, Access::Owner);
        assert!(matches!(refused, Err(SocketError::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
        let link = dir.path().join("link.sock");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(matches!(
            Socket::bind(&link, Access::Owner),
            Err(SocketError::NotASocket { .. })
        ));
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let refused = Socket::bind(&dir.path().join("agent.sock"), Access::Owner);
        assert!(matches!(refused, Err(SocketError::OpenDirectory { .. })));
    }
}
