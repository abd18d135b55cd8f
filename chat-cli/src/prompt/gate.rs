//! Whether arrivals may go to the editor.
//!
//! rustyline's printer writes directly to the terminal when no line is being edited, past what it
//! was given before. The gate holds arrivals back then, so that they keep their order.

use rustyline::Prompt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

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
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

impl Gate {
    /// The editor begins; its first look at the prompt opens the gate.
    pub(super) fn arm(&self) {
        self.change(State::Closed, State::Armed);
    }

    /// The line has ended.
    pub(super) fn close(&self) {
        self.change(State::Armed, State::Closed);
        self.change(State::Open, State::Closed);
    }

    /// Whether a line is being edited.
    pub(super) fn is_open(&self) -> bool {
        *self.state() == State::Open
    }

    /// Nothing is held back any more.
    pub(super) fn open_for_good(&self) {
        *self.state() = State::ForGood;
        self.changed.notify_all();
    }

    /// Blocks until a line is being edited.
    pub(super) fn wait(&self) {
        let state = self.state();
        let closed = |state: &mut State| matches!(state, State::Closed | State::Armed);
        // Poisoning is impossible to act on here: the state is a plain value.
        drop(
            self.changed
                .wait_while(state, closed)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    fn change(&self, from: State, to: State) {
        let mut state = self.state();
        if *state == from {
            *state = to;
            self.changed.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A prompt that opens the gate when the editor first looks at it: the terminal is in raw mode
/// by then.
pub(super) struct GatedPrompt {
    text: String,
    gate: Arc<Gate>,
}

impl GatedPrompt {
    pub(super) const fn new(text: String, gate: Arc<Gate>) -> Self {
        Self { text, gate }
    }
}

impl Prompt for GatedPrompt {
    fn raw(&self) -> &str {
        self.gate.change(State::Armed, State::Open);
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_is_open_only_while_a_line_is_edited() {
        let gate = Arc::new(Gate::default());
        let prompt = GatedPrompt::new("&lobby> ".to_owned(), Arc::clone(&gate));
        assert_eq!(prompt.raw(), "&lobby> ");
        assert!(!gate.is_open());
        gate.arm();
        assert!(!gate.is_open());
        prompt.raw();
        assert!(gate.is_open());
        gate.wait();
        gate.close();
        prompt.raw();
        assert!(!gate.is_open());
        gate.open_for_good();
        gate.arm();
        gate.close();
        gate.wait();
    }
}
