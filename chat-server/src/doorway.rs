//! Who knocks, by address: those who have not said yet who they are.
//!
//! Whoever connects holds a [`Place`] until they are introduced. An address has so many places, and
//! all together have so many; who fails again and again waits longer and longer before being heard.
//! So a crowd of strangers costs bounded memory, and agents that are in notice nothing of it.

use protocol::limits::{HANDSHAKE_TIMEOUT, MAX_UNKNOWN, MAX_UNKNOWN_PER_ADDRESS};
use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tracing::warn;

/// Failures of an address that cost nothing: somebody mistyped something.
const FREE_FAILURES: u32 = 5;

/// What the next failure costs; it doubles with each further one.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// Longest wait before somebody is heard. Agents wait for [`HANDSHAKE_TIMEOUT`] themselves, and one
/// that gave up has failed once more: behind an address of which others fail, nobody would ever get
/// in if this were not well below it.
const MAX_DELAY: Duration = Duration::from_secs(2);
const _: () = assert!(MAX_DELAY.as_millis() * 2 < HANDSHAKE_TIMEOUT.as_millis());

/// After so long without a failure an address is as good as new.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// Addresses that are remembered for their failures. When there are more, the oldest are forgotten.
const MAX_ADDRESSES: usize = 4_096;

/// How often the log tells of failures of one address.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Where somebody comes from: an IPv4 address, or the network that an IPv6 address is in, as a host
/// has as many of these as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Source(IpAddr);

impl Source {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(address) => write!(f, "{address}/64"),
        }
    }
}

/// What is known of one address.
#[derive(Debug)]
struct Visits {
    waiting: usize,
    failures: u32,
    last: Instant,
    told: Option<Instant>,
    untold: u32,
}

#[derive(Debug, Default)]
struct State {
    waiting: usize,
    sources: HashMap<Source, Visits>,
}

/// All who knock.
#[derive(Debug, Clone, Default)]
pub(crate) struct Doorway {
    state: Arc<Mutex<State>>,
}

/// Why somebody is not let into the doorway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crowded {
    /// Too many from this address have not said who they are.
    Address,
    /// Too many altogether have not.
    Everywhere,
}

/// A place in the doorway. Dropped before [`Place::introduced`], its owner has failed.
#[derive(Debug)]
pub(crate) struct Place {
    doorway: Doorway,
    source: Source,
    delay: Duration,
    known: bool,
}

impl Doorway {
    /// Lets somebody from `address` in who has to say who they are.
    pub(crate) fn knock(&self, address: IpAddr, now: Instant) -> Result<Place, Crowded> {
        let source = Source::of(address);
        let mut state = self.lock();
        if state.waiting >= MAX_UNKNOWN {
            return Err(Crowded::Everywhere);
        }
        if !state.sources.contains_key(&source) {
            state.make_room(now);
        }
        let visits = state.sources.entry(source).or_insert(Visits {
            waiting: 0,
            failures: 0,
            last: now,
            told: None,
            untold: 0,
        });
        if visits.waiting >= MAX_UNKNOWN_PER_ADDRESS {
            return Err(Crowded::Address);
        }
        if now.saturating_duration_since(visits.last) >= FORGIVEN_AFTER {
            visits.failures = 0;
        }
        visits.waiting += 1;
        let delay = delay(visits.failures);
        state.waiting += 1;
        drop(state);
        Ok(Place {
            doorway: self.clone(),
            source,
            delay,
            known: false,
        })
    }

    fn leave(&self, source: Source, known: bool, now: Instant) {
        let mut state = self.lock();
        state.waiting -= 1;
        let Some(visits) = state.sources.get_mut(&source) else {
            return;
        };
        visits.waiting -= 1;
        if known {
            if visits.waiting == 0 && visits.failures == 0 {
                state.sources.remove(&source);
            }
            return;
        }
        visits.failures = visits.failures.saturating_add(1);
        visits.last = now;
        visits.untold += 1;
        let due = visits
            .told
            .is_none_or(|told| now.saturating_duration_since(told) >= TELL_EVERY);
        if due && visits.failures > FREE_FAILURES {
            visits.told = Some(now);
            let (count, failures) = (std::mem::take(&mut visits.untold), visits.failures);
            drop(state);
            warn!(
                from = %source, count, delay = ?delay(failures),
                "connections that did not say who they are; further ones wait"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counters, whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Forgets who was forgiven and, if that is not enough, who failed longest ago.
    fn make_room(&mut self, now: Instant) {
        if self.sources.len() < MAX_ADDRESSES {
            return;
        }
        self.sources.retain(|_, visits| {
            visits.waiting > 0 || now.saturating_duration_since(visits.last) < FORGIVEN_AFTER
        });
        if self.sources.len() < MAX_ADDRESSES {
            return;
        }
        let idle = self
            .sources
            .iter()
            .filter(|(_, visits)| visits.waiting == 0);
        let oldest = idle.min_by_key(|(_, visits)| visits.last);
        if let Some(source) = oldest.map(|(source, _)| *source) {
            self.sources.remove(&source);
        }
    }
}

/// How long somebody waits who failed so often.
fn delay(failures: u32) -> Duration {
    match failures.checked_sub(FREE_FAILURES) {
        None => Duration::ZERO,
        Some(counted) => FIRST_DELAY
            .saturating_mul(1 << counted.min(16))
            .min(MAX_DELAY),
    }
}

impl Place {
    /// How long its owner waits before being heard.
    pub(crate) const fn delay(&self) -> Duration {
        self.delay
    }

    /// Its owner is known now.
    pub(crate) fn introduced(mut self) {
        self.known = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.doorway.leave(self.source, self.known, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let doorway = Doorway::default();
        let now = Instant::now();
        let crowd: Vec<_> = (0..MAX_UNKNOWN_PER_ADDRESS)
            .map(|_| doorway.knock(address("192.0.2.1"), now).unwrap())
            .collect();
        let refused = doorway.knock(address("192.0.2.1"), now).unwrap_err();
        assert_eq!(refused, Crowded::Address);
        // The same address, written otherwise.
        assert!(doorway.knock(address("::ffff:192.0.2.1"), now).is_err());
        doorway
            .knock(address("192.0.2.2"), now)
            .unwrap()
            .introduced();
        for place in crowd {
            place.introduced();
        }
        assert!(doorway.knock(address("192.0.2.1"), now).is_ok());
    }

    #[test]
    fn all_addresses_together_have_so_many_places() {
        let doorway = Doorway::default();
        let now = Instant::now();
        let mut crowd = Vec::new();
        let refused = (0_u32..).find_map(|host| {
            let from = address("198.51.0.0");
            let IpAddr::V4(from) = from else {
                unreachable!()
            };
            let from = std::net::Ipv4Addr::from_bits(from.to_bits() + host);
            match doorway.knock(from.into(), now) {
                Ok(place) => {
                    crowd.push(place);
                    None
                }
                Err(refused) => Some(refused),
            }
        });
        assert_eq!(refused, Some(Crowded::Everywhere));
        assert_eq!(crowd.len(), MAX_UNKNOWN);
    }

    #[test]
    fn who_fails_again_and_again_waits_longer_until_forgiven() {
        let doorway = Doorway::default();
        let from = address("2001:db8::1");
        let mut last = Duration::ZERO;
        for round in 0..20 {
            // Another address of the same network is the same.
            let from = address(&format!("2001:db8::{round:x}"));
            let place = doorway.knock(from, Instant::now()).unwrap();
            let waits = place.delay();
            assert!(waits >= last && waits <= MAX_DELAY, "{round}: {waits:?}");
            assert_eq!(waits > Duration::ZERO, round >= FREE_FAILURES, "{round}");
            last = waits;
        }
        assert_eq!(last, MAX_DELAY);
        let elsewhere = doorway.knock(address("2001:db8:1::1"), Instant::now());
        assert_eq!(elsewhere.unwrap().delay(), Duration::ZERO);
        let later = Instant::now() + FORGIVEN_AFTER;
        let place = doorway.knock(from, later).unwrap();
        assert_eq!(place.delay(), Duration::ZERO);
        place.introduced();
    }

    #[test]
    fn an_agent_is_heard_before_it_gives_up_however_often_others_of_its_address_fail() {
        let doorway = Doorway::default();
        let from = address("192.0.2.1");
        for _ in 0..1_000 {
            drop(doorway.knock(from, Instant::now()).unwrap());
        }
        let place = doorway.knock(from, Instant::now()).unwrap();
        assert!(place.delay() < HANDSHAKE_TIMEOUT / 2, "{:?}", place.delay());
    }

    #[test]
    fn however_many_addresses_fail_not_all_are_remembered() {
        let doorway = Doorway::default();
        for host in 0..10_000_u32 {
            let from = std::net::Ipv4Addr::from_bits(host);
            drop(doorway.knock(from.into(), Instant::now()).unwrap());
        }
        assert!(doorway.lock().sources.len() <= MAX_ADDRESSES);
        assert_eq!(doorway.lock().waiting, 0);
    }
}
