//! What can go wrong while the log is read or written.

use rusqlite::ffi;
use thiserror::Error;

/// Why the log could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No space is left on the device or in the quota. Nothing of the transaction was kept.
    #[error("the disk is full")]
    DiskFull,
    /// The file is damaged. Only a person can help now.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// The kernel could not make written data durable. What is on disk is unknown until the file
    /// is opened anew, so the process must end.
    #[error("the disk failed to make data durable: {0}")]
    SyncFailed(String),
    /// Something else, most likely an I/O error. Nothing of the transaction was kept.
    #[error("the database failed: {0}")]
    Failed(#[source] rusqlite::Error),
    /// A value in the database is not what this program writes there.
    #[error("the database holds a bad {what}: {value:?}")]
    BadValue {
        /// Which kind of value.
        what: &'static str,
        /// What was found.
        value: String,
    },
    /// Nobody who asks may read the room any more.
    #[error("nobody here may read that")]
    NotReadable,
    /// The log is kept elsewhere, where nobody answers now or not as expected. Nothing is wrong with
    /// what is stored; it may be tried again.
    #[error("the log cannot be reached: {0}")]
    Unreachable(String),
    /// The log is kept elsewhere, and another one stands there now. The process must end and begin
    /// anew with that.
    #[error("the log is not the one it was: {0}")]
    Replaced(String),
    /// The thread that reads or writes has ended.
    #[error("the database is closed")]
    Closed,
}

impl StoreError {
    /// Whether the process must end and recover from what is on disk.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::SyncFailed(_) | Self::Damaged(_) | Self::BadValue { .. } | Self::Replaced(_)
        )
    }

    /// Whether what failed will fail again until a person has mended the file.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::BadValue { .. })
    }

    /// A bad value of this kind.
    pub fn bad(what: &'static str, value: impl ToString) -> Self {
        Self::BadValue {
            what,
            value: value.to_string(),
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let rusqlite::Error::SqliteFailure(failure, _) = &error else {
            return Self::Failed(error);
        };
        match (failure.extended_code, failure.code) {
            (ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC, _) => {
                Self::SyncFailed(error.to_string())
            }
            (_, rusqlite::ErrorCode::DiskFull) => Self::DiskFull,
            (_, rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Failed(error),
        }
    }
}
