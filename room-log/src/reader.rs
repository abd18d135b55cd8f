//! Reading beside the one writer.

use crate::{Database, StoreError};
use rusqlite::Connection;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// Connections that read at the same time: two for each of the two cores this is sized for, as
/// a read may wait for the disk.
const CONNECTIONS: usize = 4;

/// A few read-only connections, used on tokio's threads for blocking work.
#[derive(Debug, Clone)]
pub struct Readers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    database: Database,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    /// Readers of `database`; connections are made when first needed.
    #[must_use]
    pub fn new(database: Database) -> Self {
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        Self {
            shared: Arc::new(Shared {
                database,
                idle: Mutex::default(),
                permits,
            }),
        }
    }

    /// Runs `query` on a connection, off the async threads.
    ///
    /// # Errors
    ///
    /// What `query` returns, or [`StoreError`] if no connection can be made.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a query that began runs to its end and its result is dropped.
    pub async fn run<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let permits = Arc::clone(&self.shared.permits);
        let permit = permits
            .acquire_owned()
            .await
            .map_err(|_| StoreError::Closed)?;
        let shared = Arc::clone(&self.shared);
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let idle = shared
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop();
            let connection = match idle {
                Some(connection) => connection,
                None => shared.database.reader()?,
            };
            let result = query(&connection);
            shared
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(connection);
            result
        });
        work.await.map_err(|_| StoreError::Closed)?
    }
}
