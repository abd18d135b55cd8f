//! What users do with rooms, and ask of them, apart from talking.

use super::Services;
use protocol::{
    MessageId, Room, UserName, federation,
    governance::Act,
    local::{Delivery, Refusal, Reply},
};
use room_log::charters;

impl Services {
    /// Has the server do an act, and waits until its meaning is known here if it can be.
    pub(super) async fn govern(
        &self,
        room: Room,
        user: &UserName,
        id: MessageId,
        act: Act,
    ) -> Result<Reply, Refusal> {
        let request = federation::Request::Govern {
            room: room.clone(),
            nick: user.nick.clone(),
            id,
            act,
        };
        let answer = self
            .link
            .ask(request)
            .await
            .map_err(|refusal| match refusal {
                Refusal::ByServer(refusal) => by_server(refusal),
                other => other,
            })?;
        let _known_here = self.link.sync(&room).await;
        Ok(match answer {
            federation::Reply::Appended { seq } => Reply::Sent {
                state: Delivery::Committed {
                    epoch: self.hub.epoch_of(&room),
                    seq,
                },
            },
            _ => Reply::Done,
        })
    }

    /// Who may do what in `room`, as known here.
    pub(super) async fn charter(&self, room: Room, user: &UserName) -> Result<Reply, Refusal> {
        if !matches!(room, Room::Direct(_)) && !self.hub.is_member(&room, &user.nick) {
            return Err(Refusal::NoSuchRoom { room });
        }
        if !room.is_local_to(self.hub.host()) {
            let _what_is_here_will_do = self.link.sync(&room).await;
        }
        let charter = self
            .read(move |connection| charters::load(connection, &room))
            .await?;
        Ok(Reply::Charter {
            charter: charter.map(Box::new),
        })
    }

    /// Whether `user` may know of `room`, as far as is known here.
    pub(super) async fn may_know_of(&self, room: &Room, user: &UserName) -> Result<bool, Refusal> {
        let room = room.clone();
        let charter = self
            .read(move |connection| charters::load(connection, &room))
            .await?;
        Ok(charter.is_none_or(|charter| !charter.is_private() || charter.admits(user)))
    }
}

/// What a user is told of what the server said: of rooms, as of those of this host.
pub(super) fn by_server(refusal: federation::Refusal) -> Refusal {
    match refusal {
        federation::Refusal::Denied { room, denied } => Refusal::Denied { room, denied },
        federation::Refusal::NotOpen { room } => Refusal::NotOpen { room },
        federation::Refusal::NoSuchRoom { room } => Refusal::NoSuchRoom { room },
        other => Refusal::ByServer(other),
    }
}
