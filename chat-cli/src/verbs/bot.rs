//! `chat bot`: a program that is given messages and answers them.
//!
//! Two conversations with the agent: one reads, and stops reading while the program has enough to
//! do; the other says what the program answers and tells the agent how far it has come, and never
//! stops. So a program that is slow holds up nobody, and cannot wait for what waits for it.
//!
//! At least once: what a program was not done with when it died is given to the next; see `feed`.

mod answer;
mod backoff;
mod feed;
mod process;

use crate::{
    args::BotArgs,
    bounded::Line,
    consumer::{Ask, Consumer, Talk},
    conversation::{Conversation, Happening, Options},
    ends::Ends,
    exit::{Failure, say},
    json, news,
    outbound::{Fate, Until},
    paths::Settings,
    since::{NotBefore, Since},
    wait::until,
};
use answer::Context;
use backoff::Backoff;
use feed::Feed;
use process::{Deed, Process};
use protocol::{
    Committed, ConsumerName, Cursor, MessageId, Room, UserName, limits::MAX_CONSUMER_BYTES,
    local::From,
};
use rustix::process::Signal;
use std::{collections::BTreeSet, ffi::OsStr, future::pending, path::Path, time::Duration};
use tokio::time::{Instant, timeout};

/// How long the program has to end by itself, and again after SIGTERM.
const GRACE: Duration = Duration::from_secs(3);

/// How long what it said last may take to be accepted.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(settings: &Settings, args: &BotArgs) -> Result<(), Failure> {
    let program = args.command.first().map(|word| file_name(word));
    let program = program.unwrap_or_default();
    let name = match &args.name {
        Some(name) => name.clone(),
        None => default_name(&program)?,
    };
    let mut ends = Ends::take()?;
    let options = Options {
        autostart: super::may_start(settings),
        reconnect: true,
        ..Options::default()
    };
    let begin = async {
        let voice = Talk::begin(settings, options).await?;
        let ears = Conversation::begin(settings, options).await?;
        Ok::<_, Failure>((voice, ears))
    };
    let (voice, ears) = tokio::select! {
        begun = Box::pin(begin) => begun?,
        _ = ends.next() => return Ok(()),
    };
    let me = voice.me().clone();
    let first = args.rooms[0].resolve(&me);
    let since = args.since.as_ref();
    let mut bot = Bot {
        args,
        program,
        rooms: args.rooms.iter().map(|room| room.resolve(&me)).collect(),
        first,
        me,
        consumer: Consumer::new(name),
        voice,
        ears,
        new: BTreeSet::new(),
        not_before: since.map_or_else(NotBefore::default, Since::bound),
        feed: Feed::default(),
        process: None,
        start_at: None,
        backoff: Backoff::default(),
    };
    bot.start(true)?;
    let result = Box::pin(bot.serve(&mut ends)).await;
    Box::pin(bot.stop(&mut ends)).await;
    result
}

fn file_name(word: &OsStr) -> String {
    let name = Path::new(word).file_name().unwrap_or(word);
    name.to_string_lossy().into_owned()
}

/// `bot.` and the program's name, with `_` for what no consumer's name has.
fn default_name(program: &str) -> Result<ConsumerName, Failure> {
    let mut name = String::from("bot.");
    for c in program.chars() {
        let fits = c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.len() < MAX_CONSUMER_BYTES {
            name.push(if fits { c } else { '_' });
        }
    }
    ConsumerName::parse(&name)
        .map_err(|error| Failure::usage(format_args!("{name}: {error}; give it a --name")))
}

struct Bot<'a> {
    args: &'a BotArgs,
    /// What its program is called in what is said of it.
    program: String,
    rooms: BTreeSet<Room>,
    first: Room,
    me: UserName,
    consumer: Consumer,
    voice: Talk,
    ears: Conversation,
    /// Rooms where it is for the first time: where it begins is where it is.
    new: BTreeSet<Room>,
    not_before: NotBefore,
    feed: Feed,
    process: Option<Process>,
    start_at: Option<Instant>,
    backoff: Backoff,
}

impl Bot<'_> {
    /// Goes on until somebody ends it.
    async fn serve(&mut self, ends: &mut Ends) -> Result<(), Failure> {
        self.consumer
            .look_up(&mut self.voice, self.rooms.iter().cloned());
        loop {
            self.give();
            self.confirm();
            let full = self.feed.is_full();
            let listen = self.voice.outbound().has_room();
            tokio::select! {
                _ = ends.next() => return Ok(()),
                happening = self.voice.next() => self.on_said(happening?)?,
                happening = self.ears.progress(full) => self.on_heard(happening?)?,
                deed = next_deed(&mut self.process, listen) => self.on_deed(deed, false),
                () = until(self.start_at) => self.start(false)?,
                () = until(self.consumer.held_until()) => {}
            }
        }
    }

    /// Starts the program; that it cannot be run is the end only at the beginning.
    fn start(&mut self, first: bool) -> Result<(), Failure> {
        self.start_at = None;
        match Process::start(&self.args.command) {
            Ok(process) => self.process = Some(process),
            Err(error) => {
                let message = format!("{} cannot be run: {error}", self.program);
                if first {
                    return Err(Failure::failed(message));
                }
                self.try_again(&message, Duration::ZERO);
            }
        }
        Ok(())
    }

    fn try_again(&mut self, why: &str, lived: Duration) {
        let wait = self.backoff.after(lived);
        let seconds = wait.as_secs_f64();
        say(&format!("{why}; starting it again in {seconds:.1} s"));
        self.start_at = Some(Instant::now() + wait);
    }

    /// Gives the program the next message, if it is free for that.
    fn give(&mut self) {
        if let Some(process) = &mut self.process
            && process.is_free()
            && !self.feed.is_giving()
            && let Some(line) = self.feed.give()
        {
            process.give(line);
        }
    }

    fn confirm(&mut self) {
        for (room, at) in self.feed.done() {
            self.consumer.done(room, at);
        }
        self.consumer.confirm(&mut self.voice);
    }

    fn on_said(&mut self, happening: Happening<Ask>) -> Result<(), Failure> {
        match happening {
            Happening::Answer(ask, answer) => {
                if let Some((room, was)) = self.consumer.on_answer(ask, answer)? {
                    self.read(room, was);
                }
            }
            Happening::Fate(Fate::Refused { reason, room, .. }) => {
                let room = room.seen_by(&self.me);
                say(&format!(
                    "{room} does not take what {} says: {reason}",
                    self.program
                ));
            }
            Happening::Reconnected => self.consumer.on_reconnected(&mut self.voice),
            happening => news::tell(happening, &self.me)?,
        }
        Ok(())
    }

    fn read(&mut self, room: Room, was: Option<Cursor>) {
        let from = match (was, &self.args.since) {
            (Some(cursor), _) => From::After(cursor),
            (None, Some(since)) => since.of(&room),
            (None, None) => From::Newest(0),
        };
        if was.is_none() {
            self.new.insert(room.clone());
        } else {
            self.not_before.lift(room.clone());
        }
        self.ears.read(room, from);
    }

    fn on_heard(&mut self, happening: Happening<()>) -> Result<(), Failure> {
        match happening {
            Happening::Message(message) => self.on_message(&message),
            Happening::Opened { room, .. } => {
                // So that what comes from now on is not missed if it is killed before that.
                if self.new.remove(&room)
                    && let Some(at) = self.ears.follow().reached(&room)
                {
                    self.consumer.done(room, at);
                }
            }
            Happening::OpenRefused(room, refusal) => {
                self.consumer.on_refused(&mut self.ears, room, &refusal)?;
            }
            // The other conversation tells the same.
            Happening::Disconnected(_) | Happening::NotStarted(_) => {}
            happening => news::tell(happening, &self.me)?,
        }
        Ok(())
    }

    fn on_message(&mut self, message: &Committed) {
        let follow = self.ears.follow();
        let Some(at) = follow.reached(&message.room) else {
            return;
        };
        if !self.not_before.admits(message) || !self.hears(message) {
            return self.feed.pass(message.room.clone(), at);
        }
        let live = follow.is_caught_up(&message.room);
        let line = json::read(message, &self.me, at.to_string(), live);
        let context = Context {
            room: message.room.clone(),
            id: message.id,
        };
        self.feed.push(line, context, at);
    }

    /// Whether a message is for the program: not what bots say, or they would answer each other
    /// for ever, and never what a bot of the same user says, which may be itself.
    fn hears(&self, message: &Committed) -> bool {
        !message.id.is_by_bot() || (self.args.hear_bots && message.author != self.me)
    }

    fn on_deed(&mut self, deed: std::io::Result<Deed>, stopping: bool) {
        match deed {
            Ok(Deed::CameBack) => self.feed.on_back(),
            Ok(Deed::Took) => {}
            Ok(Deed::Said(line)) => self.on_line(line),
            Ok(Deed::Complained(line)) => {
                let more = if line.cut { "\u{2026}" } else { "" };
                say(&format!("{}: {}{more}", self.program, line.text));
            }
            Ok(Deed::Ended(status)) => {
                // Whoever ends with the end of its input has worked that off.
                let success = status.success() || (stopping && status.code().is_some());
                self.on_end(success);
                if !stopping {
                    let lived = self.lived();
                    self.try_again(&format!("{} ended with {status}", self.program), lived);
                }
                self.process = None;
            }
            Err(error) => {
                say(&format!(
                    "{}: its pipes cannot be used: {error}",
                    self.program
                ));
                self.on_end(false);
                self.try_again(&format!("{} is ended", self.program), Duration::ZERO);
                if let Some(process) = self.process.take() {
                    process.signal(Signal::KILL);
                }
            }
        }
    }

    fn lived(&self) -> Duration {
        let process = self.process.as_ref();
        process.map_or(Duration::ZERO, |process| process.began.elapsed())
    }

    fn on_end(&mut self, success: bool) {
        if let Some(item) = self.feed.on_end(success) {
            say(&format!(
                "{} died three times over message {} of {}, which is left out",
                self.program,
                item.context.id,
                item.context.room.seen_by(&self.me)
            ));
        }
    }

    fn on_line(&mut self, line: Line) {
        if line.cut {
            self.feed.on_answer();
            return say(&format!(
                "{}: a line of more than {} bytes is not sent",
                self.program,
                line.text.len()
            ));
        }
        let answer = answer::parse(&line.text, self.feed.last(), &self.first, &self.me);
        if answer.as_ref().map_or(true, |answer| answer.is_about_last) {
            self.feed.on_answer();
        }
        match answer {
            Ok(answer) => {
                for (room, content) in answer.contents {
                    let id = MessageId::new_by_bot();
                    self.voice.say(id, room, content, Until::Queued);
                }
            }
            Err(error) => say(&format!("{}: {error}", self.program)),
        }
    }

    /// Ends the program in order, and waits until what it said is accepted.
    async fn stop(&mut self, ends: &mut Ends) {
        let mut hurry = None;
        for signal in [None, Some(Signal::TERM), Some(Signal::KILL)] {
            let Some(process) = &mut self.process else {
                break;
            };
            match signal {
                // What it is being given is worked off yet.
                None if process.is_taking() => {}
                None => process.close(),
                Some(signal) => {
                    process.close();
                    process.signal(hurry.unwrap_or(signal));
                }
            }
            tokio::select! {
                _ = timeout(GRACE, self.until_ended()) => {}
                // Asked twice.
                _ = ends.next(), if hurry.is_none() => hurry = Some(Signal::KILL),
            }
        }
        let settled = async {
            self.confirm();
            while !(self.voice.outbound().is_empty() && self.consumer.is_settled()) {
                match self.voice.next().await {
                    Ok(happening) => self.on_said(happening)?,
                    Err(failure) => return Err(failure),
                }
                self.confirm();
            }
            Ok(())
        };
        match timeout(LAST_WORDS, settled).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => failure.report(),
            Err(_) => say("the agent did not accept what was said last"),
        }
    }

    async fn until_ended(&mut self) {
        while let Some(process) = &mut self.process {
            if !process.is_taking() {
                process.close();
            }
            let listen = self.voice.outbound().has_room();
            tokio::select! {
                happening = self.voice.next() => {
                    if let Err(failure) = happening.and_then(|happening| self.on_said(happening)) {
                        failure.report();
                        return;
                    }
                }
                deed = next_deed(&mut self.process, listen) => self.on_deed(deed, true),
            }
        }
    }
}

/// Never, without a program.
async fn next_deed(process: &mut Option<Process>, listen: bool) -> std::io::Result<Deed> {
    match process {
        Some(process) => process.next(listen).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bot_is_called_after_its_program() {
        for (word, name) in [
            ("./remind.sh", "bot.remind.sh"),
            ("/usr/bin/my bot:é", "bot.my_bot__"),
            ("/", "bot._"),
        ] {
            let program = file_name(OsStr::new(word));
            assert_eq!(default_name(&program).unwrap().as_str(), name);
        }
        assert!(default_name(&"x".repeat(500)).is_ok());
    }
}
