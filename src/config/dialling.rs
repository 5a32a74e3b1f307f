//! `[dialling]`: what may be dialled.

use chrono::TimeDelta;
use chrono_tz::Tz;

use super::Wanted;
use super::duration::duration;
use crate::domain::guard::{
    CONCURRENT_MAX, Country, Hours, LIMIT_MAX, Limits, Places, Prefix, Quiet, Rules, Zones,
};

/// A call that goes on for longer has been forgotten.
const CALL_LENGTH_MAX: TimeDelta = TimeDelta::days(1);

/// What may be dialled, on the command line or by environment.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct Overrides {
    /// The countries that may be called, such as US,CA,AT
    #[arg(long, value_name = "COUNTRIES", env = "VOICEBUS_CALL_COUNTRIES")]
    pub call_countries: Option<String>,
    /// Numbers that begin so are refused, such as +1242,+1876
    #[arg(long, value_name = "PREFIXES", env = "VOICEBUS_REFUSED_PREFIXES")]
    pub refused_prefixes: Option<String>,
    /// When nobody is called, by the clock of the place, such as 21:00-08:00
    #[arg(long, value_name = "HOURS", env = "VOICEBUS_QUIET_HOURS")]
    pub quiet_hours: Option<String>,
    /// Most calls in a minute
    #[arg(long, value_name = "N", env = "VOICEBUS_CALLS_PER_MINUTE")]
    pub calls_per_minute: Option<String>,
    /// Most calls in an hour
    #[arg(long, value_name = "N", env = "VOICEBUS_CALLS_PER_HOUR")]
    pub calls_per_hour: Option<String>,
    /// Most calls in a day
    #[arg(long, value_name = "N", env = "VOICEBUS_CALLS_PER_DAY")]
    pub calls_per_day: Option<String>,
    /// Most calls to one number in an hour
    #[arg(long, value_name = "N", env = "VOICEBUS_CALLS_PER_NUMBER")]
    pub calls_per_number: Option<String>,
    /// Most calls at once
    #[arg(long, value_name = "N", env = "VOICEBUS_CALLS_AT_ONCE")]
    pub calls_at_once: Option<String>,
}

/// The settings as texts.
pub(super) struct Texts {
    countries: Option<String>,
    refused_prefixes: Option<String>,
    quiet_hours: Option<String>,
    time_zones: Option<String>,
    per_minute: Option<String>,
    per_hour: Option<String>,
    per_day: Option<String>,
    per_number: Option<String>,
    at_once: Option<String>,
    call_length_max: Option<String>,
}

impl Texts {
    pub fn take(
        over: &Overrides,
        mut setting: impl FnMut(&str, &Option<String>) -> Option<String>,
    ) -> Self {
        Self {
            countries: setting("countries", &over.call_countries),
            refused_prefixes: setting("refused_prefixes", &over.refused_prefixes),
            quiet_hours: setting("quiet_hours", &over.quiet_hours),
            time_zones: setting("time_zones", &None),
            per_minute: setting("calls_per_minute", &over.calls_per_minute),
            per_hour: setting("calls_per_hour", &over.calls_per_hour),
            per_day: setting("calls_per_day", &over.calls_per_day),
            per_number: setting("calls_per_number", &over.calls_per_number),
            at_once: setting("calls_at_once", &over.calls_at_once),
            call_length_max: setting("call_length_max", &None),
        }
    }

    /// The rules, but for our own numbers, which stand elsewhere.
    pub fn read(self, wanted: &mut Wanted<'_>) -> Option<Rules> {
        let countries = wanted.parsed(
            "dialling.countries",
            self.countries,
            "countries like US or AT, separated by commas",
            |text| items(text).map(Country::parse).collect(),
        );
        let refused_prefixes = wanted.parsed(
            "dialling.refused_prefixes",
            self.refused_prefixes,
            "the first digits of numbers like +1242, separated by commas",
            |text| items(text).map(Prefix::parse).collect(),
        );
        let hours = wanted.parsed(
            "dialling.quiet_hours",
            self.quiet_hours,
            "hours like 21:00-08:00",
            |text| match text {
                "" => Some(None),
                text => Hours::parse(text).map(Some),
            },
        );
        let zones = wanted.parsed(
            "dialling.time_zones",
            self.time_zones,
            "prefixes and zones like +1201=America/New_York, separated by commas",
            |text| items(text).map(zone).collect::<Option<_>>().map(Zones),
        );
        let mut bound = |name: &str, text, most: u32| {
            wanted.parsed(name, text, &format!("a number from 1 to {most}"), |text| {
                text.parse()
                    .ok()
                    .filter(|number| (1..=most).contains(number))
            })
        };
        let per_minute = bound("dialling.calls_per_minute", self.per_minute, LIMIT_MAX);
        let per_hour = bound("dialling.calls_per_hour", self.per_hour, LIMIT_MAX);
        let per_day = bound("dialling.calls_per_day", self.per_day, LIMIT_MAX);
        let per_number = bound("dialling.calls_per_number", self.per_number, LIMIT_MAX);
        let concurrent = bound("dialling.calls_at_once", self.at_once, CONCURRENT_MAX);
        let call_length_max = wanted.parsed(
            "dialling.call_length_max",
            self.call_length_max,
            "a time like 5m or 2h, at most 24h",
            |text| duration(text).filter(|time| *time <= CALL_LENGTH_MAX),
        );
        let zones = zones?;
        Some(Rules {
            places: Places {
                refused_prefixes: refused_prefixes?,
                countries: countries?,
            },
            own_numbers: Vec::new(),
            quiet: hours?.map(|hours| Quiet { hours, zones }),
            limits: Limits {
                per_minute: per_minute?,
                per_hour: per_hour?,
                per_day: per_day?,
                per_number: per_number?,
                concurrent: concurrent?,
                call_length_max: call_length_max?,
            },
        })
    }
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|one| !one.is_empty())
}

fn zone(text: &str) -> Option<(Prefix, Tz)> {
    let (prefix, zone) = text.split_once('=')?;
    Some((Prefix::parse(prefix.trim())?, zone.trim().parse().ok()?))
}
