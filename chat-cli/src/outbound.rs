//! Own messages on their way: sent in order within a window, sent again after a lost connection.
//!
//! [`Outbound`] is pure. A message keeps its id however often it is sent, so that the agent takes
//! it once. The answers to one message may come in any order: the reply to its sending, and the
//! outcome at the server.

use protocol::{
    Content, MessageId, RequestId, Room,
    local::{Delivery, Refusal, Request},
};
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// Messages sent ahead of the agent's answers, well under what the agent lets wait.
pub const WINDOW: usize = 256;

/// Bytes of words that are kept for sending at most, unless one message alone has more.
pub const WINDOW_BYTES: usize = 1024 * 1024;

/// How long to wait for what became of a message before asking again: the agent may skip the
/// news for a slow terminal, and answers the same message with where it is.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// When a message needs no more attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Durable on this host.
    Queued,
    /// In its room's log.
    Committed,
}

/// Messages that need attention, in the order they were said.
#[derive(Debug, Default)]
pub struct Outbound {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// A busy agent is left alone until then.
    hold: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    id: MessageId,
    room: Room,
    content: Content,
    until: Until,
    said: Instant,
    stage: Stage,
    /// Durable on this host, whatever is asked about it now.
    durable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not sent on this connection.
    Waiting,
    /// Sent, not answered.
    Asked(RequestId),
    /// Durable on this host, as of then.
    Queued(Instant),
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Durable on this host.
    Queued(MessageId),
    /// In its room's log.
    Committed(MessageId, Delivery),
    /// Not taken, by the agent or by the server; with what was not taken.
    Refused {
        /// Which message.
        id: MessageId,
        /// Where it would have gone.
        room: Room,
        /// What it said.
        content: Content,
        /// Why.
        reason: Refusal,
    },
}

impl Outbound {
    /// Whether another message may be said now. If not, wait for a [`Fate`].
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.entries.len() < WINDOW && self.bytes < WINDOW_BYTES
    }

    /// Whether no message needs attention.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether message `id` needs attention.
    #[must_use]
    pub fn contains(&self, id: MessageId) -> bool {
        self.entries.iter().any(|entry| entry.id == id)
    }

    /// How many messages are not durable on this host yet, as far as is known.
    #[must_use]
    pub fn unaccepted(&self) -> usize {
        self.entries.iter().filter(|entry| !entry.durable).count()
    }

    /// Takes a message to be sent; the caller asked [`Outbound::has_room`] before.
    pub fn say(&mut self, id: MessageId, room: Room, content: Content, until: Until, now: Instant) {
        self.bytes += size(&content);
        self.entries.push_back(Entry {
            id,
            room,
            content,
            until,
            said: now,
            stage: Stage::Waiting,
            durable: false,
        });
    }

    /// Since when the message longest here needs attention.
    #[must_use]
    pub fn oldest(&self) -> Option<Instant> {
        self.entries.front().map(|entry| entry.said)
    }

    /// When sending may go on, if a busy agent asked to wait.
    #[must_use]
    pub fn held_until(&self) -> Option<Instant> {
        let waits = self.entries.iter().any(|e| e.stage == Stage::Waiting);
        self.hold.filter(|_| waits)
    }

    /// The next request to send, in the order things were said; tell [`Outbound::asked`] its id.
    pub fn next_request(&mut self, now: Instant) -> Option<(MessageId, Request)> {
        if self.hold.is_some_and(|hold| now < hold) {
            return None;
        }
        self.hold = None;
        let entry = self.entries.iter().find(|e| e.stage == Stage::Waiting)?;
        let request = Request::Send {
            id: entry.id,
            room: entry.room.clone(),
            content: entry.content.clone(),
        };
        Some((entry.id, request))
    }

    /// Notes that `request` carries message `id`.
    pub fn asked(&mut self, id: MessageId, request: RequestId) {
        if let Some(entry) = self.entries.iter_mut().find(|e| e.id == id) {
            entry.stage = Stage::Asked(request);
        }
    }

    /// Whether `request` carried one of these messages.
    #[must_use]
    pub fn is_asked(&self, request: RequestId) -> bool {
        self.position(request).is_some()
    }

    /// Judges the answer to `request`.
    pub fn on_reply(
        &mut self,
        request: RequestId,
        result: Result<Delivery, Refusal>,
        now: Instant,
    ) -> Option<Fate> {
        let index = self.position(request)?;
        let id = self.entries[index].id;
        match result {
            Ok(Delivery::Queued) => {
                self.entries[index].stage = Stage::Queued(now);
                self.entries[index].durable = true;
                if self.entries[index].until == Until::Queued {
                    self.remove(index);
                }
                Some(Fate::Queued(id))
            }
            Ok(committed @ Delivery::Committed { .. }) => {
                self.remove(index);
                Some(Fate::Committed(id, committed))
            }
            Err(Refusal::Busy { retry_after_ms }) => {
                self.entries[index].stage = Stage::Waiting;
                self.hold = Some(now + Duration::from_millis(retry_after_ms.into()));
                None
            }
            // The next connection takes it.
            Err(Refusal::ShuttingDown) => None,
            Err(reason) => Some(self.refused(index, reason)),
        }
    }

    /// Judges what the server did with message `id`.
    pub fn on_outcome(
        &mut self,
        id: MessageId,
        result: Result<Delivery, protocol::federation::Refusal>,
    ) -> Option<Fate> {
        let index = self.entries.iter().position(|entry| entry.id == id)?;
        match result {
            Ok(Delivery::Queued) => None,
            Ok(committed @ Delivery::Committed { .. }) => {
                self.remove(index);
                Some(Fate::Committed(id, committed))
            }
            Err(refusal) => Some(self.refused(index, Refusal::ByServer(refusal))),
        }
    }

    /// Sends everything again that needs attention: the connection was lost, and answers and
    /// outcomes with it.
    pub fn disconnected(&mut self) {
        self.hold = None;
        for entry in &mut self.entries {
            entry.stage = Stage::Waiting;
        }
    }

    /// When to ask again what became of a message, if there is one to ask for.
    #[must_use]
    pub fn ask_again_at(&self) -> Option<Instant> {
        let queued = self.entries.iter().filter_map(|entry| match entry.stage {
            Stage::Queued(at) => Some(at + ASK_AGAIN_AFTER),
            Stage::Waiting | Stage::Asked(_) => None,
        });
        queued.min()
    }

    /// Sends again what was queued long ago, to hear what became of it.
    pub fn ask_again(&mut self, now: Instant) {
        for entry in &mut self.entries {
            if matches!(entry.stage, Stage::Queued(at) if at + ASK_AGAIN_AFTER <= now) {
                entry.stage = Stage::Waiting;
            }
        }
    }

    /// Stops attending to the oldest messages that are durable on this host, until there is room.
    pub fn forget_queued(&mut self) {
        while !self.has_room()
            && let Some(index) = self.entries.iter().position(|entry| entry.durable)
        {
            self.remove(index);
        }
    }

    /// Stops attending to all messages that are durable on this host and were said by `then`.
    pub fn let_go(&mut self, then: Instant) -> Vec<MessageId> {
        let mut gone = Vec::new();
        self.entries.retain(|entry| {
            let goes = entry.durable && entry.said <= then;
            if goes {
                self.bytes -= size(&entry.content);
                gone.push(entry.id);
            }
            !goes
        });
        gone
    }

    fn position(&self, request: RequestId) -> Option<usize> {
        let asked = Stage::Asked(request);
        self.entries.iter().position(|entry| entry.stage == asked)
    }

    fn remove(&mut self, index: usize) -> Option<Entry> {
        let entry = self.entries.remove(index)?;
        self.bytes -= size(&entry.content);
        Some(entry)
    }

    fn refused(&mut self, index: usize, reason: Refusal) -> Fate {
        let entry = self.remove(index).expect("the caller found it here");
        Fate::Refused {
            id: entry.id,
            room: entry.room,
            content: entry.content,
            reason,
        }
    }
}

/// Bytes that a message counts for: its words, or nothing to speak of.
fn size(content: &Content) -> usize {
    content.text().map_or(0, str::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::epoch;
    use protocol::Seq;

    struct Story {
        outbound: Outbound,
        now: Instant,
        last: u32,
    }

    impl Story {
        fn new() -> Self {
            Self {
                outbound: Outbound::default(),
                now: Instant::now(),
                last: 0,
            }
        }

        fn say(&mut self, number: u16, until: Until) -> MessageId {
            let mut bytes = [0; 16];
            bytes[..2].copy_from_slice(&number.to_be_bytes());
            let id = MessageId::from_bytes(bytes);
            let room = "#ops".parse().unwrap();
            let content = Content::Text(number.to_string());
            self.outbound.say(id, room, content, until, self.now);
            id
        }

        /// Sends all it may; the ids in order, and the request of the first.
        fn send(&mut self) -> (Vec<MessageId>, RequestId) {
            let first = RequestId(self.last + 1);
            let mut sent = Vec::new();
            while let Some((id, _)) = self.outbound.next_request(self.now) {
                self.last += 1;
                self.outbound.asked(id, RequestId(self.last));
                sent.push(id);
            }
            (sent, first)
        }
    }

    const fn committed(seq: u64) -> Delivery {
        Delivery::Committed {
            epoch: protocol::Epoch::from_bytes([0; 8]),
            seq: Seq::new(seq),
        }
    }

    #[test]
    fn what_was_said_is_sent_in_order_and_again_after_a_loss() {
        let mut story = Story::new();
        let ids: Vec<_> = (1..=3).map(|n| story.say(n, Until::Queued)).collect();
        let (sent, first) = story.send();
        assert_eq!(sent, ids);
        let fate = story
            .outbound
            .on_reply(first, Ok(Delivery::Queued), story.now);
        assert_eq!(fate, Some(Fate::Queued(ids[0])));
        story.outbound.disconnected();
        assert_eq!(story.send().0, ids[1..]);
    }

    #[test]
    fn whoever_hears_nothing_of_a_queued_message_asks_again() {
        let mut story = Story::new();
        let id = story.say(1, Until::Committed);
        let (_, request) = story.send();
        story
            .outbound
            .on_reply(request, Ok(Delivery::Queued), story.now);
        let due = story.outbound.ask_again_at().unwrap();
        story.outbound.ask_again(due - Duration::from_millis(1));
        assert_eq!(story.send().0, []);
        story.outbound.ask_again(due);
        let (again, request) = story.send();
        assert_eq!(again, [id]);
        let fate = story
            .outbound
            .on_reply(request, Ok(committed(7)), story.now);
        assert_eq!(fate, Some(Fate::Committed(id, committed(7))));
    }

    #[test]
    fn an_outcome_may_come_before_the_reply() {
        let mut story = Story::new();
        let id = story.say(1, Until::Committed);
        let (_, request) = story.send();
        let fate = story.outbound.on_outcome(id, Ok(committed(7)));
        assert_eq!(fate, Some(Fate::Committed(id, committed(7))));
        let late = story
            .outbound
            .on_reply(request, Ok(Delivery::Queued), story.now);
        assert_eq!(late, None);
        assert!(story.outbound.is_empty());
    }

    #[test]
    fn an_outcome_may_come_after_the_reply() {
        let mut story = Story::new();
        let id = story.say(1, Until::Committed);
        let (_, request) = story.send();
        story
            .outbound
            .on_reply(request, Ok(Delivery::Queued), story.now);
        assert!(!story.outbound.is_empty());
        let fate = story.outbound.on_outcome(id, Ok(committed(7)));
        assert_eq!(fate, Some(Fate::Committed(id, committed(7))));
        assert!(story.outbound.is_empty());
    }

    #[test]
    fn a_queued_message_is_asked_about_again_after_a_loss() {
        let mut story = Story::new();
        let id = story.say(1, Until::Committed);
        let (_, request) = story.send();
        story
            .outbound
            .on_reply(request, Ok(Delivery::Queued), story.now);
        story.outbound.disconnected();
        assert_eq!(story.send().0, [id]);
    }

    #[test]
    fn what_was_durable_stays_so_when_the_agent_is_lost() {
        let mut story = Story::new();
        let ids: Vec<_> = (1..=2).map(|n| story.say(n, Until::Committed)).collect();
        let (_, first) = story.send();
        let queued = Ok(Delivery::Queued);
        story.outbound.on_reply(first, queued, story.now);
        story.outbound.disconnected();
        assert_eq!(story.outbound.unaccepted(), 1);
        let before = story.now - Duration::from_millis(1);
        assert_eq!(story.outbound.let_go(before), []);
        assert_eq!(story.outbound.let_go(story.now), ids[..1]);
        assert_eq!(story.send().0, ids[1..]);
        assert_eq!(story.outbound.bytes, 1);
    }

    #[test]
    fn a_busy_agent_is_left_alone_for_as_long_as_it_asks() {
        let mut story = Story::new();
        let id = story.say(1, Until::Queued);
        let (_, request) = story.send();
        let busy = Err(Refusal::Busy { retry_after_ms: 50 });
        assert_eq!(story.outbound.on_reply(request, busy, story.now), None);
        assert!(story.send().0.is_empty());
        story.now = story.outbound.held_until().unwrap();
        assert_eq!(story.send().0, [id]);
    }

    #[test]
    fn a_refusal_gives_the_words_back() {
        let mut story = Story::new();
        let id = story.say(1, Until::Queued);
        let (_, request) = story.send();
        let reason = Refusal::OutboxFull { used: 1, limit: 1 };
        let fate = story
            .outbound
            .on_reply(request, Err(reason.clone()), story.now);
        let Some(Fate::Refused {
            id: which,
            content,
            reason: why,
            ..
        }) = fate
        else {
            panic!("{fate:?}");
        };
        let words = Content::Text("1".to_owned());
        assert_eq!((which, content, why), (id, words, reason));
        assert!(story.outbound.is_empty());
    }

    #[test]
    fn memory_is_bounded_and_queued_messages_make_room() {
        let mut story = Story::new();
        let mut count = 0_u16;
        while story.outbound.has_room() {
            story.say(count, Until::Committed);
            count += 1;
        }
        assert_eq!(usize::from(count), WINDOW);
        story.outbound.forget_queued();
        assert!(!story.outbound.has_room());
        let id = story.outbound.entries[0].id;
        story.outbound.asked(id, RequestId(1));
        story
            .outbound
            .on_reply(RequestId(1), Ok(Delivery::Queued), story.now);
        story.outbound.forget_queued();
        assert!(story.outbound.has_room());
        assert!(
            story
                .outbound
                .on_outcome(
                    id,
                    Ok(Delivery::Committed {
                        epoch: epoch(1),
                        seq: Seq::new(1)
                    })
                )
                .is_none()
        );
    }
}
