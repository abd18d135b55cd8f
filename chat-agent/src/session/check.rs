//! What a request may name, checked before anything is done.

use crate::hub::Hub;
use protocol::{
    Cursor, Direct, Room, UserName,
    limits::{DEFAULT_PORT, MAX_SERVER_ADDR_BYTES, MAX_SERVER_ADDRS, MAX_TOPIC_BYTES},
    local::Refusal,
};

/// Whether `user` may read and write here: everybody in rooms, the two ends in a conversation.
pub(super) fn may_use(room: &Room, user: &UserName) -> Result<(), Refusal> {
    match room {
        Room::Direct(direct) if !Direct::includes(direct, user) => Err(Refusal::NotYours {
            room: room.clone(),
            user: user.clone(),
        }),
        _ => Ok(()),
    }
}

/// Whether `user` reads this life of the room's log, so that there can be a marker in it.
pub(super) fn may_mark(
    hub: &Hub,
    room: &Room,
    user: &UserName,
    cursor: Cursor,
) -> Result<(), Refusal> {
    may_use(room, user)?;
    let (room, user) = (room.clone(), user.clone());
    if !matches!(room, Room::Direct(_)) && !hub.is_member(&room, &user.nick) {
        return Err(Refusal::Left { room, user });
    }
    let current = hub.epoch_of(&room);
    if cursor.epoch != current {
        return Err(Refusal::EpochChanged {
            room,
            given: cursor.epoch,
            current,
        });
    }
    Ok(())
}

/// Whether there can be members here; `lack` is what a conversation cannot do or have without.
pub(super) fn is_joinable(room: &Room, user: &UserName, lack: &'static str) -> Result<(), Refusal> {
    may_use(room, user)?;
    match room {
        Room::Direct(_) => Err(Refusal::BadText {
            reason: format!("a conversation with {} {lack}", room.seen_by(user)),
        }),
        Room::Federated(_) | Room::Local(_) => Ok(()),
    }
}

/// Whether OS user `uid` may change the server of the whole host.
pub(super) const fn may_federate(uid: u32, owner: u32) -> Result<(), Refusal> {
    if uid == owner {
        Ok(())
    } else {
        Err(Refusal::NotOwner { uid, owner })
    }
}

pub(super) fn check_topic(topic: &str) -> Result<(), Refusal> {
    let reason = if topic.len() > MAX_TOPIC_BYTES {
        format!(
            "a topic is at most {MAX_TOPIC_BYTES} bytes, this one has {}",
            topic.len()
        )
    } else if let Some(found) = topic.chars().find(|c| c.is_control()) {
        format!("a topic cannot contain {found:?}")
    } else {
        return Ok(());
    };
    Err(Refusal::BadText { reason })
}

/// Checks `HOST[:PORT]`s and adds the default port.
pub(crate) fn check_servers(servers: Vec<String>) -> Result<Vec<String>, Refusal> {
    let bad = |reason| Err(Refusal::BadText { reason });
    if servers.is_empty() || servers.len() > MAX_SERVER_ADDRS {
        return bad(format!(
            "give 1 to {MAX_SERVER_ADDRS} servers, not {}",
            servers.len()
        ));
    }
    let mut checked = Vec::with_capacity(servers.len());
    for server in servers {
        let is_plain = |text: &str| {
            text.chars()
                .all(|c| c.is_ascii_alphanumeric() || "-._:%".contains(c))
        };
        let (host, port) = match server.strip_prefix('[') {
            Some(rest) => match rest.split_once(']') {
                Some((host, "")) => (host, None),
                Some((host, port)) => (host, port.strip_prefix(':')),
                None => ("", None),
            },
            None => match server.split_once(':') {
                Some((host, port)) if !port.contains(':') => (host, Some(port)),
                Some(_) => (server.as_str(), None),
                None => (server.as_str(), None),
            },
        };
        let port = port.map_or(Ok(DEFAULT_PORT), str::parse);
        match port {
            Ok(port)
                if !host.is_empty() && is_plain(host) && server.len() <= MAX_SERVER_ADDR_BYTES =>
            {
                checked.push(if host.contains(':') {
                    format!("[{host}]:{port}")
                } else {
                    format!("{host}:{port}")
                });
            }
            _ => return bad(format!("{server:?} is not HOST or HOST:PORT")),
        }
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_hosts_with_or_without_a_port() {
        let check = |text: &str| check_servers(vec![text.to_owned()]).map(|mut all| all.remove(0));
        assert_eq!(check("ada"), Ok("ada:7667".to_owned()));
        assert_eq!(check("10.0.0.1:99"), Ok("10.0.0.1:99".to_owned()));
        assert_eq!(check("[::1]:99"), Ok("[::1]:99".to_owned()));
        assert_eq!(
            check("[fe80::1%eth0]"),
            Ok("[fe80::1%eth0]:7667".to_owned())
        );
        assert_eq!(check("::1"), Ok("[::1]:7667".to_owned()));
        for bad in [
            "",
            ":7667",
            "a b",
            "ada:",
            "ada:x",
            "ada:70000",
            "[::1",
            "a\nb",
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        assert!(check_servers(Vec::new()).is_err());
    }

    #[test]
    fn a_conversation_is_for_its_two_ends() {
        let user = |text: &str| UserName::parse(text).unwrap();
        let room = Room::parse("alice@ada,bob@ada").unwrap();
        assert_eq!(may_use(&room, &user("bob@ada")), Ok(()));
        assert!(matches!(
            may_use(&room, &user("eve@ada")),
            Err(Refusal::NotYours { .. })
        ));
    }

    #[test]
    fn a_conversation_has_no_topic_which_is_no_lack_of_a_right() {
        let room = Room::parse("alice@ada,bob@ada").unwrap();
        let me = UserName::parse("alice@ada").unwrap();
        let refused = is_joinable(&room, &me, "has no topic").unwrap_err();
        let words = "a conversation with bob has no topic";
        assert_eq!(refused.to_string(), words);
        assert!(!refused.is_permission());
        let eve = UserName::parse("eve@ada").unwrap();
        let refused = is_joinable(&room, &eve, "has no topic").unwrap_err();
        assert!(refused.is_permission(), "{refused}");
    }

    #[test]
    fn another_uid_than_the_agents_may_not_federate_the_host() {
        assert_eq!(may_federate(998, 998), Ok(()));
        let refused = may_federate(0, 998).unwrap_err();
        assert!(refused.is_permission());
        assert!(refused.to_string().contains("only uid 998"), "{refused}");
    }

    #[test]
    fn a_topic_is_one_short_line() {
        assert_eq!(check_topic("release on friday"), Ok(()));
        assert_eq!(check_topic(""), Ok(()));
        assert!(check_topic("a\nb").is_err());
        assert!(check_topic("\u{1b}[2J").is_err());
        assert!(check_topic(&"x".repeat(MAX_TOPIC_BYTES + 1)).is_err());
    }
}
