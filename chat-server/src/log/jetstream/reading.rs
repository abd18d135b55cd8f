//! Reading rooms: what was said is in the stream, acts and what remains of erased messages are in
//! the cache.

use super::{
    Shared,
    cache::Cache,
    entry::{Remains, read_said, read_tombstone},
    subject::{Place, Subjects},
};
use crate::nats::Stored;
use bytes::Bytes;
use futures_util::future::try_join_all;
use protocol::{
    Committed, EncodedBody, Epoch, HostName, MessageId, Room, Seq, Timestamp, UserName,
};
use room_log::{Head, StoreError, charters, log};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::{collections::HashSet, time::Duration};
use tokio::time::{sleep, timeout};

/// How long a command that is in the stream may take to be done here.
const CATCH_UP: Duration = Duration::from_secs(5);

/// How often a replica of the stream that is behind its leader is asked again, and how long after.
const STALE_READS: u32 = 50;
const STALE_PAUSE: Duration = Duration::from_millis(20);

/// How often one that does not know an id is asked again. The pause doubles from one to the next: it is
/// a second in the end, and two for all.
const STALE_LOOKUPS: u32 = 6;

/// Ids that the leader is asked for at a time.
const LEADER_LOOKUPS: usize = 64;

/// How far back the search for the message before another goes at a time, in the end.
const WIDEST_LOOK: u64 = 1 << 62;

/// How much of a page is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) entries: usize,
    pub(super) bytes: usize,
    /// Nothing from here on.
    pub(super) before: Seq,
}

impl Limits {
    /// A page as large as is good for working through a room.
    pub(super) const WIDE: Self = Self {
        entries: 1_000,
        bytes: 1 << 20,
        before: Seq::new(u64::MAX),
    };
}

/// A part of what was said.
struct Said {
    messages: Vec<Committed>,
    /// Everything up to here is in it.
    up_to: Seq,
    complete: bool,
}

impl Shared {
    /// Waits until all commands about `room` that are in the stream now are done here.
    pub(super) async fn catch_up(&self, room: &Room) -> Result<(), StoreError> {
        let newest = self.nats.last(&self.subjects.commands_about(room)).await?;
        match newest {
            Some((seq, _)) => self.applied_up_to(seq).await,
            None => Ok(()),
        }
    }

    /// Waits until the commands up to `seq` are done here.
    pub(super) async fn applied_up_to(&self, seq: Seq) -> Result<(), StoreError> {
        let mut applied = self.applied.subscribe();
        let done = applied.wait_for(|applied| *applied >= seq);
        match timeout(CATCH_UP, done).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(StoreError::Closed),
            Err(_) => Err(StoreError::Unreachable(
                "what was done in the room is not known here yet".to_owned(),
            )),
        }
    }

    /// One page of `room` after `after`; `None` if nobody of `host` may read it.
    pub(super) async fn page(
        &self,
        room: &Room,
        after: Seq,
        limits: Limits,
        host: Option<&HostName>,
    ) -> Result<Option<Vec<Committed>>, StoreError> {
        // No entry of the stream has such a number.
        if i64::try_from(after.number()).is_err() || limits.entries == 0 {
            return Ok(Some(Vec::new()));
        }
        loop {
            let said = self.said(room, after, limits).await?;
            let last = said.messages.last().map_or(after, |last| last.seq);
            // What is behind a kick is not read before the kick is known.
            if last > *self.applied.borrow() {
                self.catch_up(room).await?;
            }
            let (epoch, up_to, complete) = (self.epoch, said.up_to, said.complete);
            let (name, reader) = (room.clone(), host.cloned());
            let kept = self.cache.read(move |connection| {
                // All of one moment.
                let transaction = connection.unchecked_transaction()?;
                if let Some(host) = reader
                    && matches!(name, Room::Federated(_))
                    && !charters::has_reader(&transaction, &name, &host)?
                {
                    return Ok(None);
                }
                let entries = limits.entries.saturating_add(1);
                kept_after(&transaction, epoch, &name, after, entries).map(Some)
            });
            let Some(mut kept) = kept.await? else {
                return Ok(None);
            };
            // An act beyond what was read may have messages before it.
            kept.retain(|one| one.seq < limits.before);
            let beyond = kept.iter().find(|one| one.seq > up_to).map(|one| one.seq);
            kept.retain(|one| one.seq <= up_to);
            let merged = merge(said.messages, kept, after, limits);
            if merged.is_empty()
                && complete
                && let Some(beyond) = beyond
            {
                self.applied_up_to(beyond).await?;
                continue;
            }
            return Ok(Some(merged));
        }
    }

    /// What was said in `room` after `after`.
    async fn said(&self, room: &Room, after: Seq, limits: Limits) -> Result<Said, StoreError> {
        let filter = self.subjects.said(room);
        let from = after.number() + 1;
        for _ in 0..=STALE_READS {
            // Everything up to here is in the stream, and was given to this server.
            let known = *self.applied.borrow();
            let read = self
                .nats
                .read(&filter, from, limits.entries, limits.bytes)
                .await?;
            let (stored, complete) = read;
            let count = stored.len();
            let messages = stored
                .into_iter()
                .filter(|one| one.seq < limits.before)
                .map(|one| self.committed(one))
                .collect::<Result<Vec<_>, _>>()?;
            let cut = messages.len() < count;
            let last = messages.last().map_or(after, |last| last.seq);
            if complete && !cut && self.is_replicated() {
                let newest = self.nats.last(&filter).await?;
                if newest.is_some_and(|(newest, _)| newest > last) {
                    sleep(STALE_PAUSE).await;
                    continue;
                }
            }
            let up_to = match (cut, complete) {
                (true, _) => Seq::new(limits.before.number() - 1),
                (false, true) => last.max(known),
                (false, false) => last,
            };
            return Ok(Said {
                messages,
                up_to,
                complete: complete || cut,
            });
        }
        Err(behind())
    }

    /// A message as it is stored, without a neighbour.
    pub(super) fn committed(&self, stored: Stored) -> Result<Committed, StoreError> {
        let bad = |subject: String| StoreError::Unreachable(format!("not a message: {subject}"));
        let Stored {
            seq,
            subject,
            at,
            headers,
            payload,
        } = stored;
        match self.subjects.parse(&subject) {
            Some(Place::Said { room, id }) => {
                read_said((room, id), (seq, at), &headers, payload).ok_or_else(|| bad(subject))
            }
            _ => Err(bad(subject)),
        }
    }

    /// The newest message of `room`; `None` if there is no such room.
    pub(super) async fn head(&self, room: &Room) -> Result<Option<Head>, StoreError> {
        if let Some(head) = self.head_so_far(room).await? {
            return Ok(Some(head));
        }
        // It may have been made elsewhere a moment ago.
        self.catch_up(room).await?;
        self.head_so_far(room).await
    }

    /// The same, as far as commands are done here; waits for none.
    pub(super) async fn head_so_far(&self, room: &Room) -> Result<Option<Head>, StoreError> {
        let said = self.nats.last(&self.subjects.said(room)).await?;
        let said = said.map(|(seq, subject)| {
            let id = match self.subjects.parse(&subject) {
                Some(Place::Said { id, .. }) => Some(id),
                _ => None,
            };
            Head { seq, id }
        });
        let (epoch, name) = (self.epoch, room.clone());
        let kept = self
            .cache
            .read(move |connection| kept_head(connection, epoch, &name));
        let Some(kept) = kept.await? else {
            return Ok(said);
        };
        Ok(Some(match said {
            Some(said) if said.seq > kept.seq => said,
            _ => kept,
        }))
    }

    /// The message of `room` with this id.
    pub(super) async fn find(
        &self,
        room: &Room,
        id: MessageId,
    ) -> Result<Option<Committed>, StoreError> {
        let (epoch, name) = (self.epoch, room.clone());
        let kept = self
            .cache
            .read(move |connection| kept_with_id(connection, epoch, &name, id));
        let found = match kept.await? {
            Some(kept) => Some(kept),
            None => {
                let known = self.known(room, &[id]).await?;
                known.into_iter().find_map(|known| match known {
                    Known::Said(message) => Some(message),
                    Known::Remains(..) | Known::Act(_) => None,
                })
            }
        };
        let Some(mut found) = found else {
            return Ok(None);
        };
        found.prev_seq = self.before(room, found.seq).await?;
        Ok(Some(found))
    }

    /// The place of the message of `room` before `seq`: looks back twice as far each time, so that
    /// it takes few looks wherever that is.
    async fn before(&self, room: &Room, seq: Seq) -> Result<Seq, StoreError> {
        let mut width = 8_u64;
        loop {
            let after = Seq::new(seq.number().saturating_sub(width));
            let mut from = after;
            let mut found = None;
            // What lies between is read forward, to its end.
            loop {
                // No more than this can be between.
                let entries = usize::try_from(width).unwrap_or(usize::MAX);
                let limits = Limits {
                    entries: entries.min(Limits::WIDE.entries),
                    before: seq,
                    ..Limits::WIDE
                };
                let page = self.page(room, from, limits, None).await?;
                let Some(last) = page.unwrap_or_default().last().map(|last| last.seq) else {
                    break;
                };
                from = last;
                found = Some(last);
            }
            match found {
                Some(found) => return Ok(found),
                None if after == Seq::START || width >= WIDEST_LOOK => return Ok(Seq::START),
                None => width *= 2,
            }
        }
    }

    /// The id of what is at `seq` in `room`.
    pub(super) async fn id_at(
        &self,
        room: &Room,
        seq: Seq,
    ) -> Result<Option<MessageId>, StoreError> {
        if seq == Seq::START {
            return Ok(None);
        }
        let limits = Limits {
            entries: 1,
            bytes: 1,
            ..Limits::WIDE
        };
        let after = Seq::new(seq.number() - 1);
        let page = self
            .page(room, after, limits, None)
            .await?
            .unwrap_or_default();
        let first = page.first().filter(|first| first.seq == seq);
        Ok(first.map(|first| first.id))
    }

    /// Whether message `id` of `room` stands at `seq`, or did.
    pub(super) async fn was_at(
        &self,
        room: &Room,
        seq: Seq,
        id: MessageId,
    ) -> Result<bool, StoreError> {
        let (epoch, name) = (self.epoch, room.clone());
        let kept = self
            .cache
            .read(move |connection| kept_with_id(connection, epoch, &name, id));
        if let Some(kept) = kept.await? {
            return Ok(kept.seq == seq);
        }
        let known = self.known(room, &[id]).await?;
        Ok(known.iter().any(|known| match known {
            Known::Said(message) => message.seq == seq,
            Known::Remains(_, remains) => remains.seq == seq,
            Known::Act(_) => false,
        }))
    }

    /// Messages of which nothing remains but that they were, behind `after` of the stream: some, and
    /// where to go on; none at the end.
    pub(super) async fn gone(&self, mut after: Seq) -> Result<(Vec<Gone>, Seq), StoreError> {
        let filter = self.subjects.tombstones();
        let mut stale = 0;
        loop {
            let from = after.number() + 1;
            let read = self
                .nats
                .read(&filter, from, Limits::WIDE.entries, Limits::WIDE.bytes);
            let (stored, _) = read.await?;
            let Some(last) = stored.last() else {
                let newest = self.nats.last(&filter).await?;
                if newest.is_none_or(|(newest, _)| newest <= after) {
                    return Ok((Vec::new(), after));
                }
                stale += 1;
                if stale > STALE_READS {
                    return Err(behind());
                }
                sleep(STALE_PAUSE).await;
                continue;
            };
            after = last.seq;
            let mut gone = Vec::with_capacity(stored.len());
            for one in &stored {
                let Some(Place::Tombstone { room, id }) = self.subjects.parse(&one.subject) else {
                    continue;
                };
                let remains = read_tombstone(id, one);
                let seq = remains.map_or(Seq::START, |remains| remains.seq);
                gone.push(Gone { room, id, seq });
            }
            let epoch = self.epoch;
            // Of one that was erased it is known what remains at its place.
            let gone = self.cache.read(move |connection| {
                let mut rest = Vec::with_capacity(gone.len());
                for one in gone {
                    if kept_with_id(connection, epoch, &one.room, one.id)?.is_none() {
                        rest.push(one);
                    }
                }
                Ok(rest)
            });
            let gone = gone.await?;
            if !gone.is_empty() {
                return Ok((gone, after));
            }
        }
    }

    /// What has one of `ids` in `room`: 500 at most.
    pub(super) async fn known(
        &self,
        room: &Room,
        ids: &[MessageId],
    ) -> Result<Vec<Known>, StoreError> {
        let filters: Vec<String> = ids
            .iter()
            .map(|id| self.subjects.known(room, *id))
            .collect();
        self.known_by(&filters).await
    }

    /// What is under `filters`, which are of [`Subjects::known`].
    ///
    /// Any replica answers, so one that knows nothing is not believed before the leader says the same: a
    /// message that was taken is not refused, and one that is to be erased is not left.
    pub(super) async fn known_by(&self, filters: &[String]) -> Result<Vec<Known>, StoreError> {
        let mut pause = STALE_PAUSE;
        for _ in 0..=STALE_LOOKUPS {
            let stored = self.nats.lasts(filters).await?;
            if !self.is_replicated() || self.are_all(filters, &stored).await? {
                return self.read_known(stored);
            }
            sleep(pause).await;
            pause *= 2;
        }
        Err(behind())
    }

    /// Whether `found` are all that the leader knows under `filters`.
    async fn are_all(&self, filters: &[String], found: &[Stored]) -> Result<bool, StoreError> {
        let found: HashSet<String> = found
            .iter()
            .filter_map(|one| Subjects::known_by(&one.subject))
            .collect();
        let missing: Vec<&String> = filters
            .iter()
            .filter(|filter| !found.contains(*filter))
            .collect();
        for some in missing.chunks(LEADER_LOOKUPS) {
            let newest = try_join_all(some.iter().map(|filter| self.nats.last(filter))).await?;
            if newest.iter().any(Option::is_some) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn read_known(&self, stored: Vec<Stored>) -> Result<Vec<Known>, StoreError> {
        let mut known = Vec::with_capacity(stored.len());
        for one in stored {
            known.push(match self.subjects.parse(&one.subject) {
                Some(Place::Said { .. }) => Known::Said(self.committed(one)?),
                Some(Place::Tombstone { room, id }) => match read_tombstone(id, &one) {
                    Some(remains) => Known::Remains(room, remains),
                    None => continue,
                },
                Some(Place::Command) => Known::Act(one.subject),
                None => continue,
            });
        }
        Ok(known)
    }
}

fn behind() -> StoreError {
    StoreError::Unreachable("the replicas of the log are behind".to_owned())
}

/// A message that was kept for long enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) room: Room,
    pub(crate) id: MessageId,
    /// Where it was.
    pub(crate) seq: Seq,
}

/// What has an id already.
#[derive(Debug)]
pub(super) enum Known {
    /// A message.
    Said(Committed),
    /// What remains of one.
    Remains(Room, Remains),
    /// A command: its subject.
    Act(String),
}

/// Both kinds in order, each naming the one before it. What the cache keeps counts where both have
/// something: the words are to be gone.
fn merge(said: Vec<Committed>, kept: Vec<Committed>, after: Seq, limits: Limits) -> Vec<Committed> {
    let mut page: Vec<Committed> = Vec::with_capacity(said.len() + kept.len());
    let (mut said, mut kept) = (said.into_iter().peekable(), kept.into_iter().peekable());
    let (mut bytes, mut last) = (0, after);
    while page.len() < limits.entries && bytes < limits.bytes {
        let next = match (said.peek(), kept.peek()) {
            (Some(one), Some(other)) if one.seq < other.seq => said.next(),
            (Some(one), Some(other)) if one.seq == other.seq => {
                said.next();
                kept.next()
            }
            (_, Some(_)) => kept.next(),
            (_, None) => said.next(),
        };
        let Some(mut next) = next else {
            break;
        };
        bytes += next.body.as_bytes().len();
        next.prev_seq = last;
        last = next.seq;
        page.push(next);
    }
    page
}

const COLUMNS: &str = "SELECT seq, committed_at, id, author, sent_at, body FROM messages
    WHERE room_id = (SELECT room_id FROM rooms WHERE epoch = ?1 AND name = ?2)";

fn kept_after(
    connection: &Connection,
    epoch: Epoch,
    room: &Room,
    after: Seq,
    limit: usize,
) -> Result<Vec<Committed>, StoreError> {
    let sql = format!("{COLUMNS} AND seq > ?3 ORDER BY seq LIMIT ?4");
    let mut statement = connection.prepare_cached(&sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let parameters = params![epoch.to_bytes(), room.as_str(), after.number(), limit];
    let mut rows = statement.query(parameters)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(kept(row, room)?);
    }
    Ok(found)
}

/// What the cache has of `room` under `id`.
pub(super) fn kept_with_id(
    connection: &Connection,
    epoch: Epoch,
    room: &Room,
    id: MessageId,
) -> Result<Option<Committed>, StoreError> {
    let sql = format!("{COLUMNS} AND id = ?3");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![epoch.to_bytes(), room.as_str(), id.to_bytes()])?;
    match rows.next()? {
        Some(row) => kept(row, room).map(Some),
        None => Ok(None),
    }
}

fn kept(row: &Row<'_>, room: &Room) -> Result<Committed, StoreError> {
    let author: String = row.get(3)?;
    let body: Vec<u8> = row.get(5)?;
    Ok(Committed {
        room: room.clone(),
        seq: Seq::new(row.get(0)?),
        prev_seq: Seq::START,
        committed_at: Timestamp::from_micros(row.get(1)?),
        id: MessageId::from_bytes(row.get(2)?),
        author: UserName::parse(&author).map_err(|_| StoreError::bad("author", author))?,
        sent_at: Timestamp::from_micros(row.get(4)?),
        body: EncodedBody::from_bytes(Bytes::from(body))
            .map_err(|error| StoreError::bad("body", error))?,
    })
}

/// The newest that the cache has of `room`; `None` if there is no such room.
fn kept_head(
    connection: &Connection,
    epoch: Epoch,
    room: &Room,
) -> Result<Option<Head>, StoreError> {
    if log::head(connection, epoch, room)?.is_none() {
        return Ok(None);
    }
    let found = connection
        .prepare_cached(&format!("{COLUMNS} ORDER BY seq DESC LIMIT 1"))?
        .query_row(params![epoch.to_bytes(), room.as_str()], |row| {
            Ok(Head {
                seq: Seq::new(row.get(0)?),
                id: Some(MessageId::from_bytes(row.get(2)?)),
            })
        })
        .optional()?;
    Ok(Some(found.unwrap_or_default()))
}

impl Cache {
    /// Whether the room is known here.
    pub(super) async fn has_room(&self, epoch: Epoch, room: &Room) -> Result<bool, StoreError> {
        let room = room.clone();
        self.read(move |connection| Ok(log::head(connection, epoch, &room)?.is_some()))
            .await
    }
}
