//! A conversation that outlives its sessions: what is read and said goes on after the agent was
//! lost and found again, without loss or doubles.
//!
//! ```text
//!            lost, or going away
//!      Up ────────────────────────▶ Down
//!       ▲                             │ tries, waits, tries; starts an agent if it may
//!       └─────────────────────────────┘
//!            welcome: open all rooms after their positions, send again what has no answer
//! ```
//!
//! One owner calls [`Conversation::next`] and is told what happened, one thing at a time.

use crate::{
    client::{Incoming, Session, SessionError},
    exit::Failure,
    follow::{Follow, Opened, Take},
    outbound::{Fate, Outbound, Until},
    paths::Settings,
    search::{Found, RETRY_MAX, backoff, find, find_again},
};
use protocol::{
    Committed, MessageId, RequestId, Room, UserName,
    local::{Delivery, Event, From, Refusal, Reply, Request},
};
use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::{Future, pending},
    pin::Pin,
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// How long a session must live to count as proof that all is well.
const PROVEN_AFTER: Duration = Duration::from_secs(1);

/// How a conversation behaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Whether a person sits here.
    pub interactive: bool,
    /// Whether to start an agent when there is none.
    pub autostart: bool,
    /// Whether to go on after the agent was lost.
    pub reconnect: bool,
    /// How long to look for a lost agent; for ever if absent.
    pub patience: Option<Duration>,
    /// Whether to read all direct conversations.
    pub directs: bool,
}

/// What happened in a conversation.
#[derive(Debug)]
pub enum Happening<Q> {
    /// The agent was found again.
    Reconnected,
    /// The agent was lost; it is being looked for.
    Disconnected(String),
    /// The agent is gone and another could not be started, for this reason; the search goes on.
    NotStarted(String),
    /// A room was opened.
    Opened {
        /// Which room.
        room: Room,
        /// Its topic.
        topic: String,
    },
    /// A room cannot be opened; it is not read any more.
    OpenRefused(Room, Refusal),
    /// The next message of a room.
    Message(Committed),
    /// All that a room had has been told.
    CaughtUp(Room),
    /// A room's log has begun a new life.
    NewLife(Room),
    /// What became of an own message.
    Fate(Fate),
    /// The answer to a question; `None` if the agent was lost before.
    Answer(Q, Option<Result<Reply, Refusal>>),
    /// Something else.
    Event(Event),
}

/// A conversation; `Q` is what its owner notes about each question.
pub struct Conversation<Q = ()> {
    settings: Settings,
    options: Options,
    link: Link,
    me: UserName,
    follow: Follow,
    outbound: Outbound,
    questions: HashMap<RequestId, Q>,
    /// Openings that a busy agent asked to repeat.
    reopen: VecDeque<(Instant, Room)>,
    ready: VecDeque<Happening<Q>>,
    /// Sessions in a row that did not last.
    flaps: u32,
    up_since: Instant,
    lost: Instant,
    /// Why no agent could be started, as told last.
    trouble: Option<String>,
    /// How long the agent said it will be away.
    away: Option<Duration>,
}

enum Link {
    Up(Box<Session>),
    Down(Pin<Box<dyn Future<Output = Result<Found, Failure>> + Send>>),
}

impl<Q> fmt::Debug for Conversation<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversation")
            .field("me", &self.me)
            .field("follow", &self.follow)
            .finish_non_exhaustive()
    }
}

impl<Q> Conversation<Q> {
    /// Connects to the agent, starting one if the options say so.
    ///
    /// # Errors
    ///
    /// [`Failure`] with the exit code for a missing or unwilling agent.
    pub async fn begin(settings: &Settings, options: Options) -> Result<Self, Failure> {
        let session = find(settings, options).await?;
        let mut conversation = Self {
            settings: settings.clone(),
            options,
            me: session.user().clone(),
            link: Link::Up(Box::new(session)),
            follow: Follow::default(),
            outbound: Outbound::default(),
            questions: HashMap::new(),
            reopen: VecDeque::new(),
            ready: VecDeque::new(),
            flaps: 0,
            up_since: Instant::now(),
            lost: Instant::now(),
            trouble: None,
            away: None,
        };
        conversation.open_all();
        Ok(conversation)
    }

    /// Who speaks here.
    #[must_use]
    pub const fn me(&self) -> &UserName {
        &self.me
    }

    /// Which rooms are read and how far.
    #[must_use]
    pub const fn follow(&self) -> &Follow {
        &self.follow
    }

    /// Own messages that need attention.
    #[must_use]
    pub const fn outbound(&self) -> &Outbound {
        &self.outbound
    }

    /// Own messages that need attention, to change that.
    pub const fn outbound_mut(&mut self) -> &mut Outbound {
        &mut self.outbound
    }

    /// Whether the agent is there.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self.link, Link::Up(_))
    }

    /// Begins to read a room.
    pub fn read(&mut self, room: Room, from: From) {
        self.follow.add(room.clone(), from);
        self.open(&room);
    }

    /// Stops reading a room.
    pub fn unread(&mut self, room: &Room) {
        if self.follow.remove(room)
            && let Link::Up(session) = &mut self.link
        {
            // Should the agent be lost with this, there is nothing left to close.
            let _ = session.queue(Request::Close { room: room.clone() });
        }
    }

    /// Says something; the caller asked [`Outbound::has_room`] before.
    pub fn say(&mut self, id: MessageId, room: Room, text: String, until: Until) {
        self.outbound.say(id, room, text, until, Instant::now());
    }

    /// Asks a question; the answer comes as [`Happening::Answer`].
    pub fn ask(&mut self, question: Q, request: Request) {
        let id = match &mut self.link {
            Link::Up(session) => session.queue(request).ok(),
            Link::Down(_) => None,
        };
        match id {
            Some(id) => {
                self.questions.insert(id, question);
            }
            None => self.ready.push_back(Happening::Answer(question, None)),
        }
    }

    /// Waits for the next thing to happen; sends what is to be sent meanwhile.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the conversation cannot go on.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing that happened is lost.
    pub async fn next(&mut self) -> Result<Happening<Q>, Failure> {
        loop {
            if let Some(happening) = self.ready.pop_front() {
                return Ok(happening);
            }
            self.queue_sends()?;
            let wake = [
                self.outbound.held_until(),
                self.outbound.ask_again_at(),
                self.reopen.front().map(|(at, _)| *at),
            ];
            let wake = wake.into_iter().flatten().min();
            match &mut self.link {
                Link::Up(session) => {
                    let incoming = tokio::select! {
                        incoming = session.next() => incoming,
                        () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                            self.reopen_due();
                            self.outbound.ask_again(Instant::now());
                            continue;
                        }
                    };
                    match incoming {
                        Ok(Incoming::Reply { id, result }) => self.on_reply(id, result)?,
                        Ok(Incoming::Event(event)) => self.on_event(event),
                        Err(error) => self.on_lost(error)?,
                    }
                }
                Link::Down(found) => {
                    let found = found.await?;
                    self.on_found(found);
                }
            }
        }
    }

    /// Writes what is to be sent without reading; never returns. For an owner that cannot take
    /// more just now but must not hold up what it said.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn only_write(&mut self) {
        if let Link::Up(session) = &mut self.link {
            session.write_queued().await;
        }
        pending().await
    }

    fn queue_sends(&mut self) -> Result<(), Failure> {
        let Link::Up(session) = &mut self.link else {
            return Ok(());
        };
        let now = Instant::now();
        while let Some((id, request)) = self.outbound.next_request(now) {
            let asked = session.queue(request)?;
            self.outbound.asked(id, asked);
        }
        Ok(())
    }

    fn open_all(&mut self) {
        if self.options.directs
            && let Link::Up(session) = &mut self.link
        {
            // Cannot be too large for a frame; a lost session is noticed when reading.
            let _ = session.queue(Request::OpenDirects);
        }
        for room in self.follow.to_open() {
            self.open(&room);
        }
    }

    fn open(&mut self, room: &Room) {
        if let Some(request) = self.follow.opening(room) {
            self.send_opening(room.clone(), request);
        }
    }

    fn send_opening(&mut self, room: Room, request: Request) {
        if let Link::Up(session) = &mut self.link
            && let Ok(id) = session.queue(request)
        {
            self.follow.asked(id, room);
        }
    }

    fn reopen_due(&mut self) {
        let now = Instant::now();
        while let Some((_, room)) = self.reopen.pop_front_if(|(at, _)| *at <= now) {
            self.open(&room);
        }
    }

    fn on_reply(&mut self, id: RequestId, result: Result<Reply, Refusal>) -> Result<(), Failure> {
        if let Some(question) = self.questions.remove(&id) {
            self.ready
                .push_back(Happening::Answer(question, Some(result)));
            return Ok(());
        }
        if self.outbound.is_asked(id) {
            let result = match result {
                Ok(Reply::Sent { state }) => Ok(state),
                Ok(_) => return Err(misfit()),
                Err(refusal) => Err(refusal),
            };
            let fate = self.outbound.on_reply(id, result, Instant::now());
            self.ready.extend(fate.map(Happening::Fate));
            return Ok(());
        }
        let mut topic_of = String::new();
        let opened = match result {
            Ok(Reply::Opened {
                epoch,
                after,
                topic,
                ..
            }) => {
                topic_of = topic;
                Ok((epoch, after))
            }
            // Not an opening: `OpenDirects`, `Close`, or a message whose outcome came first.
            Ok(_) => return Ok(()),
            Err(refusal) => Err(refusal),
        };
        match self.follow.on_opened(id, opened) {
            Some(Opened::Open(room)) => self.ready.push_back(Happening::Opened {
                room,
                topic: topic_of,
            }),
            Some(Opened::NewLife(room)) => self.ready.push_back(Happening::NewLife(room)),
            Some(Opened::Refused(room, Refusal::Busy { retry_after_ms })) => {
                let at = Instant::now() + Duration::from_millis(retry_after_ms.into());
                self.reopen.push_back((at, room));
            }
            // The next connection opens it.
            Some(Opened::Refused(_, Refusal::ShuttingDown)) | None => {}
            Some(Opened::Refused(room, refusal)) => {
                self.follow.remove(&room);
                self.ready.push_back(Happening::OpenRefused(room, refusal));
            }
        }
        Ok(())
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Committed(message) => match self.follow.on_message(&message) {
                Take::Next => {
                    let fate = self.fate_by_log(&message);
                    self.ready.push_back(Happening::Message(message));
                    self.ready.extend(fate.map(Happening::Fate));
                }
                Take::Reopen(request) => self.send_opening(message.room, request),
                Take::Drop => {}
            },
            Event::CaughtUp { room, .. } => {
                self.follow.on_caught_up(&room);
                self.ready.push_back(Happening::CaughtUp(room));
            }
            Event::Outcome { id, room, result } => {
                match self.outbound.on_outcome(id, result.clone()) {
                    Some(fate) => self.ready.push_back(Happening::Fate(fate)),
                    None => {
                        self.ready
                            .push_back(Happening::Event(Event::Outcome { id, room, result }))
                    }
                }
            }
            Event::EpochChanged { room, epoch } => {
                if self.follow.on_epoch_changed(&room, epoch) {
                    self.ready.push_back(Happening::NewLife(room));
                }
            }
            Event::DirectOpened { room, epoch } => {
                if let Some(request) = self.follow.on_direct_opened(room.clone(), epoch) {
                    self.send_opening(room, request);
                }
            }
            Event::GoingAway { reconnect_in_ms } => {
                self.away = Some(Duration::from_millis(reconnect_in_ms.into()));
            }
            event => self.ready.push_back(Happening::Event(event)),
        }
    }

    /// An own message seen in its log is committed, whether or not its outcome was heard of.
    fn fate_by_log(&mut self, message: &Committed) -> Option<Fate> {
        if message.author != self.me {
            return None;
        }
        let epoch = self.follow.reached(&message.room)?.epoch;
        let committed = Delivery::Committed {
            epoch,
            seq: message.seq,
        };
        self.outbound.on_outcome(message.id, Ok(committed))
    }

    fn on_lost(&mut self, error: SessionError) -> Result<(), Failure> {
        if !self.options.reconnect || !error.may_pass() {
            return Err(error.into());
        }
        self.flaps = if self.up_since.elapsed() < PROVEN_AFTER {
            self.flaps.saturating_add(1)
        } else {
            0
        };
        let pause = backoff(self.flaps).max(self.away.take().unwrap_or_default());
        self.lost = Instant::now();
        self.search(pause);
        self.follow.disconnected();
        self.outbound.disconnected();
        self.reopen.clear();
        self.ready
            .push_back(Happening::Disconnected(error.to_string()));
        for (_, question) in self.questions.drain() {
            self.ready.push_back(Happening::Answer(question, None));
        }
        Ok(())
    }

    fn search(&mut self, pause: Duration) {
        let search = find_again(self.settings.clone(), self.options, self.lost, pause);
        self.link = Link::Down(Box::pin(search));
    }

    fn on_found(&mut self, found: Found) {
        let session = match found {
            Found::Session(session) => session,
            Found::NotStarted(reason) => {
                self.search(RETRY_MAX);
                if self.trouble.as_ref() != Some(&reason) {
                    self.trouble = Some(reason.clone());
                    self.ready.push_back(Happening::NotStarted(reason));
                }
                return;
            }
        };
        self.trouble = None;
        self.me = session.user().clone();
        self.link = Link::Up(Box::new(session));
        self.up_since = Instant::now();
        self.open_all();
        self.ready.push_back(Happening::Reconnected);
    }
}

fn misfit() -> Failure {
    Failure::failed("the agent gave an answer that does not fit the question")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        exit::Exit,
        fake::{FakeAgent, FakeSession},
        sample::{epoch, message},
    };
    use protocol::{Cursor, Nick, Seq};
    use tokio::net::{UnixListener, UnixStream};

    struct Story {
        settings: Settings,
        listener: UnixListener,
        _dir: tempfile::TempDir,
    }

    impl Story {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let socket = dir.path().join("agent.sock");
            Self {
                listener: UnixListener::bind(&socket).unwrap(),
                settings: Settings {
                    socket,
                    state_dir: dir.path().to_owned(),
                    nick: Nick::parse("alice").unwrap(),
                },
                _dir: dir,
            }
        }

        async fn accept(&self) -> FakeSession<UnixStream> {
            let (stream, _) = self.listener.accept().await.unwrap();
            FakeAgent(stream).welcome("alice@ada").await
        }

        /// Begins a conversation that reads `#ops` from its beginning.
        async fn begin(&self, options: Options) -> (Conversation, FakeSession<UnixStream>) {
            let begin = Conversation::begin(&self.settings, options);
            let (talk, agent) = tokio::join!(begin, self.accept());
            let mut talk = talk.unwrap();
            talk.read(ops(), From::Beginning);
            (talk, agent)
        }
    }

    const RECONNECT: Options = Options {
        interactive: false,
        autostart: false,
        reconnect: true,
        patience: Some(Duration::from_millis(200)),
        directs: false,
    };

    fn ops() -> Room {
        "#ops".parse().unwrap()
    }

    fn opened(head: u64) -> Reply {
        Reply::Opened {
            epoch: epoch(1),
            after: Seq::START,
            head: Seq::new(head),
            topic: String::new(),
            read: None,
        }
    }

    /// Drives `talk` while the agent does its part, for steps without a happening.
    async fn during<T>(talk: &mut Conversation, agent: impl Future<Output = T>) -> T {
        tokio::select! {
            happening = talk.next() => panic!("{happening:?}"),
            done = agent => done,
        }
    }

    #[tokio::test]
    async fn reading_and_sending_go_on_after_the_agent_was_lost() {
        let story = Story::new();
        let (mut talk, mut agent) = story.begin(RECONNECT).await;
        let one = MessageId::new();
        talk.say(one, ops(), "one".to_owned(), Until::Queued);
        let open = during(&mut talk, agent.read()).await;
        let sent = during(&mut talk, agent.read()).await;
        assert!(matches!(sent.request, Request::Send { id, .. } if id == one));
        agent.reply(open.id, Ok(opened(1))).await;
        let first = message("#ops", 1, "bob@bee", "hi");
        agent.event(Event::Committed(first.clone())).await;
        assert!(matches!(
            talk.next().await.unwrap(),
            Happening::Opened { .. }
        ));
        assert!(matches!(talk.next().await.unwrap(), Happening::Message(_)));
        drop(agent);
        assert!(matches!(
            talk.next().await.unwrap(),
            Happening::Disconnected(_)
        ));

        let (happening, mut agent) = tokio::join!(talk.next(), story.accept());
        assert!(matches!(happening.unwrap(), Happening::Reconnected));
        let open = during(&mut talk, agent.read()).await;
        let after = Cursor {
            epoch: epoch(1),
            seq: Seq::new(1),
        };
        assert_eq!(
            open.request,
            Request::Open {
                room: ops(),
                from: From::After(after)
            }
        );
        let again = during(&mut talk, agent.read()).await;
        assert_eq!(again.request, sent.request);
        agent.reply(open.id, Ok(opened(2))).await;
        agent.event(Event::Committed(first)).await;
        agent
            .event(Event::Committed(message("#ops", 2, "bob@bee", "there")))
            .await;
        let queued = Reply::Sent {
            state: Delivery::Queued,
        };
        agent.reply(again.id, Ok(queued)).await;
        assert!(matches!(
            talk.next().await.unwrap(),
            Happening::Opened { .. }
        ));
        assert!(
            matches!(talk.next().await.unwrap(), Happening::Message(m) if m.seq == Seq::new(2))
        );
        assert!(
            matches!(talk.next().await.unwrap(), Happening::Fate(Fate::Queued(id)) if id == one)
        );
    }

    #[tokio::test]
    async fn a_gap_is_asked_for_and_not_shown() {
        let story = Story::new();
        let (mut talk, mut agent) = story.begin(RECONNECT).await;
        let open = during(&mut talk, agent.read()).await;
        agent.reply(open.id, Ok(opened(3))).await;
        agent
            .event(Event::Committed(message("#ops", 3, "bob@bee", "three")))
            .await;
        assert!(matches!(
            talk.next().await.unwrap(),
            Happening::Opened { .. }
        ));
        let again = during(&mut talk, agent.read()).await;
        agent.reply(again.id, Ok(opened(3))).await;
        for seq in 1..=3 {
            agent
                .event(Event::Committed(message("#ops", seq, "bob@bee", "x")))
                .await;
        }
        assert!(matches!(
            talk.next().await.unwrap(),
            Happening::Opened { .. }
        ));
        for seq in 1..=3 {
            assert!(
                matches!(talk.next().await.unwrap(), Happening::Message(m) if m.seq == Seq::new(seq))
            );
        }
    }

    #[tokio::test]
    async fn a_lost_agent_is_looked_for_no_longer_than_said() {
        let story = Story::new();
        let (mut talk, agent) = story.begin(RECONNECT).await;
        drop(agent);
        std::fs::remove_file(&story.settings.socket).unwrap();
        assert!(matches!(
            talk.next().await.unwrap(),
            Happening::Disconnected(_)
        ));
        assert_eq!(talk.next().await.unwrap_err().exit, Exit::Unreachable);
    }

    #[tokio::test]
    async fn without_reconnecting_a_lost_agent_is_the_end() {
        let story = Story::new();
        let options = Options {
            reconnect: false,
            ..RECONNECT
        };
        let (mut talk, agent) = story.begin(options).await;
        drop(agent);
        assert_eq!(talk.next().await.unwrap_err().exit, Exit::Unreachable);
    }

    #[tokio::test]
    async fn a_busy_agent_is_asked_again() {
        let story = Story::new();
        let (mut talk, mut agent) = story.begin(RECONNECT).await;
        let open = during(&mut talk, agent.read()).await;
        let busy = Refusal::Busy { retry_after_ms: 1 };
        agent.reply(open.id, Err(busy)).await;
        let again = during(&mut talk, agent.read()).await;
        assert_eq!(again.request, open.request);
    }
}
