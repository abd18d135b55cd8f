//! How fast agents, users and rooms may take messages: who is too fast is told to wait.
//!
//! Nothing is lost by that: an agent keeps what was answered "not yet", and sends it again in its
//! order.

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    state::keyed::HashMapStateStore,
};
use protocol::{HostName, Outgoing, Room, UserName, federation::Refusal};
use std::{fmt, hash::Hash, num::NonZeroU32, time::Duration};

/// Users or rooms whose pace is remembered; when there are more, those that are idle are
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

/// The paces of all users and rooms, shared by all connections.
pub(crate) struct Rates {
    allowed: Allowed,
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

/// The pace of one agent, on its connection.
pub(crate) struct AgentRate(Option<DefaultDirectRateLimiter>);

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
            users: allowed.user.map(Keyed::new),
            rooms: allowed.room.map(Keyed::new),
        }
    }

    /// The pace of an agent that has just connected.
    pub(crate) fn of_agent(&self) -> AgentRate {
        let limiter = |rate| RateLimiter::direct(quota(rate));
        AgentRate(self.allowed.agent.map(limiter))
    }

    /// Whether `message` comes at a pace that is allowed.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotYet`], saying whose limit it is and how long to wait.
    pub(crate) fn check(&self, agent: &AgentRate, message: &Outgoing) -> Result<(), Refusal> {
        let host = &message.author.host;
        agent.check(host, self.allowed.agent)?;
        if let (Some(users), Some(rate)) = (&self.users, self.allowed.user)
            && let Some(wait) = users.wait(&message.author)
        {
            return Err(not_yet(
                wait,
                format_args!("{} sends", message.author),
                rate,
            ));
        }
        if let (Some(rooms), Some(rate)) = (&self.rooms, self.allowed.room)
            && let Some(wait) = rooms.wait(&message.room)
        {
            return Err(not_yet(wait, format_args!("{} gets", message.room), rate));
        }
        Ok(())
    }
}

impl AgentRate {
    fn check(&self, host: &HostName, rate: Rate) -> Result<(), Refusal> {
        let (Some(limiter), Some(rate)) = (&self.0, rate) else {
            return Ok(());
        };
        limiter.check().map_err(|until| {
            let wait = until.wait_time_from(DefaultClock::default().now());
            not_yet(wait, format_args!("host {host} sends"), rate)
        })
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
    fn taken(rates: &Rates, agent: &AgentRate, message: &Outgoing) -> (usize, Refusal) {
        let refused = (0..).find_map(|count| Some((count, rates.check(agent, message).err()?)));
        refused.unwrap()
    }

    #[test]
    fn who_is_too_fast_is_told_whose_limit_it_is_and_others_are_not_kept() {
        let allowed = Allowed {
            user: rate(1),
            ..Allowed::UNLIMITED
        };
        let rates = Rates::new(allowed);
        let agent = rates.of_agent();
        let (count, refusal) = taken(&rates, &agent, &message("alice@ada", "#ops"));
        assert!(count >= 2, "{count}");
        let text = refusal.to_string();
        assert!(
            text.contains("alice@ada sends more than 1 messages"),
            "{text}"
        );
        assert!(!refusal.is_final());
        assert_eq!(rates.check(&agent, &message("bob@ada", "#ops")), Ok(()));
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
            let agent = rates.of_agent();
            let (_, refusal) = taken(&rates, &agent, &message("alice@ada", "#ops"));
            assert!(refusal.to_string().contains(who), "{refusal}");
        }
    }
}
