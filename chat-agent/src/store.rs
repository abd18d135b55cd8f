//! What the agent writes, on its one writer thread.
//!
//! A [`Command`] is queued, becomes part of a transaction, and only after the commit is answered
//! and made visible through the [`Hub`]. SQL appears in this module's submodules only.

pub mod authored;
mod command;
mod directs;
pub mod governing;
pub mod identity;
mod index;
pub mod outbox;
pub mod person;
pub mod position;
pub mod refused;
pub mod renaming;
pub mod schema;
pub mod search;
mod wording;

use crate::hub::Hub;
pub use command::{Command, Gap, Outcome, Settled};
use directs::Directs;
use governing::{Gone, Upkeep};
use identity::NO_EPOCH;
use index::Indexing;
use outbox::Usage;
use protocol::{
    Committed, Epoch, Outgoing, Room, ServerAddress, ServerTrust, Timestamp, UserName,
    limits::{
        MAX_DIRECTS_PER_USER, MAX_NICKS_PER_UID, MAX_POSITIONS_PER_USER, MAX_ROOMS,
        MAX_ROOMS_PER_USER,
    },
    local::{Delivery, Refusal, Reply},
};
use refused::Refused;
use room_log::{
    Appended, Chore, Deed, Durability, Governor, Ingested, RoomLog, Store, StoreError, Writer, log,
    roster,
};
use rusqlite::Connection;
use std::{collections::HashSet, sync::Arc, time::SystemTime};
use tracing::warn;

/// Queues commands to the writer thread.
pub type AgentWriter = Writer<Command>;

/// The writer thread's state.
#[derive(Debug)]
pub struct AgentStore {
    hub: Arc<Hub>,
    local: RoomLog,
    replica: RoomLog,
    /// What the outbox holds in the open transaction; `None` after a rollback.
    usage: Option<Usage>,
    directs: Directs,
    /// Memberships that ended in the open transaction; the hub has them still.
    left: HashSet<(Room, UserName)>,
    indexing: Indexing,
    governor: Governor,
    upkeep: Upkeep,
}

impl AgentStore {
    /// The state for a database whose identity the hub has.
    #[must_use]
    pub fn new(hub: Arc<Hub>) -> Self {
        let local = RoomLog::new(hub.local_epoch(), MAX_ROOMS);
        let replica = RoomLog::new(hub.server_epoch(), MAX_ROOMS);
        Self {
            hub,
            local,
            replica,
            usage: None,
            directs: Directs::default(),
            left: HashSet::new(),
            indexing: Indexing::new(),
            governor: Governor::default(),
            upkeep: Upkeep::new(),
        }
    }

    fn usage(&self, transaction: &Connection) -> Result<Usage, StoreError> {
        match self.usage {
            Some(usage) => Ok(usage),
            None => outbox::usage(transaction),
        }
    }

    /// Makes the author a member, and takes the message. The membership is kept whatever becomes
    /// of the message.
    fn send(
        &mut self,
        transaction: &Connection,
        message: &Outgoing,
    ) -> Result<Outcome, StoreError> {
        let joined = match self.join(transaction, &message.room, &message.author)? {
            Ok(joined) => joined,
            Err(refusal) => {
                return Ok(Outcome::Sent {
                    result: Err(refusal),
                    committed: None,
                    joined: false,
                });
            }
        };
        let mut committed = None;
        let result = if let Some(waiting) = outbox::find(transaction, message.id)? {
            if same(&waiting, message) {
                Ok(Delivery::Queued)
            } else {
                Err(Refusal::IdConflict { id: message.id })
            }
        } else if !self.may_write(transaction, message)? {
            let max = MAX_DIRECTS_PER_USER;
            Err(too_many("direct conversations of one user", max))
        } else if let Some(refusal) = self.silence(transaction, &message.room, &message.author)?
            && self.local.known(transaction, message)?.is_none()
        {
            Err(refusal)
        } else if message.room.is_local_to(self.hub.host()) {
            let now = Timestamp::from(SystemTime::now());
            let epoch = self.local.epoch();
            match self.local.append(transaction, message, now)? {
                Appended::New(new) => {
                    let seq = new.seq;
                    self.indexing.note();
                    if let Some(of) = new.body.takes_back() {
                        self.take_back(transaction, &new, of)?;
                    }
                    committed = Some(new.into());
                    Ok(Delivery::Committed { epoch, seq })
                }
                Appended::Known { seq } => Ok(Delivery::Committed { epoch, seq }),
                Appended::Conflict => Err(Refusal::IdConflict { id: message.id }),
                Appended::TooManyRooms => Err(too_many("rooms", MAX_ROOMS)),
            }
        } else {
            self.queue(transaction, message)?
        };
        Ok(Outcome::Sent {
            result,
            committed,
            joined,
        })
    }

    fn may_write(
        &mut self,
        transaction: &Connection,
        message: &Outgoing,
    ) -> Result<bool, StoreError> {
        let epochs = [self.local.epoch(), self.replica.epoch()];
        let (room, author) = (&message.room, &message.author);
        let max = MAX_DIRECTS_PER_USER;
        self.directs.admit(transaction, epochs, room, author, max)
    }

    /// Puts a message for the server into the outbox, unless the server's log has it. A log that
    /// was before this one does not count: nobody can read the message there any more.
    fn queue(
        &mut self,
        transaction: &Connection,
        message: &Outgoing,
    ) -> Result<Result<Delivery, Refusal>, StoreError> {
        let id = message.id;
        for epoch in [self.replica.epoch(), self.local.epoch()] {
            if let Some(found) = log::find(transaction, epoch, id)? {
                // One that was said before this host lost its state is the same, too.
                let is_author = found.author == message.author
                    || found.author == authored::unverified(&message.author);
                let is_same = is_author
                    && found.room == message.room
                    && (found.body == message.body || found.body.is_erased());
                let seq = found.seq;
                return Ok(if is_same {
                    Ok(Delivery::Committed { epoch, seq })
                } else {
                    Err(Refusal::IdConflict { id })
                });
            }
        }
        let mut usage = self.usage(transaction)?;
        let (used, limit) = (usage.bytes, self.hub.outbox().limit_bytes());
        if used + Usage::of(&message.body) > limit {
            return Ok(Err(Refusal::OutboxFull { used, limit }));
        }
        outbox::push(transaction, message)?;
        authored::note(transaction, message)?;
        usage.messages += 1;
        usage.bytes += Usage::of(&message.body);
        self.usage = Some(usage);
        Ok(Ok(Delivery::Queued))
    }

    fn ingest(
        &mut self,
        transaction: &Connection,
        messages: &[Committed],
    ) -> Result<Outcome, StoreError> {
        let mut new = Vec::with_capacity(messages.len());
        let mut gaps: Vec<Gap> = Vec::new();
        let mut gone: Vec<(usize, Gone)> = Vec::new();
        let mut disowned = Vec::new();
        for (number, message) in messages.iter().enumerate() {
            let forged = message.author.host == *self.hub.host()
                && !authored::is_servers(message)
                && !authored::is_known(transaction, message)?;
            let kept = forged.then(|| authored::disowned(message));
            let ingested = self
                .replica
                .ingest(transaction, kept.as_ref().unwrap_or(message))?;
            if let Some(kept) = kept
                && ingested == Ingested::New
            {
                warn!(
                    room = %message.room, author = %message.author, id = %message.id,
                    "the server gave a user's name to what nobody here has said"
                );
                disowned.push((number, kept));
            }
            new.push(ingested == Ingested::New);
            if ingested == Ingested::New {
                self.indexing.note();
                let out = self.fold(transaction, message)?;
                gone.extend(out.into_iter().map(|one| (number, one)));
            }
            if let Ingested::Gap { head } = ingested
                && gaps.iter().all(|gap| gap.room != message.room)
            {
                gaps.push(Gap {
                    room: message.room.clone(),
                    head,
                });
            }
        }
        Ok(Outcome::Ingested {
            new,
            gaps,
            gone,
            disowned,
        })
    }

    fn settle(
        &mut self,
        transaction: &Connection,
        results: &[Settled],
    ) -> Result<Outcome, StoreError> {
        let mut usage = self.usage(transaction)?;
        let mut new = Vec::with_capacity(results.len());
        for settled in results {
            let waited = outbox::remove(transaction, settled.id)?;
            new.push(waited.is_some());
            let Some(bytes) = waited else {
                continue;
            };
            usage.messages = usage.messages.saturating_sub(1);
            usage.bytes = usage.bytes.saturating_sub(bytes);
            match &settled.result {
                Ok(_) => refused::forget(transaction, settled.id)?,
                Err(refusal) => {
                    let refused = Refused {
                        id: settled.id,
                        room: settled.room.clone(),
                        reason: refusal.to_string(),
                        at: Timestamp::from(SystemTime::now()),
                    };
                    refused::keep(transaction, &settled.author, &refused)?;
                }
            }
        }
        self.usage = Some(usage);
        Ok(Outcome::Settled(new))
    }

    /// Makes `user` a member. Returns whether the hub must learn it.
    fn join(
        &mut self,
        transaction: &Connection,
        room: &Room,
        user: &UserName,
    ) -> Result<Result<bool, Refusal>, StoreError> {
        let left = !self.left.is_empty() && self.left.contains(&(room.clone(), user.clone()));
        let is_known = self.hub.is_member(room, &user.nick) && !left;
        if matches!(room, Room::Direct(_)) || is_known {
            return Ok(Ok(false));
        }
        if !roster::is_member(transaction, room, user)?
            && roster::room_count(transaction, user)? >= MAX_ROOMS_PER_USER
        {
            return Ok(Err(too_many("rooms of one user", MAX_ROOMS_PER_USER)));
        }
        if let Some(refusal) = self.exclusion(transaction, room, user)? {
            return Ok(Err(refusal));
        }
        match room {
            Room::Federated(room) => person::end_departure(transaction, room, user, None)?,
            Room::Local(_) if self.local.has_room(transaction, room)? => {}
            Room::Local(_) => {
                if self.local.ensure_room(transaction, room)?.is_none() {
                    return Ok(Err(too_many("rooms", MAX_ROOMS)));
                }
                self.note_founder(transaction, room, user)?;
            }
            Room::Direct(_) => {}
        }
        roster::join(transaction, room, user)?;
        if left {
            self.left.remove(&(room.clone(), user.clone()));
        }
        Ok(Ok(true))
    }
}

impl Store for AgentStore {
    type Command = Command;
    type Outcome = Outcome;

    fn durability(&self, command: &Command) -> Durability {
        match command {
            Command::Ingest { .. }
            | Command::Settle { .. }
            | Command::CopyTopic { .. }
            | Command::Departed { .. }
            | Command::MarkRead { .. }
            | Command::Expel { .. }
            | Command::Prune
            | Command::Index { .. } => Durability::Process,
            Command::Send { .. }
            | Command::BeginEpoch { .. }
            | Command::Claim { .. }
            | Command::Join { .. }
            | Command::Leave { .. }
            | Command::SetTopic { .. }
            | Command::Govern { .. }
            | Command::Confirm { .. }
            | Command::Configure { .. }
            | Command::Learn { .. }
            | Command::SetServers { .. } => Durability::Power,
        }
    }

    fn apply(
        &mut self,
        transaction: &Connection,
        command: &Command,
    ) -> Result<Outcome, StoreError> {
        match command {
            Command::Send { message, .. } => return self.send(transaction, message),
            Command::Ingest { messages, .. } => return self.ingest(transaction, messages),
            Command::Settle { results, .. } => return self.settle(transaction, results),
            Command::Claim { nick, uid, .. } => {
                let claim = person::claim(transaction, nick, *uid, MAX_NICKS_PER_UID)?;
                return Ok(Outcome::Claimed(claim));
            }
            Command::Join { room, user, .. } => {
                return self.join(transaction, room, user).map(Outcome::Joined);
            }
            Command::Leave { room, user, .. } => {
                let left = roster::leave(transaction, room, user)?;
                let mut departure = None;
                let mut committed = None;
                if left {
                    self.left.insert((room.clone(), user.clone()));
                    if let Room::Federated(room) = room {
                        departure = Some(person::add_departure(transaction, room, user)?);
                    }
                    committed = self.left_room(transaction, room, user)?.map(Box::new);
                }
                return Ok(Outcome::Left {
                    left,
                    departure,
                    committed,
                });
            }
            Command::BeginEpoch { epoch, .. } => {
                return self.begin_epoch(transaction, *epoch);
            }
            Command::Departed { room, user, up_to } => {
                person::end_departure(transaction, room, user, Some(*up_to))?;
            }
            Command::SetTopic {
                room, user, topic, ..
            } => {
                let excluded = self.exclusion(transaction, room, user)?;
                if let Some(refusal) = excluded.or(self.silence(transaction, room, user)?) {
                    return Ok(Outcome::Refused(refusal));
                }
                roster::set_topic(transaction, room, topic)?;
            }
            Command::Govern {
                room,
                user,
                id,
                act,
                ..
            } => {
                let deed = Deed {
                    room,
                    actor: user,
                    id: *id,
                    act,
                };
                return self.govern(transaction, deed);
            }
            Command::Expel { room, user, closed } => {
                return self.expel(transaction, room, user, *closed);
            }
            Command::Prune => self.look_at_retention(),
            Command::CopyTopic { room, topic } => {
                roster::set_topic(transaction, &Room::Federated(room.clone()), topic)?;
            }
            Command::MarkRead {
                user, room, cursor, ..
            } => {
                // Nobody has read what is not here.
                let head = log::head(transaction, cursor.epoch, room)?;
                if head.is_some_and(|head| cursor.seq <= head.seq) {
                    person::mark_read(transaction, user, room, *cursor)?;
                }
            }
            Command::Confirm {
                user,
                consumer,
                room,
                cursor,
                ..
            } => {
                let confirmed = position::confirm(transaction, user, consumer, room, *cursor)?;
                return Ok(Outcome::Confirmed(confirmed));
            }
            Command::Configure { servers } => {
                return identity::configure(transaction, servers).map(Outcome::Configured);
            }
            Command::SetServers { servers, .. } => {
                let servers = identity::recognise(transaction, servers)?;
                let is_unknown = |server: &&ServerAddress| server.trust == ServerTrust::Authority;
                if !self.hub.has_authorities()
                    && let Some(unknown) = servers.iter().find(is_unknown)
                {
                    return Ok(Outcome::Unknown(unknown.place().to_owned()));
                }
                identity::set_servers(transaction, &servers)?;
                return Ok(Outcome::Learned(servers));
            }
            Command::Learn { server, learned } => {
                let servers = identity::learn(transaction, server, learned)?;
                return Ok(Outcome::Learned(servers));
            }
            // Not done here: what goes wrong with the index must not undo what others write.
            Command::Index { .. } => {}
        }
        Ok(Outcome::Done)
    }

    fn committed(&mut self, done: Vec<(Command, Outcome)>) {
        if let Some(usage) = self.usage {
            self.hub.outbox().set(usage);
        }
        // A claim mostly writes nothing, and so proves nothing of the disk.
        let claims = |(command, _): &(Command, Outcome)| matches!(command, Command::Claim { .. });
        if !done.iter().all(claims) {
            self.hub.clear_problem("storage");
        }
        self.left.clear();
        for (command, outcome) in done {
            self.tell(command, outcome);
        }
    }

    fn rolled_back(&mut self, commands: Vec<Command>, error: &StoreError) {
        self.local.forget();
        self.governor.forget();
        self.left.clear();
        self.replica = RoomLog::new(self.hub.server_epoch(), MAX_ROOMS);
        self.usage = None;
        let reason = match error {
            StoreError::DiskFull => format!("{error}: free some space and try again"),
            _ => error.to_string(),
        };
        self.hub.set_problem(
            "storage",
            format!("the agent could not write its state: {reason}"),
        );
        for command in commands {
            let refusal = Refusal::StorageFailed {
                reason: reason.clone(),
            };
            match command {
                Command::Send { answer, .. }
                | Command::Leave { answer, .. }
                | Command::SetTopic { answer, .. }
                | Command::Govern { answer, .. }
                | Command::MarkRead { answer, .. }
                | Command::Confirm { answer, .. }
                | Command::SetServers { answer, .. } => answer.give(Err(refusal)),
                Command::Join { done, .. } => drop(done.send(Err(refusal))),
                Command::Ingest { done, .. } => drop(done.send(Err(reason.clone()))),
                Command::BeginEpoch { done, .. } => drop(done.send(Err(reason.clone()))),
                Command::Claim { done, .. } => drop(done.send(Err(reason.clone()))),
                Command::Index { done, .. } => drop(done.send(Err(reason.clone()))),
                Command::Configure { .. } => {
                    warn!(%reason, "servers not looked at, send SIGHUP again");
                }
                Command::Settle { results, done } => drop(done.send(Err(results))),
                // The next connection tells the server again, and is told again.
                Command::Departed { .. }
                | Command::CopyTopic { .. }
                | Command::Expel { .. }
                | Command::Learn { .. }
                | Command::Prune => {}
            }
        }
    }

    fn chore(&self) -> Chore {
        self.next_chore()
    }

    fn do_chore(&mut self, transaction: &Connection) -> Result<(), StoreError> {
        self.do_part(transaction)
    }

    fn chore_done(&mut self, result: Result<(), StoreError>) {
        self.part_done(result);
    }

    fn take_traces(&mut self) -> bool {
        self.take_erased()
    }

    fn before_scrub(&mut self, connection: &Connection) -> Result<(), StoreError> {
        index::compact(connection)
    }
}

impl AgentStore {
    /// Answers a command whose transaction is durable, and tells whom it concerns.
    fn tell(&mut self, command: Command, outcome: Outcome) {
        let hub = &self.hub;
        match (command, outcome) {
            (
                Command::Send { message, answer },
                Outcome::Sent {
                    result,
                    committed,
                    joined,
                },
            ) => {
                if joined {
                    hub.joined(&message.room, &message.author);
                }
                // The answer goes first, so that its sender sees "sent" before the message.
                let queued = result == Ok(Delivery::Queued);
                answer.give(result.map(|state| Reply::Sent { state }));
                if let Some(committed) = committed {
                    hub.publish(std::iter::once(&*committed));
                }
                if queued {
                    hub.outbox().grew();
                }
            }
            (
                Command::Ingest { mut messages, done },
                Outcome::Ingested {
                    new,
                    gaps,
                    gone,
                    disowned,
                },
            ) => {
                for (index, kept) in disowned {
                    if let Some(message) = messages.get_mut(index) {
                        *message = kept;
                    }
                }
                let fresh = |from: usize, to: usize| {
                    let all = messages[from..to].iter().zip(&new[from..to]);
                    all.filter(|(_, new)| **new).map(|(message, _)| message)
                };
                // Whoever is out gets what put them out, and nothing behind it.
                let mut told = 0;
                for (number, gone) in gone {
                    hub.publish(fresh(told, number + 1));
                    told = number + 1;
                    hub.removed(&gone);
                }
                hub.publish(fresh(told, messages.len()));
                let _link_is_gone = done.send(Ok(gaps));
            }
            (Command::Settle { results, done }, Outcome::Settled(new)) => {
                // A link that was lost may have said it before this one did.
                let news = results.into_iter().zip(new).filter(|(_, new)| *new);
                for (settled, _) in news {
                    if let Err(refusal) = &settled.result {
                        let (id, room, author) = (settled.id, &settled.room, &settled.author);
                        warn!(%id, %room, %author, %refusal, "the server refused a message");
                    }
                    hub.settled(settled);
                }
                let _link_is_gone = done.send(Ok(()));
            }
            (Command::BeginEpoch { epoch, done }, Outcome::Begun(gone)) => {
                hub.begin_epoch(epoch);
                for gone in gone {
                    hub.removed(&gone);
                }
                let _link_is_gone = done.send(Ok(()));
            }
            (Command::Index { rooms, done }, _) => self.indexing.want(rooms, done),
            (Command::Claim { done, .. }, Outcome::Claimed(claim)) => {
                let _session_is_gone = done.send(Ok(claim));
            }
            (Command::Join { room, user, done }, Outcome::Joined(result)) => {
                if result == Ok(true) {
                    hub.joined(&room, &user);
                }
                let _session_is_gone = done.send(result.map(drop));
            }
            (
                Command::Leave { room, user, answer },
                Outcome::Left {
                    left,
                    departure,
                    committed,
                },
            ) => {
                if let Some(committed) = committed {
                    self.indexing.note();
                    hub.publish(std::iter::once(&*committed));
                }
                if left {
                    hub.left(&room, &user, departure);
                }
                answer.give(Ok(Reply::Done));
            }
            (
                Command::Govern { room, answer, .. },
                Outcome::Governed {
                    result,
                    committed,
                    gone,
                },
            ) => {
                let epoch = hub.epoch_of(&room);
                answer.give(result.map(|seq| match seq {
                    Some(seq) => Reply::Sent {
                        state: Delivery::Committed { epoch, seq },
                    },
                    None => Reply::Done,
                }));
                hub.publish(committed.iter());
                for gone in gone {
                    hub.removed(&gone);
                }
            }
            (Command::SetTopic { answer, .. }, Outcome::Refused(refusal)) => {
                answer.give(Err(refusal));
            }
            (Command::Expel { .. }, Outcome::Expelled(Some(gone))) => hub.removed(&gone),
            (
                Command::SetTopic {
                    room,
                    user,
                    topic,
                    answer,
                },
                _,
            ) => {
                hub.topic_set(&room, user, topic);
                answer.give(Ok(Reply::Done));
            }
            (Command::Configure { servers }, Outcome::Configured(true)) => {
                hub.set_servers(servers);
            }
            (Command::Learn { .. }, Outcome::Learned(servers)) => hub.learn_servers(servers),
            (Command::SetServers { answer, .. }, Outcome::Unknown(place)) => {
                answer.give(Err(Refusal::BadText {
                    reason: format!(
                        "no key of {place} is known here: paste the whole line that `chat server \
                         invite` prints there (nothing was changed)"
                    ),
                }));
            }
            (Command::SetServers { answer, .. }, Outcome::Learned(servers)) => {
                hub.set_servers(servers);
                answer.give(Ok(Reply::Done));
            }
            (Command::Confirm { answer, .. }, Outcome::Confirmed(false)) => {
                let max = MAX_POSITIONS_PER_USER;
                answer.give(Err(too_many("positions of one user's consumers", max)));
            }
            (Command::Confirm { answer, .. } | Command::MarkRead { answer, .. }, _) => {
                answer.give(Ok(Reply::Done))
            }
            (_, _) => {}
        }
    }
}

fn same(one: &Outgoing, other: &Outgoing) -> bool {
    one.room == other.room && one.author == other.author && one.body == other.body
}

fn too_many(what: &str, max: usize) -> Refusal {
    Refusal::TooMany {
        what: what.to_owned(),
        max: u32::try_from(max).unwrap_or(u32::MAX),
    }
}

/// Whether the replica has met a server's log yet.
#[must_use]
pub fn has_epoch(epoch: Epoch) -> bool {
    epoch != NO_EPOCH
}

#[cfg(test)]
mod tests;
