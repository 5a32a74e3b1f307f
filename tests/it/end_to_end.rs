//! From the phone-call server's event to whoever subscribes: all of it, once, in order, and still
//! there after a restart.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use voicebus::simulate::emitter::{Config, Counts};
use voicebus::simulate::generator::Options as Plan;
use voicebus::simulate::{Emitter, Generator, Recorder, Retry, sender};

use crate::harness::oracle::{self, accepted};
use crate::harness::{Options, Up, within};

fn generator() -> Generator {
    Generator::new(
        7,
        Plan {
            started_at: "2026-11-22T12:00:00".parse().unwrap(),
            calls: 60,
            transcripts: 6,
            concurrent: NonZeroUsize::new(20).unwrap(),
            rate: 0.0,
            reorder: 12,
            duplicate_percent: 20.0,
        },
    )
}

/// Sends all of a plan; the record says what was accepted.
async fn send(up: &Up, generator: &Generator, record: Recorder) -> Counts {
    let config = Config {
        target: up.http.url(),
        token: None,
        retry: Retry::Never,
        record: Some(record),
    };
    let emitter = Emitter::new(config).unwrap();
    let stop = CancellationToken::new();
    let sending = sender::run(generator, &emitter, &stop);
    assert!(within("all to be sent", sending).await.unwrap().complete);
    emitter.counts()
}

/// The bodies in the record of accepted events.
fn recorded(path: &std::path::Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| line["body"].to_string()).collect()
}

#[tokio::test]
async fn every_accepted_event_is_told_once_and_in_order_and_outlives_a_restart() {
    let up = Up::start(Options::default()).await;
    let feed = up.observer.feed().await;
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record.jsonl");
    let generator = generator();
    let counts = send(&up, &generator, Recorder::open(&record).unwrap()).await;
    assert_eq!(counts.accepted, generator.len() as u64, "{counts:?}");

    let provision = up.connect("provision").await;
    oracle::assert_all_told(&up.observer, &feed, &provision).await;
    let accepted = accepted(&provision).await;
    let bodies: BTreeSet<String> = accepted
        .iter()
        .map(|one| one.json["body"].to_string())
        .collect();
    assert_eq!(bodies, recorded(&record));
    assert_eq!(bodies.len(), accepted.len(), "an event was stored twice");
    assert!(generator.len() > accepted.len(), "there was no duplicate");
    let calls: BTreeSet<&str> = accepted.iter().map(|one| one.call.as_str()).collect();
    assert_eq!(calls, generator.call_ids().collect());

    // Some calls go on over the restart; the generated ones are over.
    for number in 0..5 {
        let started = json!({
            "callId": format!("rtc_open{number}"), "eventType": "call_started",
            "phoneNumber": format!("+1201555018{number}"), "direction": "inbound",
            "timestamp": "2026-11-22T12:30:00", "data": {},
        });
        assert_eq!(up.http.post("/call-event", &started).await.status, 200);
    }
    up.settled().await;
    feed.catches_up(&up.observer).await;
    let sessions = crate::harness::reached("five open sessions", async || {
        let sessions = up.http.get("/openclaw/sessions").await.json();
        let open = sessions["active_sessions"] == 5;
        if open {
            Ok(sessions)
        } else {
            Err(sessions.to_string())
        }
    })
    .await;
    let before = up.observer.read_back().await;
    let ended = generator.call_ids().next().unwrap();
    let of_ended = before.iter().rfind(|event| event.log() == ended).unwrap();
    let path = format!("/openclaw/session/{}", of_ended.session());
    let session = up.http.get(&path).await.json();

    let up = up.restart().await;
    let again = up.http.get("/openclaw/sessions").await;
    assert_eq!((again.status, again.json()), (200, sessions));
    assert_eq!(up.http.get(&path).await.json(), session);
    let after = up.observer.read_back().await;
    let order = |events: &[crate::harness::Heard]| -> Vec<String> {
        events.iter().map(|event| event.json.to_string()).collect()
    };
    assert_eq!(order(&after), order(&before));

    // The logs go on where they were.
    let feed = up.observer.feed().await;
    let ended = json!({
        "callId": "rtc_open0", "eventType": "call_ended", "phoneNumber": "+12015550180",
        "direction": "inbound", "timestamp": "2026-11-22T12:31:00", "data": {},
    });
    assert_eq!(up.http.post("/call-event", &ended).await.status, 200);
    assert_eq!(feed.hears("rtc_open0", "state.ended").await.sequence(), 2);
    up.stop().await;
}
