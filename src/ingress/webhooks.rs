//! The vendors' webhooks: verified on the bytes as they came, then parsed, then stored as any event.

use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};

use super::Ingress;
use super::answers::EventTaken;
use super::body::ContentType;
use super::events::refusal;
use super::senders::{OpenAiEvent, TwilioCallback};
use super::source::{self, openai, twilio as twilio_source};
use super::verify::{standard_webhooks, twilio};
use crate::http::Error;
use crate::http::error::Refusal;
use crate::http::rate::Sender;

/// Senders that show who they are by a signature, for whom their name is a sender's name.
const OPENAI: Sender = Sender(1);
const TWILIO: Sender = Sender(2);

/// OpenAI's webhooks.
#[utoipa::path(post, path = "/webhook/openai", tag = "webhooks", request_body = OpenAiEvent,
    security(("openai" = [])),
    responses(
        (status = 200, body = EventTaken), (status = 401, body = Refusal)
    ))]
pub(super) async fn openai(
    State(ingress): State<Ingress>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<EventTaken>, Error> {
    let keys = &ingress.settings.doors.openai;
    if keys.is_empty() {
        return Err(closed("OpenAI", "VOICEBUS_OPENAI_WEBHOOK_SECRET"));
    }
    let read = ingress.bodies.read(&headers, body, ContentType::Any);
    let body = ingress.counted(read.await)?;
    let now = ingress.settings.clock.now();
    let verified = standard_webhooks::verify(keys, &headers, &body, now);
    let message = verified.map_err(|refusal| ingress.refuse("openai", &headers, refusal))?;
    ingress.settings.doors.limits.check_sender(OPENAI)?;
    let parsed = openai::parse(&message).map_err(|error| refused(&error));
    let taken = ingress.take(ingress.counted(parsed)?, None, &body).await?;
    Ok(Json(taken.answer("accepted")))
}

/// Twilio's status callbacks.
#[utoipa::path(post, path = "/webhook/twilio", tag = "webhooks",
    request_body(content(
        (TwilioCallback = "application/x-www-form-urlencoded"),
        (TwilioCallback = "application/json"),
    )),
    security(("twilio" = [])),
    responses((status = 200, body = EventTaken), (status = 403, body = Refusal)))]
pub(super) async fn twilio(
    State(ingress): State<Ingress>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<EventTaken>, Error> {
    let Some(door) = &ingress.settings.doors.twilio else {
        return Err(closed("Twilio", "VOICEBUS_TWILIO_AUTH_TOKEN"));
    };
    let read = ingress.bodies.read(&headers, body, ContentType::Any);
    let body = ingress.counted(read.await)?;
    let verified = twilio::verify(&door.scheme, &headers, query.as_deref(), &body);
    let callback = verified.map_err(|refusal| ingress.refuse("twilio", &headers, refusal))?;
    ingress.settings.doors.limits.check_sender(TWILIO)?;
    let parsed = twilio_source::parse(&callback, door.account.as_deref());
    let parsed = ingress.counted(parsed.map_err(|error| refused(&error)))?;
    let taken = ingress.take(parsed, None, &body).await?;
    Ok(Json(taken.answer("accepted")))
}

/// The senders do not know our rules, so what they say wrongly is simply a bad request; but for a
/// callback of another account, which the key alone did not keep out.
fn refused(error: &source::Error) -> Error {
    let otherwise = if *error == source::Error::OtherAccount {
        StatusCode::FORBIDDEN
    } else {
        StatusCode::BAD_REQUEST
    };
    refusal(error, otherwise)
}

/// A door without a key is never open.
fn closed(vendor: &str, variable: &str) -> Error {
    Error::new(
        StatusCode::NOT_FOUND,
        "not_configured",
        format!("this ingress takes no webhooks of {vendor}; set {variable} to let it"),
    )
}
