//! What tells whether a room is what it was: how many messages it has, and a digest over all of it.

use crate::log::RoomState;
use protocol::{Committed, UserName};
use sha2::{Digest, Sha256};
use std::fmt;

/// A room so far.
///
/// The digest is the SHA-256 over four others, one behind the other: of what is known of the room, of its
/// members, of those who were kicked, and of its messages in their order (docs/export.md). Where a
/// message stands is not part of it: another log has other places.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    state: Sha256,
    members: Sha256,
    kicked: Sha256,
    messages: Sha256,
    count: u64,
}

/// All of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) messages: u64,
    /// In hexadecimal digits.
    pub(super) sha256: String,
}

impl Tally {
    /// A room of which this is known.
    pub(super) fn new(state: &RoomState) -> Self {
        let founder = state.founder.as_ref().map(ToString::to_string);
        let founder = founder.unwrap_or_default();
        let charter = state.charter.as_ref().map(|charter| charter.0.clone());
        let mut digest = Sha256::new();
        for part in [
            state.topic.as_bytes(),
            founder.as_bytes(),
            &charter.unwrap_or_default(),
        ] {
            add(&mut digest, part);
        }
        Self {
            state: digest,
            members: Sha256::new(),
            kicked: Sha256::new(),
            messages: Sha256::new(),
            count: 0,
        }
    }

    /// The next people, both in order of name.
    pub(super) fn add_people(&mut self, members: &[UserName], kicked: &[UserName]) {
        for (digest, users) in [(&mut self.members, members), (&mut self.kicked, kicked)] {
            for user in users {
                add(digest, user.to_string().as_bytes());
            }
        }
    }

    /// The next message.
    pub(super) fn add(&mut self, message: &Committed) {
        self.count += 1;
        let digest = &mut self.messages;
        digest.update(message.id.to_bytes());
        digest.update(message.sent_at.micros().to_be_bytes());
        digest.update(message.committed_at.micros().to_be_bytes());
        add(digest, message.author.to_string().as_bytes());
        add(digest, message.body.as_bytes());
    }

    pub(super) fn sum(self) -> Sum {
        let mut all = Sha256::new();
        for part in [self.state, self.members, self.kicked, self.messages] {
            all.update(part.finalize());
        }
        Sum {
            messages: self.count,
            sha256: hexadecimal(all),
        }
    }
}

/// Adds `bytes` with their number before them.
fn add(digest: &mut Sha256, bytes: &[u8]) {
    // Nothing of a room is longer than that.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    digest.update(length.to_be_bytes());
    digest.update(bytes);
}

/// What `digest` comes to.
pub(super) fn hexadecimal(digest: Sha256) -> String {
    data_encoding::HEXLOWER.encode(&digest.finalize())
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, sha256 } = self;
        let some = sha256.get(..12).unwrap_or(sha256);
        write!(f, "{messages} messages ({some}…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Content, MessageId, Room, Seq, Timestamp};

    fn message(number: u8) -> Committed {
        Committed {
            room: Room::parse("#ops").unwrap(),
            seq: Seq::new(number.into()),
            prev_seq: Seq::START,
            committed_at: Timestamp::from_micros(2),
            id: MessageId::from_bytes([number; 16]),
            author: "alice@ada".parse().unwrap(),
            sent_at: Timestamp::from_micros(1),
            body: Content::Text("hello".to_owned()).encode().unwrap(),
        }
    }

    fn sum(messages: &[Committed]) -> Sum {
        let mut tally = Tally::new(&RoomState::default());
        messages.iter().for_each(|message| tally.add(message));
        tally.sum()
    }

    #[test]
    fn another_order_or_another_word_is_another_sum_and_another_place_is_not() {
        let (one, two) = (message(1), message(2));
        let first = sum(&[one.clone(), two.clone()]);
        assert_ne!(sum(&[two.clone(), one.clone()]), first);
        assert_ne!(sum(std::slice::from_ref(&one)), first);
        let mut other = two.clone();
        other.body = Content::Text("hullo".to_owned()).encode().unwrap();
        assert_ne!(sum(&[one.clone(), other]), first);
        let mut elsewhere = two;
        elsewhere.seq = Seq::new(99);
        assert_eq!(sum(&[one, elsewhere]), first);
    }

    #[test]
    fn a_room_with_other_people_or_another_topic_has_another_sum_however_many_lines_tell_of_them() {
        let users = ["alice@ada", "bob@bee"].map(|name| name.parse().unwrap());
        let people = |parts: &[(&[UserName], &[UserName])]| {
            let mut tally = Tally::new(&RoomState::default());
            for (members, kicked) in parts {
                tally.add_people(members, kicked);
            }
            tally.sum()
        };
        let both = people(&[(&users, &[])]);
        assert_eq!(people(&[(&users[..1], &[]), (&users[1..], &[])]), both);
        assert_ne!(people(&[(&users[..1], &users[1..])]), both);
        let state = RoomState {
            topic: "on call".to_owned(),
            ..RoomState::default()
        };
        assert_ne!(
            Tally::new(&state).sum(),
            Tally::new(&RoomState::default()).sum()
        );
    }
}
