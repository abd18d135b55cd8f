//! The line being typed, kept intact while messages arrive.
//!
//! rustyline edits the line on a thread of its own; another hands arrivals to its external
//! printer, which puts them above the line. Sending a message does not end the editing: the line
//! is emptied and editing goes on. Only a command or another room ends it, until the owner answers
//! with the next prompt, because the prompt may change by it.
//!
//! ```text
//!  owner ──prompts──▶ editor thread ──typed──▶ owner
//!  owner ──blocks───▶ printer thread ──(while editing)──▶ terminal
//!        ◀─printed──
//!  owner ──state────▶ marker ─ ─ ─ ─ ─ repaint thread ───▶ the prompt, painted again
//! ```

mod complete;
mod editing;
mod gate;
mod helper;
mod history;
mod history_file;
mod keys;
mod label;
mod modes;
mod printing;
mod rows;
mod screen;

pub use complete::Words;
pub use label::State;
pub use printing::{Block, NOTHING};

use editing::Editing;
use gate::Gate;
use keys::Interrupts;
use label::{Look, Marker};
use modes::{Modes, PASTE_OFF};
use rustix::process::Signal as Number;
use screen::Screen;
use std::{
    env,
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc as sync_mpsc,
    },
    thread,
    time::Duration,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

/// Typed lines that wait for the owner; the editor waits with one more.
const TYPED: usize = 16;

/// Blocks that wait for the terminal, and tokens that wait for the owner; the size of blocks is
/// the owner's to bound.
const PRINTED: usize = 4;

/// How long the last words may take: a stopped terminal takes none.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The way to the terminal, above the prompt.
#[derive(Debug)]
pub struct Printer<T> {
    /// Where to put blocks to be printed.
    pub blocks: mpsc::Sender<Block<T>>,
    /// The token of each block that is on the terminal, in their order.
    pub printed: mpsc::Receiver<T>,
}

/// What a person did.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// Typed a message. Editing goes on.
    Message(String),
    /// Typed a command. Editing goes on with the next [`Prompt::show`].
    Command(String),
    /// Nothing, but there is something to be told above the line: this, as it is, in one line.
    /// Editing goes on.
    Notice(String),
    /// Wants to go to another room. Editing goes on with the next [`Prompt::show`], where it was:
    /// what is typed so far is kept.
    Switch(Which),
    /// Pressed Ctrl-C on an empty line. Editing goes on with the next [`Prompt::show`].
    Interrupt {
        /// Whether that was the last key before it, too.
        again: bool,
    },
    /// Nothing: the prompt itself broke down, which is a defect.
    Broken,
    /// Pressed Ctrl-D on an empty line, or the terminal is gone.
    End,
}

/// Which room a person wants to go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The room of this number, from 1 (Alt-1) to 9.
    Number(u8),
    /// The one after this (Ctrl-N).
    Next,
    /// The one before this (Ctrl-P).
    Previous,
}

/// How the terminal is used.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether the prompt may have colours.
    pub colour: bool,
    /// Where what is typed is remembered for the next terminals.
    pub history: Option<PathBuf>,
}

/// What a prompt says, besides the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptText {
    /// The room that is written to, safe for a terminal already.
    pub room: String,
}

/// A prompt at the terminal. Dropping it leaves the terminal as it was found.
#[derive(Debug)]
pub struct Prompt {
    typed: mpsc::Receiver<Typed>,
    /// `None` after [`Prompt::finish`].
    prompts: Option<sync_mpsc::SyncSender<PromptText>>,
    /// Asks for the prompt to be painted again; `None` after [`Prompt::finish`].
    repaint: Option<sync_mpsc::SyncSender<()>>,
    shared: Arc<Shared>,
    /// That this process goes on after it was stopped.
    goes_on: Signal,
}

/// What the owner and the threads have in common.
#[derive(Debug)]
struct Shared {
    gate: Gate,
    marker: Marker,
    screen: Screen,
    modes: Arc<Modes>,
    words: Mutex<Arc<Words>>,
    /// Whether Ctrl-C on an empty line was the last key, and the one before it.
    interrupts: Mutex<Interrupts>,
    /// Whether this process was stopped, and somebody else had the terminal, since it was painted.
    continued: AtomicBool,
}

/// Whether this terminal can do what editing needs.
#[must_use]
pub fn is_supported() -> bool {
    let term = env::var_os("TERM").unwrap_or_default();
    !["", "dumb", "cons25", "emacs"].iter().any(|no| term == *no)
}

impl Prompt {
    /// Takes over the terminal; editing begins with the first [`Prompt::show`]. A panic of any
    /// thread leaves the terminal as it was found, too.
    ///
    /// # Errors
    ///
    /// If standard input or output is no terminal after all, or signals cannot be watched.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    pub fn open<T: Send + 'static>(options: Options) -> io::Result<(Self, Printer<T>)> {
        let goes_on = signal(SignalKind::from_raw(Number::CONT.as_raw()))?;
        let (typed_tx, typed) = mpsc::channel(TYPED);
        let (blocks, to_print) = mpsc::channel(PRINTED);
        let (out, printed) = mpsc::channel(PRINTED);
        let (prompts, next_prompt) = sync_mpsc::sync_channel(1);
        let (repaint, repaints) = sync_mpsc::sync_channel(1);
        let config = editing::config();
        let shared = Arc::new(Shared {
            gate: Gate::default(),
            marker: Marker::new(Look {
                colour: options.colour,
                unicode: label::is_unicode(|name| env::var(name).ok()),
            }),
            screen: Screen::new(config.grapheme_cluster_mode()),
            modes: Modes::of(io::stdin(), io::stdout())?,
            words: Mutex::default(),
            interrupts: Mutex::default(),
            continued: AtomicBool::new(false),
        });
        shared.modes.restore_on_panic();
        let mut editing = Editing::new(config, typed_tx.clone(), Arc::clone(&shared))?;
        // None is joined: each may wait for a person or a stopped terminal, and ends with the
        // process.
        let start = |run: Box<dyn FnOnce() + Send>| {
            let end = EndInPanic(typed_tx.clone());
            thread::spawn(move || {
                let _end = end;
                run();
            });
        };
        {
            let (printer, shared) = (editing.printer()?, Arc::clone(&shared));
            start(Box::new(move || {
                printing::repaint(&repaints, printer, &shared)
            }));
        }
        {
            let (printer, shared) = (editing.printer()?, Arc::clone(&shared));
            start(Box::new(move || {
                printing::print(to_print, &out, printer, &shared.gate)
            }));
        }
        start(Box::new(move || editing.run(&next_prompt, options.history)));
        let prompt = Self {
            typed,
            prompts: Some(prompts),
            repaint: Some(repaint),
            shared,
            goes_on,
        };
        Ok((prompt, Printer { blocks, printed }))
    }

    /// The next thing a person did; [`Typed::End`] when nothing more can come.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn typed(&mut self) -> Typed {
        loop {
            tokio::select! {
                typed = self.typed.recv() => return typed.unwrap_or(Typed::End),
                Some(()) = self.goes_on.recv() => self.go_on(),
            }
        }
    }

    /// The shell had the terminal, and may have left it otherwise than the editor needs it.
    fn go_on(&self) {
        if self.shared.gate.is_open() {
            self.shared.modes.set_editing();
            self.shared.continued.store(true, Ordering::Relaxed);
            modes::ask_for_size();
            self.paint_again();
        }
    }

    fn paint_again(&self) {
        if let Some(repaint) = &self.repaint {
            // One that is asked for already will show the same.
            let _ = repaint.try_send(());
        }
    }

    /// Shows a prompt: at first, and after each [`Typed::Command`], [`Typed::Switch`] and
    /// [`Typed::Interrupt`].
    pub fn show(&self, prompt: PromptText) {
        if let Some(prompts) = &self.prompts {
            // One is asked for at a time, so there is room; an ended editor needs none.
            let _ = prompts.try_send(prompt);
        }
    }

    /// Sets the modes as they were found, after another program had the terminal between two
    /// prompts.
    pub fn reset_modes(&self) {
        self.shared.modes.set_found();
    }

    /// Shows the state at the prompt, and how many messages wait, at any time.
    pub fn set_state(&self, state: State, waiting: u32) {
        if self.shared.marker.set(state, waiting) {
            self.paint_again();
        }
    }

    /// Sets what the Tab key completes, at any time.
    pub fn set_words(&self, words: Words) {
        let mut shared = self
            .shared
            .words
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *shared = Arc::new(words);
    }

    /// Takes nothing more from the person; what was given to the printer is printed still. Gives
    /// back what was typed before.
    pub fn finish(&mut self) -> Vec<Typed> {
        // An editor between two lines ends now; one in a line goes on until the process ends.
        self.prompts = None;
        self.repaint = None;
        self.shared.gate.end();
        self.typed.close();
        std::iter::from_fn(|| self.typed.try_recv().ok()).collect()
    }

    /// Leaves the terminal as it was found and says the last words to it; waits for a terminal
    /// that is stopped only for a moment, and not at all if there is `hurry`.
    pub fn end(mut self, hurry: bool, last_words: impl FnOnce() + Send + 'static) {
        self.restore(hurry, last_words);
    }

    fn restore(&mut self, hurry: bool, last_words: impl FnOnce() + Send + 'static) {
        if !self.shared.modes.restore() {
            return;
        }
        self.finish();
        let shared = Arc::clone(&self.shared);
        let (done, said) = sync_mpsc::sync_channel(1);
        thread::spawn(move || {
            if shared.gate.is_open() {
                let below = shared.screen.below();
                let mut terminal = io::stdout().lock();
                // There is nobody to tell about what cannot be printed.
                let _ = terminal.write_all(format!("{PASTE_OFF}{below}").as_bytes());
                let _ = terminal.flush();
            }
            last_words();
            let _ = done.send(());
        });
        if !hurry {
            let _ = said.recv_timeout(LAST_WORDS);
        }
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        self.restore(false, || {});
    }
}

/// Without its threads a prompt is none.
struct EndInPanic(mpsc::Sender<Typed>);

impl Drop for EndInPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            // The owner may have ended before.
            let _ = self.0.blocking_send(Typed::Broken);
        }
    }
}
