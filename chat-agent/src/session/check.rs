//! What a request may name, checked before anything is done.

use crate::hub::Hub;
use protocol::{
    Content, Cursor, Direct, MessageId, Room, ServerAddress, UserName,
    limits::{MAX_SERVER_ADDRS, MAX_TOPIC_BYTES},
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

/// Whether `user` may use `id`: nobody takes the id of somebody else's key before them.
pub(super) fn may_name(id: MessageId, user: &UserName) -> Result<(), Refusal> {
    if id.may_be_of(user) {
        return Ok(());
    }
    let user = user.clone();
    Err(Refusal::IdOfAnother { id, user })
}

/// Whether people and programs may say this.
pub(super) fn may_say(content: &Content) -> Result<(), Refusal> {
    if content.may_be_said() {
        return Ok(());
    }
    Err(Refusal::BadBody {
        reason: "only whoever keeps a room says who may do what there".to_owned(),
    })
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

/// The servers that somebody names for this host.
pub(super) fn check_servers(servers: &[String]) -> Result<Vec<ServerAddress>, Refusal> {
    let bad = |reason| Refusal::BadText { reason };
    if servers.is_empty() || servers.len() > MAX_SERVER_ADDRS {
        return Err(bad(format!(
            "give 1 to {MAX_SERVER_ADDRS} servers, not {}",
            servers.len()
        )));
    }
    let parsed = servers.iter().map(|server| ServerAddress::parse(server));
    parsed
        .collect::<Result<_, _>>()
        .map_err(|error| bad(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_to_sixteen_servers() {
        let check = |count| check_servers(&vec!["hub".to_owned(); count]);
        assert_eq!(check(1).unwrap()[0].place(), "hub:7667");
        assert!(check(0).is_err());
        assert!(check(MAX_SERVER_ADDRS + 1).is_err());
        let refused = check_servers(&["a b".to_owned()]).unwrap_err().to_string();
        assert!(refused.contains("\"a b\" is no server"), "{refused}");
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
