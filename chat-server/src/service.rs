//! The server without its listener: everything that connections share, and their end.

use crate::{
    cluster::Cluster,
    connection,
    doorway::{Crowded, Doorway, Place},
    drain::Drain,
    identity::{self, Door, DoorError, Identity},
    listener,
    log::{self, Change, Commits, Log},
    opening, publisher,
    quota::Quota,
    rates::{Allowed, Rates},
    register::{Follower, PutOut},
    reply::committed_frame,
    router::Router,
};
use protocol::{
    KeyFingerprint, LogHealth, LogStatus,
    federation::{Refusal, TooMany},
    limits::{HANDSHAKE_TIMEOUT, MAX_AGENTS, SHUTDOWN_DEADLINE},
};
use room_log::{Feed, Retention, StoreError};
use std::{
    future::Future,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant as SystemInstant},
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinError,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, debug, field::Empty, info, info_span, warn};

/// Peers that are being told that there is no seat for them. Further ones are closed unheard.
const MAX_TURNED_AWAY: usize = 64;

/// How often it is looked whether there is room again in a log at its quota.
const QUOTA_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is looked how the log is, which agents are told when it changes.
const LOG_INTERVAL: Duration = Duration::from_millis(200);

/// Why the server had to stop.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The log cannot be written any more. What is on disk counts; start again.
    #[error("the log had to stop: {0}")]
    Log(#[source] Arc<StoreError>),
    /// Who is let in cannot be written any more, for the same reasons.
    #[error("the register had to stop: {0}")]
    Register(#[source] Arc<StoreError>),
    /// Something panicked without which agents are told less than they are promised.
    #[error("the {task} broke down: {reason}")]
    Task {
        /// What it is called.
        task: &'static str,
        /// How it ended.
        #[source]
        reason: Arc<JoinError>,
    },
}

/// How much agents may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// How fast they may send.
    pub rates: Allowed,
    /// The file that the log is in, and how many bytes it may have.
    pub log: Option<(PathBuf, u64)>,
}

impl Bounds {
    /// As much as the disk takes, as fast as it does.
    pub const NONE: Self = Self {
        rates: Allowed::UNLIMITED,
        log: None,
    };
}

/// What makes a server one of several.
#[derive(Debug)]
pub struct Membership {
    /// How it hears of the others.
    pub cluster: Cluster,
    /// What keeps its register up with theirs; `None` if it knows nobody by key.
    pub follower: Option<Follower>,
}

/// A running server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    log: Arc<dyn Log>,
    /// How that was when it was looked at last.
    log_status: watch::Sender<LogStatus>,
    door: Door,
    doorway: Doorway,
    rates: Rates,
    quota: Quota,
    feed: Arc<Feed>,
    router: Arc<Router>,
    drain: Drain,
    /// What other servers call this one, if there are others.
    name: Option<String>,
    /// Connections.
    connections: TaskTracker,
    /// The publisher and the announcer.
    background: TaskTracker,
    /// Which of these panicked.
    broken: watch::Sender<Option<Broken>>,
    seats: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
    /// Connections end in order.
    stop: CancellationToken,
    /// Connections are cut off.
    cut: CancellationToken,
    /// Other servers are told that this one ends.
    goodbye: CancellationToken,
    /// Nobody is left to be told anything.
    done: CancellationToken,
}

/// A task that panicked: what it is called, and how it ended.
type Broken = (&'static str, Arc<JoinError>);

impl Shared {
    /// Runs `work` in the background until everybody is gone.
    fn run(&self, task: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let done = self.done.clone();
        self.run_to_its_end(task, async move {
            done.run_until_cancelled(work).await;
        });
    }

    /// Runs `work` in the background, until it ends by itself.
    fn run_to_its_end(&self, task: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let broken = self.broken.clone();
        let running = self.background.spawn(work);
        self.background.spawn(async move {
            // An orderly end is that of the log, which tells of itself.
            if let Err(reason) = running.await {
                broken.send_replace(Some((task, Arc::new(reason))));
            }
        });
    }
}

impl Shared {
    /// How the log is now. One at its quota is full, although it would take more.
    fn look_at_log(&self) -> LogStatus {
        let mut status = self.log.status();
        if status.health.is_well() && self.quota.check().is_err() {
            status.health = LogHealth::Full {
                reason: "it is at its log_limit".to_owned(),
            };
        }
        status
    }

    /// Looks how the log is, again and again. Never returns.
    async fn watch_log(&self) {
        let mut times = interval(LOG_INTERVAL);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            times.tick().await;
            let found = self.look_at_log();
            self.log_status.send_if_modified(|known| {
                let changed = *known != found;
                *known = found;
                changed
            });
        }
    }

    fn take_part(&self, membership: Membership) {
        let Membership { cluster, follower } = membership;
        if let Some(follower) = follower {
            let router = Arc::clone(&self.router);
            self.run("register", async move {
                let put_out = |out: PutOut| router.close(&out.host, out.reason);
                follower.run(put_out).await;
            });
        }
        let (router, goodbye) = (Arc::clone(&self.router), self.goodbye.clone());
        self.run_to_its_end("cluster", cluster.run(router, goodbye));
    }
}

impl Service {
    /// Begins to publish what `log` commits. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(log: Arc<dyn Log>, commits: Commits, door: Door, bounds: Bounds) -> Self {
        Self::with_seats(log, commits, door, bounds, None, MAX_AGENTS)
    }

    /// The same, as one of several servers on the same log.
    #[must_use]
    pub fn start_as_member(
        log: Arc<dyn Log>,
        commits: Commits,
        door: Door,
        bounds: Bounds,
        membership: Membership,
    ) -> Self {
        Self::with_seats(log, commits, door, bounds, Some(membership), MAX_AGENTS)
    }

    fn with_seats(
        log: Arc<dyn Log>,
        commits: Commits,
        door: Door,
        bounds: Bounds,
        membership: Option<Membership>,
        seats: usize,
    ) -> Self {
        let router = match &membership {
            Some(Membership { cluster, .. }) => Router::in_cluster(cluster.id()),
            None => Router::new(),
        };
        let name = membership.as_ref();
        let name = name.map(|membership| membership.cluster.name().to_owned());
        let shared = Arc::new(Shared {
            log_status: watch::Sender::new(log.status()),
            log,
            door,
            doorway: Doorway::default(),
            rates: Rates::new(bounds.rates),
            quota: bounds
                .log
                .map_or_else(Quota::none, |(file, bytes)| Quota::new(&file, bytes)),
            feed: Arc::new(Feed::new(committed_frame)),
            drain: Drain::new(watch::Sender::new(None)),
            router: Arc::new(router),
            name,
            connections: TaskTracker::new(),
            background: TaskTracker::new(),
            broken: watch::Sender::new(None),
            seats: Arc::new(Semaphore::new(seats)),
            turned_away: Arc::new(Semaphore::new(MAX_TURNED_AWAY)),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            goodbye: CancellationToken::new(),
            done: CancellationToken::new(),
        });
        let (feed, router) = (Arc::clone(&shared.feed), Arc::clone(&shared.router));
        shared.run("publisher", async move {
            publisher::publish(commits, &feed, &router).await
        });
        let (feed, log) = (Arc::clone(&shared.feed), Arc::clone(&shared.log));
        let router = Arc::clone(&shared.router);
        shared.run("announcer", async move {
            publisher::announce(&router, &*log, &feed).await
        });
        let log = Arc::clone(&shared.log);
        shared.run("pruner", async move { prune(&*log).await });
        let this = Arc::clone(&shared);
        shared.run("drain", async move { this.drain.run(&this.router).await });
        let this = Arc::clone(&shared);
        shared.run("quota", async move {
            watch_quota(&*this.log, &this.quota).await;
        });
        let this = Arc::clone(&shared);
        shared.run("look at the log", async move { this.watch_log().await });
        if let Some(membership) = membership {
            shared.take_part(membership);
        }
        Self { shared }
    }

    /// Serves an agent on a TCP connection from `peer`, in a task of its own, as the door says.
    pub(crate) fn receive(&self, stream: TcpStream, peer: SocketAddr) {
        let place = match self.shared.doorway.knock(peer.ip(), SystemInstant::now()) {
            Ok(place) => place,
            // Whoever does this does it often: the log is not for that.
            Err(Crowded::Address) => {
                return debug!(%peer, "too many of this address have not said who they are");
            }
            Err(Crowded::Everywhere) => {
                return debug!(%peer, "too many have not said who they are");
            }
        };
        match self.seat() {
            Some(seat) => {
                let meeting = self.clone().meet(stream, place);
                self.serve_in_seat(meeting, seat, peer.to_string());
            }
            None => match self.shared.door {
                Door::Plaintext => self.turn_away(stream, &peer.to_string()),
                // There is no way to say it without TLS, and that costs more than the seat would.
                Door::Tls { .. } => warn!(%peer, max = MAX_AGENTS, "too many agents"),
            },
        }
    }

    /// Finds out who is at the other end of `stream` and serves them.
    async fn meet(self, stream: TcpStream, place: Place) {
        let stop = self.stop_token();
        let Door::Tls { keys, register } = &self.shared.door else {
            // There is nothing to guess.
            let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
            return connection::run(stream, Identity::Plaintext, Some(place), deadline, self).await;
        };
        let (keys, register) = (Arc::clone(keys), register.clone());
        let delayed = async {
            if place.delay() > Duration::ZERO {
                sleep(place.delay()).await;
            }
        };
        if stop.run_until_cancelled(delayed).await.is_none() {
            return;
        }
        let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
        let meeting = timeout_at(deadline, identity::meet(stream, &keys, &register));
        let Some(met) = stop.run_until_cancelled(meeting).await else {
            return;
        };
        match met {
            Ok(Ok((stream, identity))) => {
                connection::run(stream, identity, Some(place), deadline, self).await;
            }
            Ok(Err(error @ DoorError::Tls(_))) => debug!(%error, "no agent"),
            Ok(Err(error)) => info!(%error, "no agent"),
            Err(_) => debug!("no TLS within {HANDSHAKE_TIMEOUT:?}"),
        }
    }

    /// Serves whoever is at the other end of `stream` without asking for a key, in a task of its
    /// own. `peer` is for logs.
    pub fn connect<S>(&self, stream: S, peer: String)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Some(seat) = self.seat() else {
            return self.turn_away(stream, &peer);
        };
        let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
        let task = connection::run(stream, Identity::Plaintext, None, deadline, self.clone());
        self.serve_in_seat(task, seat, peer);
    }

    fn seat(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.shared.seats).try_acquire_owned().ok()
    }

    fn serve_in_seat(
        &self,
        serving: impl Future<Output = ()> + Send + 'static,
        seat: OwnedSemaphorePermit,
        peer: String,
    ) {
        let cut = self.shared.cut.clone();
        let span = info_span!("agent", %peer, host = Empty);
        let task = async move {
            tokio::select! {
                () = serving => {}
                () = cut.cancelled() => {}
            }
            drop(seat);
        };
        self.shared.connections.spawn(task.instrument(span));
    }

    fn turn_away<S>(&self, stream: S, peer: &str)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        warn!(%peer, max = MAX_AGENTS, "too many agents");
        let Ok(place) = Arc::clone(&self.shared.turned_away).try_acquire_owned() else {
            return;
        };
        let service = self.clone();
        let stop = self.shared.stop.clone();
        self.shared.connections.spawn(async move {
            let refusal = Refusal::TooMany {
                what: TooMany::Agents,
                max: u32::try_from(MAX_AGENTS).unwrap_or(u32::MAX),
            };
            tokio::select! {
                () = opening::turn_away(stream, refusal, &service) => {}
                () = stop.cancelled() => {}
            }
            drop(place);
        });
    }

    /// Ends in order: answers what was asked, tells the agents, writes everything. Connections
    /// that take longer than [`SHUTDOWN_DEADLINE`] are cut off, and then the log has as long.
    pub async fn stop(&self) {
        let shared = &self.shared;
        shared.stop.cancel();
        shared.connections.close();
        let ended = timeout(SHUTDOWN_DEADLINE, shared.connections.wait()).await;
        if ended.is_err() {
            warn!(connections = shared.connections.len(), "cut off");
            shared.cut.cancel();
            shared.connections.wait().await;
        }
        shared.goodbye.cancel();
        let closed = timeout(SHUTDOWN_DEADLINE, shared.log.close()).await;
        if closed.is_err() {
            warn!("ended without waiting for the log: what was not acknowledged will come again");
        }
        shared.done.cancel();
        shared.background.close();
        shared.background.wait().await;
    }

    /// Waits until something in the background has panicked; the process must end then.
    async fn broken(&self) -> ServeError {
        let mut broken = self.shared.broken.subscribe();
        let found = broken.wait_for(Option::is_some).await;
        match found.ok().and_then(|found| found.clone()) {
            Some((task, reason)) => ServeError::Task { task, reason },
            // Whoever tells is kept by this service.
            None => std::future::pending().await,
        }
    }

    /// Cancelled when the server is told to end.
    pub(crate) fn stop_token(&self) -> CancellationToken {
        self.shared.stop.child_token()
    }

    /// Waits until the register had to give up.
    async fn register_failed(&self) -> Arc<StoreError> {
        match &self.shared.door {
            Door::Plaintext => std::future::pending().await,
            Door::Tls { register, .. } => register.failed().await,
        }
    }

    /// The key that this server will have next.
    pub(crate) fn next_key(&self) -> Option<KeyFingerprint> {
        match &self.shared.door {
            Door::Plaintext => None,
            Door::Tls { keys, .. } => keys.next(),
        }
    }

    pub(crate) fn door(&self) -> &Door {
        &self.shared.door
    }

    /// Whether it gives its agents away.
    #[must_use]
    pub fn drain(&self) -> &Drain {
        &self.shared.drain
    }

    pub(crate) fn rates(&self) -> &Rates {
        &self.shared.rates
    }

    pub(crate) fn quota(&self) -> &Quota {
        &self.shared.quota
    }

    pub(crate) fn log(&self) -> &Arc<dyn Log> {
        &self.shared.log
    }

    /// How the log is now.
    pub(crate) fn look_at_log(&self) -> LogStatus {
        self.shared.look_at_log()
    }

    /// How the log is, and when that changes.
    pub(crate) fn log_status(&self) -> watch::Receiver<LogStatus> {
        self.shared.log_status.subscribe()
    }

    pub(crate) fn feed(&self) -> &Arc<Feed> {
        &self.shared.feed
    }

    pub(crate) fn router(&self) -> &Router {
        &self.shared.router
    }

    /// What other servers call this one; `None` if it is alone.
    pub(crate) fn name(&self) -> Option<&str> {
        self.shared.name.as_deref()
    }
}

/// Has the log look for messages that were kept for long enough, again and again.
async fn prune(log: &dyn Log) {
    let mut times = interval(Retention::INTERVAL);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        times.tick().await;
        // A log that is too busy for it looks the next time.
        let _looked = log::change(log, Change::Prune).await;
    }
}

/// Looks how much room there is in a log that is at its quota. Never returns.
async fn watch_quota(log: &dyn Log, quota: &Quota) {
    let mut times = interval(QUOTA_INTERVAL);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        times.tick().await;
        if !quota.is_short() {
            continue;
        }
        match log.free_bytes().await {
            Ok(bytes) => quota.note_free(bytes),
            Err(error) => warn!(%error, "how much room the log has is not known"),
        }
    }
}

/// Accepts agents on `listener` until `shutdown` is cancelled, then ends in order.
///
/// # Errors
///
/// [`ServeError`] at once if the log had to stop: then nothing is answered any more, and the
/// process must end. So it must if what tells agents of messages and people broke down: they
/// would be answered, and nobody would hear of it.
pub async fn serve(
    listener: TcpListener,
    service: &Service,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let failed = service.log().failed();
    tokio::pin!(failed);
    tokio::select! {
        () = listener::accept(listener, service) => {}
        () = shutdown.cancelled() => {}
        error = &mut failed => return Err(ServeError::Log(error)),
        error = service.register_failed() => return Err(ServeError::Register(error)),
        broken = service.broken() => return Err(broken),
    }
    info!("stopping");
    tokio::select! {
        () = service.stop() => {}
        // An orderly end of the log, within `stop`, is none.
        error = &mut failed => {
            if !matches!(*error, StoreError::Closed) {
                return Err(ServeError::Log(error));
            }
            service.stop().await;
        }
    }
    info!("stopped");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::SqliteLog;
    use futures_util::StreamExt;
    use protocol::{
        Content, FederatedRoom, FrameCodec, MessageId, Outgoing, Timestamp, UserName, Vocabulary,
        federation::{AgentFrame, Event, ServerFrame},
        governance::{Act, Keep, Mode},
        handshake,
    };
    use tokio::io::duplex;
    use tokio_util::codec::FramedRead;

    #[tokio::test]
    async fn one_agent_too_many_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let (log, commits) = SqliteLog::open(dir.path()).unwrap();
        let service = Service::with_seats(
            Arc::new(log),
            commits,
            Door::Plaintext,
            Bounds::NONE,
            None,
            1,
        );
        let (first, theirs) = duplex(1_024);
        service.connect(theirs, "first".to_owned());
        let (mut second, theirs) = duplex(1_024);
        service.connect(theirs, "second".to_owned());
        handshake(&mut second, Vocabulary::Federation)
            .await
            .unwrap();
        let mut frames = FramedRead::new(second, FrameCodec::<ServerFrame, AgentFrame>::new());
        let told = frames.next().await.unwrap().unwrap();
        assert!(
            matches!(
                told,
                ServerFrame::Event(Event::Closing {
                    reason: Refusal::TooMany {
                        what: TooMany::Agents,
                        ..
                    }
                })
            ),
            "{told:?}"
        );
        drop(first);
        drop(frames);
        service.stop().await;
    }

    #[tokio::test]
    async fn a_log_at_its_quota_takes_messages_again_once_rooms_keep_less() {
        let dir = tempfile::tempdir().unwrap();
        let (log, commits) = SqliteLog::open(dir.path()).unwrap();
        let log = Arc::new(log);
        let bounds = Bounds {
            log: Some((dir.path().join("server.db"), 200_000)),
            ..Bounds::NONE
        };
        let door = Door::Plaintext;
        let service = Service::start(Arc::clone(&log) as Arc<dyn Log>, commits, door, bounds);
        let owner: UserName = "alice@ada".parse().unwrap();
        let govern = |act| Change::Govern {
            room: "#ops".parse().unwrap(),
            user: owner.clone(),
            id: MessageId::new(),
            act,
        };
        let opened = Act::Opened {
            mode: Mode::Public,
            members: Vec::new(),
        };
        log::change(&*log, govern(opened)).await.unwrap().unwrap();
        let body = Content::Text("x".repeat(50_000)).encode().unwrap();
        let message = || Outgoing {
            id: MessageId::new(),
            room: "#ops".parse().unwrap(),
            author: owner.clone(),
            sent_at: Timestamp::from_micros(1),
            body: body.clone(),
        };
        while service.quota().check().is_ok() {
            for answer in log::append_all(&*log, (0..100).map(|_| message()).collect()).await {
                answer.unwrap().unwrap();
            }
            sleep(Duration::from_millis(250)).await;
        }
        let keep = Keep {
            max_age_seconds: None,
            max_messages: Some(1),
        };
        let kept = log::change(&*log, govern(Act::Retention { keep })).await;
        kept.unwrap().unwrap();
        let lifted = async {
            while service.quota().check().is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(30), lifted).await.unwrap();
        service.stop().await;
    }

    #[tokio::test]
    async fn a_publisher_that_panicked_ends_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let (log, commits) = SqliteLog::open(dir.path()).unwrap();
        let service = Service::start(Arc::new(log), commits, Door::Plaintext, Bounds::NONE);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let work = async { panic!("simulated") };
        service.shared.run("publisher", work);
        let served = serve(listener, &service, CancellationToken::new()).await;
        let error = served.unwrap_err().to_string();
        assert!(error.starts_with("the publisher broke down: "), "{error}");
        assert!(error.contains("simulated"), "{error}");
    }

    #[tokio::test]
    async fn a_disk_that_hangs_does_not_keep_the_server_from_ending() {
        let dir = tempfile::tempdir().unwrap();
        let (log, untaken) = SqliteLog::open(dir.path()).unwrap();
        let log = Arc::new(log);
        let (_open, commits) = Commits::channel();
        let service = Service::start(
            Arc::clone(&log) as Arc<dyn Log>,
            commits,
            Door::Plaintext,
            Bounds::NONE,
        );
        // Nobody takes what was written, so the second change is the writer's last.
        for room in ["#one", "#two"] {
            let room = FederatedRoom::parse(room).unwrap();
            let user = "alice@ada".parse().unwrap();
            let answer = log::change(&*log, Change::Join { room, user }).await;
            assert!(matches!(answer, Some(Ok(_))), "{answer:?}");
        }
        tokio::time::pause();
        let stopped = timeout(10 * SHUTDOWN_DEADLINE, service.stop()).await;
        assert_eq!(stopped, Ok(()));
        drop(untaken);
    }
}
