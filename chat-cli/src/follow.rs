//! Which rooms are read and how far: what makes a reader resume without loss or doubles.
//!
//! [`Follow`] is pure. It says which requests to send (after every new connection all of them
//! again, each from the position reached), and judges what comes back:
//!
//! - a message at or before the position is a double and dropped;
//! - one whose predecessor is after the position reveals a gap, and the room is opened again from
//!   the position;
//! - any other is the next one, and the position moves on to it.

use protocol::{
    Committed, Cursor, Epoch, RequestId, Room, Seq,
    local::{From, Refusal, Request},
};
use std::collections::{BTreeMap, HashMap};

/// The rooms read in one conversation.
#[derive(Debug, Default)]
pub struct Follow {
    rooms: BTreeMap<Room, Place>,
    /// How often the rooms have changed.
    changes: u64,
    /// Openings the agent has not answered.
    asked: HashMap<RequestId, Room>,
}

#[derive(Debug)]
struct Place {
    /// Where to begin while no position is known.
    from: From,
    /// The last message taken, or what stands for the point before the first.
    reached: Option<Cursor>,
    /// The life of the log, once the agent has told.
    epoch: Option<Epoch>,
    caught_up: bool,
    /// Where a gap was seen last: one that stays after a second look is the log's own.
    gap_at: Option<Cursor>,
    /// Whether it was opened by this terminal or came with [`Request::OpenDirects`].
    explicit: bool,
}

/// What to do with a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Take {
    /// Show it: it is the next one.
    Next,
    /// Drop it: it was shown, or nobody reads that room.
    Drop,
    /// Drop it and send this: something before it is missing.
    Reopen(Request),
}

/// What an answered opening means.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// The room is open.
    Open(Room),
    /// The room has begun a new life; its position was forgotten.
    NewLife(Room),
    /// The agent does not open it.
    Refused(Room, Refusal),
}

impl Follow {
    /// Begins to read `room`; [`Follow::opening`] gives the request.
    pub fn add(&mut self, room: Room, from: From) {
        let reached = match from {
            From::After(cursor) => Some(cursor),
            From::Beginning | From::Newest(_) | From::Unread(_) | From::Since(_) => None,
        };
        self.changes += 1;
        self.rooms.insert(
            room,
            Place {
                from,
                reached,
                epoch: None,
                caught_up: false,
                gap_at: None,
                explicit: true,
            },
        );
    }

    /// Stops reading `room`; false if nobody did.
    pub fn remove(&mut self, room: &Room) -> bool {
        self.asked.retain(|_, asked| asked != room);
        self.changes += 1;
        self.rooms.remove(room).is_some()
    }

    /// Whether `room` is read.
    #[must_use]
    pub fn contains(&self, room: &Room) -> bool {
        self.rooms.contains_key(room)
    }

    /// The rooms that are read.
    pub fn rooms(&self) -> impl Iterator<Item = &Room> {
        self.rooms.keys()
    }

    /// A number that is another one once other rooms are read, those with one person aside.
    #[must_use]
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// Forgets what the last connection was asked; all rooms are to be opened again.
    pub fn disconnected(&mut self) {
        self.asked.clear();
    }

    /// Stops reading the conversations with one person: they are another's now.
    pub fn forget_directs(&mut self) {
        self.rooms
            .retain(|room, _| !matches!(room, Room::Direct(_)));
    }

    /// The rooms to open on a new connection.
    #[must_use]
    pub fn to_open(&self) -> Vec<Room> {
        let explicit = self.rooms.iter().filter(|(_, place)| place.explicit);
        explicit.map(|(room, _)| room.clone()).collect()
    }

    /// The request that opens `room` from the position reached.
    #[must_use]
    pub fn opening(&self, room: &Room) -> Option<Request> {
        let place = self.rooms.get(room)?;
        Some(Request::Open {
            room: room.clone(),
            from: place.reached.map_or(place.from, From::After),
        })
    }

    /// Notes that `id` asks to open `room`.
    pub fn asked(&mut self, id: RequestId, room: Room) {
        self.asked.insert(id, room);
    }

    /// Judges the reply to request `id`, which says after which message of which epoch the room
    /// begins; `None` if that was no opening of ours.
    pub fn on_opened(
        &mut self,
        id: RequestId,
        result: Result<(Epoch, Seq), Refusal>,
    ) -> Option<Opened> {
        let room = self.asked.remove(&id)?;
        let place = self.rooms.get_mut(&room)?;
        let (epoch, after) = match result {
            Ok(opened) => opened,
            Err(refusal) => return Some(Opened::Refused(room, refusal)),
        };
        place.caught_up = false;
        let changed = place.begin(epoch);
        if place.reached.is_none() {
            place.reached = Some(Cursor { epoch, seq: after });
        }
        Some(if changed {
            Opened::NewLife(room)
        } else {
            Opened::Open(room)
        })
    }

    /// Notes that the agent opened a direct conversation by itself. A request is returned if it
    /// was read before: the agent begins at the read marker, this reader where it was.
    pub fn on_direct_opened(&mut self, room: Room, epoch: Epoch) -> Option<Request> {
        let place = self.rooms.entry(room.clone()).or_insert(Place {
            from: From::Unread(0),
            reached: None,
            epoch: None,
            caught_up: false,
            gap_at: None,
            explicit: false,
        });
        let known = place.reached.is_some() && !place.begin(epoch);
        place.epoch = Some(epoch);
        if known { self.opening(&room) } else { None }
    }

    /// Notes that the log of `room` has begun a new life; false if nobody reads it.
    pub fn on_epoch_changed(&mut self, room: &Room, epoch: Epoch) -> bool {
        let Some(place) = self.rooms.get_mut(room) else {
            return false;
        };
        // Before this host met its first server there was no log to begin anew.
        let is_first = place
            .epoch
            .is_some_and(|before| before.to_bytes() == [0; 8]);
        place.begin(epoch);
        place.reached = Some(Cursor {
            epoch,
            seq: Seq::START,
        });
        !is_first
    }

    /// Judges a message.
    pub fn on_message(&mut self, message: &Committed) -> Take {
        let Some(place) = self.rooms.get_mut(&message.room) else {
            return Take::Drop;
        };
        let Some(epoch) = place.epoch else {
            // Left over from an opening that this one replaces.
            return Take::Drop;
        };
        if let Some(reached) = place.reached.filter(|reached| reached.epoch == epoch) {
            if message.seq <= reached.seq {
                return Take::Drop;
            }
            if message.prev_seq > reached.seq && place.gap_at != Some(reached) {
                place.gap_at = Some(reached);
                // What is under way comes again after the answer.
                place.epoch = None;
                return match self.opening(&message.room) {
                    Some(request) => Take::Reopen(request),
                    None => Take::Drop,
                };
            }
        }
        place.reached = Some(Cursor {
            epoch,
            seq: message.seq,
        });
        Take::Next
    }

    /// Notes that all `room` had has been read.
    pub fn on_caught_up(&mut self, room: &Room) {
        if let Some(place) = self.rooms.get_mut(room)
            && !self.asked.values().any(|asked| asked == room)
        {
            place.caught_up = true;
        }
    }

    /// Whether all that all rooms had has been read.
    #[must_use]
    pub fn all_caught_up(&self) -> bool {
        self.rooms.values().all(|place| place.caught_up)
    }

    /// Whether all that `room` had has been read: what follows is live.
    #[must_use]
    pub fn is_caught_up(&self, room: &Room) -> bool {
        self.rooms.get(room).is_some_and(|place| place.caught_up)
    }

    /// The position reached in `room`.
    #[must_use]
    pub fn reached(&self, room: &Room) -> Option<Cursor> {
        self.rooms.get(room)?.reached
    }
}

impl Place {
    /// Enters this life of the log; true if a position in another one was lost by that.
    fn begin(&mut self, epoch: Epoch) -> bool {
        self.epoch = Some(epoch);
        let lost = self.reached.is_some_and(|reached| reached.epoch != epoch);
        if lost {
            self.reached = None;
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{epoch, message};

    fn room(text: &str) -> Room {
        text.parse().unwrap()
    }

    fn at(life: u8, seq: u64) -> Cursor {
        Cursor {
            epoch: epoch(life),
            seq: Seq::new(seq),
        }
    }

    fn opened(follow: &mut Follow, name: &str, life: u8, after: u64) -> Option<Opened> {
        let id = RequestId(99);
        follow.asked(id, room(name));
        follow.on_opened(id, Ok((epoch(life), Seq::new(after))))
    }

    fn take(follow: &mut Follow, name: &str, seq: u64) -> Take {
        follow.on_message(&message(name, seq, "bob@bee", "x"))
    }

    fn from(follow: &Follow, name: &str) -> From {
        match follow.opening(&room(name)) {
            Some(Request::Open { from, .. }) => from,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_reader_resumes_after_the_last_message_it_took() {
        let mut follow = Follow::default();
        follow.add(room("#ops"), From::Newest(10));
        assert_eq!(from(&follow, "#ops"), From::Newest(10));
        opened(&mut follow, "#ops", 1, 6);
        assert_eq!(take(&mut follow, "#ops", 7), Take::Next);
        assert_eq!(take(&mut follow, "#ops", 8), Take::Next);
        follow.disconnected();
        assert_eq!(follow.to_open(), [room("#ops")]);
        assert_eq!(from(&follow, "#ops"), From::After(at(1, 8)));
        opened(&mut follow, "#ops", 1, 8);
        assert_eq!(take(&mut follow, "#ops", 8), Take::Drop);
        assert_eq!(take(&mut follow, "#ops", 9), Take::Next);
        assert_eq!(follow.reached(&room("#ops")), Some(at(1, 9)));
    }

    #[test]
    fn a_gap_is_looked_at_again_once() {
        let mut follow = Follow::default();
        follow.add(room("#ops"), From::Beginning);
        opened(&mut follow, "#ops", 1, 0);
        assert_eq!(take(&mut follow, "#ops", 1), Take::Next);
        let reopen = Request::Open {
            room: room("#ops"),
            from: From::After(at(1, 1)),
        };
        assert_eq!(take(&mut follow, "#ops", 5), Take::Reopen(reopen));
        assert_eq!(take(&mut follow, "#ops", 6), Take::Drop);
        opened(&mut follow, "#ops", 1, 9);
        assert_eq!(take(&mut follow, "#ops", 2), Take::Next);
        assert!(matches!(take(&mut follow, "#ops", 5), Take::Reopen(_)));
        opened(&mut follow, "#ops", 1, 9);
        assert_eq!(take(&mut follow, "#ops", 5), Take::Next);
    }

    #[test]
    fn a_new_life_of_the_log_is_not_mistaken_for_the_old_one() {
        let mut follow = Follow::default();
        follow.add(room("#ops"), From::After(at(1, 50)));
        assert_eq!(
            opened(&mut follow, "#ops", 1, 50),
            Some(Opened::Open(room("#ops")))
        );
        assert!(follow.on_epoch_changed(&room("#ops"), epoch(2)));
        assert_eq!(take(&mut follow, "#ops", 1), Take::Next);
        assert_eq!(follow.reached(&room("#ops")), Some(at(2, 1)));
        assert_eq!(
            opened(&mut follow, "#ops", 3, 4),
            Some(Opened::NewLife(room("#ops")))
        );
    }

    #[test]
    fn caught_up_means_every_room_since_its_last_opening() {
        let mut follow = Follow::default();
        follow.add(room("#ops"), From::Beginning);
        follow.add(room("&lobby"), From::Beginning);
        opened(&mut follow, "#ops", 1, 0);
        opened(&mut follow, "&lobby", 1, 0);
        follow.on_caught_up(&room("#ops"));
        assert!(follow.is_caught_up(&room("#ops")) && !follow.is_caught_up(&room("&lobby")));
        assert!(!follow.all_caught_up());
        follow.on_caught_up(&room("&lobby"));
        assert!(follow.all_caught_up());
        follow.asked(RequestId(1), room("#ops"));
        follow.on_opened(RequestId(1), Ok((epoch(1), Seq::START)));
        assert!(!follow.all_caught_up());
    }

    #[test]
    fn a_direct_conversation_goes_on_where_this_terminal_was() {
        let direct = "alice@ada,bob@bee";
        let mut follow = Follow::default();
        assert_eq!(follow.on_direct_opened(room(direct), epoch(1)), None);
        assert_eq!(take(&mut follow, direct, 5), Take::Next);
        follow.disconnected();
        assert!(follow.to_open().is_empty());
        let request = follow.on_direct_opened(room(direct), epoch(1));
        assert_eq!(
            request,
            Some(Request::Open {
                room: room(direct),
                from: From::After(at(1, 5))
            })
        );
        assert_eq!(take(&mut follow, direct, 5), Take::Drop);
    }

    #[test]
    fn what_nobody_reads_is_dropped() {
        let mut follow = Follow::default();
        follow.add(room("#ops"), From::Beginning);
        opened(&mut follow, "#ops", 1, 0);
        assert!(follow.remove(&room("#ops")));
        assert_eq!(take(&mut follow, "#ops", 1), Take::Drop);
        assert!(!follow.remove(&room("#ops")));
    }
}
