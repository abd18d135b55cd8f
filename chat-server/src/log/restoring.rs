//! What a log is made of when it is moved to another place, part by part.

use bytes::Bytes;
use data_encoding::BASE64;
use protocol::{Committed, HostName, MessageId, Room, Seq, UserName};
use room_log::{OpenError, StoreError};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{io, path::PathBuf};
use thiserror::Error;

/// A part of a log. A room comes before its people, these before its messages, and messages in order.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    /// A room begins.
    Room {
        /// Which.
        room: Room,
        /// What is known of it.
        state: RoomState,
    },
    /// Some of those who are in a room, or were put out of it and do not know yet.
    People {
        /// Which room.
        room: Room,
        /// Its members.
        members: Vec<UserName>,
        /// Who was kicked.
        kicked: Vec<UserName>,
    },
    /// The next messages of one room, what remains of erased ones too.
    Messages(Vec<Committed>),
    /// Messages that were kept for long enough: their ids stay known.
    Gone {
        /// Which room.
        room: Room,
        /// Which they were, and where.
        ids: Vec<(MessageId, Seq)>,
    },
    /// How many rooms the users of a host made.
    Made {
        /// Which host.
        host: HostName,
        /// How many.
        rooms: u32,
    },
}

/// What a room is, beside its people and messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RoomState {
    /// Empty if there is none.
    pub(crate) topic: String,
    /// Who made it, until a charter says whose it is.
    pub(crate) founder: Option<UserName>,
    /// Its charter, as it is stored; none if it is open to all.
    pub(crate) charter: Option<Encoded>,
}

/// Bytes that are written as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Encoded(pub(crate) Bytes);

impl Serialize for Encoded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Encoded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64.decode(text.as_bytes()).map_err(D::Error::custom)?;
        Ok(Self(Bytes::from(bytes)))
    }
}

/// Why a log is not restored. The message says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// There is a log already.
    #[error(
        "{what} is there already, and a log is only restored where there is none: name another place \
         with {flag}, or {otherwise}"
    )]
    Exists {
        /// What is there.
        what: String,
        /// What names another.
        flag: &'static str,
        /// What else can be done.
        otherwise: String,
    },
    /// What was half restored before cannot be removed.
    #[error("cannot remove what an earlier import left at {path}: {reason}", path = path.display())]
    Remove {
        /// Where.
        path: PathBuf,
        /// What the system says.
        reason: io::Error,
    },
    /// The database cannot be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// NATS does not do as it is asked.
    #[error("{0}; run the import again, it begins anew")]
    Nats(String),
    /// A part is not what a log holds.
    #[error("{0}")]
    Bad(String),
}

impl From<rusqlite::Error> for RestoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}
