//! What hosts know each other by: fingerprints of public keys, and invitations for the first time.

use crate::text::excerpt;
use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};
use thiserror::Error;

/// Why a text is no key or invitation.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{value:?} is no {what}: it has {chars} letters and digits (a-z, 2-7)")]
pub struct KeyError {
    what: &'static str,
    chars: usize,
    value: String,
}

/// Identifies a public key: SHA-256 of its `SubjectPublicKeyInfo` in DER (RFC 5280, 4.1), as RFC
/// 7469 pins keys. Written in 52 letters and digits of base32 (RFC 4648), in lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyFingerprint([u8; 32]);

impl KeyFingerprint {
    /// Characters of the text.
    const CHARS: usize = 52;

    /// The fingerprint of the key with this `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn of_spki(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }

    /// The fingerprint as bytes, as stored.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// The fingerprint stored as these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32(&self.0))
    }
}

impl fmt::Debug for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyFingerprint({self})")
    }
}

impl FromStr for KeyFingerprint {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(Self).ok_or_else(|| {
            let chars = text.chars().count();
            // Whoever left out the key has written the invitation in its place.
            let value = match chars > Invitation::CHARS + 2 {
                true => excerpt(text),
                false => hidden(chars),
            };
            KeyError {
                what: "key",
                chars: Self::CHARS,
                value,
            }
        })
    }
}

/// What lets a host in the first time: 128 random bits. Written in 26 letters and digits.
///
/// A secret: it is sent only to a server whose key is known, which keeps a digest of it, and its
/// `Debug` does not show it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation([u8; 16]);

impl Invitation {
    /// Characters of the text.
    const CHARS: usize = 26;

    /// The invitation with these bits, which must come from the system's random source.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// What a server keeps of it.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }

    /// The secret itself, for the line that somebody pastes.
    #[must_use]
    pub fn reveal(&self) -> String {
        base32(&self.0)
    }
}

impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Invitation(secret)")
    }
}

impl FromStr for Invitation {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(Self).ok_or_else(|| KeyError {
            what: "invitation",
            chars: Self::CHARS,
            // It may be a secret with a slip in it.
            value: hidden(text.chars().count()),
        })
    }
}

fn hidden(chars: usize) -> String {
    format!("(hidden, {chars} characters)")
}

fn base32(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let upper = text.to_ascii_uppercase();
    BASE32_NOPAD.decode(upper.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_invitations_survive_their_own_text() {
        let key = KeyFingerprint::of_spki(b"a key");
        let text = key.to_string();
        assert_eq!(text.len(), KeyFingerprint::CHARS);
        assert_eq!(text.parse(), Ok(key));
        assert_eq!(text.to_ascii_uppercase().parse(), Ok(key));
        let invitation = Invitation::from_bytes([7; 16]);
        assert_eq!(invitation.reveal().len(), Invitation::CHARS);
        assert_eq!(invitation.reveal().parse(), Ok(invitation));
        for bad in [
            "",
            "abc",
            &text[1..],
            &format!("{text}a"),
            &text.replace(&text[..1], "1"),
        ] {
            assert!(bad.parse::<KeyFingerprint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_invitation_is_not_shown_by_accident() {
        let invitation = Invitation::from_bytes([7; 16]);
        assert!(!format!("{invitation:?}").contains(&invitation.reveal()));
        let slip = format!("{}x", invitation.reveal());
        let error = slip.parse::<Invitation>().unwrap_err().to_string();
        assert!(!error.contains(&invitation.reveal()), "{error}");
    }
}
