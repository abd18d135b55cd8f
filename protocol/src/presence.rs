//! Who is there.

use crate::UserName;
use serde::{Deserialize, Serialize};

/// Whether a member of a room can be expected to read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Availability {
    /// Has a session open.
    Online,
    /// Has a session open and said to be away.
    Away,
    /// Has no session, or the host's agent is not connected.
    Offline,
    /// Nobody can tell: the asking agent is not connected to a server, or that one does not hear the
    /// others.
    Unknown,
}

/// One user in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub user: UserName,
    /// Whether they are there.
    pub availability: Availability,
}
