//! Who is connected.
//!
//! One mutex over two maps, held for a few lines and never while anything is awaited or encoded.

use crate::{
    announcements::Announcements,
    presence::{ConnectionId, Presence, PresenceError},
    reply::event_frame,
};
use protocol::{
    AgentId, Availability, Direct, HostName, Room, UserName,
    federation::{Event, Refusal},
    limits::MAX_WAITING_BYTES,
};
use room_log::{Feed, Outbound, ReaderId};
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};
use tokio::sync::Semaphore;
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
}

#[derive(Debug, Default)]
struct State {
    agents: HashMap<HostName, Arc<Handle>>,
    presence: Presence,
}

/// Another living agent has the host's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HostInUse;

impl Router {
    /// Nobody is connected.
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            announcements: Announcements::default(),
            next: AtomicU64::new(1),
        }
    }

    /// Who came or went since it was last told.
    pub(crate) const fn announcements(&self) -> &Announcements {
        &self.announcements
    }

    /// An id for a new connection.
    pub(crate) fn connection_id(&self) -> ConnectionId {
        ConnectionId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Lets `handle` speak for its host. An older connection of the same agent is told to end.
    ///
    /// # Errors
    ///
    /// [`HostInUse`]: nothing changed.
    pub(crate) fn enter(&self, handle: &Arc<Handle>) -> Result<(), HostInUse> {
        let mut state = self.lock();
        match state.agents.entry(handle.host.clone()) {
            Entry::Occupied(other) if other.get().agent != handle.agent => return Err(HostInUse),
            Entry::Occupied(mut older) => {
                older.insert(Arc::clone(handle)).close(Refusal::Replaced);
            }
            Entry::Vacant(vacant) => {
                vacant.insert(Arc::clone(handle));
            }
        }
        let gone = state.presence.enter(&handle.host, handle.id);
        self.announce_offline(gone);
        Ok(())
    }

    /// `handle`'s connection has ended.
    pub(crate) fn leave(&self, handle: &Handle) {
        let mut state = self.lock();
        if let Entry::Occupied(current) = state.agents.entry(handle.host.clone())
            && current.get().id == handle.id
        {
            current.remove();
        }
        let gone = state.presence.leave(&handle.host, handle.id);
        self.announce_offline(gone);
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
            // Under the lock, so that announcements come in the order of the changes.
            self.announcements.push(user, availability);
        }
        Ok(())
    }

    /// Whether each of `users` is there.
    pub(crate) fn availability(&self, users: &[UserName]) -> Vec<Availability> {
        let state = self.lock();
        users.iter().map(|user| state.presence.of(user)).collect()
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

    fn announce_offline(&self, gone: Vec<UserName>) {
        for user in gone {
            self.announcements.push(user, Availability::Offline);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Both maps are whole between any two calls on them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
