//! A message before and after it has a place in a log.

use crate::{EncodedBody, MessageId, Room, Seq, Timestamp, UserName};
use serde::{Deserialize, Serialize};

/// A message on its way to a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// Made once, where the message was born.
    pub id: MessageId,
    /// Where it goes.
    pub room: Room,
    /// Who says it. The receiving side checks this against the connection it came from.
    pub author: UserName,
    /// When the author's agent accepted it, by that host's clock. Not part of what makes two
    /// messages the same: a retry under a script's key has another.
    pub sent_at: Timestamp,
    /// What it says.
    pub body: EncodedBody,
}

/// A message in a room's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// Whose log.
    pub room: Room,
    /// Its place there.
    pub seq: Seq,
    /// The place of the message before it, [`Seq::START`] if there is none. A reader that has
    /// not got that one has a gap.
    pub prev_seq: Seq,
    /// When it was committed, by the clock of whoever orders the room.
    pub committed_at: Timestamp,
    /// Its id.
    pub id: MessageId,
    /// Who said it.
    pub author: UserName,
    /// When the author's agent accepted it, by that host's clock.
    pub sent_at: Timestamp,
    /// What it says.
    pub body: EncodedBody,
}
