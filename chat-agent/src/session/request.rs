//! What a terminal may ask, and how each is answered.

use super::{
    Opening, Session,
    check::{
        check_servers, check_topic, is_joinable, may_federate, may_mark, may_name, may_say, may_use,
    },
    greeting::owner,
    lookup::Start,
    searching::{check_query, check_search},
};
use crate::{answer::Answer, store::Command};
use protocol::{
    Epoch, Outgoing, Room, Seq, Timestamp,
    limits::MAX_OPEN_ROOMS,
    local::{Refusal, Reply, Request},
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
            Request::Status => {
                let runs_it = self.uid == owner();
                self.work.push(Box::pin(async move {
                    let status = Box::new(services.status(user, runs_it).await);
                    Done::Answered(answer, Ok(Reply::Status(status)))
                }));
            }
            Request::Send { id, room, content } => {
                let allowed = may_use(&room, &user)
                    .and_then(|()| may_name(id, &user))
                    .and_then(|()| may_say(&content));
                if let Err(refusal) = allowed {
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
            Request::Open { room, from } => {
                match may_use(&room, &user).and_then(|()| self.note_open(&room)) {
                    Err(refusal) => answer.give(Err(refusal)),
                    Ok(()) => self.work.push(Box::pin(async move {
                        let start = services.start(&room, &user, from).await;
                        Done::Opened {
                            answer,
                            room,
                            start,
                        }
                    })),
                }
            }
            Request::Close { room } => {
                hub.feed().unsubscribe(self.reader, &room);
                self.open.remove(&room);
                answer.give(Ok(Reply::Done));
            }
            Request::OpenDirects => {
                let reader = self.reader;
                self.pages.push(async move {
                    services.hub.look_up_directs(reader);
                    Done::Directs {
                        answer,
                        found: services.directs(&user).await,
                    }
                });
            }
            Request::History {
                room,
                before,
                limit,
            } => match may_use(&room, &user) {
                Err(refusal) => answer.give(Err(refusal)),
                Ok(()) => self.pages.push(async move {
                    Done::Answered(answer, services.history(room, &user, before, limit).await)
                }),
            },
            Request::Join { room } => match is_joinable(&room, &user, "needs no joining") {
                Err(refusal) => answer.give(Err(refusal)),
                Ok(()) => self.work.push(Box::pin(async move {
                    let joined = services.join(&room, &user).await;
                    Done::Answered(answer, joined.map(|()| Reply::Done))
                })),
            },
            Request::Leave { room } => match is_joinable(&room, &user, "cannot be left") {
                Err(refusal) => answer.give(Err(refusal)),
                Ok(()) => self.submit(Command::Leave { room, user, answer }),
            },
            Request::MarkRead { room, cursor } => match may_mark(hub, &room, &user, cursor) {
                Err(refusal) => answer.give(Err(refusal)),
                Ok(()) => self.submit(Command::MarkRead {
                    user,
                    room,
                    cursor,
                    answer,
                }),
            },
            Request::Confirm {
                consumer,
                room,
                cursor,
            } => match may_mark(hub, &room, &user, cursor) {
                Err(refusal) => answer.give(Err(refusal)),
                Ok(()) => self.submit(Command::Confirm {
                    user,
                    consumer,
                    room,
                    cursor,
                    answer,
                }),
            },
            Request::Position { consumer, room } => match may_use(&room, &user) {
                Err(refusal) => answer.give(Err(refusal)),
                Ok(()) => self.work.push(Box::pin(async move {
                    let found = services.position(user, consumer, room).await;
                    Done::Answered(answer, found)
                })),
            },
            Request::Search {
                query,
                older_than,
                limit,
            } => match check_search(&query) {
                Err(refusal) => answer.give(Err(refusal)),
                Ok(()) => self.pages.push(async move {
                    let found = services.search(user, query, older_than, limit).await;
                    Done::Answered(answer, found)
                }),
            },
            Request::Pending { query, after } => match check_query(&query) {
                Err(refusal) => answer.give(Err(refusal)),
                Ok(()) => self.pages.push(async move {
                    Done::Answered(answer, services.pending(user, query, after).await)
                }),
            },
            Request::SetTopic { room, topic } => {
                let checked =
                    is_joinable(&room, &user, "has no topic").and_then(|()| check_topic(&topic));
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
            Request::Rooms { after } => self
                .pages
                .push(async move { Done::Answered(answer, services.rooms(&user, after).await) }),
            Request::Who { room, after } => match may_use(&room, &user) {
                Err(refusal) => answer.give(Err(refusal)),
                Ok(()) => self.pages.push(async move {
                    Done::Answered(answer, services.who(room, &user, after).await)
                }),
            },
            Request::Govern { room, id, act } => {
                match may_use(&room, &user).and_then(|()| may_name(id, &user)) {
                    Err(refusal) => answer.give(Err(refusal)),
                    Ok(()) if room.is_local_to(hub.host()) => self.submit(Command::Govern {
                        room,
                        user,
                        id,
                        act,
                        answer,
                    }),
                    Ok(()) => self.work.push(Box::pin(async move {
                        Done::Answered(answer, services.govern(room, &user, id, act).await)
                    })),
                }
            }
            Request::Log => {
                let status = hub.server_log().borrow().clone();
                answer.give(Ok(Reply::Log { status }));
            }
            Request::Charter { room } => match may_use(&room, &user) {
                Err(refusal) => answer.give(Err(refusal)),
                Ok(()) => self.work.push(Box::pin(async move {
                    Done::Answered(answer, services.charter(room, &user).await)
                })),
            },
            Request::Federate { servers } => {
                let checked =
                    may_federate(self.uid, owner()).and_then(|()| check_servers(&servers));
                match checked {
                    Err(refusal) => answer.give(Err(refusal)),
                    Ok(servers) => self.submit(Command::SetServers { servers, answer }),
                }
            }
            Request::Defederate => match may_federate(self.uid, owner()) {
                Err(refusal) => answer.give(Err(refusal)),
                Ok(()) => self.submit(Command::SetServers {
                    servers: Vec::new(),
                    answer,
                }),
            },
        }
    }

    /// Takes up what was worked out.
    pub(super) fn finish(&mut self, done: Done) {
        match done {
            Done::Answered(answer, result) => answer.give(result),
            Done::Opened {
                answer,
                room,
                start: Err(refusal),
            } => {
                if !self.services.hub.feed().is_following(self.reader, &room) {
                    self.open.remove(&room);
                }
                answer.give(Err(refusal));
            }
            Done::Opened {
                answer,
                room,
                start: Ok(start),
            } => self.opened(answer, room, start),
            Done::Synced { room, complete } => {
                let Some(opening) = self.open.get_mut(&room) else {
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
            } => {
                self.services.hub.forget_directs(self.reader);
                answer.give(Err(refusal));
            }
            Done::Directs {
                answer,
                found: Ok(found),
            } => {
                self.services.hub.follow_directs(self.reader, found);
                answer.give(Ok(Reply::Done));
            }
        }
    }

    /// Counts a room among those this session has open.
    fn note_open(&mut self, room: &Room) -> Result<(), Refusal> {
        if self.open.contains_key(room) {
            return Ok(());
        }
        if self.open.len() >= MAX_OPEN_ROOMS {
            // The user may have left rooms in other sessions.
            let (feed, reader) = (self.services.hub.feed(), self.reader);
            self.open
                .retain(|room, opening| !opening.followed || feed.is_following(reader, room));
        }
        if self.open.len() >= MAX_OPEN_ROOMS {
            return Err(Refusal::TooMany {
                what: "rooms open in one session".to_owned(),
                max: u32::try_from(MAX_OPEN_ROOMS).unwrap_or(u32::MAX),
            });
        }
        self.open.insert(room.clone(), Opening::default());
        Ok(())
    }

    /// Follows a room from where it begins.
    fn opened(&mut self, answer: Answer, room: Room, start: Start) {
        // What an earlier opening still brings would look like a gap behind the reply.
        self.services.hub.feed().unsubscribe(self.reader, &room);
        let place = answer.give_and_keep_place(Ok(Reply::Opened {
            epoch: start.epoch,
            after: start.after,
            head: start.head,
            topic: start.topic,
            read: start.read,
        }));
        let Some(opening) = self.open.get_mut(&room) else {
            // It was closed before it was open.
            return;
        };
        *opening = Opening {
            followed: true,
            synced: start.synced,
            caught_up: false,
        };
        let (hub, outbound) = (&self.services.hub, &self.outbound);
        hub.follow(self.reader, outbound, &room, start.epoch, start.after);
        if !matches!(room, Room::Direct(_)) && !hub.is_member(&room, &self.user.nick) {
            // They left it, in another session, while it was being opened.
            let user = self.user.clone();
            let reason = Refusal::Left {
                room: room.clone(),
                user,
            };
            hub.end_following(self.reader, outbound, &room, &reason);
            return;
        }
        if start.synced.is_none() {
            let link = self.services.link.clone();
            self.work.push(Box::pin(async move {
                // A client that opens rooms faster than the server answers waits with the next.
                let _place = place;
                let complete = link.sync(&room).await;
                Done::Synced { room, complete }
            }));
        }
    }
}
