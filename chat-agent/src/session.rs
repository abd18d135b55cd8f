//! One terminal or script: the task that owns its connection.

mod check;
mod governing;
mod greeting;
mod lookup;
mod pages;
mod request;
mod rooms;
mod searching;
mod status;

use crate::{
    answer::{self, Answer},
    hub::Hub,
    link::LinkHandle,
    store::{AgentWriter, Command},
};
use bytes::BytesMut;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
pub(crate) use greeting::MAX_LOOKUPS;
use greeting::introduce;
use pages::Pages;
use protocol::{
    CodecError, Features, FrameCodec, HandshakeError, LogStatus, Nick, Preface, RequestId, Room,
    UserName, Vocabulary, handshake,
    limits::{
        HANDSHAKE_TIMEOUT, MAX_IN_FLIGHT, MAX_PAGE_BYTES, MAX_PAGE_ENTRIES, SESSION_QUEUE_BYTES,
        SHUTDOWN_DEADLINE,
    },
    local::{AgentFrame, Event, LinkStatus, Refusal, Reply, Request, TerminalFrame},
};
use request::Done;
use room_log::{
    CaughtUp, Delivery, Outbound, Page, PageFuture, PageSource, Progress, ReaderId, Readers,
    StoreError, SubmitError, Unreadable, log, roster,
};
use std::{
    collections::HashMap,
    io::{self, Cursor},
    sync::Arc,
    time::Duration,
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};
use tokio_util::{codec::FramedRead, sync::CancellationToken};
use tracing::{debug, error};

/// How long a session may take to read its last words.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// When a terminal should come back to an agent that is restarting.
const RECONNECT_IN_MS: u32 = 200;

/// What every session uses of its agent.
#[derive(Debug, Clone)]
pub struct Services {
    /// What the parts of the agent share.
    pub hub: Arc<Hub>,
    /// Queues writes.
    pub writer: AgentWriter,
    /// Reads.
    pub readers: Readers,
    /// Asks the server.
    pub link: LinkHandle,
    /// Where the agent's files are, for `chat status`.
    pub state_dir: Arc<str>,
    /// Places for questions to the host's list of users.
    pub lookups: Arc<Semaphore>,
}

/// How an orderly session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The terminal hung up.
    ByPeer,
    /// The agent is ending.
    ShuttingDown,
    /// The terminal was told why it cannot stay.
    Refused,
}

/// Why a session broke.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// It began wrongly.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// It sent what cannot be understood.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// It could not be written to.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Serves one connection of OS user `uid` to its end.
///
/// # Errors
///
/// [`SessionError`] if it did not end in order. Nothing needs to be done about it: what the
/// terminal had not taken, it takes when it resumes by cursor.
pub async fn serve<S>(
    mut stream: S,
    uid: u32,
    services: Services,
    stop: CancellationToken,
) -> Result<Closed, SessionError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let greeting = timeout(HANDSHAKE_TIMEOUT, async {
        let agreed = handshake(&mut stream, Vocabulary::Local).await?;
        let mut frames = FramedRead::new(&mut stream, FrameCodec::<TerminalFrame, ()>::new());
        let hello = frames.next().await.transpose()?;
        let rest = frames.read_buffer().clone();
        Ok::<_, SessionError>(hello.map(|hello| (hello, agreed.features, rest)))
    });
    let greeted = tokio::select! {
        () = stop.cancelled() => return Ok(Closed::ShuttingDown),
        greeted = greeting => greeted,
    };
    let (hello, features, rest) = match greeted {
        Ok(Ok(Some(greeting))) => greeting,
        Ok(Ok(None)) => return Ok(Closed::ByPeer),
        Ok(Err(SessionError::Codec(error))) => {
            close(
                &mut stream,
                Refusal::Malformed {
                    reason: error.to_string(),
                },
            )
            .await?;
            return Err(error.into());
        }
        Ok(Err(error)) => return Err(error),
        Err(_) => {
            let seconds = u32::try_from(HANDSHAKE_TIMEOUT.as_secs()).unwrap_or(u32::MAX);
            close(&mut stream, Refusal::TimedOut { seconds }).await?;
            return Ok(Closed::Refused);
        }
    };
    let (nick, interactive) = match introduce(&hello, uid, &services).await {
        Ok(introduced) => introduced,
        Err(refusal) => {
            let reply = AgentFrame::Reply {
                id: hello.id,
                result: Err(refusal.clone()),
            };
            let mut words = BytesMut::from(&answer::frame(&reply)[..]);
            words.extend_from_slice(&answer::event(Event::Closing { reason: refusal }));
            say(&mut stream, &words).await?;
            return Ok(Closed::Refused);
        }
    };
    let (read, write) = tokio::io::split(stream);
    // What came behind the hello is read again: a buffer that is put in place is only looked at
    // when more comes.
    let frames = FramedRead::new(Cursor::new(rest).chain(read), FrameCodec::new());
    let greeted = Greeted {
        hello: hello.id,
        features,
        interactive,
    };
    Session::begin((nick, uid), services, write, greeted)
        .run(frames, stop)
        .await
}

/// Tells somebody who has no place here why, in terms they understand.
///
/// # Errors
///
/// If it cannot be written to.
pub async fn turn_away<S: AsyncWrite + Unpin>(stream: &mut S, reason: Refusal) -> io::Result<()> {
    let mut words = BytesMut::from(&Preface::ours(Vocabulary::Local).to_bytes()[..]);
    words.extend_from_slice(&answer::event(Event::Closing { reason }));
    say(stream, &words).await
}

async fn close<S: AsyncWrite + Unpin>(stream: &mut S, reason: Refusal) -> io::Result<()> {
    say(stream, &answer::event(Event::Closing { reason })).await
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, words: &[u8]) -> io::Result<()> {
    let saying = async {
        stream.write_all(words).await?;
        stream.shutdown().await
    };
    timeout(FAREWELL_TIMEOUT, saying).await.unwrap_or(Ok(()))
}

/// What is known of a session from its first words.
struct Greeted {
    /// The request to be answered by the welcome.
    hello: RequestId,
    features: Features,
    /// Whether somebody reads there.
    interactive: bool,
}

/// A session after its `Hello`.
struct Session<W> {
    user: UserName,
    /// The OS user behind it.
    uid: u32,
    services: Services,
    reader: ReaderId,
    outbound: Arc<Outbound>,
    delivery: Delivery<W>,
    places: Arc<Semaphore>,
    /// Short answers being worked out.
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    /// A command that waits for room in the writer's queue; nothing is read meanwhile.
    held: Option<Command>,
    /// Long answers, one at a time.
    pages: Pages,
    /// Rooms that were opened by name, until they are closed.
    open: HashMap<Room, Opening>,
    link: watch::Receiver<LinkStatus>,
    /// `None` for a terminal that does not understand it.
    server_log: Option<watch::Receiver<Option<LogStatus>>>,
}

/// How far an opened room has come.
#[derive(Debug, Default)]
struct Opening {
    /// Whether it came to be followed. What is not any more was ended from elsewhere.
    followed: bool,
    /// Whether the replica has what the server had, and whether the server could be asked.
    synced: Option<bool>,
    /// Whether the terminal was told that it has all of it.
    caught_up: bool,
}

impl<W> Drop for Session<W> {
    fn drop(&mut self) {
        let hub = &self.services.hub;
        hub.depart(self.reader, &self.user.nick);
        hub.feed().leave(self.reader);
    }
}

impl<W: AsyncWrite + Unpin> Session<W> {
    fn begin((nick, uid): (Nick, u32), services: Services, write: W, greeted: Greeted) -> Self {
        let Greeted {
            hello,
            features,
            interactive,
        } = greeted;
        let hub = &services.hub;
        let user = UserName::new(nick, hub.host().clone());
        let reader = hub.feed().reader();
        let outbound = Arc::new(Outbound::new(SESSION_QUEUE_BYTES));
        let source = RoomPages {
            hub: Arc::clone(hub),
            readers: services.readers.clone(),
            user: user.clone(),
        };
        let feed = Arc::clone(hub.feed());
        let delivery = Delivery::new(write, reader, Arc::clone(&outbound), feed, Box::new(source));
        let welcome = Reply::Welcome {
            user: user.clone(),
            software: crate::SOFTWARE.to_owned(),
        };
        let reply = AgentFrame::Reply {
            id: hello,
            result: Ok(welcome),
        };
        outbound.push_reply(answer::frame(&reply));
        hub.arrive(reader, &user.nick, &outbound, interactive);
        if !interactive && let Some(event) = hub.held_up(&user.nick) {
            // A person asks for the status at the beginning; a script that sends would not hear of
            // what was told before.
            outbound.push_soft(answer::event(event));
        }
        let link = hub.link();
        let server_log = features.has(Features::LOG_STATUS).then(|| hub.server_log());
        Self {
            user,
            uid,
            services,
            reader,
            outbound,
            delivery,
            places: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            work: FuturesUnordered::new(),
            held: None,
            pages: Pages::default(),
            open: HashMap::new(),
            link,
            server_log,
        }
    }

    async fn run<R: AsyncRead + Unpin>(
        mut self,
        mut frames: FramedRead<R, FrameCodec<TerminalFrame, ()>>,
        stop: CancellationToken,
    ) -> Result<Closed, SessionError> {
        let writer = self.services.writer.clone();
        loop {
            let holding = self.held.is_some();
            let page_waits = self.pages.may_begin();
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    let event = Event::GoingAway { reconnect_in_ms: RECONNECT_IN_MS };
                    self.outbound.push_reply(answer::event(event));
                    self.say_closing(Refusal::ShuttingDown).await;
                    return Ok(Closed::ShuttingDown);
                }
                progress = self.delivery.run() => self.delivered(progress?),
                Some(done) = self.work.next(), if !self.work.is_empty() => self.finish(done),
                done = self.pages.next() => self.finish(done),
                slot = writer.reserve(), if holding => {
                    let Ok(slot) = slot else { return Ok(Closed::ShuttingDown) };
                    if let Some(command) = self.held.take() {
                        slot.submit(command);
                    }
                }
                next = next(&mut frames, &self.places, &self.outbound, page_waits), if !holding => {
                    match next {
                        Next::Page => self.pages.begin(),
                        Next::End => {
                            // What was asked before the end is still answered: half a
                            // connection is a pipe's way to say that there is no more input.
                            self.wind_down().await?;
                            return Ok(Closed::ByPeer);
                        }
                        Next::Frame(place, Ok(frame)) => {
                            let answer = Answer::new(Arc::clone(&self.outbound), frame.id, place);
                            if matches!(frame.request, Request::Hello { .. }) {
                                answer.give(Err(Refusal::HelloOutOfPlace));
                                self.say_closing(Refusal::HelloOutOfPlace).await;
                                return Ok(Closed::Refused);
                            }
                            self.request(frame.request, answer);
                        }
                        Next::Frame(_, Err(error)) => {
                            let reason = error.to_string();
                            self.say_closing(Refusal::Malformed { reason }).await;
                            return Err(error.into());
                        }
                    }
                }
                Ok(()) = self.link.changed() => {
                    let status = self.link.borrow_and_update().clone();
                    self.outbound.push_soft(answer::event(Event::Link(status)));
                }
                status = changed(&mut self.server_log) => {
                    self.outbound.push_soft(answer::event(Event::Log { status }));
                }
            }
        }
    }

    fn delivered(&mut self, progress: Progress) {
        match progress {
            Progress::CaughtUp(caught_up) => self.caught_up(caught_up),
            Progress::Unreadable(Unreadable { room, after, error }) => {
                self.open.remove(&room);
                let reason = if matches!(error, StoreError::NotReadable) {
                    Refusal::Removed {
                        room: room.clone(),
                        user: self.user.clone(),
                    }
                } else {
                    error!(%room, %after, %error, "a room cannot be read");
                    Refusal::Unreadable {
                        reason: error.to_string(),
                    }
                };
                let event = Event::Closed { room, reason };
                self.outbound.push_reply(answer::event(event));
            }
        }
    }

    /// A room's reader has all there was.
    fn caught_up(&mut self, caught_up: CaughtUp) {
        if let Some(opening) = self.open.get(&caught_up.room)
            && let Some(complete) = opening.synced
        {
            self.announce(caught_up.room, complete);
        }
    }

    /// Tells the terminal, once, that it has all of an opened room.
    fn announce(&mut self, room: Room, complete: bool) {
        if let Some(opening) = self.open.get_mut(&room)
            && !std::mem::replace(&mut opening.caught_up, true)
        {
            let event = Event::CaughtUp { room, complete };
            self.outbound.push_reply(answer::event(event));
        }
    }

    /// Queues a command, or holds it until there is room.
    fn submit(&mut self, command: Command) {
        match self.services.writer.try_submit(command) {
            Ok(()) => {}
            Err(SubmitError::Full(command)) => self.held = Some(command),
            // The agent is ending and says so through `stop`.
            Err(SubmitError::Closed(_)) => {}
        }
    }

    /// Answers what was asked before the terminal closed its half.
    async fn wind_down(&mut self) -> Result<(), SessionError> {
        if let Some(command) = self.held.take() {
            // The agent is ending if this fails.
            let _ending = self.services.writer.submit(command).await;
        }
        let (places, outbound) = (Arc::clone(&self.places), Arc::clone(&self.outbound));
        let all = u32::try_from(MAX_IN_FLIGHT).unwrap_or(u32::MAX);
        let answered = async {
            loop {
                let page_waits = self.pages.may_begin();
                tokio::select! {
                    biased;
                    progress = self.delivery.run() => self.delivered(progress?),
                    Some(done) = self.work.next(), if !self.work.is_empty() => self.finish(done),
                    done = self.pages.next() => self.finish(done),
                    () = outbound.has_room(), if page_waits => self.pages.begin(),
                    _ = places.acquire_many(all) => return Ok::<_, SessionError>(()),
                }
            }
        };
        if let Ok(result) = timeout(SHUTDOWN_DEADLINE, answered).await {
            result?;
        }
        self.farewell().await;
        Ok(())
    }

    /// Tells the terminal why the session ends, behind all that is queued.
    async fn say_closing(&mut self, reason: Refusal) {
        self.outbound
            .push_reply(answer::event(Event::Closing { reason }));
        self.farewell().await;
    }

    /// Writes what is queued, and lets the terminal know that there is no more.
    async fn farewell(&mut self) {
        if timeout(FAREWELL_TIMEOUT, self.delivery.finish())
            .await
            .is_err()
        {
            debug!(user = %self.user, "the terminal did not read its last words");
        }
    }
}

/// What a session can take up when its reader takes what it has been given.
enum Next {
    /// The page that waits longest.
    Page,
    /// A request, in a place of its own.
    Frame(OwnedSemaphorePermit, Result<TerminalFrame, CodecError>),
    /// There are no more requests.
    End,
}

/// Waits for news of the server's log; forever for who does not understand them.
///
/// Cancel safe.
async fn changed(server_log: &mut Option<watch::Receiver<Option<LogStatus>>>) -> Option<LogStatus> {
    if let Some(server_log) = server_log
        && server_log.changed().await.is_ok()
    {
        return server_log.borrow_and_update().clone();
    }
    std::future::pending().await
}

/// Waits for room in the queue; then for a page that waits, or for a place among the requests in
/// flight and a frame.
///
/// Cancel safe: a place that was not used is given back.
async fn next<R: AsyncRead + Unpin>(
    frames: &mut FramedRead<R, FrameCodec<TerminalFrame, ()>>,
    places: &Arc<Semaphore>,
    outbound: &Outbound,
    page_waits: bool,
) -> Next {
    outbound.has_room().await;
    if page_waits {
        return Next::Page;
    }
    let Ok(place) = Arc::clone(places).acquire_owned().await else {
        // The semaphore is never closed.
        return std::future::pending().await;
    };
    match frames.next().await {
        Some(frame) => Next::Frame(place, frame),
        None => Next::End,
    }
}

/// Reads pages of the rooms that a user is in, as frames for terminals.
#[derive(Debug)]
struct RoomPages {
    hub: Arc<Hub>,
    readers: Readers,
    user: UserName,
}

impl PageSource for RoomPages {
    fn page(&self, room: &Room, after: protocol::Seq) -> PageFuture {
        let (room, epoch, readers) = (room.clone(), self.hub.epoch_of(room), self.readers.clone());
        let frames = self.hub.feed().frames();
        let user = self.user.clone();
        Box::pin(async move {
            readers
                .run(move |connection| {
                    // Both are of one moment, so that nothing behind a kick is read.
                    let connection = &connection.unchecked_transaction()?;
                    if !matches!(room, Room::Direct(_))
                        && !roster::is_member(connection, &room, &user)?
                    {
                        return Err(StoreError::NotReadable);
                    }
                    let messages = log::page(
                        connection,
                        epoch,
                        &room,
                        after,
                        MAX_PAGE_ENTRIES,
                        MAX_PAGE_BYTES,
                    )?;
                    Ok(Page::of(&messages, after, frames))
                })
                .await
        })
    }
}
