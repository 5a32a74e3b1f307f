//! What a call waits for: which timers an event needs, and what they do when they fire.

use chrono::TimeDelta;

use super::Outcome;
use super::step::Step;
use crate::domain::Timestamp;
use crate::domain::call::{Call, Completed, Log, Phase, Progress};
use crate::domain::event::{Change, Event};
use crate::domain::input::{End, EndReason};
use crate::domain::timer::{
    Arm, FILL_PATIENCE, FILLED_AFTER, Question, Timer, Times, hole_patience,
};
use crate::domain::transcript::Transcript;

/// The timers that must be armed before an event is published. `before` is how far its log had
/// come, `now` when its input was taken.
pub(super) fn after(
    before: Option<&Progress>,
    event: &Event,
    now: Timestamp,
    times: &Times,
) -> Vec<Arm> {
    let Log::Call(call) = &event.log else {
        return Vec::new();
    };
    match &event.change {
        Change::Ended | Change::Failed => {
            let finalize = finalize(call, false, times.finalize_after);
            let other_leg = call.other_leg.as_ref().map(|other| Arm {
                call: other.clone(),
                timer: Timer::Stale {
                    sequence: None,
                    gone: false,
                },
                after: times.other_leg_after,
            });
            [Some(finalize), other_leg].into_iter().flatten().collect()
        }
        Change::Said(said) if call.phase == Phase::Ended => {
            let after = if said.backfilled {
                FILLED_AFTER
            } else {
                times.finalize_after
            };
            vec![finalize(call, said.backfilled, after)]
        }
        _ if call.phase == Phase::Ended => Vec::new(),
        change => {
            // Timers live in the stream of inputs: one that was made anew has none. And what could
            // not be used may be the timer that was to be armed again.
            let none_is_armed = matches!(change, Change::Error { .. })
                || before
                    .is_none_or(|before| before.position.epoch != call.progress.position.epoch);
            // Armed with the first that is missing and not with each, it is not put off for ever.
            let begins_to_miss = call.progress.numbers.has_holes()
                && (none_is_armed || !before.is_some_and(|before| before.numbers.has_holes()));
            let stale = none_is_armed.then(|| stale(call, times.stale_after));
            let hole = begins_to_miss.then(|| hole(call, 0, now));
            [stale, hole].into_iter().flatten().collect()
        }
    }
}

fn hole(call: &Call, asked_to: u64, now: Timestamp) -> Arm {
    let age = call
        .progress
        .since
        .map_or(TimeDelta::zero(), |since| now - since);
    Arm {
        call: call.id.clone(),
        timer: Timer::Hole {
            asked_to,
            known_to: call.progress.numbers.last(),
        },
        after: hole_patience(age),
    }
}

fn finalize(call: &Call, filled: bool, after: chrono::TimeDelta) -> Arm {
    Arm {
        call: call.id.clone(),
        timer: Timer::Finalize { filled },
        after,
    }
}

fn stale(call: &Call, after: chrono::TimeDelta) -> Arm {
    Arm {
        call: call.id.clone(),
        timer: Timer::Stale {
            sequence: Some(call.progress.sequence),
            gone: false,
        },
        after,
    }
}

impl Step<'_> {
    /// Completes the transcript, but asks the history first. The second timer is armed before it
    /// is asked, so that a history which never answers holds up nothing.
    pub(super) fn finalize(&self, filled: bool) -> Outcome {
        let Some(call) = self.call.filter(|call| call.phase == Phase::Ended) else {
            return Outcome::Late;
        };
        if !call.awaits_completion() {
            return Outcome::Duplicate;
        }
        if !filled {
            return Outcome::Waiting {
                timers: vec![finalize(call, true, FILL_PATIENCE)],
                ask: Some(Question::History { completes: true }),
            };
        }
        let nothing = Transcript::default();
        let transcript = match &self.known.transcript {
            Some(transcript) => transcript.as_ref(),
            None if call.utterances == 0 => &nothing,
            None => return Self::without_transcript(),
        };
        let revision = call.completed.map_or(0, |completed| completed.revision) + 1;
        let conversation = transcript.complete(revision, &call.progress.numbers);
        let mut call = call.clone();
        call.completed = Some(Completed {
            revision,
            utterances: call.utterances,
        });
        self.applied(call, Change::Completed(Box::new(conversation)), None)
    }

    /// Asks the history for what has been waited for and did not come by itself; about each number
    /// that is missing once. After the end it is asked anyway.
    pub(super) fn hole(&self, asked_to: u64, known_to: u64) -> Outcome {
        let Some(call) = self.call.filter(|call| call.phase != Phase::Ended) else {
            return Outcome::Late;
        };
        let numbers = &call.progress.numbers;
        if !numbers.has_holes() {
            return Outcome::Late;
        }
        let (asked_to, ask) = if numbers.has_hole_between(asked_to, known_to) {
            (known_to, Some(Question::History { completes: false }))
        } else {
            (asked_to, None)
        };
        Outcome::Waiting {
            timers: vec![hole(call, asked_to, self.input.received_at)],
            ask,
        }
    }

    /// A call that went silent is over when the phone-call server does not have it, or when it is
    /// older than any call; never because of the silence alone.
    pub(super) fn stale(&self, sequence: Option<u64>, gone: bool) -> Outcome {
        let Some(call) = self.call.filter(|call| call.phase != Phase::Ended) else {
            return Outcome::Late;
        };
        let times = &self.policy.times;
        let wait = |after, ask| Outcome::Waiting {
            timers: vec![stale(call, after)],
            ask,
        };
        let Some(sequence) = sequence else {
            // The other leg has ended: from here on the silence counts.
            return wait(times.other_leg_after, None);
        };
        if sequence != call.progress.sequence {
            return wait(times.stale_after, None);
        }
        let detail = if times.is_too_old(call.progress.since, self.input.received_at) {
            "silent, and older than any call"
        } else if gone {
            "silent, and the voice server does not have it"
        } else {
            return wait(times.stale_after, Some(Question::Presence { sequence }));
        };
        self.ended(&End {
            reason: EndReason::Timeout,
            detail: Some(detail.to_owned()),
        })
    }
}
