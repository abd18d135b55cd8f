//! The last messages of each room, for what comes later and is about one of them.

use crate::render::{Quote, excerpt};
use protocol::{Committed, Content, MessageId, Nick, Room, UserName};
use std::collections::{HashMap, VecDeque};

/// Messages remembered of one room. Of each a beginning of some forty columns.
const PER_ROOM: usize = 200;

/// Rooms whose messages are remembered. One more pushes out another.
const ROOMS: usize = 256;

/// What was said last in each room, as far as this program has shown it.
#[derive(Debug, Default)]
pub struct Recall {
    rooms: HashMap<Room, VecDeque<Said>>,
}

/// A message that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Which message.
    pub id: MessageId,
    /// Who said it, and its beginning.
    pub quote: Quote,
}

/// Which of the last messages is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The newest so many back, from 1.
    Back(usize),
    /// The newest by somebody called so.
    By(Nick),
}

impl Recall {
    /// Takes the next message of a room; returns what it is about, if that is remembered.
    ///
    /// An edit or deletion by the message's own author changes what is remembered of it.
    pub fn take(&mut self, message: &Committed) -> Option<Quote> {
        let content = message.body.decode().ok()?;
        if self.rooms.len() >= ROOMS && !self.rooms.contains_key(&message.room) {
            let other = self.rooms.keys().next().cloned();
            other.and_then(|other| self.rooms.remove(&other));
        }
        let said = self.rooms.entry(message.room.clone()).or_default();
        let about = content
            .about()
            .and_then(|id| said.iter().position(|one| one.id == id));
        let quote = about.map(|index| said[index].quote.clone());
        match (&content, about) {
            // A room that is opened again begins with messages that were there before.
            (Content::Text(text) | Content::Action(text) | Content::Reply { text, .. }, _)
                if said.iter().all(|one| one.id != message.id) =>
            {
                if said.len() == PER_ROOM {
                    said.pop_front();
                }
                let (author, excerpt) = (message.author.clone(), excerpt(text));
                let quote = Quote { author, excerpt };
                let id = message.id;
                said.push_back(Said { id, quote });
            }
            (Content::Edit { text, .. }, Some(index))
                if said[index].quote.author == message.author =>
            {
                said[index].quote.excerpt = excerpt(text);
            }
            (Content::Delete { .. }, Some(index)) if said[index].quote.author == message.author => {
                said.remove(index);
            }
            _ => {}
        }
        quote
    }

    /// The message of `room` that is meant, among those by `me` or among those by others.
    #[must_use]
    pub fn find(&self, room: &Room, which: &Which, me: &UserName, mine: bool) -> Option<&Said> {
        let said = self.rooms.get(room)?;
        let mut candidates = said
            .iter()
            .rev()
            .filter(|one| (one.quote.author == *me) == mine);
        match which {
            Which::Back(number) => candidates.nth(number.checked_sub(1)?),
            Which::By(nick) => candidates.find(|one| one.quote.author.nick == *nick),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn id(number: u8) -> MessageId {
        MessageId::from_bytes([number; 16])
    }

    fn says(number: u8, author: &str, content: &Content) -> Committed {
        let mut message = sample::message("#ops", u64::from(number), author, "x");
        message.id = id(number);
        message.body = content.encode().unwrap();
        message
    }

    fn text(text: &str) -> Content {
        Content::Text(text.to_owned())
    }

    #[test]
    fn what_a_message_is_about_is_quoted_as_it_was() {
        let mut recall = Recall::default();
        assert_eq!(recall.take(&says(1, "bob@bee", &text("teh word"))), None);
        let edit = Content::Edit {
            of: id(1),
            text: "the word".to_owned(),
        };
        let quote = |excerpt: &str| {
            Some(Quote {
                author: "bob@bee".parse().unwrap(),
                excerpt: excerpt.to_owned(),
            })
        };
        // Somebody else's edit changes nothing.
        assert_eq!(recall.take(&says(2, "eve@bee", &edit)), quote("teh word"));
        assert_eq!(recall.take(&says(3, "bob@bee", &edit)), quote("teh word"));
        let reply = Content::Reply {
            to: id(1),
            text: "yes".to_owned(),
        };
        assert_eq!(recall.take(&says(4, "eve@bee", &reply)), quote("the word"));
        let delete = Content::Delete { of: id(1) };
        assert_eq!(recall.take(&says(5, "bob@bee", &delete)), quote("the word"));
        assert_eq!(recall.take(&says(6, "eve@bee", &reply)), None);
    }

    #[test]
    fn the_message_that_is_meant_is_found_among_ones_own_or_those_of_others() {
        let mut recall = Recall::default();
        for (number, author) in [
            (1, "bob@bee"),
            (2, "alice@ada"),
            (3, "carol@bee"),
            (4, "alice@ada"),
        ] {
            recall.take(&says(number, author, &text("hi")));
        }
        let me = "alice@ada".parse().unwrap();
        let room = "#ops".parse().unwrap();
        let find = |which, mine| recall.find(&room, &which, &me, mine).map(|said| said.id);
        assert_eq!(find(Which::Back(1), true), Some(id(4)));
        assert_eq!(find(Which::Back(2), true), Some(id(2)));
        assert_eq!(find(Which::Back(1), false), Some(id(3)));
        assert_eq!(find(Which::By("bob".parse().unwrap()), false), Some(id(1)));
        assert_eq!(find(Which::Back(9), true), None);
        assert_eq!(find(Which::Back(0), true), None);
    }

    #[test]
    fn no_more_is_remembered_than_memory_allows() {
        let mut recall = Recall::default();
        for number in 0..1_000_u64 {
            let mut message = sample::message("#ops", number + 1, "bob@bee", "hi");
            message.id = MessageId::from_bytes(u128::from(number).to_be_bytes());
            message.room = format!("#room{}", number % 300).parse().unwrap();
            recall.take(&message);
        }
        assert!(recall.rooms.len() <= ROOMS);
    }
}
