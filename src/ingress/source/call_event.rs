//! `POST /call-event`: what the phone-call server's own emitter sends.
//!
//! ```json
//! {"callId":"rtc_…","eventType":"call_started","phoneNumber":"sip:+1…@host","direction":"inbound",
//!  "timestamp":"2026-11-22T12:32:16.172805","data":{}}
//! ```
//!
//! `phoneNumber` is read when a call begins and then must be there, be it empty. At the end it is
//! whatever the server had at hand, its own number included, so it is not read. A transcript is
//! `data.content`, said by `data.speaker` at `data.timestamp`.

use chrono_tz::Tz;

use super::fields::{Clock, Fields};
use super::identity::{self, Content};
use super::words::{self, Dialect, Word};
use super::{Error, Head, Parsed, Source, json};

const SOURCE: Source = Source::CallEvent;

/// Reads one event. Times without a zone are local to `zone`; `sender_id` is the id that the
/// sender gave the event in a header, if it did.
///
/// # Errors
/// When the body is not what the contract says; see [`Error`].
pub fn parse(body: &[u8], zone: Tz, sender_id: Option<&str>) -> Result<Parsed, Error> {
    let body = json::parse(body)?;
    let body = Fields::of_body(&body)?;
    let clock = Clock::Local(zone);
    let call = body.call_id("callId")?;
    let event_type = words::event_type(body, "eventType")?;
    let phone_number = body.text("phoneNumber")?;
    let happened_at = body.time("timestamp", clock)?;
    let data = Fields::of_data(body.value("data"))?;
    let dialect = Dialect {
        start: body,
        phone_number: "phoneNumber",
        data,
        text: &["content"],
        spoken_at: "timestamp",
        clock,
    };
    let kind = match words::word(SOURCE, event_type) {
        Some(Word::Started) if phone_number.is_none() => return Err(body.missing("phoneNumber")),
        Some(word) => {
            body.direction("direction")?;
            Some(dialect.read(word)?)
        }
        None => None,
    };
    let id = match sender_id {
        Some(sender_id) => identity::of_sender(SOURCE, &call, sender_id)?,
        None => identity::of_content(&Content {
            source: SOURCE,
            call: &call,
            event_type,
            timestamp: body.text("timestamp")?,
            phone_number,
            direction: body.text("direction")?,
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::input::{Direction, EndReason, InputKind, Speaker};
    use crate::domain::phone::Party;

    fn started() -> Value {
        json!({
            "callId": "rtc_1", "eventType": "call_started", "phoneNumber": "sip:+12015550142@h",
            "direction": "inbound", "timestamp": "2026-11-22T12:32:16.172805", "data": {},
        })
    }

    fn transcript() -> Value {
        json!({
            "callId": "rtc_1", "eventType": "transcript_update", "phoneNumber": "",
            "direction": "", "timestamp": "2026-11-22T12:32:29.015502",
            "data": {
                "timestamp": "2026-11-22T12:32:29.015520", "speaker": "user", "content": "Hello?",
            },
        })
    }

    fn with(mut body: Value, key: &str, value: Value) -> Value {
        body[key] = value;
        body
    }

    fn without(mut body: Value, key: &str) -> Value {
        body.as_object_mut().unwrap().remove(key);
        body
    }

    fn read(body: &Value) -> Result<Parsed, Error> {
        parse(body.to_string().as_bytes(), Tz::UTC, None)
    }

    fn kind(body: &Value) -> InputKind {
        match read(body) {
            Ok(Parsed::Event(event)) => event.kind,
            other => panic!("no event: {other:?}"),
        }
    }

    fn code(body: &Value) -> &'static str {
        read(body).unwrap_err().code()
    }

    #[test]
    fn both_spellings_of_every_type_say_the_same() {
        for (underscored, dotted) in [
            ("call_started", "call.started"),
            ("call_initiated", "call.initiated"),
            ("call_ringing", "call.ringing"),
            ("call_answered", "call.answered"),
            ("call_ended", "call.ended"),
            ("call_failed", "call.failed"),
            ("transcript_update", "transcript.update"),
            ("transcript_update", "transcript.updated"),
        ] {
            let body = with(transcript(), "eventType", json!(underscored));
            let other = with(transcript(), "eventType", json!(dotted));
            assert_eq!(kind(&body), kind(&other), "{underscored}");
        }
    }

    #[test]
    fn a_beginning_needs_a_number_even_if_it_is_empty() {
        assert_eq!(code(&without(started(), "phoneNumber")), "missing_field");
        assert_eq!(
            code(&with(started(), "phoneNumber", json!(null))),
            "missing_field"
        );
        assert_eq!(
            code(&with(started(), "phoneNumber", json!(12))),
            "wrong_type"
        );
        let anonymous = InputKind::Started {
            direction: Some(Direction::Inbound),
            party: Some(Party::Anonymous),
            intent: None,
        };
        assert_eq!(kind(&with(started(), "phoneNumber", json!(""))), anonymous);
        assert_eq!(
            kind(&with(started(), "phoneNumber", json!("911"))),
            anonymous
        );
    }

    #[test]
    fn the_direction_is_one_of_two_words_or_unsaid() {
        let direction = |value| match kind(&with(started(), "direction", value)) {
            InputKind::Started { direction, .. } => direction,
            other => panic!("no start: {other:?}"),
        };
        assert_eq!(direction(json!("OUTBOUND")), Some(Direction::Outbound));
        assert_eq!(direction(json!("")), None);
        assert_eq!(direction(json!(null)), None);
        assert_eq!(
            code(&with(started(), "direction", json!("up"))),
            "invalid_direction"
        );
        assert_eq!(code(&with(started(), "direction", json!(1))), "wrong_type");
    }

    #[test]
    fn state_events_need_no_data_but_transcripts_do() {
        for data in [json!(null), json!({})] {
            read(&with(started(), "data", data.clone())).unwrap();
            assert_eq!(code(&with(transcript(), "data", data)), "missing_field");
        }
        read(&without(started(), "data")).unwrap();
        assert_eq!(code(&without(transcript(), "data")), "missing_field");
        for data in [json!("x"), json!([]), json!(7)] {
            assert_eq!(code(&with(started(), "data", data)), "wrong_type");
        }
        assert_eq!(
            code(&with(transcript(), "data", json!({"content": 5}))),
            "wrong_type"
        );
    }

    #[test]
    fn an_utterance_is_taken_unaltered() {
        let InputKind::Utterance(utterance) = kind(&transcript()) else {
            panic!("no utterance");
        };
        assert_eq!(utterance.text, "Hello?");
        assert_eq!(utterance.speaker, Speaker::User);
        let spoken_at = utterance.spoken_at.unwrap().to_rfc3339();
        assert_eq!(spoken_at, "2026-11-22T12:32:29.015520+00:00");
        let nul = json!({"content": "a\u{0}\n", "speaker": "user"});
        let InputKind::Utterance(utterance) = kind(&with(transcript(), "data", nul)) else {
            panic!("no utterance");
        };
        assert_eq!(utterance.text, "a\u{0}\n");
    }

    #[test]
    fn the_number_of_an_end_is_not_read() {
        let body = with(started(), "eventType", json!("call_ended"));
        let body = with(body, "phoneNumber", json!("+15005550006"));
        let InputKind::Ended(end) = kind(&body) else {
            panic!("no end");
        };
        assert_eq!(end.reason, EndReason::Completed);
    }

    #[test]
    fn unknown_types_are_parked_and_malformed_ones_refused() {
        let parked = read(&with(started(), "eventType", json!("dtmf_received"))).unwrap();
        assert!(matches!(&parked, Parsed::Parked(parked) if parked.event_type == "dtmf_received"));
        assert_eq!(parked.call().unwrap().as_str(), "rtc_1");
        for (value, expected) in [
            (json!(""), "invalid_event_type"),
            (json!("call.*"), "invalid_event_type"),
            (json!(7), "wrong_type"),
            (json!(["call_started"]), "wrong_type"),
            (json!(null), "missing_field"),
        ] {
            assert_eq!(code(&with(started(), "eventType", value)), expected);
        }
        assert_eq!(code(&without(started(), "eventType")), "missing_field");
    }

    #[test]
    fn a_call_id_must_be_one() {
        for (value, expected) in [
            (json!(""), "invalid_call_id"),
            (json!("a.b"), "invalid_call_id"),
            (json!(17), "wrong_type"),
            (json!(null), "missing_field"),
        ] {
            assert_eq!(code(&with(started(), "callId", value)), expected);
        }
        for body in ["[]", "\"x\"", "5", "null"] {
            let error = parse(body.as_bytes(), Tz::UTC, None).unwrap_err();
            assert_eq!(error.code(), "invalid_body");
            assert!(error.is_syntax_error());
        }
    }

    #[test]
    fn a_repeat_has_the_same_id_and_another_utterance_has_not() {
        let id = |body: &Value| read(body).unwrap().id().clone();
        let first = id(&transcript());
        assert_eq!(id(&transcript()), first);
        let later = json!("2026-11-22T12:32:29.015503");
        assert_ne!(id(&with(transcript(), "timestamp", later)), first);
        let text = json!({"speaker": "user", "content": "Hello!"});
        assert_ne!(id(&with(transcript(), "data", text)), first);
        // What nobody reads makes no other event, and a sender's own id beats everything.
        assert_eq!(id(&with(transcript(), "traceId", json!(1))), first);
        let named = |body: &Value| {
            let body = body.to_string();
            parse(body.as_bytes(), Tz::UTC, Some("7"))
                .unwrap()
                .id()
                .clone()
        };
        assert_eq!(named(&transcript()), named(&started()));
    }
}
