//! What was said and who read it when, and the verdict on that. Pure.

use super::person::{Report, Saw};
use protocol::{MessageId, Room, Seq, local::LinkStatus};
use std::collections::{HashMap, HashSet};
use tokio::time::Instant;

/// A message of the tour, by its number.
pub(super) type Number = usize;

#[derive(Debug)]
pub(super) struct Said {
    pub(super) id: MessageId,
    pub(super) room: Room,
    pub(super) by: usize,
    pub(super) text: String,
    pub(super) at: Instant,
    pub(super) queued: Option<Instant>,
    pub(super) committed: Option<Instant>,
    /// Who is to read it.
    pub(super) audience: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct Read {
    id: MessageId,
    room: Room,
    seq: Seq,
    at: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) said: Vec<Said>,
    read: HashMap<usize, Vec<Read>>,
    open: HashSet<(usize, Room)>,
    links: HashMap<usize, LinkStatus>,
    pub(super) troubles: Vec<String>,
}

impl Journal {
    pub(super) fn note(&mut self, report: Report) {
        let Report { who, at, what } = report;
        match what {
            Saw::Open(room) => {
                self.open.insert((who, room));
            }
            Saw::Message { id, room, seq } => {
                let read = Read { id, room, seq, at };
                self.read.entry(who).or_default().push(read);
            }
            Saw::Queued(id) => {
                if let Some(said) = self.find(id) {
                    said.queued.get_or_insert(at);
                }
            }
            Saw::Committed(id) => {
                if let Some(said) = self.find(id) {
                    said.queued.get_or_insert(at);
                    said.committed.get_or_insert(at);
                }
            }
            Saw::Link(link) => {
                self.links.insert(who, link);
            }
            Saw::Trouble(what) => self.troubles.push(what),
        }
    }

    fn find(&mut self, id: MessageId) -> Option<&mut Said> {
        self.said.iter_mut().find(|said| said.id == id)
    }

    pub(super) fn is_open(&self, who: usize, room: &Room) -> bool {
        self.open.contains(&(who, room.clone()))
    }

    pub(super) fn is_online(&self, who: usize) -> bool {
        matches!(self.links.get(&who), Some(LinkStatus::Online { .. }))
    }

    /// Whether it is known that the link is down.
    pub(super) fn is_offline(&self, who: usize) -> bool {
        let link = self.links.get(&who);
        link.is_some_and(|link| !matches!(link, LinkStatus::Online { .. }))
    }

    pub(super) fn forget_links(&mut self) {
        self.links.clear();
    }

    /// When `who` first read message `number`.
    pub(super) fn read_at(&self, who: usize, number: Number) -> Option<Instant> {
        let id = self.said.get(number)?.id;
        let read = self.read.get(&who)?.iter().find(|read| read.id == id)?;
        Some(read.at)
    }

    /// Whether the whole audience has read message `number`, and its author knows.
    pub(super) fn has_arrived(&self, number: Number) -> bool {
        self.said.get(number).is_some_and(|said| {
            said.committed.is_some()
                && said
                    .audience
                    .iter()
                    .all(|who| self.read_at(*who, number).is_some())
        })
    }

    /// How many readings there were.
    pub(super) fn readings(&self) -> usize {
        self.read.values().map(Vec::len).sum()
    }

    /// What broke a promise: each message read exactly once by each of its audience and nobody
    /// else, in one order per room, with each author's messages in the order they were said.
    pub(super) fn faults(&self, names: &[&str]) -> Vec<String> {
        let mut faults = self.troubles.clone();
        for said in &self.said {
            for (who, name) in names.iter().enumerate() {
                let reads = self.read.get(&who).map_or(&[][..], Vec::as_slice);
                let times = reads.iter().filter(|read| read.id == said.id).count();
                let wanted = usize::from(said.audience.contains(&who));
                if times != wanted {
                    let text = &said.text;
                    faults.push(format!("{name} read {text:?} {times} times, not {wanted}"));
                }
            }
        }
        let rooms: HashSet<&Room> = self.said.iter().map(|said| &said.room).collect();
        for room in rooms {
            self.check_order(room, names, &mut faults);
        }
        faults
    }

    fn check_order(&self, room: &Room, names: &[&str], faults: &mut Vec<String>) {
        let mut first: Option<(usize, Vec<MessageId>)> = None;
        for (who, name) in names.iter().enumerate() {
            let reads = self.read.get(&who).map_or(&[][..], Vec::as_slice);
            let here: Vec<&Read> = reads.iter().filter(|read| read.room == *room).collect();
            if here.is_empty() {
                continue;
            }
            if !here.is_sorted_by(|one, next| one.seq < next.seq) {
                faults.push(format!("{name} read {room} with seqs out of order"));
            }
            let order: Vec<MessageId> = here.iter().map(|read| read.id).collect();
            for (author, name_of_author) in names.iter().enumerate() {
                let said = self.said.iter().filter(|said| said.by == author);
                let places = said.filter_map(|said| order.iter().position(|id| *id == said.id));
                if !places.is_sorted() {
                    faults.push(format!(
                        "{name} read {name_of_author}'s messages in {room} shuffled"
                    ));
                }
            }
            match &first {
                Some((other, theirs)) if *theirs != order => {
                    let other = names[*other];
                    faults.push(format!(
                        "{name} and {other} read {room} in different orders"
                    ));
                }
                Some(_) => {}
                None => first = Some((who, order)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 3] = ["ann", "ben", "eve"];

    struct Story(Journal);

    impl Story {
        fn new() -> Self {
            Self(Journal::default())
        }

        fn say(&mut self, number: u8, by: usize) {
            self.0.said.push(Said {
                id: MessageId::from_bytes([number; 16]),
                room: "#a".parse().unwrap(),
                by,
                text: number.to_string(),
                at: Instant::now(),
                queued: None,
                committed: None,
                audience: vec![0, 1],
            });
        }

        fn read(&mut self, who: usize, numbers: &[u8]) {
            for (index, number) in numbers.iter().enumerate() {
                let what = Saw::Message {
                    id: MessageId::from_bytes([*number; 16]),
                    room: "#a".parse().unwrap(),
                    seq: Seq::new(index as u64 + 1),
                };
                let at = Instant::now();
                self.0.note(Report { who, at, what });
            }
        }

        fn faults(&self) -> String {
            self.0.faults(&NAMES).join("; ")
        }
    }

    fn two_messages() -> Story {
        let mut story = Story::new();
        story.say(1, 0);
        story.say(2, 1);
        story.read(0, &[1, 2]);
        story
    }

    #[test]
    fn one_order_and_everything_once_is_no_fault() {
        let mut story = two_messages();
        story.read(1, &[1, 2]);
        assert_eq!(story.faults(), "");
    }

    #[test]
    fn each_broken_promise_is_seen() {
        for (reads, fault) in [
            (&[1][..], "ben read \"2\" 0 times"),
            (&[1, 2, 2], "ben read \"2\" 2 times"),
            (&[2, 1], "different orders"),
        ] {
            let mut story = two_messages();
            story.read(1, reads);
            assert!(story.faults().contains(fault), "{}", story.faults());
        }
        let mut story = two_messages();
        story.read(1, &[1, 2]);
        story.read(2, &[1]);
        assert!(story.faults().contains("eve read \"1\" 1 times, not 0"));
        let mut story = Story::new();
        story.say(1, 0);
        story.say(2, 0);
        story.read(0, &[2, 1]);
        story.read(1, &[2, 1]);
        assert!(story.faults().contains("shuffled"), "{}", story.faults());
    }

    #[test]
    fn a_message_has_arrived_when_all_have_read_it_and_its_author_knows() {
        let mut story = two_messages();
        assert!(!story.0.has_arrived(0));
        story.read(1, &[1]);
        assert!(!story.0.has_arrived(0));
        let id = story.0.said[0].id;
        let what = Saw::Committed(id);
        story.0.note(Report {
            who: 0,
            at: Instant::now(),
            what,
        });
        assert!(story.0.has_arrived(0));
    }
}
