//! What a person wants of the conversation: `terminal.toml`, and `/set` for this session.

use super::calls::Call;
use crate::paths::{Setting, Source};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{fs, io, path::Path};
use thiserror::Error;

/// Bytes of the file that are read; more is a mistake.
const MAX_BYTES: u64 = 64 * 1024;

/// How a terminal is asked to notify its person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Notify {
    /// Not at all.
    #[default]
    Off,
    /// `OSC 9`, as iTerm2, kitty, WezTerm and Windows Terminal know it.
    Osc9,
    /// `OSC 777`, as VTE, foot and rxvt know it.
    Osc777,
}

/// What a person wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Preferences {
    /// Ring the bell when a message speaks to the person.
    pub(super) bell: bool,
    /// Notify then, too.
    pub(super) notify: Notify,
    /// Say who comes and goes.
    pub(super) comings: bool,
}

/// What they are called in the file and by `/set`.
const NAMES: [&str; 3] = ["bell", "notify", "comings"];

/// Why preferences are not taken.
#[derive(Debug, Error)]
pub(crate) enum PreferenceError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {reason}")]
    Read {
        /// Its path.
        path: String,
        /// What the system said.
        reason: io::Error,
    },
    /// The file makes no sense.
    #[error("{path} is not understood: {reason}")]
    Parse {
        /// Its path.
        path: String,
        /// What the parser said.
        reason: String,
    },
    /// There is no such setting or value.
    #[error("write /set bell on|off, /set notify off|osc9|osc777, or /set comings on|off")]
    Unknown,
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            bell: true,
            notify: Notify::Off,
            comings: true,
        }
    }
}

impl Preferences {
    /// Reads the file; without one everything is as usual.
    ///
    /// # Errors
    ///
    /// [`PreferenceError::Read`] or [`PreferenceError::Parse`].
    pub(super) fn load(path: &Path) -> Result<Self, PreferenceError> {
        Self::parse(path, &read(path)?)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, PreferenceError> {
        toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map(|before| before.matches('\n').count() + 1);
            let line = line.map_or_else(String::new, |line| format!(", line {line}"));
            PreferenceError::Parse {
                path: format!("{}{line}", path.display()),
                reason: error.message().replace('\n', "; "),
            }
        })
    }

    /// Changes one of them, as `/set` writes it.
    ///
    /// # Errors
    ///
    /// [`PreferenceError::Unknown`].
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), PreferenceError> {
        let on = || match value {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err(PreferenceError::Unknown),
        };
        match (name, value) {
            ("bell", _) => self.bell = on()?,
            ("comings", _) => self.comings = on()?,
            ("notify", "off") => self.notify = Notify::Off,
            ("notify", "osc9") => self.notify = Notify::Osc9,
            ("notify", "osc777") => self.notify = Notify::Osc777,
            _ => return Err(PreferenceError::Unknown),
        }
        Ok(())
    }

    /// What to send to the terminal so that it calls its person.
    pub(super) fn call(&self, call: &Call) -> String {
        let Call { from, words } = call;
        let notification = match self.notify {
            Notify::Off => String::new(),
            Notify::Osc9 => format!("\x1b]9;{from}: {words}\x1b\\"),
            // Its parts are set apart by semicolons.
            Notify::Osc777 => {
                let words = words.replace(';', ",");
                format!("\x1b]777;notify;{from};{words}\x1b\\")
            }
        };
        let bell = if self.bell { "\x07" } else { "" };
        format!("{notification}{bell}")
    }

    /// In a line, as `/set` shows them.
    pub(super) fn summary(&self) -> String {
        let on = |wanted| if wanted { "on" } else { "off" };
        let notify = match self.notify {
            Notify::Off => "off",
            Notify::Osc9 => "osc9",
            Notify::Osc777 => "osc777",
        };
        let (bell, comings) = (on(self.bell), on(self.comings));
        format!("bell {bell}, notify {notify}, comings {comings}")
    }
}

/// What the file says; nothing if there is none.
fn read(path: &Path) -> Result<String, PreferenceError> {
    use io::Read;
    let failed = |reason| PreferenceError::Read {
        path: path.display().to_string(),
        reason,
    };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut text = String::new();
    file.take(MAX_BYTES)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(text)
}

/// What `chat config` tells of the preferences in the file at `path`.
///
/// # Errors
///
/// As [`Preferences::load`].
pub(crate) fn settings(path: &Path) -> Result<Vec<Setting>, PreferenceError> {
    let text = read(path)?;
    let preferences = Preferences::parse(path, &text)?;
    // It was understood just now.
    let in_file: toml::Table = toml::from_str(&text).unwrap_or_default();
    let Ok(Value::Object(all)) = serde_json::to_value(&preferences) else {
        return Ok(Vec::new());
    };
    let setting = |name: &'static str| Setting {
        of: "terminal",
        name,
        value: all.get(name).cloned().unwrap_or(Value::Null),
        unset: "",
        source: match in_file.contains_key(name) {
            true => Source::File(path.to_owned()),
            false => Source::Default,
        },
    };
    Ok(NAMES.into_iter().map(setting).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_switched_for_itself() {
        let mut preferences = Preferences::default();
        let call = |words: &str| Call {
            from: "bob".to_owned(),
            words: words.to_owned(),
        };
        assert_eq!(preferences.call(&call("hi")), "\x07");
        preferences.set("bell", "off").unwrap();
        assert_eq!(preferences.call(&call("hi")), "");
        preferences.set("notify", "osc777").unwrap();
        assert_eq!(
            preferences.call(&call("a;b")),
            "\x1b]777;notify;bob;a,b\x1b\\"
        );
        preferences.set("notify", "osc9").unwrap();
        assert_eq!(preferences.call(&call("hi")), "\x1b]9;bob: hi\x1b\\");
        assert_eq!(preferences.summary(), "bell off, notify osc9, comings on");
        assert!(preferences.set("bell", "maybe").is_err());
        assert!(preferences.set("volume", "on").is_err());
    }

    #[test]
    fn a_file_is_taken_as_it_is_or_said_to_be_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("terminal.toml");
        assert_eq!(Preferences::load(&path).unwrap(), Preferences::default());
        fs::write(&path, "bell = false\nnotify = \"osc9\"\n").unwrap();
        let loaded = Preferences::load(&path).unwrap();
        assert_eq!((loaded.bell, loaded.notify), (false, Notify::Osc9));
        fs::write(&path, "bel = false\n").unwrap();
        let error = Preferences::load(&path).unwrap_err().to_string();
        assert!(
            error.contains("terminal.toml") && error.contains("bel"),
            "{error}"
        );
    }

    #[test]
    fn a_mistake_in_the_file_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("terminal.toml");
        fs::write(&path, "bell = true\nnotify = \"loud\"\n").unwrap();
        let error = settings(&path).unwrap_err().to_string();
        assert!(
            error.contains("terminal.toml, line 2") && error.contains("osc777"),
            "{error}"
        );
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let error = settings(&path).unwrap_err();
        assert!(matches!(error, PreferenceError::Read { .. }), "{error}");
    }

    #[test]
    fn each_is_told_with_where_it_comes_from() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("terminal.toml");
        let all = settings(&path).unwrap();
        assert!(all.iter().all(|one| one.source == Source::Default));
        fs::write(&path, "notify = \"osc9\"\n").unwrap();
        let all = settings(&path).unwrap();
        // None is forgotten there that the file may have.
        let Value::Object(known) = serde_json::to_value(Preferences::default()).unwrap() else {
            unreachable!("it has fields");
        };
        assert_eq!(all.len(), known.len());
        let notify = all.iter().find(|one| one.name == "notify").unwrap();
        assert_eq!(notify.value, "osc9");
        assert_eq!(notify.source, Source::File(path));
    }
}
