//! From what happened to what must be stored and done: the only place that decides.

use chrono::TimeDelta;

use super::{
    Attempt, Decision, Evidence, Happened, Meaning, Record, Resolution, SENDING_TIME_MAX,
    SETTLE_TIME, State, Then, Wish,
};
use crate::domain::Timestamp;
use crate::domain::command::Reason;

/// How far the clocks of two workers may be apart.
const CLOCK_SLACK: TimeDelta = TimeDelta::seconds(60);

/// What follows from what happened. Pure: the same arguments give the same answer.
#[must_use]
pub fn next(record: Option<&Record>, happened: &Happened, now: Timestamp) -> Decision {
    let step = Step { record, now };
    match happened {
        Happened::Asked(wish) => step.asked(wish),
        Happened::Forbidden { reason, passes_at } => step.while_waiting(State::Refused {
            reason: reason.clone(),
            passes_at: *passes_at,
        }),
        Happened::HeldUp(reason) => step.held_up(reason),
        Happened::Ready(attempt) => step.ready(attempt),
        Happened::NotSent { nonce, reason } => step.not_sent(nonce, reason),
        Happened::Answered { nonce, meaning } => step.answered(nonce, meaning),
        Happened::Looked(evidence) => step.looked(evidence),
        Happened::Cancelled => step.cancelled(),
        Happened::Resolved(resolution) => step.resolved(resolution),
        Happened::GivenUp(reason) => step.given_up(reason),
    }
}

struct Step<'a> {
    record: Option<&'a Record>,
    now: Timestamp,
}

impl Step<'_> {
    fn asked(&self, wish: &Wish) -> Decision {
        let Some(record) = self.record else {
            let late = self.now >= wish.deadline;
            let state = if late {
                State::Expired
            } else {
                State::Waiting { reason: None }
            };
            let record = Record {
                wish: Some(wish.clone()),
                state,
                at: self.now,
            };
            return Decision {
                record: Some(record),
                then: if late { Then::Tell } else { Then::Prepare },
            };
        };
        let is_another = |known: &Wish| known.fingerprint != wish.fingerprint;
        if record.wish.as_ref().is_some_and(is_another) {
            return Decision::only(Then::Conflict);
        }
        match &record.state {
            State::Waiting { .. } if self.is_late() => self.to(State::Expired, Then::Tell),
            State::Waiting { .. } => Decision::only(Then::Prepare),
            State::Sending(attempt) if self.age(attempt) < SENDING_TIME_MAX => {
                Decision::only(Then::ComeAgain)
            }
            State::Sending(attempt) => self.lost(
                attempt,
                Reason::new(
                    "interrupted",
                    "the worker was stopped while the call was being placed; the phone may have rung",
                ),
            ),
            State::Unknown { settled: false, .. } => Decision::only(Then::Look),
            _ => Decision::only(Then::Tell),
        }
    }

    /// Only a wish of which nothing has left can come to an end by itself.
    fn while_waiting(&self, end: State) -> Decision {
        match self.state() {
            Some(State::Waiting { .. }) => self.to(end, Then::Tell),
            _ => self.overtaken(),
        }
    }

    fn held_up(&self, reason: &Reason) -> Decision {
        match self.state() {
            Some(State::Waiting { .. }) if self.is_late() => self.to(State::Expired, Then::Tell),
            Some(State::Waiting { reason: known })
                if known.as_ref().is_none_or(|known| known.code != reason.code) =>
            {
                let reason = Some(reason.clone());
                self.to(State::Waiting { reason }, Then::ComeAgain)
            }
            _ => self.overtaken(),
        }
    }

    fn ready(&self, attempt: &Attempt) -> Decision {
        match self.state() {
            Some(State::Waiting { .. }) if self.is_late() => self.to(State::Expired, Then::Tell),
            Some(State::Waiting { .. }) => self.to(State::Sending(attempt.clone()), Then::Send),
            _ => self.overtaken(),
        }
    }

    fn not_sent(&self, nonce: &str, reason: &Reason) -> Decision {
        match self.state() {
            Some(State::Sending(attempt) | State::Unknown { attempt, .. })
                if attempt.nonce == nonce =>
            {
                self.wait_again(reason)
            }
            _ => self.overtaken(),
        }
    }

    fn answered(&self, nonce: &str, meaning: &Meaning) -> Decision {
        let of_this = |attempt: &Attempt| attempt.nonce == nonce;
        let attempt = match self.state() {
            Some(State::Sending(attempt) | State::Unknown { attempt, .. }) => Some(attempt),
            _ => None,
        };
        match (self.state(), meaning) {
            // A call that was made is a fact, whichever attempt made it.
            (Some(state), Meaning::Placed(call)) if !state.is_final() => {
                self.to(State::Confirmed { call: call.clone() }, Then::Tell)
            }
            (Some(_), Meaning::Refused(reason)) if attempt.is_some_and(of_this) => self.to(
                State::Refused {
                    reason: reason.clone(),
                    passes_at: None,
                },
                Then::Tell,
            ),
            (Some(_), Meaning::NotTaken(reason)) if attempt.is_some_and(of_this) => {
                self.wait_again(reason)
            }
            (Some(State::Sending(attempt)), Meaning::Unknown(reason)) if of_this(attempt) => {
                self.lost(attempt, reason.clone())
            }
            _ => self.overtaken(),
        }
    }

    fn looked(&self, evidence: &Evidence) -> Decision {
        let Some(State::Unknown {
            attempt,
            reason,
            settled,
        }) = self.state()
        else {
            return self.overtaken();
        };
        match evidence {
            Evidence::Found(call) => self.to(State::Confirmed { call: call.clone() }, Then::Tell),
            Evidence::Refused(reason) => self.to(
                State::Refused {
                    reason: reason.clone(),
                    passes_at: None,
                },
                Then::Tell,
            ),
            Evidence::NeverTaken => self.wait_again(&Reason::new(
                "never-taken",
                "the voice server has never seen the request",
            )),
            Evidence::Nothing if *settled => Decision::only(Then::Tell),
            Evidence::Nothing if self.age(attempt) >= SETTLE_TIME => self.to(
                State::Unknown {
                    attempt: attempt.clone(),
                    reason: reason.clone(),
                    settled: true,
                },
                Then::Tell,
            ),
            Evidence::Nothing => Decision::only(Then::TellAndLookAgain),
        }
    }

    fn cancelled(&self) -> Decision {
        match self.record {
            None => Decision {
                record: Some(Record {
                    wish: None,
                    state: State::Cancelled,
                    at: self.now,
                }),
                // Nobody has asked for it yet, so nobody is told yet.
                then: Then::Nothing,
            },
            // It may have been sent, and nothing more will happen by itself.
            Some(Record {
                state: State::Unknown { settled: true, .. },
                ..
            }) => Decision::only(Then::Nothing),
            Some(_) => self.while_waiting(State::Cancelled),
        }
    }

    fn resolved(&self, resolution: &Resolution) -> Decision {
        match self.state() {
            Some(State::Unknown { .. }) => {
                let end = match resolution {
                    Resolution::Confirmed(call) => State::Confirmed { call: call.clone() },
                    Resolution::Abandoned(reason) => State::Abandoned {
                        reason: reason.clone(),
                    },
                };
                self.to(end, Then::Tell)
            }
            Some(state) if state.is_final() => Decision::only(Then::Tell),
            _ => Decision::only(Then::Nothing),
        }
    }

    fn given_up(&self, reason: &Reason) -> Decision {
        let refused = State::Refused {
            reason: reason.clone(),
            passes_at: None,
        };
        match self.state() {
            None => Decision {
                record: Some(Record {
                    wish: None,
                    state: refused,
                    at: self.now,
                }),
                then: Then::Tell,
            },
            Some(State::Waiting { .. }) => self.to(refused, Then::Tell),
            Some(State::Sending(attempt) | State::Unknown { attempt, .. }) => self.to(
                State::Unknown {
                    attempt: attempt.clone(),
                    reason: reason.clone(),
                    settled: true,
                },
                Then::Tell,
            ),
            Some(_) => Decision::only(Then::Tell),
        }
    }

    /// Nothing has left, after all.
    fn wait_again(&self, reason: &Reason) -> Decision {
        if self.is_late() {
            return self.to(State::Expired, Then::Tell);
        }
        let reason = Some(reason.clone());
        self.to(State::Waiting { reason }, Then::ComeAgain)
    }

    fn lost(&self, attempt: &Attempt, reason: Reason) -> Decision {
        let unknown = State::Unknown {
            attempt: attempt.clone(),
            reason,
            settled: false,
        };
        self.to(unknown, Then::Look)
    }

    /// What happened is about a state that is past: somebody else has brought it further.
    fn overtaken(&self) -> Decision {
        match self.state() {
            None => Decision::only(Then::Nothing),
            Some(state) if state.is_final() => Decision::only(Then::Tell),
            Some(_) => Decision::only(Then::ComeAgain),
        }
    }

    fn state(&self) -> Option<&State> {
        self.record.map(|record| &record.state)
    }

    /// One of the future was written before a clock was set back: it is old.
    fn age(&self, attempt: &Attempt) -> TimeDelta {
        let age = self.now - attempt.at;
        if age < -CLOCK_SLACK {
            return TimeDelta::MAX;
        }
        age
    }

    fn is_late(&self) -> bool {
        let wish = self.record.and_then(|record| record.wish.as_ref());
        wish.is_none_or(|wish| self.now >= wish.deadline)
    }

    fn to(&self, state: State, then: Then) -> Decision {
        let wish = self.record.and_then(|record| record.wish.clone());
        let record = Some(Record {
            wish,
            state,
            at: self.now,
        });
        Decision { record, then }
    }
}

impl Decision {
    fn only(then: Then) -> Self {
        Self { record: None, then }
    }
}
