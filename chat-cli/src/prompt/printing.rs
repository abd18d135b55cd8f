//! Putting arrivals above the line, and knowing when they are there.
//!
//! rustyline's printer only hands a text to the editor's thread, through a channel for one. The
//! editor takes a text, writes it, and paints the prompt again, which the [`Gate`] sees. A paint
//! alone says little: a key causes one, too. But once a second text was accepted the first was
//! taken, and from then on the next paint comes after the first was written. So each block is
//! followed by two texts that change nothing: one to be accepted, one to cause a paint after that.

use super::{Shared, gate::Gate, modes::PASTE_ON};
use rustyline::ExternalPrinter;
use std::{
    io::{self, Write},
    sync::{Arc, atomic::Ordering, mpsc as sync_mpsc},
};
use tokio::sync::mpsc;

/// Up a row and down again: the row above is the block's last.
pub const NOTHING: &str = "\x1b[A\n";

/// Lines to print at once, safe for a terminal already.
#[derive(Debug)]
pub struct Block<T> {
    /// Whole lines, each with its end.
    pub text: String,
    /// Given back once the lines are out.
    pub token: T,
}

/// The editor's printer, which is given nothing while the terminal is being resized.
pub(super) struct Patient<E> {
    pub(super) editor: E,
    pub(super) shared: Arc<Shared>,
}

impl<E: ExternalPrinter> ExternalPrinter for Patient<E> {
    fn print(&mut self, text: String) -> rustyline::Result<()> {
        self.shared.screen.settle();
        self.editor.print(text)
    }
}

/// Prints blocks in their order and gives back the token of each that is out; ends with either
/// channel, or with the terminal.
pub(super) fn print<T>(
    mut blocks: mpsc::Receiver<Block<T>>,
    printed: &mpsc::Sender<T>,
    mut editor: impl ExternalPrinter,
    gate: &Gate,
) {
    while let Some(Block { text, token }) = blocks.blocking_recv() {
        let out = through(&mut editor, &text, gate) || directly(&text).is_ok();
        if !out || printed.blocking_send(token).is_err() {
            return;
        }
    }
}

/// Has the prompt painted again whenever that is asked for, beside the blocks.
///
/// It waits as they do while the editor takes no texts; a text in between does not mislead them.
/// If the process was stopped, pastes are marked again.
pub(super) fn repaint(
    asked: &sync_mpsc::Receiver<()>,
    mut editor: impl ExternalPrinter,
    shared: &Shared,
) {
    while asked.recv().is_ok() {
        // The next line is painted by itself.
        if !shared.gate.is_open() {
            continue;
        }
        let mode = if shared.continued.swap(false, Ordering::Relaxed) {
            PASTE_ON
        } else {
            ""
        };
        if editor.print(format!("{mode}{NOTHING}")).is_err() {
            return;
        }
    }
}

/// Whether `text` is out; if not, the editing has ended and it may be.
fn through(editor: &mut impl ExternalPrinter, text: &str, gate: &Gate) -> bool {
    if !gate.wait() || editor.print(text.to_owned()).is_err() {
        return false;
    }
    while gate.wait() {
        let line = gate.mark();
        if editor.print(NOTHING.to_owned()).is_err() {
            return false;
        }
        let accepted = gate.mark();
        if editor.print(NOTHING.to_owned()).is_err() {
            return false;
        }
        // A line that ended meanwhile may have left any of this to the next one.
        if accepted.same_line(line) && gate.wait_painted(accepted) {
            return true;
        }
    }
    false
}

/// Past the editor: nothing is being edited that could be disturbed.
fn directly(text: &str) -> io::Result<()> {
    let mut terminal = io::stdout().lock();
    terminal.write_all(text.as_bytes())?;
    terminal.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// Hands texts over as rustyline does.
    struct Editor(sync_mpsc::SyncSender<String>);

    impl ExternalPrinter for Editor {
        fn print(&mut self, text: String) -> rustyline::Result<()> {
            let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
            Ok(self.0.send(text).map_err(gone)?)
        }
    }

    #[test]
    fn a_block_is_not_given_back_while_it_waits_for_the_editor() {
        let gate = Arc::new(Gate::default());
        let (blocks, to_print) = mpsc::channel(4);
        let (out, mut printed) = mpsc::channel(4);
        let (texts, taken) = sync_mpsc::sync_channel(1);
        let printing = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || print(to_print, &out, Editor(texts), &gate))
        };
        gate.arm();
        gate.measured();
        for number in 1..=100 {
            let text = format!("{number}\n");
            let token = number;
            blocks.blocking_send(Block { text, token }).unwrap();
            // Keys paint, too.
            gate.painted();
            gate.painted();
            assert_eq!(taken.recv().unwrap(), format!("{number}\n"));
            assert!(printed.try_recv().is_err(), "taken is not written");
            gate.painted();
            for _ in 0..2 {
                assert_eq!(taken.recv().unwrap(), NOTHING);
                gate.painted();
            }
            assert_eq!(printed.blocking_recv(), Some(number));
        }
        drop(blocks);
        printing.join().unwrap();
    }

    #[test]
    fn an_end_between_two_lines_gives_back_only_what_was_written() {
        let gate = Gate::default();
        let (blocks, to_print) = mpsc::channel(1);
        let (out, mut printed) = mpsc::channel(1);
        let (texts, taken) = sync_mpsc::sync_channel(1);
        gate.end();
        let block = Block {
            text: "\n".to_owned(),
            token: 7,
        };
        blocks.blocking_send(block).unwrap();
        drop(blocks);
        print(to_print, &out, Editor(texts), &gate);
        assert_eq!(printed.blocking_recv(), Some(7));
        assert!(taken.try_recv().is_err(), "the editor was not used");
    }
}
