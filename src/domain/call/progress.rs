//! How far a log has come: the router's own bookkeeping.

use std::collections::VecDeque;

use super::Numbers;
use crate::domain::Timestamp;
use crate::domain::ids::EventId;
use crate::domain::input::{Input, Position};

/// Fingerprints of recent inputs kept per log. The real emitter displaces events by up to 12
/// places and repeats them at once, so 32 catches its repeats with room; older repeats are caught
/// by what they say.
pub const RECENT_INPUTS_MAX: usize = 32;

/// How far a log has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Number of the last event, from 1, without a hole.
    pub sequence: u64,
    /// The last input that had an effect.
    pub position: Position,
    /// When the first input was taken, by our own clock; a sender's may be hours off.
    pub since: Option<Timestamp>,
    /// The sender's own numbers of the inputs that had an effect.
    pub numbers: Numbers,
    recent: VecDeque<u64>,
}

impl Progress {
    /// Rebuilds the bookkeeping that an event carries.
    #[must_use]
    pub fn restore(
        sequence: u64,
        position: Position,
        recent: impl IntoIterator<Item = u64>,
    ) -> Self {
        let mut recent: VecDeque<u64> = recent.into_iter().collect();
        while recent.len() > RECENT_INPUTS_MAX {
            recent.pop_front();
        }
        Self {
            sequence,
            position,
            recent,
            ..Self::default()
        }
    }

    /// Fingerprints of the inputs that had an effect lately, oldest first.
    pub fn recent(&self) -> impl Iterator<Item = u64> {
        self.recent.iter().copied()
    }

    /// Whether an input had its effect already.
    #[must_use]
    pub fn has(&self, id: &EventId, position: Position) -> bool {
        self.position.covers(position) || self.recent.contains(&id.fingerprint())
    }

    /// The bookkeeping after one more event.
    #[must_use]
    pub fn next(&self, id: &EventId, position: Position) -> Self {
        let mut next = self.clone();
        if next.recent.len() == RECENT_INPUTS_MAX {
            next.recent.pop_front();
        }
        next.recent.push_back(id.fingerprint());
        next.sequence += 1;
        next.position = position;
        next
    }

    /// The bookkeeping after the event that an input led to.
    #[must_use]
    pub fn after(&self, input: &Input) -> Self {
        let mut next = self.next(&input.id, input.position);
        next.since = self.since.or(Some(input.received_at));
        if let Some(number) = input.source_sequence {
            next.numbers.insert(number);
        }
        next
    }
}
