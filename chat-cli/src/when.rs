//! Points in time as people write them.

use jiff::{
    Timestamp as Instant,
    civil::{Date, DateTime, Time},
    tz::TimeZone,
};
use protocol::Timestamp;
use std::time::Duration;
use thiserror::Error;

/// Why a text is no point in time.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WhenError {
    /// Not of a form that is known, or no such day or time.
    #[error(
        "{value:?} is no time: write 14:30 (today), 2026-11-23, 2026-11-23T14:30, an RFC 3339 \
         time, or how long ago: 30m, 2h, 7d"
    )]
    NoTime {
        /// The text, or its beginning.
        value: String,
    },
    /// Nothing was said then.
    #[error("{value:?} is before 1970")]
    TooEarly {
        /// The text, or its beginning.
        value: String,
    },
}

/// Characters of a refused text that its error repeats.
const EXCERPT_CHARS: usize = 40;

/// The point in time that `text` means at `now` on a clock in `zone`:
///
/// * RFC 3339: `2026-11-23T14:02:07Z`, `2026-11-23T14:02:07.5+01:00`
/// * by the clock here: `2026-11-23T14:02`, `2026-11-23` (its beginning), `14:02` (today)
/// * how long ago, a day being 24 hours: `30m`, `2h`, `1h30m`, `7d`, `2w`
///
/// # Errors
///
/// [`WhenError`] repeats the text.
pub fn parse(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, WhenError> {
    let value = || text.chars().take(EXCERPT_CHARS).collect();
    let instant = if let Some(age) = age(text) {
        let micros = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        let then = now.micros().checked_sub(micros);
        return then
            .map(Timestamp::from_micros)
            .ok_or_else(|| WhenError::TooEarly { value: value() });
    } else if let Ok(instant) = text.parse::<Instant>() {
        Some(instant)
    } else {
        civil(text, now, zone)
            .and_then(|time| Some(time.to_zoned_datetime(zone.clone()).ok()?.timestamp()))
    };
    let instant = instant.ok_or_else(|| WhenError::NoTime { value: value() })?;
    u64::try_from(instant.as_microsecond())
        .map(Timestamp::from_micros)
        .map_err(|_| WhenError::TooEarly { value: value() })
}

/// What a clock on the wall shows. Other forms that the parsers here would take, such as `14` for
/// an hour, are left out: they may be something else mistyped.
fn civil(text: &str, now: Timestamp, zone: &TimeZone) -> Option<DateTime> {
    let shape: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    match shape.as_str() {
        "0000-00-00" => Some(text.parse::<Date>().ok()?.into()),
        "0000-00-00T00:00" | "0000-00-00T00:00:00" => text.parse().ok(),
        "00:00" | "00:00:00" => {
            let now = i64::try_from(now.micros()).ok()?;
            let now = Instant::from_microsecond(now).ok()?;
            let today = now.to_zoned_datetime(zone.clone()).date();
            Some(today.to_datetime(text.parse::<Time>().ok()?))
        }
        "0:00" | "0:00:00" => civil(&format!("0{text}"), now, zone),
        _ => None,
    }
}

/// One or more numbers, each with its unit. `None` if it is something else.
fn age(text: &str) -> Option<Duration> {
    let mut age = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = rest.split_at(digits);
        let seconds = match unit.bytes().next()? {
            b's' => 1,
            b'm' => 60,
            b'h' => 60 * 60,
            b'd' => 24 * 60 * 60,
            b'w' => 7 * 24 * 60 * 60,
            _ => return None,
        };
        // Longer ago than can be told is before everything.
        let number = if digits > 18 {
            u64::MAX
        } else {
            number.parse().ok()?
        };
        age = age.saturating_add(Duration::from_secs(number.saturating_mul(seconds)));
        rest = &unit[1..];
    }
    (!text.is_empty()).then_some(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-23T14:02:07Z, in Berlin an hour later.
    const NOW: &str = "2026-11-23T14:02:07Z";

    fn at(text: &str) -> Timestamp {
        let instant: Instant = text.parse().unwrap();
        Timestamp::from_micros(instant.as_microsecond().try_into().unwrap())
    }

    fn when(text: &str) -> Result<Timestamp, WhenError> {
        parse(text, at(NOW), &TimeZone::get("Europe/Berlin").unwrap())
    }

    #[test]
    fn all_that_people_write_is_understood() {
        for (text, meant) in [
            ("2026-11-20T10:00:00Z", "2026-11-20T10:00:00Z"),
            ("2026-11-20T10:00:00.5+01:00", "2026-11-20T09:00:00.5Z"),
            ("2026-11-20T10:00", "2026-11-20T09:00:00Z"),
            ("2026-11-20T10:00:30", "2026-11-20T09:00:30Z"),
            ("2026-11-20", "2026-11-19T23:00:00Z"),
            ("2026-07-20", "2026-07-19T22:00:00Z"),
            ("14:30", "2026-11-23T13:30:00Z"),
            ("9:05", "2026-11-23T08:05:00Z"),
            ("23:59:59", "2026-11-23T22:59:59Z"),
            ("00:00", "2026-11-22T23:00:00Z"),
            ("30m", "2026-11-23T13:32:07Z"),
            ("90s", "2026-11-23T14:00:37Z"),
            ("2h", "2026-11-23T12:02:07Z"),
            ("1h30m", "2026-11-23T12:32:07Z"),
            ("7d", "2026-11-16T14:02:07Z"),
            ("2w", "2026-11-09T14:02:07Z"),
            ("0s", NOW),
            // Not on this clock: it jumps from 2 to 3.
            ("2026-03-29T02:30", "2026-03-29T01:30:00Z"),
        ] {
            assert_eq!(when(text), Ok(at(meant)), "{text}");
        }
    }

    #[test]
    fn the_rest_is_refused() {
        for text in [
            "",
            "7",
            "14",
            "yesterday",
            "2026-13-01",
            "2026-02-30",
            "25:00",
            "14:60",
            "h",
            "2x",
            "-2h",
            "2h3",
            "20261120",
            "2026-11",
            "1.5h",
            "14:30Z",
            "２h",
            "2026-11-20 10:00",
        ] {
            let refused = matches!(when(text), Err(WhenError::NoTime { .. }));
            assert!(refused, "{text:?} is {:?}", when(text));
        }
        for text in [
            "1969-12-31",
            "0001-01-01T00:00:00Z",
            "99999d",
            "99999999999999999999999w",
            "18446744073709551615s18446744073709551615w",
        ] {
            let refused = matches!(when(text), Err(WhenError::TooEarly { .. }));
            assert!(refused, "{text:?} is {:?}", when(text));
        }
        let huge = when(&"9".repeat(100_000)).unwrap_err().to_string();
        assert!(huge.len() < 300);
    }
}
