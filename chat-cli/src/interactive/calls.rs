//! Calling the person's attention, but not more than once a moment: a burst of messages that speak
//! to them rings once.

use std::time::Duration;
use tokio::time::Instant;

/// The least time from one call to the next.
const QUIET: Duration = Duration::from_secs(1);

/// Why a message speaks to the reader; all of it is clean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    /// Who wants something.
    pub(super) from: String,
    /// The beginning of what they say.
    pub(super) words: String,
}

/// The calls of the last moment.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// When the next may be made.
    quiet_until: Option<Instant>,
    /// The first that waits for it, and how many came after that.
    waiting: Option<(Call, u64)>,
}

impl Calls {
    /// A message speaks to the person; the call to make now, or else it waits.
    pub(super) fn take(&mut self, call: Call, now: Instant) -> Option<Call> {
        if let Some((_, more)) = &mut self.waiting {
            *more = more.saturating_add(1);
            return None;
        }
        if self.quiet_until.is_some_and(|until| now < until) {
            self.waiting = Some((call, 0));
            return None;
        }
        self.quiet_until = Some(now + QUIET);
        Some(call)
    }

    /// When the call that waits may be made.
    pub(super) fn due(&self) -> Option<Instant> {
        self.quiet_until.filter(|_| self.waiting.is_some())
    }

    /// The call that waited, for all of its moment, once it may be made.
    pub(super) fn fold(&mut self, now: Instant) -> Option<Call> {
        if self.due().is_none_or(|due| now < due) {
            return None;
        }
        let (mut call, more) = self.waiting.take()?;
        if more > 0 {
            call.words = format!("{} (and {more} more)", call.words);
        }
        self.quiet_until = Some(now + QUIET);
        Some(call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(words: &str) -> Call {
        Call {
            from: "bob".to_owned(),
            words: words.to_owned(),
        }
    }

    #[test]
    fn a_single_call_is_made_at_once() {
        let mut calls = Calls::default();
        let start = Instant::now();
        for second in [0, 1, 5] {
            let now = start + QUIET * second;
            assert_eq!(calls.take(call("hi"), now), Some(call("hi")));
            assert_eq!((calls.due(), calls.fold(now)), (None, None));
        }
    }

    #[test]
    fn the_calls_of_a_moment_are_one() {
        let mut calls = Calls::default();
        let start = Instant::now();
        let last = start + QUIET - Duration::from_nanos(1);
        assert_eq!(calls.take(call("1"), start), Some(call("1")));
        assert_eq!(calls.take(call("2"), start), None);
        assert_eq!(calls.take(call("3"), last), None);
        assert_eq!(calls.due(), Some(start + QUIET));
        assert_eq!(calls.fold(last), None);
        // Late, and in front of what waits.
        assert_eq!(calls.take(call("4"), start + QUIET), None);
        assert_eq!(calls.fold(start + QUIET * 2), Some(call("2 (and 2 more)")));
        assert_eq!(calls.due(), None);
        // The quiet begins anew with each.
        assert_eq!(calls.take(call("5"), start + QUIET * 5 / 2), None);
        assert_eq!(calls.fold(start + QUIET * 3), Some(call("5")));
    }

    #[test]
    fn a_flood_calls_no_more_than_once_a_moment() {
        let mut calls = Calls::default();
        let start = Instant::now();
        let mut made: Vec<Instant> = Vec::new();
        for step in 0..10_000 {
            let now = start + Duration::from_millis(step);
            let folded = calls.fold(now);
            let taken = calls.take(call("x"), now);
            made.extend([folded, taken].into_iter().flatten().map(|_| now));
        }
        assert_eq!(made.len(), 10);
        assert!(made.windows(2).all(|two| two[1] - two[0] >= QUIET));
    }
}
