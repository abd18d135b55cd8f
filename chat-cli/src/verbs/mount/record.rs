//! The file `out` of a room, and where in the room it is.
//!
//! A mark beside it says which message was written last and how long the file was then. What the
//! file has behind that was written, but not marked, before somebody pulled the plug: the messages
//! that follow are compared with it, and what is there already is not written again.

use super::place::Place;
use crate::render;
use jiff::tz::TimeZone;
use protocol::{Committed, Content, Cursor, UserName};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
};

/// Columns that a name takes at least, so that short names line up.
const NAME_COLUMNS: usize = 8;

/// Messages that may be written without a mark.
const MAX_UNMARKED: u32 = 64;

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
        let length = out.metadata()?.len();
        let mark = place.read_mark()?.as_deref().and_then(parse_mark);
        let mut unmarked = Vec::new();
        if let Some((_, marked)) = mark
            && marked < length
        {
            out.seek(SeekFrom::Start(marked))?;
            out.read_to_end(&mut unmarked)?;
        }
        let torn = length > 0 && {
            let mut last = [0];
            out.seek(SeekFrom::End(-1))?;
            out.read_exact(&mut last)?;
            last != *b"\n"
        };
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
            self.out.write_all(&line)?;
            self.length += line.len() as u64;
            self.torn = false;
        }
        self.move_on(at)
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
            let known = self.length - self.unmarked.len() as u64;
            self.place.write_mark(&format!("{cursor} {known}\n"))?;
        }
        self.since = 0;
        Ok(())
    }
}

fn parse_mark(text: &str) -> Option<(Cursor, u64)> {
    let (cursor, length) = text.trim_end().split_once(' ')?;
    Some((cursor.parse().ok()?, length.parse().ok()?))
}

/// One message as lines of the file, with the whole date: a file is read on another day.
pub(super) fn line(message: &Committed, me: &UserName, zone: &TimeZone) -> String {
    let time = render::instant(message.committed_at)
        .to_zoned_datetime(zone.clone())
        .strftime("%Y-%m-%d %H:%M")
        .to_string();
    let name = render::pad(&render::name_seen_by(&message.author, me), NAME_COLUMNS);
    let head = format!("{time} {name}  ");
    let indent = unicode_width::UnicodeWidthStr::width(head.as_str());
    let says = |mark: &str, text: &str| format!("{mark}{}", render::lines(text, indent));
    let body = match message.body.decode() {
        Ok(Content::Text(text)) => says("", &text),
        Ok(Content::Action(text)) => says("* ", &text),
        Ok(Content::Reply { text, .. }) => says("> ", &text),
        Ok(Content::Edit { text, .. }) => says("(edited) ", &text),
        Ok(Content::Delete { .. }) => "(deleted a message)".to_owned(),
        Ok(Content::React {
            emoji, on: true, ..
        }) => says("+ ", &emoji),
        Ok(Content::React { emoji, .. }) => says("- ", &emoji),
        Ok(_) => "(a kind of message that this version cannot show)".to_owned(),
        Err(error) => format!("({})", render::line(&error.to_string())),
    };
    format!("{head}{body}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{epoch, message};
    use protocol::Seq;
    use std::path::Path;

    fn at(seq: u64) -> Cursor {
        Cursor {
            epoch: epoch(1),
            seq: Seq::new(seq),
        }
    }

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
    fn a_line_has_its_date_and_nothing_to_obey() {
        let me = "alice@ada".parse().unwrap();
        let said = message("#ops", 7, "bob@ada", "one\n\u{1b}[2J");
        assert_eq!(
            line(&said, &me, &TimeZone::UTC),
            "2024-03-01 12:00 bob       one\n                           \\x1b[2J"
        );
    }
}
