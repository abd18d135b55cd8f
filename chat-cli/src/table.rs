//! Tables for people: aligned columns, of which the last one wraps where the terminal ends.

use crate::render::{line, pad};
use rustix::termios::tcgetwinsize;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The last column has at least so many columns of the terminal, however narrow that is.
const LEAST_COLUMNS: usize = 20;

/// How wide the terminal is that standard output goes to; `None` for a file or pipe.
#[must_use]
pub fn width() -> Option<usize> {
    let size = tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0).then_some(size.ws_col.into())
}

/// The rows with their columns aligned, as lines: text is made safe for a terminal here. With a
/// `width` the last column is broken to fit it, at spaces where there are any, and goes on below
/// where it began.
#[must_use]
pub fn lines<const N: usize>(rows: &[[String; N]], width: Option<usize>) -> Vec<String> {
    let rows: Vec<[String; N]> = rows
        .iter()
        .map(|row| row.each_ref().map(|cell| line(cell).into_owned()))
        .collect();
    let columns: Vec<usize> = (0..N.saturating_sub(1))
        .map(|column| {
            rows.iter()
                .map(|row| row[column].width())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let indent: usize = columns.iter().map(|width| width + 2).sum();
    let room = width.map(|width| width.saturating_sub(indent).max(LEAST_COLUMNS));
    let mut out = Vec::new();
    for row in &rows {
        let mut begin = String::new();
        for (cell, width) in row.iter().zip(&columns) {
            begin.push_str(&pad(cell, width + 2));
        }
        let last = row.last().map_or("", String::as_str);
        for part in broken(last, room) {
            out.push(format!("{begin}{part}").trim_end().to_owned());
            begin = " ".repeat(indent);
        }
    }
    out
}

/// `text` in pieces of at most `room` columns.
fn broken(text: &str, room: Option<usize>) -> Vec<String> {
    let Some(room) = room else {
        return vec![text.to_owned()];
    };
    let mut parts = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let space = usize::from(used > 0);
        if used > 0 && used + space + word.width() > room {
            parts.push(String::new());
            used = 0;
        } else if used > 0 {
            push(&mut parts, ' ');
            used += 1;
        }
        for c in word.chars() {
            let columns = c.width().unwrap_or(0);
            if used + columns > room {
                parts.push(String::new());
                used = 0;
            }
            push(&mut parts, c);
            used += columns;
        }
    }
    parts
}

fn push(parts: &mut [String], c: char) {
    if let Some(last) = parts.last_mut() {
        last.push(c);
    }
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
}
