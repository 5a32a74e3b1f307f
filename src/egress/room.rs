//! Whether there is room to write down what becomes of dials.
//!
//! A record that cannot be written is a dial that cannot be kept from being repeated. So the bucket
//! is never filled up with new dials: the last tenth of it is for the ends of those that are under
//! way, and for telling everybody else that theirs is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::intent::Intents;
use crate::bus::bucket::Error;

/// New dials are refused from here on. A tenth of the bucket is some 100,000 refusals.
const USED_UP_AT: f64 = 0.9;

/// What a dial is refused with then, for programs and for people.
pub(super) const RECORDS_FULL: (&str, &str) = (
    "records-full",
    "the bucket VOICE_INTENT, where dials are recorded, is nearly full, so nothing is dialled until an operator has made it larger",
);

/// How much of the bucket is used, as of the last look; clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Room {
    used: Arc<AtomicU64>,
}

impl Room {
    /// Looks.
    pub(super) async fn look(&self, intents: &Intents) -> Result<(), Error> {
        let used = intents.fullness().await?;
        if used >= USED_UP_AT && !self.is_used_up() {
            tracing::error!(used, "{}", RECORDS_FULL.1);
        }
        self.used.store(used.to_bits(), Ordering::Relaxed);
        Ok(())
    }

    /// From 0 to 1.
    #[must_use]
    pub fn used(&self) -> f64 {
        f64::from_bits(self.used.load(Ordering::Relaxed))
    }

    /// Whether no new dial may be recorded.
    pub(super) fn is_used_up(&self) -> bool {
        self.used() >= USED_UP_AT
    }
}
