//! `chat request`: a message, and the first reply to it.

use crate::{
    args::RequestArgs,
    client::exit_of,
    conversation::{Conversation, Happening, Options},
    exit::{Exit, Failure},
    json, news,
    outbound::{Fate, Until},
    output::Output,
    paths::Settings,
    render,
    wait::until_heard,
};
use protocol::{Content, MessageId, local::From};
use tokio::time::Instant;

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(settings: &Settings, args: &RequestArgs) -> Result<(), Failure> {
    let content = Content::Text(args.text.clone());
    content.encode().map_err(Failure::failed)?;
    let deadline = Instant::now().checked_add(args.timeout);
    let mut request = Request {
        args,
        stage: Stage::Connecting,
    };
    tokio::select! {
        result = Box::pin(request.run(settings, content)) => result,
        () = until_heard(deadline) => Err(request.timed_out()),
    }
}

struct Request<'a> {
    args: &'a RequestArgs,
    stage: Stage,
}

/// How far the message has come.
enum Stage {
    Connecting,
    Said,
    Lost,
    Queued,
    Committed,
}

impl Request<'_> {
    async fn run(&mut self, settings: &Settings, content: Content) -> Result<(), Failure> {
        let options = Options {
            autostart: super::may_start(settings),
            reconnect: true,
            ..Options::default()
        };
        let mut talk: Conversation = Conversation::begin(settings, options).await?;
        let me = talk.me().clone();
        let room = self.args.room.resolve(&me);
        let id = MessageId::new();
        let mut content = Some(content);
        talk.read(room.clone(), From::Newest(0));
        loop {
            match talk.next().await? {
                // Not before, or the reply could be missed.
                Happening::Opened { .. } => {
                    if let Some(content) = content.take() {
                        talk.say(id, room.clone(), content, Until::Committed);
                        self.stage = Stage::Said;
                    }
                }
                Happening::Message(message) => {
                    let text = match message.body.decode() {
                        Ok(Content::Reply { to, text }) if to == id => text,
                        _ => continue,
                    };
                    let line = if self.args.json {
                        let at = talk.follow().reached(&message.room);
                        let cursor = at.map_or_else(|| "0".to_owned(), |at| at.to_string());
                        let live = talk.follow().is_caught_up(&message.room);
                        json::read(&message, &me, cursor, live)
                    } else {
                        render::lines(&text, 0)
                    };
                    let mut output = Output::default();
                    output.line(&line)?;
                    return output.finish(Ok(())).await;
                }
                Happening::Fate(Fate::Queued(_)) => self.stage = Stage::Queued,
                Happening::Fate(Fate::Committed(..)) => self.stage = Stage::Committed,
                Happening::Fate(Fate::Refused { reason, .. }) => {
                    return Err(Failure::new(exit_of(&reason), reason));
                }
                happening => {
                    match (&happening, &self.stage) {
                        (Happening::Disconnected(_), Stage::Said) => self.stage = Stage::Lost,
                        (Happening::Reconnected, Stage::Lost) => self.stage = Stage::Said,
                        _ => {}
                    }
                    news::tell(happening, &me)?;
                }
            }
        }
    }

    fn timed_out(&self) -> Failure {
        let (exit, what) = match self.stage {
            Stage::Connecting => (Exit::TimedOut, "nothing was sent: the agent did not answer"),
            Stage::Said => (
                Exit::TimedOut,
                "it is not known whether the message was accepted: the agent did not answer",
            ),
            Stage::Lost => (
                Exit::Unreachable,
                "it is not known whether the message was accepted: the agent did not come back",
            ),
            Stage::Queued => (
                Exit::NotCommitted,
                "the message was accepted, but neither committed nor answered",
            ),
            Stage::Committed => (Exit::TimedOut, "nobody replied"),
        };
        let seconds = self.args.timeout.as_secs();
        Failure::new(exit, format_args!("{what} within {seconds} s"))
    }
}
