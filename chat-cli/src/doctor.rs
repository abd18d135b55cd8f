//! `chat doctor`: what is looked at, and what is thought of it.
//!
//! Gathering and judging are apart. `look` and `ask` gather facts: from files, from the agent,
//! from the server. The other modules judge: pure functions of facts, each of which gives one
//! [`Finding`] with what to do about it.

pub mod agent;
pub mod around;
pub mod ask;
pub mod files;
pub mod look;
pub mod server;

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and may not go on so.
    Warn,
    /// It does not work.
    Fail,
}

impl Level {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What was found of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, in one or two words; scripts rely on it.
    pub check: &'static str,
    /// How well it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do, if anything.
    pub advice: Option<String>,
}

impl Finding {
    fn new(check: &'static str, level: Level, found: String, advice: Option<String>) -> Self {
        Self {
            check,
            level,
            found,
            advice,
        }
    }

    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Level::Ok, found.into(), None)
    }

    fn warn(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(check, Level::Warn, found.into(), Some(advice.into()))
    }

    fn fail(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(check, Level::Fail, found.into(), Some(advice.into()))
    }
}
