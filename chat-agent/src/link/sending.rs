//! Messages on their way from the outbox to the server, and what became of them.

use super::{LinkError, until, window::Window};
use crate::store::{
    Command, Settled,
    outbox::{self, Waiting},
};
use protocol::{
    Epoch, MessageId, Outgoing,
    federation::{Refusal, Reply},
    limits::{APPEND_WINDOW, RECONNECT_MAX},
    local::Delivery,
};
use room_log::{Readers, StoreError};
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
const RETRY_MIN: Duration = Duration::from_millis(50);

type Loading = Pin<Box<dyn Future<Output = Result<Vec<Waiting>, StoreError>> + Send>>;

/// The outbox as one connection sees it.
pub(super) struct Sending {
    epoch: Epoch,
    window: Window,
    loading: Option<(usize, Loading)>,
    paused_until: Option<Instant>,
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

/// What an answer means for the messages behind it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The server takes messages.
    Flowing,
    /// It does not, for this reason; a pause has begun.
    Paused(String),
    /// Nothing new.
    Stale,
}

impl Sending {
    /// The outbox of a connection that has sent nothing, to a server whose log is in `epoch`.
    pub(super) const fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            window: Window::new(APPEND_WINDOW),
            loading: None,
            paused_until: None,
            settled: Vec::new(),
            settling: Settling::Done,
        }
    }

    /// The outbox grew.
    pub(super) const fn grew(&mut self) {
        self.window.grew();
    }

    /// Begins to load a page if there is room for one; [`Sending::ready`] finishes it.
    pub(super) fn load(&mut self, readers: &Readers) {
        if self.loading.is_none()
            && let Some((after, limit)) = self.window.wants()
        {
            let readers = readers.clone();
            let load = async move { readers.run(move |c| outbox::page(c, after, limit)).await };
            self.loading = Some((limit, Box::pin(load)));
        }
    }

    /// Waits until a page was loaded, the writer has answered, or a pause is over.
    ///
    /// Cancel safe.
    pub(super) async fn ready(&mut self) -> Result<(), LinkError> {
        let pause = self.paused_until;
        let loading = async {
            match &mut self.loading {
                Some((wanted, loading)) => (*wanted, loading.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            (wanted, page) = loading => {
                self.loading = None;
                let page = page.map_err(|error| LinkError::Store(error.to_string()))?;
                self.window.load(page, wanted);
            }
            unwritten = self.settling.over() => self.settled_up_to(unwritten?),
            () = until(pause) => self.paused_until = None,
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
        match self.paused_until {
            Some(_) => None,
            None => self.window.next_to_send(),
        }
    }

    /// Takes the answer to a message of `attempt`.
    pub(super) fn answered(
        &mut self,
        attempt: u32,
        id: MessageId,
        result: Result<Reply, Refusal>,
        now: Instant,
    ) -> Progress {
        let result = match result {
            Ok(Reply::Appended { seq }) => Ok(Delivery::Committed {
                epoch: self.epoch,
                seq,
            }),
            Err(refusal) if refusal.is_final() => Err(refusal),
            Err(refusal) => return self.not_yet(attempt, &refusal, now),
            Ok(_) => {
                warn!(%id, "the server answered an append with something else");
                return Progress::Stale;
            }
        };
        // A message of an attempt before may be settled twice.
        let Some(message) = self.window.settle(id) else {
            return Progress::Stale;
        };
        let (room, author) = (message.room, message.author);
        self.settled.push(Settled {
            id,
            room,
            author,
            result,
        });
        Progress::Flowing
    }

    fn not_yet(&mut self, attempt: u32, refusal: &Refusal, now: Instant) -> Progress {
        if !self.window.not_yet(attempt) {
            return Progress::Stale;
        }
        let pause = pause_after(refusal);
        debug!(%refusal, ?pause, "the server cannot take messages yet");
        self.paused_until = Some(now + pause);
        Progress::Paused(match refusal {
            Refusal::NotYet { reason, .. } => reason.clone(),
            other => other.to_string(),
        })
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
    use crate::store::outbox::Position;
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
        let (_, wanted) = sending.window.wants().unwrap();
        let entries: Vec<Waiting> = (1..=2).map(entry).collect();
        let ids = entries.iter().map(|entry| entry.message.id).collect();
        sending.window.load(entries, wanted);
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
            let (attempt, _) = sending.next().unwrap();
            let progress = sending.answered(attempt, ids[0], Err(refusal), now);
            assert!(matches!(progress, Progress::Paused(_)), "{progress:?}");
            assert!(!sending.owes());
            assert!(sending.next().is_none(), "paused");
            sending.paused_until = None;
            let (attempt, again) = sending.next().unwrap();
            assert_eq!((attempt, again.id), (2, ids[0]));
        }
    }

    #[test]
    fn a_final_refusal_settles_its_message_alone() {
        let (mut sending, ids) = sending();
        let (attempt, _) = sending.next().unwrap();
        sending.next().unwrap();
        let host = HostName::parse("hopper").unwrap();
        let room = "#ops".parse().unwrap();
        let refusal = Refusal::NotYours { host, room };
        let now = Instant::now();
        let progress = sending.answered(attempt, ids[0], Err(refusal.clone()), now);
        assert_eq!(progress, Progress::Flowing);
        assert_eq!(sending.settled[0].result, Err(refusal));
        let taken = Ok(Reply::Appended { seq: Seq::new(1) });
        let progress = sending.answered(attempt, ids[1], taken, now);
        assert_eq!(progress, Progress::Flowing);
        assert_eq!(sending.settled.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_full_disk_kept_from_being_settled_is_settled_later() {
        let (mut sending, ids) = sending();
        let taken = || Ok(Reply::Appended { seq: Seq::new(1) });
        let now = Instant::now();
        let attempt = sending.next().unwrap().0;
        sending.next().unwrap();
        sending.answered(attempt, ids[0], taken(), now);
        let Command::Settle { results, done } = sending.take_settled() else {
            panic!("something else is settled");
        };
        sending.answered(attempt, ids[1], taken(), now);
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
