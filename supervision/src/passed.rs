//! A socket that the service manager made and listens on already.
//!
//! It makes the socket before it starts the daemon, perhaps only when somebody connects, and keeps
//! it while the daemon is restarted: nobody who connects meanwhile is turned away. The socket and
//! its file stay the service manager's.

use crate::is_for_this_process;
use listenfd::ListenFd;
use rustix::{
    io::Errno,
    net::{AddressFamily, sockopt},
};
use std::{env, io, net::TcpListener, os::fd::AsFd, os::unix::net::UnixListener};
use thiserror::Error;

/// Why what was passed is not used. The daemon must not start then: whoever connects to the
/// socket that was meant would wait for ever.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PassedError {
    /// A daemon serves one socket.
    #[error("the service manager passed {count} sockets (LISTEN_FDS), one is served: name one")]
    NotOne {
        /// What `LISTEN_FDS` says.
        count: String,
    },
    /// It is of another kind.
    #[error("what the service manager passed is no {wanted} (descriptor 3): {reason}")]
    OtherKind {
        /// What is served.
        wanted: &'static str,
        /// What does not fit.
        reason: String,
    },
    /// The system said no.
    #[error("what the service manager passed cannot be used: {0}")]
    Io(#[from] io::Error),
}

/// The Unix stream socket that was passed to this process, if one was.
///
/// Called once, before any thread is started: the variables that announce it are taken out of the
/// environment.
///
/// # Errors
///
/// [`PassedError`] if something else was passed.
pub fn unix_listener() -> Result<Option<UnixListener>, PassedError> {
    const WANTED: &str = "listening Unix stream socket";
    let Some(mut passed) = announced()? else {
        return Ok(None);
    };
    let taken = passed.take_unix_listener(0).map_err(other_kind(WANTED))?;
    let Some(listener) = taken else {
        return Ok(None);
    };
    check(&listener, &[AddressFamily::UNIX], WANTED)?;
    listener.set_nonblocking(true)?;
    Ok(Some(listener))
}

/// The TCP socket that was passed to this process, if one was.
///
/// Called as [`unix_listener`] is.
///
/// # Errors
///
/// [`PassedError`] if something else was passed.
pub fn tcp_listener() -> Result<Option<TcpListener>, PassedError> {
    const WANTED: &str = "listening TCP socket";
    let Some(mut passed) = announced()? else {
        return Ok(None);
    };
    let taken = passed.take_tcp_listener(0).map_err(other_kind(WANTED))?;
    let Some(listener) = taken else {
        return Ok(None);
    };
    check(
        &listener,
        &[AddressFamily::INET, AddressFamily::INET6],
        WANTED,
    )?;
    listener.set_nonblocking(true)?;
    Ok(Some(listener))
}

/// What `LISTEN_FDS` announces, if that is for this process: a child may have inherited it.
fn announced() -> Result<Option<ListenFd>, PassedError> {
    let pid = env::var("LISTEN_PID").ok();
    if is_for_this_process(pid.as_deref()) != Some(true) {
        return Ok(None);
    }
    let Some(count) = env::var_os("LISTEN_FDS").filter(|count| count != "0") else {
        return Ok(None);
    };
    if count != "1" {
        let count = count.to_string_lossy().into_owned();
        return Err(PassedError::NotOne { count });
    }
    Ok(Some(ListenFd::from_env()))
}

fn check(
    listener: &impl AsFd,
    families: &[AddressFamily],
    wanted: &'static str,
) -> Result<(), PassedError> {
    let reason = |reason: String| PassedError::OtherKind { wanted, reason };
    let error = |error: Errno| reason(error.to_string());
    let family = sockopt::socket_domain(listener).map_err(error)?;
    if !families.contains(&family) {
        return Err(reason(format!("it has {family:?}")));
    }
    if !sockopt::socket_acceptconn(listener).map_err(error)? {
        return Err(reason(
            "nobody listens on it (Accept=no is needed)".to_owned(),
        ));
    }
    Ok(())
}

fn other_kind(wanted: &'static str) -> impl FnOnce(io::Error) -> PassedError {
    move |error| PassedError::OtherKind {
        wanted,
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn only_a_socket_that_listens_passes() {
        let dir = tempfile::tempdir().unwrap();
        let unix = UnixListener::bind(dir.path().join("s")).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let (connected, _other) = UnixStream::pair().unwrap();
        check(&unix, &[AddressFamily::UNIX], "x").unwrap();
        check(&tcp, &[AddressFamily::INET, AddressFamily::INET6], "x").unwrap();
        assert!(check(&tcp, &[AddressFamily::UNIX], "x").is_err());
        let refused = check(&connected, &[AddressFamily::UNIX], "x").unwrap_err();
        assert!(refused.to_string().contains("Accept=no"), "{refused}");
    }
}
