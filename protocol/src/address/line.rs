//! One line for several servers of one log.

use super::{AddressError, Parts, ServerAddress, ServerTrust, parse_place};
use crate::limits::{MAX_SERVER_ADDRS, MAX_SERVER_LINE_BYTES};
use std::{collections::HashSet, str::FromStr};

/// Where the servers of one log are, and by what all of them are known.
///
/// As a text, a [`ServerAddress`] with several places: `chat://a,b:7668,[::1]:7669/KEY/INVITATION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerLine {
    /// One at least, none of them twice.
    places: Vec<String>,
    trust: ServerTrust,
}

impl ServerLine {
    /// Parses the forms of a [`ServerAddress`], with one place or several, separated by commas.
    ///
    /// # Errors
    ///
    /// [`AddressError`] says what to write.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let parts = Parts::of(text, MAX_SERVER_LINE_BYTES)?;
        let places = parse_places(parts.places)?;
        let trust = parts.trust()?;
        Ok(Self { places, trust })
    }

    /// The servers at `HOST[:PORT],HOST[:PORT]…`, known by `trust`.
    ///
    /// # Errors
    ///
    /// [`AddressError`] of the places.
    pub fn new(places: &str, trust: ServerTrust) -> Result<Self, AddressError> {
        let places = parse_places(places)?;
        Ok(Self { places, trust })
    }

    /// Its servers, in its order.
    #[must_use]
    pub fn servers(self) -> Vec<ServerAddress> {
        let Self { places, trust } = self;
        let at = |place| ServerAddress {
            place,
            trust: trust.clone(),
        };
        places.into_iter().map(at).collect()
    }

    /// The line with all that is in it, the invitation too: to be handed on, not to be shown.
    #[must_use]
    pub fn reveal(&self) -> String {
        self.trust.reveal_at(&self.places.join(","))
    }
}

impl FromStr for ServerLine {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

fn parse_places(text: &str) -> Result<Vec<String>, AddressError> {
    let count = text.split(',').count();
    if count > MAX_SERVER_ADDRS {
        return Err(AddressError::TooManyPlaces { count });
    }
    let places: Vec<String> = text.split(',').map(parse_place).collect::<Result<_, _>>()?;
    let mut seen = HashSet::new();
    match places.iter().find(|place| !seen.insert(*place)) {
        Some(twice) => Err(AddressError::Twice {
            place: twice.clone(),
        }),
        None => Ok(places),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Invitation, KeyFingerprint};

    fn places(line: &str) -> Vec<String> {
        let servers = ServerLine::parse(line).unwrap().servers();
        servers.iter().map(|one| one.place().to_owned()).collect()
    }

    #[test]
    fn a_line_has_one_server_or_several_known_by_the_same() {
        let key = KeyFingerprint::of_spki(b"key");
        let secret = Invitation::from_bytes([9; 16]).reveal();
        let line = format!("chat://a,b:7668,[::1]:7669,fe80::1%eth0/{key}/{secret}");
        let parsed = ServerLine::parse(&line).unwrap();
        let servers = parsed.servers();
        let found: Vec<&str> = servers.iter().map(ServerAddress::place).collect();
        assert_eq!(
            found,
            ["a:7667", "b:7668", "[::1]:7669", "[fe80::1%eth0]:7667"]
        );
        for server in &servers {
            let alone = format!("chat://{}/{key}/{secret}", server.place());
            assert_eq!(*server, ServerAddress::parse(&alone).unwrap());
        }
        assert_eq!(places("plain://a,b:1"), ["a:7667", "b:1"]);
        assert_eq!(places("a,b"), places("chat://a,b"));
        assert_eq!(places("chat://hub"), ["hub:7667"]);
    }

    #[test]
    fn a_line_survives_its_own_text_and_hides_the_invitation() {
        let key = KeyFingerprint::of_spki(b"key");
        let secret = Invitation::from_bytes([9; 16]).reveal();
        for text in [
            format!("chat://a:1,b:2/{key}+{key}/{secret}"),
            format!("chat://a:1,[::1]:2/{key}"),
            "chat://a:1,b:2".to_owned(),
            "plain://a:1,b:2".to_owned(),
        ] {
            let line = ServerLine::parse(&text).unwrap();
            assert_eq!(line.reveal(), text);
            assert!(!format!("{line:?}").contains(&secret));
        }
    }

    #[test]
    fn what_is_no_line_says_why() {
        let many = vec!["a"; MAX_SERVER_ADDRS + 1].join(",");
        let long = "a".repeat(MAX_SERVER_LINE_BYTES + 1);
        for (typed, why) in [
            ("a,,b", "missing"),
            ("a,", "missing"),
            ("chat://", "missing"),
            ("a, b", "letters"),
            ("a,a:7667", "a:7667 is in the line twice"),
            ("plain://a,b/x", "port"),
            ("a,1::2::3", "brackets"),
            ("chat://a,b/abc", "copy the whole line"),
            (&many, "at most 16"),
            (&long, "bytes"),
        ] {
            let error = ServerLine::parse(typed).unwrap_err().to_string();
            let found = error.contains(why) || (why == "port" && error.contains("letters"));
            assert!(found, "{typed}: {error}");
        }
    }

    #[test]
    fn the_longest_line_fits() {
        let place = |n: usize| format!("{n:0>253}:65535");
        let places: Vec<String> = (0..MAX_SERVER_ADDRS).map(place).collect();
        let key = KeyFingerprint::of_spki(b"key");
        let trust = ServerTrust::Key {
            key,
            next: Some(key),
            invitation: Some(Invitation::from_bytes([9; 16])),
        };
        let line = ServerLine::new(&places.join(","), trust).unwrap();
        assert_eq!(ServerLine::parse(&line.reveal()).unwrap(), line);
    }
}
