use serde_json::json;

use super::*;
use crate::domain::input::{AudioMark, Direction, EndReason, InputKind, Speaker};
use crate::domain::phone::Party;
use crate::ingress::source::NewEvent;

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn event() -> Value {
    json!({
        "specversion": "1.0", "id": "e1", "source": "/voice", "type": "openclaw.voice.call.started",
        "subject": "rtc_1", "time": "2026-11-22T12:00:00.5+01:00", "sequence": "0042",
        "traceparent": TRACEPARENT,
        "data": {"direction": "inbound", "phone_number": "+12015550142", "call_id": "EVIL"},
    })
}

fn with(key: &str, value: Value) -> Value {
    let mut event = event();
    event[key] = value;
    event
}

fn without(key: &str) -> Value {
    let mut event = event();
    event.as_object_mut().unwrap().remove(key);
    event
}

fn of_type(event_type: &str, data: Value) -> Value {
    let mut event = with("type", json!(event_type));
    event["data"] = data;
    event
}

fn read(event: &Value) -> Result<Parsed, Error> {
    structured(event.to_string().as_bytes())
}

fn new_event(parsed: Result<Parsed, Error>) -> NewEvent {
    match parsed {
        Ok(Parsed::Event(event)) => *event,
        other => panic!("no event: {other:?}"),
    }
}

fn kind(event: &Value) -> InputKind {
    new_event(read(event)).kind
}

fn code(event: &Value) -> &'static str {
    read(event).unwrap_err().code()
}

fn send(headers: &[(&str, &str)], body: &str) -> Result<Vec<Parsed>, Error> {
    let headers = headers
        .iter()
        .map(|(name, value)| (*name, value.as_bytes()));
    parse(headers, body.as_bytes())
}

const BINARY: [(&str, &str); 6] = [
    ("Content-Type", "application/json; charset=utf-8"),
    ("CE-specversion", "1.0"),
    ("ce-id", "e1"),
    ("ce-source", "/voice"),
    ("ce-type", "call.answered"),
    ("ce-subject", "rtc_1"),
];

#[test]
fn a_structured_event_is_read_with_all_its_attributes() {
    let event = new_event(read(&event()));
    assert_eq!(event.call.as_str(), "rtc_1");
    assert_eq!(event.source_sequence, Some(42));
    assert_eq!(event.traceparent.as_deref(), Some(TRACEPARENT));
    assert_eq!(
        event.happened_at.unwrap().to_rfc3339(),
        "2026-11-22T11:00:00.500+00:00"
    );
    assert!(matches!(
        event.kind,
        InputKind::Started {
            direction: Some(Direction::Inbound),
            party: Some(Party::Number(_)),
            ..
        }
    ));
}

#[test]
fn every_type_is_known_with_and_without_the_prefix() {
    for short in [
        "call.started",
        "call.initiated",
        "call.ringing",
        "call.answered",
        "call.ended",
        "call.failed",
        "transcript.user",
        "transcript.agent",
        "transcript.system",
        "transcript.updated",
        "audio.received",
        "audio.sent",
    ] {
        let data = json!({"text": "hi"});
        let long = format!("openclaw.voice.{short}");
        assert_eq!(
            kind(&of_type(short, data.clone())),
            kind(&of_type(&long, data)),
            "{short}"
        );
    }
    let sent = of_type("audio.sent", json!(null));
    assert_eq!(kind(&sent), InputKind::Audio(AudioMark::Sent));
}

#[test]
fn an_utterance_is_found_under_each_of_its_names() {
    for name in ["text", "transcript", "content"] {
        let data = json!({
            name: "hi", "spoken_at": "2026-11-22T12:00:00Z", "confidence": 0.5, "speaker": "Nova",
        });
        let InputKind::Utterance(utterance) = kind(&of_type("transcript.user", data)) else {
            panic!("no utterance");
        };
        assert_eq!(utterance.text, "hi");
        assert_eq!(utterance.speaker, Speaker::User);
        assert_eq!(utterance.speaker_label, "Nova");
        assert_eq!(utterance.confidence, Some(0.5));
        assert!(utterance.spoken_at.is_some());
    }
    let zoneless = json!({"text": "hi", "spoken_at": "2026-11-22T12:00:00"});
    assert_eq!(
        code(&of_type("transcript.user", zoneless)),
        "invalid_timestamp"
    );
}

#[test]
fn an_end_names_its_reason() {
    let data = json!({"reason": "hangup_user"});
    let InputKind::Ended(end) = kind(&of_type("call.ended", data)) else {
        panic!("no end");
    };
    assert_eq!(end.reason, EndReason::HangupUser);
}

#[test]
fn what_the_specification_requires_is_required() {
    for key in ["specversion", "id", "source", "type"] {
        assert_eq!(code(&without(key)), "missing_field", "{key}");
        assert_eq!(code(&with(key, json!(1))), "wrong_type", "{key}");
    }
    for (key, value, expected) in [
        ("specversion", json!("0.3"), "unsupported_specversion"),
        ("id", json!(""), "invalid_event_id"),
        ("source", json!(""), "missing_field"),
        ("source", json!("x".repeat(2049)), "too_long"),
        ("type", json!("call.>"), "invalid_event_type"),
        ("type", json!("call..x"), "invalid_event_type"),
        ("type", json!("x".repeat(257)), "too_long"),
        ("subject", json!(""), "invalid_call_id"),
        ("subject", json!("a/b"), "invalid_call_id"),
        ("subject", json!(7), "wrong_type"),
        ("time", json!("2026-11-22T12:00:00"), "invalid_timestamp"),
        ("time", json!(1_795_348_800), "wrong_type"),
        ("sequence", json!({}), "wrong_type"),
        ("sequence", json!(1.5), "wrong_type"),
        ("data", json!("x"), "wrong_type"),
        ("datacontenttype", json!("text/xml"), "unsupported_data"),
        ("data_base64", json!("e30="), "unsupported_data"),
    ] {
        assert_eq!(code(&with(key, value.clone())), expected, "{key}: {value}");
    }
}

#[test]
fn the_subject_wins_over_the_data_and_can_be_replaced_by_it() {
    assert_eq!(read(&event()).unwrap().call().unwrap().as_str(), "rtc_1");
    assert_eq!(
        read(&without("subject")).unwrap().call().unwrap().as_str(),
        "EVIL"
    );
    let mut nameless = without("subject");
    nameless["data"] = json!({});
    assert_eq!(
        read(&nameless).unwrap_err().to_string(),
        "`subject` is missing"
    );
}

#[test]
fn a_sequence_or_a_trace_that_cannot_be_read_is_dropped() {
    for (value, expected) in [
        (json!(7), Some(7)),
        (json!("A-7"), None),
        (json!(-7), None),
        (json!("99999999999999999999"), None),
        (json!(null), None),
    ] {
        let event = new_event(read(&with("sequence", value)));
        assert_eq!(event.source_sequence, expected);
    }
    let event = new_event(read(&with("traceparent", json!("00-0-0-00"))));
    assert_eq!(event.traceparent, None);
}

#[test]
fn an_unknown_type_is_parked_whatever_its_data_are() {
    let mut event = with("type", json!("com.example.Something-else.v2"));
    event["data_base64"] = json!("e30=");
    assert!(matches!(read(&event), Ok(Parsed::Parked(_))));
    // The words of the older contracts are not types of this one.
    let parked = read(&with("type", json!("call_started")));
    assert!(matches!(parked, Ok(Parsed::Parked(_))));
}

#[test]
fn source_and_id_are_the_identity() {
    let id = |event: &Value| read(event).unwrap().id().clone();
    assert_eq!(id(&event()), id(&of_type("call.ended", json!({}))));
    assert_ne!(id(&event()), id(&with("id", json!("e2"))));
    assert_ne!(id(&event()), id(&with("source", json!("/other"))));
}

#[test]
fn a_batch_is_read_as_a_whole_or_refused_as_a_whole() {
    let body = json!([event(), with("id", json!("e2"))]).to_string();
    assert_eq!(batched(body.as_bytes()).unwrap().len(), 2);
    assert_eq!(batched(b"[]").unwrap(), []);
    let body = json!([event(), without("type"), 5]).to_string();
    let error = batched(body.as_bytes()).unwrap_err();
    assert_eq!(error.batch_index(), Some(1));
    assert_eq!(error.code(), "missing_field");
    let body = Value::from(vec![event(); BATCH_LENGTH_MAX + 1]).to_string();
    assert_eq!(
        batched(body.as_bytes()).unwrap_err().code(),
        "batch_too_long"
    );
    assert_eq!(batched(b"{}").unwrap_err().code(), "invalid_body");
}

#[test]
fn the_content_type_says_how_the_events_travel() {
    let one = event().to_string();
    let many = json!([event(), event()]).to_string();
    for (content_type, body, expected) in [
        ("application/cloudevents+json", &one, Ok(1)),
        ("Application/CloudEvents+JSON; charset=UTF-8", &one, Ok(1)),
        ("application/cloudevents-batch+json", &many, Ok(2)),
        ("application/cloudevents+json", &many, Err("invalid_body")),
        (
            "application/cloudevents+avro",
            &one,
            Err("unsupported_content_type"),
        ),
        ("application/json", &one, Err("missing_field")),
    ] {
        let found = send(&[("content-type", content_type)], body);
        let found = found
            .map(|events| events.len())
            .map_err(|error| error.code());
        assert_eq!(found, expected, "{content_type}");
    }
}

#[test]
fn a_binary_event_has_its_attributes_in_headers() {
    let mut headers = BINARY.to_vec();
    headers.push(("ce-time", "2026-11-22T12:00:00Z"));
    headers.push(("ce-sequence", "7"));
    headers.push(("traceparent", TRACEPARENT));
    headers.push(("x-other", "ignored"));
    let event = new_event(send(&headers, "").map(|mut events| events.remove(0)));
    assert_eq!(event.kind, InputKind::Answered);
    assert_eq!(event.source_sequence, Some(7));
    assert_eq!(event.traceparent.as_deref(), Some(TRACEPARENT));
    assert!(event.happened_at.is_some());
    assert_eq!(event.id, *read(&with("subject", json!("x"))).unwrap().id());

    let mut headers = BINARY.to_vec();
    headers[4] = ("ce-type", "transcript.user");
    let parsed = send(&headers, "{\"text\":\"hi\"}").map(|mut events| events.remove(0));
    assert!(matches!(new_event(parsed).kind, InputKind::Utterance(_)));
    assert_eq!(send(&headers, "[]").unwrap_err().code(), "wrong_type");
    assert_eq!(send(&headers, "{").unwrap_err().code(), "invalid_json");
}

#[test]
fn header_values_are_unquoted_and_decoded_once() {
    let id = |value: &str| {
        let mut headers = BINARY.to_vec();
        headers[2] = ("ce-id", value);
        send(&headers, "").map(|events| events[0].id().clone())
    };
    let plain = |value: &str| Ok(identity::of_cloudevent("/voice", value));
    assert_eq!(id("Euro%20%e2%82%AC"), plain("Euro €"));
    assert_eq!(id("\"a b\""), plain("a b"));
    assert_eq!(id("\"a\\\"%20b\""), plain("a\" b"));
    assert_eq!(id("%2520"), plain("%20"));
    for bad in ["%C0%A0", "%ff", "\"a\"b\"", "\"a\\\""] {
        assert_eq!(id(bad).unwrap_err().code(), "invalid_attribute", "{bad}");
    }
}

#[test]
fn a_header_that_is_there_twice_is_refused() {
    let mut headers = BINARY.to_vec();
    headers.push(("ce-id", "e2"));
    let error = send(&headers, "").unwrap_err();
    assert_eq!(error.code(), "invalid_attribute");
    assert!(error.to_string().starts_with("`ce-id`"));
}

#[test]
fn a_body_that_is_not_json_is_no_data_of_a_known_type() {
    let mut headers = BINARY.to_vec();
    headers[0] = ("content-type", "audio/wav");
    assert_eq!(
        send(&headers, "RIFF").unwrap_err().code(),
        "unsupported_data"
    );
    headers[4] = ("ce-type", "com.example.recording");
    assert!(matches!(
        send(&headers, "RIFF").unwrap()[..],
        [Parsed::Parked(_)]
    ));
}
