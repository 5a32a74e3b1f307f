//! The section `[calls]`: how long what is waited for.

use chrono::TimeDelta;

use super::Wanted;
use crate::domain::timer::Times;

/// A timer lies in VOICE_IN until it fires and must not be removed for its age before that.
const TIMER_MAX: TimeDelta = TimeDelta::days(1);
/// The log of a call is kept for thirty days.
const AGE_MAX: TimeDelta = TimeDelta::days(7);

/// The settings as texts.
pub(super) struct Texts {
    finalize_after: Option<String>,
    stale_after: Option<String>,
    other_leg_after: Option<String>,
    age_max: Option<String>,
}

impl Texts {
    pub fn take(mut setting: impl FnMut(&str) -> Option<String>) -> Self {
        Self {
            finalize_after: setting("finalize_after"),
            stale_after: setting("stale_after"),
            other_leg_after: setting("other_leg_after"),
            age_max: setting("age_max"),
        }
    }

    pub fn read(self, wanted: &mut Wanted<'_>) -> Option<Times> {
        let mut timer = |name: &str, text| {
            wanted.parsed(
                name,
                text,
                "a time like 500ms, 5s, 30m or 12h, at most 24h",
                |text| duration(text).filter(|time| *time <= TIMER_MAX),
            )
        };
        let finalize_after = timer("calls.finalize_after", self.finalize_after);
        let stale_after = timer("calls.stale_after", self.stale_after);
        let other_leg_after = timer("calls.other_leg_after", self.other_leg_after);
        let age_max = wanted.parsed(
            "calls.age_max",
            self.age_max,
            "a time like 30m, 12h or 2d, at most 7d",
            |text| duration(text).filter(|time| *time <= AGE_MAX),
        );
        Some(Times {
            finalize_after: finalize_after?,
            stale_after: stale_after?,
            other_leg_after: other_leg_after?,
            age_max: age_max?,
        })
    }
}

/// A whole number and its unit. None at all is a time too, but not one to wait for.
fn duration(text: &str) -> Option<TimeDelta> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(unit_at)?;
    let number: i64 = number.parse().ok().filter(|number| *number > 0)?;
    match unit {
        "ms" => TimeDelta::try_milliseconds(number),
        "s" => TimeDelta::try_seconds(number),
        "m" => TimeDelta::try_minutes(number),
        "h" => TimeDelta::try_hours(number),
        "d" => TimeDelta::try_days(number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_and_its_unit() {
        assert_eq!(duration("250ms"), Some(TimeDelta::milliseconds(250)));
        assert_eq!(duration("5s"), Some(TimeDelta::seconds(5)));
        assert_eq!(duration("30m"), Some(TimeDelta::minutes(30)));
        assert_eq!(duration("12h"), Some(TimeDelta::hours(12)));
        assert_eq!(duration("2d"), Some(TimeDelta::days(2)));
        for bad in [
            "",
            "5",
            "s",
            "0s",
            "-5s",
            "5 s",
            "1.5h",
            "5S",
            "99999999999999999999d",
            "9999999999999999d",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
