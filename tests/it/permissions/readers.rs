//! Observers and agents: they read everything back, and write nothing they may not.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::{DeliverPolicy, pull, push};
use futures_util::StreamExt;
use voicebus::bus::server::User;
use voicebus::bus::server::User::{Agent, Observer, Operator, Provision, Router};

use super::{commit, in_force, publish, read};
use crate::harness::{Bus, Role, within};

#[tokio::test]
async fn the_observer_reads_back_with_consumers_of_every_kind() {
    readers_read_back(Observer).await;
}

#[tokio::test]
async fn the_agent_reads_back_with_consumers_of_every_kind() {
    readers_read_back(Agent).await;
}

async fn readers_read_back(user: User) {
    const EVENTS: usize = 30;
    let bus = Bus::with_streams().await;
    let router = bus.connect(Router).await;
    for sequence in 0..EVENTS {
        commit(&router, "CA1", "transcript.user", sequence as u64).await;
    }
    publish(&router, "voice.dlq.router.poison").await;

    let reader = bus.connect(user).await;
    let events = reader.jetstream.get_stream("VOICE_EVENT").await.unwrap();
    let dead = reader.jetstream.get_stream("VOICE_DLQ").await.unwrap();
    for (name, filter) in [
        (None, ""),
        (None, "voice.event.CA1.>"),
        (Some("look-1"), ""),
        (Some("look-2"), "voice.event.*.s-1.>"),
    ] {
        let config = pull::Config {
            name: name.map(str::to_owned),
            filter_subject: filter.to_owned(),
            ..Default::default()
        };
        let consumer = events.create_consumer(config).await.unwrap();
        for message in read(&consumer, EVENTS).await {
            message.ack().await.unwrap();
        }
        let config = push::Config {
            name: name.map(|name| format!("{name}-pushed")),
            filter_subject: filter.to_owned(),
            deliver_subject: reader.client.new_inbox(),
            flow_control: true,
            idle_heartbeat: Duration::from_secs(5),
            ..Default::default()
        };
        let consumer = events.create_consumer(config).await.unwrap();
        let mut pushed = consumer.messages().await.unwrap();
        for _ in 0..EVENTS {
            within("push", pushed.next()).await.unwrap().unwrap();
        }
    }
    for (name, filter) in [(None, ""), (Some("dead"), "voice.dlq.>")] {
        let config = pull::Config {
            name: name.map(str::to_owned),
            filter_subject: filter.to_owned(),
            ..Default::default()
        };
        let consumer = dead.create_consumer(config).await.unwrap();
        read(&consumer, 1).await.remove(0).ack().await.unwrap();
    }

    events.get_raw_message(1).await.unwrap();
    events.direct_get(2).await.unwrap();
    events
        .direct_get_last_for_subject("voice.event.CA1.>")
        .await
        .unwrap();
    dead.direct_get(1).await.unwrap();

    let mut names: Vec<_> = reader.jetstream.stream_names().collect().await;
    names.sort_by_key(|name| name.as_ref().unwrap().clone());
    assert_eq!(names.len(), 9);
    let mut consumers = events.consumer_names();
    while let Some(name) = consumers.next().await {
        name.unwrap();
    }
    reader.assert_nothing_denied();

    let purge = events.purge();
    reader
        .denied("$JS.API.STREAM.PURGE.VOICE_EVENT", async { purge.await })
        .await;
    let delete = events.delete_consumer("look-1");
    if user == Agent {
        delete.await.unwrap();
    } else {
        reader
            .denied("$JS.API.CONSUMER.DELETE.VOICE_EVENT.look-1", delete)
            .await;
    }
    let inputs = reader.jetstream.get_stream("VOICE_IN").await.unwrap();
    let content = inputs.get_raw_message(1);
    reader
        .denied("$JS.API.STREAM.MSG.GET.VOICE_IN", content)
        .await;
}

#[tokio::test]
async fn an_ordered_agent_goes_on_when_its_consumer_is_taken_away() {
    let agent = ordered_reader_goes_on(Agent).await;
    agent.assert_nothing_denied();
}

#[tokio::test]
async fn an_ordered_observer_goes_on_when_its_consumer_is_taken_away() {
    let observer = ordered_reader_goes_on(Observer).await;
    // The client tries to tidy up behind itself, in vain.
    observer.assert_only_denied("$JS.API.CONSUMER.DELETE.VOICE_EVENT.");
}

async fn ordered_reader_goes_on(user: User) -> Role {
    let bus = Bus::with_streams().await;
    let router = bus.connect(Router).await;
    let provision = bus.connect(Provision).await;
    let reader = bus.connect(user).await;
    let impatient = jetstream::ContextBuilder::new()
        .timeout(Duration::from_millis(500))
        .build(reader.client.clone());
    let events = impatient.get_stream("VOICE_EVENT").await.unwrap();
    let ours = provision.jetstream.get_stream("VOICE_EVENT").await.unwrap();
    for name in [None, Some("watch".to_owned())] {
        let config = pull::OrderedConfig {
            name,
            deliver_policy: DeliverPolicy::New,
            ..Default::default()
        };
        let ordered = events.create_consumer(config).await.unwrap();
        let mut messages = ordered.messages().await.unwrap();
        // More than one time: each new consumer gets a name of its own.
        for round in 0..3 {
            let last = ours.get_info().await.unwrap().state.last_sequence;
            commit(&router, "CA1", "transcript.user", last).await;
            let message = within("event", messages.next()).await.unwrap().unwrap();
            assert_eq!(message.info().unwrap().stream_sequence, last + 1, "{round}");
            let names: Vec<_> = ours.consumer_names().collect().await;
            assert_eq!(names.len(), 1, "{names:?}");
            let name = names.into_iter().next().unwrap().unwrap();
            ours.delete_consumer(&name).await.unwrap();
        }
        drop(messages);
        let names: Vec<_> = ours.consumer_names().collect().await;
        for name in names {
            ours.delete_consumer(&name.unwrap()).await.unwrap();
        }
    }
    reader
}

/// The server does not check the reply subject of a request. An answer that lands in a
/// stream would be a forged event, or a command.
#[tokio::test]
async fn readers_cannot_have_answers_written_where_they_may_not_write() {
    let bus = Bus::with_streams().await;
    let router = bus.connect(Router).await;
    commit(&router, "CA1", "state.ended", 0).await;
    let provision = bus.connect(Provision).await;
    for user in [Observer, Agent, Operator] {
        let reader = bus.connect(user).await;
        let events = reader.jetstream.get_stream("VOICE_EVENT").await.unwrap();
        let config = pull::Config {
            name: Some("aside".to_owned()),
            ..Default::default()
        };
        events.create_consumer(config).await.unwrap();
        let mut targets = vec!["voicebus.commit.CA2.s-1.state.ended"];
        // An operator may write inputs, an agent commands, and neither more.
        if user != Operator {
            targets.push("voice.in.3.CA1.command");
        }
        if user != Agent {
            targets.push("voice.cmd.dial.key");
        }
        for target in targets {
            for (question, body) in [
                ("$JS.API.STREAM.NAMES", ""),
                ("$JS.API.STREAM.MSG.GET.VOICE_EVENT", r#"{"seq":1}"#),
                ("$JS.API.DIRECT.GET.VOICE_EVENT", r#"{"seq":1}"#),
                ("$JS.API.DIRECT.GET.VOICE_EVENT.voice.event.CA1.>", ""),
                ("$JS.API.CONSUMER.MSG.NEXT.VOICE_EVENT.aside", "1"),
            ] {
                let sent = reader
                    .client
                    .publish_with_reply(question, target, body.into());
                sent.await.unwrap();
            }
        }
        // Answers come in the order of the questions.
        in_force(&reader).await;
        for (stream, expected) in [("VOICE_EVENT", 1), ("VOICE_IN", 0), ("VOICE_CMD", 0)] {
            let mut stream = provision.jetstream.get_stream(stream).await.unwrap();
            assert_eq!(stream.info().await.unwrap().state.messages, expected);
        }
        reader.assert_nothing_denied();
        let ours = provision.jetstream.get_stream("VOICE_EVENT").await.unwrap();
        ours.delete_consumer("aside").await.unwrap();
    }
}
