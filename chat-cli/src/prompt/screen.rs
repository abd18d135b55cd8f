//! What the editor has on the terminal, and keeping it whole when the terminal changes.
//!
//! A terminal that changes its width wraps its lines anew, also the one that is being edited. The
//! editor does not reckon with that: it goes up by as many rows as there were, over messages or not
//! far enough. It asks for the prompt's width just before, and that is the moment to take the line
//! away as it is now, and to leave as many blank rows as the editor is going to clear.

use super::{
    modes::{PASTE_OFF, PASTE_ON},
    rows::{Painted, Rows},
};
use rustix::termios::tcgetwinsize;
use rustyline::GraphemeClusterMode;
use std::{
    env,
    fmt::Write as _,
    io::{self, Write as _},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How long a width must have been the same before something is printed above a line of several
/// rows, and in tmux also before the line itself is painted for it. tmux rewraps its lines at once,
/// but tells of a further change only 250 ms after one; what is painted in between leaves rows
/// behind.
const QUIET: Duration = Duration::from_millis(400);

/// How long that is waited for at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// Columns of a terminal that does not say; the editor thinks so, too.
const COLUMNS: u16 = 80;

/// The rows of the terminal that the editor uses.
#[derive(Debug)]
pub(super) struct Screen {
    rewraps: bool,
    /// Whether the terminal is tmux, which tells of its width late.
    is_late: bool,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    painted: Painted,
    /// What the editor counts with.
    columns: u16,
    /// The columns that were there last, and when they were new.
    last: u16,
    changed: Instant,
    /// The prompt of this line.
    usual: String,
    /// The prompt that is being painted.
    prompt: String,
}

impl Screen {
    pub(super) fn new(widths: GraphemeClusterMode) -> Self {
        let columns = columns();
        Self {
            rewraps: rewraps(|name| env::var(name).ok()),
            is_late: is_tmux(|name| env::var(name).ok()),
            inner: Mutex::new(Inner {
                painted: Painted::nothing(widths, columns),
                columns,
                last: columns,
                changed: Instant::now(),
                usual: String::new(),
                prompt: String::new(),
            }),
        }
    }

    /// Goes to the last row of a terminal that needs it, before the first line.
    ///
    /// When tmux becomes narrower, each row that it splits takes a row from the top of the window
    /// out of reach, blank rows below the line or not. Of a line that is near the top, the first
    /// rows would stay behind up there. That still happens to one that came to the top because the
    /// width changed to and fro many times and nothing was printed meanwhile; to bring it down each
    /// time would leave blank rows instead.
    pub(super) fn go_down(&self) {
        if self.is_late {
            let mut text = String::new();
            down(&mut text, u16::MAX);
            // A terminal that is gone ends the editor at its first read.
            let _ = write(&text);
        }
    }

    /// The editor begins a line at the left of a row.
    pub(super) fn begin(&self, prompt: &str) {
        let mut inner = self.inner();
        inner.columns = columns();
        inner.painted = Painted::nothing(inner.painted.widths, inner.columns);
        prompt.clone_into(&mut inner.usual);
    }

    /// The editor has learned of another width and is about to clear and paint.
    pub(super) fn resized(&self) {
        // The editor has just looked, and goes by that until it hears of the next width.
        let told = columns();
        self.settle_if_late();
        let mut inner = self.inner();
        let now = inner.look();
        let Painted { columns, real, .. } = inner.painted;
        if now != real || real != columns {
            self.make_room(&inner.painted, now);
            inner.painted.real = now;
        }
        inner.columns = told;
    }

    /// Takes the line away as it is in a terminal of `now` columns; then the editor can clear it
    /// where it believes it to be.
    fn make_room(&self, painted: &Painted, now: u16) {
        let before = painted.rows();
        let after = if self.rewraps {
            painted.rewrapped(now)
        } else {
            before
        };
        // A terminal that is gone ends the editor at its next read.
        let _ = write(&moved(before, after));
    }

    /// Takes a line back that has just ended: the next one begins where it began.
    pub(super) fn take_back(&self) {
        let inner = self.inner();
        // The editor went on to the row below it.
        let rows = usize::from(inner.painted.rows().end) + 1;
        let _ = write(&"\x1b[A\r\x1b[K".repeat(rows));
    }

    /// What takes the cursor from the line to the row below it, for somebody else.
    pub(super) fn below(&self) -> String {
        let mut text = String::new();
        down(&mut text, self.inner().painted.rows().below);
        text.push_str("\r\n");
        text
    }

    /// Leaves the terminal to somebody else, with the cursor below the line.
    pub(super) fn leave(&self) {
        let _ = write(&format!("{}{PASTE_OFF}", self.below()));
    }

    /// Has the terminal back: the line is to be painted where the cursor is now.
    pub(super) fn come_back(&self) {
        let mut inner = self.inner();
        let nothing = Rows::default();
        let room = moved(inner.painted.rows(), nothing);
        let _ = write(&format!("{PASTE_ON}{room}"));
        // So it is all blank, and nobody need make room again.
        inner.painted.real = columns();
    }

    /// A prompt is being painted: that of the line, unless it is another.
    pub(super) fn prompt(&self, other: Option<&str>) {
        let mut inner = self.inner();
        let inner = &mut *inner;
        inner.prompt.clear();
        inner.prompt.push_str(other.unwrap_or(&inner.usual));
    }

    /// The line is being painted behind the prompt; gives back what to paint.
    pub(super) fn paint(&self, line: &str, cursor: usize) -> String {
        let mut inner = self.inner();
        inner.catch_up();
        let inner = &mut *inner;
        inner.painted.columns = inner.columns;
        inner.painted.real = inner.last;
        inner.painted.prompt.clone_from(&inner.prompt);
        inner.painted.set(line, cursor);
        inner.painted.ends = inner.painted.all_ends();
        inner.painted.text()
    }

    /// The line or the cursor is about to change. Whether all must be painted then: the terminal
    /// may have another width already, which the editor hears of later.
    pub(super) fn touch(&self, line: &str, cursor: usize) -> bool {
        let mut inner = self.inner();
        inner.catch_up();
        if inner.last != inner.painted.real {
            drop(inner);
            self.settle_if_late();
            inner = self.inner();
            inner.catch_up();
        }
        let now = inner.last;
        let stale = now != inner.painted.real;
        if stale {
            self.make_room(&inner.painted, now);
            inner.painted.real = now;
        }
        inner.painted.set(line, cursor);
        stale
    }

    /// Blocks the editor, too, while the width may be another one than is told.
    fn settle_if_late(&self) {
        if self.is_late {
            self.settle();
        }
    }

    /// Blocks while the terminal is being given another width.
    pub(super) fn settle(&self) {
        let began = Instant::now();
        loop {
            let unrest = self.inner().unrest();
            if unrest.is_zero() || began.elapsed() > PATIENCE {
                return;
            }
            thread::sleep(unrest);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Poisoning is impossible to act on here: at worst a row is left behind.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The columns that there are now.
    fn look(&mut self) -> u16 {
        let now = columns();
        if now != self.last {
            self.last = now;
            self.changed = Instant::now();
        }
        now
    }

    /// How long to wait before something is printed above the line.
    fn unrest(&mut self) -> Duration {
        let now = self.look();
        if self.painted.fits_row(now) {
            return Duration::ZERO;
        }
        QUIET.saturating_sub(self.changed.elapsed())
    }

    /// The editor says nothing of a width that changes nothing for the line.
    fn catch_up(&mut self) {
        let now = self.look();
        if now != self.columns && self.painted.fits_row(now) {
            self.columns = now;
            self.painted.columns = now;
            self.painted.real = now;
        }
    }
}

impl Painted {
    fn set(&mut self, line: &str, cursor: usize) {
        line.clone_into(&mut self.line);
        self.cursor = cursor;
    }

    /// The line with its rows ended, and without control characters, which a paste may bring: the
    /// editor gives them no width.
    fn text(&self) -> String {
        let mut text = String::with_capacity(self.line.len() + self.ends.len());
        let mut ends = self.ends.iter().peekable();
        for (at, c) in self.line.char_indices() {
            if ends.next_if_eq(&&at).is_some() {
                text.push('\n');
            }
            if !c.is_control() || matches!(c, '\n' | '\t') {
                text.push(c);
            }
        }
        text
    }
}

/// Takes the line away, which is in the rows `after`, and leaves the cursor as in the rows
/// `before`, all blank, with the first where it was.
fn moved(before: Rows, after: Rows) -> String {
    let mut text = String::new();
    down(&mut text, after.below);
    for _ in 0..after.end {
        text.push_str("\r\x1b[K\x1b[A");
    }
    text.push_str("\r\x1b[K");
    // The terminal may have to scroll for the rows that the editor believes in.
    for _ in 0..before.end {
        text.push('\n');
    }
    up(&mut text, before.below);
    text
}

fn down(text: &mut String, rows: u16) {
    if rows > 0 {
        // Writing to a string cannot fail.
        let _ = write!(text, "\x1b[{rows}B");
    }
}

fn up(text: &mut String, rows: u16) {
    if rows > 0 {
        let _ = write!(text, "\x1b[{rows}A");
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut terminal = io::stdout().lock();
    terminal.write_all(text.as_bytes())?;
    terminal.flush()
}

fn columns() -> u16 {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 => size.ws_col,
        _ => COLUMNS,
    }
}

fn is_tmux(var: impl Fn(&str) -> Option<String>) -> bool {
    var("TMUX").is_some_and(|value| !value.is_empty())
}

/// Whether this terminal wraps long lines anew when its width changes. Most do; it cannot be asked.
fn rewraps(var: impl Fn(&str) -> Option<String>) -> bool {
    let is_set = |name| var(name).is_some_and(|value| !value.is_empty());
    if is_tmux(&var) {
        return true;
    }
    // Terminals that do, and that may have been started from one that does not.
    let known = [
        "VTE_VERSION",
        "KITTY_WINDOW_ID",
        "ALACRITTY_WINDOW_ID",
        "WEZTERM_PANE",
        "KONSOLE_VERSION",
    ];
    let term = var("TERM").unwrap_or_default();
    let fixed = is_set("STY")
        || (is_set("XTERM_VERSION") && !known.into_iter().any(is_set))
        || term == "linux"
        || (term.starts_with("rxvt") && !term.starts_with("rxvt-unicode"));
    !fixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_is_left_where_the_editor_believes_it_to_be() {
        let rows = |below, end| Rows { end, below };
        assert_eq!(moved(rows(0, 0), rows(0, 0)), "\r\x1b[K");
        assert_eq!(moved(rows(0, 2), rows(0, 0)), "\r\x1b[K\n\n");
        assert_eq!(
            moved(rows(1, 1), rows(2, 3)),
            "\x1b[2B\r\x1b[K\x1b[A\r\x1b[K\x1b[A\r\x1b[K\x1b[A\r\x1b[K\n\x1b[1A"
        );
    }

    #[test]
    fn what_is_painted_ends_its_rows_and_commands_nothing() {
        let mut painted = Painted::nothing(GraphemeClusterMode::WcWidth, 5);
        painted.prompt = "> ".to_owned();
        painted.set("12345678\u{1b}90", 11);
        painted.ends = painted.all_ends();
        assert_eq!(painted.text(), "123\n45678\n90");
        painted.set("12345678", 8);
        painted.ends = painted.all_ends();
        assert_eq!(painted.text(), "123\n45678", "the editor ends the last");
    }

    #[test]
    fn terminals_that_do_not_rewrap_are_known() {
        let rewraps = |set: &[(&str, &str)]| {
            rewraps(|name| {
                let found = set.iter().find(|(set, _)| *set == name)?;
                Some(found.1.to_owned())
            })
        };
        assert!(rewraps(&[("TERM", "xterm-256color")]));
        assert!(rewraps(&[("TERM", "rxvt-unicode-256color")]));
        assert!(rewraps(&[
            ("TMUX", "/tmp/t"),
            ("XTERM_VERSION", "XTerm(390)")
        ]));
        assert!(rewraps(&[
            ("VTE_VERSION", "7000"),
            ("XTERM_VERSION", "XTerm(390)")
        ]));
        for fixed in [
            ("TERM", "linux"),
            ("TERM", "rxvt"),
            ("XTERM_VERSION", "XTerm(390)"),
            ("STY", "1.pts-0"),
        ] {
            assert!(!rewraps(&[fixed]), "{fixed:?}");
        }
    }
}
