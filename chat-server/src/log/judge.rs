//! What becomes of each change, by the rules of rooms: the same wherever the log is kept.

use super::{Commit, RoomState};
use crate::reply::Answer;
use protocol::{
    FederatedRoom, HostName, MessageId, Room, Seq, Timestamp, UserName,
    federation::{Refusal, Reply, TooMany},
    governance::{Act, Charter, Denied},
    limits::{MAX_ROOMS, MAX_ROOMS_PER_HOST, MAX_ROOMS_PER_USER},
};
use room_log::{
    Deed, Governed, Governor, RoomLog, Silence, StoreError, charters, erasing::Spot, roster,
};
use rusqlite::{Connection, OptionalExtension, params};

/// What came of one change.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) answer: Answer,
    pub(super) commits: Vec<Commit>,
    /// Whose words are gone.
    pub(super) erased: Vec<Spot>,
}

impl Outcome {
    pub(super) const fn quiet(answer: Answer) -> Self {
        Self {
            answer,
            commits: Vec::new(),
            erased: Vec::new(),
        }
    }
}

/// The rooms, their members and charters, as the one writer of the tables sees them.
///
/// Everything that is asked of it is answered from the tables, the change and the time it is given:
/// whoever makes the same changes in the same order gets the same tables.
#[derive(Debug)]
pub(super) struct Judge {
    pub(super) log: RoomLog,
    governor: Governor,
}

impl Judge {
    pub(super) fn new(log: RoomLog) -> Self {
        Self {
            log,
            governor: Governor::default(),
        }
    }

    /// Forgets what was cached, after a transaction was rolled back.
    pub(super) fn forget(&mut self) {
        self.log.forget();
        self.governor.forget();
    }

    /// Why `user` may not write in a room that exists.
    pub(super) fn silences(
        &mut self,
        transaction: &Connection,
        room: &Room,
        user: &UserName,
    ) -> Result<Option<Silence>, StoreError> {
        self.governor.silences(transaction, room, user)
    }

    /// Whether `room` has a charter.
    pub(super) fn is_governed(
        &mut self,
        transaction: &Connection,
        room: &Room,
    ) -> Result<bool, StoreError> {
        Ok(self.governor.charter(transaction, room)?.is_some())
    }

    /// `by` has created `room`, which exists since.
    pub(super) fn created(
        &self,
        transaction: &Connection,
        room: &Room,
        by: &UserName,
    ) -> Result<(), StoreError> {
        count_created(transaction, &by.host)?;
        match room {
            Room::Federated(_) => charters::found(transaction, room, by),
            _ => Ok(()),
        }
    }

    /// Makes a room as it was where it comes from.
    pub(super) fn restore(
        &mut self,
        transaction: &Connection,
        room: &Room,
        state: &RoomState,
    ) -> Result<Result<(), Refusal>, StoreError> {
        if self.log.ensure_room(transaction, room)?.is_none() {
            return Ok(Err(too_many_rooms()));
        }
        self.introduce(transaction, room)?;
        if let Some(founder) = &state.founder {
            charters::found(transaction, room, founder)?;
        }
        if let Some(charter) = &state.charter {
            let charter = Charter::from_bytes(&charter.0)
                .map_err(|error| StoreError::bad("charter", error))?;
            charters::store(transaction, room, &charter)?;
        }
        roster::set_topic(transaction, room, &state.topic)?;
        self.governor.forget();
        Ok(Ok(()))
    }

    /// Has people be in a room, or out of it, as they were where it comes from.
    pub(super) fn restore_people(
        &self,
        transaction: &Connection,
        room: &Room,
        members: &[UserName],
        kicked: &[UserName],
    ) -> Result<(), StoreError> {
        for user in members {
            roster::join(transaction, room, user)?;
        }
        for user in kicked {
            charters::note_kick(transaction, room, user)?;
        }
        Ok(())
    }

    /// The users of `host` made this many rooms.
    pub(super) fn restore_made(
        &self,
        transaction: &Connection,
        host: &HostName,
        rooms: u32,
    ) -> Result<(), StoreError> {
        transaction
            .prepare_cached("INSERT OR REPLACE INTO created (host, rooms) VALUES (?1, ?2)")?
            .execute(params![host.as_str(), rooms])?;
        Ok(())
    }

    /// Both hosts of a direct conversation find it from here on.
    pub(super) fn introduce(
        &self,
        transaction: &Connection,
        room: &Room,
    ) -> Result<(), StoreError> {
        if let Room::Direct(direct) = room {
            for end in direct.ends() {
                transaction
                    .prepare_cached(
                        "INSERT OR IGNORE INTO direct_hosts (host, room) VALUES (?1, ?2)",
                    )?
                    .execute(params![end.host.as_str(), room.as_str()])?;
            }
        }
        Ok(())
    }

    /// Whether a user of `host` would create `room` by using it, or why that is refused.
    pub(super) fn creates(
        &self,
        transaction: &Connection,
        room: &Room,
        host: &HostName,
    ) -> Result<Result<bool, Refusal>, StoreError> {
        if self.log.has_room(transaction, room)? {
            return Ok(Ok(false));
        }
        let created: usize = transaction
            .prepare_cached("SELECT rooms FROM created WHERE host = ?1")?
            .query_row([host.as_str()], |row| row.get(0))
            .optional()?
            .unwrap_or_default();
        Ok(if created < MAX_ROOMS_PER_HOST {
            Ok(true)
        } else {
            Err(Refusal::TooMany {
                what: TooMany::RoomsOfHost,
                max: count(MAX_ROOMS_PER_HOST),
            })
        })
    }

    /// Makes `user` a member, creating the room.
    pub(super) fn join(
        &mut self,
        transaction: &Connection,
        room: &FederatedRoom,
        user: &UserName,
    ) -> Result<Outcome, StoreError> {
        let log_room = Room::Federated(room.clone());
        let member = roster::is_member(transaction, &log_room, user)?;
        if !member && roster::room_count(transaction, user)? >= MAX_ROOMS_PER_USER {
            return Ok(Outcome::quiet(Err(Refusal::TooMany {
                what: TooMany::RoomsOfUser,
                max: count(MAX_ROOMS_PER_USER),
            })));
        }
        let new_room = match self.creates(transaction, &log_room, &user.host)? {
            Ok(new_room) => new_room,
            Err(refusal) => return Ok(Outcome::quiet(Err(refusal))),
        };
        if !new_room {
            if let Some(silence) = self.governor.excludes(transaction, &log_room, user)? {
                return Ok(Outcome::quiet(Err(refusal(&log_room, silence))));
            }
            if charters::was_kicked(transaction, &log_room, user)? {
                // Their host knows once it says that they are gone.
                let denied = Denied::Kicked { user: user.clone() };
                let room = log_room;
                return Ok(Outcome::quiet(Err(Refusal::Denied { room, denied })));
            }
        }
        let Some(head) = self.log.ensure_room(transaction, &log_room)? else {
            return Ok(Outcome::quiet(Err(too_many_rooms())));
        };
        if new_room {
            count_created(transaction, &user.host)?;
            charters::found(transaction, &log_room, user)?;
        }
        let new = roster::join(transaction, &log_room, user)?;
        let topic = roster::topic(transaction, &log_room)?;
        Ok(Outcome {
            answer: Ok(Reply::Joined { head, topic }),
            commits: new
                .then(|| Commit::Joined {
                    room: room.clone(),
                    user: user.clone(),
                })
                .into_iter()
                .collect(),
            erased: Vec::new(),
        })
    }

    /// Ends a membership. A room by invitation says so, with an act of this id and time.
    pub(super) fn leave(
        &mut self,
        transaction: &Connection,
        room: &FederatedRoom,
        user: &UserName,
        act: (MessageId, Timestamp),
    ) -> Result<Outcome, StoreError> {
        let log_room = Room::Federated(room.clone());
        charters::forget_kick(transaction, &log_room, user)?;
        let mut commits = Vec::new();
        if self.log.has_room(transaction, &log_room)? {
            let log = &mut self.log;
            let left = self.governor.left(transaction, log, &log_room, user, act)?;
            commits.extend(left.map(Commit::Message));
        }
        if roster::leave(transaction, &log_room, user)? {
            commits.push(Commit::Left {
                room: room.clone(),
                user: user.clone(),
            });
            self.close(
                transaction,
                &log_room,
                std::slice::from_ref(user),
                &mut commits,
            )?;
        }
        Ok(Outcome {
            answer: Ok(Reply::Done),
            commits,
            erased: Vec::new(),
        })
    }

    /// Does something with a room's charter, or erases messages.
    pub(super) fn govern(
        &mut self,
        transaction: &Connection,
        deed: Deed<'_>,
        now: Timestamp,
    ) -> Result<Outcome, StoreError> {
        let Deed { room, actor, .. } = deed;
        let host = &actor.host;
        let mut new_room = false;
        if matches!(deed.act, Act::Opened { .. }) {
            match self.creates(transaction, room, host)? {
                Ok(creates) => new_room = creates,
                Err(refusal) => return Ok(Outcome::quiet(Err(refusal))),
            }
        }
        let governed = self
            .governor
            .govern(transaction, &mut self.log, deed, now)?;
        let room = room.clone();
        Ok(Outcome::quiet(match governed {
            Governed::Done(done) => {
                if new_room {
                    count_created(transaction, host)?;
                }
                let seq = done.committed.last().map_or(Seq::START, |act| act.seq);
                let mut commits: Vec<Commit> =
                    done.committed.into_iter().map(Commit::Message).collect();
                if let Room::Federated(name) = &room {
                    commits.extend(done.gone.iter().map(|user| Commit::Left {
                        room: name.clone(),
                        user: user.clone(),
                    }));
                }
                self.close(transaction, &room, &done.gone, &mut commits)?;
                return Ok(Outcome {
                    answer: Ok(Reply::Appended { seq }),
                    commits,
                    erased: done.erased,
                });
            }
            Governed::Known { seq } => Ok(Reply::Appended { seq }),
            Governed::Unchanged => Ok(Reply::Done),
            Governed::Conflict => Err(Refusal::IdConflict { id: deed.id }),
            Governed::TooManyRooms => Err(too_many_rooms()),
            Governed::NoSuchRoom => Err(Refusal::NoSuchRoom { room }),
            Governed::NotOpen => Err(Refusal::NotOpen { room }),
            Governed::Denied(denied) => Err(Refusal::Denied { room, denied }),
        }))
    }

    /// Ends what hosts read of `room` that have nobody there now that `gone` are gone.
    fn close(
        &self,
        transaction: &Connection,
        room: &Room,
        gone: &[UserName],
        commits: &mut Vec<Commit>,
    ) -> Result<(), StoreError> {
        let mut hosts: Vec<HostName> = Vec::new();
        for user in gone {
            if !hosts.contains(&user.host) && !charters::has_reader(transaction, room, &user.host)?
            {
                hosts.push(user.host.clone());
            }
        }
        if !hosts.is_empty() {
            let room = room.clone();
            commits.push(Commit::Closed { room, hosts });
        }
        Ok(())
    }

    /// Sets or removes the topic of a room that exists.
    pub(super) fn set_topic(
        &mut self,
        transaction: &Connection,
        room: &FederatedRoom,
        user: &UserName,
        topic: &str,
    ) -> Result<Outcome, StoreError> {
        let log_room = Room::Federated(room.clone());
        if room_log::log::head(transaction, self.log.epoch(), &log_room)?.is_none() {
            return Ok(Outcome::quiet(Err(Refusal::NoSuchRoom { room: log_room })));
        }
        match self.governor.silences(transaction, &log_room, user)? {
            None => {}
            // As of a room that is not there.
            Some(Silence::NotOpen) => {
                return Ok(Outcome::quiet(Err(Refusal::NoSuchRoom { room: log_room })));
            }
            Some(silence) => return Ok(Outcome::quiet(Err(refusal(&log_room, silence)))),
        }
        roster::set_topic(transaction, &log_room, topic)?;
        Ok(Outcome {
            answer: Ok(Reply::Done),
            commits: vec![Commit::Topic {
                room: room.clone(),
                user: user.clone(),
                topic: topic.to_owned(),
            }],
            erased: Vec::new(),
        })
    }
}

fn count_created(transaction: &Connection, host: &HostName) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "INSERT INTO created (host, rooms) VALUES (?1, 1)
             ON CONFLICT (host) DO UPDATE SET rooms = rooms + 1",
        )?
        .execute([host.as_str()])?;
    Ok(())
}

pub(super) fn refusal(room: &Room, silence: Silence) -> Refusal {
    let room = room.clone();
    match silence {
        Silence::NotOpen => Refusal::NotOpen { room },
        Silence::Denied(denied) => Refusal::Denied { room, denied },
    }
}

/// The topic of `room`, if `user` is in it and to join it again changes nothing; `None` if that must be
/// judged.
pub(super) fn joined_already(
    connection: &Connection,
    room: &Room,
    user: &UserName,
) -> Result<Option<String>, StoreError> {
    let charter = charters::load(connection, room)?;
    let changes_nothing = charter.is_none_or(|charter| charter.admits(user))
        && !charters::was_kicked(connection, room, user)?
        && roster::is_member(connection, room, user)?;
    if !changes_nothing {
        return Ok(None);
    }
    roster::topic(connection, room).map(Some)
}

pub(super) fn too_many_rooms() -> Refusal {
    Refusal::TooMany {
        what: TooMany::Rooms,
        max: count(MAX_ROOMS),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
