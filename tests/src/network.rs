//! Hosts in network namespaces of their own, joined by cables that can be cut.
//!
//! ```text
//!   node a ──veth──┐
//!   node b ──veth──┤ bridge, in the hub's namespace
//!   server ──veth──┘
//! ```

use crate::{privilege::tool, process::Place, sandbox::Sandbox};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

/// What every namespace's name begins with; the pid of the test process follows.
const PREFIX: &str = "chat-tests-";

/// A network of namespaces, gone when dropped.
#[derive(Debug)]
pub struct Network {
    prefix: String,
    namespaces: Vec<String>,
}

/// One node's cable.
#[derive(Debug, Clone)]
pub struct Link {
    hub: String,
    port: String,
    namespace: String,
    address: Ipv4Addr,
}

impl Network {
    /// An empty one: a bridge without cables. Removes what test processes left behind that were
    /// killed before they could.
    #[must_use]
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        for left in namespaces().filter(|name| is_left(name)) {
            delete_namespace(&left);
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut network = Self {
            prefix: format!("{PREFIX}{}-{count}", std::process::id()),
            namespaces: Vec::new(),
        };
        let hub = network.add_namespace("hub");
        tool(&["ip", "-n", &hub, "link", "add", "bridge", "type", "bridge"]);
        tool(&["ip", "-n", &hub, "link", "set", "bridge", "up"]);
        network
    }

    fn add_namespace(&mut self, name: &str) -> String {
        let name = format!("{}-{name}", self.prefix);
        tool(&["ip", "netns", "add", &name]);
        self.namespaces.push(name.clone());
        tool(&["ip", "-n", &name, "link", "set", "lo", "up"]);
        name
    }

    /// Adds a node and its cable.
    #[must_use]
    pub fn node(&mut self, name: &str) -> Link {
        let number = self.namespaces.len();
        let hub = self.namespaces.first().expect("made in new").clone();
        let namespace = self.add_namespace(name);
        let port = format!("port{number}");
        let octet = u8::try_from(number).expect("a small network");
        let address = Ipv4Addr::new(10, 77, 0, octet);
        let cidr = format!("{address}/24");
        tool(&[
            "ip", "-n", &hub, "link", "add", &port, "type", "veth", "peer", "name", "eth0",
            "netns", &namespace,
        ]);
        tool(&[
            "ip", "-n", &hub, "link", "set", &port, "master", "bridge", "up",
        ]);
        tool(&[
            "ip", "-n", &namespace, "address", "add", &cidr, "dev", "eth0",
        ]);
        tool(&["ip", "-n", &namespace, "link", "set", "eth0", "up"]);
        Link {
            hub,
            port,
            namespace,
            address,
        }
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The virtual cables go with the namespaces they end in.
        for name in &self.namespaces {
            delete_namespace(name);
        }
    }
}

/// The names of this machine's namespaces.
fn namespaces() -> impl Iterator<Item = String> {
    // The directory is made with the first of them.
    let entries = fs::read_dir("/run/netns").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

/// Whether `name` is of a test process that is gone.
fn is_left(name: &str) -> bool {
    let pid = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('-'));
    pid.is_some_and(|(pid, _)| !Path::new("/proc").join(pid).exists())
}

fn delete_namespace(name: &str) {
    // Another process may be quicker.
    let _ = Command::new("ip").args(["netns", "delete", name]).output();
}

impl Link {
    /// Where this node's commands run.
    #[must_use]
    pub fn place(&self, sandbox: &Sandbox) -> Place {
        sandbox.place().in_netns(&self.namespace)
    }

    /// `port` at this node.
    #[must_use]
    pub const fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.address), port)
    }

    /// Cuts the cable: nothing arrives, and nobody is told.
    pub fn cut(&self) {
        tool(&["ip", "-n", &self.hub, "link", "set", &self.port, "down"]);
    }

    /// Mends the cable.
    pub fn heal(&self) {
        tool(&["ip", "-n", &self.hub, "link", "set", &self.port, "up"]);
    }

    /// Lets so much through in a second, both ways (`tc` with a token bucket).
    pub fn slow_down(&self, rate: &str) {
        for (namespace, device) in [(&self.hub, self.port.as_str()), (&self.namespace, "eth0")] {
            tool(&[
                "tc", "-n", namespace, "qdisc", "add", "dev", device, "root", "tbf", "rate", rate,
                "burst", "8kb", "latency", "400ms",
            ]);
        }
    }

    /// Loses so many packets of a hundred on arrival at the node (`nft`).
    pub fn lose(&self, percent: u32) {
        let rule = format!(
            "add table inet loss; \
             add chain inet loss arrival {{ type filter hook input priority 0; }}; \
             add rule inet loss arrival iifname eth0 numgen random mod 100 < {percent} drop"
        );
        let netns = format!("--net=/run/netns/{}", self.namespace);
        tool(&["nsenter", &netns, "--", "nft", &rule]);
    }

    /// Loses nothing any more.
    pub fn lose_nothing(&self) {
        let netns = format!("--net=/run/netns/{}", self.namespace);
        tool(&["nsenter", &netns, "--", "nft", "delete table inet loss"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_namespaces_of_ended_test_processes_are_left_over() {
        let mut child = Command::new("true").spawn().expect("a process");
        child.wait().expect("its end");
        assert!(is_left(&format!("{PREFIX}{}-0-hub", child.id())));
        assert!(!is_left(&format!("{PREFIX}{}-0-hub", std::process::id())));
        assert!(!is_left("somebody-elses"));
    }
}
