//! How the command ends: the one list of exit codes.

use crate::{render, table};
use std::{fmt, process::ExitCode};

/// Every exit code of `chat`. Scripts rely on the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Failed or refused.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The agent cannot be reached.
    Unreachable = 69,
    /// Accepted, but not committed (or connected) in time: it will be, later.
    NotCommitted = 75,
    /// The OS user may not do this.
    Permission = 77,
    /// The time given with `--timeout` ran out.
    TimedOut = 124,
}

impl Exit {
    /// Every one with what it means, for the manual page; README.md says the same.
    pub const ALL: [(Self, &str); 7] = [
        (Self::Ok, "done"),
        (Self::Failed, "failed, or refused"),
        (Self::Usage, "the command line makes no sense"),
        (Self::Unreachable, "no agent answers at the socket"),
        (
            Self::NotCommitted,
            "accepted, but not committed (or, for join, not connected) in time; it will be, later",
        ),
        (Self::Permission, "this user may not do that"),
        (Self::TimedOut, "the time given with --timeout is over"),
    ];
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a verb did not succeed: the exit code, and what to tell the person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What failed, with which value, and what to do next. Empty if all has been said already.
    pub message: String,
}

impl Failure {
    /// A failure with this exit code and message.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self {
            exit,
            message: message.to_string(),
        }
    }

    /// Exit code 1 with this message.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// Exit code 2 with this message.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Ends with this exit code; the person has been told already.
    #[must_use]
    pub const fn silent(exit: Exit) -> Self {
        Self {
            exit,
            message: String::new(),
        }
    }

    /// Says on standard error what failed, safe for a terminal whoever wrote the words.
    pub fn report(&self) {
        if !self.message.is_empty() {
            say(&self.message);
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Says one line on standard error, safe for a terminal whoever wrote the words, and broken there
/// if it is too long for it.
pub fn say(message: &str) {
    use std::io::Write;
    let stderr = std::io::stderr();
    let line = format!("chat: {}", render::line(message));
    let columns = render::columns_of(&stderr).unwrap_or(usize::MAX);
    let text = table::broken(&line, columns).join("\n") + "\n";
    // At once, so that nothing else comes in between. There is nobody left to tell if standard
    // error is gone.
    let _ = (&stderr).write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_fixed() {
        for (exit, number) in [
            (Exit::Ok, 0),
            (Exit::Failed, 1),
            (Exit::Usage, 2),
            (Exit::Unreachable, 69),
            (Exit::NotCommitted, 75),
            (Exit::Permission, 77),
            (Exit::TimedOut, 124),
        ] {
            assert_eq!(exit as u8, number);
        }
        assert_eq!(
            Exit::ALL.map(|(exit, _)| exit as u8),
            [0, 1, 2, 69, 75, 77, 124]
        );
    }
}
