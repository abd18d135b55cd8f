//! The command line.

use protocol::HostName;
use std::path::PathBuf;

/// Run this host's agent: terminals talk through it, with a server or without.
///
/// It stays in the foreground and logs to standard error. `chat` starts one by itself if none
/// runs; run it by hand to choose its name, its files or its server. What is not given here is
/// looked up in the environment, then in the settings file.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct AgentArgs {
    /// Socket for terminals [env: CHAT_SOCKET] [default: $XDG_RUNTIME_DIR/chat/agent.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// Directory for messages and settings [env: CHAT_STATE_DIR] [default: $XDG_STATE_HOME/chat]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// What this host is called on the server; fixed by the first start [env: CHAT_HOST] [default:
    /// the system's host name]
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,

    /// Server to federate with, or several of one log: A,B. May be given several times, tried in turn,
    /// and remembered. What `chat join` and `chat leave` say later stays until another --server is
    /// given
    #[arg(long = "server", value_name = "ADDRESS")]
    pub servers: Vec<String>,

    /// Speak to the servers of the settings without encryption, and take whoever answers for them
    #[arg(long)]
    pub insecure_plaintext: bool,

    /// Authorities that vouch for servers given without a key (PEM) [env: CHAT_TLS_CA]
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,

    /// Certificate of this host, from an authority that the server knows (PEM; needs --tls-key)
    /// [env: CHAT_TLS_CERT] [default: one of its own]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of --tls-cert (PEM, readable by nobody else) [env: CHAT_TLS_KEY]
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Let members of this group use the agent too (socket mode 0660), but neither other users'
    /// login names nor `chat join HOST` [env: CHAT_GROUP]
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,

    /// Bytes of messages that may wait for the server [env: CHAT_OUTBOX_LIMIT] [default: 268435456]
    #[arg(long, value_name = "BYTES")]
    pub outbox_limit: Option<u64>,

    /// What to log, as in `info` or `chat_agent=debug` [env: CHAT_LOG] [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,

    /// Settings file [env: CHAT_AGENT_CONFIG] [default: $XDG_CONFIG_HOME/chat/agent.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Say that the state was restored from a backup: whoever reads this host's own rooms is told,
    /// and reads them anew
    #[arg(long, conflicts_with_all = ["background", "print_config"])]
    pub new_epoch: bool,

    /// Give this host another name, once, and run: for machines that were cloned. What it knows and
    /// what waits for the server stays; conversations with people of other hosts begin anew
    #[arg(long, value_name = "NAME", conflicts_with_all = ["host", "background", "print_config"])]
    pub rename_host: Option<HostName>,

    /// Make another key for this host, and use it once its server has been told; once, and run
    #[arg(long, conflicts_with_all = ["tls_cert", "background", "print_config"])]
    pub rotate_key: bool,

    /// Print each setting with where it comes from, as a settings file, and exit
    #[arg(long)]
    pub print_config: bool,

    /// Start in the background unless this agent runs already, and return once it answers
    #[arg(long, conflicts_with = "print_config")]
    pub background: bool,

    /// Be the background process that `--background` started
    #[arg(long, hide = true, conflicts_with = "background")]
    pub detached: bool,
}
