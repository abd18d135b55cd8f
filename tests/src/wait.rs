//! The one way to wait.

use std::{
    fmt::Display,
    thread,
    time::{Duration, Instant},
};

/// How long anything may take before a test gives up: 60 s, or `CHAT_TEST_LIMIT` seconds.
///
/// Generous on purpose. It bounds a hang; it measures nothing.
#[must_use]
pub fn limit() -> Duration {
    let seconds = std::env::var("CHAT_TEST_LIMIT")
        .ok()
        .and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(60))
}

/// Asks `probe` until it succeeds and returns what it found.
///
/// `probe` says what it saw instead in its error; the last of these is part of the failure.
///
/// # Panics
///
/// After [`limit`].
pub fn eventually<T, E: Display>(what: &str, probe: impl FnMut() -> Result<T, E>) -> T {
    eventually_within(limit(), what, probe)
}

/// As [`eventually`], for what takes longer by its nature (100,000 messages, 50 rounds).
pub fn eventually_within<T, E: Display>(
    limit: Duration,
    what: &str,
    mut probe: impl FnMut() -> Result<T, E>,
) -> T {
    let start = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        match probe() {
            Ok(found) => return found,
            Err(seen) if start.elapsed() > limit => {
                panic!("not within {limit:?}: {what}; last seen: {seen}")
            }
            Err(_) => {
                thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_ends_the_waiting() {
        let mut left = 3;
        let found = eventually("countdown", || {
            left -= 1;
            if left == 0 { Ok("done") } else { Err(left) }
        });
        assert_eq!(found, "done");
    }

    #[test]
    #[should_panic(expected = "a pig that flies; last seen: a pig on the ground")]
    fn failure_says_what_was_seen_last() {
        eventually_within(Duration::ZERO, "a pig that flies", || {
            Err::<(), _>("a pig on the ground")
        });
    }
}
