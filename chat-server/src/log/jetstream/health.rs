//! Whether NATS does what it is asked: noted by those who ask, judged for whoever wants to know.

use crate::nats::PublishError;
use protocol::LogHealth;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tracing::{info, warn};

/// From here on a batch that was not answered is worth a word: one takes milliseconds.
const SLOW_AFTER: Duration = Duration::from_secs(2);

/// How long a batch that was not stored counts if none was tried since: agents try again within a
/// second for as long as anything waits.
const FAILURE_COUNTS_FOR: Duration = Duration::from_secs(10);

/// What was noted.
#[derive(Debug, Default)]
pub(super) struct Health {
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    /// Why what is new in the log does not come.
    not_coming: Option<Trouble>,
    /// Since when a batch is on its way.
    writing_since: Option<Instant>,
    /// The last batch was not stored.
    failed: Option<Failed>,
    /// Whether there was no room for the last batch of which that is known.
    is_full: bool,
}

#[derive(Debug)]
struct Failed {
    at: Instant,
    trouble: Trouble,
}

#[derive(Debug, Clone)]
enum Trouble {
    /// There was no connection.
    Away,
    /// There was one, and no answer, or another one.
    Slow(String),
    Full(String),
}

impl Trouble {
    fn new(reason: &str, is_connected: bool) -> Self {
        match is_connected {
            true => Self::Slow(reason.to_owned()),
            false => Self::Away,
        }
    }
}

impl From<Trouble> for LogHealth {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Away => Self::Away {
                reason: "NATS: not connected".to_owned(),
            },
            Trouble::Slow(reason) => Self::Slow { reason },
            Trouble::Full(reason) => Self::Full { reason },
        }
    }
}

impl Health {
    /// What is new in the log does not come for this reason, or does again.
    pub(super) fn note_coming(&self, trouble: Option<&str>, is_connected: bool) {
        self.lock().not_coming = trouble.map(|reason| Trouble::new(reason, is_connected));
    }

    /// A batch is on its way.
    pub(super) fn note_writing(&self, now: Instant) {
        self.lock().writing_since = Some(now);
    }

    /// It was answered, or given up.
    pub(super) fn note_written<T>(
        &self,
        outcome: &Result<T, PublishError>,
        is_connected: bool,
        now: Instant,
    ) {
        let trouble = match outcome {
            Ok(_) | Err(PublishError::Taken) => None,
            Err(PublishError::Full(reason)) => Some(Trouble::Full(reason.clone())),
            Err(PublishError::Unknown(reason)) => Some(Trouble::new(reason, is_connected)),
        };
        let mut noted = self.lock();
        match (&trouble, noted.is_full) {
            (Some(Trouble::Full(reason)), false) => {
                warn!("the log takes nothing: {reason}");
                noted.is_full = true;
            }
            (None, true) => {
                info!("the log takes messages again");
                noted.is_full = false;
            }
            _ => {}
        }
        noted.writing_since = None;
        noted.failed = trouble.map(|trouble| Failed { at: now, trouble });
    }

    /// How the log is, given whether there is a connection to NATS.
    pub(super) fn judge(&self, is_connected: bool, now: Instant) -> LogHealth {
        let noted = self.lock();
        let failed = noted.failed.as_ref();
        let failed = failed.filter(|one| now.duration_since(one.at) < FAILURE_COUNTS_FOR);
        let failed = failed.map(|one| &one.trouble);
        if let Some(full @ Trouble::Full(_)) = failed {
            return full.clone().into();
        }
        if !is_connected {
            return Trouble::Away.into();
        }
        // That a batch failed for want of a connection says nothing once there is one.
        let failed = failed.filter(|trouble| !matches!(trouble, Trouble::Away));
        if let Some(trouble) = noted.not_coming.as_ref().or(failed) {
            return trouble.clone().into();
        }
        let writing = noted.writing_since;
        if writing.is_some_and(|since| now.duration_since(since) >= SLOW_AFTER) {
            let reason = "NATS takes long to answer".to_owned();
            return LogHealth::Slow { reason };
        }
        LogHealth::Well
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        // Texts and times.
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Result<(), PublishError> = Ok(());

    #[test]
    fn a_batch_that_is_not_answered_for_long_makes_the_log_slow_until_it_is() {
        let (health, begun) = (Health::default(), Instant::now());
        health.note_writing(begun);
        assert_eq!(health.judge(true, begun), LogHealth::Well);
        let later = begun + SLOW_AFTER;
        assert_eq!(health.judge(true, later).word(), "slow");
        health.note_written(&NOTHING, true, later);
        assert_eq!(health.judge(true, later), LogHealth::Well);
    }

    #[test]
    fn a_full_store_is_told_from_one_that_is_away_and_neither_for_longer_than_it_is_so() {
        let (health, now) = (Health::default(), Instant::now());
        assert_eq!(health.judge(false, now).word(), "away");
        let full = PublishError::Full("maximum bytes exceeded".to_owned());
        health.note_written::<()>(&Err(full), true, now);
        let judged = health.judge(true, now);
        assert_eq!(judged.word(), "full");
        assert_eq!(judged.reason(), Some("maximum bytes exceeded"));
        let later = now + FAILURE_COUNTS_FOR;
        assert_eq!(health.judge(true, later), LogHealth::Well);
        health.note_written(&NOTHING, true, now);
        assert_eq!(health.judge(true, now), LogHealth::Well);
    }

    #[test]
    fn what_does_not_come_is_said_until_it_comes() {
        let (health, now) = (Health::default(), Instant::now());
        health.note_coming(Some("nothing heard"), true);
        assert_eq!(health.judge(true, now).reason(), Some("nothing heard"));
        // It is connected again, and what came meanwhile has not been asked for yet.
        health.note_coming(Some("not connected"), false);
        assert_eq!(health.judge(true, now).word(), "away");
        health.note_coming(None, true);
        assert_eq!(health.judge(true, now), LogHealth::Well);
    }
}
