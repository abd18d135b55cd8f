//! What does not work now, and who is told of it: nobody hears with whom, or where, others of the
//! host talk.

use protocol::{LogHealth, Nick, Room, local::Event};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How many of a kind are named one by one.
const MAX_NAMED: usize = 10;

/// What does not work.
#[derive(Debug, Default)]
pub(super) struct Problems {
    /// One of each topic, for everybody.
    topics: BTreeMap<&'static str, String>,
    /// How the log of the server that is connected is, if it does not take anything now.
    log: Option<String>,
    /// Whose messages the server does not take yet.
    held_up: BTreeMap<Nick, HeldUp>,
    /// What the server refused for good on this connection.
    refused: Vec<RefusedErrand>,
}

/// Something that the server refused for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefusedErrand {
    /// Where.
    pub(crate) room: Room,
    /// For whom; all who read the room if there is no one.
    pub(crate) nick: Option<Nick>,
    /// What and why, for people.
    pub(crate) problem: String,
}

/// Why, and until when they are not tried again.
#[derive(Debug)]
struct HeldUp {
    reason: String,
    until: Instant,
}

impl HeldUp {
    /// `log` is what is known of the server's log, which says more than a refusal does.
    fn event(&self, log: Option<&str>) -> Event {
        let retry_in = self.until.saturating_duration_since(Instant::now());
        Event::HeldUp {
            reason: log.unwrap_or(&self.reason).to_owned(),
            retry_in_ms: u32::try_from(retry_in.as_millis()).unwrap_or(u32::MAX),
        }
    }
}

impl Problems {
    pub(super) fn set(&mut self, topic: &'static str, problem: String) {
        self.topics.insert(topic, problem);
    }

    pub(super) fn clear(&mut self, topic: &'static str) {
        self.topics.remove(topic);
    }

    /// The log of the server at `place` is so.
    pub(super) fn set_log(&mut self, place: &str, health: &LogHealth) {
        self.log = health.trouble_of(place);
    }

    pub(super) fn set_refused(&mut self, refused: Vec<RefusedErrand>) {
        self.refused = refused;
    }

    /// Returns what to tell the sessions of `author`.
    pub(super) fn hold_up(&mut self, author: &Nick, reason: String, pause: Duration) -> Event {
        let until = Instant::now() + pause;
        let held_up = HeldUp { reason, until };
        let event = held_up.event(self.log.as_deref());
        self.held_up.insert(author.clone(), held_up);
        event
    }

    pub(super) fn held_up(&self, author: &Nick) -> Option<Event> {
        let held_up = self.held_up.get(author)?;
        Some(held_up.event(self.log.as_deref()))
    }

    pub(super) fn free(&mut self, author: &Nick) {
        self.held_up.remove(author);
    }

    pub(super) fn free_all(&mut self) {
        self.held_up.clear();
    }

    /// What concerns all who use the host.
    fn of_everybody(&self) -> Vec<String> {
        let log = self.log.as_ref().map(|trouble| {
            format!(
                "{trouble}: what is said in #rooms waits here, and goes when the log takes it; nothing \
                 needs doing on this host"
            )
        });
        self.topics.values().cloned().chain(log).collect()
    }

    /// What `user` is told, given whether they read a room. Of others they hear how many there are.
    pub(super) fn of(&self, user: &Nick, reads: impl Fn(&Room) -> bool) -> Vec<String> {
        let mut told = self.of_everybody();
        // A log that takes nothing holds up everybody: that is said.
        let held_up = self.log.is_none().then_some(&self.held_up);
        let own = held_up.and_then(|all| all.get(user));
        if let Some(HeldUp { reason, .. }) = own {
            told.push(format!("your messages are held up: {reason}"));
        }
        let count = held_up.map_or(0, BTreeMap::len);
        match count - usize::from(own.is_some()) {
            0 => {}
            1 => told.push("messages of another user of this host are held up".to_owned()),
            more => told.push(format!(
                "messages of {more} other users of this host are held up"
            )),
        }
        let concerns = |errand: &&RefusedErrand| match &errand.nick {
            Some(nick) => nick == user,
            None => reads(&errand.room),
        };
        let mut own = self.refused.iter().filter(concerns);
        if let Some(first) = own.next() {
            told.push(match own.count() {
                0 => first.problem.clone(),
                more => format!("{} (and {more} more like this)", first.problem),
            });
        }
        told
    }

    /// All of it, for whoever runs the agent; of much of a kind the number.
    pub(super) fn all(&self) -> Vec<String> {
        let mut told = self.of_everybody();
        if self.log.is_none() {
            let held_up = self.held_up.iter().map(|(nick, held_up)| {
                let reason = &held_up.reason;
                format!("messages of {nick} are held up: {reason}")
            });
            told.extend(held_up.take(MAX_NAMED));
            told.extend(more(self.held_up.len(), "users are held up"));
        }
        let refused = self.refused.iter().map(|errand| errand.problem.clone());
        told.extend(refused.take(MAX_NAMED));
        told.extend(more(self.refused.len(), "requests were refused"));
        told
    }
}

/// What is said of those beyond the named ones.
fn more(all: usize, what: &str) -> Option<String> {
    let more = all.checked_sub(MAX_NAMED).filter(|more| *more > 0);
    more.map(|more| format!("{more} more {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_takes_nothing_is_said_once_instead_of_whom_it_holds_up() {
        let alice: Nick = "alice".parse().unwrap();
        let mut problems = Problems::default();
        let reason = "NATS: not connected".to_owned();
        problems.set_log("hub:7667", &LogHealth::Away { reason });
        let pause = Duration::from_secs(1);
        let Event::HeldUp { reason, .. } = problems.hold_up(&alice, "not yet".to_owned(), pause)
        else {
            panic!("something else is told");
        };
        let expected = "server hub:7667 is reached, but its log is not (NATS: not connected)";
        assert_eq!(reason, expected);
        let told = [problems.all(), problems.of(&alice, |_| true)];
        for told in told {
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].starts_with(expected), "{told:?}");
        }
        problems.set_log("hub:7667", &LogHealth::Well);
        assert_eq!(problems.all(), ["messages of alice are held up: not yet"]);
    }

    #[test]
    fn nobody_hears_with_whom_or_where_others_of_the_host_talk() {
        let [alice, carol] = ["alice", "carol"].map(|nick| nick.parse::<Nick>().unwrap());
        let mut problems = Problems::default();
        problems.set("disk", "the disk is full".to_owned());
        let reason = "alice@ada,bob@bee gets more than 2 messages a second".to_owned();
        problems.hold_up(&alice, reason, Duration::from_secs(1));
        let refused = |room: &str, nick: Option<&Nick>| RefusedErrand {
            room: room.parse().unwrap(),
            nick: nick.cloned(),
            problem: format!("the server refused {room}"),
        };
        problems.set_refused(vec![
            refused("#secret", Some(&alice)),
            refused("alice@ada,bob@bee", None),
        ]);
        let told = problems.of(&carol, |_| false).join("\n");
        assert!(told.contains("disk is full") && told.contains("another user"));
        for name in ["alice", "bob", "#secret"] {
            assert!(!told.contains(name), "{told}");
        }
        let told = problems.of(&alice, |_| true);
        assert!(told[1].contains("more than 2 messages"), "{told:?}");
        assert!(
            told[2].contains("#secret (and 1 more like this)"),
            "{told:?}"
        );
        assert_eq!(problems.all().len(), 4);
        problems.free(&alice);
        problems.set_refused(Vec::new());
        assert_eq!(problems.of(&carol, |_| true), ["the disk is full"]);
    }
}
