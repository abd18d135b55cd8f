//! The last messages of each room, for what comes later and is about one of them.

use crate::render::{Quote, excerpt};
use protocol::{Committed, Content, MessageId, Nick, Room, UserName};
use std::collections::{HashMap, VecDeque};

/// Messages remembered of one room. Of each a beginning of some forty columns.
const PER_ROOM: usize = 200;

/// Rooms whose messages are remembered. One more pushes out another.
const ROOMS: usize = 256;

/// Reactions remembered of one message.
const REACTIONS: usize = 64;

/// What was said last in each room, as far as this program has shown it.
#[derive(Debug, Default)]
pub struct Recall {
    rooms: HashMap<Room, Talk>,
}

/// The last messages of one room.
#[derive(Debug, Default)]
struct Talk {
    /// Those of its log, oldest first.
    said: VecDeque<Said>,
    /// Own ones that are not in the log yet, oldest first: they come behind all that is there.
    pending: VecDeque<Said>,
}

/// A message that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Which message.
    pub id: MessageId,
    /// Who said it, and its beginning.
    pub quote: Quote,
    /// Whether its author took it back, or is about to: it keeps its place, so that no other is
    /// meant by mistake.
    pub taken_back: bool,
    /// Who reacts to it with what.
    reactions: Vec<(UserName, String)>,
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
        let Talk { said, pending } = self.room(&message.room);
        let waited = pending.iter().position(|one| one.id == message.id);
        let waited = waited.and_then(|index| pending.remove(index));
        let about = content
            .about()
            .and_then(|id| said.iter().position(|one| one.id == id));
        let quote = about.map(|index| said[index].quote.clone());
        let quote = quote.filter(|quote| !quote.excerpt.is_empty());
        let is_by_author = |said: &Said| said.quote.author == message.author;
        match (&content, about) {
            // Whoever edits what they took back does not say it again.
            (Content::Edit { text, .. }, Some(index))
                if quote.is_some() && is_by_author(&said[index]) =>
            {
                said[index].quote.excerpt = excerpt(text);
            }
            (Content::Delete { .. }, Some(index)) if is_by_author(&said[index]) => {
                said[index].taken_back = true;
                said[index].quote.excerpt.clear();
            }
            (Content::React { emoji, on, .. }, Some(index)) => {
                said[index].react(&message.author, emoji, *on);
            }
            // A room that is opened again begins with messages that were there before.
            _ if said.iter().all(|one| one.id != message.id) => {
                let one = Said::new(message.id, &message.author, &content);
                if let Some(one) = waited.or(one) {
                    remember(said, one);
                }
            }
            _ => {}
        }
        quote
    }

    /// Notes what `me` says, which is not in the room's log yet.
    pub fn say(&mut self, id: MessageId, room: &Room, me: &UserName, content: &Content) {
        let talk = self.room(room);
        if let Content::Delete { of } = content {
            talk.set_taken_back(*of, true);
        } else if let Content::React { to, emoji, on } = content {
            if let Some(one) = talk.find(*to) {
                one.react(me, emoji, *on);
            }
        } else if let Some(one) = Said::new(id, me, content)
            && talk.all().all(|other| other.id != id)
        {
            remember(&mut talk.pending, one);
        }
    }

    /// Notes that what was said will never be in the room's log.
    pub fn refused(&mut self, id: MessageId, room: &Room, content: &Content) {
        let talk = self.room(room);
        talk.pending.retain(|one| one.id != id);
        if let Content::Delete { of } = content {
            talk.set_taken_back(*of, false);
        }
    }

    /// The message of `room` that is meant, among those by `me` or among those by others. Of
    /// others none that was taken back.
    #[must_use]
    pub fn find(&self, room: &Room, which: &Which, me: &UserName, mine: bool) -> Option<&Said> {
        let mut candidates = self
            .rooms
            .get(room)?
            .all()
            .rev()
            .filter(|one| (one.quote.author == *me) == mine && (mine || !one.taken_back));
        match which {
            Which::Back(number) => candidates.nth(number.checked_sub(1)?),
            Which::By(nick) => candidates.find(|one| one.quote.author.nick == *nick),
        }
    }

    /// Message `id` of `room`, if it is remembered.
    #[must_use]
    pub fn get(&self, room: &Room, id: MessageId) -> Option<&Said> {
        self.rooms.get(room)?.all().find(|one| one.id == id)
    }

    /// Whether nothing of `room` was shown.
    #[must_use]
    pub fn is_new(&self, room: &Room) -> bool {
        self.rooms.get(room).is_none_or(|talk| talk.said.is_empty())
    }

    fn room(&mut self, room: &Room) -> &mut Talk {
        if self.rooms.len() >= ROOMS && !self.rooms.contains_key(room) {
            let other = self.rooms.keys().next().cloned();
            other.and_then(|other| self.rooms.remove(&other));
        }
        self.rooms.entry(room.clone()).or_default()
    }
}

impl Talk {
    fn all(&self) -> impl DoubleEndedIterator<Item = &Said> {
        self.said.iter().chain(&self.pending)
    }

    fn set_taken_back(&mut self, id: MessageId, taken_back: bool) {
        if let Some(one) = self.find(id) {
            one.taken_back = taken_back;
        }
    }

    fn find(&mut self, id: MessageId) -> Option<&mut Said> {
        let mut all = self.said.iter_mut().chain(&mut self.pending);
        all.find(|one| one.id == id)
    }
}

impl Said {
    /// What is remembered of a message, if it is not about another one only.
    fn new(id: MessageId, author: &UserName, content: &Content) -> Option<Self> {
        let (Content::Text(text) | Content::Action(text) | Content::Reply { text, .. }) = content
        else {
            return None;
        };
        let quote = Quote {
            author: author.clone(),
            excerpt: excerpt(text),
            is_action: matches!(content, Content::Action(_)),
        };
        Some(Self {
            id,
            quote,
            taken_back: false,
            reactions: Vec::new(),
        })
    }

    /// Whether `user` reacts to it with `emoji`, or may: not all is remembered of what many react to.
    #[must_use]
    pub fn has_reaction(&self, user: &UserName, emoji: &str) -> bool {
        let mut reactions = self.reactions.iter();
        self.reactions.len() >= REACTIONS || reactions.any(|one| one.0 == *user && one.1 == emoji)
    }

    fn react(&mut self, user: &UserName, emoji: &str, on: bool) {
        if on && !self.has_reaction(user, emoji) {
            self.reactions.push((user.clone(), emoji.to_owned()));
        } else if !on && self.reactions.len() < REACTIONS {
            let is_it = |one: &(UserName, String)| one.0 == *user && one.1 == emoji;
            self.reactions.retain(|one| !is_it(one));
        }
    }
}

fn remember(said: &mut VecDeque<Said>, one: Said) {
    if said.len() == PER_ROOM {
        said.pop_front();
    }
    said.push_back(one);
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
                is_action: false,
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
    fn the_newest_of_ones_own_is_the_one_that_waits() {
        let mut recall = Recall::default();
        let (me, room) = ("alice@ada".parse().unwrap(), "#ops".parse().unwrap());
        recall.take(&says(1, "alice@ada", &text("there")));
        recall.say(id(3), &room, &me, &text("oops"));
        recall.say(id(4), &room, &me, &text("oh"));
        recall.take(&says(2, "bob@bee", &text("hi")));
        let newest = |recall: &Recall, back| {
            let said = recall.find(&room, &Which::Back(back), &me, true);
            said.map(|said| (said.id, said.taken_back))
        };
        assert_eq!(newest(&recall, 1), Some((id(4), false)));
        let delete = Content::Delete { of: id(4) };
        recall.say(id(5), &room, &me, &delete);
        // It keeps its place, on its way and after it.
        assert_eq!(newest(&recall, 1), Some((id(4), true)));
        assert_eq!(newest(&recall, 2), Some((id(3), false)));
        recall.take(&says(3, "alice@ada", &text("oops")));
        recall.take(&says(4, "alice@ada", &text("oh")));
        assert_eq!(newest(&recall, 1), Some((id(4), true)));
        let quote = recall.take(&says(5, "alice@ada", &delete)).unwrap();
        assert_eq!(quote.excerpt, "oh");
        assert_eq!(newest(&recall, 1), Some((id(4), true)));
        assert_eq!(newest(&recall, 3), Some((id(1), false)));
        // What is refused was never said, or never taken back.
        let delete = Content::Delete { of: id(3) };
        recall.say(id(6), &room, &me, &delete);
        recall.say(id(7), &room, &me, &text("never"));
        recall.refused(id(6), &room, &delete);
        recall.refused(id(7), &room, &text("never"));
        assert_eq!(newest(&recall, 2), Some((id(3), false)));
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
