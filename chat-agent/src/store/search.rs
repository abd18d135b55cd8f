//! Finding what was said, in the rooms that somebody may read.

use super::wording::{fold, question};
use protocol::{
    Committed, Epoch, Room, Seq, Timestamp, UserName,
    limits::MAX_PAGE_BYTES,
    local::{Author, Hit, SearchMark, SearchQuery},
};
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
    number: i64,
    committed_at: i64,
    room_id: i64,
    seq: i64,
}

impl Spot {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            number: row.get(0)?,
            committed_at: row.get(1)?,
            room_id: row.get(2)?,
            seq: row.get(3)?,
        })
    }
}

/// Looks for messages of `places`, whose index has them, that are older than `mark`. `None` if
/// there is no such mark.
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
    let mut end = (i64::MAX, i64::MAX, i64::MAX);
    if mark != NEWEST {
        let Some(spot) = spot(connection, mark)? else {
            return Ok(None);
        };
        end = (spot.committed_at, spot.room_id, spot.seq);
    }
    if let Some(before) = query.before {
        end = end.min((micros(before), 0, 0));
    }
    let since = query.since.map_or(0, micros);
    let words: Vec<String> = query.words.iter().map(|word| fold(word)).collect();
    let question = question(&words);
    let places: HashMap<i64, &Place> = places.iter().map(|one| (one.room_id, one)).collect();
    let rooms = list(places.keys());

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
    let mut rows = statement.query(params![end.0, end.1, end.2, since, rooms, question])?;
    let mut found = Found {
        hits: Vec::new(),
        next: None,
    };
    let (mut examined, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        let spot = Spot::read(row)?;
        let seq = Seq::new(u64::try_from(spot.seq).unwrap_or_default());
        if let Some(Place { epoch, room, .. }) = places.get(&spot.room_id).copied()
            && let Some(message) = log::at(connection, *epoch, room, seq)?
            && is_meant(&message, query.from.as_ref(), &words)
        {
            bytes += message.body.as_bytes().len();
            let epoch = *epoch;
            found.hits.push(Hit { epoch, message });
        }
        examined += 1;
        if found.hits.len() >= limit || bytes >= MAX_PAGE_BYTES || examined >= EXAMINED {
            found.next = u64::try_from(spot.number).ok().map(SearchMark);
            break;
        }
    }
    Ok(Some(found))
}

fn spot(connection: &Connection, mark: SearchMark) -> Result<Option<Spot>, StoreError> {
    let Ok(number) = i64::try_from(mark.0) else {
        return Ok(None);
    };
    let found = connection
        .prepare_cached(
            "SELECT number, committed_at, room_id, seq FROM findable WHERE number = ?1",
        )?
        .query_row([number], Spot::read)
        .optional()?;
    Ok(found)
}

/// Whether a message is by the author looked for, and has all of `words`, which are folded.
fn is_meant(message: &Committed, from: Option<&Author>, words: &[String]) -> bool {
    let by_author = match from {
        None => true,
        Some(Author::Nick(nick)) => message.author.nick == *nick,
        Some(Author::User(user)) => message.author == *user,
    };
    if !by_author || words.is_empty() {
        return by_author;
    }
    let Ok(content) = message.body.decode() else {
        return false;
    };
    let text = content.text().map(fold).unwrap_or_default();
    words.iter().all(|word| text.contains(word.as_str()))
}

/// Numbers as a JSON array, which SQLite can read as a table.
fn list<'a>(numbers: impl Iterator<Item = &'a i64>) -> String {
    let numbers: Vec<String> = numbers.map(i64::to_string).collect();
    format!("[{}]", numbers.join(","))
}

fn micros(time: Timestamp) -> i64 {
    // As they are stored.
    i64::try_from(time.micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
