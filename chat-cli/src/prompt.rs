//! The line being typed, kept intact while messages arrive.
//!
//! rustyline edits the line on a thread of its own; another hands arrivals to its external
//! printer, which puts them above the line. Sending a message does not end the editing: the line
//! is emptied and editing goes on. Only a command ends it, until the owner answers with the next
//! prompt, because the prompt may change by it.
//!
//! ```text
//!  owner ──prompts──▶ editor thread ──typed──▶ owner
//!  owner ──blocks───▶ printer thread ──(while editing)──▶ terminal
//!        ◀─printed──
//! ```

mod gate;
mod helper;
mod history;
mod label;
mod printing;
mod rows;
mod screen;

pub use label::State;
pub use printing::Block;

use gate::Gate;
use helper::Painter;
use history::SharedHistory;
use label::{Label, Look, Marker};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::{
    Cmd, ColorMode, ConditionalEventHandler, Config, Editor, Event, EventContext, EventHandler,
    KeyCode, KeyEvent, Modifiers, Movement, RepeatCount, error::ReadlineError,
};
use screen::Screen;
use std::{
    env,
    io::{self, Write},
    sync::{Arc, mpsc as sync_mpsc},
    thread,
    time::Duration,
};
use tokio::sync::mpsc;

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
    /// Pressed Ctrl-C. Editing goes on with the next [`Prompt::show`].
    Interrupt,
    /// Pressed Ctrl-D on an empty line, or the terminal is gone.
    End,
}

/// How the terminal is used.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether the prompt may have colours.
    pub colour: bool,
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
    marker: Arc<Marker>,
    /// Asks for the prompt to be painted again; `None` after [`Prompt::finish`].
    repaint: Option<sync_mpsc::SyncSender<()>>,
    gate: Arc<Gate>,
    /// `None` once it is so again.
    found: Option<Termios>,
}

/// Whether this terminal can do what editing needs.
#[must_use]
pub fn is_supported() -> bool {
    let term = env::var_os("TERM").unwrap_or_default();
    !["", "dumb", "cons25", "emacs"].iter().any(|no| term == *no)
}

impl Prompt {
    /// Takes over the terminal; editing begins with the first [`Prompt::show`].
    ///
    /// # Errors
    ///
    /// If standard input or output is no terminal after all.
    pub fn open<T: Send + 'static>(options: &Options) -> io::Result<(Self, Printer<T>)> {
        let found = tcgetattr(io::stdin())?;
        let (typed_tx, typed) = mpsc::channel(TYPED);
        let (blocks, to_print) = mpsc::channel(PRINTED);
        let (out, printed) = mpsc::channel(PRINTED);
        let (prompts, next_prompt) = sync_mpsc::sync_channel(1);
        let gate = Arc::new(Gate::default());
        let (repaint, repaints) = sync_mpsc::sync_channel(1);
        let marker = Arc::new(Marker::new(Look {
            colour: options.colour,
            unicode: label::is_unicode(|name| env::var(name).ok()),
        }));
        let history = SharedHistory::default();
        // Only with colours it tells what it paints; it has none of its own.
        let config = Config::builder().color_mode(ColorMode::Forced).build();
        let screen = Arc::new(Screen::new(config.grapheme_cluster_mode()));
        let mut editor = Editor::with_history(config, history.clone()).map_err(io::Error::other)?;
        editor.set_helper(Some(Painter::new(Arc::clone(&screen))));
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
        {
            let external = editor.create_external_printer().map_err(io::Error::other)?;
            let gate = Arc::clone(&gate);
            thread::spawn(move || printing::repaint(&repaints, external, &gate));
        }
        {
            let gate = Arc::clone(&gate);
            thread::spawn(move || printing::print(to_print, &out, external, &gate));
        }
        {
            let (gate, marker) = (Arc::clone(&gate), Arc::clone(&marker));
            thread::spawn(move || edit(editor, &next_prompt, &typed_tx, &gate, &screen, &marker));
        }
        // None is joined: each may wait for a person or a stopped terminal, and ends with the
        // process.
        let prompt = Self {
            typed,
            prompts: Some(prompts),
            marker,
            repaint: Some(repaint),
            gate,
            found: Some(found),
        };
        Ok((prompt, Printer { blocks, printed }))
    }

    /// The next thing a person did; [`Typed::End`] when nothing more can come.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn typed(&mut self) -> Typed {
        self.typed.recv().await.unwrap_or(Typed::End)
    }

    /// Shows a prompt: at first, and after each [`Typed::Command`] and [`Typed::Interrupt`].
    pub fn show(&self, prompt: PromptText) {
        if let Some(prompts) = &self.prompts {
            // One is asked for at a time, so there is room; an ended editor needs none.
            let _ = prompts.try_send(prompt);
        }
    }

    /// Shows the state at the prompt, and how many messages wait, at any time.
    pub fn set_state(&self, state: State, waiting: u32) {
        if self.marker.set(state, waiting)
            && let Some(repaint) = &self.repaint
        {
            // One that is asked for already will show this state.
            let _ = repaint.try_send(());
        }
    }

    /// Takes nothing more from the person; what was given to the printer is printed still. Gives
    /// back what was typed before.
    pub fn finish(&mut self) -> Vec<Typed> {
        // An editor between two lines ends now; one in a line goes on until the process ends.
        self.prompts = None;
        self.repaint = None;
        self.gate.end();
        self.typed.close();
        std::iter::from_fn(|| self.typed.try_recv().ok()).collect()
    }

    /// Leaves the terminal as it was found and says the last words to it; waits for a terminal
    /// that is stopped only for a moment, and not at all if there is `hurry`.
    pub fn end(mut self, hurry: bool, last_words: impl FnOnce() + Send + 'static) {
        self.restore(hurry, last_words);
    }

    fn restore(&mut self, hurry: bool, last_words: impl FnOnce() + Send + 'static) {
        let Some(found) = self.found.take() else {
            return;
        };
        self.finish();
        // Now, because a stopped terminal never drains. It may also be gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &found);
        let in_line = self.gate.is_open();
        let (done, said) = sync_mpsc::sync_channel(1);
        thread::spawn(move || {
            if in_line {
                let bracketed_paste_off = "\x1b[?2004l";
                // There is nobody to tell about what cannot be printed.
                let _ = writeln!(io::stdout(), "{bracketed_paste_off}\r");
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

fn edit(
    mut editor: Editor<Painter, SharedHistory>,
    prompts: &sync_mpsc::Receiver<PromptText>,
    typed: &mpsc::Sender<Typed>,
    gate: &Arc<Gate>,
    screen: &Arc<Screen>,
    marker: &Arc<Marker>,
) {
    while let Ok(prompt) = prompts.recv() {
        gate.arm();
        let label = Label::new(
            prompt.room,
            Arc::clone(marker),
            Arc::clone(gate),
            Arc::clone(screen),
        );
        let line = editor.readline(&label);
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
        // Waits for an owner that is behind, as the next keys do: what is typed or pasted quickly
        // keeps its lines. This is the editor's own thread, and the owner waits for it in nothing.
        if !line.trim().is_empty()
            && self
                .typed
                .blocking_send(Typed::Message(line.to_owned()))
                .is_err()
        {
            // The end: the line stays where it is.
            return Some(Cmd::Noop);
        }
        self.history.remember(line);
        Some(Cmd::Kill(Movement::WholeBuffer))
    }
}
