//! How long something may take, as people write it.

use std::time::Duration;
use thiserror::Error;

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no duration: write 30 or 30s, 2m, 1h, 7d")]
pub struct DurationError(String);

/// A whole number of seconds, or of what the letter behind it says: `s`, `m`, `h` or `d`.
///
/// # Errors
///
/// [`DurationError`] repeats the text.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h', 'd']) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, "s"),
    };
    let seconds = match unit {
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => 1,
    };
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let number = digits.then(|| number.parse::<u64>().ok()).flatten();
    number
        .and_then(|number| number.checked_mul(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| DurationError(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_meant_unless_a_letter_says_more() {
        for (text, seconds) in [
            ("0", 0),
            ("30", 30),
            ("30s", 30),
            ("2m", 120),
            ("1h", 3_600),
            ("1d", 86_400),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)));
        }
        for text in [
            "",
            "s",
            "-1",
            "1.5s",
            "+3",
            "1 s",
            "1ms",
            "99999999999999999999",
            "9999999999999999999d",
            "1é",
        ] {
            assert_eq!(parse(text), Err(DurationError(text.to_owned())));
        }
    }
}
