//! One `chat server`.

use crate::{
    process::{Finished, Place, Process},
    sandbox::Sandbox,
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// A server that keeps its address and state directory across restarts.
#[derive(Debug)]
pub struct Server {
    place: Place,
    address: SocketAddr,
    state_dir: PathBuf,
    logs: PathBuf,
    args: Vec<String>,
    process: Option<Process>,
}

impl Server {
    /// One that is ready on a loopback address of its own.
    #[must_use]
    pub fn start(sandbox: &Sandbox) -> Self {
        let mut server = Self::new(sandbox, free_loopback());
        server.restart();
        server
    }

    /// One that does not run yet and will listen on `address`.
    #[must_use]
    pub fn new(sandbox: &Sandbox, address: SocketAddr) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            place: sandbox.place(),
            address,
            state_dir: sandbox.dir(&format!("server-{count}")),
            logs: sandbox.dir("logs"),
            args: Vec::new(),
            process: None,
        }
    }

    /// The same, run elsewhere.
    #[must_use]
    pub fn in_place(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    /// The same, with other state.
    #[must_use]
    pub fn with_state_dir(mut self, dir: PathBuf) -> Self {
        self.state_dir = dir;
        self
    }

    /// The same, with further arguments.
    #[must_use]
    pub fn with_args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// Where agents find it.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its files are.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Its database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.state_dir.join("server.db")
    }

    /// Starts it, killing one that runs, and waits until it listens.
    pub fn restart(&mut self) {
        self.kill();
        let mut process = self.launch();
        process.wait_for_line("listening on ");
        self.process = Some(process);
    }

    /// Starts a process without waiting for it to be ready, for tests of why it will not be.
    #[must_use]
    pub fn launch(&self) -> Process {
        let mut command = self.place.chat();
        command
            .args(["server", "--listen", &self.address.to_string()])
            .arg("--state-dir")
            .arg(&self.state_dir)
            .args(&self.args);
        Process::start("server", &mut command, &self.logs)
    }

    /// The running process.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub const fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the server was started")
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&mut self) -> Finished {
        let finished = self.process().terminate();
        self.process = None;
        finished
    }
}

/// A loopback address nobody else uses, on a port that no outgoing connection is given: a
/// restarted server finds it free.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn free_loopback() -> SocketAddr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        assert!(count < 10_000, "no free loopback address");
        let mixed = std::process::id()
            .wrapping_mul(0x9E37_79B1)
            .wrapping_add(count.wrapping_mul(0x0100_0193));
        let [_, a, b, c] = mixed.to_be_bytes();
        let address = Ipv4Addr::new(127, a, b, c.clamp(2, 253));
        let address = SocketAddr::new(IpAddr::V4(address), 7667);
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
