//! What terminals, agents and servers say to each other.
//!
//! # The life of a message
//!
//! 1. A terminal makes a [`MessageId`] and sends [`local::Request::Send`] to its host's agent.
//! 2. The agent encodes the [`Content`] once into an [`EncodedBody`] and writes it to its outbox.
//! 3. The server puts [`Committed`] (room, seq, time) around the same bytes, stores them, and
//!    forwards them to every agent whose users are in the room.
//! 4. Those agents store the same bytes and forward them to their terminals.
//! 5. Only the terminal decodes the body again.
//!
//! This crate has no sockets, no tasks, no clock and no disk. [`handshake`] is generic over any
//! byte stream. [`limits`] holds every size, count and timeout that two parties must agree on.

#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod address;
pub mod admin;
mod body;
mod codec;
mod cursor;
pub mod federation;
pub mod governance;
mod id;
mod key;
pub mod likeness;
pub mod limits;
mod list;
pub mod local;
mod log_status;
mod message;
mod name;
mod preface;
mod presence;
mod room;
mod text;
mod time;

pub use address::{AddressError, ServerAddress, ServerLine, ServerTrust};
pub use body::{ACT_TAG, BodyError, Content, EDIT_TAG, ERASED_TAG, EncodedBody};
pub use codec::{CodecError, FrameCodec, encode_frame};
pub use cursor::{Cursor, CursorError, ResumePoint};
pub use id::{AgentId, Epoch, IdError, MessageId, RequestId, Seq};
pub use key::{Invitation, KeyError, KeyFingerprint};
pub use log_status::{Durability, LogHealth, LogKeeper, LogStatus};
pub use message::{Committed, Outgoing};
pub use name::{ConsumerName, HostName, NameError, Nick, UserName};
pub use preface::{
    Agreed, Features, HandshakeError, Preface, PrefaceError, ProtocolVersion, Vocabulary,
    handshake, negotiate,
};
pub use presence::{Availability, Member};
pub use room::{Direct, FederatedRoom, LocalRoom, Room, RoomError, Target};
pub use time::Timestamp;
