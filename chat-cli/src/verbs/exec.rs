//! `chat exec`: runs a command and posts what it prints and how it ended.
//!
//! The command comes first: it runs to its end whether or not the room takes what it prints, is
//! not held up by that, and its exit code is this one's.

mod command;
mod grouping;

use crate::{
    args::ExecArgs,
    conversation::{Conversation, Happening, Options},
    ends::Ends,
    exit::{Failure, say},
    news,
    outbound::{Fate, Until},
    output::Output,
    paths::Settings,
    render,
    wait::until,
};
use command::Running;
use grouping::Grouping;
use protocol::{Content, MessageId, Room};
use std::{future::pending, process::ExitStatus};
use tokio::time::{Instant, timeout};

/// Bytes taken from the command at once.
const READ_BYTES: usize = 16 * 1024;

/// Runs the verb; the exit code is the command's.
///
/// # Errors
///
/// [`Failure`] if the command was not even tried.
pub async fn run(settings: &Settings, args: &ExecArgs) -> Result<u8, Failure> {
    if let Some(key) = &args.id {
        super::check_key(key)?;
    }
    let mut ends = Ends::take()?;
    let mut posts = Posts::begin(settings, args).await;
    let began = Instant::now();
    let (code, verdict) = match command::start(&args.command) {
        Ok(running) => {
            let mut output = Output::optional();
            let status = attend(running, &mut posts, &mut output, &mut ends).await?;
            output.finish(Ok(())).await?;
            let verdict = command::verdict(&args.command, status, began.elapsed());
            (command::code(status), verdict)
        }
        Err(error) => {
            let verdict = command::not_run(&args.command, &error);
            say(&verdict);
            (command::code_of_error(&error), verdict)
        }
    };
    tokio::select! {
        () = posts.end(verdict) => {}
        // The command has ended; so whoever asks now means this.
        _ = ends.next() => {}
    }
    Ok(code)
}

/// Copies and posts what the command prints, until it has ended.
async fn attend(
    mut running: Running,
    posts: &mut Posts<'_>,
    output: &mut Output,
    ends: &mut Ends,
) -> Result<ExitStatus, Failure> {
    let mut buffer = vec![0; READ_BYTES];
    let mut open = true;
    loop {
        posts.post(false);
        let full = !output.has_room();
        tokio::select! {
            ready = running.output.readable(), if open && !full => {
                ready.map_err(|error| Failure::failed(format_args!("the pipe: {error}")))?;
                match running.output.try_read(&mut buffer) {
                    Ok(0) => open = false,
                    Ok(count) => take(&buffer[..count], posts, output)?,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(error) => {
                        return Err(Failure::failed(format_args!("the pipe: {error}")));
                    }
                }
            }
            room = output.room(), if full => room?,
            // Not before what it printed is taken.
            status = running.child.wait(), if !full => {
                let status = status.map_err(|error| {
                    Failure::failed(format_args!("the command cannot be waited for: {error}"))
                })?;
                let mut rest = Ok(());
                command::drain(&running.output, |bytes| {
                    if rest.is_ok() {
                        rest = take(bytes, posts, output);
                    }
                })?;
                return rest.map(|()| status);
            }
            signal = ends.next() => command::pass_on(&running.child, signal),
            () = posts.progress() => {}
        }
    }
}

fn take(bytes: &[u8], posts: &mut Posts<'_>, output: &mut Output) -> Result<(), Failure> {
    posts.grouping.push(bytes, Instant::now());
    output.bytes(bytes)
}

/// Messages on their way to the room, as far as there is one.
struct Posts<'a> {
    args: &'a ExecArgs,
    talk: Option<(Box<Conversation>, Room)>,
    grouping: Grouping,
    /// Messages so far.
    count: u64,
    /// Messages that were not taken.
    refused: u64,
}

impl<'a> Posts<'a> {
    async fn begin(settings: &Settings, args: &'a ExecArgs) -> Self {
        let options = Options {
            autostart: super::may_start(settings),
            reconnect: true,
            ..Options::default()
        };
        let begun = timeout(args.timeout, Conversation::begin(settings, options)).await;
        let talk = match begun {
            Ok(Ok(talk)) => {
                let room = args.room.resolve(talk.me());
                Some((Box::new(talk), room))
            }
            Ok(Err(failure)) => {
                say(&format!("nothing is posted: {failure}"));
                None
            }
            Err(_) => {
                say("nothing is posted: the agent did not answer in time");
                None
            }
        };
        Self {
            args,
            talk,
            grouping: Grouping::default(),
            count: 0,
            refused: 0,
        }
    }

    /// Sends what is due, as far as there is room.
    fn post(&mut self, ended: bool) {
        let now = Instant::now();
        while self
            .talk
            .as_ref()
            .is_none_or(|(talk, _)| talk.outbound().has_room())
            && let Some(text) = self.grouping.take(now, ended)
        {
            self.count += 1;
            self.say(&self.count.to_string(), text);
        }
    }

    fn say(&mut self, part: &str, text: String) {
        let Some((talk, room)) = &mut self.talk else {
            return;
        };
        let id = match &self.args.id {
            None => MessageId::new(),
            Some(key) => MessageId::from_key(talk.me(), room, &format!("{key}:{part}")),
        };
        talk.say(id, room.clone(), Content::Text(text), Until::Queued);
    }

    /// Waits until more can or must be posted.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    async fn progress(&mut self) {
        let Some((talk, room)) = &mut self.talk else {
            return pending().await;
        };
        // What is due but finds no room waits for an answer.
        let due = self.grouping.due().filter(|_| talk.outbound().has_room());
        let happening = tokio::select! {
            happening = talk.next() => happening,
            () = until(due) => return,
        };
        let happening = match happening {
            Ok(Happening::Fate(Fate::Refused { reason, .. })) => {
                self.refused += 1;
                if self.refused == 1 {
                    let name = room.seen_by(talk.me());
                    say(&format!("{name} does not take this: {reason}"));
                }
                return;
            }
            happening => happening,
        };
        let told = happening.and_then(|happening| news::tell(happening, talk.me()));
        if let Err(failure) = told {
            say(&format!("nothing more is posted: {failure}"));
            self.talk = None;
        }
    }

    /// Posts the rest and how it ended, and waits until that is accepted.
    async fn end(mut self, verdict: String) {
        let patience = self.args.timeout;
        let accepted = async {
            let mut verdict = Some(verdict);
            loop {
                self.post(true);
                if self.grouping.is_empty()
                    && let Some(verdict) = verdict.take()
                {
                    self.say("end", verdict);
                }
                let settled = |(talk, _): &(Box<Conversation>, Room)| talk.outbound().is_empty();
                if verdict.is_none() && self.talk.as_ref().is_none_or(settled) {
                    return;
                }
                self.progress().await;
            }
        };
        let in_time = timeout(patience, accepted).await.is_ok();
        if !in_time && let Some((talk, _)) = &self.talk {
            let unsure = talk.outbound().unaccepted() as u64;
            say(&format!(
                "it is not known whether the last {} were accepted",
                render::count(unsure, "message")
            ));
        }
        if self.refused > 1 {
            let refused = render::count(self.refused, "message");
            say(&format!("{refused} were not taken"));
        }
    }
}
