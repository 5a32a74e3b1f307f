//! Whether a dial may leave at this moment: is the phone-call server well, does it take what it
//! gets, are the records those that were written, and is the time certain.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::circuit::{Circuit, Refusal};
use super::clock::Clock;
use super::high_water::HighWater;
use super::{Health, VoiceServerState};
use crate::domain::command::Reason;

#[derive(Clone)]
pub(super) struct Gate {
    health: Health,
    circuit: Arc<Mutex<Circuit>>,
    high_water: HighWater,
    clock: Clock,
}

/// The right to send one dial.
pub(super) struct Permit {
    circuit: Arc<Mutex<Circuit>>,
    well: Option<bool>,
}

impl Gate {
    /// A gate for at most `width_max` dials at once.
    pub fn new(health: Health, high_water: HighWater, clock: Clock, width_max: usize) -> Self {
        Self {
            health,
            circuit: Arc::new(Mutex::new(Circuit::new(width_max))),
            high_water,
            clock,
        }
    }

    /// Lets one dial through, or says what is in the way. Nothing in the way lasts for ever, so the
    /// dial waits; its deadline is the bound.
    pub fn admit(&self) -> Result<Permit, Reason> {
        if let Some(reason) = self.closed() {
            return Err(reason);
        }
        let admitted = lock(&self.circuit).admit(Instant::now());
        match admitted {
            Ok(()) => Ok(Permit {
                circuit: Arc::clone(&self.circuit),
                well: None,
            }),
            Err(Refusal::Open) => Err(circuit_is_open()),
            Err(Refusal::Full) => Err(Reason::new(
                "server-busy",
                "as many calls are being placed as the voice server has shown to take",
            )),
        }
    }

    /// Why no dial leaves at all, if that is so.
    pub fn closed(&self) -> Option<Reason> {
        if let Some(why) = self.high_water.safe_mode() {
            return Some(Reason::new("safe-mode", why));
        }
        if self.clock.read().is_disputed {
            let text = "the clock of the machine was set a moment ago";
            return Some(Reason::new("clock-set", text));
        }
        let unwell = match self.health.state() {
            VoiceServerState::Healthy { .. } => None,
            VoiceServerState::Unknown => Some("the voice server has not been looked at yet"),
            VoiceServerState::Unhealthy => Some("the voice server is not well"),
            VoiceServerState::Unreachable => Some("the voice server cannot be reached"),
        };
        if let Some(unwell) = unwell {
            lock(&self.circuit).begin_anew();
            return Some(Reason::new("server-away", unwell));
        }
        lock(&self.circuit)
            .is_open(Instant::now())
            .then(circuit_is_open)
    }
}

impl Permit {
    /// The server was asked, and this is how it took it.
    pub fn went(&mut self, well: bool) {
        self.well = Some(well);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        lock(&self.circuit).ended(self.well, Instant::now());
    }
}

fn circuit_is_open() -> Reason {
    Reason::new(
        "server-failing",
        "the voice server has failed several times in a row; it is left alone for a moment",
    )
}

fn lock(circuit: &Mutex<Circuit>) -> MutexGuard<'_, Circuit> {
    // Each change is whole.
    circuit.lock().unwrap_or_else(PoisonError::into_inner)
}
