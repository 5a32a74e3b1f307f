//! Old events once more.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::Instant;
use voicebus::bus::server::User;
use voicebus::cli::{Exit, replay};

use super::{Stage, ringing, said};
use crate::harness::within;

async fn tool(stage: &Stage, words: &[&str]) -> (String, Exit) {
    let mut out = Vec::new();
    let args = stage.args(User::Operator, words);
    let exit = within("replay", replay::run(args, &mut out)).await.unwrap();
    (String::from_utf8(out).unwrap(), exit)
}

async fn with_events(count: usize) -> Stage {
    let stage = Stage::set().await;
    let _router = stage.router().await;
    stage.input("CA1", "ev_0", ringing()).await;
    stage.input("CA2", "ev_0", ringing()).await;
    for n in 1..count {
        stage
            .input("CA1", &format!("ev_{n}"), said(&format!("word {n}")))
            .await;
    }
    stage.told("CA1", "transcript.user", count - 1).await;
    stage.told("CA2", "state.ringing", 1).await;
    stage
}

#[tokio::test]
async fn events_are_counted_then_published_in_order_unaltered_and_marked() {
    const EVENTS: usize = 250;
    let stage = with_events(EVENTS).await;
    let observer = stage.connect(User::Observer).await;
    let mut heard = observer.client().subscribe("replay.>").await.unwrap();
    observer.jetstream().query_account().await.unwrap();

    let dry = ["--call", "CA1", "--to", "replay.test", "--dry-run"];
    let (text, exit) = tool(&stage, &dry).await;
    assert_eq!(exit, Exit::Fine);
    assert!(text.starts_with("250 events, from 2"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");

    let fast = [
        "--call",
        "CA1",
        "--to",
        "replay.test",
        "--speed",
        "max",
        "--yes",
    ];
    let (text, _) = tool(&stage, &fast).await;
    assert!(
        text.ends_with("250 events published to replay.test\n"),
        "{text}"
    );
    let filter = "voice.event.CA1.>".to_owned();
    let stored = voicebus::bus::feed::read_back(&stage.observer, "test", filter, 1000).await;
    for event in stored.unwrap() {
        // The first heard is the first published: the dry run published none.
        let message = within("event", heard.next()).await.unwrap();
        assert_eq!(message.subject.as_str(), "replay.test");
        assert_eq!(message.payload, event.payload);
        let headers = message.headers.unwrap();
        let header = |name: &str| headers.get(name).unwrap().as_str().to_owned();
        assert_eq!(header("Voicebus-Replay"), "true");
        assert_eq!(header("Voicebus-Original-Subject"), event.subject);
        assert_eq!(
            header("Voicebus-Original-Sequence"),
            event.sequence.to_string()
        );
    }
    let (text, _) = tool(&stage, &["--since", "1h", "--to", "replay.x", "--dry-run"]).await;
    assert!(text.starts_with("251 events"), "{text}");
    let before = [
        "--since",
        "2h",
        "--until",
        "1h",
        "--to",
        "replay.x",
        "--dry-run",
    ];
    let (text, exit) = tool(&stage, &before).await;
    assert_eq!(
        (text.as_str(), exit),
        ("no events; they are kept for 30 days\n", Exit::Wrong)
    );
    let (text, exit) = tool(&stage, &["--call", "CA9", "--to", "replay.x", "--yes"]).await;
    assert_eq!(
        (text.as_str(), exit),
        ("no events; they are kept for 30 days\n", Exit::Wrong)
    );
}

#[tokio::test]
async fn a_replay_takes_as_long_as_it_took_or_as_is_wanted() {
    let stage = Stage::set().await;
    let _router = stage.router().await;
    stage.input("CA1", "ev_0", ringing()).await;
    stage.told("CA1", "state.ringing", 1).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    stage.input("CA1", "ev_1", said("late")).await;
    stage.told("CA1", "transcript.user", 1).await;
    let taken = async |speed: &str| {
        let begin = Instant::now();
        tool(
            &stage,
            &[
                "--call", "CA1", "--to", "replay.x", "--yes", "--speed", speed,
            ],
        )
        .await;
        begin.elapsed()
    };
    assert!(taken("1").await >= Duration::from_millis(1_500));
    assert!(taken("max").await < Duration::from_millis(1_000));
}

#[tokio::test]
async fn nothing_replayed_reaches_a_role() {
    let stage = with_events(2).await;
    // NATS itself lets nobody replay into commands or events, and only the operator replay at all.
    let operator = stage.server.connect(User::Operator).await;
    for elsewhere in [
        "voice.cmd.dial.i-1",
        "voice.event.CA1.s-1.state.ended",
        "voicebus.commit.CA1.s-1.state.ended",
        "voice.svc.dial",
        "voice.timer.CA1.x",
    ] {
        let sent = operator.client.publish(elsewhere, "{}".into());
        operator.denied(elsewhere, sent).await;
    }
    let mut out = Vec::new();
    let words = [
        "--call", "CA1", "--to", "replay.x", "--speed", "max", "--yes",
    ];
    let denied = replay::run(stage.args(User::Observer, &words), &mut out).await;
    let error = denied.unwrap_err().to_string();
    assert!(error.contains("does not let this user publish"), "{error}");
    // Even a subject of ours, heard in the account of the roles, hears nothing of replay.>.
    let router = stage.server.connect(User::Router).await;
    let subscribed = router.client.subscribe("replay.>");
    router.denied("replay.>", subscribed).await;
}
