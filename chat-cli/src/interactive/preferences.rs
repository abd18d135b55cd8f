//! What a person wants of the conversation: `terminal.toml`, and `/set` for this session.

use super::calls::Call;
use serde::Deserialize;
use std::{fs, io, path::Path};
use thiserror::Error;

/// Bytes of the file that are read; more is a mistake.
const MAX_BYTES: u64 = 64 * 1024;

/// How a terminal is asked to notify its person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Preferences {
    /// Ring the bell when a message speaks to the person.
    pub(super) bell: bool,
    /// Notify then, too.
    pub(super) notify: Notify,
    /// Say who comes and goes.
    pub(super) comings: bool,
}

/// Why preferences are not taken.
#[derive(Debug, Error)]
pub(super) enum PreferenceError {
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
        use io::Read;
        let name = || path.display().to_string();
        let read = |reason| PreferenceError::Read {
            path: name(),
            reason,
        };
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(read(error)),
        };
        let mut text = String::new();
        file.take(MAX_BYTES)
            .read_to_string(&mut text)
            .map_err(read)?;
        toml::from_str(&text).map_err(|error| PreferenceError::Parse {
            path: name(),
            reason: error.message().to_owned(),
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
}
