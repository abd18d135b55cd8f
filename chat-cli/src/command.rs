//! What a typed line means. Pure.

use crate::recall::Which;
use protocol::{Nick, RoomError, Target};
use thiserror::Error;

/// What a person wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Nothing: an empty line.
    Nothing,
    /// Say this in the current room.
    Say(String),
    /// Say in the third person what one does.
    Me(String),
    /// Open a room and make it the current one.
    Join(Target),
    /// Leave a room, or the current one.
    Leave(Option<Target>),
    /// Make an open room or conversation the current one.
    Switch(Target),
    /// Say something somewhere else.
    Message(Target, String),
    /// Answer a message of somebody else.
    Reply(Which, String),
    /// Change the words of a message of one's own.
    Edit(Which, String),
    /// Take a message of one's own back.
    Delete(Which),
    /// React to a message of somebody else, or end that.
    React {
        /// Which message.
        which: Which,
        /// One emoji, or its `:shortcode:`.
        emoji: String,
        /// Whether it is there from now on.
        on: bool,
    },
    /// Write a message in an editor, beginning with this.
    Editor(String),
    /// Who is in the current room, or another?
    Who(Option<Target>),
    /// Show the current room's topic, or set it.
    Topic(Option<String>),
    /// Change who may do what in the current room: the verb of `chat room`, and whom or what.
    Govern(&'static str, String),
    /// Which rooms are there?
    Rooms,
    /// Show the newest so many messages of the current room again.
    History(u32),
    /// Look for messages.
    Search(String),
    /// How are the agent and its link?
    Status,
    /// Away (true) or back (false).
    Away(bool),
    /// Go on under another name.
    Nick(Nick),
    /// Show nothing of somebody, or list whom nothing is shown of.
    Ignore(Option<String>),
    /// Show everything of somebody again.
    Unignore(String),
    /// Show preferences, or change one.
    Set(Option<(String, Option<String>)>),
    /// Show the commands.
    Help,
    /// Leave the program; rooms stay joined.
    Quit,
}

/// Why a line is no command.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommandError {
    /// No such command.
    #[error("there is no command /{name}{}; /help lists them, //{name} says it", did_you_mean(*nearest))]
    Unknown {
        /// What was typed.
        name: String,
        /// The nearest that there is.
        nearest: Option<&'static str>,
    },
    /// The name of a file, it seems.
    #[error("/{0} is no command: //{0} says it; the Up key brings back what you wrote")]
    Path(String),
    /// An invitation of a server, which the agent is to follow.
    #[error("a server is joined by all of this host: write `chat join {0}` in a shell")]
    Invitation(String),
    /// Something is missing.
    #[error("write {usage}")]
    Incomplete {
        /// How it is written.
        usage: &'static str,
    },
    /// A room is none.
    #[error("{0}; write {1}")]
    Room(RoomError, &'static str),
    /// A number is none.
    #[error("{0:?} is no number from 1 to 1000; write {1}")]
    Number(String, &'static str),
    /// A nick is none.
    #[error("{0}; write {1}")]
    Nick(protocol::NameError, &'static str),
}

/// Name, how it is written, what it does.
const COMMANDS: [(&str, &str, &str); 33] = [
    (
        "join",
        "/join ROOM",
        "open #room, &room or a person, and go there",
    ),
    ("leave", "/leave [ROOM]", "leave this room or another"),
    (
        "switch",
        "/switch ROOM",
        "go to a room (Alt-1 to Alt-9: the numbers of /rooms; Ctrl-N)",
    ),
    ("rooms", "/rooms", "which rooms there are"),
    ("who", "/who [ROOM]", "who is here, or there"),
    ("topic", "/topic [TEXT]", "show or set the topic"),
    (
        "msg",
        "/msg WHO TEXT",
        "say something to nick or nick@host alone",
    ),
    ("me", "/me TEXT", "say what you do"),
    (
        "reply",
        "/reply [^N|^WHO] TEXT",
        "answer the last message, the Nth last, or WHO's last",
    ),
    (
        "react",
        "/react [^N|^WHO] EMOJI",
        "react to it, with an emoji or :shortcode:",
    ),
    ("unreact", "/unreact [^N|^WHO] EMOJI", "take that back"),
    (
        "edit",
        "/edit [^N] TEXT",
        "change your last message here, or the Nth last",
    ),
    ("delete", "/delete [^N]", "take it back"),
    (
        "editor",
        "/editor [TEXT]",
        "write a message in $VISUAL or $EDITOR",
    ),
    ("history", "/history [N]", "the last messages here"),
    (
        "search",
        "/search WORDS",
        "find messages; also room:R from:W since:T before:T",
    ),
    (
        "invite",
        "/invite WHO",
        "let somebody into an invite-only room",
    ),
    ("kick", "/kick WHO", "take somebody out of this room"),
    ("ban", "/ban WHO", "take nick@host or *@host out for good"),
    ("unban", "/unban WHO", "end that"),
    ("mute", "/mute WHO", "let somebody say nothing here"),
    ("unmute", "/unmute WHO", "end that"),
    ("mode", "/mode MODE", "public, invite-only or read-only"),
    ("mod", "/mod WHO", "make somebody a moderator"),
    ("nick", "/nick NAME", "go on under another name"),
    ("away", "/away", "show as away until /back"),
    ("back", "/back", "show as here again"),
    (
        "ignore",
        "/ignore [WHO]",
        "show nothing of nick or nick@host; list them",
    ),
    ("unignore", "/unignore WHO", "show them again"),
    (
        "set",
        "/set [NAME [VALUE]]",
        "bell, notify, comings, theme: show or set them here",
    ),
    ("status", "/status", "how the agent and its link are"),
    ("help", "/help", "this list"),
    (
        "quit",
        "/quit",
        "go; rooms stay joined (Ctrl-D does the same)",
    ),
];

/// Messages that `/history` shows when no number is given.
const HISTORY: u32 = 20;

/// The commands' names, as they are typed.
pub fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.into_iter().map(|(name, ..)| name)
}

/// Reads a typed line. `/` begins a command; `//` says a line that begins with one `/`.
///
/// # Errors
///
/// [`CommandError`], written for the person who typed it.
pub fn parse(line: &str) -> Result<Command, CommandError> {
    if line.trim().is_empty() {
        return Ok(Command::Nothing);
    }
    let Some(rest) = line.strip_prefix('/') else {
        return Ok(Command::Say(line.to_owned()));
    };
    if rest.starts_with('/') {
        return Ok(Command::Say(rest.to_owned()));
    }
    let (typed, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let argument = argument.trim();
    let given = (!argument.is_empty()).then_some(argument);
    let name = typed.to_ascii_lowercase();
    let Some((name, usage, _)) = COMMANDS.into_iter().find(|command| command.0 == name) else {
        if typed.contains('/') {
            return Err(CommandError::Path(typed.to_owned()));
        }
        return Err(CommandError::Unknown {
            name: typed.to_owned(),
            nearest: nearest(&name),
        });
    };
    let incomplete = CommandError::Incomplete { usage };
    let room = |text| Target::parse(text).map_err(|error| CommandError::Room(error, usage));
    let text = || {
        given
            .map(str::to_owned)
            .ok_or(CommandError::Incomplete { usage })
    };
    let (which, behind) = pick(argument);
    let behind = || match behind {
        "" => Err(CommandError::Incomplete { usage }),
        text => Ok(text.to_owned()),
    };
    Ok(match name {
        "join" | "switch" if argument.starts_with("chat://") => {
            return Err(CommandError::Invitation(argument.to_owned()));
        }
        "join" => Command::Join(room(given.ok_or(incomplete)?)?),
        "leave" => Command::Leave(given.map(room).transpose()?),
        "switch" => Command::Switch(room(given.ok_or(incomplete)?)?),
        "msg" => {
            let (who, text) = argument.split_once(char::is_whitespace).ok_or(incomplete)?;
            Command::Message(room(who)?, text.trim_start().to_owned())
        }
        "me" => Command::Me(text()?),
        "reply" => Command::Reply(which, behind()?),
        "edit" => Command::Edit(which, behind()?),
        "delete" if argument.is_empty() || pick(argument).1.is_empty() => Command::Delete(which),
        "react" | "unreact" => Command::React {
            which,
            emoji: behind()?,
            on: name == "react",
        },
        "delete" => return Err(incomplete),
        "editor" => Command::Editor(argument.to_owned()),
        "who" => Command::Who(given.map(room).transpose()?),
        "topic" => Command::Topic(given.map(str::to_owned)),
        "invite" | "kick" | "ban" | "unban" | "mute" | "unmute" | "mode" | "mod" => {
            Command::Govern(name, text()?)
        }
        "rooms" => Command::Rooms,
        "history" => Command::History(given.map_or(Ok(HISTORY), |text| {
            let number = text.parse().ok().filter(|n| (1..=1000).contains(n));
            number.ok_or_else(|| CommandError::Number(text.to_owned(), usage))
        })?),
        "search" => Command::Search(text()?),
        "nick" => {
            let nick = Nick::parse(given.ok_or(incomplete)?);
            Command::Nick(nick.map_err(|error| CommandError::Nick(error, usage))?)
        }
        "ignore" => Command::Ignore(given.map(str::to_owned)),
        "unignore" => Command::Unignore(text()?),
        "set" => Command::Set(given.map(|given| {
            let (name, value) = match given.split_once(char::is_whitespace) {
                Some((name, value)) => (name, Some(value.trim().to_owned())),
                None => (given, None),
            };
            (name.to_owned(), value)
        })),
        "status" => Command::Status,
        "away" => Command::Away(true),
        "back" => Command::Away(false),
        "help" => Command::Help,
        _ => Command::Quit,
    })
}

/// `^2 rest` and `^bob rest`: which message is meant, the newest if nothing says so, and the rest.
fn pick(argument: &str) -> (Which, &str) {
    let (first, rest) = argument
        .split_once(char::is_whitespace)
        .unwrap_or((argument, ""));
    let which = first.strip_prefix('^').and_then(|mark| {
        let number = mark.parse().ok().filter(|number| *number > 0);
        number
            .map(Which::Back)
            .or_else(|| Nick::parse(mark).ok().map(Which::By))
    });
    match which {
        Some(which) => (which, rest.trim_start()),
        None => (Which::Back(1), argument),
    }
}

/// What `/help` shows: how each command is written, and what it does.
pub fn help() -> impl Iterator<Item = (&'static str, &'static str)> {
    COMMANDS.into_iter().map(|(_, usage, what)| (usage, what))
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!(", did you mean /{name}?"))
}

/// The command with the fewest letters to change, if they are few.
fn nearest(typed: &str) -> Option<&'static str> {
    // Longer words are no slips of the finger, and would make the comparison costly.
    if typed.len() > 16 {
        return None;
    }
    COMMANDS
        .into_iter()
        .map(|(name, ..)| (distance(typed, name), name))
        .filter(|(distance, name)| {
            // Two letters of a short word are most of it, unless it begins alike.
            let alike = typed.chars().next() == name.chars().next();
            *distance == 1 || (*distance == 2 && (alike || name.len() > 5))
        })
        .min()
        .map(|(_, name)| name)
}

/// How many letters to insert, remove or replace.
pub fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        Target::parse(text).unwrap()
    }

    #[test]
    fn typed_lines_mean_what_people_expect() {
        for (line, command) in [
            ("", Command::Nothing),
            ("  ", Command::Nothing),
            ("hello", Command::Say("hello".to_owned())),
            (" /who", Command::Say(" /who".to_owned())),
            ("//etc/passwd", Command::Say("/etc/passwd".to_owned())),
            ("a\nb", Command::Say("a\nb".to_owned())),
            ("/join #ops", Command::Join(target("#ops"))),
            ("/join  bob@bee ", Command::Join(target("bob@bee"))),
            ("/leave", Command::Leave(None)),
            ("/leave &lobby", Command::Leave(Some(target("&lobby")))),
            ("/switch bob", Command::Switch(target("bob"))),
            (
                "/msg bob  hi  there",
                Command::Message(target("bob"), "hi  there".to_owned()),
            ),
            ("/who", Command::Who(None)),
            ("/who #ops", Command::Who(Some(target("#ops")))),
            ("/me waves", Command::Me("waves".to_owned())),
            (
                "/reply yes",
                Command::Reply(Which::Back(1), "yes".to_owned()),
            ),
            (
                "/reply ^2 yes",
                Command::Reply(Which::Back(2), "yes".to_owned()),
            ),
            (
                "/reply ^bob so it is",
                Command::Reply(Which::By("bob".parse().unwrap()), "so it is".to_owned()),
            ),
            (
                "/edit ^ is up",
                Command::Edit(Which::Back(1), "^ is up".to_owned()),
            ),
            ("/delete", Command::Delete(Which::Back(1))),
            ("/delete ^3", Command::Delete(Which::Back(3))),
            (
                "/unreact :tada:",
                Command::React {
                    which: Which::Back(1),
                    emoji: ":tada:".to_owned(),
                    on: false,
                },
            ),
            ("/HELP", Command::Help),
            ("/editor", Command::Editor(String::new())),
            ("/search two words", Command::Search("two words".to_owned())),
            ("/nick al", Command::Nick("al".parse().unwrap())),
            ("/ignore", Command::Ignore(None)),
            ("/set", Command::Set(None)),
            (
                "/set bell off",
                Command::Set(Some(("bell".to_owned(), Some("off".to_owned())))),
            ),
            ("/set bell", Command::Set(Some(("bell".to_owned(), None)))),
            ("/topic", Command::Topic(None)),
            ("/topic on fire", Command::Topic(Some("on fire".to_owned()))),
            ("/kick bob", Command::Govern("kick", "bob".to_owned())),
            ("/rooms", Command::Rooms),
            ("/history", Command::History(20)),
            ("/history 5", Command::History(5)),
            ("/status", Command::Status),
            ("/away", Command::Away(true)),
            ("/back", Command::Away(false)),
            ("/help", Command::Help),
            ("/quit", Command::Quit),
        ] {
            assert_eq!(parse(line), Ok(command), "{line:?}");
        }
    }

    #[test]
    fn a_slip_is_answered_with_the_nearest_command() {
        for (typed, nearest) in [
            ("/jion #ops", Some("join")),
            ("/qiut", Some("quit")),
            ("/halp", Some("help")),
            ("/topics", Some("topic")),
            ("/xyzzy", None),
            ("/foo", None),
            ("/", None),
        ] {
            match parse(typed) {
                Err(CommandError::Unknown { nearest: found, .. }) => assert_eq!(found, nearest),
                other => panic!("{typed}: {other:?}"),
            }
        }
        let error = parse("/jion #ops").unwrap_err().to_string();
        assert!(error.contains("did you mean /join?"), "{error}");
    }

    #[test]
    fn what_is_missing_or_wrong_is_said_with_how_to_write_it() {
        for (typed, part) in [
            ("/join", "/join ROOM"),
            ("/join #", "/join ROOM"),
            ("/msg bob", "/msg WHO TEXT"),
            ("/history many", "/history [N]"),
            ("/history 0", "1 to 1000"),
            ("/reply ^2", "/reply [^N|^WHO] TEXT"),
            ("/delete that", "/delete [^N]"),
            ("/nick a b", "/nick NAME"),
            ("/mute", "/mute WHO"),
            ("/join chat://a:1/b", "`chat join chat://a:1/b` in a shell"),
            ("/etc/passwd is", "//etc/passwd"),
        ] {
            let error = parse(typed).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn help_lists_every_command() {
        assert_eq!(help().count(), COMMANDS.len());
        for (name, usage, _) in COMMANDS {
            assert!(usage.starts_with(&format!("/{name}")), "{usage}");
        }
    }
}
