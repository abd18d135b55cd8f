//! One agent's connection: the task that owns the socket, and all that can happen to it.

mod log_news;
mod requests;

use crate::{
    doorway::Place,
    identity::Identity,
    inbound::Received,
    lane::Lane,
    opening::{self, FAREWELL, Line, OpenError, Opened, malformed},
    query::{Following, Start},
    reply::{Answer, PendingReply, event_frame},
    router::Handle,
    service::Service,
};
use futures_util::FutureExt;
use log_news::LogNews;
use protocol::{
    CodecError, Features, HandshakeError, Room, Seq,
    federation::{Event, Refusal, Reply},
    limits::{PEER_TIMEOUT, SHUTDOWN_DEADLINE},
};
use room_log::{Progress, ReaderId, StoreError, Unreadable};
use std::{
    collections::HashMap,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{Span, debug, error, info, warn};

/// How soon agents come back after an orderly end of the server: it is most likely restarted. Of a
/// server that is drained, those that know no other one; they are refused, and ask ever less often.
const RECONNECT_IN_MS: u32 = 500;

/// How a connection ended in order.
#[derive(Debug)]
enum Closed {
    /// The agent closed it.
    ByPeer,
    /// The server ends.
    ShuttingDown,
    /// The agent was told why it cannot go on.
    Told(Refusal),
}

/// Why a connection broke.
#[derive(Debug, Error)]
enum ConnectionError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Serves one agent on `stream` until either side ends it, and logs how that went. It has until
/// `deadline` to say who it is.
pub(crate) async fn run<S>(
    stream: S,
    identity: Identity,
    place: Option<Place>,
    deadline: Instant,
    service: Service,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stop = service.stop_token();
    let opened = tokio::select! {
        opened = opening::open(stream, &identity, deadline, &service) => opened,
        () = stop.cancelled() => return,
    };
    let Opened {
        line,
        handle,
        features,
    } = match opened {
        Ok(opened) => opened,
        Err(
            error @ (OpenError::Closed
            | OpenError::TimedOut
            | OpenError::Refused(Refusal::Draining)
            | OpenError::Handshake(HandshakeError::Closed)),
        ) => {
            debug!(%error, "no agent");
            return;
        }
        Err(error) => {
            info!(%error, "no agent");
            return;
        }
    };
    if let Some(place) = place {
        place.introduced();
    }
    Span::current().record("host", handle.host.as_str());
    info!(software = %handle.software, agent = %handle.agent, "agent connected");
    if let Some(key) = service.next_key() {
        line.outbound
            .push_reply(event_frame(Event::NextKey { key }));
    }
    let mut connection = Connection::new(line, handle, identity, features, service);
    let outcome = connection.serve().await;
    match &outcome {
        Ok(Closed::ByPeer) => info!("agent disconnected"),
        Ok(Closed::ShuttingDown) => debug!("told to come back later"),
        Ok(Closed::Told(Refusal::Draining)) => info!("agent sent elsewhere"),
        Ok(Closed::Told(refusal)) => warn!(reason = %refusal, "agent told to go"),
        Err(error) => warn!(%error, "connection lost"),
    }
    connection.end(outcome).await;
}

/// A request that is being looked up.
struct Query {
    reply: PendingReply,
    work: Pin<Box<dyn Future<Output = Found> + Send>>,
}

/// What was looked up.
enum Found {
    Answer(Answer),
    Start(Result<(Start, Following), Refusal>),
}

struct Connection<S> {
    line: Line<S>,
    seat: Seat,
    identity: Identity,
    lane: Arc<Lane>,
    log_news: LogNews,
    /// At most one; no further request is read meanwhile.
    query: Option<Query>,
    silence: Pin<Box<Sleep>>,
    service: Service,
    /// The server ends. The connection's own token: the loop below registers with it again and
    /// again, and should not meet others there.
    stop: CancellationToken,
}

/// What others know of the connection. Dropped, they forget it.
struct Seat {
    handle: Arc<Handle>,
    reader: ReaderId,
    rooms: HashMap<Room, Following>,
    service: Service,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.service.router().leave(&self.handle);
        for room in self.rooms.keys() {
            self.service.feed().unsubscribe(self.reader, room);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn new(
        line: Line<S>,
        handle: Arc<Handle>,
        identity: Identity,
        features: Features,
        service: Service,
    ) -> Self {
        // Set once: each connection has a line and a handle of its own.
        let _ = line.host.set(handle.host.clone());
        let _ = handle.reader.set(line.reader);
        let seat = Seat {
            handle,
            reader: line.reader,
            rooms: HashMap::new(),
            service: service.clone(),
        };
        let mut log_news = LogNews::new(&service, features);
        log_news.tell(&line.outbound);
        Self {
            silence: Box::pin(sleep_until(line.inbound.last_heard() + PEER_TIMEOUT)),
            line,
            seat,
            identity,
            lane: Arc::new(Lane::new()),
            log_news,
            query: None,
            stop: service.stop_token(),
            service,
        }
    }

    async fn serve(&mut self) -> Result<Closed, ConnectionError> {
        loop {
            // Not biased: whatever is busy must not starve the rest.
            tokio::select! {
                () = self.stop.cancelled() => return Ok(Closed::ShuttingDown),
                reason = self.seat.handle.closed() => return Ok(Closed::Told(reason)),
                progress = self.line.delivery.run() => self.delivered(progress?),
                found = found(&mut self.query) => self.take(found),
                () = self.log_news.changed() => self.log_news.tell(&self.line.outbound),
                received = self.line.inbound.next(), if self.query.is_none() => {
                    if let Some(closed) = self.received(received?) {
                        return Ok(closed);
                    }
                }
                () = self.silence.as_mut() => {
                    if let Some(closed) = self.listen_once_more()? {
                        return Ok(closed);
                    }
                }
            }
        }
    }

    fn received(&mut self, received: Option<Received>) -> Option<Closed> {
        match received {
            Some(received) => self.handle(received).err().map(Closed::Told),
            None => Some(Closed::ByPeer),
        }
    }

    /// Takes what has arrived although nothing was heard for too long: whatever came while this
    /// process was stopped.
    fn listen_once_more(&mut self) -> Result<Option<Closed>, ConnectionError> {
        let arrived = match self.query {
            Some(_) => None,
            None => self.line.inbound.next().now_or_never(),
        };
        let silent = self.is_silent();
        match arrived {
            Some(received) => Ok(self.received(received?)),
            None => Ok(silent.then_some(Closed::Told(Refusal::TimedOut))),
        }
    }

    /// Whether the peer has been silent for too long; otherwise sets the timer anew.
    fn is_silent(&mut self) -> bool {
        if self.query.is_some() || self.line.inbound.is_held_up() {
            self.line.inbound.forgive_silence();
        }
        let deadline = self.line.inbound.last_heard() + PEER_TIMEOUT;
        self.silence.as_mut().reset(deadline);
        deadline <= Instant::now()
    }

    /// Answers what was looked up.
    fn take(&mut self, (reply, found): (PendingReply, Found)) {
        self.line.inbound.forgive_silence();
        match found {
            Found::Answer(answer) => reply.answer(answer),
            Found::Start(Err(refusal)) => reply.answer(Err(refusal)),
            Found::Start(Ok((Start { room, after, head }, following))) => {
                // The answer goes first: messages follow it.
                reply.answer(Ok(Reply::Head { head }));
                self.follow(room, after, following);
            }
        }
    }

    fn delivered(&mut self, progress: Progress) {
        match progress {
            Progress::CaughtUp(caught_up) => {
                debug!(room = %caught_up.room, seq = %caught_up.last, "caught up");
            }
            Progress::Unreadable(Unreadable { room, after, error }) => {
                self.seat.rooms.remove(&room);
                self.seat.count_rooms();
                let text = error.to_string();
                let reason = if matches!(error, StoreError::NotReadable) {
                    debug!(%room, %after, "nobody there is in the room any more");
                    Refusal::NoReader { room: room.clone() }
                } else if error.is_damage() {
                    error!(%room, %after, %error, "a room cannot be read");
                    Refusal::Unreadable { reason: text }
                } else {
                    error!(%room, %after, %error, "a room cannot be read");
                    Refusal::Unavailable { reason: text }
                };
                let event = Event::Unsubscribed { room, reason };
                self.line.outbound.push_reply(event_frame(event));
            }
        }
    }

    fn follow(&mut self, room: Room, after: Seq, following: Following) {
        let Self { line, seat, .. } = self;
        let feed = self.service.feed();
        feed.subscribe(line.reader, &line.outbound, &room, after);
        // What was followed of the room before ends here.
        seat.rooms.insert(room, following);
        seat.count_rooms();
    }

    /// Says what there is to say and closes.
    async fn end(self, outcome: Result<Closed, ConnectionError>) {
        let Self {
            mut line,
            seat,
            query,
            ..
        } = self;
        // Nobody else waits while the last words are said.
        drop(seat);
        drop(query);
        match outcome {
            Ok(Closed::ShuttingDown) => send_away(line).await,
            Ok(Closed::Told(Refusal::Draining)) => {
                if timeout(SHUTDOWN_DEADLINE, send_away(line)).await.is_err() {
                    warn!("the agent did not take the last answers, and was cut off");
                }
            }
            Ok(Closed::ByPeer) => {
                // It may have closed its sending end only, and listen still.
                let last_words = async {
                    drain(&mut line).await;
                    finish(line).await;
                };
                if timeout(FAREWELL, last_words).await.is_err() {
                    debug!("the peer did not take the last answers");
                }
            }
            Ok(Closed::Told(reason)) => line.close(reason).await,
            Err(ConnectionError::Codec(error)) => line.close(malformed(&error)).await,
            // A broken socket.
            Err(ConnectionError::Io(_)) => {}
        }
    }
}

impl Seat {
    fn count_rooms(&self) {
        self.handle.rooms.store(self.rooms.len(), Ordering::Relaxed);
    }
}

/// Waits for what is being looked up, if anything is.
///
/// # Cancel safety
///
/// Cancel safe: the query stays where it is until it is answered.
async fn found(query: &mut Option<Query>) -> (PendingReply, Found) {
    let Some(running) = query else {
        return std::future::pending().await;
    };
    let found = running.work.as_mut().await;
    match query.take() {
        Some(query) => (query.reply, found),
        None => std::future::pending().await,
    }
}

/// Answers what was asked, then tells the agent to go. The caller sets the deadline.
async fn send_away<S: AsyncRead + AsyncWrite + Unpin>(mut line: Line<S>) {
    drain(&mut line).await;
    line.outbound.push_reply(event_frame(Event::GoingAway {
        reconnect_in_ms: RECONNECT_IN_MS,
    }));
    finish(line).await;
}

/// Delivers until every request was answered. The caller sets the deadline.
async fn drain<S: AsyncRead + AsyncWrite + Unpin>(line: &mut Line<S>) {
    loop {
        tokio::select! {
            () = line.inbound.answered() => return,
            delivered = line.delivery.run() => {
                if let Err(error) = delivered {
                    debug!(%error, "the last answers were not taken");
                    return;
                }
            }
        }
    }
}

async fn finish<S: AsyncRead + AsyncWrite + Unpin>(line: Line<S>) {
    if let Err(error) = line.finish().await {
        debug!(%error, "the connection did not close in order");
    }
}
