//! The command line.

use std::path::PathBuf;

/// Orders, stores and fans out the messages of federated rooms.
///
/// What is not given here is looked up in the environment, then in the configuration file.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ServerArgs {
    /// Which log, and where.
    #[command(flatten)]
    pub store: StoreArgs,

    /// Address to accept agents on; port 0 takes any free one [env: CHAT_LISTEN] [default:
    /// 0.0.0.0:7667]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,

    /// What agents are told to connect to in invitations, HOST or HOST:PORT; of several servers with one
    /// log and one key, HOST,HOST [env: CHAT_PUBLIC_ADDRESS] [default: the address, or the system's host
    /// name]
    #[arg(long, value_name = "ADDR")]
    pub public_address: Option<String>,

    /// Certificate for agents that know this server by an authority (PEM; needs --tls-key)
    /// [default: one of its own, by whose key agents know it]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of --tls-cert (PEM, readable by nobody else)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Authorities whose certificates let in the host they name, without an invitation (PEM)
    #[arg(long, value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,

    /// Accept agents without encryption and without asking who they are: whoever reaches the port
    /// takes part. Agents must be told so as well
    #[arg(long)]
    pub insecure_plaintext: bool,

    /// Messages a second that one agent may send, joins and leaves counted; 0 for no limit [env:
    /// CHAT_AGENT_RATE] [default: 50000]
    #[arg(long, value_name = "N")]
    pub agent_rate: Option<u32>,

    /// Messages a second that one user may send, joins and leaves counted; 0 for no limit [env:
    /// CHAT_USER_RATE] [default: 10000]
    #[arg(long, value_name = "N")]
    pub user_rate: Option<u32>,

    /// Messages a second that one room may get from the hosts that follow it; 0 for no limit [env:
    /// CHAT_ROOM_RATE] [default: 50000]
    #[arg(long, value_name = "N")]
    pub room_rate: Option<u32>,

    /// Bytes that the log may have on the disk; 0 for no limit [env: CHAT_LOG_LIMIT] [default:
    /// 34359738368]
    #[arg(long, value_name = "BYTES")]
    pub log_limit: Option<u64>,

    /// What this server is called among several on one log [env: CHAT_SERVER_NAME] [default: the
    /// system's host name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// Say that the log was restored from a backup: its readers are told, and read it anew
    #[arg(long)]
    pub new_epoch: bool,

    /// Print the configuration and where each value comes from, and exit
    #[arg(long)]
    pub print_config: bool,
}

/// Where a server keeps what it knows: whoever says which server is meant says this.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct StoreArgs {
    /// Directory of the database [env: CHAT_STATE_DIR] [default: $XDG_STATE_HOME/chat]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// Configuration file [env: CHAT_SERVER_CONFIG] [default: $XDG_CONFIG_HOME/chat/server.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Where the log of all rooms is, as nats://HOST:PORT[,…] or tls://…: in a stream of NATS
    /// JetStream, which any number of servers share [env: CHAT_LOG_URL] [default: a database in the
    /// state directory]. Or what to write about the server's work, for example debug or
    /// chat_server=debug,info [env: CHAT_LOG] [default: info]. Both may be given
    #[arg(long, value_name = "URL|FILTER")]
    pub log: Vec<String>,

    /// Name of the stream on NATS, and first word of its subjects [env: CHAT_NATS_STREAM] [default:
    /// chat]
    #[arg(long, value_name = "NAME")]
    pub nats_stream: Option<String>,

    /// On how many servers of a NATS cluster the stream is stored, when it is made [env:
    /// CHAT_NATS_REPLICAS] [default: 1]
    #[arg(long, value_name = "N")]
    pub nats_replicas: Option<u32>,

    /// Credentials for NATS (a .creds file) [env: CHAT_NATS_CREDENTIALS]
    #[arg(long, value_name = "FILE")]
    pub nats_credentials: Option<PathBuf>,

    /// Authorities that vouch for NATS, beside those of the system (PEM) [env: CHAT_NATS_CA]
    #[arg(long, value_name = "FILE")]
    pub nats_ca: Option<PathBuf>,

    /// Certificate that NATS knows this server by (PEM) [env: CHAT_NATS_CERT]
    #[arg(long, value_name = "FILE")]
    pub nats_cert: Option<PathBuf>,

    /// Private key of --nats-cert (PEM) [env: CHAT_NATS_KEY]
    #[arg(long, value_name = "FILE")]
    pub nats_key: Option<PathBuf>,

    /// Vouch that NATS runs with `sync_interval: always`, which it does not tell: then what is
    /// acknowledged survives a power cut [env: CHAT_NATS_SYNCED=true]
    #[arg(long)]
    pub nats_synced: bool,
}
