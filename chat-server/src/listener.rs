//! Accepting agents.

use crate::service::Service;
use rustix::io::Errno;
use std::{io, time::Duration};
use tokio::{net::TcpListener, time::sleep};
use tracing::{debug, warn};

/// How long nobody is accepted after the process or the system ran out of file descriptors or
/// memory: some are freed meanwhile, and the log is not flooded.
const PAUSE: Duration = Duration::from_millis(500);

/// Accepts connections for `service` for ever.
///
/// # Cancel safety
///
/// Cancel safe: an accepted connection is served.
pub(crate) async fn accept(listener: TcpListener, service: &Service) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Many frames are gathered for each write, so there is nothing to wait for.
                if let Err(error) = stream.set_nodelay(true) {
                    debug!(%error, "TCP_NODELAY");
                }
                service.receive(stream, peer);
            }
            Err(error) if is_exhaustion(&error) => {
                warn!(%error, pause = ?PAUSE, "cannot accept agents");
                sleep(PAUSE).await;
            }
            // Whoever knocked has left again.
            Err(error) => debug!(%error, "a connection was not accepted"),
        }
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}
