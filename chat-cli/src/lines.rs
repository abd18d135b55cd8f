//! Standard input, bounded in size: its lines, read ahead on a thread of their own, or all of it.

use crate::{
    exit::{Failure, say},
    render,
};
use protocol::limits::MAX_BODY_BYTES;
use rustix::event::{PollFd, PollFlags, poll};
use std::{
    io::{self, BufRead, BufReader, Read},
    os::fd::AsFd,
};
use thiserror::Error;
use tokio::sync::mpsc;

/// Lines read ahead; with the longest lines that is 4 MiB.
const READ_AHEAD: usize = 64;

/// Lines left out that are named; of more only the number is told.
const MAX_NAMED: u64 = 10;

/// One line without its end.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// Counted from 1; empty lines count too.
    pub number: u64,
    /// What it says; never empty.
    pub text: String,
}

/// Why a line is no message.
#[derive(Debug, Error)]
pub enum LineError {
    /// Over the limit of a message.
    #[error(
        "line {number} was not sent: it has more than {max} bytes, the most a message may have"
    )]
    TooLong {
        /// Which line.
        number: u64,
        /// Bytes allowed.
        max: usize,
    },
    /// Not UTF-8.
    #[error("line {number} was not sent: it is not valid UTF-8 from byte {at} on, see iconv(1)")]
    NotText {
        /// Which line.
        number: u64,
        /// Its first bad byte, counted from 0.
        at: usize,
    },
    /// Standard input failed.
    #[error("standard input cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Lines that were left out because they are no messages.
#[derive(Debug, Default)]
pub struct Skipped(u64);

impl Skipped {
    /// Leaves a line out, and says so.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the input cannot be read any further.
    pub fn skip(&mut self, error: &LineError) -> Result<(), Failure> {
        if matches!(error, LineError::Io(_)) {
            return Err(Failure::failed(error));
        }
        self.0 += 1;
        if self.0 <= MAX_NAMED {
            say(&error.to_string());
        }
        Ok(())
    }

    /// How a command ends that did all else it should.
    ///
    /// # Errors
    ///
    /// [`Failure`] if a line was left out.
    pub fn result(&self) -> Result<(), Failure> {
        match self.0 {
            0 => Ok(()),
            1 => Err(Failure::failed("1 line was not sent")),
            lines => Err(Failure::failed(format_args!(
                "{} were not sent",
                render::count(lines, "line")
            ))),
        }
    }
}

/// Why standard input as a whole is no message.
#[derive(Debug, Error)]
pub enum WholeError {
    /// Over the limit of a message.
    #[error(
        "standard input has more than {max} bytes, the most a message may have: nothing was sent"
    )]
    TooLong {
        /// Bytes allowed.
        max: usize,
    },
    /// Not UTF-8.
    #[error("standard input is not valid UTF-8 from byte {at} on, see iconv(1): nothing was sent")]
    NotText {
        /// Its first bad byte, counted from 0.
        at: usize,
    },
    /// Nothing there.
    #[error("standard input is empty: nothing was sent")]
    Empty,
    /// Standard input failed.
    #[error("standard input cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// All that `reader` has, without the end of its last line.
///
/// # Errors
///
/// [`WholeError`] if that is no message.
pub fn whole(reader: impl Read) -> Result<String, WholeError> {
    let mut bytes = Vec::new();
    // Room for "\r\n", so that the longest text is told from one that is too long.
    let most = MAX_BODY_BYTES as u64 + 3;
    reader.take(most).read_to_end(&mut bytes)?;
    if bytes.pop_if(|last| *last == b'\n').is_some() {
        bytes.pop_if(|last| *last == b'\r');
    }
    if bytes.len() > MAX_BODY_BYTES {
        return Err(WholeError::TooLong {
            max: MAX_BODY_BYTES,
        });
    }
    if bytes.is_empty() {
        return Err(WholeError::Empty);
    }
    String::from_utf8(bytes).map_err(|error| WholeError::NotText {
        at: error.utf8_error().valid_up_to(),
    })
}

/// Reads standard input on a thread, until its end, a failure, or the receiver is dropped.
///
/// Nobody waits for the thread: it may sit in a read that never returns, and ends with the
/// process.
#[must_use]
pub fn stdin() -> mpsc::Receiver<Result<Line, LineError>> {
    let (tx, rx) = mpsc::channel(READ_AHEAD);
    std::thread::spawn(move || {
        for line in Lines::new(BufReader::new(Patient(io::stdin().lock()))) {
            if tx.blocking_send(line).is_err() {
                return;
            }
        }
    });
    rx
}

/// Waits where whoever shares this input has made it one that does not wait.
struct Patient<R>(R);

impl<R: Read + AsFd> Read for Patient<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
                    poll(&mut fds, None)?;
                }
                read => return read,
            }
        }
    }
}

/// The non-empty lines of a reader. Those that are no messages are errors, with more behind them;
/// a reader that fails ends it.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    number: u64,
    ended: bool,
}

impl<R: BufRead> Lines<R> {
    /// Reads `reader` from its first line.
    pub const fn new(reader: R) -> Self {
        Self {
            reader,
            number: 0,
            ended: false,
        }
    }

    fn read(&mut self) -> Result<Option<Line>, LineError> {
        loop {
            self.number += 1;
            let number = self.number;
            let mut bytes = Vec::new();
            // Room for "\r\n", so that the longest line is told from one that is too long.
            let most = MAX_BODY_BYTES as u64 + 2;
            self.reader
                .by_ref()
                .take(most)
                .read_until(b'\n', &mut bytes)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let ended = bytes.pop_if(|last| *last == b'\n').is_some();
            if ended {
                bytes.pop_if(|last| *last == b'\r');
            }
            if bytes.len() > MAX_BODY_BYTES {
                if !ended {
                    self.reader.skip_until(b'\n')?;
                }
                return Err(LineError::TooLong {
                    number,
                    max: MAX_BODY_BYTES,
                });
            }
            if bytes.is_empty() {
                continue;
            }
            let text = String::from_utf8(bytes).map_err(|error| LineError::NotText {
                number,
                at: error.utf8_error().valid_up_to(),
            })?;
            return Ok(Some(Line { number, text }));
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<Line, LineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let line = self.read().transpose();
        self.ended = matches!(line, None | Some(Err(LineError::Io(_))));
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<Result<(u64, String), String>> {
        Lines::new(bytes)
            .map(|line| match line {
                Ok(line) => Ok((line.number, line.text)),
                Err(error) => Err(error.to_string()),
            })
            .collect()
    }

    #[test]
    fn empty_lines_are_skipped_but_counted() {
        assert_eq!(
            lines(b"one\n\n\r\nfour\r\nfive"),
            [
                Ok((1, "one".to_owned())),
                Ok((4, "four".to_owned())),
                Ok((5, "five".to_owned()))
            ]
        );
        assert!(lines(b"").is_empty());
    }

    #[test]
    fn bad_text_names_its_line_and_the_next_is_read() {
        let read = lines(b"ok\nb\xffd\nnext");
        assert_eq!(read.len(), 3);
        assert_eq!(read[2], Ok((3, "next".to_owned())));
        let error = read[1].as_ref().unwrap_err();
        assert!(
            error.contains("line 2") && error.contains("byte 1"),
            "{error}"
        );
    }

    #[test]
    fn a_whole_text_keeps_its_lines_and_loses_only_its_last_end() {
        for (bytes, text) in [
            (&b"one\n\ntwo\n"[..], "one\n\ntwo"),
            (b"one\r\n", "one"),
            (b" x \n\n", " x \n"),
        ] {
            assert_eq!(whole(bytes).unwrap(), text);
        }
        for end in [&b""[..], b"\n", b"\r\n"] {
            let longest = [&vec![b'x'; MAX_BODY_BYTES][..], end].concat();
            assert_eq!(whole(&longest[..]).unwrap().len(), MAX_BODY_BYTES);
            let over = [&vec![b'x'; MAX_BODY_BYTES + 1][..], end].concat();
            assert!(matches!(whole(&over[..]), Err(WholeError::TooLong { .. })));
            assert!(matches!(whole(end), Err(WholeError::Empty)));
        }
        assert!(matches!(
            whole(&b"ab\xff"[..]),
            Err(WholeError::NotText { at: 2 })
        ));
    }

    #[test]
    fn the_longest_line_fits_and_one_more_byte_does_not() {
        let mut bytes = vec![b'x'; MAX_BODY_BYTES];
        assert!(lines(&bytes)[0].is_ok());
        bytes.extend(b"\r\n");
        assert!(lines(&bytes)[0].is_ok());
        for over in [1, 2, 3, 100_000] {
            let mut bytes = vec![b'x'; MAX_BODY_BYTES + over];
            bytes.extend(b"\nnext");
            let read = lines(&bytes);
            let error = read[0].clone().unwrap_err();
            assert!(error.contains("line 1"), "{error}");
            assert_eq!(read[1..], [Ok((2, "next".to_owned()))], "{over}");
        }
    }
}
