//! What people write to search: words, and conditions such as `from:bob`.

use crate::when::{self, WhenError};
use jiff::tz::TimeZone;
use protocol::{
    NameError, Nick, Room, RoomError, Target, Timestamp, UserName,
    limits::{MAX_SEARCH_WORD_BYTES, MAX_SEARCH_WORDS},
    local::{Author, SearchQuery},
};
use thiserror::Error;

/// Why a text is no search.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QueryError {
    /// Nothing to look for.
    #[error("what is to be found? write words, room:ROOM, from:NICK, since:TIME or before:TIME")]
    Empty,
    /// A condition without its value.
    #[error("{condition}: is followed at once by its value")]
    NoValue {
        /// Which condition.
        condition: &'static str,
    },
    /// Both cannot hold.
    #[error("{condition}: is given twice")]
    Twice {
        /// Which condition.
        condition: &'static str,
    },
    /// No end of a text in quotes.
    #[error("the text that begins with a quote needs another one at its end")]
    OpenQuote,
    /// Not a room.
    #[error("room: {0}")]
    Room(#[source] RoomError),
    /// Not a person.
    #[error("from: {0}")]
    From(#[source] NameError),
    /// Not a time.
    #[error("{condition}: {reason}")]
    When {
        /// Which condition.
        condition: &'static str,
        /// What is wrong with it.
        #[source]
        reason: WhenError,
    },
    /// More words than can be looked for at once.
    #[error("a search has at most {MAX_SEARCH_WORDS} words, this one has {count}")]
    TooManyWords {
        /// Words given.
        count: usize,
    },
    /// A word that is longer than can be looked for.
    #[error("a word of a search is at most {MAX_SEARCH_WORD_BYTES} bytes, this one has {len}")]
    LongWord {
        /// Bytes given.
        len: usize,
    },
}

/// Reads a typed line: words and conditions between spaces. What stands in quotes is one text to
/// find, as it is: `"two words"`, `"from:home"`.
///
/// # Errors
///
/// [`QueryError`] says what to change.
pub fn parse(
    text: &str,
    me: &UserName,
    now: Timestamp,
    zone: &TimeZone,
) -> Result<SearchQuery, QueryError> {
    let mut reading = Reading::new(me, now, zone);
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end;
        if let Some(quoted) = rest.strip_prefix('"') {
            let (word, behind) = quoted.split_once('"').ok_or(QueryError::OpenQuote)?;
            reading.word(word)?;
            end = behind;
        } else {
            let (term, behind) = match rest.find(char::is_whitespace) {
                Some(at) => rest.split_at(at),
                None => (rest, ""),
            };
            reading.term(term)?;
            end = behind;
        }
        rest = end.trim_start();
    }
    reading.end()
}

/// Reads arguments of a command line: each is a condition or one text to find, also if it has
/// spaces. What stands in quotes that the shell has left there is a text in any case.
///
/// # Errors
///
/// [`QueryError`] says what to change.
pub fn parse_args<'a>(
    args: impl IntoIterator<Item = &'a str>,
    me: &UserName,
    now: Timestamp,
    zone: &TimeZone,
) -> Result<SearchQuery, QueryError> {
    let mut reading = Reading::new(me, now, zone);
    for arg in args {
        let inner = arg
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        match inner {
            Some(text) => reading.word(text)?,
            None => reading.term(arg)?,
        }
    }
    reading.end()
}

struct Reading<'a> {
    me: &'a UserName,
    now: Timestamp,
    zone: &'a TimeZone,
    query: SearchQuery,
}

impl<'a> Reading<'a> {
    fn new(me: &'a UserName, now: Timestamp, zone: &'a TimeZone) -> Self {
        Self {
            me,
            now,
            zone,
            query: SearchQuery::default(),
        }
    }

    /// A condition, or a word: most words with a colon are no conditions, `https://…` for one.
    fn term(&mut self, term: &str) -> Result<(), QueryError> {
        let (me, now, zone) = (self.me, self.now, self.zone);
        let query = &mut self.query;
        let when = |condition, value: &str| {
            when::parse(value, now, zone).map_err(|reason| QueryError::When { condition, reason })
        };
        match term.split_once(':') {
            Some(("room", value)) => put("room", &mut query.room, value, |value| {
                let target = Target::parse(value).map_err(QueryError::Room)?;
                Ok::<Room, _>(target.resolve(me))
            }),
            Some(("from", value)) => put("from", &mut query.from, value, |value| {
                author(value).map_err(QueryError::From)
            }),
            Some(("since", value)) => put("since", &mut query.since, value, |value| {
                when("since", value)
            }),
            Some(("before", value)) => put("before", &mut query.before, value, |value| {
                when("before", value)
            }),
            _ => self.word(term),
        }
    }

    fn word(&mut self, word: &str) -> Result<(), QueryError> {
        if word.len() > MAX_SEARCH_WORD_BYTES {
            return Err(QueryError::LongWord { len: word.len() });
        }
        if !word.is_empty() {
            self.query.words.push(word.to_owned());
        }
        Ok(())
    }

    fn end(self) -> Result<SearchQuery, QueryError> {
        let count = self.query.words.len();
        if count > MAX_SEARCH_WORDS {
            return Err(QueryError::TooManyWords { count });
        }
        if self.query == SearchQuery::default() {
            return Err(QueryError::Empty);
        }
        Ok(self.query)
    }
}

fn put<T>(
    condition: &'static str,
    place: &mut Option<T>,
    value: &str,
    parse: impl FnOnce(&str) -> Result<T, QueryError>,
) -> Result<(), QueryError> {
    if value.is_empty() {
        return Err(QueryError::NoValue { condition });
    }
    if place.is_some() {
        return Err(QueryError::Twice { condition });
    }
    *place = Some(parse(value)?);
    Ok(())
}

/// Whose messages are meant: of `nick` on whichever host, or of `nick@host`.
///
/// # Errors
///
/// [`NameError`] names the rule that `text` breaks.
pub fn author(text: &str) -> Result<Author, NameError> {
    if text.contains('@') {
        UserName::parse(text).map(Author::User)
    } else {
        Nick::parse(text).map(Author::Nick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::NOON;

    fn me() -> UserName {
        "alice@ada".parse().unwrap()
    }

    fn query(text: &str) -> Result<SearchQuery, QueryError> {
        parse(text, &me(), NOON, &TimeZone::UTC)
    }

    fn words(words: &[&str]) -> SearchQuery {
        SearchQuery {
            words: words.iter().map(|&word| word.to_owned()).collect(),
            ..SearchQuery::default()
        }
    }

    #[test]
    fn words_stand_between_spaces_or_in_quotes() {
        for (text, found) in [
            ("deploy", &["deploy"][..]),
            ("  two\twords \n", &["two", "words"]),
            ("\"two words\" more", &["two words", "more"]),
            ("\"a\"\"b\"c", &["a", "b", "c"]),
            ("世界", &["世界"]),
            ("5\" disk", &["5\"", "disk"]),
            ("\"from:home\"", &["from:home"]),
            ("\"\" x", &["x"]),
            (
                "https://a.b/c ::1 re: :",
                &["https://a.b/c", "::1", "re:", ":"],
            ),
            ("From:bob rooms:x", &["From:bob", "rooms:x"]),
            ("-- -x OR *", &["--", "-x", "OR", "*"]),
        ] {
            assert_eq!(query(text), Ok(words(found)), "{text}");
        }
    }

    #[test]
    fn conditions_are_read_wherever_they_stand() {
        let room = |text: &str| SearchQuery {
            room: Some(text.parse().unwrap()),
            ..SearchQuery::default()
        };
        assert_eq!(query("room:#ops"), Ok(room("#ops")));
        assert_eq!(query("room:&lobby"), Ok(room("&lobby")));
        assert_eq!(query("room:bob"), Ok(room("alice@ada,bob@ada")));
        assert_eq!(query("room:bob@bee"), Ok(room("alice@ada,bob@bee")));
        let all = query("from:bob since:2024-02-28 disk before:2h full").unwrap();
        let from = Some(Author::Nick(Nick::parse("bob").unwrap()));
        assert_eq!(
            (all.from, all.words),
            (from, words(&["disk", "full"]).words)
        );
        let day = Timestamp::from_micros(1_709_078_400_000_000);
        assert_eq!(all.since, Some(day));
        let hours = Timestamp::from_micros(NOON.micros() - 2 * 3_600_000_000);
        assert_eq!(all.before, Some(hours));
        let user = query("from:bob@bee").unwrap().from;
        assert_eq!(user, Some(Author::User("bob@bee".parse().unwrap())));
        assert!(query("since:14:30").unwrap().since.is_some());
        assert!(query("since:2024-02-28T10:00:00+01:00").is_ok());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let long = "x".repeat(257);
        let many = "x ".repeat(17);
        for (text, says) in [
            ("", "what is to be found"),
            (" \t", "what is to be found"),
            ("\"\"", "what is to be found"),
            ("\"open", "another one"),
            ("room:", "room: is followed"),
            ("x from: bob", "from: is followed"),
            ("room:#a room:#b", "room: is given twice"),
            ("since:1h since:2h", "since: is given twice"),
            ("room:no room", "x"),
            ("room:#a!b", "room: a room name cannot contain '!'"),
            ("from:#ops", "from: a nick cannot contain '#'"),
            ("since:yesterday", "since: \"yesterday\" is no time"),
            ("before:1960-01-01", "before: \"1960-01-01\" is before 1970"),
            (&long, "at most 256 bytes, this one has 257"),
            (&many, "at most 16 words, this one has 17"),
        ] {
            if text == "room:no room" {
                // Two terms: a conversation with somebody called so, and a word.
                assert_eq!(query(text).unwrap().words, ["room"]);
                continue;
            }
            let error = query(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }

    #[test]
    fn an_argument_is_one_text_also_with_spaces() {
        let args = |args: &[&str]| parse_args(args.iter().copied(), &me(), NOON, &TimeZone::UTC);
        assert_eq!(args(&["two words", "x"]), Ok(words(&["two words", "x"])));
        assert_eq!(args(&["\"room:x\"", "\""]), Ok(words(&["room:x", "\""])));
        let room = args(&["room:#ops", " x "]).unwrap();
        assert_eq!(room.room, Some("#ops".parse().unwrap()));
        assert_eq!(room.words, [" x "]);
        assert_eq!(args(&[""]), Err(QueryError::Empty));
    }
}
