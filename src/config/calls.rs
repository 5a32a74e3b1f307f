//! The section `[calls]`: how long what is waited for.

use chrono::TimeDelta;

use super::Wanted;
use super::duration::duration;
use crate::domain::timer::Times;

/// A timer lies in VOICE_IN until it fires and must not be removed for its age before that.
const TIMER_MAX: TimeDelta = TimeDelta::days(1);
/// The log of a call is kept for eight days or more, see `bus/streams/retention.rs`.
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
