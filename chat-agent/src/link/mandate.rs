//! What a server may speak of: federated rooms, and conversations that cross from this host.
//!
//! Rooms and conversations that this agent orders itself are out of its reach, so that nothing it
//! says can end up among them.

use super::LinkError;
use protocol::{Committed, HostName, Room, federation::Event, limits::MAX_TOPIC_BYTES};

/// Whether the server may tell this agent, on `host`, of `event`.
///
/// # Errors
///
/// [`LinkError::OutOfPlace`] or [`LinkError::BadTopic`]; the server cannot be trusted then.
pub(super) fn check(host: &HostName, event: &Event) -> Result<(), LinkError> {
    match event {
        Event::Committed(message) => check_message(host, message),
        Event::DirectOpened { conversation } => check_direct(host, conversation),
        Event::Topic { topic, .. } => check_topic(topic),
        // What else names a room names a federated one, by its type.
        _ => Ok(()),
    }
}

/// Whether the server may name `room` as a conversation of this host.
///
/// # Errors
///
/// [`LinkError::OutOfPlace`].
pub(super) fn check_direct(host: &HostName, room: &Room) -> Result<(), LinkError> {
    match room {
        Room::Direct(direct) if direct.touches(host) && !room.is_local_to(host) => Ok(()),
        _ => Err(LinkError::OutOfPlace(room.clone())),
    }
}

/// Whether `topic` can be one.
///
/// # Errors
///
/// [`LinkError::BadTopic`].
pub(super) fn check_topic(topic: &str) -> Result<(), LinkError> {
    if topic.len() > MAX_TOPIC_BYTES || topic.chars().any(char::is_control) {
        return Err(LinkError::BadTopic);
    }
    Ok(())
}

fn check_message(host: &HostName, message: &Committed) -> Result<(), LinkError> {
    match &message.room {
        Room::Federated(_) => Ok(()),
        Room::Direct(direct) if direct.includes(&message.author) => {
            check_direct(host, &message.room)
        }
        room => Err(LinkError::OutOfPlace(room.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Content, MessageId, Seq, Timestamp};

    fn committed(room: &str, author: &str) -> Event {
        Event::Committed(Committed {
            room: room.parse().unwrap(),
            seq: Seq::new(1),
            prev_seq: Seq::START,
            committed_at: Timestamp::from_micros(1),
            id: MessageId::new(),
            author: author.parse().unwrap(),
            sent_at: Timestamp::from_micros(1),
            body: Content::Text("hello".to_owned()).encode().unwrap(),
        })
    }

    #[test]
    fn a_server_speaks_of_federated_rooms_and_conversations_that_leave_the_host() {
        let ada: HostName = "ada".parse().unwrap();
        for (room, author, allowed) in [
            ("#ops", "bob@bee", true),
            ("&lobby", "alice@ada", false),
            ("alice@ada,bob@bee", "bob@bee", true),
            ("alice@ada,bob@bee", "carl@cat", false),
            ("alice@ada,bob@ada", "bob@ada", false),
            ("bob@bee,carl@cat", "bob@bee", false),
        ] {
            let judged = check(&ada, &committed(room, author));
            assert_eq!(judged.is_ok(), allowed, "{author} in {room}");
        }
        for (room, allowed) in [
            ("#ops", false),
            ("alice@ada,bob@bee", true),
            ("alice@ada,bob@ada", false),
        ] {
            let conversation: Room = room.parse().unwrap();
            let judged = check(&ada, &Event::DirectOpened { conversation });
            assert_eq!(judged.is_ok(), allowed, "{room}");
        }
        assert!(check_topic("on call: bob").is_ok());
        assert!(check_topic("\u{1b}[2J").is_err());
    }
}
