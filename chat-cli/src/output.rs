//! Standard output: data only, whole lines, written by a thread of its own.
//!
//! Whoever prints never waits for the reader by accident: [`Output::line`] only takes the line,
//! and [`Output::room`] is awaited among all else that can happen. What was taken is written at
//! once; there is nothing to flush.

mod writer;

use crate::exit::{Exit, Failure};
use std::{
    fs::File,
    io,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};
use writer::Queue;

/// How long the last lines may take where nobody awaited [`Output::finish`].
const GRACE: Duration = Duration::from_millis(200);

/// Standard output.
#[derive(Debug, Default)]
pub struct Output {
    queue: Arc<Queue>,
    started: bool,
    /// Whether the command has more to do than to print.
    optional: bool,
    watched: OnceLock<()>,
}

impl Output {
    /// For a command that has more to do than to print: when nobody reads any more, it goes on
    /// silently.
    #[must_use]
    pub fn optional() -> Self {
        Self {
            queue: Arc::default(),
            started: false,
            optional: true,
            watched: OnceLock::new(),
        }
    }

    /// Takes one line; the caller asked [`Output::has_room`] before, or awaits [`Output::room`].
    ///
    /// # Errors
    ///
    /// [`Failure`], once; quiet success if nobody reads any more. Later lines are dropped.
    pub fn line(&mut self, line: &str) -> Result<(), Failure> {
        self.start()?;
        self.queue.push(line.as_bytes(), true);
        Ok(())
    }

    /// As [`Output::line`], for what may be no text and has its line ends in it.
    ///
    /// # Errors
    ///
    /// As [`Output::line`].
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.start()?;
        self.queue.push(bytes, false);
        Ok(())
    }

    fn start(&mut self) -> Result<(), Failure> {
        if !self.started {
            let queue = self.queue.clone();
            thread::Builder::new()
                .spawn(move || writer::run(&queue))
                .map_err(|error| self.failure(&error))?;
            self.started = true;
        }
        self.check()
    }

    /// Whether another line may be printed now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.queue.has_room()
    }

    /// Waits until another line may be printed.
    ///
    /// # Errors
    ///
    /// As [`Output::line`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn room(&self) -> Result<(), Failure> {
        self.queue.until(Queue::has_room).await;
        self.check()
    }

    /// [`Output::line`] and [`Output::room`], for a command that has nothing else to wait for.
    ///
    /// # Errors
    ///
    /// As [`Output::line`].
    pub async fn print(&mut self, line: &str) -> Result<(), Failure> {
        self.line(line)?;
        self.room().await
    }

    /// [`Output::print`] for each of `lines`.
    ///
    /// # Errors
    ///
    /// As [`Output::line`].
    pub async fn print_all(&mut self, lines: &[String]) -> Result<(), Failure> {
        for line in lines {
            self.print(line).await?;
        }
        Ok(())
    }

    /// Bytes that were printed so far.
    #[must_use]
    pub fn printed(&self) -> u64 {
        self.queue.pushed()
    }

    /// Bytes of these that whoever reads has taken: of a pipe, what is not in it any more; of
    /// anything else, what is written.
    #[must_use]
    pub fn taken(&self) -> u64 {
        // In this order: what is written in between may only make it less.
        let written = self.queue.written_bytes();
        written.saturating_sub(writer::unread())
    }

    /// Waits until something was written, or nothing more can be.
    ///
    /// # Errors
    ///
    /// As [`Output::line`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. To be awaited by one task, and not beside [`Output::room`].
    pub async fn news(&self) -> Result<(), Failure> {
        self.queue.news().await;
        self.check()
    }

    /// Lets whoever reads see the end, once all is written.
    ///
    /// Not for those who await [`Output::closed`]: its thread holds standard output.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the system does not let it.
    pub fn close(&self) -> Result<(), Failure> {
        self.queue.end();
        self.queue.block_until_ended(self.started);
        let null = File::options().write(true).open("/dev/null");
        null.and_then(|null| Ok(rustix::stdio::dup2_stdout(&null)?))
            .map_err(|error| self.failure(&error))
    }

    /// Waits until all is written; `result` is how the command ends otherwise.
    ///
    /// # Errors
    ///
    /// `result`, or as [`Output::line`].
    pub async fn finish(&self, result: Result<(), Failure>) -> Result<(), Failure> {
        self.idle().await;
        result.and_then(|()| self.check())
    }

    /// Waits until all is written, or nothing more can be.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn idle(&self) {
        self.queue.until(Queue::is_idle).await;
    }

    /// Blocks until all is written.
    ///
    /// # Errors
    ///
    /// As [`Output::line`].
    pub fn flush(&self) -> Result<(), Failure> {
        self.queue.block_until_idle(None);
        self.check()
    }

    /// Waits until nobody reads any more, noticed without writing. Never, for a file.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn closed(&self) {
        self.watched.get_or_init(|| {
            let queue = self.queue.clone();
            // Without the thread it is noticed when something is written.
            let _ = thread::Builder::new().spawn(move || writer::watch(&queue));
        });
        self.queue.closed().await;
    }

    fn check(&self) -> Result<(), Failure> {
        match self.queue.take_error() {
            Some(error) if self.optional && error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Some(error) => Err(self.failure(&error)),
            None => Ok(()),
        }
    }

    /// Nobody reading any more is how `chat tail | head` ends, not a failure.
    fn failure(&self, error: &io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Failure::silent(Exit::Ok)
        } else {
            Failure::failed(format_args!("standard output: {error}"))
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.queue.block_until_idle(Some(GRACE));
        self.queue.end();
    }
}
