//! Which subject of the stream is whose.
//!
//! ```text
//! <stream>.<bucket>.<room>.m.<id>      what was said, under the message's id
//! <stream>.<bucket>.<room>.c.<what>    a command about the room; of an act its id
//! <stream>.<bucket>.<room>.t.<id>      what remains of a message that was erased
//! <stream>.-.-.c.<what>                a command that is about no room
//! ```
//!
//! `bucket` is two digits of a hash of the room, so that many rooms can be had by a few filters.
//! `room` is its name, with all but ASCII letters, digits, `-` and `_` as `%XX`. `id` has 32
//! hexadecimal digits, which no other word under a room has.

use protocol::{MessageId, Room};
use std::fmt::Write;

/// The subjects of one stream.
#[derive(Debug, Clone)]
pub(super) struct Subjects {
    root: String,
}

/// What a subject stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Something that was said.
    Said {
        /// Where.
        room: Room,
        /// Its id.
        id: MessageId,
    },
    /// A command.
    Command,
    /// What remains of something that was said.
    Tombstone {
        /// Where.
        room: Room,
        /// Its id.
        id: MessageId,
    },
}

impl Subjects {
    /// Those of the stream of this name.
    pub(super) fn new(stream: &str) -> Self {
        Self {
            root: stream.to_owned(),
        }
    }

    /// Everything.
    pub(super) fn all(&self) -> String {
        format!("{}.>", self.root)
    }

    /// All commands.
    pub(super) fn commands(&self) -> String {
        format!("{}.*.*.c.>", self.root)
    }

    /// All commands about `room`.
    pub(super) fn commands_about(&self, room: &Room) -> String {
        format!("{}.c.>", self.of(room))
    }

    /// A command about `room`; `what` is a word or an act's id.
    pub(super) fn command(&self, room: &Room, what: &str) -> String {
        format!("{}.c.{what}", self.of(room))
    }

    /// A command that is about no room.
    pub(super) fn command_about_none(&self, what: &str) -> String {
        format!("{}.-.-.c.{what}", self.root)
    }

    /// What remains of all messages of all rooms.
    pub(super) fn tombstones(&self) -> String {
        format!("{}.*.*.t.>", self.root)
    }

    /// All that was said in `room`.
    pub(super) fn said(&self, room: &Room) -> String {
        format!("{}.m.>", self.of(room))
    }

    /// All that was said in the rooms of a bucket.
    pub(super) fn said_in(&self, bucket: u8) -> String {
        format!("{}.{bucket:02x}.*.m.>", self.root)
    }

    /// One message.
    pub(super) fn message(&self, room: &Room, id: MessageId) -> String {
        format!("{}.m.{}", self.of(room), hex(id))
    }

    /// What remains of it when it is erased.
    pub(super) fn tombstone(&self, room: &Room, id: MessageId) -> String {
        format!("{}.t.{}", self.of(room), hex(id))
    }

    /// Whatever has this id in `room`: a message, an act, or what remains of a message.
    pub(super) fn known(&self, room: &Room, id: MessageId) -> String {
        format!("{}.*.{}", self.of(room), hex(id))
    }

    /// The filter of [`Subjects::known`] that matches `subject`, which is one under a room.
    pub(super) fn known_by(subject: &str) -> Option<String> {
        let (rest, word) = subject.rsplit_once('.')?;
        let (room, _kind) = rest.rsplit_once('.')?;
        Some(format!("{room}.*.{word}"))
    }

    /// What `subject` stands for; `None` if it is none of ours.
    pub(super) fn parse(&self, subject: &str) -> Option<Place> {
        let rest = subject.strip_prefix(&self.root)?.strip_prefix('.')?;
        let (_bucket, rest) = rest.split_once('.')?;
        let (room, rest) = rest.split_once('.')?;
        let (kind, word) = rest.split_once('.')?;
        if kind == "c" {
            return Some(Place::Command);
        }
        let room = Room::parse(&decode(room)?).ok()?;
        let number = u128::from_str_radix(word, 16).ok()?;
        let id = MessageId::from_bytes(number.to_be_bytes());
        match kind {
            "m" => Some(Place::Said { room, id }),
            "t" => Some(Place::Tombstone { room, id }),
            _ => None,
        }
    }

    fn of(&self, room: &Room) -> String {
        format!(
            "{}.{:02x}.{}",
            self.root,
            bucket(room),
            encode(room.as_str())
        )
    }
}

/// Which bucket `room` is in: FNV-1a, which no version of anything changes.
pub(super) fn bucket(room: &Room) -> u8 {
    let hash = room.as_str().bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    (hash >> 24) as u8
}

/// `id` as in subjects.
pub(super) fn hex(id: MessageId) -> String {
    format!("{:032x}", u128::from_be_bytes(id.to_bytes()))
}

fn encode(text: &str) -> String {
    let mut token = String::with_capacity(text.len() + 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            token.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(token, "%{byte:02X}");
        }
    }
    token
}

/// The text that `token` stands for, with `%XX` for some of its bytes; `None` if it stands for none.
pub(super) fn decode(token: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
        bytes.push(u8::try_from(high << 4 | low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_names_its_room_and_message_whatever_they_are_called() {
        let subjects = Subjects::new("chat");
        let id = MessageId::new();
        for name in ["#ops", "#größe.2", "alice@ada,bob@bee", "#a_b-c", "#世界"] {
            let room: Room = name.parse().unwrap();
            let subject = subjects.message(&room, id);
            assert_eq!(subject.split('.').count(), 5, "{subject}");
            assert!(subject.is_ascii(), "{subject}");
            let said = Place::Said {
                room: room.clone(),
                id,
            };
            assert_eq!(subjects.parse(&subject), Some(said));
            let gone = Place::Tombstone {
                room: room.clone(),
                id,
            };
            assert_eq!(subjects.parse(&subjects.tombstone(&room, id)), Some(gone));
            for known in [&subject, &subjects.tombstone(&room, id)] {
                assert_eq!(Subjects::known_by(known), Some(subjects.known(&room, id)));
            }
            let command = subjects.command(&room, "join");
            assert_eq!(subjects.parse(&command), Some(Place::Command));
        }
    }

    #[test]
    fn subjects_stay_what_they_are() {
        let subjects = Subjects::new("chat");
        let room: Room = "#ops".parse().unwrap();
        let id = MessageId::from_bytes([0x0a; 16]);
        assert_eq!(
            subjects.message(&room, id),
            "chat.dc.%23ops.m.0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a"
        );
    }

    #[test]
    fn what_is_not_ours_is_not_taken_for_it() {
        let subjects = Subjects::new("chat");
        for other in [
            "chat",
            "chat.x",
            "other.dc.%23ops.m.00",
            "chat.dc.ops.m.00",
            "chat.dc.%23ops.m.xy",
            "chat.dc.%2.m.00",
            "chat.dc.%23ops.z.00",
        ] {
            assert_eq!(subjects.parse(other), None, "{other}");
        }
    }
}
