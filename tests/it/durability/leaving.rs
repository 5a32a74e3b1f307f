//! Routers that are asked to leave while everybody talks.

use std::num::NonZeroU32;

use async_nats::Client;
use async_nats::jetstream::Context;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use voicebus::bus::subjects::Subjects;
use voicebus::domain::ids::CallId;

use super::{provisioned, said_in};
use crate::harness::{Nats, Process, within};

const PARTITIONS: u32 = 32;
/// Two for each partition: some have something to do at any moment, some have not.
const CALLS: u32 = 64;
const RESTARTS: usize = 6;

fn router(nats: &Nats, dir: &TempDir) -> Process {
    let args = [
        "router",
        "--listen",
        "127.0.0.1:0",
        "--nats-url",
        nats.url(),
    ];
    Process::start("router", dir.path(), args, &[])
}

/// What a worker takes along comes back after an hour: never, as far as a test can see.
async fn forget_nothing_that_is_taken_along(jetstream: &Context) {
    for partition in 0..PARTITIONS {
        let name = format!("p{partition}");
        let info: Value = jetstream
            .request(format!("CONSUMER.INFO.VOICE_IN.{name}"), &json!({}))
            .await
            .unwrap();
        let mut config = info["config"].clone();
        config["ack_wait"] = json!(3_600_000_000_000_u64);
        let filter = config["filter_subject"].as_str().unwrap().to_owned();
        let change = json!({ "stream_name": "VOICE_IN", "config": config, "action": "update" });
        let answer: Value = jetstream
            .request(format!("CONSUMER.CREATE.VOICE_IN.{name}.{filter}"), &change)
            .await
            .unwrap();
        assert_eq!(answer["error"], Value::Null);
    }
}

/// All calls talk, each of which says its next word when it has heard its last one on the feed.
/// Told to end, they finish. How many words each has said.
async fn talk(client: &Client, jetstream: &Context, end: &CancellationToken) -> Vec<usize> {
    let subjects = Subjects::new(NonZeroU32::new(PARTITIONS).unwrap(), "");
    let say = async |call: u32, word: usize| {
        let name = format!("CA{call}");
        let partition = subjects.partition(&CallId::parse(&name).unwrap());
        let input = json!({
            "version": 1,
            "id": format!("ev_{call}_{word}"),
            "source": "test",
            "call": name,
            "received_at": "2026-11-22T14:00:00Z",
            "says": { "type": "utterance", "speaker": "user", "label": "user",
                "text": format!("{name} word {word}") },
        });
        let subject = format!("voice.in.{partition}.{name}.utterance");
        let sent = jetstream.publish(subject, input.to_string().into()).await;
        sent.unwrap().await.unwrap();
    };
    let mut feed = client.subscribe("voice.event.>").await.unwrap();
    client.flush().await.unwrap();
    let mut said = vec![1; CALLS as usize];
    for call in 0..CALLS {
        say(call, 0).await;
    }
    let mut talking = CALLS;
    while talking > 0 {
        let event = within("the next word on the feed", feed.next())
            .await
            .unwrap();
        let call = event.subject.split('.').nth(2).unwrap();
        let call: u32 = call.strip_prefix("CA").unwrap().parse().unwrap();
        if end.is_cancelled() {
            talking -= 1;
            continue;
        }
        let words = &mut said[call as usize];
        say(call, *words).await;
        *words += 1;
    }
    said
}

/// A message that leaves with its router is handed out again after `ack_wait`, and until then the
/// other calls of its partition wait with it.
#[tokio::test]
async fn a_router_that_is_asked_to_leave_takes_no_input_along() {
    let nats = Nats::start().await;
    provisioned(&nats).await;
    let (client, jetstream) = (nats.client().await, nats.jetstream().await);
    forget_nothing_that_is_taken_along(&jetstream).await;
    let dir = tempfile::tempdir().unwrap();
    let mut first = router(&nats, &dir);
    first.ready().await;
    let end = CancellationToken::new();
    let restarts = async {
        let mut at_work = first;
        for _restart in 0..RESTARTS {
            let mut next = router(&nats, &dir);
            next.ready().await;
            at_work.stop().await;
            at_work = next;
        }
        end.cancel();
        at_work
    };
    let (said, at_work) = tokio::join!(talk(&client, &jetstream, &end), restarts);
    for (call, words) in said.into_iter().enumerate() {
        let told = said_in(&client, "VOICE_EVENT", &format!("voice.event.CA{call}.>")).await;
        let all: Vec<String> = (0..words)
            .map(|word| format!("CA{call} word {word}"))
            .collect();
        assert_eq!(told, all);
    }
    at_work.stop().await;
}
