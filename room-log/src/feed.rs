//! Who follows which room, and from where.

use crate::{
    outbound::Outbound,
    position::{Offer, Position},
};
use bytes::Bytes;
use protocol::{Committed, Room, Seq};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// One connection that follows rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReaderId(u64);

/// How a committed message becomes a frame of the vocabulary that is spoken here.
pub type Frames = fn(&Committed) -> Bytes;

/// A room that one reader must be fed from the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Behind {
    pub(crate) room: Room,
    pub(crate) after: Seq,
    /// Which subscription, if the room was subscribed to more than once in a row.
    pub(crate) generation: u64,
}

/// Gives committed messages to everybody who follows their room.
///
/// A message must be published after it can be read from the log, and messages of a room in
/// order. Then a reader that subscribes, reads pages until the feed says it is live, and
/// takes its queue from there on, sees every message once: what is published before it
/// becomes live is found in the log, and what is published after goes to the queue.
#[derive(Debug)]
pub struct Feed {
    rooms: Mutex<HashMap<Room, Followed>>,
    next: AtomicU64,
    frames: Frames,
}

#[derive(Debug, Default)]
struct Followed {
    /// The newest message published since somebody follows.
    head: Seq,
    subscriptions: Vec<Subscription>,
}

#[derive(Debug)]
struct Subscription {
    reader: ReaderId,
    generation: u64,
    outbound: Arc<Outbound>,
    position: Position,
}

impl Feed {
    /// A feed that nobody follows yet.
    #[must_use]
    pub fn new(frames: Frames) -> Self {
        Self {
            rooms: Mutex::default(),
            next: AtomicU64::new(1),
            frames,
        }
    }

    /// An id for a new connection.
    #[must_use]
    pub fn reader(&self) -> ReaderId {
        ReaderId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// How a committed message becomes a frame here.
    #[must_use]
    pub const fn frames(&self) -> Frames {
        self.frames
    }

    /// Lets `reader` follow `room` after `after`, from the log first. Replaces what it followed
    /// of the room before.
    pub fn subscribe(&self, reader: ReaderId, outbound: &Arc<Outbound>, room: &Room, after: Seq) {
        let generation = self.next.fetch_add(1, Ordering::Relaxed);
        let mut rooms = self.lock();
        let followed = rooms.entry(room.clone()).or_default();
        followed.subscriptions.retain(|one| one.reader != reader);
        followed.subscriptions.push(Subscription {
            reader,
            generation,
            outbound: Arc::clone(outbound),
            position: Position::CatchingUp { after },
        });
        drop(rooms);
        outbound.push_behind(Behind {
            room: room.clone(),
            after,
            generation,
        });
    }

    /// Ends what `reader` follows of `room`.
    pub fn unsubscribe(&self, reader: ReaderId, room: &Room) {
        let mut rooms = self.lock();
        if let Some(followed) = rooms.get_mut(room) {
            followed.subscriptions.retain(|one| one.reader != reader);
            if followed.subscriptions.is_empty() {
                rooms.remove(room);
            }
        }
    }

    /// Ends everything that `reader` follows.
    pub fn leave(&self, reader: ReaderId) {
        self.lock().retain(|_, followed| {
            followed.subscriptions.retain(|one| one.reader != reader);
            !followed.subscriptions.is_empty()
        });
    }

    /// Gives new messages to those who follow their rooms. Encodes each at most once, and never
    /// while others wait for the feed.
    pub fn publish<'a>(&self, messages: impl IntoIterator<Item = &'a Committed>) {
        let messages: Vec<&Committed> = messages.into_iter().collect();
        let followed: Vec<&Committed> = {
            let rooms = self.lock();
            let is_followed = |message: &&Committed| rooms.contains_key(&message.room);
            messages.into_iter().filter(is_followed).collect()
        };
        // Who begins to follow meanwhile finds these in the log.
        let frames: Vec<Bytes> = followed.iter().map(|one| (self.frames)(one)).collect();
        let mut rooms = self.lock();
        for (message, frame) in followed.into_iter().zip(frames) {
            let Some(followed) = rooms.get_mut(&message.room) else {
                continue;
            };
            followed.head = followed.head.max(message.seq);
            for one in &mut followed.subscriptions {
                let before = one.position.last();
                if one.position.offer(message.seq) == Offer::Skip {
                    continue;
                }
                if !one.outbound.push_live(frame.clone()) {
                    one.position.fell_behind(before);
                    one.outbound.push_behind(Behind {
                        room: message.room.clone(),
                        after: before,
                        generation: one.generation,
                    });
                }
            }
        }
    }

    /// Gives a soft event to everybody who follows one of `rooms`, once to each.
    pub fn publish_soft<'a>(&self, rooms: impl IntoIterator<Item = &'a Room>, frame: &Bytes) {
        let followed = self.lock();
        let mut told: HashSet<ReaderId> = HashSet::new();
        for room in rooms {
            for one in followed
                .get(room)
                .into_iter()
                .flat_map(|room| &room.subscriptions)
            {
                if told.insert(one.reader) {
                    one.outbound.push_soft(frame.clone());
                }
            }
        }
    }

    /// Begins the rooms that `affected` names anew for everybody who follows them, because their
    /// log began a new life: each reader is told by the frame that `notice` makes, and is fed from
    /// the new log's beginning.
    pub fn restart(&self, affected: impl Fn(&Room) -> bool, notice: impl Fn(&Room) -> Bytes) {
        let mut rooms = self.lock();
        for (room, followed) in rooms.iter_mut().filter(|(room, _)| affected(room)) {
            followed.head = Seq::START;
            let frame = notice(room);
            for one in &mut followed.subscriptions {
                one.generation = self.next.fetch_add(1, Ordering::Relaxed);
                one.position = Position::CatchingUp { after: Seq::START };
                one.outbound.push_reply(frame.clone());
                one.outbound.push_behind(Behind {
                    room: room.clone(),
                    after: Seq::START,
                    generation: one.generation,
                });
            }
        }
    }

    /// Whether `reader` follows `room` at all.
    #[must_use]
    pub fn is_following(&self, reader: ReaderId, room: &Room) -> bool {
        let rooms = self.lock();
        rooms.get(room).is_some_and(|followed| {
            followed
                .subscriptions
                .iter()
                .any(|one| one.reader == reader)
        })
    }

    /// Whether all that was published of `room` so far is in `reader`'s queue or beyond.
    #[must_use]
    pub fn is_live(&self, reader: ReaderId, room: &Room) -> bool {
        let rooms = self.lock();
        rooms.get(room).is_some_and(|followed| {
            let mut all = followed.subscriptions.iter();
            all.any(|one| one.reader == reader && matches!(one.position, Position::Live { .. }))
        })
    }

    /// How many rooms have a reader, and how many subscriptions there are in all.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let rooms = self.lock();
        (
            rooms.len(),
            rooms.values().map(|room| room.subscriptions.len()).sum(),
        )
    }

    /// Whether the subscription that `behind` belongs to is still the reader's.
    pub(crate) fn is_current(&self, reader: ReaderId, behind: &Behind) -> bool {
        let rooms = self.lock();
        rooms.get(&behind.room).is_some_and(|followed| {
            let mut all = followed.subscriptions.iter();
            all.any(|one| one.reader == reader && one.generation == behind.generation)
        })
    }

    /// Notes that `reader` was given everything up to `after` from the log, and whether the log
    /// had no more then. Returns whether it is live now; if not, the room is put back among those
    /// to read.
    ///
    /// In a busy room the log hardly ever has no more. But whoever was given the newest message
    /// that was published is live too: all that follow are published later.
    pub(crate) fn read_up_to(
        &self,
        reader: ReaderId,
        behind: Behind,
        after: Seq,
        at_end: bool,
    ) -> bool {
        let mut rooms = self.lock();
        let Some(followed) = rooms.get_mut(&behind.room) else {
            return false;
        };
        let head = followed.head;
        let mut all = followed.subscriptions.iter_mut();
        let Some(one) = all.find(|one| one.reader == reader && one.generation == behind.generation)
        else {
            return false;
        };
        // Nothing published yet says nothing about what the log has.
        let live = (at_end || head > Seq::START) && one.position.read_up_to(after, head);
        if !live {
            one.position.fell_behind(after);
            one.outbound.push_behind(Behind { after, ..behind });
        }
        live
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Room, Followed>> {
        // Positions are updated before anything that could panic.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_forgets_rooms_that_nobody_follows() {
        let feed = Feed::new(|_| Bytes::new());
        let outbound = Arc::new(Outbound::new(64));
        let (one, two) = (feed.reader(), feed.reader());
        for (reader, room) in [(one, "#a"), (one, "#b"), (two, "#b"), (two, "#b")] {
            feed.subscribe(reader, &outbound, &room.parse().unwrap(), Seq::START);
        }
        assert_eq!(feed.size(), (2, 3));
        feed.unsubscribe(two, &"#a".parse().unwrap());
        feed.unsubscribe(one, &"#a".parse().unwrap());
        assert_eq!(feed.size(), (1, 2));
        assert!(feed.is_following(one, &"#b".parse().unwrap()));
        assert!(!feed.is_live(one, &"#b".parse().unwrap()));
        feed.leave(one);
        feed.leave(two);
        assert_eq!(feed.size(), (0, 0));
    }

    #[test]
    fn a_reader_is_live_at_the_newest_published_message_or_at_the_end_of_the_log() {
        let feed = Feed::new(|_| Bytes::new());
        let outbound = Arc::new(Outbound::new(64));
        let room: Room = "#busy".parse().unwrap();
        let reader = feed.reader();
        let read = |after, at_end| {
            let behind = outbound.pop_behind().unwrap();
            feed.read_up_to(reader, behind, Seq::new(after), at_end)
        };
        feed.subscribe(reader, &outbound, &room, Seq::START);
        assert!(!read(4, false), "the log may have any number more");
        feed.publish([&committed(&room, 5)]);
        assert!(!read(4, true), "the page was read before the fifth came");
        assert!(read(6, false), "the seventh will be published");
        assert_eq!(outbound.pop_behind(), None);
        assert!(feed.is_live(reader, &room));
        feed.restart(|_| true, |_| Bytes::new());
        outbound.take_into(&mut bytes::BytesMut::new(), 64);
        assert!(!read(9, false), "what the old log published says nothing");
        assert!(read(9, true));
    }

    fn committed(room: &Room, seq: u64) -> Committed {
        Committed {
            room: room.clone(),
            seq: Seq::new(seq),
            prev_seq: Seq::START,
            committed_at: protocol::Timestamp::from_micros(0),
            id: protocol::MessageId::new(),
            author: "alice@ada".parse().unwrap(),
            sent_at: protocol::Timestamp::from_micros(0),
            body: protocol::Content::Text("hello".to_owned())
                .encode()
                .unwrap(),
        }
    }
}
