//! The prompt before the line.

use super::{gate::Gate, screen::Screen};
use rustyline::Prompt;
use std::sync::Arc;

/// A prompt that tells when the editor measures and paints it: the terminal is in raw mode then.
///
/// The editor measures at the beginning of a line, and when the terminal's width has changed.
pub(super) struct Label {
    text: String,
    gate: Arc<Gate>,
    screen: Arc<Screen>,
}

impl Label {
    pub(super) const fn new(text: String, gate: Arc<Gate>, screen: Arc<Screen>) -> Self {
        Self { text, gate, screen }
    }
}

impl Prompt for Label {
    fn raw(&self) -> &str {
        if self.gate.measured() {
            self.screen.begin(&self.text);
        } else {
            self.screen.resized();
        }
        &self.text
    }

    fn styled(&self) -> &str {
        self.gate.painted();
        &self.text
    }
}
