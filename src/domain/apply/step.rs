//! One input held against one call: what the senders tell.

use super::{Known, Outcome, Rejection, timers};
use crate::domain::call::{Call, Log, Phase};
use crate::domain::event::{Change, Event, Said};
use crate::domain::ids::{IntentId, SessionKey};
use crate::domain::input::{
    Context, Direction, End, EndReason, Input, InputKind, Recorded, Speaker, Utterance,
};
use crate::domain::phone::{E164, Party};
use crate::domain::session::{Binding, Claim, Policy, Resolution, Rule, resolve, resolve_dial};
use crate::domain::timer::{Question, Timer};

/// One input held against one call.
pub(super) struct Step<'a> {
    pub call: Option<&'a Call>,
    pub input: &'a Input,
    pub known: &'a Known,
    pub policy: &'a Policy,
}

impl Step<'_> {
    pub fn take(&self, kind: &InputKind) -> Outcome {
        match kind {
            InputKind::Started {
                direction,
                party,
                intent,
            } => self.started(*direction, party.as_ref(), intent.as_ref()),
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
            InputKind::Recorded(recorded) => self.recorded(recorded),
            InputKind::Sync => self.sync(),
            InputKind::Timer(Timer::Finalize { filled }) => self.finalize(*filled),
            InputKind::Timer(Timer::Hole { asked_to, known_to }) => self.hole(*asked_to, *known_to),
            InputKind::Timer(Timer::Stale { sequence, gone }) => self.stale(*sequence, *gone),
            InputKind::Audio(mark) => self.applied(self.so_far(), Change::Audio(*mark), None),
            InputKind::Context(context) => self.context(context),
            // Neither comes here: they belong to the log of a command.
            InputKind::Command(_) | InputKind::Linked(_) => Outcome::Duplicate,
        }
    }

    /// The call as known so far; a first word from it makes it known.
    fn so_far(&self) -> Call {
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
            &self.known.facts,
            self.policy,
            self.input.received_at,
        )
    }

    pub fn applied(&self, mut call: Call, change: Change, claim: Option<Claim>) -> Outcome {
        call.progress = call.progress.after(self.input);
        let event = Event {
            id: self.input.id.clone(),
            time: self.input.time(),
            change,
            log: Log::Call(call),
        };
        let before = self.call.map(|call| &call.progress);
        let timers = timers::after(before, &event, self.input.received_at, &self.policy.times);
        Outcome::Applied {
            event: Box::new(event),
            claim,
            timers,
        }
    }

    fn started(
        &self,
        direction: Option<Direction>,
        party: Option<&Party>,
        intent: Option<&IntentId>,
    ) -> Outcome {
        let number = party.and_then(Party::number);
        let mut call = self.so_far();
        if call.has_begun() {
            return Self::begun_again(&call, direction, number);
        }
        let resolution = intent
            .and_then(|intent| {
                let (call, now) = (&self.input.call, self.input.received_at);
                resolve_dial(call, intent, &self.known.facts, now)
            })
            .unwrap_or_else(|| self.resolve(direction, party));
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
        let mut call = self.so_far();
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
        let mut call = self.so_far();
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

    pub fn ended(&self, end: &End) -> Outcome {
        let mut call = self.so_far();
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

    fn context(&self, context: &Context) -> Outcome {
        let call = self.so_far();
        if call.phase == Phase::Ended {
            return Outcome::Late;
        }
        self.applied(call, Change::Context(context.clone()), None)
    }

    fn utterance(&self, utterance: &Utterance) -> Outcome {
        let mut call = self.so_far();
        let after_end = call.phase == Phase::Ended;
        if utterance.speaker != Speaker::System {
            // Who speaks is connected, whether or not the answer was heard of.
            call.phase = call.phase.max(Phase::Active);
        }
        call.utterances += 1;
        let mut utterance = utterance.clone();
        // The event is stamped when it is made, some microseconds before or after.
        utterance.spoken_at = utterance.spoken_at.or(self.input.happened_at);
        if call.backfilled > 0 {
            let Some(transcript) = &self.known.transcript else {
                return Self::without_transcript();
            };
            if transcript.was_fetched(&utterance, self.input.source_sequence) {
                return Outcome::Duplicate;
            }
        }
        let said = Said {
            utterance,
            source_sequence: self.input.source_sequence,
            after_end,
            backfilled: false,
        };
        self.applied(call, Change::Said(said), None)
    }

    /// What the history has and we lack. It tells nothing about the state of the call: it may have
    /// been said long ago.
    fn recorded(&self, recorded: &Recorded) -> Outcome {
        let mut call = self.so_far();
        if call.utterances > 0 {
            let Some(transcript) = &self.known.transcript else {
                return Self::without_transcript();
            };
            if transcript.has(recorded) {
                return Outcome::Duplicate;
            }
        }
        call.utterances += 1;
        call.backfilled += 1;
        let said = Said {
            utterance: recorded.utterance.clone(),
            source_sequence: None,
            after_end: call.phase == Phase::Ended,
            backfilled: true,
        };
        self.applied(call, Change::Said(said), None)
    }

    fn sync(&self) -> Outcome {
        // Of a call that goes on the history does not have the end yet.
        let completes = self.call.is_some_and(|call| call.phase == Phase::Ended);
        Outcome::Waiting {
            timers: Vec::new(),
            ask: Some(Question::History { completes }),
        }
    }

    /// A mistake of the shell; guessing instead could double what was said.
    pub fn without_transcript() -> Outcome {
        Outcome::Rejected(Rejection {
            code: "no-transcript",
            text: "the transcript of the call was not looked up".to_owned(),
        })
    }
}
