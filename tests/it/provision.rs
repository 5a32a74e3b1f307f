//! Provisioning on a real server: it creates, it repairs, and it knows what not to touch.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::jetstream::{self, Context};
use chrono::TimeDelta;
use futures_util::StreamExt;
use serde_json::{Value, json};
use voicebus::bus::streams::{
    Action, Entry, Error, KEEPERS, Object, Options, Report, Retention, provision, read_layout,
};

use crate::harness::Nats;

async fn provisioned() -> (Nats, Context) {
    let nats = Nats::start().await;
    let jetstream = nats.jetstream().await;
    let report = run(&jetstream).await;
    assert!(report.is_settled(), "{report}");
    (nats, jetstream)
}

async fn run(jetstream: &Context) -> Report {
    provision(jetstream, &Options::default()).await.unwrap()
}

async fn dry_run(jetstream: &Context) -> Report {
    let options = Options {
        dry_run: true,
        ..Options::default()
    };
    provision(jetstream, &options).await.unwrap()
}

/// The JetStream API as an operator's tool uses it.
async fn api(jetstream: &Context, subject: &str, body: Value) -> Value {
    let reply: Value = jetstream.request(subject.to_owned(), &body).await.unwrap();
    assert_eq!(reply["error"], Value::Null, "{subject}");
    reply
}

async fn config(jetstream: &Context, stream: &str) -> Value {
    let info = api(jetstream, &format!("STREAM.INFO.{stream}"), json!({})).await;
    info["config"].clone()
}

async fn edit(jetstream: &Context, stream: &str, field: &str, value: Value) {
    let mut config = config(jetstream, stream).await;
    config[field] = value;
    api(jetstream, &format!("STREAM.UPDATE.{stream}"), config).await;
}

/// Everything but what is as it should be.
fn changes(report: &Report) -> Vec<&Entry> {
    let entries = report.entries.iter();
    entries
        .filter(|entry| entry.action != Action::Unchanged)
        .collect()
}

#[track_caller]
fn the_change(report: &Report) -> &Entry {
    match changes(report)[..] {
        [entry] => entry,
        _ => panic!("expected one change:\n{report}"),
    }
}

#[tokio::test]
async fn the_second_run_finds_everything_unchanged() {
    let nats = Nats::start().await;
    let jetstream = nats.jetstream().await;
    let first = run(&jetstream).await;
    assert_eq!(first.count(Action::Created), 8 + 34, "{first}");
    assert_eq!(first.entries.len(), 8 + 34, "{first}");
    let second = run(&jetstream).await;
    assert!(second.is_unchanged(), "{second}");
    assert_eq!(second.entries.len(), 8 + 34);
}

#[tokio::test]
async fn a_dry_run_on_an_empty_server_creates_nothing() {
    let nats = Nats::start().await;
    let jetstream = nats.jetstream().await;
    let report = dry_run(&jetstream).await;
    assert_eq!(report.count(Action::Created), 42);
    assert!(
        report
            .to_string()
            .contains("stream VOICE_IN: would be created")
    );
    let missing = read_layout(&jetstream).await.unwrap_err();
    assert_eq!(
        missing.to_string(),
        "stream VOICE_IN not found: run `voicebus provision` first"
    );
}

#[tokio::test]
async fn partitions_salt_and_epoch_stay_what_they_were() {
    let (_nats, jetstream) = provisioned().await;
    let before = read_layout(&jetstream).await.unwrap();
    assert_eq!(before.partitions, 32);
    edit(
        &jetstream,
        "VOICE_IN",
        "max_age",
        json!(3_600_000_000_000_u64),
    )
    .await;
    assert!(!run(&jetstream).await.is_unchanged());
    assert_eq!(read_layout(&jetstream).await.unwrap(), before);
}

#[tokio::test]
async fn two_at_once_agree_on_one_salt() {
    let nats = Nats::start().await;
    let (one, two) = (nats.jetstream().await, nats.jetstream().await);
    let options = Options::default();
    let (first, second) = tokio::join!(provision(&one, &options), provision(&two, &options));
    let created = first.unwrap().count(Action::Created) + second.unwrap().count(Action::Created);
    assert!(created >= 41, "{created}");
    assert!(run(&one).await.is_unchanged());
    read_layout(&one).await.unwrap();
}

#[tokio::test]
async fn a_setting_changed_by_hand_is_reported_and_repaired() {
    let (_nats, jetstream) = provisioned().await;
    edit(
        &jetstream,
        "VOICE_EVENT",
        "max_age",
        json!(3_600_000_000_000_u64),
    )
    .await;

    let planned = dry_run(&jetstream).await;
    assert_eq!(the_change(&planned).action, Action::Updated);
    let config_then = config(&jetstream, "VOICE_EVENT").await;
    assert_eq!(
        config_then["max_age"], 3_600_000_000_000_u64,
        "a dry run changed something"
    );

    let report = run(&jetstream).await;
    let change = the_change(&report);
    assert_eq!(change.object, Object::stream("VOICE_EVENT"));
    assert_eq!(change.field.as_deref(), Some("max_age"));
    assert_eq!(change.action, Action::Updated);
    let line = "stream VOICE_EVENT: max_age: found 3600s, wanted 2592000s: updated\n";
    assert!(report.to_string().starts_with(line), "{report}");
    assert!(run(&jetstream).await.is_unchanged());
}

#[tokio::test]
async fn a_change_that_would_delete_messages_is_left_to_a_person() {
    let (_nats, jetstream) = provisioned().await;
    for _ in 0..3 {
        let ack = jetstream
            .publish("voice.dlq.router.poison", vec![b'x'; 1000].into())
            .await;
        ack.unwrap().await.unwrap();
    }
    let options = Options {
        bytes_max: [("VOICE_DLQ".to_owned(), 2000)].into(),
        ..Options::default()
    };
    let report = provision(&jetstream, &options).await.unwrap();
    let change = the_change(&report);
    assert_eq!(change.action, Action::CannotChange);
    assert_eq!(change.field.as_deref(), Some("max_bytes"));
    assert!(!report.is_settled());
    let info = api(&jetstream, "STREAM.INFO.VOICE_DLQ", json!({})).await;
    assert_eq!(info["state"]["messages"], 3);
}

/// With the messages of a stream kept for so many days.
fn kept(key: &str, days: i64) -> Options {
    let keeper = KEEPERS.iter().find(|keeper| keeper.key == key).unwrap();
    let mut retention = Retention::default();
    retention.keep(keeper, TimeDelta::days(days)).unwrap();
    Options {
        retention,
        ..Options::default()
    }
}

#[tokio::test]
async fn an_age_that_was_decided_is_set_on_a_stream_that_exists_and_holds_what_is_younger() {
    let (_nats, jetstream) = provisioned().await;
    let sent = jetstream.publish("voicebus.commit.CA1.s-1.state.ended", "{}".into());
    sent.await.unwrap().await.unwrap();
    let subject = "STREAM.INFO.VOICE_EVENT";
    let before = api(&jetstream, subject, json!({})).await;

    for (days, nanos) in [(8, 691_200_000_000_000_u64), (90, 7_776_000_000_000_000)] {
        let report = provision(&jetstream, &kept("voice_event", days))
            .await
            .unwrap();
        let change = the_change(&report);
        assert_eq!(change.field.as_deref(), Some("max_age"), "{report}");
        assert_eq!(change.action, Action::Updated, "{report}");
        let after = api(&jetstream, subject, json!({})).await;
        assert_eq!(after["config"]["max_age"], nanos);
        // It is the same stream, with what it held.
        assert_eq!(after["created"], before["created"]);
        assert_eq!(after["state"]["messages"], before["state"]["messages"]);
    }
    let again = provision(&jetstream, &kept("voice_event", 90))
        .await
        .unwrap();
    assert!(again.is_unchanged(), "{again}");
    // Nobody decides any more: as the file has it.
    let report = run(&jetstream).await;
    assert_eq!(the_change(&report).field.as_deref(), Some("max_age"));
}

#[tokio::test]
async fn what_the_server_refuses_is_reported_with_its_reason() {
    let (_nats, jetstream) = provisioned().await;
    // Once allowed, a time to live per message cannot be taken back.
    edit(&jetstream, "KV_VOICE_LIMIT", "allow_msg_ttl", json!(true)).await;
    let report = run(&jetstream).await;
    let change = the_change(&report);
    assert_eq!(change.action, Action::CannotChange);
    let reason = change.reason.as_deref().unwrap();
    assert!(reason.starts_with("the server refused: "), "{report}");
}

#[tokio::test]
async fn a_missing_consumer_is_made_again_and_a_changed_one_repaired() {
    let (_nats, jetstream) = provisioned().await;
    api(&jetstream, "CONSUMER.DELETE.VOICE_IN.p7", json!({})).await;
    let report = run(&jetstream).await;
    let change = the_change(&report);
    assert_eq!(change.object, Object::consumer("VOICE_IN", "p7"));
    assert_eq!(change.action, Action::Created);

    let info = api(&jetstream, "CONSUMER.INFO.VOICE_IN.p7", json!({})).await;
    let mut changed = info["config"].clone();
    changed["max_ack_pending"] = json!(100);
    let body = json!({ "stream_name": "VOICE_IN", "config": changed, "action": "update" });
    api(&jetstream, "CONSUMER.CREATE.VOICE_IN.p7.voice.in.7.>", body).await;
    let report = run(&jetstream).await;
    let change = the_change(&report);
    assert_eq!(change.field.as_deref(), Some("max_ack_pending"));
    assert_eq!(change.action, Action::Updated);
    assert!(run(&jetstream).await.is_unchanged());
}

#[tokio::test]
async fn other_consumers_and_foreign_settings_are_left_alone() {
    let (_nats, jetstream) = provisioned().await;
    let stream = jetstream.get_stream("VOICE_EVENT").await.unwrap();
    let plugin = pull::Config {
        durable_name: Some("plugin".to_owned()),
        filter_subject: "voice.event.*.*.state.ended".to_owned(),
        ..pull::Config::default()
    };
    stream.create_consumer(plugin).await.unwrap();
    edit(
        &jetstream,
        "VOICE_EVENT",
        "metadata",
        json!({ "owner": "somebody" }),
    )
    .await;
    edit(
        &jetstream,
        "VOICE_EVENT",
        "max_age",
        json!(3_600_000_000_000_u64),
    )
    .await;
    assert_eq!(changes(&run(&jetstream).await).len(), 1);
    let after = config(&jetstream, "VOICE_EVENT").await;
    assert_eq!(after["metadata"]["owner"], "somebody");
    stream.consumer_info("plugin").await.unwrap();
}

#[tokio::test]
async fn another_number_of_partitions_is_refused_before_anything_is_made() {
    let nats = Nats::start().await;
    let jetstream = nats.jetstream().await;
    let other = json!({
        "name": "VOICE_IN", "subjects": ["voice.in.>"], "num_replicas": 1,
        "retention": "limits", "storage": "file", "metadata": { "voicebus-partitions": "16" },
    });
    api(&jetstream, "STREAM.CREATE.VOICE_IN", other).await;
    let error = provision(&jetstream, &Options::default())
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::PartitionsFixed {
                found: 16,
                wanted: 32
            }
        ),
        "{error}"
    );
    assert!(jetstream.get_stream("VOICE_EVENT").await.is_err());
}

#[tokio::test]
async fn a_stream_made_from_the_file_by_hand_gets_its_salt() {
    let nats = Nats::start().await;
    let jetstream = nats.jetstream().await;
    let mut by_hand: Value =
        serde_json::from_str(include_str!("../../nats/streams/VOICE_IN.json")).unwrap();
    by_hand["num_replicas"] = json!(1);
    api(&jetstream, "STREAM.CREATE.VOICE_IN", by_hand).await;
    assert!(matches!(
        read_layout(&jetstream).await.unwrap_err(),
        Error::Metadata {
            key: "voicebus-salt",
            ..
        }
    ));
    let report = run(&jetstream).await;
    assert!(report.is_settled(), "{report}");
    let before = read_layout(&jetstream).await.unwrap();
    assert!(run(&jetstream).await.is_unchanged());
    assert_eq!(read_layout(&jetstream).await.unwrap(), before);
}

#[tokio::test]
async fn a_report_is_readable_by_programs() {
    let (_nats, jetstream) = provisioned().await;
    edit(&jetstream, "VOICE_CMD", "description", json!("mine")).await;
    let report = serde_json::to_value(run(&jetstream).await).unwrap();
    let entries = report["entries"].as_array().unwrap();
    let change = entries
        .iter()
        .find(|entry| entry["action"] == "updated")
        .unwrap();
    assert_eq!(
        change["object"],
        json!({ "kind": "stream", "name": "VOICE_CMD" })
    );
    assert_eq!(change["found"], "mine");
}

#[tokio::test]
async fn buckets_are_what_the_client_library_calls_buckets() {
    let (_nats, jetstream) = provisioned().await;
    for (bucket, history) in [
        ("VOICE_INTENT", 16),
        ("VOICE_NUMBER", 1),
        ("VOICE_LINK", 8),
        ("VOICE_LIMIT", 1),
    ] {
        let store = jetstream.get_key_value(bucket).await.unwrap();
        store.put("key", "value".into()).await.unwrap();
        assert_eq!(store.get("key").await.unwrap().unwrap(), "value");
        store.delete("key").await.unwrap();
        assert_eq!(store.status().await.unwrap().history(), history);
    }
}

#[tokio::test]
async fn a_schedule_set_on_a_timer_subject_arrives_as_an_input_of_its_partition() {
    let (_nats, jetstream) = provisioned().await;
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Schedule", "@at 2020-01-01T00:00:00Z");
    headers.insert("Nats-Schedule-Target", "voice.in.7.CA1.timer");
    let ack = jetstream
        .publish_with_headers("voice.timer.CA1.stale", headers, "due".into())
        .await;
    ack.unwrap().await.unwrap();
    let consumer: PullConsumer = jetstream
        .get_consumer_from_stream("p7", "VOICE_IN")
        .await
        .unwrap();
    let mut messages = consumer
        .stream()
        .max_messages_per_batch(1)
        .messages()
        .await
        .unwrap();
    let fired = tokio::time::timeout(Duration::from_secs(10), messages.next())
        .await
        .unwrap();
    assert_eq!(
        fired.unwrap().unwrap().subject.as_str(),
        "voice.in.7.CA1.timer"
    );
}

/// What docs/decisions/0001-commit-subject.md rests on.
#[tokio::test]
async fn a_plain_subscriber_sees_each_stored_event_once_and_never_a_refused_one() {
    let (nats, jetstream) = provisioned().await;
    let observer = nats.client().await;
    let mut feed = observer.subscribe("voice.event.>").await.unwrap();
    // A round trip on the same connection: the server has the subscription when it answers.
    read_layout(&jetstream::new(observer)).await.unwrap();
    let commit = async |action: &str, expected: u64| {
        let mut headers = HeaderMap::new();
        headers.insert(
            "Nats-Expected-Last-Subject-Sequence",
            expected.to_string().as_str(),
        );
        headers.insert(
            "Nats-Expected-Last-Subject-Sequence-Subject",
            "voice.event.CA1.>",
        );
        let subject = format!("voicebus.commit.CA1.s-1.state.{action}");
        let ack = jetstream
            .publish_with_headers(subject, headers, action.to_owned().into())
            .await;
        ack.unwrap().await.map(|ack| ack.sequence)
    };
    assert_eq!(commit("initiated", 0).await.unwrap(), 1);
    commit("failed", 0).await.unwrap_err();
    assert_eq!(commit("ringing", 1).await.unwrap(), 2);
    commit("failed", 1).await.unwrap_err();
    assert_eq!(commit("ended", 2).await.unwrap(), 3);

    let mut seen = Vec::new();
    while seen.len() < 3 {
        let message = tokio::time::timeout(Duration::from_secs(5), feed.next())
            .await
            .unwrap()
            .unwrap();
        let headers = message.headers.unwrap();
        let sequence = headers.get("Nats-Sequence").unwrap();
        assert_eq!(sequence.as_str(), (seen.len() + 1).to_string());
        seen.push(message.subject.to_string());
    }
    assert_eq!(
        seen,
        ["initiated", "ringing", "ended"]
            .map(|action| format!("voice.event.CA1.s-1.state.{action}"))
    );
    let stream = jetstream.get_stream("VOICE_EVENT").await.unwrap();
    let last = stream
        .direct_get_last_for_subject("voice.event.CA1.>")
        .await
        .unwrap();
    assert_eq!(last.subject.as_str(), "voice.event.CA1.s-1.state.ended");
}
