//! The replaced bridge's API for OpenClaw, in its shapes: implemented by commands and by the
//! router's read model.

mod call;
mod conversation;
mod deadline;
mod end;
mod links;
mod wait;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use chrono::Utc;
use serde_json::{Value, json};

use super::Ingress;
use super::body::ContentType;
use super::source::json as strict_json;
use crate::bus::command;
use crate::bus::envelope::{CommandSnapshot, Outcome};
use crate::bus::service::{self, CallView, SessionView};
use crate::domain::Timestamp;
use crate::domain::command::{Reason, Status};
use crate::domain::guard;
use crate::domain::ids::SessionKey;
use crate::error_chain::Chain;
use crate::http::Error;

pub(super) use call::{outcome, place_call};
pub(super) use conversation::{inject_context, say};
pub(super) use end::end_call;
pub(super) use links::{link, links, unlink};

/// `GET /openclaw/sessions`: the sessions that have a call which is not over.
pub(super) async fn sessions(State(ingress): State<Ingress>) -> Result<Json<Value>, Error> {
    let sessions = service::sessions(ingress.bus.connection())
        .await
        .map_err(|error| no_view(&error))?;
    let sessions: Vec<Value> = sessions
        .iter()
        .filter_map(|view| session_entry(view, &view.session))
        .collect();
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
    session_entry(&view, &session)
        .map(Json)
        .ok_or_else(no_session)
}

/// A session as the replaced bridge showed it: by its newest call, the others beside it, and under
/// the name by which it was asked for beside its own.
fn session_entry(view: &SessionView, asked: &str) -> Option<Value> {
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
        "openclaw_session_id": asked,
        "session_key": view.session,
        "phone_number": newest.call.number,
        "caller_id": null,
        "context": newest.context,
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
        command::Error::Conflict => Error::new(StatusCode::CONFLICT, "conflict", error.to_string()),
        command::Error::Request(error) => Error::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_command",
            Chain(error).to_string(),
        ),
        command::Error::Publish(_) | command::Error::Listen(_) | command::Error::Read(_) => {
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
fn not_done(status: Status, command: &CommandSnapshot, passes_at: Option<Timestamp>) -> Error {
    let reason = command
        .reason
        .clone()
        .unwrap_or_else(|| "no reason given".to_owned());
    match status {
        Status::Unknown | Status::Abandoned => Error::new(
            StatusCode::BAD_GATEWAY,
            "outcome_unknown",
            format!(
                "it is not known whether the phone rang; do not place the call again: {reason}"
            ),
        ),
        Status::Expired => Error::new(StatusCode::GATEWAY_TIMEOUT, "expired", reason),
        Status::Cancelled => Error::new(StatusCode::CONFLICT, "cancelled", reason),
        Status::Refused | Status::Accepted | Status::Confirmed => {
            let code = command.code.clone().unwrap_or_default();
            if guard::code(&code).is_some() {
                return refused(&Reason { code, text: reason }, passes_at);
            }
            let status = match command.code.as_deref() {
                Some("bad-request" | "bad-command") => StatusCode::UNPROCESSABLE_ENTITY,
                Some("no-such-call") => StatusCode::NOT_FOUND,
                Some("unsupported") => StatusCode::NOT_IMPLEMENTED,
                Some("not-configured" | "records-full" | "limits-unreadable") => {
                    StatusCode::SERVICE_UNAVAILABLE
                }
                Some("carrier-busy" | "server-busy") => StatusCode::TOO_MANY_REQUESTS,
                _ => StatusCode::BAD_GATEWAY,
            };
            Error::new(status, "refused", reason)
        }
    }
}

/// A command that a guard has refused, by the guard's own name. The sentence says when it passes.
fn refused(reason: &Reason, passes_at: Option<Timestamp>) -> Error {
    let code = guard::code(&reason.code).unwrap_or("refused");
    let status = match code {
        "invalid-number" | "emergency-number" | "calls-itself" => StatusCode::UNPROCESSABLE_ENTITY,
        _ if code.starts_with("limit-") => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::FORBIDDEN,
    };
    let seconds = passes_at.map(|at| (at - Utc::now()).num_seconds().saturating_add(1));
    Error {
        retry_after: seconds.and_then(|seconds| u32::try_from(seconds).ok()),
        ..Error::new(status, code, reason.text.clone())
    }
}
