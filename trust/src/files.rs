//! Files with keys and certificates, in PEM.

use crate::CredentialsError;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

/// Most bytes of a file with keys and certificates.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Who may vouch for names.
pub type Authorities = Arc<RootCertStore>;

/// Reads the authorities in `path`.
///
/// # Errors
///
/// [`CredentialsError`] names the file.
pub fn authorities(path: &Path) -> Result<Authorities, CredentialsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, &read(path)?)? {
        roots
            .add(certificate)
            .map_err(|reason| CredentialsError::unusable(path, reason))?;
    }
    Ok(Arc::new(roots))
}

/// Removes a file with a key, durably, if it is there.
///
/// # Errors
///
/// [`CredentialsError`] names the file.
pub fn remove(path: &Path) -> Result<(), CredentialsError> {
    let removed = match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.and_then(|()| sync_dir(path)),
    };
    removed.map_err(|reason| CredentialsError::io(path, reason))
}

/// All bytes of a file that need not be secret.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|reason| CredentialsError::io(path, reason))?;
    read_all(path, &file, &mut bytes)?;
    Ok(bytes)
}

/// All bytes of a file with a key; refused unless it is this user's alone.
pub(crate) fn read_secret(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    let io_error = |reason| CredentialsError::io(path, reason);
    let file = File::open(path).map_err(io_error)?;
    // Of the open file: the path may lead elsewhere the next time it is looked at.
    let found = file.metadata().map_err(io_error)?;
    let uid = rustix::process::geteuid().as_raw();
    let mode = found.mode() & 0o7777;
    if found.uid() != uid || mode & 0o077 != 0 {
        return Err(CredentialsError::Exposed {
            path: path.to_owned(),
            owner: found.uid(),
            mode,
            uid,
        });
    }
    let mut bytes = Vec::new();
    read_all(path, &file, &mut bytes)?;
    Ok(bytes)
}

fn read_all(path: &Path, file: &File, bytes: &mut Vec<u8>) -> Result<(), CredentialsError> {
    let read = file.take(MAX_FILE_BYTES).read_to_end(bytes);
    read.map(drop)
        .map_err(|reason| CredentialsError::io(path, reason))
}

/// The certificates in the text of `path`, in its order; at least one.
pub(crate) fn certificates(
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|reason| CredentialsError::unusable(path, reason))?;
    if found.is_empty() {
        return Err(CredentialsError::unusable(path, "there is no certificate"));
    }
    Ok(found)
}

/// The private key in the text of `path`.
pub(crate) fn private_key(
    path: &Path,
    pem: &[u8],
) -> Result<PrivateKeyDer<'static>, CredentialsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|reason| CredentialsError::unusable(path, reason))
}

/// Puts a new file with a key at `path`, whole or not at all.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<(), CredentialsError> {
    let beside = path.with_extension("new");
    let write = || -> io::Result<()> {
        // What a crash left, and never anybody else's: the directory is this user's.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync_dir(path)
    };
    write().map_err(|reason| CredentialsError::io(path, reason))
}

/// Makes durable what happened to the name of `path`.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}
