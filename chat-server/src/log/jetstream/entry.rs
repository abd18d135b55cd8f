//! What is written into the stream, and how.
//!
//! A message is its body, byte for byte as its agent encoded it, with author and time beside it in
//! headers; room and id are in its subject. A command is JSON: there are few, and whoever looks into
//! the stream can read them.

use super::subject::{Subjects, hex};
use crate::{
    log::{Encoded, RoomState},
    nats::{Entry, Stored, number, text},
};
use async_nats::HeaderMap;
use bytes::Bytes;
use protocol::{
    ACT_TAG, Committed, EncodedBody, FederatedRoom, HostName, MessageId, Outgoing, Room, Seq,
    Timestamp, UserName, governance::Act,
};
use serde::{Deserialize, Serialize};

/// The version of what is written here; a stream says which one it has.
pub(super) const FORMAT: &str = "1";

const AUTHOR: &str = "Chat-Author";
const SENT_AT: &str = "Chat-Sent-At";
const ORIGIN: &str = "Chat-Origin";
const TICKET: &str = "Chat-Ticket";
/// When a message got its place in the log that it was moved here from.
const COMMITTED_AT: &str = "Chat-Committed-At";
const FIRST_SEQ: &str = "Chat-First-Seq";

/// Something that all servers do, in the order of the stream. Variants are only ever added: a server
/// that does not know one ends, as it would not be of one mind with the others any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Command {
    /// A room is made by its first message.
    Found {
        /// Which.
        room: Room,
        /// By whom.
        by: UserName,
    },
    /// Somebody becomes a member.
    Join {
        /// Where.
        room: FederatedRoom,
        /// Who.
        user: UserName,
    },
    /// A membership ends.
    Leave {
        /// Where.
        room: FederatedRoom,
        /// Whose.
        user: UserName,
        /// The id of the act, if the room is one that says so.
        id: MessageId,
    },
    /// A topic is set.
    Topic {
        /// Where.
        room: FederatedRoom,
        /// By whom.
        user: UserName,
        /// Which.
        topic: String,
    },
    /// Something is done with a room's charter, or messages are erased.
    Act {
        /// Where.
        room: Room,
        /// By whom.
        user: UserName,
        /// The act's id.
        id: MessageId,
        /// What.
        act: Act,
        /// Whether the entry before this one keeps a place for the act that must come first.
        placed: bool,
        /// What there is of the messages that are to be erased.
        found: Vec<Found>,
    },
    /// Keeps a place for an act of the next entry.
    Place {
        /// Where.
        room: Room,
    },
    /// The author of a message has taken it back.
    TakenBack {
        /// Where.
        room: Room,
        /// Who.
        by: UserName,
        /// Which.
        id: MessageId,
        /// What there is of it.
        found: Vec<Found>,
    },
    /// Where erased messages were need not be known any more.
    Retired {
        /// Where.
        room: Room,
        /// The last of them.
        up_to: Seq,
    },
    /// A room was moved here from another log.
    Restored {
        /// Which.
        room: Room,
        /// What was known of it.
        state: RoomState,
    },
    /// People of a room that was moved here.
    RestoredPeople {
        /// Which room.
        room: Room,
        /// Who is in it.
        members: Vec<UserName>,
        /// Who was kicked, and does not know yet.
        kicked: Vec<UserName>,
    },
    /// An act, or what remains of an erased message, that was moved here. What it did is done.
    Record {
        /// Where.
        room: Room,
        /// Its id.
        id: MessageId,
        /// Whose it is.
        author: UserName,
        /// When it was sent.
        sent_at: Timestamp,
        /// When it got its place in the log that it comes from.
        committed_at: Timestamp,
        /// What it says.
        body: Encoded,
    },
    /// How many rooms the users of a host made in the log that was moved here.
    Made {
        /// Which host.
        host: HostName,
        /// How many.
        rooms: u32,
    },
}

/// A message as far as it concerns whoever erases it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) seq: Seq,
    pub(super) id: MessageId,
    pub(super) author: UserName,
    pub(super) sent_at: Timestamp,
    pub(super) committed_at: Timestamp,
    /// The message that this has other words for.
    pub(super) edits: Option<MessageId>,
}

/// A command in its place.
#[derive(Debug, Clone)]
pub(super) struct Ordered {
    pub(super) seq: Seq,
    pub(super) at: Timestamp,
    pub(super) command: Command,
}

impl Command {
    /// The room that this is about, if it is about one.
    fn room(&self) -> Option<Room> {
        match self {
            Self::Join { room, .. } | Self::Leave { room, .. } | Self::Topic { room, .. } => {
                Some(Room::Federated(room.clone()))
            }
            Self::Found { room, .. }
            | Self::Act { room, .. }
            | Self::Place { room }
            | Self::TakenBack { room, .. }
            | Self::Retired { room, .. }
            | Self::Restored { room, .. }
            | Self::RestoredPeople { room, .. }
            | Self::Record { room, .. } => Some(room.clone()),
            Self::Made { .. } => None,
        }
    }

    fn what(&self) -> String {
        let word = match self {
            // Under its id, so that no message gets the same.
            Self::Act { id, .. } => return hex(*id),
            Self::Record { id, body, .. } if body.0.first() == Some(&ACT_TAG) => return hex(*id),
            Self::Found { .. } => "found",
            Self::Join { .. } => "join",
            Self::Leave { .. } => "leave",
            Self::Topic { .. } => "topic",
            Self::Place { .. } => "place",
            Self::TakenBack { .. } => "taken-back",
            Self::Retired { .. } => "retired",
            Self::Restored { .. } | Self::RestoredPeople { .. } => "restored",
            Self::Record { .. } => "record",
            Self::Made { .. } => "made",
        };
        word.to_owned()
    }

    /// As an entry; whoever made it is told by `ticket` what came of it.
    pub(super) fn entry(
        &self,
        subjects: &Subjects,
        (instance, ticket): (&str, u64),
    ) -> Result<Entry, serde_json::Error> {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, instance);
        headers.insert(TICKET, ticket.to_string());
        Ok(Entry {
            subject: match self.room() {
                Some(room) => subjects.command(&room, &self.what()),
                None => subjects.command_about_none(&self.what()),
            },
            headers,
            payload: Bytes::from(serde_json::to_vec(self)?),
            unless: None,
        })
    }

    /// Reads what an entry holds.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(payload)
    }
}

/// Who waits for what comes of a command: the process, and its number there.
pub(super) fn ticket(headers: &HeaderMap) -> Option<(&str, u64)> {
    Some((text(headers, ORIGIN)?, number(headers, TICKET)?))
}

/// `message` as an entry that is stored only if nothing has its id in its room.
pub(super) fn said(subjects: &Subjects, message: &Outgoing) -> Entry {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHOR, message.author.to_string());
    headers.insert(SENT_AT, message.sent_at.micros().to_string());
    Entry {
        subject: subjects.message(&message.room, message.id),
        headers,
        payload: message.body.as_bytes().clone(),
        unless: Some(subjects.known(&message.room, message.id)),
    }
}

/// The same of a message that another log had ordered.
pub(super) fn restored(subjects: &Subjects, message: &Committed) -> Entry {
    let said = said(
        subjects,
        &Outgoing {
            id: message.id,
            room: message.room.clone(),
            author: message.author.clone(),
            sent_at: message.sent_at,
            body: message.body.clone(),
        },
    );
    let mut headers = said.headers;
    headers.insert(COMMITTED_AT, message.committed_at.micros().to_string());
    Entry { headers, ..said }
}

/// What remains of a message that is erased: that its author said something at its place.
pub(super) fn tombstone(subjects: &Subjects, room: &Room, found: &Remains) -> Entry {
    let mut headers = HeaderMap::new();
    if let Some(author) = &found.author {
        headers.insert(AUTHOR, author.to_string());
    }
    headers.insert(FIRST_SEQ, found.seq.number().to_string());
    let subject = subjects.tombstone(room, found.id);
    Entry {
        unless: Some(subject.clone()),
        subject,
        headers,
        payload: Bytes::new(),
    }
}

/// What is known of a message that was erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remains {
    pub(super) seq: Seq,
    pub(super) id: MessageId,
    /// Nobody knows it of a message that was kept for long enough in the log that it was moved from.
    pub(super) author: Option<UserName>,
}

/// Reads a message of `room`; it has no neighbour yet.
pub(super) fn read_said(
    (room, id): (Room, MessageId),
    (seq, at): (Seq, Timestamp),
    headers: &HeaderMap,
    payload: Bytes,
) -> Option<Committed> {
    Some(Committed {
        room,
        seq,
        prev_seq: Seq::START,
        committed_at: moved_at(headers).unwrap_or(at),
        id,
        author: UserName::parse(text(headers, AUTHOR)?).ok()?,
        sent_at: Timestamp::from_micros(number(headers, SENT_AT)?),
        body: EncodedBody::from_bytes(payload).ok()?,
    })
}

/// When a message was committed: in the log that it was moved from, if it was.
pub(super) fn committed_at(stored: &Stored) -> Timestamp {
    moved_at(&stored.headers).unwrap_or(stored.at)
}

fn moved_at(headers: &HeaderMap) -> Option<Timestamp> {
    number(headers, COMMITTED_AT).map(Timestamp::from_micros)
}

/// Reads what remains of message `id`.
pub(super) fn read_tombstone(id: MessageId, stored: &Stored) -> Option<Remains> {
    Some(Remains {
        seq: Seq::new(number(&stored.headers, FIRST_SEQ)?),
        id,
        author: match text(&stored.headers, AUTHOR) {
            Some(author) => Some(UserName::parse(author).ok()?),
            None => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::governance::{Keep, Mode};

    fn round_trip(command: &Command) {
        let entry = command
            .entry(&Subjects::new("chat"), ("a-server", 7))
            .unwrap();
        assert_eq!(ticket(&entry.headers), Some(("a-server", 7)));
        assert_eq!(&Command::parse(&entry.payload).unwrap(), command);
    }

    #[test]
    fn commands_are_read_as_they_were_written() {
        let room: Room = "#ops".parse().unwrap();
        let name = FederatedRoom::parse("#ops").unwrap();
        let user: UserName = "alice@ada".parse().unwrap();
        let found = Found {
            seq: Seq::new(7),
            id: MessageId::from_bytes([0xff; 16]),
            author: user.clone(),
            sent_at: Timestamp::from_micros(1),
            committed_at: Timestamp::from_micros(2),
            edits: Some(MessageId::new()),
        };
        let act = |act| Command::Act {
            room: room.clone(),
            user: user.clone(),
            id: MessageId::new(),
            act,
            placed: true,
            found: vec![found.clone()],
        };
        for command in [
            Command::Found {
                room: "alice@ada,bob@bee".parse().unwrap(),
                by: user.clone(),
            },
            Command::Join {
                room: name.clone(),
                user: user.clone(),
            },
            Command::Leave {
                room: name.clone(),
                user: user.clone(),
                id: MessageId::new(),
            },
            Command::Topic {
                room: name,
                user: user.clone(),
                topic: "ä \"quoted\"".to_owned(),
            },
            act(Act::Opened {
                mode: Mode::InviteOnly,
                members: vec![user.clone()],
            }),
            act(Act::Retention {
                keep: Keep {
                    max_age_seconds: Some(u64::MAX),
                    max_messages: None,
                },
            }),
            act(Act::Erase {
                messages: vec![MessageId::new()],
            }),
            Command::Place { room: room.clone() },
            Command::Retired {
                room: room.clone(),
                up_to: Seq::new(7),
            },
            Command::Restored {
                room: room.clone(),
                state: RoomState {
                    topic: "on call".to_owned(),
                    founder: Some(user.clone()),
                    charter: Some(Encoded(Bytes::from_static(b"\x00\xff"))),
                },
            },
            Command::RestoredPeople {
                room: room.clone(),
                members: vec![user.clone()],
                kicked: Vec::new(),
            },
            Command::Record {
                room: room.clone(),
                id: MessageId::new(),
                author: user.clone(),
                sent_at: Timestamp::from_micros(1),
                committed_at: Timestamp::from_micros(2),
                body: Encoded(Bytes::from_static(&[ACT_TAG])),
            },
            Command::Made {
                host: user.host.clone(),
                rooms: 7,
            },
            Command::TakenBack {
                room,
                by: user,
                id: MessageId::new(),
                found: vec![found],
            },
        ] {
            round_trip(&command);
        }
    }

    #[test]
    fn commands_stay_what_they_are() {
        let command = Command::Join {
            room: FederatedRoom::parse("#ops").unwrap(),
            user: "alice@ada".parse().unwrap(),
        };
        let entry = command.entry(&Subjects::new("chat"), ("x", 1)).unwrap();
        assert_eq!(entry.subject, "chat.dc.%23ops.c.join");
        assert_eq!(
            &entry.payload[..],
            br##"{"Join":{"room":"#ops","user":{"nick":"alice","host":"ada"}}}"##
        );
    }
}
