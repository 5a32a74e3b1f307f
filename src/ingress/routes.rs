//! All paths of the ingress, who may take them, and nothing else.

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};

use super::door::{self, Door};
use super::{Ingress, events, openclaw, status, webhooks};
use crate::http::Error;
use crate::http::measured::measured;

/// Those that are counted by name.
const MEASURED: &[&str] = &[
    "/call-event",
    "/webhook/forward",
    "/v1/events",
    "/sync-transcript",
    "/webhook/openai",
    "/webhook/twilio",
    "/token/{token}/call-event",
    "/token/{token}/webhook/forward",
    "/openclaw/call",
    "/openclaw/call/{id}",
    "/openclaw/context",
    "/openclaw/say",
    "/openclaw/links",
    "/openclaw/sessions",
    "/openclaw/session/{session}",
];

/// The routes of the ingress.
pub fn routes(ingress: Ingress) -> Router {
    let doors = ingress.settings.doors.clone();
    let only_by = |door: Door| from_fn_with_state((ingress.clone(), door), door::only_by);
    let of_events = Router::new()
        .route("/call-event", post(events::call_event))
        .route("/webhook/forward", post(events::forward))
        .route("/v1/events", post(events::cloudevents))
        .route("/sync-transcript", post(events::sync_transcript));
    let mut by_path = Router::new();
    if !doors.events_by_path.is_open() {
        let guard = from_fn_with_state(ingress.clone(), door::only_by_path);
        by_path = by_path.nest("/token/{token}", of_events.clone().route_layer(guard));
    }
    let events = of_events.route_layer(only_by(doors.events));
    let webhooks = Router::new()
        .route("/webhook/openai", post(webhooks::openai))
        .route("/webhook/twilio", post(webhooks::twilio));
    let commands = Router::new()
        .route("/openclaw/call", post(openclaw::place_call))
        .route(
            "/openclaw/call/{id}",
            delete(openclaw::end_call).get(openclaw::outcome),
        )
        .route("/openclaw/context", post(openclaw::inject_context))
        .route("/openclaw/say", post(openclaw::say))
        .route(
            "/openclaw/links",
            get(openclaw::links)
                .put(openclaw::link)
                .delete(openclaw::unlink),
        )
        .route_layer(only_by(doors.commands));
    let reading = Router::new()
        .route("/openclaw/sessions", get(openclaw::sessions))
        .route("/openclaw/session/{session}", get(openclaw::session))
        .route("/status", get(status::status))
        .route_layer(only_by(doors.reading));
    Router::new()
        .merge(events)
        .merge(by_path)
        .merge(webhooks)
        .merge(commands)
        .merge(reading)
        .route_layer(from_fn_with_state(ingress.clone(), door::not_too_often))
        // Whoever looks after it hears from it, however many others knock.
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
    nothing_there()
}

/// What is said where nothing is, or where nobody shall know that something is.
pub(super) fn nothing_there() -> Error {
    Error::new(
        StatusCode::NOT_FOUND,
        "not_found",
        "there is nothing at this path",
    )
}
