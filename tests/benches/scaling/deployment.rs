//! Servers and what they keep their log in.

use anyhow::{Context, ensure};
use protocol::AgentId;
use std::{fs, path::Path, time::Duration};
use tests::{
    AgentPeer, Keys, NatsServer, Sandbox, Server, Servers,
    measure::{bytes_written, private_memory, processor_time},
};

/// What agents connect to: some servers on one log.
pub(crate) struct Deployment {
    pub(crate) servers: Vec<Server>,
    pub(crate) nats: Option<NatsServer>,
    /// How large what keeps the log was at first.
    disk_at_first: u64,
    /// How much memory NATS had at first.
    nats_at_first: u64,
}

/// Hosts with an agent each.
pub(crate) struct Crowd {
    members: Vec<Member>,
}

struct Member {
    host: String,
    keys: Keys,
    /// One that comes again takes the place of its own connection before.
    agent: AgentId,
}

impl Member {
    /// Connects to the server of `link`, showing its invitation if this is the first time.
    fn connect(&self, link: &str, enrol: bool) -> anyhow::Result<AgentPeer> {
        let context = || format!("the agent of {}", self.host);
        let mut peer = AgentPeer::silent(link, &self.keys).with_context(context)?;
        if enrol {
            peer.enrol(link, &self.host).with_context(context)?;
        }
        peer.hello_as(&self.host, self.agent)
            .with_context(context)?;
        Ok(peer)
    }
}

impl Crowd {
    /// `count` hosts, called `name` and a number.
    pub(crate) fn new(sandbox: &Sandbox, name: &str, count: usize) -> Self {
        let members = (0..count).map(|number| Member {
            host: format!("{name}{number}"),
            keys: Keys::new(sandbox),
            agent: AgentId::new(),
        });
        Self {
            members: members.collect(),
        }
    }

    /// What the `member`th is called.
    pub(crate) fn host(&self, member: usize) -> &str {
        &self.members[member].host
    }
}

/// What processes have used since they began.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spent {
    /// Processor time of all servers.
    pub(crate) servers: Duration,
    /// Processor time of NATS.
    pub(crate) nats: Duration,
    /// Bytes that servers and NATS had the disk write.
    pub(crate) written: u64,
}

impl Spent {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            servers: self.servers - before.servers,
            nats: self.nats - before.nats,
            written: self.written - before.written,
        }
    }
}

impl std::ops::AddAssign for Spent {
    fn add_assign(&mut self, more: Self) {
        self.servers += more.servers;
        self.nats += more.nats;
        self.written += more.written;
    }
}

impl Deployment {
    /// One server with its log in a database of its own.
    pub(crate) fn sqlite(sandbox: &Sandbox) -> Self {
        Self::new(vec![Server::start(sandbox)], None)
    }

    /// `count` servers with one log on one NATS server.
    pub(crate) fn jetstream(sandbox: &Sandbox, count: usize) -> Self {
        let (servers, nats) = Servers::start(sandbox, count).into_parts();
        Self::new(servers, nats.into_iter().next())
    }

    fn new(servers: Vec<Server>, nats: Option<NatsServer>) -> Self {
        let mut deployment = Self {
            servers,
            nats,
            disk_at_first: 0,
            nats_at_first: 0,
        };
        deployment.disk_at_first = deployment.disk();
        deployment.nats_at_first = deployment.nats_memory();
        deployment
    }

    /// The `member`th of `crowd`, which is in the register, connected to the `number`th server, in
    /// turns.
    pub(crate) fn agent(
        &self,
        number: usize,
        crowd: &Crowd,
        member: usize,
    ) -> anyhow::Result<AgentPeer> {
        let link = self.servers[number % self.servers.len()].link();
        crowd.members[member].connect(&link, false)
    }

    /// Puts all of `crowd` into the register, one after the other.
    pub(crate) fn enrol(&self, crowd: &Crowd) -> anyhow::Result<()> {
        let link = self.servers[0].link();
        for member in &crowd.members {
            // Whoever leaves without having said who they are makes others wait.
            member.connect(&link, true)?;
        }
        Ok(())
    }

    pub(crate) fn spent(&mut self) -> Spent {
        let servers = self.server_pids();
        let nats = self.nats.as_mut().map(|nats| nats.process().pid());
        Spent {
            servers: servers.iter().copied().map(processor_time).sum(),
            nats: nats.map_or(Duration::ZERO, processor_time),
            written: servers.into_iter().chain(nats).map(bytes_written).sum(),
        }
    }

    fn server_pids(&mut self) -> Vec<u32> {
        let servers = self.servers.iter_mut();
        servers.map(|server| server.process().pid()).collect()
    }

    /// The processor time of the `number`th server.
    pub(crate) fn time_of(&mut self, number: usize) -> Duration {
        processor_time(self.servers[number].process().pid())
    }

    /// The memory that belongs to the `number`th server alone, in bytes.
    pub(crate) fn memory_of(&mut self, number: usize) -> u64 {
        private_memory(self.servers[number].process().pid())
    }

    /// By how much NATS has grown since it was empty, in bytes of memory.
    pub(crate) fn nats_grown(&mut self) -> u64 {
        self.nats_memory().saturating_sub(self.nats_at_first)
    }

    fn nats_memory(&mut self) -> u64 {
        let nats = self.nats.as_mut();
        nats.map_or(0, |nats| private_memory(nats.process().pid()))
    }

    /// By how much what keeps the log has grown, in bytes: NATS' store, or the database with its
    /// journal.
    pub(crate) fn grown(&self) -> u64 {
        self.disk().saturating_sub(self.disk_at_first)
    }

    fn disk(&self) -> u64 {
        match &self.nats {
            Some(nats) => allocated(&nats.store()),
            None => allocated(self.servers[0].state_dir()),
        }
    }

    /// Lets all servers begin anew, with nothing in memory.
    pub(crate) fn restart_servers(&mut self) {
        for server in &mut self.servers {
            server.restart();
        }
    }

    /// Ends the servers in order.
    pub(crate) fn end(&mut self) -> anyhow::Result<()> {
        for server in &mut self.servers {
            ensure!(server.terminate().code == Some(0), "a server failed");
        }
        Ok(())
    }
}

/// Bytes of all files below `path`. What disappears meanwhile does not count.
fn allocated(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => allocated(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
