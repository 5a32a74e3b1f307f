//! `voicebus calls`.

use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use voicebus::cli::{Exit, calls};
use voicebus::domain::event::Change;
use voicebus::domain::ids::AgentId;
use voicebus::domain::session::{Policy, Scope};
use voicebus::domain::timer::Times;
use voicebus::router::Router;
use voicebus::supervise::Supervisor;

use super::{Stage, args, call, said};

/// Starts a router and waits until it answers.
pub(super) async fn with_router(stage: &Stage) -> CancellationToken {
    let stop = CancellationToken::new();
    let mut tasks = Supervisor::new(stop.clone());
    let policy = Policy {
        agent: AgentId::parse("main").unwrap(),
        scope: Scope::PerPhone,
        times: Times::default(),
        own_numbers: Vec::new(),
    };
    let router = Router::build(stage.bus.clone(), policy).await.unwrap();
    let view = router.view();
    router.start(&mut tasks).await.unwrap();
    tokio::spawn(tasks.run(Duration::from_secs(1)));
    for _ in 0..200 {
        if view.is_ready() {
            return stop;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the router does not get ready");
}

async fn shown(stage: &Stage, words: &[&str]) -> anyhow::Result<String> {
    let mut out = Vec::new();
    let exit = calls::run(args(&stage.nats, words), &mut out).await?;
    assert_eq!(exit, Exit::Fine);
    Ok(String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn without_a_router_the_way_out_is_told() {
    let stage = Stage::set().await;
    let error = shown(&stage, &[]).await.unwrap_err();
    assert!(
        error.to_string().starts_with("the router does not answer"),
        "{error}"
    );
}

#[tokio::test]
async fn calls_are_listed_as_the_router_has_them() {
    let stage = Stage::set().await;
    let (mut one, mut two) = (call("CA1"), call("CA2"));
    stage.happens(&mut one, Change::Initiated).await;
    stage.happens(&mut two, Change::Initiated).await;
    stage.happens(&mut one, Change::Ended).await;
    let stop = with_router(&stage).await;
    let all = shown(&stage, &[]).await.unwrap();
    assert!(all.contains("CA1") && all.contains("CA2"), "{all}");
    assert!(all.ends_with("2 shown; 1 call is going on\n"), "{all}");
    assert!(!all.contains("12015550142"), "{all}");
    let active = shown(&stage, &["--active", "--numbers"]).await.unwrap();
    assert!(
        !active.contains("CA1") && active.contains("+12015550142"),
        "{active}"
    );
    let other = shown(&stage, &["--session", "voice:7"]).await.unwrap();
    assert_eq!(other, "no call to show; 1 call is going on\n");
    let with = shown(&stage, &["--number", "+12015550142"]).await.unwrap();
    assert!(with.ends_with("2 shown; 1 call is going on\n"), "{with}");
    let with = shown(&stage, &["--number", "+12015550199"]).await.unwrap();
    assert_eq!(with, "no call to show; 1 call is going on\n");
    let json = shown(&stage, &["--json", "--limit", "1"]).await.unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["calls"].as_array().unwrap().len(), 1);
    stop.cancel();
}

#[tokio::test]
async fn one_call_is_shown_with_what_was_said_and_without_a_router() {
    let stage = Stage::set().await;
    let mut one = call("CA1");
    stage.happens(&mut one, Change::Initiated).await;
    for n in 0..300 {
        stage.happens(&mut one, said(&format!("word {n}"))).await;
    }
    let text = shown(&stage, &["show", "CA1"]).await.unwrap();
    assert!(
        text.starts_with("call       CA1\nstate      initiated\n"),
        "{text}"
    );
    let json = shown(&stage, &["show", "CA1", "--json"]).await.unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    let words: Vec<&str> = json["transcript"]
        .as_array()
        .unwrap()
        .iter()
        .map(|said| said["text"].as_str().unwrap())
        .collect();
    let expected: Vec<String> = (0..300).map(|n| format!("word {n}")).collect();
    assert_eq!(words, expected);
    assert_eq!(json["sequence"], 301);
    let error = shown(&stage, &["--active", "show", "CA1"])
        .await
        .unwrap_err();
    assert!(error.to_string().starts_with("--active, "), "{error}");
    let error = shown(&stage, &["show", "CA9"]).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("no call or command `CA9` is known")
    );
}
