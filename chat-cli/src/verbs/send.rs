//! `chat send`: one message, one for each line of standard input, or that as a whole.
//!
//! Ids are made here. When the agent is lost, it is looked for until the timeout, and everything
//! without an answer is sent again under its id, so that it is posted once.
//!
//! The timeout is for each message. One that is durable but not committed by then is let go, and
//! the input goes on: what is accepted comes first, that it is late is told at the end. So it is
//! with a line that is no message, which is left out.

use crate::{
    args::{SendArgs, Wait},
    client::exit_of,
    conversation::{Conversation, Happening, Options},
    exit::{Exit, Failure, say},
    json,
    lines::{self, Line, LineError, Skipped},
    news,
    outbound::{Fate, Until, WINDOW},
    output::Output,
    paths::Settings,
    render,
    wait::until_heard,
};
use protocol::{
    Availability, Content, MessageId, Room,
    local::{Delivery, LinkStatus, Reply, Request},
};
use std::{
    collections::VecDeque,
    io::{self, IsTerminal},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

/// How long the end waits to know what else should be said.
const HINT_WAIT: Duration = Duration::from_secs(2);

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(settings: &Settings, args: &SendArgs) -> Result<(), Failure> {
    if let Some(key) = &args.id {
        super::check_key(key)?;
    }
    let text = match args.text.as_deref() {
        // Read before anything is begun: what is no message fails with nothing sent.
        _ if args.whole => Some(lines::whole(io::stdin().lock()).map_err(Failure::failed)?),
        None | Some("-") => None,
        Some(text) => Some(text.to_owned()),
    };
    if let Some(text) = &text {
        check(text).map_err(Failure::failed)?;
    }
    let options = Options {
        autostart: super::may_start(settings),
        reconnect: true,
        ..Options::default()
    };
    let patience = args.timeout;
    let begun = timeout(patience, Conversation::begin(settings, options)).await;
    let conversation = begun.unwrap_or_else(|_| {
        Err(Failure::new(
            Exit::TimedOut,
            format_args!(
                "the agent at {} did not answer within {} s: nothing was sent",
                settings.socket.display(),
                args.timeout.as_secs()
            ),
        ))
    })?;
    let room = args.room.resolve(conversation.me());
    let mut sending = Sending {
        conversation,
        room,
        args,
        patience,
        results: VecDeque::new(),
        last_line: None,
        input_ended: false,
        accepted: false,
        waits: false,
        late: 0,
        skipped: Skipped::default(),
        failure: None,
        output: Output::optional(),
    };
    let input = match text {
        None => lines::stdin(),
        Some(text) => {
            sending.say(None, text);
            mpsc::channel(1).1
        }
    };
    let result = Box::pin(sending.lines(input)).await;
    let result = sending.sum_up(result);
    if sending.accepted {
        // What is not known in time is left unsaid.
        let _late = timeout(HINT_WAIT, sending.hint()).await;
    }
    sending.output.finish(result).await
}

fn check(text: &str) -> Result<(), protocol::BodyError> {
    Content::Text(text.to_owned()).encode().map(drop)
}

struct Sending<'a> {
    conversation: Conversation,
    room: Room,
    args: &'a SendArgs,
    patience: Duration,
    /// What was sent, in order, as far as it is not printed.
    results: VecDeque<Sent>,
    /// The last line of the input that was sent.
    last_line: Option<u64>,
    input_ended: bool,
    /// Whether something was accepted, and whether something of that waits for the server.
    accepted: bool,
    waits: bool,
    /// Messages that were accepted, but not committed in time.
    late: u64,
    skipped: Skipped,
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
        &mut self,
        mut input: mpsc::Receiver<Result<Line, LineError>>,
    ) -> Result<(), Failure> {
        loop {
            self.print_settled();
            let done = self.input_ended || self.failure.is_some();
            if done && self.conversation.outbound().is_empty() {
                return match self.failure.take() {
                    Some(failure) if !self.input_ended => Err(self.name_last_line(failure)),
                    Some(failure) => Err(failure),
                    None => self.skipped.result(),
                };
            }
            let mut has_room = self.has_room();
            if !has_room && !done && self.late > 0 {
                // Commits are late anyway: to accept the rest matters more than to hear of them.
                self.let_go(Instant::now());
                has_room = self.has_room();
            }
            let oldest = self.conversation.outbound().oldest();
            let deadline = oldest.and_then(|said| said.checked_add(self.patience));
            let printable = self.output.has_room();
            tokio::select! {
                line = input.recv(), if has_room && printable && !done => match line {
                    Some(Ok(line)) => self.say(Some(line.number), line.text),
                    Some(Err(error)) => {
                        if let Err(failure) = self.skipped.skip(&error) {
                            self.input_ended = true;
                            self.fail(failure);
                        }
                    }
                    None => self.input_ended = true,
                },
                happening = self.conversation.next() => self.on_happening(happening?)?,
                printed = self.output.room(), if !printable => {
                    if let Err(failure) = printed {
                        self.fail(failure);
                    }
                }
                () = until_heard(deadline) => self.on_deadline()?,
            }
        }
    }

    fn has_room(&self) -> bool {
        self.conversation.outbound().has_room() && self.results.len() < WINDOW
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
        self.last_line = line;
        self.results.push_back(Sent {
            id,
            line,
            state: None,
            settled: false,
        });
        let content = match self.args.reply_to {
            Some(to) => Content::Reply { to, text },
            None => Content::Text(text),
        };
        self.conversation.say(id, self.room.clone(), content, until);
    }

    fn on_happening(&mut self, happening: Happening<()>) -> Result<(), Failure> {
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
                self.fail(Failure::new(
                    exit_of(&reason),
                    format_args!("{what}{reason}"),
                ));
            }
            happening => news::tell(happening, self.conversation.me())?,
        }
        Ok(())
    }

    fn settle(&mut self, id: MessageId, state: Option<Delivery>, settled: bool) -> Option<u64> {
        let sent = self.results.iter_mut().find(|sent| sent.id == id)?;
        sent.state = state;
        sent.settled = settled;
        self.accepted |= state.is_some();
        self.waits |= settled && state == Some(Delivery::Queued);
        sent.line
    }

    fn fail(&mut self, failure: Failure) {
        if self.failure.is_none() {
            self.failure = Some(failure);
        } else {
            failure.report();
        }
    }

    /// Prints, in the order of sending, what has its final state.
    fn print_settled(&mut self) {
        while let Some(sent) = self.results.pop_front_if(|sent| sent.settled) {
            self.print(&sent);
        }
    }

    fn print(&mut self, sent: &Sent) {
        if let Some(state) = sent.state.filter(|_| self.args.json) {
            let line = json::sent(sent.id, &self.room, state, self.conversation.me());
            if let Err(failure) = self.output.line(&line) {
                self.fail(failure);
            }
        }
    }

    /// Waits no longer for what was said by `then` and is durable.
    fn let_go(&mut self, then: Instant) {
        for id in self.conversation.outbound_mut().let_go(then) {
            self.late += 1;
            self.settle(id, Some(Delivery::Queued), true);
        }
    }

    /// The time of the oldest message is over; fails if it was not even accepted.
    fn on_deadline(&mut self) -> Result<(), Failure> {
        let Some(due) = Instant::now().checked_sub(self.patience) else {
            return Ok(());
        };
        self.let_go(due);
        match self.conversation.outbound().oldest() {
            Some(said) if said <= due => Err(self.not_accepted()),
            _ => Ok(()),
        }
    }

    fn not_accepted(&mut self) -> Failure {
        let seconds = self.args.timeout.as_secs();
        let (exit, what) = if self.conversation.is_up() {
            (Exit::TimedOut, "the agent did not answer")
        } else {
            (
                Exit::Unreachable,
                "the agent was lost and did not come back",
            )
        };
        let mut results = self.results.iter();
        let unsure = results.find(|sent| sent.state.is_none() && !sent.settled);
        let extent = match unsure.and_then(|sent| sent.line).zip(self.last_line) {
            None => "it is not known whether the message was accepted".to_owned(),
            Some((unsure, last)) => {
                let lines = if unsure == last {
                    format!("line {unsure}")
                } else {
                    format!("lines {unsure} to {last}")
                };
                let extent = format!("accepted up to line {}; not known of {lines}", unsure - 1);
                if self.input_ended {
                    extent
                } else {
                    format!("{extent}; line {} on was not sent", last + 1)
                }
            }
        };
        let message = format!(
            "{what} within {seconds} s: {extent}; a retry under the same --id posts nothing twice"
        );
        match self.failure.take() {
            Some(failure) => {
                say(&message);
                failure
            }
            None => Failure::new(exit, message),
        }
    }

    fn name_last_line(&self, failure: Failure) -> Failure {
        match self.last_line {
            Some(line) if !failure.message.is_empty() => Failure::new(
                failure.exit,
                format_args!("{failure}; line {} on was not sent", line + 1),
            ),
            _ => failure,
        }
    }

    /// Says what the sender may not expect: that there is no server, or nobody who could read it.
    async fn hint(&mut self) {
        let me = self.conversation.me().clone();
        let name = self.room.seen_by(&me);
        let is_local = self.room.is_local_to(&me.host);
        // Somebody who reads it may look for another room; a script does not need the question.
        let asks_who = match &self.room {
            Room::Direct(_) => is_local,
            Room::Federated(_) | Room::Local(_) => io::stderr().is_terminal(),
        };
        if !is_local && (self.waits || asks_who) {
            let Some(Reply::Status(status)) = self.ask(Request::Status).await else {
                return;
            };
            if status.link == LinkStatus::LocalOnly {
                say("this host has no server: kept here until `chat join HOST` names one");
            }
            if !matches!(status.link, LinkStatus::Online { .. }) {
                return;
            }
        }
        if !asks_who {
            return;
        }
        let request = Request::Who {
            room: self.room.clone(),
            after: None,
        };
        let Some(Reply::Members { members, .. }) = self.ask(request).await else {
            return;
        };
        let mut others = members.iter().filter(|member| member.user != me);
        match (&self.room, others.next()) {
            (Room::Direct(_), Some(other)) if other.availability == Availability::Unknown => {
                say(&format!(
                    "nobody called {name} has been on this host yet: it waits for them (`chat \
                     who ROOM` lists who is in a room)"
                ));
            }
            (Room::Federated(_) | Room::Local(_), None) => {
                say(&format!(
                    "nobody else is in {name}: `chat rooms` lists all rooms"
                ));
            }
            _ => {}
        }
    }

    async fn ask(&mut self, request: Request) -> Option<Reply> {
        self.conversation.ask((), request);
        loop {
            if let Happening::Answer((), answer) = self.conversation.next().await.ok()? {
                return answer?.ok();
            }
        }
    }

    /// Prints how far the rest has come; a failure counts for more than what is merely late.
    fn sum_up(&mut self, result: Result<(), Failure>) -> Result<(), Failure> {
        self.let_go(Instant::now());
        while let Some(sent) = self.results.pop_front() {
            self.print(&sent);
        }
        let result = result.and_then(|()| self.failure.take().map_or(Ok(()), Err));
        if self.late == 0 {
            return result;
        }
        let late = format!(
            "accepted, but not committed within {} s: {}; nothing of that is lost, see `chat pending`",
            self.args.timeout.as_secs(),
            render::count(self.late, "message"),
        );
        match result {
            Ok(()) => Err(Failure::new(Exit::NotCommitted, late)),
            Err(failure) => {
                say(&late);
                Err(failure)
            }
        }
    }
}
