//! A state directory, and what a killed process leaves of it.

use std::{fs, io, path::Path};
use tempfile::TempDir;

/// What is on disk of `<dir>/<name>.db` at this moment, in a directory of its own.
///
/// A process that is killed leaves what it has written, synced or not; its locks and its shared
/// memory go with it. The WAL is copied first: whatever is written meanwhile comes behind what
/// the copy has. Good as long as no checkpoint runs, which begins after 1,000 pages.
pub(crate) fn killed(dir: &Path, name: &str) -> TempDir {
    let image = tempfile::tempdir().unwrap();
    for suffix in ["db-wal", "db", "exists"] {
        let file = format!("{name}.{suffix}");
        match fs::copy(dir.join(&file), image.path().join(&file)) {
            Ok(_) => {}
            // After an orderly end there is no WAL.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => panic!("{file}: {error}"),
        }
    }
    image
}
