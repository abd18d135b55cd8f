//! What changes the register: the same wherever it is done, so that servers that do the same
//! operations in the same order have the same register.
//!
//! Nothing here asks a clock or chance: the time is in the operation.

use super::{
    NewInvitation,
    moving::{self, AgentRow, InvitationRow},
    store,
};
use protocol::{HostName, KeyFingerprint, Timestamp, federation::Refusal};
use room_log::StoreError;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

/// What is to be noted. Also the format of the stream that several servers share: variants and
/// fields are only ever added, and a server that does not know one must end, as it would not be
/// of one mind with the others any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) enum Operation {
    /// A key is let in under a name, by an invitation.
    Enrol {
        key: KeyFingerprint,
        host: HostName,
        /// The digest of what was shown, which itself is nobody's business.
        invitation: [u8; 32],
        now: Timestamp,
    },
    /// A key comes that is not the one that counts: an announced one, or one that is vouched for.
    Admit {
        key: KeyFingerprint,
        host: HostName,
        /// Whether an authority vouches that this key is this host's.
        vouched: bool,
        now: Timestamp,
    },
    /// A host says which key it will have next.
    NextKey {
        host: HostName,
        /// The key of whoever says so.
        key: KeyFingerprint,
        next: KeyFingerprint,
    },
    /// An invitation is made.
    Invite {
        digest: [u8; 32],
        new: NewInvitation,
        now: Timestamp,
    },
    /// An invitation is taken back.
    RevokeInvitation {
        /// Its number.
        invitation: u32,
    },
    /// A host is let in no more.
    RevokeAgent { host: HostName, now: Timestamp },
    /// A key was let in, or put out, by the register that was moved here.
    RestoreAgent(AgentRow),
    /// An invitation was made there.
    RestoreInvitation(InvitationRow),
}

/// What came of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// The invitation's number.
    Invited(u32),
    /// Let in, and the name that the key gave up for it.
    Enrolled(Option<HostName>),
    Admitted(Admitted),
    Refused(Refusal),
    /// What was named is not there.
    Missing,
}

/// How somebody was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// With a key that counts, or that an authority vouches for.
    AsBefore,
    /// With the key that was announced: the one before counts no more.
    WithNextKey,
}

/// A host that nobody may speak for any more who did before: with this reason their connection
/// ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PutOut {
    pub(crate) host: HostName,
    pub(crate) reason: Refusal,
}

impl Operation {
    /// Does it.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the transaction is to be rolled back. What concerns this operation alone is
    /// an outcome.
    pub(super) fn apply(&self, tables: &Connection) -> Result<Outcome, StoreError> {
        match self {
            Self::Enrol {
                key,
                host,
                invitation,
                now,
            } => {
                let enrolled = store::enrol(tables, *key, host, invitation, *now)?;
                Ok(enrolled.map_or_else(Outcome::Refused, Outcome::Enrolled))
            }
            Self::Admit {
                key,
                host,
                vouched,
                now,
            } => {
                let admitted = store::admit(tables, *key, host, *vouched, *now)?;
                Ok(admitted.map_or_else(Outcome::Refused, Outcome::Admitted))
            }
            Self::NextKey { host, key, next } => {
                let noted = store::next_key(tables, host, *key, *next)?;
                Ok(noted.map_or_else(Outcome::Refused, |()| Outcome::Done))
            }
            Self::Invite { digest, new, now } => {
                store::invite(tables, digest, new, *now).map(Outcome::Invited)
            }
            Self::RevokeInvitation { invitation } => {
                store::revoke_invitation(tables, *invitation).map(Outcome::found)
            }
            Self::RevokeAgent { host, now } => {
                store::revoke_agent(tables, host, *now).map(Outcome::found)
            }
            Self::RestoreAgent(agent) => {
                moving::put_agent(tables, agent)?;
                Ok(Outcome::Done)
            }
            Self::RestoreInvitation(invitation) => {
                moving::put_invitation(tables, invitation)?;
                Ok(Outcome::Done)
            }
        }
    }

    /// Whom it has put out, if this came of it.
    pub(super) fn puts_out(&self, outcome: &Outcome) -> Option<PutOut> {
        match (self, outcome) {
            (Self::Enrol { host, .. }, Outcome::Enrolled(Some(before))) => Some(PutOut {
                host: before.clone(),
                reason: Refusal::OtherHost {
                    enrolled: host.clone(),
                    given: before.clone(),
                },
            }),
            (Self::Admit { host, .. }, Outcome::Admitted(Admitted::WithNextKey)) => Some(PutOut {
                host: host.clone(),
                reason: Refusal::Replaced,
            }),
            (Self::RevokeAgent { host, .. }, Outcome::Done) => Some(PutOut {
                host: host.clone(),
                reason: Refusal::Revoked,
            }),
            _ => None,
        }
    }
}

impl Outcome {
    const fn found(found: bool) -> Self {
        if found { Self::Done } else { Self::Missing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_read_from_a_stream_as_it_was_written_by_the_first_version() {
        let host: HostName = "ada".parse().unwrap();
        let key = KeyFingerprint::from_bytes([1; 32]);
        let now = Timestamp::from_micros(5);
        let ones = format!("[{}]", ["1"; 32].join(","));
        for (operation, text) in [
            (
                Operation::Enrol {
                    key,
                    host: host.clone(),
                    invitation: [1; 32],
                    now,
                },
                format!(r#"{{"Enrol":{{"key":{ones},"host":"ada","invitation":{ones},"now":5}}}}"#),
            ),
            (
                Operation::Admit {
                    key,
                    host: host.clone(),
                    vouched: true,
                    now,
                },
                format!(r#"{{"Admit":{{"key":{ones},"host":"ada","vouched":true,"now":5}}}}"#),
            ),
            (
                Operation::NextKey {
                    host: host.clone(),
                    key,
                    next: key,
                },
                format!(r#"{{"NextKey":{{"host":"ada","key":{ones},"next":{ones}}}}}"#),
            ),
            (
                Operation::Invite {
                    digest: [1; 32],
                    new: NewInvitation {
                        uses: 3,
                        expires_at: now,
                        host: None,
                    },
                    now,
                },
                format!(
                    r#"{{"Invite":{{"digest":{ones},"new":{{"uses":3,"expires_at":5,"host":null}},"now":5}}}}"#
                ),
            ),
            (
                Operation::RevokeInvitation { invitation: 7 },
                r#"{"RevokeInvitation":{"invitation":7}}"#.to_owned(),
            ),
            (
                Operation::RevokeAgent { host, now },
                r#"{"RevokeAgent":{"host":"ada","now":5}}"#.to_owned(),
            ),
            (
                Operation::RestoreAgent(AgentRow {
                    key,
                    host: HostName::parse("ada").unwrap(),
                    enrolled_at: now,
                    invitation: Some(3),
                    next_key: None,
                    revoked_at: Some(now),
                }),
                format!(
                    r#"{{"RestoreAgent":{{"key":{ones},"host":"ada","enrolled_at":5,"invitation":3,"next_key":null,"revoked_at":5}}}}"#
                ),
            ),
            (
                Operation::RestoreInvitation(InvitationRow {
                    invitation: 3,
                    digest: [1; 32],
                    host: None,
                    uses_left: 2,
                    made_at: now,
                    expires_at: now,
                    revoked: false,
                }),
                format!(
                    r#"{{"RestoreInvitation":{{"invitation":3,"digest":{ones},"host":null,"uses_left":2,"made_at":5,"expires_at":5,"revoked":false}}}}"#
                ),
            ),
        ] {
            assert_eq!(serde_json::to_string(&operation).unwrap(), text);
            assert_eq!(serde_json::from_str::<Operation>(&text).unwrap(), operation);
        }
        let newer = r#"{"RevokeInvitation":{"invitation":7,"reason":"later"}}"#;
        assert!(serde_json::from_str::<Operation>(newer).is_err());
    }
}
