//! What an agent may say and ask, as far as its host and the request alone decide it.

use protocol::{
    BodyError, HostName, MessageId, Outgoing, Room, UserName,
    federation::{LimitedText, Refusal},
    governance::Act,
    limits::{MAX_SOFTWARE_BYTES, MAX_TOPIC_BYTES},
};

/// Whether the agent of `host` may append `message`.
///
/// # Errors
///
/// The [`Refusal`] to answer.
pub(crate) fn append(host: &HostName, message: &Outgoing) -> Result<(), Refusal> {
    let own = message.author.host == *host;
    let reachable = match &message.room {
        Room::Federated(_) => true,
        Room::Local(_) => false,
        // What stays on one host is its agent's alone.
        Room::Direct(direct) => direct.includes(&message.author) && !message.room.is_local_to(host),
    };
    if !own || !reachable {
        return Err(not_yours(host, &message.room));
    }
    message.body.check().map_err(|error| match error {
        BodyError::TooLong { len, max } => too_long(LimitedText::Body, len, max),
        _ => Refusal::BadText {
            what: LimitedText::Body,
        },
    })?;
    if !message.body.may_be_said() {
        // Acts are the server's to write.
        return Err(not_yours(host, &message.room));
    }
    id(message.id, &message.author)
}

/// Whether `author` may use `id`: nobody takes the id of somebody else's key before them.
fn id(id: MessageId, author: &UserName) -> Result<(), Refusal> {
    if id.may_be_of(author) {
        return Ok(());
    }
    let author = author.clone();
    Err(Refusal::IdOfAnother { id, author })
}

/// Whether a user of `host` may ask for `act` in `room` under `act_id`, as far as what they are there
/// does not matter.
///
/// # Errors
///
/// The [`Refusal`] to answer.
pub(crate) fn govern(
    host: &HostName,
    room: &Room,
    user: &UserName,
    act_id: MessageId,
    act: &Act,
) -> Result<(), Refusal> {
    let allowed = match room {
        Room::Federated(_) => true,
        Room::Local(_) => false,
        Room::Direct(direct) => {
            matches!(act, Act::Erase { .. }) && direct.includes(user) && !room.is_local_to(host)
        }
    };
    if allowed {
        id(act_id, user)
    } else {
        Err(not_yours(host, room))
    }
}

/// Whether the agent of `host` may read `room`.
///
/// # Errors
///
/// The [`Refusal`] to answer.
pub(crate) fn read(host: &HostName, room: &Room) -> Result<(), Refusal> {
    let readable = match room {
        Room::Federated(_) => true,
        Room::Local(_) => false,
        Room::Direct(direct) => direct.touches(host) && !room.is_local_to(host),
    };
    if readable {
        Ok(())
    } else {
        Err(not_yours(host, room))
    }
}

/// Whether `topic` can be one; the empty one removes it.
///
/// # Errors
///
/// The [`Refusal`] to answer.
pub(crate) fn topic(topic: &str) -> Result<(), Refusal> {
    text(LimitedText::Topic, topic, MAX_TOPIC_BYTES)
}

/// Whether `software` can describe an agent in logs.
///
/// # Errors
///
/// The [`Refusal`] to answer.
pub(crate) fn software(software: &str) -> Result<(), Refusal> {
    text(LimitedText::Software, software, MAX_SOFTWARE_BYTES)
}

fn text(what: LimitedText, text: &str, max: usize) -> Result<(), Refusal> {
    if text.len() > max {
        return Err(too_long(what, text.len(), max));
    }
    if text.chars().any(char::is_control) {
        return Err(Refusal::BadText { what });
    }
    Ok(())
}

fn too_long(what: LimitedText, len: usize, max: usize) -> Refusal {
    let short = |number| u32::try_from(number).unwrap_or(u32::MAX);
    Refusal::TooLong {
        what,
        len: short(len),
        max: short(max),
    }
}

fn not_yours(host: &HostName, room: &Room) -> Refusal {
    Refusal::NotYours {
        host: host.clone(),
        room: room.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Content, Timestamp};

    fn message(author: &str, room: &str) -> Outgoing {
        Outgoing {
            id: MessageId::new(),
            room: room.parse().unwrap(),
            author: author.parse().unwrap(),
            sent_at: Timestamp::from_micros(1),
            body: Content::Text("hello".to_owned()).encode().unwrap(),
        }
    }

    #[test]
    fn an_agent_speaks_for_its_own_users_where_they_may() {
        let ada: HostName = "ada".parse().unwrap();
        for (author, room, allowed) in [
            ("alice@ada", "#ops", true),
            ("bob@bee", "#ops", false),
            ("alice@ada", "&lobby", false),
            ("alice@ada", "alice@ada,bob@bee", true),
            ("carl@ada", "alice@ada,bob@bee", false),
            ("bob@bee", "alice@ada,bob@bee", false),
            ("alice@ada", "alice@ada,carl@ada", false),
        ] {
            let judged = append(&ada, &message(author, room));
            assert_eq!(judged.is_ok(), allowed, "{author} {room}");
        }
    }

    #[test]
    fn an_agent_cannot_say_what_only_the_server_says() {
        let ada: HostName = "ada".parse().unwrap();
        for content in [Content::Act(Act::Left), Content::Erased] {
            let mut forged = message("alice@ada", "#ops");
            forged.body = content.encode().unwrap();
            assert!(append(&ada, &forged).is_err(), "{content:?}");
        }
    }

    #[test]
    fn nobody_takes_the_id_of_somebody_else_s_key_before_them() {
        let bee: HostName = "bee".parse().unwrap();
        let (alice, ops) = ("alice@ada".parse().unwrap(), "#ops".parse().unwrap());
        let mut stolen = message("mallory@bee", "#ops");
        stolen.id = MessageId::from_key(&alice, &ops, "deploy-7");
        assert!(matches!(
            append(&bee, &stolen),
            Err(Refusal::IdOfAnother { .. })
        ));
        stolen.author = alice;
        let ada = stolen.author.host.clone();
        assert_eq!(append(&ada, &stolen), Ok(()));
    }

    #[test]
    fn an_agent_reads_what_concerns_its_host() {
        let ada: HostName = "ada".parse().unwrap();
        for (room, allowed) in [
            ("#ops", true),
            ("&lobby", false),
            ("alice@ada,bob@bee", true),
            ("bob@bee,carl@cat", false),
            ("alice@ada,carl@ada", false),
        ] {
            assert_eq!(
                read(&ada, &room.parse().unwrap()).is_ok(),
                allowed,
                "{room}"
            );
        }
    }

    #[test]
    fn texts_are_short_and_without_control_characters() {
        assert_eq!(topic(""), Ok(()));
        assert_eq!(topic(&"x".repeat(MAX_TOPIC_BYTES)), Ok(()));
        assert!(matches!(
            topic(&"x".repeat(MAX_TOPIC_BYTES + 1)),
            Err(Refusal::TooLong {
                len: 513,
                max: 512,
                ..
            })
        ));
        assert!(matches!(
            software("chat\u{1b}[2J"),
            Err(Refusal::BadText { .. })
        ));
    }
}
