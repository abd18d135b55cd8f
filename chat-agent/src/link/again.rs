//! What the server could not do yet, and when it is asked again.
//!
//! What one user waits for stands in a line of its own, so that nobody waits for another one's
//! limit. After a "not yet" a line goes on with one errand at the end of the pause, and with twice
//! as many each time as long as they are granted: whoever is over a limit asks about as often as
//! is allowed.

use super::{
    following::Errand,
    sending::{RETRY_MIN, pause_after},
};
use protocol::{Nick, federation::Refusal};
use std::collections::{BTreeMap, HashSet, VecDeque};
use tokio::time::Instant;

/// Most errands of one line that are asked at once, every [`RETRY_MIN`]: 2,560 a second.
const MOST_AT_ONCE: usize = 128;

/// What waits. Bounded as what is asked for is: by the members of this host and their rooms.
#[derive(Debug, Default)]
pub(super) struct Again {
    /// Of each user, and what is nobody's in particular.
    lines: BTreeMap<Option<Nick>, Line>,
    /// All of them, to have each once.
    waiting: HashSet<Errand>,
}

#[derive(Debug)]
struct Line {
    errands: VecDeque<Errand>,
    at_once: usize,
    due: Instant,
}

impl Again {
    /// Has `errand`, which met with `refusal`, asked again after a pause.
    pub(super) fn put(&mut self, errand: Errand, refusal: &Refusal, now: Instant) {
        let due = now + pause_after(refusal);
        let line = self.lines.entry(errand.whose().cloned());
        let line = line.or_insert_with(|| Line {
            errands: VecDeque::new(),
            at_once: MOST_AT_ONCE,
            due,
        });
        if matches!(refusal, Refusal::NotYet { .. }) {
            line.at_once = 1;
            line.due = line.due.max(due);
        } else if line.errands.is_empty() {
            line.due = due;
        }
        if self.waiting.insert(errand.clone()) {
            line.errands.push_back(errand);
        }
    }

    pub(super) fn contains(&self, errand: &Errand) -> bool {
        self.waiting.contains(errand)
    }

    /// When something is due next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.lines.values().map(|line| line.due).min()
    }

    /// What is to be asked now.
    pub(super) fn take(&mut self, now: Instant) -> Vec<Errand> {
        let mut taken = Vec::new();
        // A line is forgotten when nothing was put into it for as long as a turn takes.
        self.lines
            .retain(|_, line| line.due > now || !line.errands.is_empty());
        for line in self.lines.values_mut().filter(|line| line.due <= now) {
            let count = line.at_once.min(line.errands.len());
            taken.extend(line.errands.drain(..count));
            line.at_once = MOST_AT_ONCE.min(line.at_once * 2);
            line.due = now + RETRY_MIN;
        }
        for errand in &taken {
            self.waiting.remove(errand);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{FederatedRoom, Room};
    use std::time::Duration;

    const PAUSE: Duration = Duration::from_secs(1);

    fn not_yet(seconds: u32) -> Refusal {
        Refusal::NotYet {
            retry_after_ms: seconds * 1_000,
            reason: "too fast".to_owned(),
        }
    }

    fn join(nick: &str, number: usize) -> Errand {
        Errand::Join {
            room: FederatedRoom::parse(&format!("#room-{number}")).unwrap(),
            nick: nick.parse().unwrap(),
        }
    }

    #[test]
    fn a_line_goes_on_with_one_and_with_more_as_long_as_they_are_granted() {
        let mut again = Again::default();
        let mut now = Instant::now();
        for number in 0..10 {
            again.put(join("alice", number), &not_yet(1), now);
        }
        assert_eq!(again.take(now), [], "there is a pause");
        now += PAUSE;
        let mut turns = Vec::new();
        while let Some(due) = again.due() {
            now = due;
            turns.push(again.take(now).len());
        }
        assert_eq!(turns, [1, 2, 4, 3, 0]);
    }

    #[test]
    fn whoever_is_refused_again_pauses_again_and_comes_after_the_rest() {
        let mut again = Again::default();
        let mut now = Instant::now();
        for number in 0..3 {
            again.put(join("alice", number), &not_yet(1), now);
        }
        now += PAUSE;
        assert_eq!(again.take(now), [join("alice", 0)]);
        again.put(join("alice", 0), &not_yet(1), now);
        again.put(join("alice", 0), &not_yet(1), now);
        now += PAUSE;
        assert_eq!(again.due(), Some(now));
        assert_eq!(again.take(now), [join("alice", 1)]);
        now = again.due().unwrap();
        assert_eq!(again.take(now), [join("alice", 2), join("alice", 0)]);
    }

    #[test]
    fn nobody_stands_in_line_behind_another_user() {
        let mut again = Again::default();
        let now = Instant::now();
        for number in 0..1_000 {
            again.put(join("alice", number), &not_yet(10), now);
        }
        let room = Room::Federated(FederatedRoom::parse("#ops").unwrap());
        again.put(Errand::Subscribe(room.clone()), &not_yet(1), now);
        again.put(join("bob", 1), &not_yet(1), now);
        assert_eq!(again.due(), Some(now + PAUSE));
        let taken = again.take(now + PAUSE);
        assert_eq!(taken, [Errand::Subscribe(room), join("bob", 1)]);
    }
}
