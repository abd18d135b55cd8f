//! How fast agents, users and rooms may take messages and members: who is too fast is told to wait.
//!
//! Nothing is lost by that: an agent keeps what was answered "not yet", and sends it again in its
//! order.
//!
//! Each of several servers on one log counts for itself. An agent is connected to one of them, so its
//! limit, and its users', is what it says; a room may get its whole limit through each. To share that
//! out would make a room slow whose people all happen to be at one server, and what the limit
//! protects, the server's own work, is there for each of them.

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    state::keyed::HashMapStateStore,
};
use protocol::{HostName, Outgoing, Room, UserName, federation::Refusal};
use std::{fmt, hash::Hash, num::NonZeroU32, time::Duration};

/// Agents, users or rooms whose pace is remembered; when there are more, those that are idle are
/// forgotten.
const MAX_KEYS: usize = 16_384;

/// Shortest wait that anybody is told, so that a fast agent does not ask a hundred times a second.
const LEAST_WAIT: Duration = Duration::from_millis(50);

/// Messages a second; `None` for no limit. For two seconds' worth at once there is room.
pub type Rate = Option<NonZeroU32>;

/// What is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// Of one agent.
    pub agent: Rate,
    /// Of one user.
    pub user: Rate,
    /// In one room or conversation, by all together.
    pub room: Rate,
}

impl Allowed {
    /// No limits.
    pub const UNLIMITED: Self = Self {
        agent: None,
        user: None,
        room: None,
    };
}

/// The paces of all agents, users and rooms, shared by all connections: whoever connects again has
/// not become anybody else.
pub(crate) struct Rates {
    allowed: Allowed,
    agents: Option<Keyed<HostName>>,
    users: Option<Keyed<UserName>>,
    rooms: Option<Keyed<Room>>,
}

impl fmt::Debug for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rates")
            .field("allowed", &self.allowed)
            .finish_non_exhaustive()
    }
}

struct Keyed<K: Hash + Eq + Clone> {
    limiter: RateLimiter<K, HashMapStateStore<K>, DefaultClock>,
}

fn quota(rate: NonZeroU32) -> Quota {
    Quota::per_second(rate).allow_burst(rate.saturating_mul(TWO))
}

const TWO: NonZeroU32 = match NonZeroU32::new(2) {
    Some(two) => two,
    None => NonZeroU32::MIN,
};

impl<K: Hash + Eq + Clone> Keyed<K> {
    fn new(rate: NonZeroU32) -> Self {
        let limiter = RateLimiter::new(
            quota(rate),
            HashMapStateStore::default(),
            DefaultClock::default(),
        );
        Self { limiter }
    }

    /// How long to wait; nothing if it may be now.
    fn wait(&self, key: &K) -> Option<Duration> {
        if self.limiter.len() >= MAX_KEYS {
            self.limiter.retain_recent();
        }
        match self.limiter.check_key(key) {
            Ok(()) => None,
            Err(until) => Some(until.wait_time_from(DefaultClock::default().now())),
        }
    }
}

impl Rates {
    pub(crate) fn new(allowed: Allowed) -> Self {
        Self {
            allowed,
            agents: allowed.agent.map(Keyed::new),
            users: allowed.user.map(Keyed::new),
            rooms: allowed.room.map(Keyed::new),
        }
    }

    /// Whether `message` comes at a pace that is allowed.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotYet`], saying whose limit it is and how long to wait.
    pub(crate) fn check(&self, message: &Outgoing) -> Result<(), Refusal> {
        self.check_pace(&message.author, &message.room)
    }

    /// As [`check`](Self::check), of whatever `user` writes into the log of `room`.
    pub(crate) fn check_pace(&self, user: &UserName, room: &Room) -> Result<(), Refusal> {
        self.check_membership(user)?;
        if let (Some(rooms), Some(rate)) = (&self.rooms, self.allowed.room)
            && let Some(wait) = rooms.wait(room)
        {
            return Err(not_yet(wait, format_args!("{room} gets"), rate));
        }
        Ok(())
    }

    /// As [`check`](Self::check), of `user` who comes into a room or leaves it: the room hears of it
    /// and the log is written, but nothing is added to it.
    pub(crate) fn check_membership(&self, user: &UserName) -> Result<(), Refusal> {
        // The user first: what they send in vain must not use up the pace of their host.
        if let (Some(users), Some(rate)) = (&self.users, self.allowed.user)
            && let Some(wait) = users.wait(user)
        {
            return Err(not_yet(wait, format_args!("{user} sends"), rate));
        }
        let host = &user.host;
        if let (Some(agents), Some(rate)) = (&self.agents, self.allowed.agent)
            && let Some(wait) = agents.wait(host)
        {
            return Err(not_yet(wait, format_args!("host {host} sends"), rate));
        }
        Ok(())
    }
}

fn not_yet(wait: Duration, who: fmt::Arguments<'_>, rate: NonZeroU32) -> Refusal {
    let wait = wait.max(LEAST_WAIT);
    Refusal::NotYet {
        retry_after_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
        reason: format!("{who} more than {rate} messages a second"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Content, MessageId, Timestamp};

    fn message(author: &str, room: &str) -> Outgoing {
        Outgoing {
            id: MessageId::new(),
            room: room.parse().unwrap(),
            author: author.parse().unwrap(),
            sent_at: Timestamp::from_micros(1),
            body: Content::Text("hello".to_owned()).encode().unwrap(),
        }
    }

    fn rate(number: u32) -> Rate {
        NonZeroU32::new(number)
    }

    /// How many of `message` are taken at once.
    fn taken(rates: &Rates, message: &Outgoing) -> (usize, Refusal) {
        let refused = (0..).find_map(|count| Some((count, rates.check(message).err()?)));
        refused.unwrap()
    }

    #[test]
    fn who_is_too_fast_is_told_whose_limit_it_is_and_others_are_not_kept() {
        let allowed = Allowed {
            user: rate(1),
            ..Allowed::UNLIMITED
        };
        let rates = Rates::new(allowed);
        let (count, refusal) = taken(&rates, &message("alice@ada", "#ops"));
        assert!(count >= 2, "{count}");
        let text = refusal.to_string();
        assert!(
            text.contains("alice@ada sends more than 1 messages"),
            "{text}"
        );
        assert!(!refusal.is_final());
        assert_eq!(rates.check(&message("bob@ada", "#ops")), Ok(()));
    }

    #[test]
    fn what_a_user_sends_in_vain_is_not_counted_as_their_hosts() {
        let allowed = Allowed {
            user: rate(1),
            agent: rate(3),
            ..Allowed::UNLIMITED
        };
        let rates = Rates::new(allowed);
        let refused = (0..100).filter(|_| rates.check(&message("alice@ada", "#ops")).is_err());
        assert!(refused.count() > 50);
        assert_eq!(rates.check(&message("bob@ada", "#ops")), Ok(()));
    }

    #[test]
    fn coming_and_going_counts_as_sending_does() {
        let allowed = Allowed {
            user: rate(1),
            ..Allowed::UNLIMITED
        };
        let rates = Rates::new(allowed);
        let (alice, bob) = ("alice@ada".parse().unwrap(), "bob@ada".parse().unwrap());
        let refused = (0..100).find_map(|_| rates.check_membership(&alice).err());
        assert!(
            matches!(refused, Some(Refusal::NotYet { .. })),
            "{refused:?}"
        );
        assert!(rates.check(&message("alice@ada", "#ops")).is_err());
        assert_eq!(rates.check_membership(&bob), Ok(()));
    }

    #[test]
    fn a_room_and_an_agent_have_their_limits_too() {
        for (allowed, who) in [
            (
                Allowed {
                    room: rate(1),
                    ..Allowed::UNLIMITED
                },
                "#ops gets",
            ),
            (
                Allowed {
                    agent: rate(1),
                    ..Allowed::UNLIMITED
                },
                "host ada sends",
            ),
        ] {
            let rates = Rates::new(allowed);
            let (_, refusal) = taken(&rates, &message("alice@ada", "#ops"));
            assert!(refusal.to_string().contains(who), "{refusal}");
        }
    }
}
