//! The topics that users of this host have set, so that a server cannot set one in their name.

use protocol::{FederatedRoom, Nick};
use std::collections::VecDeque;

/// Topics that are remembered: each is heard of again within moments, so more are not on their way.
const REMEMBERED: usize = 256;

/// What was set last.
#[derive(Debug, Default)]
pub(super) struct OwnTopics {
    recent: VecDeque<(FederatedRoom, Nick, String)>,
}

impl OwnTopics {
    /// `nick` asks the server for this topic.
    pub(super) fn note(&mut self, room: &FederatedRoom, nick: &Nick, topic: &str) {
        if self.knows(room, nick, topic) {
            return;
        }
        if self.recent.len() >= REMEMBERED {
            self.recent.pop_front();
        }
        let noted = (room.clone(), nick.clone(), topic.to_owned());
        self.recent.push_back(noted);
    }

    /// Whether `nick` has set this topic, as far as is known.
    pub(super) fn knows(&self, room: &FederatedRoom, nick: &Nick, topic: &str) -> bool {
        let mut recent = self.recent.iter();
        recent.any(|(where_, who, what)| where_ == room && who == nick && what == topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_known_and_the_oldest_is_forgotten() {
        let mut topics = OwnTopics::default();
        let ops = FederatedRoom::parse("#ops").unwrap();
        let alice = "alice".parse().unwrap();
        let bob = "bob".parse().unwrap();
        topics.note(&ops, &alice, "0");
        assert!(topics.knows(&ops, &alice, "0"));
        assert!(!topics.knows(&ops, &bob, "0"));
        assert!(!topics.knows(&ops, &alice, "1"));
        for number in 0..=REMEMBERED {
            topics.note(&ops, &alice, &number.to_string());
        }
        assert!(!topics.knows(&ops, &alice, "0"));
        assert!(topics.knows(&ops, &alice, "1"));
    }
}
