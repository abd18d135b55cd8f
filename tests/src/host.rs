//! One host: an agent with its own socket and state.

use crate::{
    process::{Finished, Place, Process},
    sandbox::Sandbox,
    session::Session,
    terminal::Terminal,
    wait::eventually,
};
use protocol::local::{LinkStatus, Status};
use std::{
    fmt::Display,
    path::{Path, PathBuf},
    process::Command,
};

/// A host that keeps its name, socket and state across restarts of its agent.
#[derive(Debug)]
pub struct Host {
    name: String,
    place: Place,
    socket: PathBuf,
    state_dir: PathBuf,
    logs: PathBuf,
    args: Vec<String>,
    agent: Option<Process>,
}

impl Host {
    /// A running, federated host.
    #[must_use]
    pub fn start(sandbox: &Sandbox, name: &str, server: impl Display) -> Self {
        let mut host = Self::new(sandbox, name).with_server(server);
        host.restart();
        host
    }

    /// A running host without a server.
    #[must_use]
    pub fn start_alone(sandbox: &Sandbox, name: &str) -> Self {
        let mut host = Self::new(sandbox, name);
        host.restart();
        host
    }

    /// One whose agent does not run yet.
    #[must_use]
    pub fn new(sandbox: &Sandbox, name: &str) -> Self {
        let dir = sandbox.dir(name);
        Self {
            name: name.to_owned(),
            place: sandbox.place(),
            socket: dir.join("run/agent.sock"),
            state_dir: dir.join("state"),
            logs: sandbox.dir("logs"),
            args: Vec::new(),
            agent: None,
        }
    }

    /// The same, federated with `server` too: without encryption if it is only an address.
    #[must_use]
    pub fn with_server(self, server: impl Display) -> Self {
        let server = server.to_string();
        let host = self.with_args(&["--server", &server]);
        let plain = "--insecure-plaintext";
        if !server.starts_with("chat://") && !host.args.iter().any(|arg| arg == plain) {
            host.with_args(&[plain])
        } else {
            host
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

    /// The same, with another socket.
    #[must_use]
    pub fn with_socket(mut self, socket: PathBuf) -> Self {
        self.socket = socket;
        self
    }

    /// The same, with further arguments.
    #[must_use]
    pub fn with_args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// Its agent from the next start on without any of the arguments given so far.
    pub fn forget_args(&mut self) {
        self.args.clear();
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its agent's socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its agent's files.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Its agent's database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.state_dir.join("agent.db")
    }

    /// Where its commands run.
    #[must_use]
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// Where its commands' output goes.
    #[must_use]
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Starts the agent, killing one that runs, and waits until it accepts sessions.
    pub fn restart(&mut self) {
        self.kill_agent();
        let mut agent = self.launch();
        agent.wait_for_line("ready on ");
        self.agent = Some(agent);
    }

    /// Starts an agent without waiting for it to be ready, for tests of why it will not be.
    #[must_use]
    pub fn launch(&self) -> Process {
        let mut command = self.agent_command(&self.place);
        Process::start(&format!("agent-{}", self.name), &mut command, &self.logs)
    }

    /// The command that runs the agent, in `place`.
    #[must_use]
    pub fn agent_command(&self, place: &Place) -> Command {
        let mut command = place.chat();
        command.arg("agent").arg("--socket").arg(&self.socket);
        command.arg("--state-dir").arg(&self.state_dir);
        command.args(["--host", &self.name]).args(&self.args);
        command
    }

    /// The running agent.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub const fn agent(&mut self) -> &mut Process {
        self.agent.as_mut().expect("the agent was started")
    }

    /// SIGKILL.
    pub fn kill_agent(&mut self) {
        self.agent = None;
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate_agent(&mut self) -> Finished {
        let finished = self.agent().terminate();
        self.agent = None;
        finished
    }

    /// The real command, used by `nick`.
    #[must_use]
    pub fn terminal(&self, nick: &str) -> Terminal {
        Terminal::new(self, nick)
    }

    /// A raw session of `nick`, who counts as present.
    #[must_use]
    pub fn session(&self, nick: &str) -> Session {
        Session::open(&self.socket, nick, true)
            .unwrap_or_else(|error| panic!("session of {nick} at {}: {error}", self.name))
    }

    /// A raw session that is nobody's presence.
    #[must_use]
    pub fn script(&self, nick: &str) -> Session {
        Session::open(&self.socket, nick, false)
            .unwrap_or_else(|error| panic!("session of {nick} at {}: {error}", self.name))
    }

    /// How the agent is, by its own account.
    #[must_use]
    pub fn status(&self) -> Status {
        self.script("observer").status()
    }

    /// Waits until the agent is connected to a server.
    pub fn wait_online(&self) {
        let mut session = self.script("observer");
        eventually(&format!("{} is online", self.name), || {
            match session.status().link {
                LinkStatus::Online { .. } => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }

    /// Waits until the agent has noticed that its server is not there.
    pub fn wait_offline(&self) {
        let mut session = self.script("observer");
        eventually(&format!("{} is offline", self.name), || {
            match session.status().link {
                LinkStatus::Online { server, .. } => Err(format!("online at {server}")),
                _ => Ok(()),
            }
        });
    }

    /// Waits until the server has acknowledged everything.
    pub fn wait_outbox_empty(&self) {
        let mut session = self.script("observer");
        eventually(
            &format!("the outbox of {} is empty", self.name),
            || match session.status().outbox_messages {
                0 => Ok(()),
                some => Err(format!("{some} messages wait")),
            },
        );
    }
}
