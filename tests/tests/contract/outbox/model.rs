//! The outbox against a list: whatever is done, and wherever it ends.

use super::{Shelf, all, says, usage_of};
use crate::cases;
use proptest::{prelude::*, sample::Index, test_runner::TestRunner};
use protocol::Outgoing;

#[derive(Debug, Clone)]
enum Step {
    Push {
        body_bytes: usize,
    },
    /// Something that waits, or waited once.
    Remove(Index),
    Page {
        after: Index,
        limit: usize,
    },
    Commit,
    RollBack,
    Reopen,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_usize..200).prop_map(|body_bytes| Step::Push { body_bytes }),
        3 => any::<Index>().prop_map(Step::Remove),
        2 => (any::<Index>(), 0_usize..5).prop_map(|(after, limit)| Step::Page { after, limit }),
        4 => Just(Step::Commit),
        1 => Just(Step::RollBack),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ]
}

/// An outbox and the list it should be.
struct World<S: Shelf> {
    shelf: S,
    now: Vec<Outgoing>,
    committed: Vec<Outgoing>,
    said: Vec<Outgoing>,
    /// The highest position that was ever seen in a committed outbox.
    highest: Option<S::Position>,
}

impl<S: Shelf> World<S> {
    fn new() -> Self {
        Self {
            shelf: S::new(),
            now: Vec::new(),
            committed: Vec::new(),
            said: Vec::new(),
            highest: None,
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Push { body_bytes } => {
                let room = ["#ops", "#dev", "alice@ada,bob@bee"][self.said.len() % 3];
                let message = says(room, &"x".repeat(*body_bytes));
                self.shelf.push(&message);
                self.now.push(message.clone());
                self.said.push(message);
            }
            Step::Remove(index) => {
                if self.said.is_empty() {
                    return;
                }
                let id = index.get(&self.said).id;
                let there = self.now.iter().position(|one| one.id == id);
                let there = there.map(|index| self.now.remove(index));
                let bytes = there.map(|one| usage_of([&one]).bytes);
                assert_eq!(self.shelf.remove(id), bytes);
            }
            Step::Page { after, limit } => {
                let all = all(&self.shelf);
                if all.is_empty() {
                    return;
                }
                let index = after.index(all.len());
                let page = self.shelf.page(Some(all[index].0), *limit);
                let expected = all[index + 1..].iter().take(*limit);
                assert!(page.iter().eq(expected));
            }
            Step::Commit => {
                self.shelf.commit();
                let known = &self.committed;
                let fresh = all(&self.shelf)
                    .into_iter()
                    .filter(|(_, one)| known.iter().all(|other| other.id != one.id));
                for (position, _) in fresh {
                    assert!(Some(position) > self.highest);
                    self.highest = Some(position);
                }
                self.committed.clone_from(&self.now);
            }
            Step::RollBack => self.end(S::roll_back),
            Step::Reopen => self.end(S::reopen),
            Step::Kill => self.end(S::kill),
        }
        self.check();
    }

    fn end(&mut self, end: fn(&mut S)) {
        end(&mut self.shelf);
        self.now.clone_from(&self.committed);
    }

    fn check(&self) {
        let found = all(&self.shelf);
        assert!(found.iter().map(|(_, message)| message).eq(&self.now));
        assert!(found.is_sorted_by_key(|(position, _)| *position));
        assert_eq!(self.shelf.usage(), usage_of(&self.now));
        for message in &self.said {
            let waits = self.now.iter().find(|one| one.id == message.id);
            assert_eq!(self.shelf.find(message.id).as_ref(), waits);
        }
    }
}

/// Runs the model against one implementation.
pub(super) fn check<S: Shelf>() {
    let steps = proptest::collection::vec(step(), 1..60);
    let tested = TestRunner::new(cases(48)).run(&steps, |steps| {
        let mut world = World::<S>::new();
        for step in &steps {
            world.take(step);
        }
        Ok(())
    });
    if let Err(error) = tested {
        panic!("{error}");
    }
}
