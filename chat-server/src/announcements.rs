//! News of who came and went, until the announcer has told them.
//!
//! Only the newest of each user is kept, and of each host so many users at most, so that nothing
//! has to be forgotten: whoever changes often overwrites their own news, and hosts take turns.

use crate::presence::MAX_USERS;
use protocol::{Availability, HostName, Nick, UserName};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;
use tracing::debug;

/// Users of one host whose news wait: those who came, and as many who went. News of others of
/// that host are not told; nobody else's are touched.
const MAX_WAITING: usize = 2 * MAX_USERS;

/// Somebody came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub(crate) user: UserName,
    pub(crate) availability: Availability,
}

/// What is to be announced. The mutex is held for a few lines, never across an await.
#[derive(Debug, Default)]
pub(crate) struct Announcements {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    hosts: HashMap<HostName, BTreeMap<Nick, Availability>>,
    /// The keys of `hosts`, whoever is next first.
    turns: VecDeque<HostName>,
}

impl Announcements {
    /// Leaves news of `user`, in place of older ones.
    pub(crate) fn push(&self, user: UserName, availability: Availability) {
        let mut waiting = self.lock();
        let Waiting { hosts, turns } = &mut *waiting;
        let users = hosts.entry(user.host.clone()).or_default();
        if users.is_empty() {
            turns.push_back(user.host.clone());
        }
        if users.len() < MAX_WAITING || users.contains_key(&user.nick) {
            users.insert(user.nick, availability);
        } else {
            debug!(host = %user.host, "too many presence changes, some are not told");
        }
        drop(waiting);
        self.news.notify_one();
    }

    /// Waits for news and takes one. For one announcer.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn next(&self) -> Announcement {
        loop {
            // Made before looking: what is pushed in between wakes it.
            let news = self.news.notified();
            if let Some(found) = self.lock().take() {
                return found;
            }
            news.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Whole between any two calls.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn take(&mut self) -> Option<Announcement> {
        let host = self.turns.pop_front()?;
        let users = self.hosts.get_mut(&host)?;
        let (nick, availability) = users.pop_first()?;
        if users.is_empty() {
            self.hosts.remove(&host);
        } else {
            self.turns.push_back(host.clone());
        }
        let user = UserName::new(nick, host);
        Some(Announcement { user, availability })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserName {
        name.parse().unwrap()
    }

    async fn told(announcements: &Announcements, count: usize) -> Vec<(String, Availability)> {
        let mut told = Vec::new();
        for _ in 0..count {
            let Announcement { user, availability } = announcements.next().await;
            told.push((user.to_string(), availability));
        }
        told
    }

    #[tokio::test]
    async fn a_host_that_flaps_keeps_nobody_else_from_being_announced() {
        let announcements = Announcements::default();
        for n in 0..10 * MAX_WAITING {
            announcements.push(user(&format!("u{n}@ada")), Availability::Online);
        }
        announcements.push(user("bob@bee"), Availability::Offline);
        let told = told(&announcements, 2).await;
        assert_eq!(told[1], ("bob@bee".to_owned(), Availability::Offline));
        assert_eq!(announcements.lock().hosts.len(), 1);
        assert!(announcements.lock().hosts[&user("a@ada").host].len() < MAX_WAITING);
    }

    #[tokio::test]
    async fn only_the_newest_of_a_user_is_told() {
        let announcements = Announcements::default();
        for availability in [
            Availability::Online,
            Availability::Offline,
            Availability::Away,
        ] {
            announcements.push(user("bob@bee"), availability);
        }
        announcements.push(user("carl@bee"), Availability::Online);
        assert_eq!(
            told(&announcements, 2).await,
            [
                ("bob@bee".to_owned(), Availability::Away),
                ("carl@bee".to_owned(), Availability::Online)
            ]
        );
        assert!(announcements.lock().turns.is_empty());
    }
}
