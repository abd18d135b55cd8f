//! Finding what was said, in the rooms that somebody may read.

mod rest;

use super::wording::{fold, question};
use protocol::{
    Content, EncodedBody, Epoch, Room, Seq, Timestamp, UserName,
    limits::MAX_PAGE_BYTES,
    local::{Author, Hit, SearchMark, SearchQuery},
};
use rest::Rest;
use room_log::{StoreError, log};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::{BTreeSet, HashMap};

/// Messages that are read for one page, found or not: some tenths of a second.
const EXAMINED: usize = 20_000;

/// The mark before everything, of a page that was not begun.
pub const NEWEST: SearchMark = SearchMark(u64::MAX);

/// A room that is searched.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its number in this file.
    pub room_id: i64,
    /// Its log's life.
    pub epoch: Epoch,
    /// Which room.
    pub room: Room,
    /// Its newest message when the search began.
    head: i64,
}

/// Whose rooms are searched, and in which lives of the logs.
#[derive(Debug)]
pub struct Reader {
    /// Who searches.
    pub user: UserName,
    /// The `#rooms` and `&rooms` they are a member of.
    pub rooms: BTreeSet<Room>,
    /// Of this host's log.
    pub local_epoch: Epoch,
    /// Of the server's log.
    pub server_epoch: Epoch,
}

impl Reader {
    fn may_read(&self, room: &Room) -> bool {
        match room {
            Room::Direct(direct) => direct.includes(&self.user),
            Room::Federated(_) | Room::Local(_) => self.rooms.contains(room),
        }
    }

    fn epoch_of(&self, room: &Room) -> Epoch {
        if room.is_local_to(&self.user.host) {
            self.local_epoch
        } else {
            self.server_epoch
        }
    }

    /// The rooms this reader may read that are here; only `room` if it is given.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn places(
        &self,
        connection: &Connection,
        room: Option<&Room>,
    ) -> Result<Vec<Place>, StoreError> {
        let mut statement = connection.prepare_cached(
            "SELECT room_id, epoch, name, head FROM rooms
             WHERE epoch IN (?1, ?2) AND (?3 IS NULL OR name = ?3)",
        )?;
        let mut rows = statement.query(params![
            self.local_epoch.to_bytes(),
            self.server_epoch.to_bytes(),
            room.map(Room::as_str)
        ])?;
        let mut places = Vec::new();
        while let Some(row) = rows.next()? {
            let name: String = row.get(2)?;
            let room = Room::parse(&name).map_err(|_| StoreError::BadValue {
                what: "room",
                value: name,
            })?;
            let epoch = Epoch::from_bytes(row.get(1)?);
            if self.may_read(&room) && self.epoch_of(&room) == epoch {
                places.push(Place {
                    room_id: row.get(0)?,
                    epoch,
                    room,
                    head: row.get(3)?,
                });
            }
        }
        Ok(places)
    }
}

/// Which of these rooms have messages that are not indexed and were there when the search began.
///
/// # Errors
///
/// [`StoreError`].
pub fn behind(connection: &Connection, places: &[Place]) -> Result<Vec<i64>, StoreError> {
    let mut indexed = connection.prepare_cached("SELECT seq FROM indexed WHERE room_id = ?1")?;
    let mut behind = Vec::new();
    for place in places {
        let seq: Option<i64> = indexed
            .query_row([place.room_id], |row| row.get(0))
            .optional()?;
        if seq.unwrap_or(0) < place.head {
            behind.push(place.room_id);
        }
    }
    Ok(behind)
}

/// A page of what was found, newest first, and where to look on.
#[derive(Debug)]
pub struct Found {
    /// At most as many as asked for.
    pub hits: Vec<Hit>,
    /// `None` if there is nothing older.
    pub next: Option<SearchMark>,
}

/// Where a message stands among all of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spot {
    /// To turn pages by; `None` if no page can end there.
    mark: Option<SearchMark>,
    committed_at: i64,
    room_id: i64,
    seq: i64,
}

/// A mark that is no number of the index says room and seq; this is set in it.
const UNINDEXED: u64 = 1 << 63;
/// Bits of its seq.
const SEQ_BITS: u32 = 43;

impl Spot {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let number: i64 = row.get(0)?;
        Ok(Self {
            mark: u64::try_from(number).ok().map(SearchMark),
            committed_at: row.get(1)?,
            room_id: row.get(2)?,
            seq: row.get(3)?,
        })
    }

    /// Of a message that the index does not have.
    fn unindexed(committed_at: i64, room_id: i64, seq: i64) -> Self {
        let fits = |number: i64, bits: u32| {
            let number = u64::try_from(number).ok()?;
            (number < (1 << bits) - 1).then_some(number)
        };
        let room = fits(room_id, u64::BITS - 1 - SEQ_BITS);
        let mark = room.zip(fits(seq, SEQ_BITS));
        Self {
            mark: mark.map(|(room, seq)| SearchMark(UNINDEXED | room << SEQ_BITS | seq)),
            committed_at,
            room_id,
            seq,
        }
    }

    /// The one order of all messages.
    const fn order(&self) -> (i64, i64, i64) {
        (self.committed_at, self.room_id, self.seq)
    }
}

/// What is looked for in a message.
#[derive(Debug)]
pub struct Wanted<'a> {
    from: Option<&'a Author>,
    /// As they are compared.
    words: Vec<String>,
}

impl<'a> Wanted<'a> {
    /// What `query` wants of author and text.
    #[must_use]
    pub fn of(query: &'a SearchQuery) -> Self {
        Self {
            from: query.from.as_ref(),
            words: query.words.iter().map(|word| fold(word)).collect(),
        }
    }

    /// Whether a message by `author` is meant.
    fn includes(&self, author: &UserName, content: &Content) -> bool {
        let text = content.text().map(fold).unwrap_or_default();
        self.is_by(author) && self.words.iter().all(|word| text.contains(word.as_str()))
    }

    /// Whether a message by `author` is meant; without words also one that cannot be read here.
    #[must_use]
    pub fn admits(&self, author: &UserName, body: &EncodedBody) -> bool {
        if !self.is_by(author) || self.words.is_empty() {
            return self.is_by(author);
        }
        body.decode()
            .is_ok_and(|content| self.includes(author, &content))
    }

    fn is_by(&self, author: &UserName) -> bool {
        match self.from {
            None => true,
            Some(Author::Nick(nick)) => author.nick == *nick,
            Some(Author::User(user)) => author == user,
        }
    }
}

/// Looks for messages of `places` that are older than `mark`. `None` if there is no such mark.
///
/// What the index does not have of what was there when the search began is read instead: that is
/// slower, and needs no room on the disk.
///
/// Time, then room, then seq is the one order of all messages, so that turning pages neither
/// skips nor repeats one, whatever is said or indexed meanwhile.
///
/// # Errors
///
/// [`StoreError`].
pub fn find(
    connection: &Connection,
    places: &[Place],
    query: &SearchQuery,
    mark: SearchMark,
    limit: usize,
) -> Result<Option<Found>, StoreError> {
    // One state of the file, of which each message is indexed or not. It ends unchanged.
    let snapshot = connection.unchecked_transaction()?;
    let connection: &Connection = &snapshot;
    let mut end = (i64::MAX, i64::MAX, i64::MAX);
    if mark != NEWEST {
        let Some(spot) = spot(connection, mark)? else {
            return Ok(None);
        };
        end = spot.order();
    }
    if let Some(before) = query.before {
        end = end.min((micros(before), 0, 0));
    }
    let since = query.since.map_or(0, micros);
    let wanted = Wanted::of(query);
    let question = question(&wanted.words);
    let places: HashMap<i64, &Place> = places.iter().map(|one| (one.room_id, one)).collect();
    let rooms = list(places.keys());
    let Rest { spots, gone } = Rest::read(connection, places.values().copied(), &wanted)?;
    let mut rest = spots
        .into_iter()
        .filter(|spot| spot.order() < end && spot.committed_at >= since)
        .peekable();

    // The order of the joined tables is given, as SQLite would rather ask the index for each
    // message than each answer of the index for its message.
    let sql = if question.is_some() {
        "SELECT number, committed_at, room_id, seq
         FROM trigrams CROSS JOIN findable ON number = trigrams.rowid
         WHERE trigrams MATCH ?6 AND gone = 0 AND (committed_at, room_id, seq) < (?1, ?2, ?3)
         AND committed_at >= ?4 AND room_id IN (SELECT value FROM json_each(?5))
         ORDER BY committed_at DESC, room_id DESC, seq DESC"
    } else {
        "SELECT number, committed_at, room_id, seq FROM findable INDEXED BY findable_by_time
         WHERE ?6 IS NULL AND gone = 0 AND (committed_at, room_id, seq) < (?1, ?2, ?3)
         AND committed_at >= ?4 AND room_id IN (SELECT value FROM json_each(?5))
         ORDER BY committed_at DESC, room_id DESC, seq DESC"
    };
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query(params![end.0, end.1, end.2, since, rooms, question])?;
    let mut indexed = rows
        .mapped(Spot::read)
        .filter(|spot| {
            let is_gone = |spot: &Spot| gone.contains(&(spot.room_id, spot.seq));
            !spot.as_ref().is_ok_and(is_gone)
        })
        .peekable();
    let mut found = Found {
        hits: Vec::new(),
        next: None,
    };
    let (mut examined, mut bytes) = (0, 0);
    loop {
        let is_newer = match (rest.peek(), indexed.peek()) {
            (Some(one), Some(Ok(other))) => one.order() > other.order(),
            (Some(_), None) => true,
            (None, _) | (_, Some(Err(_))) => false,
        };
        let spot = if is_newer {
            rest.next()
        } else {
            indexed.next().transpose()?
        };
        let Some(spot) = spot else {
            break;
        };
        let seq = Seq::new(u64::try_from(spot.seq).unwrap_or_default());
        if let Some(Place { epoch, room, .. }) = places.get(&spot.room_id).copied()
            && let Some(message) = log::at(connection, *epoch, room, seq)?
            && wanted.admits(&message.author, &message.body)
        {
            bytes += message.body.as_bytes().len();
            let epoch = *epoch;
            found.hits.push(Hit { epoch, message });
        }
        examined += 1;
        let is_full = found.hits.len() >= limit || bytes >= MAX_PAGE_BYTES || examined >= EXAMINED;
        if is_full && spot.mark.is_some() {
            found.next = spot.mark;
            break;
        }
    }
    Ok(Some(found))
}

fn spot(connection: &Connection, mark: SearchMark) -> Result<Option<Spot>, StoreError> {
    let found = if mark.0 & UNINDEXED == 0 {
        connection
            .prepare_cached(
                "SELECT number, committed_at, room_id, seq FROM findable WHERE number = ?1",
            )?
            .query_row([mark.0], Spot::read)
    } else {
        let room_id = (mark.0 & !UNINDEXED) >> SEQ_BITS;
        let seq = mark.0 & ((1 << SEQ_BITS) - 1);
        connection
            .prepare_cached(
                "SELECT 0, committed_at, room_id, seq FROM messages
                 WHERE room_id = ?1 AND seq = ?2",
            )?
            .query_row([room_id, seq], Spot::read)
    };
    Ok(found.optional()?)
}

/// Numbers as a JSON array, which SQLite can read as a table.
fn list<'a>(numbers: impl Iterator<Item = &'a i64>) -> String {
    let numbers: Vec<String> = numbers.map(i64::to_string).collect();
    format!("[{}]", numbers.join(","))
}

/// A time as it is stored.
#[must_use]
pub fn micros(time: Timestamp) -> i64 {
    i64::try_from(time.micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
