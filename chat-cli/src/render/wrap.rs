//! Breaking text into lines of a terminal.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// Narrower columns than this are not filled: a terminal that small wraps by itself.
pub const NARROWEST: usize = 16;

/// Breaks one line of text (without line breaks) so that each piece takes at most `columns` of the
/// terminal: between words where it can, within a word only if it alone is too long and not a
/// link, which stays whole so that it can be clicked.
///
/// Wide characters count as two columns, combining ones as none. Spaces at a break are dropped.
#[must_use]
pub fn wrap(text: &str, columns: usize) -> Vec<&str> {
    if columns < NARROWEST || text.width() <= columns {
        return vec![text];
    }
    let mut lines = Vec::new();
    let (mut start, mut end, mut width) = (0, 0, 0);
    for (at, word) in text.split_word_chunks() {
        let word_width = word.trim_end().width();
        if width + word_width > columns && end > start {
            lines.push(text[start..end].trim_end());
            (start, width) = (at, 0);
        }
        if word_width > columns && !is_link(word) {
            // The pieces that fill a line each; what is left begins the next.
            let letters = word.trim_end();
            for (piece_at, grapheme) in letters.grapheme_indices(true) {
                let piece_width = grapheme.width();
                if width + piece_width > columns && at + piece_at > start {
                    lines.push(&text[start..at + piece_at]);
                    (start, width) = (at + piece_at, 0);
                }
                width += piece_width;
            }
            width += word[letters.len()..].width();
        } else {
            width += word.width();
        }
        end = at + word.len();
    }
    let last = text[start..].trim_end();
    if !last.is_empty() || lines.is_empty() {
        lines.push(last);
    }
    lines
}

/// Columns that a line takes, without the looks and links that were put into it (SGR and OSC 8).
#[must_use]
pub fn shown_width(line: &str) -> usize {
    let mut parts = line.split('\x1b');
    let first = parts.next().unwrap_or_default().width();
    let behind = |part: &str| match part.chars().next() {
        Some('[') => part.split_once('m').map_or(0, |(_, rest)| rest.width()),
        // The end of a link's mark, whose beginning has no columns.
        Some('\\') => part[1..].width(),
        _ => 0,
    };
    first + parts.map(behind).sum::<usize>()
}

/// Whether a word is an address that a terminal lets people click.
#[must_use]
pub fn is_link(word: &str) -> bool {
    ["http://", "https://"]
        .iter()
        .any(|scheme| word.len() > scheme.len() && word.starts_with(scheme))
}

/// A word with the spaces behind it, and where it begins.
trait WordChunks {
    fn split_word_chunks(&self) -> impl Iterator<Item = (usize, &str)>;
}

impl WordChunks for str {
    fn split_word_chunks(&self) -> impl Iterator<Item = (usize, &Self)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let rest = &self[at..];
            let letters = if is_link(rest) {
                rest.find(' ').unwrap_or(rest.len())
            } else {
                1
            };
            let mut spaces = false;
            let cut = rest.grapheme_indices(true).find(|(index, grapheme)| {
                // Scripts that write without spaces break before any wide character.
                let begins = spaces && *grapheme != " " || grapheme.width() == 2;
                spaces = *grapheme == " ";
                *index >= letters && begins
            });
            let begun = at;
            at += cut.map_or(rest.len(), |(index, _)| index);
            (begun < at).then(|| (begun, &self[begun..at]))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_break_between_words_and_only_then_within_them() {
        assert_eq!(wrap("short", 20), ["short"]);
        assert_eq!(wrap("", 20), [""]);
        assert_eq!(
            wrap("the quick brown fox jumps over", 16),
            ["the quick brown", "fox jumps over"]
        );
        assert_eq!(
            wrap("a aaaaaaaaaaaaaaaaaaaaaaaa b", 16),
            ["a", "aaaaaaaaaaaaaaaa", "aaaaaaaa b"]
        );
        let full = "a".repeat(32);
        assert_eq!(
            wrap(&format!("{full}  b"), 16),
            [&full[..16], &full[16..], "b"]
        );
        assert_eq!(wrap("narrow terminals wrap", 9), ["narrow terminals wrap"]);
    }

    #[test]
    fn wide_characters_take_two_columns_and_break_anywhere() {
        assert_eq!(
            wrap("世界世界世界世界世界", 16),
            ["世界世界世界世界", "世界"]
        );
        assert_eq!(
            wrap("say 世界世界世界世界", 16),
            ["say 世界世界世界", "世界"]
        );
        // A family of four is one cluster and never torn.
        let family = "👨\u{200d}👩\u{200d}👧\u{200d}👦";
        for line in wrap(&family.repeat(12), 16) {
            assert!(line.starts_with('👨') && line.ends_with('👦'), "{line}");
        }
    }

    #[test]
    fn a_link_stays_whole() {
        let link = "https://example.org/a/very/long/path/of/things";
        assert_eq!(wrap(&format!("see {link} now"), 20), ["see", link, "now"]);
    }

    proptest! {
        #[test]
        fn nothing_but_spaces_is_lost_and_no_line_is_too_long(
            text in "[a-z 世e\u{301}]{0,120}", columns in 16_usize..60,
        ) {
            let lines = wrap(&text, columns);
            let squeezed = |text: &str| text.replace(' ', "");
            prop_assert_eq!(squeezed(&lines.concat()), squeezed(&text));
            for line in lines {
                prop_assert!(line.width() <= columns, "{:?} in {}", line, columns);
            }
        }
    }

    #[test]
    fn looks_and_links_take_no_columns() {
        for (line, width) in [
            ("plain 世界", 10),
            ("\x1b[2m12:00\x1b[0m  x", 8),
            (
                "see \x1b]8;;https://a.b\x1b\\https://a.b\x1b]8;;\x1b\\, too",
                20,
            ),
        ] {
            assert_eq!(shown_width(line), width, "{line:?}");
        }
    }
}
