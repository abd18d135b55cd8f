//! People of whom nothing is shown, remembered for each nick.

use protocol::{NameError, Nick, UserName};
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Bytes of the file that are read; more is a mistake.
const MAX_BYTES: u64 = 64 * 1024;

/// People who are ignored at most.
const MAX_NAMES: usize = 500;

/// Whom to ignore, and where that is remembered.
#[derive(Debug, Default)]
pub(super) struct Ignored {
    /// `nick`, on whichever host, or `nick@host`.
    names: BTreeSet<String>,
    path: PathBuf,
}

/// Why somebody is not ignored.
#[derive(Debug, Error)]
pub(super) enum IgnoreError {
    /// That is nobody's name.
    #[error("{0}; write /ignore NICK or /ignore NICK@HOST")]
    Name(#[from] NameError),
    /// There are too many.
    #[error("no more than {MAX_NAMES} people can be ignored")]
    TooMany,
}

impl Ignored {
    /// Reads whom `nick` ignores.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub(super) fn load(state_dir: &Path, nick: &Nick) -> io::Result<Self> {
        use io::Read;
        let path = state_dir.join(format!("ignored-{nick}"));
        let mut text = String::new();
        match fs::File::open(&path) {
            Ok(file) => drop(file.take(MAX_BYTES).read_to_string(&mut text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let names = text.lines().map(str::trim).filter(|name| !name.is_empty());
        let names = names.take(MAX_NAMES).map(str::to_owned).collect();
        Ok(Self { names, path })
    }

    /// Ignores somebody, or does not any more; what to tell of it.
    ///
    /// # Errors
    ///
    /// [`IgnoreError`].
    pub(super) fn set(&mut self, who: &str, on: bool) -> Result<String, IgnoreError> {
        let name = if who.contains('@') {
            UserName::parse(who)?.to_string()
        } else {
            Nick::parse(who)?.to_string()
        };
        if on && self.names.len() >= MAX_NAMES {
            return Err(IgnoreError::TooMany);
        }
        let changed = if on {
            self.names.insert(name.clone())
        } else {
            self.names.remove(&name)
        };
        let what = match (on, changed) {
            (true, _) => format!("{name} is ignored; /unignore {name} ends that"),
            (false, true) => format!("{name} is not ignored any more"),
            (false, false) => format!("{name} was not ignored"),
        };
        Ok(match self.save() {
            Ok(()) => what,
            Err(error) => format!("{what} (in this terminal only: {error})"),
        })
    }

    fn save(&self) -> io::Result<()> {
        let mut text = String::new();
        for name in &self.names {
            text.push_str(name);
            text.push('\n');
        }
        // A new file takes the old one's place at once: half a list is never read.
        let dir = self.path.parent().unwrap_or_else(|| Path::new("."));
        let mut new = tempfile::Builder::new()
            .prefix(".ignored-")
            .tempfile_in(dir)?;
        io::Write::write_all(&mut new, text.as_bytes())?;
        new.persist(&self.path)?;
        Ok(())
    }

    /// Whether nothing is shown of `user`.
    pub(super) fn includes(&self, user: &UserName) -> bool {
        !self.names.is_empty()
            && (self.names.contains(user.nick.as_str()) || self.names.contains(&user.to_string()))
    }

    /// All of them.
    pub(super) fn names(&self) -> Vec<String> {
        self.names.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_a_person_ignores_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let alice = Nick::parse("alice").unwrap();
        let mut ignored = Ignored::load(dir.path(), &alice).unwrap();
        assert!(ignored.set("a b", true).is_err());
        ignored.set("bob", true).unwrap();
        ignored.set("eve@bee", true).unwrap();
        let mut ignored = Ignored::load(dir.path(), &alice).unwrap();
        let includes = |ignored: &Ignored, user: &str| ignored.includes(&user.parse().unwrap());
        assert!(includes(&ignored, "bob@anywhere"));
        assert!(includes(&ignored, "eve@bee") && !includes(&ignored, "eve@ada"));
        ignored.set("bob", false).unwrap();
        assert!(!includes(&ignored, "bob@ada"));
        // A name that another one is the beginning of has its own list.
        let mut longer = Ignored::load(dir.path(), &Nick::parse("alice.new").unwrap()).unwrap();
        longer.set("carol", true).unwrap();
        ignored.set("dan", true).unwrap();
        let longer = Ignored::load(dir.path(), &Nick::parse("alice.new").unwrap()).unwrap();
        assert!(includes(&longer, "carol@ada"));
        let other = Ignored::load(dir.path(), &Nick::parse("dan").unwrap()).unwrap();
        assert!(other.names().is_empty());
    }
}
