//! One `chat server`.

use crate::{
    process::{Finished, Place, Process, run},
    sandbox::Sandbox,
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// How many hosts the invitation of the harness lets in: more than any test has.
const MANY_HOSTS: u32 = 10_000;

/// A server that keeps its address and state directory across restarts.
#[derive(Debug)]
pub struct Server {
    place: Place,
    address: SocketAddr,
    state_dir: PathBuf,
    logs: PathBuf,
    args: Vec<String>,
    process: Option<Process>,
    /// What lets hosts in: of the first start, as `chat join` takes it; `None` for a server
    /// without encryption.
    invitation: Option<String>,
}

impl Server {
    /// One that is ready on a loopback address of its own.
    #[must_use]
    pub fn start(sandbox: &Sandbox) -> Self {
        let mut server = Self::new(sandbox, free_loopback());
        server.restart();
        server
    }

    /// As [`Server::start`], one that asks for no keys and encrypts nothing: for peers that are
    /// made by hand.
    #[must_use]
    pub fn start_plaintext(sandbox: &Sandbox) -> Self {
        let mut server = Self::new(sandbox, free_loopback()).plaintext();
        server.restart();
        server
    }

    /// One that does not run yet and will listen on `address`, with a key and an invitation that
    /// hosts may have before.
    #[must_use]
    pub fn prepared(sandbox: &Sandbox, address: SocketAddr) -> Self {
        let mut server = Self::new(sandbox, address);
        server.restart();
        server.kill();
        server
    }

    /// The same, without keys and encryption.
    #[must_use]
    pub fn plaintext(self) -> Self {
        self.with_args(&["--insecure-plaintext"])
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
            invitation: None,
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

    /// What federates a host with it, and lets it in.
    #[must_use]
    pub fn link(&self) -> String {
        self.link_by(self.address)
    }

    /// The same, by another address that leads to it.
    #[must_use]
    pub fn link_by(&self, address: SocketAddr) -> String {
        match &self.invitation {
            None => format!("plain://{address}"),
            Some(invitation) => {
                let secrets = invitation.splitn(4, '/').nth(3);
                format!("chat://{address}/{}", secrets.expect("a key"))
            }
        }
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
        let plaintext = self.args.iter().any(|arg| arg == "--insecure-plaintext");
        if self.invitation.is_none() && !plaintext {
            self.invitation = Some(self.invite(MANY_HOSTS, None));
        }
    }

    /// Starts it if it does not run.
    pub fn ensure_running(&mut self) {
        let running = self.process.as_mut().is_some_and(Process::is_running);
        if !running {
            self.restart();
        }
    }

    /// Makes an invitation for `uses` hosts, or for that `host` alone: what `chat join` takes.
    #[must_use]
    pub fn invite(&self, uses: u32, host: Option<&str>) -> String {
        let mut words = vec!["invite".to_owned(), format!("--uses={uses}")];
        words.extend(host.map(|host| format!("--host={host}")));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let line = self.order(&words).ok();
        let address = line.trim().strip_prefix("chat join ");
        address.expect("a line to paste").to_owned()
    }

    /// Says something to the server that runs: `chat server WORDS…`.
    #[must_use]
    pub fn order(&self, words: &[&str]) -> Finished {
        let mut command = self.place.chat();
        command.arg("server").args(words);
        command.arg("--state-dir").arg(&self.state_dir);
        run("server-order", &mut command, &self.logs)
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
