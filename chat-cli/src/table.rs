//! Tables for people: aligned columns that fit the terminal, whatever script they are in.
//!
//! Nothing is left out to make them fit: a cell that is too wide goes on below itself, and where
//! even that leaves too little, the last column stands below the others.

use crate::render::{line, pad};
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// Columns of the terminal between two of the table.
const GAP: usize = 2;

/// The last column has at least so many columns of the terminal, or stands below the others.
const LEAST_LAST: usize = 20;

/// Any other is not made narrower than this beside the last one.
const LEAST: usize = 12;

/// How far the last column is set in where it stands below the others.
const BELOW: usize = 4;

/// The rows with their columns aligned, as lines: text is made safe for a terminal here. With a
/// `width` no line is wider, by breaking what is too long, at spaces where there are any. Columns
/// in which nothing stands take no room.
#[must_use]
pub fn lines<const N: usize>(rows: &[[String; N]], width: Option<usize>) -> Vec<String> {
    let rows: Vec<[String; N]> = rows
        .iter()
        .map(|row| row.each_ref().map(|cell| line(cell).into_owned()))
        .collect();
    let mut natural: Vec<usize> = (0..N).map(|column| widest(&rows, column)).collect();
    let last = natural.pop().unwrap_or(0);
    let gaps = natural.iter().filter(|width| **width > 0).count() * GAP;
    let Some(width) = width else {
        let print = |row: &[String; N]| beside(row, &natural, usize::MAX);
        return rows.iter().flat_map(print).collect();
    };
    let room = width.saturating_sub(gaps + last.min(LEAST_LAST));
    let narrow = shrunk(&natural, room);
    let is_legible = |(narrow, natural): (&usize, &usize)| *narrow >= (*natural).min(LEAST);
    if narrow.iter().zip(&natural).all(is_legible) {
        let rest = width.saturating_sub(gaps + narrow.iter().sum::<usize>());
        let print = |row: &[String; N]| beside(row, &narrow, rest);
        return rows.iter().flat_map(print).collect();
    }
    let narrow = shrunk(&natural, (width + GAP).saturating_sub(gaps));
    let mut out = Vec::new();
    for row in &rows {
        let (first, last) = row.split_at(N.saturating_sub(1));
        out.extend(beside(first, &narrow, 0));
        let last = last.first().map_or("", String::as_str);
        if !last.is_empty() {
            let parts = broken(last, width.saturating_sub(BELOW));
            out.extend(parts.iter().map(|part| format!("{:BELOW$}{part}", "")));
        }
    }
    out
}

fn widest<const N: usize>(rows: &[[String; N]], column: usize) -> usize {
    let widths = rows.iter().map(|row| row[column].width());
    widths.max().unwrap_or(0)
}

/// The widths with the widest made narrower, until all together take at most `room`.
fn shrunk(natural: &[usize], room: usize) -> Vec<usize> {
    let mut widths = natural.to_vec();
    while widths.iter().sum::<usize>() > room {
        // A wide character has to fit.
        match widths.iter_mut().max() {
            Some(widest) if *widest > 2 => *widest -= 1,
            _ => break,
        }
    }
    widths
}

/// One row: its cells beside each other, each broken to its width, one without a width to `rest`.
fn beside(row: &[String], widths: &[usize], rest: usize) -> Vec<String> {
    let widths = widths.iter().copied().chain([rest]);
    let cells: Vec<(Vec<String>, usize)> = row
        .iter()
        .zip(widths)
        .filter(|(_, width)| *width > 0)
        .map(|(cell, width)| (broken(cell, width), width))
        .collect();
    let height = cells.iter().map(|(parts, _)| parts.len()).max();
    (0..height.unwrap_or(0))
        .map(|at| {
            let mut out = String::new();
            for (index, (parts, width)) in cells.iter().enumerate() {
                let part = parts.get(at).map_or("", String::as_str);
                if index + 1 == cells.len() {
                    out.push_str(part);
                } else {
                    out.push_str(&pad(part, width + GAP));
                }
            }
            out.truncate(out.trim_end().len());
            out
        })
        .collect()
}

/// `text` in pieces of at most `room` columns, broken at spaces where there are any.
#[must_use]
pub fn broken(text: &str, room: usize) -> Vec<String> {
    if text.width() <= room {
        return vec![text.to_owned()];
    }
    let mut parts = Vec::new();
    let (mut part, mut used) = (String::new(), 0);
    for word in text.split(' ') {
        if used > 0 && used + 1 + word.width() > room {
            parts.push(std::mem::take(&mut part));
            used = 0;
        } else if used > 0 {
            part.push(' ');
            used += 1;
        }
        for grapheme in word.graphemes(true) {
            let columns = grapheme.width();
            if used > 0 && used + columns > room {
                parts.push(std::mem::take(&mut part));
                used = 0;
            }
            part.push_str(grapheme);
            used += columns;
        }
    }
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[[&str; 3]]) -> Vec<[String; 3]> {
        rows.iter().map(|row| row.map(str::to_owned)).collect()
    }

    #[test]
    fn columns_are_aligned_whatever_script_they_are_in() {
        let rows = rows(&[["ok", "世界", "one"], ["fail", "x", "two\x1b[m"]]);
        assert_eq!(
            lines(&rows, None),
            ["ok    世界  one", "fail  x     two\\x1b[m"]
        );
    }

    #[test]
    fn a_column_without_anything_in_it_takes_no_room() {
        let rows = rows(&[["a", "", "one"], ["b", "", "two"]]);
        for width in [None, Some(80), Some(6)] {
            assert_eq!(lines(&rows, width), ["a  one", "b  two"]);
        }
    }

    #[test]
    fn the_last_column_goes_on_below_itself() {
        let rows = rows(&[["a", "b", "one two three four five six seven"]]);
        let wrapped = lines(&rows, Some(26));
        assert_eq!(
            wrapped,
            ["a  b  one two three four", "      five six seven"]
        );
        assert!(wrapped.iter().all(|line| line.width() <= 26));
    }

    #[test]
    fn a_long_word_is_broken_instead_of_sticking_out() {
        let long = "/".to_owned() + &"x".repeat(50);
        let rows = [["a".to_owned(), long.clone()]];
        let wrapped = lines(&rows, Some(30));
        assert!(wrapped.iter().all(|line| line.width() <= 30), "{wrapped:?}");
        let text: String = wrapped.iter().map(|line| line[3..].trim_start()).collect();
        assert_eq!(text, long);
    }

    #[test]
    fn another_long_column_goes_on_below_itself_too() {
        let rows = [["一二三四五六七八".to_owned(), "here".to_owned()]];
        assert_eq!(lines(&rows, Some(18)), ["一二三四五六  here", "七八"]);
    }

    #[test]
    fn what_does_not_fit_beside_the_others_stands_below_them() {
        let rows = rows(&[
            [
                "terminal",
                "/a/long/path/to/somewhere",
                "one two three four five",
            ],
            ["x", "/", ""],
        ]);
        assert_eq!(
            lines(&rows, Some(24)),
            [
                "terminal  /a/long/path/t",
                "          o/somewhere",
                "    one two three four",
                "    five",
                "x         /"
            ]
        );
    }

    #[test]
    fn nothing_is_wider_than_the_terminal_and_nothing_is_lost() {
        let cells = [
            "世界 你好 grüße e\u{301}le\u{300}ve",
            "👩\u{200d}🚀👩\u{200d}🚀👩\u{200d}🚀👩\u{200d}🚀👩\u{200d}🚀👩\u{200d}🚀👩\u{200d}🚀",
            "a-name-without-any-place-to-break-it@another-such-name.example.org",
        ];
        let plain = |text: &str| text.replace(' ', "");
        for width in 8..90 {
            for order in [[0, 1, 2], [1, 2, 0], [2, 0, 1]] {
                let row = rows(&[order.map(|at| cells[at])]);
                let lines = lines(&row, Some(width));
                assert!(
                    lines.iter().all(|line| line.width() <= width),
                    "{width}: {lines:#?}"
                );
                let mut there: Vec<char> = plain(&lines.concat()).chars().collect();
                let mut wanted: Vec<char> = plain(&cells.concat()).chars().collect();
                there.sort_unstable();
                wanted.sort_unstable();
                assert_eq!(there, wanted);
            }
        }
    }
}
