//! `POST /webhook/openai`: what OpenAI tells of the calls that it takes.
//!
//! ```json
//! {"object":"event","id":"evt_…","type":"realtime.call.incoming","created_at":1795348798,
//!  "data":{"call_id":"rtc_…","sip_headers":[{"name":"From","value":"sip:+1…@host"}]}}
//! ```
//!
//! One session may be told twice, as `realtime.call.incoming` and as `live.call.incoming` (or
//! `live.transport.incoming`, its newer name). Both are the beginning of one call and get one event
//! id. Where the second names the session by a `live_…` id alone it is parked: nothing else ever comes
//! under that id, for the phone-call server takes its calls by the `rtc_…` one.
//!
//! Most types that OpenAI has are not about calls at all; they are parked. SIP headers are whatever
//! the caller's side wrote, so only the number is taken from them, and two `From` lines name nobody.

use chrono::{DateTime, Datelike};
use serde_json::Value;

use super::fields::Fields;
use super::identity::{self, Content};
use super::{Error, Head, Parked, Parsed, Source, json};
use crate::domain::Timestamp;
use crate::domain::input::{Direction, End, EndReason, InputKind};
use crate::domain::phone::Party;
use crate::ingress::verify::Verified;
use crate::ingress::verify::standard_webhooks::Message;

const SOURCE: Source = Source::OpenAi;

/// What an event tells of a call.
#[derive(Clone, Copy)]
enum Told {
    Incoming,
    Ended,
}

/// Reads one event.
///
/// # Errors
/// When the body is no event of OpenAI's; see [`Error`].
pub fn parse(message: &Verified<Message<'_>>) -> Result<Parsed, Error> {
    let message = message.get();
    let body = json::parse(message.body)?;
    let body = Fields::of_body(&body)?;
    let event_type = body.text("type")?.unwrap_or_default();
    let Some(told) = told(event_type, body)? else {
        return Ok(Parsed::Parked(Parked {
            source: SOURCE,
            call: None,
            id: identity::of_message(SOURCE, message.id),
            event_type: event_type.to_owned(),
        }));
    };
    let data = Fields::of_data(body.value("data"))?;
    let call = data.call_id("call_id")?;
    let (word, kind) = match told {
        Told::Incoming => (
            "incoming",
            InputKind::Started {
                direction: Some(Direction::Inbound),
                party: Some(caller(data.value("sip_headers"))),
                intent: None,
            },
        ),
        Told::Ended => (
            "ended",
            InputKind::Ended(End {
                reason: EndReason::Completed,
                detail: None,
            }),
        ),
    };
    // A call begins once and ends once, however often and by however many types it is told.
    let id = identity::of_content(&Content {
        source: SOURCE,
        call: &call,
        event_type: word,
        timestamp: None,
        phone_number: None,
        direction: None,
        data: None,
    });
    let head = Head {
        source: SOURCE,
        call,
        id,
        event_type,
        happened_at: created_at(body.value("created_at")),
        source_sequence: None,
        traceparent: None,
    };
    Ok(head.complete(Some(kind)))
}

fn told(event_type: &str, body: Fields<'_>) -> Result<Option<Told>, Error> {
    Ok(match event_type {
        "realtime.call.incoming" => Some(Told::Incoming),
        "realtime.call.ended" => Some(Told::Ended),
        "live.call.incoming" | "live.transport.incoming" => {
            let data = Fields::of_data(body.value("data"))?;
            data.value("call_id").map(|_| Told::Incoming)
        }
        _ => None,
    })
}

/// Who calls, by the one `From` line.
fn caller(sip_headers: Option<&Value>) -> Party {
    let lines = sip_headers.and_then(Value::as_array);
    let mut from = lines
        .into_iter()
        .flatten()
        .filter(|line| {
            let name = line["name"].as_str();
            name.is_some_and(|name| name.eq_ignore_ascii_case("from"))
        })
        .map(|line| line["value"].as_str().unwrap_or_default());
    match (from.next(), from.next()) {
        (Some(from), None) => Party::read(from),
        _ => Party::Anonymous,
    }
}

/// Seconds since 1970; anything else says nothing, since no order hangs on it.
fn created_at(value: Option<&Value>) -> Option<Timestamp> {
    let time = DateTime::from_timestamp(value?.as_i64()?, 0)?;
    (1..=9999).contains(&time.year()).then_some(time)
}
