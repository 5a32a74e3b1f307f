//! Each role does its day's work, with the rights it has.

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream;
use async_nats::service::ServiceExt;
use futures_util::StreamExt;
use voicebus::bus::server::User::{Agent, Egress, Ingress, Observer, Provision, Router};

use super::{commit, in_force, publish, read};
use crate::harness::{Bus, within};

#[tokio::test]
async fn plain_subscribers_see_committed_events_only() {
    let bus = Bus::with_streams().await;
    let observer = bus.connect(Observer).await;
    let mut feed = observer.client.subscribe("voice.event.>").await.unwrap();
    in_force(&observer).await;

    let router = bus.connect(Router).await;
    commit(&router, "CA1", "state.initiated", 0).await;
    // Refused by the stream, since the call has an event already.
    let stale = PublishMessage::build()
        .expected_last_subject_sequence(0)
        .header(
            "Nats-Expected-Last-Subject-Sequence-Subject",
            "voice.event.CA1.>",
        );
    let refused = router
        .jetstream
        .send_publish("voicebus.commit.CA1.s-1.state.failed", stale)
        .await
        .unwrap()
        .await;
    refused.unwrap_err();
    commit(&router, "CA1", "state.ended", 1).await;

    let mut seen = Vec::new();
    for _ in 0..2 {
        let message = within("event", feed.next()).await.unwrap();
        let headers = message.headers.unwrap();
        let sequence = headers.get("Nats-Sequence").unwrap();
        seen.push(format!("{sequence} {}", message.subject));
    }
    assert_eq!(
        seen,
        [
            "1 voice.event.CA1.s-1.state.initiated",
            "2 voice.event.CA1.s-1.state.ended"
        ]
    );
    router.assert_nothing_denied();
    observer.assert_nothing_denied();
}

#[tokio::test]
async fn the_ingress_publishes_singly_and_in_batches() {
    let bus = Bus::with_streams().await;
    let ingress = bus.connect(Ingress).await;
    for stream in ["VOICE_IN", "VOICE_CMD"] {
        ingress.jetstream.get_stream(stream).await.unwrap();
    }
    publish(&ingress, "voice.in.3.CA1.ringing").await;
    publish(&ingress, "voice.cmd.dial.key").await;
    publish(&ingress, "voice.dlq.ingress.malformed").await;
    for (sequence, commit) in [("1", None), ("2", Some("1"))] {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Batch-Id", "b1");
        headers.insert("Nats-Batch-Sequence", sequence);
        if let Some(commit) = commit {
            headers.insert("Nats-Batch-Commit", commit);
        }
        let request =
            ingress
                .client
                .request_with_headers("voice.in.3.CA1.ringing", headers, "event".into());
        let answer = within("batch", request).await.unwrap();
        assert!(!String::from_utf8_lossy(&answer.payload).contains("error"));
    }
    ingress.assert_nothing_denied();
    let read = ingress.jetstream.get_stream("VOICE_EVENT");
    ingress
        .denied("$JS.API.STREAM.INFO.VOICE_EVENT", read)
        .await;
}

#[tokio::test]
async fn the_router_takes_commits_and_remembers() {
    let bus = Bus::with_streams().await;
    let ingress = bus.connect(Ingress).await;
    publish(&ingress, "voice.in.3.CA1.ringing").await;

    let router = bus.connect(Router).await;
    let input = router.jetstream.get_stream("VOICE_IN").await.unwrap();
    let consumer: PullConsumer = input.get_consumer("p3").await.unwrap();
    let mut deliveries = consumer
        .stream()
        .max_messages_per_batch(1)
        .messages()
        .await
        .unwrap();
    let delivery = within("delivery", deliveries.next())
        .await
        .unwrap()
        .unwrap();
    commit(&router, "CA1", "state.ringing", 0).await;
    commit(&router, "CA1", "state.ended", 1).await;
    within("ack", delivery.double_ack()).await.unwrap();

    let events = router.jetstream.get_stream("VOICE_EVENT").await.unwrap();
    let last = events
        .direct_get_last_for_subject("voice.event.CA1.>")
        .await
        .unwrap();
    assert_eq!(last.subject.as_str(), "voice.event.CA1.s-1.state.ended");
    events
        .get_last_raw_message_by_subject("voice.event.CA1.>")
        .await
        .unwrap();
    let config = pull::Config {
        name: Some("replay-1".to_owned()),
        filter_subject: "voice.event.CA1.>".to_owned(),
        ack_policy: AckPolicy::None,
        ..Default::default()
    };
    let replay = events.create_consumer(config).await.unwrap();
    assert_eq!(read(&replay, 2).await.len(), 2);
    events.delete_consumer("replay-1").await.unwrap();

    let schedule = PublishMessage::build()
        .header("Nats-Schedule", "@at 2099-01-01T00:00:00Z")
        .header("Nats-Schedule-Target", "voice.in.3.CA1.timer");
    let timer = router
        .jetstream
        .send_publish("voice.timer.CA1.stale", schedule);
    within("timer", timer.await.unwrap().into_future())
        .await
        .unwrap();
    publish(&router, "voice.dlq.router.poison").await;

    let numbers = router
        .jetstream
        .get_key_value("VOICE_NUMBER")
        .await
        .unwrap();
    let revision = numbers.create("n1", "CA1".into()).await.unwrap();
    numbers.update("n1", "CA2".into(), revision).await.unwrap();
    assert_eq!(numbers.get("n1").await.unwrap().unwrap(), "CA2");
    let links = router.jetstream.get_key_value("VOICE_LINK").await.unwrap();
    assert_eq!(links.get("n1").await.unwrap(), None);
    router.assert_nothing_denied();

    router
        .denied("$KV.VOICE_LINK.n1", links.put("n1", "s".into()))
        .await;
    let forged = router
        .jetstream
        .publish("voice.in.3.CA1.ringing", "".into());
    router
        .denied("voice.in.3.CA1.ringing", async { forged.await?.await })
        .await;
    let delete = router.jetstream.delete_stream("VOICE_EVENT");
    router
        .denied("$JS.API.STREAM.DELETE.VOICE_EVENT", delete)
        .await;
    let consumers = input.delete_consumer("p3");
    router
        .denied("$JS.API.CONSUMER.DELETE.VOICE_IN.p3", consumers)
        .await;
}

#[tokio::test]
async fn the_egress_takes_commands_and_keeps_intents_but_reads_no_transcript() {
    let bus = Bus::with_streams().await;
    let agent = bus.connect(Agent).await;
    publish(&agent, "voice.cmd.dial.key").await;

    let egress = bus.connect(Egress).await;
    let mut reports = egress
        .client
        .subscribe("voice.event.*.*.command.*")
        .await
        .unwrap();
    let commands = egress.jetstream.get_stream("VOICE_CMD").await.unwrap();
    let consumer: PullConsumer = commands.get_consumer("egress").await.unwrap();
    let delivery = read(&consumer, 1).await.remove(0);
    within("ack", delivery.double_ack()).await.unwrap();
    publish(&egress, "voice.in.3.CA1.command").await;

    let intents = egress
        .jetstream
        .get_key_value("VOICE_INTENT")
        .await
        .unwrap();
    let revision = intents.create("intent.1", "received".into()).await.unwrap();
    intents
        .update("intent.1", "sending".into(), revision)
        .await
        .unwrap();
    assert_eq!(intents.get("intent.1").await.unwrap().unwrap(), "sending");
    let keys = within("keys", intents.keys()).await.unwrap();
    let keys: Vec<_> = within("keys", keys.collect()).await;
    assert_eq!(keys.len(), 1);
    let mut history = within("history", intents.history("intent.1"))
        .await
        .unwrap();
    within("history", history.next()).await.unwrap().unwrap();
    let mut watch = within("watch", intents.watch_with_history(">"))
        .await
        .unwrap();
    within("watch", watch.next()).await.unwrap().unwrap();
    let numbers = egress
        .jetstream
        .get_key_value("VOICE_NUMBER")
        .await
        .unwrap();
    numbers.put("n1", "pending".into()).await.unwrap();
    numbers.delete("n1").await.unwrap();

    let router = bus.connect(Router).await;
    commit(&router, "CA1", "transcript.user", 0).await;
    commit(&router, "CA1", "command.confirmed", 1).await;
    let report = within("report", reports.next()).await.unwrap();
    assert_eq!(
        report.subject.as_str(),
        "voice.event.CA1.s-1.command.confirmed"
    );
    egress.assert_nothing_denied();

    let events = egress.jetstream.get_stream("VOICE_EVENT");
    egress
        .denied("$JS.API.STREAM.INFO.VOICE_EVENT", events)
        .await;
    let transcripts = egress.client.subscribe("voice.event.*.*.transcript.*");
    egress
        .denied("voice.event.*.*.transcript.*", transcripts)
        .await;
}

#[tokio::test]
async fn services_are_asked_by_those_who_may_and_answer_to_each_inbox() {
    let bus = Bus::empty().await;
    let router = bus.connect(Router).await;
    let service = router
        .client
        .service_builder()
        .start("voice-router", "0.1.0")
        .await
        .unwrap();
    let mut calls = service.endpoint("voice.svc.calls.list").await.unwrap();
    let egress = bus.connect(Egress).await;
    let outbound = egress
        .client
        .service_builder()
        .start("voice-egress", "0.1.0")
        .await
        .unwrap();
    let mut dials = outbound.endpoint("voice.svc.dial").await.unwrap();
    let serve = async {
        loop {
            let request = tokio::select! {
                request = calls.next() => request,
                request = dials.next() => request,
            };
            request.unwrap().respond(Ok("[]".into())).await.unwrap();
        }
    };
    let ask = async {
        for user in [Ingress, Agent, Observer, Egress] {
            let asker = bus.connect(user).await;
            let answer = asker.client.request("voice.svc.calls.list", "".into());
            within("answer", answer).await.unwrap();
            if matches!(user, Ingress | Agent) {
                let answer = asker.client.request("voice.svc.dial", "".into());
                within("answer", answer).await.unwrap();
            }
            if matches!(user, Agent | Observer) {
                for question in [
                    "$SRV.PING",
                    "$SRV.INFO.voice-egress",
                    "$SRV.STATS.voice-router",
                ] {
                    let answer = asker.client.request(question, "".into());
                    within("answer", answer).await.unwrap();
                }
            }
            asker.assert_nothing_denied();
        }
    };
    tokio::select! {
        () = serve => {}
        () = ask => {}
    }
    router.assert_nothing_denied();
    egress.assert_nothing_denied();
}

#[tokio::test]
async fn provisioning_makes_and_removes_but_takes_no_part() {
    let bus = Bus::with_streams().await;
    let provision = bus.connect(Provision).await;
    let mut stream = provision.jetstream.get_stream("VOICE_DLQ").await.unwrap();
    let config = stream::Config {
        max_messages: 1000,
        ..stream.info().await.unwrap().config.clone()
    };
    provision.jetstream.update_stream(config).await.unwrap();
    provision
        .jetstream
        .delete_stream("VOICE_DLQ")
        .await
        .unwrap();
    provision.assert_nothing_denied();

    let event = provision.client.subscribe("voice.event.>");
    provision.denied("voice.event.>", event).await;
    let publish = provision.client.publish("voice.cmd.dial.key", "".into());
    provision.denied("voice.cmd.dial.key", publish).await;
}
