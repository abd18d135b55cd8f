//! Waiting for an instant that may never come.

use std::future::pending;
use tokio::time::{Instant, sleep_until};

/// Waits until `at`; for ever if there is no such instant.
pub(crate) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
