//! The transcript that a worker read last, kept while it is being filled in.

use std::sync::Arc;

use crate::domain::call::Log;
use crate::domain::event::{Change, Event};
use crate::domain::ids::CallId;
use crate::domain::transcript::{Spoken, Transcript};

/// The transcript of one call as its log had it at one event.
pub(super) struct Kept {
    call: CallId,
    /// Stream sequence of that event.
    last: u64,
    transcript: Arc<Transcript>,
}

impl Kept {
    pub fn new(call: CallId, last: u64, transcript: Arc<Transcript>) -> Self {
        Self {
            call,
            last,
            transcript,
        }
    }

    /// The transcript, if it is that of this very state of this call.
    pub fn of(&self, call: &CallId, last: u64) -> Option<&Arc<Transcript>> {
        (self.call == *call && self.last == last).then_some(&self.transcript)
    }

    /// What to keep after an event was committed at `last`, to a log that stood at `before`. A
    /// completed transcript is not wanted any more.
    pub fn after(mut self, event: &Event, before: u64, last: u64) -> Option<Self> {
        let Log::Call(call) = &event.log else {
            return Some(self);
        };
        if call.id != self.call {
            return Some(self);
        }
        if self.last != before {
            return None;
        }
        self.last = last;
        match &event.change {
            Change::Completed(_) => return None,
            Change::Said(said) => {
                let spoken = Spoken {
                    sequence: call.progress.sequence,
                    said: said.clone(),
                };
                Arc::make_mut(&mut self.transcript).spoken.push(spoken);
            }
            _ => {}
        }
        Some(self)
    }
}
