//! Times as people write them.

use chrono::TimeDelta;

/// A whole number and its unit. None at all is a time too, but not one to wait for.
pub(super) fn duration(text: &str) -> Option<TimeDelta> {
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
