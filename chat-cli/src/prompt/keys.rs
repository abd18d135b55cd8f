//! What keys do, as people know them from shells.
//!
//! The editor's own table of such keys takes Alt and a digit for a count before anybody is asked.
//! Its other table does not; there all that is different from plain typing is said here.

use super::{Shared, Typed, Which, history::SharedHistory, modes::suspend};
use crate::render::{excerpt, line as cleaned};
use rustyline::{
    Anchor, At, Cmd, ConditionalEventHandler, Event, EventContext, KeyCode as K, KeyEvent as E,
    Modifiers as M, Movement, RepeatCount, Word,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Lines, and bytes, of a text that is sent without asking; more is rarely meant to be one message.
const LARGE_LINES: usize = 20;
const LARGE_BYTES: usize = 4 * 1024;

/// A large text that it was asked about: its beginning stands for it, so that the question is
/// seen however tall the text is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    whole: String,
    shown: String,
}

impl Asked {
    fn new(whole: &str, rest: &str) -> Self {
        Self {
            whole: whole.to_owned(),
            shown: format!(
                "{} [{rest}]",
                cleaned(excerpt(whole).trim_end_matches('…').trim_end())
            ),
        }
    }

    /// The line with the whole text in it again.
    fn expand(&self, line: &str) -> String {
        let behind = line.strip_prefix(&self.shown);
        behind.map_or_else(|| line.to_owned(), |behind| self.whole.clone() + behind)
    }
}

/// A half-typed line that goes on under another prompt.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Carried {
    /// Which; the same if there is none.
    pub(super) to: Option<Which>,
    /// What is before the cursor.
    pub(super) left: String,
    /// What is behind it.
    pub(super) right: String,
}

/// How often in a row Ctrl-C was pressed on an empty line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Interrupts {
    #[default]
    None,
    One,
    More,
}

impl Interrupts {
    fn after(self, key: E, is_empty: bool) -> Self {
        match (key, self) {
            (E(K::Char('C'), M::CTRL), Self::None) if is_empty => Self::One,
            (E(K::Char('C'), M::CTRL), _) if is_empty => Self::More,
            _ => Self::None,
        }
    }
}

/// The handler of every key.
pub(super) struct Keys {
    pub(super) typed: mpsc::Sender<Typed>,
    pub(super) history: SharedHistory,
    pub(super) shared: Arc<Shared>,
    /// Why the editing ends, if it is not by a command.
    pub(super) carried: Arc<Mutex<Option<Carried>>>,
    /// A large text that it was asked about.
    pub(super) asked: Mutex<Option<Asked>>,
    /// A large command that it was asked about, and that is accepted.
    pub(super) accepted: Arc<Mutex<Option<String>>>,
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
        self.count_interrupts(key, ctx.line().is_empty());
        if let Some(whole) = self.changed_within(key, ctx) {
            return Some(self.carry(None, &whole, ""));
        }
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
            // On an empty line it is the wish to leave.
            E(K::Char('C'), M::CTRL) if !ctx.line().is_empty() => {
                self.asked().take();
                Some(Cmd::Kill(Movement::WholeBuffer))
            }
            E(K::Char('Z'), M::CTRL) => Some(self.suspend()),
            _ => editing(key),
        }
    }
}

impl Keys {
    fn count_interrupts(&self, key: E, is_empty: bool) {
        let interrupts = self.shared.interrupts.lock();
        let mut interrupts = interrupts.unwrap_or_else(PoisonError::into_inner);
        *interrupts = interrupts.after(key, is_empty);
    }

    fn enter(&self, line: &str) -> Cmd {
        let asked = self.asked().take();
        let is_answered = asked.as_ref().is_some_and(|asked| asked.shown == line);
        let line = &asked.map_or_else(|| line.to_owned(), |asked| asked.expand(line));
        if !is_answered && let Some((question, asked)) = question(line) {
            let shown = asked.shown.clone();
            *self.asked() = Some(asked);
            // Nobody may be left to ask.
            let _ = self.typed.blocking_send(Typed::Notice(question));
            return self.carry(None, &shown, "");
        }
        if line.starts_with('/') && !line.starts_with("//") {
            if is_answered {
                let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
                *accepted = Some(line.clone());
            }
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

    fn asked(&self) -> MutexGuard<'_, Option<Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The whole text again, if a key is to change what only stands for it. It may be gone on with
    /// at its end.
    fn changed_within(&self, key: E, ctx: &EventContext<'_>) -> Option<String> {
        let line = ctx.line();
        let at_end = ctx.pos() == line.len();
        let stays = match key {
            E(K::Char(_), M::NONE | M::SHIFT) => at_end,
            E(K::Char(c), M::CTRL) => matches!(c, 'C' | 'J' | 'L' | 'N' | 'P' | 'U' | 'Z'),
            E(K::Enter, M::NONE) | E(K::BracketedPasteStart, _) | E(K::Char('1'..='9'), M::ALT) => {
                true
            }
            _ => false,
        };
        if stays {
            return None;
        }
        let mut asked = self.asked();
        let one = asked.take_if(|asked| line.starts_with(&asked.shown))?;
        Some(one.expand(line))
    }

    /// Ends this line for a prompt of another room; what was typed goes along.
    fn switch(&self, to: Which, ctx: &EventContext<'_>) -> Cmd {
        let asked = self.asked().take();
        let line = asked.as_ref().map(|asked| asked.expand(ctx.line()));
        let line = line.filter(|line| line != ctx.line());
        let (left, right) = match &line {
            Some(whole) => (whole.as_str(), ""),
            None => ctx.line().split_at(ctx.pos()),
        };
        self.carry(Some(to), left, right)
    }

    /// Ends this line; another goes on with this.
    fn carry(&self, to: Option<Which>, left: &str, right: &str) -> Cmd {
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

/// What to ask before a large text is sent, and what stands for it meanwhile.
fn question(line: &str) -> Option<(String, Asked)> {
    let lines = line.trim_end().lines().count();
    if lines <= LARGE_LINES && line.len() <= LARGE_BYTES {
        return None;
    }
    let size = match line.len() {
        bytes @ ..1024 => format!("{bytes} bytes"),
        bytes => format!("{} KiB", bytes.div_ceil(1024)),
    };
    let (count, rest) = match lines {
        1 => ("1 line".to_owned(), size.clone()),
        lines => (format!("{lines} lines"), format!("+{} lines", lines - 1)),
    };
    let question = format!("that is {count}, {size}: Enter again sends it, Ctrl-U drops it");
    Some((question, Asked::new(line, &rest)))
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
