//! What the editor asks while it edits: how to paint, and what the Tab key does.
//!
//! The editor can list choices itself, but then it takes nothing to print until the next key, and
//! clears rows of its list together with the prompt's. So it is only ever given one word, and
//! choices are listed above the prompt, in line with what arrives.

use super::{
    Shared, Typed,
    complete::{Completion, complete},
};
use rustyline::{
    Context, Helper,
    completion::Completer,
    highlight::{CmdKind, Highlighter},
    hint::Hinter,
    validate::Validator,
};
use std::{
    borrow::Cow,
    sync::{Arc, PoisonError},
};
use tokio::sync::mpsc;

/// Has the screen note what is painted, and completes words.
pub(super) struct Assistant {
    pub(super) shared: Arc<Shared>,
    pub(super) typed: mpsc::Sender<Typed>,
}

impl Highlighter for Assistant {
    fn highlight<'l>(&self, line: &'l str, pos: usize) -> Cow<'l, str> {
        Cow::Owned(self.shared.screen.paint(line, pos))
    }

    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(
        &'s self,
        prompt: &'p str,
        default: bool,
    ) -> Cow<'b, str> {
        self.shared.screen.prompt((!default).then_some(prompt));
        Cow::Borrowed(prompt)
    }

    fn highlight_char(&self, line: &str, pos: usize, _: CmdKind) -> bool {
        self.shared.screen.touch(line, pos)
    }
}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let words = {
            let words = self
                .shared
                .words
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            Arc::clone(&words)
        };
        Ok(match complete(line, pos, &words) {
            Completion::Nothing => (pos, Vec::new()),
            Completion::Word(start, text) => (start, vec![text]),
            Completion::Choices(choices, count) => {
                let more = match count - choices.len() {
                    0 => String::new(),
                    more => format!("  and {more} more"),
                };
                let list = choices.join("  ") + &more;
                // If nobody is there to list them, it is the end.
                let _ = self.typed.blocking_send(Typed::Notice(list));
                // What is typed stays, and there is no bell.
                (pos, vec![String::new()])
            }
        })
    }
}

impl Hinter for Assistant {
    type Hint = String;
}

impl Validator for Assistant {}

impl Helper for Assistant {}
