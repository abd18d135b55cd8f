//! Telling a server that will not have this host from one that is away.
//!
//! The link's status has the reason as a text for people; what this agent's versions begin it with
//! is known here.

use protocol::federation::Refusal;

/// How the handshake ends with something that is no server, or of no common version.
const NO_PEERS: [&str; 10] = [
    "the peer does not speak this protocol",
    "the peer's preface is malformed",
    "the peer speaks protocol",
    "this end talks to",
    "the server has another key than this host knows",
    "the server does not speak TLS",
    "the server's certificate does not count",
    "nothing tells whether",
    "no certificate can be for",
    "no TLS connection: ",
];

/// Why the server refuses this host, as told by the agent's link; `None` if it is away, or gives all
/// its hosts away.
#[must_use]
pub fn by_server(error: &str) -> Option<&str> {
    let reason = error.strip_prefix("the server refused: ")?;
    let of_all = [Refusal::ShuttingDown, Refusal::Draining];
    let is_of_all = of_all.iter().any(|refusal| reason == refusal.to_string());
    (!is_of_all).then_some(reason)
}

/// Why there is no connection, for whoever is told already which server refuses this host, or cannot
/// be reached.
#[must_use]
pub fn briefly(error: &str) -> &str {
    let error = by_server(error).unwrap_or(error);
    error.strip_prefix("cannot connect: ").unwrap_or(error)
}

/// Whether the server was reached and there will be no connection while both are as they are.
#[must_use]
pub fn is_refusal(error: &str) -> bool {
    by_server(error).is_some() || NO_PEERS.iter().any(|words| error.starts_with(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{HandshakeError, HostName, PrefaceError, Vocabulary};

    #[test]
    fn a_refusal_is_told_from_a_server_that_is_away() {
        let host = HostName::parse("ada").unwrap();
        let in_use = Refusal::HostInUse { host };
        let versions = PrefaceError::NoCommonVersion {
            our_oldest: 1,
            our_newest: 1,
            their_oldest: 2,
            their_newest: 3,
        };
        let vocabulary = PrefaceError::WrongVocabulary {
            ours: Vocabulary::Federation,
            theirs: Vocabulary::Local,
        };
        let found = *b"HTTP";
        for (error, refusal) in [
            (format!("the server refused: {in_use}"), true),
            (versions.to_string(), true),
            (vocabulary.to_string(), true),
            (PrefaceError::Malformed.to_string(), true),
            (PrefaceError::BadMagic { found }.to_string(), true),
            (
                format!("the server refused: {}", Refusal::ShuttingDown),
                false,
            ),
            (format!("the server refused: {}", Refusal::Draining), false),
            (HandshakeError::Closed.to_string(), false),
            (
                "cannot connect: Connection refused (os error 111)".to_owned(),
                false,
            ),
            ("no answer within 5 s".to_owned(), false),
        ] {
            assert_eq!(is_refusal(&error), refusal, "{error}");
        }
    }
}
