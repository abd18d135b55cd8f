//! What the server has committed, on its way into the replica.
//!
//! Messages are gathered while the batch before is being written, so that a busy link costs one
//! transaction for hundreds of messages and an idle one none. When both are full, the link takes
//! no more from its socket, and the server feeds this agent from its log.

use crate::store::{Command, Gap};
use protocol::{Committed, Room, Seq};
use room_log::Head;
use std::collections::HashMap;
use tokio::sync::oneshot;

/// Messages after which the gathered batch is full.
const FULL_MESSAGES: usize = 1_024;

/// Bytes of bodies after which the gathered batch is full.
const FULL_BYTES: usize = 1024 * 1024;

/// What came of writing a batch: where messages were missing, or why nothing was kept.
pub(super) type Ingested = Result<Vec<Gap>, String>;

/// The replica as the link knows it.
#[derive(Debug, Default)]
pub(super) struct Intake {
    /// What the replica has of each room.
    heads: HashMap<Room, Head>,
    gathered: Vec<Committed>,
    gathered_bytes: usize,
    writing: Option<Batch>,
    syncs: Vec<(Room, Seq, oneshot::Sender<bool>)>,
}

#[derive(Debug)]
struct Batch {
    heads: Vec<(Room, Head)>,
    done: oneshot::Receiver<Ingested>,
}

impl Intake {
    /// A replica that has `heads`.
    pub(super) fn new(heads: impl IntoIterator<Item = (Room, Head)>) -> Self {
        Self {
            heads: heads.into_iter().collect(),
            ..Self::default()
        }
    }

    /// What the replica has of `room`.
    pub(super) fn head(&self, room: &Room) -> Head {
        self.heads.get(room).copied().unwrap_or_default()
    }

    /// Gathers a message.
    pub(super) fn push(&mut self, message: Committed) {
        self.gathered_bytes += bytes_of(&message);
        self.gathered.push(message);
    }

    /// Drops what was gathered of `room`, which will come again.
    pub(super) fn forget(&mut self, room: &Room) {
        self.gathered.retain(|message| message.room != *room);
        self.gathered_bytes = self.gathered.iter().map(bytes_of).sum();
    }

    /// Whether no more may be gathered now.
    pub(super) const fn is_full(&self) -> bool {
        self.gathered.len() >= FULL_MESSAGES || self.gathered_bytes >= FULL_BYTES
    }

    /// Whether a batch can be handed to the writer.
    pub(super) const fn is_due(&self) -> bool {
        !self.gathered.is_empty() && self.writing.is_none()
    }

    /// What was gathered, for the writer. [`Intake::ingested`] waits for it.
    pub(super) fn take(&mut self) -> Command {
        let messages = std::mem::take(&mut self.gathered);
        self.gathered_bytes = 0;
        let head = |one: &Committed| {
            (
                one.room.clone(),
                Head {
                    seq: one.seq,
                    id: Some(one.id),
                },
            )
        };
        let heads = messages.iter().map(head).collect();
        let (answer, done) = oneshot::channel();
        self.writing = Some(Batch { heads, done });
        Command::Ingest {
            messages,
            done: answer,
        }
    }

    /// Waits for the batch being written; forever if there is none.
    ///
    /// Cancel safe.
    pub(super) async fn ingested(&mut self) -> Ingested {
        match &mut self.writing {
            Some(batch) => (&mut batch.done)
                .await
                .unwrap_or_else(|_| Err("the agent is ending".to_owned())),
            None => std::future::pending().await,
        }
    }

    /// Takes note of what [`Intake::ingested`] said, and tells those who waited for it.
    pub(super) fn note(&mut self, gaps: &[Gap]) {
        let heads = self
            .writing
            .take()
            .map(|batch| batch.heads)
            .unwrap_or_default();
        for (room, head) in heads {
            let missed = |gap: &Gap| gap.room == room && head.seq > gap.head;
            if gaps.iter().any(missed) {
                continue;
            }
            let known = self.heads.entry(room).or_default();
            if head.seq > known.seq {
                *known = head;
            }
        }
        let syncs = std::mem::take(&mut self.syncs);
        for (room, seq, done) in syncs {
            self.sync(room, seq, done);
        }
    }

    /// Tells `done` when the replica has `room` up to `seq`.
    pub(super) fn sync(&mut self, room: Room, seq: Seq, done: oneshot::Sender<bool>) {
        if self.head(&room).seq >= seq {
            let _session_is_gone = done.send(true);
        } else {
            self.syncs.push((room, seq, done));
        }
    }

    /// Tells those who wait for `room` that it will not be.
    pub(super) fn give_up_on(&mut self, room: &Room) {
        for (waiting, seq, done) in std::mem::take(&mut self.syncs) {
            if waiting == *room {
                let _session_is_gone = done.send(false);
            } else {
                self.syncs.push((waiting, seq, done));
            }
        }
    }

    /// Tells everybody who waits that it will not be.
    pub(super) fn give_up(&mut self) {
        for (_, _, done) in self.syncs.drain(..) {
            let _session_is_gone = done.send(false);
        }
    }
}

fn bytes_of(message: &Committed) -> usize {
    message.body.as_bytes().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Content, MessageId, Timestamp};

    fn committed(room: &str, seq: u64) -> Committed {
        Committed {
            room: room.parse().unwrap(),
            seq: Seq::new(seq),
            prev_seq: Seq::START,
            committed_at: Timestamp::from_micros(1),
            id: MessageId::new(),
            author: "bob@bee".parse().unwrap(),
            sent_at: Timestamp::from_micros(1),
            body: Content::Text("hello".to_owned()).encode().unwrap(),
        }
    }

    #[test]
    fn what_comes_before_a_hole_is_here_and_what_comes_behind_it_is_not() {
        let mut intake = Intake::default();
        let (holed, whole): (Room, Room) = ("#old".parse().unwrap(), "#ops".parse().unwrap());
        for message in [1, 2, 4].map(|seq| committed("#old", seq)) {
            intake.push(message);
        }
        let (done, mut before) = oneshot::channel();
        intake.sync(holed.clone(), Seq::new(2), done);
        let (done, mut behind) = oneshot::channel();
        intake.sync(holed.clone(), Seq::new(4), done);
        intake.take();
        intake.push(committed("#old", 5));
        intake.push(committed("#ops", 6));
        intake.note(&[Gap {
            room: holed.clone(),
            head: Seq::new(2),
        }]);
        assert_eq!(before.try_recv(), Ok(true));
        assert!(behind.try_recv().is_err());
        assert_eq!(intake.head(&holed).seq, Seq::new(2));
        intake.forget(&holed);
        intake.take();
        intake.note(&[]);
        assert_eq!(intake.head(&holed).seq, Seq::new(2));
        assert_eq!(intake.head(&whole).seq, Seq::new(6));
    }
}
