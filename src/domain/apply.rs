//! The one step of the router: what does this input mean for this log?

mod step;
mod timers;

use std::sync::Arc;

use super::call::{Call, CommandLog, Log, Progress};
use super::command::Report;
use super::event::{Change, Event};
use super::ids::SessionKey;
use super::input::{Input, InputKind};
use super::phone::{E164, Party};
use super::session::{Binding, Claim, Facts, Link, Policy, Rule};
use super::timer::{Arm, Question, Timer};
use super::transcript::Transcript;

use step::Step;

/// What an input comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Something happened. `claim` must be remembered and `timers` armed before the event is
    /// published.
    Applied {
        /// The one output.
        event: Box<Event>,
        /// What must be remembered under the caller's number.
        claim: Option<Claim>,
        /// What must come later.
        timers: Vec<Arm>,
    },
    /// Nothing happened that anybody need know, but it is not the end of the matter: `timers` must
    /// be armed, and then `ask` may be asked. An answer that never comes changes nothing.
    Waiting {
        /// What must come later.
        timers: Vec<Arm>,
        /// What may bring it sooner.
        ask: Option<Question>,
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

/// What [`apply`] must be told besides the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The facts of this number.
    pub number: Option<&'a E164>,
    /// The transcript of the call.
    pub transcript: bool,
}

/// What was found of what is [`Wanted`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    /// The facts of the number.
    pub facts: Facts,
    /// The transcript of the call, as the same log has it.
    pub transcript: Option<Arc<Transcript>>,
}

/// Holds an input against the log it belongs to. Pure: the same arguments give the same answer,
/// and an input whose effect `log` already has gives [`Outcome::Duplicate`].
///
/// `known` is what [`wanted`] asks for.
#[must_use]
pub fn apply(log: Option<&Log>, input: &Input, known: &Known, policy: &Policy) -> Outcome {
    if log.is_some_and(|log| log.progress().has(&input.id, input.position)) {
        return Outcome::Duplicate;
    }
    match (log, &input.kind) {
        (None, InputKind::Command(report)) => command_step(None, report, input),
        (Some(Log::Command(command)), InputKind::Command(report)) => {
            command_step(Some(command), report, input)
        }
        (Some(Log::Command(command)), InputKind::Linked(link)) => link_step(command, link, input),
        // A timer that was armed for an event which lost its race.
        (Some(Log::Command(_)), InputKind::Timer(_)) => Outcome::Late,
        (Some(Log::Call(_)), InputKind::Command(_) | InputKind::Linked(_)) => {
            Outcome::Rejected(Rejection {
                code: "command-for-call",
                text: "the id of the command is already the id of a call".to_owned(),
            })
        }
        // It comes after the report that its command was taken.
        (None, InputKind::Linked(_)) => Outcome::Rejected(Rejection {
            code: "no-command",
            text: "nothing is known of the command that made the link".to_owned(),
        }),
        (Some(Log::Command(_)), _) => Outcome::Rejected(Rejection {
            code: "event-for-command",
            text: "the call id of the event is already the id of a command".to_owned(),
        }),
        (Some(Log::Call(call)), kind) => Step {
            call: Some(call),
            input,
            known,
            policy,
        }
        .take(kind),
        (None, kind) => Step {
            call: None,
            input,
            known,
            policy,
        }
        .take(kind),
    }
}

/// What [`apply`] must be told for this input.
#[must_use]
pub fn wanted<'a>(log: Option<&Log>, input: &'a Input) -> Wanted<'a> {
    let call = match log {
        Some(Log::Call(call)) => Some(call),
        Some(Log::Command(_)) => return Wanted::default(),
        None => None,
    };
    let number = match &input.kind {
        InputKind::Started { party, .. } if !call.is_some_and(Call::has_begun) => {
            party.as_ref().and_then(Party::number)
        }
        _ => None,
    };
    let transcript = match (&input.kind, call) {
        (InputKind::Recorded(_), Some(call)) => call.utterances > 0,
        (InputKind::Utterance(_), Some(call)) => call.backfilled > 0,
        (InputKind::Timer(Timer::Finalize { filled: true }), Some(call)) => {
            call.utterances > 0 && call.awaits_completion()
        }
        _ => false,
    };
    Wanted { number, transcript }
}

/// The event that tells the log of an input which lies in the dead letters as number `letter`, and
/// the timers that must be armed before it.
#[must_use]
pub fn reject(
    log: Option<&Log>,
    input: &Input,
    rejection: &Rejection,
    letter: u64,
    policy: &Policy,
) -> (Event, Vec<Arm>) {
    let mut next = log.cloned().unwrap_or_else(|| {
        let binding = Binding {
            key: SessionKey::per_call(&policy.agent, &input.call),
            rule: Rule::Provisional,
        };
        Log::Call(Call::unknown(input.call.clone(), binding))
    });
    let progress = next.progress().after(input);
    match &mut next {
        Log::Call(call) => call.progress = progress,
        Log::Command(command) => command.progress = progress,
    }
    let change = Change::Error {
        code: rejection.code.to_owned(),
        text: rejection.text.clone(),
        letter,
    };
    let event = Event {
        id: input.id.clone(),
        time: input.time(),
        change,
        log: next,
    };
    let before = log.map(Log::progress);
    let timers = timers::after(before, &event, input.received_at, &policy.times);
    (event, timers)
}

fn command_step(known: Option<&CommandLog>, report: &Report, input: &Input) -> Outcome {
    if let Some(known) = known
        && !known.report.status.may_become(report.status)
    {
        return Outcome::Duplicate;
    }
    let progress = known.map_or_else(Progress::default, |known| known.progress.clone());
    let log = CommandLog {
        progress: progress.after(input),
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
        timers: Vec::new(),
    }
}

/// A link is told in the log of the command that made it: it belongs to no call.
fn link_step(command: &CommandLog, link: &Link, input: &Input) -> Outcome {
    let log = CommandLog {
        progress: command.progress.after(input),
        ..command.clone()
    };
    let event = Event {
        id: input.id.clone(),
        time: input.time(),
        change: Change::Linked(link.clone()),
        log: Log::Command(log),
    };
    Outcome::Applied {
        event: Box::new(event),
        claim: None,
        timers: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
