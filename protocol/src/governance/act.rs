//! What can be done to a room.

use super::Denied;
use crate::{
    HostName, MessageId, UserName,
    limits::{MAX_ERASED_AT_ONCE, MAX_KEPT_MESSAGES, MAX_KEPT_SECONDS},
    list::deserialize_page,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Who may read and write in a room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Everybody reads and writes.
    #[default]
    Public,
    /// Those who were invited read and write; nobody else learns of the room.
    InviteOnly,
    /// Everybody reads; owners and moderators write.
    ReadOnly,
}

/// What somebody is in a room, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Rank {
    /// Was invited.
    Member,
    /// Keeps order.
    Moderator,
    /// Decides what the room is.
    Owner,
}

/// Who is kept out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// One user.
    User(UserName),
    /// Everybody of a host.
    Host(HostName),
}

/// What is kept of a room's messages. Acts are kept always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// For how long after they were committed; for ever if absent. At least one second.
    pub max_age_seconds: Option<u64>,
    /// How many, the newest; all if absent. At least one.
    pub max_messages: Option<u64>,
}

/// A change of a room's charter. The order of variants is the wire format: append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Act {
    /// The room has a charter from here on; its author is the owner.
    Opened {
        /// Who may read and write.
        mode: Mode,
        /// Who is in it already, if that is by invitation only. Whoever orders the room says so.
        #[serde(deserialize_with = "deserialize_page")]
        members: Vec<UserName>,
    },
    /// Other people may read and write from here on.
    Mode {
        /// Who.
        mode: Mode,
        /// As in [`Act::Opened`].
        #[serde(deserialize_with = "deserialize_page")]
        members: Vec<UserName>,
    },
    /// Let somebody into a room that is by invitation only.
    Invite {
        /// Whom.
        user: UserName,
    },
    /// End a membership. Into a room that is open to all they may come back.
    Kick {
        /// Whose.
        user: UserName,
    },
    /// End memberships, for good.
    Ban {
        /// Whose.
        subject: Subject,
    },
    /// End a ban.
    Unban {
        /// Whose.
        subject: Subject,
    },
    /// Let somebody say nothing.
    Mute {
        /// Whom.
        user: UserName,
    },
    /// Let them speak again.
    Unmute {
        /// Whom.
        user: UserName,
    },
    /// Give somebody a higher rank.
    Promote {
        /// Whom.
        user: UserName,
        /// Moderator or owner.
        rank: Rank,
    },
    /// Make a moderator or owner a member again.
    Demote {
        /// Whom.
        user: UserName,
    },
    /// What is kept of what is said.
    Retention {
        /// From here on, for what was said before, too.
        keep: Keep,
    },
    /// Take the words out of messages, wherever they are kept.
    Erase {
        /// Which; those that its author may not erase are left alone.
        #[serde(deserialize_with = "deserialize_page")]
        messages: Vec<MessageId>,
    },
    /// The author left a room that is by invitation only, and is invited no more.
    Left,
}

impl Keep {
    /// Whether nothing ever ends.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.max_age_seconds.is_none() && self.max_messages.is_none()
    }
}

impl Act {
    /// Whether the act means something, whoever does it.
    ///
    /// # Errors
    ///
    /// [`Denied::Senseless`].
    pub fn check(&self) -> Result<(), Denied> {
        let reason = match self {
            Self::Promote {
                rank: Rank::Member, ..
            } => "promote somebody to moderator or owner".to_owned(),
            Self::Erase { messages } if messages.is_empty() => {
                "name the messages to erase".to_owned()
            }
            Self::Erase { messages } if messages.len() > MAX_ERASED_AT_ONCE => {
                format!("erase at most {MAX_ERASED_AT_ONCE} messages at once")
            }
            Self::Retention { keep } => {
                let in_range =
                    |given: Option<u64>, max| given.is_none_or(|given| (1..=max).contains(&given));
                if !in_range(keep.max_age_seconds, MAX_KEPT_SECONDS) {
                    format!("messages can be kept for 1 to {MAX_KEPT_SECONDS} seconds, or for ever")
                } else if !in_range(keep.max_messages, MAX_KEPT_MESSAGES) {
                    format!("1 to {MAX_KEPT_MESSAGES} messages can be kept, or all")
                } else {
                    return Ok(());
                }
            }
            _ => return Ok(()),
        };
        Err(Denied::Senseless { reason })
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Public => "public",
            Self::InviteOnly => "invite-only",
            Self::ReadOnly => "read-only",
        })
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Member => "member",
            Self::Moderator => "moderator",
            Self::Owner => "owner",
        })
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => user.fmt(f),
            Self::Host(host) => write!(f, "*@{host}"),
        }
    }
}
