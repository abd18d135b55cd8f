//! Who is connected, here and to other servers.
//!
//! One mutex over a few maps, held for a few lines and never while anything is awaited or encoded.

use crate::{
    announcements::Announcements,
    cluster::{
        neighbours::{Heard, InUseElsewhere, Neighbours, differences},
        news::{Change, News, Seat, ServerId, Since},
    },
    presence::{ConnectionId, Presence, PresenceError},
    reply::event_frame,
};
use protocol::{
    AgentId, Availability, Direct, HostName, Nick, Room, Timestamp, UserName,
    federation::{Event, Refusal},
    limits::MAX_WAITING_BYTES,
};
use room_log::{Feed, Outbound, ReaderId};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Instant, SystemTime},
};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// What the rest of the server knows of one agent's connection.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) id: ConnectionId,
    pub(crate) host: HostName,
    pub(crate) agent: AgentId,
    pub(crate) software: String,
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) in_flight: Arc<Semaphore>,
    pub(crate) rooms: AtomicUsize,
    /// Who it is to the feed, once it may follow rooms.
    pub(crate) reader: OnceLock<ReaderId>,
    /// Since when it has the seat of its host, to other servers.
    since: OnceLock<Since>,
    ending: Ending,
}

/// How others end a connection: the first reason counts.
#[derive(Debug, Default)]
struct Ending {
    reason: OnceLock<Refusal>,
    token: CancellationToken,
}

impl Handle {
    pub(crate) fn new(
        id: ConnectionId,
        host: HostName,
        agent: AgentId,
        software: String,
        outbound: Arc<Outbound>,
        in_flight: Arc<Semaphore>,
    ) -> Self {
        Self {
            id,
            host,
            agent,
            software,
            outbound,
            in_flight,
            rooms: AtomicUsize::new(0),
            reader: OnceLock::new(),
            since: OnceLock::new(),
            ending: Ending::default(),
        }
    }

    /// Tells the connection to end. Whether nobody had done so before.
    pub(crate) fn close(&self, reason: Refusal) -> bool {
        let is_first = self.ending.reason.set(reason).is_ok();
        if is_first {
            self.ending.token.cancel();
        }
        is_first
    }

    /// Waits until somebody tells the connection to end.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn closed(&self) -> Refusal {
        self.ending.token.cancelled().await;
        self.ending
            .reason
            .get()
            .cloned()
            .unwrap_or(Refusal::ShuttingDown)
    }
}

/// The connected agents by host, and who is there.
#[derive(Debug)]
pub(crate) struct Router {
    state: Mutex<State>,
    announcements: Announcements,
    next: AtomicU64,
    /// Other servers are to be told something.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    agents: HashMap<HostName, Arc<Handle>>,
    presence: Presence,
    /// `None` for a server that is alone.
    elsewhere: Option<Elsewhere>,
}

/// The other servers: what they told, and what they are still to be told.
#[derive(Debug)]
struct Elsewhere {
    neighbours: Neighbours,
    untold: HashMap<HostName, Untold>,
}

/// What others do not know of a host.
#[derive(Debug)]
enum Untold {
    /// Who has its seat, and everything that belongs to it.
    Seat,
    /// How these users are.
    Users(BTreeSet<Nick>),
}

/// Another living agent has the host's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HostInUse;

impl From<InUseElsewhere> for HostInUse {
    fn from(_: InUseElsewhere) -> Self {
        Self
    }
}

impl State {
    /// Who of `host` is there as far as others tell; nobody if there are no others.
    fn users_elsewhere(&self, host: &HostName) -> BTreeMap<Nick, Availability> {
        let elsewhere = self.elsewhere.as_ref();
        elsewhere.map_or_else(BTreeMap::new, |it| it.neighbours.users(host))
    }

    /// Who of `host` is there: what its agent says, if that is connected here, counts more than
    /// what others say.
    fn users(&self, host: &HostName) -> BTreeMap<Nick, Availability> {
        if self.agents.contains_key(host) {
            self.presence.of_host(host)
        } else {
            self.users_elsewhere(host)
        }
    }

    fn availability(&self, user: &UserName) -> Availability {
        match &self.elsewhere {
            Some(elsewhere) if !self.agents.contains_key(&user.host) => {
                elsewhere.neighbours.availability(user)
            }
            _ => self.presence.of(user),
        }
    }

    /// The seat of `host`, as others are told of it.
    fn seat(&self, host: &HostName) -> Option<Seat> {
        let handle = self.agents.get(host)?;
        Some(Seat {
            agent: handle.agent,
            since: handle.since.get().copied()?,
            users: self.presence.of_host(host),
        })
    }

    fn change(&self, host: &HostName, untold: Untold) -> Change {
        let nicks = match untold {
            Untold::Users(nicks) if self.agents.contains_key(host) => nicks,
            _ => return self.seat(host).map_or(Change::Left, Change::Seated),
        };
        let users = nicks.into_iter().map(|nick| {
            let user = UserName::new(nick.clone(), host.clone());
            (nick, self.presence.of(&user))
        });
        Change::Users(users.collect())
    }
}

impl Router {
    /// Nobody is connected.
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            announcements: Announcements::default(),
            next: AtomicU64::new(1),
            changed: Notify::new(),
        }
    }

    /// The same, of the server `us` of a cluster.
    pub(crate) fn in_cluster(us: ServerId) -> Self {
        let router = Self::new();
        router.lock().elsewhere = Some(Elsewhere {
            neighbours: Neighbours::new(us),
            untold: HashMap::new(),
        });
        router
    }

    /// Who came or went since it was last told.
    pub(crate) const fn announcements(&self) -> &Announcements {
        &self.announcements
    }

    /// An id for a new connection.
    pub(crate) fn connection_id(&self) -> ConnectionId {
        ConnectionId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Lets `handle` speak for its host. An older connection of the same agent is told to end, also
    /// one to another server.
    ///
    /// # Errors
    ///
    /// [`HostInUse`]: nothing changed.
    pub(crate) fn enter(&self, handle: &Arc<Handle>) -> Result<(), HostInUse> {
        let mut state = self.lock();
        let now = Since(Timestamp::from(SystemTime::now()).micros());
        let since = match &state.elsewhere {
            Some(elsewhere) => elsewhere
                .neighbours
                .enter(&handle.host, handle.agent, now)?,
            None => now,
        };
        let before = state.users(&handle.host);
        match state.agents.entry(handle.host.clone()) {
            Entry::Occupied(other) if other.get().agent != handle.agent => return Err(HostInUse),
            Entry::Occupied(mut older) => {
                older.insert(Arc::clone(handle)).close(Refusal::Replaced);
            }
            Entry::Vacant(vacant) => {
                vacant.insert(Arc::clone(handle));
            }
        }
        // Set once: a connection enters once.
        let _ = handle.since.set(since);
        state.presence.enter(&handle.host, handle.id);
        self.seat_changed(&mut state, &handle.host, &before);
        Ok(())
    }

    /// `handle`'s connection has ended.
    pub(crate) fn leave(&self, handle: &Handle) {
        let mut state = self.lock();
        let before = state.users(&handle.host);
        match state.agents.entry(handle.host.clone()) {
            Entry::Occupied(current) if current.get().id == handle.id => drop(current.remove()),
            _ => return,
        }
        state.presence.leave(&handle.host, handle.id);
        self.seat_changed(&mut state, &handle.host, &before);
    }

    /// The seat of `host` was taken or left; its users were as in `before`.
    fn seat_changed(
        &self,
        state: &mut State,
        host: &HostName,
        before: &BTreeMap<Nick, Availability>,
    ) {
        for (user, availability) in differences(host, before, &state.users(host)) {
            self.announcements.push(user, availability);
        }
        if let Some(elsewhere) = &mut state.elsewhere {
            elsewhere.untold.insert(host.clone(), Untold::Seat);
            self.changed.notify_one();
        }
    }

    /// Notes whether a user of `handle`'s host is there, and announces it if it is news.
    pub(crate) fn set_presence(
        &self,
        handle: &Handle,
        user: UserName,
        availability: Availability,
    ) -> Result<(), PresenceError> {
        let mut state = self.lock();
        if state.presence.set(&user, handle.id, availability)? {
            if let Some(elsewhere) = &mut state.elsewhere {
                let untold = elsewhere.untold.entry(user.host.clone());
                let untold = untold.or_insert_with(|| Untold::Users(BTreeSet::new()));
                if let Untold::Users(nicks) = untold {
                    nicks.insert(user.nick.clone());
                }
                self.changed.notify_one();
            }
            // Under the lock, so that announcements come in the order of the changes.
            self.announcements.push(user, availability);
        }
        Ok(())
    }

    /// Whether each of `users` is there.
    pub(crate) fn availability(&self, users: &[UserName]) -> Vec<Availability> {
        let state = self.lock();
        users.iter().map(|user| state.availability(user)).collect()
    }

    /// Takes in what another server told. Connections here that have no right to their seats any
    /// more are told to end.
    pub(crate) fn hear(&self, news: News, now: Instant) -> Heard {
        let mut state = self.lock();
        let State {
            agents, elsewhere, ..
        } = &mut *state;
        let Some(Elsewhere { neighbours, .. }) = elsewhere else {
            return Heard::default();
        };
        let heard = neighbours.hear(news, now);
        for host in &heard.seated {
            let Some(handle) = agents.get(host) else {
                continue;
            };
            let since = handle.since.get().copied();
            let verdict = since.and_then(|since| neighbours.verdict(host, handle.agent, since));
            if let Some(reason) = verdict {
                handle.close(reason);
            }
        }
        self.announce(&state, &heard.users);
        heard
    }

    /// Other servers can be heard from `now` on, or nobody can.
    pub(crate) fn line(&self, up: bool, now: Instant) {
        if let Some(Elsewhere { neighbours, .. }) = &mut self.lock().elsewhere {
            match up {
                true => neighbours.reconnected(now),
                false => neighbours.cut_off(now),
            }
        }
    }

    /// Forgets what servers told that are not heard of any more; returns their names.
    pub(crate) fn expire(&self, now: Instant) -> Vec<String> {
        let mut state = self.lock();
        let Some(elsewhere) = &mut state.elsewhere else {
            return Vec::new();
        };
        let (heard, lost) = elsewhere.neighbours.expire(now);
        self.announce(&state, &heard.users);
        lost
    }

    /// Announces what others told of users. Their host's own agent, if it is here, knows better.
    fn announce(&self, state: &State, users: &[(UserName, Availability)]) {
        for (user, availability) in users {
            if !state.agents.contains_key(&user.host) {
                self.announcements.push(user.clone(), *availability);
            }
        }
    }

    /// Waits until there is something to tell other servers. For one task.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What other servers have not been told yet.
    pub(crate) fn take_changes(&self) -> Vec<(HostName, Change)> {
        let mut state = self.lock();
        let Some(elsewhere) = &mut state.elsewhere else {
            return Vec::new();
        };
        let untold = std::mem::take(&mut elsewhere.untold);
        let changes = untold.into_iter().map(|(host, untold)| {
            let change = state.change(&host, untold);
            (host, change)
        });
        changes.collect()
    }

    /// All that there is to tell other servers.
    pub(crate) fn take_everything(&self) -> Vec<(HostName, Seat)> {
        let mut state = self.lock();
        if let Some(elsewhere) = &mut state.elsewhere {
            elsewhere.untold.clear();
        }
        let hosts = state.agents.keys();
        let seats = hosts.filter_map(|host| Some((host.clone(), state.seat(host)?)));
        seats.collect()
    }

    /// The other servers that are heard, and how many hosts are connected to each; `None` for a
    /// server that is alone.
    pub(crate) fn servers(&self) -> Option<Vec<(String, usize)>> {
        let state = self.lock();
        let elsewhere = state.elsewhere.as_ref()?;
        Some(elsewhere.neighbours.servers())
    }

    /// What people call the other server to which `host` is connected.
    pub(crate) fn server_of(&self, host: &HostName) -> Option<String> {
        let state = self.lock();
        let elsewhere = state.elsewhere.as_ref()?;
        elsewhere.neighbours.server_of(host).map(str::to_owned)
    }

    /// Tells the agents at both ends of `direct` that it has its first message.
    pub(crate) fn direct_opened(&self, direct: &Direct) {
        let [first, second] = direct.ends();
        let frame = event_frame(Event::DirectOpened {
            conversation: Room::Direct(direct.clone()),
        });
        let state = self.lock();
        for host in [&first.host, &second.host] {
            let Some(handle) = state.agents.get(host) else {
                continue;
            };
            if handle.outbound.bytes() < MAX_WAITING_BYTES {
                handle.outbound.push_reply(frame.clone());
            } else {
                warn!(%host, "an agent reads nothing and is cut off");
                handle.close(Refusal::TimedOut);
            }
        }
    }

    /// Ends the connection of `host`, if there is one.
    pub(crate) fn close(&self, host: &HostName, reason: Refusal) {
        if let Some(handle) = self.lock().agents.get(host) {
            handle.close(reason);
        }
    }

    /// Sends up to `group` agents elsewhere that were not told so yet; returns how many.
    pub(crate) fn send_away(&self, group: u32) -> u32 {
        let mut sent = 0;
        let (agents, _) = self.snapshot();
        for handle in agents {
            if sent == group {
                break;
            }
            sent += u32::from(handle.close(Refusal::Draining));
        }
        sent
    }

    /// Whether the agent of `host` is connected.
    pub(crate) fn is_connected(&self, host: &HostName) -> bool {
        self.lock().agents.contains_key(host)
    }

    /// Tells `event` to everybody who is connected; returns how many will hear it.
    pub(crate) fn tell_all(&self, event: Event) -> usize {
        let frame = event_frame(event);
        let (mut agents, _) = self.snapshot();
        // One that reads nothing hears it when it comes back.
        agents.retain(|handle| handle.outbound.bytes() < MAX_WAITING_BYTES);
        for handle in &agents {
            handle.outbound.push_reply(frame.clone());
        }
        agents.len()
    }

    /// Ends what the agents of `hosts` follow of `room`, as nobody there is in it any more, and tells
    /// them. What they were given before stays theirs; a page they ask for later is not read.
    pub(crate) fn close_room(&self, feed: &Feed, room: &Room, hosts: &[HostName]) {
        let handles: Vec<Arc<Handle>> = {
            let state = self.lock();
            let agents = hosts.iter().filter_map(|host| state.agents.get(host));
            agents.cloned().collect()
        };
        for handle in handles {
            let Some(reader) = handle.reader.get().copied() else {
                continue;
            };
            if !feed.is_following(reader, room) {
                continue;
            }
            feed.unsubscribe(reader, room);
            if handle.outbound.bytes() < MAX_WAITING_BYTES {
                let (room, reason) = (room.clone(), Refusal::NoReader { room: room.clone() });
                let event = Event::Unsubscribed { room, reason };
                handle.outbound.push_reply(event_frame(event));
            } else {
                // It comes back and asks.
                warn!(host = %handle.host, "an agent reads nothing and is cut off");
                handle.close(Refusal::TimedOut);
            }
        }
    }

    /// Everybody who is connected, in order of host name, and how many users are there.
    pub(crate) fn snapshot(&self) -> (Vec<Arc<Handle>>, usize) {
        let state = self.lock();
        let mut agents: Vec<_> = state.agents.values().cloned().collect();
        let users = state.presence.users();
        drop(state);
        agents.sort_by(|one, other| one.host.cmp(&other.host));
        (agents, users)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The maps are whole between any two calls on them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::news::What;

    fn handle(router: &Router, host: &str, agent: AgentId) -> Arc<Handle> {
        Arc::new(Handle::new(
            router.connection_id(),
            host.parse().unwrap(),
            agent,
            "test".to_owned(),
            Arc::new(Outbound::new(MAX_WAITING_BYTES)),
            Arc::new(Semaphore::new(1)),
        ))
    }

    #[tokio::test]
    async fn a_host_is_its_agents_until_it_leaves() {
        let router = Router::new();
        let agent = AgentId::new();
        let first = handle(&router, "ada", agent);
        router.enter(&first).unwrap();
        let stranger = handle(&router, "ada", AgentId::new());
        assert_eq!(router.enter(&stranger), Err(HostInUse));

        let alice: UserName = "alice@ada".parse().unwrap();
        router
            .set_presence(&first, alice.clone(), Availability::Online)
            .unwrap();
        let second = handle(&router, "ada", agent);
        router.enter(&second).unwrap();
        assert_eq!(first.closed().await, Refusal::Replaced);
        router.leave(&first);
        assert_eq!(router.snapshot().0[0].id, second.id);
        assert_eq!(router.availability(&[alice]), [Availability::Offline]);
        assert_eq!(
            router.announcements().next().await.availability,
            Availability::Offline
        );

        router.leave(&second);
        router.enter(&stranger).unwrap();
    }

    fn told(router: &Router, from: ServerId, what: What) -> Heard {
        let news = News {
            from,
            name: "other".to_owned(),
            what,
        };
        router.hear(news, Instant::now())
    }

    fn everything(router: &Router) -> What {
        What::Everything {
            number: 1,
            part: 0,
            last: true,
            hosts: router.take_everything().into_iter().collect(),
        }
    }

    #[tokio::test]
    async fn an_agent_that_comes_to_another_server_leaves_the_first_and_its_users_go_with_it() {
        let (one, other) = (ServerId::new(), ServerId::new());
        let (here, there) = (Router::in_cluster(one), Router::in_cluster(other));
        let agent = AgentId::new();
        let alice: UserName = "alice@ada".parse().unwrap();
        let first = handle(&here, "ada", agent);
        here.enter(&first).unwrap();
        here.set_presence(&first, alice.clone(), Availability::Away)
            .unwrap();
        told(&there, one, everything(&here));
        let ask = std::slice::from_ref(&alice);
        assert_eq!(there.availability(ask), [Availability::Away]);
        assert_eq!(there.server_of(&alice.host).as_deref(), Some("other"));
        let stranger = handle(&there, "ada", AgentId::new());
        assert_eq!(there.enter(&stranger), Err(HostInUse));

        let second = handle(&there, "ada", agent);
        there.enter(&second).unwrap();
        assert_eq!(there.availability(ask), [Availability::Offline]);
        there
            .set_presence(&second, alice.clone(), Availability::Online)
            .unwrap();
        told(&here, other, everything(&there));
        assert_eq!(first.closed().await, Refusal::Replaced);
        // Its own end is believed until it is closed.
        assert_eq!(here.availability(ask), [Availability::Away]);
        here.leave(&first);
        assert_eq!(here.availability(ask), [Availability::Online]);
        assert_eq!(
            here.announcements().next().await.availability,
            Availability::Online
        );
        let [(host, change)] = &here.take_changes()[..] else {
            panic!("one change");
        };
        assert_eq!((host.as_str(), change), ("ada", &Change::Left));
    }

    #[tokio::test]
    async fn of_many_changes_others_are_told_what_came_of_them() {
        let router = Router::in_cluster(ServerId::new());
        let ada = handle(&router, "ada", AgentId::new());
        router.enter(&ada).unwrap();
        router.changed().await;
        assert!(matches!(
            &router.take_changes()[..],
            [(_, Change::Seated(_))]
        ));
        for availability in [Availability::Online, Availability::Away] {
            for user in ["alice@ada", "bob@ada"] {
                router
                    .set_presence(&ada, user.parse().unwrap(), availability)
                    .unwrap();
            }
        }
        router.changed().await;
        let [(_, Change::Users(users))] = &router.take_changes()[..] else {
            panic!("users of one host");
        };
        let now: Vec<_> = users.values().collect();
        assert_eq!(now, [&Availability::Away; 2]);
        assert_eq!(router.take_changes(), []);
    }
}
