//! Where a server is, and by what an agent knows that it is the right one.
//!
//! ```text
//! chat://HOST[:PORT]/KEY[+KEY][/INVITATION]   the server with this key
//! chat://HOST[:PORT]                          a server with a certificate for HOST, by an authority
//! plain://HOST[:PORT]                         whoever answers there, without encryption
//! ```
//!
//! `HOST[:PORT]` alone is the second. A [`ServerLine`] has several places, `HOST[:PORT],HOST[:PORT]`,
//! of servers that are known by the same: those of one log.

mod line;

pub use line::ServerLine;

use crate::{
    Invitation, KeyError, KeyFingerprint,
    limits::{DEFAULT_PORT, MAX_SERVER_ADDR_BYTES, MAX_SERVER_ADDRS},
    text::excerpt,
};
use std::{fmt, net::Ipv6Addr, str::FromStr};
use thiserror::Error;

/// Why a text is no server's address. The message says what to write.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AddressError {
    /// The host or port.
    #[error("{text:?} is no server: {why}; write HOST, HOST:PORT, [IPv6]:PORT or chat://…")]
    BadHost {
        /// The text, or its beginning.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A key or invitation.
    #[error("the address of the server is incomplete or mistyped: {0}; copy the whole line again")]
    BadKey(#[from] KeyError),
    /// Something after what an address has.
    #[error("the address of {host} has more parts than HOST/KEY/INVITATION")]
    TooManyParts {
        /// Its host.
        host: String,
    },
    /// Longer than the limit.
    #[error("a server's address is at most {max} bytes, this one has {len}")]
    TooLong {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A line with a place more than once.
    #[error("{place} is in the line twice")]
    Twice {
        /// Which.
        place: String,
    },
    /// A line with more places than an agent keeps.
    #[error("the line has {count} servers, an agent keeps at most {MAX_SERVER_ADDRS}")]
    TooManyPlaces {
        /// Places given.
        count: usize,
    },
}

/// By what an agent knows its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerTrust {
    /// By its key.
    Key {
        /// The key.
        key: KeyFingerprint,
        /// The key it said it will have next.
        next: Option<KeyFingerprint>,
        /// What lets this host in the first time.
        invitation: Option<Invitation>,
    },
    /// By a certificate for its name, issued by an authority of the agent's settings.
    Authority,
    /// Not at all, and nothing is encrypted.
    Plaintext,
}

impl ServerTrust {
    /// What lets this host in the first time, if there is something.
    #[must_use]
    pub const fn invitation(&self) -> Option<Invitation> {
        match self {
            Self::Key { invitation, .. } => *invitation,
            Self::Authority | Self::Plaintext => None,
        }
    }

    /// The same key with another invitation, or none; nothing for a server without a key.
    pub const fn set_invitation(&mut self, new: Option<Invitation>) {
        if let Self::Key { invitation, .. } = self {
            *invitation = new;
        }
    }

    /// Whether both are by the same: a key that is in either, an authority, or nothing. Servers of one
    /// log share their key.
    #[must_use]
    pub fn agrees(&self, other: &Self) -> bool {
        let keys = |of: &Self| match of {
            Self::Key { key, next, .. } => [Some(*key), *next],
            Self::Authority | Self::Plaintext => [None, None],
        };
        let (ours, theirs) = (keys(self), keys(other));
        let known = |key: &Option<KeyFingerprint>| key.is_some() && theirs.contains(key);
        std::mem::discriminant(self) == std::mem::discriminant(other)
            && (ours == [None, None] || ours.iter().any(known))
    }

    /// The address of what is at `place`, without the invitation.
    fn show_at(&self, place: &str) -> String {
        match self {
            Self::Plaintext => format!("plain://{place}"),
            Self::Authority => format!("chat://{place}"),
            Self::Key { key, next, .. } => match next {
                Some(next) => format!("chat://{place}/{key}+{next}"),
                None => format!("chat://{place}/{key}"),
            },
        }
    }

    /// The same, with the invitation.
    fn reveal_at(&self, place: &str) -> String {
        let shown = self.show_at(place);
        match self.invitation() {
            Some(invitation) => format!("{shown}/{}", invitation.reveal()),
            None => shown,
        }
    }
}

/// What an address is made of, before it is looked at closely.
struct Parts<'t> {
    places: &'t str,
    is_plain: bool,
    keys: Option<&'t str>,
    invitation: Option<&'t str>,
    surplus: bool,
}

impl<'t> Parts<'t> {
    fn of(text: &'t str, max: usize) -> Result<Self, AddressError> {
        if text.len() > max {
            let len = text.len();
            return Err(AddressError::TooLong { len, max });
        }
        if let Some(places) = text.strip_prefix("plain://") {
            return Ok(Self {
                places,
                is_plain: true,
                keys: None,
                invitation: None,
                surplus: false,
            });
        }
        let rest = text.strip_prefix("chat://").unwrap_or(text);
        let mut parts = rest.trim_end_matches('/').split('/');
        Ok(Self {
            places: parts.next().unwrap_or_default(),
            is_plain: false,
            keys: parts.next(),
            invitation: parts.next(),
            surplus: parts.next().is_some(),
        })
    }

    fn trust(&self) -> Result<ServerTrust, AddressError> {
        if self.is_plain {
            return Ok(ServerTrust::Plaintext);
        }
        let invitation = self.invitation.map(str::parse).transpose()?;
        if self.surplus {
            let host = excerpt(self.places);
            return Err(AddressError::TooManyParts { host });
        }
        let Some(keys) = self.keys else {
            return Ok(ServerTrust::Authority);
        };
        let (key, next) = match keys.split_once('+') {
            Some((key, next)) => (key, Some(next.parse()?)),
            None => (keys, None),
        };
        Ok(ServerTrust::Key {
            key: key.parse()?,
            next,
            invitation,
        })
    }
}

/// A server's address and what makes it trusted. Parsed once at the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    place: String,
    /// By what it is known.
    pub trust: ServerTrust,
}

impl ServerAddress {
    /// Parses one of the three forms; the port is [`DEFAULT_PORT`] if none is given.
    ///
    /// # Errors
    ///
    /// [`AddressError`] says what to write.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let parts = Parts::of(text, MAX_SERVER_ADDR_BYTES)?;
        let place = parse_place(parts.places)?;
        let trust = parts.trust()?;
        Ok(Self { place, trust })
    }

    /// The server at `HOST:PORT`, known by `trust`.
    ///
    /// # Errors
    ///
    /// [`AddressError::BadHost`].
    pub fn new(place: &str, trust: ServerTrust) -> Result<Self, AddressError> {
        let place = parse_place(place)?;
        Ok(Self { place, trust })
    }

    /// `HOST:PORT`, as a resolver takes it but for the brackets of an IPv6 address with a zone.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The host without port and brackets: whom a certificate is for.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self
            .place
            .rsplit_once(':')
            .map_or(&*self.place, |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Whether this is the same server, whatever else was learned of it.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.place == other.place && self.trust.agrees(&other.trust)
    }

    /// The address with all that is in it, the invitation too: to be kept, not to be shown.
    #[must_use]
    pub fn reveal(&self) -> String {
        self.trust.reveal_at(&self.place)
    }
}

impl fmt::Display for ServerAddress {
    /// Without the invitation.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.trust.show_at(&self.place))
    }
}

impl FromStr for ServerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

/// `HOST`, `HOST:PORT`, `[IPv6]`, `[IPv6%zone]:PORT` or a bare IPv6 address, as `HOST:PORT`.
fn parse_place(text: &str) -> Result<String, AddressError> {
    let wrong = |why| AddressError::BadHost {
        text: excerpt(text),
        why,
    };
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let closed = rest.split_once(']');
        let (host, rest) = closed.ok_or_else(|| wrong("the bracket is not closed"))?;
        if !is_ipv6(host) {
            return Err(wrong("no IPv6 address is in the brackets"));
        }
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port),
            None if rest.is_empty() => None,
            None => return Err(wrong("something follows the bracket")),
        };
        (format!("[{host}]"), port)
    } else if is_ipv6(text) {
        (format!("[{text}]"), None)
    } else {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        if port.is_some_and(|port| port.contains(':')) {
            return Err(wrong("an IPv6 address needs brackets"));
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if host.is_empty() {
            return Err(wrong("the host is missing"));
        }
        if let Some(odd) = host.chars().find(|&c| !is_name(c)) {
            return Err(wrong(if odd == '@' {
                "a host's name has no '@'"
            } else {
                "a host's name has letters, digits, '-', '_' and '.' only"
            }));
        }
        (host.to_owned(), port)
    };
    let port = match port {
        Some(port) => port.parse::<u16>().ok().filter(|port| *port != 0),
        None => Some(DEFAULT_PORT),
    };
    let port = port.ok_or_else(|| wrong("the port is not between 1 and 65535"))?;
    Ok(format!("{host}:{port}"))
}

/// Whether this is an IPv6 address, with or without the zone of a link-local one.
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let is_zone = |zone: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !zone.is_empty() && zone.chars().all(known)
    };
    address.parse::<Ipv6Addr>().is_ok() && zone.is_none_or(is_zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(of: &str) -> KeyFingerprint {
        KeyFingerprint::of_spki(of.as_bytes())
    }

    #[test]
    fn a_server_is_completed_with_the_default_port() {
        for (typed, meant) in [
            ("hub", "hub:7667"),
            ("hub.lan:1234", "hub.lan:1234"),
            ("192.0.2.1", "192.0.2.1:7667"),
            ("[2001:db8::1]", "[2001:db8::1]:7667"),
            ("[::1]:99", "[::1]:99"),
            ("::1", "[::1]:7667"),
            ("[fe80::1%eth0]", "[fe80::1%eth0]:7667"),
            ("[fe80::1%eth0]:99", "[fe80::1%eth0]:99"),
        ] {
            let parsed = ServerAddress::parse(typed).unwrap();
            assert_eq!(parsed.place(), meant);
            assert_eq!(parsed.trust, ServerTrust::Authority);
            let plain = ServerAddress::parse(&format!("plain://{typed}")).unwrap();
            assert_eq!(plain.place(), meant);
            assert_eq!(plain.trust, ServerTrust::Plaintext);
        }
        assert_eq!(ServerAddress::parse("[::1]:99").unwrap().host(), "::1");
        assert_eq!(ServerAddress::parse("hub:99").unwrap().host(), "hub");
    }

    #[test]
    fn an_address_survives_its_own_text_and_hides_the_invitation() {
        let invitation = Invitation::from_bytes([9; 16]);
        let secret = invitation.reveal();
        let full = format!("chat://hub:99/{}+{}/{secret}", key("a"), key("b"));
        let parsed = ServerAddress::parse(&full).unwrap();
        assert_eq!(
            parsed.trust,
            ServerTrust::Key {
                key: key("a"),
                next: Some(key("b")),
                invitation: Some(invitation)
            }
        );
        assert_eq!(parsed.reveal(), full);
        assert!(!parsed.to_string().contains(&secret));
        assert!(!format!("{parsed:?}").contains(&secret));
        for text in [
            "chat://hub:99",
            "plain://hub:99",
            &format!("chat://hub:99/{}", key("a")),
        ] {
            assert_eq!(ServerAddress::parse(text).unwrap().reveal(), text);
        }
    }

    #[test]
    fn an_invitation_in_the_place_of_the_key_is_not_shown() {
        let secret = Invitation::from_bytes([9; 16]).reveal();
        let typed = format!("chat://hub:99/{secret}");
        let error = ServerAddress::parse(&typed).unwrap_err().to_string();
        assert!(!error.contains(&secret), "{error}");
        assert!(error.contains("26 characters"), "{error}");
    }

    #[test]
    fn what_is_no_server_says_why() {
        for (typed, why) in [
            ("1::2::3", "brackets"),
            ("[::1", "not closed"),
            ("[hub]", "no IPv6"),
            ("[fe80::1%]", "no IPv6"),
            ("[fe80::1%e\u{7}]", "no IPv6"),
            ("hub:0", "port"),
            ("hub:x", "port"),
            ("hub:", "port"),
            ("bob@hub", "no '@'"),
            ("a b", "letters"),
            ("a\nb", "letters"),
            ("", "missing"),
            (":7667", "missing"),
            ("chat://hub/abc", "copy the whole line"),
            ("chat://hub//x", "copy the whole line"),
            ("plain://hub/x", "port"),
        ] {
            let error = ServerAddress::parse(typed).unwrap_err().to_string();
            let found =
                error.contains(why) || (typed.starts_with("plain") && error.contains("letters"));
            assert!(found, "{typed}: {error}");
        }
        let long = format!("hub/{}", "a".repeat(MAX_SERVER_ADDR_BYTES));
        assert!(matches!(
            ServerAddress::parse(&long),
            Err(AddressError::TooLong { .. })
        ));
        let parts = format!(
            "hub/{}/{}/x",
            key("a"),
            Invitation::from_bytes([1; 16]).reveal()
        );
        assert!(matches!(
            ServerAddress::parse(&parts),
            Err(AddressError::TooManyParts { .. })
        ));
    }
}
