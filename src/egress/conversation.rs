//! Speaking into a conversation that is going on: have the assistant say something, give it
//! something to know. Only a tap beside the voice server can; it keeps account of what it has done,
//! by the command's id, so it is asked again when its answer was lost.

use chrono::Utc;
use serde_json::json;
use serde_json::value::RawValue;

use super::deed::{Meaning, of_deed};
use super::tell::Teller;
use super::voice_server::{Error, VoiceServer};
use crate::bus::service;
use crate::bus::trouble::Trouble;
use crate::domain::Timestamp;
use crate::domain::command::{Reason, Report, Say, Status, Verb};
use crate::domain::ids::{AgentId, CallId, IntentId, SessionKey};
use crate::domain::input::{Context, InputKind};

/// Deliveries after which a conversation that does not answer is not waited for: who reads the feed
/// should know soon.
const CONTEXT_ATTEMPTS_MAX: u64 = 3;

/// Who speaks into conversations.
#[derive(Clone)]
pub(super) struct Conversation {
    pub server: VoiceServer,
    pub teller: Teller,
    pub agent: AgentId,
}

/// A command about a conversation.
pub(super) struct About {
    pub id: IntentId,
    pub verb: Verb,
    pub call: CallId,
    /// The session that the call must be in, if one is named.
    pub session: Option<SessionKey>,
    /// Until when it is tried.
    pub deadline: Timestamp,
    /// Which delivery of the command this is.
    pub attempt: u64,
}

impl Conversation {
    /// Has the assistant say something, and says what came of it.
    pub async fn say(&self, say: Say, attempt: u64) -> Result<Report, Trouble> {
        let about = About {
            id: say.id,
            verb: Verb::Say,
            call: say.call,
            session: say.session,
            deadline: say.deadline,
            attempt,
        };
        let session = match self.session_of_live_call(&about).await? {
            Ok(session) => session,
            Err(report) => return Ok(*report),
        };
        let body = json!({ "text": say.text });
        let (status, reason) = match self.ask(&about, &body).await {
            Meaning::Done => (Status::Confirmed, None),
            Meaning::Not(reason) => (Status::Refused, Some(reason)),
            Meaning::NotYet(reason) | Meaning::Open(reason) if Utc::now() < about.deadline => {
                return Err(Trouble::Wait(reason.text));
            }
            // Another delivery may have been taken.
            Meaning::NotYet(reason) if attempt > 1 => (Status::Unknown, Some(reason)),
            Meaning::NotYet(_) | Meaning::Late => (
                Status::Expired,
                Some(Reason::new("deadline", "it was not said in time")),
            ),
            Meaning::Open(reason) | Meaning::Unclear(reason) => (Status::Unknown, Some(reason)),
        };
        Ok(about.report(session, status, reason))
    }

    /// Gives a call something to know: the conversation, where there is a tap, and in any case
    /// those who read of the call.
    pub async fn know(&self, about: About, context: &RawValue) -> Result<Report, Trouble> {
        let session = match self.session_of_live_call(&about).await? {
            Ok(session) => session,
            Err(report) => return Ok(*report),
        };
        let not_live = match self.ask(&about, &json!({ "context": context })).await {
            Meaning::Done => None,
            Meaning::Not(reason) if reason.code == "call-ended" => {
                return Ok(about.report(session, Status::Refused, Some(reason)));
            }
            Meaning::Open(reason) if about.attempt < CONTEXT_ATTEMPTS_MAX => {
                return Err(Trouble::Wait(reason.text));
            }
            Meaning::Late => Some(Reason::new("deadline", "it is too late to tell it")),
            Meaning::Not(reason)
            | Meaning::NotYet(reason)
            | Meaning::Open(reason)
            | Meaning::Unclear(reason) => Some(reason),
        };
        let input = InputKind::Context(Context {
            json: context.get().to_owned(),
            live: not_live.is_none(),
        });
        let name = format!("context {}", about.id);
        self.teller.input(&about.call, &name, input).await?;
        Ok(about.report(session, Status::Confirmed, not_live))
    }

    async fn ask(&self, about: &About, body: &serde_json::Value) -> Meaning {
        let answer = self
            .server
            .speak_into(&about.call, about.verb, &about.id, about.deadline, body)
            .await;
        let unreachable = |error: Error| Reason::new("unreachable", error.to_string());
        match answer {
            Ok(answer) => of_deed(&answer),
            Err(error @ Error::NotSent(_)) => Meaning::NotYet(unreachable(error)),
            Err(error) => Meaning::Open(unreachable(error)),
        }
    }

    /// The session of the call; else the end of the command.
    async fn session_of_live_call(
        &self,
        about: &About,
    ) -> Result<Result<SessionKey, Box<Report>>, Trouble> {
        let own_session = || SessionKey::per_call(&self.agent, &about.call);
        let over =
            |session, status, reason| Ok(Err(Box::new(about.report(session, status, reason))));
        let connection = self.teller.bus.connection();
        let known = match service::call(connection, about.call.as_str()).await {
            Ok(known) => known,
            Err(_) if Utc::now() > about.deadline => {
                let reason = Reason::new("deadline", "nobody knew the call in time");
                return over(own_session(), Status::Expired, Some(reason));
            }
            Err(error) => return Err(Trouble::Wait(error.to_string())),
        };
        let session = known
            .as_ref()
            .and_then(|known| SessionKey::parse(&known.call.session, &self.agent).ok())
            .unwrap_or_else(own_session);
        let refusal = match &known {
            None => Some(Reason::new("no-such-call", "no call of this id is known")),
            // A later delivery may be of one that was done before the end; the tap knows.
            Some(known) if known.call.state == "ended" && about.attempt == 1 => {
                Some(Reason::new("call-ended", "the call is over"))
            }
            Some(_)
                if about
                    .session
                    .as_ref()
                    .is_some_and(|wanted| *wanted != session) =>
            {
                Some(Reason::new(
                    "other-session",
                    "the call belongs to another session",
                ))
            }
            Some(_) => None,
        };
        match refusal {
            Some(_) => over(session, Status::Refused, refusal),
            None => Ok(Ok(session)),
        }
    }
}

impl About {
    fn report(&self, session: SessionKey, status: Status, reason: Option<Reason>) -> Report {
        Report {
            intent: self.id.clone(),
            verb: self.verb,
            session,
            to: None,
            call: Some(self.call.clone()),
            status,
            reason,
        }
    }
}
