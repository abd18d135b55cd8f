//! Who is there: soft state that lives as long as the connection that told it.

use protocol::{Availability, HostName, Nick, UserName, limits::MAX_SESSIONS};
use std::collections::{BTreeMap, HashMap};
use thiserror::Error;

/// Users of one agent whose presence is kept: as many as an agent has sessions.
pub(crate) const MAX_USERS: usize = MAX_SESSIONS;

/// Distinguishes the connections of one server process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// Why a presence was not noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(crate) enum PresenceError {
    /// The connection is not its host's any more.
    #[error("the connection was replaced")]
    Replaced,
    /// The host has [`MAX_USERS`] users there already.
    #[error("too many users")]
    TooMany,
}

/// Which users are there, by the connection of their host's agent.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    hosts: HashMap<HostName, Present>,
}

#[derive(Debug)]
struct Present {
    connection: ConnectionId,
    users: BTreeMap<Nick, Availability>,
}

impl Presence {
    /// `connection` speaks for `host` from now on. Users whom an earlier connection told of are
    /// offline until this one says otherwise.
    pub(crate) fn enter(&mut self, host: &HostName, connection: ConnectionId) {
        let users = BTreeMap::new();
        self.hosts
            .insert(host.clone(), Present { connection, users });
    }

    /// `connection` has ended, and its users are offline by that.
    pub(crate) fn leave(&mut self, host: &HostName, connection: ConnectionId) {
        let ended = self.hosts.get(host);
        if ended.is_some_and(|present| present.connection == connection) {
            self.hosts.remove(host);
        }
    }

    /// Notes what `connection` says of a user. Returns whether it is news.
    ///
    /// # Errors
    ///
    /// [`PresenceError`]; nothing was noted.
    pub(crate) fn set(
        &mut self,
        user: &UserName,
        connection: ConnectionId,
        availability: Availability,
    ) -> Result<bool, PresenceError> {
        let present = self
            .hosts
            .get_mut(&user.host)
            .filter(|present| present.connection == connection)
            .ok_or(PresenceError::Replaced)?;
        let users = &mut present.users;
        match availability {
            Availability::Offline | Availability::Unknown => Ok(users.remove(&user.nick).is_some()),
            Availability::Online | Availability::Away => {
                if users.len() >= MAX_USERS && !users.contains_key(&user.nick) {
                    return Err(PresenceError::TooMany);
                }
                let before = users.insert(user.nick.clone(), availability);
                Ok(before != Some(availability))
            }
        }
    }

    /// Whether `user` is there.
    #[must_use]
    pub(crate) fn of(&self, user: &UserName) -> Availability {
        self.hosts
            .get(&user.host)
            .and_then(|present| present.users.get(&user.nick))
            .copied()
            .unwrap_or(Availability::Offline)
    }

    /// Who of `host` is there.
    #[must_use]
    pub(crate) fn of_host(&self, host: &HostName) -> BTreeMap<Nick, Availability> {
        let present = self.hosts.get(host);
        present.map_or_else(BTreeMap::new, |present| present.users.clone())
    }

    /// How many users are there.
    #[must_use]
    pub(crate) fn users(&self) -> usize {
        self.hosts.values().map(|present| present.users.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ConnectionId = ConnectionId(1);
    const TWO: ConnectionId = ConnectionId(2);

    fn user(text: &str) -> UserName {
        text.parse().unwrap()
    }

    #[test]
    fn users_are_there_as_long_as_their_agent() {
        let mut presence = Presence::default();
        let alice = user("alice@ada");
        assert_eq!(presence.of(&alice), Availability::Offline);
        presence.enter(&alice.host, ONE);
        assert_eq!(presence.set(&alice, ONE, Availability::Online), Ok(true));
        assert_eq!(presence.set(&alice, ONE, Availability::Online), Ok(false));
        assert_eq!(presence.set(&alice, ONE, Availability::Away), Ok(true));
        assert_eq!(presence.of(&alice), Availability::Away);
        presence.leave(&alice.host, ONE);
        assert_eq!(presence.of(&alice), Availability::Offline);
        assert_eq!(presence.users(), 0);
    }

    #[test]
    fn an_old_connection_has_no_say_after_a_new_one_took_over() {
        let mut presence = Presence::default();
        let alice = user("alice@ada");
        let bob = user("bob@ada");
        presence.enter(&alice.host, ONE);
        presence.set(&alice, ONE, Availability::Online).unwrap();
        presence.enter(&alice.host, TWO);
        assert_eq!(presence.of(&alice), Availability::Offline);
        presence.set(&bob, TWO, Availability::Online).unwrap();
        assert_eq!(
            presence.set(&alice, ONE, Availability::Online),
            Err(PresenceError::Replaced)
        );
        presence.leave(&alice.host, ONE);
        assert_eq!(presence.of(&bob), Availability::Online);
        assert_eq!(presence.of(&alice), Availability::Offline);
    }

    #[test]
    fn offline_forgets_and_the_number_of_users_is_limited() {
        let mut presence = Presence::default();
        let host: HostName = "ada".parse().unwrap();
        presence.enter(&host, ONE);
        for number in 0..MAX_USERS {
            let user = user(&format!("u{number}@ada"));
            assert_eq!(presence.set(&user, ONE, Availability::Online), Ok(true));
        }
        let more = user("more@ada");
        assert_eq!(
            presence.set(&more, ONE, Availability::Online),
            Err(PresenceError::TooMany)
        );
        let first = user("u0@ada");
        assert_eq!(presence.set(&first, ONE, Availability::Offline), Ok(true));
        assert_eq!(presence.set(&first, ONE, Availability::Offline), Ok(false));
        assert_eq!(presence.set(&more, ONE, Availability::Online), Ok(true));
        assert_eq!(presence.users(), MAX_USERS);
    }
}
