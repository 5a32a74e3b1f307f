//! All paths of the ingress, who may take them, and nothing else.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{delete, get, post};

use super::{Ingress, events, openclaw, status};
use crate::http::Error;
use crate::http::auth::Tokens;

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
        .with_state(ingress)
}

async fn only_with(
    State(tokens): State<Tokens>,
    mut request: Request,
    next: Next,
) -> Result<Response, Error> {
    let client = tokens.check(request.headers())?;
    request.extensions_mut().insert(client);
    Ok(next.run(request).await)
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
