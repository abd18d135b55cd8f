//! A socket that a service manager made: it stays there, whatever becomes of this agent.

use super::{Socket, SocketError, lock_path};
use crate::lock::{Lock, LockError, OF_SOCKET};
use std::{io, os::unix::net::UnixListener};
use tracing::debug;

impl Socket {
    /// Serves a socket that was passed, and locks what lies beside it as an agent does that made
    /// its own.
    ///
    /// Who may come in is what whoever made it decided, and what [`Access`](super::Access) says.
    /// It is not removed at the end: whoever connects then waits for the next agent.
    ///
    /// # Errors
    ///
    /// [`SocketError`].
    pub fn adopt(listener: UnixListener) -> Result<(Self, UnixListener), SocketError> {
        let address = listener.local_addr().ok();
        let path = address
            .as_ref()
            .and_then(|address| address.as_pathname())
            .ok_or(SocketError::Nameless)?;
        let lock = match Lock::take(&lock_path(path), OF_SOCKET) {
            Ok(lock) => Some(lock),
            // Then nobody else of this user can put a socket or a lock there either.
            Err(LockError::Io { source, .. }) if is_closed(&source) => {
                debug!(path = %path.display(), "no lock beside the socket that was passed");
                None
            }
            Err(error) => return Err(error.into()),
        };
        let socket = Self {
            path: path.to_owned(),
            made: None,
            _lock: lock,
        };
        Ok((socket, listener))
    }
}

/// Whether the directory is one that this user may not write.
fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_was_passed_is_locked_and_left_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let passed = UnixListener::bind(&path).unwrap();
        let (socket, _listener) = Socket::adopt(passed.try_clone().unwrap()).unwrap();
        assert_eq!(socket.path(), path);
        let second = Socket::adopt(passed.try_clone().unwrap());
        assert!(matches!(
            second,
            Err(SocketError::Lock(LockError::Held { .. }))
        ));
        drop(socket);
        assert!(path.exists());
        Socket::adopt(passed).unwrap();
    }

    #[test]
    fn a_socket_without_a_path_is_refused() {
        use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
        let name = format!("chat-adopt-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        assert!(matches!(
            Socket::adopt(listener),
            Err(SocketError::Nameless)
        ));
    }
}
