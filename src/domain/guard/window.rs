//! How many dials there were in a stretch of time that ends now.
//!
//! The stretch is counted in sixty slots. A dial counts until its whole slot has left the stretch,
//! so that no stretch of that length ever holds more than its bound; it may count a sixtieth too
//! long. Dials of a time to come, by a clock that was set back, count too: a wrong clock must not
//! make room.

use std::collections::BTreeMap;

use chrono::TimeDelta;

use crate::domain::Timestamp;

/// Slots in the stretch.
const SLOTS: i64 = 60;

/// A count of dials over a stretch of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Window {
    /// Dials by the number of their slot since 1970.
    pub slots: BTreeMap<i64, u32>,
}

impl Window {
    /// The window with one more dial, or when there would be room for it: at most `most` in any
    /// stretch of `length`.
    pub(super) fn take(
        &self,
        now: Timestamp,
        length: TimeDelta,
        most: u32,
    ) -> Result<Self, Timestamp> {
        let mut next = self.at(now, length);
        let taken: u32 = next.slots.values().sum();
        let Some(surplus) = (taken + 1).checked_sub(most).filter(|surplus| *surplus > 0) else {
            *next.slots.entry(slot(now, length)).or_default() += 1;
            return Ok(next);
        };
        let mut freed = 0;
        let leaving = next.slots.iter().find(|(_, count)| {
            freed += **count;
            freed >= surplus
        });
        let last = leaving.map_or_else(|| slot(now, length), |(slot, _)| *slot);
        Err(start_of(last + SLOTS + 1, length).unwrap_or(Timestamp::MAX_UTC))
    }

    /// The window without a dial that was taken at that time.
    pub(super) fn give_back(&mut self, taken_at: Timestamp, length: TimeDelta) {
        let slot = slot(taken_at, length);
        if let Some(count) = self.slots.get_mut(&slot) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.slots.remove(&slot);
            }
        }
    }

    /// Without what has left the stretch.
    pub(super) fn at(&self, now: Timestamp, length: TimeDelta) -> Self {
        let first = slot(now, length) - SLOTS;
        Self {
            slots: self.slots.range(first..).map(|(k, v)| (*k, *v)).collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

fn slot_ms(length: TimeDelta) -> i64 {
    (length.num_milliseconds() / SLOTS).max(1)
}

fn slot(at: Timestamp, length: TimeDelta) -> i64 {
    at.timestamp_millis().div_euclid(slot_ms(length))
}

fn start_of(slot: i64, length: TimeDelta) -> Option<Timestamp> {
    Timestamp::from_timestamp_millis(slot.checked_mul(slot_ms(length))?)
}
