//! `voicebus tail`.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::Value;
use voicebus::bus::inspect;
use voicebus::bus::subjects::STREAM_EVENT;
use voicebus::cli::{Exit, tail};
use voicebus::domain::event::Change;

use super::{Stage, args, call, said};

const PATIENCE: Duration = Duration::from_secs(40);

/// Runs the tool until it leaves by itself; what it wrote, and what it complained of.
async fn shown(stage: &Stage, words: &[&str]) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let run = tail::run(args(&stage.nats, words), &mut out, &mut err);
    let exit = tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap();
    assert_eq!(exit, Exit::Fine);
    (
        String::from_utf8(out).unwrap(),
        String::from_utf8(err).unwrap(),
    )
}

/// Waits until a tool follows the stream.
async fn followed(stage: &Stage) {
    for _ in 0..200 {
        let consumers = inspect::consumers(stage.bus.connection(), STREAM_EVENT).await;
        if consumers.is_ok_and(|all| all.iter().any(|one| one.name.starts_with("tail-"))) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nobody follows the stream");
}

fn texts(json: &str) -> Vec<String> {
    json.lines()
        .map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            match event["data"]["transcript"]["text"].as_str() {
                Some(text) => text.to_owned(),
                None => event["type"].as_str().unwrap().to_owned(),
            }
        })
        .collect()
}

async fn a_call_with_words(stage: &Stage) {
    let (mut one, mut two) = (call("CA1"), call("CA2"));
    stage.happens(&mut one, Change::Initiated).await;
    stage.happens(&mut two, Change::Initiated).await;
    stage.happens(&mut one, Change::Answered).await;
    stage.happens(&mut one, said("hello\x1b[2J\nthere")).await;
    stage.happens(&mut two, said("good bye")).await;
    stage.happens(&mut one, Change::Ended).await;
}

#[tokio::test]
async fn what_happened_before_is_shown_when_it_is_asked_for() {
    let stage = Stage::set().await;
    a_call_with_words(&stage).await;
    let (all, complaints) = shown(&stage, &["--since", "1h", "--limit", "6"]).await;
    assert_eq!(complaints, "");
    let said: Vec<&str> = all.lines().map(|line| &line[14..]).collect();
    assert_eq!(
        said,
        [
            "CA1          voice:1•••0142        state.initiated       inbound from +1•••0142",
            "CA2          voice:1•••0142        state.initiated       inbound from +1•••0142",
            "CA1          voice:1•••0142        state.answered        inbound from +1•••0142",
            "CA1          voice:1•••0142        transcript.user       user: hello␛[2J↵there",
            "CA2          voice:1•••0142        transcript.user       user: good bye",
            "CA1          voice:1•••0142        state.ended           hangup-user after 0.0s, 1 utterance",
        ]
    );
}

#[tokio::test]
async fn json_is_the_stored_event_itself() {
    let stage = Stage::set().await;
    a_call_with_words(&stage).await;
    let words = ["--since", "1h", "--json", "--limit", "2", "--call", "CA2"];
    let (json, _) = shown(&stage, &words).await;
    assert_eq!(texts(&json), ["openclaw.voice.state.initiated", "good bye"]);
    let stream = stage
        .bus
        .connection()
        .jetstream()
        .get_stream(STREAM_EVENT)
        .await
        .unwrap();
    let stored = stream
        .direct_get_last_for_subject("voice.event.CA2.>")
        .await
        .unwrap();
    let last = json.lines().next_back().unwrap();
    assert_eq!(last.as_bytes(), &stored.payload[..]);
}

#[tokio::test]
async fn kinds_and_sessions_are_chosen() {
    let stage = Stage::set().await;
    a_call_with_words(&stage).await;
    let kinds = [
        "--since",
        "1h",
        "--json",
        "--limit",
        "3",
        "--kind",
        "transcript",
        "--kind",
        "state.ended",
        "--session",
        "voice:12015550142",
    ];
    let (json, _) = shown(&stage, &kinds).await;
    assert_eq!(
        texts(&json),
        [
            "hello\x1b[2J\nthere",
            "good bye",
            "openclaw.voice.state.ended"
        ]
    );
}

#[tokio::test]
async fn only_what_happens_from_now_on_is_shown_by_default() {
    let stage = Stage::set().await;
    a_call_with_words(&stage).await;
    let (later, ()) = tokio::join!(shown(&stage, &["--json", "--limit", "1"]), async {
        followed(&stage).await;
        stage.happens(&mut call("CA3"), Change::Initiated).await;
    });
    assert_eq!(texts(&later.0), ["openclaw.voice.state.initiated"]);
    assert!(later.0.contains("CA3"));
}

#[tokio::test]
async fn nothing_is_missing_or_doubled_after_the_server_was_killed() {
    let mut stage = Stage::set().await;
    a_call_with_words(&stage).await;
    let tail = args(&stage.nats, &["--json", "--limit", "30"]);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut one = call("CA7");
    let (exit, ()) = tokio::join!(
        async {
            tokio::time::timeout(PATIENCE, tail::run(tail, &mut out, &mut err))
                .await
                .unwrap()
        },
        async {
            followed(&stage).await;
            // Killed before the tool has seen anything, while it sees things, and twice in a row.
            for kills in [1, 1, 2] {
                for _ in 0..kills {
                    stage.nats.kill();
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    stage.nats.restart().await;
                }
                for _ in 0..10 {
                    let text = (one.progress.sequence + 1).to_string();
                    stage.happens(&mut one, said(&text)).await;
                }
            }
        }
    );
    assert_eq!(exit.unwrap(), Exit::Fine);
    let expected: Vec<String> = (1..=30).map(|n| n.to_string()).collect();
    assert_eq!(texts(&String::from_utf8(out).unwrap()), expected);
    let complaints = String::from_utf8(err).unwrap();
    let (said, back): (Vec<_>, Vec<_>) = complaints
        .lines()
        .partition(|line| line.ends_with("waiting for it to come back"));
    assert!((1..=4).contains(&said.len()), "{complaints}");
    assert_eq!(said.len(), back.len(), "{complaints}");
    let whole = |line: &&str| *line == "voicebus: back; nothing was left out";
    assert!(back.iter().all(whole), "{complaints}");
}

#[tokio::test]
async fn a_reader_who_leaves_is_no_failure() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let stage = Stage::set().await;
    a_call_with_words(&stage).await;
    let tail = args(&stage.nats, &["--since", "1h"]);
    let (mut out, mut err) = (Gone, Gone);
    let run = tail::run(tail, &mut out, &mut err);
    let exit = tokio::time::timeout(PATIENCE, run).await.unwrap();
    assert_eq!(exit.unwrap(), Exit::Fine);
}

#[tokio::test]
async fn a_server_without_streams_is_told_apart() {
    let nats = crate::harness::Nats::start().await;
    let (mut out, mut err) = (io::sink(), io::sink());
    let run = tail::run(args(&nats, &[]), &mut out, &mut err);
    let error = tokio::time::timeout(PATIENCE, run)
        .await
        .unwrap()
        .unwrap_err();
    assert!(error.to_string().contains("stream not found"), "{error}");
}
