//! What log, register and cluster ask of NATS, and nothing of what it means.
//!
//! The requests are JetStream's own (`$JS.API.>`), sent with the plain client: batches that are
//! stored as a whole (ADR-50) and pages that are read by one request (ADR-31) are what this stands
//! on. Every wait has an end, and what may be asked twice is asked again while nobody answers
//! ([`again`]). A publish without an answer is *unknown*: it may be stored later.

mod again;

use crate::log::JetStreamSettings;
use again::{Silence, until_answered};
use async_nats::{
    Client, ConnectOptions, HeaderMap, Request, RequestError, RequestErrorKind, Subscriber,
    connection::State,
};
use bytes::Bytes;
use futures_util::StreamExt;
use protocol::{Seq, Timestamp};
use room_log::StoreError;
use serde_json::{Value, json};
use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use thiserror::Error;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long nobody says anything until a question is put again. JetStream answers within milliseconds,
/// so whoever was asked is dead by then, or overloaded: that is why it doubles from one to the next.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The same for what is to be stored: megabytes of it may be on their way, and have to be synced.
const PUBLISH_AGAIN: Duration = Duration::from_secs(2);

/// How long a cluster may be without a leader when a server starts: it elects one within seconds,
/// and a few times over if its nodes go one after the other.
const LEADERLESS: Duration = Duration::from_secs(30);

/// How long to wait before a cluster without a leader is asked again.
const LEADERLESS_PAUSE: Duration = Duration::from_millis(250);

/// "JetStream system temporarily unavailable" and "JetStream cluster can not handle request": there
/// is no leader now.
const NO_LEADER: [u64; 2] = [10_008, 10_009];

/// How long the last words to others may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// How long it takes at most to find out that nobody is there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Least that a page is limited to, so that one with a message of any size is not empty.
const MIN_PAGE_BYTES: usize = 256 * 1024;

/// "wrong last sequence": something is stored under a subject that nothing should be under.
const WRONG_LAST_SEQUENCE: u64 = 10_071;

/// "wrong last sequence" without one: something is on its way to where nothing should be, the same
/// batch a moment ago, say.
const SEQUENCE_IN_PROCESS: u64 = 10_164;

/// "sequence not found" and "no message found": there is nothing to delete.
const NOT_THERE: [u64; 2] = [10_043, 10_037];

/// "resource limits exceeded for account", "insufficient resources" and "insufficient storage resources available": the account or the
/// server may not store more.
const NO_RESOURCES: [u64; 3] = [10_002, 10_023, 10_047];

/// "store failed", with the store's own words behind it.
const STORE_FAILED: u64 = 10_077;

/// What a store says that is at its limit, or whose disk is full.
const STORE_FULL: [&str; 3] = [
    "maximum bytes exceeded",
    "maximum messages exceeded",
    "no space left",
];

/// "stream not found".
const NO_SUCH_STREAM: u64 = 10_059;

/// "stream name already in use": another server was quicker.
const STREAM_EXISTS: u64 = 10_058;

/// Why NATS did not do what was asked.
#[derive(Debug, Error)]
pub(crate) enum NatsError {
    /// No answer, or none that can be read.
    #[error("NATS: {0}")]
    Unreachable(String),
    /// Nobody heard the question: a cluster is choosing a leader. Nothing was done.
    #[error("NATS: the stream has no leader now")]
    Leaderless,
    /// The answer is no.
    #[error("NATS refuses: {description} ({code})")]
    Refused {
        /// JetStream's number for the reason.
        code: u64,
        /// In words.
        description: String,
    },
}

impl NatsError {
    /// Whether the same question may get an answer a little later.
    fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Leaderless => true,
            Self::Refused { code, .. } => NO_LEADER.contains(code),
        }
    }
}

impl From<Silence> for NatsError {
    fn from(_: Silence) -> Self {
        Self::Unreachable("no answer".to_owned())
    }
}

impl NatsError {
    /// Whether there is no room for more.
    fn is_full(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Leaderless => false,
            Self::Refused { code, description } => {
                NO_RESOURCES.contains(code)
                    || *code == STORE_FAILED
                        && STORE_FULL.iter().any(|words| description.contains(words))
            }
        }
    }
}

impl From<NatsError> for StoreError {
    fn from(error: NatsError) -> Self {
        Self::Unreachable(error.to_string())
    }
}

/// Why nothing is known to be stored.
#[derive(Debug, Error)]
pub(crate) enum PublishError {
    /// Something has one of the ids already. Nothing was stored.
    #[error("an id is known already")]
    Taken,
    /// Nothing was stored, or nothing yet: it may be later.
    #[error("{0}")]
    Unknown(String),
    /// Nothing was stored: there is no room.
    #[error("{0}")]
    Full(String),
}

/// Something to store.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) subject: String,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
    /// Only if nothing is stored under what this matches.
    pub(crate) unless: Option<String>,
}

/// Something that is stored.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) seq: Seq,
    pub(crate) subject: String,
    pub(crate) at: Timestamp,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

/// The connection, and the stream that is asked about.
#[derive(Debug)]
pub(crate) struct Nats {
    client: Client,
    stream: String,
    /// Names this process among those that use the stream.
    instance: String,
    batches: AtomicU64,
    /// Changes whenever the connection came or went.
    links: watch::Receiver<u64>,
}

impl Nats {
    /// Connects.
    pub(crate) async fn connect(
        settings: &JetStreamSettings,
        instance: String,
    ) -> Result<Self, io::Error> {
        let (sender, links) = watch::channel(0);
        let options = settings.options().await?;
        let options = options
            .name(format!("chat-server {instance}"))
            .connection_timeout(CONNECT_TIMEOUT)
            // Each wait has a limit of its own.
            .request_timeout(None)
            .event_callback(move |event| {
                let linked = matches!(
                    event,
                    async_nats::Event::Connected | async_nats::Event::Disconnected
                );
                if linked {
                    sender.send_modify(|links| *links += 1);
                }
                async move { tracing::debug!(%event, "NATS") }
            });
        let client = connect(options, settings).await?;
        // That it came is told a moment later, and is not to be taken for another time.
        let mut told = links.clone();
        let told = timeout(CONNECT_TIMEOUT, told.wait_for(|links| *links > 0)).await;
        if !matches!(told, Ok(Ok(_))) {
            return Err(io::Error::other("the connection was lost at once"));
        }
        Ok(Self {
            client,
            stream: settings.stream.clone(),
            instance,
            batches: AtomicU64::new(0),
            links,
        })
    }

    /// Names this process among those that use the stream.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    /// The stream's name.
    pub(crate) fn stream(&self) -> &str {
        &self.stream
    }

    /// Whether the connection stands.
    pub(crate) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Changes whenever the connection comes or goes from now on.
    pub(crate) fn links(&self) -> watch::Receiver<u64> {
        let mut links = self.links.clone();
        links.borrow_and_update();
        links
    }

    /// The version that the server says it has, and whether it has JetStream.
    pub(crate) fn server(&self) -> (String, bool) {
        let info = self.client.server_info();
        (info.version, info.jetstream)
    }

    /// Asks JetStream for something that comes to the same if it is done twice.
    pub(crate) async fn ask(&self, subject: &str, question: &Value) -> Result<Value, NatsError> {
        let subject = format!("$JS.API.{subject}");
        let payload = Bytes::from(question.to_string());
        let answer = until_answered(ASK_AGAIN, ANSWER_TIMEOUT, || async {
            led(|| async {
                self.check()?;
                let request = self.client.request(subject.clone(), payload.clone());
                request.await.map_err(unanswered)
            })
            .await
        });
        parse(&answer.await??.payload)
    }

    /// The same at the start of a server, when nothing is done without the answer: a cluster may be
    /// choosing its leader just then, so it is asked again for a while.
    async fn ask_patiently(&self, subject: &str, question: &Value) -> Result<Value, NatsError> {
        let begun = Instant::now();
        loop {
            let error = match self.ask(subject, question).await {
                Err(error) if begun.elapsed() < LEADERLESS && error.may_pass() => error,
                answer => return answer,
            };
            tracing::warn!(%error, "NATS does not answer yet");
            sleep(LEADERLESS_PAUSE).await;
        }
    }

    /// What JetStream says of the stream; `None` if there is none.
    pub(crate) async fn info(&self) -> Result<Option<Value>, NatsError> {
        let question = format!("STREAM.INFO.{}", self.stream);
        found(self.ask(&question, &json!({})).await)
    }

    /// Whether there is a stream of this name.
    pub(crate) async fn has_stream(&self, name: &str) -> Result<bool, NatsError> {
        let question = format!("STREAM.INFO.{name}");
        Ok(found(self.ask(&question, &json!({})).await)?.is_some())
    }

    /// What [`info`](Self::info) says at the start of a server, which makes the stream as `config` says if there is none.
    pub(crate) async fn open(&self, config: &Value) -> Result<Value, NatsError> {
        let question = format!("STREAM.INFO.{}", self.stream);
        if let Some(info) = found(self.ask_patiently(&question, &json!({})).await)? {
            return Ok(info);
        }
        let question = format!("STREAM.CREATE.{}", self.stream);
        match self.ask_patiently(&question, config).await {
            Err(NatsError::Refused {
                code: STREAM_EXISTS,
                ..
            }) => {
                let question = format!("STREAM.INFO.{}", self.stream);
                self.ask(&question, &json!({})).await
            }
            made => made,
        }
    }

    /// Stores `entries`, all or none, one behind the other. Answers after they are as safe as the
    /// server's settings make them.
    ///
    /// Entries that are all stored only once ([`Entry::unless`]) are sent again while nobody answers:
    /// if the first ones are stored after all, the others are refused as [`PublishError::Taken`].
    pub(crate) async fn publish(&self, entries: Vec<Entry>) -> Result<Vec<Seq>, PublishError> {
        let unknown = |error: NatsError| PublishError::Unknown(error.to_string());
        let count = entries.len() as u64;
        let within = 2 * ANSWER_TIMEOUT;
        let once = entries.iter().all(|entry| entry.unless.is_some());
        let pause = if once { PUBLISH_AGAIN } else { within };
        let publishing = until_answered(pause, within, || async {
            led(|| async {
                self.check()?;
                self.send(&entries).await
            })
            .await
        });
        let answer = publishing.await.map_err(NatsError::from);
        let answer = answer.and_then(|sent| sent).map_err(unknown)?;
        let answer = match parse(&answer) {
            Ok(answer) => answer,
            Err(NatsError::Refused {
                code: WRONG_LAST_SEQUENCE | SEQUENCE_IN_PROCESS,
                ..
            }) => return Err(PublishError::Taken),
            Err(error) if error.is_full() => return Err(PublishError::Full(error.to_string())),
            Err(error) => return Err(unknown(error)),
        };
        let stored = answer["count"].as_u64().unwrap_or(1);
        match answer["seq"].as_u64() {
            Some(last) if stored == count && last >= count => {
                Ok((last + 1 - count..=last).map(Seq::new).collect())
            }
            _ => Err(PublishError::Unknown(format!("NATS answers {answer}"))),
        }
    }

    async fn send(&self, entries: &[Entry]) -> Result<Bytes, NatsError> {
        let number = self.batches.fetch_add(1, Ordering::Relaxed);
        let batch = format!("{}-{number}", self.instance);
        let count = entries.len();
        for (index, entry) in entries.iter().cloned().enumerate() {
            let Entry {
                subject,
                mut headers,
                payload,
                unless,
            } = entry;
            headers.insert("Nats-Expected-Stream", self.stream.as_str());
            if let Some(filter) = unless {
                headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
                headers.insert("Nats-Expected-Last-Subject-Sequence-Subject", filter);
            }
            if count > 1 {
                headers.insert("Nats-Batch-Id", batch.as_str());
                headers.insert("Nats-Batch-Sequence", (index + 1).to_string());
            }
            if index + 1 < count {
                self.client
                    .publish_with_headers(subject, headers, payload)
                    .await
                    .map_err(unreachable)?;
                continue;
            }
            if count > 1 {
                headers.insert("Nats-Batch-Commit", "1");
            }
            let request = Request::new().headers(headers).payload(payload);
            let answer = self.client.send_request(subject, request).await;
            return Ok(answer.map_err(unanswered)?.payload);
        }
        Err(NatsError::Unreachable("nothing to store".to_owned()))
    }

    /// Where the newest entry under `filter` is, and under which subject, as the stream's leader
    /// knows.
    pub(crate) async fn last(&self, filter: &str) -> Result<Option<(Seq, String)>, NatsError> {
        let question = json!({ "last_by_subj": filter });
        let subject = format!("STREAM.MSG.GET.{}", self.stream);
        let answer = match self.ask(&subject, &question).await {
            Err(NatsError::Refused { code, .. }) if NOT_THERE.contains(&code) => return Ok(None),
            answer => answer?,
        };
        let message = &answer["message"];
        match (message["seq"].as_u64(), message["subject"].as_str()) {
            (Some(seq), Some(subject)) => Ok(Some((Seq::new(seq), subject.to_owned()))),
            _ => Err(NatsError::Unreachable(format!("answers {answer}"))),
        }
    }

    /// Reads entries under `filter` from `from` on, in order: at most `max_entries`, and no more than
    /// one beyond `max_bytes`. Also tells whether these are all.
    pub(crate) async fn read(
        &self,
        filter: &str,
        from: u64,
        max_entries: usize,
        max_bytes: usize,
    ) -> Result<(Vec<Stored>, bool), NatsError> {
        let question = json!({
            "seq": from.max(1),
            "next_by_subj": filter,
            "batch": max_entries,
            "max_bytes": max_bytes.max(MIN_PAGE_BYTES),
        });
        self.read_many(&question).await
    }

    /// The newest entry under each subject that one of `filters` matches: 1,024 at most.
    pub(crate) async fn lasts(&self, filters: &[String]) -> Result<Vec<Stored>, NatsError> {
        let question = json!({ "multi_last": filters, "batch": 1_024 });
        Ok(self.read_many(&question).await?.0)
    }

    async fn read_many(&self, question: &Value) -> Result<(Vec<Stored>, bool), NatsError> {
        let reading = until_answered(ASK_AGAIN, 2 * ANSWER_TIMEOUT, || self.read_page(question));
        reading.await?
    }

    async fn read_page(&self, question: &Value) -> Result<(Vec<Stored>, bool), NatsError> {
        self.check()?;
        let inbox = self.client.new_inbox();
        let mut answers = self
            .client
            .subscribe(inbox.clone())
            .await
            .map_err(unreachable)?;
        let subject = format!("$JS.API.DIRECT.GET.{}", self.stream);
        self.client
            .publish_with_reply(subject, inbox, Bytes::from(question.to_string()))
            .await
            .map_err(unreachable)?;
        let mut found: Vec<Stored> = Vec::new();
        loop {
            let answer = next(&mut answers).await?;
            let headers = answer.headers.unwrap_or_default();
            match answer.status.map(|status| status.as_u16()) {
                None | Some(200) => {}
                // The end of the batch.
                Some(204) => return Ok((found, number(&headers, "Nats-Num-Pending") == Some(0))),
                // Nothing at all.
                Some(404) => return Ok((found, true)),
                Some(status) => {
                    let words = answer.description.unwrap_or_default();
                    return Err(NatsError::Unreachable(format!("{status} {words}")));
                }
            }
            let stored = stored(headers, answer.payload)?;
            let before = found.last().map_or(0, |last| last.seq.number());
            if number(&stored.headers, "Nats-Last-Sequence").is_some_and(|last| last != before) {
                return Err(NatsError::Unreachable(
                    "a part of a page is missing".to_owned(),
                ));
            }
            found.push(stored);
        }
    }

    /// Deletes what is stored at `seq`, and overwrites its bytes.
    pub(crate) async fn erase(&self, seq: Seq) -> Result<(), NatsError> {
        let subject = format!("STREAM.MSG.DELETE.{}", self.stream);
        match self.ask(&subject, &json!({ "seq": seq.number() })).await {
            Err(NatsError::Refused { code, .. }) if NOT_THERE.contains(&code) => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Removes all under `filter` up to `up_to`.
    pub(crate) async fn purge(&self, filter: &str, up_to: Seq) -> Result<(), NatsError> {
        let subject = format!("STREAM.PURGE.{}", self.stream);
        // The first that stays is named.
        let question = json!({ "filter": filter, "seq": up_to.number() + 1 });
        self.ask(&subject, &question).await.map(drop)
    }

    /// What comes to an inbox of its own.
    pub(crate) async fn inbox(&self) -> Result<(String, Subscriber), NatsError> {
        self.check()?;
        let inbox = self.client.new_inbox();
        let coming = self.client.subscribe(inbox.clone()).await;
        Ok((inbox, coming.map_err(unreachable)?))
    }

    /// Asks for something that comes to `inbox`.
    pub(crate) async fn ask_for(
        &self,
        subject: &str,
        inbox: &str,
        question: &Value,
    ) -> Result<(), NatsError> {
        self.check()?;
        let subject = format!("$JS.API.{subject}");
        let payload = Bytes::from(question.to_string());
        let asking = self
            .client
            .publish_with_reply(subject, inbox.to_owned(), payload);
        timeout(ANSWER_TIMEOUT, asking)
            .await
            .map_err(|_| NatsError::Unreachable("no answer".to_owned()))?
            .map_err(unreachable)
    }

    /// What is told under `subject` from now on, also after the connection was lost and came back.
    /// What the reader is too slow for is dropped.
    pub(crate) async fn listen(&self, subject: &str) -> Result<Subscriber, NatsError> {
        let coming = self.client.subscribe(subject.to_owned()).await;
        coming.map_err(unreachable)
    }

    /// Tells whoever listens to `subject` now; it is stored nowhere.
    pub(crate) async fn tell(&self, subject: &str, payload: Bytes) -> Result<(), NatsError> {
        self.check()?;
        let telling = self.client.publish(subject.to_owned(), payload);
        timeout(ANSWER_TIMEOUT, telling)
            .await
            .map_err(|_| NatsError::Unreachable("the connection is stuck".to_owned()))?
            .map_err(unreachable)
    }

    /// Waits until what was told is on its way, for a moment.
    pub(crate) async fn flush(&self) {
        if timeout(FLUSH_TIMEOUT, self.client.flush()).await.is_err() {
            tracing::debug!("NATS does not take what was told");
        }
    }

    /// While the connection is down nothing is queued for it: what waits there would be sent
    /// when nobody wants it any more.
    pub(crate) fn check(&self) -> Result<(), NatsError> {
        if self.is_connected() {
            Ok(())
        } else {
            Err(NatsError::Unreachable("not connected".to_owned()))
        }
    }
}

async fn connect(
    options: ConnectOptions,
    settings: &JetStreamSettings,
) -> Result<Client, io::Error> {
    options
        .connect(settings.addresses()?)
        .await
        .map_err(io::Error::other)
}

async fn next(answers: &mut Subscriber) -> Result<async_nats::Message, NatsError> {
    match timeout(ANSWER_TIMEOUT, answers.next()).await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(NatsError::Unreachable(
            "the connection has ended".to_owned(),
        )),
        Err(_) => Err(NatsError::Unreachable("no answer".to_owned())),
    }
}

fn found(info: Result<Value, NatsError>) -> Result<Option<Value>, NatsError> {
    match info {
        Err(NatsError::Refused {
            code: NO_SUCH_STREAM,
            ..
        }) => Ok(None),
        info => info.map(Some),
    }
}

fn parse(payload: &[u8]) -> Result<Value, NatsError> {
    let answer: Value = serde_json::from_slice(payload)
        .map_err(|error| NatsError::Unreachable(format!("an answer is no JSON: {error}")))?;
    let error = &answer["error"];
    if error.is_null() {
        return Ok(answer);
    }
    Err(NatsError::Refused {
        code: error["err_code"].as_u64().unwrap_or_default(),
        description: error["description"]
            .as_str()
            .unwrap_or("no reason")
            .to_owned(),
    })
}

fn stored(headers: HeaderMap, payload: Bytes) -> Result<Stored, NatsError> {
    let bad = |what| NatsError::Unreachable(format!("a message without {what}"));
    let seq = number(&headers, "Nats-Sequence").ok_or_else(|| bad("its sequence"))?;
    let subject = text(&headers, "Nats-Subject").ok_or_else(|| bad("its subject"))?;
    let at = text(&headers, "Nats-Time-Stamp")
        .and_then(|time| time.parse::<jiff::Timestamp>().ok())
        .and_then(|time| u64::try_from(time.as_microsecond()).ok())
        .ok_or_else(|| bad("its time"))?;
    Ok(Stored {
        seq: Seq::new(seq),
        subject: subject.to_owned(),
        at: Timestamp::from_micros(at),
        headers,
        payload,
    })
}

/// The text of a header.
pub(crate) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get_last(name).map(|value| value.as_str())
}

/// The number in a header.
pub(crate) fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.parse().ok()
}

/// Puts a question until somebody leads the stream and hears it. Whoever waits for it limits how long.
async fn led<T, Asked>(ask: impl Fn() -> Asked) -> Result<T, NatsError>
where
    Asked: Future<Output = Result<T, NatsError>>,
{
    loop {
        match ask().await {
            Err(NatsError::Leaderless) => sleep(LEADERLESS_PAUSE).await,
            answer => return answer,
        }
    }
}

fn unanswered(error: RequestError) -> NatsError {
    match error.kind() {
        RequestErrorKind::NoResponders => NatsError::Leaderless,
        _ => unreachable(error),
    }
}

fn unreachable(error: impl std::fmt::Display) -> NatsError {
    NatsError::Unreachable(error.to_string())
}
