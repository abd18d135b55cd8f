//! Several servers on one log, which a host may be connected to, one at a time.

use crate::{
    host::Host,
    nats::NatsServer,
    sandbox::Sandbox,
    server::{Server, free_loopback},
    wait::eventually,
};
use protocol::local::LinkStatus;
use std::fs;

/// How many hosts the line to paste lets in: more than any test has.
const MANY_HOSTS: u32 = 10_000;

/// Servers that share a log on NATS and the key that hosts know them by.
#[derive(Debug)]
pub struct Servers {
    all: Vec<Server>,
    /// What they stand on, which ends after them: one, or the nodes of a cluster.
    nats: Vec<NatsServer>,
    line: String,
}

impl Servers {
    /// `count` of them, ready on loopback addresses of their own, whose log is on one NATS server.
    ///
    /// # Panics
    ///
    /// If the key of the first cannot be copied to the others.
    #[must_use]
    pub fn start(sandbox: &Sandbox, count: usize) -> Self {
        Self::on(sandbox, vec![NatsServer::start(sandbox)], count)
    }

    /// The same, with the log on each of three NATS servers.
    ///
    /// # Panics
    ///
    /// As [`Servers::start`].
    #[must_use]
    pub fn on_cluster(sandbox: &Sandbox, count: usize) -> Self {
        Self::on(sandbox, NatsServer::start_cluster(sandbox, 3), count)
    }

    fn on(sandbox: &Sandbox, nats: Vec<NatsServer>, count: usize) -> Self {
        let urls: Vec<String> = nats.iter().map(NatsServer::url).collect();
        let (urls, replicas) = (urls.join(","), nats.len().to_string());
        let addresses: Vec<_> = (0..count).map(|_| free_loopback()).collect();
        let public: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let public = public.join(",");
        let mut all: Vec<Server> = Vec::with_capacity(count);
        for (number, address) in addresses.into_iter().enumerate() {
            let name = format!("server-{number}");
            let mut server = Server::new(sandbox, address).with_args(&[
                "--log",
                &urls,
                "--nats-synced",
                "--nats-replicas",
                &replicas,
                "--name",
                &name,
                "--public-address",
                &public,
            ]);
            if let Some(first) = all.first() {
                let [from, to] = [first, &server].map(|one| one.state_dir().join("server.pem"));
                fs::copy(from, to).expect("the key, for another server");
            }
            server.restart();
            all.push(server);
        }
        let line = all.first().expect("a server").invite(MANY_HOSTS, None);
        Self { all, nats, line }
    }

    /// The one line that federates a host with all of them, as `chat join` takes it.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }

    /// A host whose agent was given the line of all of them, and is connected to one.
    #[must_use]
    pub fn host(&self, sandbox: &Sandbox, name: &str) -> Host {
        let host = Host::start_alone(sandbox, name);
        let said = host.terminal("admin").run(["join", &self.line]).ok();
        assert!(said.starts_with("connected to "), "{said}");
        host.wait_online();
        host
    }

    /// The servers, and the NATS servers that they stand on.
    #[must_use]
    pub fn into_parts(self) -> (Vec<Server>, Vec<NatsServer>) {
        (self.all, self.nats)
    }

    /// The one that `host` is connected to.
    ///
    /// # Panics
    ///
    /// If it is connected to none of them before [`limit`](crate::limit).
    pub fn of(&mut self, host: &Host) -> &mut Server {
        self.at(&place(host))
    }

    /// The one with this address.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn at(&mut self, address: &str) -> &mut Server {
        let mut all = self.all.iter_mut();
        let found = all.find(|server| server.address().to_string() == address);
        found.expect("one of these servers")
    }

    /// Starts the one with this address again.
    pub fn restart(&mut self, address: &str) {
        self.at(address).restart();
    }

    /// Waits until `host` is connected to another one than `server`, by its address.
    pub fn wait_elsewhere(&self, host: &Host, server: &str) {
        let what = format!("{} is online elsewhere than at {server}", host.name());
        eventually(&what, || match place(host) {
            place if place == server => Err("still there"),
            _ => Ok(()),
        });
    }
}

/// Where `host` is connected to.
fn place(host: &Host) -> String {
    let mut session = host.script("observer");
    eventually(&format!("{} is online", host.name()), || {
        match session.status().link {
            LinkStatus::Online { server, .. } => Ok(server),
            other => Err(format!("{other:?}")),
        }
    })
}
