//! What a typed line means. Pure.

use protocol::{RoomError, Target};
use thiserror::Error;

/// What a person wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Nothing: an empty line.
    Nothing,
    /// Say this in the current room.
    Say(String),
    /// Open a room and make it the current one.
    Join(Target),
    /// Leave a room, or the current one.
    Leave(Option<Target>),
    /// Make an open room or conversation the current one.
    Switch(Target),
    /// Say something somewhere else.
    Message(Target, String),
    /// Who is in the current room?
    Who,
    /// Show the current room's topic, or set it.
    Topic(Option<String>),
    /// Which rooms are there?
    Rooms,
    /// Show the newest so many messages of the current room again.
    History(u32),
    /// How are the agent and its link?
    Status,
    /// Away (true) or back (false).
    Away(bool),
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
}

/// Name, how it is written, what it does.
const COMMANDS: [(&str, &str, &str); 13] = [
    (
        "join",
        "/join ROOM",
        "open #room, &room or a person, and go there",
    ),
    ("leave", "/leave [ROOM]", "leave this room or another"),
    ("switch", "/switch ROOM", "go to a room that is open"),
    ("msg", "/msg WHO TEXT", "say something to nick or nick@host"),
    ("who", "/who", "who is here"),
    ("topic", "/topic [TEXT]", "show or set the topic"),
    ("rooms", "/rooms", "which rooms there are"),
    ("history", "/history [N]", "the last messages here"),
    ("status", "/status", "how the agent and its link are"),
    ("away", "/away", "show as away until /back"),
    ("back", "/back", "show as here again"),
    ("help", "/help", "this list"),
    (
        "quit",
        "/quit",
        "go; rooms stay joined (Ctrl-D does the same)",
    ),
];

/// Messages that `/history` shows when no number is given.
const HISTORY: u32 = 20;

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
    let (name, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let argument = argument.trim();
    let given = (!argument.is_empty()).then_some(argument);
    let Some((name, usage, _)) = COMMANDS.into_iter().find(|command| command.0 == name) else {
        return Err(CommandError::Unknown {
            name: name.to_owned(),
            nearest: nearest(name),
        });
    };
    let incomplete = CommandError::Incomplete { usage };
    let room = |text| Target::parse(text).map_err(|error| CommandError::Room(error, usage));
    Ok(match name {
        "join" => Command::Join(room(given.ok_or(incomplete)?)?),
        "leave" => Command::Leave(given.map(room).transpose()?),
        "switch" => Command::Switch(room(given.ok_or(incomplete)?)?),
        "msg" => {
            let (who, text) = argument.split_once(char::is_whitespace).ok_or(incomplete)?;
            Command::Message(room(who)?, text.trim_start().to_owned())
        }
        "who" => Command::Who,
        "topic" => Command::Topic(given.map(str::to_owned)),
        "rooms" => Command::Rooms,
        "history" => Command::History(given.map_or(Ok(HISTORY), |text| {
            let number = text.parse().ok().filter(|n| (1..=1000).contains(n));
            number.ok_or_else(|| CommandError::Number(text.to_owned(), usage))
        })?),
        "status" => Command::Status,
        "away" => Command::Away(true),
        "back" => Command::Away(false),
        "help" => Command::Help,
        _ => Command::Quit,
    })
}

/// What `/help` shows, a line a command.
pub fn help() -> impl Iterator<Item = String> {
    let lines = COMMANDS.into_iter();
    lines.map(|(_, usage, what)| format!("{usage:<15} {what}"))
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
        .filter(|(distance, name)| *distance <= 2 && *distance < name.len())
        .min()
        .map(|(_, name)| name)
}

/// How many letters to insert, remove or replace.
fn distance(one: &str, other: &str) -> usize {
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
            ("/who", Command::Who),
            ("/topic", Command::Topic(None)),
            ("/topic on fire", Command::Topic(Some("on fire".to_owned()))),
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
