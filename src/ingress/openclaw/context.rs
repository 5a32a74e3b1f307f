//! `POST /openclaw/context`: gives a call something to know.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::no_view;
use crate::bus::envelope::command::CONTEXT_LENGTH_MAX;
use crate::bus::service;
use crate::domain::ids::{CallId, EventId};
use crate::domain::input::InputKind;
use crate::http::Error;
use crate::http::error::Refusal;
use crate::ingress::Ingress;
use crate::ingress::answers::ContextInjected;
use crate::ingress::source::{NewEvent, Source};

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
    responses(
        (status = 200, body = ContextInjected), (status = 404, body = Refusal),
        (status = 409, body = Refusal), (status = 422, body = Refusal), (status = 500, body = Refusal)
    ))]
pub(in crate::ingress) async fn inject_context(
    State(ingress): State<Ingress>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ContextInjected>, Error> {
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
    Ok(Json(ContextInjected {
        status: "context_injected",
        call_id: asked.call_id,
    }))
}
