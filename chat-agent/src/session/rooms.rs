//! The list of rooms, put together from the server, this host, and the user's conversations.

use super::Services;
use crate::store::person;
use protocol::{
    Room, Seq, UserName, federation,
    limits::MAX_PAGE_ENTRIES,
    local::{Refusal, Reply, RoomInfo},
};
use room_log::{charters, log, roster};
use std::collections::BTreeSet;

/// Messages after a read marker that are counted at most.
const MAX_COUNTED: u32 = 1_000;

impl Services {
    /// Rooms in order of name: `#rooms` of the server, or those joined here if it cannot be
    /// asked; then `&rooms`; then the user's direct conversations.
    pub(super) async fn rooms(
        &self,
        user: &UserName,
        after: Option<Room>,
    ) -> Result<Reply, Refusal> {
        let mut rooms = Vec::new();
        if let None | Some(Room::Federated(_)) = after {
            let from = match &after {
                Some(Room::Federated(room)) => Some(room.clone()),
                _ => None,
            };
            match self
                .link
                .ask(federation::Request::RoomsFor {
                    nick: user.nick.clone(),
                    after: from,
                })
                .await
            {
                Ok(federation::Reply::Rooms { rooms: found, more }) => {
                    for info in found {
                        rooms.push(self.room_info(user, info).await?);
                    }
                    if more {
                        return Ok(Reply::Rooms { rooms, more });
                    }
                }
                Ok(_) | Err(_) => {
                    let joined = self.hub.rooms_of(&user.nick);
                    let joined: Vec<Room> = joined
                        .into_iter()
                        .filter(|room| matches!(room, Room::Federated(_)))
                        .filter(|room| after.as_ref().is_none_or(|after| room > after))
                        .collect();
                    for room in joined {
                        rooms.push(self.room_here(user, room, None).await?);
                    }
                }
            }
        }
        let Some(limit) = MAX_PAGE_ENTRIES
            .checked_sub(rooms.len())
            .filter(|left| *left > 0)
        else {
            return Ok(Reply::Rooms { rooms, more: true });
        };
        let (local_epoch, server_epoch) = (self.hub.local_epoch(), self.hub.server_epoch());
        let me = user.clone();
        let after_text = match &after {
            Some(room @ (Room::Local(_) | Room::Direct(_))) => room.as_str().to_owned(),
            // '$' sorts between '#' and '&'.
            None | Some(Room::Federated(_)) => "$".to_owned(),
        };
        let read = self.read(move |connection| {
            let mut found: BTreeSet<String> = BTreeSet::new();
            for epoch in [local_epoch, server_epoch] {
                for (room, _) in log::heads(connection, epoch)? {
                    let shown = match &room {
                        Room::Federated(_) => false,
                        Room::Local(_) => charters::load(connection, &room)?
                            .is_none_or(|charter| !charter.is_private() || charter.admits(&me)),
                        Room::Direct(direct) => direct.includes(&me),
                    };
                    if shown && *room.as_str() > *after_text {
                        found.insert(room.as_str().to_owned());
                    }
                }
            }
            Ok(found)
        });
        let found = read.await?;
        let more = found.len() > limit;
        for text in found.into_iter().take(limit) {
            if let Ok(room) = Room::parse(&text) {
                let members = match &room {
                    Room::Direct(_) => 2,
                    _ => self.hub.member_count(&room),
                };
                rooms.push(
                    self.room_here(user, room, u32::try_from(members).ok())
                        .await?,
                );
            }
        }
        Ok(Reply::Rooms { rooms, more })
    }

    async fn room_info(
        &self,
        user: &UserName,
        info: federation::RoomInfo,
    ) -> Result<RoomInfo, Refusal> {
        let room = Room::Federated(info.room);
        if self.hub.is_member(&room, &user.nick) {
            let here = self.room_here(user, room, Some(info.members)).await?;
            return Ok(RoomInfo {
                topic: info.topic,
                head: info.head.max(here.head),
                ..here
            });
        }
        Ok(RoomInfo {
            room,
            joined: false,
            members: Some(info.members),
            head: info.head,
            unread: 0,
            topic: info.topic,
        })
    }

    /// What is known here of one room.
    async fn room_here(
        &self,
        user: &UserName,
        room: Room,
        members: Option<u32>,
    ) -> Result<RoomInfo, Refusal> {
        let epoch = self.hub.epoch_of(&room);
        let joined = matches!(room, Room::Direct(_)) || self.hub.is_member(&room, &user.nick);
        let user = user.clone();
        self.read(move |connection| {
            let head = log::head(connection, epoch, &room)?.unwrap_or_default().seq;
            let read = person::read_marker(connection, &user, &room, epoch)?;
            let after = read.unwrap_or(Seq::START);
            let unread = log::count_unread(connection, epoch, &room, &user, after, MAX_COUNTED)?;
            let topic = roster::topic(connection, &room)?;
            Ok(RoomInfo {
                room,
                joined,
                members,
                head,
                unread,
                topic,
            })
        })
        .await
    }
}
