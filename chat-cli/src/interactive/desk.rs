//! What the person sees and where they are: happenings become lines, commands become requests.

use super::{
    absence::Absence,
    backlog::{Backlog, Marks},
    calls::Calls,
    ignored::Ignored,
    noise::Noise,
    preferences::Preferences,
    saying::{Mine, PENDING_AFTER},
    transcript::{self, Transcript},
};
use crate::{
    command,
    conversation::Conversation,
    prompt::{PromptText, State, Words},
    render::{self, Style},
};
use protocol::{
    Content, Cursor, Features, LogStatus, MessageId, Nick, Room, Timestamp, UserName,
    local::{LinkStatus, Request, SearchQuery},
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// How long comings and goings are gathered before they are told.
const NOISE_AFTER: Duration = Duration::from_secs(2);

/// What an answer is for.
#[derive(Debug)]
pub(super) enum Question {
    Who(Room),
    Rooms,
    History(Room),
    Search,
    /// What of a search waits for the server.
    Pending,
    Status,
    /// The state of the link at the beginning.
    Link,
    /// The state of the server's log at the beginning.
    Log,
    /// What was said before this terminal was there, and waits for the server.
    Waiting,
    /// Which rooms there are, to know them when they are named.
    Known,
    /// Who is in the current room, so that their names can be completed.
    Names(Room),
    /// A command that shows nothing if it succeeds.
    Do(&'static str),
    MarkRead(Room, Cursor),
    Leave(Room),
}

/// Whether and how the conversation goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    /// Under another name.
    Rename(Nick),
    /// With a message that is written in an editor, beginning with this.
    Write(String),
    Quit,
}

pub(super) type Talk = Conversation<Question>;

pub(super) struct Desk {
    pub(super) transcript: Transcript,
    pub(super) preferences: Preferences,
    pub(super) ignored: Ignored,
    pub(super) current: Room,
    pub(super) backlog: Backlog,
    pub(super) topics: HashMap<Room, String>,
    /// Rooms that this host knew of when that was asked last, and whether this person is in them.
    pub(super) known: HashMap<Room, bool>,
    /// Conversations of which the newest messages were asked for here.
    pub(super) visited: HashSet<Room>,
    pub(super) link: Option<LinkStatus>,
    /// How the server's log is, if that is told.
    pub(super) server_log: Option<LogStatus>,
    pub(super) absence: Absence,
    pub(super) calls: Calls,
    pub(super) noise: Noise,
    /// When what is in `noise` is told.
    pub(super) noise_due: Option<Instant>,
    /// Whether the agent is looked for.
    pub(super) agent_lost: bool,
    /// Own messages that are not in their room's log yet, oldest first.
    pub(super) mine: VecDeque<Mine>,
    /// What was typed while the conversation had no room for it, oldest first.
    pub(super) waiting: VecDeque<(MessageId, Room, Content)>,
    pub(super) waiting_bytes: usize,
    /// Rooms whose read marker is being moved, and where it must be moved after that.
    pub(super) marking: HashMap<Room, Option<Cursor>>,
    /// Markers that were being moved when the agent was lost, or was too busy.
    pub(super) unmarked: HashMap<Room, Cursor>,
    /// When to try those again.
    mark_again_at: Option<Instant>,
    pub(super) caught_up: HashSet<Room>,
    /// Since when the agent has been there: what was said before is no reason to call anybody.
    pub(super) here_since: Timestamp,
    /// Who is in the current room, as far as is known.
    pub(super) names: Vec<String>,
    /// What the Tab key completes at the moment.
    words: Words,
    /// At which change of the rooms that was so.
    words_of: Option<u64>,
}

impl Desk {
    pub(super) fn new(
        style: Style,
        current: Room,
        preferences: Preferences,
        ignored: Ignored,
    ) -> Self {
        let mut desk = Self {
            transcript: Transcript::new(style),
            preferences,
            ignored,
            current,
            backlog: Backlog::default(),
            topics: HashMap::new(),
            known: HashMap::new(),
            visited: HashSet::new(),
            link: None,
            server_log: None,
            absence: Absence::default(),
            calls: Calls::default(),
            noise: Noise::default(),
            noise_due: None,
            agent_lost: false,
            mine: VecDeque::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            marking: HashMap::new(),
            unmarked: HashMap::new(),
            mark_again_at: None,
            caught_up: HashSet::new(),
            here_since: now(),
            names: Vec::new(),
            words: Words::default(),
            words_of: None,
        };
        desk.choose_colours();
        desk
    }

    /// As the person wants them, or as the terminal says.
    pub(super) fn choose_colours(&mut self) {
        let colours = std::env::var("COLORFGBG").ok();
        self.transcript.style.ground = self.preferences.ground(colours.as_deref());
    }

    pub(super) fn greet(&mut self, talk: &mut Talk) {
        let (me, room) = (talk.me().clone(), self.label(&self.current, talk.me()));
        self.note(&format!("you are {me} in {room}; /help lists commands"));
        self.ask_how_it_is(talk);
        self.ask_names(talk);
    }

    /// Asks what this terminal is to know of what was before it.
    pub(super) fn ask_how_it_is(&self, talk: &mut Talk) {
        if talk.features().has(Features::LOG_STATUS) {
            // Before the link: what is wrong with it is among the problems there.
            talk.ask(Question::Log, Request::Log);
        }
        talk.ask(Question::Link, Request::Status);
        let (query, after) = (SearchQuery::default(), None);
        talk.ask(Question::Waiting, Request::Pending { query, after });
        talk.ask(Question::Known, Request::Rooms { after: None });
    }

    /// Forgets what was under way for another name.
    pub(super) fn begin_anew(&mut self, talk: &mut Talk) {
        self.mine.clear();
        self.marking.clear();
        self.unmarked.clear();
        self.caught_up.clear();
        self.known.clear();
        self.visited.clear();
        self.here_since = now();
        self.agent_lost = false;
        self.ask_how_it_is(talk);
    }

    /// Asks who is in the current room, for the completion of their names.
    pub(super) fn ask_names(&mut self, talk: &mut Talk) {
        self.names.clear();
        let room = self.current.clone();
        if matches!(room, Room::Direct(_)) {
            self.names.push(room.seen_by(talk.me()));
            return;
        }
        let request = Request::Who {
            room: room.clone(),
            after: None,
        };
        talk.ask(Question::Names(room), request);
    }

    pub(super) fn prompt(&self, me: &UserName) -> PromptText {
        PromptText {
            room: self.label(&self.current, me),
        }
    }

    /// What is wrong with the server's log, if it is known.
    pub(super) fn log_trouble(&self) -> Option<String> {
        let server = self.link.as_ref()?.server()?;
        self.server_log.as_ref()?.health.trouble_of(server)
    }

    /// What the prompt's marker shows: how far messages get, and how many are known to wait.
    pub(super) fn state(&self) -> (State, u32) {
        let state = match &self.link {
            _ if self.agent_lost => State::Looking,
            Some(LinkStatus::Online { .. }) if self.log_trouble().is_some() => State::Looking,
            Some(LinkStatus::Online { .. }) => State::Connected,
            Some(LinkStatus::LocalOnly) => State::Local,
            Some(LinkStatus::Waiting { .. } | LinkStatus::Connecting { .. }) | None => {
                State::Looking
            }
        };
        let waiting = self.mine.iter().filter(|mine| mine.shown).count() + self.waiting.len();
        (state, u32::try_from(waiting).unwrap_or(u32::MAX))
    }

    /// What the Tab key is to complete, if that has changed.
    pub(super) fn new_words(&mut self, talk: &Talk) -> Option<Words> {
        let changes = Some(talk.follow().changes());
        if changes == self.words_of && self.names == self.words.nicks {
            return None;
        }
        self.words_of = changes;
        let open = talk.follow().rooms();
        let open = open.filter(|room| !matches!(room, Room::Direct(_)));
        let rooms: Vec<String> = open.map(|room| room.seen_by(talk.me())).collect();
        self.words = Words {
            commands: command::names().map(str::to_owned).collect(),
            rooms,
            nicks: self.names.clone(),
        };
        Some(self.words.clone())
    }

    pub(super) const fn style(&self) -> &Style {
        &self.transcript.style
    }

    /// A line of the program's own, not of a person.
    pub(super) fn note(&mut self, text: &str) {
        self.tell_noise();
        let line = self.own_line("-- ", &render::line(text));
        self.backlog.push(line);
    }

    /// A line of the program's own that fits the terminal; `text` is clean.
    pub(super) fn own_line(&self, mark: &str, text: &str) -> String {
        let wrapped = self.style().under(mark, text, render::columns());
        let lines: Vec<String> = wrapped.lines().map(|line| self.style().dim(line)).collect();
        lines.join("\n")
    }

    /// Tells who came and went since that was told last.
    pub(super) fn tell_noise(&mut self) {
        self.noise_due = None;
        if let Some(line) = self.noise.fold() {
            let line = self.own_line("-- ", &render::line(&line));
            self.backlog.push(line);
        }
    }

    /// Notes who came or went, to be told soon.
    pub(super) fn make_noise(&mut self, who: String, change: super::noise::Change) {
        if self.preferences.comings {
            self.noise.take(who, change);
            self.noise_due
                .get_or_insert_with(|| Instant::now() + NOISE_AFTER);
        }
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
        self.unmarked.remove(&room);
        let request = Request::MarkRead {
            room: room.clone(),
            cursor,
        };
        talk.ask(Question::MarkRead(room, cursor), request);
    }

    /// Notes that the agent was too busy to move a read marker.
    pub(super) fn mark_later(&mut self, room: Room, cursor: Cursor, pause: Duration) {
        self.unmarked.insert(room, cursor);
        self.mark_again_at = Some(Instant::now() + pause);
    }

    /// Moves read markers that an agent was too busy for.
    pub(super) fn mark_again(&mut self, talk: &mut Talk) {
        if self.mark_again_at.is_some_and(|due| due <= Instant::now()) {
            self.mark_again_at = None;
            for (room, cursor) in std::mem::take(&mut self.unmarked) {
                self.mark_read(talk, room, cursor);
            }
        }
    }

    /// When something is to be said that is not said yet.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let pending = self.mine.iter().find(|mine| !mine.shown);
        let pending = pending.map(|mine| mine.said + PENDING_AFTER);
        let due = [
            pending,
            self.noise_due,
            self.absence.due(),
            self.calls.due(),
            self.mark_again_at,
        ];
        due.into_iter().flatten().min()
    }

    /// Says what has become due: messages still on their way (at once if it is known that they
    /// will be), who came and went, who wants something, and how long there was no server.
    pub(super) fn wake(&mut self, talk: &Talk) {
        let now = Instant::now();
        if self.noise_due.is_some_and(|due| due <= now) {
            self.tell_noise();
        }
        if let Some(summary) = self.absence.summary(now) {
            let (from, to) = (
                self.style().clock(summary.from),
                self.style().clock(summary.to),
            );
            let (sent, received) = (summary.sent, summary.received);
            self.note(&format!(
                "offline {from}–{to}: {sent} sent, {received} received"
            ));
        }
        if let Some(call) = self.calls.fold(now) {
            self.backlog.push_unseen(&self.preferences.call(&call));
        }
        self.tell_pending(talk, now);
    }

    /// The room as the person knows it; a conversation with one person has a mark of its own.
    pub(super) fn label(&self, room: &Room, me: &UserName) -> String {
        transcript::label(room, me)
    }
}

/// The time, by this host's clock.
pub(super) fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}
