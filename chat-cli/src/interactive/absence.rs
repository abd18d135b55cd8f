//! The time without a server, told when it is over: how long, and what crossed it.

use protocol::{Committed, Timestamp};
use std::time::Duration;
use tokio::time::Instant;

/// Silence after which what was missed has come.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// The longest that is waited for it.
const LONGEST: Duration = Duration::from_secs(15);

/// Where this terminal is with its server.
#[derive(Debug, Default)]
pub(super) enum Absence {
    /// There is a server, or there never was one.
    #[default]
    None,
    /// It has been away since then.
    Since(Timestamp),
    /// It is back; what waited on both sides is coming.
    Over {
        from: Timestamp,
        to: Timestamp,
        sent: u64,
        received: u64,
        due: Instant,
        latest: Instant,
    },
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
        *self = match std::mem::take(self) {
            Self::Since(from) | Self::Over { from, .. } => Self::Since(from),
            Self::None => Self::Since(now),
        };
    }

    /// The server is back.
    pub(super) fn end(&mut self, now: Timestamp, instant: Instant) {
        if let Self::Since(from) = *self {
            *self = Self::Over {
                from,
                to: now,
                sent: 0,
                received: 0,
                due: instant + SETTLED_AFTER,
                latest: instant + LONGEST,
            };
        }
    }

    /// A message of a room for all hosts was shown.
    pub(super) fn take(&mut self, message: &Committed, is_mine: bool, instant: Instant) {
        if let Self::Over {
            from,
            to,
            sent,
            received,
            due,
            ..
        } = self
        {
            let meanwhile = |at: Timestamp| *from <= at && at <= *to;
            // A message of another host that waited there, too, is committed after the end of it.
            if meanwhile(message.sent_at) || (!is_mine && meanwhile(message.committed_at)) {
                *(if is_mine { sent } else { received }) += 1;
                *due = instant + SETTLED_AFTER;
            }
        }
    }

    /// When there may be something to tell.
    pub(super) fn due(&self) -> Option<Instant> {
        match self {
            Self::Over { due, latest, .. } => Some((*due).min(*latest)),
            Self::None | Self::Since(_) => None,
        }
    }

    /// What it came to, once, when that is known.
    pub(super) fn summary(&mut self, instant: Instant) -> Option<Summary> {
        if self.due().is_none_or(|due| instant < due) {
            return None;
        }
        match std::mem::take(self) {
            Self::Over {
                from,
                to,
                sent,
                received,
                ..
            } => Some(Summary {
                from,
                to,
                sent,
                received,
            }),
            Self::None | Self::Since(_) => None,
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
        absence.begin(at(21));
        assert_eq!(absence.due(), None);
        absence.end(at(30), start);
        let summary = absence.summary(start + SETTLED_AFTER).unwrap();
        assert_eq!((summary.from, summary.to), (at(10), at(30)));
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
