//! What becomes of acts on this host: those in rooms of its own, and those in the replica.
//!
//! A member who is stored is one who may read: whoever may not any more is taken out in the
//! transaction that says so. When nobody of this host may read a room, all that is here of it goes.

use super::{AgentStore, Outcome, authored, identity, index, person};
use crate::store::person::DepartureNumber;
use protocol::{
    Committed, Epoch, MessageId, Room, Seq, Timestamp, UserName,
    governance::{Act, Denied},
    limits::MAX_ROOMS,
    local::Refusal,
};
use room_log::{
    Chore, Deed, Done, Governed, Retention, RoomLog, Silence, StoreError, charters, erasing::Spot,
    log, roster,
};
use rusqlite::Connection;
use std::{sync::Arc, time::SystemTime};

/// The room that all terminals open: whoever came first is not to own it.
const LOBBY: &str = "&lobby";

/// Messages of a room that nobody here may read which are deleted in one transaction.
const BATCH_MESSAGES: usize = 256;

/// A membership that an act ended.
#[derive(Debug)]
pub struct Gone {
    /// Which room.
    pub room: Room,
    /// Whose.
    pub user: UserName,
    /// What the server must be told, so that it knows that this host does.
    pub departure: Option<DepartureNumber>,
}

/// Work that is done in parts when there is time.
#[derive(Debug)]
pub(super) struct Upkeep {
    retention: Retention,
    /// Whether rooms may have been put aside, to be deleted; and whether that was asked once, as an
    /// earlier process may have left some.
    aside: bool,
    looked: bool,
    /// Whether something was erased since the writer asked.
    traces: bool,
    /// What the part at hand is of.
    at: Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Index,
    Aside,
    Retention,
}

impl Upkeep {
    pub(super) fn new() -> Self {
        Self {
            retention: Retention::default(),
            aside: false,
            looked: false,
            traces: false,
            at: Part::Index,
        }
    }
}

impl AgentStore {
    /// Why `user` may not be in `room`, as far as is known here.
    pub(super) fn exclusion(
        &mut self,
        transaction: &Connection,
        room: &Room,
        user: &UserName,
    ) -> Result<Option<Refusal>, StoreError> {
        let silence = self.governor.excludes(transaction, room, user)?;
        if silence.is_some()
            && let Some(vouched) = self.hub.vouched(room, &user.nick)
        {
            // The server knows better as long as the replica is behind.
            let head = log::head(transaction, self.replica.epoch(), room)?;
            if head.unwrap_or_default().seq < vouched {
                return Ok(None);
            }
        }
        Ok(silence.map(|silence| refusal(room, silence)))
    }

    /// Why `user` may not write in `room`, which is ordered here.
    pub(super) fn silence(
        &mut self,
        transaction: &Connection,
        room: &Room,
        user: &UserName,
    ) -> Result<Option<Refusal>, StoreError> {
        if !matches!(room, Room::Local(_)) {
            return Ok(None);
        }
        let silence = self.governor.silences(transaction, room, user)?;
        Ok(silence.map(|silence| refusal(room, silence)))
    }

    /// Remembers who made a room of this host.
    pub(super) fn note_founder(
        &self,
        transaction: &Connection,
        room: &Room,
        user: &UserName,
    ) -> Result<(), StoreError> {
        match room.as_str() {
            LOBBY => Ok(()),
            _ => charters::found(transaction, room, user),
        }
    }

    /// Does an act in a room that is ordered here.
    pub(super) fn govern(
        &mut self,
        transaction: &Connection,
        deed: Deed<'_>,
    ) -> Result<Outcome, StoreError> {
        let room = deed.room.clone();
        let now = Timestamp::from(SystemTime::now());
        let opens_lobby = matches!(deed.act, Act::Opened { .. }) && room.as_str() == LOBBY;
        let governed = if opens_lobby {
            Governed::Denied(Denied::Nobodys)
        } else {
            let log = &mut self.local;
            self.governor.govern(transaction, log, deed, now)?
        };
        let result: Result<Option<Seq>, Refusal> = match governed {
            Governed::Done(done) => {
                let seq = done.committed.last().map(|act| act.seq);
                let (committed, gone) = self.take_effect(transaction, &room, done)?;
                return Ok(Outcome::Governed {
                    result: Ok(seq),
                    committed,
                    gone,
                });
            }
            Governed::Known { seq } => Ok(Some(seq)),
            Governed::Unchanged => Ok(None),
            Governed::Conflict => Err(Refusal::IdConflict { id: deed.id }),
            Governed::TooManyRooms => Err(super::too_many("rooms", MAX_ROOMS)),
            Governed::NoSuchRoom => Err(Refusal::NoSuchRoom { room }),
            Governed::NotOpen => Err(Refusal::NotOpen { room }),
            Governed::Denied(denied) => Err(Refusal::Denied { room, denied }),
        };
        Ok(Outcome::Governed {
            result,
            committed: Vec::new(),
            gone: Vec::new(),
        })
    }

    /// Takes over what a message of the replica means.
    pub(super) fn fold(
        &mut self,
        transaction: &Connection,
        message: &Committed,
    ) -> Result<Vec<Gone>, StoreError> {
        let hub = Arc::clone(&self.hub);
        // What was before the server let somebody in is no reason to put them out.
        let is_in = |user: &UserName| {
            let vouched = hub.vouched(&message.room, &user.nick);
            vouched.is_some_and(|vouched| message.seq <= vouched)
        };
        let real = |stored: &UserName| authored::claimed(stored, hub.host());
        let done = self.governor.fold(transaction, message, is_in, real)?;
        let (_, gone) = self.take_effect(transaction, &message.room, done)?;
        if !gone.is_empty() {
            self.put_aside_if_unread(transaction, &message.room)?;
        }
        Ok(gone)
    }

    /// The replica is one of another life of the server's log from now on.
    pub(super) fn begin_epoch(
        &mut self,
        transaction: &Connection,
        epoch: Epoch,
    ) -> Result<Outcome, StoreError> {
        identity::set_server_epoch(transaction, epoch)?;
        // What a log says of its rooms is known again when this host comes back to it.
        charters::change_epoch(transaction, self.replica.epoch(), epoch)?;
        self.replica = RoomLog::new(epoch, MAX_ROOMS);
        self.governor.forget();
        let mut ended = Vec::new();
        // Who joined a room of this name with another server is not let in by that, and reads nothing
        // of this one until the server says so. It need not hear that they left.
        for (room, user) in charters::strangers(transaction)? {
            roster::leave(transaction, &room, &user)?;
            ended.push(Gone {
                room,
                user,
                departure: None,
            });
        }
        Ok(Outcome::Begun(ended))
    }

    /// A member whom the server does not let in; `closed` says that they may not read any more what
    /// is here either.
    pub(super) fn expel(
        &mut self,
        transaction: &Connection,
        room: &Room,
        user: &UserName,
        closed: bool,
    ) -> Result<Outcome, StoreError> {
        let mut gone = None;
        if roster::leave(transaction, room, user)? {
            gone = Some(self.gone(transaction, room, user)?);
        }
        if closed && !has_members(transaction, room)? {
            self.put_aside(transaction, room)?;
        }
        Ok(Outcome::Expelled(gone))
    }

    /// Somebody left a room: one by invitation says so, if it is ordered here, and is deleted if it is
    /// not and nobody here is in it any more.
    pub(super) fn left_room(
        &mut self,
        transaction: &Connection,
        room: &Room,
        user: &UserName,
    ) -> Result<Option<Committed>, StoreError> {
        match room {
            Room::Local(_) => {
                let now = Timestamp::from(SystemTime::now());
                let log = &mut self.local;
                self.governor
                    .left(transaction, log, room, user, (MessageId::new(), now))
            }
            _ => {
                self.put_aside_if_unread(transaction, room)?;
                Ok(None)
            }
        }
    }

    /// Takes the words out of a message that its author took back in a room that is ordered here.
    pub(super) fn take_back(
        &mut self,
        transaction: &Connection,
        message: &Committed,
        of: MessageId,
    ) -> Result<(), StoreError> {
        let own = |author: &UserName| *author == message.author;
        let spots = room_log::erasing::erase(transaction, &message.room, of, own)?;
        self.forget_words(transaction, &spots)
    }

    fn take_effect(
        &mut self,
        transaction: &Connection,
        room: &Room,
        done: Done,
    ) -> Result<(Vec<Committed>, Vec<Gone>), StoreError> {
        self.forget_words(transaction, &done.erased)?;
        let mut gone = Vec::with_capacity(done.gone.len());
        for user in &done.gone {
            gone.push(self.gone(transaction, room, user)?);
        }
        // Whoever was kicked out is told here and now.
        for user in &done.gone {
            charters::forget_kick(transaction, room, user)?;
        }
        Ok((done.committed, gone))
    }

    fn gone(
        &mut self,
        transaction: &Connection,
        room: &Room,
        user: &UserName,
    ) -> Result<Gone, StoreError> {
        self.left.insert((room.clone(), user.clone()));
        let departure = match room {
            Room::Federated(room) => Some(person::add_departure(transaction, room, user)?),
            _ => None,
        };
        Ok(Gone {
            room: room.clone(),
            user: user.clone(),
            departure,
        })
    }

    fn forget_words(&mut self, transaction: &Connection, spots: &[Spot]) -> Result<(), StoreError> {
        for spot in spots {
            index::forget(transaction, *spot)?;
        }
        self.upkeep.traces |= !spots.is_empty();
        Ok(())
    }

    /// Deletes what is here of a room that nobody of this host may read any more.
    fn put_aside_if_unread(
        &mut self,
        transaction: &Connection,
        room: &Room,
    ) -> Result<(), StoreError> {
        if has_members(transaction, room)? {
            return Ok(());
        }
        let charter = self.governor.charter(transaction, room)?;
        let bans_host = charter.as_ref().is_some_and(|charter| {
            let host = self.hub.host().clone();
            charter
                .banned()
                .any(|one| *one == protocol::governance::Subject::Host(host.clone()))
        });
        match charter {
            Some(charter) if charter.is_private() || bans_host => self.put_aside(transaction, room),
            _ => Ok(()),
        }
    }

    fn put_aside(&mut self, transaction: &Connection, room: &Room) -> Result<(), StoreError> {
        self.governor.drop_charter(transaction, room)?;
        roster::set_topic(transaction, room, "")?;
        self.replica.put_aside(transaction, room)?;
        self.upkeep.aside = true;
        Ok(())
    }

    /// It is time to look for messages that were kept for long enough.
    pub(super) const fn look_at_retention(&mut self) {
        self.upkeep.aside |= !std::mem::replace(&mut self.upkeep.looked, true);
        self.upkeep.retention.look();
    }

    /// What is most urgent of all that is done in parts.
    pub(super) fn next_chore(&self) -> Chore {
        let (_, chore) = self.next_part();
        chore
    }

    fn next_part(&self) -> (Part, Chore) {
        let index = self.indexing.chore();
        let retention = self.upkeep.retention.chore();
        match (index, retention) {
            // Somebody waits.
            (Chore::Soon, _) => (Part::Index, index),
            (_, Chore::Soon) => (Part::Retention, retention),
            _ if self.upkeep.aside => (Part::Aside, Chore::WhenIdle),
            (_, Chore::WhenIdle) => (Part::Retention, retention),
            _ => (Part::Index, index),
        }
    }

    pub(super) fn do_part(&mut self, transaction: &Connection) -> Result<(), StoreError> {
        let epochs = [self.local.epoch(), self.replica.epoch()];
        let (part, _) = self.next_part();
        self.upkeep.at = part;
        let forget = |spot| index::forget(transaction, spot);
        match part {
            Part::Index => self.indexing.advance(transaction, epochs),
            Part::Aside => {
                let found = log::discard(transaction, BATCH_MESSAGES, forget)?;
                if !found {
                    index::forget_rooms(transaction)?;
                }
                self.upkeep.traces |= found;
                self.upkeep.aside = found;
                Ok(())
            }
            Part::Retention => {
                let now = Timestamp::from(SystemTime::now());
                let retention = &mut self.upkeep.retention;
                if retention.advance(transaction, &epochs, now, forget)? {
                    self.local.note_pruned();
                    self.replica.note_pruned();
                }
                Ok(())
            }
        }
    }

    pub(super) fn part_done(&mut self, result: Result<(), StoreError>) {
        match self.upkeep.at {
            Part::Index => self.indexing.done(result, &self.hub),
            // The next start tries again, or the next time that there is something.
            Part::Aside if result.is_err() => self.upkeep.aside = false,
            Part::Retention if result.is_err() => self.upkeep.retention.failed(),
            Part::Aside | Part::Retention => {}
        }
    }

    pub(super) fn take_erased(&mut self) -> bool {
        std::mem::take(&mut self.upkeep.traces)
    }
}

fn has_members(transaction: &Connection, room: &Room) -> Result<bool, StoreError> {
    Ok(roster::member_count(transaction, room)? > 0)
}

/// What a user of this host is told.
pub(super) fn refusal(room: &Room, silence: Silence) -> Refusal {
    let room = room.clone();
    match silence {
        Silence::NotOpen => Refusal::NotOpen { room },
        Silence::Denied(denied) => Refusal::Denied { room, denied },
    }
}
