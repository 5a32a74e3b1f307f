//! Taking commands: read one, have it carried out, settle it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use tracing::info;

use super::conversation::{About, Conversation};
use super::dialling::{Arrival, Dialling, Left};
use super::hangup::HangUp;
use super::sessions::Links;
use super::tell::Teller;
use crate::bus::consume::{Delivery, Disposition, Handler};
use crate::bus::envelope::{
    ContextRequest, DialRequest, HangupRequest, ResolveRequest, ResumeRecord, SayRequest,
};
use crate::bus::subjects;
use crate::bus::trouble::Trouble;
use crate::domain::command::{Reason, Report, Verb};
use crate::domain::ids::{AgentId, CallId, Error as IdError, IntentId, SessionKey};
use crate::error_chain::Chain;

/// The consumer's `ack_wait`, as `nats/consumers` has it.
pub(super) const ACK_WAIT: Duration = Duration::from_secs(30);
/// Pause before a command that met a passing trouble comes again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long it is tried to give a call something to know.
const CONTEXT_DEADLINE: TimeDelta = TimeDelta::minutes(2);
/// A word to go on that is older than this was not said about what is seen now.
const RESUME_AGE_MAX: TimeDelta = TimeDelta::minutes(10);

/// Which commands a worker carries out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Dials, and whatever nobody knows.
    Dials,
    /// What is about dials and calls that are there already.
    Control,
}

#[derive(Clone)]
pub(super) struct Worker {
    pub lane: Lane,
    pub dialling: Dialling,
    pub hang_up: HangUp,
    pub conversation: Conversation,
    pub links: Links,
    pub teller: Teller,
    pub agent: AgentId,
    pub in_flight: Arc<AtomicUsize>,
}

impl Handler for Worker {
    const RETRY_PAUSE: Duration = RETRY_PAUSE;

    async fn take(&mut self, delivery: &Delivery) -> Result<Disposition, Trouble> {
        let _counted = InFlight::one(&self.in_flight);
        match self.taken(delivery).await? {
            Left::Done => Ok(Disposition::Ack),
            Left::Again(after) => Ok(Disposition::Retry { after }),
            Left::Conflict => {
                let reason = "another dial has this intent; the first is left as it is";
                self.bury(delivery, "conflict", reason).await?;
                Ok(Disposition::Ack)
            }
        }
    }

    async fn give_up(&mut self, delivery: &Delivery, reason: &str) -> Result<(), Trouble> {
        Self::give_up(self, delivery, "exhausted", reason).await
    }
}

/// A command that is being carried out, for as long as the value lives.
struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    fn one(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Worker {
    async fn taken(&self, delivery: &Delivery) -> Result<Left, Trouble> {
        if self.lane == Lane::Dials && subjects::is_control(&delivery.subject) {
            // The other consumer has it.
            return Ok(Left::Done);
        }
        match subjects::parse_command(&delivery.subject) {
            Some((verb @ ("dial" | "cancel" | "resolve"), key)) => match IntentId::parse(key) {
                Ok(intent) => match verb {
                    "dial" => self.take_dial(delivery, &intent).await,
                    "cancel" => self.dialling.cancelled(arrival(delivery, &intent)).await,
                    _ => self.take_resolve(delivery, &intent).await,
                },
                Err(error) => self.buried(delivery, "bad-id", &error.to_string()).await,
            },
            Some((verb @ ("hangup" | "context" | "say"), key)) => match CallId::parse(key) {
                Ok(call) => match verb {
                    "hangup" => self.take_hangup(delivery, &call).await,
                    "context" => self.take_context(delivery, &call).await,
                    _ => self.take_say(delivery, &call).await,
                },
                Err(error) => self.buried(delivery, "bad-id", &error.to_string()).await,
            },
            Some((word @ ("link" | "unlink"), key)) => match IntentId::parse(key) {
                Ok(id) => {
                    let verb = match word {
                        "link" => Verb::Link,
                        _ => Verb::Unlink,
                    };
                    self.take_link(delivery, verb, id).await
                }
                Err(error) => self.buried(delivery, "bad-id", &error.to_string()).await,
            },
            Some(("resume", "dialling")) => self.take_resume(delivery).await,
            _ => {
                self.buried(delivery, "unknown-command", "nobody knows this command")
                    .await
            }
        }
    }

    async fn take_dial(&self, delivery: &Delivery, intent: &IntentId) -> Result<Left, Trouble> {
        let request = match DialRequest::decode(&delivery.payload) {
            Ok(request) => request,
            Err(error) => return self.malformed(delivery, &error).await,
        };
        match request.to_dial(intent.clone(), &self.agent, delivery.stored_at) {
            Ok(dial) => {
                let arrival = Arrival {
                    dial: Some(&dial),
                    ..arrival(delivery, intent)
                };
                self.dialling.asked(arrival, request.wish(&dial)).await
            }
            Err(error) => {
                let reason = Reason::new("bad-command", Chain(&error).to_string());
                self.refuse_dial(delivery, intent, Some(&request), reason)
                    .await
            }
        }
    }

    async fn take_hangup(&self, delivery: &Delivery, call: &CallId) -> Result<Left, Trouble> {
        let request = match HangupRequest::decode(&delivery.payload) {
            Ok(request) => request,
            Err(error) => return self.malformed(delivery, &error).await,
        };
        let id = match id_of(delivery, Verb::Hangup, request.id.as_deref()) {
            Ok(id) => id,
            Err(error) => return self.buried(delivery, "bad-id", &error.to_string()).await,
        };
        let session = request
            .session
            .as_deref()
            .and_then(|text| SessionKey::parse(text, &self.agent).ok());
        let session = session.unwrap_or_else(|| SessionKey::per_call(&self.agent, call));
        self.hang_up
            .perform(id, call, session, delivery.attempt)
            .await
            .map(|()| Left::Done)
    }

    async fn take_context(&self, delivery: &Delivery, call: &CallId) -> Result<Left, Trouble> {
        let request = match ContextRequest::decode(&delivery.payload) {
            Ok(request) => request,
            Err(error) => return self.malformed(delivery, &error).await,
        };
        let id = match id_of(delivery, Verb::Context, request.id.as_deref()) {
            Ok(id) => id,
            Err(error) => return self.buried(delivery, "bad-id", &error.to_string()).await,
        };
        let report = match request.session(&self.agent) {
            Ok(session) => {
                let about = About {
                    id,
                    verb: Verb::Context,
                    call: call.clone(),
                    session,
                    deadline: delivery.stored_at + CONTEXT_DEADLINE,
                    attempt: delivery.attempt,
                };
                self.conversation.know(about, &request.context).await?
            }
            Err(error) => self.refused(id, Verb::Context, bad_command(&error)),
        };
        self.done(report).await
    }

    async fn take_say(&self, delivery: &Delivery, call: &CallId) -> Result<Left, Trouble> {
        let request = match SayRequest::decode(&delivery.payload) {
            Ok(request) => request,
            Err(error) => return self.malformed(delivery, &error).await,
        };
        let id = match id_of(delivery, Verb::Say, request.id.as_deref()) {
            Ok(id) => id,
            Err(error) => return self.buried(delivery, "bad-id", &error.to_string()).await,
        };
        let asked_at = delivery.stored_at;
        let report = match request.to_say(id.clone(), call.clone(), &self.agent, asked_at) {
            Ok(say) => self.conversation.say(say, delivery.attempt).await?,
            Err(error) => self.refused(id, Verb::Say, bad_command(&error)),
        };
        self.done(report).await
    }

    /// Tells the end of a command.
    pub(super) async fn done(&self, report: Report) -> Result<Left, Trouble> {
        self.teller.report(report).await.map(|()| Left::Done)
    }

    async fn take_resolve(&self, delivery: &Delivery, intent: &IntentId) -> Result<Left, Trouble> {
        match ResolveRequest::decode(&delivery.payload) {
            Ok(resolution) => {
                self.dialling
                    .resolved(arrival(delivery, intent), resolution)
                    .await
            }
            Err(error) => {
                let text = Chain(&error).to_string();
                self.buried(delivery, "bad-command", &text).await
            }
        }
    }

    /// A person lets dialling go on. Every egress learns of it from the bucket.
    async fn take_resume(&self, delivery: &Delivery) -> Result<Left, Trouble> {
        if (Utc::now() - delivery.stored_at).abs() > RESUME_AGE_MAX {
            let reason = "it is too old to be about what is seen now";
            return self.buried(delivery, "too-late", reason).await;
        }
        let record = ResumeRecord {
            at: delivery.stored_at,
        };
        let value = record
            .encode()
            .map_err(|error| Trouble::Own(error.to_string()))?;
        self.dialling.intents.resume(value).await?;
        info!("a person lets dialling go on");
        Ok(Left::Done)
    }

    async fn malformed(
        &self,
        delivery: &Delivery,
        error: &crate::bus::envelope::Error,
    ) -> Result<Left, Trouble> {
        let text = Chain(error).to_string();
        self.give_up(delivery, "bad-command", &text)
            .await
            .map(|()| Left::Done)
    }

    pub(super) async fn buried(
        &self,
        delivery: &Delivery,
        code: &'static str,
        reason: &str,
    ) -> Result<Left, Trouble> {
        self.bury(delivery, code, reason).await.map(|()| Left::Done)
    }
}

fn bad_command(error: &crate::bus::envelope::Error) -> Reason {
    Reason::new("bad-command", Chain(error).to_string())
}

/// The id that a command goes by: its own, else one of its place in the stream.
pub(super) fn id_of(
    delivery: &Delivery,
    verb: Verb,
    own: Option<&str>,
) -> Result<IntentId, IdError> {
    match own {
        Some(id) => IntentId::parse(id),
        None => IntentId::parse(&format!("{}-{}", verb.as_str(), delivery.stream_sequence)),
    }
}

pub(super) fn arrival<'a>(delivery: &Delivery, intent: &'a IntentId) -> Arrival<'a> {
    Arrival {
        intent,
        dial: None,
        sequence: delivery.stream_sequence,
        attempt: delivery.attempt,
    }
}
