//! The three doors against what real servers sent, against the catalogue of bad inputs, and
//! against anything at all.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use chrono::SecondsFormat;
use chrono_tz::Tz;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Error, Parsed, call_event, cloudevents, forward};
use crate::domain::ids::CallId;
use crate::domain::input::InputKind;
use crate::domain::phone::Party;

/// What the replaced Python bridge posted had the shape that it took itself.
const FORWARD_PATHS: [&str; 2] = ["/webhook/forward", "/python-webhook"];

type Door = fn(&[u8], Tz, Option<&str>) -> Result<Parsed, Error>;

fn door(path: &str) -> Option<Door> {
    match path {
        "/call-event" => Some(call_event::parse),
        path if FORWARD_PATHS.contains(&path) => Some(forward::parse),
        _ => None,
    }
}

fn package(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn load(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap()
}

/// One line that says what a body comes to.
fn line(parsed: &Result<Parsed, Error>) -> String {
    match parsed {
        Err(error) => format!("refused {}: {error}", error.code()),
        Ok(Parsed::Parked(parked)) => {
            let call = parked.call.as_ref().map_or("-", CallId::as_str);
            format!("parked {call} {} {}", parked.event_type, parked.id)
        }
        Ok(Parsed::Event(event)) => {
            let at = event
                .happened_at
                .map(|time| time.to_rfc3339_opts(SecondsFormat::Micros, true))
                .unwrap_or_default();
            format!("{} {} {at} {}", event.call, says(&event.kind), event.id)
        }
    }
}

fn says(kind: &InputKind) -> String {
    match kind {
        InputKind::Started {
            direction, party, ..
        } => {
            let direction = direction.map_or("-", |direction| direction.as_str());
            let party = match party {
                None => "-".to_owned(),
                Some(Party::Anonymous) => "anonymous".to_owned(),
                Some(Party::Number(number)) => number.to_string(),
            };
            format!("started({direction} {party})")
        }
        InputKind::Ended(end) => {
            let detail = end.detail.as_deref().unwrap_or("-");
            format!("ended({} {detail})", end.reason.as_str())
        }
        InputKind::Utterance(said) => {
            let confidence = said
                .confidence
                .map_or(String::new(), |sure| format!(" {sure}"));
            let spoken_at = said
                .spoken_at
                .map_or(String::new(), |time| time.format(" at %T%.6f").to_string());
            format!(
                "said({} {:?} {:?}{confidence}{spoken_at})",
                said.speaker.as_str(),
                said.speaker_label,
                said.text
            )
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn what_the_real_servers_sent_is_read_like_this() {
    let mut lines = BTreeMap::new();
    for entry in fs::read_dir(package("tests/fixtures")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if !["bridge-", "derived-", "pybridge-post-"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            continue;
        }
        let fixture = load(&path);
        let Some(door) = door(fixture["path"].as_str().unwrap()) else {
            lines.insert(name, "another door".to_owned());
            continue;
        };
        let zone = match name.as_str() {
            "bridge-v2-inbound-tz-new-york" => Tz::America__New_York,
            _ => Tz::UTC,
        };
        let body = fixture["body"].as_str().unwrap();
        let parsed = door(body.as_bytes(), zone, None);
        assert_eq!(parsed, door(body.as_bytes(), zone, None), "{name}");
        lines.insert(name, line(&parsed));
    }
    let mut text = String::new();
    for (name, line) in &lines {
        writeln!(text, "{name}\n  {line}").unwrap();
    }
    insta::assert_snapshot!(text);
}

/// Fewer rows than this, of whatever catalogue, mean that it was not read.
const JUDGED_MIN: usize = 20;

/// A row of the catalogue that can be judged by its body alone.
struct BadInput {
    name: String,
    door: Door,
    body: Vec<u8>,
    expect: Vec<String>,
}

fn bad_inputs() -> Vec<BadInput> {
    let folder = std::env::var_os("VOICEBUS_BADINPUTS_DIR")
        .map_or_else(|| package("tests/badinputs"), PathBuf::from);
    let mut inputs = Vec::new();
    for file in ["json", "call_id", "events", "timestamp", "phone"] {
        let catalogue = load(&folder.join(file).with_extension("json"));
        for row in catalogue["requests"].as_array().unwrap() {
            inputs.extend(bad_input(row));
        }
    }
    inputs
}

fn bad_input(row: &Value) -> Option<BadInput> {
    let door = door(row["path"].as_str()?)?;
    let is_plain = |header: &Value| {
        let name = header[0].as_str().unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "content-type" => header[1] == "application/json",
            "authorization" => true,
            _ => false,
        }
    };
    let about_http = row["method"] != "POST"
        || !row["headers"].as_array()?.iter().all(is_plain)
        || !row["raw_request_base64"].is_null()
        || !row["send_plan"].is_null();
    let expect: Vec<String> = row["expect"]
        .as_str()?
        .split('|')
        .map(|word| match word {
            // Which of the two it is, the HTTP layer says.
            "400" | "422" => "4xx".to_owned(),
            other => other.to_owned(),
        })
        .collect();
    let judged = ["4xx", "2xx-sanitised", "2xx-parked"];
    if about_http || !expect.iter().any(|word| judged.contains(&word.as_str())) {
        return None;
    }
    Some(BadInput {
        name: row["name"].as_str()?.to_owned(),
        door,
        body: base64(row["body_base64"].as_str()?),
        expect,
    })
}

fn base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for c in text.bytes().filter(|c| *c != b'=') {
        let sextet = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => panic!("not base64"),
        };
        bits = (bits << 6 | u32::from(sextet)) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    bytes
}

#[test]
fn the_catalogue_of_bad_inputs_is_answered_as_it_wants() {
    let inputs = bad_inputs();
    let mut wrong = Vec::new();
    for input in &inputs {
        let parsed = (input.door)(&input.body, Tz::UTC, None);
        let found = match &parsed {
            Err(_) => "4xx",
            Ok(Parsed::Event(_)) => "2xx-sanitised",
            Ok(Parsed::Parked(_)) => "2xx-parked",
        };
        if !input.expect.iter().any(|word| word == found) {
            wrong.push(format!("{}: {}", input.name, line(&parsed)));
        }
        if let Err(error) = parsed {
            let said = error.to_string();
            assert!(!said.contains("JCXK3V8Q"), "{} is repeated", input.name);
            assert!(said.len() < 200 && !said.contains('\n'), "{said}");
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    // A folder that is empty or all about HTTP must not look like a success.
    assert!(inputs.len() >= JUDGED_MIN, "only {} rows", inputs.len());
}

#[test]
fn every_row_of_the_own_copy_is_judged_or_of_another_door() {
    let mut judged = 0;
    let mut skipped = 0;
    for file in ["json", "call_id", "events", "timestamp", "phone"] {
        let path = package("tests/badinputs").join(file).with_extension("json");
        for row in load(&path)["requests"].as_array().unwrap() {
            let ours = door(row["path"].as_str().unwrap()).is_some();
            assert_eq!(bad_input(row).is_some(), ours, "{}", row["name"]);
            if ours {
                judged += 1;
            } else {
                skipped += 1;
            }
        }
    }
    assert_eq!((judged, skipped), (123, 52));
}

/// JSON that has the names of the contracts in it, so that it gets beyond the first check.
fn near_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "rtc_1",
        "call_started",
        "call.ended",
        "transcript_update",
        "transcript_updated",
        "openclaw.voice.transcript.user",
        "inbound",
        "1.0",
        "2026-11-22T12:32:16.172805",
        "2026-11-22T12:00:00Z",
        "sip:+12015550142@h",
        "failed",
        "",
    ]);
    let leaf = prop_oneof![
        4 => word.prop_map(Value::from),
        1 => any::<String>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    let key = prop::sample::select(vec![
        "callId",
        "call_id",
        "eventType",
        "event_type",
        "phoneNumber",
        "phone_number",
        "direction",
        "timestamp",
        "data",
        "content",
        "transcript",
        "text",
        "speaker",
        "spoken_at",
        "confidence",
        "reason",
        "specversion",
        "id",
        "source",
        "type",
        "subject",
        "time",
        "sequence",
        "traceparent",
        "data_base64",
    ]);
    leaf.prop_recursive(3, 64, 16, move |inner| {
        prop_oneof![
            6 => prop::collection::btree_map(key.clone(), inner.clone(), 0..24)
                .prop_map(|map| json!(map)),
            1 => prop::collection::vec(inner, 0..4).prop_map(Value::from),
        ]
    })
}

fn try_every_door(body: &[u8], header: &[u8]) {
    let structured: &[u8] = b"application/cloudevents+json";
    let batch: &[u8] = b"application/cloudevents-batch+json";
    let results = [
        call_event::parse(body, Tz::Europe__Berlin, None),
        forward::parse(body, Tz::America__New_York, Some("1")),
    ];
    let more = [
        vec![("content-type", structured)],
        vec![("content-type", batch)],
        vec![("content-type", header)],
        vec![
            ("ce-specversion", b"1.0".as_slice()),
            ("ce-id", header),
            ("ce-source", header),
            ("ce-type", b"transcript.user"),
            ("ce-subject", b"rtc_1"),
            ("ce-time", header),
        ],
    ]
    .map(|headers| cloudevents::parse(headers, body));
    let errors = results.into_iter().filter_map(Result::err);
    for error in errors.chain(more.into_iter().filter_map(Result::err)) {
        assert!(!error.code().is_empty() && !error.to_string().is_empty());
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        body in prop::collection::vec(any::<u8>(), 0..256),
        header in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        try_every_door(&body, &header);
    }

    #[test]
    fn arbitrary_json_never_panics(body in near_json(), header in ".{0,40}") {
        try_every_door(body.to_string().as_bytes(), header.as_bytes());
    }
}
