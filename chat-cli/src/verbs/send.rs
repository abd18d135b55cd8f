//! `chat send`: one message, or one for each line of standard input.
//!
//! Ids are made here. When the agent is lost, it is looked for until the timeout, and everything
//! without an answer is sent again under its id, so that it is posted once.

use crate::{
    args::{SendArgs, Wait},
    client::exit_of,
    conversation::{Conversation, Happening, Options},
    exit::{Exit, Failure, say},
    json,
    lines::{self, Line, LineError},
    outbound::{Fate, Until},
    output::Output,
    paths::Settings,
    render,
};
use protocol::{Content, MessageId, Room, limits::MAX_KEY_BYTES, local::Delivery};
use std::{collections::VecDeque, time::Duration};
use tokio::{sync::mpsc, time::sleep_until};

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(settings: &Settings, args: &SendArgs) -> Result<(), Failure> {
    if let Some(key) = &args.id
        && (key.is_empty() || key.len() > MAX_KEY_BYTES)
    {
        return Err(Failure::usage(format_args!(
            "--id has {} bytes, it must have 1 to {MAX_KEY_BYTES}",
            key.len()
        )));
    }
    let options = Options {
        reconnect: true,
        ..Options::default()
    };
    let conversation = Conversation::begin(settings, options).await?;
    let room = args.room.resolve(conversation.me());
    let mut sending = Sending {
        conversation,
        room,
        args,
        results: VecDeque::new(),
        failure: None,
        output: Output::default(),
    };
    match args.text.as_deref() {
        None | Some("-") => sending.lines(lines::stdin()).await,
        Some(text) => {
            check(text).map_err(Failure::failed)?;
            sending.say(None, text.to_owned());
            let (_, nothing) = mpsc::channel(1);
            sending.lines(nothing).await
        }
    }
}

fn check(text: &str) -> Result<(), protocol::BodyError> {
    Content::Text(text.to_owned()).encode().map(drop)
}

struct Sending<'a> {
    conversation: Conversation,
    room: Room,
    args: &'a SendArgs,
    /// What was sent, in order, as far as it is not printed.
    results: VecDeque<Sent>,
    /// The first thing that went wrong; nothing more is taken after that.
    failure: Option<Failure>,
    output: Output,
}

struct Sent {
    id: MessageId,
    /// Which line of the input, if it came from there.
    line: Option<u64>,
    state: Option<Delivery>,
    settled: bool,
}

impl Sending<'_> {
    async fn lines(
        mut self,
        mut input: mpsc::Receiver<Result<Line, LineError>>,
    ) -> Result<(), Failure> {
        let mut input_ended = false;
        loop {
            self.print_settled()?;
            let done = input_ended || self.failure.is_some();
            if done && self.conversation.outbound().is_empty() {
                return self.failure.map_or(Ok(()), Err);
            }
            let may_take = !done && self.conversation.outbound().has_room();
            let patience = Duration::from_secs(self.args.timeout);
            let deadline = self.conversation.outbound().oldest();
            let deadline = deadline.and_then(|said| said.checked_add(patience));
            tokio::select! {
                line = input.recv(), if may_take => match line {
                    Some(Ok(line)) => self.say(Some(line.number), line.text),
                    Some(Err(error)) => self.failure = Some(Failure::failed(error)),
                    None => input_ended = true,
                },
                happening = self.conversation.next() => self.on_happening(happening?),
                () = async { match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                } } => return self.give_up(),
            }
        }
    }

    fn say(&mut self, line: Option<u64>, text: String) {
        let me = self.conversation.me();
        let id = match (&self.args.id, line) {
            (None, _) => MessageId::new(),
            (Some(key), None) => MessageId::from_key(me, &self.room, key),
            (Some(key), Some(line)) => {
                MessageId::from_key(me, &self.room, &format!("{key}:{line}"))
            }
        };
        let until = match self.args.wait {
            Wait::Queued => Until::Queued,
            Wait::Committed => Until::Committed,
        };
        self.results.push_back(Sent {
            id,
            line,
            state: None,
            settled: false,
        });
        self.conversation.say(id, self.room.clone(), text, until);
    }

    fn on_happening(&mut self, happening: Happening<()>) {
        match happening {
            Happening::Fate(Fate::Queued(id)) => {
                let settled = self.args.wait == Wait::Queued;
                self.settle(id, Some(Delivery::Queued), settled);
            }
            Happening::Fate(Fate::Committed(id, state)) => {
                self.settle(id, Some(state), true);
            }
            Happening::Fate(Fate::Refused { id, reason, .. }) => {
                let line = self.settle(id, None, true);
                let what = line.map_or_else(String::new, |line| format!("line {line}: "));
                let failure = Failure::new(exit_of(&reason), format_args!("{what}{reason}"));
                if self.failure.is_none() {
                    self.failure = Some(failure);
                } else {
                    failure.report();
                }
            }
            Happening::Disconnected(reason) => say(&format!("{reason}; looking for it")),
            // Outcomes of this user's other sessions, and news for people.
            _ => {}
        }
    }

    fn settle(&mut self, id: MessageId, state: Option<Delivery>, settled: bool) -> Option<u64> {
        let sent = self.results.iter_mut().find(|sent| sent.id == id)?;
        sent.state = state;
        sent.settled = settled;
        sent.line
    }

    /// Prints, in the order of sending, what has its final state.
    fn print_settled(&mut self) -> Result<(), Failure> {
        let mut printed = false;
        while let Some(sent) = self.results.pop_front_if(|sent| sent.settled) {
            printed |= self.print(&sent)?;
        }
        if printed {
            self.output.flush()?;
        }
        Ok(())
    }

    fn print(&mut self, sent: &Sent) -> Result<bool, Failure> {
        let Some(state) = sent.state.filter(|_| self.args.json) else {
            return Ok(false);
        };
        let me = self.conversation.me();
        self.output
            .line(&json::sent(sent.id, &self.room, state, me))?;
        Ok(true)
    }

    /// The time is over: says how far each message has come.
    fn give_up(mut self) -> Result<(), Failure> {
        let up = self.conversation.is_up();
        let given_up = self.conversation.outbound_mut().abandon();
        let open = given_up.len();
        let unsure = given_up.iter().filter(|(_, queued)| !queued).count();
        while let Some(sent) = self.results.pop_front() {
            self.print(&sent)?;
        }
        self.output.flush()?;
        if let Some(failure) = self.failure {
            failure.report();
        }
        let seconds = self.args.timeout;
        if unsure == 0 {
            let open = render::count(open as u64, "message");
            return Err(Failure::new(
                Exit::NotCommitted,
                format_args!(
                    "accepted, but not committed within {seconds} s: {open}; nothing is lost, see \
                     `chat status`"
                ),
            ));
        }
        let (exit, what) = if up {
            (Exit::TimedOut, "the agent did not answer")
        } else {
            (
                Exit::Unreachable,
                "the agent was lost and did not come back",
            )
        };
        Err(Failure::new(
            exit,
            format_args!(
                "{what} within {seconds} s, so it is not known whether {} accepted; a retry under \
                 the same --id posts nothing twice",
                match unsure {
                    1 => "a message was".to_owned(),
                    _ => format!("{unsure} messages were"),
                }
            ),
        ))
    }
}
