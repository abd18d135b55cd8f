//! The editor's thread: one prompt after the other, each until a key ends its line.

use super::{
    PromptText, Shared, Typed,
    helper::Assistant,
    history::SharedHistory,
    keys::{Carried, Interrupts, Keys},
    label::Label,
    printing::Patient,
};
use rustyline::{
    ColorMode, CompletionType, Config, EditMode, Editor, Event, EventHandler, ExternalPrinter,
    error::ReadlineError,
};
use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, mpsc as sync_mpsc},
};
use tokio::sync::mpsc;

/// Everything that the editor's thread needs.
pub(super) struct Editing {
    editor: Editor<Assistant, SharedHistory>,
    typed: mpsc::Sender<Typed>,
    shared: Arc<Shared>,
    /// Set by a key that ends a line for another room.
    carried: Arc<Mutex<Option<Carried>>>,
    /// Set by a key that ends a line with a command of which only the beginning is shown.
    accepted: Arc<Mutex<Option<String>>>,
}

impl Editing {
    pub(super) fn new(
        config: Config,
        typed: mpsc::Sender<Typed>,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let history = SharedHistory::default();
        let carried = Arc::default();
        let accepted = Arc::default();
        let keys = Keys {
            typed: typed.clone(),
            history: history.clone(),
            shared: Arc::clone(&shared),
            carried: Arc::clone(&carried),
            asked: Mutex::default(),
            accepted: Arc::clone(&accepted),
        };
        let mut editor = Editor::with_history(config, history).map_err(io::Error::other)?;
        editor.set_helper(Some(Assistant {
            shared: Arc::clone(&shared),
            typed: typed.clone(),
        }));
        editor.bind_sequence(Event::Any, EventHandler::Conditional(Box::new(keys)));
        Ok(Self {
            editor,
            typed,
            shared,
            carried,
            accepted,
        })
    }

    /// A way to print above the line.
    pub(super) fn printer(&mut self) -> io::Result<impl ExternalPrinter + Send + use<>> {
        let editor = self.editor.create_external_printer();
        Ok(Patient {
            editor: editor.map_err(io::Error::other)?,
            shared: Arc::clone(&self.shared),
        })
    }

    /// Shows the prompts that come, and tells what is typed, until either has an end; remembers it
    /// in the file at `history`.
    pub(super) fn run(
        mut self,
        prompts: &sync_mpsc::Receiver<PromptText>,
        history: Option<PathBuf>,
    ) {
        if let Some(path) = history {
            let complaint = self.editor.history().keep_in(path);
            self.tell(complaint);
        }
        self.shared.screen.go_down();
        let mut half_typed = (String::new(), String::new());
        let mut same = None;
        while let Some(prompt) = same.take().or_else(|| prompts.recv().ok()) {
            self.shared.gate.arm();
            let room = prompt.room.clone();
            let label = Label::new(room, Arc::clone(&self.shared));
            let (left, right) = std::mem::take(&mut half_typed);
            let line = self.editor.readline_with_initial(&label, (&left, &right));
            self.shared.gate.close();
            let carried = take(&self.carried);
            let (what, goes_on) = match (line, carried) {
                (Ok(_), Some(Carried { to, left, right })) => {
                    self.shared.screen.take_back();
                    half_typed = (left, right);
                    let Some(to) = to else {
                        if prompts.try_recv() == Err(sync_mpsc::TryRecvError::Disconnected) {
                            return;
                        }
                        same = Some(prompt);
                        continue;
                    };
                    (Typed::Switch(to), true)
                }
                (Ok(line), None) => {
                    let line = take(&self.accepted).unwrap_or(line);
                    let complaint = self.editor.history().remember(&line);
                    self.tell(complaint);
                    (Typed::Command(line), true)
                }
                (Err(ReadlineError::Interrupted), _) => {
                    let interrupts = self.shared.interrupts.lock();
                    let interrupts = interrupts.unwrap_or_else(PoisonError::into_inner);
                    let again = *interrupts == Interrupts::More;
                    (Typed::Interrupt { again }, true)
                }
                (Err(_), _) => (Typed::End, false),
            };
            if self.typed.blocking_send(what).is_err() || !goes_on {
                return;
            }
        }
    }

    fn tell(&self, complaint: Option<String>) {
        if let Some(complaint) = complaint {
            // Nobody may be left to hear it.
            let _ = self.typed.blocking_send(Typed::Notice(complaint));
        }
    }
}

fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// How the editor behaves.
pub(super) fn config() -> Config {
    Config::builder()
        // See `keys`.
        .edit_mode(EditMode::Vi)
        // See `helper`.
        .completion_type(CompletionType::List)
        // Only with colours it tells what it paints; it has none of its own.
        .color_mode(ColorMode::Forced)
        .build()
}
