//! What a line that a bot prints means.

use protocol::{BodyError, Content, MessageId, Room, Target, UserName};
use serde::Deserialize;
use thiserror::Error;

/// Why a line is not sent.
#[derive(Debug, Error)]
pub(super) enum AnswerError {
    /// An object, but not one that means something here.
    #[error("this object is not sent: {0}")]
    Object(String),
    /// A reaction to nothing.
    #[error("a reaction needs a \"reply_to\": no message was given yet")]
    NoMessage,
    /// No message can say it.
    #[error(transparent)]
    Body(#[from] BodyError),
}

/// The message that a program was given last.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) room: Room,
    pub(super) id: MessageId,
}

/// What a line says.
#[derive(Debug)]
pub(super) struct Answer {
    /// Messages, with the room of each.
    pub(super) contents: Vec<(Room, Content)>,
    /// Whether it is about the message that was given last. What names its room itself may be said
    /// at any time, such as a reminder.
    pub(super) is_about_last: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    room: Option<String>,
    body: Option<String>,
    reply_to: Option<String>,
    react: Option<String>,
}

/// What `line` says, and where: in the room of `last`, or in `first` before there is one.
///
/// # Errors
///
/// [`AnswerError`].
pub(super) fn parse(
    line: &str,
    last: Option<&Context>,
    first: &Room,
    me: &UserName,
) -> Result<Answer, AnswerError> {
    let here = last.map_or(first, |last| &last.room);
    let mut is_about_last = true;
    let object = line
        .starts_with('{')
        .then(|| serde_json::from_str::<Object>(line));
    let contents = match object {
        // What only begins like an object is text.
        None => text(here.clone(), line),
        Some(Err(error)) if error.is_syntax() || error.is_eof() => text(here.clone(), line),
        Some(Err(error)) => return Err(AnswerError::Object(error.to_string())),
        Some(Ok(object)) => {
            is_about_last = object.room.is_none();
            said(object, last, here, me)?
        }
    };
    for (_, content) in &contents {
        content.encode()?;
    }
    Ok(Answer {
        contents,
        is_about_last,
    })
}

fn text(room: Room, line: &str) -> Vec<(Room, Content)> {
    if line.is_empty() {
        return Vec::new();
    }
    vec![(room, Content::Text(line.to_owned()))]
}

fn said(
    object: Object,
    last: Option<&Context>,
    here: &Room,
    me: &UserName,
) -> Result<Vec<(Room, Content)>, AnswerError> {
    let bad = |error: &dyn std::error::Error| AnswerError::Object(error.to_string());
    let room = match object.room {
        Some(room) => room
            .parse::<Target>()
            .map_err(|error| bad(&error))?
            .resolve(me),
        None => here.clone(),
    };
    let about = object.reply_to.as_deref().map(str::parse::<MessageId>);
    let about = about.transpose().map_err(|error| bad(&error))?;
    let mut contents = Vec::new();
    if let Some(emoji) = object.react {
        let to = about.or_else(|| last.map(|last| last.id));
        let to = to.ok_or(AnswerError::NoMessage)?;
        let on = true;
        contents.push((room.clone(), Content::React { to, emoji, on }));
    }
    if let Some(text) = object.body {
        let content = match about {
            Some(to) => Content::Reply { to, text },
            None => Content::Text(text),
        };
        contents.push((room, content));
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "07070707-0707-0707-0707-070707070707";

    fn answers(line: &str) -> Result<Vec<(String, Content)>, String> {
        let last = Context {
            room: "#ops".parse().unwrap(),
            id: MessageId::from_bytes([9; 16]),
        };
        let first = "#first".parse().unwrap();
        parse(line, Some(&last), &first, &"alice@ada".parse().unwrap())
            .map(|said| {
                said.contents
                    .into_iter()
                    .map(|(room, content)| (room.to_string(), content))
                    .collect()
            })
            .map_err(|error| error.to_string())
    }

    fn say(room: &str, text: &str) -> (String, Content) {
        (room.to_owned(), Content::Text(text.to_owned()))
    }

    #[test]
    fn a_line_is_text_for_the_room_of_the_last_message() {
        for line in [
            "hello",
            " {\"body\":\"x\"}",
            "{ not an object",
            "{}}",
            "[1]",
        ] {
            assert_eq!(answers(line).unwrap(), [say("#ops", line)]);
        }
        assert_eq!(answers("").unwrap(), []);
        let me = "alice@ada".parse().unwrap();
        let said = parse("hi", None, &"#first".parse().unwrap(), &me).unwrap();
        assert_eq!(said.contents[0].0.as_str(), "#first");
    }

    #[test]
    fn an_object_says_more() {
        assert_eq!(answers("{}").unwrap(), []);
        assert_eq!(
            answers(r#"{"body":"a\nb"}"#).unwrap(),
            [say("#ops", "a\nb")]
        );
        assert_eq!(
            answers(r#"{"room":"bob","body":"hi"}"#).unwrap(),
            [say("alice@ada,bob@ada", "hi")]
        );
        let to = ID.parse().unwrap();
        let text = "yes".to_owned();
        let reply = format!(r#"{{"body":"yes","reply_to":"{ID}"}}"#);
        let expected = ("#ops".to_owned(), Content::Reply { to, text });
        assert_eq!(answers(&reply).unwrap(), [expected]);
        let react = |to| Content::React {
            to,
            emoji: "\u{1f44d}".to_owned(),
            on: true,
        };
        let last = MessageId::from_bytes([9; 16]);
        assert_eq!(
            answers("{\"react\":\"\u{1f44d}\"}").unwrap()[0].1,
            react(last)
        );
        let both = format!("{{\"react\":\"\u{1f44d}\",\"reply_to\":\"{ID}\",\"body\":\"x\"}}");
        let both = answers(&both).unwrap();
        assert_eq!(both.len(), 2);
        assert_eq!(both[0].1, react(to));
    }

    #[test]
    fn what_names_its_room_is_about_no_message_that_was_given() {
        let (first, me) = ("#a".parse().unwrap(), "alice@ada".parse().unwrap());
        for (line, about) in [
            ("hi", true),
            ("", true),
            ("{}", true),
            (r#"{"body":"x"}"#, true),
            (r##"{"body":"x","room":"#a"}"##, false),
        ] {
            let answer = parse(line, None, &first, &me).unwrap();
            assert_eq!(answer.is_about_last, about, "{line}");
        }
    }

    #[test]
    fn what_cannot_be_sent_is_said() {
        for (line, words) in [
            (r#"{"bodi":"x"}"#, "unknown field"),
            (r#"{"body":7}"#, "invalid type"),
            (r#"{"room":"no room","body":"x"}"#, "cannot contain"),
            (r#"{"reply_to":"7","body":"x"}"#, "not a message id"),
            (r#"{"react":"two words"}"#, "one emoji"),
            (r#"{"body":""}"#, "cannot be empty"),
        ] {
            let error = answers(line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
        let me = "alice@ada".parse().unwrap();
        let error = parse(r#"{"react":"x"}"#, None, &"#a".parse().unwrap(), &me);
        assert!(matches!(error, Err(AnswerError::NoMessage)));
    }
}
