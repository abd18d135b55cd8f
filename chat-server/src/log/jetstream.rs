//! The log on NATS JetStream: one stream for any number of servers.
//!
//! Nothing here replicates, elects or gives places: JetStream does. A seq is the stream's, and so is
//! the time of a commit. What is promised rests on this:
//!
//! * A message has a subject of its own, by room and id, and is stored only if nothing has that id in
//!   its room. That holds for as long as anything of the message remains, whichever server is asked,
//!   and however many at once.
//! * Everything else is a command in the same stream. All servers do all commands in its order, each in
//!   a cache of its own (`cache`), so that they are of one mind without asking each other. A command is
//!   answered when it was done here.
//! * Whether somebody may write is judged by the cache when a message is sent: a ban that another
//!   server made a moment ago may come too late for one more message. Who may read is not judged
//!   that way: a page waits for the commands before its end.
//! * What comes out of [`Commits`] comes from the stream, also what this server has written itself.
//!
//! An acknowledgement means what one of JetStream means: on disk if NATS syncs before it answers
//! (`sync_interval: always`), on one server or on most of its replicas. NATS does not tell its clients
//! whether it does, so whoever runs it has to ([`JetStreamSettings::synced`]); without that
//! [`Log::status`] says that the promise is a weaker one.

mod cache;
mod entry;
mod erasing;
mod health;
mod live;
mod reading;
mod restoring;
mod retiring;
mod settings;
mod stream;
mod subject;
mod writing;

pub(crate) use restoring::JetStreamRestore;
pub use settings::{BadServers, DEFAULT_STREAM, JetStreamSettings, NatsServers};
pub(crate) use stream::Purpose;
pub use stream::StreamError;

use super::{
    Asker, Commits, Listing, Log, OpenLogError, Reading, Rejected, Stats, Submission,
    sqlite::{self, cut},
};
use crate::nats::{Entry, Nats, PublishError};
use cache::Cache;
use futures_util::future::join_all;
use health::Health;
use live::{Follow, Live};
use protocol::{
    Committed, Durability, Epoch, FederatedRoom, HostName, LogKeeper, LogStatus, MessageId, Room,
    Seq, UserName, federation::RoomInfo, governance::Charter, limits::MAX_PAGE_ENTRIES,
};
pub(crate) use reading::Gone;
use reading::Limits;
use room_log::{Head, StoreError, charters, roster};
use rusqlite::Connection;
use std::{
    collections::HashMap,
    future::Future,
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};
use subject::Subjects;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::spawn_blocking,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;
use writing::Tickets;

/// Rooms that wait to be followed; whoever wants another one waits.
const QUEUE_FOLLOWS: usize = 256;

/// Requests to NATS that one listing has on their way.
const LISTING_REQUESTS: usize = 64;

/// What the parts of the log share.
#[derive(Debug)]
struct Shared {
    nats: Nats,
    subjects: Subjects,
    epoch: Epoch,
    replicas: usize,
    /// How many entries the stream had when it was opened.
    entries: u64,
    cache: Cache,
    tickets: Tickets,
    /// Up to where everything that came of the stream was handled.
    applied: watch::Sender<Seq>,
    /// There may be something to erase.
    erase: Notify,
    /// It is time to look for messages that were kept for long enough.
    retire: Notify,
    followers: Followers,
    stats: Mutex<Stats>,
    health: Health,
    durability: Durability,
    /// What is promised less than usual.
    weaker: Option<String>,
    failed: watch::Sender<Option<Arc<StoreError>>>,
}

impl Shared {
    /// Notes why nothing new comes, or that it does.
    fn trouble(&self, reason: Option<String>) {
        let is_connected = self.nats.is_connected();
        self.health.note_coming(reason.as_deref(), is_connected);
    }

    /// Stores `entries`, as [`Nats::publish`] does, and notes how that went.
    async fn store(&self, entries: Vec<Entry>) -> Result<Vec<Seq>, PublishError> {
        self.health.note_writing(Instant::now());
        let published = self.nats.publish(entries).await;
        let is_connected = self.nats.is_connected();
        self.health
            .note_written(&published, is_connected, Instant::now());
        published
    }

    /// The server must end.
    fn fail(&self, reason: StoreError) {
        self.failed.send_replace(Some(Arc::new(reason)));
    }

    /// Whether a reply may come from a server that has not got everything yet.
    const fn is_replicated(&self) -> bool {
        self.replicas > 1
    }

    fn lock_stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds out whether the stream is still the log it was.
    async fn check_epoch(&self) -> Result<(), StoreError> {
        match stream::look(&self.nats).await {
            Ok(facts) if facts.epoch == self.epoch => Ok(()),
            Ok(facts) => Err(StoreError::Replaced(format!(
                "the stream {} was made anew (epoch {}, not {})",
                self.nats.stream(),
                facts.epoch,
                self.epoch
            ))),
            Err(StreamError::Nats(reason)) => Err(StoreError::Unreachable(reason)),
            Err(error) => Err(StoreError::Replaced(error.to_string())),
        }
    }
}

/// Who follows which rooms here: how many of each.
#[derive(Debug, Default)]
struct Followers {
    rooms: Mutex<HashMap<Room, usize>>,
    /// Whether some room lost its last one.
    fewer: AtomicBool,
}

impl Followers {
    fn add(&self, room: &Room) {
        *self.lock().entry(room.clone()).or_default() += 1;
    }

    fn remove(&self, room: &Room) {
        let mut rooms = self.lock();
        let Some(count) = rooms.get_mut(room) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            rooms.remove(room);
            self.fewer.store(true, Ordering::Release);
        }
    }

    /// The rooms that are followed, if there are fewer than when this was asked last.
    fn changed(&self) -> Option<MutexGuard<'_, HashMap<Room, usize>>> {
        self.fewer
            .swap(false, Ordering::AcqRel)
            .then(|| self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Room, usize>> {
        // Held for one operation on the map, or one look at it.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A log in a stream of NATS JetStream. See the source's own introduction.
#[derive(Debug)]
pub struct JetStreamLog {
    shared: Arc<Shared>,
    /// Taken away by [`Log::close`]; held for no longer than it takes to queue.
    queue: RwLock<Option<mpsc::Sender<Submission>>>,
    requests: mpsc::Sender<Follow>,
    tasks: TaskTracker,
    writing: CancellationToken,
    /// What comes of the log has come.
    stop: CancellationToken,
    /// Everything ends at once.
    cut: CancellationToken,
}

impl JetStreamLog {
    /// Opens the log that `settings` name, makes its stream if there is none, and catches up with its
    /// commands. The cache is in `state_dir`, whose lock the caller holds. Must be called within a
    /// tokio runtime.
    ///
    /// # Errors
    ///
    /// [`OpenLogError`], saying what to do.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, what has begun ends by itself.
    pub async fn open(
        state_dir: &Path,
        settings: &JetStreamSettings,
    ) -> Result<(Self, Commits), OpenLogError> {
        Self::open_for(Purpose::Serve, state_dir, settings).await
    }

    /// The same for another purpose.
    pub(crate) async fn open_for(
        purpose: Purpose,
        state_dir: &Path,
        settings: &JetStreamSettings,
    ) -> Result<(Self, Commits), OpenLogError> {
        let instance = Epoch::new().to_string();
        // Large, and waited for once.
        let connected = Box::pin(Nats::connect(settings, instance)).await;
        let nats = connected.map_err(|reason| OpenLogError::Connect {
            servers: settings.servers.to_string(),
            reason,
        })?;
        let facts = stream::open(&nats, settings, purpose).await?;
        let (dir, epoch, newest) = (state_dir.to_owned(), facts.epoch, facts.newest);
        let opening = spawn_blocking(move || Cache::open(&dir, epoch, newest));
        let (cache, position) = opening
            .await
            .map_err(|error| OpenLogError::Thread(error.into()))??;
        let weaker = weaker(settings, facts.replicas);
        if let Some(weaker) = &weaker {
            warn!("{weaker}");
        }
        let shared = Arc::new(Shared {
            nats,
            subjects: Subjects::new(&settings.stream),
            epoch,
            replicas: facts.replicas,
            entries: facts.entries,
            cache,
            tickets: Tickets::default(),
            applied: watch::Sender::new(position),
            erase: Notify::new(),
            retire: Notify::new(),
            followers: Followers::default(),
            stats: Mutex::default(),
            health: Health::default(),
            durability: match settings.synced {
                true => Durability::Synced,
                false => Durability::Unknown,
            },
            weaker,
            failed: watch::Sender::new(None),
        });
        let (commits_sender, commits) = Commits::channel();
        let (requests, wanted) = mpsc::channel(QUEUE_FOLLOWS);
        let (ready, caught_up) = oneshot::channel();
        let (queue, submitted) = mpsc::channel(writing::QUEUE_CHANGES);
        let log = Self {
            shared: Arc::clone(&shared),
            queue: RwLock::new(Some(queue)),
            requests,
            tasks: TaskTracker::new(),
            writing: CancellationToken::new(),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
        };
        let live = Live::new(
            Arc::clone(&shared),
            commits_sender,
            wanted,
            (position, ready),
            log.stop.clone(),
        );
        log.run(live.run());
        if caught_up.await.is_err() {
            let failed = shared.failed.borrow().clone();
            let reason = failed.map_or_else(|| "it ended".to_owned(), |error| error.to_string());
            return Err(StreamError::Nats(reason).into());
        }
        let (written, writer) = (log.writing.clone(), Arc::clone(&shared));
        log.run(async move {
            // Also if it is cut off.
            let _written = written.drop_guard();
            writing::run(writer, submitted).await;
        });
        if purpose != Purpose::Serve {
            // Nothing is written, and the cache is to know all that is there, whoever brought it.
            if let Some((seq, _)) = shared
                .nats
                .last(&shared.subjects.commands())
                .await
                .map_err(StoreError::from)?
            {
                shared.applied_up_to(seq).await?;
            }
            return Ok((log, commits));
        }
        let (stop, eraser) = (log.stop.clone(), Arc::clone(&shared));
        log.run(async move {
            stop.run_until_cancelled(erasing::run(&eraser)).await;
        });
        // What it has begun when the log is closed must still come back to it.
        let written = log.writing.clone();
        log.run(async move {
            written.run_until_cancelled(retiring::run(&shared)).await;
        });
        Ok((log, commits))
    }

    /// How many entries the stream had when it was opened: at least as many as messages.
    pub(crate) fn entries(&self) -> u64 {
        self.shared.entries
    }

    /// Whether a server with this state directory had its log on NATS.
    pub(crate) fn was_used(state_dir: &Path) -> bool {
        Cache::path(state_dir).exists()
    }

    /// The newest entry of the stream, as its leader knows.
    pub(crate) async fn newest(&self) -> Result<Seq, StoreError> {
        match stream::look(&self.shared.nats).await {
            Ok(facts) if facts.epoch == self.shared.epoch => Ok(facts.newest),
            Ok(_) => Err(StoreError::Replaced("another one stands there".to_owned())),
            Err(error) => Err(StoreError::Unreachable(error.to_string())),
        }
    }

    /// Runs `query` on what all commands came to.
    pub(crate) fn tables<T, F>(&self, query: F) -> Reading<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { shared.cache.read(query).await })
    }

    /// Messages of which nothing remains but that they were, behind `after` of the stream: some, and
    /// where to go on; none at the end.
    pub(crate) async fn gone(&self, after: Seq) -> Result<(Vec<Gone>, Seq), StoreError> {
        self.shared.gone(after).await
    }

    fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        let cut = self.cut.clone();
        self.tasks.spawn(async move {
            cut.run_until_cancelled(work).await;
        });
    }

    /// Ends at once, as a crash does: what waits is neither written nor answered, and what was on its
    /// way may or may not be.
    pub async fn abandon(&self) {
        self.cut.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.shared.cache.close().await;
    }
}

impl Drop for JetStreamLog {
    fn drop(&mut self) {
        self.cut.cancel();
    }
}

/// What a log promises less than one on a disk of its own, if it does.
fn weaker(settings: &JetStreamSettings, replicas: usize) -> Option<String> {
    let mut reasons = Vec::new();
    if !settings.synced {
        reasons.push(
            "nobody has vouched that NATS syncs before it answers: if it does not, what was \
             acknowledged survives crashes of processes, but not a power cut \
             (set `sync_interval: always` in its configuration, and start chat server with \
             --nats-synced)"
                .to_owned(),
        );
    }
    if replicas < settings.replicas {
        reasons.push(format!(
            "the stream has {replicas} replicas, not {}",
            settings.replicas
        ));
    }
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

impl Log for JetStreamLog {
    fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    fn submit(&self, submission: Submission) -> Result<(), Rejected> {
        let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = &*queue else {
            return Err(Rejected::Closed(Box::new(submission)));
        };
        queue.try_send(submission).map_err(|error| match error {
            mpsc::error::TrySendError::Full(submission) => Rejected::Full(Box::new(submission)),
            mpsc::error::TrySendError::Closed(submission) => Rejected::Closed(Box::new(submission)),
        })
    }

    fn page(
        &self,
        room: &Room,
        after: Seq,
        max_entries: usize,
        max_bytes: usize,
    ) -> Reading<Vec<Committed>> {
        let limits = Limits {
            entries: max_entries,
            bytes: max_bytes,
            ..Limits::WIDE
        };
        let (shared, room) = (Arc::clone(&self.shared), room.clone());
        Box::pin(async move {
            let page = shared.page(&room, after, limits, None).await?;
            Ok(page.unwrap_or_default())
        })
    }

    fn head(&self, room: &Room) -> Reading<Option<Head>> {
        let (shared, room) = (Arc::clone(&self.shared), room.clone());
        Box::pin(async move { shared.head(&room).await })
    }

    fn id_at(&self, room: &Room, seq: Seq) -> Reading<Option<MessageId>> {
        let (shared, room) = (Arc::clone(&self.shared), room.clone());
        Box::pin(async move { shared.id_at(&room, seq).await })
    }

    fn find(&self, room: &Room, id: MessageId) -> Reading<Option<Committed>> {
        let (shared, room) = (Arc::clone(&self.shared), room.clone());
        Box::pin(async move { shared.find(&room, id).await })
    }

    fn follow(&self, room: &Room) -> Reading<()> {
        self.shared.followers.add(room);
        let (requests, room) = (self.requests.clone(), room.clone());
        Box::pin(async move {
            let (done, followed) = oneshot::channel();
            let asked = requests.send(Follow { room, done }).await;
            asked.map_err(|_| StoreError::Closed)?;
            followed.await.map_err(|_| StoreError::Closed)?
        })
    }

    fn unfollow(&self, room: &Room) {
        self.shared.followers.remove(room);
    }

    fn page_for(
        &self,
        host: &HostName,
        room: &Room,
        after: Seq,
        max_entries: usize,
        max_bytes: usize,
    ) -> Reading<Option<Vec<Committed>>> {
        let limits = Limits {
            entries: max_entries,
            bytes: max_bytes,
            ..Limits::WIDE
        };
        let (shared, room, host) = (Arc::clone(&self.shared), room.clone(), host.clone());
        Box::pin(async move { shared.page(&room, after, limits, Some(&host)).await })
    }

    fn was_at(&self, room: &Room, seq: Seq, id: MessageId) -> Reading<bool> {
        let (shared, room) = (Arc::clone(&self.shared), room.clone());
        Box::pin(async move { shared.was_at(&room, seq, id).await })
    }

    fn charter(&self, room: &Room) -> Reading<Option<Charter>> {
        let (shared, room) = (Arc::clone(&self.shared), room.clone());
        Box::pin(async move {
            let read = shared
                .cache
                .read(move |connection| charters::load(connection, &room));
            read.await
        })
    }

    fn has_reader(&self, room: &Room, host: &HostName) -> Reading<bool> {
        let (shared, room, host) = (Arc::clone(&self.shared), room.clone(), host.clone());
        Box::pin(async move {
            let has = move |connection: &_| charters::has_reader(connection, &room, &host);
            shared.cache.read(has).await
        })
    }

    fn rooms(&self, asker: &Asker, after: Option<&FederatedRoom>) -> Reading<Listing<RoomInfo>> {
        let after = after.map_or_else(String::new, ToString::to_string);
        let (shared, asker) = (Arc::clone(&self.shared), asker.clone());
        Box::pin(async move {
            let epoch = shared.epoch;
            let read = move |connection: &_| sqlite::rooms(connection, epoch, &asker, after);
            let mut listing = shared.cache.read(read).await?;
            // The cache knows where the newest act is, and not what was said since.
            for some in listing.entries.chunks_mut(LISTING_REQUESTS) {
                let lasts = join_all(some.iter().map(|info| {
                    let said = shared.subjects.said(&Room::Federated(info.room.clone()));
                    let shared = &shared;
                    async move { shared.nats.last(&said).await }
                }));
                for (info, last) in some.iter_mut().zip(lasts.await) {
                    if let Some((seq, _)) = last? {
                        info.head = info.head.max(seq);
                    }
                }
            }
            Ok(listing)
        })
    }

    fn members(
        &self,
        room: &FederatedRoom,
        after: Option<&UserName>,
    ) -> Reading<Option<Listing<UserName>>> {
        let after = after.map_or_else(String::new, ToString::to_string);
        let (shared, room) = (Arc::clone(&self.shared), Room::Federated(room.clone()));
        Box::pin(async move {
            if !shared.cache.has_room(shared.epoch, &room).await? {
                return Ok(None);
            }
            let read = move |connection: &_| {
                roster::members(connection, &room, &after, MAX_PAGE_ENTRIES + 1)
            };
            Ok(Some(cut(shared.cache.read(read).await?)))
        })
    }

    fn rooms_of(&self, user: &UserName) -> Reading<Vec<Room>> {
        let (shared, user) = (Arc::clone(&self.shared), user.clone());
        Box::pin(async move {
            let read = move |connection: &_| roster::rooms_of(connection, &user);
            shared.cache.read(read).await
        })
    }

    fn directs(&self, host: &HostName, after: Option<&Room>) -> Reading<Listing<Room>> {
        let after = after.map_or_else(String::new, ToString::to_string);
        let (shared, host) = (Arc::clone(&self.shared), host.clone());
        Box::pin(async move {
            let read = move |connection: &_| sqlite::directs(connection, &host, &after);
            shared.cache.read(read).await
        })
    }

    /// None: what is free is NATS' to know.
    fn free_bytes(&self) -> Reading<u64> {
        Box::pin(std::future::ready(Ok(0)))
    }

    fn failed(&self) -> Pin<Box<dyn Future<Output = Arc<StoreError>> + Send>> {
        let mut failed = self.shared.failed.subscribe();
        Box::pin(async move {
            let found = failed.wait_for(Option::is_some).await;
            let found = found.ok().and_then(|found| found.clone());
            found.unwrap_or_else(|| Arc::new(StoreError::Closed))
        })
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let queue = self
            .queue
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(queue);
        let (shared, tasks) = (Arc::clone(&self.shared), self.tasks.clone());
        let (writing, stop) = (self.writing.clone(), self.stop.clone());
        Box::pin(async move {
            writing.cancelled().await;
            stop.cancel();
            tasks.close();
            tasks.wait().await;
            shared.cache.close().await;
        })
    }

    fn stats(&self) -> Stats {
        *self.shared.lock_stats()
    }

    fn status(&self) -> LogStatus {
        let Shared { nats, health, .. } = &*self.shared;
        LogStatus {
            keeper: LogKeeper::JetStream,
            durability: self.shared.durability,
            weaker: self.shared.weaker.clone(),
            health: health.judge(nats.is_connected(), Instant::now()),
        }
    }
}
