//! All paths of the ingress, who may take them, and nothing else.

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
use utoipa::openapi::{ObjectBuilder, Required, Schema, Type};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::door::{self, Door};
use super::{Ingress, events, openclaw, status, webhooks};
use crate::http::Error;
use crate::http::document::{BEARER, Behind, STANDARD_WEBHOOKS, behind};
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

/// What our own senders are asked for. Whoever signs is read to the end first.
const OURS: &[&str] = &[BEARER, STANDARD_WEBHOOKS];

fn events_of_senders() -> OpenApiRouter<Ingress> {
    OpenApiRouter::new()
        .routes(routes!(events::call_event))
        .routes(routes!(events::forward))
        .routes(routes!(events::cloudevents))
        .routes(routes!(events::sync_transcript))
}

fn of_events() -> OpenApiRouter<Ingress> {
    let door = Behind {
        opens_with: OURS,
        refusals: &[401, 408, 409, 413, 415, 429, 503],
    };
    behind(events_of_senders(), door)
}

/// The same doors, for a sender whose address is all that can be set.
fn of_events_by_path() -> OpenApiRouter<Ingress> {
    let door = Behind {
        opens_with: &[],
        refusals: &[404, 408, 413, 415, 429, 503],
    };
    let nested = OpenApiRouter::new().nest("/token/{token}", events_of_senders());
    let mut routes = behind(nested, door);
    let text = Schema::from(ObjectBuilder::new().schema_type(Type::String));
    let token = ParameterBuilder::new()
        .name("token")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .schema(Some(text))
        .build();
    for item in routes.get_openapi_mut().paths.paths.values_mut() {
        let operation = item.post.get_or_insert_default();
        operation
            .parameters
            .get_or_insert_default()
            .push(token.clone().into());
        // An id names one operation.
        if let Some(id) = &mut operation.operation_id {
            id.push_str("_by_path");
        }
    }
    routes
}

fn of_webhooks() -> OpenApiRouter<Ingress> {
    let routes = OpenApiRouter::new()
        .routes(routes!(webhooks::openai))
        .routes(routes!(webhooks::twilio));
    let door = Behind {
        opens_with: &[],
        refusals: &[404, 408, 413, 415, 429, 503],
    };
    behind(routes, door)
}

fn of_commands() -> OpenApiRouter<Ingress> {
    let routes = OpenApiRouter::new()
        .routes(routes!(openclaw::call::place_call))
        .routes(routes!(openclaw::end::end_call, openclaw::call::outcome))
        .routes(routes!(openclaw::conversation::inject_context))
        .routes(routes!(openclaw::conversation::say))
        .routes(routes!(
            openclaw::links::links,
            openclaw::links::link,
            openclaw::links::unlink
        ));
    let door = Behind {
        opens_with: OURS,
        refusals: &[401, 408, 409, 413, 415, 429, 503],
    };
    behind(routes, door)
}

fn of_reading() -> OpenApiRouter<Ingress> {
    let routes = OpenApiRouter::new()
        .routes(routes!(openclaw::sessions))
        .routes(routes!(openclaw::session))
        .routes(routes!(status::status));
    let door = Behind {
        opens_with: OURS,
        refusals: &[401, 408, 413, 415, 429, 503],
    };
    behind(routes, door)
}

/// Whoever looks after it hears from it, however many others knock.
fn of_health() -> OpenApiRouter<Ingress> {
    let routes = OpenApiRouter::new().routes(routes!(status::health));
    let open = Behind {
        opens_with: &[],
        refusals: &[],
    };
    behind(routes, open)
}

/// What there is to say about all routes, those included that only some configurations have.
#[must_use]
pub fn described() -> OpenApi {
    [
        of_events(),
        of_events_by_path(),
        of_webhooks(),
        of_commands(),
        of_reading(),
        of_health(),
    ]
    .into_iter()
    .fold(OpenApiRouter::new(), OpenApiRouter::merge)
    .into_openapi()
}

/// The routes of the ingress.
pub fn routes(ingress: Ingress) -> Router {
    let doors = ingress.settings.doors.clone();
    let only_by = |door: Door| from_fn_with_state((ingress.clone(), door), door::only_by);
    let mut by_path = Router::new();
    if !doors.events_by_path.is_open() {
        let guard = from_fn_with_state(ingress.clone(), door::only_by_path);
        by_path = Router::from(of_events_by_path()).route_layer(guard);
    }
    let events = Router::from(of_events()).route_layer(only_by(doors.events));
    let commands = Router::from(of_commands()).route_layer(only_by(doors.commands));
    let reading = Router::from(of_reading()).route_layer(only_by(doors.reading));
    events
        .merge(by_path)
        .merge(Router::from(of_webhooks()))
        .merge(commands)
        .merge(reading)
        .route_layer(from_fn_with_state(ingress.clone(), door::not_too_often))
        .merge(Router::from(of_health()))
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
