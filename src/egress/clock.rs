//! The time by which deadlines are judged: that of the machine, unless it was just set.
//!
//! A clock that is set forward would let every waiting dial expire, one that is set back would let
//! them all live again. So it is held against the time that has passed since it was read last. While
//! the two disagree nothing is dialled and nothing expires by it; when the machine has stood by its
//! new time for a while, it is believed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};

use crate::domain::Timestamp;

/// What a clock that is kept right over the network may be moved by without a word.
const TOLERANCE: TimeDelta = TimeDelta::seconds(2);
/// How long the machine must stand by another time before it is believed.
const BELIEVED_AFTER: Duration = Duration::from_secs(60);

/// The time; clones are the same one.
#[derive(Clone)]
pub(super) struct Clock {
    anchor: Arc<Mutex<Anchor>>,
}

/// One look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    /// The time to go by.
    pub now: Timestamp,
    /// Whether the machine says another one.
    pub is_disputed: bool,
    /// What the machine says.
    wall: Timestamp,
}

impl Reading {
    /// Whether it may be too late, by either time.
    pub fn may_be_past(&self, deadline: Timestamp) -> bool {
        self.now >= deadline || self.wall >= deadline
    }
}

impl Clock {
    /// A clock that believes the machine.
    pub fn start() -> Self {
        Self {
            anchor: Arc::new(Mutex::new(Anchor {
                wall: Utc::now(),
                at: Instant::now(),
                disputed: None,
            })),
        }
    }

    /// Reads it.
    pub fn read(&self) -> Reading {
        // Each change is whole.
        let mut anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        anchor.read(Utc::now(), Instant::now())
    }

    /// The time to go by.
    pub fn now(&self) -> Timestamp {
        self.read().now
    }
}

/// A time of the machine that was believed, and when that was.
struct Anchor {
    wall: Timestamp,
    at: Instant,
    /// Since when the machine is off, and by how much.
    disputed: Option<(Instant, TimeDelta)>,
}

impl Anchor {
    fn read(&mut self, wall: Timestamp, at: Instant) -> Reading {
        let passed = TimeDelta::from_std(at.saturating_duration_since(self.at));
        let steady = passed
            .ok()
            .and_then(|passed| self.wall.checked_add_signed(passed))
            .unwrap_or(wall);
        let off = wall - steady;
        let believed = |anchor: &mut Self| {
            *anchor = Self {
                wall,
                at,
                disputed: None,
            };
            Reading {
                now: wall,
                is_disputed: false,
                wall,
            }
        };
        if off.abs() <= TOLERANCE {
            return believed(self);
        }
        match self.disputed {
            Some((since, was)) if (off - was).abs() <= TOLERANCE => {
                if at.saturating_duration_since(since) >= BELIEVED_AFTER {
                    return believed(self);
                }
            }
            _ => {
                tracing::warn!(
                    seconds = off.num_seconds(),
                    "the clock of the machine was set; nothing is dialled for a minute"
                );
                self.disputed = Some((at, off));
            }
        }
        Reading {
            now: steady,
            is_disputed: true,
            wall,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wall(second: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    #[test]
    fn a_clock_that_was_set_is_believed_only_after_a_while() {
        for jump in [86_400, -86_400] {
            let start = Instant::now();
            let mut anchor = Anchor {
                wall: wall(0),
                at: start,
                disputed: None,
            };
            let mut read = |second: u64, jump: i64| {
                let second_wall = i64::try_from(second).unwrap() + jump;
                anchor.read(wall(second_wall), start + Duration::from_secs(second))
            };
            let small = read(10, 1);
            assert!(!small.is_disputed && small.now == wall(11));
            let set = read(20, jump);
            assert!(set.is_disputed && set.now == wall(21), "{set:?}");
            assert_eq!(set.may_be_past(wall(60)), jump > 0);
            assert!(read(70, jump).is_disputed);
            let believed = read(81, jump);
            assert!(!believed.is_disputed && believed.now == wall(81 + jump));
        }
    }

    #[test]
    fn a_clock_that_comes_back_is_believed_at_once() {
        let start = Instant::now();
        let mut anchor = Anchor {
            wall: wall(0),
            at: start,
            disputed: None,
        };
        assert!(anchor.read(wall(3_600), start).is_disputed);
        let back = start + Duration::from_secs(5);
        assert!(!anchor.read(wall(5), back).is_disputed);
    }
}
