//! What becomes of a command that cannot be carried out for what it is: a dead letter, and, for
//! whoever asked, an outcome that names the letter. A command is never given up without an end.

use tracing::{debug, warn};

use super::dialling::Left;
use super::worker::{Worker, arrival, id_of};
use crate::bus::advisory::GivenUp;
use crate::bus::consume::Delivery;
use crate::bus::dead_letter::Verdict;
use crate::bus::envelope::{DialRequest, id_in};
use crate::bus::subjects;
use crate::bus::trouble::Trouble;
use crate::domain::command::{Reason, Report, Status, Verb};
use crate::domain::dial::State;
use crate::domain::ids::{CallId, IntentId, SessionKey};

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
        let told = match subjects::parse_command(&delivery.subject) {
            Some(("dial", key)) => match IntentId::parse(key) {
                Ok(intent) => self.end_of_dial(delivery, intent, reason).await,
                Err(_) => Ok(()),
            },
            Some((verb, key)) => match self.end_about_call(delivery, verb, key, reason) {
                Some(report) => self.teller.report(report).await,
                None => Ok(()),
            },
            None => Ok(()),
        };
        match told {
            Err(Trouble::Own(reason)) => {
                warn!(letter, reason, "nobody can be told of this dead letter");
                Ok(())
            }
            told => told,
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
            .teller
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

    /// Refuses a dial whose command cannot be used. Another dial that has its name already is left
    /// as it is.
    pub(super) async fn refuse_dial(
        &self,
        delivery: &Delivery,
        intent: &IntentId,
        request: Option<&DialRequest>,
        reason: Reason,
    ) -> Result<Left, Trouble> {
        let found = self.dialling.intents.find_at_leader(intent).await?;
        let known = found.record.and_then(|record| record.wish);
        let is_another = known
            .as_ref()
            .is_some_and(|known| Some(&known.fingerprint) != fingerprint(request).as_ref());
        if is_another {
            return Ok(Left::Conflict);
        }
        let left = self
            .dialling
            .given_up(arrival(delivery, intent), reason.clone())
            .await?;
        if known.is_none() && left == Left::Done {
            // Nothing is known of it but its name.
            let refused = self.refused(intent.clone(), Verb::Dial, reason);
            self.teller.report(refused).await?;
        }
        Ok(left)
    }

    /// Makes the record of a dial final that lies in the dead letters, and tells what it says.
    async fn end_of_dial(
        &self,
        delivery: &Delivery,
        intent: IntentId,
        reason: Reason,
    ) -> Result<(), Trouble> {
        let request = DialRequest::decode(&delivery.payload).ok();
        let left = self
            .refuse_dial(delivery, &intent, request.as_ref(), reason)
            .await?;
        match left {
            Left::Done => {}
            Left::Conflict => {
                debug!(intent.id = %intent, "another dial of this name is left as it is");
            }
            // Its record has no end yet, so the command stays until it has.
            Left::Again(_) => {
                return Err(Trouble::Wait("the dial has not come to its end".to_owned()));
            }
        }
        Ok(())
    }

    /// The end of a command about a call; `None` of any other, or when it has no usable id.
    fn end_about_call(
        &self,
        delivery: &Delivery,
        verb: &str,
        key: &str,
        reason: Reason,
    ) -> Option<Report> {
        let verb = Verb::parse(verb)?;
        if !matches!(verb, Verb::Hangup | Verb::Context | Verb::Say) {
            return None;
        }
        let call = CallId::parse(key).ok()?;
        let own = id_in(&delivery.payload);
        let id = id_of(delivery, verb, own.as_deref()).ok()?;
        Some(Report {
            session: SessionKey::per_call(&self.agent, &call),
            call: Some(call),
            ..self.refused(id, verb, reason)
        })
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

fn fingerprint(request: Option<&DialRequest>) -> Option<String> {
    request.map(DialRequest::fingerprint)
}

/// Commands that the server has given up.
impl GivenUp for Worker {
    const STREAM: &'static str = subjects::STREAM_CMD;
    const ROLE: &'static str = ROLE;

    fn is_ours(&self, consumer: &str) -> bool {
        [subjects::CONSUMER_EGRESS, subjects::CONSUMER_CONTROL].contains(&consumer)
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
            && let Some(record) = self.dialling.intents.find(&intent).await?.record
            && (record.state.is_final() || matches!(record.state, State::Unknown { .. }))
        {
            debug!(intent.id = %intent, "dial was given up after its end");
            return Ok(());
        }
        self.give_up(delivery, code, reason).await
    }
}
