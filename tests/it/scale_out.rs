//! More than one of each role, some of which die or freeze: nobody notices on the feed.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use rustix::process::Signal;
use tokio_util::sync::CancellationToken;
use voicebus::bus::server::User;
use voicebus::simulate::emitter::{Config, Fate, Outgoing};
use voicebus::simulate::event::timestamp;
use voicebus::simulate::generator::Options as Plan;
use voicebus::simulate::{Emitter, Generator, PlannedEvent, Retry};

use crate::harness::{Bus, Http, Process, oracle, reached, reached_within};

/// Calls that are being talked at the same time.
const AT_ONCE: usize = 40;
/// Longest time for a whole run: some thousand events, each flushed to the disk three times.
const RUN_TIME_MAX: Duration = Duration::from_secs(120);

fn plan(seed: u64, calls: usize) -> Vec<Vec<PlannedEvent>> {
    let generator = Generator::new(
        seed,
        Plan {
            started_at: "2026-11-22T12:00:00".parse().unwrap(),
            calls,
            transcripts: 2,
            concurrent: NonZeroUsize::MIN,
            rate: 0.0,
            reorder: 3,
            duplicate_percent: 10.0,
        },
    );
    let mut plan = vec![Vec::new(); calls];
    for event in generator.events() {
        plan[event.call].push(event);
    }
    plan
}

/// Sends calls side by side, the events of each in their order, every other one to the other door.
/// Counts what was accepted.
async fn send(doors: &[Http], plan: &[Vec<PlannedEvent>], accepted: &AtomicUsize) {
    let emitter = |door: &Http| {
        let config = Config {
            target: door.url(),
            token: None,
            retry: Retry::UntilStopped,
            record: None,
        };
        Emitter::new(config).unwrap()
    };
    let emitters: Vec<Emitter> = doors.iter().map(emitter).collect();
    let stop = CancellationToken::new();
    let calls = futures_util::stream::iter(plan.iter().enumerate());
    let all = calls.for_each_concurrent(AT_ONCE, async |(number, call)| {
        for (place, event) in call.iter().enumerate() {
            let stamped = timestamp(event.timestamp);
            let outgoing = Outgoing {
                call_id: &event.call_id,
                event_type: event.event_type,
                timestamp: &stamped,
                body: event.body.clone(),
            };
            let emitter = &emitters[(number + place) % emitters.len()];
            assert_eq!(
                emitter.emit(&outgoing, &stop).await.unwrap(),
                Fate::Accepted
            );
            accepted.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert!(
        tokio::time::timeout(RUN_TIME_MAX, all).await.is_ok(),
        "only {accepted:?} events were accepted in {RUN_TIME_MAX:?}"
    );
}

/// Waits until the routers have nothing left, however long a frozen one holds them up.
async fn worked_off(bus: &Bus) {
    let observer = bus.observer().await;
    reached_within(RUN_TIME_MAX, "the inputs to be worked off", async || {
        let consumers = observer.consumers("VOICE_IN").await;
        let waits =
            |one: &&serde_json::Value| one["num_pending"] != 0 || one["num_ack_pending"] != 0;
        match consumers.iter().filter(waits).count() {
            0 => Ok(()),
            busy => Err(format!("{busy} partitions have work")),
        }
    })
    .await;
}

#[tokio::test]
async fn two_routers_and_two_ingresses_tell_a_thousand_calls_once_and_in_order() {
    let bus = Bus::provisioned().await;
    let observer = bus.observer().await;
    let feed = observer.feed().await;
    let mut routers = [bus.role("router", &[]), bus.role("router", &[])];
    let mut ingresses = [bus.role("ingress", &[]), bus.role("ingress", &[])];
    for router in &mut routers {
        router.ready().await;
    }
    let [one, other] = &mut ingresses;
    let doors = [one.ready().await, other.ready().await];

    let plan = plan(11, 1_000);
    send(&doors, &plan, &AtomicUsize::new(0)).await;
    worked_off(&bus).await;
    let reader = bus.connect(User::Provision).await.client;
    oracle::assert_all_told(&observer, &feed, &reader).await;
    assert_eq!(oracle::told(&feed.all()).len(), 1_000);
    for door in &doors {
        let taken = &door.get("/status").await.json()["events"]["accepted"];
        assert!(
            taken.as_u64().unwrap() > 1_000,
            "one door took nearly all: {taken}"
        );
    }
    for process in routers.into_iter().chain(ingresses) {
        process.stop().await;
    }
}

#[tokio::test]
async fn a_router_that_dies_and_one_that_freezes_lose_and_double_nothing() {
    let bus = Bus::provisioned().await;
    let observer = bus.observer().await;
    let feed = observer.feed().await;
    let (mut dies, mut freezes) = (bus.role("router", &[]), bus.role("router", &[]));
    dies.ready().await;
    freezes.ready().await;
    let mut ingresses = [bus.role("ingress", &[]), bus.role("ingress", &[])];
    let [one, other] = &mut ingresses;
    let doors = [one.ready().await, other.ready().await];

    let plan = Arc::new(plan(12, 200));
    let accepted = Arc::new(AtomicUsize::new(0));
    let sending = {
        let (plan, accepted) = (Arc::clone(&plan), Arc::clone(&accepted));
        tokio::spawn(async move { send(&doors, &plan, &accepted).await })
    };
    reached("the run to be in its middle", async || {
        let heard = feed.len();
        if heard >= 200 {
            Ok(())
        } else {
            Err(format!("{heard} events"))
        }
    })
    .await;
    freezes.signal(Signal::STOP);
    dies.kill().await;
    let mut comes: Process = bus.role("router", &[]);
    comes.ready().await;
    sending.await.unwrap();
    // The frozen one holds messages and requests for more, which have to run out.
    worked_off(&bus).await;
    feed.catches_up(&observer).await;
    let before = feed.len();

    // What it had in its hands is long done when it wakes; it has to see that for itself.
    freezes.signal(Signal::CONT);
    freezes.ready().await;
    worked_off(&bus).await;
    assert_eq!(observer.messages("VOICE_EVENT").await, before as u64);
    let reader = bus.connect(User::Provision).await.client;
    oracle::assert_all_told(&observer, &feed, &reader).await;
    assert_eq!(oracle::told(&feed.all()).len(), 200);

    // Alone again, it goes on with logs that it knows an old state of.
    comes.kill().await;
    let late: Vec<Vec<PlannedEvent>> = plan_later(&plan);
    let door = ingresses[0].ready().await;
    send(&[door], &late, &accepted).await;
    worked_off(&bus).await;
    oracle::assert_all_told(&observer, &feed, &reader).await;
    freezes.stop().await;
    for ingress in ingresses {
        ingress.stop().await;
    }
}

/// One more utterance for each call.
fn plan_later(plan: &[Vec<PlannedEvent>]) -> Vec<Vec<PlannedEvent>> {
    let later = plan.iter().map(|call| {
        let mut event = call[0].clone();
        event.body = serde_json::to_vec(&serde_json::json!({
            "callId": &*event.call_id, "eventType": "transcript_update", "phoneNumber": "",
            "direction": "", "timestamp": "2026-11-22T13:00:00.5",
            "data": { "timestamp": "2026-11-22T13:00:00.6", "speaker": "user", "content": "late" },
        }))
        .unwrap()
        .into();
        vec![event]
    });
    later.collect()
}
