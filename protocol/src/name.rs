//! Names of people and hosts, parsed once at the edge.

use crate::{
    limits::{MAX_CONSUMER_BYTES, MAX_HOST_BYTES, MAX_NICK_BYTES},
    text::{excerpt, serde_as_text},
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};
use thiserror::Error;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing there.
    #[error("a {what} cannot be empty")]
    Empty {
        /// Which kind of name.
        what: &'static str,
    },
    /// Longer than the limit.
    #[error("a {what} is at most {max} bytes, this one has {len}")]
    TooLong {
        /// Which kind of name.
        what: &'static str,
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A character that no name has.
    #[error("a {what} cannot contain {found:?}")]
    BadCharacter {
        /// Which kind of name.
        what: &'static str,
        /// The first such character.
        found: char,
    },
    /// A mark where a letter or digit must be.
    #[error("a {what} begins with a letter or digit, not with {found:?}")]
    BadStart {
        /// Which kind of name.
        what: &'static str,
        /// The first character.
        found: char,
    },
    /// A user without `@host`.
    #[error("{value:?} is not of the form nick@host")]
    NotAUser {
        /// The text, or its beginning.
        value: String,
    },
}

/// Letters and digits of any script, and `-`, `_`, `.`: nothing a terminal, a shell or a path
/// could take for something else, and nothing that shows as nothing. See [`is_deceptive`] for
/// the letters that are left out; look-alikes of different scripts are not.
pub(crate) fn check_word(what: &'static str, text: &str, max: usize) -> Result<(), NameError> {
    let Some(first) = text.chars().next() else {
        return Err(NameError::Empty { what });
    };
    if text.len() > max {
        return Err(NameError::TooLong {
            what,
            len: text.len(),
            max,
        });
    }
    if let Some(found) = text
        .chars()
        .find(|c| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.')) || is_deceptive(*c))
    {
        return Err(NameError::BadCharacter { what, found });
    }
    if matches!(first, '-' | '.') {
        return Err(NameError::BadStart { what, found: first });
    }
    Ok(())
}

/// Whether Unicode calls `c` a letter although it is blank, or spells what another letter spells.
fn is_deceptive(c: char) -> bool {
    matches!(
        c,
        // Jamo, the parts that Hangul syllables can be spelled with, two blank fillers included.
        '\u{1100}'..='\u{11ff}' | '\u{a960}'..='\u{a97f}' | '\u{d7b0}'..='\u{d7ff}'
        // The other two blank fillers.
        | '\u{3164}' | '\u{ffa0}'
        // Ohm, Kelvin and Angstrom signs are omega, K and A with ring.
        | '\u{2126}' | '\u{212a}' | '\u{212b}'
        // Marks that count as letters but combine with the one before.
        | '\u{345}' | '\u{610}'..='\u{61a}' | '\u{64b}'..='\u{65f}' | '\u{670}'
    )
}

/// What a person is called on one host: 1 to [`MAX_NICK_BYTES`] bytes of letters, digits, `-`,
/// `_` and `.`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nick(Arc<str>);

impl Nick {
    /// Parses a nick.
    ///
    /// # Errors
    ///
    /// [`NameError`] names the rule that `text` breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check_word("nick", text, MAX_NICK_BYTES)?;
        Ok(Self(text.into()))
    }

    /// The nick as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a consumer calls itself whose position the agent keeps: 1 to [`MAX_CONSUMER_BYTES`] bytes
/// of letters, digits, `-`, `_` and `.`. Each user has their own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerName(Arc<str>);

impl ConsumerName {
    /// Parses a consumer's name.
    ///
    /// # Errors
    ///
    /// [`NameError`] names the rule that `text` breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check_word("consumer's name", text, MAX_CONSUMER_BYTES)?;
        Ok(Self(text.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What an agent's host is called: ASCII letters, digits, `-`, `_` and `.`, kept in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(Arc<str>);

impl HostName {
    /// Parses a host name; upper case becomes lower case, as in DNS.
    ///
    /// # Errors
    ///
    /// [`NameError`] names the rule that `text` breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check_word("host name", text, MAX_HOST_BYTES)?;
        if let Some(found) = text.chars().find(|c| !c.is_ascii()) {
            return Err(NameError::BadCharacter {
                what: "host name",
                found,
            });
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// The host name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A person on a host: `nick@host`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UserName {
    /// The nick, unique on its host.
    pub nick: Nick,
    /// The host, unique on a server.
    pub host: HostName,
}

impl UserName {
    /// `nick` on `host`.
    #[must_use]
    pub const fn new(nick: Nick, host: HostName) -> Self {
        Self { nick, host }
    }

    /// Parses `nick@host`.
    ///
    /// # Errors
    ///
    /// [`NameError`] names the rule that `text` breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let Some((nick, host)) = text.split_once('@') else {
            return Err(NameError::NotAUser {
                value: excerpt(text),
            });
        };
        Ok(Self {
            nick: Nick::parse(nick)?,
            host: HostName::parse(host)?,
        })
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.nick, self.host)
    }
}

impl fmt::Debug for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserName({self})")
    }
}

impl FromStr for UserName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

macro_rules! text_name {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().into()
            }
        }
    };
}
text_name!(Nick);
text_name!(HostName);
text_name!(ConsumerName);
serde_as_text!(Nick);
serde_as_text!(HostName);
serde_as_text!(ConsumerName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_be_something_else_is_refused() {
        for bad in [
            "",
            "a b",
            "a\u{1b}[31m",
            "a\n",
            "a/b",
            "-rf",
            ".ssh",
            "a,b",
            "a@b",
            "#a",
            "e\u{301}",
            "alice\u{3164}",
            "\u{115f}",
            "\u{1100}\u{1161}",
            "\u{212a}im",
        ] {
            assert!(Nick::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Nick::parse(&"a".repeat(MAX_NICK_BYTES)).is_ok());
        assert_eq!(
            Nick::parse(&"a".repeat(MAX_NICK_BYTES + 1)),
            Err(NameError::TooLong {
                what: "nick",
                len: 33,
                max: 32
            })
        );
    }

    #[test]
    fn people_may_use_their_own_script() {
        for good in ["alice", "Zoë", "李雷", "가람", "o_O", "r2.d2", "x-1"] {
            assert_eq!(Nick::parse(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn what_is_invisible_is_no_part_of_a_name() {
        // Unicode's Default_Ignorable_Code_Point.
        for range in [
            '\u{ad}'..='\u{ad}',
            '\u{34f}'..='\u{34f}',
            '\u{61c}'..='\u{61c}',
            '\u{115f}'..='\u{1160}',
            '\u{17b4}'..='\u{17b5}',
            '\u{180b}'..='\u{180f}',
            '\u{200b}'..='\u{200f}',
            '\u{202a}'..='\u{202e}',
            '\u{2060}'..='\u{206f}',
            '\u{3164}'..='\u{3164}',
            '\u{fe00}'..='\u{fe0f}',
            '\u{feff}'..='\u{feff}',
            '\u{ffa0}'..='\u{ffa0}',
            '\u{fff0}'..='\u{fff8}',
            '\u{1bca0}'..='\u{1bca3}',
            '\u{1d173}'..='\u{1d17a}',
            '\u{e0000}'..='\u{e0fff}',
        ] {
            for c in range {
                assert!(Nick::parse(&format!("a{c}")).is_err(), "{c:?}");
            }
        }
    }

    #[test]
    fn host_names_ignore_case() {
        assert_eq!(HostName::parse("Ada.LAN"), HostName::parse("ada.lan"));
        assert!(HostName::parse("münchen").is_err());
    }
}
