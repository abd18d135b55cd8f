//! Times as people write them.

use jiff::{Span, Timestamp, ToSpan, civil, tz::TimeZone};
use thiserror::Error;

/// Why a text is no time.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WhenError {
    /// None of the forms.
    #[error(
        "{0:?} is no time: write 14:30 (today), 2026-11-24, 2026-11-24T14:30:00Z, or how long ago \
         as 90s, 30m, 2h, 7d"
    )]
    NotATime(String),
    /// The form of a time that the calendar does not have, or before 1970.
    #[error("{0:?} is beyond the calendar")]
    OutOfRange(String),
}

/// The point in time that `text` names, for somebody in `zone` at `now`.
///
/// RFC 3339; a date, or a date and time without an offset, as the clock on the wall has it; `HH:MM`
/// or `HH:MM:SS` of today; or an age: a number and `s`, `m`, `h`, `d` or `w`.
///
/// # Errors
///
/// [`WhenError`] repeats the text.
pub fn parse(
    text: &str,
    now: Timestamp,
    zone: &TimeZone,
) -> Result<protocol::Timestamp, WhenError> {
    let beyond = || WhenError::OutOfRange(text.to_owned());
    let at = if let Some(age) = age(text) {
        now.checked_sub(age.map_err(|_| beyond())?)
            .map_err(|_| beyond())?
    } else if let Ok(at) = text.parse::<Timestamp>() {
        at
    } else {
        let there = civil(text, now, zone).ok_or_else(|| WhenError::NotATime(text.to_owned()))?;
        let there = zone.to_ambiguous_timestamp(there);
        there.compatible().map_err(|_| beyond())?
    };
    let micros = u64::try_from(at.as_microsecond()).map_err(|_| beyond())?;
    Ok(protocol::Timestamp::from_micros(micros))
}

/// A whole number and its unit; `None` if `text` has another form.
fn age(text: &str) -> Option<Result<Span, jiff::Error>> {
    let (unit, _) = text.char_indices().next_back()?;
    let (number, unit) = text.split_at(unit);
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    let number = number.parse::<i64>().unwrap_or(i64::MAX);
    Some(0.seconds().try_seconds(number.saturating_mul(seconds)))
}

/// The time on the clock of `zone` that `text` names.
fn civil(text: &str, now: Timestamp, zone: &TimeZone) -> Option<civil::DateTime> {
    let digits = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    if !digits(0) {
        return None;
    }
    if matches!(text.len(), 5 | 8) && text.as_bytes()[2] == b':' {
        let time: civil::Time = text.parse().ok()?;
        return Some(zone.to_datetime(now).date().to_datetime(time));
    }
    if text.len() == 10 {
        let date: civil::Date = text.parse().ok()?;
        return Some(date.to_datetime(civil::Time::midnight()));
    }
    let separated = matches!(text.as_bytes().get(10), Some(b'T' | b't' | b' '));
    // An annotation in brackets would be skipped.
    if separated && !text.contains('[') {
        return text.parse().ok();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, WhenError> {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let at = parse(text, now, &zone)?;
        let micros = i64::try_from(at.micros()).unwrap();
        Ok(Timestamp::from_microsecond(micros).unwrap().to_string())
    }

    #[test]
    fn every_form_names_its_point_in_time() {
        for (text, at) in [
            ("2026-11-24T10:00:00Z", "2026-11-24T10:00:00Z"),
            ("2026-11-24T10:00:00.5+01:00", "2026-11-24T09:00:00.5Z"),
            ("2026-11-24 10:00:00Z", "2026-11-24T10:00:00Z"),
            ("2026-11-24T10:00:00", "2026-11-24T08:00:00Z"),
            ("2026-11-24 10:00", "2026-11-24T08:00:00Z"),
            ("2026-11-20", "2026-11-19T22:00:00Z"),
            ("09:30", "2026-11-24T07:30:00Z"),
            ("09:30:15", "2026-11-24T07:30:15Z"),
            ("23:59", "2026-11-24T21:59:00Z"),
            ("90s", "2026-11-24T11:58:30Z"),
            ("30m", "2026-11-24T11:30:00Z"),
            ("2h", "2026-11-24T10:00:00Z"),
            ("7d", "2026-11-17T12:00:00Z"),
            ("1w", "2026-11-17T12:00:00Z"),
            ("0s", "2026-11-24T12:00:00Z"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(at), "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_time() {
        for text in [
            "",
            "7",
            "yesterday",
            "h",
            "-2h",
            "2.5h",
            "2y",
            "24:00",
            "9:30",
            "09:60",
            "2026-13-01",
            "2026-02-30",
            "20261124",
            "2026-11",
            "12:3a",
            "\u{661}h",
            "2h ago",
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error, WhenError::NotATime(text.to_owned()));
        }
        for text in ["99999999999999999999w", "1960-01-01", "200000d"] {
            let error = read(text).unwrap_err();
            assert_eq!(error, WhenError::OutOfRange(text.to_owned()));
        }
    }

    #[test]
    fn an_hour_that_the_clock_leaves_out_is_a_time_nevertheless() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let now = "2026-03-29T10:00:00Z".parse().unwrap();
        assert!(parse("02:30", now, &zone).is_ok());
    }
}
