//! `chat wait`: until a message comes that is like this.

use crate::{
    args::WaitArgs,
    conversation::{Conversation, Happening, Options},
    exit::{Exit, Failure},
    json, news,
    output::Output,
    paths::Settings,
    render::{Setting, Style},
    since::{NotBefore, Since},
    wait::until_heard,
};
use protocol::{
    Committed, Content,
    local::{Author, From},
};
use std::{io::IsTerminal, time::Duration};
use tokio::time::Instant;

/// How long a lost agent is looked for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(settings: &Settings, args: &WaitArgs) -> Result<(), Failure> {
    let deadline = args
        .timeout
        .and_then(|timeout| Instant::now().checked_add(timeout));
    tokio::select! {
        result = Box::pin(wait(settings, args)) => result,
        () = until_heard(deadline) => Err(Failure::new(
            Exit::TimedOut,
            format_args!(
                "no such message came within {} s",
                args.timeout.unwrap_or_default().as_secs()
            ),
        )),
    }
}

async fn wait(settings: &Settings, args: &WaitArgs) -> Result<(), Failure> {
    let options = Options {
        autostart: super::may_start(settings),
        reconnect: true,
        patience: Some(PATIENCE),
        ..Options::default()
    };
    let mut talk: Conversation = Conversation::begin(settings, options).await?;
    let me = talk.me().clone();
    let room = args.room.resolve(&me);
    let since = args.since.as_ref();
    let mut not_before = since.map_or_else(NotBefore::default, Since::bound);
    let from = since.map_or(From::Newest(0), |since| since.of(&room));
    talk.read(room, from);
    loop {
        let message = match talk.next().await? {
            Happening::Message(message) => message,
            happening => {
                news::tell(happening, &me)?;
                continue;
            }
        };
        let Some(at) = talk.follow().reached(&message.room) else {
            continue;
        };
        if !not_before.admits(&message) || !is_meant(&message, args) {
            continue;
        }
        let line = if args.json {
            let live = talk.follow().is_caught_up(&message.room);
            json::read(&message, &me, at.to_string(), live)
        } else {
            Style::detect(std::io::stdout().is_terminal()).message(&message, &me, Setting::DATED)
        };
        let mut output = Output::default();
        output.line(&line)?;
        return output.finish(Ok(())).await;
    }
}

fn is_meant(message: &Committed, args: &WaitArgs) -> bool {
    let by = match &args.from {
        None => true,
        Some(Author::Nick(nick)) => message.author.nick == *nick,
        Some(Author::User(user)) => message.author == *user,
    };
    let says = match &args.pattern {
        None => true,
        Some(pattern) => match message.body.decode() {
            Ok(Content::Text(text) | Content::Action(text) | Content::Reply { text, .. }) => {
                pattern.is_match(&text)
            }
            _ => false,
        },
    };
    by && says
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        args::{Cli, Verb},
        sample::message,
    };
    use clap::Parser;
    use protocol::MessageId;

    fn is_meant_by(flags: &[&str], message: &Committed) -> bool {
        let line = [&["chat", "wait", "#ops"], flags].concat();
        let Some(Verb::Wait(args)) = Cli::try_parse_from(line).unwrap().verb else {
            panic!("{flags:?}");
        };
        is_meant(message, &args)
    }

    #[test]
    fn everything_given_must_hold() {
        let said = message("#ops", 1, "bob@bee", "build 7: ok");
        for (flags, meant) in [
            (&[][..], true),
            (&["--match", "^build [0-9]+: ok$"], true),
            (&["--match", "failed"], false),
            (&["--from", "bob"], true),
            (&["--from", "bob@bee"], true),
            (&["--from", "bob@ada"], false),
            (&["--from", "alice", "--match", "ok"], false),
            (&["--from", "bob", "--match", "ok"], true),
        ] {
            assert_eq!(is_meant_by(flags, &said), meant, "{flags:?}");
        }
    }

    #[test]
    fn only_what_was_said_is_looked_at() {
        let about = MessageId::from_bytes([9; 16]);
        let text = "ok".to_owned();
        let mut said = message("#ops", 1, "bob@bee", "x");
        for (content, meant) in [
            (Content::Action(text.clone()), true),
            (
                Content::Reply {
                    to: about,
                    text: text.clone(),
                },
                true,
            ),
            (Content::Edit { of: about, text }, false),
            (Content::Delete { of: about }, false),
        ] {
            said.body = content.encode().unwrap();
            assert_eq!(is_meant_by(&["--match", "ok"], &said), meant, "{content:?}");
        }
    }
}
