//! A log that is moved here from another place.
//!
//! The stream is made for it, and says in its metadata that it is not whole until everything in it was
//! read back: no server uses it before. Nothing serves it meanwhile, so what is written needs no
//! judge: rooms, people and acts are commands that say what they are, not what led to them.

use super::{
    entry::{Command, Remains, restored, tombstone},
    settings::JetStreamSettings,
    stream::{self, StreamError},
    subject::Subjects,
};
use crate::{
    log::{Encoded, Part, RestoreError},
    nats::{Entry, Nats, PublishError},
};
use protocol::{Committed, Epoch, MessageId, Room, Seq, UserName};

/// Entries, and bytes of them, that are stored together.
const BATCH_ENTRIES: usize = 500;
const BATCH_BYTES: usize = 4 << 20;

/// What is added to the name of who waits for a command: nobody does.
const TICKET: u64 = 0;

/// A stream that a log is written into.
#[derive(Debug)]
pub(crate) struct JetStreamRestore {
    nats: Nats,
    subjects: Subjects,
    pending: Vec<Pending>,
    bytes: usize,
    /// The last entry: nobody else may write.
    last: Seq,
}

#[derive(Debug)]
struct Pending {
    entry: Entry,
    /// The message that this is the remains of.
    erased: Option<(Room, MessageId, UserName)>,
}

impl JetStreamRestore {
    /// Makes the stream, marked as one that is not whole; removes one that an earlier attempt left so.
    /// Returns whether there was one.
    pub(crate) async fn begin(settings: &JetStreamSettings) -> Result<(Self, bool), RestoreError> {
        let connected = Box::pin(Nats::connect(settings, Epoch::new().to_string())).await;
        let nats = connected.map_err(|reason| {
            RestoreError::Nats(format!("cannot connect to {}: {reason}", settings.servers))
        })?;
        let again = stream::make_to_restore(&nats, settings, nats.instance()).await?;
        let this = Self {
            nats,
            subjects: Subjects::new(&settings.stream),
            pending: Vec::new(),
            bytes: 0,
            last: Seq::START,
        };
        Ok((this, again))
    }

    /// Writes a part behind those before.
    pub(crate) async fn put(&mut self, part: Part) -> Result<(), RestoreError> {
        match part {
            Part::Room { room, state } => self.command(&Command::Restored { room, state }).await,
            Part::People {
                room,
                members,
                kicked,
            } => {
                self.command(&Command::RestoredPeople {
                    room,
                    members,
                    kicked,
                })
                .await
            }
            Part::Made { host, rooms } => self.command(&Command::Made { host, rooms }).await,
            Part::Messages(messages) => {
                for message in messages {
                    self.message(message).await?;
                }
                Ok(())
            }
            Part::Gone { room, ids } => {
                for (id, _) in ids {
                    // Something else stands now at the place that it had.
                    let (seq, author) = (Seq::START, None);
                    let remains = Remains { seq, id, author };
                    let entry = tombstone(&self.subjects, &room, &remains);
                    self.push(entry, None).await?;
                }
                Ok(())
            }
        }
    }

    async fn message(&mut self, message: Committed) -> Result<(), RestoreError> {
        if !message.body.is_act() && !message.body.is_erased() {
            let entry = restored(&self.subjects, &message);
            return self.push(entry, None).await;
        }
        let erased = message
            .body
            .is_erased()
            .then(|| (message.room.clone(), message.id, message.author.clone()));
        let command = Command::Record {
            room: message.room,
            id: message.id,
            author: message.author,
            sent_at: message.sent_at,
            committed_at: message.committed_at,
            body: Encoded(message.body.as_bytes().clone()),
        };
        let entry = self.entry(&command)?;
        self.push(entry, erased).await
    }

    async fn command(&mut self, command: &Command) -> Result<(), RestoreError> {
        let entry = self.entry(command)?;
        self.push(entry, None).await
    }

    fn entry(&self, command: &Command) -> Result<Entry, RestoreError> {
        let ticket = (self.nats.instance(), TICKET);
        let entry = command.entry(&self.subjects, ticket);
        entry.map_err(|error| RestoreError::Bad(error.to_string()))
    }

    async fn push(
        &mut self,
        entry: Entry,
        erased: Option<(Room, MessageId, UserName)>,
    ) -> Result<(), RestoreError> {
        self.bytes += entry.subject.len() + entry.payload.len();
        self.pending.push(Pending { entry, erased });
        if self.pending.len() < BATCH_ENTRIES && self.bytes < BATCH_BYTES {
            return Ok(());
        }
        self.flush().await
    }

    /// Writes what waits to be written together.
    pub(crate) async fn flush(&mut self) -> Result<(), RestoreError> {
        self.bytes = 0;
        let pending = std::mem::take(&mut self.pending);
        let (entries, erased): (Vec<_>, Vec<_>) = pending
            .into_iter()
            .map(|pending| (pending.entry, pending.erased))
            .unzip();
        let seqs = self.publish(entries).await?;
        // Their ids stay known as those of all erased messages do: with the place they had.
        let remains = erased.into_iter().zip(seqs).filter_map(|(erased, seq)| {
            let (room, id, author) = erased?;
            let author = Some(author);
            let remains = Remains { seq, id, author };
            Some(tombstone(&self.subjects, &room, &remains))
        });
        let remains: Vec<Entry> = remains.collect();
        self.publish(remains).await.map(drop)
    }

    async fn publish(&mut self, mut entries: Vec<Entry>) -> Result<Vec<Seq>, RestoreError> {
        let Some(first) = entries.first_mut() else {
            return Ok(Vec::new());
        };
        let last = self.last.number().to_string();
        first.headers.insert("Nats-Expected-Last-Sequence", last);
        let subjects: Vec<String> = entries.iter().map(|entry| entry.subject.clone()).collect();
        let seqs = match self.nats.publish(entries).await {
            Ok(seqs) => Ok(seqs),
            Err(PublishError::Taken) => self.taken(&subjects).await,
            Err(PublishError::Full(reason) | PublishError::Unknown(reason)) => {
                Err(RestoreError::Nats(reason))
            }
        }?;
        self.last = seqs.last().copied().unwrap_or(self.last);
        Ok(seqs)
    }

    /// Where entries are that are stored already, as they are when an answer was lost and they were sent
    /// again. One that stands twice in the file is found when all is read back.
    async fn taken(&self, subjects: &[String]) -> Result<Vec<Seq>, RestoreError> {
        let mut seqs = Vec::with_capacity(subjects.len());
        for subject in subjects {
            let last = self.nats.last(subject).await;
            match last.map_err(|error| RestoreError::Nats(error.to_string()))? {
                Some((seq, _)) => seqs.push(seq),
                None => {
                    let why = "an id is there twice in one room, or somebody else writes there";
                    return Err(RestoreError::Bad(why.to_owned()));
                }
            }
        }
        Ok(seqs)
    }

    /// Everything was written and read back: servers may use the stream.
    pub(crate) async fn end(self) -> Result<(), RestoreError> {
        Ok(stream::end_restoring(&self.nats, self.nats.instance(), self.last).await?)
    }
}

impl From<StreamError> for RestoreError {
    fn from(error: StreamError) -> Self {
        Self::Nats(error.to_string())
    }
}
