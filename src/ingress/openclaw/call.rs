//! `POST /openclaw/call` and what became of it.

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Json, http::HeaderName};
use chrono::Utc;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::deadline::Deadline;
use super::{answered, no_view, not_done, not_stored, refused, wait};
use crate::bus::command::Named;
use crate::bus::envelope::{CommandSnapshot, DialRequest, Outcome};
use crate::bus::idempotency::Key;
use crate::bus::service;
use crate::domain::Timestamp;
use crate::domain::command::Status;
use crate::domain::ids::IntentId;
use crate::error_chain::Chain;
use crate::fresh_intent;
use crate::http::Error;
use crate::ingress::Ingress;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

#[derive(Deserialize)]
pub(in crate::ingress) struct PlaceCall {
    to: String,
    message: String,
    openclaw_session_id: Option<String>,
    agent: Option<String>,
    caller_id: Option<String>,
    context: Option<Box<RawValue>>,
    deadline: Option<Deadline>,
}

/// Whose keys they are. All who may come in by this door are one client: a token that is replaced
/// while somebody tries again must not make a second wish of the first.
const DOOR: &str = "http";

/// `POST /openclaw/call`: places a call and waits for what becomes of it.
pub(in crate::ingress) async fn place_call(
    State(ingress): State<Ingress>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Error> {
    let key = idempotency_key(&headers)?;
    let wait = wait::asked(&headers, query.as_deref())?;
    let asked: PlaceCall = ingress.read_command(&headers, body).await?;
    let now = Utc::now();
    let intent = key
        .as_ref()
        .map_or_else(fresh_intent, |key| key.intent(DOOR));
    let session = asked.openclaw_session_id.as_deref();
    let mut request = DialRequest {
        to: asked.to,
        caller_id: asked.caller_id,
        message: Some(asked.message),
        context: asked.context,
        session: session.map(str::to_owned),
        agent: asked.agent,
        ..DialRequest::default()
    };
    let dial = request
        .to_dial(intent.clone(), &ingress.settings.agent, now)
        .map_err(|error| invalid(Chain(&error).to_string()))?;
    // Egress decides; what it would refuse in any case need not get that far.
    let deadline = asked.deadline.map(|deadline| deadline.at(now)).transpose();
    let rules = &ingress.settings.rules;
    let checked = deadline.and_then(|deadline| {
        let passed = rules.check(&dial, now);
        passed.map_err(|refusal| refused(&refusal.clone().into(), refusal.passes_at))?;
        Ok(deadline)
    });
    let outcome = match checked {
        Ok(deadline) => {
            request.deadline = deadline;
            let named = key.as_ref().map_or(Named::Now, |_key| Named::ByCaller);
            ingress.bus.dial(&intent, named, &request, wait).await
        }
        // It may have been asked for in time, and be asked for again.
        Err(refusal) if key.is_some() => match ingress.bus.told_of_dial(&intent, &request).await {
            Ok(None) => return Err(refusal),
            Ok(Some(told)) => Ok(told),
            Err(error) => Err(error),
        },
        Err(refusal) => return Err(refusal),
    };
    let outcome = outcome.map_err(|error| not_stored(&error))?;
    let about = About {
        intent: &intent,
        session: session.unwrap_or(dial.session.as_str()),
        key: dial.session.as_str(),
    };
    about.answer(&ingress, &outcome).await
}

/// `GET /openclaw/call/{intent}`: what became of a call that was asked for.
pub(in crate::ingress) async fn outcome(
    State(ingress): State<Ingress>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let unknown = || {
        Error::new(
            StatusCode::NOT_FOUND,
            "no_such_intent",
            "nothing is known of an intent of this id; one that was just stored is known in a moment",
        )
    };
    let intent = IntentId::parse(&id).map_err(|_error| unknown())?;
    let command = service::command(ingress.bus.connection(), &intent)
        .await
        .map_err(|error| no_view(&error))?
        .ok_or_else(unknown)?;
    let about = About {
        intent: &intent,
        session: &command.session,
        key: &command.session,
    };
    about
        .answer(&ingress, &Outcome::answered(command.clone()))
        .await
}

/// What an answer is about.
struct About<'a> {
    intent: &'a IntentId,
    /// The session as the caller wrote it.
    session: &'a str,
    /// The session as it is.
    key: &'a str,
}

impl About<'_> {
    async fn answer(
        &self,
        ingress: &Ingress,
        outcome: &Outcome,
    ) -> Result<(StatusCode, Json<Value>), Error> {
        let Self {
            intent,
            session,
            key,
        } = self;
        match answered(outcome) {
            Some((Status::Confirmed, command)) => Ok((
                StatusCode::OK,
                Json(json!({
                    "status": "initiated",
                    "call_id": command.call,
                    "openclaw_session_id": session,
                    "session_key": key,
                    "intent_id": intent.as_str(),
                    "message": initiated(command),
                })),
            )),
            None | Some((Status::Accepted, _)) => Ok((
                StatusCode::ACCEPTED,
                Json(json!({
                    "status": "queued",
                    "intent_id": intent.as_str(),
                    "openclaw_session_id": session,
                    "session_key": key,
                    "message": format!("the call is stored and will be placed; ask for its outcome at /openclaw/call/{intent}"),
                })),
            )),
            Some((status, command)) => {
                let passes_at = match status {
                    Status::Refused => passes_at(ingress, intent).await,
                    _ => None,
                };
                Err(not_done(status, command, passes_at).about(intent.as_str()))
            }
        }
    }
}

/// When a wish that a guard has refused would pass, as egress has it on record.
async fn passes_at(ingress: &Ingress, intent: &IntentId) -> Option<Timestamp> {
    let record = service::intent(ingress.bus.connection(), intent).await;
    record.ok()??.passes_at
}

fn initiated(command: &CommandSnapshot) -> String {
    match &command.to {
        Some(to) => format!("OpenClaw call initiated to {to}"),
        None => "OpenClaw call initiated".to_owned(),
    }
}

/// The key of the header, if there is one.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<Key>, Error> {
    let mut lines = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(line) = lines.next() else {
        return Ok(None);
    };
    if lines.next().is_some() {
        return Err(Error::new(
            StatusCode::BAD_REQUEST,
            "duplicate_header",
            "the Idempotency-Key header is there twice",
        ));
    }
    let key = line.to_str().ok().and_then(|text| Key::parse(text).ok());
    key.map(Some).ok_or_else(|| {
        Error::new(
            StatusCode::BAD_REQUEST,
            "invalid_idempotency_key",
            "the Idempotency-Key header must have 1 to 128 printable ASCII characters",
        )
    })
}

fn invalid(text: String) -> Error {
    Error::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_command", text)
}
