//! One connection to the server, from welcome to end: its socket and whose turn it is.

use super::{
    Link, LinkError, LinkRequest,
    following::{Errand, Following},
    intake::{Ingested, Intake},
    mandate,
    replica::Replica,
    sending::{Held, Sending},
    stream::Stream,
    until,
    welcome::Welcome,
};
use crate::{
    hub::Roll,
    store::{Command, person::DepartureNumber},
};
use bytes::{Buf, BytesMut};
use futures_util::{FutureExt, StreamExt};
use protocol::{
    CodecError, FederatedRoom, FrameCodec, KeyFingerprint, MessageId, Nick, RequestId, Room, Seq,
    ServerAddress, ServerTrust, Timestamp, UserName, encode_frame,
    federation::{AgentFrame, Event, Refusal, Reply, Request, ServerFrame},
    governance::Denied,
    limits::{HEARTBEAT_INTERVAL, PEER_TIMEOUT},
    local::{self, LinkStatus},
};
use room_log::Heard;
use std::{
    collections::HashMap,
    io::Cursor,
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Chain, ReadHalf, WriteHalf, split},
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_util::{codec::FramedRead, sync::CancellationToken};
use tracing::{info, warn};

/// Bytes of requests gathered before more messages are taken from the outbox.
const GATHER_BYTES: usize = 256 * 1024;

/// Frames handled before anything else may have its turn.
const FRAMES_A_TURN: usize = 256;

/// How an orderly connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// The agent is ending.
    Stopping,
    /// The agent was told of other servers.
    ServersChanged,
    /// This host has another key: the one before counts until the server sees it.
    KeyChanged,
    /// The server is ending, or is being drained.
    GoingAway { reconnect_in: Duration },
}

/// What a reply will be for.
#[derive(Debug)]
enum Pending {
    Append(MessageId),
    Errand(Errand),
    Ping,
    NextKey {
        key: KeyFingerprint,
    },
    Sync {
        room: Room,
        done: oneshot::Sender<bool>,
    },
    Ask {
        answer: oneshot::Sender<Result<Reply, local::Refusal>>,
    },
}

/// What is read of the connection: what is left of the opening, then the socket.
type Incoming = Chain<Cursor<BytesMut>, ReadHalf<Stream>>;

/// The connection's state.
pub(super) struct Online<'l> {
    link: &'l mut Link,
    since: Instant,
    frames: FramedRead<Heard<Incoming>, FrameCodec<ServerFrame, AgentFrame>>,
    socket: WriteHalf<Stream>,
    out: BytesMut,
    /// Whether TLS may hold back some of what it took.
    unflushed: bool,
    server: ServerAddress,
    servers: Vec<ServerAddress>,
    pending: HashMap<RequestId, Pending>,
    next_id: u32,
    following: Following,
    intake: Intake,
    sending: Sending,
    /// Whether this host has another key than this connection was made with.
    has_new_key: bool,
}

impl<'l> Online<'l> {
    /// Queues what the server must hear first.
    pub(super) fn begin(
        link: &'l mut Link,
        server: ServerAddress,
        stream: Stream,
        welcome: Welcome,
        replica: Replica,
    ) -> Result<Self, LinkError> {
        link.hub.set_link(LinkStatus::Online {
            server: server.place().to_owned(),
            epoch: welcome.epoch,
            software: welcome.software,
            since: Timestamp::from(SystemTime::now()),
        });
        let (read, socket) = split(stream);
        // What came behind the welcome is read again: a buffer that is put in place is only
        // looked at when more comes.
        let read = AsyncReadExt::chain(Cursor::new(welcome.rest), read);
        let frames = FramedRead::new(Heard::new(read), FrameCodec::new());
        let servers = link.servers.borrow_and_update().clone();
        let mut online = Self {
            link,
            server,
            servers,
            unflushed: false,
            since: Instant::now(),
            frames,
            socket,
            out: BytesMut::new(),
            pending: HashMap::new(),
            next_id: 1,
            following: Following::default(),
            intake: Intake::new(replica.heads),
            sending: Sending::new(welcome.epoch),
            has_new_key: false,
        };
        for (up_to, room, nick) in replica.departures {
            online.run_errand(Errand::Leave { room, nick, up_to })?;
        }
        online.run_errand(Errand::Directs { after: None })?;
        if let Some(key) = online.link.keys.next() {
            online.ask(Request::NextKey { key }, Pending::NextKey { key })?;
        }
        online.tell(replica.roll, replica.roll_version)?;
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
        // What this connection was refused says nothing about the next one.
        self.link.hub.free_all();
        self.link.hub.set_refused(Vec::new());
        self.link.hub.forget_server_log();
        ended
    }

    async fn serve(&mut self, stop: &CancellationToken) -> Result<Closed, LinkError> {
        let mut heartbeat = interval(HEARTBEAT_INTERVAL);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let writer = self.link.writer.clone();
        loop {
            if self.has_new_key {
                self.flush().await;
                return Ok(Closed::KeyChanged);
            }
            self.fill()?;
            let reading = self.can_read();
            let writing = !self.out.is_empty() || self.unflushed;
            let owes_settled = self.sending.owes();
            let owes_ingest = self.intake.is_due();
            let heard = self.frames.get_ref().last();
            let retry_at = self.following.retry_at();
            // Not biased: what is ready is taken at random, so that a busy socket keeps nothing
            // else from its turn.
            tokio::select! {
                () = stop.cancelled() => {
                    self.flush().await;
                    return Ok(Closed::Stopping);
                }
                _ = self.link.servers.changed() => {
                    if self.link.has_others(&self.servers) {
                        self.flush().await;
                        return Ok(Closed::ServersChanged);
                    }
                }
                written = write(&mut self.socket, &mut self.out, &mut self.unflushed), if writing => {
                    written?;
                }
                done = self.intake.ingested() => self.ingested(done)?,
                ready = self.sending.ready() => ready?,
                slot = writer.reserve(), if owes_settled || owes_ingest => {
                    let slot = slot.map_err(|error| LinkError::Store(error.to_string()))?;
                    slot.submit(if owes_ingest {
                        self.intake.take()
                    } else {
                        self.sending.take_settled()
                    });
                }
                frame = self.frames.next(), if reading => {
                    if let Some(closed) = self.heard(frame)? {
                        return Ok(closed);
                    }
                }
                Some(request) = self.link.requests.recv() => self.requested(request)?,
                () = self.link.hub.people_changed() => self.reconcile()?,
                () = self.link.hub.outbox().wait() => self.sending.grew(),
                () = until(retry_at) => {
                    for errand in self.following.retry(Instant::now()) {
                        self.run_errand(errand)?;
                    }
                }
                () = sleep_until(heard + PEER_TIMEOUT), if reading => {
                    if let Some(closed) = self.listen_once_more()? {
                        return Ok(closed);
                    }
                }
                _ = heartbeat.tick() => {
                    if !reading {
                        // Not listening is this side's own doing.
                        self.frames.get_mut().forgive_silence();
                    }
                    self.ask(Request::Ping, Pending::Ping)?;
                }
            }
        }
    }

    /// Whether more may be taken from the socket: not while the replica is behind.
    fn can_read(&self) -> bool {
        !self.intake.is_full() && !self.sending.is_full()
    }

    /// Sends what the outbox has, as far as window and buffer allow.
    fn fill(&mut self) -> Result<(), LinkError> {
        for author in self.sending.take_freed() {
            self.link.hub.free(&author.nick);
        }
        self.sending.load(&self.link.readers);
        while self.out.len() < GATHER_BYTES
            && let Some((attempt, message)) = self.sending.next()
        {
            let (id, message) = (message.id, message.clone());
            let request = Request::Append { attempt, message };
            self.ask(request, Pending::Append(id))?;
        }
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

    fn run_errand(&mut self, errand: Errand) -> Result<(), LinkError> {
        if let Errand::Unsubscribe(room) = &errand {
            self.intake.give_up_on(room);
        }
        let request = errand.request(|room| self.intake.head(room));
        self.ask(request, Pending::Errand(errand))
    }

    /// Takes one frame and those that have arrived behind it.
    fn heard(
        &mut self,
        frame: Option<Result<ServerFrame, CodecError>>,
    ) -> Result<Option<Closed>, LinkError> {
        let mut next = frame;
        let mut handled = 0;
        loop {
            match next.ok_or(LinkError::ClosedByPeer)?? {
                ServerFrame::Reply { id, result } => self.replied(id, result)?,
                ServerFrame::Event(event) => {
                    if let Some(closed) = self.happened(event)? {
                        return Ok(Some(closed));
                    }
                }
            }
            handled += 1;
            // Looked at first: a frame that was taken must be handled.
            if handled == FRAMES_A_TURN || !self.can_read() {
                return Ok(None);
            }
            match self.frames.next().now_or_never() {
                Some(more) => next = more,
                None => return Ok(None),
            }
        }
    }

    /// Takes what has arrived although nothing was heard for too long: parts of a long frame, or
    /// whatever came while this process was stopped.
    fn listen_once_more(&mut self) -> Result<Option<Closed>, LinkError> {
        if let Some(frame) = self.frames.next().now_or_never() {
            return self.heard(frame);
        }
        let silence = self.frames.get_ref().last().elapsed();
        if silence >= PEER_TIMEOUT {
            return Err(LinkError::Silent(silence));
        }
        Ok(None)
    }

    fn happened(&mut self, event: Event) -> Result<Option<Closed>, LinkError> {
        let hub = &self.link.hub;
        mandate::check(hub.host(), &event)?;
        match event {
            Event::Committed(message) if self.following.is_followed(&message.room) => {
                self.intake.push(message);
            }
            // The rest of a subscription that has ended.
            Event::Committed(_) => {}
            Event::DirectOpened { conversation } => self.follow(conversation)?,
            Event::Presence { user, availability } => {
                let availability = if user.host == *hub.host() {
                    hub.availability(&user.nick)
                } else {
                    availability
                };
                hub.pass_presence(user, availability);
            }
            Event::Joined { room, user } => {
                let room = Room::Federated(room);
                let event = local::Event::Joined {
                    room: room.clone(),
                    user,
                };
                hub.pass_on(&room, event);
            }
            Event::Left { room, user } => {
                let room = Room::Federated(room);
                let event = local::Event::Left {
                    room: room.clone(),
                    user,
                };
                hub.pass_on(&room, event);
            }
            Event::Topic { room, user, topic } => {
                self.copy_topic(room.clone(), topic.clone());
                let user = self.link.hub.who_set(&room, user, &topic);
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
            Event::NextKey { key } => self.learn_next_key(key),
            Event::Log { status } => hub.set_server_log(self.server.place(), status),
            Event::Closing { reason } => return Err(LinkError::Refused(reason)),
            Event::Unsubscribed { room, reason } => {
                self.intake.give_up_on(&room);
                let errand = Errand::Subscribe(room);
                self.following.refused(errand, &reason, Instant::now());
                self.show_refusals();
            }
        }
        Ok(None)
    }

    fn replied(&mut self, id: RequestId, result: Result<Reply, Refusal>) -> Result<(), LinkError> {
        let Some(pending) = self.pending.remove(&id) else {
            warn!(?id, "the server answered what was not asked");
            return Ok(());
        };
        if self.since.elapsed() >= HEARTBEAT_INTERVAL {
            // It still does what it is asked: the connection has proved itself.
            self.link.lasted();
        }
        match (pending, result) {
            (Pending::Append(id), result) => {
                if let Some(held) = self.sending.answered(id, result, Instant::now())? {
                    let Held {
                        author,
                        reason,
                        pause,
                        tell,
                    } = held;
                    self.link.hub.hold_up(&author.nick, reason, pause, tell);
                }
            }
            (Pending::Errand(errand), Ok(reply)) => self.granted(errand, reply)?,
            (Pending::Errand(errand), Err(refusal)) => {
                if let Errand::Subscribe(room) = &errand {
                    self.intake.give_up_on(room);
                    if matches!(refusal, Refusal::NoReader { .. }) {
                        // The server says of each who is in the room here whether they still are.
                        for errand in self.following.members_of(room) {
                            self.run_errand(errand)?;
                        }
                    }
                }
                self.expel(&errand, &refusal);
                self.following.refused(errand, &refusal, Instant::now());
                self.show_refusals();
            }
            (Pending::Sync { room, done }, Ok(Reply::Head { head }))
                if !self.following.is_out_of_reach(&room) =>
            {
                if matches!(room, Room::Direct(_)) && head > Seq::START {
                    // The list of conversations may not have come to it yet.
                    self.follow(room.clone())?;
                }
                self.intake.sync(room, head, done);
            }
            (Pending::Sync { done, .. }, _) => drop(done.send(false)),
            (Pending::Ask { answer }, result) => {
                drop(answer.send(result.map_err(local::Refusal::ByServer)));
            }
            (Pending::NextKey { key }, Ok(_)) => match self.link.keys.change(key) {
                Ok(()) => {
                    info!(%key, "the server knows this host's next key: connecting with it");
                    self.has_new_key = true;
                }
                Err(error) => warn!(%error, "this host's key stays as it was"),
            },
            (Pending::NextKey { .. }, Err(error)) => {
                warn!(%error, "the server does not take this host's next key");
            }
            (Pending::Ping, Err(error)) => warn!(%error, "the server refused a ping"),
            (Pending::Ping, Ok(_)) => {}
        }
        Ok(())
    }

    fn granted(&mut self, errand: Errand, reply: Reply) -> Result<(), LinkError> {
        if let Some(next) = self.following.granted(&errand) {
            self.run_errand(next)?;
        }
        self.show_refusals();
        match (errand, reply) {
            (Errand::Join { room, nick }, Reply::Joined { head, topic }) => {
                mandate::check_topic(&topic)?;
                let federated = Room::Federated(room.clone());
                self.link.hub.vouch(federated, nick, head);
                self.copy_topic(room, topic);
            }
            (Errand::Leave { room, nick, up_to }, _) => self.departed(room, nick, up_to),
            (
                Errand::Directs { .. },
                Reply::Directs {
                    conversations,
                    more,
                },
            ) => {
                if more {
                    let after = conversations.last().cloned();
                    self.run_errand(Errand::Directs { after })?;
                }
                for room in conversations {
                    mandate::check_direct(self.link.hub.host(), &room)?;
                    self.follow(room)?;
                }
            }
            (_, _) => {}
        }
        Ok(())
    }

    /// Takes a member out whom the server does not let in.
    fn expel(&self, errand: &Errand, refusal: &Refusal) {
        let Errand::Join { room, nick } = errand else {
            return;
        };
        let closed = match refusal {
            Refusal::NotOpen { .. } => true,
            Refusal::Denied { denied, .. } => matches!(denied, Denied::Banned { .. }),
            _ => return,
        };
        let user = UserName::new(nick.clone(), self.link.hub.host().clone());
        let room = Room::Federated(room.clone());
        // If the queue is full, the next connection asks again and is told again.
        let _told_again = self
            .link
            .writer
            .try_submit(Command::Expel { room, user, closed });
    }

    fn departed(&self, room: FederatedRoom, nick: Nick, up_to: DepartureNumber) {
        let user = UserName::new(nick, self.link.hub.host().clone());
        let command = Command::Departed { room, user, up_to };
        // If the queue is full, the next connection tells the server again.
        let _told_again = self.link.writer.try_submit(command);
    }

    fn show_refusals(&self) {
        self.link.hub.set_refused(self.following.refusals());
    }

    fn requested(&mut self, request: LinkRequest) -> Result<(), LinkError> {
        match request {
            LinkRequest::Ask { request, answer } => self.ask(*request, Pending::Ask { answer }),
            LinkRequest::Sync { room, done } => {
                // What is new must be subscribed to before the server is asked how far it is.
                self.reconcile()?;
                if self.following.is_out_of_reach(&room) {
                    let _session_is_gone = done.send(false);
                    return Ok(());
                }
                let request = Request::Head { room: room.clone() };
                self.ask(request, Pending::Sync { room, done })
            }
        }
    }

    /// Tells the server what changed in this host's members and presence.
    fn reconcile(&mut self) -> Result<(), LinkError> {
        let version = self.link.hub.roll_version();
        if self.following.knows(version) {
            return Ok(());
        }
        self.tell(self.link.hub.roll(), version)
    }

    fn tell(&mut self, roll: Roll, version: u64) -> Result<(), LinkError> {
        let errands = self.following.reconcile(roll, version);
        for errand in errands {
            self.run_errand(errand)?;
        }
        self.show_refusals();
        Ok(())
    }

    fn follow(&mut self, room: Room) -> Result<(), LinkError> {
        match self.following.want(room) {
            Some(errand) => self.run_errand(errand),
            None => Ok(()),
        }
    }

    /// Remembers the key that the server will have next. Only who is known by a key says that.
    fn learn_next_key(&mut self, announced: KeyFingerprint) {
        let before = self.server.clone();
        if let ServerTrust::Key { key, next, .. } = &mut self.server.trust
            && *key != announced
        {
            *next = Some(announced);
        }
        if self.server != before {
            info!(key = %announced, "the server will have another key");
            self.link.learn(&before, self.server.clone());
        }
    }

    fn copy_topic(&self, room: FederatedRoom, topic: String) {
        // A copy for when the server is away; the next one told will do if the queue is full.
        let _told_again = self
            .link
            .writer
            .try_submit(Command::CopyTopic { room, topic });
    }

    fn ingested(&mut self, done: Ingested) -> Result<(), LinkError> {
        let gaps = done.map_err(LinkError::Store)?;
        self.intake.note(&gaps);
        for gap in gaps {
            self.intake.forget(&gap.room);
            if let Some(errand) = self.following.missed(gap, Instant::now()) {
                self.run_errand(errand)?;
                self.show_refusals();
            }
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

/// Writes some of what is queued; when there is nothing more, makes TLS hold nothing back.
///
/// # Cancel safety
///
/// Cancel safe: what was written is taken out of `out`.
async fn write(
    socket: &mut WriteHalf<Stream>,
    out: &mut BytesMut,
    unflushed: &mut bool,
) -> Result<(), LinkError> {
    if out.is_empty() {
        socket.flush().await?;
        *unflushed = false;
        return Ok(());
    }
    if socket.write_buf(out).await? == 0 {
        return Err(LinkError::ClosedByPeer);
    }
    *unflushed = true;
    Ok(())
}

#[cfg(test)]
mod tests;
