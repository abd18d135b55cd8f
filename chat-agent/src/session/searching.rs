//! `Search`: which questions are answered, and when.

use super::{Services, check::may_use};
use crate::store::{
    Command,
    outbox::{self, Pending},
    search::{Found, NEWEST, Place, Reader, behind, find},
};
use protocol::{
    Room, UserName,
    limits::{MAX_PAGE_ENTRIES, MAX_SEARCH_WORD_BYTES, MAX_SEARCH_WORDS},
    local::{Refusal, Reply, SearchMark, SearchQuery},
};
use std::time::Duration;
use tokio::{sync::oneshot, time::Instant};

/// How long a search waits for the index to take in an old file, before the terminal is told to
/// ask again: well below the 30 seconds after which it would give the agent up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether a search makes sense, which has to look for something.
pub(super) fn check_search(query: &SearchQuery) -> Result<(), Refusal> {
    if *query == SearchQuery::default() {
        let reason = "a search needs a word, or a room, author or time".to_owned();
        return Err(Refusal::BadText { reason });
    }
    check_query(query)
}

/// Whether what is looked for is within the limits.
pub(super) fn check_query(query: &SearchQuery) -> Result<(), Refusal> {
    let words = &query.words;
    let is_long = |word: &&String| word.len() > MAX_SEARCH_WORD_BYTES;
    let reason = if words.len() > MAX_SEARCH_WORDS {
        format!(
            "a search has at most {MAX_SEARCH_WORDS} words, this one has {}",
            words.len()
        )
    } else if let Some(word) = words.iter().find(is_long) {
        format!(
            "a word of a search is at most {MAX_SEARCH_WORD_BYTES} bytes, this one has {}",
            word.len()
        )
    } else if words.iter().any(String::is_empty) {
        "a word of a search cannot be empty".to_owned()
    } else {
        return Ok(());
    };
    Err(Refusal::BadText { reason })
}

impl Services {
    /// Answers a search that was checked.
    ///
    /// Everything that was in the log when it began can be found: what the index does not have
    /// yet, it is given first, or if that cannot be, as on a full disk, it is read now.
    pub(super) async fn search(
        &self,
        user: UserName,
        query: SearchQuery,
        older_than: Option<SearchMark>,
        limit: u32,
    ) -> Result<Reply, Refusal> {
        let rooms = self.hub.rooms_of(&user.nick);
        if let Some(room) = &query.room {
            may_use(room, &user)?;
            if !matches!(room, Room::Direct(_)) && !rooms.contains(room) {
                return Err(Refusal::BadText {
                    reason: format!(
                        "{user} is not in {room}, and can search only rooms they have joined"
                    ),
                });
            }
        }
        let reader = Reader {
            user,
            rooms,
            local_epoch: self.hub.local_epoch(),
            server_epoch: self.hub.server_epoch(),
        };
        let room = query.room.clone();
        let places = move |connection: &_| reader.places(connection, room.as_ref());
        let places = self.read(places).await?;
        let mark = older_than.unwrap_or(NEWEST);
        let Some(places) = self.index(places).await? else {
            return Ok(Reply::Found {
                hits: Vec::new(),
                next: Some(mark),
            });
        };
        let limit = (limit as usize).clamp(1, MAX_PAGE_ENTRIES);
        let found = move |connection: &_| find(connection, &places, &query, mark, limit);
        match self.read(found).await? {
            Some(Found { hits, next }) => Ok(Reply::Found { hits, next }),
            None => Err(Refusal::BadText {
                reason: format!("{} is no mark of this agent: search anew", mark.0),
            }),
        }
    }

    /// Has everything indexed that `places` had when the search began. `None` if that takes long.
    async fn index(&self, mut places: Vec<Place>) -> Result<Option<Vec<Place>>, Refusal> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let look = move |connection: &_| Ok((behind(connection, &places)?, places));
            let rooms;
            (rooms, places) = self.read(look).await?;
            if rooms.is_empty() {
                return Ok(Some(places));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            let (done, indexed) = oneshot::channel();
            self.writer
                .submit(Command::Index { rooms, done })
                .await
                .map_err(|_| Refusal::ShuttingDown)?;
            if indexed.await.map_err(|_| Refusal::ShuttingDown)?.is_err() {
                // To read never needs to write. Status says what is wrong.
                return Ok(Some(places));
            }
        }
    }

    /// Lists what `user` has in the outbox, as far as a checked `query` looks for it.
    pub(super) async fn pending(
        &self,
        user: UserName,
        query: SearchQuery,
        after: Option<SearchMark>,
    ) -> Result<Reply, Refusal> {
        if let Some(room) = &query.room {
            may_use(room, &user)?;
        }
        let look = move |connection: &_| outbox::pending(connection, &user, &query, after);
        let Pending { messages, next } = self.read(look).await?;
        Ok(Reply::Pending { messages, next })
    }
}
