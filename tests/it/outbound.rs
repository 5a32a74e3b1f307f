//! Calls that are asked for: placed once, told of, and never placed again.

mod crashes;
mod endurance;
mod faults;
mod lost;
mod numbers;
mod people;
mod records;

use std::net::SocketAddr;
use std::time::Duration;

use async_nats::HeaderMap;
use serde_json::{Value, json};
use voicebus::simulate::emitter::Config;
use voicebus::simulate::{Emitter, Race, Retry, StandIn, StandInConfig};

use crate::harness::{Feed, Heard, Http, Options, Up, free_address, reached, within};

/// A phone-call server that tells what happens to its calls.
pub async fn stand_in(listen: SocketAddr, door: &Http, race: Race) -> StandIn {
    let config = Config {
        target: door.url(),
        token: None,
        retry: Retry::UntilStopped,
        record: None,
    };
    let config = StandInConfig {
        listen,
        seed: u64::from(listen.port()),
        emitter: Some(Emitter::new(config).unwrap()),
        transcripts: 2,
        pace: Duration::from_millis(5),
        race,
        ..StandInConfig::default()
    };
    StandIn::start(config).await.unwrap()
}

/// `up` with the address of a server that is not there yet.
async fn up_without_server() -> (Up, SocketAddr) {
    let voice_server = free_address();
    let options = Options {
        voice_server,
        // One person is called more often here than anybody should be.
        args: vec!["--calls-per-number=1000".to_owned()],
        ..Options::default()
    };
    (Up::start(options).await, voice_server)
}

/// `up` and its server.
async fn up_with_server(race: Race) -> (Up, StandIn) {
    let (up, address) = up_without_server().await;
    let server = stand_in(address, &up.http, race).await;
    (up, server)
}

/// Stores a dial command as an agent does; `message_id` tells it from a repetition by accident.
pub async fn publish(agent: &async_nats::Client, intent: &str, message_id: &str, dial: &Value) {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", message_id);
    let subject = format!("voice.cmd.dial.{intent}");
    let payload = dial.to_string().into();
    let published = async {
        let jetstream = async_nats::jetstream::new(agent.clone());
        let sent = jetstream
            .publish_with_headers(subject, headers, payload)
            .await;
        sent.unwrap().await.unwrap()
    };
    assert!(!within("a command to be stored", published).await.duplicate);
}

/// What was told of a command, in order.
pub fn told(feed: &Feed, intent: &str) -> Vec<String> {
    feed.of(intent).iter().map(Heard::what).collect()
}

/// Waits for the other end of a call to be over, and gives its id.
async fn other_leg(feed: &Feed, call: &str) -> String {
    reached(&format!("the other end of {call}"), async || {
        let of_other = |event: &&Heard| {
            event.what() == "state.ended" && event.json["data"]["call"]["other_leg"] == call
        };
        let found = feed
            .all()
            .iter()
            .find(of_other)
            .map(|event| event.log().to_owned());
        found.ok_or_else(|| {
            let all = feed.all();
            let told = all
                .iter()
                .map(|event| format!("{} {}", event.log(), event.what()));
            told.collect::<Vec<_>>().join(", ")
        })
    })
    .await
}

async fn placed_three_ways(race: Race) {
    let (up, server) = up_with_server(race).await;
    let feed = up.observer.feed().await;
    let agent = up.connect("agent").await;

    let body = json!({
        "to": "+12015550123", "openclaw_session_id": "asked-by-http", "message": "Hello",
    });
    let answer = up.http.post("/openclaw/call", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let by_http = answer.json();
    assert_eq!(by_http["status"], "initiated");
    assert_eq!(by_http["openclaw_session_id"], "asked-by-http");

    let dial = json!({ "to": "+12015550124", "session": "asked-by-nats", "intent": "wish-nats" });
    let answer = agent.request("voice.svc.dial", dial.to_string().into());
    let answer = within("an answer over NATS", answer).await.unwrap();
    let by_nats: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(
        (&by_nats["status"], &by_nats["id"]),
        (&json!("confirmed"), &json!("wish-nats"))
    );

    let dial = json!({ "to": "+12015550125", "session": "asked-by-stream" });
    publish(&agent, "wish-stream", "1", &dial).await;
    let by_stream = feed.hears("wish-stream", "command.confirmed").await.json;

    let text = |value: &Value| value.as_str().unwrap().to_owned();
    for (way, intent, call) in [
        (
            "http",
            text(&by_http["intent_id"]),
            text(&by_http["call_id"]),
        ),
        (
            "nats",
            "wish-nats".to_owned(),
            text(&by_nats["command"]["call"]),
        ),
        (
            "stream",
            "wish-stream".to_owned(),
            text(&by_stream["data"]["command"]["call"]),
        ),
    ] {
        let dials = server.calls();
        let dials: Vec<_> = dials
            .iter()
            .filter(|dial| dial.intent_id.as_ref() == Some(&intent))
            .collect();
        assert_eq!(dials.len(), 1, "{way}: {dials:?}");
        assert_eq!(dials[0].call_id.as_ref(), Some(&call));
        feed.hears(&intent, "command.confirmed").await;
        assert_eq!(
            told(&feed, &intent),
            ["command.accepted", "command.confirmed"],
            "{way}"
        );

        let leg = other_leg(&feed, &call).await;
        assert!(
            call.starts_with("CA") && leg.starts_with("rtc_"),
            "{call} {leg}"
        );
        up.settled().await;
        feed.catches_up(&up.observer).await;
        let session = format!("agent:main:asked-by-{way}");
        for id in [&call, &leg] {
            let of = feed.of(id);
            let last = of.last().unwrap();
            assert_eq!(last.session(), session, "{way}: {id} {:#?}", last.json);
        }
        let spoken = feed
            .of(&leg)
            .iter()
            .filter(|event| event.token(4) == "transcript")
            .count();
        assert_eq!(spoken, 2, "{way}");
    }
    assert_eq!(server.calls().len(), 3);
    assert_eq!(up.observer.messages("VOICE_DLQ").await, 0);
    server.stop().await;
    up.stop().await;
}

#[tokio::test]
async fn a_call_is_placed_three_ways_when_the_answer_comes_before_the_event() {
    placed_three_ways(Race::AnswerFirst).await;
}

#[tokio::test]
async fn a_call_is_placed_three_ways_when_the_event_comes_before_the_answer() {
    placed_three_ways(Race::EventFirst).await;
}

#[tokio::test]
async fn a_refusal_comes_back_with_the_servers_reason() {
    let (up, server) = up_with_server(Race::Seeded).await;
    let feed = up.observer.feed().await;
    for (message, status, reason) in [
        ("error:21211", 502, "is not a valid phone number"),
        ("error:20429", 429, "Too Many Requests"),
    ] {
        let body = json!({
            "to": "+12015550123", "openclaw_session_id": "s", "message": message,
        });
        let answer = up.http.post("/openclaw/call", &body).await;
        assert_eq!(
            (answer.status, &*answer.refusal()),
            (status, "refused"),
            "{}",
            answer.text()
        );
        assert!(answer.text().contains(reason), "{}", answer.text());
        let intent = server.calls().last().unwrap().intent_id.clone().unwrap();
        let refused = feed.hears(&intent, "command.refused").await;
        let told = refused.json["data"]["command"]["reason"].as_str().unwrap();
        assert!(told.contains(reason), "{told}");
    }
    assert!(server.calls().iter().all(|dial| dial.call_id.is_none()));
    server.stop().await;
    up.stop().await;
}

#[tokio::test]
async fn a_wish_waits_for_a_server_that_comes_up_before_the_deadline() {
    let (up, address) = up_without_server().await;
    let feed = up.observer.feed().await;
    let agent = up.connect("agent").await;
    let deadline = (chrono::Utc::now() + chrono::TimeDelta::minutes(1)).to_rfc3339();
    let dial = json!({ "to": "+12015550123", "session": "s", "deadline": deadline });
    publish(&agent, "wish", "1", &dial).await;
    feed.hears("wish", "command.accepted").await;
    reached("a first try in vain", async || {
        let consumers = up.observer.consumers("VOICE_CMD").await;
        let consumer = consumers
            .iter()
            .find(|one| one["name"] == "egress")
            .unwrap();
        match consumer["num_redelivered"].as_u64() {
            Some(1) => Ok(()),
            other => Err(format!("{other:?} delivered again")),
        }
    })
    .await;
    let server = stand_in(address, &up.http, Race::Seeded).await;
    feed.hears("wish", "command.confirmed").await;
    assert_eq!(server.calls().len(), 1);
    server.stop().await;
    up.stop().await;
}

#[tokio::test]
async fn a_wish_whose_deadline_has_passed_is_not_placed() {
    let (up, address) = up_without_server().await;
    let feed = up.observer.feed().await;
    let agent = up.connect("agent").await;
    // One that is too late when it is read, and one that becomes so while the server is away.
    for (intent, left) in [("late", -1), ("in-time", 2)] {
        let deadline = (chrono::Utc::now() + chrono::TimeDelta::seconds(left)).to_rfc3339();
        let dial = json!({ "to": "+12015550123", "session": "s", "deadline": deadline });
        publish(&agent, intent, intent, &dial).await;
    }
    feed.hears("late", "command.expired").await;
    feed.hears("in-time", "command.expired").await;
    let server = stand_in(address, &up.http, Race::Seeded).await;
    up.observer.worked_off("VOICE_CMD").await;
    // A later wish is placed, so the earlier ones would have been.
    publish(
        &agent,
        "next",
        "next",
        &json!({ "to": "+12015550123", "session": "s" }),
    )
    .await;
    feed.hears("next", "command.confirmed").await;
    let dialled: Vec<_> = server
        .calls()
        .iter()
        .map(|dial| dial.intent_id.clone())
        .collect();
    assert_eq!(dialled, [Some("next".to_owned())]);
    assert_eq!(told(&feed, "late"), ["command.expired"]);
    // Whether it was taken up before its deadline depends on how busy the machine is.
    let in_time = told(&feed, "in-time");
    let ways = [
        vec!["command.accepted", "command.expired"],
        vec!["command.expired"],
    ];
    assert!(ways.iter().any(|way| in_time == *way), "{in_time:?}");
    server.stop().await;
    up.stop().await;
}

/// A command that nobody knows must not lie in the stream as if somebody were at it.
#[tokio::test]
async fn a_command_that_nobody_knows_goes_to_the_dead_letters() {
    let (up, _address) = up_without_server().await;
    let agent = async_nats::jetstream::new(up.connect("agent").await);
    for (count, subject) in [
        "voice.cmd.paint.CA1",
        "voice.cmd.dial",
        "voice.cmd.dial.a.b",
    ]
    .into_iter()
    .enumerate()
    {
        let sent = agent.publish(subject, "{}".into()).await.unwrap();
        within("a command to be stored", sent.into_future())
            .await
            .unwrap();
        reached(&format!("a dead letter of {subject}"), async || {
            let found = up.observer.messages("VOICE_DLQ").await;
            if usize::try_from(found).unwrap() == count + 1 {
                Ok(())
            } else {
                Err(format!("{found} letters"))
            }
        })
        .await;
    }
    up.stop().await;
}
