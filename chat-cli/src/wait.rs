//! Waiting for an instant that may never come.

use std::{future::pending, time::Duration};
use tokio::time::{Instant, sleep, sleep_until};

/// A deadline noticed so much later was slept through: this process was stopped, or got no turn.
const SLEPT: Duration = Duration::from_millis(100);

/// How long what came meanwhile may then take to be read.
const LAST_CALL: Duration = Duration::from_secs(1);

/// Waits until `at`; for ever if there is no such instant.
pub(crate) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// Waits until `at`, and a moment longer if that was slept through, so that what has come by then
/// is not missed.
pub(crate) async fn until_heard(at: Option<Instant>) {
    until(at).await;
    if at.is_some_and(|at| at.elapsed() > SLEPT) {
        sleep(LAST_CALL).await;
    }
}
