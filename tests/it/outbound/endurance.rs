//! Long and odd conditions: a backlog that comes too late, an answer without end, a voice server
//! that stands still, a clock that jumps. `VOICEBUS_ROUNDS` makes each as much longer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use rustix::process::Signal;
use serde_json::{Value, json};
use voicebus::simulate::{Fault, Route};

use super::crashes::{REST, Scene, rounds};
use super::{publish, told};
use crate::harness::{Process, free_address, reached, reached_within};

const LIMITS: [(&str, &str); 3] = [
    ("VOICEBUS_CALLS_PER_MINUTE", "10000"),
    ("VOICEBUS_CALLS_PER_HOUR", "10000"),
    ("VOICEBUS_CALLS_AT_ONCE", "1000"),
];

/// Long enough for whatever the long form does.
fn patience() -> Duration {
    REST * u32::try_from(rounds()).unwrap()
}

/// Waits until each of so many wishes has an end, and gives how many have which.
async fn ends(scene: &Scene, count: usize) -> (usize, usize) {
    reached_within(patience(), "all wishes to have an end", async || {
        let events = scene.feed.all();
        let of = |what: &str| events.iter().filter(|event| event.what() == what).count();
        let (confirmed, expired) = (of("command.confirmed"), of("command.expired"));
        (confirmed + expired == count)
            .then_some((confirmed, expired))
            .ok_or_else(|| format!("{confirmed} confirmed and {expired} expired of {count}"))
    })
    .await
}

#[tokio::test]
async fn a_backlog_whose_time_has_passed_is_expired_and_rings_nobody() {
    let scene = Scene::set().await;
    let count = 200 * rounds();
    let deadline = Utc::now() + TimeDelta::seconds(5 + i64::try_from(count / 100).unwrap());
    for number in 0..count {
        let dial = json!({
            "to": format!("+1{}555{:04}", 201 + number / 10_000, number % 10_000),
            "session": "s", "deadline": deadline.to_rfc3339(),
        });
        let intent = format!("wish-{number}");
        publish(&scene.agent, &intent, &intent, &dial).await;
    }
    reached_within(patience(), "the deadline", async || {
        let left = deadline - Utc::now();
        (left < TimeDelta::zero())
            .then_some(())
            .ok_or_else(|| left.to_string())
    })
    .await;
    let egress = scene.egress(scene.address, &LIMITS).await;
    assert_eq!(ends(&scene, count).await, (0, count));
    assert_eq!(scene.server.calls().len(), 0);
    scene.clear(egress).await;
}

/// Some are placed in time; what is left when the time is over is not.
#[tokio::test]
async fn a_backlog_that_a_slow_server_does_not_get_through_is_not_dialled_late() {
    let scene = Scene::set().await;
    let count = 60 * rounds();
    let delay = Fault::Delay(Duration::from_secs(1));
    scene.server.always(Route::Dial, Some(delay));
    let egress = scene.egress(scene.address, &LIMITS).await;
    let deadline = Utc::now() + TimeDelta::seconds(5);
    for number in 0..count {
        let dial = json!({
            "to": format!("+1201555{number:04}"), "session": "s",
            "deadline": deadline.to_rfc3339(),
        });
        let intent = format!("wish-{number}");
        publish(&scene.agent, &intent, &intent, &dial).await;
    }
    let (confirmed, expired) = ends(&scene, count).await;
    assert!(confirmed > 0 && expired > 0, "{confirmed} {expired}");
    let dials = scene.server.calls();
    assert_eq!(dials.len(), confirmed);
    // The way from the last look at the deadline to the server is the window that nobody can close
    // from this side: some milliseconds, and here room for a machine that is busy with other tests.
    // Whoever did not look would dial for two seconds more.
    let window = TimeDelta::seconds(1);
    let late: Vec<_> = dials
        .iter()
        .filter(|dial| dial.at > deadline + window)
        .collect();
    assert!(late.is_empty(), "{late:?} after {deadline}");
    scene.clear(egress).await;
}

/// The most memory that a process ever had, in bytes.
fn peak(process: &Process) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn an_answer_without_end_does_not_fill_the_memory() {
    let scene = Scene::set().await;
    let egress = scene.egress(scene.address, &LIMITS).await;
    scene.asks("before", "+12015550120").await;
    scene.feed.hears("before", "command.confirmed").await;
    let before = peak(&egress);
    for number in 0..rounds() {
        scene.server.inject(Route::Dial, Fault::EndlessAnswer);
        let intent = format!("wish-{number}");
        scene.asks(&intent, &format!("+1201555{number:04}")).await;
        // After three failures in a row egress leaves the server alone for ten seconds.
        reached_within(REST, "an unknown outcome", async || {
            let told = told(&scene.feed, &intent);
            let is_unknown = told.last().is_some_and(|what| what == "command.unknown");
            is_unknown.then_some(()).ok_or_else(|| format!("{told:?}"))
        })
        .await;
    }
    let growth = peak(&egress).saturating_sub(before);
    assert!(growth <= 32_000_000, "{growth} bytes more");
    scene.clear(egress).await;
}

/// The server is stopped in the middle of a dial for longer than anybody waits for the answer. What
/// it does when it goes on is found, and not done again.
#[tokio::test]
async fn a_voice_server_that_stood_still_in_a_dial_has_its_call_found_and_not_repeated() {
    let scene = Scene::set().await;
    let address = free_address();
    let record = scene.bus.folder("frozen.jsonl");
    let server = Process::start(
        "simulate",
        &scene.bus.folder("."),
        [
            "simulate",
            "--listen",
            &address.to_string(),
            "--target",
            &scene.ingress_url(),
            "--record",
            record.to_str().unwrap(),
        ],
        &[],
    );
    let egress = scene.egress(address, &LIMITS).await;
    let dial = json!({ "to": "+12015550123", "session": "s", "message": "slow:2000" });
    publish(&scene.agent, "wish", "wish", &dial).await;
    let dials = || -> Vec<Value> {
        let text = std::fs::read_to_string(&record).unwrap_or_default();
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines
            .filter(|line: &Value| line["kind"] == "dial")
            .collect()
    };
    reached("the dial", async || match dials().len() {
        1 => Ok(()),
        other => Err(format!("{other} dials")),
    })
    .await;
    server.signal(Signal::STOP);
    let since = Utc::now();
    scene
        .feed
        .hears_within(REST, "wish", "command.unknown")
        .await;
    // A minute in the long form.
    let stood = TimeDelta::seconds(if rounds() > 1 { 60 } else { 0 });
    reached_within(REST, "its time to be over", async || {
        let left = stood - (Utc::now() - since);
        (left <= TimeDelta::zero())
            .then_some(())
            .ok_or_else(|| left.to_string())
    })
    .await;
    server.signal(Signal::CONT);
    let confirmed = scene
        .feed
        .hears_within(REST, "wish", "command.confirmed")
        .await;
    let dials = dials();
    assert_eq!(dials.len(), 1, "{dials:?}");
    assert_eq!(
        confirmed.json["data"]["command"]["call"],
        dials[0]["call_id"]
    );
    server.stop().await;
    scene.clear(egress).await;
}

/// Where libfaketime is, which sets the clock of one process only: Debian's package `faketime`, or
/// the file that `VOICEBUS_LIBFAKETIME` names.
fn libfaketime() -> Option<PathBuf> {
    let named = std::env::var_os("VOICEBUS_LIBFAKETIME").map(PathBuf::from);
    let usual = ["x86_64", "aarch64"].map(|machine| {
        PathBuf::from(format!(
            "/usr/lib/{machine}-linux-gnu/faketime/libfaketime.so.1"
        ))
    });
    named.into_iter().chain(usual).find(|path| path.exists())
}

/// Sets the clock of the process that looks into the file.
fn jump(file: &Path, by: &str) {
    let beside = file.with_extension("new");
    std::fs::write(&beside, format!("{by}\n")).unwrap();
    std::fs::rename(&beside, file).unwrap();
}

/// The clock of egress jumps a day ahead and a day back while a wish waits and its server is away.
/// Nobody is dialled late and nothing expires by a clock that came back.
#[tokio::test]
async fn a_clock_that_jumps_and_comes_back_lets_nothing_expire_and_dials_nothing_late() {
    let Some(library) = libfaketime() else {
        eprintln!("not tried: there is no libfaketime (Debian: faketime)");
        return;
    };
    let scene = Scene::set().await;
    let file = scene.bus.folder("clock");
    jump(&file, "+0d");
    let address = free_address();
    let (library, clock) = (library.to_str().unwrap(), file.to_str().unwrap());
    let env = [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", clock),
        ("FAKETIME_NO_CACHE", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ];
    // The server that it is told of is not there yet.
    let egress = scene.egress(address, &env).await;
    let deadline = |seconds| (Utc::now() + TimeDelta::seconds(seconds)).to_rfc3339();
    let short = json!({ "to": "+12015550121", "session": "s", "deadline": deadline(12) });
    let long = json!({ "to": "+12015550122", "session": "s", "deadline": deadline(600) });
    publish(&scene.agent, "short", "short", &short).await;
    publish(&scene.agent, "long", "long", &long).await;
    for intent in ["short", "long"] {
        scene.feed.hears(intent, "command.accepted").await;
    }
    for number in 0..rounds() {
        for by in ["+1d", "-1d"] {
            jump(&file, by);
            reached(
                &format!("the jump {number} {by} to be noticed"),
                async || {
                    let noticed = egress.log().matches("clock of the machine was set").count();
                    (noticed > 2 * number + usize::from(by == "-1d"))
                        .then_some(())
                        .ok_or_else(|| format!("{noticed} times"))
                },
            )
            .await;
        }
    }
    // Its time is over by the time that has passed, whatever the clock says.
    scene.feed.hears("short", "command.expired").await;
    assert_eq!(told(&scene.feed, "long"), ["command.accepted"]);
    jump(&file, "+0d");
    let server = scene.stand_in(address).await;
    scene
        .feed
        .hears_within(REST, "long", "command.confirmed")
        .await;
    let dialled = server.calls().into_iter().map(|dial| dial.intent_id);
    assert_eq!(dialled.collect::<Vec<_>>(), [Some("long".to_owned())]);
    server.stop().await;
    scene.clear(egress).await;
}
