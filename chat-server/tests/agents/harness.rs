//! A server with its log in a temporary directory, and agents as the tests need them.

use chat_server::{
    Bounds, Door, Service,
    log::{Log, SqliteLog},
};
use futures_util::{SinkExt, StreamExt};
use protocol::{
    AgentId, CodecError, Committed, Content, Epoch, FrameCodec, MessageId, Outgoing, RequestId,
    Room, Seq, Timestamp, Vocabulary,
    federation::{AgentFrame, Event, Refusal, Reply, Request, ServerFrame},
    handshake,
};
use std::{collections::VecDeque, future::Future, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, duplex},
    time::timeout,
};
use tokio_util::codec::Framed;

/// What anything here may take on a slow machine before it counts as never.
const NEVER: Duration = Duration::from_secs(30);

/// Bytes in flight between an agent and the server, as a socket's buffer.
const PIPE_BYTES: usize = 256 * 1024;

pub(crate) struct Server {
    pub(crate) service: Service,
    pub(crate) log: Arc<SqliteLog>,
    _dir: TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (log, commits) = SqliteLog::open(dir.path()).unwrap();
        let log = Arc::new(log);
        let service = Service::start(
            Arc::clone(&log) as Arc<dyn Log>,
            commits,
            Door::Plaintext,
            Bounds::NONE,
        );
        Self {
            service,
            log,
            _dir: dir,
        }
    }

    /// A stream that the server takes for an agent's.
    pub(crate) fn stream(&self) -> DuplexStream {
        let (ours, theirs) = duplex(PIPE_BYTES);
        self.service.connect(theirs, "test".to_owned());
        ours
    }

    /// A stream on which the prefaces were exchanged.
    pub(crate) async fn greeted(&self) -> Agent<DuplexStream> {
        Agent::greet(self.stream(), "nobody").await
    }

    /// A new agent of `host`.
    pub(crate) async fn agent(&self, host: &str) -> Agent<DuplexStream> {
        self.agent_with_id(host, AgentId::new()).await
    }

    pub(crate) async fn agent_with_id(&self, host: &str, id: AgentId) -> Agent<DuplexStream> {
        let mut agent = Agent::greet(self.stream(), host).await;
        agent.hello(id).await.unwrap();
        agent
    }
}

/// One end of a connection, with what arrived and was not asked for yet.
pub(crate) struct Agent<S> {
    pub(crate) host: String,
    frames: Framed<S, FrameCodec<ServerFrame, AgentFrame>>,
    next_id: u32,
    events: VecDeque<Event>,
    replies: VecDeque<(RequestId, Result<Reply, Refusal>)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Agent<S> {
    pub(crate) async fn greet(mut stream: S, host: &str) -> Self {
        handshake(&mut stream, Vocabulary::Federation)
            .await
            .unwrap();
        Self {
            host: host.to_owned(),
            frames: Framed::new(stream, FrameCodec::new()),
            next_id: 1,
            events: VecDeque::new(),
            replies: VecDeque::new(),
        }
    }

    pub(crate) async fn hello(&mut self, agent: AgentId) -> Result<Epoch, Refusal> {
        let request = Request::Hello {
            host: self.host.parse().unwrap(),
            agent,
            software: "test".to_owned(),
        };
        match self.ask(request).await? {
            Reply::Welcome { epoch, .. } => Ok(epoch),
            other => panic!("{other:?}"),
        }
    }

    /// Sends a request without waiting for its reply.
    pub(crate) async fn send(&mut self, request: Request) -> RequestId {
        let id = RequestId(self.next_id);
        self.next_id += 1;
        let frame = AgentFrame { id, request };
        within(self.frames.send(&frame)).await.unwrap();
        id
    }

    pub(crate) async fn ask(&mut self, request: Request) -> Result<Reply, Refusal> {
        let id = self.send(request).await;
        self.reply(id).await
    }

    pub(crate) async fn reply(&mut self, id: RequestId) -> Result<Reply, Refusal> {
        loop {
            let found = self.replies.iter().position(|(one, _)| *one == id);
            if let Some((_, result)) = found.and_then(|index| self.replies.remove(index)) {
                return result;
            }
            self.receive().await.expect("the server closed");
        }
    }

    pub(crate) async fn event(&mut self) -> Event {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            self.receive().await.expect("the server closed");
        }
    }

    /// The next message, whatever else is told.
    pub(crate) async fn message(&mut self) -> Committed {
        loop {
            if let Event::Committed(message) = self.event().await {
                return message;
            }
        }
    }

    /// Why the server closes this connection; nothing follows that.
    pub(crate) async fn closing(&mut self) -> Refusal {
        loop {
            if let Event::Closing { reason } = self.event().await {
                assert!(self.receive().await.is_none());
                return reason;
            }
        }
    }

    /// Takes one frame; `None` at the end of the stream.
    pub(crate) async fn receive(&mut self) -> Option<()> {
        let frame: Result<_, CodecError> = within(self.frames.next()).await?;
        match frame.unwrap() {
            ServerFrame::Reply { id, result } => self.replies.push_back((id, result)),
            // How the log is comes when it likes, and these tests are about what people do.
            ServerFrame::Event(Event::Log { .. }) => {}
            ServerFrame::Event(event) => self.events.push_back(event),
        }
        Some(())
    }

    pub(crate) async fn append(&mut self, message: &Outgoing) -> Result<Seq, Refusal> {
        self.append_as(0, message).await
    }

    pub(crate) async fn append_as(
        &mut self,
        attempt: u32,
        message: &Outgoing,
    ) -> Result<Seq, Refusal> {
        let message = message.clone();
        appended(self.ask(Request::Append { attempt, message }).await)
    }

    /// Follows `room` from its beginning, as a host that somebody of is in it.
    pub(crate) async fn subscribe(&mut self, room: &str) -> Result<Reply, Refusal> {
        self.subscribe_after(room, Seq::START, None).await
    }

    pub(crate) async fn subscribe_after(
        &mut self,
        room: &str,
        after: Seq,
        after_id: Option<MessageId>,
    ) -> Result<Reply, Refusal> {
        let room = self::room(room);
        if let Room::Federated(room) = room.clone() {
            // In one breath with what follows, as agents do it.
            let nick = "reader".parse().unwrap();
            self.send(Request::Join { room, nick }).await;
        }
        self.ask(Request::Subscribe {
            room,
            after,
            after_id,
        })
        .await
    }

    pub(crate) fn stream(&mut self) -> &mut S {
        self.frames.get_mut()
    }

    /// Reads whatever comes until the server closes.
    pub(crate) async fn drain(mut self) {
        let mut rest = Vec::new();
        within(self.stream().read_to_end(&mut rest)).await.unwrap();
    }
}

pub(crate) fn appended(result: Result<Reply, Refusal>) -> Result<Seq, Refusal> {
    match result? {
        Reply::Appended { seq } => Ok(seq),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn room(text: &str) -> Room {
    text.parse().unwrap()
}

pub(crate) fn message(author: &str, to: &str, text: &str) -> Outgoing {
    Outgoing {
        id: MessageId::new(),
        room: room(to),
        author: author.parse().unwrap(),
        sent_at: Timestamp::from_micros(1),
        body: Content::Text(text.to_owned()).encode().unwrap(),
    }
}

pub(crate) fn text(message: &Committed) -> String {
    match message.body.decode().unwrap() {
        Content::Text(text) => text,
        other => panic!("{other:?}"),
    }
}

/// `future`'s value, unless it never comes.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(NEVER, future).await.expect("this takes for ever")
}
