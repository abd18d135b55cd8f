//! The place that a log is written into.

use crate::{
    config::Config,
    log::{JetStreamRestore, Part, RestoreError, SqliteRestore},
};

/// A log that is being written.
#[derive(Debug)]
pub(super) enum Target {
    Sqlite(Box<SqliteRestore>),
    JetStream(Box<JetStreamRestore>),
}

impl Target {
    /// Makes the log that `config` names; returns whether an earlier attempt had left one in part.
    pub(super) async fn begin(config: &Config) -> Result<(Self, bool), RestoreError> {
        match &config.jetstream.value {
            Some(settings) => {
                let (restore, again) = JetStreamRestore::begin(settings).await?;
                Ok((Self::JetStream(Box::new(restore)), again))
            }
            None => {
                let (restore, again) = SqliteRestore::begin(&config.state_dir.value)?;
                Ok((Self::Sqlite(Box::new(restore)), again))
            }
        }
    }

    /// Writes a part behind those before.
    pub(super) async fn put(&mut self, part: Part) -> Result<(), RestoreError> {
        match self {
            Self::Sqlite(restore) => restore.put(part),
            Self::JetStream(restore) => restore.put(part).await,
        }
    }

    /// Everything was written, and is to be read back.
    pub(super) async fn written(self) -> Result<Written, RestoreError> {
        match self {
            Self::Sqlite(restore) => {
                restore.written()?;
                Ok(Written::Sqlite)
            }
            Self::JetStream(mut restore) => {
                restore.flush().await?;
                Ok(Written::JetStream(restore))
            }
        }
    }
}

/// A log that was written, and that no server uses yet.
#[derive(Debug)]
pub(super) enum Written {
    Sqlite,
    JetStream(Box<JetStreamRestore>),
}

impl Written {
    /// It is whole: servers may use it.
    pub(super) async fn end(self, config: &Config) -> Result<(), RestoreError> {
        match self {
            Self::Sqlite => SqliteRestore::end(&config.state_dir.value),
            Self::JetStream(restore) => restore.end().await,
        }
    }
}
