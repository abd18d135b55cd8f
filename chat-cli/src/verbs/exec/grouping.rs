//! Output of a command as messages: some lines each, not one a line.

use protocol::limits::MAX_BODY_BYTES;
use std::time::Duration;
use tokio::time::Instant;

/// How long a line waits for others to go with it.
pub(super) const GATHER: Duration = Duration::from_millis(200);

/// Bytes of lines that go in one message, unless one line alone has more.
const GROUP_BYTES: usize = 8 * 1024;

/// Bytes kept while no message can be sent. A command is not held up: what comes then is left out.
const HELD_BYTES: usize = 512 * 1024;

/// Output that is no message yet.
#[derive(Debug, Default)]
pub(super) struct Grouping {
    held: Vec<u8>,
    /// When the first of it came.
    since: Option<Instant>,
    /// Bytes that came after it and found no place.
    left_out: u64,
}

impl Grouping {
    /// Takes what the command printed.
    pub(super) fn push(&mut self, bytes: &[u8], now: Instant) {
        if self.left_out > 0 || self.held.len() >= HELD_BYTES {
            self.left_out += bytes.len() as u64;
            return;
        }
        self.held.extend_from_slice(bytes);
        self.since.get_or_insert(now);
    }

    /// Whether everything was taken.
    pub(super) const fn is_empty(&self) -> bool {
        self.held.is_empty() && self.left_out == 0
    }

    /// When the next message is due, if nothing more comes.
    pub(super) fn due(&self) -> Option<Instant> {
        let complete = self.left_out > 0 || self.held.contains(&b'\n');
        self.since.filter(|_| complete).map(|since| since + GATHER)
    }

    /// The next message, if one is due; `ended` says that nothing more comes.
    pub(super) fn take(&mut self, now: Instant, ended: bool) -> Option<String> {
        loop {
            if self.held.is_empty() {
                return self.note();
            }
            let last = ended || self.left_out > 0;
            let waited = last || self.due().is_some_and(|due| due <= now);
            let end = self.end(last)?;
            if !waited && self.held.len() < GROUP_BYTES {
                return None;
            }
            let rest = self.held.split_off(end);
            let lines = std::mem::replace(&mut self.held, rest);
            // What is left begins to wait now, or a torn line would hurry all that follow.
            self.since = (!self.is_empty()).then_some(now);
            let text = String::from_utf8_lossy(&lines);
            // What is nothing but line ends is no message.
            let text = text.trim_matches(['\n', '\r']);
            if !text.is_empty() {
                return Some(self.fitting(text));
            }
        }
    }

    /// Where the lines end that go in the next message; `None` if no line is complete.
    fn end(&self, last: bool) -> Option<usize> {
        let is_end = |byte: &u8| *byte == b'\n';
        let group = &self.held[..self.held.len().min(GROUP_BYTES)];
        if last && group.len() == self.held.len() {
            return Some(group.len());
        }
        if let Some(end) = group.iter().rposition(is_end) {
            return Some(end + 1);
        }
        let line = &self.held[..self.held.len().min(MAX_BODY_BYTES)];
        if let Some(end) = line.iter().position(is_end) {
            return Some(end + 1);
        }
        if line.len() == MAX_BODY_BYTES {
            return Some(boundary(line));
        }
        last.then_some(line.len())
    }

    /// `text`, or its beginning if bytes that are no text made it too long; the rest comes next.
    fn fitting(&mut self, text: &str) -> String {
        if text.len() <= MAX_BODY_BYTES {
            return text.to_owned();
        }
        let end = boundary(&text.as_bytes()[..MAX_BODY_BYTES]);
        let (text, rest) = text.split_at(end);
        let rest = [rest.as_bytes(), b"\n"].concat();
        self.held.splice(..0, rest);
        text.to_owned()
    }

    fn note(&mut self) -> Option<String> {
        let bytes = std::mem::take(&mut self.left_out);
        self.since = None;
        (bytes > 0).then(|| {
            format!("({bytes} bytes of output are left out here: more than could be sent)")
        })
    }
}

/// The end of the last whole character of `bytes`, if they are text.
fn boundary(bytes: &[u8]) -> usize {
    let begins = |byte: &u8| *byte & 0xc0 != 0x80;
    match bytes.iter().rposition(begins) {
        // What is no text anyway is cut anywhere.
        Some(at) if bytes.len() - at <= 4 && at > 0 => {
            let whole = std::str::from_utf8(&bytes[at..]).is_ok();
            if whole { bytes.len() } else { at }
        }
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(grouping: &mut Grouping, now: Instant, ended: bool) -> Vec<String> {
        std::iter::from_fn(|| grouping.take(now, ended)).collect()
    }

    #[test]
    fn lines_that_come_together_go_together() {
        let now = Instant::now();
        let mut grouping = Grouping::default();
        grouping.push(b"one\n\ntwo\nthr", now);
        assert_eq!(grouping.take(now, false), None);
        let due = grouping.due().unwrap();
        assert_eq!(due, now + GATHER);
        assert_eq!(all(&mut grouping, due, false), ["one\n\ntwo"]);
        // A line is not torn however long it takes.
        assert_eq!(grouping.due(), None);
        assert_eq!(all(&mut grouping, due + GATHER, false), [""; 0]);
        grouping.push(b"ee", due);
        assert_eq!(all(&mut grouping, due, true), ["three"]);
        assert!(grouping.is_empty());
    }

    #[test]
    fn many_lines_do_not_wait_and_are_cut_at_line_ends() {
        let now = Instant::now();
        let mut grouping = Grouping::default();
        let line = format!("{}\n", "x".repeat(999));
        grouping.push(line.repeat(20).as_bytes(), now);
        let texts = all(&mut grouping, now, false);
        assert_eq!(texts.len(), 2, "the last 4 wait for more");
        assert!(texts.iter().all(|text| text.len() == 7_999));
        let texts = all(&mut grouping, now, true);
        assert_eq!(texts, [line.repeat(4).trim_end()]);
    }

    #[test]
    fn only_a_line_over_the_limit_is_torn_and_no_character_is() {
        let now = Instant::now();
        let mut grouping = Grouping::default();
        let line = format!("x{}\nrest\n", "é".repeat(MAX_BODY_BYTES));
        grouping.push(line.as_bytes(), now);
        let texts = all(&mut grouping, now, true);
        assert!(texts.iter().all(|text| text.len() <= MAX_BODY_BYTES));
        assert!(!texts.iter().any(|text| text.contains('\u{fffd}')));
        assert_eq!(texts.len(), 3);
        assert_eq!(texts.concat(), line.trim_end());
    }

    #[test]
    fn what_is_no_text_is_shown_as_far_as_it_can_be() {
        let now = Instant::now();
        let mut grouping = Grouping::default();
        grouping.push(b"\n\r\n", now);
        assert_eq!(all(&mut grouping, now, true), [""; 0]);
        grouping.push(b"a\xffb\n", now);
        assert_eq!(all(&mut grouping, now, true), ["a\u{fffd}b"]);
        grouping.push(&vec![0xff; MAX_BODY_BYTES + 10], now);
        let texts = all(&mut grouping, now, true);
        assert!(texts.iter().all(|text| text.len() <= MAX_BODY_BYTES));
        let characters: usize = texts.iter().map(|text| text.chars().count()).sum();
        assert_eq!(characters, MAX_BODY_BYTES + 10);
    }

    #[test]
    fn what_cannot_be_kept_is_counted() {
        let now = Instant::now();
        let mut grouping = Grouping::default();
        let line = format!("{}\n", "x".repeat(1023));
        for _ in 0..1_000 {
            grouping.push(line.as_bytes(), now);
        }
        assert_eq!(grouping.held.len(), HELD_BYTES);
        let texts = all(&mut grouping, now, false);
        let note = texts.last().unwrap();
        let left_out = 1_000 * 1_024 - HELD_BYTES;
        assert!(note.starts_with(&format!("({left_out} bytes")), "{note}");
        let kept: usize = texts.iter().map(|text| text.matches('x').count()).sum();
        assert_eq!(kept, HELD_BYTES / 1_024 * 1_023);
        grouping.push(b"again\n", now);
        assert_eq!(all(&mut grouping, now, true), ["again"]);
    }
}
