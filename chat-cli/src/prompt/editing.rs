//! The editor's thread: one prompt after the other, each until a key ends its line.

use super::{
    PromptText, Typed,
    gate::Gate,
    helper::{Assistant, SharedWords},
    history::SharedHistory,
    keys::{Carried, Keys},
    label::{Label, Marker},
    screen::Screen,
};
use rustyline::{
    ColorMode, CompletionType, Config, EditMode, Editor, Event, EventHandler, error::ReadlineError,
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
    gate: Arc<Gate>,
    marker: Arc<Marker>,
    screen: Arc<Screen>,
    /// Set by a key that ends a line for another room.
    carried: Arc<Mutex<Option<Carried>>>,
}

impl Editing {
    pub(super) fn new(
        typed: mpsc::Sender<Typed>,
        gate: Arc<Gate>,
        marker: Arc<Marker>,
        words: SharedWords,
    ) -> io::Result<Self> {
        let config = Config::builder()
            // See `keys`.
            .edit_mode(EditMode::Vi)
            // See `helper`.
            .completion_type(CompletionType::List)
            // Only with colours it tells what it paints; it has none of its own.
            .color_mode(ColorMode::Forced)
            .build();
        let screen = Arc::new(Screen::new(config.grapheme_cluster_mode()));
        let history = SharedHistory::default();
        let carried = Arc::default();
        let keys = Keys {
            typed: typed.clone(),
            history: history.clone(),
            gate: Arc::clone(&gate),
            carried: Arc::clone(&carried),
            asked: Mutex::default(),
        };
        let mut editor = Editor::with_history(config, history).map_err(io::Error::other)?;
        editor.set_helper(Some(Assistant {
            screen: Arc::clone(&screen),
            words,
            typed: typed.clone(),
        }));
        editor.bind_sequence(Event::Any, EventHandler::Conditional(Box::new(keys)));
        Ok(Self {
            editor,
            typed,
            gate,
            marker,
            screen,
            carried,
        })
    }

    /// A way to print above the line.
    pub(super) fn printer(&mut self) -> io::Result<impl rustyline::ExternalPrinter + Send + use<>> {
        self.editor
            .create_external_printer()
            .map_err(io::Error::other)
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
        let mut half_typed = (String::new(), String::new());
        while let Ok(prompt) = prompts.recv() {
            self.gate.arm();
            let label = Label::new(
                prompt.room,
                Arc::clone(&self.marker),
                Arc::clone(&self.gate),
                Arc::clone(&self.screen),
            );
            let (left, right) = std::mem::take(&mut half_typed);
            let line = self.editor.readline_with_initial(&label, (&left, &right));
            self.gate.close();
            let carried = self.take_carried();
            let (what, goes_on) = match (line, carried) {
                (Ok(_), Some(Carried { to, left, right })) => {
                    self.screen.take_back();
                    half_typed = (left, right);
                    (Typed::Switch(to), true)
                }
                (Ok(line), None) => {
                    let complaint = self.editor.history().remember(&line);
                    self.tell(complaint);
                    (Typed::Command(line), true)
                }
                (Err(ReadlineError::Interrupted), _) => (Typed::Interrupt, true),
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

    fn take_carried(&self) -> Option<Carried> {
        let mut carried = self.carried.lock().unwrap_or_else(PoisonError::into_inner);
        carried.take()
    }
}
