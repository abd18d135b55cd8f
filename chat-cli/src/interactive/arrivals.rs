//! What arrives, as lines on the terminal.

use super::{
    NEWEST,
    desk::{Desk, Question, Talk, now},
    noise::Change,
    saying::Mine,
};
use crate::{
    conversation::Happening,
    listing, news,
    outbound::Fate,
    refused::{by_server, is_refusal},
    render::{self, Setting},
    verbs::pending,
};
use protocol::{
    Availability, Committed, Cursor, LogStatus, MessageId, Outgoing, Room, UserName,
    local::{Delivery, Event, From, LinkStatus, Refusal, Reply, RoomInfo},
};
use std::time::Duration;
use tokio::time::Instant;

/// How far tables are set in.
const TABLE_INDENT: usize = 3;

/// Columns that a table may take.
fn table_columns() -> Option<usize> {
    render::columns().map(|columns| columns.saturating_sub(TABLE_INDENT))
}

impl Desk {
    pub(super) fn on_happening(&mut self, talk: &mut Talk, happening: Happening<Question>) {
        match happening {
            Happening::Message(message) => self.show(talk, &message),
            Happening::Fate(fate) => self.on_fate(talk, fate),
            Happening::Answer(question, answer) => self.on_answer(talk, question, answer),
            Happening::Event(event) => self.on_event(talk, event),
            Happening::Opened { room, topic, read } => {
                self.transcript.opened(&room, read);
                if self.topics.get(&room) != Some(&topic) && !topic.is_empty() {
                    let label = self.label(&room, talk.me());
                    self.note(&format!("topic of {label}: {topic}"));
                }
                self.topics.insert(room, topic);
            }
            Happening::CaughtUp { room, .. } => {
                let empty = talk
                    .follow()
                    .reached(&room)
                    .is_none_or(|at| at.seq.number() == 0);
                if self.caught_up.insert(room.clone()) && empty && room == self.current {
                    self.note("nobody has said anything here yet");
                }
            }
            Happening::OpenRefused(room, refusal) => {
                let label = self.label(&room, talk.me());
                if matches!(
                    refusal,
                    Refusal::EpochChanged { .. } | Refusal::CursorAhead { .. }
                ) {
                    self.note(&format!("the log of {label} was recreated or restored"));
                    talk.read(room, From::Newest(NEWEST));
                } else if matches!(refusal, Refusal::Left { .. }) {
                    self.close(talk, &room);
                    self.note(&if room == self.current {
                        format!("you left {label} elsewhere: saying something here joins it again")
                    } else {
                        format!("you left {label}")
                    });
                } else {
                    self.note(&format!("{label} cannot be read: {refusal}"));
                }
            }
            Happening::NewLife(room) => {
                let label = self.label(&room, talk.me());
                self.note(&format!("the log of {label} was recreated or restored"));
            }
            Happening::Disconnected(reason) => {
                self.agent_lost = true;
                self.server_log = None;
                // Without it nothing comes from the server either.
                if matches!(self.link, Some(LinkStatus::Online { .. })) {
                    self.absence.begin(now());
                }
                // What was missed is no reason to call anybody.
                self.caught_up.clear();
                self.note(&format!(
                    "{reason}; looking for it, what you write is kept here meanwhile"
                ));
            }
            Happening::NotStarted(reason) => self.note(&reason),
            Happening::Reconnected => {
                self.agent_lost = false;
                self.here_since = now();
                self.note("the agent is back");
                for (room, cursor) in std::mem::take(&mut self.unmarked) {
                    self.mark_read(talk, room, cursor);
                }
                self.ask_how_it_is(talk);
            }
        }
    }

    fn show(&mut self, talk: &Talk, message: &Committed) {
        let me = talk.me().clone();
        let is_mine = message.author == me;
        let mine = self.mine.iter().position(|mine| mine.id == message.id);
        let mine = mine.and_then(|index| self.mine.remove(index));
        if !message.room.is_local_to(&me.host) {
            match &mine {
                Some(mine) => self.absence.take_mine(mine.said, Instant::now()),
                None => self.absence.take(message, is_mine, Instant::now()),
            }
        }
        let at = talk.follow().reached(&message.room);
        let cursor = at.map(|Cursor { epoch, .. }| Cursor {
            epoch,
            seq: message.seq,
        });
        if self.is_ignored(&message.author, &me) {
            // Read, but not shown.
            if let Some(cursor) = cursor {
                self.backlog.mark(message.room.clone(), cursor);
            }
            return;
        }
        self.tell_noise();
        let remark = match mine {
            Some(mine) if mine.shown => "  (delivered)",
            _ => "",
        };
        let columns = render::columns();
        let current = self.current.clone();
        let shown = self
            .transcript
            .show(message, &me, &current, remark, columns);
        let mut text = shown.text;
        if let Some(call) = shown.call
            && self.is_live(message)
            && let Some(call) = self.calls.take(call, Instant::now())
        {
            text.push_str(&self.preferences.call(&call));
        }
        match cursor {
            Some(cursor) => self
                .backlog
                .push_message(text, message.room.clone(), cursor),
            None => self.backlog.push(text),
        }
    }

    /// Whether a message was said while the person was here.
    fn is_live(&self, message: &Committed) -> bool {
        // The first message of a conversation begins it; only the clock tells it from an old one.
        self.caught_up.contains(&message.room)
            || (matches!(message.room, Room::Direct(_)) && message.committed_at >= self.here_since)
    }

    fn on_fate(&mut self, talk: &Talk, fate: Fate) {
        match fate {
            Fate::Queued(id) => {
                if let Some(mine) = self.mine.iter_mut().find(|mine| mine.id == id) {
                    mine.queued = true;
                }
                self.wake(talk);
            }
            // The line itself comes with the room.
            Fate::Committed(id, _) => {
                let follow = talk.follow();
                let shown =
                    |mine: &Mine| mine.shown && mine.id == id && follow.contains(&mine.room);
                if !self.mine.iter().any(shown) {
                    self.mine.retain(|mine| mine.id != id);
                }
            }
            Fate::Refused {
                id,
                room,
                reason,
                content,
            } => {
                self.mine.retain(|mine| mine.id != id);
                let text = self.describe(&room, &content, talk.me());
                self.transcript.recall.refused(id, &room, &content);
                self.note(&format!("not sent: {reason}: {text}"));
            }
        }
    }

    fn on_answer(
        &mut self,
        talk: &mut Talk,
        question: Question,
        answer: Option<Result<Reply, Refusal>>,
    ) {
        let me = talk.me().clone();
        match (question, answer) {
            (Question::MarkRead(room, asked), answer) => {
                let next = self.marking.remove(&room).flatten();
                match (next, answer) {
                    (next, Some(Err(Refusal::Busy { retry_after_ms }))) => {
                        let pause = Duration::from_millis(retry_after_ms.into());
                        self.mark_later(room, next.unwrap_or(asked), pause);
                    }
                    (Some(cursor), Some(_)) => self.mark_read(talk, room, cursor),
                    (None, Some(_)) => {}
                    // The agent was lost before it could say that it has it.
                    (next, None) => drop(self.unmarked.insert(room, next.unwrap_or(asked))),
                }
            }
            // The end of reading it, which comes first, has said so if it was read.
            (Question::Leave(room), Some(Ok(_))) if !talk.follow().contains(&room) => {}
            (Question::Leave(room), Some(Ok(_))) => {
                self.close(talk, &room);
                let label = self.label(&room, &me);
                self.note(&format!("you left {label}"));
            }
            (Question::Names(room), Some(Ok(Reply::Members { members, .. }))) => {
                if room == self.current {
                    let name = |member: &protocol::Member| render::name_seen_by(&member.user, &me);
                    self.names = members.iter().map(name).collect();
                }
            }
            (Question::Names(_), _) => {}
            (Question::Link, Some(Ok(Reply::Status(status)))) => {
                for problem in &status.problems {
                    self.note(problem);
                }
                self.on_link(talk, status.link);
            }
            (Question::Waiting, Some(Ok(Reply::Pending { messages, .. }))) => {
                for message in messages {
                    self.adopt(talk, message);
                }
            }
            (Question::Known, Some(Ok(Reply::Rooms { rooms, .. }))) => self.note_rooms(&rooms),
            (Question::Log, Some(Ok(Reply::Log { status }))) => self.on_log(status),
            (Question::Link | Question::Log | Question::Waiting | Question::Known, _)
            | (Question::Do(_), Some(Ok(_))) => {}
            (Question::Do(what), Some(Err(refusal))) => self.note(&format!("{what}: {refusal}")),
            (_, None) => self.note("no answer: the agent was lost, ask again"),
            (_, Some(Err(refusal))) => self.note(&refusal.to_string()),
            (Question::Who(room), Some(Ok(Reply::Members { members, more }))) => {
                self.note(&format!("in {}:", self.label(&room, &me)));
                let is_known = matches!(self.link, Some(LinkStatus::Online { .. }));
                if matches!(room, Room::Federated(_)) && !is_known {
                    self.note("without the server only members on this host are known");
                }
                let name = |user: &_| render::name_seen_by(user, &me);
                self.table(&listing::members(&members, name, table_columns()));
                self.and_more(more, "chat who");
            }
            (Question::Rooms, Some(Ok(Reply::Rooms { rooms, more }))) => {
                self.note_rooms(&rooms);
                let open: Vec<&Room> = talk.follow().rooms().take(9).collect();
                let number = |room: &Room| match open.iter().position(|open| *open == room) {
                    Some(at) => format!("{} ", at + 1),
                    None => "  ".to_owned(),
                };
                self.table(&listing::rooms(&rooms, &me, number, table_columns()));
                self.and_more(more, "chat rooms");
            }
            (Question::History(room), Some(Ok(Reply::History { mut messages, .. }))) => {
                messages.retain(|message| !self.is_ignored(&message.author, &me));
                self.note(&format!(
                    "the last {} of {}:",
                    messages.len(),
                    self.label(&room, &me)
                ));
                if self.transcript.recall.is_new(&room) {
                    // What is shown can be answered.
                    for message in &messages {
                        self.transcript.recall.take(message);
                    }
                }
                self.print_again(messages.iter(), &me, None);
                self.note("that was before");
            }
            (Question::Pending, Some(Ok(Reply::Pending { messages, next }))) => {
                if !messages.is_empty() {
                    self.note("of yours, not in the room's log yet:");
                }
                let columns = render::columns();
                for message in messages {
                    let line = pending::line(message, &me, self.style(), columns);
                    self.backlog.push(line);
                }
                self.and_more(next.is_some(), "chat pending");
            }
            (Question::Search, Some(Ok(Reply::Found { mut hits, next }))) => {
                hits.retain(|hit| !self.is_ignored(&hit.message.author, &me));
                if hits.is_empty() {
                    return self.note("nothing was found in the rooms' logs that this host has");
                }
                self.note(&format!("the newest {} that were found:", hits.len()));
                let here = self.current.clone();
                let messages = hits.iter().rev().map(|hit| &hit.message);
                self.print_again(messages, &me, Some(&here));
                self.and_more(next.is_some(), "chat search");
            }
            (Question::Status, Some(Ok(Reply::Status(status)))) => {
                let lines = listing::status(
                    &status,
                    self.server_log.as_ref(),
                    self.style(),
                    table_columns(),
                );
                self.table(&lines);
            }
            (_, Some(Ok(_))) => self.note("the agent gave an answer that does not fit"),
        }
    }

    fn note_rooms(&mut self, rooms: &[RoomInfo]) {
        let rooms = rooms.iter().map(|info| (info.room.clone(), info.joined));
        self.known.extend(rooms);
    }

    /// Counts a message that waits since before this terminal was there.
    fn adopt(&mut self, talk: &Talk, message: Outgoing) {
        let (id, room) = (message.id, message.room);
        let is_known = self.mine.iter().any(|mine| mine.id == id);
        if is_known || talk.outbound().contains(id) {
            return;
        }
        let Ok(content) = message.body.decode() else {
            return;
        };
        // Saying something in a room joins it.
        self.known.insert(room.clone(), true);
        self.transcript
            .recall
            .say(id, &room, &message.author, &content);
        self.mine.push_back(Mine {
            id,
            text: self.describe(&room, &content, talk.me()),
            room,
            said: Instant::now(),
            queued: true,
            shown: true,
        });
    }

    /// What became of a message that was said before this terminal was there, or elsewhere.
    fn on_outcome(&mut self, talk: &Talk, id: MessageId, refused: Option<&str>) {
        let Some(index) = self.mine.iter().position(|mine| mine.id == id) else {
            return;
        };
        // The line itself comes with the room.
        if refused.is_none() && talk.follow().contains(&self.mine[index].room) {
            return;
        }
        if let Some(mine) = self.mine.remove(index)
            && let Some(reason) = refused
        {
            self.note(&format!("not sent: {reason}: {}", mine.text));
        }
    }

    /// Whether nothing is shown of `user`.
    fn is_ignored(&self, user: &UserName, me: &UserName) -> bool {
        self.ignored.includes(user) && user != me
    }

    /// Messages that were shown before, or not at all here; of `here` none names its room.
    pub(super) fn print_again<'a>(
        &mut self,
        messages: impl Iterator<Item = &'a Committed>,
        me: &UserName,
        here: Option<&Room>,
    ) {
        let columns = render::columns();
        for message in messages {
            let elsewhere = here.is_some_and(|here| message.room != *here);
            let room = elsewhere.then(|| self.label(&message.room, me));
            let setting = Setting {
                columns,
                room: room.as_deref(),
                ..Setting::DATED
            };
            let line = self.style().message(message, me, setting);
            self.backlog.push(line);
        }
    }

    /// Lines that belong together, set in a little.
    fn table(&mut self, lines: &[String]) {
        for line in lines {
            self.backlog.push(format!("{:TABLE_INDENT$}{line}", ""));
        }
    }

    fn and_more(&mut self, more: bool, verb: &str) {
        if more {
            self.note(&format!("and more: `{verb}` lists all"));
        }
    }

    fn on_event(&mut self, talk: &Talk, event: Event) {
        let me = talk.me();
        let by = match &event {
            Event::Presence { user, .. }
            | Event::Joined { user, .. }
            | Event::Left { user, .. } => Some(user),
            _ => None,
        };
        if by.is_some_and(|user| self.ignored.includes(user)) {
            return;
        }
        match event {
            Event::Presence { user, availability } if user != *me => {
                let name = render::name_seen_by(&user, me);
                match availability {
                    Availability::Online => self.make_noise(name, Change::Here),
                    Availability::Away => self.make_noise(name, Change::Away),
                    Availability::Offline => self.make_noise(name, Change::Gone),
                    Availability::Unknown => {}
                }
            }
            Event::Joined { room, user } if user != *me => {
                let (name, label) = (render::name_seen_by(&user, me), self.label(&room, me));
                if room == self.current && !self.names.contains(&name) {
                    self.names.push(name.clone());
                }
                self.make_noise(name, Change::Joined(label));
            }
            Event::Left { room, user } if user != *me => {
                let (name, label) = (render::name_seen_by(&user, me), self.label(&room, me));
                if room == self.current {
                    self.names.retain(|known| *known != name);
                }
                self.make_noise(name, Change::Left(label));
            }
            Event::Topic { room, user, topic } => {
                let (name, label) = (render::name_seen_by(&user, me), self.label(&room, me));
                self.note(&format!("{name} set the topic of {label}: {topic}"));
                self.topics.insert(room, topic);
            }
            Event::Link(link) => self.on_link(talk, link),
            // A log that takes nothing holds up everybody: that was said.
            Event::HeldUp {
                reason,
                retry_in_ms,
            } if self.log_trouble().is_none() => self.note(&news::held_up(&reason, retry_in_ms)),
            Event::Log { status } => self.on_log(status),
            Event::Outcome { id, result, .. } => match result {
                Ok(Delivery::Queued) => {}
                Ok(Delivery::Committed { .. }) => self.on_outcome(talk, id, None),
                Err(refusal) => {
                    let reason = Refusal::ByServer(refusal).to_string();
                    self.on_outcome(talk, id, Some(&reason));
                }
            },
            _ => {}
        }
    }

    /// Says when the server's log takes nothing any more, and when it does again.
    fn on_log(&mut self, log: Option<LogStatus>) {
        let before = self.log_trouble();
        self.server_log = log;
        match (before, self.log_trouble()) {
            (None, Some(trouble)) => self.note(&format!(
                "{trouble}: what you say in #rooms is kept here meanwhile"
            )),
            (Some(_), None) if self.server_log.is_some() => {
                self.note("the server's log takes messages again");
            }
            _ => {}
        }
    }

    /// Says when the link comes or goes, not each attempt in between.
    fn on_link(&mut self, talk: &Talk, link: LinkStatus) {
        let was = self.link.replace(link.clone());
        match (&was, &link) {
            (_, LinkStatus::Online { .. }) => self.absence.end(now(), Instant::now()),
            (Some(LinkStatus::Online { .. }), _) => self.absence.begin(now()),
            _ => {}
        }
        match (&was, &link) {
            (Some(LinkStatus::Online { .. }), LinkStatus::Online { .. }) => {}
            (_, LinkStatus::Online { server, .. }) => {
                self.note(&format!("connected to server {server}"));
            }
            (
                Some(LinkStatus::Waiting { error: before, .. }),
                LinkStatus::Waiting { error, .. },
            ) if is_refusal(before) == is_refusal(error) => {}
            (_, LinkStatus::Waiting { server, error, .. }) => {
                let why = match by_server(error) {
                    Some(reason) => format!("refuses this host ({reason})"),
                    None if is_refusal(error) => format!("cannot be talked to ({error})"),
                    None => format!("cannot be reached ({error})"),
                };
                self.note(&format!(
                    "server {server} {why}: what you say in #rooms is kept here meanwhile"
                ));
            }
            (Some(LinkStatus::Online { server: lost, .. }), LinkStatus::Connecting { .. }) => {
                self.note(&format!("the connection to server {lost} was lost"));
            }
            (
                Some(LinkStatus::Online { .. } | LinkStatus::Waiting { .. }),
                LinkStatus::LocalOnly,
            ) => {
                self.note("this host is on its own now");
            }
            // Retrying is no news: the first failure said so, and success will.
            (Some(LinkStatus::Waiting { .. }), LinkStatus::Connecting { .. }) => self.link = was,
            _ => {}
        }
        self.wake(talk);
    }
}
