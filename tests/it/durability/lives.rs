//! Streams that are made anew, and events that come again when nobody remembers their ids.

use std::time::Duration;

use async_nats::Client;
use serde_json::Value;
use voicebus::bus::streams::{self, provision};

use super::{provisioned, said_in};
use crate::harness::{Ingress, Nats, Process, Proxy, reached, read_stream};

fn router(nats: &Nats, dir: &tempfile::TempDir) -> Process {
    router_at(nats.url(), dir)
}

fn router_at(url: &str, dir: &tempfile::TempDir) -> Process {
    let args = ["router", "--listen", "127.0.0.1:0", "--nats-url", url];
    Process::start("router", dir.path(), args, &[])
}

async fn told(client: &Client, last: &str) -> Vec<String> {
    reached(last, async || {
        let told = said_in(client, "VOICE_EVENT", "voice.event.>").await;
        if told.iter().any(|word| word == last) {
            Ok(told)
        } else {
            Err(format!("{told:?}"))
        }
    })
    .await
}

/// The inputs of the new stream have the numbers that those of the old one had.
#[tokio::test]
async fn inputs_of_a_stream_that_was_made_anew_under_a_running_router_are_not_taken_for_old() {
    let nats = Nats::start().await;
    provisioned(&nats).await;
    let dir = tempfile::tempdir().unwrap();
    let ingress = Ingress::start(nats.url(), &[]).await;
    let mut first = router(&nats, &dir);
    first.ready().await;
    let client = nats.client().await;
    for word in 0..5 {
        ingress.post("CA0", &format!("word {word}")).await;
    }
    told(&client, "word 4").await;

    let jetstream = nats.jetstream().await;
    jetstream.delete_stream("VOICE_IN").await.unwrap();
    provision(&jetstream, &streams::Options::default())
        .await
        .unwrap();
    for word in 5..7 {
        let (status, answer) = ingress.post("CA0", &format!("word {word}")).await;
        assert_eq!(status, 200, "{answer}");
    }
    let all = told(&client, "word 6").await;
    let expected: Vec<String> = (0..7).map(|word| format!("word {word}")).collect();
    assert_eq!(all, expected);
    // Each is told with the place that it has in the new stream.
    let epochs = epochs_of_events(&client).await;
    let (before, after) = epochs.split_at(5);
    assert!(before.iter().all(|epoch| *epoch == before[0]), "{epochs:?}");
    assert!(after.iter().all(|epoch| *epoch == after[0]), "{epochs:?}");
    assert_ne!(before[0], after[0]);
    assert!(first.log().contains("VOICE_IN was made anew"));
    first.stop().await;
}

/// A sender that sends its whole call again, after the stream has forgotten the ids.
#[tokio::test]
async fn a_long_call_that_is_sent_again_much_later_is_not_told_twice() {
    let nats = Nats::start().await;
    provisioned(&nats).await;
    let jetstream = nats.jetstream().await;
    let stream = jetstream.get_stream("VOICE_IN").await.unwrap();
    let mut config = stream.cached_info().config.clone();
    config.duplicate_window = Duration::from_millis(100);
    jetstream.update_stream(config).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ingress = Ingress::start(nats.url(), &[]).await;
    let mut router = router(&nats, &dir);
    router.ready().await;
    let client = nats.client().await;
    let say_all = async || {
        for word in 0..40 {
            let (status, answer) = ingress.post("CA0", &format!("word {word}")).await;
            assert_eq!(status, 200, "{answer}");
        }
    };
    say_all().await;
    told(&client, "word 39").await;
    reached("the ids to be forgotten", async || {
        let (_, answer) = ingress.post("CA0", "word 39").await;
        match answer["duplicate"] {
            Value::Bool(false) => Ok(()),
            _ => Err(answer.to_string()),
        }
    })
    .await;
    say_all().await;
    ingress.post("CA0", "the end").await;
    let all = told(&client, "the end").await;
    assert_eq!(all.len(), 41, "{all:?}");
    let inputs = said_in(&client, "VOICE_IN", "voice.in.>").await;
    // The last word was there a moment ago, and may still be known.
    assert!(inputs.len() > 80, "nothing came again");
    router.stop().await;
}

/// The logs are gone, the inputs are not: what comes then is told in a new log.
#[tokio::test]
async fn a_feed_that_was_made_anew_under_a_running_router_begins_again() {
    let nats = Nats::start().await;
    provisioned(&nats).await;
    let dir = tempfile::tempdir().unwrap();
    let ingress = Ingress::start(nats.url(), &[]).await;
    let mut router = router(&nats, &dir);
    router.ready().await;
    let client = nats.client().await;
    for word in 0..5 {
        ingress.post("CA0", &format!("word {word}")).await;
    }
    told(&client, "word 4").await;
    let jetstream = nats.jetstream().await;
    jetstream.delete_stream("VOICE_EVENT").await.unwrap();
    provision(&jetstream, &streams::Options::default())
        .await
        .unwrap();
    for word in 5..7 {
        ingress.post("CA0", &format!("word {word}")).await;
    }
    assert_eq!(told(&client, "word 6").await, ["word 5", "word 6"]);
    let messages = read_stream(&client, "VOICE_EVENT", "voice.event.CA0.>").await;
    let sequences: Vec<u64> = messages
        .iter()
        .map(|message| {
            let event: Value = serde_json::from_slice(&message.payload).unwrap();
            event["sequence"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(sequences, [1, 2]);
    router.stop().await;
}

/// Which life of VOICE_IN the input of each event came from, as the router notes it.
async fn epochs_of_events(client: &Client) -> Vec<String> {
    let events = read_stream(client, "VOICE_EVENT", "voice.event.>").await;
    let progress = events.iter().map(|event| {
        let headers = event.headers.as_ref().unwrap();
        let progress = headers.get("Voicebus-Progress").unwrap().to_string();
        progress.split(' ').nth(1).unwrap().to_owned()
    });
    progress.collect()
}

/// Under the old salt it would remember dials where no router looks for them.
#[tokio::test]
async fn an_egress_takes_the_salt_of_numbers_from_the_stream_that_was_made_anew() {
    let nats = Nats::start().await;
    provisioned(&nats).await;
    let dir = tempfile::tempdir().unwrap();
    let args = [
        "egress",
        "--listen",
        "127.0.0.1:0",
        "--nats-url",
        nats.url(),
    ];
    let mut egress = Process::start("egress", dir.path(), args, &[]);
    egress.ready().await;
    let jetstream = nats.jetstream().await;
    jetstream.delete_stream("VOICE_IN").await.unwrap();
    provision(&jetstream, &streams::Options::default())
        .await
        .unwrap();
    reached("the egress to notice", async || match egress.log() {
        log if log.contains("VOICE_IN was made anew") => Ok(()),
        log => Err(log),
    })
    .await;
    egress.stop().await;
}

/// The client takes up its pulling where it was, and tells nobody that the consumer is another one.
#[tokio::test]
async fn inputs_of_a_stream_that_was_made_anew_while_a_router_was_cut_off_are_not_taken_for_old() {
    let nats = Nats::start().await;
    provisioned(&nats).await;
    let dir = tempfile::tempdir().unwrap();
    let ingress = Ingress::start(nats.url(), &[]).await;
    let proxy = Proxy::to(nats.url()).await;
    let mut first = router_at(proxy.url(), &dir);
    first.ready().await;
    let client = nats.client().await;
    for word in 0..5 {
        ingress.post("CA0", &format!("word {word}")).await;
    }
    told(&client, "word 4").await;

    proxy.stop_forwarding();
    reached("the router to notice", async || match first.log() {
        log if log.contains("NATS is away") => Ok(()),
        log => Err(log),
    })
    .await;
    let jetstream = nats.jetstream().await;
    jetstream.delete_stream("VOICE_IN").await.unwrap();
    provision(&jetstream, &streams::Options::default())
        .await
        .unwrap();
    for word in 5..7 {
        ingress.post("CA0", &format!("word {word}")).await;
    }
    proxy.forward_again();
    let all = told(&client, "word 6").await;
    assert_eq!(all.len(), 7, "{all:?}");
    first.stop().await;
}

/// All inputs that are kept come again, after everything that came of them.
#[tokio::test]
async fn consumers_that_were_made_anew_change_nothing() {
    let nats = Nats::start().await;
    provisioned(&nats).await;
    let dir = tempfile::tempdir().unwrap();
    let ingress = Ingress::start(nats.url(), &[]).await;
    let mut router = router(&nats, &dir);
    router.ready().await;
    let client = nats.client().await;
    let jetstream = nats.jetstream().await;
    let publish = async |subject: String, payload: String| {
        let sent = jetstream.publish(subject, payload.into()).await.unwrap();
        sent.await.unwrap();
    };
    let input = |call: &str, id: &str, says: &str| {
        format!(
            r#"{{"version":1,"id":"{id}","source":"test","call":"{call}","received_at":"2026-11-22T14:00:00Z","says":{says}}}"#
        )
    };
    for call in ["CA0", "CA1"] {
        let partition = partition_of(&nats, call).await;
        let started = |number: &str| {
            format!(r#"{{"type":"started","direction":"inbound","number":"{number}"}}"#)
        };
        let of = |kind: &str| format!("voice.in.{partition}.{call}.{kind}");
        publish(of("started"), input(call, "ev_a", &started("+12015550142"))).await;
        publish(of("started"), input(call, "ev_b", &started("+12015550143"))).await;
        publish(of("ringing"), "poison".to_owned()).await;
        for word in 0..40 {
            ingress.post(call, &format!("word {word}")).await;
        }
        publish(
            of("ended"),
            input(call, "ev_c", r#"{"type":"ended","reason":"completed"}"#),
        )
        .await;
        publish(of("ringing"), input(call, "ev_d", r#"{"type":"ringing"}"#)).await;
        publish(of("ringing"), "more poison".to_owned()).await;
    }
    let done = async || {
        reached("all inputs done", async || {
            let stream = jetstream.get_stream("VOICE_IN").await.unwrap();
            for partition in 0..32 {
                let mut consumer: async_nats::jetstream::consumer::PullConsumer = stream
                    .get_consumer(&format!("p{partition}"))
                    .await
                    .map_err(|error| error.to_string())?;
                let info = consumer.info().await.unwrap();
                if info.num_pending > 0 || info.num_ack_pending > 0 {
                    return Err(format!("{partition} has work"));
                }
            }
            Ok(())
        })
        .await;
        let events = read_stream(&client, "VOICE_EVENT", "voice.event.>").await;
        let letters = read_stream(&client, "VOICE_DLQ", "voice.dlq.>").await;
        (events.len(), letters.len())
    };
    let before = done().await;
    // A contradiction and two that cannot be read, of each call.
    assert_eq!(before.1, 6);
    assert_eq!(
        said_in(&client, "VOICE_EVENT", "voice.event.>").await.len(),
        80
    );

    let stream = jetstream.get_stream("VOICE_IN").await.unwrap();
    for partition in 0..32 {
        stream
            .delete_consumer(&format!("p{partition}"))
            .await
            .unwrap();
    }
    provision(&jetstream, &streams::Options::default())
        .await
        .unwrap();
    assert_eq!(done().await, before);
    router.stop().await;
}

/// The partition of a call, as the ingress has it.
async fn partition_of(nats: &Nats, call: &str) -> u32 {
    let layout = streams::read_layout(&nats.jetstream().await).await.unwrap();
    let partitions = std::num::NonZeroU32::new(layout.partitions).unwrap();
    let subjects = voicebus::bus::subjects::Subjects::new(partitions, layout.salt.as_bytes());
    subjects.partition(&voicebus::domain::ids::CallId::parse(call).unwrap())
}
