//! What a terminal may ask, and how each is answered.

use super::{
    Opening, Session,
    check::{check_servers, check_topic, is_joinable, may_use},
    lookup::Start,
};
use crate::{
    answer::{self, Answer},
    store::Command,
};
use protocol::{
    Epoch, Outgoing, Room, Seq, Timestamp,
    local::{Event, Refusal, Reply, Request, Status},
};
use std::time::SystemTime;
use tokio::io::AsyncWrite;

/// Something that was worked out beside the session's loop.
pub(super) enum Done {
    /// The answer to a request.
    Answered(Answer, Result<Reply, Refusal>),
    /// Where an opened room begins.
    Opened {
        answer: Answer,
        room: Room,
        start: Result<Start, Refusal>,
    },
    /// The replica has what the server had of a room, or cannot be asked.
    Synced { room: Room, complete: bool },
    /// The user's direct conversations.
    Directs {
        answer: Answer,
        found: Result<Vec<(Room, Epoch, Seq)>, Refusal>,
    },
}

impl<W: AsyncWrite + Unpin> Session<W> {
    /// Takes a request up. Its answer is given now, by the writer, or by work that goes on.
    pub(super) fn request(&mut self, request: Request, answer: Answer) {
        let services = self.services.clone();
        let user = self.user.clone();
        let hub = &self.services.hub;
        match request {
            Request::Hello { .. } => answer.give(Err(Refusal::HelloOutOfPlace)),
            Request::Ping => answer.give(Ok(Reply::Done)),
            Request::Status => answer.give(Ok(Reply::Status(Box::new(self.status())))),
            Request::Send { id, room, content } => {
                if let Err(refusal) = may_use(&room, &user) {
                    return answer.give(Err(refusal));
                }
                match content.encode() {
                    Err(error) => answer.give(Err(Refusal::BadBody {
                        reason: error.to_string(),
                    })),
                    Ok(body) => {
                        let sent_at = Timestamp::from(SystemTime::now());
                        let message = Outgoing {
                            id,
                            room,
                            author: user,
                            sent_at,
                            body,
                        };
                        self.submit(Command::Send { message, answer });
                    }
                }
            }
            Request::Open { room, from } => match may_use(&room, &user) {
                Err(refusal) => answer.give(Err(refusal)),
                Ok(()) => self.work.push(Box::pin(async move {
                    let start = services.start(&room, &user, from).await;
                    Done::Opened {
                        answer,
                        room,
                        start,
                    }
                })),
            },
            Request::Close { room } => {
                hub.feed().unsubscribe(self.reader, &room);
                self.opening.remove(&room);
                answer.give(Ok(Reply::Done));
            }
            Request::OpenDirects => {
                hub.want_directs(self.reader);
                self.work.push(Box::pin(async move {
                    Done::Directs {
                        answer,
                        found: services.directs(&user).await,
                    }
                }));
            }
            Request::History {
                room,
                before,
                limit,
            } => match may_use(&room, &user) {
                Err(refusal) => answer.give(Err(refusal)),
                Ok(()) => self.work.push(Box::pin(async move {
                    Done::Answered(answer, services.history(room, &user, before, limit).await)
                })),
            },
            Request::Join { room } => match is_joinable(&room, &user) {
                Err(refusal) => answer.give(Err(refusal)),
                Ok(()) => self.work.push(Box::pin(async move {
                    let joined = services.join(&room, &user).await;
                    Done::Answered(answer, joined.map(|()| Reply::Done))
                })),
            },
            Request::Leave { room } => match is_joinable(&room, &user) {
                Err(refusal) => answer.give(Err(refusal)),
                Ok(()) => self.submit(Command::Leave { room, user, answer }),
            },
            Request::MarkRead { room, cursor } => match may_use(&room, &user) {
                Err(refusal) => answer.give(Err(refusal)),
                Ok(()) => self.submit(Command::MarkRead {
                    user,
                    room,
                    cursor,
                    answer,
                }),
            },
            Request::SetTopic { room, topic } => {
                let checked = is_joinable(&room, &user).and_then(|()| check_topic(&topic));
                match (checked, &room) {
                    (Err(refusal), _) => answer.give(Err(refusal)),
                    (Ok(()), Room::Federated(name)) => {
                        let name = name.clone();
                        self.work.push(Box::pin(async move {
                            let set = services.set_topic(name, user, topic).await;
                            Done::Answered(answer, set.map(|()| Reply::Done))
                        }));
                    }
                    (Ok(()), _) => self.submit(Command::SetTopic {
                        room,
                        user,
                        topic,
                        answer,
                    }),
                }
            }
            Request::SetAway { away } => {
                hub.set_away(&user.nick, away);
                answer.give(Ok(Reply::Done));
            }
            Request::Rooms { after } => self.work.push(Box::pin(async move {
                Done::Answered(answer, services.rooms(&user, after).await)
            })),
            Request::Who { room, after } => match may_use(&room, &user) {
                Err(refusal) => answer.give(Err(refusal)),
                Ok(()) => self.work.push(Box::pin(async move {
                    Done::Answered(answer, services.who(room, after).await)
                })),
            },
            Request::Federate { servers } => match check_servers(servers) {
                Err(refusal) => answer.give(Err(refusal)),
                Ok(servers) => self.submit(Command::SetServers { servers, answer }),
            },
            Request::Defederate => {
                self.submit(Command::SetServers {
                    servers: Vec::new(),
                    answer,
                });
            }
        }
    }

    /// Takes up what was worked out.
    pub(super) fn finish(&mut self, done: Done) {
        match done {
            Done::Answered(answer, result) => answer.give(result),
            Done::Opened {
                answer,
                start: Err(refusal),
                ..
            } => answer.give(Err(refusal)),
            Done::Opened {
                answer,
                room,
                start: Ok(start),
            } => {
                let Start {
                    epoch,
                    after,
                    head,
                    topic,
                    read,
                } = start;
                answer.give(Ok(Reply::Opened {
                    epoch,
                    after,
                    head,
                    topic,
                    read,
                }));
                self.follow(&room, epoch, after);
                let mut opening = Opening::default();
                let hub = &self.services.hub;
                if room.is_local_to(hub.host()) {
                    opening.synced = Some(true);
                } else {
                    let link = self.services.link.clone();
                    let synced = room.clone();
                    self.work.push(Box::pin(async move {
                        let complete = link.sync(&synced).await;
                        Done::Synced {
                            room: synced,
                            complete,
                        }
                    }));
                }
                self.opening.insert(room, opening);
            }
            Done::Synced { room, complete } => {
                let Some(opening) = self.opening.get_mut(&room) else {
                    return;
                };
                opening.synced = Some(complete);
                // What the replica took was given to the feed before the link said so.
                if self.services.hub.feed().is_live(self.reader, &room) {
                    self.announce(room, complete);
                }
            }
            Done::Directs {
                answer,
                found: Err(refusal),
            } => answer.give(Err(refusal)),
            Done::Directs {
                answer,
                found: Ok(found),
            } => {
                for (room, epoch, after) in found {
                    let feed = self.services.hub.feed();
                    if !feed.is_following(self.reader, &room) {
                        let event = Event::DirectOpened {
                            room: room.clone(),
                            epoch,
                        };
                        self.outbound.push_reply(answer::event(event));
                        self.follow(&room, epoch, after);
                    }
                }
                answer.give(Ok(Reply::Done));
            }
        }
    }

    /// Follows `room` after `after` of the life `epoch` of its log.
    fn follow(&self, room: &Room, epoch: Epoch, after: Seq) {
        let hub = &self.services.hub;
        hub.feed()
            .subscribe(self.reader, &self.outbound, room, after);
        let now = hub.epoch_of(room);
        if now != epoch {
            // The log began a new life since `after` was looked up.
            let event = Event::EpochChanged {
                room: room.clone(),
                epoch: now,
            };
            self.outbound.push_reply(answer::event(event));
            hub.feed()
                .subscribe(self.reader, &self.outbound, room, Seq::START);
        }
    }

    fn status(&self) -> Status {
        let hub = &self.services.hub;
        let usage = hub.outbox().usage();
        let (sessions, _) = hub.sessions();
        Status {
            user: self.user.clone(),
            software: crate::SOFTWARE.to_owned(),
            pid: std::process::id(),
            state_dir: self.services.state_dir.to_string(),
            sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
            outbox_messages: usage.messages,
            outbox_bytes: usage.bytes,
            outbox_limit_bytes: hub.outbox().limit_bytes(),
            link: hub.link().borrow().clone(),
            problems: hub.problems(),
        }
    }
}
