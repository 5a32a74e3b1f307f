//! `POST /openclaw/context` and `POST /openclaw/say`: give a call something to know, have the
//! assistant say something in it.

use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::call::idempotency_key;
use super::{answered, no_view, not_stored, wait};
use crate::bus::envelope::{CommandSnapshot, ContextRequest, Outcome, SayRequest};
use crate::bus::idempotency::Key;
use crate::bus::service;
use crate::domain::command::Status;
use crate::domain::ids::{CallId, IntentId, SessionKey};
use crate::error_chain::Chain;
use crate::fresh_intent;
use crate::http::Error;
use crate::http::error::Refusal;
use crate::ingress::Ingress;
use crate::ingress::answers::{CallCommandStored, ContextInjected, Said};

/// Whose keys they are: a key of one door is no other door's.
const DOOR_OF_CONTEXT: &str = "http context";
const DOOR_OF_SAY: &str = "http say";

/// What a call shall know.
#[derive(Deserialize, ToSchema)]
pub(in crate::ingress) struct InjectContext {
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]{1,128}$")]
    call_id: String,
    /// The session that the call belongs to.
    openclaw_session_id: String,
    #[schema(value_type = Object)]
    context: Box<RawValue>,
}

/// Gives a call something to know.
#[utoipa::path(post, path = "/openclaw/context", tag = "commands", request_body = InjectContext,
    params(
        ("wait" = Option<u64>, Query, description = "Seconds to wait for the outcome; 20 by default, 60 at most."),
        ("Prefer" = Option<String>, Header, description = "`wait=N`, likewise."),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 128 printable ASCII characters; the same key is the same command."),
    ),
    responses(
        (status = 200, body = ContextInjected), (status = 202, body = CallCommandStored),
        (status = 404, body = Refusal), (status = 409, body = Refusal), (status = 422, body = Refusal),
        (status = 501, body = Refusal), (status = 502, body = Refusal), (status = 504, body = Refusal)
    ))]
pub(in crate::ingress) async fn inject_context(
    State(ingress): State<Ingress>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let key = idempotency_key(&headers)?;
    let wait = wait::asked(&headers, query.as_deref())?;
    let asked: InjectContext = ingress.read_command(&headers, body).await?;
    let call = call(&asked.call_id)?;
    let session = ingress.session_key(&asked.openclaw_session_id)?;
    let request = ContextRequest {
        id: None,
        context: asked.context,
        session: Some(session.to_string()),
    };
    request.check().map_err(|error| {
        let text = Chain(&error).to_string();
        Error::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_context", text)
    })?;
    let id = ingress
        .command_id(key.as_ref(), DOOR_OF_CONTEXT, &call, Some(&session))
        .await?;
    let outcome = ingress.bus.give_context(&id, &call, &request, wait).await;
    let outcome = outcome.map_err(|error| not_stored(&error))?;
    answer(&call, &outcome, |command| ContextInjected {
        status: "context_injected",
        call_id: call.to_string(),
        // Without a reason nothing is short of it.
        live: command.code.is_none(),
    })
}

/// What the assistant shall say.
#[derive(Deserialize, ToSchema)]
pub(in crate::ingress) struct Say {
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]{1,128}$")]
    call_id: String,
    text: String,
    /// The session that the call belongs to, to be sure.
    openclaw_session_id: Option<String>,
}

/// Has the assistant say something.
#[utoipa::path(post, path = "/openclaw/say", tag = "commands", request_body = Say,
    params(
        ("wait" = Option<u64>, Query, description = "Seconds to wait for the outcome; 20 by default, 60 at most."),
        ("Prefer" = Option<String>, Header, description = "`wait=N`, likewise."),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 128 printable ASCII characters; the same key is the same command."),
    ),
    responses(
        (status = 200, body = Said), (status = 202, body = CallCommandStored),
        (status = 404, body = Refusal), (status = 409, body = Refusal), (status = 422, body = Refusal),
        (status = 501, body = Refusal), (status = 502, body = Refusal), (status = 504, body = Refusal)
    ))]
pub(in crate::ingress) async fn say(
    State(ingress): State<Ingress>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let key = idempotency_key(&headers)?;
    let wait = wait::asked(&headers, query.as_deref())?;
    let asked: Say = ingress.read_command(&headers, body).await?;
    let call = call(&asked.call_id)?;
    let session = asked.openclaw_session_id.as_deref();
    let session = session.map(|text| ingress.session_key(text)).transpose()?;
    let request = SayRequest {
        text: asked.text,
        session: session.as_ref().map(ToString::to_string),
        ..SayRequest::default()
    };
    request.check().map_err(|error| {
        let text = Chain(&error).to_string();
        Error::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_command", text)
    })?;
    let id = ingress
        .command_id(key.as_ref(), DOOR_OF_SAY, &call, session.as_ref())
        .await?;
    let outcome = ingress.bus.say(&id, &call, &request, wait).await;
    let outcome = outcome.map_err(|error| not_stored(&error))?;
    answer(&call, &outcome, |_| Said {
        status: "said",
        call_id: call.to_string(),
    })
}

impl Ingress {
    /// The id of a command about a call: of the caller's key, else a new one. A new command about a
    /// call that is not there, or not meant, need not get as far as egress; who asks again is told
    /// what was said the first time.
    async fn command_id(
        &self,
        key: Option<&Key>,
        door: &str,
        call: &CallId,
        session: Option<&SessionKey>,
    ) -> Result<IntentId, Error> {
        if let Some(key) = key {
            return Ok(key.intent(door));
        }
        let known = service::call(self.bus.connection(), call.as_str()).await;
        let known = known.map_err(|error| no_view(&error))?;
        let refused = |status, code, text: &str| Err(Error::new(status, code, text));
        match known {
            None => refused(
                StatusCode::NOT_FOUND,
                "no_such_call",
                "no call of this id is known",
            ),
            Some(known) if session.is_some_and(|key| key.as_str() != known.call.session) => {
                refused(
                    StatusCode::CONFLICT,
                    "other_session",
                    "the call belongs to another session",
                )
            }
            Some(known) if known.call.state == "ended" => {
                refused(StatusCode::CONFLICT, "call_ended", "the call is over")
            }
            Some(_) => Ok(fresh_intent()),
        }
    }
}

fn call(text: &str) -> Result<CallId, Error> {
    CallId::parse(text).map_err(|error| {
        let text = error.to_string();
        Error::new(StatusCode::BAD_REQUEST, "invalid_call_id", text)
    })
}

fn answer<T: Serialize>(
    call: &CallId,
    outcome: &Outcome,
    confirmed: impl FnOnce(&CommandSnapshot) -> T,
) -> Result<Response, Error> {
    match answered(outcome) {
        Some((Status::Confirmed, command)) => Ok(Json(confirmed(command)).into_response()),
        None | Some((Status::Accepted, _)) => {
            let stored = CallCommandStored {
                status: "queued",
                call_id: call.to_string(),
                intent_id: outcome.id.clone(),
            };
            Ok((StatusCode::ACCEPTED, Json(stored)).into_response())
        }
        Some((status, command)) => Err(not_done(status, command).about(&outcome.id)),
    }
}

fn not_done(status: Status, command: &CommandSnapshot) -> Error {
    let code = command.code.as_deref().unwrap_or_default();
    let (status, code) = match (status, code) {
        (Status::Expired, _) => (StatusCode::GATEWAY_TIMEOUT, "expired"),
        (Status::Unknown | Status::Abandoned, _) => (StatusCode::BAD_GATEWAY, "outcome_unknown"),
        (_, "no-such-call") => (StatusCode::NOT_FOUND, "no_such_call"),
        (_, "call-ended") => (StatusCode::CONFLICT, "call_ended"),
        (_, "other-session") => (StatusCode::CONFLICT, "other_session"),
        (_, "conflict") => (StatusCode::CONFLICT, "conflict"),
        (_, "unsupported") => (StatusCode::NOT_IMPLEMENTED, "unsupported"),
        (_, "bad-command") => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_command"),
        _ => (StatusCode::BAD_GATEWAY, "refused"),
    };
    let text = command.reason.as_deref().unwrap_or("no reason given");
    Error::new(status, code, text)
}
