//! The count of all dials, kept in one record that every worker replaces by compare-and-swap: no
//! worker, and no restart, dials on a count of its own.

use std::collections::BTreeMap;

use chrono::TimeDelta;

use super::window::Window;
use super::{Limits, Refusal};
use crate::domain::Timestamp;
use crate::domain::ids::IntentId;

const MINUTE: TimeDelta = TimeDelta::minutes(1);
const HOUR: TimeDelta = TimeDelta::hours(1);
const DAY: TimeDelta = TimeDelta::days(1);

/// What was dialled lately, and which calls are going on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Budget {
    /// Dials of the last minute.
    pub minute: Window,
    /// Dials of the last hour.
    pub hour: Window,
    /// Dials of the last day.
    pub day: Window,
    /// Dials of the last hour to each number, by the number's key.
    pub numbers: BTreeMap<String, Window>,
    /// Calls that are going on, oldest first.
    pub open: Vec<Open>,
}

/// A dial that was counted, and whose call may be going on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The wish.
    pub intent: IntentId,
    /// The key of its number.
    pub number: String,
    /// When it was counted.
    pub at: Timestamp,
}

impl Budget {
    /// The budget with one dial more. A wish that is counted already and still going on is not
    /// counted again: its worker was stopped before it came to dial.
    ///
    /// # Errors
    /// The limit that leaves no room; when several do, the one that does so longest.
    pub fn take(
        &self,
        intent: &IntentId,
        number: &str,
        now: Timestamp,
        limits: &Limits,
    ) -> Result<Self, Refusal> {
        let mut next = self.at(now, limits);
        if next.open.iter().any(|open| open.intent == *intent) {
            return Ok(next);
        }
        let to_number = next.numbers.get(number).cloned().unwrap_or_default();
        let windows = [
            (
                "limit-per-number",
                "to this number in an hour",
                &to_number,
                HOUR,
                limits.per_number,
            ),
            (
                "limit-per-minute",
                "in a minute",
                &next.minute,
                MINUTE,
                limits.per_minute,
            ),
            (
                "limit-per-hour",
                "in an hour",
                &next.hour,
                HOUR,
                limits.per_hour,
            ),
            ("limit-per-day", "in a day", &next.day, DAY, limits.per_day),
        ];
        let refused = windows
            .into_iter()
            .filter_map(|(guard, what, window, length, most)| {
                let passes_at = window.take(now, length, most).err()?;
                let text = format!("{} already went out {what}", calls(most));
                Some(Refusal::until(guard, text, passes_at))
            });
        let longest = refused
            .chain(next.too_many_open(limits))
            .max_by_key(|refusal| refusal.passes_at);
        if let Some(refusal) = longest {
            return Err(refusal);
        }
        let taken = |window: &Window, length| {
            let room = window.take(now, length, u32::MAX);
            room.unwrap_or_else(|_never| window.clone())
        };
        next.minute = taken(&next.minute, MINUTE);
        next.hour = taken(&next.hour, HOUR);
        next.day = taken(&next.day, DAY);
        next.numbers
            .insert(number.to_owned(), taken(&to_number, HOUR));
        next.open.push(Open {
            intent: intent.clone(),
            number: number.to_owned(),
            at: now,
        });
        Ok(next)
    }

    /// The budget without a dial that certainly never left; `None` when it was not counted.
    #[must_use]
    pub fn give_back(&self, intent: &IntentId) -> Option<Self> {
        let open = self.open.iter().find(|open| open.intent == *intent)?;
        let mut next = self.without(std::slice::from_ref(intent));
        next.minute.give_back(open.at, MINUTE);
        next.hour.give_back(open.at, HOUR);
        next.day.give_back(open.at, DAY);
        if let Some(window) = next.numbers.get_mut(&open.number) {
            window.give_back(open.at, HOUR);
        }
        Some(next)
    }

    /// The budget when the calls of these wishes are over, or were never made. They were dialled
    /// all the same.
    #[must_use]
    pub fn without(&self, over: &[IntentId]) -> Self {
        let mut next = self.clone();
        next.open.retain(|open| !over.contains(&open.intent));
        next
    }

    fn too_many_open(&self, limits: &Limits) -> Option<Refusal> {
        let most = usize::try_from(limits.concurrent).unwrap_or(usize::MAX);
        // When the bound was lowered, more than one must end first.
        let first = self.open.get(self.open.len().checked_sub(most)?)?;
        let text = format!("{} are going on already", calls(limits.concurrent));
        let passes_at = first.at + limits.call_length_max;
        Some(Refusal::until("limit-concurrent", text, passes_at))
    }

    /// Without what no longer counts.
    fn at(&self, now: Timestamp, limits: &Limits) -> Self {
        let mut numbers = BTreeMap::new();
        for (number, window) in &self.numbers {
            let window = window.at(now, HOUR);
            if !window.is_empty() {
                numbers.insert(number.clone(), window);
            }
        }
        let mut open = self.open.clone();
        open.retain(|open| open.at + limits.call_length_max > now);
        Self {
            minute: self.minute.at(now, MINUTE),
            hour: self.hour.at(now, HOUR),
            day: self.day.at(now, DAY),
            numbers,
            open,
        }
    }
}

fn calls(count: u32) -> String {
    if count == 1 {
        "1 call".to_owned()
    } else {
        format!("{count} calls")
    }
}
