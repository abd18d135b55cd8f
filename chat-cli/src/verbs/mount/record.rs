//! The file `out` of a room, and where in the room it is.
//!
//! A mark beside it says which message was written last and how long the file was then. What the
//! file has behind that was written, but not marked, before somebody pulled the plug: the messages
//! that follow are compared with it, and what is there already is not written again.
//!
//! The file may be taken away, as `logrotate` does it: then another is begun, or it is gone on with
//! where it ends now.

use super::place::Place;
use protocol::Cursor;
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
};

/// Messages that may be written without a mark.
const MAX_UNMARKED: u32 = 64;

/// Bytes behind the mark that are read at most: more than so many messages have. What is longer was
/// put there by somebody else.
const MAX_UNMARKED_BYTES: u64 = MAX_UNMARKED as u64 * 2 * 1024 * 1024;

/// The file, open to append.
#[derive(Debug)]
pub(super) struct Record {
    place: Place,
    out: File,
    length: u64,
    /// What the file has behind the mark, as far as nothing has come that is not there.
    unmarked: Vec<u8>,
    /// Whether the last line is torn.
    torn: bool,
    mark: Option<Cursor>,
    /// Messages written since the mark was made.
    since: u32,
}

impl Record {
    /// Opens what `place` has, or begins it.
    ///
    /// # Errors
    ///
    /// If something is in the way, or cannot be read.
    pub(super) fn open(place: Place) -> io::Result<Self> {
        let mut out = place.open_out()?;
        let (length, torn) = end(&mut out)?;
        let mark = place.read_mark()?.as_deref().and_then(parse_mark);
        let mut unmarked = Vec::new();
        if let Some((_, marked)) = mark
            && let Some(1..=MAX_UNMARKED_BYTES) = length.checked_sub(marked)
        {
            out.seek(SeekFrom::Start(marked))?;
            out.read_to_end(&mut unmarked)?;
        }
        Ok(Self {
            place,
            out,
            length,
            unmarked,
            torn,
            mark: mark.map(|(cursor, _)| cursor),
            since: 0,
        })
    }

    /// The last message in it, if it has been begun.
    pub(super) const fn mark(&self) -> Option<Cursor> {
        self.mark
    }

    /// Where its files are.
    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    /// Writes a message that is not there yet.
    ///
    /// # Errors
    ///
    /// If that fails; what was written of it is found again.
    pub(super) fn write(&mut self, line: &str, at: Cursor) -> io::Result<()> {
        self.keep_up()?;
        let mut line = [line.as_bytes(), b"\n"].concat();
        if !self.unmarked.is_empty() && self.unmarked.starts_with(&line) {
            self.unmarked.drain(..line.len());
            line.clear();
        } else if !self.unmarked.is_empty() && line.starts_with(&self.unmarked) {
            line.drain(..self.unmarked.len());
            self.unmarked.clear();
        } else {
            self.unmarked.clear();
            if self.torn {
                line.insert(0, b'\n');
            }
        }
        if !line.is_empty() {
            self.append(&line)?;
        }
        self.move_on(at)
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        self.out.write_all(line)?;
        if self.out.metadata()?.nlink() == 0 {
            // It was removed just before, and this with it.
            self.begin_anew()?;
            self.out.write_all(line)?;
        }
        self.length += line.len() as u64;
        self.torn = false;
        Ok(())
    }

    /// Sees to it that the file of that name is the one that is written.
    fn keep_up(&mut self) -> io::Result<()> {
        let ours = self.out.metadata()?;
        if !self.place.is_out(&ours) {
            return self.begin_anew();
        }
        if ours.len() < self.length {
            // What was in it is in a copy, or was not wanted any more.
            (self.length, self.torn) = end(&mut self.out)?;
            self.unmarked.clear();
            self.set_mark()?;
        }
        Ok(())
    }

    /// Goes on in the file that has the name now, which is made if need be.
    fn begin_anew(&mut self) -> io::Result<()> {
        // The mark is going to say that all of it was written.
        self.out.sync_data()?;
        self.out = self.place.open_out()?;
        (self.length, self.torn) = end(&mut self.out)?;
        self.unmarked.clear();
        self.set_mark()
    }

    /// Notes that it has all up to here.
    ///
    /// # Errors
    ///
    /// If the mark cannot be made.
    pub(super) fn move_on(&mut self, at: Cursor) -> io::Result<()> {
        self.mark = Some(at);
        self.since += 1;
        if self.since >= MAX_UNMARKED {
            self.set_mark()?;
        }
        Ok(())
    }

    /// Whether something is there that the mark does not tell.
    pub(super) const fn needs_mark(&self) -> bool {
        self.since > 0
    }

    /// Makes the mark tell what is there.
    ///
    /// # Errors
    ///
    /// If it cannot be written; the old one stays.
    pub(super) fn set_mark(&mut self) -> io::Result<()> {
        if let Some(cursor) = self.mark {
            // First what it stands for: it must not tell of lines that a power cut takes away.
            self.out.sync_data()?;
            let known = self.length - self.unmarked.len() as u64;
            self.place.write_mark(&format!("{cursor} {known}\n"))?;
        }
        self.since = 0;
        Ok(())
    }
}

/// How long a file is, and whether its last line is torn.
fn end(file: &mut File) -> io::Result<(u64, bool)> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok((0, false));
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(length - 1))?;
    // Nothing is there if it was made shorter just now.
    let count = file.read(&mut last)?;
    Ok((length, count == 1 && last != *b"\n"))
}

fn parse_mark(text: &str) -> Option<(Cursor, u64)> {
    let (cursor, length) = text.trim_end().split_once(' ')?;
    Some((cursor.parse().ok()?, length.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::at;
    use std::path::Path;

    fn open(dir: &Path) -> Record {
        let root = super::super::place::Root::open(dir).unwrap();
        Record::open(root.room("&a").unwrap()).unwrap()
    }

    fn out(dir: &Path) -> String {
        std::fs::read_to_string(dir.join("&a/out")).unwrap()
    }

    #[test]
    fn what_is_there_is_not_written_again_however_it_was_left() {
        let lines = ["one", "two", "three\n  more", "four"];
        let all = lines.map(|line| format!("{line}\n")).concat();
        // Killed after the mark for "one", with so many bytes of the rest in the file.
        for written in 0..=all.len() - 4 {
            let dir = tempfile::tempdir().unwrap();
            let mut record = open(dir.path());
            assert_eq!(record.mark(), None);
            record.write(lines[0], at(1)).unwrap();
            record.set_mark().unwrap();
            drop(record);
            std::fs::write(dir.path().join("&a/out"), &all[..4 + written]).unwrap();
            let mut record = open(dir.path());
            assert_eq!(record.mark(), Some(at(1)));
            for (index, line) in lines.iter().enumerate().skip(1) {
                record.write(line, at(index as u64 + 1)).unwrap();
                record.set_mark().unwrap();
                drop(record);
                record = open(dir.path());
            }
            assert_eq!(out(dir.path()), all, "{written}");
            assert_eq!(record.mark(), Some(at(4)));
        }
    }

    #[test]
    fn what_somebody_else_wrote_or_took_away_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = open(dir.path());
        record.write("one", at(1)).unwrap();
        record.set_mark().unwrap();
        std::fs::write(dir.path().join("&a/out"), "one\nmine").unwrap();
        let mut record = open(dir.path());
        record.write("two", at(2)).unwrap();
        assert_eq!(out(dir.path()), "one\nmine\ntwo\n");
        record.set_mark().unwrap();
        std::fs::write(dir.path().join("&a/out"), "").unwrap();
        let mut record = open(dir.path());
        assert_eq!(record.mark(), Some(at(2)));
        record.write("three", at(3)).unwrap();
        assert_eq!(out(dir.path()), "three\n");
    }

    #[test]
    fn what_somebody_else_put_there_is_not_read_however_long() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = open(dir.path());
        record.write("one", at(1)).unwrap();
        record.set_mark().unwrap();
        let long = File::options().append(true).open(dir.path().join("&a/out"));
        long.unwrap().set_len(1 << 34).unwrap();
        let mut record = open(dir.path());
        assert!(record.unmarked.is_empty());
        record.write("two", at(2)).unwrap();
        let mut last = [0; 5];
        record.out.seek(SeekFrom::End(-5)).unwrap();
        record.out.read_exact(&mut last).unwrap();
        assert_eq!(&last, b"\ntwo\n");
    }

    #[test]
    fn a_file_that_is_taken_away_is_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("&a/out");
        let mut record = open(dir.path());
        record.write("one", at(1)).unwrap();
        std::fs::rename(&path, path.with_extension("1")).unwrap();
        record.write("two", at(2)).unwrap();
        let old = std::fs::read_to_string(path.with_extension("1")).unwrap();
        assert_eq!((old.as_str(), out(dir.path()).as_str()), ("one\n", "two\n"));
        // As with logrotate's copytruncate.
        std::fs::write(&path, "").unwrap();
        record.write("three", at(3)).unwrap();
        assert_eq!(out(dir.path()), "three\n");
        std::fs::remove_file(&path).unwrap();
        record.write("four", at(4)).unwrap();
        assert_eq!(out(dir.path()), "four\n");
        record.set_mark().unwrap();
        // Whoever opens it next knows where it is.
        drop(record);
        let mut record = open(dir.path());
        assert_eq!(record.mark(), Some(at(4)));
        record.write("five", at(5)).unwrap();
        assert_eq!(out(dir.path()), "four\nfive\n");
        // Of which nothing was marked since.
        std::fs::rename(&path, path.with_extension("1")).unwrap();
        std::fs::write(&path, "mine").unwrap();
        record.write("six", at(6)).unwrap();
        assert_eq!(out(dir.path()), "mine\nsix\n");
    }
}
