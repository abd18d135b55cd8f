//! `chat tail`: prints messages as they come.

use crate::{
    args::TailArgs,
    client::exit_of,
    conversation::{Conversation, Happening, Options},
    exit::{Exit, Failure, say},
    json,
    output::Output,
    paths::Settings,
    render::Style,
};
use futures_util::FutureExt;
use protocol::{Committed, ResumePoint, Room, local::From};
use std::{collections::BTreeSet, io::IsTerminal, time::Duration};
use tokio::time::{Instant, sleep_until};

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
    let live = args.follow || args.count.is_some();
    let options = Options {
        reconnect: live,
        patience: Some(PATIENCE),
        ..Options::default()
    };
    let timeout = args.timeout.map(Duration::from_secs);
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut conversation: Conversation = Conversation::begin(settings, options).await?;
    let me = conversation.me().clone();
    let rooms: BTreeSet<Room> = args.rooms.iter().map(|room| room.resolve(&me)).collect();
    for (room, from) in beginnings(rooms, args.since.as_ref())? {
        conversation.read(room, from);
    }
    let mut tail = Tail {
        args,
        style: Style::detect(std::io::stdout().is_terminal()),
        output: Output::default(),
        printed: 0,
    };
    loop {
        if !live && conversation.follow().all_caught_up() {
            return tail.output.flush();
        }
        let happening = match conversation.next().now_or_never() {
            Some(happening) => happening?,
            None => {
                tail.output.flush()?;
                tokio::select! {
                    happening = conversation.next() => happening?,
                    () = at(deadline) => return Err(tail.timed_out()),
                }
            }
        };
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            tail.output.flush()?;
            return Err(tail.timed_out());
        }
        if tail.on_happening(&conversation, happening)? {
            return tail.output.flush();
        }
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Where each room begins.
fn beginnings(
    rooms: BTreeSet<Room>,
    since: Option<&ResumePoint>,
) -> Result<Vec<(Room, From)>, Failure> {
    if matches!(since, Some(ResumePoint::After(_))) && rooms.len() > 1 {
        return Err(Failure::usage(
            "--since has the cursor of one room, but several are read: give the \"cursor\" that \
             `chat tail --json` printed for these rooms, such as '#a=…;#b=…'",
        ));
    }
    let begin = |room: Room| {
        let from = match since {
            None => From::Newest(NEWEST),
            Some(since) => since.of(&room).map_or(From::Beginning, From::After),
        };
        (room, from)
    };
    Ok(rooms.into_iter().map(begin).collect())
}

struct Tail<'a> {
    args: &'a TailArgs,
    style: Style,
    output: Output,
    printed: u64,
}

impl Tail<'_> {
    /// True if that was all.
    fn on_happening(
        &mut self,
        conversation: &Conversation,
        happening: Happening<()>,
    ) -> Result<bool, Failure> {
        let me = conversation.me();
        match happening {
            Happening::Message(message) => {
                let line = self.line(conversation, &message);
                self.output.line(&line)?;
                self.printed += 1;
                return Ok(self.args.count == Some(self.printed));
            }
            Happening::OpenRefused(room, refusal) => {
                let name = room.seen_by(me);
                return Err(Failure::new(
                    exit_of(&refusal),
                    format_args!("{name} cannot be read: {refusal}"),
                ));
            }
            Happening::NewLife(room) => say(&format!(
                "the log of {} was recreated or restored: going on with the new one from its \
                 beginning",
                room.seen_by(me)
            )),
            Happening::Disconnected(reason) => say(&format!("{reason}; looking for it")),
            _ => {}
        }
        Ok(false)
    }

    fn line(&self, conversation: &Conversation, message: &Committed) -> String {
        let me = conversation.me();
        let follow = conversation.follow();
        if self.args.json {
            return json::message(message, me, follow.resume_point().to_string());
        }
        let room = (follow.len() > 1).then(|| message.room.seen_by(me));
        self.style.message(message, me, room.as_deref())
    }

    fn timed_out(&self) -> Failure {
        let wanted = self.args.count.map_or_else(
            || "no end was reached".to_owned(),
            |count| format!("{} of {count} messages came", self.printed),
        );
        Failure::new(
            Exit::TimedOut,
            format_args!(
                "{wanted} within {} s",
                self.args.timeout.unwrap_or_default()
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Cursor, Seq};
    use std::collections::BTreeMap;

    #[test]
    fn each_room_begins_where_the_cursor_says() {
        let room = |text: &str| text.parse::<Room>().unwrap();
        let both = BTreeSet::from([room("#a"), room("#b")]);
        let cursor = Cursor {
            epoch: crate::sample::epoch(1),
            seq: Seq::new(3),
        };
        let begin = |since: Option<ResumePoint>| beginnings(both.clone(), since.as_ref());
        assert_eq!(begin(None).unwrap()[0].1, From::Newest(10));
        assert_eq!(
            begin(Some(ResumePoint::Beginning)).unwrap()[1].1,
            From::Beginning
        );
        let each = ResumePoint::Each(BTreeMap::from([(room("#b"), cursor)]));
        assert_eq!(
            begin(Some(each)).unwrap(),
            [
                (room("#a"), From::Beginning),
                (room("#b"), From::After(cursor))
            ]
        );
        let failure = begin(Some(ResumePoint::After(cursor))).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
    }
}
