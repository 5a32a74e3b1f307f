//! Inputs that nobody can use, published past the ingress.

use serde_json::json;
use voicebus::bus::Bus;
use voicebus::bus::server::User;
use voicebus::bus::trouble::TRIES_MAX;
use voicebus::domain::call::Log;
use voicebus::domain::event::{Change, Event};
use voicebus::domain::ids::EventId;
use voicebus::domain::phone::E164;

use super::{Stage, TRACE, input, ringing, said, started};
use crate::harness::reached;

#[tokio::test]
async fn garbage_is_kept_once_told_once_and_holds_up_nobody() {
    let stage = Stage::set().await;
    let _router = stage.router().await;
    let other = stage.neighbour("CAbad");
    let good = stage.subject("CAbad", "ringing");
    let newer = r#"{"version":2,"id":"e","source":"s","call":"CAbad","received_at":"2026-11-22T12:00:00Z","says":{"type":"ringing"}}"#;
    let unknown = r#"{"version":1,"id":"e","source":"s","call":"CAbad","received_at":"2026-11-22T12:00:00Z","says":{"type":"levitated"}}"#;
    let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("undecodable", b"not json".to_vec()),
        ("undecodable", Vec::new()),
        ("undecodable", vec![0xff; 1000]),
        ("undecodable", newer.into()),
        ("undecodable", unknown.into()),
        ("undecodable", deep.into()),
        ("undecodable", input("CA bad", "ev_1", ringing())),
        ("undecodable", vec![b'x'; 900_000]),
        ("misrouted", input(&other, "ev_2", ringing())),
        (
            "misrouted",
            input("CAbad", "ev_3", json!({ "type": "cancelled" })),
        ),
    ];
    let count = bodies.len();
    let reasons: Vec<&str> = bodies.iter().map(|(reason, _)| *reason).collect();
    let mut sequences = Vec::new();
    for (_, body) in bodies {
        sequences.push(stage.publish(&good, body).await);
    }
    stage.input(&other, "ev_other", ringing()).await;
    stage.told(&other, "state.ringing", 1).await;

    let letters = stage.parked(count).await;
    assert_eq!(letters.len(), count);
    let found: Vec<&str> = letters
        .iter()
        .map(|letter| letter.reason.as_str())
        .collect();
    assert_eq!(found, reasons);
    let events = stage.events("CAbad").await;
    assert_eq!(events.len(), count);
    for ((event, letter), sequence) in events.iter().zip(&letters).zip(sequences) {
        assert_eq!(event["data"]["error"]["letter"], letter.id, "{event}");
        assert_eq!(event["data"]["error"]["code"], letter.reason);
        assert_eq!(letter.header("Voicebus-Call"), Some("CAbad"));
        assert_eq!(letter.header("Voicebus-Role"), Some("router"));
        assert_eq!(letter.header("Voicebus-Stream"), Some("VOICE_IN"));
        assert_eq!(letter.number("Voicebus-Stream-Sequence"), Some(sequence));
        assert_eq!(letter.number("Voicebus-Attempts"), Some(1));
        assert_eq!(letter.subject(), Some(good.as_str()));
    }
    assert_eq!(stage.story(&other).await, ["state.ringing"]);
    assert_eq!(letters[0].body, "not json");
    assert_eq!(letters[7].body.len(), 900_000);
    // The last two could be read, and so could their traces.
    assert_eq!(letters[9].header("traceparent"), Some(TRACE));
    assert_eq!(events[9]["traceparent"], TRACE);
    // The call itself goes on.
    stage.input("CAbad", "ev_4", ringing()).await;
    stage.told("CAbad", "state.ringing", 1).await;
}

#[tokio::test]
async fn headers_of_garbage_are_kept_and_a_flood_of_them_is_no_obstacle() {
    let stage = Stage::set().await;
    let _router = stage.router().await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", "ev_mine");
    headers.insert("X-Trouble", "tab\there");
    for n in 0..5_000 {
        headers.insert(format!("h{n}"), "");
    }
    let jetstream = stage.ingress.connection().jetstream();
    let subject = stage.subject("CA1", "ringing");
    let sent = jetstream.publish_with_headers(subject, headers, "x".into());
    sent.await.unwrap().await.unwrap();
    let letters = stage.parked(1).await;
    let letter = &letters[0];
    assert_eq!(
        letter.header("Voicebus-Original-Nats-Msg-Id"),
        Some("ev_mine")
    );
    assert_eq!(
        letter.header("Voicebus-Original-X-Trouble"),
        Some("tab here")
    );
    assert_eq!(letter.header("Voicebus-Headers-Cut"), Some("true"));
    stage.told("CA1", "error.occurred", 1).await;
}

/// The server takes anything for headers, and the client loses its connection over some. A status
/// would be a word from the server, were it not cut out.
#[tokio::test]
async fn headers_that_are_none_hold_up_a_partition_for_a_moment_only() {
    let stage = Stage::set().await;
    let _routers = (stage.router().await, stage.router().await);
    let subject = stage.subject("CA1", "ringing");
    for (number, headers) in [
        &b"NATS/1.0\r\nb\xff\xfed: x\r\n\r\n"[..],
        b"NATS/1.0 100 Idle Heartbeat\r\n\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let mut line = format!("HPUB {subject} {} {}\r\n", headers.len(), headers.len() + 4);
        let mut bytes = std::mem::take(&mut line).into_bytes();
        bytes.extend_from_slice(headers);
        bytes.extend_from_slice(b"body\r\n");
        stage.server.raw(User::Ingress, &bytes).await;
        let after = stage.neighbour("CA1");
        stage
            .input(&after, &format!("ev_{number}"), said(&number.to_string()))
            .await;
        stage.told(&after, "transcript.user", number + 1).await;
    }
    let letters = stage.parked(2).await;
    let found: Vec<&str> = letters
        .iter()
        .map(|letter| letter.reason.as_str())
        .collect();
    assert_eq!(found, ["bad-headers", "undecodable"]);
    assert!(letters.iter().all(|letter| letter.body == "body"));
    stage.told("CA1", "error.occurred", 2).await;
    assert_eq!(
        stage.story("CA1").await,
        ["error.occurred", "error.occurred"]
    );
}

#[tokio::test]
async fn a_subject_without_a_call_has_a_letter_and_no_event() {
    let stage = Stage::set().await;
    let _router = stage.router().await;
    for subject in [
        "voice.in.3.CA1",
        "voice.in.3.CA1.ringing.more",
        "voice.in.3.CA!1.ringing",
    ] {
        stage
            .publish(subject, input("CA1", "ev_1", ringing()))
            .await;
    }
    let letters = stage.parked(3).await;
    assert!(letters.iter().all(|letter| letter.reason == "misrouted"));
    assert!(stage.events("CA1").await.is_empty());
}

/// The log of a call says how far its inputs are done. One that came through another partition,
/// and so before its turn, must not move that place.
#[tokio::test]
async fn an_input_in_a_foreign_partition_does_not_overtake_those_that_wait_in_their_own() {
    let stage = Stage::set().await;
    let partition = stage.partition("CA1");
    let _router = stage.router().await;
    stage.input("CA1", "ev_0", ringing()).await;
    stage.told("CA1", "state.ringing", 1).await;

    stage.hold(partition, true).await;
    stage.input("CA1", "ev_1", said("before")).await;
    let foreign = format!("voice.in.{}.CA1.ringing", (partition + 1) % 32);
    stage.publish(&foreign, "garbage").await;
    stage
        .publish(&foreign, input("CA1", "ev_2", said("astray")))
        .await;
    stage.told("CA1", "error.occurred", 2).await;
    stage.hold(partition, false).await;
    let event = stage.told("CA1", "transcript.user", 1).await;
    assert_eq!(event["data"]["transcript"]["text"], "before");
    assert_eq!(
        stage.story("CA1").await,
        [
            "state.ringing",
            "error.occurred",
            "error.occurred",
            "transcript.user"
        ]
    );
}

#[tokio::test]
async fn a_router_killed_between_letter_and_event_leaves_one_of_each() {
    let stage = Stage::set().await;
    let first = stage.process(User::Router, &[]);
    stage.input("CAfirst", "ev_1", ringing()).await;
    stage.told("CAfirst", "state.ringing", 1).await;
    // Nothing can be committed: the router has the letter stored, and waits.
    stage
        .change("VOICE_EVENT", |config| config.max_messages = 1)
        .await;
    stage
        .publish(&stage.subject("CA1", "ringing"), "garbage")
        .await;
    let letter = stage.parked(1).await.remove(0);
    let mut first = first;
    first.kill().await.unwrap();
    assert!(stage.events("CA1").await.is_empty());

    stage
        .change("VOICE_EVENT", |config| config.max_messages = -1)
        .await;
    let _second = stage.process(User::Router, &[]);
    let event = stage.told("CA1", "error.occurred", 1).await;
    assert_eq!(event["data"]["error"]["letter"], letter.id);
    stage.input("CA1", "ev_2", ringing()).await;
    stage.told("CA1", "state.ringing", 1).await;
    assert_eq!(
        stage.story("CA1").await,
        ["error.occurred", "state.ringing"]
    );
    assert_eq!(stage.letters().await.len(), 1);
}

/// A full stream is everybody's trouble: nothing is parked for it.
#[tokio::test]
async fn inputs_wait_for_a_full_stream_and_are_not_given_up() {
    let stage = Stage::set().await;
    let _router = stage.router().await;
    stage.input("CAfirst", "ev_1", ringing()).await;
    stage.told("CAfirst", "state.ringing", 1).await;
    stage
        .change("VOICE_EVENT", |config| config.max_messages = 1)
        .await;
    stage.input("CA1", "ev_1", ringing()).await;
    // More often than trouble of one's own is tried.
    let partition = stage.partition("CA1");
    reached("many tries", async || {
        let subject = format!("CONSUMER.INFO.VOICE_IN.p{partition}");
        let consumer = stage.api(subject, json!({})).await;
        let deliveries = consumer["delivered"]["consumer_seq"].as_u64().unwrap();
        if deliveries > 2 * u64::from(TRIES_MAX) {
            Ok(())
        } else {
            Err(format!("{deliveries} deliveries"))
        }
    })
    .await;
    assert!(stage.letters().await.is_empty());
    stage
        .change("VOICE_EVENT", |config| config.max_messages = -1)
        .await;
    stage.told("CA1", "state.ringing", 1).await;
    assert!(stage.letters().await.is_empty());
}

/// A worker keeps logs in memory, and other workers write to them.
#[tokio::test]
async fn nothing_is_rejected_on_the_word_of_a_memory_that_is_behind() {
    let stage = Stage::set().await;
    let _router = stage.router().await;
    stage.input("CA1", "ev_1", started("+12015550142")).await;
    stage.told("CA1", "state.initiated", 1).await;

    // Another router has learned that the number is another one.
    let other = Bus::open(stage.connect(User::Router).await).await.unwrap();
    let loaded = other.load_from_leader("CA1").await.unwrap();
    let Some(Log::Call(mut call)) = loaded.log else {
        panic!("no call");
    };
    call.number = Some(E164::parse("+12015550199").unwrap());
    let id = EventId::parse("ev_other").unwrap();
    call.progress = call.progress.next(&id, call.progress.position);
    let event = Event {
        id,
        time: call.initiated_at.unwrap(),
        change: Change::Ringing,
        log: Log::Call(call),
    };
    other.commit(&event, None, loaded.last).await.unwrap();

    // By what the first router remembers, this contradicts the beginning.
    stage.input("CA1", "ev_2", started("+12015550199")).await;
    stage.input("CA1", "ev_3", said("after")).await;
    stage.told("CA1", "transcript.user", 1).await;
    assert!(stage.letters().await.is_empty());
}
