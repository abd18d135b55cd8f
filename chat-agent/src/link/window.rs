//! What is on its way from the outbox to the server, as a pure state machine.
//!
//! Messages are sent in the order of the outbox, up to a window ahead of their acknowledgements.
//! After a "not yet" only its author waits: what of theirs is not acknowledged is sent again,
//! oldest first, when the pause is over and all that was under way is answered. So a user's
//! messages reach the log in the order they were accepted, whatever is lost or refused on the way,
//! and nobody waits for another user's limit.
//!
//! The outbox is gone through once, from front to end. What is passed by on the way, because its
//! author waits or has enough under way, is left in the outbox and fetched author by author
//! later: it takes no place from those who come behind it. Whoever was refused begins with one
//! message and has one more under way with each that is taken, so that a try that is too early
//! costs little.

use crate::store::outbox::{Part, Position, Waiting};
use protocol::{MessageId, Outgoing, UserName};
use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    ops::Bound,
    time::Duration,
};
use tokio::time::Instant;

/// A pause that is worth a word at once; a shorter one is when it was not the only one.
const WORTH_TELLING: Duration = Duration::from_secs(1);

/// The part of the outbox that is held in memory, and how far it has been sent.
#[derive(Debug)]
pub struct Window {
    capacity: usize,
    /// Loaded and not sent. Of nobody who waits.
    queue: VecDeque<Waiting>,
    /// Sent and not answered.
    in_flight: HashMap<MessageId, Waiting>,
    /// Those of whom something is in the window, or was left behind: at most as many as have
    /// something in the outbox.
    authors: BTreeMap<UserName, Author>,
    /// The highest attempt that anybody has used.
    attempt: u32,
    /// Up to where the outbox was gone through.
    scanned: Position,
    /// Whether the outbox may hold entries behind `scanned`.
    more: bool,
    /// Whose turn it was last to have fetched what was left behind.
    fetched: Option<UserName>,
    /// Whether it is their turn again, or that of what is behind `scanned`.
    fetches: bool,
    /// Those who were held up and are not any more.
    freed: Vec<UserName>,
}

/// How it stands with the messages of one user.
#[derive(Debug)]
struct Author {
    attempt: u32,
    queued: usize,
    in_flight: usize,
    /// How many may be in the window.
    allowance: usize,
    /// What is behind this, and not behind `scanned`, was left in the outbox.
    left: Option<Position>,
    /// Nothing is sent before.
    paused_until: Option<Instant>,
    /// Pauses since the server took messages as they came.
    pauses: u32,
    told: bool,
}

/// What to load from the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Load {
    /// What was not looked at yet.
    Ahead {
        /// Up to where was looked.
        after: Position,
        /// Whose messages to pass by.
        without: HashSet<UserName>,
        /// How many to load.
        limit: usize,
    },
    /// What was left of one author.
    Behind {
        /// Who.
        author: UserName,
        /// Behind which entry.
        after: Position,
        /// Up to which entry.
        up_to: Position,
        /// How many to load.
        limit: usize,
    },
}

/// A user's messages wait from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Whose.
    pub author: UserName,
    /// Whether they should be told: once until the server takes messages as they come again.
    pub tell: bool,
}

impl Author {
    const fn held(&self) -> usize {
        self.queued + self.in_flight
    }

    /// How many more may be fetched for them now, if that is worth a look.
    fn wants(&self) -> Option<(Position, usize)> {
        let free = self.allowance.saturating_sub(self.held());
        let worth_it = free > 0 && free * 2 >= self.allowance;
        match self.left {
            Some(left) if self.paused_until.is_none() && worth_it => Some((left, free)),
            _ => None,
        }
    }

    const fn is_idle(&self) -> bool {
        self.held() == 0 && self.left.is_none()
    }
}

impl Window {
    /// A window of a new connection: nothing loaded, nothing sent.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            queue: VecDeque::new(),
            in_flight: HashMap::new(),
            authors: BTreeMap::new(),
            attempt: 1,
            scanned: Position::START,
            more: true,
            fetched: None,
            fetches: false,
            freed: Vec::new(),
        }
    }

    /// What to load, if there is room for half a window. The caller loads, one at a time.
    pub fn wants(&mut self) -> Option<Load> {
        let room = self.capacity.saturating_sub(self.len());
        if room * 2 < self.capacity {
            return None;
        }
        let behind = self.behind(room);
        if self.more && (!self.fetches || behind.is_none()) {
            self.fetches = true;
            self.more = false;
            let passed_by =
                |(name, author): (&UserName, &Author)| author.left.is_some().then(|| name.clone());
            return Some(Load::Ahead {
                after: self.scanned,
                without: self.authors.iter().filter_map(passed_by).collect(),
                limit: room,
            });
        }
        self.fetches = false;
        if let Some(Load::Behind { author, .. }) = &behind {
            self.fetched = Some(author.clone());
        }
        behind
    }

    /// What was left of whose turn it is.
    fn behind(&self, room: usize) -> Option<Load> {
        let next = match &self.fetched {
            Some(last) => (Bound::Excluded(last), Bound::Unbounded),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        let from_there = self.authors.range::<UserName, _>(next);
        let in_turn = from_there.chain(self.authors.iter());
        let mut wanted = in_turn.filter_map(|(name, author)| Some((name, author.wants()?)));
        let (author, (after, free)) = wanted.next()?;
        Some(Load::Behind {
            author: author.clone(),
            after,
            up_to: self.scanned,
            limit: free.min(room),
        })
    }

    /// Takes what was loaded for [`Window::wants`]. What the outbox grew by meanwhile may be
    /// missing from it.
    pub fn load(&mut self, load: Load, part: Part) {
        match load {
            Load::Ahead { .. } => {
                self.more |= part.more;
                self.scanned = self.scanned.max(part.up_to);
                for entry in part.entries {
                    self.take(entry);
                }
            }
            Load::Behind { author, after, .. } => {
                let Some(of) = self.authors.get_mut(&author) else {
                    return;
                };
                // Who was refused meanwhile begins farther back.
                if of.left != Some(after) {
                    return;
                }
                of.left = part.more.then_some(part.up_to);
                of.queued += part.entries.len();
                self.queue.extend(part.entries);
                self.look_after(&author);
            }
        }
    }

    /// Takes an entry that nobody has looked at yet.
    fn take(&mut self, entry: Waiting) {
        let name = &entry.message.author;
        if !self.authors.contains_key(name) {
            let author = Author {
                // At least what they used when they were here before.
                attempt: self.attempt,
                queued: 0,
                in_flight: 0,
                allowance: self.capacity,
                left: None,
                paused_until: None,
                pauses: 0,
                told: false,
            };
            self.authors.insert(name.clone(), author);
        }
        let Some(author) = self.authors.get_mut(name) else {
            return;
        };
        if author.left.is_some() {
            return;
        }
        if author.held() >= author.allowance {
            author.left = Some(entry.position.before());
            return;
        }
        author.queued += 1;
        self.queue.push_back(entry);
    }

    /// The outbox grew.
    pub const fn grew(&mut self) {
        self.more = true;
    }

    /// The next message to send, with its attempt; counts it as sent.
    pub fn next_to_send(&mut self) -> Option<(u32, &Outgoing)> {
        let entry = self.queue.pop_front()?;
        let author = self.authors.get_mut(&entry.message.author)?;
        author.queued -= 1;
        author.in_flight += 1;
        let sent = self.in_flight.entry(entry.message.id).insert_entry(entry);
        Some((author.attempt, &sent.into_mut().message))
    }

    /// The server took the message or refused it for good. `None` if it is not waited for.
    pub fn settle(&mut self, id: MessageId) -> Option<Outgoing> {
        let message = self.in_flight.remove(&id)?.message;
        if let Some(author) = self.authors.get_mut(&message.author) {
            author.in_flight -= 1;
            // What was under way when a pause began says nothing about what comes after it.
            if author.paused_until.is_none() {
                author.allowance = self.capacity.min(author.allowance + 1);
            }
        }
        self.look_after(&message.author);
        Some(message)
    }

    /// The server cannot take the message yet: its author pauses, at least until `now + pause`.
    /// Returns whose pause begins, if it does.
    pub fn not_yet(&mut self, id: MessageId, now: Instant, pause: Duration) -> Option<Pause> {
        let entry = self.in_flight.remove(&id)?;
        let name = entry.message.author;
        let author = self.authors.get_mut(&name)?;
        author.in_flight -= 1;
        // What was said before this refusal, and not heard yet, is not so any more.
        self.freed.retain(|freed| *freed != name);
        let before = entry.position.before();
        author.left = Some(author.left.map_or(before, |left| left.min(before)));
        let is_news = author.paused_until.is_none();
        author.paused_until = author.paused_until.max(Some(now + pause));
        if !is_news {
            return None;
        }
        author.queued = 0;
        author.allowance = 1;
        self.attempt = self.attempt.saturating_add(1);
        author.attempt = self.attempt;
        author.pauses = author.pauses.saturating_add(1);
        let tell = !author.told && (author.pauses > 1 || pause >= WORTH_TELLING);
        author.told |= tell;
        self.queue.retain(|entry| entry.message.author != name);
        Some(Pause { author: name, tell })
    }

    /// When a pause is over next, if nothing is to be answered before.
    #[must_use]
    pub fn resumes_at(&self) -> Option<Instant> {
        let authors = self.authors.values();
        let answered = authors.filter(|author| author.in_flight == 0);
        answered.filter_map(|author| author.paused_until).min()
    }

    /// Ends the pauses that are over.
    pub fn resume(&mut self, now: Instant) {
        for author in self.authors.values_mut() {
            // What is under way must be answered first: if it is refused too, it comes before
            // what is sent from now on.
            if author.in_flight == 0 && author.paused_until.is_some_and(|until| until <= now) {
                author.paused_until = None;
            }
        }
    }

    /// Those who were held up, and of whom the server takes messages as they come again.
    pub fn take_freed(&mut self) -> Vec<UserName> {
        std::mem::take(&mut self.freed)
    }

    /// Whether there is no higher attempt left: another connection begins anew.
    #[must_use]
    pub const fn is_worn_out(&self) -> bool {
        self.attempt == u32::MAX
    }

    /// Messages in the window.
    fn len(&self) -> usize {
        self.queue.len() + self.in_flight.len()
    }

    /// Forgets an author of whom nothing waits, and what their pauses were once they are behind.
    fn look_after(&mut self, name: &UserName) {
        let Some(author) = self.authors.get_mut(name) else {
            return;
        };
        let idle = author.is_idle();
        if author.pauses > 0 && (idle || author.allowance == self.capacity) {
            author.pauses = 0;
            author.told = false;
            self.freed.push(name.clone());
        }
        if idle {
            self.authors.remove(name);
        }
    }
}

#[cfg(test)]
mod tests;
