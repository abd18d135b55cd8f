//! One session with the agent: connecting, handshake, requests, replies and events.
//!
//! A [`Session`] has no task of its own. Whoever owns it queues requests and calls
//! [`Session::next`], which writes what is queued while it waits for what comes. So nothing is
//! buffered that the owner did not ask for: frames that it does not take stay in the socket, and
//! the agent notices a slow reader.

use crate::{exit::Exit, exit::Failure, trust};
use bytes::BytesMut;
use futures_util::StreamExt;
use protocol::{
    CodecError, Features, FrameCodec, HandshakeError, Nick, PrefaceError, RequestId, UserName,
    Vocabulary, encode_frame, handshake,
    limits::HANDSHAKE_TIMEOUT,
    local::{AgentFrame, Event, Refusal, Reply, Request, TerminalFrame},
};
use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    net::UnixStream,
    time::timeout,
};
use tokio_util::codec::{Encoder, FramedRead};

/// How long a question such as `chat who` may take: the agent may have to ask the server.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes read from the socket at once; frames up to the limit of the protocol still fit.
const READ_BYTES: usize = 64 * 1024;

/// What this terminal says of itself.
const SOFTWARE: &str = concat!("chat ", env!("CARGO_PKG_VERSION"));

/// The first request's id.
const HELLO: RequestId = RequestId(1);

/// Why there is no session.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Nobody listens, or the agent ended while we came.
    #[error("no agent at {}: {reason}; start one with `chat` or `chat agent`", path.display())]
    Unreachable {
        /// The path that was tried.
        path: PathBuf,
        /// What the system said.
        reason: String,
        /// Whether there is no socket at all: an agent that ends in order takes it away.
        absent: bool,
    },
    /// Somebody listens and says nothing.
    #[error(
        "the agent at {} does not answer (waited {} s): is it stopped, or the machine overloaded?",
        path.display(), HANDSHAKE_TIMEOUT.as_secs()
    )]
    Silent {
        /// The path that was tried.
        path: PathBuf,
    },
    /// The file system keeps this user away from the socket.
    #[error(
        "the agent's socket {} may not be used by uid {uid}: ask its owner to let you into its \
         group, or name another with --socket", path.display()
    )]
    Denied {
        /// The path that was tried.
        path: PathBuf,
        /// Who tried.
        uid: u32,
    },
    /// Somebody else listens there.
    #[error(
        "the agent at {} runs as uid {agent}, whom uid {uid} has no reason to trust: nothing was \
         sent; check who made that directory, or name another socket with --socket", path.display()
    )]
    Untrusted {
        /// The path that was tried.
        path: PathBuf,
        /// Who listens.
        agent: u32,
        /// Who tried.
        uid: u32,
    },
    /// The agent began before this program was upgraded.
    #[error(
        "the agent at {} is older than this program (it speaks protocol {theirs}, not {ours}): \
         end it{} and run `chat` again, nothing is lost by that", path.display(), kill(*pid)
    )]
    OldAgent {
        /// The path that was tried.
        path: PathBuf,
        /// The newest protocol the agent speaks.
        theirs: u16,
        /// The oldest protocol this program speaks.
        ours: u16,
        /// The agent, if the kernel knows.
        pid: Option<i32>,
    },
    /// This program was not upgraded with the agent.
    #[error(
        "the agent at {} is newer than this program (it speaks protocol {theirs}, not {ours}): \
         upgrade this program, or use the newer one", path.display()
    )]
    NewAgent {
        /// The path that was tried.
        path: PathBuf,
        /// The oldest protocol the agent speaks.
        theirs: u16,
        /// The newest protocol this program speaks.
        ours: u16,
    },
    /// What listens there is no agent, or cannot be understood.
    #[error("cannot talk to {}: {reason}", path.display())]
    Incompatible {
        /// The path that was tried.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The agent does not want this session.
    #[error("{0}")]
    Refused(Refusal),
}

fn kill(pid: Option<i32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (`kill {pid}`)"))
}

impl ConnectError {
    /// Whether trying again later can help.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } => true,
            Self::Refused(refusal) => matches!(
                refusal,
                Refusal::ShuttingDown
                    | Refusal::TimedOut { .. }
                    | Refusal::Busy { .. }
                    | Refusal::TooMany { .. }
                    | Refusal::StorageFailed { .. }
            ),
            Self::Denied { .. }
            | Self::Untrusted { .. }
            | Self::OldAgent { .. }
            | Self::NewAgent { .. }
            | Self::Incompatible { .. } => false,
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let exit = match &error {
            ConnectError::Unreachable { .. }
            | ConnectError::Silent { .. }
            | ConnectError::Refused(Refusal::ShuttingDown) => Exit::Unreachable,
            ConnectError::Denied { .. } | ConnectError::Untrusted { .. } => Exit::Permission,
            ConnectError::OldAgent { .. }
            | ConnectError::NewAgent { .. }
            | ConnectError::Incompatible { .. } => Exit::Failed,
            ConnectError::Refused(refusal) => exit_of(refusal),
        };
        Self::new(exit, error)
    }
}

/// The exit code of a refusal.
#[must_use]
pub const fn exit_of(refusal: &Refusal) -> Exit {
    if refusal.is_permission() {
        Exit::Permission
    } else {
        Exit::Failed
    }
}

/// Why a session is over.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The stream ended or failed.
    #[error("the agent is gone: {0}")]
    Lost(String),
    /// The agent said why it ends the session.
    #[error("the agent ended the session: {0}")]
    Closed(Refusal),
    /// The agent says things this version does not understand.
    #[error("the agent cannot be understood: {0}")]
    Broken(CodecError),
    /// No answer came in time.
    #[error("the agent did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Silent,
}

impl SessionError {
    /// Whether a new session can be hoped for.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Lost(_) | Self::Silent => true,
            Self::Closed(refusal) => {
                !refusal.is_permission() && !matches!(refusal, Refusal::Malformed { .. })
            }
            Self::Broken(_) => false,
        }
    }
}

impl From<CodecError> for SessionError {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::Io(error) => Self::Lost(error.to_string()),
            CodecError::Truncated { .. } => Self::Lost(error.to_string()),
            error => Self::Broken(error),
        }
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        let exit = match &error {
            SessionError::Lost(_) | SessionError::Silent => Exit::Unreachable,
            SessionError::Closed(Refusal::ShuttingDown) => Exit::Unreachable,
            SessionError::Closed(refusal) => exit_of(refusal),
            SessionError::Broken(_) => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

/// Why a question was not answered.
#[derive(Debug, Error)]
pub enum CallError {
    /// The agent says no.
    #[error("{0}")]
    Refused(Refusal),
    /// The session ended first.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The answer is to another question.
    #[error("the agent gave an answer that does not fit the question")]
    Misfit,
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Session(error) => error.into(),
            CallError::Refused(refusal) => Self::new(exit_of(&refusal), refusal),
            CallError::Misfit => Self::failed(error),
        }
    }
}

/// What came from the agent.
#[derive(Debug)]
pub enum Incoming {
    /// The answer to an earlier request.
    Reply {
        /// Which request.
        id: RequestId,
        /// The answer.
        result: Result<Reply, Refusal>,
    },
    /// Something happened.
    Event(Event),
}

/// A session after its `Hello`.
#[derive(Debug)]
pub struct Session<S = UnixStream> {
    reader: FramedRead<ReadHalf<S>, FrameCodec<AgentFrame, TerminalFrame>>,
    writer: WriteHalf<S>,
    outgoing: BytesMut,
    last_id: u32,
    user: UserName,
    features: Features,
}

/// Connects to the agent at `path` and says hello as `nick`.
///
/// # Errors
///
/// [`ConnectError`] names the path that was tried.
pub async fn connect(path: &Path, nick: &Nick, interactive: bool) -> Result<Session, ConnectError> {
    let unreachable = |error: &io::Error| ConnectError::Unreachable {
        path: path.to_owned(),
        reason: error.to_string(),
        absent: error.kind() == io::ErrorKind::NotFound,
    };
    let began = async {
        let stream = UnixStream::connect(path).await.map_err(|error| {
            if error.kind() == io::ErrorKind::PermissionDenied {
                ConnectError::Denied {
                    path: path.to_owned(),
                    uid: trust::uid(),
                }
            } else {
                unreachable(&error)
            }
        })?;
        let agent = stream.peer_cred().map_err(|error| unreachable(&error))?;
        let pid = agent.pid();
        let agent = agent.uid();
        if !trust::is_trusted(agent, path) {
            return Err(ConnectError::Untrusted {
                path: path.to_owned(),
                agent,
                uid: trust::uid(),
            });
        }
        Session::open(stream, nick, interactive)
            .await
            .map_err(|error| error.at(path, pid))
    };
    timeout(HANDSHAKE_TIMEOUT, began).await.unwrap_or_else(|_| {
        Err(ConnectError::Silent {
            path: path.to_owned(),
        })
    })
}

/// Why a stream did not become a session.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The prefaces do not fit or did not come.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The session ended before it began.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The agent does not want this session.
    #[error("{0}")]
    Refused(Refusal),
}

impl OpenError {
    fn at(self, path: &Path, pid: Option<i32>) -> ConnectError {
        let path = path.to_owned();
        match self {
            Self::Refused(refusal) | Self::Session(SessionError::Closed(refusal)) => {
                ConnectError::Refused(refusal)
            }
            Self::Handshake(HandshakeError::Preface(PrefaceError::NoCommonVersion {
                our_oldest,
                our_newest,
                their_oldest,
                their_newest,
            })) => {
                if their_newest < our_oldest {
                    ConnectError::OldAgent {
                        path,
                        theirs: their_newest,
                        ours: our_oldest,
                        pid,
                    }
                } else {
                    ConnectError::NewAgent {
                        path,
                        theirs: their_oldest,
                        ours: our_newest,
                    }
                }
            }
            Self::Handshake(HandshakeError::Preface(error)) => ConnectError::Incompatible {
                path,
                reason: error.to_string(),
            },
            Self::Session(SessionError::Broken(error)) => ConnectError::Incompatible {
                path,
                reason: error.to_string(),
            },
            error => ConnectError::Unreachable {
                path,
                reason: error.to_string(),
                absent: false,
            },
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Says preface and `Hello` on `stream` and awaits the welcome. The caller sets the deadline.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub async fn open(mut stream: S, nick: &Nick, interactive: bool) -> Result<Self, OpenError> {
        let agreed = handshake(&mut stream, Vocabulary::Local).await?;
        let (reader, mut writer) = tokio::io::split(stream);
        let mut reader = FramedRead::with_capacity(reader, FrameCodec::new(), READ_BYTES);
        let hello = TerminalFrame {
            id: HELLO,
            request: Request::Hello {
                nick: nick.clone(),
                software: SOFTWARE.to_owned(),
                interactive,
            },
        };
        let hello = encode_frame(&hello).map_err(SessionError::from)?;
        // An agent that closes may have said why: reading tells more than writing.
        let _ = writer.write_all(&hello).await;
        let welcome = loop {
            if let Incoming::Reply { id: HELLO, result } = incoming(reader.next().await)? {
                break result.map_err(OpenError::Refused)?;
            }
        };
        let Reply::Welcome { user, .. } = welcome else {
            return Err(SessionError::Broken(CodecError::Malformed {
                reason: "Hello was not answered by Welcome".to_owned(),
            })
            .into());
        };
        Ok(Self {
            reader,
            writer,
            outgoing: BytesMut::new(),
            last_id: HELLO.0,
            user,
            features: agreed.features,
        })
    }

    /// What this program and the agent both understand beside what every one does.
    #[must_use]
    pub const fn features(&self) -> Features {
        self.features
    }

    /// Who this session speaks as.
    #[must_use]
    pub const fn user(&self) -> &UserName {
        &self.user
    }

    /// Queues a request; [`Session::next`] writes it.
    ///
    /// The caller bounds how much it queues: what it asks is what lies here.
    ///
    /// # Errors
    ///
    /// [`SessionError::Broken`] if the request does not fit a frame; nothing is queued then.
    pub fn queue(&mut self, request: Request) -> Result<RequestId, SessionError> {
        self.last_id = self.last_id.wrapping_add(1);
        let id = RequestId(self.last_id);
        let mut codec: FrameCodec<AgentFrame, TerminalFrame> = FrameCodec::new();
        codec.encode(&TerminalFrame { id, request }, &mut self.outgoing)?;
        Ok(id)
    }

    /// The next frame from the agent; writes what is queued meanwhile.
    ///
    /// # Errors
    ///
    /// [`SessionError`] ends the session.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no frame is lost, no request is written twice.
    pub async fn next(&mut self) -> Result<Incoming, SessionError> {
        loop {
            tokio::select! {
                frame = self.reader.next() => return incoming(frame),
                written = self.writer.write_buf(&mut self.outgoing), if !self.outgoing.is_empty() => {
                    // A broken pipe may leave a last word to be read: why the agent closed.
                    if written.is_err() {
                        self.outgoing.clear();
                    }
                }
            }
        }
    }

    /// Writes what is queued without reading, for owners that cannot take more just now.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no request is written twice.
    pub async fn write_queued(&mut self) {
        while !self.outgoing.is_empty() {
            // The next read reports what is wrong.
            if self.writer.write_buf(&mut self.outgoing).await.is_err() {
                self.outgoing.clear();
            }
        }
    }

    /// Asks one question and awaits the answer, for sessions that opened no room.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn call(&mut self, request: Request) -> Result<Reply, CallError> {
        let asked = self.queue(request)?;
        let answer = async {
            loop {
                // Without openings events are news for people only.
                if let Incoming::Reply { id, result } = self.next().await?
                    && id == asked
                {
                    return result.map_err(CallError::Refused);
                }
            }
        };
        timeout(ANSWER_TIMEOUT, answer)
            .await
            .unwrap_or(Err(CallError::Session(SessionError::Silent)))
    }

    /// As [`Session::call`], for requests that are answered by [`Reply::Done`].
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn command(&mut self, request: Request) -> Result<(), CallError> {
        match self.call(request).await? {
            Reply::Done => Ok(()),
            _ => Err(CallError::Misfit),
        }
    }
}

fn incoming(frame: Option<Result<AgentFrame, CodecError>>) -> Result<Incoming, SessionError> {
    match frame {
        Some(Ok(AgentFrame::Reply { id, result })) => Ok(Incoming::Reply { id, result }),
        Some(Ok(AgentFrame::Event(Event::Closing { reason }))) => Err(SessionError::Closed(reason)),
        Some(Ok(AgentFrame::Event(event))) => Ok(Incoming::Event(event)),
        Some(Err(error)) => Err(error.into()),
        None => Err(SessionError::Lost("it closed the connection".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeAgent;
    use protocol::{Preface, local::Delivery};

    #[tokio::test]
    async fn replies_find_their_request_among_events() {
        let (stream, agent) = FakeAgent::pair();
        let agent = tokio::spawn(async move {
            let mut agent = agent.welcome("alice@ada").await;
            let first = agent.read().await;
            let second = agent.read().await;
            agent.event(Event::GoingAway { reconnect_in_ms: 5 }).await;
            agent.reply(second.id, Ok(Reply::Done)).await;
            agent
                .reply(
                    first.id,
                    Ok(Reply::Sent {
                        state: Delivery::Queued,
                    }),
                )
                .await;
        });
        let nick = Nick::parse("alice").unwrap();
        let mut session = Session::open(stream, &nick, false).await.unwrap();
        assert_eq!(session.user().to_string(), "alice@ada");
        let first = session.queue(Request::Ping).unwrap();
        let second = session.queue(Request::Status).unwrap();
        assert!(matches!(
            session.next().await.unwrap(),
            Incoming::Event(Event::GoingAway { .. })
        ));
        assert!(
            matches!(session.next().await.unwrap(), Incoming::Reply { id, result: Ok(Reply::Done) } if id == second)
        );
        assert!(matches!(session.next().await.unwrap(), Incoming::Reply { id, .. } if id == first));
        agent.await.unwrap();
        assert!(matches!(session.next().await, Err(SessionError::Lost(_))));
    }

    #[tokio::test]
    async fn a_refused_hello_says_why() {
        let (stream, agent) = FakeAgent::pair();
        let agent = tokio::spawn(async move {
            agent
                .refuse_hello(Refusal::NickTaken {
                    nick: Nick::parse("alice").unwrap(),
                    uid: 7,
                })
                .await;
        });
        let nick = Nick::parse("alice").unwrap();
        let error = Session::open(stream, &nick, false).await.unwrap_err();
        let failure = Failure::from(error.at(Path::new("/x"), None));
        assert_eq!(failure.exit, Exit::Permission);
        assert!(failure.message.contains("uid 7"), "{failure}");
        agent.await.unwrap();
    }

    #[tokio::test]
    async fn a_missing_agent_names_the_path_and_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let nick = Nick::parse("alice").unwrap();
        let failure = Failure::from(connect(&path, &nick, false).await.unwrap_err());
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.message.contains(path.to_str().unwrap()));
        assert!(failure.message.contains("chat agent"), "{failure}");
    }

    #[tokio::test]
    async fn a_stranger_behind_the_socket_is_told_from_an_agent() {
        let (stream, mut other) = tokio::io::duplex(1024);
        let other = tokio::spawn(async move { other.write_all(b"HTTP/1.1 400 Bad").await });
        let nick = Nick::parse("alice").unwrap();
        let error = Session::open(stream, &nick, false).await.unwrap_err();
        let failure = Failure::from(error.at(Path::new("/x"), None));
        assert_eq!(failure.exit, Exit::Failed);
        assert!(failure.message.contains("does not speak"), "{failure}");
        other.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_agent_of_another_age_is_told_how_to_be_replaced() {
        for (version, expected) in [(0, "is older than this program"), (9, "is newer than")] {
            let (stream, mut other) = tokio::io::duplex(1024);
            let mut preface = Preface::ours(Vocabulary::Local);
            (preface.oldest, preface.newest) = (version, version);
            other.write_all(&preface.to_bytes()).await.unwrap();
            let nick = Nick::parse("alice").unwrap();
            let error = Session::open(stream, &nick, false).await.unwrap_err();
            let failure = Failure::from(error.at(Path::new("/x"), Some(4242)));
            assert_eq!(failure.exit, Exit::Failed);
            assert!(failure.message.contains(expected), "{failure}");
            assert_eq!(failure.message.contains("`kill 4242`"), version == 0);
        }
    }
}
