//! Sessions that follow rooms: those they name, and all direct conversations of their user.

use super::{Hub, lock};
use crate::answer;
use protocol::{
    Committed, Direct, Epoch, Room, Seq, UserName,
    local::{Event, Refusal},
};
use room_log::{Outbound, ReaderId};
use std::{collections::BTreeMap, sync::Arc};

/// Whether a session wants every direct conversation of its user.
#[derive(Debug, Default)]
pub(super) enum Directs {
    #[default]
    Unwanted,
    /// It does, and those that exist are being looked up. What is committed meanwhile is noted
    /// only: where its conversation begins for this session is known when the lookup ends.
    LookedUp(BTreeMap<Room, (Epoch, Seq)>),
    /// It follows all there are.
    Followed,
}

impl Hub {
    /// Lets a session follow `room` after `after` of the life `epoch` of its log.
    pub(crate) fn follow(
        &self,
        reader: ReaderId,
        outbound: &Arc<Outbound>,
        room: &Room,
        epoch: Epoch,
        after: Seq,
    ) {
        self.feed.subscribe(reader, outbound, room, after);
        let now = self.epoch_of(room);
        if now != epoch {
            // The log began a new life since `after` was looked up.
            outbound.push_reply(answer::event(Event::EpochChanged {
                room: room.clone(),
                epoch: now,
            }));
            self.feed.subscribe(reader, outbound, room, Seq::START);
        }
    }

    /// Ends what a session follows of `room` because its user is not in it any more, and says so.
    pub(crate) fn end_following(
        &self,
        reader: ReaderId,
        outbound: &Outbound,
        room: &Room,
        reason: &Refusal,
    ) {
        if !self.feed.is_following(reader, room) {
            return;
        }
        self.feed.unsubscribe(reader, room);
        outbound.push_reply(answer::event(Event::Closed {
            room: room.clone(),
            reason: reason.clone(),
        }));
    }

    /// A session wants every direct conversation of its user. Those that exist are looked up
    /// next, and given to [`Hub::follow_directs`].
    pub(crate) fn look_up_directs(&self, reader: ReaderId) {
        if let Some(present) = lock(&self.people).sessions.get_mut(&reader)
            && !matches!(present.directs, Directs::LookedUp(_))
        {
            present.directs = Directs::LookedUp(BTreeMap::new());
        }
    }

    /// Lets a session follow the conversations that were `found`, each from where it begins, then
    /// those that began since, and from now on all that begin.
    pub(crate) fn follow_directs(&self, reader: ReaderId, found: Vec<(Room, Epoch, Seq)>) {
        let mut people = lock(&self.people);
        let Some(present) = people.sessions.get_mut(&reader) else {
            return;
        };
        let noted = match std::mem::replace(&mut present.directs, Directs::Followed) {
            Directs::LookedUp(noted) => noted,
            Directs::Unwanted | Directs::Followed => BTreeMap::new(),
        };
        let noted = noted.into_iter();
        let noted = noted.map(|(room, (epoch, after))| (room, epoch, after));
        for (room, epoch, after) in found.into_iter().chain(noted) {
            self.follow_direct(reader, &present.outbound, &room, epoch, after);
        }
    }

    /// The conversations that exist could not be looked up.
    pub(crate) fn forget_directs(&self, reader: ReaderId) {
        if let Some(present) = lock(&self.people).sessions.get_mut(&reader) {
            present.directs = Directs::Unwanted;
        }
    }

    /// Lets sessions that want all direct conversations of their user follow this one from
    /// `message` on, if they do not already.
    pub(super) fn open_directs(&self, direct: &Direct, message: &Committed) {
        let (room, after) = (&message.room, message.prev_seq);
        let epoch = self.epoch_of(room);
        let mut people = lock(&self.people);
        for (reader, present) in &mut people.sessions {
            let user = UserName::new(present.nick.clone(), self.host.clone());
            if !direct.includes(&user) {
                continue;
            }
            match &mut present.directs {
                Directs::Unwanted => {}
                Directs::LookedUp(noted) => {
                    noted.entry(room.clone()).or_insert((epoch, after));
                }
                Directs::Followed => {
                    self.follow_direct(*reader, &present.outbound, room, epoch, after);
                }
            }
        }
    }

    fn follow_direct(
        &self,
        reader: ReaderId,
        outbound: &Arc<Outbound>,
        room: &Room,
        epoch: Epoch,
        after: Seq,
    ) {
        if !self.feed.is_following(reader, room) {
            let event = Event::DirectOpened {
                room: room.clone(),
                epoch,
            };
            outbound.push_reply(answer::event(event));
            self.follow(reader, outbound, room, epoch, after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::identity::Identity;
    use futures_util::FutureExt;
    use protocol::{AgentId, Content, MessageId, Timestamp};
    use room_log::{Delivery, PageFuture, PageSource};
    use std::sync::Mutex;

    /// Notes where the log would be read from.
    struct Beginnings(Arc<Mutex<Vec<(Room, Seq)>>>);

    impl PageSource for Beginnings {
        fn page(&self, room: &Room, after: Seq) -> PageFuture {
            self.0.lock().unwrap().push((room.clone(), after));
            Box::pin(std::future::pending())
        }
    }

    #[test]
    fn a_message_during_the_lookup_does_not_hide_the_unread_ones_before_it() {
        let identity = Identity {
            agent: AgentId::new(),
            host: "ada".parse().unwrap(),
            local_epoch: Epoch::new(),
            server_epoch: Epoch::new(),
            servers: Vec::new(),
        };
        let hub = Hub::new(&identity, 0);
        let epoch = hub.local_epoch();
        let old: Room = "alice@ada,bob@ada".parse().unwrap();
        let new: Room = "alice@ada,carol@ada".parse().unwrap();
        // Found with a marker at 3, while 8 and 9 are committed; found by nobody but committed.
        for (found, begins) in [
            (vec![(old.clone(), epoch, Seq::new(3))], (old.clone(), 3)),
            (vec![], (old, 7)),
            (vec![], (new, 0)),
        ] {
            let outbound = Arc::new(Outbound::new(1024));
            let reader = hub.feed().reader();
            hub.arrive(reader, &"alice".parse().unwrap(), &outbound, false);
            hub.look_up_directs(reader);
            let (room, after) = (begins.0.clone(), begins.1);
            let first = if found.is_empty() { after } else { 7 };
            for (prev, seq) in [(first, 8), (8, 9)] {
                hub.publish(std::iter::once(&committed(&room, prev, seq)));
            }
            assert!(!hub.feed().is_following(reader, &room), "not known yet");
            hub.follow_directs(reader, found);

            let asked = Arc::new(Mutex::new(Vec::new()));
            let source = Box::new(Beginnings(Arc::clone(&asked)));
            let feed = Arc::clone(hub.feed());
            let mut delivery = Delivery::new(tokio::io::sink(), reader, outbound, feed, source);
            assert!(delivery.run().now_or_never().is_none());
            assert_eq!(*asked.lock().unwrap(), [(room, Seq::new(after))]);
            hub.feed().leave(reader);
        }
    }

    fn committed(room: &Room, prev_seq: u64, seq: u64) -> Committed {
        Committed {
            room: room.clone(),
            seq: Seq::new(seq),
            prev_seq: Seq::new(prev_seq),
            committed_at: Timestamp::from_micros(0),
            id: MessageId::new(),
            author: "bob@ada".parse().unwrap(),
            sent_at: Timestamp::from_micros(0),
            body: Content::Text("hello".to_owned()).encode().unwrap(),
        }
    }
}
