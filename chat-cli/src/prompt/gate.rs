//! Whether arrivals may go to the editor, and whether it has painted since.
//!
//! rustyline's printer writes directly to the terminal when no line is being edited, past what it
//! was given before. The gate holds arrivals back then, so that they keep their order.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// No line is being edited.
    #[default]
    Closed,
    /// The editor is about to begin.
    Armed,
    /// A line is being edited.
    Open,
    /// The end: nothing will be edited any more.
    ForGood,
}

#[derive(Debug, Default)]
struct Inner {
    state: State,
    /// Whether the line being edited is the last one.
    ending: bool,
    at: Mark,
}

/// A point in the editor's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    /// Lines begun.
    line: u64,
    /// Times the prompt was painted in an open line.
    paints: u64,
}

impl Mark {
    /// Whether both are in one line.
    pub(super) const fn same_line(self, other: Self) -> bool {
        self.line == other.line
    }
}

#[derive(Debug, Default)]
pub(super) struct Gate {
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Gate {
    /// The editor begins; its first look at the prompt opens the gate.
    pub(super) fn arm(&self) {
        let mut inner = self.inner();
        if inner.state == State::Closed {
            inner.state = State::Armed;
        }
    }

    /// The line has ended.
    pub(super) fn close(&self) {
        let mut inner = self.inner();
        if inner.state != State::ForGood {
            inner.state = if inner.ending {
                State::ForGood
            } else {
                State::Closed
            };
            self.changed.notify_all();
        }
    }

    /// Whether a line is being edited.
    pub(super) fn is_open(&self) -> bool {
        self.inner().state == State::Open
    }

    /// No line is begun any more: from the end of this one on, nothing is held back.
    pub(super) fn end(&self) {
        let mut inner = self.inner();
        inner.ending = true;
        if inner.state != State::Open {
            inner.state = State::ForGood;
        }
        self.changed.notify_all();
    }

    /// Blocks until a line is being edited; false if none will be.
    pub(super) fn wait(&self) -> bool {
        let held = |inner: &mut Inner| matches!(inner.state, State::Closed | State::Armed);
        self.wait_while(held).state == State::Open
    }

    /// Where the editor is now.
    pub(super) fn mark(&self) -> Mark {
        self.inner().at
    }

    /// Blocks until the prompt is painted after `mark`; false if its line ended before.
    pub(super) fn wait_painted(&self, mark: Mark) -> bool {
        let at = self
            .wait_while(|inner| inner.state == State::Open && inner.at == mark)
            .at;
        at.same_line(mark) && at.paints > mark.paints
    }

    /// The editor measures the prompt; whether that begins a line.
    pub(super) fn measured(&self) -> bool {
        let mut inner = self.inner();
        let begins = inner.state == State::Armed;
        if begins {
            inner.state = State::Open;
            inner.at.line += 1;
            self.changed.notify_all();
        }
        begins
    }

    /// The editor paints the prompt.
    pub(super) fn painted(&self) {
        let mut inner = self.inner();
        if inner.state == State::Open {
            inner.at.paints += 1;
            self.changed.notify_all();
        }
    }

    fn wait_while(&self, held: impl FnMut(&mut Inner) -> bool) -> MutexGuard<'_, Inner> {
        // Poisoning is impossible to act on here: these are plain values.
        self.changed
            .wait_while(self.inner(), held)
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_is_open_only_while_a_line_is_edited() {
        let gate = Gate::default();
        assert!(!gate.measured());
        assert!(!gate.is_open());
        gate.arm();
        assert!(!gate.is_open());
        assert!(gate.measured());
        assert!(gate.is_open());
        assert!(gate.wait());
        gate.close();
        assert!(!gate.measured());
        assert!(!gate.is_open());
        gate.end();
        gate.arm();
        gate.close();
        assert!(!gate.wait());
    }

    #[test]
    fn a_line_that_is_being_edited_at_the_end_is_the_last() {
        let gate = Gate::default();
        gate.arm();
        gate.measured();
        gate.end();
        assert!(gate.wait());
        gate.close();
        assert!(!gate.wait());
    }

    #[test]
    fn only_painting_in_the_same_line_counts() {
        let gate = Gate::default();
        gate.arm();
        gate.measured();
        let before = gate.mark();
        gate.measured();
        assert_eq!(gate.mark(), before);
        gate.painted();
        assert!(gate.wait_painted(before));
        let last = gate.mark();
        gate.close();
        assert!(gate.wait_painted(before));
        assert!(!gate.wait_painted(last));
        gate.arm();
        gate.measured();
        gate.painted();
        assert!(!gate.wait_painted(last));
    }
}
