//! All paths of the ingress, who may take them, and nothing else.

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};

use super::{Ingress, events, openclaw, status};
use crate::http::Error;
use crate::http::auth::only_with;
use crate::http::measured::measured;

/// Those that are counted by name.
const MEASURED: &[&str] = &[
    "/call-event",
    "/webhook/forward",
    "/v1/events",
    "/sync-transcript",
    "/openclaw/call",
    "/openclaw/call/{session}",
    "/openclaw/context",
    "/openclaw/sessions",
    "/openclaw/session/{session}",
];

/// The routes of the ingress.
pub fn routes(ingress: Ingress) -> Router {
    let events = Router::new()
        .route("/call-event", post(events::call_event))
        .route("/webhook/forward", post(events::forward))
        .route("/v1/events", post(events::cloudevents))
        .route("/sync-transcript", post(events::sync_transcript))
        .route_layer(from_fn_with_state(
            ingress.settings.event_tokens.clone(),
            only_with,
        ));
    let commands = Router::new()
        .route("/openclaw/call", post(openclaw::place_call))
        .route(
            "/openclaw/call/{id}",
            delete(openclaw::end_call).get(openclaw::outcome),
        )
        .route("/openclaw/context", post(openclaw::inject_context))
        .route_layer(from_fn_with_state(
            ingress.settings.command_tokens.clone(),
            only_with,
        ));
    let reading = Router::new()
        .route("/openclaw/sessions", get(openclaw::sessions))
        .route("/openclaw/session/{session}", get(openclaw::session))
        .route("/status", get(status::status))
        .route_layer(from_fn_with_state(
            ingress.settings.read_tokens.clone(),
            only_with,
        ));
    Router::new()
        .merge(events)
        .merge(commands)
        .merge(reading)
        .route("/health", get(status::health))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(from_fn_with_state(MEASURED, measured))
        .with_state(ingress)
}

async fn method_not_allowed() -> Error {
    Error::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "this path does not take that method",
    )
}

async fn not_found() -> Error {
    Error::new(
        StatusCode::NOT_FOUND,
        "not_found",
        "there is nothing at this path",
    )
}
