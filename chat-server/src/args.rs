//! The command line.

use std::path::PathBuf;

/// Orders, stores and fans out the messages of federated rooms.
///
/// What is not given here is looked up in the environment, then in the configuration file.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ServerArgs {
    /// Address to accept agents on; port 0 takes any free one [env: CHAT_LISTEN] [default:
    /// 0.0.0.0:7667]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,

    /// Directory of the database [env: CHAT_STATE_DIR] [default: $XDG_STATE_HOME/chat]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// Configuration file [env: CHAT_SERVER_CONFIG] [default: $XDG_CONFIG_HOME/chat/server.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// What to log, for example debug or chat_server=debug,info [env: CHAT_LOG] [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,

    /// Say that the log was restored from a backup: its readers are told, and read it anew
    #[arg(long)]
    pub new_epoch: bool,

    /// Print the configuration and where each value comes from, and exit
    #[arg(long)]
    pub print_config: bool,
}
