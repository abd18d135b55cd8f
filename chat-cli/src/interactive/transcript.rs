//! What the terminal shows of rooms, one message after the other.
//!
//! Days and what is new since the last visit are set off by lines of their own; what is about an
//! earlier message quotes it.

use super::calls::Call;
use crate::{
    recall::Recall,
    render::{self, Setting, Style, mentions},
};
use jiff::civil::Date;
use protocol::{Committed, Content, Room, Seq, UserName};
use std::collections::HashMap;
use unicode_width::UnicodeWidthStr;

/// Columns of a line that sets something off, on a terminal that is wide enough.
const RULE_COLUMNS: usize = 60;

/// The messages shown so far, as far as that matters for the next.
#[derive(Debug)]
pub(super) struct Transcript {
    pub(super) style: Style,
    pub(super) recall: Recall,
    /// The day of the message shown last.
    day: Option<Date>,
    /// Up to where rooms were read before they were opened here, until that is said.
    read: HashMap<Room, Seq>,
}

/// One message, ready to be printed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// Its lines, without the last line's end.
    pub(super) text: String,
    /// What to call the reader's attention with, if it speaks to them.
    pub(super) call: Option<Call>,
}

impl Transcript {
    pub(super) fn new(style: Style) -> Self {
        Self {
            style,
            recall: Recall::default(),
            day: None,
            read: HashMap::new(),
        }
    }

    /// A room was opened that its reader had read up to there.
    pub(super) fn opened(&mut self, room: &Room, read: Option<Seq>) {
        if let Some(read) = read.filter(|read| *read > Seq::START) {
            self.read.insert(room.clone(), read);
        }
    }

    /// The next message, seen from `current`; `remark` stands behind it.
    pub(super) fn show(
        &mut self,
        message: &Committed,
        me: &UserName,
        current: &Room,
        remark: &str,
        columns: Option<usize>,
    ) -> Shown {
        let mut text = String::new();
        let day = self.style.day(message.committed_at);
        if self.day.replace(day) != Some(day) {
            let day = day.strftime("%A %-d %B %Y").to_string();
            text.push_str(&self.rule(&day, columns));
            text.push('\n');
        }
        let unread = self.read.get(&message.room).copied();
        if unread.is_some_and(|read| message.seq > read) {
            self.read.remove(&message.room);
            if message.author != *me {
                let room = label(&message.room, me);
                text.push_str(&self.rule(&format!("new in {room}"), columns));
                text.push('\n');
            }
        }
        let call = self.call(message, me);
        let quote = self.recall.take(message);
        let room = (message.room != *current).then(|| origin(message, me));
        let setting = Setting {
            columns,
            room: room.as_deref(),
            quote: quote.as_ref(),
            is_mention: call.is_some(),
            is_dated: false,
            remark,
        };
        text.push_str(&self.style.message(message, me, setting));
        Shown { text, call }
    }

    /// A line across with words in it; `words` need not be clean.
    pub(super) fn rule(&self, words: &str, columns: Option<usize>) -> String {
        let columns = columns.unwrap_or(RULE_COLUMNS).min(RULE_COLUMNS);
        let words = format!("── {} ", render::line(words));
        let rest = columns.saturating_sub(words.width());
        self.style.dim(&format!("{words}{}", "─".repeat(rest)))
    }

    /// Whether and how a message speaks to the reader: by name, or to them alone.
    fn call(&self, message: &Committed, me: &UserName) -> Option<Call> {
        if message.author == *me {
            return None;
        }
        let content = message.body.decode().ok()?;
        let (Content::Text(words) | Content::Action(words) | Content::Reply { text: words, .. }) =
            &content
        else {
            return None;
        };
        let is_for_me =
            matches!(message.room, Room::Direct(_)) || mentions(words, me.nick.as_str());
        is_for_me.then(|| Call {
            from: render::name_seen_by(&message.author, me),
            words: render::line(&render::excerpt(words)).into_owned(),
        })
    }
}

/// Where a message comes from that is not of the current room.
fn origin(message: &Committed, me: &UserName) -> String {
    match &message.room {
        Room::Direct(_) if message.author == *me => format!("→{}", label(&message.room, me)),
        Room::Direct(_) => "private".to_owned(),
        _ => message.room.seen_by(me),
    }
}

/// The room as the person knows it; a conversation with one person has a mark of its own.
pub(super) fn label(room: &Room, me: &UserName) -> String {
    let name = room.seen_by(me);
    if matches!(room, Room::Direct(_)) {
        format!("@{name}")
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use jiff::tz::TimeZone;
    use protocol::{MessageId, Timestamp};

    /// A conversation with all that is shown in a way of its own, day after day.
    fn conversation() -> Vec<Committed> {
        let id = |number: u8| MessageId::from_bytes([number; 16]);
        let text = |text: &str| Content::Text(text.to_owned());
        let contents = [
            ("#ops", "bob@bee", text("good morning")),
            (
                "#ops",
                "李雷@cox",
                text(
                    "世界 你好: e\u{301}le\u{300}ve 👩\u{200d}🚀 and so on, until the line is full and more",
                ),
            ),
            (
                "#ops",
                "bob@bee",
                Content::Reply {
                    to: id(2),
                    text: "see https://example.org/a/long/path/that/stays/whole?q=1 for that"
                        .to_owned(),
                },
            ),
            (
                "#ops",
                "carol@a-host-with-a-long-name",
                text("alice: one\n\ntwo\tthree"),
            ),
            (
                "#ops",
                "alice@ada",
                Content::Action("waves \u{1b}[31m".to_owned()),
            ),
            ("&lobby", "dan@ada", text("elsewhere")),
            ("alice@ada,bob@bee", "bob@bee", text("just for you")),
            ("alice@ada,bob@bee", "alice@ada", text("thanks")),
            (
                "#ops",
                "bob@bee",
                Content::Edit {
                    of: id(1),
                    text: "good afternoon".to_owned(),
                },
            ),
            (
                "#ops",
                "eve@bee",
                Content::Edit {
                    of: id(4),
                    text: "lies".to_owned(),
                },
            ),
            (
                "#ops",
                "alice@ada",
                Content::React {
                    to: id(3),
                    emoji: "👍".to_owned(),
                    on: true,
                },
            ),
            ("#ops", "bob@bee", Content::Delete { of: id(3) }),
        ];
        let day = 86_400_000_000;
        (1_u8..)
            .zip(contents)
            .map(|(number, (room, author, content))| {
                let mut message = sample::message(room, u64::from(number), author, "x");
                message.id = id(number);
                message.body = content.encode().unwrap();
                let later = u64::from(number) / 6 * day;
                message.committed_at = Timestamp::from_micros(sample::NOON.micros() + later);
                message.sent_at = message.committed_at;
                message
            })
            .collect()
    }

    fn shown(columns: usize, colour: bool) -> String {
        let mut transcript = Transcript::new(Style {
            colour,
            ground: render::Ground::Dark,
            links: colour,
            zone: TimeZone::UTC,
        });
        let (me, here) = ("alice@ada".parse().unwrap(), "#ops".parse().unwrap());
        transcript.opened(&here, Some(Seq::new(3)));
        let lines: Vec<String> = conversation()
            .iter()
            .map(|message| transcript.show(message, &me, &here, "", Some(columns)).text)
            .collect();
        lines.join("\n")
    }

    #[test]
    fn a_conversation_looks_as_it_should_at_the_usual_width() {
        insta::assert_snapshot!(shown(80, false));
    }

    #[test]
    fn a_conversation_looks_as_it_should_in_a_narrow_window() {
        insta::assert_snapshot!(shown(40, false));
    }

    #[test]
    fn a_conversation_looks_as_it_should_in_colour() {
        insta::assert_snapshot!(
            shown(80, true)
                .escape_debug()
                .to_string()
                .replace("\\n", "\n")
        );
    }

    #[test]
    fn no_line_is_wider_than_the_window_but_a_link() {
        for line in shown(80, false)
            .lines()
            .filter(|line| !line.contains("https://"))
        {
            assert!(line.width() <= 80, "{line}");
        }
    }
}
