//! This host's own key, and TLS made of it.

use protocol::{KeyFingerprint, ServerAddress, ServerTrust};
use rustls::{ClientConfig, pki_types::ServerName};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use thiserror::Error;
use trust::{Authorities, Credentials, CredentialsError, Known};

/// The agent's own key and certificate, in its state directory.
const OWN: &str = "agent.pem";

/// The ones that it will have next.
const NEXT: &str = "agent-next.pem";

/// Where keys and certificates come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// A certificate from elsewhere and the key for it; `None` for one of the agent's own.
    pub own: Option<(PathBuf, PathBuf)>,
    /// Who may vouch for servers.
    pub authorities: Option<PathBuf>,
}

/// Why there is no TLS to a server.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeysError {
    /// A file.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// Key and certificate cannot be used.
    #[error("TLS with this host's certificate is impossible: {0}")]
    Tls(#[from] rustls::Error),
    /// Nothing says which key the server should have.
    #[error(
        "nothing tells whether {place} is the right server: `chat join` with the whole line that \
         `chat server invite` prints there, or name an authority (tls_ca) in agent.toml"
    )]
    NoTrust {
        /// Where the server should be.
        place: String,
    },
    /// No certificate can be for this.
    #[error("no certificate can be for {host:?}")]
    NoName {
        /// The server's host.
        host: String,
    },
}

/// The keys; whoever connects takes what counts at that moment.
pub struct Keys {
    state_dir: PathBuf,
    sources: Sources,
    state: Mutex<State>,
}

struct State {
    own: Credentials,
    authorities: Option<Authorities>,
    next: Option<KeyFingerprint>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads the keys in `state_dir`, or makes them the first time.
    ///
    /// # Errors
    ///
    /// [`KeysError`].
    pub fn open(state_dir: &Path, sources: Sources) -> Result<Self, KeysError> {
        let state = load(state_dir, &sources)?;
        Ok(Self {
            state_dir: state_dir.to_owned(),
            sources,
            state: Mutex::new(state),
        })
    }

    /// Makes the key in `state_dir` that this agent will have next, if there is none yet: its
    /// server is told when they meet, and from then on it counts.
    ///
    /// # Errors
    ///
    /// [`KeysError`].
    pub fn prepare_next(state_dir: &Path) -> Result<KeyFingerprint, KeysError> {
        let (next, _) = Credentials::load_or_create(&state_dir.join(NEXT), SUBJECT)?;
        Ok(next.fingerprint())
    }

    /// Makes another key in `state_dir` in the place of the one that is there: for a host that
    /// was cloned with it.
    ///
    /// # Errors
    ///
    /// [`KeysError`].
    pub fn replace(state_dir: &Path) -> Result<(), KeysError> {
        // The other one may announce the key that was prepared.
        trust::remove(&state_dir.join(NEXT))?;
        Credentials::create(&state_dir.join(OWN), SUBJECT)?;
        Ok(())
    }

    /// Reads the files again; a connection that is there stays.
    ///
    /// # Errors
    ///
    /// [`KeysError`]; everything stays as it was then.
    pub fn reload(&self) -> Result<(), KeysError> {
        let state = load(&self.state_dir, &self.sources)?;
        *self.lock() = state;
        Ok(())
    }

    /// The key that the server is to be told of.
    pub(crate) fn next(&self) -> Option<KeyFingerprint> {
        self.lock().next
    }

    /// The server knows `next` now: the next connection is made with it.
    ///
    /// # Errors
    ///
    /// [`KeysError`].
    pub(crate) fn change(&self, next: KeyFingerprint) -> Result<(), KeysError> {
        if self.next() != Some(next) {
            return Ok(());
        }
        Credentials::replace(&self.state_dir.join(OWN), &self.state_dir.join(NEXT))?;
        self.reload()
    }

    /// TLS to `server`, and whom it must be proved to be; `None` for one without TLS.
    ///
    /// # Errors
    ///
    /// [`KeysError`].
    pub(crate) fn tls(&self, server: &ServerAddress) -> Result<Option<Tls>, KeysError> {
        let state = self.lock();
        let known = match (&server.trust, &state.authorities) {
            (ServerTrust::Plaintext, _) => return Ok(None),
            (ServerTrust::Key { key, next, .. }, _) => {
                Known::Keys(std::iter::once(*key).chain(*next).collect())
            }
            (ServerTrust::Authority, Some(roots)) => Known::Authorities(Arc::clone(roots)),
            (ServerTrust::Authority, None) => {
                return Err(KeysError::NoTrust {
                    place: server.place().to_owned(),
                });
            }
        };
        let host = server.host();
        let bare = host.split_once('%').map_or(host, |(address, _)| address);
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| KeysError::NoName {
            host: host.to_owned(),
        })?;
        Ok(Some(Tls {
            config: trust::connecting(&state.own, known)?,
            name,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // It is only ever replaced as a whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How to reach one server.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

/// What the certificates that agents make say of them, for people who look at one.
const SUBJECT: &str = "chat-agent";

fn load(state_dir: &Path, sources: &Sources) -> Result<State, KeysError> {
    let (own, next) = match &sources.own {
        Some((certificate, key)) => (Credentials::load_pair(certificate, key)?, None),
        None => Credentials::load_with_next(&state_dir.join(OWN), &state_dir.join(NEXT), SUBJECT)?,
    };
    let authorities = sources.authorities.as_deref();
    Ok(State {
        own,
        authorities: authorities.map(trust::authorities).transpose()?,
        next,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_gets_a_key_of_its_own_and_announces_none_of_the_other_s() {
        let dir = tempfile::tempdir().unwrap();
        let cloned = Keys::open(dir.path(), Sources::default()).unwrap();
        Keys::prepare_next(dir.path()).unwrap();
        Keys::replace(dir.path()).unwrap();
        let keys = Keys::open(dir.path(), Sources::default()).unwrap();
        assert_eq!(keys.next(), None);
        let [before, now] = [&cloned, &keys].map(|keys| keys.lock().own.fingerprint());
        assert_ne!(before, now);
        Keys::replace(dir.path()).unwrap();
    }
}
