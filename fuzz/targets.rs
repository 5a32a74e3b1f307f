//! What is done with bytes from outside, one function for each door. They panic on a mistake of ours
//! and on nothing else. `cargo fuzz` makes up bytes for them; the ordinary tests run them over what
//! was found so far, in `corpus`, and over some of their own.

use axum::http::{HeaderMap, HeaderValue, Method, Uri};
use chrono_tz::Tz;
use voicebus::bus::envelope::{decode_input, encode_input};
use voicebus::bus::subjects;
use voicebus::domain::Timestamp;
use voicebus::domain::input::{Input, Position};
use voicebus::domain::phone::{E164, Party};
use voicebus::ingress::source::{Parsed, call_event, cloudevents, forward};
use voicebus::ingress::verify::form::Form;
use voicebus::ingress::verify::own_hmac;
use voicebus::ingress::verify::standard_webhooks::{self, Key};

/// Parts of a request, separated by a byte that no header may have.
fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut parts = data.splitn(N, |byte| *byte == 0);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// The headers of a signed webhook: whatever they say, nobody without the key is believed.
pub fn signature_header(data: &[u8]) {
    let [id, timestamp, signature, body] = parts(data);
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("webhook-id", id),
        ("webhook-timestamp", timestamp),
        ("webhook-signature", signature),
    ] {
        let Ok(value) = HeaderValue::from_bytes(value) else {
            return;
        };
        headers.append(name, value);
    }
    let key = "whsec_a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=";
    let keys = [Key::parse(key).expect("a key of 32 bytes")];
    let now = Timestamp::from_timestamp(1_800_000_000, 0).expect("a time");
    let verified = standard_webhooks::verify(&keys, &headers, body, now);
    assert!(verified.is_err(), "a forged signature is believed");
    for method in [Method::POST, Method::GET] {
        let target = (&method, &Uri::from_static("/call-event?a=b"));
        let verified = own_hmac::verify(&keys, target, &headers, body, now);
        assert!(verified.is_err(), "a forged signature is believed");
    }
    if let Ok(form) = Form::parse(body) {
        assert!(form.parameters().count() <= body.len());
    }
}

/// Who calls, as a SIP `From` header or anything else says it: a number that is read is one.
pub fn from_header(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(number) = Party::read(text).number() {
        let read = E164::parse(number.as_str());
        assert_eq!(read.as_ref(), Ok(number), "a number is not read as itself");
        assert!(number.digits().len() <= 15);
    }
}

/// A subject as it came from the bus: what is taken out of it is a token of it.
pub fn subject(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(call) = subjects::call_of_input(text) {
        assert!(text.split('.').any(|token| token == call.as_str()));
        assert!(subjects::is_input(text), "the call of what is no input");
        assert_eq!(subjects::stored_under(text), Some(call.as_str()));
    }
    if let Some((verb, key)) = subjects::parse_command(text) {
        assert!(subjects::is_command(text) && !key.contains('.') && !verb.contains('.'));
        assert_eq!(subjects::stored_under(text), Some(key));
    }
    if let Some((role, reason)) = subjects::parse_dead_letter(text) {
        assert_eq!(text, format!("voice.dlq.{role}.{reason}"));
    }
    if let Ok(replay) = subjects::ReplaySubject::parse(text) {
        assert!(replay.as_str().starts_with("replay."));
    }
    if subjects::partition_of_input(text).is_some() {
        assert_eq!(subjects::stream_of(text), subjects::STREAM_IN);
    }
    if let Some(under) = subjects::stored_under(text) {
        assert!(text.contains(under));
    }
    if let Some(intent) = subjects::parse_unresolved_key(text) {
        assert_eq!(subjects::unresolved_key(&intent), text);
    }
    assert_eq!(subjects::is_timer(text), text.ends_with(".timer"));
}

/// The body of an event at each of the doors: what is taken can be stored and read back.
pub fn event(data: &[u8]) {
    let headers: [(&str, &[u8]); 1] = [("content-type", b"application/cloudevents+json")];
    let batch: [(&str, &[u8]); 1] = [("content-type", b"application/cloudevents-batch+json")];
    let binary: [(&str, &[u8]); 5] = [
        ("ce-specversion", b"1.0"),
        ("ce-id", b"1"),
        ("ce-source", b"/fuzz"),
        ("ce-type", b"transcript.user"),
        ("ce-subject", b"rtc_1"),
    ];
    let zone = Tz::Europe__Vienna;
    let mut taken = Vec::new();
    taken.extend(call_event::parse(data, zone, None).ok());
    taken.extend(call_event::parse(data, zone, Some("id-1")).ok());
    taken.extend(forward::parse(data, zone, None).ok());
    for headers in [&headers[..], &batch[..], &binary[..]] {
        let lines = headers.iter().copied();
        taken.extend(cloudevents::parse(lines, data).into_iter().flatten());
    }
    for parsed in taken {
        let Parsed::Event(event) = parsed else {
            continue;
        };
        let position = Position {
            epoch: 1,
            sequence: 2,
        };
        let input = Input {
            id: event.id,
            call: event.call,
            position,
            happened_at: event.happened_at,
            received_at: Timestamp::from_timestamp(1_800_000_000, 0).expect("a time"),
            source_sequence: event.source_sequence,
            kind: event.kind,
        };
        let body = std::str::from_utf8(data).ok();
        let stored = encode_input(&input, "fuzz", event.traceparent.as_deref(), body);
        let Ok(stored) = stored else { continue };
        let (read, _) = decode_input(&stored, position).expect("what was stored can be read");
        assert_eq!(read, input, "an event is read back as another");
    }
}
