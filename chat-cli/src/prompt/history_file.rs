//! What was typed before, on disk: one entry a line, the newest last.
//!
//! Each entry is appended in one write as soon as it is typed, so that a killed terminal loses
//! none, and several terminals share the file. Only a start makes the file shorter, by putting a
//! new one in its place, which whoever appends finds out under the file's lock. A file that cannot
//! be used costs what is remembered, never the conversation.

use super::history::LINES;
use rustix::fs::OFlags;
use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{
        DirBuilderExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt,
    },
    path::PathBuf,
};

/// Bytes of the file that are read, from its end.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Bytes of an entry; a longer one, such as a pasted file, is remembered by this terminal only.
const MAX_ENTRY_BYTES: usize = 16 * 1024;

/// Only for the user: what is typed may be a secret.
const MODE: u32 = 0o600;

/// The way to the file.
#[derive(Debug)]
pub(super) struct HistoryFile {
    path: PathBuf,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The newest entries, oldest first.
    pub(super) entries: Vec<String>,
    /// Lines that are none.
    pub(super) damaged: usize,
}

impl HistoryFile {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Reads the file, and makes it shorter if it has become long or has damaged lines.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is no file. No file at all is an empty one.
    pub(super) fn load(&self) -> io::Result<Found> {
        let mut file = match self.open(OpenOptions::new().read(true)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::default()),
            file => file?,
        };
        if file.metadata()?.mode() & 0o077 != 0 {
            // Of somebody else it is left as it is.
            let _ = file.set_permissions(Permissions::from_mode(MODE));
        }
        let (mut found, whole) = read(&mut file)?;
        let long = found.entries.len() > LINES || !whole;
        if long {
            let old = found.entries.len().saturating_sub(LINES);
            found.entries.drain(..old);
        }
        if long || found.damaged > 0 {
            // If that fails it is tried at the next start.
            let _ = self.shorten(&file);
        }
        Ok(found)
    }

    /// Appends an entry. Waits while another terminal makes the file shorter, which it does once,
    /// at its start.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(super) fn append(&self, entry: &str) -> io::Result<()> {
        if entry.len() > MAX_ENTRY_BYTES {
            return Ok(());
        }
        let mut line = String::new();
        escape(entry, &mut line);
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(MODE);
        loop {
            let file = match self.open(&options) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if let Some(dir) = self.path.parent() {
                        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
                    }
                    self.open(&options)
                }
                file => file,
            }?;
            file.lock_shared()?;
            if self.is_in_place(&file)? {
                return write(file, line);
            }
        }
    }

    /// Puts a file with the newest entries only in the place of `file`.
    fn shorten(&self, file: &File) -> io::Result<()> {
        match file.try_lock() {
            Ok(()) => {}
            // Another terminal writes or does this just now.
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if !self.is_in_place(file)? {
            return Ok(());
        }
        // Once more: others may have written before it was locked.
        let (found, _) = read(&mut &*file)?;
        let mut text = String::new();
        let old = found.entries.len().saturating_sub(LINES);
        for entry in &found.entries[old..] {
            escape(entry, &mut text);
        }
        let dir = self.path.parent().unwrap_or(&self.path);
        let mut new = tempfile::Builder::new()
            .permissions(Permissions::from_mode(MODE))
            .tempfile_in(dir)?;
        new.write_all(text.as_bytes())?;
        new.as_file().sync_data()?;
        new.persist(&self.path)?;
        Ok(())
    }

    /// Opens the file, and waits for nobody as a pipe would.
    fn open(&self, options: &OpenOptions) -> io::Result<File> {
        let mut options = options.clone();
        options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let file = options.open(&self.path)?;
        let kind = file.metadata()?.file_type();
        if kind.is_file() {
            return Ok(file);
        }
        let what = if kind.is_dir() {
            "it is a directory"
        } else if kind.is_fifo() {
            "it is a pipe"
        } else {
            "it is no file"
        };
        Err(io::Error::other(what))
    }

    /// Whether `file` still has the name.
    fn is_in_place(&self, file: &File) -> io::Result<bool> {
        let ours = file.metadata()?;
        match fs::metadata(&self.path) {
            Ok(named) => Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// What is in the file, and whether that is all of it.
fn read(file: &mut (impl Read + Seek)) -> io::Result<(Found, bool)> {
    let length = file.seek(SeekFrom::End(0))?;
    let from = length.saturating_sub(MAX_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let whole = from == 0;
    if !whole {
        let first = bytes.iter().position(|byte| *byte == b'\n');
        bytes.drain(..first.map_or(bytes.len(), |at| at + 1));
    }
    let mut found = Found::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        match str::from_utf8(line).ok().and_then(unescape) {
            Some(entry) if entry.is_empty() => {}
            Some(entry) => found.entries.push(entry),
            None => found.damaged += 1,
        }
    }
    Ok((found, whole))
}

fn write(mut file: File, mut line: String) -> io::Result<()> {
    // A line that was cut off, by a full disk say, is not to spoil this one.
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    if last != [b'\n'] {
        line.insert(0, '\n');
    }
    file.write_all(line.as_bytes())
}

fn escape(entry: &str, text: &mut String) {
    for c in entry.chars() {
        match c {
            '\n' => text.push_str("\\n"),
            '\\' => text.push_str("\\\\"),
            c => text.push(c),
        }
    }
    text.push('\n');
}

/// The entry of a line; `None` if it has what no entry can have.
fn unescape(line: &str) -> Option<String> {
    let mut entry = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        entry.push(match c {
            '\\' => match chars.next()? {
                'n' => '\n',
                '\\' => '\\',
                _ => return None,
            },
            '\0' => return None,
            c => c,
        });
    }
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{path::Path, thread};

    fn entries(path: &Path) -> Vec<String> {
        HistoryFile::new(path.to_owned()).load().unwrap().entries
    }

    #[test]
    fn entries_come_back_as_they_were_and_belong_to_the_user() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("not/there/yet");
        assert!(entries(&path).is_empty());
        let said = ["one", "two\nlines", "back\\slash \\n", "日本", "\ttab"];
        let file = HistoryFile::new(path.clone());
        for line in said {
            file.append(line).unwrap();
        }
        file.append(&"x".repeat(MAX_ENTRY_BYTES + 1)).unwrap();
        assert_eq!(entries(&path), said);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        entries(&path);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
    }

    #[test]
    fn terminals_append_and_shorten_at_once_and_lose_nothing() {
        const EACH: usize = 300;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history");
        let file = HistoryFile::new(path.clone());
        for at in 0..2 * LINES {
            file.append(&format!("old {at}")).unwrap();
        }
        let terminals: Vec<_> = (0..3)
            .map(|terminal| {
                let path = path.clone();
                thread::spawn(move || {
                    let file = HistoryFile::new(path);
                    for at in 0..EACH {
                        file.append(&format!("{terminal} {at}")).unwrap();
                        // Each is long enough for that at first.
                        file.load().unwrap();
                    }
                })
            })
            .collect();
        terminals
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        let kept = entries(&path);
        assert_eq!(kept.len(), LINES);
        for terminal in 0..3 {
            let prefix = format!("{terminal} ");
            let own: Vec<_> = kept
                .iter()
                .filter_map(|line| line.strip_prefix(&prefix))
                .collect();
            let expected: Vec<_> = (0..EACH).map(|at| at.to_string()).collect();
            assert_eq!(own, expected);
        }
    }

    #[test]
    fn a_long_file_is_made_shorter_at_a_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history");
        let text: String = (0..LINES + 500).map(|at| format!("line {at}\n")).collect();
        fs::write(&path, text).unwrap();
        let kept = entries(&path);
        assert_eq!((kept.len(), kept[0].as_str()), (LINES, "line 500"));
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), LINES);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
    }

    #[test]
    fn damage_costs_the_damaged_lines_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history");
        fs::write(&path, b"good\n\xff\xfe\nbad \\x\n\0\0\nfine\ncut o").unwrap();
        let file = HistoryFile::new(path.clone());
        let found = file.load().unwrap();
        assert_eq!(found.entries, ["good", "fine", "cut o"]);
        assert_eq!(found.damaged, 3);
        assert_eq!(file.load().unwrap().damaged, 0);
        // One that was cut off does not spoil the next.
        fs::write(&path, "good\ncut o").unwrap();
        file.append("next").unwrap();
        assert_eq!(entries(&path), ["good", "cut o", "next"]);
    }

    #[test]
    fn what_is_no_file_is_an_error_and_not_a_wait() {
        let dir = tempfile::tempdir().unwrap();
        let directory = HistoryFile::new(dir.path().to_owned());
        assert!(directory.load().is_err());
        assert!(directory.append("x").is_err());
        let path = dir.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(MODE);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let pipe = HistoryFile::new(path);
        assert!(pipe.load().is_err());
        assert!(pipe.append("x").is_err());
    }
}
