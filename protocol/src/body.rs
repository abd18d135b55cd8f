//! What the sender encodes once and only the terminal decodes.

use crate::{
    MessageId,
    codec::{self, CodecError},
    governance::Act,
    limits::{MAX_BODY_BYTES, MAX_ENCODED_BODY_BYTES, MAX_REACTION_BYTES},
};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, de::Visitor};
use std::fmt;
use thiserror::Error;

/// Why a message body is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BodyError {
    /// Longer than [`MAX_BODY_BYTES`].
    #[error("a message is at most {max} bytes, this one has {len}")]
    TooLong {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Nothing to say.
    #[error("a message cannot be empty")]
    Empty,
    /// Not one short word or emoji.
    #[error(
        "a reaction is one emoji or word of at most {MAX_REACTION_BYTES} bytes, without spaces"
    )]
    BadReaction,
    /// Not something this version can read.
    #[error("the message body cannot be read: {reason}")]
    Unreadable {
        /// What the decoder said.
        reason: String,
    },
}

/// What a message says. The order of variants is the wire format: append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Content {
    /// Plain text as it was typed: any Unicode, lines separated by LF.
    Text(String),
    /// What the author does, told of them in the third person.
    Action(String),
    /// An answer to another message of the room.
    Reply {
        /// Which message.
        to: MessageId,
        /// What is answered, as in [`Content::Text`].
        text: String,
    },
    /// Other words for an earlier message. Readers heed it only from that message's author.
    Edit {
        /// Which message.
        of: MessageId,
        /// What it says from now on.
        text: String,
    },
    /// An earlier message is taken back. Readers heed it only from that message's author.
    Delete {
        /// Which message.
        of: MessageId,
    },
    /// A reaction to another message of the room, or its end.
    React {
        /// Which message.
        to: MessageId,
        /// One emoji or short word, without white space or control characters.
        emoji: String,
        /// Whether it is there from now on, or gone.
        on: bool,
    },
    /// A change of who may do what in the room. Only whoever orders the room writes these.
    Act(Act),
    /// What stands in the place of words that were erased, or kept for long enough.
    Erased,
}

/// What encoded bodies begin with, by kind.
const DELETE_TAG: u8 = 4;

/// What the body of an [`Act`] begins with.
pub const ACT_TAG: u8 = 6;

/// All that the body of an erased message is made of.
pub const ERASED_TAG: u8 = 7;

/// What the body of an edit begins with: its kind, then how an id is written that takes all of its
/// 16 bytes, as all do that come from a clock. The id itself follows, last byte first.
pub const EDIT_TAG: [u8; 2] = [3, 254];

/// The first byte of a number that is not written in one byte.
const LONG_TAG: u8 = 251;

impl Content {
    /// Encodes this once, for the log, every agent and every terminal.
    ///
    /// # Errors
    ///
    /// [`BodyError::TooLong`] or [`BodyError::Empty`].
    pub fn encode(&self) -> Result<EncodedBody, BodyError> {
        self.check()?;
        codec::encode_value(self)
            .map(EncodedBody)
            .map_err(|error| BodyError::Unreadable {
                reason: error.to_string(),
            })
    }

    /// The words that were typed, if this has any of its own.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text)
            | Self::Action(text)
            | Self::Reply { text, .. }
            | Self::Edit { text, .. } => Some(text),
            Self::Delete { .. } | Self::React { .. } | Self::Act(_) | Self::Erased => None,
        }
    }

    /// The message that this is about, if it is about one.
    #[must_use]
    pub const fn about(&self) -> Option<MessageId> {
        match self {
            Self::Text(_) | Self::Action(_) | Self::Act(_) | Self::Erased => None,
            Self::Reply { to: id, .. }
            | Self::Edit { of: id, .. }
            | Self::Delete { of: id }
            | Self::React { to: id, .. } => Some(*id),
        }
    }

    /// Whether people and programs may say this: all but what whoever orders the room writes.
    #[must_use]
    pub const fn may_be_said(&self) -> bool {
        !matches!(self, Self::Act(_) | Self::Erased)
    }

    fn check(&self) -> Result<(), BodyError> {
        if let Self::React { emoji, .. } = self {
            let odd = |c: char| c.is_whitespace() || c.is_control();
            if emoji.is_empty() || emoji.len() > MAX_REACTION_BYTES || emoji.contains(odd) {
                return Err(BodyError::BadReaction);
            }
        }
        let Some(text) = self.text() else {
            return Ok(());
        };
        if text.is_empty() {
            return Err(BodyError::Empty);
        }
        if text.len() > MAX_BODY_BYTES {
            return Err(BodyError::TooLong {
                len: text.len(),
                max: MAX_BODY_BYTES,
            });
        }
        Ok(())
    }
}

/// A [`Content`] in its encoding: stored and forwarded as it is by whoever is not its reader.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct EncodedBody(Bytes);

impl EncodedBody {
    /// Takes bytes that were stored or received as a body, without reading them.
    ///
    /// # Errors
    ///
    /// [`BodyError::TooLong`] above [`MAX_ENCODED_BODY_BYTES`], [`BodyError::Empty`] for none.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, BodyError> {
        let body = Self(bytes);
        body.check()?;
        Ok(body)
    }

    /// Checks the size of a body that came in a frame.
    ///
    /// # Errors
    ///
    /// As [`EncodedBody::from_bytes`].
    pub fn check(&self) -> Result<(), BodyError> {
        match self.0.len() {
            0 => Err(BodyError::Empty),
            len if len > MAX_ENCODED_BODY_BYTES => Err(BodyError::TooLong {
                len,
                max: MAX_ENCODED_BODY_BYTES,
            }),
            _ => Ok(()),
        }
    }

    /// The body of a message whose words are gone.
    #[must_use]
    pub const fn erased() -> Self {
        Self(Bytes::from_static(&[ERASED_TAG]))
    }

    /// Whether the words of this are gone.
    #[must_use]
    pub fn is_erased(&self) -> bool {
        *self.0 == [ERASED_TAG]
    }

    /// Whether this is an [`Act`], as its first byte tells.
    #[must_use]
    pub fn is_act(&self) -> bool {
        self.0.first() == Some(&ACT_TAG)
    }

    /// Whether an agent may append this: nothing that only whoever orders a room writes, in
    /// whichever spelling of its kind a decoder would take.
    #[must_use]
    pub fn may_be_said(&self) -> bool {
        let written = |tag: &u8| matches!(*tag, ACT_TAG | ERASED_TAG | LONG_TAG..);
        !self.0.first().is_some_and(written)
    }

    /// The message that this takes back, if it does that. Looks no further if it does not.
    #[must_use]
    pub fn takes_back(&self) -> Option<MessageId> {
        if self.0.first() != Some(&DELETE_TAG) {
            return None;
        }
        match self.decode() {
            Ok(Content::Delete { of }) => Some(of),
            _ => None,
        }
    }

    /// The encoded bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Reads the body, at the terminal.
    ///
    /// # Errors
    ///
    /// [`BodyError::Unreadable`] if a newer or broken sender wrote it, or [`BodyError::TooLong`].
    pub fn decode(&self) -> Result<Content, BodyError> {
        let content: Content =
            codec::decode_value(&self.0).map_err(|error: CodecError| BodyError::Unreadable {
                reason: error.to_string(),
            })?;
        content.check()?;
        Ok(content)
    }
}

/// Copies the body out of its frame once; `Bytes` itself would clear the memory first, and
/// before knowing whether the claimed bytes are there.
impl<'de> Deserialize<'de> for EncodedBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Body;

        impl Visitor<'_> for Body {
            type Value = EncodedBody;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an encoded message body")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<EncodedBody, E> {
                Ok(EncodedBody(Bytes::copy_from_slice(bytes)))
            }
        }

        deserializer.deserialize_bytes(Body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives_and_is_limited() {
        let content = Content::Text("grüße, 世界 \u{1b}[31m".to_owned());
        assert_eq!(content.encode().unwrap().decode(), Ok(content));
        let most = Content::Text("x".repeat(MAX_BODY_BYTES));
        assert_eq!(most.encode().unwrap().decode(), Ok(most));
        let over = Content::Text("x".repeat(MAX_BODY_BYTES + 1)).encode();
        assert_eq!(
            over,
            Err(BodyError::TooLong {
                len: 65_537,
                max: 65_536
            })
        );
        assert_eq!(Content::Text(String::new()).encode(), Err(BodyError::Empty));
    }

    #[test]
    fn a_reaction_is_one_short_word() {
        let react = |emoji: &str| Content::React {
            to: MessageId::from_bytes([7; 16]),
            emoji: emoji.to_owned(),
            on: true,
        };
        assert!(react("\u{1f469}\u{200d}\u{1f680}").encode().is_ok());
        for bad in ["", "two words", "\u{1b}[2J", &"x".repeat(65)] {
            assert_eq!(react(bad).encode(), Err(BodyError::BadReaction), "{bad:?}");
        }
    }

    #[test]
    fn what_a_room_says_of_itself_is_told_by_its_first_byte() {
        let of = MessageId::from_bytes([7; 16]);
        let text = "x".to_owned();
        let said = |content: Content| {
            let body = content.encode().unwrap();
            assert_eq!(body.may_be_said(), content.may_be_said(), "{content:?}");
            body
        };
        assert!(said(Content::Act(Act::Left)).is_act());
        assert!(said(Content::Erased).is_erased());
        assert_eq!(said(Content::Erased), EncodedBody::erased());
        assert_eq!(said(Content::Delete { of }).takes_back(), Some(of));
        let edit = said(Content::Edit { of, text });
        assert!(edit.as_bytes().starts_with(&EDIT_TAG));
        assert_eq!(edit.as_bytes()[2..18], [7; 16]);
        assert_eq!(edit.takes_back(), None);
    }

    #[test]
    fn no_spelling_of_an_act_may_be_said() {
        for bytes in [&[6, 12][..], &[251, 6, 0, 12], &[252, 6, 0, 0, 0, 12]] {
            let body = EncodedBody::from_bytes(Bytes::copy_from_slice(bytes)).unwrap();
            assert_eq!(body.decode(), Ok(Content::Act(Act::Left)), "{bytes:?}");
            assert!(!body.may_be_said(), "{bytes:?}");
        }
    }

    #[test]
    fn a_body_from_a_newer_version_is_unreadable_not_a_crash() {
        for bytes in [
            &[9, 1, 2][..],
            &[0],
            &[0, 2, 0xff, 0xff],
            &[0, 253, 255, 255, 255, 255, 255, 255, 255, 255],
        ] {
            let body = EncodedBody::from_bytes(Bytes::copy_from_slice(bytes)).unwrap();
            assert!(
                matches!(body.decode(), Err(BodyError::Unreadable { .. })),
                "{bytes:?}"
            );
        }
    }
}
