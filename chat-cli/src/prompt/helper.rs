//! What the editor asks while it edits: how to paint.

use super::screen::Screen;
use rustyline::{
    Helper,
    completion::Completer,
    highlight::{CmdKind, Highlighter},
    hint::Hinter,
    validate::Validator,
};
use std::{borrow::Cow, sync::Arc};

/// Has the screen note what is painted.
pub(super) struct Painter {
    screen: Arc<Screen>,
}

impl Painter {
    pub(super) const fn new(screen: Arc<Screen>) -> Self {
        Self { screen }
    }
}

impl Highlighter for Painter {
    fn highlight<'l>(&self, line: &'l str, pos: usize) -> Cow<'l, str> {
        Cow::Owned(self.screen.paint(line, pos))
    }

    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(
        &'s self,
        prompt: &'p str,
        default: bool,
    ) -> Cow<'b, str> {
        self.screen.prompt((!default).then_some(prompt));
        Cow::Borrowed(prompt)
    }

    fn highlight_char(&self, line: &str, pos: usize, _: CmdKind) -> bool {
        self.screen.touch(line, pos)
    }
}

impl Completer for Painter {
    type Candidate = String;
}

impl Hinter for Painter {
    type Hint = String;
}

impl Validator for Painter {}

impl Helper for Painter {}
