//! `POST /v1/events`: CloudEvents 1.0, the contract for whoever writes a sender today.
//!
//! Structured (`application/cloudevents+json`), batched (`application/cloudevents-batch+json`) and
//! binary (`ce-…` headers, the data as body) are read. The attributes:
//!
//! | attribute | | |
//! |---|---|---|
//! | `specversion` | required | `1.0` |
//! | `id`, `source` | required | together they name the event for ever: sent again, it is the same |
//! | `type` | required | one of the table below, with or without `openclaw.voice.` in front |
//! | `subject` | or `data.call_id` | the call id, `[A-Za-z0-9_-]{1,128}` |
//! | `time` | optional | RFC 3339 with a zone |
//! | `sequence` | optional | the sender's number of the event in its call; no decimal number: ignored |
//! | `traceparent` | optional | W3C trace context; ill-formed: ignored |
//! | `datacontenttype` | optional | JSON |
//!
//! | type | fields of `data`, all optional but the text |
//! |---|---|
//! | `call.started` `call.initiated` | `direction` (`inbound`, `outbound`), `phone_number` (E.164, SIP or tel URI, SIP `From`), `intent_id` (the dial that made it) |
//! | `call.ringing` `call.answered` | |
//! | `call.ended` `call.failed` | `reason` (`completed`, `hangup-user`, `hangup-bot`, `timeout`, `error`, `failed`, `no-answer`, `busy`, `canceled`, `voicemail`, `rejected`, or free text) |
//! | `transcript.user` `transcript.agent` `transcript.system` | `text` (or `transcript`, `content`), `speaker` (a name), `spoken_at` (RFC 3339 with a zone), `confidence` (0 to 1) |
//! | `transcript.updated` | the same; `speaker` says who it was |
//! | `audio.received` `audio.sent` | |
//!
//! Any other type is parked. `data_base64` is refused for the types above.

use serde_json::{Map, Value};

use super::fields::{Clock, Fields};
use super::words::{self, Dialect};
use super::{Error, Head, Parsed, Source, identity, json, traceparent};
use crate::domain::ids::{CallId, IntentId};
use crate::domain::input::InputKind;

mod binary;

/// Most events of a batch: half of what the bus takes as one atomic batch.
pub const BATCH_LENGTH_MAX: usize = 500;

/// Longest `source`, in bytes: as for a URL that has to pass everywhere.
pub const SOURCE_LENGTH_MAX: usize = 2048;

/// Longest `type`, in bytes; reverse domain names are longer than words of our own.
pub const TYPE_LENGTH_MAX: usize = 256;

/// The prefix of our own types.
const TYPE_PREFIX: &str = "openclaw.voice.";

const SOURCE: Source = Source::CloudEvents;

/// The ways in which CloudEvents travel by HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Structured,
    Batched,
    Binary,
}

/// Reads a request in whichever mode its `content-type` names: one event, or those of a batch.
/// All of them are read or none is.
///
/// # Errors
/// When one event is not what the contract says; see [`Error`].
pub fn parse<'h>(
    headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
    body: &[u8],
) -> Result<Vec<Parsed>, Error> {
    let headers: Vec<_> = headers.into_iter().collect();
    let content_type = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        .map(|(_, value)| String::from_utf8_lossy(value));
    match mode(content_type.as_deref())? {
        Mode::Structured => Ok(vec![structured(body)?]),
        Mode::Batched => batched(body),
        Mode::Binary => Ok(vec![binary::parse(headers, body)?]),
    }
}

/// Reads one event whose body holds the attributes too.
///
/// # Errors
/// When it is not what the contract says; see [`Error`].
pub fn structured(body: &[u8]) -> Result<Parsed, Error> {
    let body = json::parse(body)?;
    let map = body.as_object().ok_or(Error::Body { expected: "object" })?;
    structured_event(map)
}

/// Reads a batch of at most [`BATCH_LENGTH_MAX`] events; an empty one is fine.
///
/// # Errors
/// When one event is not what the contract says: [`Error::InBatch`] names it.
pub fn batched(body: &[u8]) -> Result<Vec<Parsed>, Error> {
    let body = json::parse(body)?;
    let events = body.as_array().ok_or(Error::Body { expected: "array" })?;
    if events.len() > BATCH_LENGTH_MAX {
        return Err(Error::BatchTooLong {
            found: events.len(),
            max: BATCH_LENGTH_MAX,
        });
    }
    let read = |(index, event): (usize, &Value)| {
        let map = event.as_object().ok_or(Error::Body { expected: "object" });
        map.and_then(structured_event)
            .map_err(|error| Error::InBatch {
                index,
                error: Box::new(error),
            })
    };
    events.iter().enumerate().map(read).collect()
}

fn mode(content_type: Option<&str>) -> Result<Mode, Error> {
    let media_type = media_type(content_type.unwrap_or_default());
    match media_type.as_str() {
        "application/cloudevents+json" => Ok(Mode::Structured),
        "application/cloudevents-batch+json" => Ok(Mode::Batched),
        other if other.starts_with("application/cloudevents") => Err(Error::ContentType {
            expected: "application/cloudevents+json and application/cloudevents-batch+json",
        }),
        _ => Ok(Mode::Binary),
    }
}

/// A content type without its parameters.
fn media_type(content_type: &str) -> String {
    let (media_type, _parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    media_type.trim().to_ascii_lowercase()
}

fn is_json(content_type: &str) -> bool {
    let media_type = media_type(content_type);
    matches!(media_type.as_str(), "application/json" | "text/json") || media_type.ends_with("+json")
}

/// The data of an event, as far as it can be read.
#[derive(Debug, Clone, Copy)]
enum Payload<'a> {
    Json(Option<&'a Value>),
    /// Something else; what, in words.
    Opaque(&'static str),
}

fn structured_event(event: &Map<String, Value>) -> Result<Parsed, Error> {
    let attributes = Fields::of_map(event);
    let content_type = attributes.text("datacontenttype")?;
    let payload = if attributes.value("data_base64").is_some() {
        Payload::Opaque("base64 (`data_base64`)")
    } else if content_type.is_some_and(|text| !is_json(text)) {
        Payload::Opaque("another content type (`datacontenttype`)")
    } else {
        Payload::Json(attributes.value("data"))
    };
    event_of(attributes, payload)
}

fn event_of(attributes: Fields<'_>, payload: Payload<'_>) -> Result<Parsed, Error> {
    if attributes.text_required("specversion")? != "1.0" {
        return Err(Error::SpecVersion);
    }
    let sender_id = identity::check(attributes.text_required("id")?, "id")?;
    let sender = bounded(attributes, "source", SOURCE_LENGTH_MAX)?;
    let event_type = event_type(attributes)?;
    let call = call_id(attributes, payload)?;
    let happened_at = attributes.time("time", Clock::Zoned)?;
    let short = event_type.strip_prefix(TYPE_PREFIX).unwrap_or(event_type);
    let kind = match words::word(SOURCE, short) {
        None => None,
        Some(word) => {
            let data = match payload {
                Payload::Json(data) => Fields::of_data(data)?,
                Payload::Opaque(found) => return Err(Error::DataFormat { found }),
            };
            let dialect = Dialect {
                start: data,
                phone_number: "phone_number",
                data,
                text: &["text", "transcript", "content"],
                spoken_at: "spoken_at",
                clock: Clock::Zoned,
            };
            Some(of_dial(dialect.read(word)?, data)?)
        }
    };
    let head = Head {
        source: SOURCE,
        call,
        id: identity::of_cloudevent(sender, sender_id),
        event_type,
        happened_at,
        source_sequence: sequence(attributes)?,
        traceparent: attributes
            .value("traceparent")
            .and_then(Value::as_str)
            .and_then(traceparent::read),
    };
    Ok(head.complete(kind))
}

/// The beginning of a call may name the dial that made it, as a tap does.
fn of_dial(mut kind: InputKind, data: Fields<'_>) -> Result<InputKind, Error> {
    if let InputKind::Started { intent, .. } = &mut kind {
        let named = data.text("intent_id")?;
        *intent = named.and_then(|name| IntentId::parse(name).ok());
    }
    Ok(kind)
}

/// The call: the `subject`, which wins, or `data.call_id`.
fn call_id(attributes: Fields<'_>, payload: Payload<'_>) -> Result<CallId, Error> {
    if attributes.value("subject").is_some() {
        return attributes.call_id("subject");
    }
    match payload {
        Payload::Json(Some(data @ Value::Object(_))) => {
            let data = Fields::of_data(Some(data))?;
            if data.value("call_id").is_some() {
                return data.call_id("call_id");
            }
            Err(attributes.missing("subject"))
        }
        Payload::Json(_) | Payload::Opaque(_) => Err(attributes.missing("subject")),
    }
}

/// A type is a reverse domain name or the like: words of visible ASCII joined by dots.
fn event_type(attributes: Fields<'_>) -> Result<&str, Error> {
    let text = bounded(attributes, "type", TYPE_LENGTH_MAX)?;
    let is_word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    if !text.split('.').all(is_word) {
        return Err(Error::EventType {
            field: "type".to_owned(),
            expected: "it must be words of [A-Za-z0-9_-] joined by dots",
        });
    }
    Ok(text)
}

fn bounded<'a>(attributes: Fields<'a>, key: &str, max: usize) -> Result<&'a str, Error> {
    let text = attributes.text_required(key)?;
    if text.is_empty() {
        return Err(attributes.missing(key));
    }
    if text.len() > max {
        return Err(Error::TooLong {
            field: attributes.path(key),
            max,
        });
    }
    Ok(text)
}

/// The extension is a text by its own specification, and a number by ours. A text that is not a
/// number has an order that only its sender knows.
fn sequence(attributes: Fields<'_>) -> Result<Option<u64>, Error> {
    match attributes.value("sequence") {
        None => Ok(None),
        Some(Value::String(text)) => Ok(text.parse().ok()),
        Some(Value::Number(number)) if !number.is_f64() => Ok(number.as_u64()),
        Some(_) => Err(Error::WrongType {
            field: "sequence".to_owned(),
            expected: "a string or a whole number",
        }),
    }
}

#[cfg(test)]
mod tests;
