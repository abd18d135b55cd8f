//! Which NATS, which stream, and what is asked of it.

use super::subject::decode;
use async_nats::{ConnectOptions, ServerAddr};
use std::{fmt, io, path::PathBuf};
use thiserror::Error;

/// The stream's name if nobody gives another.
pub const DEFAULT_STREAM: &str = "chat";

/// Where the log is, and how it is to be kept there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JetStreamSettings {
    /// The servers of one NATS; any of them will do.
    pub servers: NatsServers,
    /// The stream's name: letters, digits, `-` and `_`. It is the first word of all its subjects, too.
    pub stream: String,
    /// On how many NATS servers the log is stored: 1, or 3 or 5 of a cluster. Used when the stream is
    /// made.
    pub replicas: usize,
    /// Bytes that the log may have there; 0 for no limit. Used when the stream is made.
    pub max_bytes: u64,
    /// A credentials file (`.creds`), as NATS' own tools make them.
    pub credentials: Option<PathBuf>,
    /// Who may vouch for NATS, beside those whom the system trusts (PEM).
    pub authorities: Option<PathBuf>,
    /// A certificate that NATS knows this server by, and its key (PEM).
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Whoever runs NATS vouches that it syncs before it answers (`sync_interval: always`), which it
    /// does not tell its clients.
    pub synced: bool,
}

impl JetStreamSettings {
    /// Those of `servers`, and otherwise what is usual.
    #[must_use]
    pub fn new(servers: NatsServers) -> Self {
        Self {
            servers,
            stream: DEFAULT_STREAM.to_owned(),
            replicas: 1,
            max_bytes: 0,
            credentials: None,
            authorities: None,
            certificate: None,
            synced: false,
        }
    }

    /// Whether this may be a stream's name: also the first word of its subjects.
    #[must_use]
    pub fn is_stream_name(text: &str) -> bool {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=64).contains(&text.len()) && text.bytes().all(good)
    }

    pub(crate) async fn options(&self) -> Result<ConnectOptions, io::Error> {
        let mut options = ConnectOptions::new();
        if let Some(path) = &self.credentials {
            options = options.credentials(&tokio::fs::read_to_string(path).await?)?;
        }
        // The client takes nothing of this from the addresses by itself.
        options = match self.servers.login()? {
            Some(Login::Password(user, password)) => options.user_and_password(user, password),
            Some(Login::Token(token)) => options.token(token),
            None => options,
        };
        if let Some(path) = &self.authorities {
            options = options.add_root_certificates(path.clone());
        }
        if let Some((certificate, key)) = &self.certificate {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        Ok(options)
    }

    pub(crate) fn addresses(&self) -> Result<Vec<ServerAddr>, io::Error> {
        self.servers.parse()
    }
}

/// One or more `nats://` or `tls://` addresses with a comma between them. They may hold a password
/// (`nats://user:password@host`) or a token (`nats://token@host`), which are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsServers(String);

/// Why a text names no NATS servers. Does not repeat it, as there may be a password in it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("write nats://HOST:PORT or tls://HOST:PORT, or several with commas between them")]
pub struct BadServers;

impl NatsServers {
    /// Whether `text` was meant as the address of a NATS server.
    #[must_use]
    pub fn is_meant_by(text: &str) -> bool {
        text.starts_with("nats://") || text.starts_with("tls://")
    }

    /// Takes the addresses in `text`.
    ///
    /// # Errors
    ///
    /// [`BadServers`].
    pub fn new(text: &str) -> Result<Self, BadServers> {
        let servers = Self(text.to_owned());
        let each = |part: &str| Self::is_meant_by(part.trim());
        if !text.split(',').all(each) || servers.parse().is_err() {
            return Err(BadServers);
        }
        Ok(servers)
    }

    fn parse(&self) -> Result<Vec<ServerAddr>, io::Error> {
        let parse = |part: &str| -> Result<ServerAddr, io::Error> {
            let address: ServerAddr = part.trim().parse()?;
            match address.host() {
                "" => Err(io::Error::new(io::ErrorKind::InvalidInput, BadServers)),
                _ => Ok(address),
            }
        };
        self.0.split(',').map(parse).collect()
    }

    /// What the first address that has any says; it is the same for all servers of one NATS.
    fn login(&self) -> Result<Option<Login>, io::Error> {
        Ok(self.parse()?.iter().find_map(|address| {
            // What only looks like `%XX` is meant as it is.
            let plain = |text: &str| decode(text).unwrap_or_else(|| text.to_owned());
            let name = plain(address.username().filter(|name| !name.is_empty())?);
            match address.password() {
                Some(password) => Some(Login::Password(name, plain(password))),
                None => Some(Login::Token(name)),
            }
        }))
    }
}

/// How a server says to NATS who it is. A name without a password is a token; NATS' own tools read it
/// so.
#[derive(PartialEq, Eq)]
enum Login {
    Password(String, String),
    Token(String),
}

impl fmt::Display for NatsServers {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.split(',').enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let (scheme, rest) = part.trim().split_once("://").unwrap_or(("nats", ""));
            match rest.rsplit_once('@') {
                Some((_, host)) => write!(f, "{comma}{scheme}://***@{host}")?,
                None => write!(f, "{comma}{scheme}://{rest}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for NatsServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NatsServers({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_shown() {
        let servers = "nats://alice:s3cret@one:4222, tls://t0ken@two";
        let servers = NatsServers::new(servers).unwrap();
        assert_eq!(servers.to_string(), "nats://***@one:4222,tls://***@two");
        assert!(!format!("{servers:?}").contains("s3cret"));
    }

    #[test]
    fn whoever_has_a_password_or_a_token_in_their_address_gives_it_to_nats() {
        let password = |user: &str, word: &str| Login::Password(user.into(), word.into());
        for (text, login) in [
            ("nats://one:4222,nats://two", None),
            (
                "nats://chat:p%40ss:word@one",
                Some(password("chat", "p@ss:word")),
            ),
            (
                "nats://one,tls://chat:s3cret@two",
                Some(password("chat", "s3cret")),
            ),
            ("tls://t0ken@one", Some(Login::Token("t0ken".into()))),
        ] {
            let servers = NatsServers::new(text).unwrap();
            assert!(servers.login().unwrap() == login, "{text}");
        }
    }

    #[test]
    fn only_addresses_of_nats_are_taken() {
        for bad in ["", "nats://", "http://one", "nats://one,two", "one:4222"] {
            let refused = NatsServers::new(bad).map(|servers| servers.to_string());
            assert_eq!(refused, Err(BadServers), "{bad}");
        }
        for good in [
            "nats://one",
            "tls://one:4222",
            "nats://[::1]:4222,nats://two",
        ] {
            assert!(NatsServers::new(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_stream_has_a_name_that_is_one_word_of_a_subject() {
        assert!(JetStreamSettings::is_stream_name("chat-2_A"));
        for bad in ["", "a.b", "a b", "*", ">", "ä", &"x".repeat(65)] {
            assert!(!JetStreamSettings::is_stream_name(bad), "{bad}");
        }
    }
}
