//! What each frame of the agent means to a conversation, and what is asked for in turn.

use super::{Conversation, Happening};
use crate::{
    exit::Failure,
    follow::{Opened, Take},
    outbound::Fate,
};
use protocol::{
    Committed, RequestId, Room,
    local::{Delivery, Event, Refusal, Reply, Request},
};
use std::time::Duration;
use tokio::time::Instant;

impl<Q> Conversation<Q> {
    pub(super) fn open_all(&mut self) {
        if self.link.options().directs
            && let Some(session) = self.link.session()
        {
            // Cannot be too large for a frame; a lost session is noticed when reading.
            let _ = session.queue(Request::OpenDirects);
        }
        for room in self.follow.to_open() {
            self.open(&room);
        }
    }

    pub(super) fn open(&mut self, room: &Room) {
        if let Some(request) = self.follow.opening(room) {
            self.send_opening(room.clone(), request);
        }
    }

    fn send_opening(&mut self, room: Room, request: Request) {
        if let Some(session) = self.link.session()
            && let Ok(id) = session.queue(request)
        {
            self.follow.asked(id, room);
        }
    }

    pub(super) fn reopen_due(&mut self) {
        let now = Instant::now();
        while let Some((_, room)) = self.reopen.pop_front_if(|(at, _)| *at <= now) {
            self.open(&room);
        }
    }

    pub(super) fn on_reply(
        &mut self,
        id: RequestId,
        result: Result<Reply, Refusal>,
    ) -> Result<(), Failure> {
        if let Some(question) = self.questions.remove(&id) {
            self.ready
                .push_back(Happening::Answer(question, Some(result)));
            return Ok(());
        }
        if self.outbound.is_asked(id) {
            let result = match result {
                Ok(Reply::Sent { state }) => Ok(state),
                Ok(_) => return Err(misfit()),
                Err(refusal) => Err(refusal),
            };
            let fate = self.outbound.on_reply(id, result, Instant::now());
            self.ready.extend(fate.map(Happening::Fate));
            return Ok(());
        }
        let (mut topic_of, mut read_to) = (String::new(), None);
        let opened = match result {
            Ok(Reply::Opened {
                epoch,
                after,
                topic,
                read,
                ..
            }) => {
                (topic_of, read_to) = (topic, read);
                Ok((epoch, after))
            }
            // Not an opening: `OpenDirects`, `Close`, or a message whose outcome came first.
            Ok(_) => return Ok(()),
            Err(refusal) => Err(refusal),
        };
        match self.follow.on_opened(id, opened) {
            Some(Opened::Open(room)) => self.ready.push_back(Happening::Opened {
                room,
                topic: topic_of,
                read: read_to,
            }),
            Some(Opened::NewLife(room)) => self.ready.push_back(Happening::NewLife(room)),
            Some(Opened::Refused(room, Refusal::Busy { retry_after_ms })) => {
                let at = Instant::now() + Duration::from_millis(retry_after_ms.into());
                self.reopen.push_back((at, room));
            }
            // The next connection opens it.
            Some(Opened::Refused(_, Refusal::ShuttingDown)) | None => {}
            Some(Opened::Refused(room, refusal)) => {
                self.follow.remove(&room);
                self.ready.push_back(Happening::OpenRefused(room, refusal));
            }
        }
        Ok(())
    }

    pub(super) fn on_event(&mut self, event: Event) {
        match event {
            Event::Committed(message) => match self.follow.on_message(&message) {
                Take::Next => {
                    let fate = self.fate_by_log(&message);
                    self.ready.push_back(Happening::Message(message));
                    self.ready.extend(fate.map(Happening::Fate));
                }
                Take::Reopen(request) => self.send_opening(message.room, request),
                Take::Drop => {}
            },
            Event::CaughtUp { room, complete } => {
                self.follow.on_caught_up(&room);
                self.ready.push_back(Happening::CaughtUp { room, complete });
            }
            Event::Outcome { id, room, result } => {
                match self.outbound.on_outcome(id, result.clone()) {
                    Some(fate) => self.ready.push_back(Happening::Fate(fate)),
                    None => {
                        self.ready
                            .push_back(Happening::Event(Event::Outcome { id, room, result }))
                    }
                }
            }
            Event::Closed { room, reason } => {
                if self.follow.remove(&room) {
                    self.ready.push_back(Happening::OpenRefused(room, reason));
                }
            }
            Event::EpochChanged { room, epoch } => {
                if self.follow.on_epoch_changed(&room, epoch) {
                    self.ready.push_back(Happening::NewLife(room));
                }
            }
            Event::DirectOpened { room, epoch } => {
                if let Some(request) = self.follow.on_direct_opened(room.clone(), epoch) {
                    self.send_opening(room, request);
                }
            }
            Event::GoingAway { reconnect_in_ms } => {
                self.link
                    .going_away(Duration::from_millis(reconnect_in_ms.into()));
            }
            event => self.ready.push_back(Happening::Event(event)),
        }
    }

    /// An own message seen in its log is committed, whether or not its outcome was heard of.
    fn fate_by_log(&mut self, message: &Committed) -> Option<Fate> {
        if message.author != self.me {
            return None;
        }
        let epoch = self.follow.reached(&message.room)?.epoch;
        let committed = Delivery::Committed {
            epoch,
            seq: message.seq,
        };
        self.outbound.on_outcome(message.id, Ok(committed))
    }
}

fn misfit() -> Failure {
    Failure::failed("the agent gave an answer that does not fit the question")
}
