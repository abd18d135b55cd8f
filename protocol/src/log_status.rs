//! How a server's log is: what its acknowledgements promise, and whether it takes anything now.
//!
//! The same for agents, terminals and who runs a server. Spoken only with a peer that has
//! [`Features::LOG_STATUS`](crate::Features::LOG_STATUS): to others none of the messages that hold it
//! are sent.
//!
//! **The order of variants and fields is the wire format**, as of the vocabularies that it is in.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How a server's log is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStatus {
    /// What keeps it.
    pub keeper: LogKeeper,
    /// What survives a power cut.
    pub durability: Durability,
    /// What is promised less than could be, and what whoever runs the server can do about it, for
    /// people.
    pub weaker: Option<String>,
    /// Whether it takes anything now.
    pub health: LogHealth,
}

/// What keeps a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogKeeper {
    /// A database on the server's own disk.
    Database,
    /// A stream of NATS JetStream, for any number of servers.
    JetStream,
}

/// Whether what a log acknowledged survives a power cut of all that keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Durability {
    /// It does: it was synced to the disk before it was acknowledged.
    Synced,
    /// It may not: it is synced some time later.
    NotSynced,
    /// Nobody has said so.
    Unknown,
}

/// Whether a log takes anything now. The reasons are for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogHealth {
    /// It does.
    Well,
    /// The server cannot reach it.
    Away {
        /// What is in the way.
        reason: String,
    },
    /// It is reached, and does not do what it is asked, or not in time.
    Slow {
        /// What does not come.
        reason: String,
    },
    /// It has no room.
    Full {
        /// Which limit it is at.
        reason: String,
    },
}

impl LogStatus {
    /// A database that takes what it is given.
    #[must_use]
    pub const fn database() -> Self {
        Self {
            keeper: LogKeeper::Database,
            durability: Durability::Synced,
            weaker: None,
            health: LogHealth::Well,
        }
    }

    /// The same with at most `max` characters of each text: it came from elsewhere, and is kept.
    #[must_use]
    pub fn clipped(self, max: usize) -> Self {
        let clip = |text: String| text.chars().take(max).collect::<String>();
        Self {
            weaker: self.weaker.map(clip),
            health: match self.health {
                LogHealth::Well => LogHealth::Well,
                LogHealth::Away { reason } => LogHealth::Away {
                    reason: clip(reason),
                },
                LogHealth::Slow { reason } => LogHealth::Slow {
                    reason: clip(reason),
                },
                LogHealth::Full { reason } => LogHealth::Full {
                    reason: clip(reason),
                },
            },
            ..self
        }
    }
}

impl LogHealth {
    /// Whether the log takes what it is given.
    #[must_use]
    pub const fn is_well(&self) -> bool {
        matches!(self, Self::Well)
    }

    /// The word for it in machine output.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Away { .. } => "away",
            Self::Slow { .. } => "slow",
            Self::Full { .. } => "full",
        }
    }

    /// What is wrong with the log of `server`, in half a sentence; `None` if nothing is.
    #[must_use]
    pub fn trouble_of(&self, server: &str) -> Option<String> {
        match self {
            Self::Well => None,
            Self::Away { reason } => Some(format!(
                "server {server} is reached, but its log is not ({reason})"
            )),
            Self::Slow { reason } => Some(format!(
                "server {server} is reached, but its log does not answer as it should ({reason})"
            )),
            Self::Full { reason } => Some(format!(
                "the log of server {server} is full ({reason}): whoever runs it has to make room"
            )),
        }
    }

    /// Why it is not well.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Well => None,
            Self::Away { reason } | Self::Slow { reason } | Self::Full { reason } => Some(reason),
        }
    }
}

impl Durability {
    /// The word for it in machine output.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Synced => "synced",
            Self::NotSynced => "not-synced",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Durability {
    /// As the end of a sentence about what was acknowledged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Synced => "synced to the disk before it is acknowledged",
            Self::NotSynced => "synced to the disk some time after it is acknowledged",
            Self::Unknown => "whether it syncs before it acknowledges is not known",
        })
    }
}

impl LogKeeper {
    /// The word for it in machine output.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::JetStream => "jetstream",
        }
    }
}

impl fmt::Display for LogKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Database => "a database of the server's own",
            Self::JetStream => "NATS JetStream",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_others_are_kept_short() {
        let long = || "é".repeat(600);
        let status = LogStatus {
            keeper: LogKeeper::JetStream,
            durability: Durability::Unknown,
            weaker: Some(long()),
            health: LogHealth::Slow { reason: long() },
        };
        let clipped = status.clipped(512);
        let lengths = [clipped.weaker.as_deref(), clipped.health.reason()]
            .map(|text| text.map(|text| text.chars().count()));
        assert_eq!(lengths, [Some(512), Some(512)]);
        assert_eq!(LogStatus::database().clipped(1), LogStatus::database());
    }
}
