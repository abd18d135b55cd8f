//! Where a reader of one or several rooms is, for the cursor that is printed with each message.

use protocol::{Committed, Cursor, ResumePoint, Room};
use std::collections::{BTreeMap, VecDeque};

/// Messages and bytes of bodies held back at most.
const MAX_HELD: usize = 1_000;
const MAX_HELD_BYTES: usize = 1024 * 1024;

/// How far each room has been printed.
///
/// A cursor names all rooms. So the first message waits until every room has told where it
/// begins, or so much has come that memory counts for more: a room left out of a cursor is read
/// from its beginning, which repeats messages and loses none.
#[derive(Debug)]
pub(super) struct Positions {
    reached: BTreeMap<Room, Option<Cursor>>,
    held: VecDeque<Step>,
    held_bytes: usize,
}

/// What comes next in the order things were read.
#[derive(Debug)]
enum Step {
    /// A message to print, its place, and whether it came just now.
    Message(Committed, Cursor, bool),
    /// Nothing to print, but a room has come to another place: its log began a new life, or what
    /// is there is not wanted.
    Moved(Room, Cursor),
}

/// A message to print.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) message: Committed,
    /// Its place.
    pub(super) at: Cursor,
    /// Whether it came just now, or was there already.
    pub(super) live: bool,
    /// What resumes after it, in all rooms.
    pub(super) resume: ResumePoint,
}

impl Positions {
    pub(super) fn new(rooms: impl IntoIterator<Item = Room>) -> Self {
        Self {
            reached: rooms.into_iter().map(|room| (room, None)).collect(),
            held: VecDeque::new(),
            held_bytes: 0,
        }
    }

    pub(super) fn rooms(&self) -> usize {
        self.reached.len()
    }

    /// Notes where `room` begins, or goes on in another life of its log.
    pub(super) fn begin(&mut self, room: &Room, at: Cursor) {
        match self.reached.get_mut(room) {
            Some(Some(reached)) if reached.epoch != at.epoch => {
                self.held.push_back(Step::Moved(room.clone(), at));
            }
            Some(reached @ None) => *reached = Some(at),
            _ => {}
        }
    }

    /// Takes a message that was read, its place, and whether it came just now.
    pub(super) fn take(&mut self, message: Committed, at: Cursor, live: bool) {
        self.held_bytes += message.body.as_bytes().len();
        self.held.push_back(Step::Message(message, at, live));
    }

    /// Notes that `room` was read up to here without anything to print.
    pub(super) fn pass(&mut self, room: &Room, at: Cursor) {
        match self.held.back_mut() {
            // However many are passed, one step is enough.
            Some(Step::Moved(last, reached)) if last == room => *reached = at,
            _ => self.held.push_back(Step::Moved(room.clone(), at)),
        }
    }

    /// The next message to print.
    pub(super) fn next(&mut self) -> Option<Due> {
        let unknown = self.reached.values().any(Option::is_none);
        if unknown && self.held.len() < MAX_HELD && self.held_bytes < MAX_HELD_BYTES {
            return None;
        }
        loop {
            match self.held.pop_front()? {
                Step::Moved(room, at) => {
                    self.reached.insert(room, Some(at));
                }
                Step::Message(message, at, live) => {
                    self.held_bytes -= message.body.as_bytes().len();
                    self.reached.insert(message.room.clone(), Some(at));
                    return Some(Due {
                        message,
                        at,
                        live,
                        resume: self.resume_point(at),
                    });
                }
            }
        }
    }

    fn resume_point(&self, alone: Cursor) -> ResumePoint {
        if self.reached.len() == 1 {
            return ResumePoint::After(alone);
        }
        let known = |(room, at): (&Room, &Option<Cursor>)| Some((room.clone(), (*at)?));
        ResumePoint::Each(self.reached.iter().filter_map(known).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{at, epoch, message, room};
    use protocol::Seq;

    fn take(positions: &mut Positions, name: &str, seq: u64) {
        positions.take(message(name, seq, "bob@bee", "x"), at(seq), false);
    }

    fn next(positions: &mut Positions) -> Option<String> {
        let resume = positions.next()?.resume;
        assert_eq!(resume.to_string().parse(), Ok(resume.clone()));
        Some(resume.to_string())
    }

    #[test]
    fn one_room_resumes_after_the_message() {
        let mut positions = Positions::new([room("#a")]);
        positions.begin(&room("#a"), at(3));
        take(&mut positions, "#a", 4);
        assert_eq!(next(&mut positions), Some(at(4).to_string()));
        assert_eq!(next(&mut positions), None);
    }

    #[test]
    fn a_cursor_of_several_rooms_never_leaves_out_one_that_opens_late() {
        let mut positions = Positions::new([room("#a"), room("#b")]);
        positions.begin(&room("#a"), at(3));
        take(&mut positions, "#a", 4);
        take(&mut positions, "#a", 5);
        assert_eq!(next(&mut positions), None);
        positions.begin(&room("#b"), at(90));
        take(&mut positions, "#b", 91);
        let (a4, a5, b90, b91) = (at(4), at(5), at(90), at(91));
        assert_eq!(next(&mut positions), Some(format!("#a={a4};#b={b90}")));
        assert_eq!(next(&mut positions), Some(format!("#a={a5};#b={b90}")));
        assert_eq!(next(&mut positions), Some(format!("#a={a5};#b={b91}")));
    }

    #[test]
    fn a_quiet_room_with_a_new_life_is_resumed_in_that_one() {
        let mut positions = Positions::new([room("#a"), room("#b")]);
        positions.begin(&room("#a"), at(3));
        take(&mut positions, "#a", 4);
        let renewed = Cursor {
            epoch: epoch(2),
            seq: Seq::START,
        };
        // Told while a message of the old life is still to be printed.
        positions.begin(&room("#b"), at(90));
        positions.begin(&room("#a"), renewed);
        take(&mut positions, "#b", 91);
        let (a4, b90, b91) = (at(4), at(90), at(91));
        assert_eq!(next(&mut positions), Some(format!("#a={a4};#b={b90}")));
        assert_eq!(next(&mut positions), Some(format!("#a={renewed};#b={b91}")));
    }

    #[test]
    fn what_was_passed_over_is_not_resumed_from() {
        let mut positions = Positions::new([room("#a"), room("#b")]);
        positions.begin(&room("#a"), at(0));
        positions.begin(&room("#b"), at(0));
        positions.pass(&room("#a"), at(1));
        positions.pass(&room("#a"), at(2));
        take(&mut positions, "#b", 1);
        assert_eq!(positions.held.len(), 2);
        let (a2, b1) = (at(2), at(1));
        assert_eq!(next(&mut positions), Some(format!("#a={a2};#b={b1}")));
    }

    #[test]
    fn no_more_is_held_back_than_memory_allows() {
        let mut positions = Positions::new([room("#a"), room("#b")]);
        positions.begin(&room("#a"), at(0));
        for seq in 1..=MAX_HELD as u64 {
            assert_eq!(next(&mut positions), None);
            take(&mut positions, "#a", seq);
        }
        assert_eq!(next(&mut positions), Some(format!("#a={}", at(1))));
        assert_eq!(next(&mut positions), None);
    }
}
