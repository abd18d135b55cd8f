//! Messages on their way from the outbox to the server, and what became of them.

use super::{
    LinkError, until,
    window::{Load, Pause, Window},
};
use crate::store::{
    Command, Settled,
    outbox::{self, Part},
};
use protocol::{
    Epoch, MessageId, Outgoing, UserName,
    federation::{Refusal, Reply},
    limits::{APPEND_WINDOW, RECONNECT_MAX},
    local::Delivery,
};
use room_log::{Readers, StoreError};
use rusqlite::Connection;
use std::{future::Future, pin::Pin, time::Duration};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

/// How long to wait when a server that asks for a retry does not say how long.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long to wait before what could not be written is written again: a full disk takes a person.
const SETTLE_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Shortest wait before a retry, whatever the server says.
pub(super) const RETRY_MIN: Duration = Duration::from_millis(50);

/// Characters of a server's reason that are kept for people.
const MAX_REASON_CHARS: usize = 256;

type Loading = Pin<Box<dyn Future<Output = Result<Part, StoreError>> + Send>>;

/// The outbox as one connection sees it.
pub(super) struct Sending {
    epoch: Epoch,
    window: Window,
    loading: Option<(Load, Loading)>,
    /// What the outbox does not know of yet.
    settled: Vec<Settled>,
    settling: Settling,
}

/// How far the writer is with what was settled before.
enum Settling {
    Done,
    Begun(oneshot::Receiver<Result<(), Vec<Settled>>>),
    /// It failed; it is tried again then.
    Again(Instant),
}

/// Whose messages the server does not take yet: a pause has begun.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) author: UserName,
    pub(super) reason: String,
    pub(super) pause: Duration,
    /// Whether the author is to be told.
    pub(super) tell: bool,
}

impl Sending {
    /// The outbox of a connection that has sent nothing, to a server whose log is in `epoch`.
    pub(super) fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            window: Window::new(APPEND_WINDOW),
            loading: None,
            settled: Vec::new(),
            settling: Settling::Done,
        }
    }

    /// The outbox grew.
    pub(super) const fn grew(&mut self) {
        self.window.grew();
    }

    /// Begins to load a part if there is room for one; [`Sending::ready`] finishes it.
    pub(super) fn load(&mut self, readers: &Readers) {
        if self.loading.is_none()
            && let Some(load) = self.window.wants()
        {
            let (readers, wanted) = (readers.clone(), load.clone());
            let reading = async move { readers.run(move |c| read(c, &wanted)).await };
            self.loading = Some((load, Box::pin(reading)));
        }
    }

    /// Waits until a part was loaded, the writer has answered, or a pause is over.
    ///
    /// Cancel safe.
    pub(super) async fn ready(&mut self) -> Result<(), LinkError> {
        let pause = self.window.resumes_at();
        let loading = async {
            match &mut self.loading {
                Some((_, loading)) => loading.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            part = loading => {
                let part = part.map_err(|error| LinkError::Store(error.to_string()))?;
                if let Some((load, _)) = self.loading.take() {
                    self.window.load(load, part);
                }
            }
            unwritten = self.settling.over() => self.settled_up_to(unwritten?),
            () = until(pause) => self.window.resume(Instant::now()),
        }
        Ok(())
    }

    /// Keeps what could not be written: the server says it once on a connection.
    fn settled_up_to(&mut self, mut unwritten: Vec<Settled>) {
        self.settling = if unwritten.is_empty() {
            Settling::Done
        } else {
            Settling::Again(Instant::now() + SETTLE_AGAIN_AFTER)
        };
        unwritten.append(&mut self.settled);
        self.settled = unwritten;
    }

    /// The next message to send and its attempt; counts it as sent.
    pub(super) fn next(&mut self) -> Option<(u32, &Outgoing)> {
        self.window.next_to_send()
    }

    /// Takes the answer to a message. Returns whose messages have to wait, if that is news.
    pub(super) fn answered(
        &mut self,
        id: MessageId,
        result: Result<Reply, Refusal>,
        now: Instant,
    ) -> Result<Option<Held>, LinkError> {
        let result = match result {
            Ok(Reply::Appended { seq }) => Ok(Delivery::Committed {
                epoch: self.epoch,
                seq,
            }),
            Err(refusal) if refusal.is_final() => Err(refusal),
            Err(refusal) => return self.not_yet(id, &refusal, now),
            Ok(_) => {
                warn!(%id, "the server answered an append with something else");
                // Whether it has the message is not known: it is asked again.
                let refusal = Refusal::Unavailable {
                    reason: "its answer was none".to_owned(),
                };
                return self.not_yet(id, &refusal, now);
            }
        };
        if let Some(Outgoing { room, author, .. }) = self.window.settle(id) {
            self.settled.push(Settled {
                id,
                room,
                author,
                result,
            });
        }
        Ok(None)
    }

    fn not_yet(
        &mut self,
        id: MessageId,
        refusal: &Refusal,
        now: Instant,
    ) -> Result<Option<Held>, LinkError> {
        let pause = pause_after(refusal);
        let Some(Pause { author, tell }) = self.window.not_yet(id, now, pause) else {
            return Ok(None);
        };
        if self.window.is_worn_out() {
            return Err(LinkError::WornOut);
        }
        debug!(%author, %refusal, ?pause, "the server cannot take messages yet");
        let reason = match refusal {
            Refusal::NotYet { reason, .. } => reason.clone(),
            other => other.to_string(),
        };
        Ok(Some(Held {
            author,
            reason: reason.chars().take(MAX_REASON_CHARS).collect(),
            pause,
            tell,
        }))
    }

    /// Those of whom the server takes messages as they come again.
    pub(super) fn take_freed(&mut self) -> Vec<UserName> {
        self.window.take_freed()
    }

    /// Whether something was settled that the writer is to be told of now.
    pub(super) const fn owes(&self) -> bool {
        !self.settled.is_empty() && matches!(self.settling, Settling::Done)
    }

    /// Whether so much was settled that no more answers should be read.
    pub(super) const fn is_full(&self) -> bool {
        self.settled.len() >= 4 * APPEND_WINDOW
    }

    /// What was settled, for the writer.
    pub(super) fn take_settled(&mut self) -> Command {
        let (done, settled) = oneshot::channel();
        self.settling = Settling::Begun(settled);
        Command::Settle {
            results: std::mem::take(&mut self.settled),
            done,
        }
    }
}

impl Settling {
    /// Waits for the writer, or until it may be asked again; forever if neither is to come.
    /// Returns what was not written.
    ///
    /// Cancel safe.
    async fn over(&mut self) -> Result<Vec<Settled>, LinkError> {
        match self {
            Self::Done => std::future::pending().await,
            Self::Begun(settled) => match settled.await {
                Ok(written) => Ok(written.err().unwrap_or_default()),
                Err(_) => Err(LinkError::Store("the agent is ending".to_owned())),
            },
            Self::Again(at) => {
                sleep_until(*at).await;
                Ok(Vec::new())
            }
        }
    }
}

fn read(connection: &Connection, load: &Load) -> Result<Part, StoreError> {
    match load {
        Load::Ahead {
            after,
            without,
            limit,
        } => outbox::part_without(connection, *after, *limit, without),
        Load::Behind {
            author,
            after,
            up_to,
            limit,
        } => outbox::part_of(connection, author, (*after, *up_to), *limit),
    }
}

/// How long to wait after a refusal that is not final: as long as the server says, within reason.
pub(super) fn pause_after(refusal: &Refusal) -> Duration {
    match refusal {
        Refusal::NotYet { retry_after_ms, .. } => {
            Duration::from_millis((*retry_after_ms).into()).clamp(RETRY_MIN, RECONNECT_MAX)
        }
        _ => RETRY_AFTER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::outbox::{Position, Waiting};
    use protocol::{Content, HostName, Seq, Timestamp};

    fn sending() -> (Sending, Vec<MessageId>) {
        let mut sending = Sending::new(Epoch::new());
        let entry = |number: u64| Waiting {
            position: Position::at(number),
            message: Outgoing {
                id: MessageId::from_bytes(u128::from(number).to_be_bytes()),
                room: "#ops".parse().unwrap(),
                author: "alice@ada".parse().unwrap(),
                sent_at: Timestamp::from_micros(number),
                body: Content::Text(number.to_string()).encode().unwrap(),
            },
        };
        let load = sending.window.wants().unwrap();
        let entries: Vec<Waiting> = (1..=2).map(entry).collect();
        let ids = entries.iter().map(|entry| entry.message.id).collect();
        let part = Part {
            up_to: Position::at(2),
            entries,
            more: false,
        };
        sending.window.load(load, part);
        (sending, ids)
    }

    #[test]
    fn a_server_that_is_unavailable_or_ending_loses_no_message() {
        let now = Instant::now();
        for refusal in [
            Refusal::Unavailable {
                reason: "too many open files".to_owned(),
            },
            Refusal::ShuttingDown,
            Refusal::Replaced,
        ] {
            let (mut sending, ids) = sending();
            let entry = sending.next().unwrap().1.clone();
            let held = sending
                .answered(ids[0], Err(refusal), now)
                .unwrap()
                .unwrap();
            assert_eq!(held.author, entry.author);
            assert!(!sending.owes());
            assert!(sending.next().is_none(), "paused");
            sending.window.resume(now + held.pause);
            let load = sending.window.wants().unwrap();
            let part = Part {
                entries: vec![Waiting {
                    position: Position::at(1),
                    message: entry,
                }],
                up_to: Position::at(1),
                more: true,
            };
            sending.window.load(load, part);
            let (attempt, again) = sending.next().unwrap();
            assert_eq!((attempt, again.id), (2, ids[0]));
        }
    }

    #[test]
    fn a_final_refusal_settles_its_message_alone() {
        let (mut sending, ids) = sending();
        sending.next().unwrap();
        sending.next().unwrap();
        let host = HostName::parse("hopper").unwrap();
        let room = "#ops".parse().unwrap();
        let refusal = Refusal::NotYours { host, room };
        let now = Instant::now();
        let held = sending.answered(ids[0], Err(refusal.clone()), now);
        assert_eq!(held.unwrap(), None);
        assert_eq!(sending.settled[0].result, Err(refusal));
        let taken = Ok(Reply::Appended { seq: Seq::new(1) });
        assert_eq!(sending.answered(ids[1], taken, now).unwrap(), None);
        assert_eq!(sending.settled.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_full_disk_kept_from_being_settled_is_settled_later() {
        let (mut sending, ids) = sending();
        let taken = || Ok(Reply::Appended { seq: Seq::new(1) });
        let now = Instant::now();
        sending.next().unwrap();
        sending.next().unwrap();
        sending.answered(ids[0], taken(), now).unwrap();
        let Command::Settle { results, done } = sending.take_settled() else {
            panic!("something else is settled");
        };
        sending.answered(ids[1], taken(), now).unwrap();
        assert!(!sending.owes(), "one at a time");
        done.send(Err(results)).unwrap();
        sending.ready().await.unwrap();
        assert!(!sending.owes(), "not at once");
        sending.ready().await.unwrap();
        assert!(sending.owes());
        let Command::Settle { results, done } = sending.take_settled() else {
            panic!("something else is settled");
        };
        assert_eq!(results.iter().map(|one| one.id).collect::<Vec<_>>(), ids);
        done.send(Ok(())).unwrap();
        sending.ready().await.unwrap();
        assert!(!sending.owes());
    }

    #[test]
    fn a_pause_is_as_long_as_the_server_says_within_reason() {
        let pause = |retry_after_ms| {
            pause_after(&Refusal::NotYet {
                retry_after_ms,
                reason: String::new(),
            })
        };
        assert_eq!(pause(0), RETRY_MIN);
        assert_eq!(pause(500), Duration::from_millis(500));
        assert_eq!(pause(u32::MAX), RECONNECT_MAX);
    }
}
