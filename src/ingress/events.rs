//! The doors for events.

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use bytes::Bytes;
use chrono::Utc;
use serde_json::Value;
use tracing::{debug, warn};

use super::answers::{EventTaken, EventsTaken, SyncAsked};
use super::body::ContentType;
use super::committer::{self, Answer};
use super::door::SignedId;
use super::senders::{CallEvent, CloudEvent, ForwardedEvent, SyncTranscript};
use super::source::{
    NewEvent, Parked, Parsed, call_event as call_event_source, cloudevents as cloudevents_source,
};
use super::source::{Source, forward as forward_source, json as strict_json, traceparent};
use super::{Ingress, source};
use crate::bus::dead_letter::DeadLetter;
use crate::bus::envelope::{self, encode_input};
use crate::bus::publish::Message;
use crate::crash_point;
use crate::domain::ids::{CallId, EventId};
use crate::domain::input::{Input, InputKind, Position};
use crate::error_chain::Chain;
use crate::http::Error;
use crate::http::error::Refusal;

/// After so many seconds a full spool may have room again: a few of its rounds fit into them.
const SPOOL_RETRY_SECONDS: u32 = 5;

/// The header that says which voicebus has answered: a sender that has much to say (a tap) looks
/// whether they fit.
type Version = [(&'static str, &'static str); 1];

/// The phone-call server's own emitter, for which exactly 200 counts.
#[utoipa::path(post, path = "/call-event", tag = "events", request_body = CallEvent,
    responses((status = 200, body = EventTaken)))]
pub(super) async fn call_event(
    State(ingress): State<Ingress>,
    signed: Option<Extension<SignedId>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<EventTaken>, Error> {
    let bytes = ingress.counted(
        ingress
            .bodies
            .read(&headers, body, ContentType::JsonOrNone)
            .await,
    )?;
    let parsed = call_event_source::parse(&bytes, ingress.settings.time_zone, id_of(&signed));
    // The replaced session bridge answered every bad event 400.
    let parsed =
        ingress.counted(parsed.map_err(|error| refusal(&error, StatusCode::BAD_REQUEST)))?;
    let says = said(&parsed);
    let taken = ingress
        .take(parsed, traceparent_of(&headers), &bytes)
        .await?;
    Ok(Json(taken.answer(says)))
}

/// The replaced webhook bridge's contract.
#[utoipa::path(post, path = "/webhook/forward", tag = "events", request_body = ForwardedEvent,
    responses((status = 200, body = EventTaken), (status = 422, body = Refusal)))]
pub(super) async fn forward(
    State(ingress): State<Ingress>,
    signed: Option<Extension<SignedId>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<EventTaken>, Error> {
    let bytes = ingress.counted(
        ingress
            .bodies
            .read(&headers, body, ContentType::JsonOrNone)
            .await,
    )?;
    let parsed = forward_source::parse(&bytes, ingress.settings.time_zone, id_of(&signed));
    let parsed = ingress
        .counted(parsed.map_err(|error| refusal(&error, StatusCode::UNPROCESSABLE_ENTITY)))?;
    let taken = ingress
        .take(parsed, traceparent_of(&headers), &bytes)
        .await?;
    Ok(Json(taken.answer("forwarded")))
}

/// CloudEvents, one or a batch.
///
/// A batch is stored in its order; when it breaks off, the whole may be sent again, because each
/// event is stored once. In binary mode the attributes are headers, `ce-id` and so on.
#[utoipa::path(post, path = "/v1/events", tag = "events",
    request_body(content(
        (CloudEvent = "application/cloudevents+json"),
        (Vec<CloudEvent> = "application/cloudevents-batch+json"),
    )),
    responses(
        (status = 200, body = EventsTaken, headers(("voicebus-version" = String))),
        (status = 422, body = Refusal)
    ))]
pub(super) async fn cloudevents(
    State(ingress): State<Ingress>,
    headers: HeaderMap,
    body: Body,
) -> Result<(Version, Json<EventsTaken>), Error> {
    let bytes = ingress.counted(ingress.bodies.read(&headers, body, ContentType::Any).await)?;
    let lines = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()));
    let parsed = cloudevents_source::parse(lines, &bytes);
    let parsed = ingress
        .counted(parsed.map_err(|error| refusal(&error, StatusCode::UNPROCESSABLE_ENTITY)))?;
    let whole = parsed.len() == 1;
    let mut answers = Vec::with_capacity(parsed.len());
    for one in parsed {
        // Each event of a batch keeps what it says; the batch as it came belongs to none of them.
        let original = if whole { bytes.clone() } else { Bytes::new() };
        answers.push(ingress.take(one, None, &original).await?.answer("accepted"));
    }
    let answer = EventsTaken {
        status: "accepted",
        events: answers,
    };
    Ok((
        [("voicebus-version", env!("CARGO_PKG_VERSION"))],
        Json(answer),
    ))
}

/// Asks for the transcript of one call to be completed from the server's history.
///
/// What that brings comes out on the public feed, so the answer tells of nothing yet.
#[utoipa::path(post, path = "/sync-transcript", tag = "events", request_body = SyncTranscript,
    responses((status = 200, body = SyncAsked)))]
pub(super) async fn sync_transcript(
    State(ingress): State<Ingress>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<SyncAsked>, Error> {
    let bytes = ingress.counted(
        ingress
            .bodies
            .read(&headers, body, ContentType::JsonOrNone)
            .await,
    )?;
    let parsed = strict_json::parse(&bytes)
        .map_err(|error| Error::new(StatusCode::BAD_REQUEST, error.code(), error.to_string()));
    let request = ingress.counted(parsed)?;
    let call = request.get("callId").and_then(Value::as_str);
    let missing = || {
        Error::new(
            StatusCode::BAD_REQUEST,
            "missing_field",
            "`callId` is missing",
        )
    };
    let call = ingress.counted(call.ok_or_else(missing))?;
    let bad = |error: crate::domain::ids::Error| {
        Error::new(
            StatusCode::BAD_REQUEST,
            "invalid_call_id",
            error.to_string(),
        )
    };
    let call = ingress.counted(CallId::parse(call).map_err(bad))?;
    let wish = format!("ev_sync-{}", uuid::Uuid::new_v4().simple());
    let wish = NewEvent {
        source: Source::CallEvent,
        id: EventId::parse(&wish).map_err(bad)?,
        call: call.clone(),
        happened_at: None,
        source_sequence: None,
        kind: InputKind::Sync,
        traceparent: None,
    };
    ingress
        .publish(wish, traceparent_of(&headers), &Bytes::new())
        .await?;
    Ok(Json(SyncAsked {
        success: true,
        messages_injected: 0,
        call_id: call.to_string(),
    }))
}

/// What became of an event.
pub(super) struct Taken {
    id: String,
    answer: Answer,
    parked: bool,
}

impl Taken {
    pub(super) fn answer(self, says: &str) -> EventTaken {
        EventTaken {
            status: if self.parked { "parked" } else { says }.to_owned(),
            event_id: self.id,
            duplicate: matches!(self.answer, Answer::Stored { duplicate: true }),
            spooled: self.answer == Answer::Spooled,
        }
    }
}

impl Ingress {
    /// Counts what is refused, and what there is no room for.
    pub(super) fn counted<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &result {
            let counter = match error.status {
                StatusCode::SERVICE_UNAVAILABLE => &self.counters.unavailable,
                _ => &self.counters.refused,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            debug!(code = error.code, "request refused");
        }
        result
    }

    pub(super) async fn take(
        &self,
        parsed: Parsed,
        trace: Option<String>,
        body: &Bytes,
    ) -> Result<Taken, Error> {
        match parsed {
            Parsed::Event(event) => self.publish(*event, trace, body).await,
            Parsed::Parked(parked) => self.park(&parked, body).await,
        }
    }

    /// Stores an event. That it is on a disk is what the sender's 200 stands for.
    pub(super) async fn publish(
        &self,
        event: NewEvent,
        trace: Option<String>,
        body: &Bytes,
    ) -> Result<Taken, Error> {
        let input = Input {
            id: event.id,
            call: event.call,
            position: Position::default(),
            happened_at: event.happened_at,
            received_at: Utc::now(),
            source_sequence: event.source_sequence,
            kind: event.kind,
        };
        let trace = event.traceparent.or(trace);
        let body = std::str::from_utf8(body)
            .ok()
            .filter(|body| !body.is_empty());
        let encoded = encode_input(&input, event.source.as_str(), trace.as_deref(), body)
            .map_err(|error| too_large(&error));
        let payload = self.counted(encoded)?;
        let message = Message {
            subject: self.bus.subjects().input(&input.call, &input.kind),
            id: input.id.to_string(),
            headers: Vec::new(),
            payload,
        };
        let lane = Some(input.call.to_string());
        crash_point::pass("ingress.before_publish");
        let answer = self.committed(lane, message).await?;
        crash_point::pass("ingress.after_publish");
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        if answer == (Answer::Stored { duplicate: true }) {
            self.counters.duplicates.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Taken {
            id: input.id.to_string(),
            answer,
            parked: false,
        })
    }

    async fn park(&self, parked: &Parked, body: &Bytes) -> Result<Taken, Error> {
        let letter = DeadLetter {
            role: "ingress",
            code: "unknown-type",
            reason: "nobody knows an event of this type",
            id: parked.id.as_str(),
            subject: source_path(parked.source),
            attempts: 1,
            headers: None,
            payload: body.clone(),
        };
        let answer = self.committed(None, letter.into_message()).await?;
        self.counters.parked.fetch_add(1, Ordering::Relaxed);
        Ok(Taken {
            id: parked.id.to_string(),
            answer,
            parked: true,
        })
    }

    async fn committed(&self, lane: Option<String>, message: Message) -> Result<Answer, Error> {
        let stored = self.committer.store(lane, message).await;
        stored.map_err(|error| {
            let counter = match error {
                committer::Error::Unacceptable(_) => &self.counters.refused,
                _ => &self.counters.unavailable,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            warn!(error = %Chain(&error), "event not stored");
            not_stored(&error)
        })
    }
}

fn not_stored(error: &committer::Error) -> Error {
    match error {
        committer::Error::Unacceptable(_) => Error::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "event_too_large",
            "the event is too large for the bus",
        ),
        committer::Error::Away => {
            Error::unavailable("bus_away", "the bus is away; send the event again")
        }
        committer::Error::NotStored(_) => Error::unavailable(
            "not_stored",
            "the bus did not store the event in time; send it again",
        ),
        committer::Error::Busy => Error::unavailable(
            "too_busy",
            "too many events wait to be stored; send it again",
        ),
        committer::Error::Stopping => Error::unavailable(
            "stopping",
            "the ingress is about to leave; send the event again",
        ),
        committer::Error::Full | committer::Error::Disk => Error {
            retry_after: Some(SPOOL_RETRY_SECONDS),
            ..Error::unavailable(
                "spool_full",
                "the bus is away and the spool takes no more; send the event again",
            )
        },
    }
}

fn too_large(error: &envelope::Error) -> Error {
    debug!(%error, "event too large for the bus");
    Error::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "event_too_large",
        "the event is too large for the bus",
    )
}

/// What the replaced session bridge called an event that it took, where that was true.
fn said(parsed: &Parsed) -> &'static str {
    match parsed {
        Parsed::Event(event) if matches!(event.kind, InputKind::Utterance(_)) => {
            "transcript_stored"
        }
        Parsed::Event(_) | Parsed::Parked(_) => "accepted",
    }
}

fn source_path(source: Source) -> &'static str {
    match source {
        Source::CallEvent => "/call-event",
        Source::WebhookForward => "/webhook/forward",
        Source::CloudEvents => "/v1/events",
        Source::OpenAi => "/webhook/openai",
        Source::Twilio => "/webhook/twilio",
    }
}

pub(super) fn refusal(error: &source::Error, otherwise: StatusCode) -> Error {
    let status = if error.is_id_error() || error.is_syntax_error() {
        StatusCode::BAD_REQUEST
    } else {
        otherwise
    };
    let status = if error.code() == "unsupported_content_type" {
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    } else {
        status
    };
    Error::new(status, error.code(), Chain(error).to_string())
}

/// The id that the sender has signed.
fn id_of(signed: &Option<Extension<SignedId>>) -> Option<&str> {
    signed.as_ref().map(|Extension(SignedId(id))| id.as_str())
}

fn traceparent_of(headers: &HeaderMap) -> Option<String> {
    traceparent::read(headers.get("traceparent")?.to_str().ok()?)
}
