//! What was promised to senders and what readers saw.

use crate::terminal::MessageLine;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, io, path::Path};

/// What a sender was told about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Accepted: from now on it must never get lost.
    Acknowledged,
    /// The sender was killed, or lost the agent, before it heard: it may be there, once.
    Unknown,
    /// Refused: it must not be there.
    Refused,
}

/// A message that somebody tried to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Send {
    /// `nick@host`.
    pub sender: String,
    /// Where to.
    pub room: String,
    /// What: never the same text twice in a history, except for retries under one key.
    pub body: String,
    /// What the sender was told.
    pub outcome: Outcome,
    /// The place it was told, if it was.
    pub seq: Option<u64>,
    /// The id it was told, if it was.
    pub id: Option<String>,
}

/// A message that a reader printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// Where.
    pub room: String,
    /// Its place there.
    pub seq: u64,
    /// Its id.
    pub id: String,
    /// Who said it.
    pub from: String,
    /// What.
    pub body: String,
}

impl From<&MessageLine> for Read {
    fn from(line: &MessageLine) -> Self {
        Self {
            room: line.room.clone(),
            seq: line.seq,
            id: line.id.clone(),
            from: line.from.clone(),
            body: line.body.clone(),
        }
    }
}

/// A whole run: every try of every sender, in the order of each, and every message of every
/// reader, in the order it was printed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Tries, each sender's in its order.
    pub sends: Vec<Send>,
    /// Messages by reader.
    pub reads: BTreeMap<String, Vec<Read>>,
}

impl History {
    /// One in which nothing has happened.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Records what a sender was told.
    pub fn sent(&mut self, send: Send) {
        self.sends.push(send);
    }

    /// Records what a reader printed, after what it printed before.
    pub fn read<'a>(&mut self, reader: &str, messages: impl IntoIterator<Item = &'a MessageLine>) {
        let reads = self.reads.entry(reader.to_owned()).or_default();
        reads.extend(messages.into_iter().map(Read::from));
    }

    /// How many messages were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        let acked = |send: &&Send| send.outcome == Outcome::Acknowledged;
        self.sends.iter().filter(acked).count()
    }

    /// Writes it down for a later look.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        fs::write(path, serde_json::to_vec(self)?)
    }

    /// Reads what [`History::save`] wrote.
    ///
    /// # Errors
    ///
    /// As the system says, or if it is something else.
    pub fn load(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_survives_the_disk() {
        let mut history = History::new();
        history.sent(Send {
            sender: "alice@ada".to_owned(),
            room: "#ops".to_owned(),
            body: "alice@ada 1".to_owned(),
            outcome: Outcome::Acknowledged,
            seq: Some(1),
            id: None,
        });
        history.reads.insert("bob@bee".to_owned(), Vec::new());
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("history.json");
        history.save(&path).expect("saved");
        assert_eq!(History::load(&path).expect("loaded"), history);
        assert_eq!(history.acknowledged(), 1);
    }
}
