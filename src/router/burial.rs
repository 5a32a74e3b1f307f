//! What becomes of an input that cannot be used: a dead letter, then one `error.occurred` in the
//! log of its call that names the letter, then the input is done.
//!
//! When VOICE_DLQ takes nothing, the input is put off instead, so that other calls go on.
//!
//! Whoever is stopped in between does it again and finds the letter, and the event, there already:
//! the letter has a name of its own, and the event leaves a mark in the log. The mark is not that
//! of the input. An input that is given another chance (`voicebus dlq redrive`) is thereby new to
//! the log, while the same input from its sender, or from the same letter once more, is not.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use chrono::Utc;
use tracing::{error, warn};

use super::Counters;
use super::reading::read;
use crate::bus::consume::Delivery;
use crate::bus::dead_letter::{Verdict, digest};
use crate::bus::log::{Error as LogError, Loaded};
use crate::bus::trouble::Trouble;
use crate::bus::{Bus, publish, subjects};
use crate::domain::call::Log;
use crate::domain::event::Event;
use crate::domain::ids::EventId;
use crate::domain::input::{Input, InputKind, Position};
use crate::domain::session::Policy;
use crate::domain::timer::Arm;
use crate::domain::{Rejection, reject};

/// Tries to tell a log before the input is handed back to the stream.
const COMMIT_TRIES_MAX: usize = 8;

pub(super) const ROLE: &str = "router";

/// Where an input stands in the order of its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is the next one: what came before it is done.
    Own,
    /// It came some other way. The log must not take its place for the place it has come to:
    /// inputs before it may still be waiting, and would be taken for done.
    None,
}

#[derive(Clone)]
pub(super) struct Burial {
    pub bus: Bus,
    pub policy: Arc<Policy>,
    pub counters: Arc<Counters>,
}

impl Burial {
    /// Parks an input and tells its call, or puts it off. Returns the log after that, if there is
    /// one.
    pub async fn bury(
        &self,
        delivery: &Delivery,
        rejection: &Rejection,
        turn: Turn,
    ) -> Result<Option<Loaded>, Trouble> {
        let position = position(delivery);
        let read = read(delivery, position).ok();
        let call = subjects::call_of_input(&delivery.subject);
        let Some(letter) = self.park(delivery, rejection).await? else {
            return Ok(None);
        };
        let Some(call) = call else {
            self.counters.dead_letters.fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        };
        let (decoded, traceparent) = read.unzip();
        let decoded: Option<Input> = decoded.filter(|input| input.call == call);
        let id = match &decoded {
            Some(input) => mark_of(delivery.redriven_from(), input),
            None => {
                let poison = delivery.letter_name(subjects::STREAM_IN);
                mark(delivery.redriven_from(), &format!("poison {poison}"))
            }
        };
        let input = Input {
            id,
            call,
            position,
            happened_at: decoded.as_ref().and_then(|input| input.happened_at),
            received_at: decoded.map_or(delivery.stored_at, |input| input.received_at),
            source_sequence: None,
            // Never applied: it only carries the place of what could not be used.
            kind: InputKind::Ringing,
        };
        let traceparent = traceparent.flatten();
        self.tell(
            delivery,
            input,
            rejection,
            letter,
            turn,
            traceparent.as_deref(),
        )
        .await
    }

    /// Parks an input without a word to its log, and returns the number of the letter; `None` when
    /// there was no room for one and the input will come again.
    async fn park(
        &self,
        delivery: &Delivery,
        rejection: &Rejection,
    ) -> Result<Option<u64>, Trouble> {
        let read = read(delivery, position(delivery)).ok();
        let (named, traceparent) = read.unzip();
        let call = subjects::call_of_input(&delivery.subject)
            .or_else(|| named.map(|input: Input| input.call));
        let traceparent: Option<String> = traceparent.flatten();
        let verdict = Verdict {
            role: ROLE,
            code: rejection.code,
            reason: &rejection.text,
            call: call.as_ref().map(|call| call.as_str()),
            traceparent: traceparent.as_deref(),
        };
        let parked = self
            .bus
            .park_delivery(subjects::STREAM_IN, delivery, verdict)
            .await;
        let letter = match parked {
            Ok(letter) => letter,
            Err(error) if error.is_of_this_message() => return Err(error.into()),
            Err(error) => {
                let pause = self.bus.put_off(delivery).await?;
                self.counters.put_off.fetch_add(1, Ordering::Relaxed);
                error!(
                    %error,
                    stream_sequence = delivery.stream_sequence,
                    code = rejection.code,
                    ?pause,
                    "the dead letters take nothing; input is put off: make room in VOICE_DLQ"
                );
                return Ok(None);
            }
        };
        warn!(
            stream_sequence = delivery.stream_sequence,
            code = rejection.code,
            reason = %rejection.text,
            letter = letter.sequence,
            "input is in the dead letters"
        );
        Ok(Some(letter.sequence))
    }

    async fn tell(
        &self,
        delivery: &Delivery,
        mut input: Input,
        rejection: &Rejection,
        letter: u64,
        turn: Turn,
        traceparent: Option<&str>,
    ) -> Result<Option<Loaded>, Trouble> {
        let log_id = input.call.as_str().to_owned();
        let in_turn = turn == Turn::Own
            && subjects::partition_of_input(&delivery.subject)
                == Some(self.bus.subjects().partition(&input.call));
        for _ in 0..COMMIT_TRIES_MAX {
            let loaded = match self.bus.load_from_leader(&log_id).await {
                Err(error @ LogError::Unreadable { .. }) => {
                    self.lost_log(&error);
                    return Ok(None);
                }
                other => other?,
            };
            let log = loaded.log.as_ref();
            if is_marked(log, &input.id)
                || in_turn && log.is_some_and(|log| log.progress().has(&input.id, input.position))
            {
                self.counters.duplicate.fetch_add(1, Ordering::Relaxed);
                return Ok(Some(loaded));
            }
            if !in_turn {
                input.position = log.map_or_else(Position::default, |log| log.progress().position);
            }
            let (event, timers) = reject(log, &input, rejection, letter, &self.policy);
            let last = loaded.last;
            let written = self.write(delivery, &event, &timers, traceparent, last);
            match written.await {
                Ok(last) => {
                    self.counters.dead_letters.fetch_add(1, Ordering::Relaxed);
                    let log = Some(event.log);
                    return Ok(Some(Loaded { log, last }));
                }
                Err(publish::Error::Conflict { .. } | publish::Error::Unclear { .. }) => {}
                Err(error) if error.is_of_this_message() => {
                    error!(%error, letter, "the call cannot be told of its dead letter");
                    self.counters.dead_letters.fetch_add(1, Ordering::Relaxed);
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Trouble::Wait(format!(
            "lost {COMMIT_TRIES_MAX} races for the log of {log_id}"
        )))
    }

    async fn write(
        &self,
        delivery: &Delivery,
        event: &Event,
        timers: &[Arm],
        traceparent: Option<&str>,
        last: u64,
    ) -> Result<u64, publish::Error> {
        for timer in timers {
            self.bus.arm(timer, Utc::now(), delivery.stored_at).await?;
        }
        self.bus.commit(event, traceparent, last).await
    }

    /// A log whose last event this program cannot read (a newer router wrote it, or somebody who
    /// should not have) must not be written to: its sequence is unknown.
    pub async fn bury_for_log(&self, delivery: &Delivery, error: &LogError) -> Result<(), Trouble> {
        let rejection = Rejection {
            code: "unreadable-log",
            text: crate::error_chain::Chain(error).to_string(),
        };
        if self.park(delivery, &rejection).await?.is_some() {
            self.lost_log(error);
        }
        Ok(())
    }

    fn lost_log(&self, error: &LogError) {
        error!(error = %crate::error_chain::Chain(error), "a log cannot be continued");
        self.counters.dead_letters.fetch_add(1, Ordering::Relaxed);
    }
}

/// Where an input stands.
pub(super) fn position(delivery: &Delivery) -> Position {
    Position {
        epoch: delivery.epoch,
        sequence: delivery.stream_sequence,
    }
}

/// Whether this very input lies in the dead letters, and the log was told so.
pub(super) fn is_buried(log: Option<&Log>, delivery: &Delivery, input: &Input) -> bool {
    is_marked(log, &mark_of(delivery.redriven_from(), input))
}

/// Whether the input had its effect lately.
pub(super) fn had_effect(log: Option<&Log>, input: &Input) -> bool {
    is_marked(log, &input.id)
}

fn is_marked(log: Option<&Log>, id: &EventId) -> bool {
    let fingerprint = id.fingerprint();
    log.is_some_and(|log| log.progress().recent().any(|known| known == fingerprint))
}

fn mark_of(redriven_from: Option<&str>, input: &Input) -> EventId {
    mark(redriven_from, &format!("input {}", input.id))
}

/// The id of the event that tells of an input which could not be used.
fn mark(redriven_from: Option<&str>, what: &str) -> EventId {
    let text = match redriven_from {
        Some(letter) => format!("redriven {letter}"),
        None => what.to_owned(),
    };
    let id = format!("ev_{}", digest(&format!("buried {text}")));
    EventId::parse(&id).expect("hex digits make an id")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::domain::ids::CallId;

    #[test]
    fn a_redriven_input_is_new_to_the_log_and_the_same_letter_twice_is_not() {
        let input = Input {
            id: EventId::parse("ev_1").unwrap(),
            call: CallId::parse("CA1").unwrap(),
            position: Position::default(),
            happened_at: None,
            received_at: Timestamp::UNIX_EPOCH,
            source_sequence: None,
            kind: InputKind::Ringing,
        };
        let again = Input {
            position: Position {
                epoch: 1,
                sequence: 2,
            },
            ..input.clone()
        };
        assert_eq!(mark_of(None, &input), mark_of(None, &again));
        assert_ne!(mark_of(None, &input), mark_of(Some("a"), &again));
        assert_eq!(mark_of(Some("a"), &input), mark_of(Some("a"), &again));
        assert_ne!(mark_of(Some("a"), &input), mark_of(Some("b"), &again));
        assert_ne!(mark_of(None, &input), input.id);
    }
}
