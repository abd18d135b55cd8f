//! Whether NATS does what it is asked: noted by those who ask, judged for whoever wants to know.

use crate::nats::PublishError;
use protocol::LogHealth;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

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
    not_coming: Option<String>,
    /// Since when a batch is on its way.
    writing_since: Option<Instant>,
    /// The last batch was not stored.
    failed: Option<Failed>,
}

#[derive(Debug)]
struct Failed {
    at: Instant,
    reason: String,
    is_full: bool,
}

impl Health {
    /// What is new in the log does not come for this reason, or does again.
    pub(super) fn note_coming(&self, trouble: Option<String>) {
        self.lock().not_coming = trouble;
    }

    /// A batch is on its way.
    pub(super) fn note_writing(&self, now: Instant) {
        self.lock().writing_since = Some(now);
    }

    /// It was answered, or given up.
    pub(super) fn note_written<T>(&self, outcome: &Result<T, PublishError>, now: Instant) {
        let failed = |reason: &str, is_full| Failed {
            at: now,
            reason: reason.to_owned(),
            is_full,
        };
        let failed = match outcome {
            Ok(_) | Err(PublishError::Taken) => None,
            Err(PublishError::Full(reason)) => Some(failed(reason, true)),
            Err(PublishError::Unknown(reason)) => Some(failed(reason, false)),
        };
        let mut noted = self.lock();
        noted.writing_since = None;
        noted.failed = failed;
    }

    /// How the log is, given whether there is a connection to NATS.
    pub(super) fn judge(&self, is_connected: bool, now: Instant) -> LogHealth {
        let noted = self.lock();
        let failed = noted.failed.as_ref();
        let failed = failed.filter(|one| now.duration_since(one.at) < FAILURE_COUNTS_FOR);
        if let Some(Failed { reason, .. }) = failed.filter(|one| one.is_full) {
            let reason = reason.clone();
            return LogHealth::Full { reason };
        }
        if !is_connected {
            let reason = "NATS: not connected".to_owned();
            return LogHealth::Away { reason };
        }
        let trouble = noted.not_coming.as_ref();
        if let Some(reason) = trouble.or(failed.map(|one| &one.reason)) {
            let reason = reason.clone();
            return LogHealth::Slow { reason };
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
        health.note_written(&NOTHING, later);
        assert_eq!(health.judge(true, later), LogHealth::Well);
    }

    #[test]
    fn a_full_store_is_told_from_one_that_is_away_and_neither_for_longer_than_it_is_so() {
        let (health, now) = (Health::default(), Instant::now());
        assert_eq!(health.judge(false, now).word(), "away");
        let full = PublishError::Full("maximum bytes exceeded".to_owned());
        health.note_written::<()>(&Err(full), now);
        let judged = health.judge(true, now);
        assert_eq!(judged.word(), "full");
        assert_eq!(judged.reason(), Some("maximum bytes exceeded"));
        let later = now + FAILURE_COUNTS_FOR;
        assert_eq!(health.judge(true, later), LogHealth::Well);
        health.note_written(&NOTHING, now);
        assert_eq!(health.judge(true, now), LogHealth::Well);
    }

    #[test]
    fn what_does_not_come_is_said_until_it_comes() {
        let (health, now) = (Health::default(), Instant::now());
        health.note_coming(Some("nothing heard".to_owned()));
        assert_eq!(health.judge(true, now).reason(), Some("nothing heard"));
        health.note_coming(None);
        assert_eq!(health.judge(true, now), LogHealth::Well);
    }
}
