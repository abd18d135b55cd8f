//! A daemon's own key and certificate.

use crate::{files, peer::key_of};
use protocol::KeyFingerprint;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Why a key or certificate is not used. The message says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The system said no.
    #[error("cannot use {path}: {reason}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// Others could have read the key.
    #[error(
        "{path} holds a private key, but belongs to uid {owner} with mode {mode:03o}: it must be \
         uid {uid}'s alone (`chmod 600`); if others may have read it, delete it and enrol anew",
        path = path.display()
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its permissions.
        mode: u32,
        /// Who runs this.
        uid: u32,
    },
    /// It is no key or certificate, or the two do not belong together.
    #[error("cannot use {path}: {reason}", path = path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No key could be made.
    #[error("cannot make a key: {0}")]
    Generation(String),
}

impl CredentialsError {
    pub(crate) fn io(path: &Path, reason: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            reason,
        }
    }

    pub(crate) fn unusable(path: &Path, reason: impl fmt::Display) -> Self {
        Self::Unusable {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// A private key and the certificate for it.
pub struct Credentials {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    fingerprint: KeyFingerprint,
}

impl Clone for Credentials {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            fingerprint: self.fingerprint,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// The key and certificate in `path`, or new ones if there is no such file. `subject` is for
    /// people who look at the certificate. Returns whether they are new; then they are durable.
    ///
    /// # Errors
    ///
    /// [`CredentialsError`].
    pub fn load_or_create(path: &Path, subject: &str) -> Result<(Self, bool), CredentialsError> {
        match Self::load(path) {
            Err(CredentialsError::Io { reason, .. })
                if reason.kind() == io::ErrorKind::NotFound =>
            {
                Ok((Self::create(path, subject)?, true))
            }
            loaded => Ok((loaded?, false)),
        }
    }

    /// As [`Credentials::load_or_create`], and the key in `next` if one was prepared there.
    ///
    /// # Errors
    ///
    /// [`CredentialsError`].
    pub fn load_with_next(
        path: &Path,
        next: &Path,
        subject: &str,
    ) -> Result<(Self, Option<KeyFingerprint>), CredentialsError> {
        let (own, _) = Self::load_or_create(path, subject)?;
        let next = next.exists().then(|| Self::load(next)).transpose()?;
        Ok((own, next.map(|next| next.fingerprint)))
    }

    /// The key and certificate in `path`.
    ///
    /// # Errors
    ///
    /// [`CredentialsError`].
    pub fn load(path: &Path) -> Result<Self, CredentialsError> {
        let pem = files::read_secret(path)?;
        Self::of(path, files::certificates(path, &pem)?, path, &pem)
    }

    /// The certificate in one file and the key for it in another.
    ///
    /// # Errors
    ///
    /// [`CredentialsError`].
    pub fn load_pair(certificate: &Path, key: &Path) -> Result<Self, CredentialsError> {
        let chain = files::certificates(certificate, &files::read(certificate)?)?;
        Self::of(certificate, chain, key, &files::read_secret(key)?)
    }

    /// Makes a new key and signs a certificate for it with itself; puts both into `path`, in the
    /// place of what was there.
    ///
    /// # Errors
    ///
    /// [`CredentialsError`].
    pub fn create(path: &Path, subject: &str) -> Result<Self, CredentialsError> {
        let failed = |error: rcgen::Error| CredentialsError::Generation(error.to_string());
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = CertificateParams::new(Vec::<String>::new()).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, subject);
        let certificate = params.self_signed(&key).map_err(failed)?;
        files::write_secret(path, &(key.serialize_pem() + &certificate.pem()))?;
        Self::load(path)
    }

    /// Takes what is in `next` into use in the place of what is in `path`, at once and durably.
    ///
    /// # Errors
    ///
    /// [`CredentialsError`]; nothing has changed then, or all of it has.
    pub fn replace(path: &Path, next: &Path) -> Result<Self, CredentialsError> {
        let replacement = Self::load(next)?;
        fs::rename(next, path)
            .and_then(|()| files::sync_dir(path))
            .map_err(|reason| CredentialsError::io(path, reason))?;
        Ok(replacement)
    }

    /// Which key this is.
    #[must_use]
    pub const fn fingerprint(&self) -> KeyFingerprint {
        self.fingerprint
    }

    fn of(
        path: &Path,
        chain: Vec<CertificateDer<'static>>,
        key_path: &Path,
        pem: &[u8],
    ) -> Result<Self, CredentialsError> {
        let key = files::private_key(key_path, pem)?;
        let fingerprint = match chain.first() {
            Some(own) => key_of(own).map_err(|reason| CredentialsError::unusable(path, reason))?,
            None => return Err(CredentialsError::unusable(path, "there is no certificate")),
        };
        let signing = crate::provider()
            .key_provider
            .load_private_key(key.clone_key())
            .map_err(|reason| CredentialsError::unusable(key_path, reason))?;
        let public = signing.public_key();
        let belongs = public.is_none_or(|spki| KeyFingerprint::of_spki(&spki) == fingerprint);
        if !belongs {
            let reason = format!(
                "the key is not the one of the certificate in {}",
                path.display()
            );
            return Err(CredentialsError::unusable(key_path, reason));
        }
        Ok(Self {
            chain,
            key,
            fingerprint,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.pem");
        let (made, new) = Credentials::load_or_create(&path, "hub").unwrap();
        assert!(new);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let (again, new) = Credentials::load_or_create(&path, "hub").unwrap();
        assert!(!new);
        assert_eq!(again.fingerprint(), made.fingerprint());
        assert!(!format!("{made:?}").contains("PRIVATE"));
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refused = Credentials::load(&path).unwrap_err();
            assert!(
                matches!(refused, CredentialsError::Exposed { .. }),
                "{refused}"
            );
            assert!(refused.to_string().contains("chmod 600"), "{refused}");
        }
    }

    #[test]
    fn a_key_that_belongs_to_another_certificate_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| dir.path().join(name));
        let made = Credentials::create(&one, "one").unwrap();
        Credentials::create(&other, "other").unwrap();
        let refused = Credentials::load_pair(&one, &other).unwrap_err();
        assert!(refused.to_string().contains("not the one"), "{refused}");
        let pair = Credentials::load_pair(&one, &one).unwrap();
        assert_eq!(pair.fingerprint(), made.fingerprint());
        fs::write(&one, "nonsense").unwrap();
        let refused = Credentials::load(&one).unwrap_err();
        assert!(refused.to_string().contains("no certificate"), "{refused}");
    }

    #[test]
    fn the_next_key_takes_the_place_of_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let [path, next] = ["server.pem", "next.pem"].map(|name| dir.path().join(name));
        Credentials::create(&path, "hub").unwrap();
        let made = Credentials::create(&next, "hub").unwrap();
        let replaced = Credentials::replace(&path, &next).unwrap();
        assert_eq!(replaced.fingerprint(), made.fingerprint());
        assert_eq!(
            Credentials::load(&path).unwrap().fingerprint(),
            made.fingerprint()
        );
        assert!(Credentials::replace(&path, &next).is_err());
        assert_eq!(
            Credentials::load(&path).unwrap().fingerprint(),
            made.fingerprint()
        );
    }
}
