//! The plugin of the OpenClaw gateway: its place in the public feed is its own, and it has no more
//! of the bus than it works with.

use async_nats::jetstream::consumer::{Consumer, pull};
use futures_util::StreamExt;
use serde_json::{Value, json};
use voicebus::bus::server::User::{Agent, Observer, Operator, Plugin, Provision, Router};

use super::{commit, in_force, publish, read};
use crate::harness::{Bus, Role, within};

/// Its consumer, as the plugin makes it.
async fn place(plugin: &Role) -> Consumer<pull::Config> {
    let events = plugin.jetstream.get_stream("VOICE_EVENT").await.unwrap();
    let config = pull::Config {
        durable_name: Some("openclaw".to_owned()),
        filter_subject: "voice.event.>".to_owned(),
        ..Default::default()
    };
    within("consumer", events.create_consumer(config))
        .await
        .unwrap()
}

#[tokio::test]
async fn the_plugin_works_off_the_feed_and_gives_commands() {
    let bus = Bus::with_streams().await;
    let router = bus.connect(Router).await;
    commit(&router, "CA1", "state.initiated", 0).await;
    commit(&router, "CA1", "state.ended", 1).await;

    let plugin = bus.connect(Plugin).await;
    let mut outcomes = plugin
        .client
        .subscribe("voice.event.i-1.*.command.*")
        .await
        .unwrap();
    let consumer = place(&plugin).await;
    for message in read(&consumer, 2).await {
        within("ack", message.double_ack()).await.unwrap();
    }
    let mut events = plugin.jetstream.get_stream("VOICE_EVENT").await.unwrap();
    events.info().await.unwrap();
    let read_back = r#"{"seq":1,"next_by_subj":"voice.event.CA1.>","batch":100}"#;
    let answer = plugin
        .client
        .request("$JS.API.DIRECT.GET.VOICE_EVENT", read_back.into());
    let answer = within("event", answer).await.unwrap();
    assert_eq!(answer.payload, "{}");

    for command in [
        "dial.i-1",
        "hangup.CA1",
        "say.CA1",
        "context.CA1",
        "link.l-1",
        "unlink.l-1",
    ] {
        publish(&plugin, &format!("voice.cmd.{command}")).await;
    }
    commit(&router, "i-1", "command.confirmed", 0).await;
    let outcome = within("outcome", outcomes.next()).await.unwrap();
    assert_eq!(
        outcome.subject.as_str(),
        "voice.event.i-1.s-1.command.confirmed"
    );
    plugin.assert_nothing_denied();

    let feed = plugin.client.subscribe("voice.event.>");
    plugin.denied("voice.event.>", feed).await;
    let said = plugin.client.subscribe("voice.event.*.*.transcript.user");
    plugin.denied("voice.event.*.*.transcript.user", said).await;
    let cancel = plugin.client.publish("voice.cmd.cancel.i-1", "{}".into());
    plugin.denied("voice.cmd.cancel.i-1", cancel).await;
    let other = events.create_consumer(pull::Config {
        durable_name: Some("other".to_owned()),
        filter_subject: "voice.event.>".to_owned(),
        ..Default::default()
    });
    plugin
        .denied(
            "$JS.API.CONSUMER.CREATE.VOICE_EVENT.other.voice.event.>",
            other,
        )
        .await;
    let delete = events.delete_consumer("openclaw");
    plugin
        .denied("$JS.API.CONSUMER.DELETE.VOICE_EVENT.openclaw", delete)
        .await;
    let letters = plugin.jetstream.get_stream("VOICE_DLQ");
    plugin
        .denied("$JS.API.STREAM.INFO.VOICE_DLQ", letters)
        .await;
}

/// The name of a consumer is not only in the subject that is checked, but in the request too. (The
/// old subject without a name is not shown here: there the server goes by the request alone, which
/// `nats/accounts.conf` tells.)
#[tokio::test]
async fn nobody_else_moves_the_plugins_place() {
    let bus = Bus::with_streams().await;
    let router = bus.connect(Router).await;
    commit(&router, "CA1", "state.initiated", 0).await;
    commit(&router, "CA1", "state.ended", 1).await;
    let plugin = bus.connect(Plugin).await;
    let mut consumer = place(&plugin).await;
    let before = consumer.info().await.unwrap().clone();

    for user in [Agent, Observer, Operator] {
        let other = bus.connect(user).await;
        let subject = "$JS.API.CONSUMER.CREATE.VOICE_EVENT.aside";
        for name in ["name", "durable_name"] {
            for action in ["", "create", "update"] {
                let wish = json!({
                    "stream_name": "VOICE_EVENT",
                    "action": action,
                    "config": {
                        name: "openclaw", "description": "mine", "ack_policy": "explicit",
                        "filter_subject": "voice.event.>", "max_deliver": 1,
                    },
                });
                let answer = other.client.request(subject, wish.to_string().into());
                let answer = within("answer", answer).await.unwrap();
                let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
                assert_ne!(answer["name"], "openclaw", "{subject} {wish} {answer}");
            }
        }
        other.assert_nothing_denied();
        for subject in [
            "$JS.API.CONSUMER.CREATE.VOICE_EVENT.openclaw",
            "$JS.API.CONSUMER.CREATE.VOICE_EVENT.openclaw.voice.event.>",
            "$JS.API.CONSUMER.MSG.NEXT.VOICE_EVENT.openclaw",
            "$JS.API.CONSUMER.DELETE.VOICE_EVENT.openclaw",
            "$JS.ACK.VOICE_EVENT.openclaw.1.1.1.1.0",
        ] {
            let ask = other.client.publish(subject, "1".into());
            other.denied(subject, ask).await;
        }
    }
    let after = consumer.info().await.unwrap();
    assert_eq!(before.config, after.config);
    assert_eq!(
        (after.num_pending, after.delivered.consumer_sequence),
        (2, 0)
    );
}

/// The server does not check the reply subject of a request; what an account imports bounds it.
#[tokio::test]
async fn the_plugin_cannot_have_answers_written_where_it_may_not_write() {
    let bus = Bus::with_streams().await;
    let router = bus.connect(Router).await;
    commit(&router, "CA1", "state.ended", 0).await;
    let plugin = bus.connect(Plugin).await;
    place(&plugin).await;
    for target in [
        "voicebus.commit.CA2.s-1.state.ended",
        "voice.in.3.CA1.command",
        "voice.cmd.cancel.key",
        "voice.cmd.resolve.key",
    ] {
        for (question, body) in [
            ("$JS.API.STREAM.INFO.VOICE_EVENT", ""),
            ("$JS.API.DIRECT.GET.VOICE_EVENT", r#"{"seq":1}"#),
            ("$JS.API.CONSUMER.MSG.NEXT.VOICE_EVENT.openclaw", "1"),
        ] {
            let sent = plugin
                .client
                .publish_with_reply(question, target, body.into());
            sent.await.unwrap();
        }
    }
    // Answers come in the order of the questions.
    let last = plugin
        .client
        .request("$JS.API.STREAM.INFO.VOICE_EVENT", "".into());
    within("answer", last).await.unwrap();
    let provision = bus.connect(Provision).await;
    in_force(&provision).await;
    for (stream, expected) in [("VOICE_EVENT", 1), ("VOICE_IN", 0), ("VOICE_CMD", 0)] {
        let mut stream = provision.jetstream.get_stream(stream).await.unwrap();
        assert_eq!(stream.info().await.unwrap().state.messages, expected);
    }
}
