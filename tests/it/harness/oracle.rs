//! What the router must make of the events that the phone-call server sends, told a second time
//! and in the simplest words, so that the tests do not ask the router whether the router is right.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Feed, Heard, Observer, cloudevent, read_stream};

/// An accepted event as VOICE_IN has it.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub id: String,
    pub call: String,
    pub json: Value,
}

/// All accepted events in the order of their acceptance, read by a client that may.
pub async fn accepted(client: &async_nats::Client) -> Vec<Accepted> {
    let messages = read_stream(client, "VOICE_IN", "voice.in.>").await;
    let read = |message: &async_nats::jetstream::Message| {
        let json: Value = serde_json::from_slice(&message.payload).unwrap();
        let text = |name: &str| json[name].as_str().unwrap().to_owned();
        let headers = message.headers.as_ref().unwrap();
        assert_eq!(headers.get("Nats-Msg-Id").unwrap().as_str(), text("id"));
        assert_eq!(message.subject.split('.').nth(3), Some(&*text("call")));
        Accepted {
            id: text("id"),
            call: text("call"),
            json,
        }
    };
    // A timer that has fired is the router's own doing, not something that was accepted.
    let is_timer = |message: &&async_nats::jetstream::Message| message.subject.ends_with(".timer");
    messages
        .iter()
        .filter(|message| !is_timer(message))
        .map(read)
        .collect()
}

/// What must be on the feed of each call, in this order: the id of the event and what it says.
pub type Story = BTreeMap<String, Vec<(String, String)>>;

/// The story of inbound calls without links between numbers and sessions.
pub fn story(accepted: &[Accepted]) -> Story {
    #[derive(Default)]
    struct Known {
        begun: bool,
        ended: bool,
    }
    let mut known: BTreeMap<&str, Known> = BTreeMap::new();
    let mut story = Story::new();
    for event in accepted {
        let says = &event.json["says"];
        let before = story.contains_key(&event.call);
        let call = known.entry(&event.call).or_default();
        let what = match says["type"].as_str().unwrap() {
            "utterance" => format!("transcript.{}", says["speaker"].as_str().unwrap()),
            "ended" if call.ended => continue,
            "ended" => {
                call.ended = true;
                "state.ended".to_owned()
            }
            "started" if call.begun => continue,
            "started" => {
                // Who calls decides the session, if anything was heard of the call before.
                let moves = before && says["number"].as_str().is_some_and(|n| !n.is_empty());
                if call.ended && !moves {
                    continue;
                }
                call.begun = true;
                let word = if moves {
                    "session.rebound"
                } else {
                    "state.initiated"
                };
                word.to_owned()
            }
            other => panic!("the simulator does not say {other}"),
        };
        let told = story.entry(event.call.clone()).or_default();
        told.push((event.id.clone(), what));
    }
    story
}

/// What was told of each call. Every event must be a sound one, and the numbers of each call's
/// events must go 1, 2, 3 and so on.
pub fn told(events: &[Heard]) -> Story {
    let mut story = Story::new();
    for event in events {
        assert_eq!(
            cloudevent::mistakes(&event.json),
            Vec::<String>::new(),
            "{}",
            event.json
        );
        let content_type = event.headers.get("content-type").unwrap();
        assert_eq!(content_type.as_str(), "application/cloudevents+json");
        assert_eq!(event.json["subject"], event.log());
        assert_eq!(
            event.json["type"],
            format!("openclaw.voice.{}", event.what())
        );
        let told = story.entry(event.log().to_owned()).or_default();
        told.push((event.id().to_owned(), event.what()));
        assert_eq!(event.sequence(), told.len() as u64, "{}", event.subject);
    }
    story
}

/// Says where two stories differ, rather than showing both.
pub fn assert_same(found: &Story, wanted: &Story) {
    let calls = found.keys().chain(wanted.keys());
    let different: BTreeMap<_, _> = calls
        .filter(|call| found.get(*call) != wanted.get(*call))
        .map(|call| (call, (found.get(call), wanted.get(call))))
        .collect();
    let some: Vec<_> = different.iter().take(3).collect();
    assert!(
        different.is_empty(),
        "{} calls differ (found, wanted): {some:#?}",
        different.len()
    );
}

/// Everything that was accepted has been told once, in order and without a hole: live, and when
/// it is read back.
pub async fn assert_all_told(observer: &Observer, feed: &Feed, reader: &async_nats::Client) {
    observer.worked_off("VOICE_IN").await;
    feed.catches_up(observer).await;
    let stored = observer.read_back().await;
    let live = told(&feed.all());
    assert_same(&live, &story(&accepted(reader).await));
    assert_same(&told(&stored), &live);
    let order = |events: &[Heard]| -> Vec<String> {
        events
            .iter()
            .map(|event| format!("{} {}", event.subject, event.id()))
            .collect()
    };
    assert_eq!(order(&feed.all()), order(&stored));
    assert_eq!(observer.messages("VOICE_DLQ").await, 0);
}
