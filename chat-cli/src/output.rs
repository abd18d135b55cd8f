//! Standard output: data only, a line at a time, and a closed pipe ends quietly.

use crate::exit::{Exit, Failure};
use std::io::{self, BufWriter, Stdout, Write};

/// Bytes that wait for a flush at most.
const BUFFER_BYTES: usize = 64 * 1024;

/// Buffered standard output.
#[derive(Debug)]
pub struct Output(BufWriter<Stdout>);

impl Default for Output {
    fn default() -> Self {
        Self(BufWriter::with_capacity(BUFFER_BYTES, io::stdout()))
    }
}

impl Output {
    /// Writes one line; [`Output::flush`] makes it visible.
    ///
    /// # Errors
    ///
    /// [`Failure`]; quiet success if nobody reads any more.
    pub fn line(&mut self, line: &str) -> Result<(), Failure> {
        writeln!(self.0, "{line}").map_err(failure)
    }

    /// Makes visible what was written.
    ///
    /// # Errors
    ///
    /// As [`Output::line`].
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.0.flush().map_err(failure)
    }
}

/// Nobody reading any more is how `chat tail | head` ends, not a failure.
fn failure(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::silent(Exit::Ok)
    } else {
        Failure::failed(format_args!("standard output: {error}"))
    }
}
