//! The lines of the file, as they are read.

use super::{
    MoveError,
    line::{Line, VERSION},
    tally::hexadecimal,
};
use sha2::{Digest, Sha256};
use std::io::{BufRead, Read};

/// Longest line: the largest body as text, and all that stands around it, several times over.
const MAX_LINE_BYTES: u64 = 4 << 20;

/// The lines of the file, one at a time.
pub(super) struct Lines<'f> {
    file: &'f mut (dyn BufRead + Send),
    /// Of the last one that was read.
    number: u64,
    /// Over all lines before the last one that was read, and over that one.
    before: Sha256,
    digest: Sha256,
}

/// What the first line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heading {
    pub(super) epoch: String,
    pub(super) newest: u64,
    pub(super) messages: u64,
}

impl<'f> Lines<'f> {
    pub(super) fn new(file: &'f mut (dyn BufRead + Send)) -> Self {
        Self {
            file,
            number: 0,
            before: Sha256::new(),
            digest: Sha256::new(),
        }
    }

    /// The next one.
    pub(super) fn next(&mut self) -> Result<Line, MoveError> {
        let mut text = Vec::new();
        let mut limited = Read::take(&mut *self.file, MAX_LINE_BYTES);
        limited
            .read_until(b'\n', &mut text)
            .map_err(MoveError::Read)?;
        if text.is_empty() {
            return Err(MoveError::Cut { line: self.number });
        }
        self.number += 1;
        self.before = self.digest.clone();
        self.digest.update(&text);
        if text.last() != Some(&b'\n') {
            if text.len() as u64 == MAX_LINE_BYTES {
                return Err(self.bad("it is too long"));
            }
            return Err(MoveError::Cut { line: self.number });
        }
        serde_json::from_slice(&text).map_err(|error| match self.number {
            1 => self.bad("this file is no export of a log"),
            _ => self.bad(&format!("it is no line of an export ({error})")),
        })
    }

    /// The digest of all lines before the last one that was read.
    pub(super) fn sha256(&self) -> String {
        hexadecimal(self.before.clone())
    }

    /// Whether nothing follows.
    pub(super) fn at_end(&mut self) -> Result<bool, MoveError> {
        Ok(self.file.fill_buf().map_err(MoveError::Read)?.is_empty())
    }

    /// Reads the first one.
    pub(super) fn first(&mut self) -> Result<Heading, MoveError> {
        match self.next()? {
            Line::Export {
                version: VERSION,
                epoch,
                newest,
                messages,
                ..
            } => Ok(Heading {
                epoch,
                newest,
                messages,
            }),
            Line::Export { version, .. } => Err(self.bad(&format!(
                "the format is {version}, and this program knows {VERSION}: use the program that wrote \
                 it, or a newer one"
            ))),
            _ => Err(self.bad("it is not the first line of an export")),
        }
    }

    /// What is said of the last line that was read.
    pub(super) fn bad(&self, problem: &str) -> MoveError {
        MoveError::BadLine {
            line: self.number,
            problem: problem.to_owned(),
        }
    }
}
