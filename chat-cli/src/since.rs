//! Where a reader begins: behind a cursor, or at a point in time.

use crate::when;
use jiff::tz::TimeZone;
use protocol::{Committed, CursorError, ResumePoint, Room, Timestamp, local::From};
use std::{collections::HashSet, str::FromStr};
use thiserror::Error;

/// What a person or script gives as `--since`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// After what was read.
    Point(ResumePoint),
    /// With the first message committed at this time or later.
    Time(Timestamp),
}

/// Why a text is no place to begin.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SinceError {
    /// A cursor with a mistake in it.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// Neither a cursor nor a time.
    #[error("{0}; or 0 for the beginning, or the \"cursor\" of a message as --json printed it")]
    When(#[from] when::WhenError),
}

impl Since {
    /// How the opening of `room` says it.
    #[must_use]
    pub fn of(&self, room: &Room) -> From {
        match self {
            Self::Point(point) => point.of(room).map_or(From::Beginning, From::After),
            Self::Time(time) => From::Since(*time),
        }
    }

    /// Which messages are too old.
    #[must_use]
    pub fn bound(&self) -> NotBefore {
        NotBefore {
            time: match self {
                Self::Point(_) => None,
                Self::Time(time) => Some(*time),
            },
            begun: HashSet::new(),
        }
    }
}

impl FromStr for Since {
    type Err = SinceError;

    fn from_str(text: &str) -> Result<Self, SinceError> {
        match text.parse() {
            Ok(point) => Ok(Self::Point(point)),
            // No time is written so.
            Err(error) if text.contains('=') => Err(SinceError::Cursor(error)),
            Err(_) => {
                let time = when::parse(
                    text,
                    std::time::SystemTime::now().into(),
                    &TimeZone::system(),
                )?;
                Ok(Self::Time(time))
            }
        }
    }
}

/// Leaves out what was committed before a point in time, which an agent may give that has not got
/// all of a room: of each room up to the first that is not. What follows that one is not too old,
/// whatever the clock did.
#[derive(Debug, Default)]
pub struct NotBefore {
    time: Option<Timestamp>,
    begun: HashSet<Room>,
}

impl NotBefore {
    /// Leaves nothing of `room` out: its reader begins elsewhere.
    pub fn lift(&mut self, room: Room) {
        if self.time.is_some() {
            self.begun.insert(room);
        }
    }

    /// Whether this message is wanted.
    pub fn admits(&mut self, message: &Committed) -> bool {
        let Some(time) = self.time else {
            return true;
        };
        if self.begun.contains(&message.room) {
            return true;
        }
        let begins = message.committed_at >= time;
        if begins {
            self.begun.insert(message.room.clone());
        }
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{NOON, epoch, message};
    use protocol::{Cursor, Seq};
    use std::collections::BTreeMap;

    fn room(text: &str) -> Room {
        text.parse().unwrap()
    }

    #[test]
    fn each_room_begins_where_the_cursor_says() {
        let cursor = Cursor {
            epoch: epoch(1),
            seq: Seq::new(3),
        };
        let beginning: Since = "0".parse().unwrap();
        assert_eq!(beginning.of(&room("#a")), From::Beginning);
        let each = Since::Point(ResumePoint::Each(BTreeMap::from([(room("#b"), cursor)])));
        assert_eq!(each.of(&room("#a")), From::Beginning);
        assert_eq!(each.of(&room("#b")), From::After(cursor));
        let time: Since = "2024-03-01T12:00:00.000042Z".parse().unwrap();
        assert_eq!(time.of(&room("#a")), From::Since(NOON));
    }

    #[test]
    fn what_is_wrong_is_said_of_what_was_meant() {
        for (text, words) in [("#a=7", "is no cursor"), ("tomorrow", "is no time")] {
            let error = text.parse::<Since>().unwrap_err().to_string();
            assert!(error.contains(words) && error.contains(text), "{error}");
        }
    }

    #[test]
    fn what_is_too_old_is_left_out_until_the_first_that_is_not() {
        let at = |room: &str, seq: u64, micros: u64| {
            let mut message = message(room, seq, "bob@bee", "x");
            message.committed_at = Timestamp::from_micros(micros);
            message
        };
        let mut bound = Since::Time(Timestamp::from_micros(10)).bound();
        for (name, seq, micros, wanted) in [
            ("#a", 1, 8, false),
            ("#a", 2, 10, true),
            ("#b", 1, 9, false),
            ("#a", 3, 9, true),
        ] {
            assert_eq!(bound.admits(&at(name, seq, micros)), wanted, "{name} {seq}");
        }
        bound.lift(room("#c"));
        assert!(bound.admits(&at("#c", 1, 0)));
        assert!(NotBefore::default().admits(&at("#a", 1, 0)));
    }
}
