//! Several servers that a host may be connected to, one at a time.

use crate::{
    host::Host,
    sandbox::Sandbox,
    server::{Server, free_loopback},
    wait::eventually,
};
use protocol::local::LinkStatus;
use std::fs;

/// Servers that share their key. Each has a log and a register of its own: what is judged with them
/// is where hosts are and what they still have to send, not what a reader sees across two of them.
#[derive(Debug)]
pub struct Servers {
    all: Vec<Server>,
}

impl Servers {
    /// `count` of them, ready on loopback addresses of their own.
    ///
    /// # Panics
    ///
    /// If the key of the first cannot be copied to the others.
    #[must_use]
    pub fn start(sandbox: &Sandbox, count: usize) -> Self {
        let mut all: Vec<Server> = Vec::with_capacity(count);
        for _ in 0..count {
            let mut server = Server::new(sandbox, free_loopback());
            if let Some(first) = all.first() {
                let [from, to] = [first, &server].map(|one| one.state_dir().join("server.pem"));
                fs::copy(from, to).expect("the key, for another server");
            }
            server.restart();
            all.push(server);
        }
        Self { all }
    }

    /// A host that may be connected to any of them, and is.
    #[must_use]
    pub fn host(&self, sandbox: &Sandbox, name: &str) -> Host {
        // A line each, as an invitation counts at one register only.
        let links = self.all.iter().map(Server::link);
        let mut host = links.fold(Host::new(sandbox, name), Host::with_server);
        host.restart();
        host.wait_online();
        host
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
