//! How often the same trouble is told: what repeats with every write would itself fill the disk.

use std::{
    mem,
    time::{Duration, Instant},
};

/// Time from one failure that is told to the next: short beside how long a person takes to react,
/// and a few hundred lines an hour.
const INTERVAL: Duration = Duration::from_secs(10);

/// Failures of one kind: which of them, and which success behind them, are to be told.
///
/// In each [`INTERVAL`] at most one of each, also if they take turns.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    told_at: Option<Instant>,
    /// The last thing told is a failure.
    ongoing: bool,
    left_out: u64,
}

impl Trouble {
    /// It failed. If that is to be told, gives the number of those that were not.
    pub(crate) fn failed(&mut self, now: Instant) -> Option<u64> {
        let told_lately = |at: Instant| now.duration_since(at) < INTERVAL;
        if self.told_at.is_some_and(told_lately) {
            self.left_out += 1;
            return None;
        }
        self.told_at = Some(now);
        self.ongoing = true;
        Some(mem::take(&mut self.left_out))
    }

    /// It succeeded. If that is to be told, gives the number of failures that were not.
    pub(crate) fn worked(&mut self) -> Option<u64> {
        mem::take(&mut self.ongoing).then(|| mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_gets_a_line_now_and_then_and_one_when_it_is_over() {
        let mut trouble = Trouble::default();
        let begin = Instant::now();
        assert_eq!(trouble.worked(), None);
        assert_eq!(trouble.failed(begin), Some(0));
        for _ in 0..1_000 {
            assert_eq!(trouble.failed(begin), None);
        }
        assert_eq!(trouble.failed(begin + INTERVAL), Some(1_000));
        assert_eq!(trouble.failed(begin + INTERVAL), None);
        assert_eq!(trouble.worked(), Some(1));
        assert_eq!(trouble.worked(), None);
        assert_eq!(trouble.failed(begin + 2 * INTERVAL), Some(0));
    }

    #[test]
    fn a_disk_that_is_full_for_every_other_write_gets_no_more_lines() {
        let mut trouble = Trouble::default();
        let begin = Instant::now();
        assert_eq!(trouble.failed(begin), Some(0));
        assert_eq!(trouble.worked(), Some(0));
        for _ in 0..1_000 {
            assert_eq!(trouble.failed(begin), None);
            assert_eq!(trouble.worked(), None);
        }
        assert_eq!(trouble.failed(begin + INTERVAL), Some(1_000));
        assert_eq!(trouble.worked(), Some(0));
    }
}
