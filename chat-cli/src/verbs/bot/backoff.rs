//! When a program that died is started again.

use std::time::Duration;

/// Shortest and longest wait before a program is started again.
const MIN: Duration = Duration::from_millis(200);
const MAX: Duration = Duration::from_secs(60);

/// How long a program must live to count as proof that all is well.
const PROVEN: Duration = Duration::from_secs(30);

/// Doubles with each death in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    deaths: u32,
}

impl Backoff {
    /// The wait after a program died that `lived` so long.
    pub(super) fn after(&mut self, lived: Duration) -> Duration {
        if lived >= PROVEN {
            self.deaths = 0;
        }
        let wait = MIN.saturating_mul(2_u32.saturating_pow(self.deaths));
        self.deaths = self.deaths.saturating_add(1);
        wait.min(MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_a_limit_and_begins_anew_after_a_long_life() {
        let mut backoff = Backoff::default();
        let mut after = |lived| backoff.after(Duration::from_secs(lived)).as_millis();
        assert_eq!([after(0), after(0), after(29)], [200, 400, 800]);
        for _ in 0..40 {
            after(0);
        }
        assert_eq!(after(0), 60_000);
        assert_eq!([after(30), after(0)], [200, 400]);
    }
}
