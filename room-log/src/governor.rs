//! What becomes of acts: in the log of a room that is ordered here, and from one that is not.

use crate::{
    Appended, RoomLog, StoreError, charters,
    erasing::{self, Spot},
    roster,
};
use protocol::{
    Committed, Content, MessageId, Outgoing, Room, Timestamp, UserName,
    governance::{Act, Charter, Denied, Mode, Rank, Subject},
};
use rusqlite::Connection;
use std::{collections::HashMap, sync::Arc};
use tracing::warn;

/// The charters, as the one writer sees them.
#[derive(Debug, Default)]
pub struct Governor {
    /// What is stored, loaded as needed; forgotten when a transaction is rolled back. As many as
    /// the log has rooms.
    charters: HashMap<Room, Option<Arc<Charter>>>,
}

/// Something somebody wants to do in a room.
#[derive(Debug, Clone, Copy)]
pub struct Deed<'a> {
    /// Where.
    pub room: &'a Room,
    /// Who, checked.
    pub actor: &'a UserName,
    /// The act's id.
    pub id: MessageId,
    /// What.
    pub act: &'a Act,
}

/// What came of a deed.
#[derive(Debug)]
pub enum Governed {
    /// It is in the log, and everything it means is done.
    Done(Done),
    /// It was done before.
    Known {
        /// The act's place.
        seq: protocol::Seq,
    },
    /// Everything is so already.
    Unchanged,
    /// The act's id belongs to another message.
    Conflict,
    /// The room would be one too many.
    TooManyRooms,
    /// There is no such room, or none that the actor may know of.
    NoSuchRoom,
    /// There is one that is not open to the actor, who wants to make it.
    NotOpen,
    /// The actor may not.
    Denied(Denied),
}

/// What a deed changed.
#[derive(Debug, Default)]
pub struct Done {
    /// What is in the log now, the act last.
    pub committed: Vec<Committed>,
    /// Whose membership ended by it.
    pub gone: Vec<UserName>,
    /// Messages whose words are gone.
    pub erased: Vec<Spot>,
}

/// Why somebody may not write in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// The room is not open to them.
    NotOpen,
    /// They may read.
    Denied(Denied),
}

impl Silence {
    /// Why `charter` keeps `user` from writing; `None` if they may.
    #[must_use]
    pub fn under(charter: &Charter, user: &UserName) -> Option<Self> {
        match charter.may_write(user) {
            Ok(()) => None,
            Err(_) if charter.is_private() && !charter.admits(user) => Some(Self::NotOpen),
            Err(denied) => Some(Self::Denied(denied)),
        }
    }
}

impl Governor {
    /// Forgets what was cached, after a transaction was rolled back or the log began a new life.
    pub fn forget(&mut self) {
        self.charters.clear();
    }

    /// The charter of a room that exists, if it has one.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn charter(
        &mut self,
        transaction: &Connection,
        room: &Room,
    ) -> Result<Option<Arc<Charter>>, StoreError> {
        if let Some(known) = self.charters.get(room) {
            return Ok(known.clone());
        }
        let loaded = charters::load(transaction, room)?.map(Arc::new);
        self.charters.insert(room.clone(), loaded.clone());
        Ok(loaded)
    }

    /// Why `user` may not write in a room that exists; `None` if they may.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn silences(
        &mut self,
        transaction: &Connection,
        room: &Room,
        user: &UserName,
    ) -> Result<Option<Silence>, StoreError> {
        let charter = self.charter(transaction, room)?;
        Ok(charter.and_then(|charter| Silence::under(&charter, user)))
    }

    /// Why `user` may not be in a room that exists; `None` if they may.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn excludes(
        &mut self,
        transaction: &Connection,
        room: &Room,
        user: &UserName,
    ) -> Result<Option<Silence>, StoreError> {
        match self.charter(transaction, room)? {
            Some(charter) if !charter.admits(user) => self.silences(transaction, room, user),
            _ => Ok(None),
        }
    }

    /// Does `deed` in a room that `log` orders, as far as its actor may. A conversation has no
    /// charter, and everybody erases their own words there.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the transaction must be rolled back then.
    pub fn govern(
        &mut self,
        transaction: &Connection,
        log: &mut RoomLog,
        deed: Deed<'_>,
        now: Timestamp,
    ) -> Result<Governed, StoreError> {
        let Deed {
            room,
            actor,
            id,
            act,
        } = deed;
        match log.known_act(transaction, room, actor, id)? {
            Some(Appended::Known { seq }) => return Ok(Governed::Known { seq }),
            Some(_) => return Ok(Governed::Conflict),
            None => {}
        }
        if let Err(denied) = act.check() {
            return Ok(Governed::Denied(denied));
        }
        let exists = log.has_room(transaction, room)?;
        let opening = match act {
            Act::Opened { mode, .. } => Some(*mode),
            _ => None,
        };
        if !exists && opening.is_none() {
            return Ok(Governed::NoSuchRoom);
        }
        let current = match exists {
            true => self.charter(transaction, room)?,
            false => None,
        };
        if let Some(charter) = &current
            && charter.is_private()
            && !charter.admits(actor)
        {
            return Ok(match opening {
                Some(_) => Governed::NotOpen,
                None => Governed::NoSuchRoom,
            });
        }
        let erasing = matches!(act, Act::Erase { .. });
        let mut done = Done::default();
        // The charter as it was, or as the first act makes it, and what says so.
        let mut first = None;
        let before = 'before: {
            match (current, opening) {
                (Some(_), Some(_)) => return Ok(Governed::Denied(Denied::Exists)),
                (Some(charter), None) => Some(charter),
                (None, opening) => {
                    if exists && let Some(denied) = not_founder(transaction, room, actor, opening)?
                    {
                        if !erasing {
                            return Ok(Governed::Denied(denied));
                        }
                        // Their own words are everybody's to erase.
                        break 'before None;
                    }
                    if log.ensure_room(transaction, room)?.is_none() {
                        return Ok(Governed::TooManyRooms);
                    }
                    let mode = opening.unwrap_or_default();
                    let members = present(transaction, room, mode)?;
                    let opened = match Charter::open(actor, mode, &members) {
                        Ok(opened) => opened,
                        Err(denied) => return Ok(Governed::Denied(denied)),
                    };
                    let act = Act::Opened { mode, members };
                    if opening.is_some() {
                        let written = write(transaction, log, room, actor, id, act, now)?;
                        self.keep(transaction, room, opened)?;
                        done.committed.push(written);
                        return Ok(Governed::Done(done));
                    }
                    first = Some(act);
                    Some(Arc::new(opened))
                }
            }
        };
        let act = match act {
            Act::Mode { mode, .. } => Act::Mode {
                mode: *mode,
                members: present(transaction, room, *mode)?,
            },
            other => other.clone(),
        };
        if let Act::Erase { messages } = &act {
            for message in messages {
                let may = |author: &UserName| match &before {
                    Some(charter) => charter.may_erase(actor, author),
                    None => author == actor,
                };
                let spots = erasing::erase(transaction, room, *message, may)?;
                done.erased.extend(spots);
            }
            if done.erased.is_empty() {
                let reason = "none of these messages is there and yours to erase".to_owned();
                return Ok(Governed::Denied(Denied::Senseless { reason }));
            }
        }
        if let Some(before) = before {
            let mut after = (*before).clone();
            if let Err(denied) = after.apply(actor, &act) {
                return Ok(Governed::Denied(denied));
            }
            match gone(transaction, room, &after, &act)? {
                gone if gone.is_empty() && is_lone_kick(&after, &act) => {
                    let Act::Kick { user } = act else {
                        return Ok(Governed::Unchanged);
                    };
                    return Ok(Governed::Denied(Denied::NotIn { user }));
                }
                gone if gone.is_empty() && after == *before && !erasing => {
                    return Ok(Governed::Unchanged);
                }
                gone => done.gone = gone,
            }
            if let Some(first) = first {
                // Whoever does the same deed at the same place gives it the same id.
                let id = MessageId::from_key(actor, room, &format!("what {id} opened"));
                let written = write(transaction, log, room, actor, id, first, now)?;
                done.committed.push(written);
                self.keep(transaction, room, (*before).clone())?;
            }
            self.end_memberships(transaction, room, &after, &done.gone)?;
            if after != *before {
                self.keep(transaction, room, after)?;
            }
        }
        done.committed
            .push(write(transaction, log, room, actor, id, act, now)?);
        Ok(Governed::Done(done))
    }

    /// Lets `user` out of a room that `log` orders: one that is by invitation says so, by an act of
    /// the given id and time. Its owners stay what they are.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the transaction must be rolled back then.
    pub fn left(
        &mut self,
        transaction: &Connection,
        log: &mut RoomLog,
        room: &Room,
        user: &UserName,
        (id, now): (MessageId, Timestamp),
    ) -> Result<Option<Committed>, StoreError> {
        let Some(charter) = self.charter(transaction, room)? else {
            return Ok(None);
        };
        let rank = charter.rank(user);
        if !charter.is_private() || rank.is_none() || rank == Some(Rank::Owner) {
            return Ok(None);
        }
        let mut after = (*charter).clone();
        if after.apply(user, &Act::Left).is_err() {
            return Ok(None);
        }
        self.keep(transaction, room, after)?;
        write(transaction, log, room, user, id, Act::Left, now).map(Some)
    }

    /// Takes over what a message means that another log has ordered, and that is stored here. Only
    /// members who are stored here can be gone, and not those of whom `is_in` says that they are in
    /// the room at some later place of the log. `real` is the author that
    /// the log gives to what is stored as somebody's.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the transaction must be rolled back then.
    pub fn fold(
        &mut self,
        transaction: &Connection,
        message: &Committed,
        is_in: impl Fn(&UserName) -> bool,
        real: impl Fn(&UserName) -> UserName,
    ) -> Result<Done, StoreError> {
        let (room, actor) = (&message.room, &message.author);
        let mut done = Done::default();
        if let Some(of) = message.body.takes_back() {
            let own = |author: &UserName| real(author) == *actor;
            done.erased = erasing::erase(transaction, room, of, own)?;
            return Ok(done);
        }
        if !message.body.is_act() {
            return Ok(done);
        }
        let act = match message.body.decode() {
            Ok(Content::Act(act)) => act,
            // A newer server does what this version knows nothing of.
            other => {
                warn!(%room, seq = %message.seq, ?other, "an act is not understood");
                return Ok(done);
            }
        };
        let before = self.charter(transaction, room)?;
        if let Act::Erase { messages } = &act {
            for id in messages {
                let may = |author: &UserName| match &before {
                    Some(charter) => charter.may_erase(actor, &real(author)),
                    None => real(author) == *actor,
                };
                let spots = erasing::erase(transaction, room, *id, may)?;
                done.erased.extend(spots);
            }
            return Ok(done);
        }
        if matches!(room, Room::Direct(_)) {
            warn!(%room, seq = %message.seq, "a conversation has no charter");
            return Ok(done);
        }
        let applied = match (&before, &act) {
            (None, Act::Opened { mode, members }) => Charter::open(actor, *mode, members),
            (None, _) => Err(Denied::Nobodys),
            (Some(before), act) => {
                let mut after = (**before).clone();
                after.apply(actor, act).map(|()| after)
            }
        };
        match applied {
            Ok(after) => {
                done.gone = gone(transaction, room, &after, &act)?;
                done.gone.retain(|user| !is_in(user));
                self.end_memberships(transaction, room, &after, &done.gone)?;
                self.keep(transaction, room, after)?;
            }
            Err(denied) => warn!(%room, seq = %message.seq, %denied, "an act is not heeded"),
        }
        Ok(done)
    }

    /// Forgets the charter of a room that is not read here any more.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the transaction must be rolled back then.
    pub fn drop_charter(
        &mut self,
        transaction: &Connection,
        room: &Room,
    ) -> Result<(), StoreError> {
        self.charters.remove(room);
        charters::remove(transaction, room)
    }

    fn keep(
        &mut self,
        transaction: &Connection,
        room: &Room,
        charter: Charter,
    ) -> Result<(), StoreError> {
        charters::store(transaction, room, &charter)?;
        self.charters.insert(room.clone(), Some(Arc::new(charter)));
        Ok(())
    }

    fn end_memberships(
        &self,
        transaction: &Connection,
        room: &Room,
        after: &Charter,
        gone: &[UserName],
    ) -> Result<(), StoreError> {
        for user in gone {
            roster::leave(transaction, room, user)?;
            // Those who may not come back are told so when they try.
            if after.admits(user) {
                charters::note_kick(transaction, room, user)?;
            }
        }
        Ok(())
    }
}

/// Why `actor` may not give the room its charter; `None` if they made it.
fn not_founder(
    transaction: &Connection,
    room: &Room,
    actor: &UserName,
    opening: Option<Mode>,
) -> Result<Option<Denied>, StoreError> {
    Ok(match charters::founder(transaction, room)? {
        Some(founder) if founder == *actor => None,
        _ if opening.is_some() => Some(Denied::Exists),
        Some(founder) => Some(Denied::NeedsOwner { ask: vec![founder] }),
        None => Some(Denied::Nobodys),
    })
}

/// Who is in a room that becomes one by invitation; nobody needs to know otherwise.
fn present(transaction: &Connection, room: &Room, mode: Mode) -> Result<Vec<UserName>, StoreError> {
    if mode != Mode::InviteOnly {
        return Ok(Vec::new());
    }
    // One more than there may be is refused by the charter.
    let limit = protocol::limits::MAX_CHARTER_PEOPLE + 1;
    roster::members(transaction, room, "", limit)
}

/// Whose membership ends by an act that made the charter `after`.
fn gone(
    transaction: &Connection,
    room: &Room,
    after: &Charter,
    act: &Act,
) -> Result<Vec<UserName>, StoreError> {
    let one = |user: &UserName| -> Result<Vec<UserName>, StoreError> {
        let is_member = roster::is_member(transaction, room, user)?;
        Ok(is_member.then(|| user.clone()).into_iter().collect())
    };
    match act {
        Act::Kick { user }
        | Act::Ban {
            subject: Subject::User(user),
        } => one(user),
        Act::Opened { .. } | Act::Mode { .. } | Act::Ban { .. } | Act::Left => {
            let members = roster::members(transaction, room, "", usize::MAX)?;
            let out = |user: &UserName| !after.admits(user);
            Ok(members.into_iter().filter(out).collect())
        }
        _ => Ok(Vec::new()),
    }
}

/// Whether this kicks somebody who was in no list: the membership is all there is to end.
fn is_lone_kick(after: &Charter, act: &Act) -> bool {
    matches!(act, Act::Kick { user } if !after.is_private() && after.rank(user).is_none())
}

fn write(
    transaction: &Connection,
    log: &mut RoomLog,
    room: &Room,
    actor: &UserName,
    id: MessageId,
    act: Act,
    now: Timestamp,
) -> Result<Committed, StoreError> {
    let body = Content::Act(act)
        .encode()
        .map_err(|error| StoreError::bad("act", error))?;
    let message = Outgoing {
        id,
        room: room.clone(),
        author: actor.clone(),
        sent_at: now,
        body,
    };
    match log.append(transaction, &message, now)? {
        Appended::New(committed) => Ok(committed),
        other => Err(StoreError::bad("place for an act", format!("{other:?}"))),
    }
}
