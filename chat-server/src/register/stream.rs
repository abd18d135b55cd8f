//! The stream that a shared register is: its operations, one behind the other.
//!
//! Nothing is ever deleted of it, so its entries are numbered without a gap, and whoever has done them
//! all in their order has the whole register. There are few: one for each host that is let in, and
//! for each invitation.

use super::operation::Operation;
use crate::{
    log::JetStreamSettings,
    nats::{Entry, Nats, NatsError, PublishError, text},
};
use async_nats::{HeaderMap, Subscriber};
use bytes::Bytes;
use protocol::Epoch;
use serde_json::{Value, json};
use std::io;
use thiserror::Error;
use tokio::sync::watch;

/// The version of what is written into the stream.
const FORMAT: &str = "1";

/// What the stream says of itself.
const EPOCH_KEY: &str = "chat.epoch";
const FORMAT_KEY: &str = "chat.register";

/// Names the one who waits for what comes of an operation.
const TICKET: &str = "Chat-Ticket";

/// Most entries and bytes that are read at once.
const PAGE: (usize, usize) = (512, 512 * 1_024);

/// Why the stream of a register is not used. The message says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RegisterStreamError {
    /// NATS is not there, or does not let this server in.
    #[error("cannot connect to {servers}: {reason}")]
    Connect {
        /// Where, without passwords.
        servers: String,
        /// Why not.
        #[source]
        reason: io::Error,
    },
    /// NATS does not do as it is asked.
    #[error("{0}")]
    Nats(String),
    /// There is a stream, and it is no register, or not one that this program can follow.
    #[error("the stream {stream} is no register for chat: {problem}")]
    Unfit {
        /// Its name.
        stream: String,
        /// What is wrong with it.
        problem: String,
    },
    /// It could not be followed to its end.
    #[error("the stream {stream} cannot be followed: {reason}")]
    NotFollowed {
        /// Its name.
        stream: String,
        /// Why not.
        reason: String,
    },
}

impl From<NatsError> for RegisterStreamError {
    fn from(error: NatsError) -> Self {
        Self::Nats(error.to_string())
    }
}

/// An operation in its place.
#[derive(Debug)]
pub(super) struct Ordered {
    pub(super) seq: u64,
    /// Who waits for what comes of it.
    pub(super) ticket: Option<String>,
    /// The operation, or why this program does not know it.
    pub(super) operation: Result<Operation, String>,
}

/// What there is to know of the stream now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// Which life of the stream this is.
    pub(super) epoch: String,
    /// The number of its newest entry; 0 if there is none.
    pub(super) newest: u64,
}

/// A connection for the one stream.
#[derive(Debug)]
pub(super) struct RegisterStream {
    nats: Nats,
}

impl RegisterStream {
    /// Whether there is one.
    pub(super) async fn exists(settings: &JetStreamSettings) -> Result<bool, RegisterStreamError> {
        Ok(Self::connect(settings).await?.facts().await?.is_some())
    }

    /// Connects, and makes the stream if there is none.
    pub(super) async fn open(
        settings: &JetStreamSettings,
    ) -> Result<(Self, Facts), RegisterStreamError> {
        let this = Self::connect(settings).await?;
        let info = this.nats.open(&this.config(settings.replicas)).await?;
        let facts = this.judge(&info)?;
        Ok((this, facts))
    }

    async fn connect(settings: &JetStreamSettings) -> Result<Self, RegisterStreamError> {
        let own = JetStreamSettings {
            stream: format!("{}-register", settings.stream),
            ..settings.clone()
        };
        let instance = format!("register {}", Epoch::new());
        let connected = Nats::connect(&own, instance).await;
        let nats = connected.map_err(|reason| RegisterStreamError::Connect {
            servers: settings.servers.to_string(),
            reason,
        })?;
        Ok(Self { nats })
    }

    /// What its leader says of it; `None` if there is none.
    pub(super) async fn facts(&self) -> Result<Option<Facts>, RegisterStreamError> {
        let info = self.nats.info().await?;
        info.map(|info| self.judge(&info)).transpose()
    }

    /// How it is made.
    fn config(&self, replicas: usize) -> Value {
        json!({
            "name": self.name(),
            "description": "who is let in to chat",
            "subjects": [self.name()],
            "storage": "file",
            "retention": "limits",
            "discard": "new",
            "num_replicas": replicas,
            "allow_direct": true,
            "deny_delete": true,
            "deny_purge": true,
            "metadata": { EPOCH_KEY: Epoch::new().to_string(), FORMAT_KEY: FORMAT },
        })
    }

    fn judge(&self, info: &Value) -> Result<Facts, RegisterStreamError> {
        judge(self.name(), info).map_err(|problem| self.unfit(problem))
    }

    fn unfit(&self, problem: String) -> RegisterStreamError {
        RegisterStreamError::Unfit {
            stream: self.name().to_owned(),
            problem,
        }
    }

    /// Its name, and the subject of all its entries.
    pub(super) fn name(&self) -> &str {
        self.nats.stream()
    }

    /// Puts `operation` at the end. Answers after it is as safe as NATS makes it.
    pub(super) async fn append(
        &self,
        ticket: &str,
        operation: &Operation,
    ) -> Result<(), PublishError> {
        let unknown = |error: serde_json::Error| PublishError::Unknown(error.to_string());
        let payload = serde_json::to_vec(operation).map_err(unknown)?;
        let mut headers = HeaderMap::new();
        headers.insert(TICKET, ticket);
        let entry = Entry {
            subject: self.name().to_owned(),
            headers,
            payload: Bytes::from(payload),
            unless: None,
        };
        self.nats.publish(vec![entry]).await?;
        // Whoever misses it looks by themselves a little later.
        if let Err(error) = self.nats.tell(&self.news(), Bytes::new()).await {
            tracing::debug!(%error, "other servers were not told to look");
        }
        Ok(())
    }

    /// What comes when there is something new.
    pub(super) async fn listen(&self) -> Result<Subscriber, NatsError> {
        self.nats.listen(&self.news()).await
    }

    fn news(&self) -> String {
        format!("{}-news", self.name())
    }

    /// Entries after `seq`, in order: some, and none if whoever answers has none yet.
    pub(super) async fn read(&self, seq: u64) -> Result<Vec<Ordered>, NatsError> {
        let (entries, bytes) = PAGE;
        let (page, _) = self.nats.read(self.name(), seq + 1, entries, bytes).await?;
        let ordered = page.into_iter().map(|stored| Ordered {
            seq: stored.seq.number(),
            ticket: text(&stored.headers, TICKET).map(str::to_owned),
            operation: serde_json::from_slice(&stored.payload).map_err(|error| error.to_string()),
        });
        Ok(ordered.collect())
    }

    /// Whether the connection stands.
    pub(super) fn is_connected(&self) -> bool {
        self.nats.is_connected()
    }

    /// Changes whenever the connection comes or goes.
    pub(super) fn links(&self) -> watch::Receiver<u64> {
        self.nats.links()
    }
}

/// What `info` says of the stream `name`, if it is one that keeps what it is given.
fn judge(name: &str, info: &Value) -> Result<Facts, String> {
    let (config, state) = (&info["config"], &info["state"]);
    match config["metadata"][FORMAT_KEY].as_str() {
        Some(FORMAT) => {}
        Some(newer) => {
            return Err(format!(
                "it has format {newer}, and this program knows format {FORMAT}"
            ));
        }
        None => return Err("it was not made by chat server".to_owned()),
    }
    let epoch = config["metadata"][EPOCH_KEY]
        .as_str()
        .ok_or("it says nothing of which life it is in")?;
    let expected = [
        ("subjects", json!([name])),
        ("storage", json!("file")),
        ("retention", json!("limits")),
        ("discard", json!("new")),
        ("allow_direct", json!(true)),
    ];
    for (key, value) in expected {
        if config[key] != value {
            return Err(format!("{key} is {}, not {value}", config[key]));
        }
    }
    for key in ["max_age", "max_msgs", "max_msgs_per_subject"] {
        if config[key].as_i64().is_some_and(|limit| limit > 0) {
            return Err(format!(
                "{key} is {}, so who is let in would be forgotten",
                config[key]
            ));
        }
    }
    if state["first_seq"].as_u64().is_some_and(|first| first > 1) {
        return Err("its beginning is missing".to_owned());
    }
    Ok(Facts {
        epoch: epoch.to_owned(),
        newest: state["last_seq"].as_u64().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Value {
        json!({
            "config": {
                "subjects": ["chat-register"], "storage": "file", "retention": "limits",
                "discard": "new", "allow_direct": true, "max_age": 0, "max_msgs": -1,
                "metadata": { EPOCH_KEY: "00000000000000ff", FORMAT_KEY: FORMAT },
            },
            "state": { "first_seq": 1, "last_seq": 7 },
        })
    }

    #[test]
    fn a_stream_that_would_forget_somebody_is_refused() {
        let facts = judge("chat-register", &good()).unwrap();
        assert_eq!(facts.newest, 7);
        for (path, value, told) in [
            ("/config/max_age", json!(1), "max_age"),
            ("/config/discard", json!("old"), "discard"),
            ("/config/metadata", json!({}), "not made by chat"),
            ("/config/metadata/chat.register", json!("2"), "format 2"),
            ("/state/first_seq", json!(3), "beginning is missing"),
        ] {
            let mut bad = good();
            *bad.pointer_mut(path).unwrap() = value;
            let problem = judge("chat-register", &bad).unwrap_err();
            assert!(problem.contains(told), "{problem}");
        }
    }
}
