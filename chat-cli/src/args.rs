//! The command line: definitions only. The doc comments are the help text.

pub mod server;

use crate::{duration, since::Since};
use clap::{Args, Parser, Subcommand, ValueEnum};
use protocol::{ConsumerName, Cursor, MessageId, Target, governance::Mode, local::Author};
use regex::Regex;
use std::{ffi::OsString, path::PathBuf, time::Duration};

/// The help of `chat` itself: the verbs in groups, as one line for each would not fit one screen.
const HELP: &str = "\
{about}

{usage-heading} {usage}

Commands, each with a --help of its own:
  send, reply          Send a message; one that answers another
  tail, history        Print messages as they come; a room's last ones
  search               Find messages
  rooms, who, topic    List rooms; who is in one; show or set what it is about
  join, leave, room    Join rooms or a server; end that; decide who may do what
  status, pending      Show how agent and link are; what you said that waits
  wait, request        Wait for a message; for the reply to one
  exec, bot, mount     Post a command's output; let one answer; rooms as files
  agent, server        Run this host's agent; a server
  doctor, config       Look for what does not work; show each setting
  completions, man     Words for shells; manual pages
  demo                 Watch a 30-second tour: a server, two hosts, a crash

Options:
{options}";

/// Talk between terminals and hosts; alone, `chat` opens a conversation in &lobby
#[derive(Debug, Parser)]
#[command(
    name = "chat",
    version,
    disable_help_subcommand = true,
    disable_version_flag = true,
    help_template = HELP
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
// The first line of each is its line in the list, the rest is for its own help.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Send a message, or one for each line of standard input
    ///
    /// Prints nothing on success, or with --json one object a message. Empty lines are skipped; a
    /// line that is not UTF-8 or too long is named and left out, and the exit code is 1 in the
    /// end. With --whole all of standard input is one message, which is refused with exit code 1 if
    /// it is too long or not UTF-8. Starts this host's agent if none runs, unless a socket is named.
    Send(SendArgs),
    /// Print messages as they come
    ///
    /// Prints the newest 10 messages of each room, or all after --since, and ends there. With
    /// --follow it goes on with what comes. With --count N it begins with the newest N, or after
    /// --since, and ends after N messages, waiting for those that are not there yet. Starts this
    /// host's agent if none runs, unless a socket is named.
    ///
    /// With --durable NAME it goes on where NAME was when it ended or was killed, at least once:
    /// NAME has a line when the reader of the pipe has taken it, which it waits for in the end. (Of
    /// a file, when it is written.)
    /// What the reader had taken but not worked off when it was killed does not come again, unless
    /// it says itself what it is done with: with --confirm-stdin it writes the "cursor" of each
    /// message back, and ends with the end of standard input.
    Tail(TailArgs),
    /// Print a room's last messages
    ///
    /// Oldest first. To read on from there, give the "cursor" that --json prints to `chat tail
    /// --since`.
    History(HistoryArgs),
    /// List rooms
    ///
    /// Those of the server, of this host, and your conversations with one person. Without a
    /// connection to the server, only its rooms that you have joined.
    Rooms(RoomsArgs),
    /// List a room's members and whether they are there
    ///
    /// Without a connection to the server, only a #room's members on this host are known, which
    /// is said on standard error.
    Who(WhoArgs),
    /// Show how the agent, its outbox and its link are
    ///
    /// Also what does not work right now and what to do about it.
    Status(StatusArgs),
    /// List what you said that waits for the server
    ///
    /// Oldest first. It is kept on this host, and sent in this order when the server can be reached.
    /// Prints nothing if nothing waits.
    Pending(PendingArgs),
    /// Join rooms, or federate this host with a server
    ///
    /// A server is known by its key, and knows this host by its own: paste the whole line that
    /// `chat server invite` prints there. Servers are remembered by the agent, replacing earlier
    /// ones: `chat join A B` has it try A and B in turn. Of several servers of one log, `chat join
    /// A,B`, it takes one by chance, and another one at once when that ends. Waits up to 5 seconds
    /// for the connection; exit code 75 if no server was reached by then (the agent goes on trying), 1
    /// if one refused this host. Starts this host's agent if none runs, unless a socket is named.
    Join(JoinArgs),
    /// Leave a room, or forget the server
    ///
    /// What is in the outbox stays there until a server is joined again.
    Leave(LeaveArgs),
    /// Show or set a room's topic
    Topic(TopicArgs),
    /// Decide who reads and writes in a room
    ///
    /// Whoever made a room may do this, and whom they promote. Each change stands in the room's log,
    /// where all see it. USER is nick, on this host, or nick@host; *@host is everybody of a host.
    /// For #rooms the server is needed. Exit code 77 if you may not do that; it is said who may.
    Room(RoomArgs),
    /// Find messages
    ///
    /// Searches what this host has of the rooms you are in and of your own conversations. A message
    /// is found if it contains every WORD, in any case and also inside a word; a WORD with spaces is
    /// one text to find. Conditions stand among the words: room:ROOM, from:NICK or from:NICK@HOST,
    /// since:TIME, before:TIME; a TIME is 14:30, 2026-11-23, an RFC 3339 time, or how long ago: 30m,
    /// 2h, 7d. Prints the newest ones, oldest first, and behind them those of yours that wait for the
    /// server. Exit code 1 without a word if nothing is found.
    Search(SearchArgs),
    /// Wait for a message
    ///
    /// Prints the first message that is like this and ends; exit code 124 if none comes within
    /// --timeout. It looks at what comes from now on. What may come before it has begun is not
    /// missed with --since and a cursor of before:
    ///
    ///   cursor=$(chat history ROOM --limit 1 --json | jq -r .cursor); start-something; chat wait
    ///   ROOM --since "${cursor:-0}" --match done
    Wait(WaitArgs),
    /// Send a message and wait for a reply
    ///
    /// Prints what the first reply says (what `chat reply` or /reply answered), whoever gave it.
    /// Exit code 124 if there was none within --timeout, 75 if the message was not even committed.
    Request(RequestArgs),
    /// Reply to a message
    ///
    /// As `chat send`, but readers are told which message this is a reply to: `chat request` waits
    /// for it.
    Reply(ReplyArgs),
    /// Run a command and post what it prints
    ///
    /// What CMD prints, on standard output and standard error, is posted a few lines a message and
    /// copied to standard output; in the end it is posted how CMD ended, and how long it took. The
    /// exit code is CMD's: 128 and the signal's number if it was ended by one, 126 or 127 if it
    /// could not be run. CMD runs to its end whether or not the room takes what it prints. There
    /// is no shell in between: for pipes write -- sh -c 'a | b'. SIGTERM and SIGINT are passed on.
    Exec(ExecArgs),
    /// Run a program that answers messages
    ///
    /// CMD gets each message of the rooms as a line of JSON on its standard input, as `chat tail
    /// --json` prints it, and what it prints is sent: a line is a message to the room of the
    /// message it took last; an empty one says nothing; an object says more, with "body", "room",
    /// "reply_to" (the id of a message) and "react" (an emoji; to the last message, or "reply_to").
    /// What it prints on standard error is said here.
    ///
    /// The first time it begins with what comes from now on, then where it was: nothing is lost
    /// when it dies or this is killed. It is done with a message when it prints something (but an
    /// object with "room" may be printed at any time), or reads on, or ends with 0; what it was not
    /// done with when it died comes again. One that it dies over three times is left out. It is started again whenever it
    /// ends, after a pause that grows to a minute.
    ///
    /// What bots send is not heard by bots, so that none answers another for ever; with --hear-bots
    /// it is, except from those of the same user. When this is told to end, CMD sees the end of its
    /// input, 3 seconds later it gets SIGTERM, then SIGKILL. Run one of a --name at a time.
    Bot(BotArgs),
    /// Make a directory with a pipe and a file for each room
    ///
    /// Below DIR each room has a directory of its name with a pipe `in` and a file `out`: what is
    /// written to the one is said, a line a message, and what is said stands in the other. So `echo
    /// hi > '#ops/in'` and `tail -f '#ops/out'` are a terminal. It goes on until it is told to end
    /// (Ctrl-C), and takes the pipes away then. `out` stays, and goes on where it was when DIR is
    /// mounted again, without loss or doubles, also after a kill; the first time it begins with the
    /// newest 10 messages.
    Mount(MountArgs),
    /// Run this host's agent
    ///
    /// It stays in the foreground and logs to standard error. `chat` starts one by itself if none
    /// runs; run it by hand to choose its name, its files or its server. What is not given here
    /// is looked up in the environment, then in the settings file.
    Agent(chat_agent::AgentArgs),
    /// Run a server
    ///
    /// It orders, stores and fans out the messages of #rooms. What is not given here is looked up
    /// in the environment, then in the configuration file. At its first start it makes a key and
    /// prints the line that lets other hosts in (`chat join chat://…`); the words below say more
    /// to a server that runs.
    Server(Box<server::ServerVerb>),
    /// Watch a 30-second tour: a server, two hosts, a crash
    Demo,
    /// Show each setting and where it comes from
    ///
    /// Those of this terminal, of an agent started here, and of a server started here: from a flag,
    /// the environment, a settings file, or by default.
    #[command(hide = true)]
    Config(ConfigArgs),
    /// Look for what does not work, and say what to do
    ///
    /// Checks socket, agent, files, disk, server, clock and terminal, a line each: ok, warn or fail.
    /// Nothing is changed and no agent is started. Exit code 1 if something fails.
    #[command(hide = true)]
    Doctor(DoctorArgs),
    /// Print what a shell needs to complete the words of `chat`
    ///
    /// For bash: `chat completions bash > ~/.local/share/bash-completion/completions/chat`
    ///
    /// For zsh: `chat completions zsh > DIR/_chat`, with DIR among $fpath
    ///
    /// For fish: `chat completions fish > ~/.config/fish/completions/chat.fish`
    #[command(hide = true)]
    Completions(CompletionsArgs),
    /// Write manual pages
    ///
    /// Prints chat(1), or writes it and a page for each verb, as in chat-send(1), into DIR:
    /// `chat man ~/.local/share/man/man1`
    #[command(hide = true)]
    Man(ManArgs),
}

/// `chat send`
#[derive(Debug, Args)]
pub struct SendArgs {
    /// Where to: #name, &name, nick or nick@host
    pub room: Target,
    /// What to say, behind -- if it may begin with "-"; if absent or "-", each non-empty line of
    /// standard input is a message
    pub text: Option<String>,
    /// Send all of standard input as one message, without the end of its last line
    #[arg(long, conflicts_with = "text")]
    pub whole: bool,
    /// When a message counts as sent: durable on this host, or in the room's log
    #[arg(long, value_enum, default_value_t = Wait::Queued)]
    pub wait: Wait,
    /// As a reply to the message with this "id"
    #[arg(long, value_name = "ID")]
    pub reply_to: Option<MessageId>,
    /// How long each message may take for that, and to keep trying after the agent was lost
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    pub timeout: Duration,
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
#[derive(Debug, Args)]
pub struct TailArgs {
    /// Which rooms: #name, &name, nick or nick@host
    #[arg(required = true, value_name = "ROOM")]
    pub rooms: Vec<Target>,
    /// Begin after this: the "cursor" of a message printed by --json, 0 for the beginning, or a
    /// time: 14:30 (today), 2026-11-24, 2026-11-24T14:30:00Z, or how long ago: 30m, 2h, 7d
    #[arg(long, value_name = "CURSOR|TIME")]
    pub since: Option<Since>,
    /// Go on printing what comes
    #[arg(long, short)]
    pub follow: bool,
    /// End after so many messages: the newest that are there, then those that come
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Go on where the consumer NAME of yours was: the agent remembers. The first time it begins
    /// with the first message, or at --since
    #[arg(long, value_name = "NAME")]
    pub durable: Option<ConsumerName>,
    /// Read cursors from standard input, one a line: NAME is done with these, and with nothing else
    #[arg(long, requires = "durable", requires = "json")]
    pub confirm_stdin: bool,
    /// Give up after so long (30s, 2m, 1h), with exit code 124
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub timeout: Option<Duration>,
    /// Print one JSON object a message
    #[arg(long)]
    pub json: bool,
    /// Which agent, as whom.
    #[command(flatten)]
    pub connection: Connection,
}

/// `chat wait`
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Where: #name, &name, nick or nick@host
    pub room: Target,
    /// What it says: a regular expression that matches some of it; any message if absent
    #[arg(long = "match", value_name = "REGEX")]
    pub pattern: Option<Regex>,
    /// Whose it is: nick (on whichever host) or nick@host
    #[arg(long, value_name = "WHO", value_parser = crate::query::author)]
    pub from: Option<Author>,
    /// Look also at what there is after this already: a "cursor", 0, or a time as for `chat tail`
    #[arg(long, value_name = "CURSOR|TIME")]
    pub since: Option<Since>,
    /// Give up after so long (30s, 2m, 1h), with exit code 124
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub timeout: Option<Duration>,
    /// Print it as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Which agent, as whom.
    #[command(flatten)]
    pub connection: Connection,
}

/// `chat request`
#[derive(Debug, Args)]
pub struct RequestArgs {
    /// Where to: #name, &name, nick or nick@host
    pub room: Target,
    /// What to say, behind -- if it may begin with "-"
    pub text: String,
    /// How long the reply may take (30s, 2m, 1h)
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    pub timeout: Duration,
    /// Print the reply as one JSON object, not only what it says
    #[arg(long)]
    pub json: bool,
    /// Which agent, as whom.
    #[command(flatten)]
    pub connection: Connection,
}

/// `chat reply`
#[derive(Debug, Args)]
pub struct ReplyArgs {
    /// Where the message is: #name, &name, nick or nick@host
    pub room: Target,
    /// Its "id", as --json prints it
    pub id: MessageId,
    /// What to say, behind -- if it may begin with "-"
    pub text: String,
    /// When it counts as sent: durable on this host, or in the room's log
    #[arg(long, value_enum, default_value_t = Wait::Queued)]
    pub wait: Wait,
    /// How long that may take (30s, 2m, 1h)
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    pub timeout: Duration,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Which agent, as whom.
    #[command(flatten)]
    pub connection: Connection,
}

/// `chat exec`
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Where to: #name, &name, nick or nick@host
    pub room: Target,
    /// Post under KEY:1, KEY:2, … and KEY:end, each of them once
    #[arg(long, value_name = "KEY")]
    pub id: Option<String>,
    /// How long the agent has to be found, and in the end to accept what is left (30s, 2m, 1h)
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    pub timeout: Duration,
    /// What to run, and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
    /// Which agent, as whom.
    #[command(flatten)]
    pub connection: Connection,
}

/// `chat bot`
#[derive(Debug, Args)]
pub struct BotArgs {
    /// Where it listens: #name, &name, nick or nick@host; may be given several times
    #[arg(long = "room", required = true, value_name = "ROOM")]
    pub rooms: Vec<Target>,
    /// The consumer whose place the agent keeps [default: bot. and CMD's file name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<ConsumerName>,
    /// Where to begin the first time: a "cursor", 0, or a time as for `chat tail`
    #[arg(long, value_name = "CURSOR|TIME")]
    pub since: Option<Since>,
    /// Let it hear the bots of others, too
    #[arg(long)]
    pub hear_bots: bool,
    /// The program, and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
    /// Which agent, as whom.
    #[command(flatten)]
    pub connection: Connection,
}

/// `chat mount`
#[derive(Debug, Args)]
pub struct MountArgs {
    /// Where; made if it does not exist
    pub dir: PathBuf,
    /// Which rooms: #name, &name, nick or nick@host; if absent, those that you are in and your
    /// conversations, also those that begin later
    #[arg(value_name = "ROOM")]
    pub rooms: Vec<Target>,
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

/// `chat pending`
#[derive(Debug, Args)]
pub struct PendingArgs {
    /// Print one JSON object a message
    #[arg(long)]
    pub json: bool,
    /// Which agent, as whom.
    #[command(flatten)]
    pub connection: Connection,
}

/// `chat join`
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// #room or &room, or a server: chat://HOST:PORT/KEY/INVITATION; HOST or HOST:PORT for one
    /// that is known already or has a certificate (default port 7667). Several servers of one log are
    /// HOST,HOST in the place of HOST:PORT
    #[arg(required = true, value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Speak to the server without encryption, and take whoever answers for it; it must run with
    /// the same flag
    #[arg(long)]
    pub insecure_plaintext: bool,
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
    /// Print the topic as one JSON object
    #[arg(long, conflicts_with = "text")]
    pub json: bool,
    /// Which agent, as whom.
    #[command(flatten)]
    pub connection: Connection,
}

/// `chat room`
#[derive(Debug, Args)]
pub struct RoomArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: RoomVerb,
    /// Do it once under KEY, however often it is retried
    #[arg(long, value_name = "KEY", global = true)]
    pub id: Option<String>,
    /// Print one JSON object
    #[arg(long, global = true)]
    pub json: bool,
}

/// What `chat room` can do.
#[derive(Debug, Subcommand)]
pub enum RoomVerb {
    /// Make a room of your own, and join it
    Create {
        /// Which #room or &room; it must not exist yet
        room: Target,
        /// Who reads and writes there
        #[arg(long, value_enum, default_value_t = RoomMode::Public)]
        mode: RoomMode,
        /// Which agent, as whom.
        #[command(flatten)]
        connection: Connection,
    },
    /// Say who reads and writes
    Mode {
        /// Which #room or &room
        room: Target,
        /// Who; whoever is in a room that becomes invite-only stays
        #[arg(value_enum)]
        mode: RoomMode,
        /// Which agent, as whom.
        #[command(flatten)]
        connection: Connection,
    },
    /// Let somebody into an invite-only room
    Invite {
        /// Which #room or &room
        room: Target,
        /// Whom: nick or nick@host
        user: String,
        /// Which agent, as whom.
        #[command(flatten)]
        connection: Connection,
    },
    /// Take somebody out; into a public room they may come back
    Kick {
        /// Which #room or &room
        room: Target,
        /// Whom: nick or nick@host
        user: String,
        /// Which agent, as whom.
        #[command(flatten)]
        connection: Connection,
    },
    /// Take somebody out for good, or everybody of a host
    Ban {
        /// Which #room or &room
        room: Target,
        /// Whom: nick, nick@host, or *@host
        who: String,
        /// Which agent, as whom.
        #[command(flatten)]
        connection: Connection,
    },
    /// End a ban
    Unban {
        /// Which #room or &room
        room: Target,
        /// Whose: nick, nick@host, or *@host
        who: String,
        /// Which agent, as whom.
        #[command(flatten)]
        connection: Connection,
    },
    /// Let somebody read and say nothing
    Mute {
        /// Which #room or &room
        room: Target,
        /// Whom: nick or nick@host
        user: String,
        /// Which agent, as whom.
        #[command(flatten)]
        connection: Connection,
    },
    /// Let them speak again
    Unmute {
        /// Which #room or &room
        room: Target,
        /// Whom: nick or nick@host
        user: String,
        /// Which agent, as whom.
        #[command(flatten)]
        connection: Connection,
    },
    /// Make somebody a moderator, or an owner
    Promote {
        /// Which #room or &room
        room: Target,
        /// Whom: nick or nick@host
        user: String,
        /// An owner, not a moderator
        #[arg(long)]
        owner: bool,
        /// Which agent, as whom.
        #[command(flatten)]
        connection: Connection,
    },
    /// Make a moderator or owner a member again
    Demote {
        /// Which #room or &room
        room: Target,
        /// Whom: nick or nick@host
        user: String,
        /// Which agent, as whom.
        #[command(flatten)]
        connection: Connection,
    },
    /// Say how long messages are kept, and how many; all for ever without either
    Retention {
        /// Which #room or &room
        room: Target,
        /// For so long: 90s, 30m, 2h, 7d
        #[arg(long, value_name = "TIME", value_parser = duration::parse)]
        age: Option<Duration>,
        /// The newest so many
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        /// Which agent, as whom.
        #[command(flatten)]
        connection: Connection,
    },
    /// Overwrite what messages say, wherever it is kept: your own, or anybody's as a moderator
    Erase {
        /// Where: #room, &room, nick or nick@host
        room: Target,
        /// Their "id"s, as --json prints them
        #[arg(required = true, value_name = "ID")]
        messages: Vec<MessageId>,
        /// Which agent, as whom.
        #[command(flatten)]
        connection: Connection,
    },
    /// Show who may do what
    Show {
        /// Which #room or &room that you are in
        room: Target,
        /// Which agent, as whom.
        #[command(flatten)]
        connection: Connection,
    },
}

macro_rules! of_every_verb {
    ($field:ident: $type:ty, $doc:literal) => {
        #[doc = $doc]
        #[must_use]
        pub const fn $field(&self) -> &$type {
            match self {
                Self::Create { $field, .. }
                | Self::Mode { $field, .. }
                | Self::Invite { $field, .. }
                | Self::Kick { $field, .. }
                | Self::Ban { $field, .. }
                | Self::Unban { $field, .. }
                | Self::Mute { $field, .. }
                | Self::Unmute { $field, .. }
                | Self::Promote { $field, .. }
                | Self::Demote { $field, .. }
                | Self::Retention { $field, .. }
                | Self::Erase { $field, .. }
                | Self::Show { $field, .. } => $field,
            }
        }
    };
}

impl RoomVerb {
    of_every_verb!(room: Target, "Which room it is about.");
    of_every_verb!(connection: Connection, "Which agent, as whom.");
}

/// Who reads and writes in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoomMode {
    /// Everybody
    Public,
    /// Those who were invited; nobody else learns of it
    InviteOnly,
    /// Everybody reads, owners and moderators write
    ReadOnly,
}

impl From<RoomMode> for Mode {
    fn from(mode: RoomMode) -> Self {
        match mode {
            RoomMode::Public => Self::Public,
            RoomMode::InviteOnly => Self::InviteOnly,
            RoomMode::ReadOnly => Self::ReadOnly,
        }
    }
}

/// `chat search`
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// Texts that a message contains; room:R, from:W, since:T or before:T
    #[arg(required = true, value_name = "WORD")]
    pub words: Vec<String>,
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    /// Print one JSON object a message
    #[arg(long)]
    pub json: bool,
    /// Which agent, as whom.
    #[command(flatten)]
    pub connection: Connection,
}

/// `chat config`
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Print one JSON object a setting
    #[arg(long)]
    pub json: bool,
    /// Which agent, as whom.
    #[command(flatten)]
    pub connection: Connection,
}

/// `chat doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print one JSON object a check
    #[arg(long)]
    pub json: bool,
    /// Which agent, as whom.
    #[command(flatten)]
    pub connection: Connection,
}

/// `chat completions`
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// A shell that words can be completed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU bash, with bash-completion or without
    Bash,
    /// zsh, with compinit
    Zsh,
    /// fish
    Fish,
}

/// `chat man`
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Where to write all pages; made if it is not there
    pub dir: Option<PathBuf>,
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
    fn the_help_names_every_verb() {
        let mut command = Cli::command();
        let help = command.render_help().to_string();
        let words: Vec<_> = help.split([' ', ',', '\n']).collect();
        for verb in command.get_subcommands() {
            assert!(words.contains(&verb.get_name()), "{verb}: {help}");
        }
    }

    #[test]
    fn the_help_of_a_verb_explains_more_than_the_list_does() {
        let mut command = Cli::command();
        for (verb, words) in [
            ("send", "left out"),
            ("tail", "newest 10"),
            ("history", "Oldest first"),
            ("rooms", "conversations"),
            ("who", "standard error"),
            ("status", "what to do"),
            ("join", "are remembered"),
            ("leave", "outbox"),
            ("search", "how long ago"),
        ] {
            let verb = command.find_subcommand_mut(verb).unwrap();
            let help = verb.render_long_help().to_string();
            assert!(help.contains(words), "{help}");
        }
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
