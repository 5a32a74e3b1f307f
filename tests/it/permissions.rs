//! `nats/accounts.conf`: what each role may do, and that it may do nothing else.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull, push};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream;
use async_nats::service::ServiceExt;
use futures_util::StreamExt;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use voicebus::bus::server::User;
use voicebus::bus::server::User::{Agent, Egress, Ingress, Observer, Provision, Router};

use crate::harness::{Bus, Role, within};

/// Who may publish where. Everybody else must be refused.
#[rustfmt::skip]
const PUBLISH: &[(&str, &[User])] = &[
    // Accepted events, and the two kinds that are not the ingress's to make
    ("voice.in.3.CA1.ringing", &[Ingress]),
    ("voice.in.3.CA1.timer", &[]),
    ("voice.in.3.CA1.command", &[Egress]),
    ("voice.timer.CA1.stale", &[Router]),
    // The public feed
    ("voicebus.commit.CA1.s-1.state.ended", &[Router]),
    ("voice.event.CA1.s-1.state.ended", &[]),
    // Commands and requests
    ("voice.cmd.dial.key", &[Ingress, Egress, Agent]),
    ("voice.svc.calls.list", &[Ingress, Egress, Agent, Observer]),
    ("voice.svc.sessions.list", &[Ingress, Agent, Observer]),
    ("voice.svc.commands.status", &[Ingress, Egress, Agent]),
    ("voice.svc.dial", &[Ingress, Agent]),
    ("voice.svc.hangup", &[Ingress, Agent]),
    ("voice.svc.egress.status", &[Ingress, Agent]),
    // Each tells only about itself
    ("voice.dlq.ingress.malformed", &[Ingress]),
    ("voice.dlq.router.poison", &[Router]),
    ("voice.dlq.egress.poison", &[Egress]),
    ("voice.health.ingress", &[Ingress]),
    ("voice.health.router", &[Router]),
    ("voice.health.egress", &[Egress]),
    ("voice.health.voice-server", &[Egress]),
    ("voice.audio.CA1.s-1", &[Ingress]),
    ("voice.anything.else", &[]),
    ("other.business", &[]),
    // Answers to others, and questions to services
    ("_INBOX_router.x", &[]),
    ("_INBOX.x", &[]),
    ("$SRV.PING", &[Agent, Observer]),
    ("$SRV.INFO.router", &[Agent, Observer]),
    ("$SRV.STATS.router.1", &[Agent, Observer]),
    ("$SRV.OTHER", &[]),
    // Looking around
    ("$JS.API.INFO", &[Provision, Agent, Observer]),
    ("$JS.API.STREAM.NAMES", &[Provision, Agent, Observer]),
    ("$JS.API.STREAM.LIST", &[Provision, Agent, Observer]),
    ("$JS.API.STREAM.INFO.VOICE_IN", &[Ingress, Router, Egress, Provision, Agent, Observer]),
    ("$JS.API.STREAM.INFO.VOICE_CMD", &[Ingress, Egress, Provision, Agent, Observer]),
    ("$JS.API.STREAM.INFO.VOICE_EVENT", &[Router, Provision, Agent, Observer]),
    ("$JS.API.CONSUMER.NAMES.VOICE_IN", &[Provision, Agent, Observer]),
    ("$JS.API.CONSUMER.LIST.VOICE_IN", &[Provision, Agent, Observer]),
    ("$JS.API.CONSUMER.INFO.VOICE_IN.p3", &[Router, Provision, Agent, Observer]),
    ("$JS.API.CONSUMER.INFO.VOICE_CMD.egress", &[Egress, Provision, Agent, Observer]),
    // Working off accepted events and commands
    ("$JS.API.CONSUMER.MSG.NEXT.VOICE_IN.p3", &[Router, Provision]),
    ("$JS.API.CONSUMER.MSG.NEXT.VOICE_CMD.egress", &[Egress, Provision]),
    ("$JS.ACK.VOICE_IN.p3.1.1.1.1.0", &[Router]),
    ("$JS.ACK.VOICE_CMD.egress.1.1.1.1.0", &[Egress]),
    // Reading the contents of streams
    ("$JS.API.DIRECT.GET.VOICE_EVENT", &[Router, Provision, Agent, Observer]),
    ("$JS.API.DIRECT.GET.VOICE_EVENT.voice.event.CA1.>", &[Router, Provision, Agent, Observer]),
    ("$JS.API.STREAM.MSG.GET.VOICE_EVENT", &[Router, Provision, Agent, Observer]),
    ("$JS.API.CONSUMER.CREATE.VOICE_EVENT", &[Provision, Agent, Observer]),
    ("$JS.API.CONSUMER.CREATE.VOICE_EVENT.name", &[Provision, Agent, Observer]),
    ("$JS.API.CONSUMER.CREATE.VOICE_EVENT.n.voice.event.CA1.>", &[Router, Provision, Agent, Observer]),
    ("$JS.API.CONSUMER.MSG.NEXT.VOICE_EVENT.name", &[Router, Provision, Agent, Observer]),
    ("$JS.ACK.VOICE_EVENT.n.1.1.1.1.0", &[Agent, Observer]),
    ("$JS.FC.VOICE_EVENT.n.x", &[Router, Agent, Observer]),
    ("$JS.API.DIRECT.GET.VOICE_DLQ", &[Provision, Agent, Observer]),
    ("$JS.API.STREAM.MSG.GET.VOICE_DLQ", &[Provision, Agent, Observer]),
    ("$JS.API.CONSUMER.CREATE.VOICE_DLQ", &[Provision, Agent, Observer]),
    ("$JS.API.CONSUMER.CREATE.VOICE_DLQ.n.voice.dlq.>", &[Provision, Agent, Observer]),
    ("$JS.API.DIRECT.GET.VOICE_IN", &[Provision]),
    ("$JS.API.DIRECT.GET.VOICE_IN.voice.in.3.>", &[Provision]),
    ("$JS.API.STREAM.MSG.GET.VOICE_IN", &[Provision]),
    ("$JS.API.CONSUMER.CREATE.VOICE_IN", &[Provision]),
    ("$JS.API.CONSUMER.CREATE.VOICE_IN.n.voice.in.>", &[Provision]),
    ("$JS.API.DIRECT.GET.VOICE_CMD", &[Provision]),
    ("$JS.API.STREAM.MSG.GET.VOICE_CMD", &[Provision]),
    ("$JS.API.CONSUMER.CREATE.VOICE_CMD", &[Provision]),
    ("$JS.API.CONSUMER.CREATE.VOICE_CMD.n.voice.cmd.>", &[Provision]),
    // Changing what provisioning made. (Asked without a body, so that nothing happens.)
    ("$JS.API.STREAM.CREATE.MINE", &[Provision]),
    ("$JS.API.STREAM.UPDATE.VOICE_EVENT", &[Provision]),
    ("$JS.API.STREAM.MSG.DELETE.VOICE_EVENT", &[Provision]),
    ("$JS.API.STREAM.DELETE.NONE", &[Provision]),
    ("$JS.API.STREAM.PURGE.NONE", &[Provision]),
    ("$JS.API.STREAM.SNAPSHOT.VOICE_IN", &[Provision]),
    ("$JS.API.STREAM.RESTORE.MINE", &[Provision]),
    ("$JS.API.CONSUMER.DURABLE.CREATE.VOICE_EVENT.mine", &[Provision]),
    ("$JS.API.CONSUMER.DURABLE.CREATE.VOICE_IN.p3", &[Provision]),
    ("$JS.API.CONSUMER.CREATE.VOICE_IN.p3", &[Provision]),
    ("$JS.API.CONSUMER.DELETE.VOICE_IN.none", &[Provision]),
    ("$JS.API.CONSUMER.DELETE.VOICE_EVENT.none", &[Router, Provision, Agent]),
    ("$JS.API.CONSUMER.PAUSE.VOICE_IN.p3", &[Provision]),
    ("$JS.API.CONSUMER.RESET.VOICE_IN.p3", &[Provision]),
    ("$JS.API.CONSUMER.UNPIN.VOICE_IN.p3", &[Provision]),
    // Buckets
    ("$KV.VOICE_NUMBER.k", &[Router, Egress]),
    ("$KV.VOICE_INTENT.k", &[Egress]),
    ("$KV.VOICE_LINK.k", &[]),
    ("$JS.API.DIRECT.GET.KV_VOICE_NUMBER.$KV.VOICE_NUMBER.k", &[Router, Egress, Provision]),
    ("$JS.API.DIRECT.GET.KV_VOICE_LINK.$KV.VOICE_LINK.k", &[Router, Provision]),
    ("$JS.API.DIRECT.GET.KV_VOICE_INTENT.$KV.VOICE_INTENT.k", &[Egress, Provision]),
    ("$JS.API.STREAM.MSG.GET.KV_VOICE_INTENT", &[Egress, Provision]),
    ("$JS.API.CONSUMER.CREATE.KV_VOICE_INTENT.n.$KV.VOICE_INTENT.>", &[Egress, Provision]),
    ("$JS.API.CONSUMER.CREATE.KV_VOICE_LINK.n.$KV.VOICE_LINK.>", &[Provision]),
    // The server's own subjects
    ("$SYS.REQ.SERVER.PING", &[]),
    ("$SYS.ACCOUNT.VOICE.DISCONNECT", &[]),
];

/// Who may subscribe where. Everybody else must be refused.
#[rustfmt::skip]
const SUBSCRIBE: &[(&str, &[User])] = &[
    (">", &[]),
    ("*.>", &[]),
    ("voice.>", &[]),
    ("voice.in.>", &[]),
    ("voice.in.*.*.*", &[]),
    ("voice.timer.>", &[]),
    ("voicebus.commit.>", &[]),
    ("voice.cmd.>", &[]),
    ("voice.dlq.>", &[]),
    ("voice.event.>", &[Agent, Observer]),
    ("voice.event.CA1.>", &[Agent, Observer]),
    ("voice.event.*.*.transcript.user", &[Agent, Observer]),
    ("voice.event.*.*.command.*", &[Ingress, Egress, Agent, Observer]),
    ("voice.event.*.*.command.confirmed", &[Ingress, Egress, Agent, Observer]),
    ("voice.event.*.*.*.*", &[Agent, Observer]),
    ("voice.health.>", &[Ingress, Agent, Observer]),
    ("voice.audio.>", &[Agent, Observer]),
    ("voice.svc.>", &[]),
    ("voice.svc.calls.list", &[Router]),
    ("voice.svc.sessions.get", &[Router]),
    ("voice.svc.commands.status", &[Router]),
    ("voice.svc.dial", &[Egress]),
    ("voice.svc.hangup", &[Egress]),
    ("voice.svc.egress.status", &[Egress]),
    ("$SRV.PING", &[Router, Egress]),
    ("_INBOX.>", &[Observer]),
    ("_INBOX_ingress.>", &[Ingress]),
    ("_INBOX_router.>", &[Router]),
    ("_INBOX_egress.>", &[Egress]),
    ("_INBOX_provision.>", &[Provision]),
    ("_INBOX_agent.>", &[Agent]),
    ("$KV.VOICE_INTENT.>", &[]),
    ("$JS.>", &[]),
    ("$JS.EVENT.ADVISORY.>", &[]),
    ("$SYS.>", &[]),
];

#[tokio::test]
async fn each_role_publishes_where_it_may_and_nowhere_else() {
    let bus = Bus::with_streams().await;
    let mut wrong = Vec::new();
    for user in User::ALL {
        let mut wire = Wire::connect(&bus, user).await;
        for (subject, allowed) in PUBLISH {
            let denials = wire.ask(&format!("PUB {subject} 0\r\n\r\n")).await;
            compare(&mut wrong, "publish", user, subject, allowed, &denials);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn each_role_subscribes_where_it_may_and_nowhere_else() {
    let bus = Bus::empty().await;
    let mut wrong = Vec::new();
    for user in User::ALL {
        let mut wire = Wire::connect(&bus, user).await;
        for (subject, allowed) in SUBSCRIBE {
            let denials = wire.ask(&format!("SUB {subject} 1\r\n")).await;
            compare(&mut wrong, "subscribe", user, subject, allowed, &denials);
            let queued = wire.ask(&format!("SUB {subject} some.queue 2\r\n")).await;
            compare(&mut wrong, "share", user, subject, allowed, &queued);
            wire.ask("UNSUB 1\r\nUNSUB 2\r\n").await;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn compare(
    wrong: &mut Vec<String>,
    verb: &str,
    user: User,
    subject: &str,
    allowed: &[User],
    denials: &[String],
) {
    let may = allowed.contains(&user);
    let was_denied = denials
        .iter()
        .any(|denial| denial.contains("Permissions Violation"));
    if may == was_denied {
        let should = if may { "must" } else { "must not" };
        wrong.push(format!("{} {should} {verb} `{subject}`", user.name()));
    }
}

#[tokio::test]
async fn nobody_gets_in_without_the_right_password() {
    let bus = Bus::empty().await;
    let refused = async |options: async_nats::ConnectOptions| {
        let outcome = within("refusal", options.connect(bus.server.url())).await;
        let error = outcome.expect_err("let in");
        assert!(
            matches!(
                error.kind(),
                async_nats::ConnectErrorKind::AuthorizationViolation
            ),
            "{error}"
        );
    };
    refused(async_nats::ConnectOptions::new()).await;
    for user in User::ALL {
        let other = User::ALL.into_iter().find(|other| *other != user).unwrap();
        let others = bus.server.credentials().password(other).reveal();
        for password in ["", "wrong", others] {
            let name = user.name().to_owned();
            refused(async_nats::ConnectOptions::with_user_and_password(
                name,
                password.to_owned(),
            ))
            .await;
        }
    }
}

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
    assert_eq!(names.len(), 7);
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
    for user in [Observer, Agent] {
        let reader = bus.connect(user).await;
        let events = reader.jetstream.get_stream("VOICE_EVENT").await.unwrap();
        let config = pull::Config {
            name: Some("aside".to_owned()),
            ..Default::default()
        };
        events.create_consumer(config).await.unwrap();
        let mut targets = vec!["voice.commit.CA2.s-1.state.ended", "voice.in.3.CA1.command"];
        if user == Observer {
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

/// What the server has taken in force before it answers a question, subscriptions too.
async fn in_force(role: &Role) {
    let question = role.client.request("$JS.API.INFO", "".into());
    within("answer", question).await.unwrap();
}

async fn publish(role: &Role, subject: &str) {
    let sent = role.jetstream.publish(subject.to_owned(), "{}".into());
    within("publish", sent.await.unwrap().into_future())
        .await
        .unwrap();
}

/// The next event of a call, as the router commits it.
async fn commit(router: &Role, call: &str, what: &str, last: u64) {
    let filter = format!("voice.event.{call}.>");
    let event = PublishMessage::build()
        .payload("{}".into())
        .expected_last_subject_sequence(last)
        .header(
            "Nats-Expected-Last-Subject-Sequence-Subject",
            filter.as_str(),
        );
    let subject = format!("voicebus.commit.{call}.s-1.{what}");
    let sent = router.jetstream.send_publish(subject, event).await.unwrap();
    within("commit", sent.into_future()).await.unwrap();
}

async fn read(consumer: &PullConsumer, count: usize) -> Vec<async_nats::jetstream::Message> {
    let messages = within("batch", consumer.batch().max_messages(count).messages())
        .await
        .unwrap();
    let messages: Vec<_> = within("messages", messages.take(count).collect()).await;
    let messages: Vec<_> = messages.into_iter().map(Result::unwrap).collect();
    assert_eq!(messages.len(), count);
    messages
}

/// The bare protocol: unlike a client library, it tells for each line whether it was
/// denied, since the server answers PING after everything before it.
struct Wire {
    stream: BufReader<TcpStream>,
}

impl Wire {
    async fn connect(bus: &Bus, user: User) -> Self {
        let address = bus.server.url().strip_prefix("nats://").unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let mut wire = Self {
            stream: BufReader::new(stream),
        };
        let password = bus.server.credentials().password(user).reveal();
        let denials = wire
            .ask(&format!(
                "CONNECT {{\"verbose\":false,\"user\":\"{}\",\"pass\":\"{password}\"}}\r\n",
                user.name()
            ))
            .await;
        assert!(denials.is_empty(), "{denials:?}");
        wire
    }

    /// Sends lines, and returns what the server had against them.
    async fn ask(&mut self, lines: &str) -> Vec<String> {
        let lines = format!("{lines}PING\r\n");
        self.stream.write_all(lines.as_bytes()).await.unwrap();
        let mut denials = Vec::new();
        loop {
            let mut line = String::new();
            let read = within("PONG", self.stream.read_line(&mut line))
                .await
                .unwrap();
            assert!(read > 0, "closed after {denials:?}");
            match line.trim_end() {
                "PONG" => return denials,
                error if error.starts_with("-ERR") => denials.push(error.to_owned()),
                _ => {}
            }
        }
    }
}
