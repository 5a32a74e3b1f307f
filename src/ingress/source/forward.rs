//! `POST /webhook/forward`: the contract of the replaced Python bridge.
//!
//! ```json
//! {"call_id":"CA…","event_type":"transcript_updated","data":{"transcript":"…","speaker":"user",
//!  "confidence":0.9},"timestamp":"2026-11-22T12:38:54.411048"}
//! ```
//!
//! `data` must be an object, `timestamp` may be missing. In the old bridge `data.call_id` and
//! `data.openclaw_session_id` overrode the identity of the event; here they are not read.

use chrono_tz::Tz;

use super::fields::{Clock, Fields};
use super::identity::{self, Content};
use super::words::{self, Dialect};
use super::{Error, Head, Parsed, Source, json};
use crate::domain::input::{Direction, InputKind};

const SOURCE: Source = Source::WebhookForward;

/// Reads one event. Times without a zone are local to `zone`; `sender_id` is the id that the
/// sender gave the event in a header, if it did.
///
/// # Errors
/// When the body is not what the contract says; see [`Error`].
pub fn parse(body: &[u8], zone: Tz, sender_id: Option<&str>) -> Result<Parsed, Error> {
    let body = json::parse(body)?;
    let body = Fields::of_body(&body)?;
    let clock = Clock::Local(zone);
    let call = body.call_id("call_id")?;
    let event_type = words::event_type(body, "event_type")?;
    let happened_at = body.time("timestamp", clock)?;
    let data = Fields::of_data(body.value("data"))?;
    if !data.is_present() {
        return Err(body.missing("data"));
    }
    let dialect = Dialect {
        start: data,
        phone_number: "phone_number",
        data,
        text: &["transcript"],
        spoken_at: "timestamp",
        clock,
    };
    let kind = words::word(SOURCE, event_type)
        .map(|word| dialect.read(word))
        .transpose()?
        .map(|kind| outbound_by_default(kind, event_type));
    let id = match sender_id {
        Some(sender_id) => identity::of_sender(SOURCE, &call, sender_id)?,
        None => identity::of_content(&Content {
            source: SOURCE,
            call: &call,
            event_type,
            timestamp: body.text("timestamp")?,
            phone_number: None,
            direction: None,
            data: data.canonical().as_deref(),
        }),
    };
    let head = Head {
        source: SOURCE,
        call,
        id,
        event_type,
        happened_at,
        source_sequence: None,
        traceparent: None,
    };
    Ok(head.complete(kind))
}

/// The old bridge said `call_initiated` of calls that it made itself, and of no others.
fn outbound_by_default(kind: InputKind, event_type: &str) -> InputKind {
    match kind {
        InputKind::Started {
            direction: None,
            party,
            intent: None,
        } if event_type == "call_initiated" => InputKind::Started {
            direction: Some(Direction::Outbound),
            party,
            intent: None,
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::input::{AudioMark, Speaker};
    use crate::domain::phone::{E164, Party};

    fn body(event_type: &str, data: &Value) -> Value {
        json!({
            "call_id": "CA1", "event_type": event_type, "data": data,
            "timestamp": "2026-11-22T12:38:54.411048",
        })
    }

    fn read(body: &Value) -> Result<Parsed, Error> {
        parse(body.to_string().as_bytes(), Tz::UTC, None)
    }

    fn kind(event_type: &str, data: &Value) -> InputKind {
        match read(&body(event_type, data)) {
            Ok(Parsed::Event(event)) => event.kind,
            other => panic!("no event: {other:?}"),
        }
    }

    fn code(body: &Value) -> &'static str {
        read(body).unwrap_err().code()
    }

    #[test]
    fn a_call_that_the_bridge_made_is_outbound_unless_it_says_otherwise() {
        let started = |direction| InputKind::Started {
            direction,
            party: Some(Party::Number(E164::parse("+12015550123").unwrap())),
            intent: None,
        };
        let number = json!({"phone_number": "+12015550123"});
        let inbound = json!({"phone_number": "+12015550123", "direction": "Inbound"});
        assert_eq!(
            kind("call_initiated", &number),
            started(Some(Direction::Outbound))
        );
        assert_eq!(
            kind("call_initiated", &inbound),
            started(Some(Direction::Inbound))
        );
        assert_eq!(kind("call.started", &number), started(None));
        assert_eq!(
            code(&body("call_initiated", &json!({"direction": "sideways"}))),
            "invalid_direction"
        );
    }

    #[test]
    fn a_transcript_has_its_text_and_how_sure_it_is() {
        let data = json!({"transcript": "Grüß Gott", "speaker": "assistant", "confidence": 0.9});
        let InputKind::Utterance(utterance) = kind("transcript_updated", &data) else {
            panic!("no utterance");
        };
        assert_eq!(utterance.text, "Grüß Gott");
        assert_eq!(utterance.speaker, Speaker::Agent);
        assert_eq!(utterance.confidence, Some(0.9));
        assert_eq!(
            code(&body("transcript_updated", &json!({}))),
            "missing_field"
        );
    }

    #[test]
    fn audio_is_a_mark() {
        let none = json!({});
        assert_eq!(
            kind("audio_received", &none),
            InputKind::Audio(AudioMark::Received)
        );
        assert_eq!(kind("audio_sent", &none), InputKind::Audio(AudioMark::Sent));
    }

    #[test]
    fn data_says_nothing_about_identity() {
        let evil = json!({"call_id": "EVIL", "openclaw_session_id": "EVIL", "event_type": "x"});
        let parsed = read(&body("call_answered", &evil)).unwrap();
        assert_eq!(parsed.call().unwrap().as_str(), "CA1");
        let missing = json!({"event_type": "call_answered", "data": {"call_id": "EVIL"}});
        assert_eq!(code(&missing), "missing_field");
    }

    #[test]
    fn data_must_be_an_object() {
        for (data, expected) in [
            (json!(null), "missing_field"),
            (json!([]), "wrong_type"),
            (json!("x"), "wrong_type"),
        ] {
            assert_eq!(code(&body("call_answered", &data)), expected);
            assert_eq!(code(&body("anything_else", &data)), expected);
        }
        let missing = json!({"call_id": "CA1", "event_type": "call_answered"});
        assert_eq!(code(&missing), "missing_field");
    }

    #[test]
    fn the_time_may_be_unsaid_but_not_wrong() {
        let mut event = body("call_answered", &json!({}));
        for (time, expected) in [
            (json!(1_795_348_800), "wrong_type"),
            (json!("yesterday"), "invalid_timestamp"),
            (json!(""), "invalid_timestamp"),
        ] {
            event["timestamp"] = time;
            assert_eq!(code(&event), expected);
        }
        event["timestamp"] = json!(null);
        let Ok(Parsed::Event(event)) = read(&event) else {
            panic!("no event");
        };
        assert_eq!(event.happened_at, None);
    }

    #[test]
    fn words_that_the_contract_never_had_are_parked() {
        for event_type in ["call_started", "anything_else", "realtime.call.incoming"] {
            let parsed = read(&body(event_type, &json!({"direction": "?"}))).unwrap();
            assert!(matches!(parsed, Parsed::Parked(_)), "{event_type}");
        }
    }
}
