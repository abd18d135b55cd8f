//! The line being typed, kept intact while messages arrive.
//!
//! rustyline edits the line on a thread of its own; another hands arrivals to its external
//! printer, which puts them above the line. Sending a message does not end the editing: the line
//! is emptied and editing goes on. Only a command ends it, until the owner answers with the next
//! prompt, because the prompt may change by it.
//!
//! ```text
//!  owner ──prompts──▶ editor thread ──typed──▶ owner
//!  owner ──lines────▶ printer thread ──(while editing)──▶ terminal
//! ```

mod gate;
mod history;

use gate::{Gate, GatedPrompt};
use history::SharedHistory;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::{
    Cmd, ConditionalEventHandler, Config, Editor, Event, EventContext, EventHandler,
    ExternalPrinter, KeyCode, KeyEvent, Modifiers, Movement, RepeatCount, error::ReadlineError,
};
use std::{
    io::{self, Write},
    sync::{Arc, mpsc as sync_mpsc},
    thread::{self, JoinHandle},
};
use tokio::sync::mpsc;

/// Typed lines that wait for the owner; one more stays in the editor.
const TYPED: usize = 16;

/// Blocks of lines that wait for the terminal; their size is the owner's to bound.
const PRINTED: usize = 4;

/// What a person did.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// Typed a message. Editing goes on.
    Message(String),
    /// Typed a command. Editing goes on with the next [`Prompt::show`].
    Command(String),
    /// Pressed Ctrl-C. Editing goes on with the next [`Prompt::show`].
    Interrupt,
    /// Pressed Ctrl-D on an empty line, or the terminal is gone.
    End,
}

/// A prompt at the terminal. Dropping it leaves the terminal as it was found.
#[derive(Debug)]
pub struct Prompt {
    typed: mpsc::Receiver<Typed>,
    /// `None` only while dropping.
    printer: Option<mpsc::Sender<String>>,
    /// `None` only while dropping.
    prompts: Option<sync_mpsc::SyncSender<String>>,
    printing: Option<JoinHandle<()>>,
    gate: Arc<Gate>,
    found: Termios,
}

/// Whether this terminal can do what editing needs.
#[must_use]
pub fn is_supported() -> bool {
    let term = std::env::var_os("TERM").unwrap_or_default();
    !["", "dumb", "cons25", "emacs"].iter().any(|no| term == *no)
}

impl Prompt {
    /// Takes over the terminal; editing begins with the first [`Prompt::show`].
    ///
    /// # Errors
    ///
    /// If standard input or output is no terminal after all.
    pub fn open() -> io::Result<Self> {
        let found = tcgetattr(io::stdin())?;
        let (typed_tx, typed) = mpsc::channel(TYPED);
        let (printer, to_print) = mpsc::channel(PRINTED);
        let (prompts, next_prompt) = sync_mpsc::sync_channel(1);
        let gate = Arc::new(Gate::default());
        let history = SharedHistory::default();
        let mut editor =
            Editor::with_history(Config::default(), history.clone()).map_err(io::Error::other)?;
        let enter = [
            KeyEvent(KeyCode::Enter, Modifiers::NONE),
            KeyEvent::ctrl('J'),
        ];
        for key in enter {
            let handler = Enter {
                typed: typed_tx.clone(),
                history: history.clone(),
                gate: Arc::clone(&gate),
            };
            editor.bind_sequence(key, EventHandler::Conditional(Box::new(handler)));
        }
        let external = editor.create_external_printer().map_err(io::Error::other)?;
        let printing = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || print(to_print, external, &gate))
        };
        {
            let gate = Arc::clone(&gate);
            // Not joined: it may wait for a key that never comes, and ends with the process.
            thread::spawn(move || edit(editor, &next_prompt, &typed_tx, &gate));
        }
        Ok(Self {
            typed,
            printer: Some(printer),
            prompts: Some(prompts),
            printing: Some(printing),
            gate,
            found,
        })
    }

    /// The next thing a person did; [`Typed::End`] when nothing more can come.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn typed(&mut self) -> Typed {
        self.typed.recv().await.unwrap_or(Typed::End)
    }

    /// Where to put lines to be printed above the prompt, safe for a terminal already.
    #[must_use]
    pub const fn printer(&self) -> Option<&mpsc::Sender<String>> {
        self.printer.as_ref()
    }

    /// Shows a prompt: at first, and after each [`Typed::Command`] and [`Typed::Interrupt`].
    pub fn show(&self, prompt: String) {
        if let Some(prompts) = &self.prompts {
            // One is asked for at a time, so there is room; an ended editor needs none.
            let _ = prompts.try_send(prompt);
        }
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        // An editor between two lines ends now; one in a line goes on until the process ends.
        self.prompts = None;
        let in_line = self.gate.is_open();
        self.gate.open_for_good();
        self.printer = None;
        if !in_line && let Some(printing) = self.printing.take() {
            // Its outcome is what could be printed; there is nobody to tell about the rest.
            let _ = printing.join();
        }
        // The terminal may be gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.found);
        if in_line {
            let bracketed_paste_off = "\x1b[?2004l";
            let _ = writeln!(io::stdout(), "{bracketed_paste_off}\r");
        }
    }
}

fn print(mut lines: mpsc::Receiver<String>, mut external: impl ExternalPrinter, gate: &Gate) {
    while let Some(block) = lines.blocking_recv() {
        gate.wait();
        if external.print(block.clone()).is_err() {
            // The editor has ended: nothing is being edited that could be disturbed.
            let _ = write!(io::stdout(), "{block}");
        }
    }
}

fn edit(
    mut editor: Editor<(), SharedHistory>,
    prompts: &sync_mpsc::Receiver<String>,
    typed: &mpsc::Sender<Typed>,
    gate: &Arc<Gate>,
) {
    while let Ok(prompt) = prompts.recv() {
        gate.arm();
        let line = editor.readline(&GatedPrompt::new(prompt, Arc::clone(gate)));
        gate.close();
        let (what, goes_on) = match line {
            Ok(line) => {
                // Rejects only what is empty or a repetition.
                let _ = editor.add_history_entry(line.as_str());
                (Typed::Command(line), true)
            }
            Err(ReadlineError::Interrupted) => (Typed::Interrupt, true),
            Err(_) => (Typed::End, false),
        };
        if typed.blocking_send(what).is_err() || !goes_on {
            return;
        }
    }
}

/// What the Enter key does.
struct Enter {
    typed: mpsc::Sender<Typed>,
    history: SharedHistory,
    gate: Arc<Gate>,
}

impl ConditionalEventHandler for Enter {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, ctx: &EventContext<'_>) -> Option<Cmd> {
        let line = ctx.line();
        if line.starts_with('/') && !line.starts_with("//") {
            self.gate.close();
            return Some(Cmd::AcceptLine);
        }
        // With no room for it the line stays where it is, and nothing waits.
        if !line.trim().is_empty()
            && self
                .typed
                .try_send(Typed::Message(line.to_owned()))
                .is_err()
        {
            return Some(Cmd::Noop);
        }
        self.history.remember(line);
        Some(Cmd::Kill(Movement::WholeBuffer))
    }
}
