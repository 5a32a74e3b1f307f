//! The one step of the router: what does this input mean for this log?

use super::call::{Call, CommandLog, Log, Phase, Progress};
use super::command::Report;
use super::event::{Change, Event, Said};
use super::ids::{IntentId, SessionKey};
use super::input::{Direction, End, EndReason, Input, InputKind, Speaker, Utterance};
use super::phone::{E164, Party};
use super::session::{Binding, Claim, Facts, Policy, Resolution, Rule, resolve};

/// What an input comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Something happened. `claim` must be remembered before the event is published.
    Applied {
        /// The one output.
        event: Box<Event>,
        /// What must be remembered under the caller's number.
        claim: Option<Claim>,
    },
    /// It had its effect already, or says nothing new.
    Duplicate,
    /// It tells of a state that the call has left behind.
    Late,
    /// It cannot be true of this log; see [`reject`].
    Rejected(Rejection),
}

/// Why an input cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// A stable word for programs; also the last token of the dead letter's subject.
    pub code: &'static str,
    /// A sentence for people.
    pub text: String,
}

/// Holds an input against the log it belongs to. Pure: the same arguments give the same answer,
/// and an input whose effect `log` already has gives [`Outcome::Duplicate`].
///
/// `facts` are looked up by [`lookup_number`] before the call.
#[must_use]
pub fn apply(log: Option<&Log>, input: &Input, facts: &Facts, policy: &Policy) -> Outcome {
    if log.is_some_and(|log| log.progress().has(&input.id, input.position)) {
        return Outcome::Duplicate;
    }
    match (log, &input.kind) {
        (None, InputKind::Command(report)) => command_step(None, report, input),
        (Some(Log::Command(known)), InputKind::Command(report)) => {
            command_step(Some(known), report, input)
        }
        (Some(Log::Call(_)), InputKind::Command(_)) => Outcome::Rejected(Rejection {
            code: "command-for-call",
            text: "the id of the command is already the id of a call".to_owned(),
        }),
        (Some(Log::Command(_)), _) => Outcome::Rejected(Rejection {
            code: "event-for-command",
            text: "the call id of the event is already the id of a command".to_owned(),
        }),
        (Some(Log::Call(call)), kind) => Step {
            call: Some(call),
            input,
            facts,
            policy,
        }
        .take(kind),
        (None, kind) => Step {
            call: None,
            input,
            facts,
            policy,
        }
        .take(kind),
    }
}

/// The number whose facts [`apply`] wants for this input, if any.
#[must_use]
pub fn lookup_number<'a>(log: Option<&Log>, input: &'a Input) -> Option<&'a E164> {
    let InputKind::Started { party, .. } = &input.kind else {
        return None;
    };
    match log {
        Some(Log::Call(call)) if call.has_begun() => None,
        _ => party.as_ref().and_then(Party::number),
    }
}

/// The event that tells the log of an input which lies in the dead letters as number `letter`.
#[must_use]
pub fn reject(
    log: Option<&Log>,
    input: &Input,
    rejection: &Rejection,
    letter: u64,
    policy: &Policy,
) -> Event {
    let mut log = log.cloned().unwrap_or_else(|| {
        let binding = Binding {
            key: SessionKey::per_call(&policy.agent, &input.call),
            rule: Rule::Provisional,
        };
        Log::Call(Call::unknown(input.call.clone(), binding))
    });
    let next = log.progress().next(&input.id, input.position);
    match &mut log {
        Log::Call(call) => call.progress = next,
        Log::Command(command) => command.progress = next,
    }
    let change = Change::Error {
        code: rejection.code.to_owned(),
        text: rejection.text.clone(),
        letter,
    };
    Event {
        id: input.id.clone(),
        time: input.time(),
        change,
        log,
    }
}

fn command_step(known: Option<&CommandLog>, report: &Report, input: &Input) -> Outcome {
    if let Some(known) = known
        && !known.report.status.may_become(report.status)
    {
        return Outcome::Duplicate;
    }
    let progress = known.map_or_else(Progress::default, |known| known.progress.clone());
    let log = CommandLog {
        progress: progress.next(&input.id, input.position),
        report: report.clone(),
        at: input.time(),
    };
    let event = Event {
        id: input.id.clone(),
        time: input.time(),
        change: Change::Command,
        log: Log::Command(log),
    };
    Outcome::Applied {
        event: Box::new(event),
        claim: None,
    }
}

/// One input held against one call.
struct Step<'a> {
    call: Option<&'a Call>,
    input: &'a Input,
    facts: &'a Facts,
    policy: &'a Policy,
}

impl Step<'_> {
    fn take(&self, kind: &InputKind) -> Outcome {
        match kind {
            InputKind::Started { direction, party } => self.started(*direction, party.as_ref()),
            InputKind::Dialled {
                intent,
                session,
                to,
            } => self.dialled(intent, session, to),
            InputKind::Ringing => self.ringing(),
            InputKind::Answered => self.answered(),
            InputKind::Ended(end) => self.ended(end),
            InputKind::Cancelled => self.cancelled(),
            InputKind::Utterance(utterance) => self.utterance(utterance),
            InputKind::Audio(mark) => self.applied(self.known(), Change::Audio(*mark), None),
            InputKind::Context(context) => self.context(context),
            InputKind::Command(_) => Outcome::Duplicate,
        }
    }

    /// The call as known so far; a first word from it makes it known.
    fn known(&self) -> Call {
        self.call.cloned().unwrap_or_else(|| {
            let binding = self.resolve(None, None).binding;
            Call::unknown(self.input.call.clone(), binding)
        })
    }

    fn resolve(&self, direction: Option<Direction>, party: Option<&Party>) -> Resolution {
        resolve(
            &self.input.call,
            direction,
            party,
            self.facts,
            self.policy,
            self.input.received_at,
        )
    }

    fn applied(&self, mut call: Call, change: Change, claim: Option<Claim>) -> Outcome {
        call.progress = call.progress.next(&self.input.id, self.input.position);
        let event = Event {
            id: self.input.id.clone(),
            time: self.input.time(),
            change,
            log: Log::Call(call),
        };
        Outcome::Applied {
            event: Box::new(event),
            claim,
        }
    }

    fn started(&self, direction: Option<Direction>, party: Option<&Party>) -> Outcome {
        let number = party.and_then(Party::number);
        let mut call = self.known();
        if call.has_begun() {
            return Self::begun_again(&call, direction, number);
        }
        let resolution = self.resolve(direction, party);
        let was = call.binding.key.clone();
        call.direction = direction;
        call.number = number.cloned();
        call.initiated_at = Some(self.input.time());
        call.intent = resolution.intent;
        call.other_leg = resolution.other_leg;
        if resolution.binding.rule <= call.binding.rule {
            call.binding = resolution.binding;
        }
        let moved = self.call.is_some() && call.binding.key != was;
        if call.phase == Phase::Ended && !moved {
            return Outcome::Late;
        }
        call.phase = call.phase.max(Phase::Initiated);
        let change = if moved {
            Change::Rebound { from: was }
        } else {
            Change::Initiated
        };
        self.applied(call, change, resolution.claim)
    }

    /// The real server tells of a beginning as often as it is told of it itself. Only one that
    /// contradicts the first is worth a word.
    fn begun_again(call: &Call, direction: Option<Direction>, number: Option<&E164>) -> Outcome {
        let other_number =
            number.is_some() && call.number.is_some() && number != call.number.as_ref();
        let other_direction =
            direction.is_some() && call.direction.is_some() && direction != call.direction;
        if other_number || other_direction {
            let what = if other_number {
                "another number"
            } else {
                "another direction"
            };
            return Outcome::Rejected(Rejection {
                code: "contradiction",
                text: format!("the call began before with {what}; the first is kept"),
            });
        }
        Outcome::Duplicate
    }

    /// Rule 1: the command that made the call names its session, whenever word of it comes.
    fn dialled(&self, intent: &IntentId, session: &SessionKey, to: &E164) -> Outcome {
        let binding = Binding {
            key: session.clone(),
            rule: Rule::Command,
        };
        let mut call = match self.call {
            Some(call) => call.clone(),
            None => Call::unknown(self.input.call.clone(), binding.clone()),
        };
        let was = std::mem::replace(&mut call.binding, binding).key;
        let began = call.has_begun();
        call.intent = Some(intent.clone());
        call.direction = Some(Direction::Outbound);
        call.number = Some(to.clone());
        call.initiated_at.get_or_insert(self.input.time());
        if self.call.is_some() && was != *session {
            return self.applied(call, Change::Rebound { from: was }, None);
        }
        if began {
            return Outcome::Duplicate;
        }
        if call.phase == Phase::Ended {
            return Outcome::Late;
        }
        call.phase = call.phase.max(Phase::Initiated);
        self.applied(call, Change::Initiated, None)
    }

    fn ringing(&self) -> Outcome {
        let mut call = self.known();
        if call.phase >= Phase::Ringing {
            return if call.phase == Phase::Ringing {
                Outcome::Duplicate
            } else {
                Outcome::Late
            };
        }
        call.phase = Phase::Ringing;
        self.applied(call, Change::Ringing, None)
    }

    fn answered(&self) -> Outcome {
        let mut call = self.known();
        if call.phase == Phase::Ended {
            return Outcome::Late;
        }
        if call.answered_at.is_some() {
            return Outcome::Duplicate;
        }
        call.phase = Phase::Active;
        call.answered_at = Some(self.input.time());
        self.applied(call, Change::Answered, None)
    }

    fn ended(&self, end: &End) -> Outcome {
        let mut call = self.known();
        if call.phase == Phase::Ended {
            return Outcome::Duplicate;
        }
        call.phase = Phase::Ended;
        call.end = Some((self.input.time(), end.clone()));
        let change = if end.reason.is_failure() {
            Change::Failed
        } else {
            Change::Ended
        };
        self.applied(call, change, None)
    }

    /// A cancellation ends a call that has not been picked up. It does not hang up a connected one
    /// (Twilio's `Status=canceled`), so there the end is still to come.
    fn cancelled(&self) -> Outcome {
        match self.call {
            Some(call) if call.phase >= Phase::Active => Outcome::Late,
            _ => self.ended(&End {
                reason: EndReason::Canceled,
                detail: None,
            }),
        }
    }

    fn context(&self, context: &str) -> Outcome {
        let call = self.known();
        if call.phase == Phase::Ended {
            return Outcome::Late;
        }
        self.applied(call, Change::Context(context.to_owned()), None)
    }

    fn utterance(&self, utterance: &Utterance) -> Outcome {
        let mut call = self.known();
        let after_end = call.phase == Phase::Ended;
        if utterance.speaker != Speaker::System {
            // Who speaks is connected, whether or not the answer was heard of.
            call.phase = call.phase.max(Phase::Active);
        }
        call.utterances += 1;
        let said = Said {
            utterance: utterance.clone(),
            source_sequence: self.input.source_sequence,
            after_end,
        };
        self.applied(call, Change::Said(said), None)
    }
}

#[cfg(test)]
mod tests;
