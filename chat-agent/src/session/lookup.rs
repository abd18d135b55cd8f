//! Answers that take a look at the disk or a question to the server.

use super::{Services, governing::by_server};
use crate::store::{Command, person, position};
use protocol::{
    Availability, Committed, ConsumerName, Cursor, Epoch, Member, Room, Seq, UserName, federation,
    limits::{MAX_PAGE_BYTES, MAX_PAGE_ENTRIES},
    local::{From, Refusal, Reply},
};
use room_log::{StoreError, log, roster};
use std::collections::BTreeSet;
use tokio::sync::oneshot;

/// Where an opened room begins.
pub(super) struct Start {
    pub(super) epoch: Epoch,
    pub(super) after: Seq,
    pub(super) head: Seq,
    pub(super) topic: String,
    pub(super) read: Option<Seq>,
    /// Whether the replica has what the server had, if that is known already.
    pub(super) synced: Option<bool>,
}

impl Services {
    pub(super) async fn read<T, F>(&self, query: F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let failed = |error: StoreError| Refusal::StorageFailed {
            reason: error.to_string(),
        };
        self.readers.run(query).await.map_err(failed)
    }

    /// Makes `user` a member, durably. At once if they are one, or if `room` has no members.
    pub(super) async fn join(&self, room: &Room, user: &UserName) -> Result<(), Refusal> {
        if matches!(room, Room::Direct(_)) || self.hub.is_member(room, &user.nick) {
            return Ok(());
        }
        if let Room::Federated(name) = room {
            let request = federation::Request::Join {
                room: name.clone(),
                nick: user.nick.clone(),
            };
            // Without an answer it is asked again when there is a server.
            match self.link.ask(request).await {
                Ok(federation::Reply::Joined { head, .. }) => {
                    self.hub.vouch(room.clone(), user.nick.clone(), head);
                }
                Err(Refusal::ByServer(refusal)) if refusal.is_final() => {
                    return Err(by_server(refusal));
                }
                Ok(_) | Err(_) => {}
            }
        }
        let (done, joined) = oneshot::channel();
        let command = Command::Join {
            room: room.clone(),
            user: user.clone(),
            done,
        };
        self.writer
            .submit(command)
            .await
            .map_err(|_| Refusal::ShuttingDown)?;
        joined.await.unwrap_or(Err(Refusal::ShuttingDown))
    }

    pub(super) async fn start(
        &self,
        room: &Room,
        user: &UserName,
        from: From,
    ) -> Result<Start, Refusal> {
        self.join(room, user).await?;
        let synced = if room.is_local_to(self.hub.host()) {
            Some(true)
        } else if self.counts_from_the_end(room, user, from).await? {
            // The newest here may be old ones, or none yet.
            Some(self.link.sync(room).await)
        } else {
            None
        };
        let epoch = self.hub.epoch_of(room);
        let after = match from {
            From::After(cursor) if cursor.seq > Seq::START => {
                let (room, given) = (room.clone(), cursor.epoch);
                if given != epoch {
                    return Err(Refusal::EpochChanged {
                        room,
                        given,
                        current: epoch,
                    });
                }
                Some(cursor.seq)
            }
            From::After(_) | From::Beginning => Some(Seq::START),
            From::Newest(_) | From::Unread(_) | From::Since(_) => None,
        };
        let is_local = room.is_local_to(self.hub.host());
        let asked = room.clone();
        let (room, user) = (room.clone(), user.clone());
        let start = self.read(move |connection| {
            let read = person::read_marker(connection, &user, &room, epoch)?;
            let newest = |count: u32| log::before_newest(connection, epoch, &room, count);
            let after = match (after, from) {
                (Some(after), _) => after,
                (None, From::Unread(count)) => read.map_or_else(|| newest(count), Ok)?,
                (None, From::Newest(count)) => newest(count)?,
                (None, From::Since(time)) => log::before_time(connection, epoch, &room, time)?,
                (None, _) => Seq::START,
            };
            let head = log::head(connection, epoch, &room)?.unwrap_or_default().seq;
            let topic = roster::topic(connection, &room)?;
            Ok(Start {
                epoch,
                after,
                head,
                topic,
                read,
                synced,
            })
        });
        let start = start.await?;
        // Of a server's log there may be less here for the time being.
        if is_local && start.after > start.head {
            return Err(Refusal::CursorAhead {
                room: asked,
                given: start.after,
                head: start.head,
            });
        }
        Ok(start)
    }

    async fn counts_from_the_end(
        &self,
        room: &Room,
        user: &UserName,
        from: From,
    ) -> Result<bool, Refusal> {
        match from {
            From::Newest(_) | From::Since(_) => Ok(true),
            From::Beginning | From::After(_) => Ok(false),
            From::Unread(_) => {
                let epoch = self.hub.epoch_of(room);
                let (room, user) = (room.clone(), user.clone());
                let marker =
                    move |connection: &_| person::read_marker(connection, &user, &room, epoch);
                Ok(self.read(marker).await?.is_none())
            }
        }
    }

    /// The user's direct conversations, with where each begins: behind the read marker.
    pub(super) async fn directs(
        &self,
        user: &UserName,
    ) -> Result<Vec<(Room, Epoch, Seq)>, Refusal> {
        let epochs = BTreeSet::from([
            self.hub.local_epoch().to_bytes(),
            self.hub.server_epoch().to_bytes(),
        ]);
        let user = user.clone();
        self.read(move |connection| {
            let mut found = Vec::new();
            for epoch in epochs.into_iter().map(Epoch::from_bytes) {
                for (room, _) in log::heads(connection, epoch)? {
                    if !matches!(&room, Room::Direct(direct) if direct.includes(&user)) {
                        continue;
                    }
                    let read = person::read_marker(connection, &user, &room, epoch)?;
                    found.push((room, epoch, read.unwrap_or(Seq::START)));
                }
            }
            Ok(found)
        })
        .await
    }

    pub(super) async fn history(
        &self,
        room: Room,
        user: &UserName,
        before: Option<Cursor>,
        limit: u32,
    ) -> Result<Reply, Refusal> {
        self.join(&room, user).await?;
        if !room.is_local_to(self.hub.host()) {
            // What is here already is an answer too if the server cannot be asked.
            let _complete = self.link.sync(&room).await;
        }
        let epoch = self.hub.epoch_of(&room);
        if let Some(cursor) = before
            && cursor.epoch != epoch
        {
            return Err(Refusal::EpochChanged {
                room,
                given: cursor.epoch,
                current: epoch,
            });
        }
        let limit = (limit as usize).clamp(1, MAX_PAGE_ENTRIES);
        let before = before.map(|cursor| cursor.seq);
        let read = self.read(move |connection| {
            log::page_before(connection, epoch, &room, before, limit, MAX_PAGE_BYTES)
        });
        let (messages, more): (Vec<Committed>, bool) = read.await?;
        Ok(Reply::History {
            epoch,
            messages,
            more,
        })
    }

    pub(super) async fn position(
        &self,
        user: UserName,
        consumer: ConsumerName,
        room: Room,
    ) -> Result<Reply, Refusal> {
        let read =
            self.read(move |connection| position::position(connection, &user, &consumer, &room));
        Ok(Reply::Position {
            cursor: read.await?,
        })
    }

    pub(super) async fn set_topic(
        &self,
        room: protocol::FederatedRoom,
        user: UserName,
        topic: String,
    ) -> Result<(), Refusal> {
        self.join(&Room::Federated(room.clone()), &user).await?;
        // Asked behind the membership, so that the room exists by then.
        let _complete = self.link.sync(&Room::Federated(room.clone())).await;
        self.hub.note_topic(&room, &user.nick, &topic);
        let request = federation::Request::SetTopic {
            room,
            nick: user.nick,
            topic,
        };
        self.link.ask(request).await.map(drop)
    }

    pub(super) async fn who(
        &self,
        room: Room,
        user: &UserName,
        after: Option<UserName>,
    ) -> Result<Reply, Refusal> {
        // As of a room that is not there, to those who may not know of it.
        let here = match self.may_know_of(&room, user).await? {
            true => self.hub.members_here(&room),
            false => Vec::new(),
        };
        let members = match &room {
            Room::Federated(name) => {
                let request = federation::Request::WhoFor {
                    room: name.clone(),
                    nick: user.nick.clone(),
                    after: after.clone(),
                };
                match self.link.ask(request).await {
                    Ok(federation::Reply::Members { members, more }) => {
                        return Ok(Reply::Members { members, more });
                    }
                    // Without the server only this host's members are known. It may not have
                    // heard yet of a room that is new.
                    Ok(_) | Err(Refusal::Offline | Refusal::LocalOnly) => here,
                    Err(Refusal::ByServer(federation::Refusal::NoSuchRoom { .. }))
                        if self.hub.is_member(&room, &user.nick) =>
                    {
                        here
                    }
                    Err(refusal) => return Err(refusal),
                }
            }
            Room::Local(_) => here,
            Room::Direct(direct) => {
                let ends: BTreeSet<&UserName> = direct.ends().into_iter().collect();
                let mut members = Vec::with_capacity(ends.len());
                for user in ends {
                    let nick = user.nick.clone();
                    // Somebody who never was here is not away.
                    let is_known = user.host == *self.hub.host()
                        && self
                            .read(move |connection| person::owner(connection, &nick))
                            .await?
                            .is_some();
                    members.push(Member {
                        user: user.clone(),
                        availability: match is_known {
                            true => self.hub.availability(&user.nick),
                            false => Availability::Unknown,
                        },
                    });
                }
                members
            }
        };
        let mut rest: Vec<Member> = members
            .into_iter()
            .filter(|member| after.as_ref().is_none_or(|after| member.user > *after))
            .collect();
        let more = rest.len() > MAX_PAGE_ENTRIES;
        rest.truncate(MAX_PAGE_ENTRIES);
        Ok(Reply::Members {
            members: rest,
            more,
        })
    }
}
