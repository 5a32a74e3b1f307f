//! Times and durations as people write and read them.

use std::time::Duration;

use chrono::{TimeDelta, TimeZone};

use crate::domain::Timestamp;

const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Longer than anything that is kept; also keeps sums within their types.
const DURATION_MAX: Duration = Duration::from_secs(3_660 * 86_400);

/// Reads `10m`, `2h`, `1h30m`, `500ms`, `7d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is not a duration such as 500ms, 30s, 10m, 1h30m or 7d");
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let letters = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        let (_, millis) = UNITS
            .into_iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(bad)?;
        let part = Duration::from_millis(number.checked_mul(millis).ok_or_else(bad)?);
        total = total.checked_add(part).ok_or_else(bad)?;
        rest = next;
    }
    if total > DURATION_MAX {
        return Err(format!("`{text}` is longer than ten years"));
    }
    Ok(total)
}

/// A time in the past, as people say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// So long ago.
    Ago(Duration),
    /// At this instant.
    At(Timestamp),
}

impl Since {
    /// Reads a duration or a time in RFC 3339.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(ago) = parse_duration(text) {
            return Ok(Self::Ago(ago));
        }
        chrono::DateTime::parse_from_rfc3339(text)
            .map(|at| Self::At(at.to_utc()))
            .map_err(|_| {
                format!(
                    "`{text}` is neither a duration such as 10m or 2h nor a time such as 2026-11-22T14:00:00Z"
                )
            })
    }

    /// The instant that is meant; never in the future.
    pub fn instant(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(ago) => TimeDelta::from_std(ago).map_or(now, |ago| now - ago),
            Self::At(at) => at.min(now),
        }
    }
}

/// Time of day with milliseconds.
pub fn clock<Z: TimeZone>(at: Timestamp, zone: &Z) -> String
where
    Z::Offset: std::fmt::Display,
{
    at.with_timezone(zone).format("%H:%M:%S%.3f").to_string()
}

/// The day.
pub fn day<Z: TimeZone>(at: Timestamp, zone: &Z) -> String
where
    Z::Offset: std::fmt::Display,
{
    at.with_timezone(zone).format("%Y-%m-%d").to_string()
}

/// The time of day if it is today, else the day and the minute.
pub fn moment<Z: TimeZone>(at: Timestamp, now: Timestamp, zone: &Z) -> String
where
    Z::Offset: std::fmt::Display,
{
    let today = day(at, zone) == day(now, zone);
    let form = if today { "%H:%M:%S" } else { "%Y-%m-%d %H:%M" };
    at.with_timezone(zone).format(form).to_string()
}

/// `0.4s`, `9s`, `1m32s`, `2h05m`, `3d04h`; a negative one counts as none.
pub fn length(of: TimeDelta) -> String {
    let of = of.max(TimeDelta::zero());
    let seconds = of.num_seconds();
    match seconds {
        ..1 => format!("0.{}s", of.num_milliseconds() / 100),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::FixedOffset;

    fn at(text: &str) -> Timestamp {
        chrono::DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("30s", 30),
            ("10m", 600),
            ("2h", 7_200),
            ("1h30m", 5_400),
            ("7d", 604_800),
            (" 1m ", 60),
            ("0s", 0),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        for bad in [
            "",
            "10",
            "m",
            "-1s",
            "1.5h",
            "10 m",
            "1y",
            "99999999999d",
            "9999999999999999999999s",
            "4000d",
            "1é",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn since_is_a_duration_or_a_time_and_never_in_the_future() {
        let now = at("2026-11-22T14:00:00Z");
        let since = |text| Since::parse(text).map(|since| since.instant(now));
        assert_eq!(since("10m"), Ok(at("2026-11-22T13:50:00Z")));
        assert_eq!(
            since("2026-11-22T14:00:00+02:00"),
            Ok(at("2026-11-22T12:00:00Z"))
        );
        assert_eq!(since("2030-01-01T00:00:00Z"), Ok(now));
        assert!(since("yesterday").is_err());
    }

    #[test]
    fn times_are_local() {
        let zone = FixedOffset::east_opt(3_600).unwrap();
        let late = at("2026-11-22T23:30:05.120Z");
        assert_eq!(clock(late, &zone), "00:30:05.120");
        assert_eq!(day(late, &zone), "2026-11-23");
        let now = at("2026-11-23T10:00:00Z");
        assert_eq!(moment(late, now, &zone), "00:30:05");
        assert_eq!(
            moment(at("2026-11-22T22:00:00Z"), now, &zone),
            "2026-11-22 23:00"
        );
    }

    #[test]
    fn lengths_are_short() {
        for (millis, text) in [
            (-5_000, "0.0s"),
            (420, "0.4s"),
            (9_900, "9s"),
            (92_000, "1m32s"),
            (7_500_000, "2h05m"),
            (277_200_000, "3d05h"),
        ] {
            assert_eq!(length(TimeDelta::milliseconds(millis)), text);
        }
    }
}
