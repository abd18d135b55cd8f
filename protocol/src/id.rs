//! Identifiers. None has arithmetic: seqs need not be contiguous, and ids mean nothing but
//! themselves.

use crate::{Room, UserName, text::excerpt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};
use thiserror::Error;
use uuid::Uuid;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{value:?} is not a {what}")]
pub struct IdError {
    what: &'static str,
    value: String,
}

/// Identifies one message for as long as it lives; the key for deduplication everywhere.
///
/// A UUIDv7, made once where the message is born. A message sent under a script's own key has a
/// UUIDv8 derived from author, room and key, so that a retry has the same id.
///
/// A message that a bot sends has a UUIDv8 that says so, by which bots know not to answer each
/// other: see [`MessageId::new_by_bot`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageId(u128);

impl MessageId {
    /// A fresh, time-ordered id.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7().as_u128())
    }

    /// The id that `author`'s message to `room` under `key` always has.
    ///
    /// A UUIDv8 whose first 60 bits behind version and variant stand for the author, and whose other 62
    /// for room and key. Nobody else may use it: see [`MessageId::may_be_of`].
    #[must_use]
    pub fn from_key(author: &UserName, room: &Room, key: &str) -> Self {
        let mut digest = Sha256::new();
        // A conversation is with whom it is, whatever the author's own host is called.
        match room {
            Room::Direct(direct) => {
                let other = direct.ends().into_iter().find(|end| *end != author);
                digest.update(other.unwrap_or(author).to_string());
            }
            room => digest.update(room.as_str()),
        }
        // Names cannot contain NUL, so the two parts cannot run into each other.
        digest.update([0]);
        digest.update(key);
        let mut low = [0; 8];
        low.copy_from_slice(&digest.finalize()[..8]);
        let id = author_bits(author) | u128::from(u64::from_be_bytes(low));
        Self(Uuid::new_v8(id.to_be_bytes()).as_u128())
    }

    /// Whether `author` may send under this id. An id that was made of a key is its author's, also
    /// when others guess the key; any other is whose who uses it first, and cannot be guessed.
    #[must_use]
    pub fn may_be_of(self, author: &UserName) -> bool {
        !self.is_v8() || self.is_by_bot() || self.0 & AUTHOR_BITS == author_bits(author)
    }

    /// The id that `author`'s message under the same key has, if this one was made of somebody's key:
    /// for a host that has another name.
    #[must_use]
    pub fn made_over_to(self, author: &UserName) -> Self {
        if self.may_be_of(author) {
            return self;
        }
        Self(self.0 & !AUTHOR_BITS | author_bits(author))
    }

    /// A fresh, time-ordered id that says that a bot sends this.
    ///
    /// A UUIDv8: the milliseconds of a UUIDv7, then a mark (`b07` in the 12 bits behind the version,
    /// `b07b` in the 16 behind the variant), and 46 random bits. No id made of a key has this mark.
    #[must_use]
    pub fn new_by_bot() -> Self {
        let fresh = Uuid::now_v7().as_u128();
        let marked = fresh & !BOT_BITS | BOT_MARK;
        Self(Uuid::new_v8(marked.to_be_bytes()).as_u128())
    }

    /// Whether this id says that a bot sent the message.
    #[must_use]
    pub const fn is_by_bot(self) -> bool {
        self.is_v8() && self.0 & BOT_BITS == BOT_MARK
    }

    const fn is_v8(self) -> bool {
        self.0 >> 76 & 0xf == 8
    }

    /// The id as 16 big-endian bytes, as stored.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The id stored as these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

/// Where a bot's id has its mark: behind the version, and behind the variant.
const BOT_BITS: u128 = 0xfff << 64 | 0xffff << 46;

/// What a bot's id has there.
const BOT_MARK: u128 = 0xb07 << 64 | 0xb07b << 46;

/// Where an id that was made of a key has its author: 48 bits before the version, 12 behind it.
const AUTHOR_BITS: u128 = 0xffff_ffff_ffff << 80 | 0xfff << 64;

/// What the ids made of `author`'s keys have there.
fn author_bits(author: &UserName) -> u128 {
    let digest = Sha256::digest(author.to_string());
    let mut high = [0; 8];
    high.copy_from_slice(&digest[..8]);
    let bits = u128::from(u64::from_be_bytes(high)) << 64 & AUTHOR_BITS;
    // None of them is taken for a bot's.
    match bits & BOT_BITS == BOT_MARK & AUTHOR_BITS {
        true => bits ^ 1 << 64,
        false => bits,
    }
}

impl Default for MessageId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_u128(self.0).hyphenated().fmt(f)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({self})")
    }
}

impl FromStr for MessageId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let parsed = Uuid::try_parse(text);
        parsed
            .map(|uuid| Self(uuid.as_u128()))
            .map_err(|_| IdError {
                what: "message id",
                value: excerpt(text),
            })
    }
}

/// Identifies an agent's state directory, made when it is first used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AgentId(u128);

impl AgentId {
    /// A fresh id.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7().as_u128())
    }

    /// The id as 16 big-endian bytes, as stored.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The id stored as these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

impl Default for AgentId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_u128(self.0).hyphenated().fmt(f)
    }
}

/// A position in a room's log: strictly increasing within a room, with gaps.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Seq(u64);

impl Seq {
    /// Before the first message of any room.
    pub const START: Self = Self(0);

    /// The position with this number; 0 is [`Seq::START`].
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The bare number, for storage and for people.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identifies one life of a log. A log that was recreated or restored has another, so no reader
/// resumes silently in the wrong place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Epoch(u64);

impl Epoch {
    /// A fresh epoch: 64 random bits.
    #[must_use]
    pub fn new() -> Self {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        // Version and variant bits are constant; mixing the halves keeps 64 random ones.
        Self(high.rotate_left(32) ^ low)
    }

    /// The epoch stored as these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }

    /// The epoch as 8 big-endian bytes, as stored.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl Default for Epoch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({self})")
    }
}

impl FromStr for Epoch {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = if digits {
            u64::from_str_radix(text, 16).ok()
        } else {
            None
        };
        number.map(Self).ok_or_else(|| IdError {
            what: "log epoch",
            value: excerpt(text),
        })
    }
}

/// Pairs a reply with its request on one connection. The requesting side chooses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_their_own_text() {
        let id = MessageId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
        let epoch = Epoch::new();
        assert_eq!(epoch.to_string().parse(), Ok(epoch));
        assert!("+000000000000001".parse::<Epoch>().is_err());
        assert!("not-an-id".parse::<MessageId>().is_err());
    }

    #[test]
    fn only_a_bot_s_id_says_so_and_it_is_ordered_by_time() {
        let id = MessageId::new_by_bot();
        assert!(id.is_by_bot());
        assert_ne!(id, MessageId::new_by_bot());
        let uuid = Uuid::from_bytes(id.to_bytes());
        assert_eq!(uuid.get_version_num(), 8);
        assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
        let (before, after) = (MessageId::new().0 >> 80, MessageId::new_by_bot().0 >> 80);
        assert!(before <= after && after - before < 60_000);
        assert!(!MessageId::new().is_by_bot());
        let (alice, ops) = ("alice@ada".parse().unwrap(), "#ops".parse().unwrap());
        assert!(!MessageId::from_key(&alice, &ops, "deploy-7").is_by_bot());
        assert!(!MessageId::from_bytes([0; 16]).is_by_bot());
    }

    #[test]
    fn a_key_gives_one_id_per_author_and_room() {
        let alice = "alice@ada".parse().unwrap();
        let bob = "bob@ada".parse().unwrap();
        let ops = "#ops".parse().unwrap();
        let id = MessageId::from_key(&alice, &ops, "deploy-7");
        assert_eq!(id, MessageId::from_key(&alice, &ops, "deploy-7"));
        assert_ne!(id, MessageId::from_key(&bob, &ops, "deploy-7"));
        assert_ne!(
            id,
            MessageId::from_key(&alice, &"#dev".parse().unwrap(), "deploy-7")
        );
        assert_ne!(id, MessageId::from_key(&alice, &ops, "deploy-8"));
    }

    #[test]
    fn an_id_made_of_a_key_is_nobody_else_s() {
        let alice: UserName = "alice@ada".parse().unwrap();
        let ops = "#ops".parse().unwrap();
        let others = ["alice@bee", "bob@ada", "carl@cat"].map(|user| user.parse().unwrap());
        for number in 0..2_000 {
            let id = MessageId::from_key(&alice, &ops, &number.to_string());
            assert!(id.may_be_of(&alice) && !id.is_by_bot());
            assert!(others.iter().all(|other| !id.may_be_of(other)), "{id}");
        }
        let id = MessageId::from_key(&alice, &ops, "deploy-7");
        assert_eq!(
            id.made_over_to(&others[0]),
            MessageId::from_key(&others[0], &ops, "deploy-7")
        );
        for fresh in [MessageId::new(), MessageId::new_by_bot()] {
            assert_eq!(fresh.made_over_to(&alice), fresh);
            assert!(fresh.may_be_of(&alice) && fresh.may_be_of(&others[0]));
        }
    }

    #[test]
    fn no_author_s_keys_make_ids_of_bots() {
        for number in 0..20_000 {
            let author: UserName = format!("u{number}@ada").parse().unwrap();
            assert_ne!(author_bits(&author) & BOT_BITS, BOT_MARK & AUTHOR_BITS);
        }
    }
}
