//! The one request of an attempt: from its record to what came of it.

use std::sync::Arc;

use tracing::{debug, error};

use super::dialling::{Dialling, Hand};
use super::intent::Found;
use super::last_look::LastLook;
use super::outcome::of_dial;
use super::voice_server::Error as ServerError;
use crate::bus::trouble::Trouble;
use crate::crash_point;
use crate::domain::command::{Dial, Reason};
use crate::domain::dial::{Happened, Meaning, State};
use crate::error_chain::Chain;

impl Dialling {
    /// Sends the request of the attempt that is on record.
    pub(super) async fn send(
        &self,
        dial: &Dial,
        found: &Found,
        sequence: u64,
        hand: &mut Hand,
    ) -> Result<Happened, Trouble> {
        let Some(State::Sending(attempt)) = found.state() else {
            return Err(Trouble::Own("a dial without its record".to_owned()));
        };
        let nonce = attempt.nonce.clone();
        if let Err(reason) = self.mark(found.revision(), sequence, hand.floor).await {
            return Ok(self.not_sent(nonce, reason));
        }
        let last_look = self.last_look(dial, &nonce);
        let answer = self.reconciler.server.place_call(dial, last_look).await;
        crash_point::pass("egress.after_answer");
        let went = |hand: &mut Hand, well| {
            if let Some(permit) = &mut hand.permit {
                permit.went(well);
            }
        };
        let meaning = match answer {
            Ok(answer) => of_dial(&answer),
            Err(
                error @ (ServerError::NotSent(_)
                | ServerError::Url { .. }
                | ServerError::Token
                | ServerError::Client(_)),
            ) => {
                went(hand, false);
                let reason = Reason::new("no-connection", Chain(&error).to_string());
                return Ok(self.not_sent(nonce, reason));
            }
            Err(error @ (ServerError::Lost(_) | ServerError::TooLong)) => {
                Meaning::Unknown(Reason::new("answer-lost", error.to_string()))
            }
        };
        went(hand, !matches!(meaning, Meaning::Unknown(_)));
        Ok(Happened::Answered { nonce, meaning })
    }

    fn not_sent(&self, nonce: String, reason: Reason) -> Happened {
        self.intents.did_not_leave(&nonce);
        Happened::NotSent { nonce, reason }
    }

    /// Flushes the place of the record to a disk of our own.
    async fn mark(&self, revision: u64, sequence: u64, floor: u64) -> Result<(), Reason> {
        let high_water = self.high_water.clone();
        if revision <= floor {
            let resumed = self.intents.resumed().await;
            high_water.fell_back(resumed.ok().flatten());
            return Err(Reason::new("safe-mode", "records of dials were lost"));
        }
        let raised = tokio::task::spawn_blocking(move || high_water.raise(revision, sequence));
        match raised.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                error!(error = %Chain(&error), "nothing is dialled: the high-water mark cannot be written");
                Err(Reason::new(
                    "no-high-water-mark",
                    "the high-water mark cannot be written",
                ))
            }
            Err(error) => Err(Reason::new("no-high-water-mark", error.to_string())),
        }
    }

    /// With the connection made: is it still in time, and is the record still this attempt's?
    fn last_look(&self, dial: &Dial, nonce: &str) -> LastLook {
        let (intents, intent) = (self.intents.clone(), dial.intent.clone());
        let (clock, deadline, nonce) = (self.clock.clone(), dial.deadline, nonce.to_owned());
        Arc::new(move || {
            let (intents, intent, nonce) = (intents.clone(), intent.clone(), nonce.clone());
            let clock = clock.clone();
            Box::pin(async move {
                crash_point::pass("egress.after_connect");
                let found = intents.find_at_leader(&intent).await;
                let found = found.map_err(|error| error.to_string())?;
                match found.state() {
                    Some(State::Sending(attempt)) if attempt.nonce == nonce => {}
                    _ => return Err("the dial is in other hands".to_owned()),
                }
                if clock.read().may_be_past(deadline) {
                    return Err("the deadline has passed".to_owned());
                }
                debug!(intent.id = %intent, "last look passed");
                crash_point::pass("egress.before_write");
                Ok(())
            })
        })
    }
}
