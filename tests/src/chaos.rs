//! A TCP proxy that delays, slices and cuts.

use crate::{seed::Random, server::free_loopback};
use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// How bad the line is.
#[derive(Debug, Clone, Copy)]
pub struct Chaos {
    /// The longest wait before a slice goes on, in milliseconds.
    pub max_delay_ms: u64,
    /// The largest slice, in bytes.
    pub max_slice: u64,
    /// How many bytes a connection carries on average before it is cut, wherever that is in a
    /// frame; never if `None`.
    pub mean_bytes_to_cut: Option<u64>,
}

impl Chaos {
    /// A line that does nothing wrong.
    pub const CALM: Self = Self {
        max_delay_ms: 0,
        max_slice: 64 * 1024,
        mean_bytes_to_cut: None,
    };
}

/// A proxy to one address. Ends when dropped.
#[derive(Debug)]
pub struct ChaosProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    chaos: Mutex<Chaos>,
    random: Mutex<Random>,
    connections: Mutex<Vec<TcpStream>>,
    stopping: AtomicBool,
    cuts: AtomicU64,
    connections_made: AtomicU64,
    bytes_down: AtomicU64,
}

impl ChaosProxy {
    /// One that listens on a loopback address of its own.
    #[must_use]
    pub fn start(upstream: SocketAddr, chaos: Chaos, random: Random) -> Self {
        let address = free_loopback();
        let listener = TcpListener::bind(address).expect("a free address");
        let shared = Arc::new(Shared {
            upstream,
            chaos: Mutex::new(chaos),
            random: Mutex::new(random),
            connections: Mutex::default(),
            stopping: AtomicBool::new(false),
            cuts: AtomicU64::new(0),
            connections_made: AtomicU64::new(0),
            bytes_down: AtomicU64::new(0),
        });
        let for_thread = Arc::clone(&shared);
        let acceptor = thread::spawn(move || for_thread.accept(&listener));
        Self {
            address,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// Where to connect.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes how bad the line is, for connections that exist too.
    pub fn set(&self, chaos: Chaos) {
        *lock(&self.shared.chaos) = chaos;
    }

    /// Cuts every connection now.
    pub fn cut_all(&self) {
        for stream in lock(&self.shared.connections).drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// How many connections the line has cut by its own bad luck.
    #[must_use]
    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::Relaxed)
    }

    /// How many connections have been made.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections_made.load(Ordering::Relaxed)
    }

    /// How many bytes have come down from the upstream.
    #[must_use]
    pub fn bytes_down(&self) -> u64 {
        self.shared.bytes_down.load(Ordering::Relaxed)
    }
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.cut_all();
        // Wakes the acceptor, which then sees that it should stop.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.stopping.load(Ordering::Relaxed) {
                return;
            }
            // Without an upstream the client is closed, as by a host that is not there.
            let joined = stream.and_then(|client| self.join(client));
            if let Err(error) = joined {
                eprintln!("chaos proxy: {error}");
            }
        }
    }

    fn join(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect_timeout(&self.upstream, Duration::from_secs(5))?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        lock(&self.connections).extend([client.try_clone()?, server.try_clone()?]);
        self.connections_made.fetch_add(1, Ordering::Relaxed);
        let up = (client.try_clone()?, server.try_clone()?, false);
        let down = (server, client, true);
        for (from, to, is_down) in [up, down] {
            let shared = Arc::clone(self);
            let random = lock(&self.random).fork();
            thread::spawn(move || {
                // An end of either side ends both; which error it was makes no difference.
                let _ = shared.pump(&from, &to, is_down, random);
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
        Ok(())
    }

    fn pump(
        &self,
        mut from: &TcpStream,
        mut to: &TcpStream,
        is_down: bool,
        mut random: Random,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let chaos = *lock(&self.chaos);
            let most = usize::try_from(chaos.max_slice).unwrap_or(buffer.len());
            let most = most.clamp(1, buffer.len());
            let count = from.read(&mut buffer[..most])?;
            if count == 0 {
                return Ok(());
            }
            let mut rest = &buffer[..count];
            while !rest.is_empty() {
                let len = random.within(1..u64::try_from(rest.len()).expect("small") + 1);
                let (slice, after) = rest.split_at(usize::try_from(len).expect("small"));
                if chaos.max_delay_ms > 0 {
                    thread::sleep(random.pause(chaos.max_delay_ms));
                }
                to.write_all(slice)?;
                if is_down {
                    self.bytes_down.fetch_add(len, Ordering::Relaxed);
                }
                if let Some(mean) = chaos.mean_bytes_to_cut
                    && random.within(0..mean.max(1)) < len
                {
                    self.cuts.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                rest = after;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_arrive_whole_and_cuts_are_cuts() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("listener");
        let upstream = listener.local_addr().expect("address");
        let sliced = Chaos {
            max_delay_ms: 1,
            max_slice: 7,
            mean_bytes_to_cut: None,
        };
        let proxy = ChaosProxy::start(upstream, sliced, Random::new(1));
        let sent = Random::new(2).bytes(500);
        let mut client = TcpStream::connect(proxy.address()).expect("connected");
        let (mut server, _) = listener.accept().expect("accepted");
        client.write_all(&sent).expect("written");
        let mut received = vec![0; sent.len()];
        server.read_exact(&mut received).expect("read");
        assert_eq!(received, sent);
        server.write_all(&sent).expect("written");
        client.read_exact(&mut received).expect("read");
        assert_eq!(proxy.bytes_down(), 500);

        proxy.set(Chaos {
            mean_bytes_to_cut: Some(1),
            ..Chaos::CALM
        });
        client.write_all(&sent).expect("written");
        let mut rest = Vec::new();
        // An orderly end or a reset, as the kernel has it.
        let _ = server.read_to_end(&mut rest);
        assert!(rest.len() <= sent.len());
        assert_ne!(proxy.cuts(), 0);
    }
}
