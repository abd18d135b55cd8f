//! A TCP proxy that keeps a copy of everything, and can lead elsewhere.

use crate::server::free_loopback;
use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Somebody on the line who listens. Ends when dropped.
#[derive(Debug)]
pub struct Tap {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    upstream: Mutex<SocketAddr>,
    up: Mutex<Vec<u8>>,
    down: Mutex<Vec<u8>>,
    connections: Mutex<Vec<TcpStream>>,
    stopping: AtomicBool,
}

impl Tap {
    /// One that listens on a loopback address of its own and leads to `upstream`.
    #[must_use]
    pub fn start(upstream: SocketAddr) -> Self {
        let address = free_loopback();
        let listener = TcpListener::bind(address).expect("a free address");
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            up: Mutex::default(),
            down: Mutex::default(),
            connections: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        let acceptor = thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.stopping.load(Ordering::Relaxed) {
                    return;
                }
                // Without an upstream the client is closed, as by a host that is not there.
                let _ = accepting.join(client);
            }
        });
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

    /// Leads everybody to `upstream` from now on; who is connected is cut off.
    pub fn lead_to(&self, upstream: SocketAddr) {
        *lock(&self.shared.upstream) = upstream;
        self.cut_all();
    }

    /// Cuts every connection now.
    pub fn cut_all(&self) {
        for stream in lock(&self.shared.connections).drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// All that clients have sent.
    #[must_use]
    pub fn up(&self) -> Vec<u8> {
        lock(&self.shared.up).clone()
    }

    /// Whether `text` went over the line, in either direction.
    #[must_use]
    pub fn saw(&self, text: &str) -> bool {
        let within = |bytes: &[u8]| {
            let mut windows = bytes.windows(text.len());
            windows.any(|window| window == text.as_bytes())
        };
        within(&lock(&self.shared.up)) || within(&lock(&self.shared.down))
    }
}

impl Drop for Tap {
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
    fn join(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        let upstream = *lock(&self.upstream);
        let server = TcpStream::connect_timeout(&upstream, Duration::from_secs(5))?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        lock(&self.connections).extend([client.try_clone()?, server.try_clone()?]);
        let up = (client.try_clone()?, server.try_clone()?, true);
        let down = (server, client, false);
        for (mut from, mut to, is_up) in [up, down] {
            let shared = Arc::clone(self);
            thread::spawn(move || {
                let copy = if is_up { &shared.up } else { &shared.down };
                let mut chunk = [0; 16 * 1024];
                while let Ok(count @ 1..) = from.read(&mut chunk) {
                    lock(copy).extend_from_slice(&chunk[..count]);
                    if to.write_all(&chunk[..count]).is_err() {
                        break;
                    }
                }
                // An end of one direction leaves the other what it has to say.
                let _ = to.shutdown(Shutdown::Write);
            });
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
