//! The one place where remote text becomes terminal text.
//!
//! Whatever others wrote (bodies, topics, reasons) passes through here before a terminal sees it:
//! characters that a terminal would obey, or that make text look other than it is, become
//! visible escapes such as `\x1b`.

mod act;
mod colour;
mod message;
mod wrap;

pub use act::{act, keep};
pub use colour::{Ground, mentions};
pub use message::{NARROW, Quote, Setting, excerpt};

use crate::refused;
use jiff::{Timestamp as Instant, civil::Date, tz::TimeZone};
use protocol::{Availability, Timestamp, UserName, likeness, local::LinkStatus};
use std::{borrow::Cow, fmt::Write, os::fd::AsFd};
use unicode_width::UnicodeWidthStr;

/// How the terminal shows things.
#[derive(Debug, Clone)]
pub struct Style {
    /// Whether colours and weights may be used.
    pub colour: bool,
    /// What it writes on.
    pub ground: Ground,
    /// Whether addresses may be marked so that they can be clicked.
    pub links: bool,
    /// The clock on the wall here.
    pub zone: TimeZone,
}

impl Style {
    /// For a terminal if `terminal`, else for a file or pipe; respects `NO_COLOR`.
    #[must_use]
    pub fn detect(terminal: bool) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let colour = terminal && !unwanted && !dumb;
        // The kernel's own console prints what it does not know.
        let console = std::env::var_os("TERM").is_some_and(|term| term == "linux");
        Self {
            colour,
            ground: Ground::detect(std::env::var("COLORFGBG").ok().as_deref()),
            links: colour && !console,
            zone: TimeZone::system(),
        }
    }

    /// `text` in weak colour; `text` must be clean already.
    #[must_use]
    pub fn dim(&self, text: &str) -> String {
        self.with("2", text)
    }

    /// `text` in bold; `text` must be clean already.
    #[must_use]
    pub fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    fn with(&self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// The time of day here.
    #[must_use]
    pub fn clock(&self, at: Timestamp) -> String {
        self.zoned(at).strftime("%H:%M").to_string()
    }

    /// The day here.
    #[must_use]
    pub fn day(&self, at: Timestamp) -> Date {
        self.zoned(at).date()
    }

    fn zoned(&self, at: Timestamp) -> jiff::ZonedDateTime {
        instant(at).to_zoned_datetime(self.zone.clone())
    }

    /// The time of day here, with the date if it is not today.
    #[must_use]
    pub fn time(&self, at: Timestamp) -> String {
        let today = Instant::now().to_zoned_datetime(self.zone.clone()).date();
        if self.day(at) == today {
            self.clock(at)
        } else {
            self.full_time(at)
        }
    }

    /// Date and time of day here.
    fn full_time(&self, at: Timestamp) -> String {
        self.zoned(at).strftime("%Y-%m-%d %H:%M").to_string()
    }

    /// The state of the link, in one line.
    #[must_use]
    pub fn link(&self, link: &LinkStatus) -> String {
        match link {
            LinkStatus::LocalOnly => {
                "none: this host is on its own (`chat join HOST` federates it)".to_owned()
            }
            LinkStatus::Connecting { server } => format!("connecting to {}", line(server)),
            LinkStatus::Waiting {
                server,
                error,
                attempt,
                until,
            } => format!(
                "{} {}: {} (attempt {attempt}, next at {})",
                line(server),
                match refused::by_server(error) {
                    Some(_) => "refuses this host",
                    None => "cannot be reached",
                },
                line(refused::briefly(error)),
                instant(*until)
                    .to_zoned_datetime(self.zone.clone())
                    .strftime("%H:%M:%S"),
            ),
            LinkStatus::Online {
                server,
                software,
                since,
                ..
            } => format!(
                "connected to {} ({}) since {}",
                line(server),
                line(software),
                self.time(*since)
            ),
        }
    }
}

/// Columns of the terminal that standard output is, if it is one.
#[must_use]
pub fn columns() -> Option<usize> {
    columns_of(&std::io::stdout())
}

/// Columns of the terminal that `output` is, if it is one.
#[must_use]
pub fn columns_of(output: &impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(output).ok()?;
    (size.ws_col > 0).then(|| size.ws_col.into())
}

/// `1 message`, `2 messages`.
#[must_use]
pub fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// A number of bytes for people: `17 bytes`, `4.2 MiB`.
#[must_use]
pub fn bytes(number: u64) -> String {
    let mut unit = "";
    let (mut whole, mut tenths) = (number, 0);
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if whole < 1024 {
            break;
        }
        (whole, tenths, unit) = (whole / 1024, whole % 1024 * 10 / 1024, larger);
    }
    if unit.is_empty() {
        count(number, "byte")
    } else {
        format!("{whole}.{tenths} {unit}")
    }
}

/// `nick` on this host, `nick@host` from elsewhere.
#[must_use]
pub fn name_seen_by(user: &UserName, me: &UserName) -> String {
    let name = if user.host == me.host {
        user.nick.to_string()
    } else {
        user.to_string()
    };
    // Another host's agent need not be as careful with new names as one's own.
    if likeness::mixes_scripts(user.nick.as_str()) {
        format!("{name}(?)")
    } else {
        name
    }
}

/// One word for an availability.
#[must_use]
pub const fn availability(availability: Availability) -> &'static str {
    match availability {
        Availability::Online => "online",
        Availability::Away => "away",
        Availability::Offline => "offline",
        Availability::Unknown => "unknown",
    }
}

/// `text` filled up with spaces to `columns` of the terminal; wide characters count as two.
#[must_use]
pub fn pad(text: &str, columns: usize) -> String {
    let missing = columns.saturating_sub(text.width());
    format!("{text}{:missing$}", "")
}

/// `text` on one line, safe for a terminal: line breaks become visible too.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_harmless) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    text.chars().for_each(|c| push(&mut out, c));
    Cow::Owned(out)
}

/// `text` safe for a terminal; lines after the first begin with `indent` spaces.
#[must_use]
pub fn lines(text: &str, indent: usize) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.trim_end_matches('\n').chars() {
        match c {
            '\n' => {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', indent));
            }
            '\t' => out.push_str("    "),
            c => push(&mut out, c),
        }
    }
    out
}

fn push(out: &mut String, c: char) {
    if is_harmless(c) {
        out.push(c);
        return;
    }
    // Writing to a string cannot fail.
    let _ = match c {
        '\n' => write!(out, "\\n"),
        '\r' => write!(out, "\\r"),
        '\t' => write!(out, "\\t"),
        c if c.is_ascii() => write!(out, "\\x{:02x}", u32::from(c)),
        c => write!(out, "\\u{{{:x}}}", u32::from(c)),
    };
}

/// Neither obeyed by terminals nor able to reorder or hide the text around it. Joiners stay:
/// several scripts and emoji need them.
pub(crate) const fn is_harmless(c: char) -> bool {
    !matches!(c,
        '\0'..='\x1f' | '\x7f'..='\u{9f}' // C0, DEL, C1
        | '\u{61c}' | '\u{200e}' | '\u{200f}' // direction marks
        | '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}' // nothing to see
        | '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' // fillers
        | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{e0100}'..='\u{e01ef}'
        | '\u{2028}'..='\u{202e}' // separators; embeddings and overrides
        | '\u{2066}'..='\u{206f}' // isolates and deprecated format characters
        | '\u{fff9}'..='\u{fffb}' // interlinear annotation
        | '\u{e0000}'..='\u{e007f}' // tags
    )
}

/// A wire time as a point in time; one beyond the calendar becomes its last.
#[must_use]
pub fn instant(at: Timestamp) -> Instant {
    i64::try_from(at.micros())
        .ok()
        .and_then(|micros| Instant::from_microsecond(micros).ok())
        .unwrap_or(Instant::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn style() -> Style {
        Style {
            colour: false,
            ground: Ground::Unknown,
            links: false,
            zone: TimeZone::UTC,
        }
    }

    #[test]
    fn nothing_a_terminal_obeys_gets_through() {
        for (remote, shown) in [
            ("plain", "plain"),
            ("grüße 世界 👩‍🚀", "grüße 世界 👩‍🚀"),
            ("\x1b[2J\x1b]0;owned\x07", "\\x1b[2J\\x1b]0;owned\\x07"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\u{85}b", "a\\u{85}b"),
            ("a\rb\x08\x7f\0", "a\\rb\\x08\\x7f\\x00"),
            ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
            ("\u{2066}x\u{2069}", "\\u{2066}x\\u{2069}"),
            ("a\nb\tc", "a\\nb\\tc"),
            ("\u{feff}\u{e0041}", "\\u{feff}\\u{e0041}"),
        ] {
            assert_eq!(line(remote), shown);
        }
        for c in '\0'..=char::MAX {
            let text = format!("{}{}", line(&c.to_string()), lines(&c.to_string(), 0));
            let obeyed = text.chars().any(|c| c.is_control() && c != '\n');
            assert!(!obeyed, "{c:?} became {text:?}");
        }
    }

    #[test]
    fn a_message_lines_up_whatever_script_its_author_writes() {
        let me = "alice@ada".parse().unwrap();
        let message = sample::message("#ops", 7, "李雷@ada", "one\ntwo");
        assert_eq!(
            style().message(&message, &me, Setting::DATED),
            "2024-03-01 12:00         李雷  one\n                               two"
        );
        let message = sample::message("#ops", 7, "bob@bee", "hi\x1b[m");
        assert_eq!(
            style().message(
                &message,
                &me,
                Setting {
                    room: Some("#ops"),
                    ..Setting::DATED
                }
            ),
            "2024-03-01 12:00 #ops bob@bee  hi\\x1b[m"
        );
    }

    #[test]
    fn a_body_of_the_future_is_said_to_be_unreadable() {
        let mut message = sample::message("#ops", 7, "bob@bee", "hi");
        message.body =
            protocol::EncodedBody::from_bytes(bytes::Bytes::from_static(&[9, 9])).unwrap();
        let shown = style().message(&message, &"a@b".parse().unwrap(), Setting::DATED);
        assert!(shown.contains("cannot be read"), "{shown}");
    }

    #[test]
    fn colours_only_where_they_are_wanted() {
        let mut style = style();
        assert_eq!(style.dim("x"), "x");
        style.colour = true;
        assert_eq!(style.dim("x"), "\x1b[2mx\x1b[0m");
    }

    #[test]
    fn a_time_beyond_the_calendar_is_no_crash() {
        let _ = style().time(Timestamp::from_micros(u64::MAX));
    }

    #[test]
    fn bytes_are_told_in_a_unit_that_people_can_read() {
        for (number, text) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1023, "1023 bytes"),
            (1536, "1.5 KiB"),
            (256 * 1024 * 1024, "256.0 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn a_server_that_refuses_is_not_called_unreachable() {
        let link = |error: &str| {
            style().link(&LinkStatus::Waiting {
                server: "hub:7667".to_owned(),
                error: error.to_owned(),
                attempt: 2,
                until: Timestamp::from_micros(1),
            })
        };
        let refused = link("the server refused: another host is connected as vm");
        let expected = "hub:7667 refuses this host: another host is connected as vm (attempt 2";
        assert!(refused.starts_with(expected), "{refused}");
        let away = link("no answer within 5 s");
        assert!(
            away.starts_with("hub:7667 cannot be reached: no answer"),
            "{away}"
        );
    }
}
