//! What the server must be told of this host's people: the difference between two rolls.

use crate::hub::Roll;
use protocol::{Availability, Nick, Room};

/// One thing to tell the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// Somebody became a member.
    Joined(Room, Nick),
    /// Somebody's membership ended.
    Left(Room, Nick),
    /// Nobody of this host is in the room any more.
    Abandoned(Room),
    /// Somebody is there, away, or gone.
    Presence(Nick, Availability),
}

/// What changed from `before` to `now`.
pub(super) fn news(before: &Roll, now: &Roll) -> Vec<News> {
    let is_in = |roll: &Roll, room: &Room, nick: &Nick| {
        roll.members
            .get(room)
            .is_some_and(|nicks| nicks.contains(nick))
    };
    let mut news = Vec::new();
    for (room, nicks) in &now.members {
        let new = nicks.iter().filter(|nick| !is_in(before, room, nick));
        news.extend(new.map(|nick| News::Joined(room.clone(), nick.clone())));
    }
    for (room, nicks) in &before.members {
        let gone = nicks.iter().filter(|nick| !is_in(now, room, nick));
        news.extend(gone.map(|nick| News::Left(room.clone(), nick.clone())));
        if !now.members.contains_key(room) {
            news.push(News::Abandoned(room.clone()));
        }
    }
    for (nick, availability) in &now.present {
        if before.present.get(nick) != Some(availability) {
            news.push(News::Presence(nick.clone(), *availability));
        }
    }
    let gone = before
        .present
        .keys()
        .filter(|nick| !now.present.contains_key(*nick));
    news.extend(gone.map(|nick| News::Presence(nick.clone(), Availability::Offline)));
    news
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn nick(text: &str) -> Nick {
        text.parse().unwrap()
    }

    fn roll(members: &[(&str, &[&str])], present: &[(&str, Availability)]) -> Roll {
        let nicks = |nicks: &[&str]| nicks.iter().map(|text| nick(text)).collect::<BTreeSet<_>>();
        Roll {
            members: members
                .iter()
                .map(|(r, n)| (r.parse().unwrap(), nicks(n)))
                .collect(),
            present: present.iter().map(|(n, a)| (nick(n), *a)).collect(),
            ..Roll::default()
        }
    }

    #[test]
    fn only_what_changed_is_told() {
        let before = roll(
            &[("#ops", &["alice", "bob"]), ("#old", &["bob"])],
            &[
                ("alice", Availability::Online),
                ("bob", Availability::Online),
            ],
        );
        let now = roll(
            &[("#ops", &["alice", "carol"])],
            &[
                ("alice", Availability::Away),
                ("carol", Availability::Online),
            ],
        );
        let (ops, old): (Room, Room) = ("#ops".parse().unwrap(), "#old".parse().unwrap());
        assert_eq!(
            news(&before, &now),
            [
                News::Joined(ops.clone(), nick("carol")),
                News::Left(old.clone(), nick("bob")),
                News::Abandoned(old),
                News::Left(ops, nick("bob")),
                News::Presence(nick("alice"), Availability::Away),
                News::Presence(nick("carol"), Availability::Online),
                News::Presence(nick("bob"), Availability::Offline),
            ]
        );
        assert_eq!(news(&now, &now), []);
    }
}
