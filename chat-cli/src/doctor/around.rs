//! What is thought of what is around: settings files, systemd, the terminal.

use super::Finding;
use crate::interactive::PreferenceError;

/// What systemd has of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Units {
    /// Whether systemd runs this machine.
    pub runs: bool,
    /// Whether an agent's unit is there for this user.
    pub agent: bool,
    /// Whether a server's unit is there.
    pub server: bool,
}

/// The terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminal {
    /// Whether standard input comes from one.
    pub reads: bool,
    /// Whether standard output goes to one.
    pub writes: bool,
    /// `TERM`.
    pub term: Option<String>,
    /// Whether `NO_COLOR` is set.
    pub no_colour: bool,
    /// What decides on the encoding: `LC_ALL`, `LC_CTYPE` or `LANG`.
    pub locale: Option<String>,
}

/// Whether the settings of a daemon make sense; `problem` says why not.
pub fn settings(of: &str, problem: Option<&str>) -> Finding {
    const CHECK: &str = "settings";
    match problem {
        None => Finding::ok(
            CHECK,
            format!("those of the {of} make sense (`chat config`)"),
        ),
        Some(problem) => Finding::fail(
            CHECK,
            format!("those of the {of}: {problem}"),
            "correct what is named there",
        ),
    }
}

/// Whether the terminal's preferences are taken. A conversation goes on without them.
pub fn preferences(problem: Option<&PreferenceError>) -> Finding {
    const CHECK: &str = "settings";
    let Some(problem) = problem else {
        return Finding::ok(CHECK, "those of the terminal make sense (`chat config`)");
    };
    let advice = match problem {
        PreferenceError::Read { .. } => "make it a file that you can read, or remove it",
        PreferenceError::Parse { .. }
        | PreferenceError::Name(_)
        | PreferenceError::Value { .. } => {
            "correct what is named there, or remove it; `chat config` shows what there is"
        }
    };
    Finding::warn(
        CHECK,
        format!("those of the terminal, which are not taken: {problem}"),
        advice,
    )
}

/// Whether systemd would start the daemons. Neither is needed.
pub fn units(units: Units) -> Finding {
    const CHECK: &str = "systemd";
    if !units.runs {
        return Finding::ok(CHECK, "does not run this machine");
    }
    let is = |there| if there { "installed" } else { "not installed" };
    let found = format!(
        "units of the agent: {}, of a server: {}",
        is(units.agent),
        is(units.server)
    );
    Finding::ok(CHECK, found)
}

/// What the terminal can show.
pub fn terminal(terminal: &Terminal) -> Finding {
    const CHECK: &str = "terminal";
    if !(terminal.reads && terminal.writes) {
        return Finding::ok(CHECK, "none: input or output is a file or pipe");
    }
    let term = terminal.term.as_deref().unwrap_or("dumb");
    if term == "dumb" {
        return Finding::warn(
            CHECK,
            "TERM is not set, or dumb: no colours, no editing of the line",
            "set TERM to what your terminal is, such as xterm-256color",
        );
    }
    let locale = terminal.locale.as_deref().unwrap_or("C");
    let encoding = locale.to_ascii_lowercase();
    if !encoding.ends_with("utf-8") && !encoding.ends_with("utf8") {
        return Finding::warn(
            CHECK,
            format!("the locale {locale} is not UTF-8: what is not English may look wrong"),
            "set LANG to a UTF-8 locale, such as C.UTF-8",
        );
    }
    let colours = match (terminal.no_colour, term.contains("256color")) {
        (true, _) => "no colours (NO_COLOR)",
        (false, true) => "256 colours",
        (false, false) => "colours",
    };
    Finding::ok(CHECK, format!("{term}, {colours}, {locale}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level::{Fail, Ok, Warn};

    #[test]
    fn a_terminal_is_judged_by_what_it_can_show() {
        let given = |term: Option<&str>, locale: Option<&str>| Terminal {
            reads: true,
            writes: true,
            term: term.map(str::to_owned),
            no_colour: false,
            locale: locale.map(str::to_owned),
        };
        for (term, locale, level) in [
            (Some("xterm-256color"), Some("de_DE.UTF-8"), Ok),
            (Some("screen"), Some("C.utf8"), Ok),
            (Some("dumb"), Some("C.UTF-8"), Warn),
            (None, Some("C.UTF-8"), Warn),
            (Some("xterm"), Some("de_DE@euro"), Warn),
            (Some("xterm"), None, Warn),
        ] {
            let found = terminal(&given(term, locale));
            assert_eq!(found.level, level, "{term:?} {locale:?}");
        }
        let piped = Terminal {
            writes: false,
            ..given(None, None)
        };
        assert_eq!(terminal(&piped).level, Ok);
        let plain = Terminal {
            no_colour: true,
            ..given(Some("xterm"), Some("C.UTF-8"))
        };
        assert!(terminal(&plain).found.contains("NO_COLOR"));
    }

    #[test]
    fn units_are_told_and_missing_ones_are_no_failure() {
        for runs in [true, false] {
            let found = Units {
                runs,
                agent: true,
                server: false,
            };
            assert_eq!(units(found).level, Ok);
        }
        assert_eq!(preferences(None).level, Ok);
        let unreadable = PreferenceError::Read {
            path: "terminal.toml".to_owned(),
            reason: std::io::ErrorKind::PermissionDenied.into(),
        };
        let found = preferences(Some(&unreadable));
        assert_eq!(found.level, Warn);
        assert!(found.advice.unwrap().contains("read"));
        assert_eq!(settings("agent", None).level, Ok);
        assert_eq!(settings("agent", Some("no")).level, Fail);
    }
}
