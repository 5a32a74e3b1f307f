//! Calls that never get an end.

use voicebus::domain::ids::CallId;
use voicebus::domain::timer::{Arm, Timer};
use voicebus::simulate::{Fault, Route, StandIn, StandInConfig};

use super::*;

async fn stand_in(emitter: impl Into<Option<Emitter>>, answer_calls: bool) -> StandIn {
    StandIn::start(StandInConfig {
        emitter: emitter.into(),
        answer_calls,
        pace: SOON,
        transcripts: 2,
        ..StandInConfig::default()
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_silent_call_ends_when_the_server_does_not_have_it_and_not_before() {
    let listed = stand_in(None, false).await;
    let world = World::start(
        Roles::All,
        "stale_after = \"100ms\"\nfinalize_after = \"50ms\"",
        &listed.url(),
    )
    .await;
    let call = dial(&listed.url()).await;
    let started = Content::Started {
        phone: "+12015550123",
        direction: Direction::Outbound,
    };
    world.send(&call, started, 0).await;
    eventually("some looks after the call", async || {
        (world.pending(&format!("voice.in.*.{call}.timer")).await? >= 4).then_some(())
    })
    .await;
    assert_eq!(world.count(&call, "state.ended").await, 0);

    // An error page is no answer.
    let broken = Fault::Answer {
        status: 500,
        body: r#"{"detail":"Internal server error"}"#.to_owned(),
    };
    listed.always(Route::Calls, Some(broken));
    listed.forget_active_calls();
    let looks = world
        .pending(&format!("voice.in.*.{call}.timer"))
        .await
        .unwrap();
    eventually("some looks in vain", async || {
        (world.pending(&format!("voice.in.*.{call}.timer")).await? >= looks + 4).then_some(())
    })
    .await;
    assert_eq!(world.count(&call, "state.ended").await, 0);

    listed.always(Route::Calls, None);
    let ended = world.happened(&call, "state.ended").await;
    let snapshot = ended.data.call.unwrap();
    assert_eq!(snapshot.end_reason.as_deref(), Some("timeout"));
    assert_eq!(world.completed(&call).await, (1, vec![]));
    world.settled().await;
    assert_eq!(world.count(&call, "state.ended").await, 1);
}

#[tokio::test]
async fn a_silent_call_of_a_server_that_is_away_goes_on_until_it_is_too_old() {
    let world = World::start(
        Roles::All,
        "stale_after = \"100ms\"\nage_max = \"3s\"",
        NO_VOICE_SERVER,
    )
    .await;
    world.send("rtc_1", STARTED, 0).await;
    eventually("some looks after the call", async || {
        (world.pending("voice.in.*.rtc_1.timer").await? >= 4).then_some(())
    })
    .await;
    assert_eq!(world.count("rtc_1", "state.ended").await, 0);
    let ended = world.happened("rtc_1", "state.ended").await;
    let detail = ended.data.call.unwrap().end_detail.unwrap();
    assert!(detail.contains("older"), "{detail}");
}

/// The first id of an outbound call is never ended by the server, and its own silence would be
/// noticed after an hour.
#[tokio::test]
async fn the_first_leg_of_an_outbound_call_ends_soon_after_the_second() {
    let stage = Stage::set().await;
    let listed = stand_in(stage.emitter(), true).await;
    let times = "stale_after = \"1h\"\nother_leg_after = \"200ms\"\nfinalize_after = \"50ms\"";
    let world = stage.run(Roles::All, times, &listed.url()).await;
    let call = dial(&listed.url()).await;
    let leg = eventually("the second leg", async || {
        let events = world.events("*").await;
        events
            .into_iter()
            .find(|event| event.subject.starts_with("rtc_"))
    })
    .await;
    listed.forget_active_calls();
    let ended = world.happened(&call, "state.ended").await;
    assert_eq!(
        ended.data.call.unwrap().end_reason.as_deref(),
        Some("timeout")
    );
    let other_leg = leg.data.call.as_ref().unwrap().other_leg.clone();
    assert_eq!(other_leg, Some(call.clone()));
    assert_eq!(world.completed(&leg.subject).await.1.len(), 2);
    assert_eq!(world.completed(&call).await, (1, vec![]));
}

#[tokio::test]
async fn a_timer_of_a_router_whose_clock_is_behind_does_not_fire_at_once_for_ever() {
    let world = World::start(Roles::IngressOnly, "", NO_VOICE_SERVER).await;
    let router = connect(&world.nats, User::Router).await;
    let bus = bus::Bus::open(router).await.unwrap();
    let arm = |call: &str, minutes| Arm {
        call: CallId::parse(call).unwrap(),
        timer: Timer::Stale {
            sequence: Some(1),
            gone: false,
        },
        after: TimeDelta::minutes(minutes),
    };
    let stored_at = Utc::now();
    let behind = stored_at - TimeDelta::hours(1);
    bus.arm(&arm("rtc_1", 30), behind, stored_at).await.unwrap();
    bus.arm(&arm("rtc_2", 0), behind, stored_at).await.unwrap();
    eventually("the timer that is due", async || {
        (world.pending("voice.in.*.rtc_2.timer").await? == 1).then_some(())
    })
    .await;
    assert_eq!(world.pending("voice.in.*.rtc_1.timer").await, Some(0));
    assert_eq!(world.pending("voice.timer.rtc_1.stale").await, Some(1));
}
