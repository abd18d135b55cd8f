//! The connection to the server: found, kept, lost, found again.
//!
//! ```text
//!                 servers set              connected, welcomed
//!   LocalOnly ───────────────▶ Connecting ────────────────────▶ Online
//!       ▲                        ▲    │ failed                    │ lost, or told
//!       │ servers removed        │    ▼                           │ to go away
//!       └─────────────────────── Waiting ◀────────────────────────┘
//! ```
//!
//! With several servers, `Waiting` comes only after each was tried (`round.rs`).
//!
//! Nothing depends on how often this goes round: messages wait in the outbox, and the replica
//! knows where it is in each room.

mod again;
mod dial;
mod following;
mod intake;
mod mandate;
mod online;
mod replica;
mod roll_call;
mod round;
mod sending;
mod stream;
mod welcome;
pub mod window;

use crate::{
    backoff::Backoff,
    hub::Hub,
    keys::{Keys, KeysError},
    store::{AgentWriter, Command},
};
use online::{Closed, Online};
use protocol::{
    KeyFingerprint, Room, ServerAddress, ServerTrust, Timestamp, federation,
    limits::{CONNECT_TIMEOUT, RECONNECT_MAX, RECONNECT_MIN},
    local::{LinkStatus, Refusal},
};
use room_log::Readers;
use round::{Ended, Round};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use stream::Stream;
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use welcome::Welcome;

/// Requests of sessions that may wait for the link; the next session waits for room.
const QUEUED_REQUESTS: usize = 256;

/// What the agent complains of while its server does not let it in.
const REFUSED_LINK: &str = "link";

/// How long a server may take to welcome this host while another one has not been tried. A server
/// that lives answers in milliseconds; two that do not leave room for the third within 10 s. After
/// each was tried in vain there is more patience: then they may be busy with everybody at once.
const PATIENCE: Duration = Duration::from_secs(3);

/// The part of it that finding and connecting may take: one SYN may be lost, which is sent again
/// after a second (RFC 6298).
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

/// Something a session wants from the server.
#[derive(Debug)]
pub(crate) enum LinkRequest {
    /// An answer to a request.
    Ask {
        request: Box<federation::Request>,
        answer: oneshot::Sender<Result<federation::Reply, Refusal>>,
    },
    /// To know when the replica has what the server has of `room` now. The answer is false if
    /// the server cannot be reached.
    Sync {
        room: Room,
        done: oneshot::Sender<bool>,
    },
}

/// Lets sessions ask the server through the link.
#[derive(Debug, Clone)]
pub struct LinkHandle {
    requests: mpsc::Sender<LinkRequest>,
}

impl LinkHandle {
    /// Asks the server.
    ///
    /// # Errors
    ///
    /// [`Refusal::LocalOnly`], [`Refusal::Offline`] or [`Refusal::ByServer`].
    pub async fn ask(&self, request: federation::Request) -> Result<federation::Reply, Refusal> {
        let (answer, answered) = oneshot::channel();
        let request = LinkRequest::Ask {
            request: Box::new(request),
            answer,
        };
        self.requests
            .send(request)
            .await
            .map_err(|_| Refusal::ShuttingDown)?;
        answered.await.unwrap_or(Err(Refusal::Offline))
    }

    /// Waits until the replica has what the server has of `room` now. False if the server cannot
    /// be reached.
    pub async fn sync(&self, room: &Room) -> bool {
        let (done, synced) = oneshot::channel();
        let request = LinkRequest::Sync {
            room: room.clone(),
            done,
        };
        if self.requests.send(request).await.is_err() {
            return false;
        }
        synced.await.unwrap_or(false)
    }
}

/// Why there is no connection.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The server's name has no address.
    #[error("cannot connect: {0}")]
    Lookup(#[source] io::Error),
    /// No TCP connection to the address that the server is known by.
    #[error("cannot connect: {0}")]
    ConnectThere(#[source] io::Error),
    /// No TCP connection to any of the server's addresses.
    #[error("cannot connect: {}", each(.0))]
    Connect(Vec<(SocketAddr, io::Error)>),
    /// This agent has no key, or nothing to know the server by.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Somebody else answers, or the server was set up anew.
    #[error(
        "the server has another key than this host knows (it has {0}): somebody may be in between, or \
         the line that was pasted was mistyped. If whoever runs it says that it was set up anew, \
         `chat join` with a new invitation"
    )]
    OtherKey(KeyFingerprint),
    /// The other side does not speak TLS.
    #[error(
        "the server does not speak TLS: is it the right port? If it really runs with \
         --insecure-plaintext, `chat join --insecure-plaintext` it"
    )]
    NoTls,
    /// No authority vouches for the server.
    #[error("the server's certificate does not count: {0}")]
    BadCertificate(String),
    /// The two could not agree.
    #[error("no TLS connection: {0}")]
    Tls(#[source] io::Error),
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs())]
    TooSlow(Duration),
    /// The other side is no server, or of another version.
    #[error(transparent)]
    Handshake(#[from] protocol::HandshakeError),
    /// The server closed the connection with a reason.
    #[error("the server refused: {0}")]
    Refused(federation::Refusal),
    /// The server sent what cannot be understood.
    #[error("the server sent nonsense: {0}")]
    Codec(#[from] protocol::CodecError),
    /// The server closed the connection without a word.
    #[error("the server closed the connection")]
    ClosedByPeer,
    /// It refused messages for now more often than one connection can count.
    #[error("this connection has no attempts left")]
    WornOut,
    /// Nothing was heard from it.
    #[error("nothing heard for {:.1} s", .0.as_secs_f32())]
    Silent(Duration),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The server named a room or conversation that is not its to order.
    #[error("the server spoke of {0}, which is not its to speak of")]
    OutOfPlace(Room),
    /// The server told a topic that cannot be one.
    #[error("the server sent a topic that is too long or contains control characters")]
    BadTopic,
    /// This agent cannot store what the server sends, or read what it has.
    #[error("cannot store what the server sends: {0}")]
    Store(String),
}

impl LinkError {
    /// Whether it stays so until somebody does something about it.
    const fn needs_somebody(&self) -> bool {
        match self {
            Self::Keys(_) | Self::OtherKey(_) | Self::NoTls | Self::BadCertificate(_) => true,
            Self::Refused(refusal) => refusal.is_lasting(),
            _ => false,
        }
    }

    /// Whether the server was not there, or has nothing against this agent: of several, the one that
    /// has says more.
    const fn is_absence(&self) -> bool {
        match self {
            Self::Lookup(_)
            | Self::ConnectThere(_)
            | Self::Connect(_)
            | Self::TooSlow(_)
            | Self::ClosedByPeer
            | Self::Silent(_)
            | Self::Io(_) => true,
            other => other.sends_away(),
        }
    }

    /// Whether the server wants its agents to be elsewhere.
    const fn sends_away(&self) -> bool {
        use federation::Refusal;
        matches!(
            self,
            Self::Refused(Refusal::Draining | Refusal::ShuttingDown)
        )
    }
}

/// Keeps this agent connected, until it is told to stop.
#[derive(Debug)]
pub struct Link {
    hub: Arc<Hub>,
    writer: AgentWriter,
    readers: Readers,
    keys: Arc<Keys>,
    servers: watch::Receiver<Vec<ServerAddress>>,
    requests: mpsc::Receiver<LinkRequest>,
    backoff: Backoff,
    /// Whether the connection that is there, or was last, has proved itself.
    has_lasted: bool,
}

impl Link {
    /// A link for the agent behind `hub`, and the handle for its sessions.
    #[must_use]
    pub fn new(
        hub: Arc<Hub>,
        writer: AgentWriter,
        readers: Readers,
        keys: Arc<Keys>,
    ) -> (Self, LinkHandle) {
        let (sender, requests) = mpsc::channel(QUEUED_REQUESTS);
        let servers = hub.servers();
        let backoff = Backoff::new(RECONNECT_MIN, RECONNECT_MAX);
        let link = Self {
            hub,
            writer,
            readers,
            keys,
            servers,
            requests,
            backoff,
            has_lasted: false,
        };
        (link, LinkHandle { requests: sender })
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let servers = self.servers.borrow_and_update().clone();
            if servers.is_empty() {
                self.hub.set_link(LinkStatus::LocalOnly);
                self.backoff.reset();
                self.idle(&[], &stop, None, &Refusal::LocalOnly).await;
                continue;
            }
            self.go_round(servers, &stop).await;
        }
    }

    /// Connects to `servers` in turn and stays with each that lets it, until there are others. After
    /// each was tried in vain it waits.
    async fn go_round(&mut self, mut servers: Vec<ServerAddress>, stop: &CancellationToken) {
        let mut round = Round::new(&servers, self.hub.agent());
        let mut failure: Option<(ServerAddress, LinkError)> = None;
        while !stop.is_cancelled() {
            let now = self.servers.borrow_and_update().clone();
            if are_others(&now, &servers) {
                // They are not to blame for what these did.
                return self.backoff.reset();
            }
            // What was learned of them meanwhile counts.
            servers = now;
            let turn = round.next();
            let Some((turn, server)) = turn.and_then(|turn| Some((turn, servers.get(turn)?)))
            else {
                if let Some((server, error)) = failure.take() {
                    let wait = match round.told() {
                        Some(told) => self.backoff.fail_told(told, rand::random()),
                        None => self.backoff.fail(rand::random()),
                    };
                    self.wait(&server, &error, wait, &servers, stop).await;
                }
                round.renew();
                continue;
            };
            // Why the last round failed is told until this one has come to something.
            if self.backoff.failures() == 0 || servers.len() > 1 {
                self.hub.set_link(LinkStatus::Connecting {
                    server: server.place().to_owned(),
                });
            }
            self.has_lasted = false;
            let is_patient = !round.has_more() || self.backoff.failures() > 0;
            let ended = self.connect(server, &servers, is_patient, stop).await;
            if self.has_lasted {
                failure = None;
                round.renew();
            }
            let (how, error) = match ended {
                Ok(Closed::Stopping) => return,
                Ok(Closed::ServersChanged | Closed::KeyChanged) => return self.backoff.reset(),
                Ok(Closed::GoingAway { reconnect_in }) => {
                    info!(%server, ?reconnect_in, "the server sends its agents away");
                    let error = LinkError::Refused(federation::Refusal::ShuttingDown);
                    (Ended::SentAway(reconnect_in), error)
                }
                Err(error) => {
                    warn!(%server, %error, "no connection to the server");
                    if error.needs_somebody() {
                        let problem = format!("{}: {error}", server.place());
                        self.hub.set_problem(REFUSED_LINK, problem);
                    }
                    let how = match error.sends_away() {
                        true => Ended::SentAway(Duration::ZERO),
                        false => Ended::Failed,
                    };
                    (how, error)
                }
            };
            round.ended(turn, how);
            if !error.is_absence() || failure.as_ref().is_none_or(|(_, told)| told.is_absence()) {
                failure = Some((server.clone(), error));
            }
        }
    }

    async fn wait(
        &mut self,
        server: &ServerAddress,
        error: &LinkError,
        wait: Duration,
        servers: &[ServerAddress],
        stop: &CancellationToken,
    ) {
        debug!(%server, ?wait, attempt = self.backoff.failures(), "waiting for the next attempt");
        self.hub.set_link(LinkStatus::Waiting {
            server: server.place().to_owned(),
            error: error.to_string(),
            attempt: self.backoff.failures(),
            until: Timestamp::from(std::time::SystemTime::now() + wait),
        });
        let due = Some(Instant::now() + wait);
        self.idle(servers, stop, due, &Refusal::Offline).await;
    }

    /// Turns sessions' requests away until `due`, or until there are others than `servers`.
    async fn idle(
        &mut self,
        servers: &[ServerAddress],
        stop: &CancellationToken,
        due: Option<Instant>,
        refusal: &Refusal,
    ) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = until(due) => return,
                _ = self.servers.changed() => {
                    if self.has_others(servers) {
                        return self.backoff.reset();
                    }
                }
                Some(request) = self.requests.recv() => turn_away(request, refusal),
            }
        }
    }

    /// The connection still does what it is asked: what comes after it begins anew.
    const fn lasted(&mut self) {
        self.backoff.reset();
        self.has_lasted = true;
    }

    /// Remembers `server` as `learned`. If the queue is full, the next connection does.
    fn learn(&self, server: &ServerAddress, learned: ServerAddress) {
        let _next_time = self.writer.try_submit(Command::Learn {
            server: server.clone(),
            learned,
        });
    }

    /// Whether the servers to try are others than before; what was learned of them makes no
    /// difference.
    fn has_others(&mut self, than: &[ServerAddress]) -> bool {
        are_others(&self.servers.borrow_and_update(), than)
    }

    async fn connect(
        &mut self,
        server: &ServerAddress,
        servers: &[ServerAddress],
        is_patient: bool,
        stop: &CancellationToken,
    ) -> Result<Closed, LinkError> {
        let (hub, writer) = (Arc::clone(&self.hub), self.writer.clone());
        let (readers, keys) = (self.readers.clone(), Arc::clone(&self.keys));
        let opening = async {
            let (stream, welcome) = if is_patient {
                open(server, CONNECT_TIMEOUT, &keys, &hub).await?
            } else {
                let opening = open(server, CONNECT_PATIENCE, &keys, &hub);
                let opened = timeout(PATIENCE, opening).await;
                opened.map_err(|_| LinkError::TooSlow(PATIENCE))??
            };
            let replica = replica::prepare(&hub, &writer, &readers, welcome.epoch).await?;
            Ok::<_, LinkError>((stream, welcome, replica))
        };
        tokio::pin!(opening);
        let (stream, welcome, replica) = loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(Closed::Stopping),
                _ = self.servers.changed() => {
                    if self.has_others(servers) {
                        return Ok(Closed::ServersChanged);
                    }
                }
                Some(request) = self.requests.recv() => turn_away(request, &Refusal::Offline),
                opened = &mut opening => break opened?,
            }
        };
        let learned = learned(server, stream.server_key());
        // Also if nothing is new: it may have been another's turn meanwhile.
        self.learn(server, learned.clone());
        if learned.trust == ServerTrust::Plaintext {
            let problem = format!(
                "nothing is encrypted between this host and {}, and anybody could be that server \
                 (--insecure-plaintext)",
                server.place()
            );
            self.hub.set_problem("plaintext", problem);
        } else {
            self.hub.clear_problem("plaintext");
        }
        self.hub.clear_problem(REFUSED_LINK);
        let online = Online::begin(self, learned, stream, welcome, replica)?;
        info!(%server, "connected to the server");
        online.run(stop).await
    }
}

fn are_others(now: &[ServerAddress], than: &[ServerAddress]) -> bool {
    now.len() != than.len() || now.iter().zip(than).any(|(now, than)| !now.is_same(than))
}

fn turn_away(request: LinkRequest, refusal: &Refusal) {
    // A session that went away needs no answer.
    match request {
        LinkRequest::Ask { answer, .. } => drop(answer.send(Err(refusal.clone()))),
        LinkRequest::Sync { done, .. } => drop(done.send(false)),
    }
}

async fn open(
    server: &ServerAddress,
    connect_within: Duration,
    keys: &Keys,
    hub: &Hub,
) -> Result<(Stream, Welcome), LinkError> {
    let mut stream = stream::connect(server, connect_within, keys).await?;
    let invitation = match &server.trust {
        ServerTrust::Key { invitation, .. } => *invitation,
        ServerTrust::Authority | ServerTrust::Plaintext => None,
    };
    let welcome = welcome::introduce(&mut stream, invitation, hub).await?;
    Ok((stream, welcome))
}

/// What there is to remember of `server` once it has welcomed this host, with the key it proved
/// to have: the invitation has done its work, and a key that was announced may be the one now.
fn learned(server: &ServerAddress, proved: Option<KeyFingerprint>) -> ServerAddress {
    let mut learned = server.clone();
    if let ServerTrust::Key {
        key,
        next,
        invitation,
    } = &mut learned.trust
    {
        *invitation = None;
        if proved.is_some() && proved == *next {
            *key = next.take().unwrap_or(*key);
        }
    }
    learned
}

fn each(failures: &[(SocketAddr, io::Error)]) -> String {
    let told = failures
        .iter()
        .map(|(address, error)| format!("{address}: {error}"));
    told.collect::<Vec<_>>().join(", ")
}

/// Waits until `instant`; forever if there is none.
async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
