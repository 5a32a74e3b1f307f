//! Letters: listed, shown, taken back, removed.

use serde_json::Value;
use voicebus::bus::dead_letter::REDRIVE;
use voicebus::bus::letters::{Letter, Letters};
use voicebus::bus::server::User;
use voicebus::cli::{Exit, dlq};

use crate::harness::within;

use super::{Stage, ringing, said, started};

async fn tool(stage: &Stage, user: User, words: &[&str]) -> (String, Exit) {
    let mut out = Vec::new();
    let run = dlq::run(stage.args(user, words), &mut out);
    let exit = within("the tool", run).await.unwrap();
    (String::from_utf8(out).unwrap(), exit)
}

/// A letter's input once more, after the stream has forgotten its id.
async fn redriven_late(stage: &Stage, letter: &Letter) {
    let mut headers = async_nats::HeaderMap::new();
    headers.insert(REDRIVE, letter.header("Nats-Msg-Id").unwrap());
    let operator = stage.connect(User::Operator).await;
    let subject = letter.subject().unwrap().to_owned();
    let sent = operator
        .jetstream()
        .publish_with_headers(subject, headers, letter.body.clone());
    sent.await.unwrap().await.unwrap();
}

#[tokio::test]
async fn an_input_whose_trouble_does_not_pass_is_parked_and_applied_when_it_has_passed() {
    let stage = Stage::set().await;
    let _router = stage.router().await;
    let other = stage.neighbour("CA1");
    stage.input("CA1", "ev_1", ringing()).await;
    stage.told("CA1", "state.ringing", 1).await;
    stage
        .change("VOICE_EVENT", |config| config.max_message_size = 3_000)
        .await;

    stage.input("CA1", "ev_2", said(&"x".repeat(5_000))).await;
    stage.input(&other, "ev_3", ringing()).await;
    stage.told(&other, "state.ringing", 1).await;
    let event = stage.told("CA1", "error.occurred", 1).await;
    assert_eq!(event["data"]["error"]["code"], "exhausted");
    let letter = stage.parked(1).await.remove(0);
    assert_eq!(event["data"]["error"]["letter"], letter.id);
    assert_eq!(letter.reason, "exhausted");
    let reason = letter.header("Voicebus-Reason").unwrap();
    assert!(reason.starts_with("tried 5 times: "), "{reason}");
    // All within one delivery: for so long the others have waited as the pauses between tries take.
    assert_eq!(letter.number("Voicebus-Attempts"), Some(1));

    stage
        .change("VOICE_EVENT", |config| config.max_message_size = 1_000_000)
        .await;
    let letters = Letters::new(stage.connect(User::Operator).await);
    let first = letters.redrive(&letter).await.unwrap();
    let again = letters.redrive(&letter).await.unwrap();
    assert!(!first.duplicate && again.duplicate);
    stage.told("CA1", "transcript.user", 1).await;
    redriven_late(&stage, &letter).await;
    stage.input("CA1", "ev_4", said("after")).await;
    let after = stage.told("CA1", "transcript.user", 2).await;
    assert_eq!(after["data"]["transcript"]["text"], "after");
    assert_eq!(
        stage.story("CA1").await,
        [
            "state.ringing",
            "error.occurred",
            "transcript.user",
            "transcript.user"
        ]
    );
    let sequences: Vec<u64> = stage
        .events("CA1")
        .await
        .iter()
        .map(|event| event["sequence"].as_u64().unwrap())
        .collect();
    assert_eq!(sequences, [1, 2, 3, 4]);
}

#[tokio::test]
async fn an_input_that_is_rejected_again_becomes_one_letter_again() {
    let stage = Stage::set().await;
    let _router = stage.router().await;
    stage.input("CA1", "ev_1", started("+12015550142")).await;
    stage.input("CA1", "ev_2", started("+12015550199")).await;
    stage.told("CA1", "error.occurred", 1).await;
    // The sender says it again, after the stream has forgotten its id: nothing new.
    stage.input("CA1", "ev_2", started("+12015550199")).await;
    stage.input("CA1", "ev_3", ringing()).await;
    stage.told("CA1", "state.ringing", 1).await;
    let first = stage.parked(1).await.remove(0);
    assert_eq!(first.reason, "contradiction");

    let id = first.id.to_string();
    let (text, exit) = tool(&stage, User::Operator, &["redrive", &id]).await;
    assert_eq!(exit, Exit::Fine);
    assert!(text.contains("redriven to voice.in."), "{text}");
    let event = stage.told("CA1", "error.occurred", 2).await;
    let letters = stage.letters().await;
    assert_eq!(letters.len(), 1);
    assert!(letters[0].id > first.id);
    assert_eq!(event["data"]["error"]["letter"], letters[0].id);
    redriven_late(&stage, &first).await;
    stage.input("CA1", "ev_4", said("after")).await;
    stage.told("CA1", "transcript.user", 1).await;
    assert_eq!(stage.letters().await.len(), 1);
    let story = stage.story("CA1").await;
    let errors = story
        .iter()
        .filter(|kind| *kind == "error.occurred")
        .count();
    assert_eq!(errors, 2, "{story:?}");
}

#[tokio::test]
async fn garbage_that_is_redriven_twice_becomes_one_letter_more() {
    let stage = Stage::set().await;
    let _router = stage.router().await;
    stage
        .publish(&stage.subject("CA1", "ringing"), "garbage")
        .await;
    let first = stage.parked(1).await.remove(0);
    redriven_late(&stage, &first).await;
    stage.told("CA1", "error.occurred", 2).await;
    redriven_late(&stage, &first).await;
    stage.input("CA1", "ev_1", ringing()).await;
    stage.told("CA1", "state.ringing", 1).await;
    assert_eq!(stage.letters().await.len(), 2);
    assert_eq!(
        stage.story("CA1").await,
        ["error.occurred", "error.occurred", "state.ringing"]
    );
}

#[tokio::test]
async fn letters_are_listed_shown_redriven_and_removed_by_those_who_may() {
    let stage = Stage::set().await;
    let _router = stage.router().await;
    for n in 0..4 {
        let body = format!("{{\"caller\":\"+12015550142\",\"n\":{n}");
        stage.publish(&stage.subject("CA1", "ringing"), body).await;
    }
    stage.publish("voice.in.3.CA1", "astray").await;
    stage.parked(5).await;

    let (text, _) = tool(&stage, User::Observer, &["list", "--limit", "2"]).await;
    assert!(text.starts_with("ID  PARKED "), "{text}");
    assert!(text.ends_with("2 of 5 letters shown\n"), "{text}");
    let (json, _) = tool(
        &stage,
        User::Observer,
        &["list", "--json", "--reason", "undecodable"],
    )
    .await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["total"], 5);
    assert_eq!(json["letters"][0]["call"], "CA1");
    assert_eq!(json["letters"][0]["stream"], "VOICE_IN");
    let (text, _) = tool(&stage, User::Observer, &["list", "--role", "egress"]).await;
    assert_eq!(text, "no dead letters\n");

    let id = json["letters"][0]["id"].to_string();
    let (text, _) = tool(&stage, User::Observer, &["show", &id]).await;
    assert!(text.contains("\"caller\":\"+1•••0142\""), "{text}");
    let (text, _) = tool(&stage, User::Observer, &["show", "--numbers", &id]).await;
    assert!(text.contains("\"caller\":\"+12015550142\""), "{text}");
    let (whole, _) = tool(&stage, User::Observer, &["show", "--json", &id]).await;
    let whole: Value = serde_json::from_str(&whole).unwrap();
    assert_eq!(whole["body"], "{\"caller\":\"+12015550142\",\"n\":0");

    // Who may only look cannot remove, nor have anything done again.
    for words in [&["purge", &id, "--yes"][..], &["redrive", &id]] {
        let denied = dlq::run(stage.args(User::Observer, words), &mut Vec::new()).await;
        let error = format!("{:#}", denied.unwrap_err());
        assert!(
            error.contains("permission") || error.contains("no acknowledgement"),
            "{error}"
        );
    }
    assert_eq!(stage.letters().await.len(), 5);

    let (text, exit) = tool(&stage, User::Operator, &["purge", &id, "9999", "--yes"]).await;
    assert_eq!(exit, Exit::Wrong);
    assert_eq!(
        text,
        "letter 9999: there is no such letter\n1 letter removed\n"
    );
    // All of them become letters again, and each once: those are not met.
    let (text, exit) = tool(&stage, User::Operator, &["redrive", "--all"]).await;
    assert_eq!(exit, Exit::Fine, "{text}");
    assert!(text.contains("4 letters redriven"), "{text}");
    stage.told("CA1", "error.occurred", 7).await;
    assert_eq!(stage.parked(4).await.len(), 4);
    let (text, _) = tool(
        &stage,
        User::Operator,
        &["purge", "--all", "--role", "router", "--yes"],
    )
    .await;
    assert_eq!(text, "4 letters removed\n");
    let (text, exit) = tool(&stage, User::Operator, &["purge", &id, "--yes"]).await;
    assert!(text.contains("no such letter"), "{text}");
    assert_eq!(exit, Exit::Wrong);
    let letters = Letters::new(stage.connect(User::Operator).await);
    assert!(!letters.delete(1).await.unwrap());
}
