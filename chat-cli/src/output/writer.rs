//! The thread that writes standard output, and the bounded queue to it.
//!
//! Blocks end at line ends and are atomic where the kernel makes them so: other writers to the
//! same pipe do not tear lines, and a killed writer leaves none half.

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{FileType, fstat},
    io::ioctl_fionread,
};
use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;

/// Bytes that wait for the thread, at most and one line more; it has as many in hand.
const QUEUE_BYTES: usize = 256 * 1024;

/// What Linux writes to a pipe without tearing it (`PIPE_BUF`).
const PIPE_BLOCK: usize = 4096;

/// For a file any size will do.
const FILE_BLOCK: usize = 64 * 1024;

/// Lines on their way to the thread.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// As `changed`, for the one task that prints.
    news: Notify,
    closed: Notify,
}

#[derive(Debug, Default)]
struct State {
    pending: Vec<u8>,
    /// Bytes that ever were pending.
    pushed: u64,
    /// Bytes of these that are written.
    written: u64,
    /// Whether the thread has bytes in hand.
    writing: bool,
    /// Nothing more can be written.
    failed: bool,
    /// Why, until somebody is told.
    error: Option<io::Error>,
    ended: bool,
    /// Whether the thread has let go of standard output.
    gone: bool,
}

impl State {
    const fn is_idle(&self) -> bool {
        self.failed || (self.pending.is_empty() && !self.writing)
    }
}

impl Queue {
    /// Takes bytes, and a line end behind them if it is `missing`.
    pub(super) fn push(&self, bytes: &[u8], missing: bool) {
        let mut state = self.lock();
        if !state.failed {
            state.pending.extend_from_slice(bytes);
            state.pending.extend(missing.then_some(b'\n'));
            state.pushed += bytes.len() as u64 + u64::from(missing);
            self.changed.notify_all();
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.lock().pending.len() < QUEUE_BYTES
    }

    /// Whether all is written, or nothing more can be.
    pub(super) fn is_idle(&self) -> bool {
        self.lock().is_idle()
    }

    pub(super) fn pushed(&self) -> u64 {
        self.lock().pushed
    }

    pub(super) fn written_bytes(&self) -> u64 {
        self.lock().written
    }

    /// Waits until the thread has done something since this was called last.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    pub(super) fn take_error(&self) -> Option<io::Error> {
        self.lock().error.take()
    }

    pub(super) async fn until(&self, condition: fn(&Self) -> bool) {
        while !condition(self) {
            self.news.notified().await;
        }
    }

    /// Waits until [`watch`] sees that nobody reads any more.
    pub(super) async fn closed(&self) {
        self.closed.notified().await;
        // For whoever asks again.
        self.closed.notify_one();
    }

    /// For ever if no limit is given.
    pub(super) fn block_until_idle(&self, limit: Option<Duration>) {
        let state = self.lock();
        let limit = limit.unwrap_or(Duration::MAX);
        // Whether it came in time makes no difference to anybody.
        let _ = self
            .changed
            .wait_timeout_while(state, limit, |state| !state.is_idle());
    }

    /// Lets the thread end.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Waits until the thread, if there is one, has let go of standard output.
    pub(super) fn block_until_ended(&self, started: bool) {
        let state = self.lock();
        let here = |state: &mut State| started && !state.gone;
        drop(self.changed.wait_while(state, here));
    }

    fn take(&self) -> Option<Vec<u8>> {
        let mut state = self
            .changed
            .wait_while(self.lock(), |state| {
                state.pending.is_empty() && !state.ended
            })
            .unwrap_or_else(PoisonError::into_inner);
        if state.pending.is_empty() {
            return None;
        }
        state.writing = true;
        self.news.notify_one();
        Some(std::mem::take(&mut state.pending))
    }

    /// Notes that a block of what is in hand is written.
    fn wrote(&self, bytes: usize) {
        self.lock().written += bytes as u64;
        self.news.notify_one();
    }

    fn gone(&self) {
        self.lock().gone = true;
        self.changed.notify_all();
    }

    fn written(&self, result: io::Result<()>) {
        let mut state = self.lock();
        state.writing = false;
        if let Err(error) = result {
            state.failed = true;
            state.error = Some(error);
            state.pending = Vec::new();
        }
        self.changed.notify_all();
        self.news.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what comes, until the end.
pub(super) fn run(queue: &Queue) {
    let stdout = io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .map(File::from)
        .and_then(|file| Ok((file.metadata()?.is_file(), file)));
    let (is_file, file) = match stdout {
        Ok(stdout) => stdout,
        Err(error) => {
            queue.written(Err(error));
            return queue.gone();
        }
    };
    let most = if is_file { FILE_BLOCK } else { PIPE_BLOCK };
    while let Some(bytes) = queue.take() {
        let mut blocks = Blocks { rest: &bytes, most };
        queue.written(blocks.try_for_each(|block| {
            write(&file, block)?;
            queue.wrote(block.len());
            Ok(())
        }));
    }
    drop(file);
    queue.gone();
}

/// Bytes that lie in the pipe that standard output is, whoever wrote them; 0 if it is none.
pub(super) fn unread() -> u64 {
    let stdout = io::stdout();
    let is_pipe =
        fstat(&stdout).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
    if is_pipe {
        ioctl_fionread(&stdout).unwrap_or(0)
    } else {
        0
    }
}

/// Says when nobody reads any more, which nobody needs to write for; never, for a file.
pub(super) fn watch(queue: &Queue) {
    let stdout = io::stdout();
    loop {
        let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
        match poll(&mut fds, None) {
            Ok(_) => return queue.closed.notify_one(),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Bytes cut at line ends, at most `most` at a time; a line that is longer goes alone.
struct Blocks<'a> {
    rest: &'a [u8],
    most: usize,
}

impl<'a> Iterator for Blocks<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let is_end = |byte: &u8| *byte == b'\n';
        let fitting = &self.rest[..self.rest.len().min(self.most)];
        let last = fitting.iter().rposition(is_end);
        let last = last.or_else(|| self.rest.iter().position(is_end));
        let (block, rest) = self
            .rest
            .split_at(last.map_or(self.rest.len(), |last| last + 1));
        self.rest = rest;
        Some(block)
    }
}

fn write(mut out: &File, mut block: &[u8]) -> io::Result<()> {
    while !block.is_empty() {
        match out.write(block) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => block = &block[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Whoever gave us this end may have made it so for everybody.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                match poll(&mut [PollFd::new(&out, PollFlags::OUT)], None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{OFlags, fcntl_setfl};
    use std::io::Read;

    fn blocks(text: &str, most: usize) -> Vec<String> {
        let rest = text.as_bytes();
        let blocks = Blocks { rest, most };
        blocks
            .map(|block| String::from_utf8(block.to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn no_line_that_fits_a_block_is_torn() {
        assert_eq!(blocks("one\ntwo\nthree\n", 8), ["one\ntwo\n", "three\n"]);
        assert_eq!(
            blocks("one\ntwo\nthree\n", 7),
            ["one\n", "two\n", "three\n"]
        );
        assert_eq!(
            blocks("long long long\na\nb\n", 4),
            ["long long long\n", "a\nb\n"]
        );
        assert!(blocks("", 4).is_empty());
    }

    #[test]
    fn an_end_that_does_not_block_gets_everything() {
        let (mut reader, writer) = io::pipe().unwrap();
        let writer = File::from(std::os::fd::OwnedFd::from(writer));
        fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
        let bytes = vec![b'x'; 1_000_000];
        let read = std::thread::spawn(move || {
            let mut read = Vec::new();
            reader.read_to_end(&mut read).unwrap();
            read
        });
        write(&writer, &bytes).unwrap();
        drop(writer);
        assert!(read.join().unwrap() == bytes);
    }

    #[test]
    fn the_queue_says_when_it_is_full_and_forgets_after_an_error() {
        let queue = Queue::default();
        queue.push(&vec![b'x'; QUEUE_BYTES], true);
        assert!(!queue.has_room());
        assert!(queue.take().is_some());
        assert!(queue.has_room() && !queue.is_idle());
        queue.push(b"more", true);
        queue.written(Err(io::ErrorKind::BrokenPipe.into()));
        queue.push(b"dropped", true);
        assert_eq!(
            (queue.pushed(), queue.written_bytes()),
            (QUEUE_BYTES as u64 + 6, 0)
        );
        assert!(queue.is_idle() && queue.has_room());
        assert!(queue.take_error().is_some() && queue.take_error().is_none());
    }
}
