//! What the person sees and where they are: happenings become lines, commands become requests.

use super::{
    NEWEST,
    backlog::{Backlog, Marks},
};
use crate::{
    command::{self, Command},
    conversation::Conversation,
    outbound::Until,
    render::{self, Style},
};
use protocol::{
    Content, Cursor, MessageId, Room, UserName,
    local::{From, LinkStatus, Request},
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};
use tokio::time::Instant;

/// How long a message may be on its way before that is said.
const PENDING_AFTER: Duration = Duration::from_secs(1);

/// Bytes of text typed ahead of what the conversation can take, and kept at most.
const WAITING_BYTES: usize = 1024 * 1024;

/// What an answer is for.
#[derive(Debug)]
pub(super) enum Question {
    Who(Room),
    Rooms,
    History(Room),
    Status,
    /// The state of the link at the beginning.
    Link,
    /// A command that shows nothing if it succeeds.
    Do(&'static str),
    MarkRead(Room),
}

/// Whether the conversation goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    Quit,
}

pub(super) type Talk = Conversation<Question>;

pub(super) struct Desk {
    pub(super) style: Style,
    pub(super) current: Room,
    pub(super) backlog: Backlog,
    pub(super) topics: HashMap<Room, String>,
    pub(super) link: Option<LinkStatus>,
    /// Own messages that are not in their room's log yet, oldest first.
    pub(super) mine: VecDeque<Mine>,
    /// What was typed while the conversation had no room for it, oldest first.
    waiting: VecDeque<(Room, String)>,
    waiting_bytes: usize,
    /// Rooms whose read marker is being moved, and where it must be moved after that.
    pub(super) marking: HashMap<Room, Option<Cursor>>,
    pub(super) caught_up: HashSet<Room>,
}

pub(super) struct Mine {
    pub(super) id: MessageId,
    pub(super) room: Room,
    pub(super) text: String,
    pub(super) said: Instant,
    pub(super) queued: bool,
    pub(super) shown: bool,
}

impl Desk {
    pub(super) fn new(style: Style, current: Room) -> Self {
        Self {
            style,
            current,
            backlog: Backlog::default(),
            topics: HashMap::new(),
            link: None,
            mine: VecDeque::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            marking: HashMap::new(),
            caught_up: HashSet::new(),
        }
    }

    pub(super) fn greet(&mut self, talk: &mut Talk) {
        let (me, room) = (talk.me().clone(), self.label(&self.current, talk.me()));
        self.note(&format!("you are {me} in {room}; /help lists commands"));
        talk.ask(Question::Link, Request::Status);
    }

    pub(super) fn prompt(&self, me: &UserName) -> String {
        format!("{}> ", self.label(&self.current, me))
    }

    /// A line of the program's own, not of a person.
    pub(super) fn note(&mut self, text: &str) {
        let line = self.style.dim(&format!("-- {}", render::line(text)));
        self.backlog.push(line);
    }

    pub(super) fn say(&mut self, talk: &mut Talk, text: String) {
        let text = text.strip_prefix('/').map_or(text.as_str(), |rest| rest);
        let room = self.current.clone();
        self.say_in(talk, room, text.to_owned());
    }

    fn say_in(&mut self, talk: &mut Talk, room: Room, text: String) {
        if let Err(error) = Content::Text(text.clone()).encode() {
            return self.note(&format!("not sent: {error}"));
        }
        if self.waiting_bytes + text.len() > WAITING_BYTES {
            return self.note(&format!("not sent, too much waits for the agent: {text}"));
        }
        self.waiting_bytes += text.len();
        self.waiting.push_back((room, text));
        self.say_waiting(talk);
    }

    /// Says what waits as far as the conversation has room for it.
    pub(super) fn say_waiting(&mut self, talk: &mut Talk) {
        if !self.waiting.is_empty() && !talk.outbound().has_room() {
            talk.outbound_mut().forget_queued();
            self.mine.retain(|mine| !mine.queued);
        }
        while talk.outbound().has_room()
            && let Some((room, text)) = self.waiting.pop_front()
        {
            self.waiting_bytes -= text.len();
            let id = MessageId::new();
            self.mine.push_back(Mine {
                id,
                room: room.clone(),
                text: text.clone(),
                said: Instant::now(),
                queued: false,
                shown: false,
            });
            talk.say(id, room, Content::Text(text), Until::Committed);
        }
    }

    /// How many messages are not durable on this host yet, as far as is known.
    pub(super) fn unaccepted(&self, talk: &Talk) -> usize {
        self.waiting.len() + talk.outbound().unaccepted()
    }

    /// Moves read markers to what is on the terminal now.
    pub(super) fn on_printed(&mut self, talk: &mut Talk, marks: Marks) {
        self.backlog.printed();
        for (room, cursor) in marks {
            match self.marking.get_mut(&room) {
                Some(next) => *next = Some(cursor),
                None => self.mark_read(talk, room, cursor),
            }
        }
    }

    /// Moves a read marker, one request at a time for a room however fast messages come.
    pub(super) fn mark_read(&mut self, talk: &mut Talk, room: Room, cursor: Cursor) {
        self.marking.insert(room.clone(), None);
        let request = Request::MarkRead {
            room: room.clone(),
            cursor,
        };
        talk.ask(Question::MarkRead(room), request);
    }

    pub(super) fn command(&mut self, talk: &mut Talk, line: &str) -> Next {
        match command::parse(line) {
            Ok(Command::Quit) => return Next::Quit,
            Ok(command) => self.obey(talk, command),
            Err(error) => self.note(&error.to_string()),
        }
        Next::GoOn
    }

    fn obey(&mut self, talk: &mut Talk, command: Command) {
        let here = self.current.clone();
        match command {
            Command::Nothing | Command::Quit => {}
            Command::Say(text) => self.say_in(talk, here, text),
            Command::Join(target) => {
                let room = target.resolve(talk.me());
                if !talk.follow().contains(&room) {
                    talk.read(room.clone(), From::Newest(NEWEST));
                }
                self.current = room;
            }
            Command::Switch(target) => {
                let room = target.resolve(talk.me());
                if talk.follow().contains(&room) {
                    self.current = room;
                } else {
                    let label = self.label(&room, talk.me());
                    self.note(&format!("{label} is not open: /join opens it"));
                }
            }
            Command::Leave(target) => {
                let room = target.map_or(here, |target| target.resolve(talk.me()));
                self.leave(talk, room);
            }
            Command::Message(target, text) => {
                let room = target.resolve(talk.me());
                if !talk.follow().contains(&room) {
                    talk.read(room.clone(), From::Unread(NEWEST));
                }
                self.say_in(talk, room, text);
            }
            Command::Who => {
                let request = Request::Who {
                    room: here.clone(),
                    after: None,
                };
                talk.ask(Question::Who(here), request);
            }
            Command::Topic(None) => {
                let topic = self.topics.get(&here).filter(|topic| !topic.is_empty());
                let topic = topic.map_or("no topic is set", String::as_str).to_owned();
                self.note(&topic);
            }
            Command::Topic(Some(topic)) => {
                let request = Request::SetTopic { room: here, topic };
                talk.ask(Question::Do("the topic was not set"), request);
            }
            Command::Rooms => talk.ask(Question::Rooms, Request::Rooms { after: None }),
            Command::History(limit) => {
                let request = Request::History {
                    room: here.clone(),
                    before: None,
                    limit,
                };
                talk.ask(Question::History(here), request);
            }
            Command::Status => talk.ask(Question::Status, Request::Status),
            Command::Away(away) => {
                talk.ask(Question::Do("that was not told"), Request::SetAway { away });
                self.note(if away {
                    "you show as away; /back ends that"
                } else {
                    "you show as here"
                });
            }
            Command::Help => {
                for line in command::help() {
                    self.backlog.push(format!("   {line}"));
                }
                self.note("anything else is said here; // begins a line with /");
            }
        }
    }

    fn leave(&mut self, talk: &mut Talk, room: Room) {
        if self.current == room {
            let mut others = talk.follow().rooms().filter(|other| **other != room);
            let Some(other) = others.next().cloned() else {
                return self.note("this is the only open room: /join opens another, /quit leaves");
            };
            self.current = other;
        }
        let label = self.label(&room, talk.me());
        talk.unread(&room);
        self.caught_up.remove(&room);
        if !matches!(room, Room::Direct(_)) {
            let request = Request::Leave { room: room.clone() };
            talk.ask(Question::Do("the room was not left"), request);
        }
        self.note(&format!("you left {label}"));
    }

    /// When a message will have been on its way for so long that it is to be said.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let next = self.mine.iter().find(|mine| !mine.shown)?;
        Some(next.said + PENDING_AFTER)
    }

    /// Says which messages are still on their way: at once if it is known that they will be.
    pub(super) fn wake(&mut self, talk: &Talk) {
        let now = Instant::now();
        let offline = matches!(
            self.link,
            Some(
                LinkStatus::Waiting { .. } | LinkStatus::LocalOnly | LinkStatus::Connecting { .. }
            )
        );
        let mut lines = Vec::new();
        for mine in self.mine.iter_mut().filter(|mine| !mine.shown) {
            let away = mine.queued && offline && !mine.room.is_local_to(&talk.me().host);
            if now < mine.said + PENDING_AFTER && !away {
                continue;
            }
            mine.shown = true;
            let why = if mine.queued {
                "kept on this host until the server has it"
            } else {
                "not accepted by the agent yet"
            };
            let text = render::lines(&mine.text, 3);
            lines.push(self.style.dim(&format!(".. {text}  (pending: {why})")));
        }
        lines.into_iter().for_each(|line| self.backlog.push(line));
    }

    /// The room as the person knows it; a conversation with one person has a mark of its own.
    pub(super) fn label(&self, room: &Room, me: &UserName) -> String {
        let name = room.seen_by(me);
        if matches!(room, Room::Direct(_)) {
            format!("@{name}")
        } else {
            name
        }
    }
}
