//! Why somebody may not do something in a room.

use super::Rank;
use crate::{UserName, list::deserialize_page};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why somebody may not do something in a room, and who could allow it. The order of variants is
/// the wire format: append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Error)]
#[non_exhaustive]
pub enum Denied {
    /// The room has no owner, so nobody decides there.
    #[error("nobody owns it, so nobody decides there: `chat room create` makes a room of your own")]
    Nobodys,
    /// Only owners may.
    #[error("only an owner may do that{}", whom(.ask))]
    NeedsOwner {
        /// Some of them.
        #[serde(deserialize_with = "deserialize_page")]
        ask: Vec<UserName>,
    },
    /// Only owners and moderators may.
    #[error("only a moderator or owner may do that{}", whom(.ask))]
    NeedsModerator {
        /// Some of them.
        #[serde(deserialize_with = "deserialize_page")]
        ask: Vec<UserName>,
    },
    /// It is about somebody of the same rank or a higher one.
    #[error("{user} is {rank} there{}", above(*rank, ask))]
    NotBelow {
        /// Who.
        user: UserName,
        /// What they are.
        rank: Rank,
        /// Who could do it.
        #[serde(deserialize_with = "deserialize_page")]
        ask: Vec<UserName>,
    },
    /// The room would be without an owner.
    #[error("{user} is its only owner: promote another owner first")]
    LastOwner {
        /// Who.
        user: UserName,
    },
    /// Nobody is invited into a room that is open.
    #[error("everybody may come in: make it invite-only to have invitations")]
    OpenToAll,
    /// They are not in it.
    #[error("{user} is not in it")]
    NotIn {
        /// Who.
        user: UserName,
    },
    /// They are banned.
    #[error("{user} is banned there{}", whom(.ask))]
    Banned {
        /// Who.
        user: UserName,
        /// Who could end that.
        #[serde(deserialize_with = "deserialize_page")]
        ask: Vec<UserName>,
    },
    /// They may say nothing.
    #[error("{user} is muted there{}", whom(.ask))]
    Muted {
        /// Who.
        user: UserName,
        /// Who could end that.
        #[serde(deserialize_with = "deserialize_page")]
        ask: Vec<UserName>,
    },
    /// Most only read there.
    #[error("it is read-only for all but its owners and moderators{}", whom(.ask))]
    ReadOnly {
        /// Who could promote them.
        #[serde(deserialize_with = "deserialize_page")]
        ask: Vec<UserName>,
    },
    /// They were kicked out, and have not taken note of it yet.
    #[error("{user} was kicked out: join again to come back")]
    Kicked {
        /// Who.
        user: UserName,
    },
    /// A list is full.
    #[error("it has as many {what} as it can have, {max}")]
    TooMany {
        /// Of what, for people.
        what: String,
        /// How many.
        max: u32,
    },
    /// The act means nothing.
    #[error("{reason}")]
    Senseless {
        /// Why, for people.
        reason: String,
    },
    /// It was opened before.
    #[error("it is there already")]
    Exists,
}

/// Whom to ask, as the end of a sentence.
fn whom(users: &[UserName]) -> String {
    match users {
        [] => String::new(),
        [one] => format!(": ask {one}"),
        [first, rest @ ..] => {
            let rest: Vec<_> = rest.iter().map(ToString::to_string).collect();
            format!(": ask {first} or {}", rest.join(" or "))
        }
    }
}

fn above(rank: Rank, users: &[UserName]) -> String {
    match rank {
        Rank::Owner => ", and must be demoted first".to_owned(),
        _ => whom(users),
    }
}
