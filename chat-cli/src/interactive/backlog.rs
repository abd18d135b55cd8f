//! Lines that wait for the terminal.

use crate::prompt::{Block, NOTHING};
use protocol::{Cursor, Room};
use std::collections::{HashMap, VecDeque};
use tokio::sync::mpsc;

/// Bytes from which on no more is taken from the agent. One message more may come on top.
const FULL_BYTES: usize = 256 * 1024;

/// Bytes printed at once: few system calls, and the prompt still answers keys in between.
const BLOCK_BYTES: usize = 16 * 1024;

/// What a line counts for besides its text: there are some without any.
const LINE_BYTES: usize = 64;

/// How far rooms are read once a block is on the terminal.
pub(super) type Marks = HashMap<Room, Cursor>;

/// Lines in the order they are to be printed.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    lines: VecDeque<Line>,
    bytes: usize,
    /// Blocks given to the printer that are not known to be on the terminal.
    printing: usize,
}

#[derive(Debug)]
struct Line {
    text: String,
    mark: Option<(Room, Cursor)>,
}

impl Backlog {
    /// Adds a line of the program's own.
    pub(super) fn push(&mut self, text: String) {
        self.add(Line { text, mark: None });
    }

    /// Adds a message; once it is printed, `room` is read up to `cursor`.
    pub(super) fn push_message(&mut self, text: String, room: Room, cursor: Cursor) {
        let mark = Some((room, cursor));
        self.add(Line { text, mark });
    }

    /// Notes that `room` is read up to `cursor` once all before it is printed.
    pub(super) fn mark(&mut self, room: Room, cursor: Cursor) {
        let (text, mark) = (String::new(), Some((room, cursor)));
        self.add(Line { text, mark });
    }

    /// Adds what is for the terminal itself and takes no row.
    pub(super) fn push_unseen(&mut self, text: &str) {
        if !text.is_empty() {
            self.add(Line {
                text: format!("{text}{}", NOTHING.trim_end()),
                mark: None,
            });
        }
    }

    /// Adds nothing that is seen, to know when all before it is printed.
    pub(super) fn push_nothing(&mut self) {
        self.push(NOTHING.trim_end().to_owned());
    }

    fn add(&mut self, line: Line) {
        self.bytes += line.text.len() + LINE_BYTES;
        self.lines.push_back(line);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) const fn is_full(&self) -> bool {
        self.bytes >= FULL_BYTES
    }

    /// Whether everything is on the terminal.
    pub(super) fn is_printed(&self) -> bool {
        self.is_empty() && self.printing == 0
    }

    /// Notes that the oldest block is on the terminal.
    pub(super) const fn printed(&mut self) {
        self.printing = self.printing.saturating_sub(1);
    }

    /// Gives one block to the printer when it can take it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: lines are taken only once there is a place for them.
    pub(super) async fn print_to(&mut self, printer: &mpsc::Sender<Block<Marks>>) {
        match printer.reserve().await {
            Ok(place) => {
                place.send(self.block());
                self.printing += 1;
            }
            // The terminal is gone; the prompt will say so.
            Err(_) => *self = Self::default(),
        }
    }

    fn block(&mut self) -> Block<Marks> {
        let (mut text, mut marks) = (String::new(), Marks::new());
        while let Some(line) = self
            .lines
            .pop_front_if(|line| text.is_empty() || text.len() + line.text.len() < BLOCK_BYTES)
        {
            if !line.text.is_empty() {
                text.push_str(&line.text);
                text.push('\n');
            }
            self.bytes -= line.text.len() + LINE_BYTES;
            marks.extend(line.mark);
        }
        if text.is_empty() {
            // Only marks: what is printed above the line takes a row, were it nothing.
            text.push_str(NOTHING);
        }
        Block { text, token: marks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::epoch;
    use protocol::Seq;

    #[tokio::test]
    async fn lines_keep_their_order_and_are_printed_in_blocks() {
        let (tx, mut rx) = mpsc::channel(100);
        let mut backlog = Backlog::default();
        let mut expected = String::new();
        while !backlog.is_full() {
            let line = format!("{:>100}", expected.len());
            expected.push_str(&line);
            expected.push('\n');
            backlog.push(line);
        }
        let mut printed = String::new();
        while !backlog.is_empty() {
            backlog.print_to(&tx).await;
            assert!(!backlog.is_printed());
            let block = rx.recv().await.unwrap();
            backlog.printed();
            assert!(block.text.len() <= BLOCK_BYTES + 200);
            printed.push_str(&block.text);
        }
        assert_eq!(printed, expected);
        assert_eq!(backlog.bytes, 0);
        assert!(backlog.is_printed());
    }

    #[tokio::test]
    async fn what_only_marks_takes_no_row() {
        let (tx, mut rx) = mpsc::channel(1);
        let mut backlog = Backlog::default();
        let cursor = Cursor {
            epoch: epoch(1),
            seq: Seq::new(1),
        };
        backlog.mark("#ops".parse().unwrap(), cursor);
        backlog.print_to(&tx).await;
        let block = rx.recv().await.unwrap();
        assert_eq!((block.text.as_str(), block.token.len()), (NOTHING, 1));
    }

    #[tokio::test]
    async fn a_block_marks_only_what_it_holds() {
        let (tx, mut rx) = mpsc::channel(2);
        let mut backlog = Backlog::default();
        let ops: Room = "#ops".parse().unwrap();
        let cursor = |seq| Cursor {
            epoch: epoch(1),
            seq: Seq::new(seq),
        };
        backlog.push_message("one".to_owned(), ops.clone(), cursor(1));
        backlog.push_message("two".to_owned(), ops.clone(), cursor(2));
        backlog.push_message("x".repeat(BLOCK_BYTES), ops.clone(), cursor(3));
        for expected in [cursor(2), cursor(3)] {
            backlog.print_to(&tx).await;
            let marks = rx.recv().await.unwrap().token;
            assert_eq!(marks, Marks::from([(ops.clone(), expected)]));
        }
    }
}
