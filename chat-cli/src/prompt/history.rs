//! What was typed before, for the arrow keys.
//!
//! A message is sent without ending the editing, so its line must reach the history while the
//! editor is reading it. The editor remembers an index counted from the oldest line, and would
//! miss what is added meanwhile. Hence lines are counted from the newest: the length never
//! changes, and the last index is always the newest line.

use super::history_file::{Found, HistoryFile};
use rustyline::{
    Result,
    history::{History, SearchDirection, SearchResult},
};
use std::{
    borrow::Cow,
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Lines that are remembered.
pub(super) const LINES: usize = 1_000;

/// Lines shared between the editor and the Enter key.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedHistory(Arc<Mutex<Remembered>>);

#[derive(Debug, Default)]
struct Remembered {
    lines: VecDeque<String>,
    /// `None` if nothing is to be written.
    file: Option<HistoryFile>,
    /// Whether it was told that nothing can be written at the moment.
    complained: bool,
}

impl Remembered {
    /// Whether the line is new.
    fn push(&mut self, line: &str) -> bool {
        let known = self.lines.back().is_some_and(|last| last == line);
        // A blank in front says that a line is not to be remembered, as in shells.
        if known || line.starts_with(' ') || line.trim().is_empty() {
            return false;
        }
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_owned());
        true
    }
}

impl SharedHistory {
    /// Reads what other terminals have left in the file at `path`, and writes there from now on;
    /// what to tell of it.
    pub(super) fn keep_in(&self, path: PathBuf) -> Option<String> {
        let name = path.display().to_string();
        let file = HistoryFile::new(path);
        match file.load() {
            Ok(Found { entries, damaged }) => {
                let mut remembered = self.remembered();
                for entry in &entries {
                    remembered.push(entry);
                }
                remembered.file = Some(file);
                (damaged > 0).then(|| {
                    format!(
                        "{damaged} damaged lines in {name}, what you typed before, were left out"
                    )
                })
            }
            Err(error) => Some(format!(
                "what you type is remembered by this terminal only: {name}: {error}"
            )),
        }
    }

    /// Remembers a line unless it is empty, begins with a blank or repeats the last one; what to
    /// tell of it.
    pub(super) fn remember(&self, line: &str) -> Option<String> {
        let mut remembered = self.remembered();
        if !remembered.push(line) {
            return None;
        }
        let error = remembered.file.as_ref()?.append(line).err();
        let news = error.is_some() && !remembered.complained;
        remembered.complained = error.is_some();
        let error = error.filter(|_| news)?;
        Some(format!(
            "what you type is remembered by this terminal only: {error}"
        ))
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, index: usize) -> Option<String> {
        let lines = &self.remembered().lines;
        let from_newest = LINES.checked_sub(index + 1)?;
        let at = lines.len().checked_sub(from_newest + 1)?;
        lines.get(at).cloned()
    }

    fn find(
        &self,
        start: usize,
        dir: SearchDirection,
        position: impl Fn(&str) -> Option<usize>,
    ) -> Option<SearchResult<'static>> {
        let hit = |idx: usize| {
            let line = self.line(idx)?;
            let pos = position(&line)?;
            let entry = Cow::Owned(line);
            Some(SearchResult { entry, idx, pos })
        };
        match dir {
            SearchDirection::Reverse => (0..=start.min(LINES - 1)).rev().find_map(hit),
            SearchDirection::Forward => (start..LINES).find_map(hit),
        }
    }
}

impl History for SharedHistory {
    fn get(&self, index: usize, _: SearchDirection) -> Result<Option<SearchResult<'_>>> {
        Ok(self.line(index).map(|line| SearchResult {
            entry: Cow::Owned(line),
            idx: index,
            pos: 0,
        }))
    }

    fn add(&mut self, line: &str) -> Result<bool> {
        Ok(self.remembered().push(line))
    }

    fn add_owned(&mut self, line: String) -> Result<bool> {
        Ok(self.remembered().push(&line))
    }

    fn len(&self) -> usize {
        LINES
    }

    fn is_empty(&self) -> bool {
        self.remembered().lines.is_empty()
    }

    fn set_max_len(&mut self, _: usize) -> Result<()> {
        Ok(())
    }

    fn ignore_dups(&mut self, _: bool) -> Result<()> {
        Ok(())
    }

    fn ignore_space(&mut self, _: bool) {}

    fn save(&mut self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn append(&mut self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn load(&mut self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn clear(&mut self) -> Result<()> {
        self.remembered().lines.clear();
        Ok(())
    }

    fn search(
        &self,
        term: &str,
        start: usize,
        dir: SearchDirection,
    ) -> Result<Option<SearchResult<'_>>> {
        Ok(self.find(start, dir, |line| line.find(term)))
    }

    fn starts_with(
        &self,
        term: &str,
        start: usize,
        dir: SearchDirection,
    ) -> Result<Option<SearchResult<'_>>> {
        Ok(self.find(start, dir, |line| line.starts_with(term).then_some(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_line_is_always_the_last_one() {
        let history = SharedHistory::default();
        assert_eq!(history.line(history.len() - 1), None);
        for line in ["one", "two", "two", " ", " secret"] {
            history.remember(line);
        }
        assert_eq!(history.line(LINES - 1).as_deref(), Some("two"));
        assert_eq!(history.line(LINES - 2).as_deref(), Some("one"));
        assert_eq!(history.line(LINES - 3), None);
        assert_eq!(history.line(LINES), None);
        for number in 0..2 * LINES {
            history.remember(&number.to_string());
        }
        assert_eq!(history.line(LINES - 1), Some((2 * LINES - 1).to_string()));
        assert_eq!(history.line(0), Some(LINES.to_string()));
    }

    #[test]
    fn searching_goes_from_the_newest_back() {
        let history = SharedHistory::default();
        for line in ["make test", "hello", "make bench"] {
            history.remember(line);
        }
        let found = history
            .search("make", LINES - 1, SearchDirection::Reverse)
            .unwrap()
            .unwrap();
        assert_eq!(found.entry, "make bench");
        let older = history
            .search("make", found.idx - 1, SearchDirection::Reverse)
            .unwrap()
            .unwrap();
        assert_eq!(older.entry, "make test");
    }
}
