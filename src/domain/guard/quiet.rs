//! Quiet hours: by the clock of the place where the phone rings, not by ours.
//!
//! A number tells its country, and a country may have many zones: those of the United States reach
//! from New York to Honolulu, and a mobile number says nothing of where its owner lives. A guess
//! could wake somebody, so a number is left alone while it is quiet in *any* zone of its country.
//! Who knows better says so: a prefix may be given a zone of its own.

use chrono::{NaiveTime, TimeDelta, TimeZone};
use chrono_tz::Tz;

use super::destination::Destination;
use super::{Prefix, Refusal};
use crate::domain::Timestamp;

/// The zones of each country; see the file.
const ZONES: &str = include_str!("zones.txt");

/// Quiet hours that are never over within this time leave no hour to call in.
const PATIENCE: TimeDelta = TimeDelta::days(3);

/// When nobody is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quiet {
    /// The hours.
    pub hours: Hours,
    /// Zones that are known better than by the country.
    pub zones: Zones,
}

/// Hours of the day, from one time until another, over midnight or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    from: NaiveTime,
    until: NaiveTime,
}

/// The zones of numbers, by their first digits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zones(pub Vec<(Prefix, Tz)>);

impl Quiet {
    /// # Errors
    /// When it is quiet where the phone would ring, or may be.
    pub(super) fn check(
        &self,
        destination: &Destination<'_>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        const GUARD: &str = "quiet-hours";
        let zones = self.zones.of(destination);
        if zones.is_empty() {
            let text = "nobody knows the hour where the phone would ring; give the number's prefix a zone (dialling.time_zones)";
            return Err(Refusal::never(GUARD, text));
        }
        let passes_at = self.hours.over_in_all(&zones, now);
        match passes_at {
            Some(at) if at == now => Ok(()),
            Some(at) => {
                let text = match zones.as_slice() {
                    [zone] => format!("it is quiet hours in {zone}, where the phone would ring"),
                    _ => "it is quiet hours in one of the time zones of the number's country"
                        .to_owned(),
                };
                Err(Refusal::until(GUARD, text, at))
            }
            None => {
                let text = "there is no hour at which it is not quiet somewhere in the number's country; give its prefix a zone (dialling.time_zones)";
                Err(Refusal::never(GUARD, text))
            }
        }
    }
}

impl Hours {
    /// Reads `21:00-08:00`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (from, until) = text.split_once('-')?;
        let time = |text: &str| NaiveTime::parse_from_str(text.trim(), "%H:%M").ok();
        let (from, until) = (time(from)?, time(until)?);
        (from != until).then_some(Self { from, until })
    }

    fn hold(self, time: NaiveTime) -> bool {
        if self.from < self.until {
            self.from <= time && time < self.until
        } else {
            self.from <= time || time < self.until
        }
    }

    /// The first time from `now` on at which they hold in none of the zones.
    fn over_in_all(self, zones: &[Tz], now: Timestamp) -> Option<Timestamp> {
        let mut at = now;
        while at - now < PATIENCE {
            let last = zones
                .iter()
                .filter_map(|zone| self.over_in(*zone, at))
                .max();
            match last {
                None => return Some(at),
                Some(next) => at = next,
            }
        }
        None
    }

    /// When they are over in a zone where they hold.
    fn over_in(self, zone: Tz, at: Timestamp) -> Option<Timestamp> {
        let local = at.with_timezone(&zone).naive_local();
        if !self.hold(local.time()) {
            return None;
        }
        let mut end = local.date().and_time(self.until);
        if end <= local {
            end += TimeDelta::days(1);
        }
        // An hour that the clocks leave out in spring: the next one that there is.
        let quarters = (0..12).map(|quarter| end + TimeDelta::minutes(15 * quarter));
        let over = quarters
            .filter_map(|end| zone.from_local_datetime(&end).latest())
            .map(|end| end.to_utc())
            .find(|end| *end > at);
        Some(over.unwrap_or(at + TimeDelta::days(1)))
    }
}

impl Zones {
    /// The zones that a number may be in: that of its longest prefix, else all of its country.
    fn of(&self, destination: &Destination<'_>) -> Vec<Tz> {
        let digits = destination.number.digits();
        let known = self
            .0
            .iter()
            .filter(|(prefix, _)| digits.starts_with(prefix.digits()))
            .max_by_key(|(prefix, _)| prefix.digits().len());
        match (known, &destination.country) {
            (Some((_, zone)), _) => vec![*zone],
            (None, Some(country)) => of_country(country),
            (None, None) => Vec::new(),
        }
    }
}

fn of_country(country: &str) -> Vec<Tz> {
    let line = ZONES
        .lines()
        .find_map(|line| line.strip_prefix(country)?.strip_prefix(' '));
    line.into_iter()
        .flat_map(str::split_whitespace)
        .filter_map(|zone| zone.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_zone_of_the_table_is_known() {
        let lines = ZONES.lines().filter(|line| !line.starts_with('#'));
        for line in lines {
            let mut words = line.split(' ');
            assert_eq!(words.next().unwrap().len(), 2, "{line}");
            for zone in words {
                assert!(zone.parse::<Tz>().is_ok(), "{zone}");
            }
        }
        assert_eq!(of_country("AT"), [Tz::Europe__Vienna]);
        assert!(of_country("US").len() > 20);
    }

    /// A country that can be dialled and has no zone would never be called while there are quiet
    /// hours.
    #[test]
    fn every_country_with_a_numbering_plan_has_a_zone() {
        for plan in phonenumber::metadata::DATABASE.iter() {
            if plan.id().len() == 2 {
                assert!(!of_country(plan.id()).is_empty(), "{}", plan.id());
            }
        }
    }
}
