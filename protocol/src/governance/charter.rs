//! The state of a room, and the one place that decides.

use super::{Act, Denied, Keep, Mode, Rank, Subject};
use crate::{
    HostName, UserName,
    codec::{self, CodecError},
    limits::{MAX_BANS, MAX_CHARTER_PEOPLE, MAX_MUTES},
    list::deserialize_page,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// People whom a refusal names.
const MAX_ASKED: usize = 3;

/// Who may do what in a room, at one place of its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Listed", into = "Listed")]
pub struct Charter {
    mode: Mode,
    /// Owners and moderators; members only of a room that is by invitation.
    people: BTreeMap<UserName, Rank>,
    banned: BTreeSet<Subject>,
    muted: BTreeSet<UserName>,
    keep: Keep,
}

/// A charter on the wire and on disk: lists that are checked as they come.
#[derive(Serialize, Deserialize)]
struct Listed {
    mode: Mode,
    #[serde(deserialize_with = "deserialize_page")]
    people: Vec<(UserName, Rank)>,
    #[serde(deserialize_with = "deserialize_page")]
    banned: Vec<Subject>,
    #[serde(deserialize_with = "deserialize_page")]
    muted: Vec<UserName>,
    keep: Keep,
}

impl From<Listed> for Charter {
    fn from(listed: Listed) -> Self {
        Self {
            mode: listed.mode,
            people: listed.people.into_iter().collect(),
            banned: listed.banned.into_iter().collect(),
            muted: listed.muted.into_iter().collect(),
            keep: listed.keep,
        }
    }
}

impl From<Charter> for Listed {
    fn from(charter: Charter) -> Self {
        Self {
            mode: charter.mode,
            people: charter.people.into_iter().collect(),
            banned: charter.banned.into_iter().collect(),
            muted: charter.muted.into_iter().collect(),
            keep: charter.keep,
        }
    }
}

impl Charter {
    /// The charter of a room that `owner` opens.
    ///
    /// # Errors
    ///
    /// [`Denied::TooMany`] if there are too many members.
    pub fn open(owner: &UserName, mode: Mode, members: &[UserName]) -> Result<Self, Denied> {
        let mut charter = Self {
            mode,
            people: BTreeMap::from([(owner.clone(), Rank::Owner)]),
            banned: BTreeSet::new(),
            muted: BTreeSet::new(),
            keep: Keep::default(),
        };
        charter.admit(mode, members)?;
        Ok(charter)
    }

    /// Who may read and write.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// What is kept.
    #[must_use]
    pub const fn keep(&self) -> Keep {
        self.keep
    }

    /// Whether only those who were invited may know of the room.
    #[must_use]
    pub const fn is_private(&self) -> bool {
        matches!(self.mode, Mode::InviteOnly)
    }

    /// What `user` is, if anything.
    #[must_use]
    pub fn rank(&self, user: &UserName) -> Option<Rank> {
        self.people.get(user).copied()
    }

    /// Owners and moderators, and who was invited.
    pub fn people(&self) -> impl Iterator<Item = (&UserName, Rank)> {
        self.people.iter().map(|(user, rank)| (user, *rank))
    }

    /// Who is kept out.
    pub fn banned(&self) -> impl Iterator<Item = &Subject> {
        self.banned.iter()
    }

    /// Who may say nothing.
    pub fn muted(&self) -> impl Iterator<Item = &UserName> {
        self.muted.iter()
    }

    /// Whether `user` or their host is kept out.
    #[must_use]
    pub fn is_banned(&self, user: &UserName) -> bool {
        !self.banned.is_empty()
            && (self.banned.contains(&Subject::User(user.clone()))
                || self.banned.contains(&Subject::Host(user.host.clone())))
    }

    /// Whether `user` may be in the room, and so read it.
    #[must_use]
    pub fn admits(&self, user: &UserName) -> bool {
        if self.is_private() {
            // Whoever is banned is nothing any more.
            self.people.contains_key(user)
        } else {
            !self.is_banned(user)
        }
    }

    /// Whether `user` may write.
    ///
    /// # Errors
    ///
    /// [`Denied`], with who could allow it.
    pub fn may_write(&self, user: &UserName) -> Result<(), Denied> {
        let (user, ask) = (user.clone(), || self.of_rank(Rank::Moderator));
        if self.is_banned(&user) {
            return Err(Denied::Banned { user, ask: ask() });
        }
        if !self.admits(&user) {
            return Err(Denied::NotIn { user });
        }
        if self.muted.contains(&user) {
            return Err(Denied::Muted { user, ask: ask() });
        }
        if self.mode == Mode::ReadOnly && self.rank(&user) < Some(Rank::Moderator) {
            return Err(Denied::ReadOnly {
                ask: self.of_rank(Rank::Owner),
            });
        }
        Ok(())
    }

    /// Whether `actor` may do `act`. Of messages to erase each is judged by
    /// [`may_erase`](Self::may_erase).
    ///
    /// # Errors
    ///
    /// [`Denied`], with who could allow it.
    pub fn judge(&self, actor: &UserName, act: &Act) -> Result<(), Denied> {
        act.check()?;
        let rank = self.rank(actor);
        let needs = match act {
            Act::Opened { .. } => return Err(Denied::Exists),
            Act::Erase { .. } => return Ok(()),
            Act::Left => return self.may_fall(actor),
            Act::Mode { .. } | Act::Promote { .. } | Act::Demote { .. } | Act::Retention { .. } => {
                Rank::Owner
            }
            Act::Invite { .. }
            | Act::Kick { .. }
            | Act::Ban { .. }
            | Act::Unban { .. }
            | Act::Mute { .. }
            | Act::Unmute { .. } => Rank::Moderator,
        };
        if rank < Some(needs) {
            let ask = self.of_rank(needs);
            return Err(match needs {
                Rank::Owner => Denied::NeedsOwner { ask },
                _ => Denied::NeedsModerator { ask },
            });
        }
        match act {
            Act::Invite { .. } if !self.is_private() => Err(Denied::OpenToAll),
            Act::Invite { user } | Act::Promote { user, .. } if self.is_banned(user) => {
                Err(Denied::Banned {
                    user: user.clone(),
                    ask: self.of_rank(Rank::Moderator),
                })
            }
            Act::Kick { user } if self.is_private() && !self.people.contains_key(user) => {
                Err(Denied::NotIn { user: user.clone() })
            }
            Act::Kick { user } | Act::Mute { user } => self.is_below(rank, user),
            Act::Ban {
                subject: Subject::User(user),
            } => self.is_below(rank, user),
            Act::Ban {
                subject: Subject::Host(host),
            } => {
                let mut there = self.people.keys().filter(|user| user.host == *host);
                there.try_for_each(|user| self.is_below(rank, user))
            }
            Act::Demote { user } => self.may_fall(user),
            _ => Ok(()),
        }
    }

    /// Whether `actor` may erase a message of `author`.
    #[must_use]
    pub fn may_erase(&self, actor: &UserName, author: &UserName) -> bool {
        actor == author || self.rank(actor) >= Some(Rank::Moderator)
    }

    /// Does `act`, if `actor` may. The same for whoever reads the same log.
    ///
    /// # Errors
    ///
    /// [`Denied`]; nothing changed then.
    pub fn apply(&mut self, actor: &UserName, act: &Act) -> Result<(), Denied> {
        self.judge(actor, act)?;
        match act {
            Act::Mode { mode, members } => {
                self.admit(*mode, members)?;
                self.mode = *mode;
                if !self.is_private() {
                    self.people.retain(|_, rank| *rank > Rank::Member);
                }
            }
            Act::Invite { user } => {
                if !self.people.contains_key(user) {
                    self.make(user, Rank::Member)?;
                }
            }
            Act::Promote { user, rank } => self.make(user, *rank)?,
            Act::Demote { user } => {
                if self.is_private() {
                    // Nobody gets in by that.
                    if self.people.contains_key(user) {
                        self.make(user, Rank::Member)?;
                    }
                } else {
                    self.people.remove(user);
                }
            }
            Act::Kick { user } => drop(self.people.remove(user)),
            Act::Left => drop(self.people.remove(actor)),
            Act::Ban { subject } => {
                if self.banned.len() >= MAX_BANS && !self.banned.contains(subject) {
                    return Err(too_many("bans", MAX_BANS));
                }
                self.banned.insert(subject.clone());
                self.people.retain(|user, _| match subject {
                    Subject::User(banned) => user != banned,
                    Subject::Host(host) => user.host != *host,
                });
            }
            Act::Unban { subject } => drop(self.banned.remove(subject)),
            Act::Mute { user } => {
                if self.muted.len() >= MAX_MUTES && !self.muted.contains(user) {
                    return Err(too_many("muted people", MAX_MUTES));
                }
                self.muted.insert(user.clone());
            }
            Act::Unmute { user } => drop(self.muted.remove(user)),
            Act::Retention { keep } => self.keep = *keep,
            Act::Opened { .. } | Act::Erase { .. } => {}
        }
        Ok(())
    }

    /// The same for a host that has another name now.
    #[must_use]
    pub fn with_host_renamed(self, old: &HostName, new: &HostName) -> Self {
        let host = |host: HostName| if host == *old { new.clone() } else { host };
        let user = |user: UserName| UserName::new(user.nick, host(user.host));
        let subject = |subject| match subject {
            Subject::User(banned) => Subject::User(user(banned)),
            Subject::Host(banned) => Subject::Host(host(banned)),
        };
        Self {
            mode: self.mode,
            people: self
                .people
                .into_iter()
                .map(|(one, rank)| (user(one), rank))
                .collect(),
            banned: self.banned.into_iter().map(subject).collect(),
            muted: self.muted.into_iter().map(user).collect(),
            keep: self.keep,
        }
    }

    /// The charter in its encoding, as stored.
    ///
    /// # Errors
    ///
    /// [`CodecError`], which the limits of the lists rule out.
    pub fn to_bytes(&self) -> Result<Bytes, CodecError> {
        codec::encode_value(self)
    }

    /// The charter stored as these bytes.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if they are not one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode_value(bytes)
    }

    /// Takes in those who are in the room when it becomes one that is by invitation.
    fn admit(&mut self, mode: Mode, members: &[UserName]) -> Result<(), Denied> {
        if mode != Mode::InviteOnly {
            return Ok(());
        }
        let new: BTreeSet<&UserName> = members
            .iter()
            .filter(|user| !self.people.contains_key(user) && !self.is_banned(user))
            .collect();
        if self.people.len() + new.len() > MAX_CHARTER_PEOPLE {
            return Err(too_many("members", MAX_CHARTER_PEOPLE));
        }
        for user in new {
            self.people.insert(user.clone(), Rank::Member);
        }
        Ok(())
    }

    fn make(&mut self, user: &UserName, rank: Rank) -> Result<(), Denied> {
        if !self.people.contains_key(user) && self.people.len() >= MAX_CHARTER_PEOPLE {
            return Err(too_many("members", MAX_CHARTER_PEOPLE));
        }
        if self.rank(user) == Some(Rank::Owner) {
            self.may_fall(user)?;
        }
        self.people.insert(user.clone(), rank);
        Ok(())
    }

    /// Whether `user` has a lower rank than `rank`, and is no owner.
    fn is_below(&self, rank: Option<Rank>, user: &UserName) -> Result<(), Denied> {
        match self.rank(user) {
            Some(theirs) if theirs >= Rank::Moderator && Some(theirs) >= rank => {
                Err(Denied::NotBelow {
                    user: user.clone(),
                    rank: theirs,
                    ask: self.of_rank(Rank::Owner),
                })
            }
            _ => Ok(()),
        }
    }

    /// Whether an owner remains without `user`.
    fn may_fall(&self, user: &UserName) -> Result<(), Denied> {
        let is_owner = |(other, rank): (&UserName, Rank)| rank == Rank::Owner && other != user;
        if self.rank(user) != Some(Rank::Owner) || self.people().any(is_owner) {
            Ok(())
        } else {
            Err(Denied::LastOwner { user: user.clone() })
        }
    }

    /// Some people of at least this rank, highest first.
    fn of_rank(&self, least: Rank) -> Vec<UserName> {
        let with = |wanted| {
            let found = self.people().filter(move |(_, rank)| *rank == wanted);
            found.map(|(user, _)| user.clone())
        };
        let mut found: Vec<UserName> = with(Rank::Owner).take(MAX_ASKED).collect();
        if least <= Rank::Moderator {
            found.extend(with(Rank::Moderator));
            found.truncate(MAX_ASKED);
        }
        found
    }
}

fn too_many(what: &str, max: usize) -> Denied {
    Denied::TooMany {
        what: what.to_owned(),
        max: u32::try_from(max).unwrap_or(u32::MAX),
    }
}
