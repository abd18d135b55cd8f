//! What a person wants of the conversation: `terminal.toml`, and `/set` for this session.

use super::calls::Call;
use crate::{
    paths::{Setting, Source},
    render::Ground,
};
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
    /// Which colours names have.
    pub(super) theme: Theme,
}

/// What the terminal writes on, so that names can be read there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Theme {
    /// What the terminal says itself (`COLORFGBG`), if it does.
    #[default]
    Auto,
    Light,
    Dark,
}

/// What they are called in the file and by `/set`, and what they can be.
const NAMES: [(&str, &str); 4] = [
    ("bell", "on or off"),
    (
        "notify",
        "off, osc9 or osc777, whichever your terminal knows",
    ),
    ("comings", "on or off"),
    ("theme", "auto, light or dark"),
];

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
    /// There is no such setting.
    #[error("there is no setting {0:?}: bell, notify, comings and theme can be set")]
    Name(String),
    /// There is no such value.
    #[error("{name} can be {values}")]
    Value {
        /// Of which setting.
        name: &'static str,
        /// What there is.
        values: &'static str,
    },
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            bell: true,
            notify: Notify::Off,
            comings: true,
            theme: Theme::Auto,
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
    /// [`PreferenceError::Name`] or [`PreferenceError::Value`].
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), PreferenceError> {
        let (name, values) = named(name)?;
        let wrong = || PreferenceError::Value { name, values };
        let on = || match value {
            "on" | "true" => Ok(true),
            "off" | "false" => Ok(false),
            _ => Err(wrong()),
        };
        match (name, value) {
            ("bell", _) => self.bell = on()?,
            ("comings", _) => self.comings = on()?,
            ("notify", "off" | "false") => self.notify = Notify::Off,
            ("notify", "osc9") => self.notify = Notify::Osc9,
            ("notify", "osc777") => self.notify = Notify::Osc777,
            ("theme", "auto") => self.theme = Theme::Auto,
            ("theme", "light") => self.theme = Theme::Light,
            ("theme", "dark") => self.theme = Theme::Dark,
            _ => return Err(wrong()),
        }
        Ok(())
    }

    /// One of them, and what else it can be.
    ///
    /// # Errors
    ///
    /// [`PreferenceError::Name`].
    pub(super) fn show(&self, name: &str) -> Result<String, PreferenceError> {
        let (name, values) = named(name)?;
        Ok(format!("{name} is {}; it can be {values}", self.get(name)))
    }

    fn get(&self, name: &str) -> &'static str {
        let on = |wanted| if wanted { "on" } else { "off" };
        match name {
            "bell" => on(self.bell),
            "comings" => on(self.comings),
            "notify" => match self.notify {
                Notify::Off => "off",
                Notify::Osc9 => "osc9",
                Notify::Osc777 => "osc777",
            },
            _ => match self.theme {
                Theme::Auto => "auto",
                Theme::Light => "light",
                Theme::Dark => "dark",
            },
        }
    }

    /// What the terminal writes on, if it says `colours` itself.
    pub(super) fn ground(&self, colours: Option<&str>) -> Ground {
        match self.theme {
            Theme::Auto => Ground::detect(colours),
            Theme::Light => Ground::Light,
            Theme::Dark => Ground::Dark,
        }
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
        let all = NAMES.map(|(name, _)| format!("{name} {}", self.get(name)));
        all.join(", ")
    }
}

fn named(name: &str) -> Result<(&'static str, &'static str), PreferenceError> {
    let found = NAMES.into_iter().find(|known| known.0 == name);
    found.ok_or_else(|| PreferenceError::Name(name.to_owned()))
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
    Ok(NAMES.into_iter().map(|(name, _)| setting(name)).collect())
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
        let summary = "bell off, notify osc9, comings on, theme auto";
        assert_eq!(preferences.summary(), summary);
        preferences.set("bell", "true").unwrap();
        let bell = preferences.show("bell").unwrap();
        assert_eq!(bell, "bell is on; it can be on or off");
        preferences.set("theme", "light").unwrap();
        assert_eq!(preferences.ground(Some("15;0")), Ground::Light);
        preferences.set("theme", "auto").unwrap();
        assert_eq!(preferences.ground(Some("15;0")), Ground::Dark);
        for (name, value, part) in [
            ("bell", "maybe", "on or off"),
            ("notify", "on", "off, osc9 or osc777"),
            ("volume", "on", "bell, notify, comings and theme"),
        ] {
            let error = preferences.set(name, value).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
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
