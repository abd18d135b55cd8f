//! What sessions, link and writer thread share: who is here, what they follow, how things are.
//!
//! There are five `std::sync::Mutex`es, each held for a few lines and never across an await:
//! `people`, under which the server's epoch, the [`Feed`] and a session's [`Outbound`] are used
//! too, in this order; `server_epoch`, `problems`, `vouched` and `topics`, under which nothing else
//! is.
//!
//! The link learns of changes by comparing what is with what it has told the server, so nothing is
//! lost however fast things change.

mod following;
mod problems;
mod topics;

use crate::{
    answer,
    store::{Settled, authored, governing::Gone, outbox::Usage, person::DepartureNumber},
};
use following::Directs;
use problems::Problems;
pub(crate) use problems::RefusedErrand;
use protocol::{
    AgentId, Availability, Committed, Epoch, FederatedRoom, HostName, LogHealth, LogStatus, Member,
    Nick, Room, Seq, ServerAddress, UserName,
    local::{AgentFrame, Event, LinkStatus, Refusal},
};
use room_log::{Feed, Outbound, ReaderId};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Notify, watch};
use topics::OwnTopics;

/// Characters of each of a server's texts about its log that are kept for people.
const MAX_LOG_TEXT_CHARS: usize = 512;

/// What the parts of an agent share.
#[derive(Debug)]
pub struct Hub {
    agent: AgentId,
    host: HostName,
    local_epoch: Epoch,
    server_epoch: Mutex<Epoch>,
    feed: Arc<Feed>,
    people: Mutex<People>,
    people_changed: Notify,
    /// Rises with every change of members or presence.
    roll_version: AtomicU64,
    outbox: OutboxGauge,
    servers: watch::Sender<Vec<ServerAddress>>,
    /// Whether the settings name somebody who vouches for servers.
    authorities: AtomicBool,
    link: watch::Sender<LinkStatus>,
    /// How the log of the server is that is connected, if that tells.
    server_log: watch::Sender<Option<LogStatus>>,
    problems: Mutex<Problems>,
    /// Up to where in its log the server has let somebody of this host into a room.
    vouched: Mutex<HashMap<(Room, Nick), Seq>>,
    topics: Mutex<OwnTopics>,
}

#[derive(Debug, Default)]
struct People {
    sessions: HashMap<ReaderId, Present>,
    away: HashSet<Nick>,
    /// Who of this host is in which `#room` and `&room`, as stored.
    members: HashMap<Room, BTreeSet<Nick>>,
    /// The last departure that is not in `members` any more.
    last_departure: DepartureNumber,
}

#[derive(Debug)]
struct Present {
    nick: Nick,
    outbound: Arc<Outbound>,
    counts: bool,
    directs: Directs,
}

/// What the outbox holds, for those who only look.
#[derive(Debug)]
pub struct OutboxGauge {
    messages: AtomicU64,
    bytes: AtomicU64,
    limit_bytes: AtomicU64,
    grew: Notify,
}

impl OutboxGauge {
    /// Messages and bytes that wait.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            messages: self.messages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// Bytes that may wait.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes.load(Ordering::Relaxed)
    }

    /// Changes the bytes that may wait.
    pub fn set_limit_bytes(&self, limit: u64) {
        self.limit_bytes.store(limit, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, usage: Usage) {
        self.messages.store(usage.messages, Ordering::Relaxed);
        self.bytes.store(usage.bytes, Ordering::Relaxed);
    }

    /// Wakes the link: something was put in.
    pub(crate) fn grew(&self) {
        self.grew.notify_one();
    }

    /// Waits until something was put in since the last wait. Cancel safe.
    pub async fn wait(&self) {
        self.grew.notified().await;
    }
}

/// Who is where, at one moment; what the server should know of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roll {
    /// Members of this host in each federated room.
    pub members: BTreeMap<Room, BTreeSet<Nick>>,
    /// Users who are there or away.
    pub present: BTreeMap<Nick, Availability>,
    /// The last departure that `members` are without.
    pub last_departure: DepartureNumber,
}

impl Hub {
    /// A hub for an agent with this identity, nobody there yet.
    #[must_use]
    pub fn new(identity: &crate::store::identity::Identity, outbox_limit_bytes: u64) -> Self {
        Self {
            agent: identity.agent,
            host: identity.host.clone(),
            local_epoch: identity.local_epoch,
            server_epoch: Mutex::new(identity.server_epoch),
            feed: Arc::new(Feed::new(committed_frame)),
            people: Mutex::default(),
            people_changed: Notify::new(),
            roll_version: AtomicU64::new(0),
            outbox: OutboxGauge {
                messages: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
                limit_bytes: AtomicU64::new(outbox_limit_bytes),
                grew: Notify::new(),
            },
            servers: watch::Sender::new(identity.servers.clone()),
            authorities: AtomicBool::new(false),
            link: watch::Sender::new(LinkStatus::LocalOnly),
            server_log: watch::Sender::new(None),
            problems: Mutex::default(),
            vouched: Mutex::default(),
            topics: Mutex::default(),
        }
    }

    /// Which agent this is.
    #[must_use]
    pub const fn agent(&self) -> AgentId {
        self.agent
    }

    /// What this host is called.
    #[must_use]
    pub const fn host(&self) -> &HostName {
        &self.host
    }

    /// The life of this agent's own log.
    #[must_use]
    pub const fn local_epoch(&self) -> Epoch {
        self.local_epoch
    }

    /// The life of the server's log that the replica belongs to.
    #[must_use]
    pub fn server_epoch(&self) -> Epoch {
        *lock(&self.server_epoch)
    }

    /// The life of the log that `room` is in.
    #[must_use]
    pub fn epoch_of(&self, room: &Room) -> Epoch {
        if room.is_local_to(&self.host) {
            self.local_epoch
        } else {
            self.server_epoch()
        }
    }

    /// Who follows which room.
    #[must_use]
    pub const fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// What the outbox holds.
    #[must_use]
    pub const fn outbox(&self) -> &OutboxGauge {
        &self.outbox
    }

    /// The servers to try in turn.
    #[must_use]
    pub fn servers(&self) -> watch::Receiver<Vec<ServerAddress>> {
        self.servers.subscribe()
    }

    /// Whether a server that is named without a key may be known by its certificate.
    pub(crate) fn has_authorities(&self) -> bool {
        self.authorities.load(Ordering::Relaxed)
    }

    pub(crate) fn set_authorities(&self, there: bool) {
        self.authorities.store(there, Ordering::Relaxed);
    }

    /// The connection to the server.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<LinkStatus> {
        self.link.subscribe()
    }

    pub(crate) fn set_link(&self, status: LinkStatus) {
        self.link.send_replace(status);
    }

    /// How the server's log is, and when that changes from now on; `None` if none is connected, or
    /// it does not tell.
    #[must_use]
    pub fn server_log(&self) -> watch::Receiver<Option<LogStatus>> {
        self.server_log.subscribe()
    }

    /// The log of the server at `place` is so. Its words are kept short.
    pub(crate) fn set_server_log(&self, place: &str, status: LogStatus) {
        let status = status.clipped(MAX_LOG_TEXT_CHARS);
        lock(&self.problems).set_log(place, &status.health);
        self.server_log.send_replace(Some(status));
    }

    /// No server is connected whose log could be told of.
    pub(crate) fn forget_server_log(&self) {
        lock(&self.problems).set_log("", &LogHealth::Well);
        self.server_log.send_replace(None);
    }

    pub(crate) fn set_servers(&self, servers: Vec<ServerAddress>) {
        self.servers.send_replace(servers);
    }

    /// The same servers, with what was learned of them: nobody is told if that is nothing.
    pub(crate) fn learn_servers(&self, servers: Vec<ServerAddress>) {
        self.servers.send_if_modified(|known| {
            let changed = *known != servers;
            *known = servers;
            changed
        });
    }

    /// Says what does not work; replaces what was said under the same topic.
    pub(crate) fn set_problem(&self, topic: &'static str, problem: String) {
        lock(&self.problems).set(topic, problem);
    }

    /// Says that it works again.
    pub(crate) fn clear_problem(&self, topic: &'static str) {
        lock(&self.problems).clear(topic);
    }

    /// Says what the server refused for good on this connection.
    pub(crate) fn set_refused(&self, refused: Vec<RefusedErrand>) {
        lock(&self.problems).set_refused(refused);
    }

    /// The server does not take messages of `author` for a while; `tell` has their sessions hear
    /// of it.
    pub(crate) fn hold_up(&self, author: &Nick, reason: String, pause: Duration, tell: bool) {
        let event = lock(&self.problems).hold_up(author, reason, pause);
        if tell {
            self.tell_sessions_of(author, event);
        }
    }

    /// What to tell a session of `author` that begins while their messages are held up.
    pub(crate) fn held_up(&self, author: &Nick) -> Option<Event> {
        lock(&self.problems).held_up(author)
    }

    /// The server takes messages of `author` as they come again.
    pub(crate) fn free(&self, author: &Nick) {
        lock(&self.problems).free(author);
    }

    /// Nobody's messages are held up by the server: there is none.
    pub(crate) fn free_all(&self) {
        lock(&self.problems).free_all();
    }

    /// What does not work now, as far as it is any business of `user`.
    #[must_use]
    pub fn problems_of(&self, user: &UserName) -> Vec<String> {
        let member_of: HashSet<Room> = {
            let people = lock(&self.people);
            let rooms = people.members.iter();
            let own = rooms.filter(|(_, members)| members.contains(&user.nick));
            own.map(|(room, _)| room.clone()).collect()
        };
        lock(&self.problems).of(&user.nick, |room| match room {
            Room::Direct(direct) => direct.includes(user),
            room => member_of.contains(room),
        })
    }

    /// What does not work now, for whoever runs the agent.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        lock(&self.problems).all()
    }

    /// Loads the memberships as stored.
    pub fn restore_members(&self, members: impl IntoIterator<Item = (Room, Nick)>) {
        let mut people = lock(&self.people);
        for (room, nick) in members {
            people.members.entry(room).or_default().insert(nick);
        }
    }

    /// Gives committed messages to the sessions that follow their rooms.
    pub(crate) fn publish<'a>(&self, messages: impl Iterator<Item = &'a Committed> + Clone) {
        for message in messages.clone() {
            if let Room::Direct(direct) = &message.room {
                self.open_directs(direct, message);
            }
        }
        self.feed.publish(messages);
    }

    /// Tells all sessions of a message's author what became of it.
    pub(crate) fn settled(&self, settled: Settled) {
        let Settled {
            id,
            room,
            author,
            result,
        } = settled;
        self.tell_sessions_of(&author.nick, Event::Outcome { id, room, result });
    }

    fn tell_sessions_of(&self, nick: &Nick, event: Event) {
        let frame = answer::event(event);
        let people = lock(&self.people);
        for present in people.sessions.values().filter(|one| one.nick == *nick) {
            present.outbound.push_soft(frame.clone());
        }
    }

    /// The replica belongs to another life of the server's log now.
    pub(crate) fn begin_epoch(&self, epoch: Epoch) {
        lock(&self.vouched).clear();
        *lock(&self.server_epoch) = epoch;
        self.feed.restart(
            |room| !room.is_local_to(&self.host),
            |room| {
                answer::event(Event::EpochChanged {
                    room: room.clone(),
                    epoch,
                })
            },
        );
    }

    /// The server has let `nick` into `room`, whose newest message was `head`.
    pub(crate) fn vouch(&self, room: Room, nick: Nick, head: Seq) {
        lock(&self.vouched).insert((room, nick), head);
    }

    /// Up to where in its log the server has let `nick` into `room`, if it has.
    pub(crate) fn vouched(&self, room: &Room, nick: &Nick) -> Option<Seq> {
        let key = (room.clone(), nick.clone());
        lock(&self.vouched).get(&key).copied()
    }

    /// `nick` asks the server for this topic.
    pub(crate) fn note_topic(&self, room: &FederatedRoom, nick: &Nick, topic: &str) {
        lock(&self.topics).note(room, nick, topic);
    }

    /// Whose topic this is, as far as is known here: a server may say that of anybody, but not in the
    /// name of a user of this host who has not set it.
    pub(crate) fn who_set(&self, room: &FederatedRoom, user: UserName, topic: &str) -> UserName {
        let unknown = user.host == self.host && !lock(&self.topics).knows(room, &user.nick, topic);
        if unknown {
            authored::unverified(&user)
        } else {
            user
        }
    }

    /// Whether `nick` is a member of `room`.
    #[must_use]
    pub fn is_member(&self, room: &Room, nick: &Nick) -> bool {
        lock(&self.people)
            .members
            .get(room)
            .is_some_and(|members| members.contains(nick))
    }

    /// A membership is stored. Does nothing if it was before.
    pub(crate) fn joined(&self, room: &Room, user: &UserName) {
        let is_new = lock(&self.people)
            .members
            .entry(room.clone())
            .or_default()
            .insert(user.nick.clone());
        if !is_new {
            return;
        }
        if room.is_local_to(&self.host) {
            let event = Event::Joined {
                room: room.clone(),
                user: user.clone(),
            };
            self.feed.publish_soft([room], &answer::event(event));
        }
        self.people_have_changed();
    }

    /// The end of a membership was stored; of a federated room as `departure`.
    pub(crate) fn left(&self, room: &Room, user: &UserName, departure: Option<DepartureNumber>) {
        let (left, who) = (room.clone(), user.clone());
        let reason = Refusal::Left {
            room: left,
            user: who,
        };
        self.end_membership(room, user, departure, &reason);
    }

    /// An act ended a membership.
    pub(crate) fn removed(&self, gone: &Gone) {
        let Gone {
            room,
            user,
            departure,
        } = gone;
        let reason = Refusal::Removed {
            room: room.clone(),
            user: user.clone(),
        };
        self.end_membership(room, user, *departure, &reason);
    }

    fn end_membership(
        &self,
        room: &Room,
        user: &UserName,
        departure: Option<DepartureNumber>,
        reason: &Refusal,
    ) {
        lock(&self.vouched).remove(&(room.clone(), user.nick.clone()));
        let mut people = lock(&self.people);
        people.last_departure = people.last_departure.max(departure.unwrap_or_default());
        if let Some(members) = people.members.get_mut(room) {
            members.remove(&user.nick);
            if members.is_empty() {
                people.members.remove(room);
            }
        }
        let sessions: Vec<(ReaderId, Arc<Outbound>)> = people
            .sessions
            .iter()
            .filter(|(_, one)| one.nick == user.nick)
            .map(|(reader, one)| (*reader, Arc::clone(&one.outbound)))
            .collect();
        drop(people);
        let event = Event::Left {
            room: room.clone(),
            user: user.clone(),
        };
        if room.is_local_to(&self.host) {
            self.feed.publish_soft([room], &answer::event(event));
        }
        for (reader, outbound) in sessions {
            self.end_following(reader, &outbound, room, reason);
        }
        self.people_have_changed();
    }

    /// A topic of a local room was stored.
    pub(crate) fn topic_set(&self, room: &Room, user: UserName, topic: String) {
        let event = Event::Topic {
            room: room.clone(),
            user,
            topic,
        };
        self.feed.publish_soft([room], &answer::event(event));
    }

    /// A session has begun. `counts` says whether it makes its user present.
    pub(crate) fn arrive(
        &self,
        reader: ReaderId,
        nick: &Nick,
        outbound: &Arc<Outbound>,
        counts: bool,
    ) {
        self.change_presence(nick, |people| {
            let outbound = Arc::clone(outbound);
            let present = Present {
                nick: nick.clone(),
                outbound,
                counts,
                directs: Directs::Unwanted,
            };
            people.sessions.insert(reader, present);
        });
    }

    /// A session has ended.
    pub(crate) fn depart(&self, reader: ReaderId, nick: &Nick) {
        self.change_presence(nick, |people| {
            people.sessions.remove(&reader);
            if !people
                .sessions
                .values()
                .any(|one| one.nick == *nick && one.counts)
            {
                people.away.remove(nick);
            }
        });
    }

    /// A user is away, or back.
    pub(crate) fn set_away(&self, nick: &Nick, away: bool) {
        self.change_presence(nick, |people| {
            if away {
                people.away.insert(nick.clone());
            } else {
                people.away.remove(nick);
            }
        });
    }

    fn change_presence(&self, nick: &Nick, change: impl FnOnce(&mut People)) {
        let mut people = lock(&self.people);
        let before = people.availability(nick);
        change(&mut people);
        let after = people.availability(nick);
        if before == after {
            return;
        }
        let rooms: Vec<Room> = people
            .members
            .iter()
            .filter(|(room, members)| room.is_local_to(&self.host) && members.contains(nick))
            .map(|(room, _)| room.clone())
            .collect();
        drop(people);
        let user = UserName::new(nick.clone(), self.host.clone());
        let event = Event::Presence {
            user,
            availability: after,
        };
        self.feed.publish_soft(&rooms, &answer::event(event));
        self.people_have_changed();
    }

    fn people_have_changed(&self) {
        self.roll_version.fetch_add(1, Ordering::Release);
        self.people_changed.notify_one();
    }

    /// Which state of members and presence this is. One that was the same before
    /// [`roll`](Self::roll) means that the roll is the same.
    pub(crate) fn roll_version(&self) -> u64 {
        self.roll_version.load(Ordering::Acquire)
    }

    /// Waits until members or presence changed since the last wait. Cancel safe.
    pub(crate) async fn people_changed(&self) {
        self.people_changed.notified().await;
    }

    /// What the server should know of this host.
    #[must_use]
    pub fn roll(&self) -> Roll {
        let people = lock(&self.people);
        let members = people
            .members
            .iter()
            .filter(|(room, _)| matches!(room, Room::Federated(_)))
            .map(|(room, nicks)| (room.clone(), nicks.clone()))
            .collect();
        let nicks: BTreeSet<&Nick> = people.sessions.values().map(|one| &one.nick).collect();
        let present = nicks
            .into_iter()
            .map(|nick| (nick.clone(), people.availability(nick)))
            .filter(|(_, availability)| *availability != Availability::Offline)
            .collect();
        Roll {
            members,
            present,
            last_departure: people.last_departure,
        }
    }

    /// The members of `room` on this host.
    #[must_use]
    pub fn members_here(&self, room: &Room) -> Vec<Member> {
        let people = lock(&self.people);
        let nicks = people.members.get(room).into_iter().flatten();
        let member = |nick: &Nick| Member {
            user: UserName::new(nick.clone(), self.host.clone()),
            availability: people.availability(nick),
        };
        nicks.map(member).collect()
    }

    /// The `#rooms` and `&rooms` that `nick` is in.
    #[must_use]
    pub fn rooms_of(&self, nick: &Nick) -> BTreeSet<Room> {
        let people = lock(&self.people);
        let rooms = people
            .members
            .iter()
            .filter(|(_, members)| members.contains(nick));
        rooms.map(|(room, _)| room.clone()).collect()
    }

    /// How many members of this host `room` has.
    #[must_use]
    pub fn member_count(&self, room: &Room) -> usize {
        lock(&self.people)
            .members
            .get(room)
            .map_or(0, BTreeSet::len)
    }

    /// Whether `nick` is there, on this host.
    #[must_use]
    pub fn availability(&self, nick: &Nick) -> Availability {
        lock(&self.people).availability(nick)
    }

    /// How many sessions are open, and the bytes that wait for them.
    #[must_use]
    pub fn sessions(&self) -> (usize, usize) {
        let people = lock(&self.people);
        let bytes = people
            .sessions
            .values()
            .map(|one| one.outbound.bytes())
            .sum();
        (people.sessions.len(), bytes)
    }

    /// Passes a soft event of the server on to the sessions that follow one of `rooms`.
    pub(crate) fn pass_on(&self, room: &Room, event: Event) {
        self.feed.publish_soft([room], &answer::event(event));
    }

    /// Passes news of a user of another host on to all sessions that follow a federated room.
    pub(crate) fn pass_presence(&self, user: UserName, availability: Availability) {
        let rooms: Vec<Room> = {
            let people = lock(&self.people);
            let federated = |room: &&Room| matches!(room, Room::Federated(_));
            people.members.keys().filter(federated).cloned().collect()
        };
        self.feed.publish_soft(
            &rooms,
            &answer::event(Event::Presence { user, availability }),
        );
    }
}

impl People {
    fn availability(&self, nick: &Nick) -> Availability {
        let here = self
            .sessions
            .values()
            .any(|one| one.nick == *nick && one.counts);
        match (here, self.away.contains(nick)) {
            (false, _) => Availability::Offline,
            (true, false) => Availability::Online,
            (true, true) => Availability::Away,
        }
    }
}

fn committed_frame(message: &Committed) -> bytes::Bytes {
    answer::frame(&AgentFrame::Event(Event::Committed(message.clone())))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that can panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
