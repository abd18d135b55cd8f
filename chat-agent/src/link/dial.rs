//! From a server's name to a connection.

use super::LinkError;
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout, timeout_at},
};

/// The least that one address gets of the time, however many there are.
const CONNECT_MIN: Duration = Duration::from_secs(1);

/// Connects to the first address of `server` that answers, `within` the time given if it has few
/// addresses.
///
/// # Errors
///
/// [`LinkError::TooSlow`] or [`LinkError::Lookup`] if its name has no address,
/// [`LinkError::Connect`] if none of them answers.
pub(super) async fn dial(server: &str, within: Duration) -> Result<TcpStream, LinkError> {
    let deadline = Instant::now() + within;
    let found = timeout_at(deadline, look_up(server)).await;
    let found = found.map_err(|_| LinkError::TooSlow(within))?;
    let addresses = found.map_err(LinkError::Lookup)?;
    let connected = first(&addresses, deadline, TcpStream::connect::<SocketAddr>).await;
    connected.map_err(|error| briefly(error, server))
}

/// Without the address if that is what the server is called: whoever tells of it names the server.
fn briefly(error: LinkError, server: &str) -> LinkError {
    match error {
        LinkError::Connect(mut failures) if matches!(&*failures, [(address, _)] if address.to_string() == server) => {
            match failures.pop() {
                Some((_, error)) => LinkError::ConnectThere(error),
                None => LinkError::Connect(failures),
            }
        }
        error => error,
    }
}

/// The addresses of a `HOST:PORT`.
async fn look_up(server: &str) -> io::Result<Vec<SocketAddr>> {
    // The zone in `[fe80::1%eth0]:7667` is for the resolver, which knows no brackets.
    let bare = server
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("]:"))
        .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    Ok(match bare {
        Some(host_and_port) => lookup_host(host_and_port).await?.collect(),
        None => lookup_host(server).await?.collect(),
    })
}

/// Connects to the first of `addresses` that answers. Each gets its share of the time that is
/// left, so that one behind which packets vanish does not keep the others from being tried.
async fn first<T>(
    addresses: &[SocketAddr],
    deadline: Instant,
    connect: impl AsyncFn(SocketAddr) -> io::Result<T>,
) -> Result<T, LinkError> {
    let mut failures = Vec::new();
    for (&address, untried) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left.div_f64(untried as f64).max(CONNECT_MIN);
        let error = match timeout(share, connect(address)).await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        failures.push((address, error));
    }
    Err(LinkError::Connect(failures))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::limits::CONNECT_TIMEOUT;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    /// Nothing is heard of addresses with this port.
    const SILENT: u16 = 1;

    async fn connect(address: SocketAddr) -> io::Result<u16> {
        match address.port() {
            SILENT => std::future::pending().await,
            2 => Err(io::Error::other("refused")),
            port => Ok(port),
        }
    }

    #[tokio::test]
    async fn an_address_with_a_zone_is_found_like_any_other() {
        for (server, found) in [
            ("127.0.0.1:7667", "127.0.0.1:7667"),
            ("[::1]:99", "[::1]:99"),
            // The loopback device is the first of every system.
            ("[fe80::1%lo]:7667", "[fe80::1%1]:7667"),
        ] {
            let found: SocketAddr = found.parse().unwrap();
            assert_eq!(look_up(server).await.unwrap(), [found], "{server}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_swallows_packets_does_not_keep_the_next_from_being_tried() {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let addresses = [SILENT, 2, SILENT, 4].map(address);
        let connected = first(&addresses, deadline, connect).await;
        assert_eq!(connected.unwrap(), 4);
        assert!(Instant::now() < deadline);
        // However late it is, each is tried.
        let connected = first(&addresses, Instant::now(), connect).await;
        assert_eq!(connected.unwrap(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_was_given_is_not_told_again() {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let only = [address(2)];
        for (server, words) in [
            ("192.0.2.1:2", "cannot connect: refused"),
            ("hub:2", "cannot connect: 192.0.2.1:2: refused"),
        ] {
            let error = first(&only, deadline, connect).await.unwrap_err();
            assert_eq!(briefly(error, server).to_string(), words);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_without_an_answer_is_told_by_all_its_addresses() {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let error = first(&[2, SILENT].map(address), deadline, connect).await;
        let words = "cannot connect: 192.0.2.1:2: refused, 192.0.2.1:1: timed out";
        assert_eq!(error.unwrap_err().to_string(), words);
        assert!(Instant::now() <= deadline);
    }
}
