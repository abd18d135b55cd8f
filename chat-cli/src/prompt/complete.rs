//! What the Tab key makes of a word. Pure.

use std::cmp::Ordering;

/// Choices that are listed at most.
const LISTED: usize = 60;

/// Commands whose argument is a room or a person.
const ABOUT_ROOMS: [&str; 6] = ["join", "switch", "leave", "msg", "who", "topic"];

/// What can be completed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    /// Commands, without `/`.
    pub commands: Vec<String>,
    /// Rooms as they are written, with `#` or `&`.
    pub rooms: Vec<String>,
    /// People, as they are written to.
    pub nicks: Vec<String>,
}

/// What becomes of the word before the cursor.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Completion {
    /// There is nothing to make of it.
    Nothing,
    /// What begins at this byte is this.
    Word(usize, String),
    /// It may be any of these, of so many.
    Choices(Vec<String>, usize),
}

/// Completes what ends at `cursor` in `line`.
pub(super) fn complete(line: &str, cursor: usize, words: &Words) -> Completion {
    let left = &line[..cursor];
    let start = left.rfind(char::is_whitespace).map_or(0, |at| {
        at + left[at..].chars().next().map_or(0, char::len_utf8)
    });
    let word = &left[start..];
    if let Some(at) = shortcode(word) {
        return emoji(start + at, &word[at + 1..]);
    }
    if let Some(name) = left.strip_prefix('/')
        && start == 0
    {
        let commands = words.commands.iter().map(|command| format!("/{command}"));
        return if name.starts_with('/') {
            Completion::Nothing
        } else {
            choose(0, word, commands.collect(), " ")
        };
    }
    if word.starts_with(['#', '&']) {
        return choose(start, word, words.rooms.clone(), " ");
    }
    if is_about_rooms(left, start) {
        let both = words.rooms.iter().chain(&words.nicks).cloned();
        return choose(start, word, both.collect(), " ");
    }
    let end = if start == 0 { ": " } else { " " };
    let (start, word) = match word.strip_prefix('@') {
        Some(nick) => (start + 1, nick),
        None => (start, word),
    };
    choose(start, word, words.nicks.clone(), end)
}

/// Whether what begins at `start` is the first argument of a command about rooms.
fn is_about_rooms(left: &str, start: usize) -> bool {
    left.strip_prefix('/').is_some_and(|rest| {
        let (command, rest_of_it) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        // The space between may be of any script.
        let begun = start - (left.len() - rest_of_it.len()).min(start);
        ABOUT_ROOMS.contains(&command) && rest_of_it[..begun].trim().is_empty()
    })
}

/// Where in `word` the shortcode of an emoji begins.
fn shortcode(word: &str) -> Option<usize> {
    let name = word.strip_suffix(':').unwrap_or(word);
    let at = name.rfind(':')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-');
    let begins = !name[..at].ends_with(char::is_alphanumeric);
    (begins && name.len() > at + 1 && name[at + 1..].chars().all(is_name)).then_some(at)
}

/// Completes `:name` that begins at `start`; a closing `:` says that the name is whole.
fn emoji(start: usize, name: &str) -> Completion {
    if let Some(whole) = name.strip_suffix(':') {
        return emojis::get_by_shortcode(whole).map_or(Completion::Nothing, |emoji| {
            Completion::Word(start, emoji.as_str().to_owned())
        });
    }
    let mut found: Vec<_> = emojis::iter()
        .flat_map(|emoji| emoji.shortcodes().map(move |code| (code, emoji.as_str())))
        .filter(|(code, _)| code.starts_with(name))
        .collect();
    found.sort_unstable();
    match found.as_slice() {
        [] => Completion::Nothing,
        [(_, emoji)] => Completion::Word(start, (*emoji).to_owned()),
        [(first, _), ..] => {
            let common = common(first, found.iter().map(|(code, _)| *code));
            if common > name.len() {
                return Completion::Word(start, format!(":{}", &first[..common]));
            }
            let list = found.iter().take(LISTED);
            let list = list.map(|(code, emoji)| format!("{emoji} :{code}:"));
            Completion::Choices(list.collect(), found.len())
        }
    }
}

/// Completes `word` to those of `candidates` that begin with it, in whatever case; `end` follows
/// if there is one only.
fn choose(start: usize, word: &str, mut candidates: Vec<String>, end: &str) -> Completion {
    candidates.retain(|candidate| starts_with(candidate, word));
    candidates.sort_unstable();
    candidates.dedup();
    match candidates.as_slice() {
        [] => Completion::Nothing,
        [only] => Completion::Word(start, format!("{only}{end}")),
        [first, ..] => {
            let common = common(first, candidates.iter().map(String::as_str));
            if first[..common].chars().count().cmp(&word.chars().count()) == Ordering::Greater {
                return Completion::Word(start, first[..common].to_owned());
            }
            let count = candidates.len();
            candidates.truncate(LISTED);
            Completion::Choices(candidates, count)
        }
    }
}

fn starts_with(candidate: &str, word: &str) -> bool {
    let mut candidate = candidate.chars().flat_map(char::to_lowercase);
    word.chars()
        .flat_map(char::to_lowercase)
        .all(|c| candidate.next() == Some(c))
}

/// Bytes of `first` that all `others` begin with, in whatever case.
fn common<'a>(first: &str, others: impl Iterator<Item = &'a str>) -> usize {
    others.fold(first.len(), |common, other| {
        let same = first[..common]
            .chars()
            .zip(other.chars())
            .take_while(|(one, other)| one.to_lowercase().eq(other.to_lowercase()));
        same.map(|(c, _)| c.len_utf8()).sum()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words {
        let strings = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        Words {
            commands: strings(&["join", "leave", "msg", "me", "who", "history", "help"]),
            rooms: strings(&["#ops", "#ops-night", "&lobby"]),
            nicks: strings(&["alice", "Albert", "bob@bee", "bob@cox", "Øyvind"]),
        }
    }

    /// The line after Tab at its end, or the choices.
    fn tab(line: &str) -> String {
        match complete(line, line.len(), &words()) {
            Completion::Nothing => "?".to_owned(),
            Completion::Word(start, text) => format!("{}{text}|", &line[..start]),
            Completion::Choices(choices, _) => choices.join(" "),
        }
    }

    #[test]
    fn words_are_completed_by_their_place() {
        for (line, expected) in [
            ("/j", "/join |"),
            ("/h", "/help /history"),
            ("/hi", "/history |"),
            ("/x", "?"),
            ("//j", "?"),
            ("/join #o", "/join #ops|"),
            ("/join #ops", "#ops #ops-night"),
            ("/join  a", "/join  Al|"),
            ("/join bob@b", "/join bob@bee |"),
            ("/msg b", "/msg bob@|"),
            ("/msg bob@bee al", "Albert alice"),
            ("/msg bob@bee ali", "/msg bob@bee alice |"),
            ("/me greets ali", "/me greets alice |"),
            ("see &l", "see &lobby |"),
            ("ali", "alice: |"),
            ("al", "Albert alice"),
            ("AL", "Albert alice"),
            ("a", "Al|"),
            ("ø", "Øyvind: |"),
            ("thanks @alb", "thanks @Albert |"),
            ("nobody", "?"),
            ("one\nali", "one\nalice |"),
        ] {
            assert_eq!(tab(line), expected, "{line:?}");
        }
        // Spaces of other scripts, with nothing or something behind them.
        for line in [
            "/join\u{3000}",
            "/msg\u{a0}x",
            "/who\u{3000}#o",
            "/\u{3000}",
        ] {
            tab(line);
        }
    }

    #[test]
    fn shortcodes_become_emoji() {
        assert_eq!(tab("well :rocke"), "well 🚀|");
        assert_eq!(tab("(:rocket:"), "(🚀|");
        assert_eq!(tab(":+1:"), "👍|");
        assert_eq!(tab(":face_w"), ":face_with_|");
        let choices = tab(":smil");
        assert!(choices.contains("😄 :smile:"), "{choices}");
        assert!(choices.contains("😈 :smiling_imp:"), "{choices}");
        assert_eq!(tab(":no_such_thing:"), "?");
        for plain in ["at 10:30", "http://x", ":", "::", ":)"] {
            assert_eq!(tab(plain), "?", "{plain:?}");
        }
    }

    #[test]
    fn what_is_behind_the_cursor_does_not_matter_and_a_long_list_is_cut() {
        let completion = complete("ali and more", 3, &words());
        assert_eq!(completion, Completion::Word(0, "alice: ".to_owned()));
        let nicks = (0..500).map(|number| format!("user{number}")).collect();
        let words = Words {
            nicks,
            ..Words::default()
        };
        let Completion::Choices(choices, count) = complete("user", 4, &words) else {
            panic!("there are many");
        };
        assert_eq!((choices.len(), count), (LISTED, 500));
    }
}
