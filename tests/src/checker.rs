//! The judge: looks at a [`History`] when all is over, without clocks or processes.
//!
//! Every reader of a history is taken to have followed every room in it from the beginning to
//! the same end. Who was to read is not believed from the history but asked for.

use crate::recorder::{History, Outcome, Read, Send};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
};

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// An acknowledged message that a reader never got.
    Lost {
        /// Who did not get it.
        reader: String,
        /// Where.
        room: String,
        /// Which.
        body: String,
    },
    /// A message that a reader got more than once.
    Doubled {
        /// Who got it.
        reader: String,
        /// Where.
        room: String,
        /// Which.
        body: String,
    },
    /// A message that nobody sent so: invented, from another sender, in another room, or one
    /// that was refused.
    Foreign {
        /// Who got it.
        reader: String,
        /// What they got.
        read: Read,
    },
    /// A reader saw a room's seqs not increase.
    SeqWentBack {
        /// Who saw it.
        reader: String,
        /// Where.
        room: String,
        /// The seq before.
        before: u64,
        /// The seq after it.
        after: u64,
    },
    /// A reader got two messages of one sender the other way round.
    SenderReordered {
        /// Who got them.
        reader: String,
        /// Where.
        room: String,
        /// What came first though it was sent later.
        first: String,
        /// What came after it.
        then: String,
    },
    /// Somebody who was to read got nothing at all.
    Absent {
        /// Who.
        reader: String,
    },
    /// A message is not where its sender was told it is.
    SeqChanged {
        /// Who saw it.
        reader: String,
        /// Which.
        body: String,
        /// What the sender was told.
        told: u64,
        /// What the reader saw.
        seen: u64,
    },
    /// A message does not have the id that its sender was told.
    IdChanged {
        /// Who saw it.
        reader: String,
        /// Which.
        body: String,
        /// What the sender was told.
        told: String,
        /// What the reader saw.
        seen: String,
    },
    /// A sender who tried again was told another place or id.
    ToldTwice {
        /// Which.
        body: String,
        /// What the sender was told first.
        first: String,
        /// What the sender was told then.
        then: String,
    },
    /// A message was refused after it had been acknowledged.
    RefusedAfterAll {
        /// Which.
        body: String,
    },
    /// Two readers saw a room differently.
    OrderDiffers {
        /// Where.
        room: String,
        /// One.
        reader: String,
        /// The other.
        other: String,
        /// What one saw at the first difference.
        here: Option<String>,
        /// What the other saw there.
        there: Option<String>,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Judges a history that all of `readers` were to read.
///
/// # Errors
///
/// Every broken promise it finds.
///
/// # Panics
///
/// If there is nobody to have read it: then nothing would be proved.
pub fn check(history: &History, readers: &[&str]) -> Result<(), Vec<Violation>> {
    assert!(!readers.is_empty(), "a history needs readers");
    let mut violations = Vec::new();
    let sends = index_sends(&history.sends, &mut violations);
    for &reader in readers {
        if history.reads.get(reader).is_none_or(Vec::is_empty) {
            let reader = reader.to_owned();
            violations.push(Violation::Absent { reader });
        }
    }
    for (reader, reads) in &history.reads {
        check_reader(reader, reads, &sends, &mut violations);
    }
    check_lost(history, &mut violations);
    check_agreement(history, &mut violations);
    if violations.is_empty() {
        Ok(())
    } else {
        Err(violations)
    }
}

/// What is known of a body: where in its sender's order it stands, and the strongest of what was
/// said to its tries.
struct Known<'a> {
    send: &'a Send,
    order: usize,
    outcome: Outcome,
    seq: Option<u64>,
    id: Option<&'a str>,
}

fn index_sends<'a>(
    sends: &'a [Send],
    violations: &mut Vec<Violation>,
) -> HashMap<&'a str, Known<'a>> {
    let mut known: HashMap<&str, Known<'_>> = HashMap::new();
    for (order, send) in sends.iter().enumerate() {
        let entry = known.entry(send.body.as_str()).or_insert(Known {
            send,
            order,
            outcome: send.outcome,
            seq: send.seq,
            id: send.id.as_deref(),
        });
        assert!(
            entry.send.sender == send.sender && entry.send.room == send.room,
            "a history with one body twice cannot be judged: {send:?}"
        );
        if entry.outcome == Outcome::Acknowledged && send.outcome == Outcome::Refused {
            let body = send.body.clone();
            violations.push(Violation::RefusedAfterAll { body });
        }
        entry.outcome = match (entry.outcome, send.outcome) {
            (Outcome::Acknowledged, _) | (_, Outcome::Acknowledged) => Outcome::Acknowledged,
            (Outcome::Unknown, _) | (_, Outcome::Unknown) => Outcome::Unknown,
            (Outcome::Refused, Outcome::Refused) => Outcome::Refused,
        };
        let mut told = |first: String, then: String| {
            if first != then {
                let body = send.body.clone();
                violations.push(Violation::ToldTwice { body, first, then });
            }
        };
        if let (Some(first), Some(then)) = (entry.seq, send.seq) {
            told(first.to_string(), then.to_string());
        }
        if let (Some(first), Some(then)) = (entry.id, &send.id) {
            told(first.to_owned(), then.clone());
        }
        entry.seq = entry.seq.or(send.seq);
        entry.id = entry.id.or(send.id.as_deref());
    }
    known
}

fn check_reader(
    reader: &str,
    reads: &[Read],
    sends: &HashMap<&str, Known<'_>>,
    violations: &mut Vec<Violation>,
) {
    let mut bodies = HashSet::new();
    let mut ids = HashSet::new();
    let mut heads: HashMap<&str, u64> = HashMap::new();
    let mut latest: HashMap<(&str, &str), &Known<'_>> = HashMap::new();
    for read in reads {
        let room = read.room.as_str();
        if !bodies.insert((room, read.body.as_str())) || !ids.insert(read.id.as_str()) {
            violations.push(Violation::Doubled {
                reader: reader.to_owned(),
                room: read.room.clone(),
                body: read.body.clone(),
            });
        }
        if let Some(before) = heads.insert(room, read.seq)
            && before >= read.seq
        {
            violations.push(Violation::SeqWentBack {
                reader: reader.to_owned(),
                room: read.room.clone(),
                before,
                after: read.seq,
            });
        }
        let sent = sends.get(read.body.as_str()).filter(|known| {
            known.send.sender == read.from
                && known.send.room == read.room
                && known.outcome != Outcome::Refused
        });
        let Some(sent) = sent else {
            violations.push(Violation::Foreign {
                reader: reader.to_owned(),
                read: read.clone(),
            });
            continue;
        };
        if let Some(told) = sent.seq
            && told != read.seq
        {
            violations.push(Violation::SeqChanged {
                reader: reader.to_owned(),
                body: read.body.clone(),
                told,
                seen: read.seq,
            });
        }
        if let Some(told) = sent.id
            && told != read.id
        {
            violations.push(Violation::IdChanged {
                reader: reader.to_owned(),
                body: read.body.clone(),
                told: told.to_owned(),
                seen: read.id.clone(),
            });
        }
        if let Some(before) = latest.insert((room, read.from.as_str()), sent)
            && before.order > sent.order
        {
            violations.push(Violation::SenderReordered {
                reader: reader.to_owned(),
                room: read.room.clone(),
                first: before.send.body.clone(),
                then: read.body.clone(),
            });
        }
    }
}

fn check_lost(history: &History, violations: &mut Vec<Violation>) {
    for (reader, reads) in &history.reads {
        let seen: HashSet<(&str, &str)> = reads
            .iter()
            .map(|read| (read.room.as_str(), read.body.as_str()))
            .collect();
        let acknowledged: BTreeSet<(&str, &str)> = history
            .sends
            .iter()
            .filter(|send| send.outcome == Outcome::Acknowledged)
            .map(|send| (send.room.as_str(), send.body.as_str()))
            .collect();
        for (room, body) in acknowledged {
            if !seen.contains(&(room, body)) {
                violations.push(Violation::Lost {
                    reader: reader.clone(),
                    room: room.to_owned(),
                    body: body.to_owned(),
                });
            }
        }
    }
}

fn by_room(reads: &[Read]) -> BTreeMap<&str, Vec<&Read>> {
    let mut rooms: BTreeMap<&str, Vec<&Read>> = BTreeMap::new();
    for read in reads {
        rooms.entry(read.room.as_str()).or_default().push(read);
    }
    rooms
}

fn check_agreement(history: &History, violations: &mut Vec<Violation>) {
    let mut readers = history.reads.iter();
    let Some((reader, reads)) = readers.next() else {
        return;
    };
    let ours = by_room(reads);
    for (other, reads) in readers {
        let theirs = by_room(reads);
        let rooms: BTreeSet<&str> = ours.keys().chain(theirs.keys()).copied().collect();
        for room in rooms {
            let here = ours.get(room).map_or(&[][..], Vec::as_slice);
            let there = theirs.get(room).map_or(&[][..], Vec::as_slice);
            let length = here.len().max(there.len());
            let differs = |&at: &usize| here.get(at) != there.get(at);
            if let Some(at) = (0..length).find(differs) {
                let body = |reads: &[&Read]| reads.get(at).map(|read| read.body.clone());
                violations.push(Violation::OrderDiffers {
                    room: room.to_owned(),
                    reader: reader.clone(),
                    other: other.clone(),
                    here: body(here),
                    there: body(there),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READERS: [&str; 2] = ["bob@bee", "carol@ada"];

    fn send(body: &str, outcome: Outcome) -> Send {
        Send {
            sender: "alice@ada".to_owned(),
            room: "#ops".to_owned(),
            body: body.to_owned(),
            outcome,
            seq: None,
            id: None,
        }
    }

    fn read(seq: u64, body: &str) -> Read {
        Read {
            room: "#ops".to_owned(),
            seq,
            id: format!("id of {body}"),
            from: "alice@ada".to_owned(),
            body: body.to_owned(),
        }
    }

    /// Three messages, the last of unknown outcome but there, read by two readers.
    fn good() -> History {
        let mut history = History::new();
        history.sent(send("a1", Outcome::Unknown));
        history.sent(send("a1", Outcome::Acknowledged));
        history.sent(send("a2", Outcome::Acknowledged));
        history.sent(send("a3", Outcome::Unknown));
        history.sent(send("a4", Outcome::Refused));
        for reader in READERS {
            let reads = vec![read(1, "a1"), read(5, "a2"), read(6, "a3")];
            history.reads.insert(reader.to_owned(), reads);
        }
        history
    }

    fn bob(history: &mut History) -> &mut Vec<Read> {
        history.reads.get_mut(READERS[0]).expect("bob reads")
    }

    fn kinds(history: &History) -> Vec<&'static str> {
        let violations = check(history, &READERS).expect_err("a bad history");
        let mut kinds: Vec<_> = violations
            .iter()
            .map(|violation| match violation {
                Violation::Lost { .. } => "lost",
                Violation::Doubled { .. } => "doubled",
                Violation::Foreign { .. } => "foreign",
                Violation::SeqWentBack { .. } => "seq went back",
                Violation::SenderReordered { .. } => "reordered",
                Violation::Absent { .. } => "absent",
                Violation::SeqChanged { .. } => "seq changed",
                Violation::IdChanged { .. } => "id changed",
                Violation::ToldTwice { .. } => "told twice",
                Violation::RefusedAfterAll { .. } => "refused after all",
                Violation::OrderDiffers { .. } => "order differs",
            })
            .collect();
        kinds.sort_unstable();
        kinds
    }

    #[test]
    fn a_good_history_passes() {
        assert_eq!(check(&good(), &READERS), Ok(()));
        let mut without_the_unknown = good();
        for reads in without_the_unknown.reads.values_mut() {
            reads.pop();
        }
        assert_eq!(check(&without_the_unknown, &READERS), Ok(()));
        let mut refused_at_first = good();
        refused_at_first.sends[0].outcome = Outcome::Refused;
        assert_eq!(check(&refused_at_first, &READERS), Ok(()));
    }

    #[test]
    fn a_lost_message_is_found() {
        let mut history = good();
        bob(&mut history).remove(1);
        assert_eq!(kinds(&history), ["lost", "order differs"]);
        let mut history = good();
        history.reads.values_mut().for_each(Vec::clear);
        let lost = ["absent", "absent", "lost", "lost", "lost", "lost"];
        assert_eq!(kinds(&history), lost);
    }

    #[test]
    fn a_doubled_message_is_found() {
        let mut history = good();
        for reads in history.reads.values_mut() {
            reads.push(read(7, "a3"));
        }
        assert_eq!(kinds(&history), ["doubled"; 2]);
        let mut same_id = good();
        same_id.sent(send("a5", Outcome::Unknown));
        for reads in same_id.reads.values_mut() {
            let id = reads[0].id.clone();
            reads.push(Read {
                id,
                ..read(7, "a5")
            });
        }
        assert_eq!(kinds(&same_id), ["doubled"; 2]);
    }

    #[test]
    fn a_foreign_message_is_found() {
        let changes: [fn(&mut Read); 4] = [
            |read| read.body = "never sent".to_owned(),
            |read| read.body = "a4".to_owned(),
            |read| read.from = "mallory@ada".to_owned(),
            |read| read.room = "#dev".to_owned(),
        ];
        for change in changes {
            let mut history = good();
            for reads in history.reads.values_mut() {
                change(&mut reads[2]);
            }
            assert_eq!(kinds(&history), ["foreign"; 2]);
        }
    }

    #[test]
    fn a_wrong_order_is_found() {
        let mut one_reader = good();
        bob(&mut one_reader).swap(0, 1);
        assert_eq!(
            kinds(&one_reader),
            ["order differs", "reordered", "seq went back"]
        );

        let mut all_readers = good();
        for reads in all_readers.reads.values_mut() {
            *reads = vec![read(1, "a2"), read(2, "a1")];
        }
        assert_eq!(kinds(&all_readers), ["reordered"; 2]);
    }

    #[test]
    fn a_seq_that_changes_is_found() {
        let mut history = good();
        history.sends[2].seq = Some(4);
        assert_eq!(kinds(&history), ["seq changed"; 2]);
        let mut differing = good();
        bob(&mut differing)[2].seq = 9;
        assert_eq!(kinds(&differing), ["order differs"]);
    }

    #[test]
    fn a_reader_who_never_read_is_found() {
        let mut history = good();
        history.reads.remove(READERS[1]);
        assert_eq!(kinds(&history), ["absent"]);
        history.reads.clear();
        assert_eq!(kinds(&history), ["absent"; 2]);
    }

    #[test]
    #[should_panic(expected = "needs readers")]
    fn a_history_without_readers_is_not_judged() {
        let _ = check(&good(), &[]);
    }

    #[test]
    fn an_id_that_changes_is_found() {
        let mut history = good();
        history.sends[2].id = Some("id of a2".to_owned());
        assert_eq!(check(&history, &READERS), Ok(()));
        history.sends[2].id = Some("another".to_owned());
        assert_eq!(kinds(&history), ["id changed"; 2]);
    }

    #[test]
    fn tries_that_were_told_different_things_are_found() {
        let told = |id: &str, seq| Send {
            id: Some(id.to_owned()),
            seq: Some(seq),
            ..send("a1", Outcome::Acknowledged)
        };
        let mut history = good();
        history.sends[1] = told("id of a1", 1);
        history.sent(told("id of a1", 1));
        assert_eq!(check(&history, &READERS), Ok(()));
        history.sent(told("id of a1", 4));
        history.sent(told("another", 1));
        assert_eq!(kinds(&history), ["told twice"; 2]);
    }

    #[test]
    fn a_message_refused_after_it_was_acknowledged_is_found() {
        let mut history = good();
        history.sent(send("a2", Outcome::Refused));
        assert_eq!(kinds(&history), ["refused after all"]);
    }
}
