//! What becomes of a command that cannot be carried out for what it is: a dead letter, and, for
//! whoever asked, an outcome that names the letter. A command is never given up without an end.

use tracing::{debug, warn};

use super::worker::{Worker, record};
use crate::bus::advisory::GivenUp;
use crate::bus::consume::Delivery;
use crate::bus::dead_letter::Verdict;
use crate::bus::envelope::{DialRequest, HangupRequest, IntentState};
use crate::bus::subjects;
use crate::bus::trouble::Trouble;
use crate::domain::command::{Reason, Report, Status, Verb};
use crate::domain::ids::{CallId, Error as IdError, IntentId, SessionKey};

const ROLE: &str = "egress";

impl Worker {
    /// Parks a command that has no id under which its outcome could be told.
    pub(super) async fn bury(
        &self,
        delivery: &Delivery,
        code: &'static str,
        reason: &str,
    ) -> Result<(), Trouble> {
        self.park(delivery, code, reason).await.map(|_letter| ())
    }

    /// Parks a command and tells its outcome. A dial of which a request may have left is `unknown`,
    /// one that was answered has its answer, and any other is refused for good.
    pub(super) async fn give_up(
        &self,
        delivery: &Delivery,
        code: &'static str,
        reason: &str,
    ) -> Result<(), Trouble> {
        let letter = self.park(delivery, code, reason).await?;
        let reason = Reason {
            code: code.to_owned(),
            text: format!("{reason} (dead letter {letter})"),
        };
        let report = match subjects::parse_command(&delivery.subject) {
            Some(("dial", key)) => match IntentId::parse(key) {
                Ok(intent) => Some(self.end_of_dial(delivery, intent, reason).await?),
                Err(_) => None,
            },
            Some(("hangup", key)) => self.end_of_hangup(delivery, key, reason),
            _ => None,
        };
        match report {
            None => Ok(()),
            Some(report) => match self.report(report).await {
                Err(Trouble::Own(reason)) => {
                    warn!(letter, reason, "nobody can be told of this dead letter");
                    Ok(())
                }
                told => told,
            },
        }
    }

    async fn park(
        &self,
        delivery: &Delivery,
        code: &'static str,
        reason: &str,
    ) -> Result<u64, Trouble> {
        let about = subjects::parse_command(&delivery.subject).map(|(_verb, key)| key);
        let verdict = Verdict {
            role: ROLE,
            code,
            reason,
            call: about,
            traceparent: None,
        };
        let letter = self
            .bus
            .park_delivery(subjects::STREAM_CMD, delivery, verdict)
            .await?;
        warn!(
            stream_sequence = delivery.stream_sequence,
            code,
            reason,
            letter = letter.sequence,
            "command is in the dead letters"
        );
        Ok(letter.sequence)
    }

    /// Makes the record of a dial final, and says what it says.
    async fn end_of_dial(
        &self,
        delivery: &Delivery,
        intent: IntentId,
        reason: Reason,
    ) -> Result<Report, Trouble> {
        let found = self.intents.find(&intent).await?;
        let (state, body_hash) = match &found.record {
            Some(record) => (Some(&record.state), record.body_hash.clone()),
            None => (None, String::new()),
        };
        let (status, call, reason, end) = match state {
            None | Some(IntentState::Unsent { .. }) => {
                let end = IntentState::Refused {
                    code: reason.code.clone(),
                    reason: reason.text.clone(),
                };
                (Status::Refused, None, Some(reason), Some(end))
            }
            Some(IntentState::Sending { .. }) => {
                let end = IntentState::Unknown {
                    code: reason.code.clone(),
                    reason: reason.text.clone(),
                };
                (Status::Unknown, None, Some(reason), Some(end))
            }
            Some(IntentState::Confirmed { call }) => {
                (Status::Confirmed, CallId::parse(call).ok(), None, None)
            }
            Some(IntentState::Refused { code, reason }) => {
                (Status::Refused, None, Some(told(code, reason)), None)
            }
            Some(IntentState::Unknown { code, reason }) => {
                (Status::Unknown, None, Some(told(code, reason)), None)
            }
        };
        if let Some(end) = end {
            let end = record(end, &body_hash);
            // Somebody who changed it meanwhile is at work on it, or has ended it: look again.
            let written = self.intents.write(&intent, &found, end).await;
            written.map_err(|error| Trouble::Wait(error.to_string()))?;
        }
        let dial = DialRequest::decode(&delivery.payload)
            .and_then(|request| request.to_dial(intent.clone(), &self.agent, delivery.stored_at));
        let (session, to) = match dial {
            Ok(dial) => (dial.session, Some(dial.to)),
            Err(_) => (SessionKey::main(&self.agent), None),
        };
        Ok(Report {
            intent,
            verb: Verb::Dial,
            session,
            to,
            call,
            status,
            reason,
        })
    }

    fn end_of_hangup(&self, delivery: &Delivery, key: &str, reason: Reason) -> Option<Report> {
        let call = CallId::parse(key).ok()?;
        let request = HangupRequest::decode(&delivery.payload).unwrap_or_default();
        let id = self.id_of_hangup(delivery, request.id.as_deref()).ok()?;
        Some(Report {
            session: SessionKey::per_call(&self.agent, &call),
            call: Some(call),
            ..self.refused(id, Verb::Hangup, reason)
        })
    }

    /// The id that a hang-up goes by: its own, else one of its place in the stream.
    pub(super) fn id_of_hangup(
        &self,
        delivery: &Delivery,
        own: Option<&str>,
    ) -> Result<IntentId, IdError> {
        match own {
            Some(id) => IntentId::parse(id),
            None => IntentId::parse(&format!("hangup-{}", delivery.stream_sequence)),
        }
    }

    /// A command that is refused before anything is known of it.
    pub(super) fn refused(&self, intent: IntentId, verb: Verb, reason: Reason) -> Report {
        Report {
            intent,
            verb,
            session: SessionKey::main(&self.agent),
            to: None,
            call: None,
            status: Status::Refused,
            reason: Some(reason),
        }
    }
}

fn told(code: &str, reason: &str) -> Reason {
    Reason {
        code: code.to_owned(),
        text: reason.to_owned(),
    }
}

/// Commands that the server has given up.
impl GivenUp for Worker {
    const STREAM: &'static str = subjects::STREAM_CMD;
    const ROLE: &'static str = ROLE;

    fn is_ours(&self, consumer: &str) -> bool {
        consumer == subjects::CONSUMER_EGRESS
    }

    async fn bury(
        &self,
        delivery: &Delivery,
        code: &'static str,
        reason: &str,
    ) -> Result<(), Trouble> {
        // Only its acknowledgement may have been lost.
        if let Some(("dial", key)) = subjects::parse_command(&delivery.subject)
            && let Ok(intent) = IntentId::parse(key)
            && let Some(record) = self.intents.find(&intent).await?.record
            && matches!(
                record.state,
                IntentState::Confirmed { .. }
                    | IntentState::Refused { .. }
                    | IntentState::Unknown { .. }
            )
        {
            debug!(intent.id = %intent, "dial was given up after its end");
            return Ok(());
        }
        self.give_up(delivery, code, reason).await
    }
}
