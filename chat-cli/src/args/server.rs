//! The words behind `chat server`.

use crate::duration;
use clap::{Args, Subcommand};
use protocol::HostName;
use std::{path::PathBuf, time::Duration};

/// `chat server`: runs one, says something to the one that runs, or moves the log of one that does not.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ServerVerb {
    /// What to do instead of running one.
    #[command(subcommand)]
    pub order: Option<Order>,
    /// How to run one.
    #[command(flatten)]
    pub run: chat_server::ServerArgs,
}

/// What is said to a running server, or done with the log of one that is ended.
#[derive(Debug, Subcommand)]
pub enum Order {
    /// Make an invitation and print the line for the host that is invited
    ///
    /// Paste the line there. It lets in one host, within a day, unless you say otherwise. Whoever
    /// has it may use it: give it to nobody else.
    Invite(InviteArgs),
    /// List invitations
    Invitations(ListArgs),
    /// List the hosts that were let in
    Agents(ListArgs),
    /// Let a host in no more, or take an invitation back
    ///
    /// The host's connection ends at once, and the invitation it came with lets in nobody any more.
    /// A new one would let it in again.
    Revoke(RevokeArgs),
    /// Prepare another key for the server, or take it into use
    ///
    /// Without --now a key is made, and all hosts are told when they are connected; with --now it
    /// counts. A host that was not connected in between needs a new invitation then, so leave a few
    /// days between the two.
    RotateKey(RotateKeyArgs),
    /// Send this server's hosts to the other servers, before it is ended
    ///
    /// It lets no host in from then on, and tells those that are connected to go elsewhere, in small
    /// groups, each after what it sent was answered. Waits until all are gone; interrupted, the server
    /// goes on with it. A host that knows no other server comes back and is refused: what it says
    /// waits in its outbox until --undo, or until the server was started again. Nothing is lost.
    Drain(DrainArgs),
    /// Show how the server and its log are
    ///
    /// What an acknowledgement of the log promises, whether the log takes anything now, and who is
    /// connected.
    Status(StatusArgs),
    /// Write the log of a server that is ended into a file
    ///
    /// All rooms with who is in them and every message, and the hosts that are let in: to move them to
    /// another place with `chat server import`, say from one server's database to NATS. It is one JSON
    /// object a line, for nobody else to read. The server's own key (server.pem in its state directory)
    /// is not in it: hosts know the server by that, so keep it.
    Export(MoveArgs),
    /// Write such a file into the log of a server that has none yet, and check it
    ///
    /// Reads everything back and compares every room's messages and their order; no server uses the
    /// log before. If it is interrupted, run it again: it begins anew.
    Import(MoveArgs),
}

/// `chat server export` and `chat server import`
#[derive(Debug, Args)]
pub struct MoveArgs {
    /// The file; - for standard output or input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print what was moved as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Which log.
    #[command(flatten)]
    pub store: chat_server::StoreArgs,
}

/// Which server is meant: the one of this user, on this machine.
#[derive(Debug, Args)]
pub struct Place {
    /// Directory of the server's database [env: CHAT_STATE_DIR] [default: as in its configuration]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Its configuration file [env: CHAT_SERVER_CONFIG] [default: $XDG_CONFIG_HOME/chat/server.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `chat server invite`
#[derive(Debug, Args)]
pub struct InviteArgs {
    /// How many hosts it lets in
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub uses: u32,
    /// For how long (30m, 12h, 7d)
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = duration::parse)]
    pub expires: Duration,
    /// For a host of this name alone
    #[arg(long, value_name = "NAME")]
    pub host: Option<HostName>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Which server.
    #[command(flatten)]
    pub place: Place,
}

/// `chat server invitations` and `chat server agents`
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Which server.
    #[command(flatten)]
    pub place: Place,
}

/// `chat server revoke`
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// The host's name
    #[arg(required_unless_present = "invitation", conflicts_with = "invitation")]
    pub host: Option<HostName>,
    /// The invitation's number, as `chat server invitations` shows it
    #[arg(long, value_name = "N")]
    pub invitation: Option<u32>,
    /// Which server.
    #[command(flatten)]
    pub place: Place,
}

/// `chat server rotate-key`
#[derive(Debug, Args)]
pub struct RotateKeyArgs {
    /// Take the key that was prepared into use
    #[arg(long)]
    pub now: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Which server.
    #[command(flatten)]
    pub place: Place,
}

/// `chat server status`
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Which server.
    #[command(flatten)]
    pub place: Place,
}

/// `chat server drain`
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// Hosts that are sent elsewhere at once
    #[arg(long, value_name = "N", default_value_t = 100, conflicts_with = "undo")]
    pub group: u32,
    /// Time from one group to the next (1s, 1m)
    #[arg(
        long,
        value_name = "TIME",
        default_value = "1s",
        value_parser = duration::parse,
        conflicts_with = "undo"
    )]
    pub every: Duration,
    /// Let hosts in again
    #[arg(long)]
    pub undo: bool,
    /// Print one JSON object for each step
    #[arg(long)]
    pub json: bool,
    /// Which server.
    #[command(flatten)]
    pub place: Place,
}
