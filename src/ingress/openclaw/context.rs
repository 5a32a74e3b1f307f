//! `POST /openclaw/context`: gives a call something to know.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::no_view;
use crate::bus::envelope::command::CONTEXT_LENGTH_MAX;
use crate::bus::service;
use crate::domain::ids::{CallId, EventId};
use crate::domain::input::InputKind;
use crate::http::Error;
use crate::ingress::Ingress;
use crate::ingress::source::{NewEvent, Source};

#[derive(Deserialize)]
pub(in crate::ingress) struct InjectContext {
    call_id: String,
    openclaw_session_id: String,
    context: Box<RawValue>,
}

/// `POST /openclaw/context`: gives a call something to know.
pub(in crate::ingress) async fn inject_context(
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
