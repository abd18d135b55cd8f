//! Where a message goes: federated rooms, host-local rooms, direct conversations.

use crate::{
    limits::MAX_ROOM_NAME_BYTES,
    name::{HostName, NameError, Nick, UserName, check_word},
    text::{excerpt, serde_as_text},
};
use std::{fmt, str::FromStr, sync::Arc};
use thiserror::Error;

/// Why a text is not a room or a target.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RoomError {
    /// The part that is a name breaks a rule of names.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Neither `#name` nor `&name` nor a pair of users.
    #[error("{value:?} is no room: write #name (all hosts), &name (this host), nick or nick@host")]
    NotARoom {
        /// The text, or its beginning.
        value: String,
    },
    /// The two ends of a direct conversation in the wrong order; there is one spelling only.
    #[error("the ends of direct conversation {value:?} are not in order")]
    Unordered {
        /// The text, or its beginning.
        value: String,
    },
}

/// `#name`: ordered and stored by the server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FederatedRoom(Arc<str>);

/// `&name`: ordered and stored by the agent; never leaves its host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalRoom(Arc<str>);

/// The conversation of two users, or of one with themselves. It has one spelling,
/// `first@host,second@host` in order, whoever speaks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Direct(Arc<Ends>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Ends {
    text: Box<str>,
    first: UserName,
    second: UserName,
}

/// Any place with a log of its own. On the wire and on disk it is its text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Room {
    /// `#name`.
    Federated(FederatedRoom),
    /// `&name`.
    Local(LocalRoom),
    /// Two people.
    Direct(Direct),
}

/// Where a person points: as [`Room`], but a direct conversation is named by its other end, and
/// `bob` alone means bob on this host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// `#name`.
    Federated(FederatedRoom),
    /// `&name`.
    Local(LocalRoom),
    /// `nick` or `nick@host`.
    Person {
        /// The other end's nick.
        nick: Nick,
        /// The other end's host; this one if absent.
        host: Option<HostName>,
    },
}

macro_rules! sigil_room {
    ($name:ident, $sigil:literal, $what:literal) => {
        impl $name {
            /// Parses the name with its sigil.
            ///
            /// # Errors
            ///
            /// [`RoomError`] if the sigil is another or the rest is no name.
            pub fn parse(text: &str) -> Result<Self, RoomError> {
                let Some(word) = text.strip_prefix($sigil) else {
                    return Err(RoomError::NotARoom {
                        value: excerpt(text),
                    });
                };
                check_word($what, word, MAX_ROOM_NAME_BYTES)?;
                Ok(Self(text.into()))
            }

            /// The name with its sigil.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = RoomError;

            fn try_from(text: String) -> Result<Self, RoomError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(room: $name) -> Self {
                room.0.as_ref().into()
            }
        }
    };
}
sigil_room!(FederatedRoom, '#', "room name");
sigil_room!(LocalRoom, '&', "room name");
serde_as_text!(FederatedRoom);
serde_as_text!(LocalRoom);
serde_as_text!(Room);

impl Direct {
    /// The conversation between two users.
    #[must_use]
    pub fn between(one: UserName, other: UserName) -> Self {
        let (first, second) = if one <= other {
            (one, other)
        } else {
            (other, one)
        };
        let text = format!("{first},{second}").into();
        Self(Arc::new(Ends {
            text,
            first,
            second,
        }))
    }

    /// Both ends, in order.
    #[must_use]
    pub fn ends(&self) -> [&UserName; 2] {
        [&self.0.first, &self.0.second]
    }

    /// Whether `user` is one of the two.
    #[must_use]
    pub fn includes(&self, user: &UserName) -> bool {
        self.0.first == *user || self.0.second == *user
    }

    /// Whether `host` is the host of one of the two.
    #[must_use]
    pub fn touches(&self, host: &HostName) -> bool {
        self.0.first.host == *host || self.0.second.host == *host
    }

    /// The other end as `me` sees it; `me` itself in a conversation with oneself.
    #[must_use]
    pub fn peer_of(&self, me: &UserName) -> &UserName {
        if self.0.first == *me {
            &self.0.second
        } else {
            &self.0.first
        }
    }
}

impl Room {
    /// Parses the canonical text: `#name`, `&name` or `first@host,second@host`.
    ///
    /// # Errors
    ///
    /// [`RoomError`] names the rule that `text` breaks.
    pub fn parse(text: &str) -> Result<Self, RoomError> {
        match text.as_bytes().first() {
            Some(b'#') => FederatedRoom::parse(text).map(Self::Federated),
            Some(b'&') => LocalRoom::parse(text).map(Self::Local),
            _ => {
                let Some((first, second)) = text.split_once(',') else {
                    return Err(RoomError::NotARoom {
                        value: excerpt(text),
                    });
                };
                let direct = Direct::between(UserName::parse(first)?, UserName::parse(second)?);
                if *direct.0.text == *text {
                    Ok(Self::Direct(direct))
                } else {
                    Err(RoomError::Unordered {
                        value: excerpt(text),
                    })
                }
            }
        }
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Federated(room) => room.as_str(),
            Self::Local(room) => room.as_str(),
            Self::Direct(direct) => &direct.0.text,
        }
    }

    /// Whether the agent of `host` orders and stores this room itself: `&rooms`, and direct
    /// conversations with both ends on `host`.
    #[must_use]
    pub fn is_local_to(&self, host: &HostName) -> bool {
        match self {
            Self::Federated(_) => false,
            Self::Local(_) => true,
            Self::Direct(direct) => direct.ends().iter().all(|end| end.host == *host),
        }
    }

    /// The room as `me` would type it: `#name`, `&name`, `nick` on the own host, `nick@host`.
    #[must_use]
    pub fn seen_by(&self, me: &UserName) -> String {
        match self {
            Self::Federated(room) => room.to_string(),
            Self::Local(room) => room.to_string(),
            Self::Direct(direct) => {
                let peer = direct.peer_of(me);
                if peer.host == me.host {
                    peer.nick.to_string()
                } else {
                    peer.to_string()
                }
            }
        }
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Room {
    type Err = RoomError;

    fn from_str(text: &str) -> Result<Self, RoomError> {
        Self::parse(text)
    }
}

/// Names a [`Direct`] as the [`Room`] it is.
impl From<Direct> for Room {
    fn from(direct: Direct) -> Self {
        Self::Direct(direct)
    }
}

impl TryFrom<String> for Room {
    type Error = RoomError;

    fn try_from(text: String) -> Result<Self, RoomError> {
        Self::parse(&text)
    }
}

impl From<Room> for String {
    fn from(room: Room) -> Self {
        room.as_str().to_owned()
    }
}

impl Target {
    /// Parses what a person typed: `#name`, `&name`, `nick` or `nick@host`, the last two also with
    /// an `@` before them, as they are shown.
    ///
    /// # Errors
    ///
    /// [`RoomError`] names the rule that `text` breaks.
    pub fn parse(text: &str) -> Result<Self, RoomError> {
        match text.as_bytes().first() {
            Some(b'#') => FederatedRoom::parse(text).map(Self::Federated),
            Some(b'&') => LocalRoom::parse(text).map(Self::Local),
            None => Err(RoomError::NotARoom {
                value: excerpt(text),
            }),
            Some(_) => match text.strip_prefix('@').unwrap_or(text).split_once('@') {
                Some((nick, host)) => Ok(Self::Person {
                    nick: Nick::parse(nick)?,
                    host: Some(HostName::parse(host)?),
                }),
                None => Ok(Self::Person {
                    nick: Nick::parse(text.strip_prefix('@').unwrap_or(text))?,
                    host: None,
                }),
            },
        }
    }

    /// The room that `me` means by this.
    #[must_use]
    pub fn resolve(&self, me: &UserName) -> Room {
        match self {
            Self::Federated(room) => Room::Federated(room.clone()),
            Self::Local(room) => Room::Local(room.clone()),
            Self::Person { nick, host } => {
                let host = host.clone().unwrap_or_else(|| me.host.clone());
                Room::Direct(Direct::between(
                    me.clone(),
                    UserName::new(nick.clone(), host),
                ))
            }
        }
    }
}

impl FromStr for Target {
    type Err = RoomError;

    fn from_str(text: &str) -> Result<Self, RoomError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> UserName {
        text.parse().unwrap()
    }

    #[test]
    fn a_direct_conversation_has_one_spelling() {
        let alice = user("alice@ada");
        let bob = user("bob@bee");
        let room = Target::parse("bob@bee").unwrap().resolve(&alice);
        assert_eq!(room, Target::parse("alice@ada").unwrap().resolve(&bob));
        assert_eq!(Room::parse(room.as_str()), Ok(room.clone()));
        assert_eq!(room.seen_by(&alice), "bob@bee");
        assert_eq!(room.seen_by(&bob), "alice@ada");
        assert!(matches!(
            Room::parse("bob@bee,alice@ada"),
            Err(RoomError::Unordered { .. })
        ));
    }

    #[test]
    fn only_the_agent_orders_what_stays_on_its_host() {
        let me = user("alice@ada");
        for (text, local) in [
            ("#ops", false),
            ("&lobby", true),
            ("bob", true),
            ("bob@bee", false),
        ] {
            let room = Target::parse(text).unwrap().resolve(&me);
            assert_eq!(room.is_local_to(&me.host), local, "{text}");
            assert_eq!(room.seen_by(&me), text);
        }
    }

    #[test]
    fn a_person_may_be_written_as_they_are_shown() {
        for (shown, plain) in [("@bob", "bob"), ("@bob@bee", "bob@bee")] {
            assert_eq!(Target::parse(shown), Target::parse(plain));
        }
        assert!(Target::parse("@").is_err() && Target::parse("@@bob").is_err());
    }

    #[test]
    fn what_is_no_room_is_refused() {
        for bad in ["", "#", "&", "ops", "#a b", "#\u{202e}x", "a,b", "#a#b"] {
            assert!(Room::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Target::parse("#x\u{1b}]0;t\u{7}").is_err());
    }
}
