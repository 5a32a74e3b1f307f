//! Messages that the server was made to give up.

use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::jetstream::consumer::PullConsumer;
use futures_util::StreamExt;
use serde_json::json;
use voicebus::bus::server::User;

use super::{Stage, ringing, said};
use crate::harness::within;

/// Takes the next message of a consumer, as a worker would.
async fn taken(
    stage: &Stage,
    user: User,
    stream: &str,
    consumer: &str,
) -> async_nats::jetstream::Message {
    let connection = stage.connect(user).await;
    let jetstream = connection.jetstream();
    let consumer: PullConsumer = jetstream
        .get_consumer_from_stream(consumer, stream)
        .await
        .unwrap();
    let mut messages = consumer.batch().max_messages(1).messages().await.unwrap();
    within("message", messages.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn an_input_that_was_delivered_too_often_becomes_one_letter() {
    let stage = Stage::set().await;
    let consumer = format!("p{}", stage.partition("CA1"));
    let body = json!({ "stream_name": "VOICE_IN", "action": "update", "config": {
        "durable_name": consumer, "filter_subject": format!("voice.in.{}.>", stage.partition("CA1")),
        "deliver_policy": "all", "ack_policy": "explicit", "replay_policy": "instant",
        "ack_wait": Duration::from_secs(3).as_nanos() as u64,
        "max_ack_pending": 1, "max_deliver": 1, "max_waiting": 512,
    }});
    let subject = format!("CONSUMER.DURABLE.CREATE.VOICE_IN.{consumer}");
    stage.api(subject, body).await;
    stage.input("CA1", "ev_1", said("lost")).await;
    stage.input("CA1", "ev_2", ringing()).await;
    let message = taken(&stage, User::Router, "VOICE_IN", &consumer).await;
    let _routers = (stage.router().await, stage.router().await);
    drop(message);

    let letter = stage.parked(1).await.remove(0);
    assert_eq!(
        (letter.role.as_str(), letter.reason.as_str()),
        ("router", "max-deliveries")
    );
    assert_eq!(letter.number("Voicebus-Stream-Sequence"), Some(1));
    assert_eq!(letter.header("Voicebus-Call"), Some("CA1"));
    let event = stage.told("CA1", "error.occurred", 1).await;
    assert_eq!(event["data"]["error"]["letter"], letter.id);
    stage.told("CA1", "state.ringing", 1).await;
    assert_eq!(stage.letters().await.len(), 1);
    let errors = stage
        .story("CA1")
        .await
        .iter()
        .filter(|kind| *kind == "error.occurred")
        .count();
    assert_eq!(errors, 1);

    // It never had its effect, so it can have it.
    let letters = voicebus::bus::letters::Letters::new(stage.connect(User::Operator).await);
    letters.redrive(&letter).await.unwrap();
    let event = stage.told("CA1", "transcript.user", 1).await;
    assert_eq!(event["data"]["transcript"]["text"], "lost");
}

#[tokio::test]
async fn an_input_that_was_terminated_becomes_a_letter_unless_it_had_its_effect() {
    let stage = Stage::set().await;
    let consumer = format!("p{}", stage.partition("CA1"));
    stage.input("CA1", "ev_1", said("terminated")).await;
    let message = taken(&stage, User::Router, "VOICE_IN", &consumer).await;
    let router = stage.router().await;
    message.ack_with(AckKind::Term).await.unwrap();
    let letter = stage.parked(1).await.remove(0);
    assert_eq!(letter.reason, "terminated");
    stage.told("CA1", "error.occurred", 1).await;
    router.cancel();

    // The same input once more, held by somebody while a router has done it already.
    stage.input("CA1", "ev_2", said("done")).await;
    let message = {
        let router = stage.router().await;
        stage.told("CA1", "transcript.user", 1).await;
        router.cancel();
        stage.input("CA1", "ev_2", said("done")).await;
        taken(&stage, User::Router, "VOICE_IN", &consumer).await
    };
    let _router = stage.router().await;
    message.ack_with(AckKind::Term).await.unwrap();
    stage.input("CA1", "ev_3", ringing()).await;
    stage.input("CA1", "ev_4", said("after")).await;
    stage.told("CA1", "transcript.user", 2).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(stage.letters().await.len(), 1);
}

#[tokio::test]
async fn a_command_that_was_terminated_is_refused_and_becomes_a_letter() {
    let stage = Stage::set().await;
    let agent = stage.connect(User::Agent).await;
    let dial = r#"{"to":"+12015550142","session":"agent:main:x"}"#;
    let sent = agent.jetstream().publish("voice.cmd.dial.i-1", dial.into());
    sent.await.unwrap().await.unwrap();
    let message = taken(&stage, User::Egress, "VOICE_CMD", "egress").await;
    let _router = stage.router().await;
    let _egress = super::commands::egress(&stage).await;
    message.ack_with(AckKind::Term).await.unwrap();
    let letter = stage.parked(1).await.remove(0);
    assert_eq!(
        (letter.role.as_str(), letter.reason.as_str()),
        ("egress", "terminated")
    );
    assert_eq!(letter.header("Voicebus-Call"), Some("i-1"));
    let event = stage.told("i-1", "command.refused", 1).await;
    let reason = event["data"]["command"]["reason"].as_str().unwrap();
    assert!(
        reason.ends_with(&format!("(dead letter {})", letter.id)),
        "{reason}"
    );
    // And it stays so, whoever asks once more.
    let sent = agent.jetstream().publish("voice.cmd.dial.i-1", dial.into());
    sent.await.unwrap().await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(stage.story("i-1").await, ["command.refused"]);
}
