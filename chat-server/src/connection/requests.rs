//! What each request sets going.

use super::{Connection, Found, Query};
use crate::{
    inbound::Received,
    log::{Asker, Change, Rejected, Submission},
    presence::PresenceError,
    query,
    reply::{Answer, PendingReply, Ticket},
    rules,
};
use protocol::{
    Availability, FederatedRoom, MessageId, Nick, Outgoing, Room, Seq, UserName,
    federation::{AgentFrame, Refusal, Reply, Request, TooMany},
    governance::Act,
    limits::{MAX_SESSIONS, MAX_SUBSCRIPTIONS},
};
use std::{future::Future, sync::Arc};
use tokio::io::{AsyncRead, AsyncWrite};

/// How long an agent waits after the queue to the log was full: a few transactions.
const RETRY_AFTER_FULL_MS: u32 = 50;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Answers a request, or sets going what will answer it.
    ///
    /// # Errors
    ///
    /// The refusal with which the connection ends.
    pub(super) fn handle(&mut self, received: Received) -> Result<(), Refusal> {
        let Received {
            frame: AgentFrame { id, request },
            in_flight,
        } = received;
        let reply = PendingReply::new(id, Arc::clone(&self.line.outbound), in_flight);
        let log = Arc::clone(self.service.log());
        match request {
            Request::Hello { .. } | Request::Enrol { .. } => {
                reply.answer(Err(Refusal::HelloOutOfPlace));
                return Err(Refusal::HelloOutOfPlace);
            }
            Request::Append { attempt, message } => return self.append(reply, attempt, message),
            Request::Join { room, nick } => {
                let user = self.user(nick);
                match self.service.rates().check_membership(&user) {
                    Ok(()) => return self.submit(reply, Change::Join { room, user }),
                    Err(refusal) => reply.answer(Err(refusal)),
                }
            }
            Request::Leave { room, nick } => {
                let user = self.user(nick);
                match self.service.rates().check_membership(&user) {
                    Ok(()) => return self.submit(reply, Change::Leave { room, user }),
                    Err(refusal) => reply.answer(Err(refusal)),
                }
            }
            Request::SetTopic { room, nick, topic } => {
                let user = self.user(nick);
                let pace = || {
                    let room = Room::Federated(room.clone());
                    self.check_pace(&user, &room)
                };
                if let Err(refusal) = rules::topic(&topic).and_then(|()| pace()) {
                    reply.answer(Err(refusal));
                } else {
                    return self.submit(reply, Change::SetTopic { room, user, topic });
                }
            }
            Request::Subscribe {
                room,
                after,
                after_id,
            } => self.subscribe(reply, room, after, after_id),
            Request::Unsubscribe { room } => {
                self.unsubscribe(&room);
                reply.answer(Ok(Reply::Done));
            }
            Request::Head { room } => match rules::read(&self.seat.handle.host, &room) {
                Ok(()) => {
                    let host = self.seat.handle.host.clone();
                    self.look_up(reply, async move { query::head(&*log, room, host).await });
                }
                Err(refusal) => reply.answer(Err(refusal)),
            },
            Request::Presence { nick, availability } => {
                let answer = self.presence(nick, availability);
                reply.answer(answer);
            }
            Request::Rooms { after } => {
                let asker = Asker::Host(self.seat.handle.host.clone());
                self.look_up(
                    reply,
                    async move { query::rooms(&*log, asker, after).await },
                );
            }
            Request::RoomsFor { nick, after } => {
                let asker = Asker::User(self.user(nick));
                self.look_up(
                    reply,
                    async move { query::rooms(&*log, asker, after).await },
                );
            }
            Request::Who { room, after } => {
                let asker = Asker::Host(self.seat.handle.host.clone());
                self.who(reply, asker, room, after);
            }
            Request::WhoFor { room, nick, after } => {
                let asker = Asker::User(self.user(nick));
                self.who(reply, asker, room, after);
            }
            Request::Govern {
                room,
                nick,
                id,
                act,
            } => {
                let user = self.user(nick);
                let allowed = rules::govern(&self.seat.handle.host, &room, &user, id, &act);
                match allowed.and_then(|()| self.may_act(&user, &room, &act)) {
                    Ok(()) => {
                        let change = Change::Govern {
                            room,
                            user,
                            id,
                            act,
                        };
                        return self.submit(reply, change);
                    }
                    Err(refusal) => reply.answer(Err(refusal)),
                }
            }
            Request::Directs { after } => {
                let host = self.seat.handle.host.clone();
                self.look_up(
                    reply,
                    async move { query::directs(&*log, &host, after).await },
                );
            }
            Request::NextKey { key } => {
                let (identity, host) = (self.identity.clone(), self.seat.handle.host.clone());
                self.look_up(reply, async move {
                    let noted = identity.note_next_key(host, key).await;
                    noted.map(|()| Reply::Done)
                });
            }
            Request::Ping => {
                reply.answer(Ok(Reply::Pong));
                // If there was no room for it when it was news.
                self.log_news.tell(&self.line.outbound);
            }
        }
        Ok(())
    }

    fn append(&self, reply: PendingReply, attempt: u32, message: Outgoing) -> Result<(), Refusal> {
        if let Err(refusal) = rules::append(&self.seat.handle.host, &message) {
            reply.answer(Err(refusal));
            return Ok(());
        }
        let author = message.author.nick.clone();
        if !self.lane.may_queue(&author, attempt) {
            reply.answer(Err(not_yet("an earlier message waits")));
            return Ok(());
        }
        let quota = self.service.quota().check();
        let allowed = quota.and_then(|()| self.check_pace(&message.author, &message.room));
        if let Err(refusal) = allowed {
            self.lane.turn_away(&author, attempt);
            reply.answer(Err(refusal));
            return Ok(());
        }
        let lane = Arc::clone(&self.lane);
        self.submit(
            reply,
            Change::Append {
                message,
                attempt,
                lane,
            },
        )
    }

    /// Whether there is time and room for an act now: it stays in the log for good, but for those that
    /// make room there is always some.
    fn may_act(&self, user: &UserName, room: &Room, act: &Act) -> Result<(), Refusal> {
        if !matches!(act, Act::Retention { .. } | Act::Erase { .. }) {
            self.service.quota().check()?;
        }
        self.check_pace(user, room)
    }

    /// Whether what `user` writes into `room` comes at a pace that is allowed. Only who follows the
    /// room uses up its pace: who may write there is not known before the log has it.
    fn check_pace(&self, user: &UserName, room: &Room) -> Result<(), Refusal> {
        let rates = self.service.rates();
        if matches!(room, Room::Direct(_)) || self.seat.rooms.contains_key(room) {
            rates.check_pace(user, room)
        } else {
            rates.check_stranger(user)
        }
    }

    /// Queues a change for the log, which answers it.
    fn submit(&self, reply: PendingReply, change: Change) -> Result<(), Refusal> {
        let ticket = Ticket::Reply(reply);
        match self.service.log().submit(Submission { change, ticket }) {
            Ok(()) => Ok(()),
            Err(Rejected::Full(submission)) => {
                let Submission { change, ticket } = *submission;
                if let Change::Append {
                    message,
                    attempt,
                    lane,
                } = change
                {
                    lane.turn_away(&message.author.nick, attempt);
                }
                ticket.answer(Err(not_yet("the queue to the disk is full")));
                Ok(())
            }
            // Without an answer: whether the same was written before is for the next process
            // to find out.
            Err(Rejected::Closed(_)) => Err(Refusal::ShuttingDown),
        }
    }

    fn subscribe(
        &mut self,
        reply: PendingReply,
        room: Room,
        after: Seq,
        after_id: Option<MessageId>,
    ) {
        if let Err(refusal) = rules::read(&self.seat.handle.host, &room) {
            reply.answer(Err(refusal));
            return;
        }
        if self.seat.rooms.len() >= MAX_SUBSCRIPTIONS && !self.seat.rooms.contains_key(&room) {
            reply.answer(Err(Refusal::TooMany {
                what: TooMany::Subscriptions,
                max: count(MAX_SUBSCRIPTIONS),
            }));
            return;
        }
        let log = Arc::clone(self.service.log());
        let host = self.seat.handle.host.clone();
        self.query = Some(Query {
            reply,
            work: Box::pin(async move {
                Found::Start(match query::admit(&*log, &room, &host).await {
                    Ok(()) => query::start(&log, room, after, after_id).await,
                    Err(refusal) => Err(refusal),
                })
            }),
        });
    }

    fn who(
        &mut self,
        reply: PendingReply,
        asker: Asker,
        room: FederatedRoom,
        after: Option<UserName>,
    ) {
        let (log, service) = (Arc::clone(self.service.log()), self.service.clone());
        self.look_up(reply, async move {
            query::who(&*log, service.router(), asker, room, after).await
        });
    }

    fn unsubscribe(&mut self, room: &Room) {
        if let Some(following) = self.seat.rooms.remove(room) {
            self.service.feed().unsubscribe(self.seat.reader, room);
            drop(following);
            self.seat.count_rooms();
        }
    }

    fn presence(&self, nick: Nick, availability: Availability) -> Answer {
        let handle = &self.seat.handle;
        let noted = self
            .service
            .router()
            .set_presence(handle, self.user(nick), availability);
        match noted {
            Ok(()) => Ok(Reply::Done),
            Err(PresenceError::Replaced) => Err(Refusal::Replaced),
            Err(PresenceError::TooMany) => Err(Refusal::TooMany {
                what: TooMany::Users,
                max: count(MAX_SESSIONS),
            }),
        }
    }

    fn look_up<F>(&mut self, reply: PendingReply, work: F)
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        self.query = Some(Query {
            reply,
            work: Box::pin(async move { Found::Answer(work.await) }),
        });
    }

    fn user(&self, nick: Nick) -> UserName {
        UserName::new(nick, self.seat.handle.host.clone())
    }
}

fn not_yet(reason: &str) -> Refusal {
    Refusal::NotYet {
        retry_after_ms: RETRY_AFTER_FULL_MS,
        reason: reason.to_owned(),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
