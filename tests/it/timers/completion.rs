//! `transcript.completed`: once, whole, in source order, whoever is killed.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use async_nats::jetstream::stream;
use voicebus::simulate::event::EventType;
use voicebus::simulate::generator::Options;
use voicebus::simulate::{Generator, sender};

use super::*;

#[tokio::test]
async fn a_transcript_is_completed_once_in_the_order_of_speech() {
    let stage = Stage::set().await;
    let emitter = stage.emitter();
    let world = stage
        .run(Roles::All, "finalize_after = \"1s\"", NO_VOICE_SERVER)
        .await;
    let generator = Generator::new(
        7,
        Options {
            started_at: Utc::now().naive_utc(),
            calls: 5,
            transcripts: 40,
            concurrent: NonZeroUsize::new(5).unwrap(),
            rate: 0.0,
            reorder: 12,
            duplicate_percent: 10.0,
        },
    );
    let mut spoken: BTreeMap<String, BTreeMap<usize, String>> = BTreeMap::new();
    for event in generator
        .events()
        .filter(|e| e.event_type == EventType::TranscriptUpdate)
    {
        let body: Value = serde_json::from_slice(&event.body).unwrap();
        let text = body["data"]["content"].as_str().unwrap().to_owned();
        spoken
            .entry(event.call_id.to_string())
            .or_default()
            .insert(event.sequence, text);
    }
    sender::run(&generator, &emitter, &world.stop)
        .await
        .unwrap();
    for (call, texts) in &spoken {
        let in_order: Vec<String> = texts.values().cloned().collect();
        assert_eq!(world.completed(call).await, (1, in_order), "{call}");
    }
    world.settled().await;
    for call in spoken.keys() {
        assert_eq!(world.count(call, "transcript.completed").await, 1);
        let arrived: Vec<_> = world
            .events(call)
            .await
            .iter()
            .filter_map(|event| event.data.transcript.as_ref().map(|said| said.text.clone()))
            .collect();
        assert_ne!(arrived, spoken[call].values().cloned().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn words_that_come_later_make_a_second_revision() {
    let world = World::start(Roles::All, "finalize_after = \"50ms\"", NO_VOICE_SERVER).await;
    world.send_call("rtc_1", &["one", "three"]).await;
    assert_eq!(
        world.completed("rtc_1").await,
        (1, vec!["one".into(), "three".into()])
    );
    world.send("rtc_1", said("two"), 150).await;
    let second = eventually("the second revision", async || {
        let events = world.events("rtc_1").await;
        events
            .iter()
            .rev()
            .find(|event| event.data.conversation.is_some())
            .map(told)
            .filter(|(revision, _)| *revision == 2)
    })
    .await;
    assert_eq!(second.1, ["one", "two", "three"]);
    let late = world.events("rtc_1").await;
    let late = late
        .iter()
        .filter_map(|event| event.data.transcript.as_ref());
    assert_eq!(late.filter(|said| said.after_end).count(), 1);
}

/// The stream of events is full for a while, so the end of the call stays between its timer and
/// its commit for as long as it takes to kill the router there.
#[tokio::test]
async fn a_router_killed_between_arming_and_commit_loses_and_doubles_nothing() {
    let world = World::start(
        Roles::IngressOnly,
        "finalize_after = \"200ms\"",
        NO_VOICE_SERVER,
    )
    .await;
    let mut router = world.router_process();
    world.send("rtc_1", STARTED, 0).await;
    world.send("rtc_1", said("hello"), 100).await;
    world.happened("rtc_1", "transcript.user").await;
    let limit = async |messages| {
        let admin = connect(&world.nats, User::Provision).await;
        let mut events = admin.jetstream().get_stream("VOICE_EVENT").await.unwrap();
        let config = stream::Config {
            max_messages: messages,
            ..events.info().await.unwrap().config.clone()
        };
        admin.jetstream().update_stream(config).await.unwrap();
    };
    limit(2).await;
    world.send("rtc_1", ENDED, 60_000).await;
    // It is armed with each try, and fires without an end to belong to.
    eventually("a timer that came before its event", async || {
        (world.pending("voice.in.*.rtc_1.timer").await? >= 1).then_some(())
    })
    .await;
    assert_eq!(world.count("rtc_1", "state.ended").await, 0);
    router.kill().await.unwrap();
    limit(-1).await;
    let _router = world.router_process();
    assert_eq!(world.completed("rtc_1").await, (1, vec!["hello".into()]));
    world.settled().await;
    assert_eq!(world.count("rtc_1", "state.ended").await, 1);
    assert_eq!(world.count("rtc_1", "transcript.completed").await, 1);
}

#[tokio::test]
async fn a_router_killed_before_the_timer_fires_is_not_missed() {
    let world = World::start(
        Roles::IngressOnly,
        "finalize_after = \"500ms\"",
        NO_VOICE_SERVER,
    )
    .await;
    let mut router = world.router_process();
    world.send_call("rtc_1", &["hello"]).await;
    world.happened("rtc_1", "state.ended").await;
    router.kill().await.unwrap();
    assert_eq!(world.count("rtc_1", "transcript.completed").await, 0);
    let _first = world.router_process();
    let _second = world.router_process();
    assert_eq!(world.completed("rtc_1").await, (1, vec!["hello".into()]));
    world.settled().await;
    assert_eq!(world.count("rtc_1", "transcript.completed").await, 1);
}

#[tokio::test]
async fn timers_survive_the_death_of_the_server() {
    let world = World::start(Roles::All, "finalize_after = \"2s\"", NO_VOICE_SERVER).await;
    for call in ["rtc_1", "rtc_2", "rtc_3"] {
        world.send_call(call, &["hello"]).await;
        world.happened(call, "state.ended").await;
    }
    assert_eq!(world.pending("voice.timer.*.finalize").await, Some(3));
    kill(world.nats.server.pid().unwrap());
    within("restart", world.nats.server.restarted(0)).await;
    for call in ["rtc_1", "rtc_2", "rtc_3"] {
        assert_eq!(world.completed(call).await, (1, vec!["hello".into()]));
    }
    world.settled().await;
    for call in ["rtc_1", "rtc_2", "rtc_3"] {
        assert_eq!(world.count(call, "transcript.completed").await, 1);
    }
}
