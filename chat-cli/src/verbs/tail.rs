//! `chat tail`: prints messages as they come.

mod positions;

use crate::{
    args::TailArgs,
    conversation::{Conversation, Happening, Options},
    exit::{Exit, Failure},
    json, news,
    output::Output,
    paths::Settings,
    recall::Recall,
    render::{self, Setting, Style},
    since::{NotBefore, Since},
    wait::until_heard,
};
use positions::Positions;
use protocol::{ResumePoint, Room, local::From};
use std::{
    collections::{BTreeSet, HashSet},
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
    let timeout = args.timeout.map(Duration::from_secs);
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut tail = Tail {
        args,
        style: Style::detect(std::io::stdout().is_terminal()),
        columns: render::columns(),
        recall: Recall::default(),
        output: Output::default(),
        connected: false,
        printed: 0,
    };
    // Everything lies within the deadline: connecting, and printing to whoever does not read.
    tokio::select! {
        result = Box::pin(tail.read_to_end(settings)) => result,
        () = until_heard(deadline) => Err(tail.timed_out()),
    }
}

/// Where each room begins.
fn beginnings(rooms: BTreeSet<Room>, since: Option<&Since>, newest: u32) -> Vec<(Room, From)> {
    let begin = |room: Room| {
        let from = match since {
            None => From::Newest(newest),
            Some(since) => since.of(&room),
        };
        (room, from)
    };
    rooms.into_iter().map(begin).collect()
}

struct Tail<'a> {
    args: &'a TailArgs,
    style: Style,
    /// Of the terminal, if it is one.
    columns: Option<usize>,
    recall: Recall,
    output: Output,
    connected: bool,
    printed: u64,
}

impl Tail<'_> {
    async fn read_to_end(&mut self, settings: &Settings) -> Result<(), Failure> {
        let live = self.args.follow || self.args.count.is_some();
        let options = Options {
            autostart: super::may_start(settings),
            reconnect: live,
            patience: Some(PATIENCE),
            ..Options::default()
        };
        let conversation = Conversation::begin(settings, options).await?;
        self.connected = true;
        let result = self.read(conversation, live).await;
        self.output.finish(result).await
    }

    async fn read(&mut self, mut conversation: Conversation, live: bool) -> Result<(), Failure> {
        let me = conversation.me().clone();
        let rooms = self.args.rooms.iter().map(|room| room.resolve(&me));
        let rooms: BTreeSet<Room> = rooms.collect();
        let mut positions = Positions::new(rooms.iter().cloned());
        let since = self.args.since.as_ref();
        let mut not_before = since.map_or_else(NotBefore::default, Since::bound);
        let count = self.args.count;
        let newest = count.map_or(NEWEST, |count| u32::try_from(count).unwrap_or(u32::MAX));
        for (room, from) in beginnings(rooms, since, newest) {
            conversation.read(room, from);
        }
        while live || !conversation.follow().all_caught_up() {
            let happening = tokio::select! {
                happening = conversation.next() => happening?,
                () = self.output.closed() => return Ok(()),
            };
            match happening {
                Happening::Message(message) => {
                    if let Some(at) = conversation.follow().reached(&message.room) {
                        if not_before.admits(&message) {
                            let live = conversation.follow().is_caught_up(&message.room);
                            positions.take(message, at, live);
                        } else {
                            positions.pass(&message.room, at);
                        }
                    }
                }
                Happening::Opened { ref room, .. } | Happening::NewLife(ref room) => {
                    if let Some(at) = conversation.follow().reached(room) {
                        positions.begin(room, at);
                    }
                    news::tell(happening, &me)?;
                }
                happening => news::tell(happening, &me)?,
            }
            while let Some(due) = positions.next() {
                let message = &due.message;
                let line = if self.args.json {
                    json::read(message, &me, due.resume.to_string(), due.live)
                } else {
                    let room = (positions.rooms() > 1).then(|| message.room.seen_by(&me));
                    let quote = self.recall.take(message);
                    let setting = Setting {
                        columns: self.columns,
                        room: room.as_deref(),
                        quote: quote.as_ref(),
                        ..Setting::DATED
                    };
                    self.style.message(message, &me, setting)
                };
                self.output.print(&line).await?;
                self.printed += 1;
                if self.args.count == Some(self.printed) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn timed_out(&self) -> Failure {
        let what = match self.args.count {
            _ if !self.connected => "the agent did not answer".to_owned(),
            Some(count) => format!("{} of {count} messages came", self.printed),
            None => "no end was reached".to_owned(),
        };
        let seconds = self.args.timeout.unwrap_or_default();
        Failure::new(Exit::TimedOut, format_args!("{what} within {seconds} s"))
    }
}
