//! A call or a caller that is forgotten is gone, stays gone, and is not dialled again.

use std::path::Path;

use futures_util::StreamExt;
use serde_json::{Value, json};
use voicebus::simulate::{Race, StandIn};

use crate::harness::{Options, Up, free_address};
use crate::outbound::{publish, stand_in};

const NUMBER: &str = "+12025550147";
const DIGITS: &str = "2025550147";
const OTHER: &str = "+12015550142";
/// What nobody but the forgotten says or is told.
const WORD: &str = "geheimwort";

fn started(call: &str, number: &str) -> Value {
    json!({
        "callId": call, "eventType": "call_started", "phoneNumber": format!("<sip:{number}@h>"),
        "direction": "inbound", "timestamp": "2026-11-22T12:00:00Z", "data": {},
    })
}

fn said(call: &str, text: &str) -> Value {
    json!({
        "callId": call, "eventType": "transcript_update", "timestamp": "2026-11-22T12:00:01Z",
        "data": { "speaker": "user", "content": text },
    })
}

fn ended(call: &str) -> Value {
    json!({
        "callId": call, "eventType": "call_ended", "phoneNumber": "",
        "timestamp": "2026-11-22T12:00:09Z", "data": { "reason": "completed" },
    })
}

async fn posted(up: &Up, event: &Value) {
    let answer = up.http.post("/call-event", event).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// A call from somebody, with one utterance, to its end.
async fn call_from(up: &Up, call: &str, number: &str, text: &str) {
    for event in [started(call, number), said(call, text), ended(call)] {
        posted(up, &event).await;
    }
    up.settled().await;
}

async fn place(up: &Up) -> crate::harness::Answer {
    let body = json!({
        "to": NUMBER, "message": format!("Hello {WORD}"), "context": { "about": WORD },
    });
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", "wish-1"),
    ];
    let body = body.to_string();
    up.http
        .send("POST", "/openclaw/call", &headers, body.as_bytes())
        .await
}

/// Somebody is called and calls, is linked, and says something that cannot be used.
async fn a_caller_with_a_past() -> (Up, StandIn, Value) {
    let address = free_address();
    let up = Up::start(Options {
        voice_server: address,
        args: vec!["--calls-per-number=100".to_owned()],
        ..Options::default()
    })
    .await;
    let server = stand_in(address, &up.http, Race::AnswerFirst).await;
    let feed = up.observer.feed().await;
    let placed = place(&up).await;
    assert_eq!(placed.status, 200, "{}", placed.text());
    let placed = placed.json();
    let call = placed["call_id"].as_str().unwrap();
    crate::outbound::other_leg(&feed, call).await;
    call_from(&up, "rtc_mine", NUMBER, WORD).await;
    call_from(&up, "rtc_other", OTHER, "something else").await;
    let letter = json!({
        "callId": "rtc_mine", "eventType": "call_sneezed", "timestamp": "2026-11-22T12:00:02Z",
        "phoneNumber": NUMBER, "data": { "content": WORD },
    });
    posted(&up, &letter).await;
    let (code, told) = up.tool(&["link", NUMBER, WORD]).await;
    assert_eq!(code, 0, "{told}");
    up.settled().await;
    up.observer.worked_off("VOICE_CMD").await;
    (up, server, placed)
}

/// All that is stored, as the server gives it out.
async fn all_that_is_stored(up: &Up) -> Vec<(String, String)> {
    let provision = async_nats::jetstream::new(up.connect("provision").await);
    let mut all = Vec::new();
    let mut names = provision.stream_names();
    while let Some(name) = names.next().await {
        let name = name.unwrap();
        let stream = provision.get_stream(&name).await.unwrap();
        let last = stream.get_info().await.unwrap().state.last_sequence;
        for sequence in 1..=last {
            if let Ok(message) = stream.get_raw_message(sequence).await
                && !message.subject.starts_with("voicebus.canary.")
            {
                let payload = String::from_utf8_lossy(&message.payload);
                let text = format!("{} {:?} {payload}", message.subject, message.headers);
                all.push((name.clone(), text));
            }
        }
    }
    all
}

/// The streams, not the buckets, in whose files a text stands.
fn on_the_disk(up: &Up, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![up.data_dir().join("nats")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if stands_in(&path, text) {
                found.push(path.display().to_string());
            }
        }
    }
    found.retain(|path| !path.contains("/KV_"));
    found
}

fn stands_in(path: &Path, text: &str) -> bool {
    let bytes = std::fs::read(path).unwrap_or_default();
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

fn mentions(all: &[(String, String)], text: &str) -> Vec<String> {
    let found = all.iter().filter(|(_, message)| message.contains(text));
    found
        .map(|(name, message)| format!("{name}: {message}"))
        .collect()
}

#[tokio::test]
async fn a_caller_is_gone_from_every_stream_and_bucket_and_from_the_disk() {
    let (up, server, placed) = a_caller_with_a_past().await;
    let whole = all_that_is_stored(&up).await;
    assert!(mentions(&whole, DIGITS).len() > 10);
    assert!(!on_the_disk(&up, DIGITS).is_empty() && !on_the_disk(&up, WORD).is_empty());
    let dialled = server.calls().len();

    let (code, told) = up
        .tool(&["forget", "--number", NUMBER, "--dry-run", "--json"])
        .await;
    assert_eq!(code, 0, "{told}");
    let would: Value = serde_json::from_str(&told).unwrap();
    assert!(
        would["forgotten"]["VOICE_IN"].as_u64().unwrap() > 5,
        "{told}"
    );
    assert_eq!(all_that_is_stored(&up).await.len(), whole.len());

    // The server tells no end of the leg that it dialled.
    let (code, told) = up.tool(&["forget", "--number", NUMBER, "--yes"]).await;
    assert_eq!(code, 1);
    assert!(told.contains("--even-live"), "{told}");
    let (code, told) = up
        .tool(&["forget", "--number", NUMBER, "--even-live"])
        .await;
    assert_eq!(code, 1);
    assert!(told.contains("--yes"), "{told}");
    assert_eq!(all_that_is_stored(&up).await.len(), whole.len());

    let forget = [
        "forget",
        "--number",
        NUMBER,
        "--even-live",
        "--yes",
        "--json",
    ];
    let (code, told) = up.tool(&forget).await;
    assert_eq!(code, 0, "{told}");
    let report: Value = serde_json::from_str(&told).unwrap();
    for place in [
        "VOICE_IN",
        "VOICE_EVENT",
        "VOICE_CMD",
        "VOICE_DLQ",
        "VOICE_INTENT",
        "VOICE_LINK",
    ] {
        assert!(
            report["forgotten"][place].as_u64().unwrap() > 0,
            "{place}: {told}"
        );
    }
    for left in report["left"].as_array().unwrap() {
        assert_eq!(left["meant"], true, "{told}");
    }
    let rest = all_that_is_stored(&up).await;
    for text in [
        DIGITS,
        WORD,
        "rtc_mine",
        placed["call_id"].as_str().unwrap(),
    ] {
        assert_eq!(mentions(&rest, text), Vec::<String>::new());
    }
    for text in [DIGITS, WORD] {
        assert_eq!(on_the_disk(&up, text), Vec::<String>::new(), "{text}");
    }
    // Somebody else's call is as it was.
    let kept = |all: &[(String, String)]| mentions(all, "rtc_other").len();
    assert_eq!(kept(&rest), kept(&whole));
    let (_, calls) = up.tool(&["calls", "--json"]).await;
    assert!(
        calls.contains("rtc_other") && !calls.contains(DIGITS),
        "{calls}"
    );
    assert_eq!(
        up.http
            .get("/openclaw/session/voice:12025550147")
            .await
            .status,
        404
    );

    // What comes late begins nothing, and says nothing on the feed.
    posted(&up, &said("rtc_mine", "late words")).await;
    posted(&up, &started("rtc_mine", OTHER)).await;
    // The same wish is not dialled again, at whichever door it is repeated.
    let again = place(&up).await;
    assert_eq!((again.status, &*again.refusal()), (409, "forgotten"));
    let intent = placed["intent_id"].as_str().unwrap();
    let dial = json!({ "to": NUMBER, "message": "Hello", "session": "x" });
    publish(&up.connect("agent").await, intent, "later", &dial).await;
    up.observer.worked_off("VOICE_CMD").await;
    up.settled().await;
    let told = up.observer.read_back().await;
    let told: Vec<_> = told.iter().map(|event| event.log().to_owned()).collect();
    assert!(
        !told.contains(&"rtc_mine".to_owned()) && !told.contains(&intent.to_owned()),
        "{told:?}"
    );
    assert_eq!(server.calls().len(), dialled);
    // What came late was stored, and can be forgotten as well.
    let (code, told) = up.tool(&["forget", "--call", "rtc_mine", "--yes"]).await;
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("nothing is left"), "{told}");
    up.stop().await;
}

#[tokio::test]
async fn one_call_is_forgotten_and_the_others_of_its_caller_are_not() {
    let up = Up::start(Options::default()).await;
    call_from(&up, "rtc_1", NUMBER, WORD).await;
    call_from(&up, "rtc_2", NUMBER, "something else").await;
    call_from(&up, "rtc_3", OTHER, "I was in rtc_1 before").await;
    let before = mentions(&all_that_is_stored(&up).await, "rtc_2").len();

    let (code, told) = up.tool(&["forget", "--call", "rtc_1", "--yes"]).await;
    // Somebody else has mentioned it, which is theirs to forget.
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("somebody else"), "{told}");
    let rest = all_that_is_stored(&up).await;
    assert_eq!(mentions(&rest, WORD), Vec::<String>::new());
    assert_eq!(mentions(&rest, "rtc_2").len(), before);
    assert_eq!(mentions(&rest, "rtc_1"), mentions(&rest, "in rtc_1 before"));

    // After a restart it is still known to be forgotten, and the others go on.
    let up = up.restart().await;
    posted(&up, &said("rtc_1", "late words")).await;
    posted(&up, &said("rtc_2", "late words")).await;
    up.settled().await;
    let told: Vec<_> = up.observer.read_back().await;
    assert!(!told.iter().any(|event| event.log() == "rtc_1"));
    let last = told.iter().rfind(|event| event.log() == "rtc_2").unwrap();
    assert_eq!(last.sequence(), 4);
    let (code, _) = up.tool(&["calls", "show", "rtc_1"]).await;
    assert_eq!(code, 1);
    up.stop().await;
}
