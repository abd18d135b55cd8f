//! One connection to the server, from welcome to end.

use super::{
    Link, LinkError, LinkRequest,
    intake::{Ingested, Intake},
    roll_call::{self, News},
    welcome::Welcome,
    window::Window,
};
use crate::{
    hub::Roll,
    store::{Command, Settled, has_epoch, outbox, person},
};
use bytes::{Buf, BytesMut};
use futures_util::{FutureExt, StreamExt};
use protocol::{
    Epoch, FrameCodec, MessageId, Nick, RequestId, Room, Timestamp, UserName, encode_frame,
    federation::{AgentFrame, Event, Refusal, Reply, Request, ServerFrame},
    limits::{APPEND_WINDOW, HEARTBEAT_INTERVAL, PEER_TIMEOUT},
    local::{self, Delivery, LinkStatus},
};
use room_log::{StoreError, log};
use std::{
    collections::{HashMap, HashSet},
    future::Future,
    pin::Pin,
    time::{Duration, SystemTime},
};
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_util::{codec::FramedRead, sync::CancellationToken};
use tracing::{debug, info, warn};

/// Bytes of requests gathered before more messages are taken from the outbox.
const GATHER_BYTES: usize = 256 * 1024;

/// Frames handled before everything else gets a turn.
const FRAMES_A_TURN: usize = 256;

/// How an orderly connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// The agent is ending.
    Stopping,
    /// The agent was told of other servers.
    ServersChanged,
    /// The server is ending.
    GoingAway { reconnect_in: Duration },
}

/// What a reply will be for.
#[derive(Debug)]
enum Pending {
    Append {
        attempt: u32,
        id: MessageId,
    },
    Join {
        room: Room,
        nick: Nick,
    },
    Leave {
        room: Room,
        user: UserName,
    },
    Subscribe {
        room: Room,
    },
    Directs,
    Presence,
    Unsubscribe,
    Ping,
    Sync {
        room: Room,
        done: oneshot::Sender<bool>,
    },
    Ask {
        answer: oneshot::Sender<Result<Reply, local::Refusal>>,
    },
}

type Loading = Pin<Box<dyn Future<Output = Result<Vec<outbox::Waiting>, StoreError>> + Send>>;

/// The connection's state.
pub(super) struct Online<'l> {
    link: &'l mut Link,
    epoch: Epoch,
    frames: FramedRead<OwnedReadHalf, FrameCodec<ServerFrame, AgentFrame>>,
    socket: OwnedWriteHalf,
    out: BytesMut,
    pending: HashMap<RequestId, Pending>,
    next_id: u32,
    heard: Instant,
    /// What the server was told of this host's members and presence.
    told: Roll,
    subscribed: HashSet<Room>,
    /// Rooms the server does not let this agent follow; nobody waits for them.
    refused: HashSet<Room>,
    intake: Intake,
    window: Window,
    loading: Option<(usize, Loading)>,
    paused_until: Option<Instant>,
    settled: Vec<Settled>,
}

impl<'l> Online<'l> {
    /// Makes the replica belong to the server's log, and queues what the server must hear first.
    pub(super) async fn prepare(
        link: &'l mut Link,
        server: &str,
        stream: TcpStream,
        welcome: Welcome,
    ) -> Result<Self, LinkError> {
        let epoch = welcome.epoch;
        if link.hub.server_epoch() != epoch {
            let old = link.hub.server_epoch();
            if has_epoch(old) {
                warn!(%old, new = %epoch, "the server has another log than before");
            }
            let (done, begun) = oneshot::channel();
            let command = Command::BeginEpoch { epoch, done };
            link.writer
                .submit(command)
                .await
                .map_err(|error| LinkError::Store(error.to_string()))?;
            let begun = begun
                .await
                .map_err(|_| LinkError::Store("the agent is ending".into()))?;
            begun.map_err(LinkError::Store)?;
        }
        let store = |error: StoreError| LinkError::Store(error.to_string());
        let (heads, departures) = link
            .readers
            .run(move |connection| {
                Ok((
                    log::heads(connection, epoch)?,
                    person::departures(connection)?,
                ))
            })
            .await
            .map_err(store)?;
        link.hub.clear_problem("diverged");
        link.hub.set_link(LinkStatus::Online {
            server: server.to_owned(),
            epoch,
            software: welcome.software,
            since: Timestamp::from(SystemTime::now()),
        });
        let (read, socket) = stream.into_split();
        let mut frames = FramedRead::new(read, FrameCodec::new());
        *frames.read_buffer_mut() = welcome.rest;
        let mut online = Self {
            epoch,
            frames,
            socket,
            out: BytesMut::new(),
            pending: HashMap::new(),
            next_id: 1,
            heard: Instant::now(),
            told: Roll::default(),
            subscribed: HashSet::new(),
            refused: HashSet::new(),
            intake: Intake::new(heads),
            window: Window::new(APPEND_WINDOW),
            loading: None,
            paused_until: None,
            settled: Vec::new(),
            link,
        };
        for (room, nick) in departures {
            let user = UserName::new(nick.clone(), online.link.hub.host().clone());
            let pending = Pending::Leave {
                room: Room::Federated(room.clone()),
                user,
            };
            online.ask(Request::Leave { room, nick }, pending)?;
        }
        online.ask(Request::Directs { after: None }, Pending::Directs)?;
        online.reconcile()?;
        Ok(online)
    }

    /// Serves the connection to its end.
    pub(super) async fn run(mut self, stop: &CancellationToken) -> Result<Closed, LinkError> {
        let ended = self.serve(stop).await;
        // Whoever waits for the server is told that it is gone.
        for (_, pending) in self.pending.drain() {
            match pending {
                Pending::Sync { done, .. } => drop(done.send(false)),
                Pending::Ask { answer } => drop(answer.send(Err(local::Refusal::Offline))),
                _ => {}
            }
        }
        self.intake.give_up();
        ended
    }

    async fn serve(&mut self, stop: &CancellationToken) -> Result<Closed, LinkError> {
        let mut heartbeat = interval(HEARTBEAT_INTERVAL);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let writer = self.link.writer.clone();
        loop {
            self.fill()?;
            let reading = self.can_read();
            let writing = !self.out.is_empty();
            let owes_settled = !self.settled.is_empty();
            let owes_ingest = self.intake.is_due();
            let pause = self.paused_until;
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.flush().await;
                    return Ok(Closed::Stopping);
                }
                _ = self.link.servers.changed() => return Ok(Closed::ServersChanged),
                written = self.socket.write_buf(&mut self.out), if writing => {
                    if written? == 0 {
                        return Err(LinkError::ClosedByPeer);
                    }
                }
                done = self.intake.ingested() => self.ingested(done)?,
                loaded = loaded(&mut self.loading) => self.loaded(loaded)?,
                slot = writer.reserve(), if owes_settled || owes_ingest => {
                    let slot = slot.map_err(|error| LinkError::Store(error.to_string()))?;
                    if owes_ingest {
                        slot.submit(self.intake.take());
                    } else {
                        let results = std::mem::take(&mut self.settled);
                        slot.submit(Command::Settle { results });
                    }
                }
                frame = self.frames.next(), if reading => {
                    if let Some(closed) = self.heard(frame)? {
                        return Ok(closed);
                    }
                }
                Some(request) = self.link.requests.recv() => self.requested(request)?,
                () = self.link.hub.people_changed() => self.reconcile()?,
                () = self.link.hub.outbox().wait() => self.window.grew(),
                () = until(pause), if pause.is_some() => {
                    self.paused_until = None;
                    self.reconcile()?;
                }
                () = sleep_until(self.heard + PEER_TIMEOUT), if reading => {
                    return Err(LinkError::Silent(self.heard.elapsed()));
                }
                _ = heartbeat.tick() => {
                    if !reading {
                        // Not listening is this side's own doing.
                        self.heard = Instant::now();
                    }
                    self.ask(Request::Ping, Pending::Ping)?;
                }
            }
        }
    }

    /// Whether more may be taken from the socket: not while the replica is behind.
    fn can_read(&self) -> bool {
        !self.intake.is_full() && self.settled.len() < 4 * APPEND_WINDOW
    }

    /// Sends what the outbox has, as far as window and buffer allow.
    fn fill(&mut self) -> Result<(), LinkError> {
        if self.loading.is_none()
            && let Some((after, limit)) = self.window.wants()
        {
            let readers = self.link.readers.clone();
            let load = async move { readers.run(move |c| outbox::page(c, after, limit)).await };
            self.loading = Some((limit, Box::pin(load)));
        }
        if self.paused_until.is_some() {
            return Ok(());
        }
        while self.out.len() < GATHER_BYTES
            && let Some((attempt, message)) = self.window.next_to_send()
        {
            let id = message.id;
            let request = Request::Append {
                attempt,
                message: message.clone(),
            };
            self.ask(request, Pending::Append { attempt, id })?;
        }
        Ok(())
    }

    fn loaded(
        &mut self,
        loaded: Result<Vec<outbox::Waiting>, StoreError>,
    ) -> Result<(), LinkError> {
        let wanted = self.loading.take().map_or(0, |(limit, _)| limit);
        let entries = loaded.map_err(|error| LinkError::Store(error.to_string()))?;
        self.window.load(entries, wanted);
        Ok(())
    }

    fn ask(&mut self, request: Request, pending: Pending) -> Result<(), LinkError> {
        let id = RequestId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        let frame = encode_frame(&AgentFrame { id, request })?;
        self.out.extend_from_slice(&frame);
        self.pending.insert(id, pending);
        Ok(())
    }

    /// Takes one frame and those that have arrived behind it.
    fn heard(
        &mut self,
        frame: Option<Result<ServerFrame, protocol::CodecError>>,
    ) -> Result<Option<Closed>, LinkError> {
        let mut next = frame;
        for _ in 0..FRAMES_A_TURN {
            let frame = next.ok_or(LinkError::ClosedByPeer)??;
            self.heard = Instant::now();
            match frame {
                ServerFrame::Reply { id, result } => self.replied(id, result)?,
                ServerFrame::Event(event) => {
                    if let Some(closed) = self.happened(event)? {
                        return Ok(Some(closed));
                    }
                }
            }
            if !self.can_read() {
                break;
            }
            match self.frames.next().now_or_never() {
                Some(more) => next = more,
                None => break,
            }
        }
        Ok(None)
    }

    fn happened(&mut self, event: Event) -> Result<Option<Closed>, LinkError> {
        let hub = &self.link.hub;
        match event {
            Event::Committed(message) => self.intake.push(message),
            Event::DirectOpened { conversation } => self.subscribe(conversation)?,
            Event::Presence { user, availability } => {
                if user.host != *hub.host() {
                    hub.pass_presence(user, availability);
                } else {
                    hub.pass_presence(user.clone(), hub.availability(&user.nick));
                }
            }
            Event::Joined { room, user } => {
                let room = Room::Federated(room);
                hub.pass_on(
                    &room,
                    local::Event::Joined {
                        room: room.clone(),
                        user,
                    },
                );
            }
            Event::Left { room, user } => {
                let room = Room::Federated(room);
                hub.pass_on(
                    &room,
                    local::Event::Left {
                        room: room.clone(),
                        user,
                    },
                );
            }
            Event::Topic { room, user, topic } => {
                self.copy_topic(room.clone(), topic.clone());
                let room = Room::Federated(room);
                let event = local::Event::Topic {
                    room: room.clone(),
                    user,
                    topic,
                };
                self.link.hub.pass_on(&room, event);
            }
            Event::GoingAway { reconnect_in_ms } => {
                let reconnect_in = Duration::from_millis(reconnect_in_ms.into());
                return Ok(Some(Closed::GoingAway { reconnect_in }));
            }
            Event::Closing { reason } => return Err(LinkError::Refused(reason)),
        }
        Ok(None)
    }

    fn replied(&mut self, id: RequestId, result: Result<Reply, Refusal>) -> Result<(), LinkError> {
        let Some(pending) = self.pending.remove(&id) else {
            warn!(?id, "the server answered what was not asked");
            return Ok(());
        };
        // The server does what it is asked: the connection has proved itself.
        self.link.backoff.reset();
        match (pending, result) {
            (
                Pending::Append { attempt, .. },
                Err(Refusal::NotYet {
                    retry_after_ms,
                    reason,
                }),
            ) => {
                if self.window.not_yet(attempt) {
                    debug!(%reason, retry_after_ms, "the server cannot take messages yet");
                    let wait = Duration::from_millis(retry_after_ms.into());
                    self.paused_until = Some(Instant::now() + wait);
                    let problem = format!("the server cannot take messages yet: {reason}");
                    self.link.hub.set_problem("not yet", problem);
                }
            }
            (Pending::Append { id, .. }, result) => self.appended(id, result),
            (Pending::Join { room, .. }, Ok(Reply::Joined { topic, .. })) => {
                if let Room::Federated(room) = room {
                    self.copy_topic(room, topic);
                }
            }
            (Pending::Join { room, nick }, Err(Refusal::NotYet { retry_after_ms, .. })) => {
                // It counts as not told, and is told when the pause is over.
                if let Some(nicks) = self.told.members.get_mut(&room) {
                    nicks.remove(&nick);
                }
                let wait = Duration::from_millis(retry_after_ms.into());
                self.paused_until = Some(Instant::now() + wait);
            }
            (Pending::Join { room, .. }, Err(error)) => {
                warn!(%room, %error, "the server refused a membership");
                self.link
                    .hub
                    .set_problem("join", format!("the server refused {room}: {error}"));
            }
            (
                Pending::Leave {
                    room: Room::Federated(room),
                    user,
                },
                Ok(_),
            ) => {
                // If the queue is full, the next connection tells the server again.
                let _told_again = self
                    .link
                    .writer
                    .try_submit(Command::Departed { room, user });
            }
            (Pending::Subscribe { room }, Err(error)) => self.not_followed(room, &error),
            (
                Pending::Directs,
                Ok(Reply::Directs {
                    conversations,
                    more,
                }),
            ) => {
                if more {
                    let after = conversations.last().cloned();
                    self.ask(Request::Directs { after }, Pending::Directs)?;
                }
                for room in conversations {
                    self.subscribe(room)?;
                }
            }
            (Pending::Sync { room, done }, Ok(Reply::Head { head })) => {
                if self.refused.contains(&room) {
                    let _session_is_gone = done.send(false);
                } else {
                    self.intake.sync(room, head, done);
                }
            }
            (Pending::Sync { done, .. }, _) => drop(done.send(false)),
            (Pending::Ask { answer }, result) => {
                drop(answer.send(result.map_err(local::Refusal::ByServer)));
            }
            (_, Err(error)) => warn!(%error, "the server refused a request"),
            (_, Ok(_)) => {}
        }
        Ok(())
    }

    /// The server does not let this agent follow a room.
    fn not_followed(&mut self, room: Room, error: &Refusal) {
        warn!(%room, %error, "cannot follow a room");
        if matches!(error, Refusal::Diverged { .. }) {
            let advice = "start the server once with --new-epoch, so that everybody is told";
            self.link
                .hub
                .set_problem("diverged", format!("{error}; {advice}"));
        }
        self.subscribed.remove(&room);
        self.intake.give_up_on(&room);
        self.refused.insert(room);
    }

    /// The server took a message, or refused it for good.
    fn appended(&mut self, id: MessageId, result: Result<Reply, Refusal>) {
        let result = match result {
            Ok(Reply::Appended { seq }) => Ok(Delivery::Committed {
                epoch: self.epoch,
                seq,
            }),
            Ok(_) => {
                warn!(%id, "the server answered an append with something else");
                return;
            }
            Err(refusal) => Err(refusal),
        };
        self.link.hub.clear_problem("not yet");
        // A message of an attempt before may be settled twice.
        if let Some(message) = self.window.settle(id) {
            let (room, author) = (message.room, message.author);
            self.settled.push(Settled {
                id,
                room,
                author,
                result,
            });
        }
    }

    fn requested(&mut self, request: LinkRequest) -> Result<(), LinkError> {
        match request {
            LinkRequest::Ask { request, answer } => self.ask(*request, Pending::Ask { answer }),
            LinkRequest::Sync { room, done } => {
                // What is new must be subscribed to before the server is asked how far it is.
                self.reconcile()?;
                if self.refused.contains(&room) {
                    let _session_is_gone = done.send(false);
                    return Ok(());
                }
                self.ask(
                    Request::Head { room: room.clone() },
                    Pending::Sync { room, done },
                )
            }
        }
    }

    /// Tells the server what changed in this host's members and presence.
    fn reconcile(&mut self) -> Result<(), LinkError> {
        let now = self.link.hub.roll();
        let before = std::mem::replace(&mut self.told, now);
        for news in roll_call::news(&before, &self.told) {
            match news {
                News::Joined(room, nick) => {
                    if let Room::Federated(name) = room.clone() {
                        let pending = Pending::Join {
                            room: room.clone(),
                            nick: nick.clone(),
                        };
                        self.ask(Request::Join { room: name, nick }, pending)?;
                    }
                    if !self.subscribed.contains(&room) {
                        self.subscribe(room)?;
                    }
                }
                News::Left(room, nick) => {
                    if let Room::Federated(name) = room.clone() {
                        let user = UserName::new(nick.clone(), self.link.hub.host().clone());
                        let pending = Pending::Leave { room, user };
                        self.ask(Request::Leave { room: name, nick }, pending)?;
                    }
                }
                News::Abandoned(room) => {
                    if self.subscribed.remove(&room) {
                        self.ask(Request::Unsubscribe { room }, Pending::Unsubscribe)?;
                    }
                }
                News::Presence(nick, availability) => {
                    self.ask(Request::Presence { nick, availability }, Pending::Presence)?;
                }
            }
        }
        Ok(())
    }

    fn subscribe(&mut self, room: Room) -> Result<(), LinkError> {
        let head = self.intake.head(&room);
        self.subscribed.insert(room.clone());
        let request = Request::Subscribe {
            room: room.clone(),
            after: head.seq,
            after_id: head.id,
        };
        self.ask(request, Pending::Subscribe { room })
    }

    fn copy_topic(&self, room: protocol::FederatedRoom, topic: String) {
        // A copy for when the server is away; the next one told will do if the queue is full.
        let _told_again = self
            .link
            .writer
            .try_submit(Command::CopyTopic { room, topic });
    }

    fn ingested(&mut self, done: Ingested) -> Result<(), LinkError> {
        let gaps = done.map_err(LinkError::Store)?;
        self.intake.note(&gaps);
        if !gaps.is_empty() {
            // A server that keeps to the protocol leaves none. The replica says how far it is,
            // and a new connection begins from there.
            let rooms: Vec<&str> = gaps.iter().map(|gap| gap.room.as_str()).collect();
            return Err(LinkError::Refused(Refusal::Malformed {
                reason: format!("messages are missing in {}", rooms.join(", ")),
            }));
        }
        Ok(())
    }

    /// Gives what is already encoded a moment to leave before the connection closes.
    async fn flush(&mut self) {
        let flushing = async {
            while self.out.has_remaining() {
                self.socket.write_buf(&mut self.out).await?;
            }
            self.socket.shutdown().await
        };
        if !matches!(timeout(Duration::from_secs(1), flushing).await, Ok(Ok(()))) {
            info!("the connection to the server closed before everything was sent");
        }
    }
}

async fn loaded(
    loading: &mut Option<(usize, Loading)>,
) -> Result<Vec<outbox::Waiting>, StoreError> {
    match loading {
        Some((_, loading)) => loading.await,
        None => std::future::pending().await,
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
