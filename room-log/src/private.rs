//! Directories and files that belong to whoever runs this process, and to nobody else.
//!
//! Who owns a directory can put other files into it, so the directory is looked at first. What is
//! in a directory that passes was put there by this user.

use rustix::process::geteuid;
use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Why a directory or file is not used. The message says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PrivacyError {
    /// The system said no.
    #[error("cannot use {path}: {reason}", path = path.display())]
    Io {
        /// Which path.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// It is somebody else's.
    #[error(
        "{path} belongs to uid {owner}, not to uid {uid}: name another --state-dir, or chown it",
        path = path.display()
    )]
    Foreign {
        /// Which path.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who runs this.
        uid: u32,
    },
    /// Others could write it.
    #[error(
        "{path} can be written by others (mode {mode:03o}): `chmod go-w` it if you trust what is \
         there, or name another --state-dir",
        path = path.display()
    )]
    Open {
        /// Which path.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is something else than expected.
    #[error("{path} is not a {expected}: move it away, or name another --state-dir", path = path.display())]
    Kind {
        /// Which path.
        path: PathBuf,
        /// What should be there.
        expected: &'static str,
    },
}

/// Makes `dir` (mode 0700) if it is not there, and refuses one that others own or can write.
///
/// A symbolic link is followed if this user or root put it there.
///
/// # Errors
///
/// [`PrivacyError`].
pub fn private_dir(dir: &Path) -> Result<(), PrivacyError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(io_error(dir))?;
    let link = fs::symlink_metadata(dir).map_err(io_error(dir))?;
    if link.is_symlink() && link.uid() != 0 {
        check_owner(dir, &link)?;
    }
    check(dir, &fs::metadata(dir).map_err(io_error(dir))?)
}

/// How many bytes the file at `path` has, 0 if there is none. Refuses one that others own or can
/// write, and takes from others the right to read it.
///
/// # Errors
///
/// [`PrivacyError`].
pub(crate) fn private_file(path: &Path) -> Result<u64, PrivacyError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(io_error(path)(error)),
    };
    if !found.is_file() {
        return Err(PrivacyError::Kind {
            path: path.to_owned(),
            expected: "regular file",
        });
    }
    check(path, &found)?;
    if found.mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(io_error(path))?;
    }
    Ok(found.len())
}

fn check(path: &Path, found: &Metadata) -> Result<(), PrivacyError> {
    check_owner(path, found)?;
    if found.mode() & 0o022 != 0 {
        return Err(PrivacyError::Open {
            path: path.to_owned(),
            mode: found.mode() & 0o7777,
        });
    }
    Ok(())
}

fn check_owner(path: &Path, found: &Metadata) -> Result<(), PrivacyError> {
    let uid = geteuid().as_raw();
    if found.uid() != uid {
        return Err(PrivacyError::Foreign {
            path: path.to_owned(),
            owner: found.uid(),
            uid,
        });
    }
    Ok(())
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> PrivacyError {
    let path = path.to_owned();
    move |reason| PrivacyError::Io { path, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{chown, symlink};

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let above = tempfile::tempdir().unwrap();
        let dir = above.path().join("state");
        private_dir(&dir).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
        for mode in [0o777, 0o1777, 0o770] {
            chmod(&dir, mode);
            let refused = private_dir(&dir);
            assert!(
                matches!(refused, Err(PrivacyError::Open { .. })),
                "{mode:o}"
            );
        }
        chmod(&dir, 0o755);
        private_dir(&dir).unwrap();
    }

    #[test]
    fn a_directory_or_link_of_somebody_else_is_refused() {
        assert!(
            geteuid().is_root()
                || matches!(
                    private_dir(Path::new("/")),
                    Err(PrivacyError::Foreign { .. })
                )
        );
        let above = tempfile::tempdir().unwrap();
        let link = above.path().join("link");
        symlink(above.path(), &link).unwrap();
        private_dir(&link).unwrap();
        if geteuid().is_root() {
            std::os::unix::fs::lchown(&link, Some(54_322), None).unwrap();
            assert!(matches!(
                private_dir(&link),
                Err(PrivacyError::Foreign { owner: 54_322, .. })
            ));
            chown(above.path(), Some(54_322), None).unwrap();
            assert!(matches!(
                private_dir(above.path()),
                Err(PrivacyError::Foreign { .. })
            ));
        }
    }

    #[test]
    fn a_file_that_others_can_write_is_refused_and_one_they_can_read_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("test.db");
        assert_eq!(private_file(&file).unwrap(), 0);
        fs::write(&file, "four").unwrap();
        chmod(&file, 0o666);
        assert!(matches!(
            private_file(&file),
            Err(PrivacyError::Open { .. })
        ));
        chmod(&file, 0o644);
        assert_eq!(private_file(&file).unwrap(), 4);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        let link = dir.path().join("link.db");
        symlink(&file, &link).unwrap();
        assert!(matches!(
            private_file(&link),
            Err(PrivacyError::Kind { .. })
        ));
    }
}
