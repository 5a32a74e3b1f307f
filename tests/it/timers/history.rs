//! What the phone-call server remembers and nobody has sent.

use voicebus::simulate::{Fault, Route, StandIn, StandInConfig, Version};

use super::*;

const TIMES: &str = "finalize_after = \"100ms\"";

async fn stand_in(version: Version) -> StandIn {
    StandIn::start(StandInConfig {
        version,
        pace: Duration::from_millis(5),
        transcripts: 6,
        ..StandInConfig::default()
    })
    .await
    .unwrap()
}

/// A call that the stand-in has in its history: its id, and what was said.
async fn remembered(stand_in: &StandIn) -> (String, Vec<Value>) {
    dial(&stand_in.url()).await;
    let call = eventually("the end of the call", async || {
        let rows = get(&format!("{}/history", stand_in.url())).await;
        let rows = rows.as_array().unwrap().clone();
        let over = rows.iter().find(|row| row["status"] == "completed")?;
        Some(over["call_id"].as_str().unwrap().to_owned())
    })
    .await;
    let history = get(&format!("{}/history/{call}/transcript", stand_in.url())).await;
    let said = history["transcript"].as_array().unwrap().clone();
    assert_eq!(said.len(), 6);
    (call, said)
}

fn text(entry: &Value) -> String {
    entry["content"].as_str().unwrap().to_owned()
}

/// Sends what the history has, but for some of it.
async fn send_but(world: &World, call: &str, history: &[Value], missing: &[usize]) {
    world.send(call, STARTED, 0).await;
    for (index, entry) in history.iter().enumerate() {
        if missing.contains(&index) {
            continue;
        }
        let at: NaiveDateTime = entry["timestamp"].as_str().unwrap().parse().unwrap();
        let text = text(entry);
        let speaker = entry["speaker"].as_str().unwrap();
        let content = Content::Utterance {
            speaker,
            text: &text,
        };
        world
            .post("/call-event", event::body(call, content, at))
            .await;
    }
    world.send(call, ENDED, 60_000).await;
}

async fn backfilled(world: &World, call: &str) -> Vec<String> {
    let events = world.events(call).await;
    let said = events
        .iter()
        .filter_map(|event| event.data.transcript.as_ref());
    said.filter(|said| said.backfilled)
        .map(|said| said.text.clone())
        .collect()
}

#[tokio::test]
async fn what_is_missing_is_filled_in_before_the_transcript_is_completed() {
    let server = stand_in(Version::V2).await;
    let world = World::start(Roles::All, TIMES, &server.url()).await;
    let (call, history) = remembered(&server).await;
    let all: Vec<String> = history.iter().map(text).collect();
    send_but(&world, &call, &history, &[0, 3]).await;
    assert_eq!(world.completed(&call).await, (1, all.clone()));
    assert_eq!(
        backfilled(&world, &call).await,
        [all[0].clone(), all[3].clone()]
    );
    world.settled().await;
    let before = world.events(&call).await.len();
    let timers = format!("voice.in.*.{call}.timer");
    for _ in 0..2 {
        let fired = world.pending(&timers).await.unwrap();
        let answer = world
            .post("/sync-transcript", format!(r#"{{"callId":"{call}"}}"#))
            .await;
        assert_eq!(
            answer,
            json!({ "success": true, "messagesInjected": 0, "callId": call })
        );
        eventually("the answer of the history", async || {
            (world.pending(&timers).await? > fired).then_some(())
        })
        .await;
        world.settled().await;
    }
    assert_eq!(world.events(&call).await.len(), before);
    assert_eq!(world.count(&call, "transcript.completed").await, 1);
}

#[tokio::test]
async fn a_sync_fills_in_what_the_history_had_not_when_the_call_ended() {
    let server = stand_in(Version::V2).await;
    let world = World::start(Roles::All, TIMES, &server.url()).await;
    let (call, history) = remembered(&server).await;
    server.always(Route::History, Some(Fault::HangUp));
    send_but(&world, &call, &history, &[5]).await;
    assert_eq!(world.completed(&call).await.1.len(), 5);
    world.settled().await;
    server.always(Route::History, None);
    world
        .post("/sync-transcript", format!(r#"{{"callId":"{call}"}}"#))
        .await;
    eventually("the second revision", async || {
        (world.count(&call, "transcript.completed").await == 2).then_some(())
    })
    .await;
    assert_eq!(backfilled(&world, &call).await, [text(&history[5])]);
}

#[tokio::test]
async fn a_server_without_a_history_holds_up_nothing() {
    let server = stand_in(Version::V3).await;
    let world = World::start(Roles::All, TIMES, &server.url()).await;
    world.send_call("rtc_1", &["hello"]).await;
    assert_eq!(world.completed("rtc_1").await, (1, vec!["hello".into()]));
    assert_eq!(backfilled(&world, "rtc_1").await, [""; 0]);
}

impl World {
    /// Sends an entry of the history as a sender does that numbers what it sends.
    async fn send_numbered(&self, call: &str, number: usize, entry: &Value) {
        let timestamp = entry["timestamp"].as_str().unwrap();
        let event = json!({
            "specversion": "1.0",
            "id": format!("{call}-{number}"),
            "source": "test",
            "type": "transcript.updated",
            "subject": call,
            "time": format!("{timestamp}Z"),
            "sequence": number.to_string(),
            "data": { "speaker": entry["speaker"], "text": entry["content"] },
        });
        let answer = reqwest::Client::new()
            .post(format!("{}/v1/events", self.http))
            .header("content-type", "application/cloudevents+json")
            .body(event.to_string())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status().as_u16(), 200);
    }
}

#[tokio::test]
async fn a_hole_in_the_senders_numbers_is_filled_in_while_the_call_goes_on() {
    let server = stand_in(Version::V2).await;
    let world = World::start(Roles::All, TIMES, &server.url()).await;
    let (call, history) = remembered(&server).await;
    let missing = 2;
    for (index, entry) in history.iter().enumerate() {
        if index != missing {
            world.send_numbered(&call, index + 1, entry).await;
        }
    }
    let filled = eventually("what was missing", async || {
        let filled = backfilled(&world, &call).await;
        (!filled.is_empty()).then_some(filled)
    })
    .await;
    assert_eq!(filled, [text(&history[missing])]);

    // It was only late.
    world
        .send_numbered(&call, missing + 1, &history[missing])
        .await;
    let mut last = history[0].clone();
    last["content"] = json!("goodbye");
    world.send_numbered(&call, history.len() + 1, &last).await;
    let said = eventually("the last word", async || {
        let events = world.events(&call).await;
        let said = events
            .iter()
            .filter_map(|event| event.data.transcript.as_ref());
        let said: Vec<String> = said.map(|said| said.text.clone()).collect();
        said.iter().any(|text| text == "goodbye").then_some(said)
    })
    .await;
    let mut expected: Vec<String> = history.iter().map(text).collect();
    let late = expected.remove(missing);
    expected.extend([late, "goodbye".to_owned()]);
    assert_eq!(said, expected);
    assert_eq!(world.count(&call, "state.ended").await, 0);
}
