//! Carrying out commands: record, send once, record, tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::Utc;
use sha2::{Digest, Sha256};
use tracing::{info, warn};

use super::intent::{Found, Intents, SENDING_SETTLES_AFTER};
use super::outcome::{Meaning, of_cancel, of_dial};
use super::{VoiceServer, VoiceServerError};
use crate::bus::bucket::{Bucket, Error as BucketError};
use crate::bus::consume::{Delivery, Disposition, Handler};
use crate::bus::envelope::{
    DialRequest, HangupRequest, IntentRecord, IntentState, NumberRecord, encode_input,
};
use crate::bus::trouble::{Trouble, guarded, pause_after};
use crate::bus::{Bus, service, subjects};
use crate::domain::Timestamp;
use crate::domain::command::{Dial, Reason, Report, Status, Verb};
use crate::domain::ids::{AgentId, CallId, EventId, IntentId, SessionKey};
use crate::domain::input::{Input, InputKind, Position};
use crate::domain::phone::E164;
use crate::domain::session::{Claim, Policy, RecentDial};

/// The consumer's `ack_wait`, as `nats/consumers` has it.
pub(super) const ACK_WAIT: Duration = Duration::from_secs(30);
/// Pause before a command that met a passing trouble comes again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Tries against other writers of one number's record.
const NUMBER_TRIES_MAX: usize = 8;

#[derive(Clone)]
pub(super) struct Worker {
    pub(super) bus: Bus,
    server: VoiceServer,
    pub(super) agent: AgentId,
    own_numbers: Vec<E164>,
    pub(super) intents: Intents,
    numbers: Bucket,
    in_flight: Arc<AtomicUsize>,
}

impl Handler for Worker {
    async fn handle(&mut self, delivery: Delivery) -> Disposition {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let disposition = self.settled(&delivery).await;
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        disposition
    }
}

impl Worker {
    pub async fn open(
        bus: &Bus,
        server: VoiceServer,
        policy: &Policy,
        in_flight: Arc<AtomicUsize>,
    ) -> Result<Self, BucketError> {
        let intents = Intents::open(bus).await?;
        let numbers = bus.bucket(subjects::BUCKET_NUMBER).await?;
        Ok(Self {
            bus: bus.clone(),
            server,
            agent: policy.agent.clone(),
            own_numbers: policy.own_numbers.clone(),
            intents,
            numbers,
            in_flight,
        })
    }

    async fn settled(&self, delivery: &Delivery) -> Disposition {
        let mut tries = 0;
        loop {
            let Err(trouble) = guarded(self.take(delivery)).await else {
                return Disposition::Ack;
            };
            warn!(
                stream_sequence = delivery.stream_sequence,
                attempt = delivery.attempt,
                tries,
                reason = trouble.reason(),
                "command not done yet"
            );
            let again = Disposition::Retry { after: RETRY_PAUSE };
            let Trouble::Own(reason) = trouble else {
                return again;
            };
            tries += 1;
            if let Some(pause) = pause_after(tries) {
                tokio::time::sleep(pause).await;
                continue;
            }
            let text = format!("tried {tries} times: {reason}");
            return match self.give_up(delivery, "exhausted", &text).await {
                Ok(()) => Disposition::Ack,
                Err(_) => again,
            };
        }
    }

    async fn take(&self, delivery: &Delivery) -> Result<(), Trouble> {
        match subjects::parse_command(&delivery.subject) {
            Some(("dial", key)) => match IntentId::parse(key) {
                Ok(intent) => self.take_dial(delivery, intent).await,
                Err(error) => self.bury(delivery, "bad-id", &error.to_string()).await,
            },
            Some(("hangup", key)) => match CallId::parse(key) {
                Ok(call) => self.take_hangup(delivery, &call).await,
                Err(error) => self.bury(delivery, "bad-id", &error.to_string()).await,
            },
            _ => {
                self.bury(delivery, "unknown-command", "nobody knows this command")
                    .await
            }
        }
    }

    async fn take_dial(&self, delivery: &Delivery, intent: IntentId) -> Result<(), Trouble> {
        let request = match DialRequest::decode(&delivery.payload) {
            Ok(request) => request,
            Err(error) => {
                let text = crate::error_chain::Chain(&error).to_string();
                return self.give_up(delivery, "bad-command", &text).await;
            }
        };
        let dial = match request.to_dial(intent.clone(), &self.agent, delivery.stored_at) {
            Ok(dial) => dial,
            Err(error) => {
                let reason = Reason {
                    code: "bad-command".to_owned(),
                    text: crate::error_chain::Chain(&error).to_string(),
                };
                return self.report(self.refused(intent, Verb::Dial, reason)).await;
            }
        };
        let body_hash = hex(&Sha256::digest(&delivery.payload));
        self.dial(&dial, &body_hash).await
    }

    /// Brings a dial one step further, from wherever its record says it is.
    async fn dial(&self, dial: &Dial, body_hash: &str) -> Result<(), Trouble> {
        let found = self.intents.find(&dial.intent).await?;
        match found
            .record
            .as_ref()
            .map(|record| (&record.state, record.at))
        {
            None | Some((IntentState::Unsent { .. }, _)) => {
                self.send(dial, body_hash, &found).await
            }
            Some((IntentState::Sending { .. }, at)) => {
                // Never sent again: either a worker is at it, or nobody knows what happened.
                if Utc::now() - at < SENDING_SETTLES_AFTER {
                    return Err(Trouble::Wait(
                        "another worker may be waiting for the server".to_owned(),
                    ));
                }
                let reason = Reason {
                    code: "interrupted".to_owned(),
                    text: "the worker was stopped while the call was being placed; the phone may have rung".to_owned(),
                };
                self.settle(dial, body_hash, &found, Meaning::Unknown(reason))
                    .await
            }
            Some((IntentState::Confirmed { call }, _)) => match CallId::parse(call) {
                Ok(call) => self.tell(dial, &Meaning::Placed(call)).await,
                Err(error) => Err(Trouble::Own(error.to_string())),
            },
            Some((IntentState::Refused { code, reason }, _)) => {
                self.tell(
                    dial,
                    &Meaning::Refused(Reason {
                        code: code.clone(),
                        text: reason.clone(),
                    }),
                )
                .await
            }
            Some((IntentState::Unknown { code, reason }, _)) => {
                self.tell(
                    dial,
                    &Meaning::Unknown(Reason {
                        code: code.clone(),
                        text: reason.clone(),
                    }),
                )
                .await
            }
        }
    }

    async fn send(&self, dial: &Dial, body_hash: &str, found: &Found) -> Result<(), Trouble> {
        if Utc::now() >= dial.deadline {
            return self.expire(dial).await;
        }
        self.report(report(dial, Status::Accepted, None)).await?;
        self.remember(dial, None).await?;
        let attempt = uuid::Uuid::new_v4().simple().to_string();
        let sending = record(IntentState::Sending { attempt }, body_hash);
        // An unclear write of the record is not followed by a call: the stream brings the command
        // back, and the record, if it is there, then says what may still be done.
        let found = self.intents.write(&dial.intent, found, sending).await?;
        if Utc::now() >= dial.deadline {
            let unsent = record(
                IntentState::Unsent {
                    reason: "the deadline passed".to_owned(),
                },
                body_hash,
            );
            self.intents.write(&dial.intent, &found, unsent).await?;
            return self.expire(dial).await;
        }
        let meaning = match self.server.place_call(dial).await {
            Ok(answer) => of_dial(answer.status, &answer.body),
            Err(
                error @ (VoiceServerError::NotSent(_)
                | VoiceServerError::Url { .. }
                | VoiceServerError::Client(_)),
            ) => {
                let reason = error.to_string();
                let unsent = record(
                    IntentState::Unsent {
                        reason: reason.clone(),
                    },
                    body_hash,
                );
                self.intents.write(&dial.intent, &found, unsent).await?;
                // Its deadline is the bound.
                return Err(Trouble::Wait(reason));
            }
            Err(error @ (VoiceServerError::Lost(_) | VoiceServerError::TooLong)) => {
                Meaning::Unknown(Reason {
                    code: "answer-lost".to_owned(),
                    text: error.to_string(),
                })
            }
        };
        self.settle(dial, body_hash, &found, meaning).await
    }

    /// Writes what the answer means into the record, then tells it.
    async fn settle(
        &self,
        dial: &Dial,
        body_hash: &str,
        found: &Found,
        meaning: Meaning,
    ) -> Result<(), Trouble> {
        let state = match &meaning {
            Meaning::Placed(call) => IntentState::Confirmed {
                call: call.to_string(),
            },
            Meaning::Refused(reason) => IntentState::Refused {
                code: reason.code.clone(),
                reason: reason.text.clone(),
            },
            Meaning::Unknown(reason) => IntentState::Unknown {
                code: reason.code.clone(),
                reason: reason.text.clone(),
            },
        };
        match self
            .intents
            .write(&dial.intent, found, record(state.clone(), body_hash))
            .await
        {
            Ok(_) => {}
            Err(BucketError::Conflict { .. }) => {
                // Somebody gave this one up as unknown while its answer was on the way; the answer
                // is better than a guess.
                let now = self.intents.find(&dial.intent).await?;
                if !matches!(
                    now.record.as_ref().map(|record| &record.state),
                    Some(IntentState::Unknown { .. })
                ) {
                    return Err(Trouble::Own(
                        "the record was changed by another worker".to_owned(),
                    ));
                }
                self.intents
                    .write(&dial.intent, &now, record(state, body_hash))
                    .await?;
            }
            Err(error) => return Err(error.into()),
        }
        self.tell(dial, &meaning).await
    }

    async fn tell(&self, dial: &Dial, meaning: &Meaning) -> Result<(), Trouble> {
        match meaning {
            Meaning::Placed(call) => {
                info!(intent.id = %dial.intent, call.id = %call, "call placed");
                self.remember(dial, Some(call)).await?;
                let dialled = InputKind::Dialled {
                    intent: dial.intent.clone(),
                    session: dial.session.clone(),
                    to: dial.to.clone(),
                };
                self.tell_router(call, &format!("{} dialled", dial.intent), dialled)
                    .await?;
                let confirmed = Report {
                    call: Some(call.clone()),
                    ..report(dial, Status::Confirmed, None)
                };
                self.report(confirmed).await
            }
            Meaning::Refused(reason) => {
                info!(intent.id = %dial.intent, code = reason.code, "dial refused");
                self.forget(dial).await?;
                self.report(report(dial, Status::Refused, Some(reason.clone())))
                    .await
            }
            Meaning::Unknown(reason) => {
                warn!(intent.id = %dial.intent, code = reason.code, "it is not known whether the phone rang");
                self.report(report(dial, Status::Unknown, Some(reason.clone())))
                    .await
            }
        }
    }

    async fn expire(&self, dial: &Dial) -> Result<(), Trouble> {
        info!(intent.id = %dial.intent, "dial expired before anything was sent");
        self.forget(dial).await?;
        let reason = Reason {
            code: "deadline".to_owned(),
            text: "the deadline passed before the call could be placed".to_owned(),
        };
        self.report(report(dial, Status::Expired, Some(reason)))
            .await
    }

    /// Remembers the dial under both numbers, so that the router finds the session of both ids of
    /// the call, whichever way the signalling names the other end.
    async fn remember(&self, dial: &Dial, call: Option<&CallId>) -> Result<(), Trouble> {
        let now = Utc::now();
        self.change_dials(dial, |dials| {
            let known = dials
                .iter()
                .position(|known| known.intent.as_ref() == Some(&dial.intent));
            let claim = match (known, call) {
                (Some(index), Some(call)) => Claim::Call(index, call.clone()),
                (Some(_), None) => return None,
                (None, call) => Claim::Dialled(RecentDial {
                    intent: Some(dial.intent.clone()),
                    session: dial.session.clone(),
                    call: call.cloned(),
                    leg: None,
                    at: now,
                }),
            };
            Some(claim.perform(dials.to_vec(), now))
        })
        .await
    }

    /// Forgets a dial that made no call, so that the next call with that number is not taken for it.
    async fn forget(&self, dial: &Dial) -> Result<(), Trouble> {
        self.change_dials(dial, |dials| {
            Some(
                dials
                    .iter()
                    .filter(|known| known.intent.as_ref() != Some(&dial.intent))
                    .cloned()
                    .collect(),
            )
        })
        .await
    }

    async fn change_dials(
        &self,
        dial: &Dial,
        change: impl Fn(&[RecentDial]) -> Option<Vec<RecentDial>>,
    ) -> Result<(), Trouble> {
        // Which number the server shows when it is not told is its own affair; it is one of ours.
        let shown = match &dial.caller_id {
            Some(number) => std::slice::from_ref(number),
            None => &self.own_numbers,
        };
        for number in std::iter::once(&dial.to).chain(shown) {
            self.change_dials_of(number, &change).await?;
        }
        Ok(())
    }

    async fn change_dials_of(
        &self,
        number: &E164,
        change: impl Fn(&[RecentDial]) -> Option<Vec<RecentDial>>,
    ) -> Result<(), Trouble> {
        let key = self.bus.subjects().number_key(number);
        for _ in 0..NUMBER_TRIES_MAX {
            let entry = self.numbers.get(&key).await?;
            let dials = match &entry {
                Some(entry) => NumberRecord::decode(&entry.value).map_err(own)?,
                None => Vec::new(),
            };
            let Some(changed) = change(&dials).filter(|changed| *changed != dials) else {
                return Ok(());
            };
            let value = NumberRecord::encode(&changed).map_err(own)?;
            match self.numbers.write(&key, value, entry.as_ref()).await {
                Ok(_) => return Ok(()),
                Err(BucketError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Trouble::Own(
            "the record of the number is changed too often".to_owned(),
        ))
    }

    async fn take_hangup(&self, delivery: &Delivery, call: &CallId) -> Result<(), Trouble> {
        let request = match HangupRequest::decode(&delivery.payload) {
            Ok(request) => request,
            Err(error) => {
                let text = crate::error_chain::Chain(&error).to_string();
                return self.give_up(delivery, "bad-command", &text).await;
            }
        };
        let id = match self.id_of_hangup(delivery, request.id.as_deref()) {
            Ok(id) => id,
            Err(error) => return self.bury(delivery, "bad-id", &error.to_string()).await,
        };
        let session = request
            .session
            .as_deref()
            .and_then(|text| SessionKey::parse(text, &self.agent).ok());
        let session = session.unwrap_or_else(|| SessionKey::per_call(&self.agent, call));
        let leg = self.leg_to_cancel(call).await;
        let reason = match self.server.cancel_call(&leg).await {
            Ok(answer) => of_cancel(answer.status, &answer.body),
            // Cancelling twice does no harm, so the stream may bring it back.
            Err(error) if delivery.attempt < 3 => {
                return Err(Trouble::Wait(error.to_string()));
            }
            Err(error) => Some(Reason {
                code: "unreachable".to_owned(),
                text: error.to_string(),
            }),
        };
        if reason.is_none() {
            self.tell_router(&leg, &format!("{id} cancelled"), InputKind::Cancelled)
                .await?;
        }
        self.report(Report {
            intent: id,
            verb: Verb::Hangup,
            session,
            to: None,
            call: Some(call.clone()),
            status: if reason.is_none() {
                Status::Confirmed
            } else {
                Status::Refused
            },
            reason,
        })
        .await
    }

    /// The server only takes back outbound calls, by their first id. For a second leg the router
    /// knows the first.
    async fn leg_to_cancel(&self, call: &CallId) -> CallId {
        if call.as_str().starts_with("CA") {
            return call.clone();
        }
        let known = service::call(self.bus.connection(), call.as_str())
            .await
            .ok()
            .flatten();
        let other = known
            .and_then(|known| known.call.other_leg)
            .and_then(|id| CallId::parse(&id).ok());
        other.unwrap_or_else(|| call.clone())
    }

    pub(super) async fn report(&self, report: Report) -> Result<(), Trouble> {
        // The log of a command is kept under the command's own id.
        let log = CallId::parse(report.intent.as_str()).map_err(own)?;
        let name = format!(
            "{} {} {}",
            report.verb.as_str(),
            report.intent,
            report.status.as_str()
        );
        crate::metrics::command(report.verb.as_str(), report.status.as_str());
        self.tell_router(&log, &name, InputKind::Command(report))
            .await
    }

    /// Puts an input of our own into the stream; `name` makes its id, so that telling twice is
    /// telling once.
    async fn tell_router(&self, call: &CallId, name: &str, kind: InputKind) -> Result<(), Trouble> {
        let id = format!("ev_{}", hex(&Sha256::digest(format!("egress {name}"))));
        let id = EventId::parse(id.get(..35).unwrap_or(&id)).map_err(own)?;
        let now: Timestamp = Utc::now();
        let input = Input {
            id,
            call: call.clone(),
            position: Position::default(),
            happened_at: Some(now),
            received_at: now,
            source_sequence: None,
            kind,
        };
        let payload = encode_input(&input, "egress", None, None).map_err(own)?;
        let subject = self.bus.subjects().input(call, &input.kind);
        self.bus.store(subject, input.id.as_str(), payload).await?;
        Ok(())
    }
}

fn own(error: impl std::fmt::Display) -> Trouble {
    Trouble::Own(error.to_string())
}

fn report(dial: &Dial, status: Status, reason: Option<Reason>) -> Report {
    Report {
        intent: dial.intent.clone(),
        verb: Verb::Dial,
        session: dial.session.clone(),
        to: Some(dial.to.clone()),
        call: None,
        status,
        reason,
    }
}

pub(super) fn record(state: IntentState, body_hash: &str) -> IntentRecord {
    IntentRecord {
        state,
        body_hash: body_hash.to_owned(),
        at: Utc::now(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
