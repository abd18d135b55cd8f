//! What stands in a room, as lines of a terminal.
//!
//! ```text
//! 14:02    alice  the text, wrapped under
//!                 itself
//! 14:03  bob@bee  ↳ alice: the text, wrapp…
//!                 an answer
//! 14:03        *  carol waves
//! ```

use super::{Style, colour, is_harmless, line, lines, name_seen_by, wrap};
use crate::table;
use protocol::{Committed, Content, Room, UserName};
use std::borrow::Cow;
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// Columns for names on terminals of the usual width and on narrow ones; longer names take what
/// they need.
const NAME_COLUMNS: usize = 12;
const NARROW_NAME_COLUMNS: usize = 8;

/// A terminal with fewer columns is narrow.
pub const NARROW: usize = 60;

/// How long a message may take before it is said when it was written. Hosts' clocks may be wrong by
/// less.
const LATE_MICROS: u64 = 2 * 60 * 1_000_000;

/// How far a text is set in that stands below the names.
const BELOW: usize = 4;

/// Columns of an excerpt, and bytes: what takes no column can be as long as a message.
const EXCERPT_COLUMNS: usize = 40;
const EXCERPT_BYTES: usize = 160;

/// What stands before the name of somebody who speaks to the reader.
const MENTION: &str = "»";

/// What an earlier message said, for one that is about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// Who said it.
    pub author: UserName,
    /// Its beginning, as it came; cleaned when it is shown.
    pub excerpt: String,
    /// Whether it was told in the third person.
    pub is_action: bool,
}

/// How one message is to be shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setting<'a> {
    /// Columns of the terminal to wrap for; no wrapping without.
    pub columns: Option<usize>,
    /// Which room it is in, if that is not plain from what stands around it.
    pub room: Option<&'a str>,
    /// What it is about, if that is known.
    pub quote: Option<&'a Quote>,
    /// Whether it speaks to the reader.
    pub is_mention: bool,
    /// Whether the day is told with the time, if it is not today.
    pub is_dated: bool,
    /// What stands behind the text, such as that it was delivered; clean.
    pub remark: &'a str,
}

impl Setting<'_> {
    /// For output that is no terminal or scrolls by: with the day, not wrapped.
    pub const DATED: Self = Self {
        columns: None,
        room: None,
        quote: None,
        is_mention: false,
        is_dated: true,
        remark: "",
    };
}

/// The beginning of a text on one line.
#[must_use]
pub fn excerpt(text: &str) -> String {
    let first = text.lines().find(|line| !line.trim().is_empty());
    let first = first.unwrap_or_default().trim();
    let (mut columns, mut bytes) = (0, 0);
    let kept: String = first
        .graphemes(true)
        .take_while(|grapheme| {
            columns += grapheme.width();
            bytes += grapheme.len();
            columns <= EXCERPT_COLUMNS && bytes <= EXCERPT_BYTES
        })
        .collect();
    let is_all = kept.len() == text.trim().len();
    if is_all { kept } else { format!("{kept}…") }
}

impl Style {
    /// One message as lines without a final line end.
    #[must_use]
    pub fn message(&self, message: &Committed, me: &UserName, setting: Setting<'_>) -> String {
        let time = if setting.is_dated {
            self.time(message.committed_at)
        } else {
            self.clock(message.committed_at)
        };
        self.laid_out(message, me, setting, &time)
    }

    /// As [`Style::message`] for a file, which is read on another day: always with the day, and
    /// the same whatever was shown before.
    #[must_use]
    pub fn record(&self, message: &Committed, me: &UserName) -> String {
        let time = self.full_time(message.committed_at);
        self.laid_out(message, me, Setting::DATED, &time)
    }

    fn laid_out(
        &self,
        message: &Committed,
        me: &UserName,
        setting: Setting<'_>,
        time: &str,
    ) -> String {
        let content = message.body.decode();
        let author = name_seen_by(&message.author, me);
        let is_action = match &content {
            Ok(Content::Action(_)) => true,
            Ok(Content::Edit { .. }) => is_edit_of_action(&message.author, setting),
            _ => false,
        };
        let name = match &content {
            Ok(Content::Act(_)) => "\u{b7}",
            _ if is_action => "*",
            _ => &author,
        };
        // Without colours, too, it is to be seen that this speaks to the reader; what is said to
        // them alone always does.
        let is_marked = setting.is_mention && !matches!(message.room, Room::Direct(_));
        let marked = format!("{}{name}", if is_marked { MENTION } else { "" });
        let name = marked.as_str();
        let wanted = match setting.columns {
            Some(columns) if columns < NARROW => NARROW_NAME_COLUMNS,
            _ => NAME_COLUMNS,
        };
        let room = setting.room.map(|room| format!("{} ", line(room)));
        let room = room.as_deref().unwrap_or_default();
        let padding = wanted.saturating_sub(room.width() + name.width());
        let indent = time.width() + 1 + padding + room.width() + name.width() + 2;
        let stands_out = setting.is_mention;
        let body = |indent| match &content {
            Ok(content) => self.body(content, &message.author, me, setting, indent),
            Err(error) => self.aside(&line(&format!("({error})")), setting, indent),
        };
        let head = {
            let name = self.name(name, &message.author, stands_out);
            format!(
                "{} {:padding$}{}{name}  ",
                self.dim(time),
                "",
                self.dim(room)
            )
        };
        let mut text = format!("{head}{}", body(indent));
        let mut indent = indent;
        // Where the names leave too little room beside them, the text stands below.
        if let Some(columns) = setting.columns
            && columns.saturating_sub(indent) < wrap::NARROWEST
            && text.lines().any(|line| wrap::shown_width(line) > columns)
        {
            let colour = self.colour_of(&message.author, stands_out);
            let words = [(time, "2"), (room.trim_end(), "2"), (name, &colour)];
            indent = BELOW;
            text = format!(
                "{}\n{:BELOW$}{}",
                self.filled(&words, columns),
                "",
                body(indent)
            );
        }
        let remark = format!("{}{}", self.delay(message), setting.remark);
        let last = text.lines().last().map_or(0, wrap::shown_width);
        let is_full = |columns| last + remark.width() > columns;
        if !remark.is_empty() && setting.columns.is_some_and(is_full) {
            let below = self.aside(remark.trim_start(), setting, indent);
            text.push_str(&format!("\n{:indent$}{below}", ""));
        } else {
            text.push_str(&self.dim(&remark));
        }
        text
    }

    /// When a message was written, if that was long before it came: its host was offline.
    fn delay(&self, message: &Committed) -> String {
        let (sent, came) = (message.sent_at, message.committed_at);
        if came.micros().saturating_sub(sent.micros()) < LATE_MICROS {
            return String::new();
        }
        let when = if self.day(sent) == self.day(came) {
            self.clock(sent)
        } else {
            self.full_time(sent)
        };
        format!("  (written {when})")
    }

    /// A person's name in their colour, standing out if they speak to the reader; `name` is clean.
    fn name(&self, name: &str, user: &UserName, stands_out: bool) -> String {
        self.with(&self.colour_of(user, stands_out), name)
    }

    fn colour_of(&self, user: &UserName, stands_out: bool) -> String {
        let colour = colour::of_person(user, self.ground);
        let reverse = if stands_out { ";7" } else { "" };
        format!("{colour}{reverse}")
    }

    /// Words, each in its look, as many on a line as fit; clean.
    fn filled(&self, words: &[(&str, &str)], columns: usize) -> String {
        let (mut out, mut used) = (String::new(), 0);
        for (word, look) in words.iter().filter(|(word, _)| !word.is_empty()) {
            for part in table::broken(word, columns) {
                if used > 0 && used + 1 + part.width() > columns {
                    out.push('\n');
                    used = 0;
                } else if used > 0 {
                    out.push(' ');
                    used += 1;
                }
                out.push_str(&self.with(look, &part));
                used += part.width();
            }
        }
        out
    }

    fn body(
        &self,
        content: &Content,
        author: &UserName,
        me: &UserName,
        setting: Setting<'_>,
        indent: usize,
    ) -> String {
        let text = |text: &str| self.text(text, setting, indent);
        let aside = |words: &str| self.aside(words, setting, indent);
        let about = |quote: &Quote| {
            let name = name_seen_by(&quote.author, me);
            format!("{name}: {}", line(&quote.excerpt))
        };
        let quoted = setting.quote.map(about);
        // Only its author can change a message, whatever others send.
        let by_another = setting.quote.is_some_and(|quote| quote.author != *author);
        match content {
            Content::Text(words) => text(words),
            Content::Action(words) => text(&format!("{} {words}", name_seen_by(author, me))),
            Content::Reply { text: words, .. } => {
                let quoted = quoted.as_deref().unwrap_or("(an earlier message)");
                let gap = format!("\n{:indent$}", "");
                format!("{}{gap}{}", aside(&format!("↳ {quoted}")), text(words))
            }
            Content::Edit { .. } | Content::Delete { .. } if by_another => {
                let quoted = quoted.as_deref().unwrap_or_default();
                aside(&format!("(tried to change a message of {quoted})"))
            }
            Content::Edit { text: words, .. } => {
                let was = setting.quote.map_or(String::new(), |quote| {
                    format!(", was: {}", line(&quote.excerpt))
                });
                let who = if is_edit_of_action(author, setting) {
                    format!("{} ", name_seen_by(author, me))
                } else {
                    String::new()
                };
                text(&format!("{who}{words} (edited{was})"))
            }
            Content::Delete { .. } => {
                let what = setting
                    .quote
                    .map_or(Cow::Borrowed("an earlier message"), |quote| {
                        line(&quote.excerpt)
                    });
                aside(&format!("(took back: {what})"))
            }
            Content::React { emoji, on, .. } => {
                let quoted = quoted.as_deref().unwrap_or("an earlier message");
                let verb = if *on { "" } else { "(no more) " };
                aside(&format!("{verb}{} → {quoted}", line(emoji)))
            }
            Content::Act(act) => aside(&super::act(act, author, me)),
            Content::Erased => aside("(erased)"),
            _ => aside("(a kind of message that this version cannot show)"),
        }
    }

    /// Words of the program's own about a message; `words` is clean.
    fn aside(&self, words: &str, setting: Setting<'_>, indent: usize) -> String {
        let room_for = setting
            .columns
            .map_or(usize::MAX, |columns| columns.saturating_sub(indent));
        let lines: Vec<String> = wrap::wrap(words, room_for)
            .into_iter()
            .map(|line| self.dim(line))
            .collect();
        lines.join(&format!("\n{:indent$}", ""))
    }

    /// Something that nobody said: `text`, which is clean, behind `mark` and wrapped under its own
    /// beginning.
    #[must_use]
    pub fn under(&self, mark: &str, text: &str, columns: Option<usize>) -> String {
        let indent = mark.rsplit('\n').next().unwrap_or_default().width();
        let room_for = columns.map_or(usize::MAX, |columns| columns.saturating_sub(indent));
        let lines: Vec<&str> = text
            .split('\n')
            .flat_map(|line| wrap::wrap(line.trim_start(), room_for))
            .collect();
        format!("{mark}{}", lines.join(&format!("\n{:indent$}", "")))
    }

    /// What somebody wrote: clean, wrapped under its beginning, with links that can be clicked.
    fn text(&self, text: &str, setting: Setting<'_>, indent: usize) -> String {
        let Some(columns) = setting.columns else {
            return lines(text, indent);
        };
        let clean = lines(text, 0);
        let room_for = columns.saturating_sub(indent);
        let gap = format!("\n{:indent$}", "");
        let wrapped: Vec<Cow<'_, str>> = clean
            .split('\n')
            .flat_map(|line| wrap::wrap(line, room_for))
            .map(|line| self.with_links(line))
            .collect();
        wrapped.join(&gap)
    }

    /// Marks addresses as such (OSC 8): the target is the text itself, so that nothing can hide
    /// behind it. `line` is clean.
    fn with_links<'a>(&self, line: &'a str) -> Cow<'a, str> {
        if !self.links || !line.split(' ').any(wrap::is_link) {
            return Cow::Borrowed(line);
        }
        let mark = |word: &str| {
            let link = word.trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '"', '\'']);
            let plain = link.chars().all(|c| c.is_ascii_graphic() && is_harmless(c));
            if wrap::is_link(link) && plain {
                let rest = &word[link.len()..];
                format!("\x1b]8;;{link}\x1b\\{link}\x1b]8;;\x1b\\{rest}")
            } else {
                word.to_owned()
            }
        };
        let words: Vec<String> = line.split(' ').map(mark).collect();
        Cow::Owned(words.join(" "))
    }
}

/// Whether an edit by `author` is one of what they told in the third person.
fn is_edit_of_action(author: &UserName, setting: Setting<'_>) -> bool {
    let quote = setting.quote;
    quote.is_some_and(|quote| quote.is_action && quote.author == *author)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_room_beside_the_names_stands_below_them() {
        let style = Style {
            colour: false,
            ground: colour::Ground::Unknown,
            links: false,
            zone: jiff::tz::TimeZone::UTC,
        };
        let me = "alice@ada".parse().unwrap();
        let author = "李雷@a-host-with-a-name-of-more-than-forty-columns";
        let text = "今日は何をしますか、皆さん。 one two three four five six";
        let message = crate::sample::message("#日本語の部屋", 7, author, text);
        let shown = |columns| {
            let setting = Setting {
                columns: Some(columns),
                room: Some("#日本語の部屋"),
                ..Setting::DATED
            };
            style.message(&message, &me, setting)
        };
        assert_eq!(
            shown(40),
            "2024-03-01 12:00 #日本語の部屋\n\
             李雷@a-host-with-a-name-of-more-than-for\n\
             ty-columns\n    \
             今日は何をしますか、皆さん。 one two\n    \
             three four five six"
        );
        for columns in 20..120 {
            let text = shown(columns);
            assert!(text.lines().all(|line| line.width() <= columns), "{text}");
        }
    }

    #[test]
    fn what_comes_late_says_when_it_was_written() {
        let style = Style {
            colour: false,
            ground: colour::Ground::Unknown,
            links: false,
            zone: jiff::tz::TimeZone::UTC,
        };
        let me = "alice@ada".parse().unwrap();
        let mut message = crate::sample::message("#ops", 7, "bob@bee", "hi");
        let noon = message.committed_at.micros();
        let mut shown = |minutes: u64, columns| {
            message.sent_at = protocol::Timestamp::from_micros(noon - minutes * 60_000_000);
            let setting = Setting {
                columns,
                ..Setting::DATED
            };
            style.message(&message, &me, setting)
        };
        assert_eq!(shown(1, None), "2024-03-01 12:00      bob@bee  hi");
        assert_eq!(
            shown(61, None),
            "2024-03-01 12:00      bob@bee  hi  (written 10:59)"
        );
        assert_eq!(
            shown(24 * 60, Some(48)),
            "2024-03-01 12:00  bob@bee  hi\n                           (written 2024-02-29\n\
             \x20                          12:00)"
        );
    }

    #[test]
    fn an_excerpt_is_short_whatever_it_is_made_of() {
        assert_eq!(excerpt("two words\nand more"), "two words…");
        assert_eq!(excerpt("  "), "");
        assert!(excerpt(&"x".repeat(1_000)).len() < 50);
        // One letter with marks that take no column, and letters behind it.
        let marks = format!("a{}b", "\u{301}".repeat(30_000));
        assert!(excerpt(&marks).len() < 200);
    }
}
