//! What an ingress has accepted is stored once and in order, whatever happens to NATS or to it.

mod committer;
mod leaving;
mod lives;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::Client;
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::Value;
use tempfile::TempDir;
use voicebus::bus::streams::{self, provision};

use crate::harness::{Ingress, Nats, Process, Proxy, eventually, reached, read_stream};

/// A provisioned server.
async fn provisioned(nats: &Nats) {
    provision(&nats.jetstream().await, &streams::Options::default())
        .await
        .unwrap();
}

fn spool_args(dir: &TempDir) -> [&str; 2] {
    ["--spool-dir", dir.path().to_str().unwrap()]
}

/// The messages of a stream: subject, id, payload.
async fn stored(nats: &Nats, stream: &str) -> Vec<(String, String, Value)> {
    // Whatever it holds but canaries.
    let messages = read_stream(&nats.client().await, stream, "voice.>").await;
    let messages = messages.into_iter().map(|message| {
        let headers = message.headers.as_ref().unwrap();
        let id = headers.get("Nats-Msg-Id").unwrap().to_string();
        let payload = serde_json::from_slice(&message.payload).unwrap_or_default();
        (message.subject.to_string(), id, payload)
    });
    messages.collect()
}

/// What was said in each call, in the order of VOICE_IN; nothing is there twice.
async fn heard(nats: &Nats) -> BTreeMap<String, Vec<u32>> {
    let mut ids = BTreeSet::new();
    let mut heard: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for (subject, id, payload) in stored(nats, "VOICE_IN").await {
        assert!(ids.insert(id.clone()), "{id} is stored twice");
        let call = subject.split('.').nth(3).unwrap().to_owned();
        let text = payload.to_string();
        let number = text.split("word ").nth(1).unwrap();
        let number: String = number.chars().take_while(char::is_ascii_digit).collect();
        heard.entry(call).or_default().push(number.parse().unwrap());
    }
    heard
}

/// What is said in a stream, in its order.
async fn said_in(client: &Client, stream: &str, filter: &str) -> Vec<String> {
    let messages = read_stream(client, stream, filter).await;
    let texts = messages.iter().filter_map(|message| {
        let json: Value = serde_json::from_slice(&message.payload).unwrap();
        let text = json
            .pointer("/says/text")
            .or(json.pointer("/data/transcript/text"));
        text.and_then(Value::as_str).map(str::to_owned)
    });
    texts.collect()
}

/// Every call says its words in order, all calls at the same time; each word is accepted.
async fn talk(ingress: &Ingress, calls: u32, words: std::ops::Range<u32>) -> u32 {
    let talks = (0..calls).map(|call| {
        let words = words.clone();
        async move {
            let mut spooled = 0;
            for word in words {
                let (status, answer) = ingress
                    .post(&format!("CA{call}"), &format!("word {word}"))
                    .await;
                assert_eq!(status, StatusCode::OK, "{answer}");
                spooled += u32::from(answer["spooled"] == true);
            }
            spooled
        }
    });
    join_all(talks).await.into_iter().sum()
}

fn everything(calls: u32, words: u32) -> BTreeMap<String, Vec<u32>> {
    (0..calls)
        .map(|call| (format!("CA{call}"), (0..words).collect()))
        .collect()
}

#[tokio::test]
async fn events_that_come_while_nats_is_killed_are_all_accepted_and_stored_once_in_order() {
    let mut nats = Nats::start_flushing().await;
    provisioned(&nats).await;
    let dir = tempfile::tempdir().unwrap();
    let ingress = Ingress::start(nats.url(), &spool_args(&dir)).await;
    talk(&ingress, 20, 0..3).await;
    let killed = async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        nats.kill();
    };
    let (spooled, ()) = tokio::join!(talk(&ingress, 20, 3..10), killed);
    assert!(spooled > 0);
    assert!(ingress.count("/spool/events").await > 0);
    let (status, ready) = ingress.get("/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{ready}");
    assert_eq!(ingress.get("/health").await.1["status"], "degraded");

    nats.restart().await;
    ingress.drained().await;
    assert_eq!(heard(&nats).await, everything(20, 10));
    // Straight to NATS again.
    let (_, answer) = ingress.post("CA0", "word 10").await;
    assert_eq!(answer["spooled"], Value::Null, "{answer}");
    eventually("an ingress that is ready", async || {
        (ingress.get("/ready").await.0 == StatusCode::OK).then_some(())
    })
    .await;
    ingress.terminate();
    assert!(ingress.ended().await);
}

#[tokio::test]
async fn a_killed_ingress_drains_its_spool_when_it_comes_back() {
    let mut nats = Nats::start().await;
    provisioned(&nats).await;
    let dir = tempfile::tempdir().unwrap();
    let ingress = Ingress::start(nats.url(), &spool_args(&dir)).await;
    talk(&ingress, 5, 0..2).await;
    nats.kill();
    assert!(talk(&ingress, 5, 2..10).await >= 35);
    ingress.kill().await;

    // It comes up without NATS, and takes more.
    let ingress = Ingress::start(nats.url(), &spool_args(&dir)).await;
    assert!(ingress.count("/spool/events").await >= 35);
    assert_eq!(talk(&ingress, 5, 10..12).await, 10);
    ingress.kill().await;
    nats.restart().await;
    let ingress = Ingress::start(nats.url(), &spool_args(&dir)).await;
    ingress.drained().await;
    assert_eq!(heard(&nats).await, everything(5, 12));
}

#[tokio::test]
async fn a_full_spool_refuses_what_is_new_and_loses_nothing() {
    let mut nats = Nats::start().await;
    provisioned(&nats).await;
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("small.toml");
    std::fs::write(&config, "[events]\nspool_events_max = \"7\"\n").unwrap();
    let mut args = spool_args(&dir).to_vec();
    args.extend(["--config", config.to_str().unwrap()]);
    let ingress = Ingress::start(nats.url(), &args).await;
    nats.kill();
    assert_eq!(talk(&ingress, 1, 0..7).await, 7);
    for _ in 0..3 {
        let (status, answer) = ingress.post("CA0", "word 7").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer["code"], "spool_full");
        assert_eq!(answer["retry"], true);
    }
    nats.restart().await;
    ingress.drained().await;
    talk(&ingress, 1, 7..9).await;
    assert_eq!(heard(&nats).await, everything(1, 9));
}

#[tokio::test]
async fn when_nats_says_nothing_events_are_spooled() {
    let nats = Nats::start().await;
    provisioned(&nats).await;
    let proxy = Proxy::to(nats.url()).await;
    let dir = tempfile::tempdir().unwrap();
    let ingress = Ingress::start(proxy.url(), &spool_args(&dir)).await;
    talk(&ingress, 3, 0..2).await;
    proxy.stop_forwarding();
    assert_eq!(talk(&ingress, 3, 2..3).await, 3);
    assert_eq!(talk(&ingress, 3, 3..8).await, 15);
    assert_eq!(
        ingress.get("/ready").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    proxy.forward_again();
    ingress.drained().await;
    assert_eq!(heard(&nats).await, everything(3, 8));
}

/// NATS stored an event and its answer was lost for longer than the stream remembers ids.
#[tokio::test]
async fn an_event_that_is_stored_twice_after_a_long_outage_has_one_effect() {
    let nats = Nats::start().await;
    provisioned(&nats).await;
    let jetstream = nats.jetstream().await;
    let mut config = jetstream
        .get_stream("VOICE_IN")
        .await
        .unwrap()
        .cached_info()
        .config
        .clone();
    // Shorter than an ingress waits for an answer.
    config.duplicate_window = Duration::from_millis(100);
    jetstream.update_stream(config).await.unwrap();
    let proxy = Proxy::to(nats.url()).await;
    let dir = tempfile::tempdir().unwrap();
    let ingress = Ingress::start(proxy.url(), &spool_args(&dir)).await;
    let router = [
        "router",
        "--listen",
        "127.0.0.1:0",
        "--nats-url",
        nats.url(),
    ];
    let router = Process::start("router", dir.path(), router, &[]);

    talk(&ingress, 1, 0..1).await;
    proxy.hold_answers();
    assert_eq!(talk(&ingress, 1, 1..3).await, 2);
    proxy.forward_again();
    ingress.drained().await;
    talk(&ingress, 1, 3..4).await;
    let client = nats.client().await;
    let inputs = said_in(&client, "VOICE_IN", "voice.in.>").await;
    let twice = inputs.iter().filter(|word| *word == "word 1").count();
    assert_eq!(twice, 2, "{inputs:?}");

    let told = reached("the last word", async || {
        let told = said_in(&client, "VOICE_EVENT", "voice.event.>").await;
        if told.iter().any(|word| word == "word 3") {
            Ok(told)
        } else {
            Err(format!("{told:?}"))
        }
    })
    .await;
    assert_eq!(told, ["word 0", "word 1", "word 2", "word 3"]);
    router.stop().await;
}

#[tokio::test]
async fn without_a_spool_an_ingress_says_that_nats_is_away() {
    let mut nats = Nats::start().await;
    provisioned(&nats).await;
    let proxy = Proxy::to(nats.url()).await;
    let ingress = Ingress::start(proxy.url(), &[]).await;
    assert_eq!(ingress.get("/status").await.1["spool"], Value::Null);
    proxy.stop_forwarding();
    let refused = (0..5).map(|call| ingress.post(["a", "b", "c", "d", "e"][call], "word 0"));
    for (status, answer) in join_all(refused).await {
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    }
    nats.kill();
}

#[tokio::test]
async fn two_ingresses_on_one_spool_and_a_damaged_spool_are_refused_in_words() {
    let nats = Nats::start().await;
    provisioned(&nats).await;
    let dir = tempfile::tempdir().unwrap();
    let first = Ingress::start(nats.url(), &spool_args(&dir)).await;
    let words = Ingress::try_start(nats.url(), &spool_args(&dir)).await;
    let words = words.err().unwrap();
    assert!(
        words.contains("each ingress needs a directory of its own"),
        "{words}"
    );
    first.kill().await;
    std::fs::write(
        dir.path().join("spool.redb"),
        "something else, and quite long",
    )
    .unwrap();
    let words = Ingress::try_start(nats.url(), &spool_args(&dir)).await;
    let words = words.err().unwrap();
    assert!(words.contains("is damaged"), "{words}");
    assert!(!words.contains("panicked"), "{words}");
}

#[tokio::test]
async fn a_spool_of_another_deployment_is_refused() {
    let mut nats = Nats::start().await;
    provisioned(&nats).await;
    let dir = tempfile::tempdir().unwrap();
    let ingress = Ingress::start(nats.url(), &spool_args(&dir)).await;
    nats.kill();
    talk(&ingress, 1, 0..1).await;
    ingress.kill().await;
    let other = Nats::start().await;
    provisioned(&other).await;
    let jetstream = other.jetstream().await;
    let mut stream = jetstream.get_stream("VOICE_IN").await.unwrap();
    let mut config = stream.info().await.unwrap().config.clone();
    let partitions = config.metadata.get_mut("voicebus-partitions").unwrap();
    *partitions = "8".to_owned();
    jetstream.update_stream(config).await.unwrap();
    let words = Ingress::try_start(other.url(), &spool_args(&dir)).await;
    let words = words.err().unwrap();
    assert!(
        words.contains("filled for 32 partitions, but VOICE_IN has 8"),
        "{words}"
    );
}

#[tokio::test]
async fn a_stopped_ingress_has_answered_everybody_and_kept_what_it_accepted() {
    let mut nats = Nats::start().await;
    provisioned(&nats).await;
    let proxy = Proxy::to(nats.url()).await;
    let dir = tempfile::tempdir().unwrap();
    let ingress = Ingress::start(proxy.url(), &spool_args(&dir)).await;
    proxy.stop_forwarding();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        ingress.terminate();
    };
    let (spooled, ()) = tokio::join!(talk(&ingress, 4, 0..1), stop);
    assert_eq!(spooled, 4);
    assert!(ingress.ended().await);
    nats.kill();
    nats.restart().await;
    let ingress = Ingress::start(nats.url(), &spool_args(&dir)).await;
    ingress.drained().await;
    assert_eq!(heard(&nats).await, everything(4, 1));
}

#[tokio::test]
async fn many_events_at_once_go_in_batches_and_repetitions_are_known() {
    let nats = Nats::start_flushing().await;
    provisioned(&nats).await;
    let ingress = Ingress::start(nats.url(), &[]).await;
    talk(&ingress, 12, 0..3).await;
    let talks = (3..28).flat_map(|word| (0..12).map(move |call| (call, word)));
    let posts = talks.map(|(call, word)| {
        let ingress = &ingress;
        async move {
            let call = format!("CA{call}");
            let (first, answer) = ingress.post(&call, &format!("word {word}")).await;
            assert_eq!(first, StatusCode::OK, "{answer}");
            if word % 5 == 0 {
                let (again, answer) = ingress.post(&call, &format!("word {word}")).await;
                assert_eq!(
                    (again, &answer["duplicate"]),
                    (StatusCode::OK, &Value::Bool(true))
                );
            }
        }
    });
    join_all(posts).await;
    let mut heard = heard(&nats).await;
    for words in heard.values_mut() {
        // Those of one call came over different connections at the same time.
        words.sort_unstable();
    }
    assert_eq!(heard, everything(12, 28));
    assert!(ingress.count("/events/batches").await > 0);
    assert!(ingress.count("/events/batched").await >= 30);
}
