//! The server's own key, and TLS made of it: changed while it runs, without dropping anybody.

use protocol::KeyFingerprint;
use rustls::ServerConfig;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;
use trust::{Authorities, Credentials, CredentialsError};

/// The server's own key and certificate, in its state directory.
const OWN: &str = "server.pem";

/// The ones that it will have next.
const NEXT: &str = "server-next.pem";

/// Who made the server's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The server itself, in its state directory.
    Own,
    /// Somebody else: a certificate, and the key for it.
    Files {
        /// Certificates, the server's first.
        certificate: PathBuf,
        /// The private key.
        key: PathBuf,
    },
}

/// Why the keys are not used. The message says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeysError {
    /// A file.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// Key and certificate cannot be used for TLS.
    #[error("TLS with this certificate is impossible: {0}")]
    Tls(#[from] rustls::Error),
    /// The certificate comes from files of the settings.
    #[error("the certificate comes from files")]
    NotOwn,
    /// There is no next key.
    #[error("there is no next key")]
    NoNext,
}

/// What new connections are accepted with.
#[derive(Clone)]
pub(crate) struct Current {
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) authorities: Option<Authorities>,
    key: KeyFingerprint,
}

/// The server's keys. Whoever accepts takes what counts at that moment.
pub struct Keys {
    state_dir: PathBuf,
    source: Source,
    authorities: Option<PathBuf>,
    state: Mutex<State>,
}

struct State {
    current: Current,
    next: Option<KeyFingerprint>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads the keys, or makes them the first time. `authorities` may vouch for agents.
    ///
    /// # Errors
    ///
    /// [`KeysError`].
    pub fn open(
        state_dir: &Path,
        source: Source,
        authorities: Option<PathBuf>,
    ) -> Result<Self, KeysError> {
        let state = load(state_dir, &source, authorities.as_deref())?;
        Ok(Self {
            state_dir: state_dir.to_owned(),
            source,
            authorities,
            state: Mutex::new(state),
        })
    }

    /// Reads the files again: connections that are there stay, new ones meet what is read.
    ///
    /// # Errors
    ///
    /// [`KeysError`]; everything stays as it was then.
    pub fn reload(&self) -> Result<(), KeysError> {
        let state = load(&self.state_dir, &self.source, self.authorities.as_deref())?;
        *self.lock() = state;
        Ok(())
    }

    /// Whether an authority of whoever runs this server vouches for agents.
    pub(crate) const fn has_authorities(&self) -> bool {
        self.authorities.is_some()
    }

    /// Makes the key that the server will have next, if there is none yet.
    ///
    /// # Errors
    ///
    /// [`KeysError`].
    pub(crate) fn prepare_next(&self) -> Result<KeyFingerprint, KeysError> {
        self.check_own()?;
        let path = self.state_dir.join(NEXT);
        let (next, _) = Credentials::load_or_create(&path, SUBJECT)?;
        self.lock().next = Some(next.fingerprint());
        Ok(next.fingerprint())
    }

    /// Takes the next key into use.
    ///
    /// # Errors
    ///
    /// [`KeysError::NoNext`] if there is none.
    pub(crate) fn change(&self) -> Result<KeyFingerprint, KeysError> {
        self.check_own()?;
        let next = self.state_dir.join(NEXT);
        if !next.exists() {
            return Err(KeysError::NoNext);
        }
        // Whatever cannot be read is found before anything has changed.
        self.reload()?;
        Credentials::replace(&self.state_dir.join(OWN), &next)?;
        self.reload()?;
        Ok(self.key())
    }

    /// The key that new connections meet.
    #[must_use]
    pub fn key(&self) -> KeyFingerprint {
        self.lock().current.key
    }

    /// The key that the server will have next.
    pub(crate) fn next(&self) -> Option<KeyFingerprint> {
        self.lock().next
    }

    pub(crate) fn current(&self) -> Current {
        self.lock().current.clone()
    }

    const fn check_own(&self) -> Result<(), KeysError> {
        match self.source {
            Source::Own => Ok(()),
            Source::Files { .. } => Err(KeysError::NotOwn),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // It is only ever replaced as a whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the certificates that servers make say of them, for people who look at one.
const SUBJECT: &str = "chat-server";

fn load(state_dir: &Path, source: &Source, authorities: Option<&Path>) -> Result<State, KeysError> {
    let (credentials, next) = match source {
        Source::Own => {
            Credentials::load_with_next(&state_dir.join(OWN), &state_dir.join(NEXT), SUBJECT)?
        }
        Source::Files { certificate, key } => (Credentials::load_pair(certificate, key)?, None),
    };
    let config: Arc<ServerConfig> = trust::accepting(&credentials)?;
    Ok(State {
        current: Current {
            acceptor: TlsAcceptor::from(config),
            authorities: authorities.map(trust::authorities).transpose()?,
            key: credentials.fingerprint(),
        },
        next,
    })
}
