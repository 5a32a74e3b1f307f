//! Times as senders write them.
//!
//! RFC 3339, and the form of the real emitter, Python's `datetime.now().isoformat()`, which names
//! no zone: `2026-11-22T12:32:16.172805`. Such a time is read in the zone that the deployment says
//! its phone-call server runs in. No time of a sender is ever used to order events, so a guess that
//! is an hour wrong in the night of a clock change harms nobody.

use chrono::{Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone};
use chrono_tz::Tz;
use thiserror::Error as ThisError;

use crate::domain::Timestamp;

/// Longest text looked at, in bytes: a date, a time, 29 digits of fraction and an offset.
const LENGTH_MAX: usize = 55;

/// Digits of a fraction that are kept; further ones are cut off.
const FRACTION_DIGITS_MAX: usize = 9;

/// Why a text is not a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ThisError)]
pub enum Error {
    /// Some other form.
    #[error("it must be RFC 3339, for example 2026-11-22T12:32:16.172805Z")]
    Form,
    /// The form of a time, but no such day or time of day, or none that can be written in UTC
    /// with a year of four digits.
    #[error("there is no such day or time")]
    NoSuchTime,
    /// No zone, where one is demanded.
    #[error("it must carry a zone, `Z` or an offset such as `+02:00`")]
    NoZone,
}

/// Reads a time; one without a zone is a local time of `zone`. Of an hour that happens twice the
/// first is meant, and a time that the clocks skipped is read as if they had not been changed.
///
/// # Errors
/// When the text is no time.
pub fn parse(text: &str, zone: Tz) -> Result<Timestamp, Error> {
    let (local, offset) = read(text)?;
    in_range(match offset {
        Some(offset) => utc(local, offset)?,
        None => local_to_utc(local, zone)?,
    })
}

/// Reads a time that must carry its zone.
///
/// # Errors
/// When the text is no time, or has no zone.
pub fn parse_zoned(text: &str) -> Result<Timestamp, Error> {
    let (local, offset) = read(text)?;
    in_range(utc(local, offset.ok_or(Error::NoZone)?)?)
}

/// Year 1 to 9999, so that every reader of the event can write the time again.
fn in_range(time: Timestamp) -> Result<Timestamp, Error> {
    if (1..=9999).contains(&time.year()) {
        Ok(time)
    } else {
        Err(Error::NoSuchTime)
    }
}

fn utc(local: NaiveDateTime, offset: TimeDelta) -> Result<Timestamp, Error> {
    let utc = local.checked_sub_signed(offset).ok_or(Error::NoSuchTime)?;
    Ok(utc.and_utc())
}

fn local_to_utc(local: NaiveDateTime, zone: Tz) -> Result<Timestamp, Error> {
    if let Some(time) = zone.from_local_datetime(&local).earliest() {
        return Ok(time.to_utc());
    }
    // Nothing but a gap is left. A day earlier the old offset was in force.
    let before = local
        .checked_sub_days(Days::new(1))
        .ok_or(Error::NoSuchTime)?;
    let offset = zone.offset_from_utc_datetime(&before).fix();
    utc(
        local,
        TimeDelta::seconds(i64::from(offset.local_minus_utc())),
    )
}

/// The time as written, and how far its clock is ahead of UTC.
fn read(text: &str) -> Result<(NaiveDateTime, Option<TimeDelta>), Error> {
    if text.len() > LENGTH_MAX {
        return Err(Error::Form);
    }
    let mut rest = Rest(text.as_bytes());
    let year = rest.number(4)?;
    rest.one_of(b"-")?;
    let month = rest.number(2)?;
    rest.one_of(b"-")?;
    let day = rest.number(2)?;
    rest.one_of(b"Tt ")?;
    let hour = rest.number(2)?;
    rest.one_of(b":")?;
    let minute = rest.number(2)?;
    rest.one_of(b":")?;
    let second = rest.number(2)?;
    let nanosecond = rest.fraction()?;
    let offset = rest.offset()?;
    if !rest.0.is_empty() {
        return Err(Error::Form);
    }
    let year = i32::try_from(year).map_err(|_| Error::NoSuchTime)?;
    let date = NaiveDate::from_ymd_opt(year, month, day).ok_or(Error::NoSuchTime)?;
    let time =
        NaiveTime::from_hms_nano_opt(hour, minute, second, nanosecond).ok_or(Error::NoSuchTime)?;
    Ok((date.and_time(time), offset))
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn one_of(&mut self, allowed: &[u8]) -> Result<u8, Error> {
        match self.0.split_first() {
            Some((first, rest)) if allowed.contains(first) => {
                self.0 = rest;
                Ok(*first)
            }
            _ => Err(Error::Form),
        }
    }

    /// Exactly so many digits.
    fn number(&mut self, digits: usize) -> Result<u32, Error> {
        let mut number = 0;
        for _ in 0..digits {
            number = number * 10 + u32::from(self.one_of(b"0123456789")? - b'0');
        }
        Ok(number)
    }

    /// Nanoseconds; 0 when there is no fraction.
    fn fraction(&mut self) -> Result<u32, Error> {
        if self.one_of(b".").is_err() {
            return Ok(0);
        }
        let mut nanoseconds = self.number(1)?;
        let mut digits = 1;
        while let Ok(digit) = self.number(1) {
            if digits < FRACTION_DIGITS_MAX {
                nanoseconds = nanoseconds * 10 + digit;
                digits += 1;
            }
        }
        while digits < FRACTION_DIGITS_MAX {
            nanoseconds *= 10;
            digits += 1;
        }
        Ok(nanoseconds)
    }

    /// `Z`, `+hh:mm` or `-hh:mm`; `None` at the end of the text.
    fn offset(&mut self) -> Result<Option<TimeDelta>, Error> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let sign = match self.one_of(b"Zz+-")? {
            b'+' => 1,
            b'-' => -1,
            _ => return Ok(Some(TimeDelta::zero())),
        };
        let hours = self.number(2)?;
        self.one_of(b":")?;
        let minutes = self.number(2)?;
        if hours > 23 || minutes > 59 {
            return Err(Error::NoSuchTime);
        }
        let minutes = i64::from(hours * 60 + minutes);
        Ok(Some(TimeDelta::minutes(sign * minutes)))
    }
}

#[cfg(test)]
mod tests {
    use chrono::SecondsFormat;
    use proptest::prelude::*;

    use super::*;

    fn utc(text: &str) -> Result<String, Error> {
        parse(text, Tz::UTC).map(|time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }

    fn local(text: &str) -> String {
        let time = parse(text, Tz::America__New_York).unwrap();
        time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
    }

    #[test]
    fn times_with_a_zone_become_utc() {
        for (text, expected) in [
            ("2026-11-22T12:00:00Z", "2026-11-22T12:00:00Z"),
            (
                "2026-02-06T03:56:21.123456-05:00",
                "2026-02-06T08:56:21.123456Z",
            ),
            ("2026-11-22t12:00:00.5z", "2026-11-22T12:00:00.500Z"),
            ("2026-11-22 12:00:00Z", "2026-11-22T12:00:00Z"),
            ("2026-11-22T12:00:00-00:00", "2026-11-22T12:00:00Z"),
            ("2038-01-19T03:14:08Z", "2038-01-19T03:14:08Z"),
            (
                "2026-11-22T12:00:00.123456789Z",
                "2026-11-22T12:00:00.123456789Z",
            ),
            (
                "2026-11-22T12:00:00.123456789987Z",
                "2026-11-22T12:00:00.123456789Z",
            ),
        ] {
            assert_eq!(utc(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_time_without_a_zone_is_local_to_the_server() {
        let text = "2026-11-22T07:33:45.799670";
        assert_eq!(utc(text).as_deref(), Ok("2026-11-22T07:33:45.799670Z"));
        assert_eq!(local(text), "2026-11-22T12:33:45.799670Z");
        assert_eq!(local("2026-07-01T12:00:00"), "2026-07-01T16:00:00Z");
    }

    #[test]
    fn the_nights_of_the_clock_changes_are_read_without_a_panic() {
        // Happens twice: the first one. Never happens: as if the clocks had not been changed.
        assert_eq!(local("2026-11-01T01:30:00"), "2026-11-01T05:30:00Z");
        assert_eq!(local("2026-03-08T02:30:00"), "2026-03-08T07:30:00Z");
        // Samoa had no 30 December 2011 at all.
        let apia = parse("2011-12-30T12:00:00", Tz::Pacific__Apia).unwrap();
        assert_eq!(apia.to_rfc3339(), "2011-12-30T22:00:00+00:00");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            " ",
            "t",
            "yesterday",
            "2026-11-22",
            "2026-11-22T12:00Z",
            "2026-11-22T12:00:00,5Z",
            "2026-11-22T12:00:00.Z",
            "2026-11-22T12:00:00+0100",
            "2026-11-22T12:00:00+01",
            "2026-11-22T12:00:00Z[UTC]",
            "2026-11-22T12:00:00ZZ",
            " 2026-11-22T12:00:00Z",
            "2026-11-22T12:00:00Z\n",
            "20261122T120000Z",
            "2026-W47-7T12:00:00Z",
            "1795348800",
            "Sun, 22 Nov 2026 12:00:00 +0000",
            "+12026-11-22T12:00:00Z",
            "-0001-01-01T00:00:00Z",
            "２０２６-11-22T12:00:00Z",
            &format!("2026-11-22T12:00:00.{}Z", "1".repeat(100)),
        ] {
            assert_eq!(utc(text), Err(Error::Form), "{text}");
        }
        for text in [
            "2027-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T12:60:00Z",
            "2016-12-31T23:59:60Z",
            "2026-11-22T12:00:00+25:00",
            "2026-11-22T12:00:00+01:60",
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
        ] {
            assert_eq!(utc(text), Err(Error::NoSuchTime), "{text}");
        }
    }

    #[test]
    fn a_zone_can_be_demanded() {
        assert_eq!(parse_zoned("2026-11-22T12:00:00"), Err(Error::NoZone));
        assert_eq!(
            parse_zoned("2026-11-22T12:00:00Z"),
            parse("2026-11-22T12:00:00Z", Tz::Asia__Tokyo)
        );
    }

    proptest! {
        #[test]
        fn no_text_and_no_zone_makes_it_panic(
            text in "[0-9]{4}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9]:[0-6][0-9](\\.[0-9]{1,12})?(Z|[+-][0-2][0-9]:[0-6][0-9])?",
            zone in 0..chrono_tz::TZ_VARIANTS.len(),
        ) {
            if let Ok(time) = parse(&text, chrono_tz::TZ_VARIANTS[zone]) {
                prop_assert!((1..=9999).contains(&time.year()));
            }
        }
    }
}
