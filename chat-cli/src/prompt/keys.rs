//! What keys do, as people know them from shells.
//!
//! The editor's own table of such keys takes Alt and a digit for a count before anybody is asked.
//! Its other table does not; there all that is different from plain typing is said here.

use super::{Shared, Typed, Which, history::SharedHistory, modes::suspend};
use rustyline::{
    Anchor, At, Cmd, ConditionalEventHandler, Event, EventContext, KeyCode as K, KeyEvent as E,
    Modifiers as M, Movement, RepeatCount, Word,
};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Lines, and bytes, of a text that is sent without asking; more is rarely meant to be one message.
const LARGE_LINES: usize = 20;
const LARGE_BYTES: usize = 4 * 1024;

/// A half-typed line that goes on under another prompt.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) to: Which,
    /// What is before the cursor.
    pub(super) left: String,
    /// What is behind it.
    pub(super) right: String,
}

/// The handler of every key.
pub(super) struct Keys {
    pub(super) typed: mpsc::Sender<Typed>,
    pub(super) history: SharedHistory,
    pub(super) shared: Arc<Shared>,
    /// Why the editing ends, if it is not by a command.
    pub(super) carried: Arc<Mutex<Option<Carried>>>,
    /// A large text that it was asked about.
    pub(super) asked: Mutex<Option<String>>,
}

impl ConditionalEventHandler for Keys {
    fn handle(
        &self,
        event: &Event,
        _: RepeatCount,
        _: bool,
        ctx: &EventContext<'_>,
    ) -> Option<Cmd> {
        let key = *event.get(0)?;
        match key {
            E(K::Enter, M::NONE) | E(K::Char('J'), M::CTRL) => Some(self.enter(ctx.line())),
            E(K::Char(digit @ '1'..='9'), M::ALT) => {
                let number = u8::try_from(digit).unwrap_or_default() - b'0';
                Some(self.switch(Which::Number(number), ctx))
            }
            E(K::Char('N'), M::CTRL) => Some(self.switch(Which::Next, ctx)),
            E(K::Char('P'), M::CTRL) => Some(self.switch(Which::Previous, ctx)),
            // On an empty line it is the end, which the editor knows.
            E(K::Char('D'), M::CTRL) if !ctx.line().is_empty() => {
                Some(Cmd::Kill(Movement::ForwardChar(1)))
            }
            E(K::Char('Z'), M::CTRL) => Some(self.suspend()),
            _ => editing(key),
        }
    }
}

impl Keys {
    fn enter(&self, line: &str) -> Cmd {
        if let Some(question) = self.question(line) {
            // Nobody may be left to ask.
            let _ = self.typed.blocking_send(Typed::Notice(question));
            return Cmd::Noop;
        }
        if line.starts_with('/') && !line.starts_with("//") {
            self.shared.gate.close();
            return Cmd::AcceptLine;
        }
        // Waits for an owner that is behind, as the next keys do: what is typed or pasted quickly
        // keeps its lines. This is the editor's own thread, and the owner waits for it in nothing.
        if !line.trim().is_empty()
            && self
                .typed
                .blocking_send(Typed::Message(line.to_owned()))
                .is_err()
        {
            // The end: the line stays where it is.
            return Cmd::Noop;
        }
        if let Some(complaint) = self.history.remember(line) {
            // Nobody may be left to hear it.
            let _ = self.typed.blocking_send(Typed::Notice(complaint));
        }
        Cmd::Kill(Movement::WholeBuffer)
    }

    /// Leaves the terminal to the shell until that gives it back.
    fn suspend(&self) -> Cmd {
        self.shared.screen.leave();
        self.shared.modes.set_found();
        suspend();
        self.shared.modes.set_editing();
        self.shared.screen.come_back();
        Cmd::Repaint
    }

    /// What to ask before a large text is sent; nothing if the same was asked already.
    fn question(&self, line: &str) -> Option<String> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = asked.take().is_some_and(|asked| asked == line);
        let lines = line.trim_end().lines().count();
        if answered || (lines <= LARGE_LINES && line.len() <= LARGE_BYTES) {
            return None;
        }
        *asked = Some(line.to_owned());
        let lines = match lines {
            1 => "1 line".to_owned(),
            lines => format!("{lines} lines"),
        };
        let kib = line.len().div_ceil(1024);
        Some(format!(
            "that is {lines}, {kib} KiB: Enter again sends it, Ctrl-U drops it"
        ))
    }

    /// Ends this line for a prompt of another room; what was typed goes along.
    fn switch(&self, to: Which, ctx: &EventContext<'_>) -> Cmd {
        let (left, right) = ctx.line().split_at(ctx.pos());
        let carried = Carried {
            to,
            left: left.to_owned(),
            right: right.to_owned(),
        };
        *self.carried.lock().unwrap_or_else(PoisonError::into_inner) = Some(carried);
        self.shared.gate.close();
        Cmd::AcceptLine
    }
}

/// What a key does to the line, if it is not what the editor does by itself.
fn editing(key: E) -> Option<Cmd> {
    Some(match key {
        E(K::Char('A'), M::CTRL) => Cmd::Move(Movement::BeginningOfLine),
        E(K::Char('E'), M::CTRL) => Cmd::Move(Movement::EndOfLine),
        E(K::Char('B'), M::CTRL) => Cmd::Move(Movement::BackwardChar(1)),
        E(K::Char('F'), M::CTRL) => Cmd::Move(Movement::ForwardChar(1)),
        E(K::Char('B' | 'b') | K::Left, M::ALT) | E(K::Left, M::CTRL) => {
            Cmd::Move(Movement::BackwardWord(1, Word::Emacs))
        }
        E(K::Char('F' | 'f') | K::Right, M::ALT) | E(K::Right, M::CTRL) => {
            Cmd::Move(Movement::ForwardWord(1, At::AfterEnd, Word::Emacs))
        }
        E(K::Char('K'), M::CTRL) => Cmd::Kill(Movement::EndOfLine),
        // All of a paste of many lines, too.
        E(K::Char('U'), M::CTRL) => Cmd::Kill(Movement::BeginningOfBuffer),
        E(K::Char('D' | 'd'), M::ALT) => {
            Cmd::Kill(Movement::ForwardWord(1, At::AfterEnd, Word::Emacs))
        }
        E(K::Backspace, M::ALT) => Cmd::Kill(Movement::BackwardWord(1, Word::Emacs)),
        E(K::Char('Y'), M::CTRL) => Cmd::Yank(1, Anchor::Before),
        E(K::Char('Y' | 'y'), M::ALT) => Cmd::YankPop,
        E(K::Char('C' | 'c'), M::ALT) => Cmd::CapitalizeWord,
        E(K::Char('L' | 'l'), M::ALT) => Cmd::DowncaseWord,
        E(K::Char('U' | 'u'), M::ALT) => Cmd::UpcaseWord,
        E(K::Char('T' | 't'), M::ALT) => Cmd::TransposeWords(1),
        E(K::Char('<'), M::ALT) => Cmd::BeginningOfHistory,
        E(K::Char('>'), M::ALT) => Cmd::EndOfHistory,
        E(K::Char('L'), M::CTRL) => Cmd::ClearScreen,
        E(K::Enter, M::ALT) => Cmd::Newline,
        E(K::Char('G'), M::CTRL) | E(K::Esc, _) => Cmd::Abort,
        // Else these would go to a mode where each letter is a command.
        E(K::Char(_), modifiers) if modifiers.contains(M::ALT) => Cmd::Noop,
        _ => return None,
    })
}
