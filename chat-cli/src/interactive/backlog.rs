//! Lines that wait for the terminal.

use std::collections::VecDeque;
use tokio::sync::mpsc;

/// Bytes from which on no more is taken from the agent. One message more may come on top.
const FULL_BYTES: usize = 256 * 1024;

/// Bytes printed at once: few system calls, and the prompt still answers keys in between.
const BLOCK_BYTES: usize = 16 * 1024;

/// Lines in the order they are to be printed.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Backlog {
    pub(super) fn push(&mut self, line: String) {
        self.bytes += line.len();
        self.lines.push_back(line);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) const fn is_full(&self) -> bool {
        self.bytes >= FULL_BYTES
    }

    /// Gives one block to the printer when it can take it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: lines are taken only once there is a place for them.
    pub(super) async fn print_to(&mut self, printer: Option<&mpsc::Sender<String>>) {
        let Some(printer) = printer else {
            return self.lines.clear();
        };
        match printer.reserve().await {
            Ok(place) => place.send(self.block()),
            // The terminal is gone; the prompt will say so.
            Err(_) => self.lines.clear(),
        }
    }

    fn block(&mut self) -> String {
        let mut block = String::new();
        while let Some(line) = self.lines.front()
            && (block.is_empty() || block.len() + line.len() < BLOCK_BYTES)
        {
            block.push_str(line);
            block.push('\n');
            self.bytes -= line.len();
            self.lines.pop_front();
        }
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            backlog.print_to(Some(&tx)).await;
            let block = rx.recv().await.unwrap();
            assert!(block.len() <= BLOCK_BYTES + 200);
            printed.push_str(&block);
        }
        assert_eq!(printed, expected);
        assert_eq!(backlog.bytes, 0);
    }
}
