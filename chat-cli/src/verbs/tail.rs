//! `chat tail`: prints messages as they come.

mod durable;
mod positions;

use crate::{
    args::TailArgs,
    consumer::{Ask, Talk},
    conversation::{Happening, Options},
    ends::Ends,
    exit::{Exit, Failure},
    json, news,
    output::Output,
    paths::Settings,
    recall::Recall,
    render::{self, Setting, Style},
    since::{NotBefore, Since},
    wait::until_heard,
};
use durable::Durable;
use positions::{Due, Positions};
use protocol::{Cursor, ResumePoint, Room, UserName, local::From};
use std::{
    collections::{BTreeSet, HashSet},
    future::pending,
    io::IsTerminal,
    time::Duration,
};
use tokio::time::Instant;

/// Messages of each room to begin with when nothing is said about it.
const NEWEST: u32 = 10;

/// How long a lost agent is looked for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(settings: &Settings, args: &TailArgs) -> Result<(), Failure> {
    let named: HashSet<_> = args.rooms.iter().collect();
    if matches!(args.since, Some(Since::Point(ResumePoint::After(_)))) && named.len() > 1 {
        return Err(Failure::usage(
            "--since has the cursor of one room, but several are read: give the \"cursor\" that \
             `chat tail --json` printed for these rooms, such as '#a=…;#b=…'",
        ));
    }
    let deadline = args
        .timeout
        .and_then(|timeout| Instant::now().checked_add(timeout));
    let mut tail = Tail {
        args,
        style: Style::detect(std::io::stdout().is_terminal()),
        columns: render::columns(),
        recall: Recall::default(),
        output: Output::default(),
        durable: Durable::new(args),
        not_before: args
            .since
            .as_ref()
            .map_or_else(NotBefore::default, Since::bound),
        connected: false,
        printed: 0,
    };
    let options = Options {
        autostart: super::may_start(settings),
        reconnect: tail.is_live(),
        patience: Some(PATIENCE),
        ..Options::default()
    };
    let mut ends = args.durable.is_some().then(Ends::take).transpose()?;
    let begin = async {
        tokio::select! {
            talk = Talk::begin(settings, options) => talk.map(Some),
            () = told_to_end(&mut ends) => Ok(None),
        }
    };
    // Everything lies within the deadline: connecting, and printing to whoever does not read.
    let mut talk = tokio::select! {
        talk = Box::pin(begin) => match talk? {
            Some(talk) => talk,
            None => return Ok(()),
        },
        () = until_heard(deadline) => return Err(tail.timed_out()),
    };
    tail.connected = true;
    let result = tokio::select! {
        result = Box::pin(tail.read_to_end(&mut talk)) => result,
        () = until_heard(deadline) => Err(tail.timed_out()),
        () = told_to_end(&mut ends) => Ok(()),
    };
    if let Some(durable) = &mut tail.durable {
        durable.last_words(&mut talk, &tail.output).await;
    }
    result
}

/// Only a durable reader ends in order; any other is ended by the signal itself.
async fn told_to_end(ends: &mut Option<Ends>) {
    match ends {
        Some(ends) => {
            ends.next().await;
        }
        None => pending().await,
    }
}

struct Tail<'a> {
    args: &'a TailArgs,
    style: Style,
    /// Of the terminal, if it is one.
    columns: Option<usize>,
    recall: Recall,
    output: Output,
    durable: Option<Durable>,
    not_before: NotBefore,
    connected: bool,
    printed: u64,
}

impl Tail<'_> {
    const fn is_live(&self) -> bool {
        self.args.follow || self.args.count.is_some()
    }

    async fn read_to_end(&mut self, talk: &mut Talk) -> Result<(), Failure> {
        let result = self.read(talk).await;
        self.output.finish(result).await?;
        match &mut self.durable {
            Some(durable) => durable.wait_for_reader(talk, &self.output).await,
            None => Ok(()),
        }
    }

    async fn read(&mut self, talk: &mut Talk) -> Result<(), Failure> {
        let me = talk.me().clone();
        let rooms = self.args.rooms.iter().map(|room| room.resolve(&me));
        let rooms: BTreeSet<Room> = rooms.collect();
        let mut positions = Positions::new(rooms.iter().cloned());
        match &mut self.durable {
            Some(durable) => durable.begin(talk, rooms),
            None => rooms
                .into_iter()
                .for_each(|room| self.begin(talk, room, None)),
        }
        loop {
            while self.output.has_room()
                && let Some(due) = positions.next()
            {
                self.print(due, positions.rooms() > 1, &me)?;
                if self.args.count == Some(self.printed) {
                    return Ok(());
                }
            }
            let full = !self.output.has_room();
            if !full && !self.is_live() && self.has_read_all(talk) {
                return Ok(());
            }
            let mut explicit = false;
            if let Some(durable) = &mut self.durable {
                durable.confirm(talk, &self.output);
                explicit = durable.is_explicit();
                if durable.is_over() {
                    return Ok(());
                }
            }
            let happening = tokio::select! {
                happening = talk.progress(full) => happening?,
                // One that says itself how far it is says also that it ends.
                () = self.output.closed(), if !explicit => return Ok(()),
                news = self.output.news(), if full => {
                    news?;
                    continue;
                }
                news = news_of(&mut self.durable) => {
                    news?;
                    continue;
                }
            };
            match happening {
                Happening::Message(message) => {
                    let follow = talk.follow();
                    let live = follow.is_caught_up(&message.room);
                    match follow.reached(&message.room) {
                        Some(at) if self.not_before.admits(&message) => {
                            positions.take(message, at, live);
                        }
                        Some(at) => positions.pass(&message.room, at),
                        None => {}
                    }
                }
                happening => self.on_happening(talk, &mut positions, happening)?,
            }
        }
    }

    /// Begins to read a room where this consumer has been, or where the command line says.
    fn begin(&mut self, talk: &mut Talk, room: Room, was: Option<Cursor>) {
        if was.is_some() {
            self.not_before.lift(room.clone());
        }
        let from = match (was, &self.args.since, &self.durable) {
            (Some(cursor), ..) => From::After(cursor),
            (None, Some(since), _) => since.of(&room),
            (None, None, Some(_)) => From::Beginning,
            (None, None, None) => From::Newest(match self.args.count {
                Some(count) => u32::try_from(count).unwrap_or(u32::MAX),
                None => NEWEST,
            }),
        };
        talk.read(room, from);
    }

    fn on_happening(
        &mut self,
        talk: &mut Talk,
        positions: &mut Positions,
        happening: Happening<Ask>,
    ) -> Result<(), Failure> {
        match (happening, &mut self.durable) {
            (Happening::Answer(ask, answer), Some(durable)) => {
                if let Some((room, was)) = durable.consumer.on_answer(ask, answer)? {
                    self.begin(talk, room, was);
                }
                return Ok(());
            }
            (Happening::OpenRefused(room, refusal), Some(durable)) => {
                return durable.consumer.on_refused(talk, room, &refusal);
            }
            (Happening::Reconnected, Some(durable)) => durable.consumer.on_reconnected(talk),
            (happening, _) => {
                if let Happening::Opened { room, .. } | Happening::NewLife(room) = &happening
                    && let Some(at) = talk.follow().reached(room)
                {
                    positions.begin(room, at);
                }
                news::tell(happening, talk.me())?;
            }
        }
        Ok(())
    }

    fn print(&mut self, due: Due, several: bool, me: &UserName) -> Result<(), Failure> {
        let message = due.message;
        let line = if self.args.json {
            json::read(&message, me, due.resume.to_string(), due.live)
        } else {
            let room = several.then(|| message.room.seen_by(me));
            let quote = self.recall.take(&message);
            let setting = Setting {
                columns: self.columns,
                room: room.as_deref(),
                quote: quote.as_ref(),
                ..Setting::DATED
            };
            self.style.message(&message, me, setting)
        };
        self.output.line(&line)?;
        self.printed += 1;
        if let Some(durable) = &mut self.durable {
            durable.give(&self.output, message.room, due.at);
        }
        Ok(())
    }

    fn has_read_all(&self, talk: &Talk) -> bool {
        let known = |durable: &Durable| durable.consumer.is_known();
        self.durable.as_ref().is_none_or(known) && talk.follow().all_caught_up()
    }

    fn timed_out(&self) -> Failure {
        let what = match self.args.count {
            _ if !self.connected => "the agent did not answer".to_owned(),
            Some(count) => format!("{} of {count} messages came", self.printed),
            None => "no end was reached".to_owned(),
        };
        let seconds = self.args.timeout.unwrap_or_default().as_secs();
        Failure::new(Exit::TimedOut, format_args!("{what} within {seconds} s"))
    }
}

/// Never, for a reader that is not durable.
async fn news_of(durable: &mut Option<Durable>) -> Result<(), Failure> {
    match durable {
        Some(durable) => durable.news().await,
        None => pending().await,
    }
}
