//! The stream itself: made by the first server, and looked at by every one before it uses it.

use super::{entry::FORMAT, settings::JetStreamSettings, subject::Subjects};
use crate::{
    log::RestoreError,
    nats::{Nats, NatsError},
};
use protocol::{Epoch, Seq};
use serde_json::{Value, json};
use thiserror::Error;

/// The oldest NATS that stores batches as a whole and reads pages at once.
const OLDEST_SERVER: (u64, u64) = (2, 12);

/// What the stream says of itself.
const EPOCH: &str = "chat.epoch";
const FORMAT_KEY: &str = "chat.format";
/// There while a log is moved here that is not whole yet: which import it is.
const RESTORING: &str = "chat.restoring";
/// The format of such a stream, which servers that do not know the mark do not know either.
const RESTORING_FORMAT: &str = "restoring";

/// Why a stream is no log. The message says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StreamError {
    /// NATS is older than what is needed of it.
    #[error(
        "the NATS server has version {version}, and a log needs {major}.{minor} or newer: batches \
         that are stored as a whole came with that",
        major = OLDEST_SERVER.0, minor = OLDEST_SERVER.1
    )]
    TooOld {
        /// Its version.
        version: String,
    },
    /// NATS keeps nothing.
    #[error(
        "the NATS server has no JetStream: switch it on there (`jetstream {{ store_dir: … }}`)"
    )]
    NoJetStream,
    /// There is a stream, and it is set up in a way in which it would not be a log.
    #[error("the stream {stream} is no log for chat: {problems}")]
    Unfit {
        /// Its name.
        stream: String,
        /// What is wrong with it.
        problems: String,
    },
    /// A newer program writes to it.
    #[error(
        "the stream {stream} has format {found}, and this program knows format {FORMAT}: use the \
         program that wrote it, or a newer one"
    )]
    TooNew {
        /// Its name.
        stream: String,
        /// Its format.
        found: String,
    },
    /// There is none, where one is to be read.
    #[error("there is no stream {stream} on {servers}: name another with --nats-stream")]
    Missing {
        /// Its name.
        stream: String,
        /// Where it was looked for.
        servers: String,
    },
    /// A log was to be moved here, and that did not come to its end.
    #[error(
        "the stream {stream} was restored in part only: run `chat server import` again, which begins \
         anew, or delete the stream to begin with an empty log"
    )]
    HalfRestored {
        /// Its name.
        stream: String,
    },
    /// Servers use it.
    #[error(
        "the stream {stream} is still followed ({servers} running: 'chat server'): end every server \
         that uses it first, so that nothing is written meanwhile"
    )]
    InUse {
        /// Its name.
        stream: String,
        /// How many.
        servers: usize,
    },
    /// NATS does not do as it is asked.
    #[error("{0}")]
    Nats(String),
}

impl From<NatsError> for StreamError {
    fn from(error: NatsError) -> Self {
        Self::Nats(error.to_string())
    }
}

/// What there is to know of the stream.
#[derive(Debug, Clone)]
pub(super) struct StreamFacts {
    pub(super) epoch: Epoch,
    /// Its newest entry.
    pub(super) newest: Seq,
    /// On how many servers it is stored.
    pub(super) replicas: usize,
    /// How many entries it has.
    pub(super) entries: u64,
    /// A log is moved here and is not whole yet.
    restoring: bool,
}

/// What for a stream is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To serve it; it is made if there is none.
    Serve,
    /// To read all of it, while nobody writes.
    Read,
    /// To read back what was restored.
    Check,
}

/// Looks at the server and the stream, and makes the stream if there is none and it is to be served.
pub(super) async fn open(
    nats: &Nats,
    settings: &JetStreamSettings,
    purpose: Purpose,
) -> Result<StreamFacts, StreamError> {
    check_server(nats)?;
    let info = match purpose {
        Purpose::Serve => nats.open(&config(settings)).await?,
        Purpose::Read | Purpose::Check => {
            let info = nats.info().await?;
            info.ok_or_else(|| StreamError::Missing {
                stream: settings.stream.clone(),
                servers: settings.servers.to_string(),
            })?
        }
    };
    let facts = facts(&settings.stream, &info)?;
    let stream = || settings.stream.clone();
    if facts.restoring && purpose != Purpose::Check {
        return Err(StreamError::HalfRestored { stream: stream() });
    }
    if purpose == Purpose::Read {
        let servers = followers(nats).await?;
        if servers > 0 {
            let stream = stream();
            return Err(StreamError::InUse { stream, servers });
        }
    }
    Ok(facts)
}

fn check_server(nats: &Nats) -> Result<(), StreamError> {
    let (version, jetstream) = nats.server();
    if !is_new_enough(&version) {
        return Err(StreamError::TooOld { version });
    }
    if !jetstream {
        return Err(StreamError::NoJetStream);
    }
    Ok(())
}

/// How many servers wait for what comes into the stream.
async fn followers(nats: &Nats) -> Result<usize, StreamError> {
    let question = format!("CONSUMER.LIST.{}", nats.stream());
    let list = nats.ask(&question, &json!({})).await?;
    let consumers = list["consumers"].as_array();
    // One whose server has ended is forgotten a little later, and nobody asks it for anything.
    let waits = |consumer: &&Value| consumer["num_waiting"].as_u64().unwrap_or(0) > 0;
    Ok(consumers.map_or(0, |all| all.iter().filter(waits).count()))
}

/// Makes the stream for a log that is moved here. What an earlier attempt left is removed; returns whether
/// there was something.
pub(super) async fn make_to_restore(
    nats: &Nats,
    settings: &JetStreamSettings,
    import: &str,
) -> Result<bool, RestoreError> {
    check_server(nats)?;
    let stream = &settings.stream;
    let register = format!("{stream}-register");
    let unreachable = |error: NatsError| RestoreError::Nats(error.to_string());
    let has_register = nats.has_stream(&register).await.map_err(unreachable)?;
    let exists = |name: &str| RestoreError::Exists {
        what: format!("the stream {name}"),
        flag: "--nats-stream",
        otherwise: "delete it there if nobody needs it".to_owned(),
    };
    let info = nats.info().await.map_err(unreachable)?;
    if let Some(info) = &info {
        if info["config"]["metadata"][RESTORING].is_null() {
            return Err(exists(stream));
        }
        // Both are of the earlier attempt; what says so goes last.
        let of_register = has_register.then_some(register.as_str());
        for name in of_register.into_iter().chain([stream.as_str()]) {
            let question = format!("STREAM.DELETE.{name}");
            let deleted = nats.ask(&question, &json!({})).await;
            deleted.map_err(unreachable)?;
        }
    } else if has_register {
        return Err(exists(&register));
    }
    let mut config = config(settings);
    config["metadata"][RESTORING] = json!(import);
    config["metadata"][FORMAT_KEY] = json!(RESTORING_FORMAT);
    let question = format!("STREAM.CREATE.{stream}");
    let made = nats.ask(&question, &config).await;
    made.map_err(unreachable)?;
    Ok(info.is_some())
}

/// What `import` has restored, up to the entry `last`, is whole.
pub(super) async fn end_restoring(nats: &Nats, import: &str, last: Seq) -> Result<(), StreamError> {
    let info = nats.info().await?.ok_or_else(|| StreamError::Unfit {
        stream: nats.stream().to_owned(),
        problems: "it was deleted".to_owned(),
    })?;
    let mut config = info["config"].clone();
    let is_same = config["metadata"][RESTORING] == import
        && info["state"]["last_seq"].as_u64() == Some(last.number());
    let Some(metadata) = config["metadata"].as_object_mut().filter(|_| is_same) else {
        return Err(StreamError::Unfit {
            stream: nats.stream().to_owned(),
            problems: "somebody else has written to it since it was made for this import"
                .to_owned(),
        });
    };
    metadata.remove(RESTORING);
    metadata.insert(FORMAT_KEY.to_owned(), json!(FORMAT));
    let question = format!("STREAM.UPDATE.{}", nats.stream());
    nats.ask(&question, &config).await?;
    Ok(())
}

/// Which life of the log the stream is now.
pub(super) async fn look(nats: &Nats) -> Result<StreamFacts, StreamError> {
    let info = nats.info().await?.ok_or_else(|| StreamError::Unfit {
        stream: nats.stream().to_owned(),
        problems: "it was deleted".to_owned(),
    })?;
    facts(nats.stream(), &info)
}

/// How the stream is made.
fn config(settings: &JetStreamSettings) -> Value {
    let stream = &settings.stream;
    let max_bytes = match settings.max_bytes {
        0 => json!(-1),
        bytes => json!(bytes),
    };
    json!({
        "name": stream,
        "description": "the log of chat",
        "subjects": [Subjects::new(stream).all()],
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "num_replicas": settings.replicas,
        "max_bytes": max_bytes,
        "allow_direct": true,
        "allow_atomic": true,
        "metadata": { EPOCH: Epoch::new().to_string(), FORMAT_KEY: FORMAT },
    })
}

fn facts(stream: &str, info: &Value) -> Result<StreamFacts, StreamError> {
    let config = &info["config"];
    let metadata = &config["metadata"];
    let restoring = !metadata[RESTORING].is_null();
    if let Some(found) = metadata[FORMAT_KEY].as_str()
        && found != FORMAT
        && !restoring
    {
        return Err(StreamError::TooNew {
            stream: stream.to_owned(),
            found: found.to_owned(),
        });
    }
    let epoch = metadata[EPOCH].as_str().and_then(parse_epoch);
    let mut problems = problems(config, &Subjects::new(stream).all());
    if epoch.is_none() {
        problems.push("it was not made by chat server".to_owned());
    }
    match epoch {
        Some(epoch) if problems.is_empty() => Ok(StreamFacts {
            epoch,
            newest: Seq::new(info["state"]["last_seq"].as_u64().unwrap_or_default()),
            replicas: usize::try_from(config["num_replicas"].as_u64().unwrap_or(1)).unwrap_or(1),
            entries: info["state"]["messages"].as_u64().unwrap_or_default(),
            restoring,
        }),
        _ => Err(StreamError::Unfit {
            stream: stream.to_owned(),
            problems: problems.join("; "),
        }),
    }
}

/// What would break a promise.
fn problems(config: &Value, subjects: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut expect = |key: &str, good: bool, why: &str| {
        if !good {
            let value = &config[key];
            problems.push(format!("{key} is {value}, {why}"));
        }
    };
    let is = |key: &str, value: &Value| config[key] == *value;
    let unlimited = |key: &str| config[key].as_i64().is_none_or(|limit| limit <= 0);
    expect(
        "subjects",
        is("subjects", &json!([subjects])),
        "which is to be its name's alone",
    );
    expect(
        "storage",
        is("storage", &json!("file")),
        "and what is acknowledged must be on disk",
    );
    expect(
        "retention",
        is("retention", &json!("limits")),
        "so messages would go away once read",
    );
    expect(
        "discard",
        is("discard", &json!("new")),
        "so the oldest would be lost when it is full",
    );
    expect(
        "allow_direct",
        is("allow_direct", &json!(true)),
        "so it cannot be read",
    );
    expect(
        "allow_atomic",
        is("allow_atomic", &json!(true)),
        "so batches are not stored as a whole",
    );
    expect(
        "max_age",
        unlimited("max_age"),
        "so messages would be lost, and their ids",
    );
    expect(
        "max_msgs",
        unlimited("max_msgs"),
        "and rooms limit themselves",
    );
    expect(
        "max_msgs_per_subject",
        unlimited("max_msgs_per_subject"),
        "and rooms limit themselves",
    );
    expect(
        "deny_delete",
        !is("deny_delete", &json!(true)),
        "so nothing can be erased",
    );
    expect(
        "deny_purge",
        !is("deny_purge", &json!(true)),
        "so nothing can be retired",
    );
    expect(
        "sealed",
        !is("sealed", &json!(true)),
        "so nothing can be added",
    );
    expect(
        "no_ack",
        !is("no_ack", &json!(true)),
        "so nothing is acknowledged",
    );
    expect("mirror", config["mirror"].is_null(), "so it is another's");
    expect(
        "persist_mode",
        !is("persist_mode", &json!("async")),
        "so it answers before it stores",
    );
    problems
}

fn parse_epoch(text: &str) -> Option<Epoch> {
    let number = u64::from_str_radix(text, 16).ok()?;
    Some(Epoch::from_bytes(number.to_be_bytes()))
}

/// Whether a server of `version` can do what a log needs.
fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map(|part| part.parse::<u64>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) >= OLDEST_SERVER,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_too_old_is_told_from_one_that_is_not() {
        for (version, good) in [
            ("2.9.10", false),
            ("2.11.99", false),
            ("2.12.0", true),
            ("2.15.1", true),
            ("3.0.0-beta.1", true),
            ("", false),
            ("go", false),
        ] {
            assert_eq!(is_new_enough(version), good, "{version}");
        }
        let error = StreamError::TooOld {
            version: "2.9.10".to_owned(),
        };
        assert!(error.to_string().contains("needs 2.12 or newer"), "{error}");
    }

    #[test]
    fn an_epoch_is_read_as_it_was_written() {
        let epoch = Epoch::new();
        assert_eq!(parse_epoch(&epoch.to_string()), Some(epoch));
    }

    fn good() -> Value {
        json!({
            "config": {
                "name": "chat", "subjects": ["chat.>"], "storage": "file", "retention": "limits",
                "discard": "new", "num_replicas": 3, "max_bytes": -1, "allow_direct": true,
                "allow_atomic": true, "max_age": 0, "max_msgs": -1, "max_msgs_per_subject": -1,
                "metadata": { EPOCH: "00000000000000ff", FORMAT_KEY: FORMAT },
            },
            "state": { "last_seq": 7 },
        })
    }

    #[test]
    fn a_stream_that_would_lose_messages_is_refused_with_all_that_is_wrong() {
        let facts_of = |info: &Value| facts("chat", info);
        let found = facts_of(&good()).unwrap();
        assert_eq!((found.newest, found.replicas), (Seq::new(7), 3));
        let mut bad = good();
        bad["config"]["discard"] = json!("old");
        bad["config"]["max_age"] = json!(1_000_000_000_u64);
        bad["config"]["metadata"] = json!({});
        let error = facts_of(&bad).unwrap_err().to_string();
        for part in ["discard", "max_age", "not made by chat"] {
            assert!(error.contains(part), "{error}");
        }
        let mut newer = good();
        newer["config"]["metadata"][FORMAT_KEY] = json!("2");
        assert!(matches!(facts_of(&newer), Err(StreamError::TooNew { .. })));
    }
}
