//! The OpenAPI document: what is the same for all routes.
//!
//! A route is added by `routes!`, which takes it and its description from one place, so that there
//! is none without the other. A handler describes what it answers by itself; what its door and the
//! reading of its body may answer before it is asked is added here, by [`behind`].

use axum::http::StatusCode;
use utoipa::PartialSchema;
use utoipa::ToSchema;
use utoipa::openapi::header::Header;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{
    Components, Content, Info, OpenApi, Ref, RefOr, Response, ResponseBuilder, Schema, Type,
    schema::ObjectBuilder,
};
use utoipa_axum::router::OpenApiRouter;

use super::error::Refusal;

/// What stands before some routes.
#[derive(Debug, Clone, Copy)]
pub struct Behind {
    /// The names of what opens the door, any of them; none, when it is open.
    pub opens_with: &'static [&'static str],
    /// The statuses of what it refuses.
    pub refusals: &'static [u16],
}

/// A bearer token, by which most doors are opened.
pub const BEARER: &str = "bearer";
/// The signature of one of our own senders.
pub const STANDARD_WEBHOOKS: &str = "standardWebhooks";
/// The signature of OpenAI.
pub const OPENAI: &str = "openai";
/// The signature of Twilio.
pub const TWILIO: &str = "twilio";

/// What every request may be answered, and by whichever door: that it has not one host.
const ALWAYS: [u16; 1] = [400];

/// Completes the description of routes by what stands before them.
#[must_use]
pub fn behind<S>(mut routes: OpenApiRouter<S>, door: Behind) -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    for item in routes.get_openapi_mut().paths.paths.values_mut() {
        for operation in operations(item) {
            for status in ALWAYS.iter().chain(door.refusals) {
                let known = &mut operation.responses.responses;
                known
                    .entry(status.to_string())
                    .or_insert_with(|| RefOr::T(refusal(*status)));
            }
            let opens = door.opens_with.iter().map(|name| {
                let scopes: [&str; 0] = [];
                SecurityRequirement::new(*name, scopes)
            });
            if !door.opens_with.is_empty() && operation.security.is_none() {
                operation.security = Some(opens.collect());
            }
        }
    }
    routes
}

/// The document of these routes.
#[must_use]
pub fn complete(mut document: OpenApi) -> OpenApi {
    document.info = Info::new("voicebus", env!("CARGO_PKG_VERSION"));
    document.info.description = Some(ABOUT.to_owned());
    let components = document.components.get_or_insert_with(Components::new);
    let (name, schema) = (Refusal::name().into_owned(), Refusal::schema());
    components.schemas.insert(name, schema);
    for (name, scheme) in schemes() {
        components
            .security_schemes
            .insert(name.to_owned(), RefOr::T(scheme));
    }
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            for (status, response) in &mut operation.responses.responses {
                let Ok(status) = status.parse() else {
                    continue;
                };
                if let RefOr::T(response) = response
                    && response.description.is_empty()
                {
                    response.description = meaning(status).to_owned();
                }
            }
        }
    }
    document
}

const ABOUT: &str = "\
Events of calls come in, commands for calls go out. Without tokens voicebus listens on the machine \
itself only, and all doors but those of the vendors are open; with them each door wants what is \
named beside it. Whoever asks too often is answered 429, whoever asks while something is away 503, \
both with `Retry-After`. A request whose head cannot be read is answered 400 or 431, without a body.";

fn schemes() -> [(&'static str, SecurityScheme); 4] {
    let header = |name: &str, description: &str| {
        SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
            name,
            description,
        )))
    };
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "A token of the door: for events, commands or reading.",
        ))
        .build();
    [
        (BEARER, SecurityScheme::Http(token)),
        (
            STANDARD_WEBHOOKS,
            header(
                "webhook-signature",
                "Standard Webhooks, with `webhook-id` and `webhook-timestamp`. A request without a body signs `METHOD TARGET` in its place.",
            ),
        ),
        (
            OPENAI,
            header(
                "webhook-signature",
                "Standard Webhooks with OpenAI's secret, with `webhook-id` and `webhook-timestamp`.",
            ),
        ),
        (
            TWILIO,
            header("x-twilio-signature", "Over the public URL and the form."),
        ),
    ]
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let methods = [
        &mut item.get,
        &mut item.post,
        &mut item.put,
        &mut item.patch,
        &mut item.delete,
    ];
    methods.into_iter().flatten()
}

fn refusal(status: u16) -> Response {
    let content = Content::new(Some(Ref::from_schema_name(Refusal::name())));
    let mut refusal = ResponseBuilder::new()
        .description(meaning(status))
        .content("application/json", content);
    if matches!(status, 429 | 503) {
        let seconds = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .description(Some("After so many seconds trying again makes sense."))
            .build();
        refusal = refusal.header("Retry-After", Header::new(Schema::Object(seconds)));
    }
    refusal.build()
}

/// What a status says here, where a handler does not say it better.
fn meaning(status: u16) -> &'static str {
    match status {
        200 => "Done.",
        202 => "Stored, and not done yet.",
        400 => "It cannot be read in one way only, or an id in it can be none.",
        401 => "No token or signature that opens this door.",
        403 => {
            "It may not be: the signature is not believed, or a rule about dialling is against it."
        }
        404 => "There is nothing of this name, or at this path.",
        408 => "The body took too long.",
        409 => "Something else is there already under this name, or what it is about is over.",
        413 => "It is larger than can be taken.",
        415 => "The content type, or an encoding of the body, is not taken.",
        422 => "It can be read, but what it says cannot be used.",
        429 => "Too much: `Retry-After` says when to come again, where that is known.",
        500 => "A mistake in voicebus.",
        501 => "The phone-call server cannot do it: it has no tap.",
        502 => "The phone-call server did not do it, or nobody knows whether it did.",
        503 => "Something that it needs is away, or has too much to do.",
        504 => "The deadline passed before it could be done.",
        _ => StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("Another answer."),
    }
}
