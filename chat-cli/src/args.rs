//! The command line: definitions only. The doc comments are the help text.

use clap::{Args, Parser, Subcommand, ValueEnum};
use protocol::{Cursor, ResumePoint, Target};
use std::path::PathBuf;

/// Talk between terminals and hosts; alone, `chat` opens a conversation in &lobby
#[derive(Debug, Parser)]
#[command(
    name = "chat",
    version,
    disable_help_subcommand = true,
    disable_version_flag = true
)]
pub struct Cli {
    /// What to do; a conversation if absent.
    #[command(subcommand)]
    pub verb: Option<Verb>,
    /// Which agent, as whom.
    #[command(flatten)]
    pub connection: Connection,
    /// Open #name, &name, nick or nick@host, not &lobby
    #[arg(long, value_name = "ROOM")]
    pub room: Option<Target>,
    // Left out of the help, which is to fit one screen.
    /// Print version
    #[arg(short = 'V', long, hide = true, action = clap::ArgAction::Version)]
    version: Option<bool>,
}

/// Which agent to talk to, and as whom. Before or after the verb.
#[derive(Debug, Clone, Default, Args)]
pub struct Connection {
    /// The agent's socket [env: CHAT_SOCKET]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// State of an agent started by this [env: CHAT_STATE_DIR]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Who speaks [env: CHAT_NICK] [default: your login name]
    #[arg(long, value_name = "NICK")]
    pub nick: Option<String>,
}

/// What `chat` can do besides conversing.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Send a message, or one for each line of standard input
    Send(SendArgs),
    /// Print messages as they come
    Tail(TailArgs),
    /// Print a room's last messages
    History(HistoryArgs),
    /// List rooms
    Rooms(RoomsArgs),
    /// List a room's members and whether they are there
    Who(WhoArgs),
    /// Show how the agent, its outbox and its link are
    Status(StatusArgs),
    /// Join rooms, or federate this host with a server
    Join(JoinArgs),
    /// Leave a room, or forget the server
    Leave(LeaveArgs),
    /// Show or set a room's topic
    Topic(TopicArgs),
    /// Run this host's agent
    Agent(chat_agent::AgentArgs),
    /// Run a server
    Server(chat_server::ServerArgs),
    /// Watch a 30-second tour with a server and two hosts
    Demo,
}

/// `chat send`
///
/// Prints nothing on success, or with --json one object a message.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// Where to: #name, &name, nick or nick@host
    pub room: Target,
    /// What to say, behind -- if it may begin with "-"; if absent or "-", each non-empty line of
    /// standard input is a message
    pub text: Option<String>,
    /// When a message counts as sent: durable on this host, or in the room's log
    #[arg(long, value_enum, default_value_t = Wait::Queued)]
    pub wait: Wait,
    /// How long each message may take for that, and to keep trying after the agent was lost
    #[arg(long, value_name = "SECS", default_value_t = 30)]
    pub timeout: u64,
    /// Send once under KEY, however often it is retried; lines are KEY:1, KEY:2, … by number
    #[arg(long, value_name = "KEY")]
    pub id: Option<String>,
    /// Print one JSON object a message
    #[arg(long)]
    pub json: bool,
    /// Which agent, as whom.
    #[command(flatten)]
    pub connection: Connection,
}

/// When a message counts as sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Wait {
    /// Durable in this host's outbox
    Queued,
    /// In the room's log
    Committed,
}

/// `chat tail`
///
/// Prints the newest 10 messages of each room, or those after --since, and ends there unless
/// --follow or --count says to wait for more.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// Which rooms: #name, &name, nick or nick@host
    #[arg(required = true, value_name = "ROOM")]
    pub rooms: Vec<Target>,
    /// Begin after this: 0 is the beginning, else the "cursor" of a message printed by --json
    #[arg(long, value_name = "CURSOR")]
    pub since: Option<ResumePoint>,
    /// Go on printing what comes
    #[arg(long, short)]
    pub follow: bool,
    /// End after so many messages, waiting for them if need be
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Give up after so long, with exit code 124
    #[arg(long, value_name = "SECS")]
    pub timeout: Option<u64>,
    /// Print one JSON object a message
    #[arg(long)]
    pub json: bool,
    /// Which agent, as whom.
    #[command(flatten)]
    pub connection: Connection,
}

/// `chat history`
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Which room: #name, &name, nick or nick@host
    pub room: Target,
    /// Only messages before this "cursor"
    #[arg(long, value_name = "CURSOR")]
    pub before: Option<Cursor>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    /// Print one JSON object a message
    #[arg(long)]
    pub json: bool,
    /// Which agent, as whom.
    #[command(flatten)]
    pub connection: Connection,
}

/// `chat rooms`
#[derive(Debug, Args)]
pub struct RoomsArgs {
    /// Print one JSON object a room
    #[arg(long)]
    pub json: bool,
    /// Which agent, as whom.
    #[command(flatten)]
    pub connection: Connection,
}

/// `chat who`
#[derive(Debug, Args)]
pub struct WhoArgs {
    /// Which room
    #[arg(default_value = "&lobby")]
    pub room: Target,
    /// Print one JSON object a member
    #[arg(long)]
    pub json: bool,
    /// Which agent, as whom.
    #[command(flatten)]
    pub connection: Connection,
}

/// `chat status`
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Which agent, as whom.
    #[command(flatten)]
    pub connection: Connection,
}

/// `chat join`
///
/// Rooms are joined. Servers are remembered by the agent, replacing earlier ones, and tried in
/// turn; the command waits up to 5 seconds for the connection.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// #room or &room, or a server: HOST or HOST:PORT (default port 7667)
    #[arg(required = true, value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Which agent, as whom.
    #[command(flatten)]
    pub connection: Connection,
}

/// `chat leave`
#[derive(Debug, Args)]
pub struct LeaveArgs {
    /// Which room; without it, this host forgets its server and is on its own again
    pub room: Option<Target>,
    /// Which agent, as whom.
    #[command(flatten)]
    pub connection: Connection,
}

/// `chat topic`
#[derive(Debug, Args)]
pub struct TopicArgs {
    /// Which #room or &room
    pub room: Target,
    /// The new topic; empty removes it; if absent, the topic is printed
    pub text: Option<String>,
    /// Which agent, as whom.
    #[command(flatten)]
    pub connection: Connection,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_fits_one_screen() {
        let help = Cli::command().term_width(80).render_help().to_string();
        assert!(help.lines().count() <= 24, "{help}");
        assert!(help.lines().all(|line| line.len() <= 80), "{help}");
    }

    #[test]
    fn flags_are_accepted_on_both_sides_of_the_verb() {
        let before = Cli::try_parse_from(["chat", "--nick", "bob", "who"]).unwrap();
        assert_eq!(before.connection.nick.as_deref(), Some("bob"));
        let after = Cli::try_parse_from(["chat", "who", "--nick", "bob"]).unwrap();
        let Some(Verb::Who(who)) = after.verb else {
            panic!("{after:?}");
        };
        assert_eq!(who.connection.nick.as_deref(), Some("bob"));
    }

    #[test]
    fn a_message_may_look_like_a_flag() {
        for (line, text, json) in [
            (&["&j", "--", "--json"][..], "--json", false),
            (&["&j", "--json", "--", "-v"], "-v", true),
            (&["&j", "--id", "k", "done", "--json"], "done", true),
        ] {
            let line = [&["chat", "send"], line].concat();
            let Some(Verb::Send(send)) = Cli::try_parse_from(&line).unwrap().verb else {
                panic!("{line:?}");
            };
            assert_eq!((send.text.as_deref(), send.json), (Some(text), json));
        }
    }

    #[test]
    fn nonsense_is_a_usage_error() {
        for bad in [
            &["chat", "send"][..],
            &["chat", "send", "no room", "x"],
            &["chat", "tail", "#a", "--since", "7"],
            &["chat", "tail", "#a", "--count", "0"],
            &["chat", "tail"],
            &["chat", "frobnicate"],
        ] {
            let error = Cli::try_parse_from(bad).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad:?}");
        }
    }
}
