//! The agent's socket: who holds it, who may come in.
//!
//! The socket is a file that outlives a killed agent. Whether an agent lives is told by a lock on
//! a file beside it, which the kernel releases with the process: with the lock held, a socket
//! found at the path is a dead agent's and is replaced; without it, a living agent's and left
//! alone. Whatever else stands at the path is never removed.

mod adopted;

use crate::lock::{Lock, LockError, OF_SOCKET};
use nix::unistd::{Gid, Group};
use rustix::{
    fs::Mode,
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
        sockopt::socket_peercred,
    },
    process::{getegid, geteuid, umask},
};
use std::{
    fmt,
    fs::{self, DirBuilder},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, lchown},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    time::Duration,
};
use thiserror::Error;

/// Longest path of a socket: what the kernel has room for, without the NUL at its end.
pub const MAX_PATH_BYTES: usize = 107;

/// Why the agent cannot listen. The message says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The lock beside the socket cannot be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// An agent answers there, whose lock file somebody removed.
    #[error(
        "an agent answers at {path}, though its lock {lock} is gone: end it{}, or name another \
         --socket",
        pid.map_or_else(String::new, |pid| format!(" with `kill {pid}`")),
        path = path.display(), lock = lock_path(path).display()
    )]
    Alive {
        /// The socket.
        path: PathBuf,
        /// Who answers, if the kernel knows.
        pid: Option<i32>,
    },
    /// The kernel takes no such path.
    #[error(
        "the path {path} has {len} bytes, a socket's may have {MAX_PATH_BYTES}: choose a shorter \
         --socket or CHAT_SOCKET",
        path = path.display(), len = path.as_os_str().len()
    )]
    TooLong {
        /// The path.
        path: PathBuf,
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
    /// The group that is to share the agent cannot reach the socket.
    #[error(
        "nobody of group {gid} can get to a socket in {path} (mode {mode:03o}): \
         `chgrp {gid} {path}` and `chmod g+x {path}`, or name another --socket",
        path = path.display()
    )]
    ClosedDirectory {
        /// The directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// Who was to get in.
        gid: u32,
    },
    /// There is no such group.
    #[error("there is no group {name:?} on this host")]
    NoSuchGroup {
        /// Its name or number.
        name: String,
    },
    /// A service manager passed a socket that nobody can find.
    #[error("the socket that was passed has no path: give it one (ListenStream=PATH)")]
    Nameless,
    /// The system said no.
    #[error("cannot {action} {path}", path = path.display())]
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

/// The socket, listening, with the lock that makes it this agent's.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    /// Which file it is, so that only this one is removed at the end; none that others made.
    made: Option<(u64, u64)>,
    _lock: Option<Lock>,
}

impl Socket {
    /// Makes the directory, takes the lock, replaces a dead agent's socket, and listens.
    ///
    /// Another agent that holds the lock gets as long as `patience` to end. Called while nothing
    /// else makes files: the umask belongs to the whole process.
    ///
    /// # Errors
    ///
    /// [`SocketError`].
    pub fn bind(
        path: &Path,
        access: Access,
        patience: Duration,
    ) -> Result<(Self, UnixListener), SocketError> {
        prepare_dir(path, access)?;
        let (_, socket_mode) = access.modes();
        let lock = Lock::take_within(&lock_path(path), OF_SOCKET, patience)?;
        match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => {
                if let Some(pid) = listener_of(path)? {
                    let path = path.to_owned();
                    return Err(SocketError::Alive { path, pid });
                }
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
            // Nobody else can have put anything in its place: see `prepare_dir`.
            lchown(path, None, Some(gid)).map_err(io_error("change the group of", path))?;
            fs::set_permissions(path, fs::Permissions::from_mode(socket_mode))
                .map_err(io_error("change the mode of", path))?;
        }
        listener
            .set_nonblocking(true)
            .map_err(io_error("use", path))?;
        let made = fs::symlink_metadata(path).map_err(io_error("look at", path))?;
        let socket = Self {
            path: path.to_owned(),
            made: Some((made.dev(), made.ino())),
            _lock: Some(lock),
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
            && Some((found.dev(), found.ino())) == self.made
        {
            let _removed = fs::remove_file(&self.path);
        }
    }
}

/// Whether somebody listens at the socket, and which process, if the kernel knows.
fn listener_of(path: &Path) -> Result<Option<Option<i32>>, SocketError> {
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    );
    let connected = socket.and_then(|socket| {
        let address = SocketAddrUnix::new(path)?;
        connect(&socket, &address)?;
        Ok(socket)
    });
    match connected {
        Ok(socket) => {
            let peer = socket_peercred(&socket).ok();
            Ok(Some(peer.map(|peer| peer.pid.as_raw_pid())))
        }
        // Its queue of connections is full.
        Err(Errno::AGAIN) => Ok(Some(None)),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(None),
        Err(error) => Err(io_error("ask who listens at", path)(error.into())),
    }
}

/// The lock file that belongs to a socket.
#[must_use]
pub fn lock_path(socket: &Path) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// Makes the socket's directory if there is none, and refuses one in which others could put
/// something else in the socket's place.
///
/// It may be one like `/tmp`, where everybody has files and nobody touches another's, if that is
/// what was named: a link that leads there must be this user's or root's.
///
/// # Errors
///
/// [`SocketError`].
pub fn prepare_dir(socket: &Path, access: Access) -> Result<(), SocketError> {
    if socket.as_os_str().as_bytes().len() > MAX_PATH_BYTES {
        return Err(SocketError::TooLong {
            path: socket.to_owned(),
        });
    }
    let dir = match socket.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    if !dir.try_exists().map_err(io_error("look at", dir))? {
        make_dir(dir, access)?;
    }
    let link = fs::symlink_metadata(dir).map_err(io_error("look at", dir))?;
    let found = fs::metadata(dir).map_err(io_error("look at", dir))?;
    let uid = geteuid().as_raw();
    for owner in [link.uid(), found.uid()] {
        if owner != uid && owner != 0 {
            return Err(SocketError::ForeignDirectory {
                path: dir.to_owned(),
                owner,
                uid,
            });
        }
    }
    let mode = found.mode() & 0o7777;
    let sticky = mode & 0o1000 != 0;
    // Many systems give each user a group with their own number, and nobody else in it. Other
    // groups, a user's first one too, have members.
    let private_group = found.gid() == uid && getegid().as_raw() == uid;
    let own_group = access == Access::Owner && private_group;
    let open = mode & 0o002 != 0 || (mode & 0o020 != 0 && !own_group);
    if open && !sticky {
        return Err(SocketError::OpenDirectory {
            path: dir.to_owned(),
            mode,
        });
    }
    if let Access::Group(gid) = access
        && mode & 0o001 == 0
        && (found.gid() != gid || mode & 0o010 == 0)
    {
        return Err(SocketError::ClosedDirectory {
            path: dir.to_owned(),
            mode,
            gid,
        });
    }
    Ok(())
}

fn make_dir(dir: &Path, access: Access) -> Result<(), SocketError> {
    if let Some(above) = dir.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(above)
            .map_err(io_error("make", above))?;
    }
    let (dir_mode, _) = access.modes();
    match DirBuilder::new().mode(dir_mode).create(dir) {
        Ok(()) => {}
        // Another agent made it just now.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(io_error("make", dir)(error)),
    }
    if let Access::Group(gid) = access {
        lchown(dir, None, Some(gid)).map_err(io_error("change the group of", dir))?;
        // Whatever the umask took away.
        fs::set_permissions(dir, fs::Permissions::from_mode(dir_mode))
            .map_err(io_error("change the mode of", dir))?;
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
    use std::sync::{Mutex, PoisonError};

    /// The umask, which binding changes, belongs to all threads of the tests.
    static UMASK: Mutex<()> = Mutex::new(());

    fn bind(path: &Path) -> Result<(Socket, UnixListener), SocketError> {
        let _alone = UMASK.lock().unwrap_or_else(PoisonError::into_inner);
        Socket::bind(path, Access::Owner, Duration::ZERO)
    }

    #[test]
    fn a_dead_agents_socket_is_replaced_and_a_living_ones_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chat/agent.sock");
        let (socket, listener) = bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(
            bind(&path),
            Err(SocketError::Lock(LockError::Held { .. }))
        ));
        // A killed agent leaves its socket and loses its lock.
        rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).unwrap();
        let Socket { _lock: lock, .. } = &socket;
        lock.as_ref().unwrap().abandon().unwrap();
        let (again, _listener) = bind(&path).unwrap();
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
        let refused = bind(&file);
        assert!(matches!(refused, Err(SocketError::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
        let link = dir.path().join("link.sock");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(matches!(bind(&link), Err(SocketError::NotASocket { .. })));
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let refused = bind(&dir.path().join("agent.sock"));
        assert!(matches!(refused, Err(SocketError::OpenDirectory { .. })));
    }

    #[test]
    fn a_directory_that_a_sharing_group_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o770)).unwrap();
        let path = dir.path().join("agent.sock");
        let group = Access::Group(getegid().as_raw());
        let refused = prepare_dir(&path, group);
        assert!(matches!(refused, Err(SocketError::OpenDirectory { .. })));
        prepare_dir(&path, Access::Owner).unwrap();
    }

    #[test]
    fn a_directory_that_keeps_out_the_sharing_group_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let path = dir.path().join("agent.sock");
        let group = getegid().as_raw();
        let refused = prepare_dir(&path, Access::Group(group)).unwrap_err();
        assert!(refused.to_string().contains("chmod g+x"), "{refused}");
        // One that is made here is open to it, whatever the umask.
        let _alone = UMASK.lock().unwrap_or_else(PoisonError::into_inner);
        let before = umask(Mode::from_raw_mode(0o077));
        let made = prepare_dir(&dir.path().join("made/agent.sock"), Access::Group(group));
        umask(before);
        made.unwrap();
        let mode = fs::metadata(dir.path().join("made")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o750);
    }

    #[test]
    fn somebody_elses_link_to_a_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("chat-0");
        std::os::unix::fs::symlink("/tmp", &link).unwrap();
        let path = link.join("agent.sock");
        prepare_dir(&path, Access::Owner).unwrap();
        if geteuid().is_root() {
            lchown(&link, Some(54_322), None).unwrap();
            let refused = prepare_dir(&path, Access::Owner);
            assert!(matches!(
                refused,
                Err(SocketError::ForeignDirectory { owner: 54_322, .. })
            ));
        }
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_named_with_its_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x".repeat(120));
        let refused = bind(&path).unwrap_err().to_string();
        let bytes = format!("{} bytes", path.as_os_str().len());
        assert!(
            refused.contains(&bytes) && refused.contains("CHAT_SOCKET"),
            "{refused}"
        );
    }
}
