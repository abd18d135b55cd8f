//! The time without a server, told when it is over: how long, and what crossed it.

use protocol::{Committed, Timestamp};
use std::time::Duration;
use tokio::time::Instant;

/// Silence after which what was missed has come.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// The longest that is waited for it.
const LONGEST: Duration = Duration::from_secs(15);

/// Whether this terminal has been without a server, and what has crossed that so far; nothing if
/// there is one, or never was.
#[derive(Debug, Default)]
pub(super) struct Absence(Option<Away>);

#[derive(Debug)]
struct Away {
    from: Timestamp,
    sent: u64,
    received: u64,
    over: Option<Over>,
}

/// The server is back; what waited on both sides is coming.
#[derive(Debug)]
struct Over {
    to: Timestamp,
    at: Instant,
    due: Instant,
}

/// What a time without a server came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    /// Own messages said meanwhile.
    pub(super) sent: u64,
    /// Messages of others that were said or committed meanwhile.
    pub(super) received: u64,
}

impl Absence {
    /// The server was lost.
    pub(super) fn begin(&mut self, now: Timestamp) {
        let away = self.0.get_or_insert(Away {
            from: now,
            sent: 0,
            received: 0,
            over: None,
        });
        away.over = None;
    }

    /// The server is back.
    pub(super) fn end(&mut self, now: Timestamp, instant: Instant) {
        if let Some(away) = &mut self.0 {
            away.over.get_or_insert(Over {
                to: now,
                at: instant,
                due: instant + SETTLED_AFTER,
            });
        }
    }

    /// A message that crosses hosts was shown. It may be here before it is known that the server
    /// is back.
    pub(super) fn take(&mut self, message: &Committed, is_mine: bool, instant: Instant) {
        let Some(away) = &mut self.0 else {
            return;
        };
        let to = away.over.as_ref().map(|over| over.to);
        let meanwhile = |at| away.from <= at && to.is_none_or(|to| at <= to);
        // A message of another host that waited there, too, is committed after the end of it.
        if meanwhile(message.sent_at) || (!is_mine && meanwhile(message.committed_at)) {
            away.count(is_mine, instant);
        }
    }

    /// As [`Absence::take`] for a message that was said here: then, also if the agent took it only
    /// when that was over.
    pub(super) fn take_mine(&mut self, said: Instant, instant: Instant) {
        if let Some(away) = &mut self.0
            && away.over.as_ref().is_none_or(|over| said <= over.at)
        {
            away.count(true, instant);
        }
    }

    /// When there may be something to tell.
    pub(super) fn due(&self) -> Option<Instant> {
        let over = self.0.as_ref()?.over.as_ref()?;
        Some(over.due.min(over.at + LONGEST))
    }

    /// What it came to, once, when that is known.
    pub(super) fn summary(&mut self, instant: Instant) -> Option<Summary> {
        if self.due().is_none_or(|due| instant < due) {
            return None;
        }
        let Away {
            from,
            sent,
            received,
            over,
        } = self.0.take()?;
        Some(Summary {
            from,
            to: over?.to,
            sent,
            received,
        })
    }
}

impl Away {
    fn count(&mut self, is_mine: bool, instant: Instant) {
        *(if is_mine {
            &mut self.sent
        } else {
            &mut self.received
        }) += 1;
        if let Some(over) = &mut self.over {
            over.due = instant + SETTLED_AFTER;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn message(second: u64) -> Committed {
        let mut message = sample::message("#ops", 7, "bob@bee", "hi");
        (message.sent_at, message.committed_at) = (at(second), at(second));
        message
    }

    #[test]
    fn what_crossed_the_absence_is_counted_once_it_has_come() {
        let mut absence = Absence::default();
        let start = Instant::now();
        absence.end(at(5), start);
        assert_eq!(absence.due(), None, "it was never away");
        absence.begin(at(10));
        absence.begin(at(20));
        absence.end(at(70), start);
        let first = absence.due().unwrap();
        absence.take(&message(30), true, start);
        absence.take(&message(40), false, start);
        absence.take(&message(50), false, first);
        // Said while nobody had the server, and committed when all had it.
        let mut late = message(60);
        late.committed_at = at(80);
        absence.take(&late, false, first);
        // Before and after it.
        absence.take(&message(5), false, first);
        absence.take(&message(80), false, first);
        assert_eq!(absence.summary(first), None, "more came");
        let summary = absence.summary(first + SETTLED_AFTER).unwrap();
        assert_eq!((summary.from, summary.to), (at(10), at(70)));
        assert_eq!((summary.sent, summary.received), (1, 3));
        assert_eq!(absence.due(), None);
    }

    #[test]
    fn an_absence_with_a_moment_in_between_is_one() {
        let mut absence = Absence::default();
        let start = Instant::now();
        absence.begin(at(10));
        absence.end(at(20), start);
        absence.take(&message(15), false, start);
        absence.begin(at(21));
        assert_eq!(absence.due(), None);
        absence.end(at(30), start);
        let summary = absence.summary(start + SETTLED_AFTER).unwrap();
        assert_eq!((summary.from, summary.to), (at(10), at(30)));
        assert_eq!(summary.received, 1, "that came in the moment");
    }

    #[test]
    fn what_comes_before_it_is_known_that_the_server_is_back_counts() {
        let mut absence = Absence::default();
        let start = Instant::now();
        absence.take(&message(15), false, start);
        absence.begin(at(10));
        // Looked at again meanwhile.
        absence.take(&message(5), false, start);
        absence.take(&message(15), false, start);
        absence.take(&message(16), true, start);
        assert_eq!(absence.due(), None);
        absence.end(at(20), start);
        // Typed meanwhile, taken by the agent after that; and typed after that.
        absence.take_mine(start, start + SETTLED_AFTER / 2);
        absence.take_mine(start + SETTLED_AFTER / 2, start + SETTLED_AFTER / 2);
        let summary = absence.summary(start + SETTLED_AFTER * 2).unwrap();
        assert_eq!((summary.sent, summary.received), (2, 1));
    }

    #[test]
    fn a_flood_does_not_put_the_summary_off_for_ever() {
        let mut absence = Absence::default();
        let start = Instant::now();
        absence.begin(at(10));
        absence.end(at(20), start);
        for second in 0..60 {
            absence.take(&message(15), false, start + Duration::from_secs(second) / 2);
        }
        assert!(absence.summary(start + LONGEST).is_some());
    }
}
