//! How often may be dialled.

use chrono::TimeDelta;

/// How often may be dialled, by everybody together. Each bound is a number of dials, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// In any minute.
    pub per_minute: u32,
    /// In any hour.
    pub per_hour: u32,
    /// In any day.
    pub per_day: u32,
    /// To one number in any hour.
    pub per_number: u32,
    /// Calls going on at once.
    pub concurrent: u32,
    /// How long a call counts as going on when no end of it is heard.
    pub call_length_max: TimeDelta,
}

/// The largest bound of any window; it keeps the record of dials below what one message holds.
pub const LIMIT_MAX: u32 = 10_000;

/// The largest bound of calls at once, for the same reason.
pub const CONCURRENT_MAX: u32 = 1_000;

/// As `config/default.toml` has it.
impl Default for Limits {
    fn default() -> Self {
        Self {
            per_minute: 60,
            per_hour: 500,
            per_day: 2_000,
            per_number: 10,
            concurrent: 100,
            call_length_max: TimeDelta::minutes(5),
        }
    }
}
