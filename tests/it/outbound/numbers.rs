//! One dial at a time to one number, whatever becomes of the workers.

use rustix::process::Signal;
use serde_json::Value;
use voicebus::bus::server::User;
use voicebus::simulate::{Fault, Route};

use super::crashes::{Scene, stands_still};
use crate::harness::reached_within;

/// What egress has on record of a wish, read past it: a worker that stands still answers nobody.
async fn record(scene: &Scene, intent: &str) -> Value {
    let provision = scene.bus.connect(User::Provision).await.jetstream;
    let records = provision.get_key_value("VOICE_INTENT").await.unwrap();
    let record = records.get(intent).await.unwrap().unwrap_or_default();
    serde_json::from_slice(&record).unwrap_or_default()
}

/// Two workers have the same wish. The one that comes to nothing must not let go of the number for
/// the other, which is about to dial it.
#[tokio::test]
async fn a_worker_that_loses_does_not_let_go_of_a_number_that_another_one_holds() {
    let scene = Scene::set().await;
    let env = [
        ("VOICEBUS_STOP_AT", "egress.after_number"),
        ("VOICEBUS_CRASH_AT", "egress.after_let_go"),
    ];
    let mut loser = scene.egress(scene.address, &env).await;
    scene.asks("wish", "+12015550123").await;
    stands_still(&loser).await;
    let stop = [("VOICEBUS_STOP_AT", "egress.before_record")];
    let holder = scene.egress(scene.address, &stop).await;
    stands_still(&holder).await;
    scene.server.inject(Route::Calls, Fault::HangUp);
    loser.signal(Signal::CONT);
    assert!(!loser.ended().await.success());
    assert_eq!(
        record(&scene, "wish").await["reason"]["code"],
        "server-away"
    );

    let other = scene.egress(scene.address, &[]).await;
    scene.asks("next", "+12015550123").await;
    let next = reached_within(
        super::crashes::REST,
        "the next to be looked at",
        async || {
            let record = record(&scene, "next").await;
            let is_decided = record["state"] != "waiting" || !record["reason"].is_null();
            (is_decided && !record.is_null())
                .then_some(record.clone())
                .ok_or_else(|| record.to_string())
        },
    )
    .await;
    assert_eq!(next["reason"]["code"], "number-busy", "{next}");
    holder.signal(Signal::CONT);
    for intent in ["wish", "next"] {
        assert_eq!(scene.rests(intent).await, "command.confirmed");
        assert_eq!(scene.rang(intent), 1, "{intent}");
    }
    let placed = scene.server.calls();
    let order: Vec<_> = placed
        .iter()
        .filter_map(|one| one.intent_id.as_deref())
        .collect();
    assert_eq!(order, ["wish", "next"]);
    holder.stop().await;
    scene.clear(other).await;
}
