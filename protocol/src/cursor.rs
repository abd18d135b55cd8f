//! Where a reader resumes.

use crate::{Epoch, Room, RoomError, Seq, text::excerpt};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, str::FromStr};
use thiserror::Error;

/// Why a text is not a place to resume from.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{value:?} is no cursor: give 0 for the beginning, or the \"cursor\" of a message as `chat tail --json` printed it"
)]
pub struct CursorError {
    value: String,
}

/// "After this seq of this life of the log": the last message that a reader has taken.
///
/// Its text is `<epoch>.<seq>`, the epoch as 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cursor {
    /// The life of the log that `seq` belongs to.
    pub epoch: Epoch,
    /// Reading goes on after this, not from this plus one.
    pub seq: Seq,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.seq)
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let parsed = text.split_once('.').and_then(|(epoch, seq)| {
            let digits = !seq.is_empty() && seq.bytes().all(|b| b.is_ascii_digit());
            let seq = if digits {
                seq.parse().ok()?
            } else {
                return None;
            };
            Some(Self {
                epoch: epoch.parse().ok()?,
                seq: Seq::new(seq),
            })
        });
        parsed.ok_or_else(|| CursorError {
            value: excerpt(text),
        })
    }
}

/// What a person or script gives as "since": the beginning, one room's cursor, or a cursor for
/// each of several rooms.
///
/// Texts: `0`; `<epoch>.<seq>`; `#ops=<epoch>.<seq>;&lobby=<epoch>.<seq>`. A reader of several
/// rooms gets the last form with each message, so that one text resumes all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResumePoint {
    /// From the first message.
    Beginning,
    /// After this, in the one room that is read.
    After(Cursor),
    /// After these; a room that is not named is read from its beginning.
    Each(BTreeMap<Room, Cursor>),
}

impl ResumePoint {
    /// Where to resume `room`; `None` is the beginning.
    #[must_use]
    pub fn of(&self, room: &Room) -> Option<Cursor> {
        match self {
            Self::Beginning => None,
            Self::After(cursor) => Some(*cursor),
            Self::Each(cursors) => cursors.get(room).copied(),
        }
    }
}

impl fmt::Display for ResumePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beginning => f.write_str("0"),
            Self::After(cursor) => cursor.fmt(f),
            Self::Each(cursors) if cursors.is_empty() => f.write_str("0"),
            Self::Each(cursors) => {
                for (index, (room, cursor)) in cursors.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ";" };
                    write!(f, "{separator}{room}={cursor}")?;
                }
                Ok(())
            }
        }
    }
}

impl FromStr for ResumePoint {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        if text == "0" {
            return Ok(Self::Beginning);
        }
        if !text.contains('=') {
            return text.parse().map(Self::After);
        }
        let bad = || CursorError {
            value: excerpt(text),
        };
        let mut cursors = BTreeMap::new();
        for part in text.split(';') {
            let (room, cursor) = part.split_once('=').ok_or_else(bad)?;
            let room = Room::parse(room).map_err(|_: RoomError| bad())?;
            let cursor = cursor.parse().map_err(|_: CursorError| bad())?;
            // Two places in one room: to pick either could skip messages silently.
            if cursors.insert(room, cursor).is_some() {
                return Err(bad());
            }
        }
        Ok(Self::Each(cursors))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resume_point_survives_its_own_text() {
        let one = Cursor {
            epoch: Epoch::new(),
            seq: Seq::new(7),
        };
        let two = Cursor {
            epoch: Epoch::new(),
            seq: Seq::new(u64::MAX),
        };
        let each = BTreeMap::from([
            (Room::parse("#ops").unwrap(), one),
            (Room::parse("alice@ada,bob@bee").unwrap(), two),
        ]);
        for point in [
            ResumePoint::Beginning,
            ResumePoint::After(one),
            ResumePoint::Each(each),
        ] {
            assert_eq!(point.to_string().parse(), Ok(point));
        }
    }

    #[test]
    fn no_room_at_all_is_the_beginning_of_each() {
        let none = ResumePoint::Each(BTreeMap::new()).to_string();
        assert_eq!(none.parse(), Ok(ResumePoint::Beginning));
    }

    #[test]
    fn a_bare_number_is_no_cursor() {
        for bad in [
            "7",
            "",
            "0.7",
            "0123456789abcdef.",
            "0123456789abcdef.-1",
            "#ops=7",
            "#ops=0123456789abcdef.1;#ops=0123456789abcdef.2",
        ] {
            assert!(bad.parse::<ResumePoint>().is_err(), "{bad:?}");
        }
    }
}
