//! How many dials may be under way, as far as the phone-call server has shown that it can take
//! them. Pure: times come in as arguments.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row after which nothing is sent for a while.
const FAILURES_MAX: u32 = 3;
/// That while.
const PAUSE: Duration = Duration::from_secs(10);

/// Opens after failures, closes step by step.
#[derive(Debug)]
pub(super) struct Circuit {
    width_max: usize,
    width: usize,
    in_flight: usize,
    failures: u32,
    open_until: Option<Instant>,
}

/// Why nothing may be sent at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It has failed too often.
    Open,
    /// As much as it has shown to take is under way.
    Full,
}

impl Circuit {
    /// At most so many at once; one, to begin with.
    pub fn new(width_max: usize) -> Self {
        Self {
            width_max,
            width: 1,
            in_flight: 0,
            failures: 0,
            open_until: None,
        }
    }

    /// Whether one more may be sent; if so, it must be followed by [`Circuit::ended`].
    pub fn admit(&mut self, now: Instant) -> Result<(), Refusal> {
        if self.open_until.is_some_and(|until| now < until) {
            return Err(Refusal::Open);
        }
        if self.in_flight >= self.width {
            return Err(Refusal::Full);
        }
        self.in_flight += 1;
        Ok(())
    }

    /// One that was admitted is over: `Some(true)` when the server took it well, `None` when it was
    /// not asked.
    pub fn ended(&mut self, well: Option<bool>, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match well {
            None => {}
            Some(true) => {
                self.failures = 0;
                self.open_until = None;
                self.width = (self.width * 2).min(self.width_max);
            }
            Some(false) => {
                self.failures += 1;
                self.width = 1;
                if self.failures >= FAILURES_MAX {
                    self.open_until = Some(now + PAUSE);
                }
            }
        }
    }

    /// The server was away: what it could take before says nothing any more.
    pub fn begin_anew(&mut self) {
        self.width = 1;
    }

    /// Whether it has failed too often.
    pub fn is_open(&self, now: Instant) -> bool {
        self.open_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_takes_dials_well_gets_twice_as_many_each_time() {
        let now = Instant::now();
        let mut circuit = Circuit::new(8);
        for width in [1, 2, 4, 8, 8] {
            for _ in 0..width {
                circuit.admit(now).unwrap();
            }
            assert_eq!(circuit.admit(now), Err(Refusal::Full), "{width}");
            circuit.ended(Some(true), now);
            for _ in 1..width {
                circuit.ended(None, now);
            }
        }
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_dial_tries_it_again() {
        let now = Instant::now();
        let mut circuit = Circuit::new(8);
        for _ in 0..FAILURES_MAX {
            circuit.admit(now).unwrap();
            circuit.ended(Some(false), now);
        }
        assert_eq!(circuit.admit(now), Err(Refusal::Open));
        let later = now + PAUSE;
        assert!(!circuit.is_open(later));
        circuit.admit(later).unwrap();
        assert_eq!(circuit.admit(later), Err(Refusal::Full));
        circuit.ended(Some(false), later);
        assert_eq!(circuit.admit(later), Err(Refusal::Open));
        let later = later + PAUSE;
        circuit.admit(later).unwrap();
        circuit.ended(Some(true), later);
        circuit.admit(later).unwrap();
        circuit.admit(later).unwrap();
    }

    #[test]
    fn a_success_in_between_forgives() {
        let now = Instant::now();
        let mut circuit = Circuit::new(8);
        for well in [false, false, true, false, false] {
            circuit.admit(now).unwrap();
            circuit.ended(Some(well), now);
        }
        circuit.admit(now).unwrap();
    }
}
