//! The replaced bridge's API for OpenClaw, in its shapes: implemented by commands and by the
//! router's read model.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use chrono::Utc;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Ingress;
use super::body::ContentType;
use super::source::{NewEvent, Source, json as strict_json};
use crate::bus::command;
use crate::bus::envelope::command::CONTEXT_LENGTH_MAX;
use crate::bus::envelope::{CommandSnapshot, DialRequest, Outcome};
use crate::bus::service::{self, CallView, SessionView};
use crate::domain::command::Status;
use crate::domain::ids::{CallId, EventId, SessionKey};
use crate::domain::input::InputKind;
use crate::error_chain::Chain;
use crate::fresh_intent;
use crate::http::Error;

/// How long a request waits for the outcome of its command. The old bridge's clients wait 30 s.
const WAIT: Duration = Duration::from_secs(20);

/// Most calls that are ended for one session by one request.
const ENDED_AT_ONCE_MAX: usize = 8;

#[derive(Deserialize)]
struct PlaceCall {
    to: String,
    openclaw_session_id: String,
    caller_id: Option<String>,
    message: Option<String>,
    context: Option<Box<RawValue>>,
}

/// `POST /openclaw/call`: places a call and waits for what becomes of it.
pub(super) async fn place_call(
    State(ingress): State<Ingress>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Error> {
    let asked: PlaceCall = ingress.read_command(&headers, body).await?;
    let session = ingress.session_key(&asked.openclaw_session_id)?;
    let intent = fresh_intent();
    let request = DialRequest {
        to: asked.to,
        caller_id: asked.caller_id,
        message: asked.message,
        context: asked.context,
        session: Some(session.to_string()),
        ..DialRequest::default()
    };
    let dial = request.to_dial(intent.clone(), &ingress.settings.agent, Utc::now());
    let dial = dial.map_err(|error| {
        Error::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_command",
            Chain(&error).to_string(),
        )
    })?;
    let outcome = ingress
        .bus
        .dial(&intent, &request, WAIT)
        .await
        .map_err(|error| not_stored(&error))?;
    match answered(&outcome) {
        None => Ok((
            StatusCode::ACCEPTED,
            Json(json!({
                "status": "queued",
                "intent_id": intent.as_str(),
                "openclaw_session_id": asked.openclaw_session_id,
                "message": "the call is stored and will be placed; its outcome comes as a command event",
            })),
        )),
        Some((Status::Confirmed, command)) => Ok((
            StatusCode::OK,
            Json(json!({
                "status": "initiated",
                "call_id": command.call,
                "openclaw_session_id": asked.openclaw_session_id,
                "intent_id": intent.as_str(),
                "message": format!("OpenClaw call initiated to {}", dial.to),
            })),
        )),
        Some((status, command)) => Err(not_done(status, command).about(intent.as_str())),
    }
}

/// `DELETE /openclaw/call/{session}`: ends the calls of a session.
pub(super) async fn end_call(
    State(ingress): State<Ingress>,
    Path(session): Path<String>,
) -> Result<Json<Value>, Error> {
    let key = ingress.session_key(&session)?;
    let view = ingress.session_view(&key).await?;
    let mut ended = Vec::new();
    let mut failure = None;
    for call in view
        .active
        .iter()
        .filter(|call| is_first_leg(call))
        .take(ENDED_AT_ONCE_MAX)
    {
        let Ok(id) = CallId::parse(&call.call.id) else {
            continue;
        };
        let outcome = ingress
            .bus
            .hang_up(&fresh_intent(), &id, Some(key.to_string()), WAIT)
            .await;
        let outcome = outcome.map_err(|error| not_stored(&error))?;
        match answered(&outcome) {
            Some((Status::Confirmed, _)) | None => ended.push(id),
            Some((status, command)) => failure = Some(not_done(status, command)),
        }
    }
    match (ended.first(), failure) {
        (Some(call), _) => Ok(Json(
            json!({ "status": "canceled", "call_id": call.as_str(), "calls": ended.len() }),
        )),
        (None, Some(failure)) => Err(failure),
        (None, None) => Err(no_session()),
    }
}

#[derive(Deserialize)]
struct InjectContext {
    call_id: String,
    openclaw_session_id: String,
    context: Box<RawValue>,
}

/// `POST /openclaw/context`: gives a call something to know.
pub(super) async fn inject_context(
    State(ingress): State<Ingress>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Error> {
    let asked: InjectContext = ingress.read_command(&headers, body).await?;
    let call = CallId::parse(&asked.call_id).map_err(|error| {
        Error::new(
            StatusCode::BAD_REQUEST,
            "invalid_call_id",
            error.to_string(),
        )
    })?;
    let session = ingress.session_key(&asked.openclaw_session_id)?;
    let context = asked.context.get();
    if !context.starts_with('{') || context.len() > CONTEXT_LENGTH_MAX {
        return Err(Error::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_context",
            format!("`context` must be an object of at most {CONTEXT_LENGTH_MAX} bytes"),
        ));
    }
    let known = service::call(ingress.bus.connection(), call.as_str())
        .await
        .map_err(|error| no_view(&error))?;
    let known = known.ok_or_else(|| {
        Error::new(
            StatusCode::NOT_FOUND,
            "no_such_call",
            "no call of this id is known",
        )
    })?;
    if known.call.session != session.as_str() {
        let text = "the call belongs to another session";
        return Err(Error::new(StatusCode::CONFLICT, "other_session", text));
    }
    if known.call.state == "ended" {
        return Err(Error::new(
            StatusCode::CONFLICT,
            "call_ended",
            "the call is over",
        ));
    }
    let id = format!("ev_{}", uuid::Uuid::now_v7().simple());
    let id = EventId::parse(&id).map_err(|error| {
        Error::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            error.to_string(),
        )
    })?;
    let event = NewEvent {
        source: Source::OpenClaw,
        call,
        id,
        happened_at: None,
        source_sequence: None,
        kind: InputKind::Context(context.to_owned()),
        traceparent: None,
    };
    ingress.publish(event, None, &bytes::Bytes::new()).await?;
    Ok(Json(
        json!({ "status": "context_injected", "call_id": asked.call_id }),
    ))
}

/// `GET /openclaw/sessions`: the sessions that have a call which is not over.
pub(super) async fn sessions(State(ingress): State<Ingress>) -> Result<Json<Value>, Error> {
    let sessions = service::sessions(ingress.bus.connection())
        .await
        .map_err(|error| no_view(&error))?;
    let sessions: Vec<Value> = sessions.iter().filter_map(session_entry).collect();
    Ok(Json(
        json!({ "active_sessions": sessions.len(), "sessions": sessions }),
    ))
}

/// `GET /openclaw/session/{id}`: one session, also when its calls are over.
pub(super) async fn session(
    State(ingress): State<Ingress>,
    Path(session): Path<String>,
) -> Result<Json<Value>, Error> {
    let key = ingress.session_key(&session)?;
    let view = ingress.session_view(&key).await?;
    session_entry(&view).map(Json).ok_or_else(no_session)
}

/// A session as the replaced bridge showed it: by its newest call, the others beside it.
fn session_entry(view: &SessionView) -> Option<Value> {
    let newest = view
        .active
        .iter()
        .find(|call| is_first_leg(call))
        .or(view.active.first())
        .or(view.ended.first())?;
    let ids: Vec<&str> = view
        .active
        .iter()
        .chain(&view.ended)
        .map(|call| call.call.id.as_str())
        .collect();
    Some(json!({
        "openclaw_session_id": view.session,
        "phone_number": newest.call.number,
        "caller_id": null,
        "context": null,
        "created_at": newest.call.initiated_at,
        "status": newest.call.state,
        "current_status": newest.call.state,
        "call_id": newest.call.id,
        "direction": newest.call.direction,
        "call_ids": ids,
    }))
}

/// Of the two ids of an outbound call the first is the one that the server takes commands for.
fn is_first_leg(call: &CallView) -> bool {
    !(call.call.direction.as_deref() == Some("inbound") && call.call.other_leg.is_some())
}

impl Ingress {
    /// Reads a command's body strictly, then for what this door needs; other fields are ignored,
    /// as the replaced bridge did.
    async fn read_command<T: serde::de::DeserializeOwned>(
        &self,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<T, Error> {
        let bytes = self.bodies.read(headers, body, ContentType::Json).await?;
        strict_json::parse(&bytes).map_err(|error| {
            Error::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                error.code(),
                error.to_string(),
            )
        })?;
        serde_json::from_slice(&bytes).map_err(|error| {
            let text = format!("the command cannot be read: {}", what_is_wrong(&error));
            Error::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_command", text)
        })
    }

    fn session_key(&self, text: &str) -> Result<SessionKey, Error> {
        SessionKey::parse(text, &self.settings.agent).map_err(|error| {
            Error::new(
                StatusCode::BAD_REQUEST,
                "invalid_session",
                error.to_string(),
            )
        })
    }

    async fn session_view(&self, key: &SessionKey) -> Result<SessionView, Error> {
        let view = service::session(self.bus.connection(), key.as_str()).await;
        view.map_err(|error| no_view(&error))?
            .ok_or_else(no_session)
    }
}

/// What serde says, unless it shows a value of the request.
fn what_is_wrong(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("missing field") {
        text
    } else {
        "a field has the wrong type".to_owned()
    }
}

fn no_session() -> Error {
    Error::new(
        StatusCode::NOT_FOUND,
        "no_such_session",
        "OpenClaw session not found",
    )
}

fn no_view(error: &service::Error) -> Error {
    Error::unavailable("router_away", Chain(error).to_string())
}

fn not_stored(error: &command::Error) -> Error {
    match error {
        command::Error::Request(error) => Error::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_command",
            Chain(error).to_string(),
        ),
        command::Error::Publish(_) | command::Error::Listen(_) => {
            tracing::warn!(error = %Chain(error), "command not stored");
            Error::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "not_stored",
                "the bus did not take the command in time; ask for the session before sending it again",
            )
        }
    }
}

fn answered(outcome: &Outcome) -> Option<(Status, &CommandSnapshot)> {
    let command = outcome.command.as_ref()?;
    Some((Status::parse(&command.status)?, command))
}

/// A command that was answered with anything but a confirmation.
fn not_done(status: Status, command: &CommandSnapshot) -> Error {
    let reason = command
        .reason
        .clone()
        .unwrap_or_else(|| "no reason given".to_owned());
    match status {
        Status::Unknown => Error::new(
            StatusCode::BAD_GATEWAY,
            "outcome_unknown",
            format!(
                "it is not known whether the phone rang; do not place the call again: {reason}"
            ),
        ),
        Status::Expired => Error::new(StatusCode::GATEWAY_TIMEOUT, "expired", reason),
        Status::Cancelled => Error::new(StatusCode::CONFLICT, "cancelled", reason),
        Status::Refused | Status::Accepted | Status::Confirmed => {
            let status = match command.code.as_deref() {
                Some("bad-request" | "bad-command") => StatusCode::UNPROCESSABLE_ENTITY,
                Some("no-such-call") => StatusCode::NOT_FOUND,
                Some("not-configured") => StatusCode::SERVICE_UNAVAILABLE,
                Some("carrier-busy" | "server-busy") => StatusCode::TOO_MANY_REQUESTS,
                _ => StatusCode::BAD_GATEWAY,
            };
            Error::new(status, "refused", reason)
        }
    }
}
