//! The command line.

use std::path::PathBuf;

/// Run this host's agent: terminals talk through it, with a server or without.
///
/// It stays in the foreground and logs to standard error. `chat` starts one by itself if none
/// runs; run it by hand to choose its name, its files or its server.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct AgentArgs {
    /// Socket for terminals [default: $XDG_RUNTIME_DIR/chat/agent.sock]
    #[arg(long, value_name = "PATH", env = "CHAT_SOCKET")]
    pub socket: Option<PathBuf>,

    /// Directory for messages and settings [default: $XDG_STATE_HOME/chat]
    #[arg(long, value_name = "DIR", env = "CHAT_STATE_DIR")]
    pub state_dir: Option<PathBuf>,

    /// What this host is called on the server [default: the system's host name]
    #[arg(long, value_name = "NAME", env = "CHAT_HOST")]
    pub host: Option<String>,

    /// Server to federate with; may be given several times, tried in turn, and remembered
    #[arg(long = "server", value_name = "HOST[:PORT]")]
    pub servers: Vec<String>,

    /// Let members of this group use the agent too (socket mode 0660)
    #[arg(long, value_name = "GROUP", env = "CHAT_GROUP")]
    pub group: Option<String>,

    /// Bytes of messages that may wait for the server [default: 268435456]
    #[arg(long, value_name = "BYTES", env = "CHAT_OUTBOX_LIMIT")]
    pub outbox_limit: Option<u64>,

    /// What to log, as in `info` or `chat_agent=debug` [default: info]
    #[arg(long, value_name = "FILTER", env = "CHAT_LOG")]
    pub log: Option<String>,

    /// Settings file [default: $XDG_CONFIG_HOME/chat/agent.toml]
    #[arg(long, value_name = "FILE", env = "CHAT_AGENT_CONFIG")]
    pub config: Option<PathBuf>,

    /// Print each setting with where it comes from, and exit
    #[arg(long)]
    pub print_config: bool,

    /// Start in the background, and return once the agent answers
    #[arg(long, conflicts_with = "print_config")]
    pub background: bool,

    /// Be the background process that `--background` started
    #[arg(long, hide = true, conflicts_with = "background")]
    pub detached: bool,
}
