//! How fast agents, users and rooms may take messages and members: who is too fast is told to wait.
//!
//! Nothing is lost by that: an agent keeps what was answered "not yet", and sends it again in its
//! order.
//!
//! Each of several servers on one log counts for itself. An agent is connected to one of them, so its
//! limit, and its users', is what it says; a room may get its whole limit through each. To share that
//! out would make a room slow whose people all happen to be at one server, and what the limit
//! protects, the server's own work, is there for each of them.

mod table;

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock, Reference},
    middleware::NoOpMiddleware,
};
use protocol::{HostName, Room, UserName, federation::Refusal};
use std::{
    fmt,
    hash::Hash,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use table::{MAX_KEYS, Table};

/// How often those that are idle are looked for at most, which takes a look at all.
const CLEAN_EVERY: Duration = Duration::from_millis(100);

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
    /// In one room or conversation, by all together whose host follows it. A host that does not has
    /// as much for all rooms that it does not follow.
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
    /// Of agents, in rooms that they do not follow.
    strangers: Option<Keyed<HostName>>,
}

impl fmt::Debug for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rates")
            .field("allowed", &self.allowed)
            .finish_non_exhaustive()
    }
}

struct Keyed<K: Hash + Eq + Clone, C: Clock = DefaultClock> {
    limiter: RateLimiter<K, Table<K>, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    /// When those that are idle were forgotten last.
    cleaned: Mutex<C::Instant>,
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
        Self::with_clock(rate, DefaultClock::default())
    }
}

impl<K: Hash + Eq + Clone, C: Clock + Clone> Keyed<K, C> {
    fn with_clock(rate: NonZeroU32, clock: C) -> Self {
        Self {
            limiter: RateLimiter::new(quota(rate), Table::new(), clock.clone()),
            cleaned: Mutex::new(clock.now()),
            clock,
        }
    }

    /// How long to wait; nothing if it may be now.
    fn wait(&self, key: &K) -> Option<Duration> {
        if self.limiter.len() >= MAX_KEYS && self.may_clean() {
            self.limiter.retain_recent();
        }
        let until = self.limiter.check_key(key).err()?;
        Some(until.wait_time_from(self.clock.now()))
    }

    /// Whether it is time to forget those that are idle, which the caller then does.
    fn may_clean(&self) -> bool {
        let now = self.clock.now();
        // One value, whole at any time.
        let mut cleaned = self.cleaned.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = now.duration_since(*cleaned) >= CLEAN_EVERY.into();
        if is_due {
            *cleaned = now;
        }
        is_due
    }
}

impl Rates {
    pub(crate) fn new(allowed: Allowed) -> Self {
        Self {
            allowed,
            agents: allowed.agent.map(Keyed::new),
            users: allowed.user.map(Keyed::new),
            rooms: allowed.room.map(Keyed::new),
            strangers: allowed.room.map(Keyed::new),
        }
    }

    /// Whether what `user` writes into the log of `room`, which their host follows, comes at a pace
    /// that is allowed.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotYet`], saying whose limit it is and how long to wait.
    pub(crate) fn check_pace(&self, user: &UserName, room: &Room) -> Result<(), Refusal> {
        self.check_membership(user)?;
        if let (Some(rooms), Some(rate)) = (&self.rooms, self.allowed.room)
            && let Some(wait) = rooms.wait(room)
        {
            return Err(not_yet(wait, format_args!("{room} gets"), rate));
        }
        Ok(())
    }

    /// As [`check_pace`](Self::check_pace), where the host of `user` does not follow the room, and
    /// perhaps may not write there: that must not use up the pace of those who may.
    pub(crate) fn check_stranger(&self, user: &UserName) -> Result<(), Refusal> {
        self.check_membership(user)?;
        let host = &user.host;
        if let (Some(strangers), Some(rate)) = (&self.strangers, self.allowed.room)
            && let Some(wait) = strangers.wait(host)
        {
            let who = format_args!("host {host} sends into rooms that it does not follow");
            return Err(not_yet(wait, who, rate));
        }
        Ok(())
    }

    /// As [`check_pace`](Self::check_pace), of `user` who comes into a room or leaves it: the room hears of it
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
    use governor::clock::FakeRelativeClock;

    fn says(rates: &Rates, author: &str) -> Result<(), Refusal> {
        rates.check_pace(&author.parse().unwrap(), &"#ops".parse().unwrap())
    }

    fn rate(number: u32) -> Rate {
        NonZeroU32::new(number)
    }

    /// How many messages of `author` are taken at once.
    fn taken(rates: &Rates, author: &str) -> (usize, Refusal) {
        let refused = (0..).find_map(|count| Some((count, says(rates, author).err()?)));
        refused.unwrap()
    }

    #[test]
    fn who_is_too_fast_is_told_whose_limit_it_is_and_others_are_not_kept() {
        let allowed = Allowed {
            user: rate(1),
            ..Allowed::UNLIMITED
        };
        let rates = Rates::new(allowed);
        let (count, refusal) = taken(&rates, "alice@ada");
        assert!(count >= 2, "{count}");
        let text = refusal.to_string();
        assert!(
            text.contains("alice@ada sends more than 1 messages"),
            "{text}"
        );
        assert!(!refusal.is_final());
        assert_eq!(says(&rates, "bob@ada"), Ok(()));
    }

    #[test]
    fn what_a_user_sends_in_vain_is_not_counted_as_their_hosts() {
        let allowed = Allowed {
            user: rate(1),
            agent: rate(3),
            ..Allowed::UNLIMITED
        };
        let rates = Rates::new(allowed);
        let refused = (0..100).filter(|_| says(&rates, "alice@ada").is_err());
        assert!(refused.count() > 50);
        assert_eq!(says(&rates, "bob@ada"), Ok(()));
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
        assert!(says(&rates, "alice@ada").is_err());
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
            let (_, refusal) = taken(&rates, "alice@ada");
            assert!(refusal.to_string().contains(who), "{refusal}");
        }
    }

    #[test]
    fn what_comes_into_rooms_that_its_host_does_not_follow_is_not_counted_for_the_room() {
        let rates = Rates::new(Allowed {
            room: rate(1),
            ..Allowed::UNLIMITED
        });
        let mallory = "mallory@hopper".parse().unwrap();
        let refused = (0..100).find_map(|_| rates.check_stranger(&mallory).err());
        let text = refused.unwrap().to_string();
        assert!(text.contains("host hopper sends into rooms"), "{text}");
        assert_eq!(rates.check_stranger(&"eve@bee".parse().unwrap()), Ok(()));
        assert_eq!(says(&rates, "alice@ada"), Ok(()));
    }

    #[test]
    fn when_too_many_are_known_others_share_one_pace_until_some_are_idle() {
        let clock = FakeRelativeClock::default();
        let paces = Keyed::with_clock(NonZeroU32::MIN, clock.clone());
        for number in 0..MAX_KEYS {
            assert_eq!(paces.wait(&number), None);
        }
        assert_eq!(paces.wait(&MAX_KEYS), None);
        assert_eq!(paces.wait(&(MAX_KEYS + 1)), None);
        assert!(paces.wait(&(MAX_KEYS + 2)).is_some());
        assert_eq!(paces.wait(&0), None, "who is known has their own");
        assert_eq!(paces.limiter.len(), MAX_KEYS);
        clock.advance(Duration::from_secs(10));
        assert_eq!(paces.wait(&MAX_KEYS), None);
        assert_eq!(paces.limiter.len(), 1);
    }
}
