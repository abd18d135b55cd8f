//! When a text contains another: the one rule for the index and for whoever reads messages.
//!
//! Both are [folded](fold) and compared character by character, so case does not count and words
//! have no borders. The index knows which groups of three characters a text has, whatever their
//! order; that only says where to look. What has fewer characters, it cannot say anything about.

use std::fmt::Write;

/// Characters of a group, as the index's tokenizer makes them.
const GROUP_CHARS: usize = 3;

/// Groups of one word that the index is asked for: those of its first 24 characters. More would
/// make the question longer and the answer hardly shorter.
const MAX_GROUPS: usize = 8;

/// The text as it is compared: in lower case, each character for itself.
#[must_use]
pub(super) fn fold(text: &str) -> String {
    // SQLite takes NUL for the end of a text.
    let visible = |c| if c == '\0' { '\u{fffd}' } else { c };
    text.chars()
        .map(visible)
        .flat_map(char::to_lowercase)
        .collect()
}

/// What texts must have to contain all of `words`, which are folded, as a question to the index.
/// `None` if all words are too short for it.
#[must_use]
pub(super) fn question(words: &[String]) -> Option<String> {
    let mut question = String::new();
    for group in words.iter().flat_map(|word| groups(word)) {
        let and = if question.is_empty() { "" } else { " AND " };
        // In a string of the query language only the quote has a meaning.
        let group = group.replace('"', "\"\"");
        // Writing to a string cannot fail.
        let _ = write!(question, "{and}\"{group}\"");
    }
    (!question.is_empty()).then_some(question)
}

/// Groups that cover the beginning of `word`, as few as possible.
fn groups(word: &str) -> Vec<&str> {
    let mut bounds: Vec<usize> = word.char_indices().map(|(at, _)| at).collect();
    bounds.push(word.len());
    let Some(last) = (bounds.len() - 1).checked_sub(GROUP_CHARS) else {
        return Vec::new();
    };
    let steps = (0..last).step_by(GROUP_CHARS).chain([last]);
    steps
        .take(MAX_GROUPS)
        .map(|first| &word[bounds[first]..bounds[first + GROUP_CHARS]])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_cover_a_word_and_short_ones_have_none() {
        for (word, expected) in [
            ("", &[][..]),
            ("ab", &[]),
            ("世界", &[]),
            ("abc", &["abc"]),
            ("abcd", &["abc", "bcd"]),
            ("abcdef", &["abc", "def"]),
            ("世界和平", &["世界和", "界和平"]),
        ] {
            assert_eq!(groups(word), expected, "{word}");
        }
        assert_eq!(groups(&"x".repeat(256)).len(), MAX_GROUPS);
    }

    #[test]
    fn a_question_quotes_whatever_it_asks_for() {
        let words = ["a\"b", "or", " * "].map(str::to_owned);
        assert_eq!(
            question(&words).as_deref(),
            Some("\"a\"\"b\" AND \" * \""),
            "the short one is left to whoever reads the text"
        );
        assert_eq!(question(&["ab".to_owned()]), None);
        assert_eq!(question(&[]), None);
    }

    #[test]
    fn case_does_not_count_in_any_script() {
        assert_eq!(fold("GRÜẞE, ΣΊΣΥΦΟΣ"), fold("grüße, σίσυφοσ"));
        assert_eq!(fold("a\0b"), "a\u{fffd}b");
    }
}
