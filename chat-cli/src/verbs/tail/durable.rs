//! `chat tail --durable`: what of the printed lines the agent is told.
//!
//! A line counts when whoever reads standard output has taken it: when it is not in the pipe any
//! more. (Of a file or a socket, when it is written.) So a reader that is killed gets again what
//! it had not read, and what it had read but not worked off is lost to it: for that there is
//! `--confirm-stdin`, where the reader writes the cursors of what it is done with, and nothing
//! counts by itself.

use crate::{
    args::TailArgs,
    consumer::{Ask, Consumer, Talk},
    conversation::Happening,
    exit::{Failure, say},
    lines::{self, Line, LineError},
    output::Output,
    wait::until,
};
use protocol::{ResumePoint, Room};
use std::{collections::BTreeSet, future::pending, time::Duration};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

/// How often a pipe is looked into: nobody is told when its reader takes something.
const LOOK: Duration = Duration::from_millis(50);

/// How long the agent has in the end to take what it is told.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How long what is being printed may take to be in the pipe, if that has room.
const WRITING: Duration = Duration::from_millis(200);

pub(super) struct Durable {
    pub(super) consumer: Consumer,
    rooms: BTreeSet<Room>,
    /// What the reader says it is done with, if it is to say so.
    input: Option<mpsc::Receiver<Result<Line, LineError>>>,
    input_ended: bool,
}

impl Durable {
    /// If `args` ask for it.
    pub(super) fn new(args: &TailArgs) -> Option<Self> {
        let name = args.durable.clone()?;
        Some(Self {
            consumer: Consumer::new(name),
            rooms: BTreeSet::new(),
            input: args.confirm_stdin.then(lines::stdin),
            input_ended: false,
        })
    }

    pub(super) fn begin(&mut self, talk: &mut Talk, rooms: BTreeSet<Room>) {
        self.consumer.look_up(talk, rooms.iter().cloned());
        self.rooms = rooms;
    }

    /// Whether the reader says itself what it is done with.
    pub(super) const fn is_explicit(&self) -> bool {
        self.input.is_some()
    }

    /// Whether the reader has said that it wants no more.
    pub(super) const fn is_over(&self) -> bool {
        self.input_ended
    }

    /// Notes a line that ends `output` so far.
    pub(super) fn give(&mut self, output: &Output, room: Room, at: protocol::Cursor) {
        if !self.is_explicit() {
            self.consumer.give(output.printed(), room, at);
        }
    }

    /// Tells the agent what it can be told by now.
    pub(super) fn confirm(&mut self, talk: &mut Talk, output: &Output) {
        if self.consumer.is_waiting() {
            self.consumer.take(output.taken());
        }
        self.consumer.confirm(talk);
    }

    /// Waits until there may be more to tell.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the reader says what is no cursor.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn news(&mut self) -> Result<(), Failure> {
        let waiting = self.consumer.is_waiting();
        let held = self.consumer.held_until();
        let line = tokio::select! {
            line = next_line(&mut self.input), if !self.input_ended => line,
            () = sleep(LOOK), if waiting => return Ok(()),
            () = until(held) => return Ok(()),
        };
        self.take_line(line)
    }

    fn take_line(&mut self, line: Option<Result<Line, LineError>>) -> Result<(), Failure> {
        let line = match line {
            None => {
                self.input_ended = true;
                return Ok(());
            }
            Some(Err(LineError::Io(error))) => {
                return Err(Failure::failed(format_args!(
                    "standard input cannot be read: {error}"
                )));
            }
            Some(Err(LineError::TooLong { number, .. } | LineError::NotText { number, .. })) => {
                return Err(bad_line(number));
            }
            Some(Ok(line)) => line,
        };
        match line.text.trim().parse() {
            Ok(ResumePoint::After(cursor)) if self.rooms.len() == 1 => {
                let room = self.rooms.iter().next().cloned();
                if let Some(room) = room {
                    self.consumer.done(room, cursor);
                }
                Ok(())
            }
            Ok(ResumePoint::Each(cursors)) if cursors.keys().all(|r| self.rooms.contains(r)) => {
                for (room, cursor) in cursors {
                    self.consumer.done(room, cursor);
                }
                Ok(())
            }
            _ => Err(bad_line(line.number)),
        }
    }

    /// Waits, once all is printed, until the reader has taken it or is gone, or has said what it
    /// is done with, and the agent has been told.
    pub(super) async fn wait_for_reader(
        &mut self,
        talk: &mut Talk,
        output: &Output,
    ) -> Result<(), Failure> {
        if self.is_explicit() {
            // Or it would wait for more, as this waits for it.
            output.close()?;
        }
        let mut gone = false;
        loop {
            self.confirm(talk, output);
            let taken = gone || !self.consumer.is_waiting();
            let said = !self.is_explicit() || self.input_ended;
            if taken && said && self.consumer.is_settled() {
                return Ok(());
            }
            tokio::select! {
                happening = talk.next() => self.on_answer(happening?)?,
                news = self.news() => news?,
                () = output.closed(), if !gone && !taken => gone = true,
            }
        }
    }

    /// Tells the agent what was taken by now, in a moment that it has for that.
    pub(super) async fn last_words(&mut self, talk: &mut Talk, output: &Output) {
        while let Some(Ok(line)) = self.input.as_mut().map(mpsc::Receiver::try_recv) {
            if let Err(failure) = self.take_line(Some(line)) {
                failure.report();
            }
        }
        // What is just being written is taken for not taken.
        let _ = timeout(WRITING, output.idle()).await;
        let told = async {
            self.confirm(talk, output);
            while !self.consumer.is_settled() {
                self.on_answer(talk.next().await?)?;
                self.consumer.confirm(talk);
            }
            Ok::<_, Failure>(())
        };
        match timeout(LAST_WORDS, told).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => failure.report(),
            Err(_) => say(&format!(
                "the agent could not be told how far {} has come: the last messages come again",
                self.consumer.name()
            )),
        }
    }

    /// Nothing is printed any more: only answers count.
    fn on_answer(&mut self, happening: Happening<Ask>) -> Result<(), Failure> {
        if let Happening::Answer(ask, answer) = happening {
            self.consumer.on_answer(ask, answer)?;
        }
        Ok(())
    }
}

fn bad_line(number: u64) -> Failure {
    Failure::failed(format_args!(
        "line {number} of standard input is no \"cursor\" of a message as --json printed it here"
    ))
}

async fn next_line(
    input: &mut Option<mpsc::Receiver<Result<Line, LineError>>>,
) -> Option<Result<Line, LineError>> {
    match input {
        Some(input) => input.recv().await,
        None => pending().await,
    }
}
