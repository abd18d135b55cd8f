//! Lines of a pipe, bounded.

use bytes::BytesMut;
use rustix::io::Errno;
use std::{borrow::Cow, io, os::fd::AsFd};
use tokio::io::{AsyncRead, AsyncReadExt};

/// A line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// What it says; what is no text in it is replaced.
    pub(crate) text: String,
    /// Whether that is only its beginning: the rest was too much.
    pub(crate) cut: bool,
    /// Whether something in it is no text.
    pub(crate) garbled: bool,
}

/// The lines of a reader, none longer than a limit.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: R,
    most: usize,
    buffer: BytesMut,
    /// Whether what comes up to the next line end belongs to a line that was cut.
    skipping: bool,
    ended: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(reader: R, most: usize) -> Self {
        Self {
            reader,
            most,
            buffer: BytesMut::new(),
            skipping: false,
            ended: false,
        }
    }

    /// The next line; `None` at the end.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            if let Some(line) = self.take() {
                return Ok(Some(line));
            }
            if self.ended {
                return Ok(None);
            }
            self.buffer.reserve(4096);
            self.ended = self.reader.read_buf(&mut self.buffer).await? == 0;
        }
    }

    /// The next line if all of it has been written by now, whether or not the runtime knows that.
    pub(crate) fn take_now(&mut self) -> io::Result<Option<Line>>
    where
        R: AsFd,
    {
        loop {
            if let Some(line) = self.take() {
                return Ok(Some(line));
            }
            if self.ended {
                return Ok(None);
            }
            let mut bytes = [0; 4096];
            match rustix::io::read(self.reader.as_fd(), &mut bytes) {
                Ok(count) => {
                    self.buffer.extend_from_slice(&bytes[..count]);
                    self.ended = count == 0;
                }
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take(&mut self) -> Option<Line> {
        loop {
            let end = self.buffer.iter().position(|byte| *byte == b'\n');
            if self.skipping {
                let skipped = end.map_or(self.buffer.len(), |end| end + 1);
                let _ = self.buffer.split_to(skipped);
                self.skipping = end.is_none();
                if self.skipping {
                    return None;
                }
                continue;
            }
            let length = match end {
                Some(end) => end,
                None if self.buffer.len() > self.most => self.most + 1,
                None if self.ended && !self.buffer.is_empty() => self.buffer.len(),
                None => return None,
            };
            let cut = length > self.most;
            let line = self.buffer.split_to(length.min(self.most));
            if cut {
                self.skipping = true;
            } else if end.is_some() {
                let _ = self.buffer.split_to(1);
            }
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            let text = String::from_utf8_lossy(line);
            return Some(Line {
                garbled: matches!(text, Cow::Owned(_)),
                text: text.into_owned(),
                cut,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(input: &[u8], most: usize) -> Vec<(String, bool)> {
        let mut lines = Lines::new(input, most);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            assert_eq!(line.garbled, line.text.contains('\u{fffd}'));
            all.push((line.text, line.cut));
        }
        all
    }

    #[tokio::test]
    async fn each_line_comes_once_without_its_end() {
        let whole = |text: &str| (text.to_owned(), false);
        let all = lines(b"one\r\n\nthree\nno end", 10).await;
        assert_eq!(
            all,
            [whole("one"), whole(""), whole("three"), whole("no end")]
        );
        assert!(lines(b"", 10).await.is_empty());
    }

    #[tokio::test]
    async fn a_long_line_is_cut_and_the_next_is_whole() {
        let long = "x".repeat(100_000);
        let input = format!("{long}\nnext\n{long}");
        let all = lines(input.as_bytes(), 10).await;
        let cut = ("x".repeat(10), true);
        assert_eq!(all, [cut.clone(), ("next".to_owned(), false), cut]);
        let all = lines(b"0123456789\n0123456789a\n\xff\n", 10).await;
        let texts = all.iter().map(|(text, cut)| (text.as_str(), *cut));
        let expected = [
            ("0123456789", false),
            ("0123456789", true),
            ("\u{fffd}", false),
        ];
        assert!(texts.eq(expected), "{all:?}");
    }
}
