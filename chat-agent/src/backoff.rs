//! How long to wait before the next attempt.

use std::time::Duration;

/// Doubles the wait with each failure up to a maximum, and takes a random part of it, so that a
/// server that comes back is not met by all its agents at once.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits between `min` and `max`.
    ///
    /// # Panics
    ///
    /// If `min` is zero or above `max`.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        assert!(
            !min.is_zero() && min <= max,
            "waits from {min:?} to {max:?} make no sense"
        );
        Self {
            min,
            max,
            failures: 0,
        }
    }

    /// Failures since the last success.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// The connection has proved itself.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Counts a failure. The wait is between half and all of `min` × 2^failures, capped;
    /// `random` in 0..1 chooses.
    pub fn fail(&mut self, random: f64) -> Duration {
        let doubled = self
            .min
            .saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        doubled
            .min(self.max)
            .mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
    }

    /// Counts a failure after which the other side wants to be left alone for `told`. The wait is
    /// up to half as long again, but within the maximum, and never below that of
    /// [`fail`](Self::fail).
    pub fn fail_told(&mut self, told: Duration, random: f64) -> Duration {
        let told = told
            .min(self.max.mul_f64(2.0 / 3.0))
            .mul_f64(1.0 + 0.5 * random.clamp(0.0, 1.0));
        told.min(self.max).max(self.fail(random))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum_and_start_over_after_success() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, 10 * second);
        let waits: Vec<u64> = (0..6).map(|_| backoff.fail(1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        assert_eq!(backoff.fail(0.0), 5 * second);
        backoff.reset();
        assert_eq!(backoff.fail(1.0), second);
    }

    #[test]
    fn a_server_that_is_going_away_says_how_long_within_reason() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second / 5, 10 * second);
        assert_eq!(backoff.fail_told(2 * second, 0.0), 2 * second);
        assert_eq!(backoff.fail_told(2 * second, 1.0), 3 * second);
        assert!(backoff.fail_told(Duration::MAX, 1.0) <= 10 * second);
        let waits: Vec<_> = (0..9)
            .map(|_| backoff.fail_told(Duration::ZERO, 1.0))
            .collect();
        assert_eq!(waits[8], 10 * second, "one that always says so at once");
    }

    #[test]
    fn a_thousand_failures_overflow_nothing() {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        for _ in 0..1_000 {
            assert!(backoff.fail(1.0) <= Duration::from_secs(10));
        }
    }
}
