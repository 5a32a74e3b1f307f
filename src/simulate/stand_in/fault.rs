//! What can be made to go wrong, one request at a time or for good.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The requests which faults can be put on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// `POST /call`
    Dial,
    /// `DELETE /call/{id}`
    Cancel,
    /// `GET /calls`
    Calls,
    /// Everything below `/history`
    History,
    /// `GET /health`
    Health,
    /// The tap's `POST /voicebus/calls/{id}/say` and `…/context`
    Speak,
}

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This answer, and nothing is done.
    Answer { status: u16, body: String },
    /// The connection is closed without an answer, and nothing is done.
    HangUp,
    /// Everything is done, then the connection is closed without an answer: the client cannot know.
    HangUpAfter,
    /// Everything is done, then half of the answer is written and the connection is closed.
    HalfAnswer,
    /// Nothing is done, and the answer is a good one that never ends.
    EndlessAnswer,
    /// Everything is done as always, and the answer comes late. The phone of a callee rings at once; the server learns
    /// of the call, lists it and sends its events when the time is over.
    Delay(Duration),
    /// Twilio does something else than place or cancel the call.
    Twilio(Twilio),
}

/// What Twilio can do to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Twilio {
    /// Refuses with one of its error codes: 21211 (not a phone number), 21215 (country not allowed), 20003
    /// (credentials), 20429 (too many requests), 20500 (its own fault). The server answers 400 to all of them.
    Refuses { code: u32 },
    /// Drops the connection and has done nothing. The server answers 500.
    ResetsBefore,
    /// Places the call and drops the connection before it says so: the phone rings, the server answers 500 and knows
    /// no call.
    ResetsAfter,
}

impl Fault {
    /// The fault that a `message` asks for, in the words of the captured requests, so that a stand-in in another
    /// process can be told what to do as well: `error:21211`, `reset_before`, `reset_after`, `hang_up`, `hang_up_after`
    /// and `slow:<milliseconds>`.
    pub fn scripted(message: &str) -> Option<Self> {
        match message {
            "reset_before" => Some(Self::Twilio(Twilio::ResetsBefore)),
            "reset_after" => Some(Self::Twilio(Twilio::ResetsAfter)),
            "hang_up" => Some(Self::HangUp),
            "hang_up_after" => Some(Self::HangUpAfter),
            _ => {
                if let Some(code) = message.strip_prefix("error:") {
                    return code
                        .parse()
                        .ok()
                        .map(|code| Self::Twilio(Twilio::Refuses { code }));
                }
                let wait_ms: u64 = message.strip_prefix("slow:")?.parse().ok()?;
                Some(Self::Delay(Duration::from_millis(wait_ms.min(SLOW_MS_MAX))))
            }
        }
    }
}

/// Longer than any patience a client should have.
const SLOW_MS_MAX: u64 = 600_000;

/// Twilio's HTTP status and words for one of its codes.
pub fn twilio_error(code: u32, to: &str) -> (u16, String) {
    match code {
        21211 => (
            400,
            format!("The 'To' number {to} is not a valid phone number."),
        ),
        21215 => (400, format!("Account not authorized to call {to}.")),
        20003 => (401, "Authenticate".to_owned()),
        20429 => (429, "Too Many Requests".to_owned()),
        20500 => (500, "An internal server error has occurred".to_owned()),
        other => (400, format!("Error {other}")),
    }
}

/// The faults that are set: those for one request first, then the one that stays.
#[derive(Debug, Default)]
pub struct Faults {
    once: BTreeMap<Route, VecDeque<Fault>>,
    always: BTreeMap<Route, Fault>,
}

impl Faults {
    pub fn inject(&mut self, route: Route, fault: Fault) {
        self.once.entry(route).or_default().push_back(fault);
    }

    pub fn always(&mut self, route: Route, fault: Option<Fault>) {
        match fault {
            Some(fault) => self.always.insert(route, fault),
            None => self.always.remove(&route),
        };
    }

    pub fn take(&mut self, route: Route) -> Option<Fault> {
        let once = self.once.get_mut(&route).and_then(VecDeque::pop_front);
        once.or_else(|| self.always.get(&route).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_can_ask_for_faults_and_ordinary_ones_do_not() {
        assert_eq!(
            Fault::scripted("error:20429"),
            Some(Fault::Twilio(Twilio::Refuses { code: 20429 }))
        );
        assert_eq!(
            Fault::scripted("slow:250"),
            Some(Fault::Delay(Duration::from_millis(250)))
        );
        for ordinary in ["", "Hello", "error: no", "slow:", "slow down"] {
            assert_eq!(Fault::scripted(ordinary), None, "{ordinary}");
        }
    }

    #[test]
    fn single_faults_go_first_and_in_order() {
        let mut faults = Faults::default();
        faults.always(Route::Dial, Some(Fault::HangUp));
        faults.inject(Route::Dial, Fault::HangUpAfter);
        assert_eq!(faults.take(Route::Calls), None);
        assert_eq!(faults.take(Route::Dial), Some(Fault::HangUpAfter));
        assert_eq!(faults.take(Route::Dial), Some(Fault::HangUp));
        faults.always(Route::Dial, None);
        assert_eq!(faults.take(Route::Dial), None);
    }
}
