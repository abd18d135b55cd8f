//! Standard output: data only, whole lines, written by a thread of its own.
//!
//! Whoever prints never waits for the reader by accident: [`Output::line`] only takes the line,
//! and [`Output::room`] is awaited among all else that can happen. What was taken is written at
//! once; there is nothing to flush.

mod writer;

use crate::exit::{Exit, Failure};
use std::{io, sync::Arc, thread, time::Duration};
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
    watched: bool,
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
            watched: false,
        }
    }

    /// Takes one line; the caller asked [`Output::has_room`] before, or awaits [`Output::room`].
    ///
    /// # Errors
    ///
    /// [`Failure`], once; quiet success if nobody reads any more. Later lines are dropped.
    pub fn line(&mut self, line: &str) -> Result<(), Failure> {
        if !self.started {
            let queue = self.queue.clone();
            thread::Builder::new()
                .spawn(move || writer::run(&queue))
                .map_err(|error| self.failure(&error))?;
            self.started = true;
        }
        self.check()?;
        self.queue.push(line);
        Ok(())
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

    /// Waits until all is written; `result` is how the command ends otherwise.
    ///
    /// # Errors
    ///
    /// `result`, or as [`Output::line`].
    pub async fn finish(&self, result: Result<(), Failure>) -> Result<(), Failure> {
        self.queue.until(Queue::is_idle).await;
        result.and_then(|()| self.check())
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
    pub async fn closed(&mut self) {
        if !self.watched {
            self.watched = true;
            let queue = self.queue.clone();
            // Without the thread it is noticed when something is written.
            let _ = thread::Builder::new().spawn(move || writer::watch(&queue));
        }
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
