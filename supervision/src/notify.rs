//! Datagrams to the service manager, as `sd_notify(3)` has them.
//!
//! Written here instead of taken from a crate because those send with a call that waits: a
//! service manager that does not read would stop the daemon.

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram as StdDatagram},
        },
    },
    time::Duration,
};
use tokio::{net::UnixDatagram, time::timeout};
use tracing::warn;

/// How long a service manager that reads nothing is waited for. It usually has room for some
/// hundred datagrams.
const PATIENCE: Duration = Duration::from_secs(1);

/// The way to the service manager.
#[derive(Debug)]
pub(crate) struct Notifier {
    socket: UnixDatagram,
}

impl Notifier {
    /// A notifier for `NOTIFY_SOCKET`: a path, or `@` and an abstract name.
    pub(crate) fn connect(address: &OsStr) -> io::Result<Self> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
        };
        let socket = StdDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        let socket = UnixDatagram::from_std(socket)?;
        Ok(Self { socket })
    }

    /// Tells `lines`, each `NAME=value`. What is not taken within a second is lost, and logged.
    pub(crate) async fn tell(&self, lines: &[String]) {
        let message = lines.join("\n");
        let sent = timeout(PATIENCE, self.socket.send(message.as_bytes())).await;
        match sent {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => warn!(%error, "the service manager was not told {lines:?}"),
            Err(_) => warn!("the service manager does not read: it was not told {lines:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &StdDatagram) -> String {
        let mut buffer = [0; 256];
        let len = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn paths_and_abstract_names_are_reached() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("chat-notify-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        for (address, socket) in [
            (path.as_os_str().to_owned(), StdDatagram::bind(&path)),
            (
                format!("@{name}").into(),
                StdDatagram::bind_addr(&abstract_address),
            ),
        ] {
            let socket = socket.unwrap();
            let notifier = Notifier::connect(&address).unwrap();
            let lines = ["READY=1".to_owned(), "STATUS=here".to_owned()];
            notifier.tell(&lines).await;
            assert_eq!(received(&socket), "READY=1\nSTATUS=here");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_manager_that_does_not_read_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let _socket = StdDatagram::bind(&path).unwrap();
        let notifier = Notifier::connect(path.as_os_str()).unwrap();
        let full = async { while notifier.socket.try_send(b"WATCHDOG=1").is_ok() {} };
        full.await;
        notifier.tell(&["STOPPING=1".to_owned()]).await;
    }
}
