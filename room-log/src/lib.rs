//! The log of rooms: storing it durably, reading it, and following it.
//!
//! Server and agent each keep rooms in one SQLite file and feed readers from it, so both are
//! built from this crate:
//!
//! * [`Database`] opens the file, refuses a damaged one, and migrates an old one.
//! * [`RoomLog`] is the messages: [`append`](RoomLog::append) gives a seq, [`ingest`] takes a
//!   message that somebody else ordered, [`page`] reads.
//! * [`Writer`] is the one thread that writes, turning whatever has queued up into one
//!   transaction; [`Readers`] are the connections that read meanwhile.
//! * [`Feed`] knows who follows which room and from where ([`Position`]); an [`Outbound`] is one
//!   reader's bounded queue; [`Delivery`] writes it to the socket and fills in from the log what
//!   the queue had no room for.
//!
//! * [`Governor`] does what the acts in a room's log mean, [`erasing`] takes words out of messages.
//!
//! What else a message says is never looked at here.
//!
//! [`ingest`]: RoomLog::ingest
//! [`page`]: log::page

#![cfg_attr(not(test), deny(clippy::unwrap_used))]

pub mod charters;
mod checkpoint;
mod database;
mod delivery;
pub mod erasing;
mod error;
mod feed;
mod governor;
mod heard;
pub mod log;
mod outbound;
mod position;
mod private;
mod quiet;
mod reader;
mod retention;
pub mod roster;
mod scrub;
mod trouble;
mod writer;

pub use charters::GOVERNANCE_SCHEMA;
pub use database::{Application, BASE_SCHEMA, Database, OpenError};
pub use delivery::{CaughtUp, Delivery, Page, PageFuture, PageSource, Progress, Unreadable};
pub use error::StoreError;
pub use feed::{Feed, Frames, ReaderId};
pub use governor::{Deed, Done, Governed, Governor, Silence};
pub use heard::Heard;
pub use log::{Appended, Head, Ingested, RoomLog};
pub use outbound::Outbound;
pub use position::{Offer, Position};
pub use private::{PrivacyError, private_dir};
pub use reader::Readers;
pub use retention::Retention;
pub use writer::{Chore, Durability, Slot, Store, SubmitError, Writer};
