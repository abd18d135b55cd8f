//! Which rows of the terminal a painted line takes, before and after the terminal rewrapped it.
//!
//! The editor goes by its own arithmetic, which [`Painted::rows`] repeats to the letter, because
//! what is written around it must fit. What the terminal makes of the text when its width changes
//! is another matter: [`Painted::rewrapped`].
//!
//! Rows end where [`Painted::ends`] says, as lines do, not only because they are full. So a
//! terminal that becomes wider joins none of them, and whoever goes up by the rows there were
//! before the editor knows of the change never comes to a message.

use rustyline::GraphemeClusterMode;
use unicode_segmentation::UnicodeSegmentation;

/// Columns from one tab stop to the next, as terminals and the editor have them.
const TAB: u16 = 8;

/// A cell, counted from the prompt's first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Cell {
    row: u16,
    column: u16,
}

/// The rows of a text, and where the cursor is in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Rows {
    /// Rows below the prompt's first.
    pub(super) end: u16,
    /// How many of them are below the cursor.
    pub(super) below: u16,
}

impl Rows {
    const fn new(cursor: u16, end: u16) -> Self {
        Self {
            end,
            below: end.saturating_sub(cursor),
        }
    }
}

/// What the editor last painted.
#[derive(Debug, Clone)]
pub(super) struct Painted {
    /// How wide the terminal thinks characters are.
    pub(super) widths: GraphemeClusterMode,
    /// Columns that the editor counted with.
    pub(super) columns: u16,
    /// Columns that the terminal had: it may tell the editor of others later.
    pub(super) real: u16,
    pub(super) prompt: String,
    pub(super) line: String,
    /// The cursor, in bytes of `line`.
    pub(super) cursor: usize,
    /// Where in `line` rows were ended when it was last painted as a whole, in bytes. The editor
    /// itself ends a full row at the end of the line.
    pub(super) ends: Vec<usize>,
}

impl Painted {
    /// Nothing, in a terminal of `columns`.
    pub(super) const fn nothing(widths: GraphemeClusterMode, columns: u16) -> Self {
        Self {
            widths,
            columns,
            real: columns,
            prompt: String::new(),
            line: String::new(),
            cursor: 0,
            ends: Vec::new(),
        }
    }

    /// The rows as the editor knows them.
    pub(super) fn rows(&self) -> Rows {
        let (cursor, end) = self.cells();
        Rows::new(cursor.row, end.row)
    }

    /// Whether the text fits one row of `columns`, too, so that the editor need not paint anew.
    pub(super) fn fits_row(&self, columns: u16) -> bool {
        let (_, end) = self.cells();
        end.row == 0 && end.column < columns
    }

    /// Where the rows of the line end: before each character that is the first of a row, and at
    /// the end if that is the end of a row.
    pub(super) fn all_ends(&self) -> Vec<usize> {
        let mut ends = Vec::new();
        let mut at = self.advance(&self.prompt, Cell::default());
        let mut bytes = 0;
        let mut begun = !self.prompt.is_empty() && at.column == 0;
        let (left, right) = self.line.split_at(self.cursor);
        for part in [left, right] {
            for cluster in part.graphemes(true) {
                let width = self.width(cluster, at.column);
                if begun || at.column.saturating_add(width) > self.columns {
                    ends.push(bytes);
                    at.column = 0;
                }
                at.column = if cluster == "\n" {
                    0
                } else {
                    at.column.saturating_add(width)
                };
                bytes += cluster.len();
                begun = false;
            }
            // The editor begins a row before the cursor, whatever comes next.
            begun = at.column == self.columns;
        }
        if begun {
            ends.push(bytes);
        }
        ends
    }

    fn cells(&self) -> (Cell, Cell) {
        let (before, after) = self.line.split_at(self.cursor);
        let cursor = self.advance(before, self.advance(&self.prompt, Cell::default()));
        let end = if after.is_empty() {
            cursor
        } else {
            self.advance(after, cursor)
        };
        (cursor, end)
    }

    /// As the editor counts.
    fn advance(&self, text: &str, from: Cell) -> Cell {
        let mut at = from;
        for cluster in text.graphemes(true) {
            if cluster == "\n" {
                at.row = at.row.saturating_add(1);
                at.column = 0;
                continue;
            }
            let width = self.width(cluster, at.column);
            at.column = at.column.saturating_add(width);
            if at.column > self.columns {
                at.row = at.row.saturating_add(1);
                at.column = width;
            }
        }
        if at.column == self.columns {
            at.row = at.row.saturating_add(1);
            at.column = 0;
        }
        at
    }

    fn width(&self, cluster: &str, column: u16) -> u16 {
        match cluster {
            "\n" => 0,
            "\t" => TAB - column % TAB,
            _ => self.widths.width(cluster),
        }
    }

    /// The rows after a terminal that rewraps long lines has come to `columns`.
    ///
    /// Where terminals differ, with a cursor behind a row that is exactly full, this is the upper
    /// row: a row too few leaves a row behind, a row too many would take a message away.
    pub(super) fn rewrapped(&self, columns: u16) -> Rows {
        let mut wrap = Wrap {
            columns,
            ..Wrap::default()
        };
        // Tabs are cells for the terminal, as many as they were when they were painted.
        let mut before = Cell::default();
        let mut ends = self.ends.iter().peekable();
        let mut cursor = None;
        for cluster in self.prompt.graphemes(true) {
            wrap.put(self.width(cluster, before.column));
            before = self.advance(cluster, before);
        }
        let mut bytes = 0;
        let (left, right) = self.line.split_at(self.cursor);
        for cluster in left.graphemes(true).chain(right.graphemes(true)) {
            if ends.next_if_eq(&&bytes).is_some() {
                wrap.end_line();
            }
            let row = wrap.put(self.width(cluster, before.column));
            if bytes == self.cursor {
                cursor = Some(row);
            }
            if cluster == "\n" {
                wrap.end_line();
            }
            before = self.advance(cluster, before);
            bytes += cluster.len();
        }
        if ends.next_if_eq(&&bytes).is_some() {
            wrap.end_line();
        }
        let end = wrap.at.row;
        if self.real != self.columns {
            // The editor went up from the end as it saw fit.
            let below = self.rows().below;
            return Rows { end, below };
        }
        Rows::new(cursor.unwrap_or(end), end)
    }
}

/// A terminal that fills its rows.
#[derive(Default)]
struct Wrap {
    columns: u16,
    at: Cell,
}

impl Wrap {
    /// Puts a character of `width`; the row it is in.
    fn put(&mut self, width: u16) -> u16 {
        if self.at.column.saturating_add(width) > self.columns {
            self.end_line();
        }
        self.at.column = self.at.column.saturating_add(width);
        self.at.row
    }

    fn end_line(&mut self) {
        self.at.row = self.at.row.saturating_add(1);
        self.at.column = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn painted(columns: u16, line: &str) -> Painted {
        let mut painted = Painted {
            prompt: "&lobby> ".to_owned(),
            line: line.to_owned(),
            cursor: line.len(),
            ..Painted::nothing(GraphemeClusterMode::WcWidth, columns)
        };
        painted.ends = painted.all_ends();
        painted
    }

    const fn rows(cursor: u16, end: u16) -> Rows {
        Rows::new(cursor, end)
    }

    #[test]
    fn a_wider_terminal_joins_nothing_and_a_narrower_one_splits_each_row() {
        let line = painted(50, &"x".repeat(100));
        assert_eq!(line.ends, [42, 92]);
        assert_eq!(line.rows(), rows(2, 2));
        for (columns, end) in [(140, 2), (54, 2), (50, 2), (49, 4), (25, 4), (24, 6)] {
            assert_eq!(line.rewrapped(columns), rows(end, end), "{columns}");
        }
    }

    #[test]
    fn the_cursor_stays_on_its_character() {
        let mut line = painted(50, &"x".repeat(100));
        line.cursor = 41;
        assert_eq!(line.rows(), rows(0, 2));
        assert_eq!(line.rewrapped(49), rows(1, 4));
        line.cursor = 42;
        assert_eq!(line.rows(), rows(1, 2));
        for (columns, cursor, end) in [(50, 1, 2), (60, 1, 2), (20, 3, 6)] {
            assert_eq!(line.rewrapped(columns), rows(cursor, end), "{columns}");
        }
    }

    #[test]
    fn an_editor_that_does_not_know_the_width_yet_still_counts_from_the_end() {
        let mut line = painted(50, &"x".repeat(100));
        line.cursor = 20;
        line.real = 25;
        assert_eq!(line.rows(), rows(0, 2));
        assert_eq!(line.rewrapped(25), rows(2, 4));
    }

    #[test]
    fn a_full_row_at_the_end_is_ended_once() {
        let full = painted(50, &"x".repeat(92));
        assert_eq!(full.ends, [42, 92]);
        assert_eq!(full.rows(), rows(2, 2));
        assert_eq!(full.rewrapped(140), rows(2, 2));
        assert_eq!(full.rewrapped(25), rows(4, 4));
        // What is typed then goes into the next row, although not all is painted again.
        let mut typed = full;
        typed.line.push_str("yy");
        typed.cursor += 2;
        assert_eq!(typed.rows(), rows(2, 2));
        assert_eq!(typed.rewrapped(140), rows(2, 2));
        assert_eq!(typed.all_ends(), typed.ends);
    }

    #[test]
    fn a_line_end_behind_a_full_row_is_no_row_of_its_own_unless_the_cursor_is_there() {
        let mut line = painted(20, &format!("{}\nmore", "x".repeat(12)));
        assert!(line.ends.is_empty());
        assert_eq!(line.rows(), rows(1, 1));
        line.cursor = 12;
        assert_eq!(line.all_ends(), [12]);
        assert_eq!(line.rows(), rows(1, 2));
    }

    #[test]
    fn wide_characters_are_never_split() {
        // 8 + 2 × 6 = 20 columns; in 13 the third does not fit beside the first two.
        let wide = painted(80, "日本語日本語");
        assert_eq!(wide.rows(), rows(0, 0));
        assert_eq!(wide.rewrapped(20), rows(0, 0));
        assert_eq!(wide.rewrapped(13), rows(1, 1));
        assert_eq!(wide.rewrapped(9), rows(2, 2));
        let narrow = painted(13, "日本語日本語");
        assert_eq!(narrow.ends, [6]);
        assert_eq!(narrow.rows(), rows(1, 1));
        assert_eq!(narrow.rewrapped(80), rows(1, 1));
    }

    #[test]
    fn lines_of_a_paste_stay_lines_and_tabs_keep_their_cells() {
        let pasted = painted(30, "one\n\ttwo\nthree");
        assert_eq!(pasted.rows(), rows(2, 2));
        assert_eq!(pasted.rewrapped(80), rows(2, 2));
        assert_eq!(pasted.rewrapped(10), rows(4, 4));
    }

    #[test]
    fn no_width_at_all_is_no_panic() {
        for columns in 0..12 {
            let line = painted(columns.max(1), "日本\tx\n");
            let _ = (line.rows(), line.all_ends(), line.rewrapped(columns));
        }
    }
}
