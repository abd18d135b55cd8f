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
//! What it means to be connected is in `link`, what the agent's frames mean in `dialogue`.
//!
//! One owner calls [`Conversation::next`] and is told what happened, one thing at a time.

mod dialogue;
mod link;

use crate::{
    client::Incoming,
    exit::Failure,
    follow::Follow,
    outbound::{Fate, Outbound, Until},
    paths::Settings,
};
use link::{Link, News};
use protocol::{
    Committed, Content, Features, MessageId, Nick, RequestId, Room, Seq, UserName,
    local::{Event, From, Refusal, Reply, Request},
};
use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::pending,
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

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
    /// The agent is gone and no other was started, for this reason; the search goes on.
    NotStarted(String),
    /// A room was opened.
    Opened {
        /// Which room.
        room: Room,
        /// Its topic.
        topic: String,
        /// How far this user has read it, if they ever did.
        read: Option<Seq>,
    },
    /// A room cannot be opened; it is not read any more.
    OpenRefused(Room, Refusal),
    /// The next message of a room.
    Message(Committed),
    /// All that a room had has been told.
    CaughtUp {
        /// Which room.
        room: Room,
        /// Whether the server, if the room is its to order, said that this is all.
        complete: bool,
    },
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
    link: Link,
    me: UserName,
    follow: Follow,
    outbound: Outbound,
    questions: HashMap<RequestId, Q>,
    /// Openings that a busy agent asked to repeat.
    reopen: VecDeque<(Instant, Room)>,
    ready: VecDeque<Happening<Q>>,
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
        let (link, me) = Link::begin(settings, options).await?;
        let mut conversation = Self {
            link,
            me,
            follow: Follow::default(),
            outbound: Outbound::default(),
            questions: HashMap::new(),
            reopen: VecDeque::new(),
            ready: VecDeque::new(),
        };
        conversation.open_all();
        Ok(conversation)
    }

    /// Who speaks here.
    #[must_use]
    pub const fn me(&self) -> &UserName {
        &self.me
    }

    /// What the agent that is there understands beside what every one does.
    pub fn features(&mut self) -> Features {
        let session = self.link.session();
        session.map_or(Features::NONE, |session| session.features())
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
        self.link.is_up()
    }

    /// Goes on as somebody else of this host: what is read is read on, and conversations with one
    /// person are those of the new name. The caller sees to it that nothing is on its way.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the agent does not let this user be called so; nothing has changed then.
    pub async fn go_on_as(&mut self, settings: &Settings, nick: Nick) -> Result<(), Failure> {
        self.me = self.link.go_on_as(settings, nick).await?;
        self.follow.forget_directs();
        self.follow.disconnected();
        self.outbound = Outbound::default();
        self.reopen.clear();
        for (_, question) in self.questions.drain() {
            self.ready.push_back(Happening::Answer(question, None));
        }
        self.open_all();
        Ok(())
    }

    /// Begins to read a room.
    pub fn read(&mut self, room: Room, from: From) {
        self.follow.add(room.clone(), from);
        self.open(&room);
    }

    /// Stops reading a room.
    pub fn unread(&mut self, room: &Room) {
        if self.follow.remove(room)
            && let Some(session) = self.link.session()
        {
            // Should the agent be lost with this, there is nothing left to close.
            let _ = session.queue(Request::Close { room: room.clone() });
        }
    }

    /// Says something; the caller asked [`Outbound::has_room`] before.
    pub fn say(&mut self, id: MessageId, room: Room, content: Content, until: Until) {
        self.outbound.say(id, room, content, until, Instant::now());
    }

    /// Asks a question; the answer comes as [`Happening::Answer`].
    pub fn ask(&mut self, question: Q, request: Request) {
        let session = self.link.session();
        match session.and_then(|session| session.queue(request).ok()) {
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
            if !self.link.is_up() {
                self.link.want(self.outbound.unaccepted() > 0);
            }
            let wake = [
                self.outbound.held_until(),
                self.outbound.ask_again_at(),
                self.reopen.front().map(|(at, _)| *at),
            ];
            let wake = wake.into_iter().flatten().min();
            let news = tokio::select! {
                news = self.link.next() => news?,
                () = sleep_until(wake.unwrap_or_else(Instant::now)),
                    if wake.is_some() && self.link.is_up() =>
                {
                    self.reopen_due();
                    self.outbound.ask_again(Instant::now());
                    continue;
                }
            };
            match news {
                News::Incoming(Incoming::Reply { id, result }) => self.on_reply(id, result)?,
                News::Incoming(Incoming::Event(event)) => self.on_event(event),
                News::Lost(reason) => self.on_lost(reason),
                News::Found(me) => {
                    self.me = me;
                    self.open_all();
                    self.ready.push_back(Happening::Reconnected);
                }
                News::NotStarted(reason) => self.ready.push_back(Happening::NotStarted(reason)),
            }
        }
    }

    /// Writes what is to be sent without reading; returns only if that cannot go on. For an owner
    /// that cannot take more just now but must not hold up what it said.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn only_write(&mut self) -> Failure {
        if let Err(failure) = self.queue_sends() {
            return failure;
        }
        if let Some(session) = self.link.session() {
            session.write_queued().await;
        }
        pending().await
    }

    /// Waits for the next thing to happen, or if the owner is `full` only writes.
    ///
    /// # Errors
    ///
    /// As [`Conversation::next`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn progress(&mut self, full: bool) -> Result<Happening<Q>, Failure> {
        if full {
            return Err(self.only_write().await);
        }
        self.next().await
    }

    fn queue_sends(&mut self) -> Result<(), Failure> {
        let Some(session) = self.link.session() else {
            return Ok(());
        };
        let now = Instant::now();
        while let Some((id, request)) = self.outbound.next_request(now) {
            let asked = session.queue(request)?;
            self.outbound.asked(id, asked);
        }
        Ok(())
    }

    fn on_lost(&mut self, reason: String) {
        self.follow.disconnected();
        self.outbound.disconnected();
        self.reopen.clear();
        self.ready.push_back(Happening::Disconnected(reason));
        for (_, question) in self.questions.drain() {
            self.ready.push_back(Happening::Answer(question, None));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        exit::Exit,
        fake::{FakeAgent, FakeSession},
        sample::{epoch, message},
    };
    use protocol::{Cursor, local::Delivery};
    use std::future::Future;
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
                    socket_given: true,
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

    fn text(words: &str) -> Content {
        Content::Text(words.to_owned())
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
        talk.say(one, ops(), text("one"), Until::Queued);
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
    async fn an_agent_lost_while_it_is_met_is_looked_for_again() {
        let story = Story::new();
        let options = Options {
            autostart: true,
            ..RECONNECT
        };
        let agent = async {
            let mut agent = story.accept().await;
            let met = agent.read().await;
            assert_eq!(met.request, Request::Status);
            drop(agent);
            let mut agent = story.accept().await;
            let again = agent.read().await;
            assert_eq!(again.request, met.request);
            agent.reply(again.id, Ok(Reply::Done)).await;
            agent
        };
        let begin = Conversation::<()>::begin(&story.settings, options);
        let (talk, _agent) = tokio::join!(begin, agent);
        assert!(talk.unwrap().is_up());
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

    #[tokio::test]
    async fn what_is_said_is_sent_while_nothing_can_be_taken() {
        let story = Story::new();
        let (mut talk, mut agent) = story.begin(RECONNECT).await;
        during(&mut talk, agent.read()).await;
        let one = MessageId::new();
        talk.say(one, ops(), text("one"), Until::Queued);
        let sent = tokio::select! {
            failure = talk.only_write() => panic!("{failure}"),
            sent = agent.read() => sent,
        };
        assert!(matches!(sent.request, Request::Send { id, .. } if id == one));
    }
}
