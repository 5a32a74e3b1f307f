//! What is asked for wrongly, too often, or at a bad time.

use serde_json::{Value, json};
use voicebus::simulate::{Fault, Race, Route};

use super::{publish, stand_in, told, up_with_server, up_without_server};
use crate::harness::reached;

#[tokio::test]
async fn a_wish_published_a_hundred_times_is_one_call_and_another_under_its_name_is_none() {
    let (up, server) = up_with_server(Race::Seeded).await;
    let feed = up.observer.feed().await;
    let agent = up.connect("agent").await;
    let dial = json!({ "to": "+12015550123", "session": "s" });
    for number in 0..100 {
        publish(&agent, "wish", &format!("copy {number}"), &dial).await;
    }
    feed.hears("wish", "command.confirmed").await;
    let other = json!({ "to": "+12015550124", "session": "s" });
    publish(&agent, "wish", "another", &other).await;
    up.observer.worked_off("VOICE_CMD").await;
    up.settled().await;
    feed.catches_up(&up.observer).await;
    assert_eq!(server.calls().len(), 1);
    assert_eq!(
        told(&feed, "wish"),
        ["command.accepted", "command.confirmed"]
    );
    assert_eq!(up.observer.messages("VOICE_DLQ").await, 1);

    // At a door it is refused, and stored nowhere.
    let stored = up.observer.messages("VOICE_CMD").await;
    let request = json!({ "to": "+12015550124", "session": "s", "intent": "wish" });
    let answer = agent.request("voice.svc.dial", request.to_string().into());
    let answer = crate::harness::within("an answer", answer).await.unwrap();
    let code = answer.headers.unwrap();
    assert_eq!(code.get("Nats-Service-Error-Code").unwrap().as_str(), "409");
    assert_eq!(up.observer.messages("VOICE_CMD").await, stored);
    server.stop().await;
    up.stop().await;
}

#[tokio::test]
async fn a_wish_that_was_taken_back_is_not_placed_even_if_that_came_first() {
    let (up, address) = up_without_server().await;
    let feed = up.observer.feed().await;
    let agent = up.connect("agent").await;
    let jetstream = async_nats::jetstream::new(agent.clone());
    let cancel = async |intent: &str| {
        let subject = format!("voice.cmd.cancel.{intent}");
        let sent = jetstream.publish(subject, "{}".into()).await.unwrap();
        sent.await.unwrap();
    };
    let dial = json!({ "to": "+12015550123", "session": "s" });
    cancel("first").await;
    up.observer.worked_off("VOICE_CMD").await;
    publish(&agent, "first", "first", &dial).await;
    feed.hears("first", "command.cancelled").await;
    publish(&agent, "second", "second", &dial).await;
    feed.hears("second", "command.accepted").await;
    let (code, said) = up.tool(&["call", "cancel", "second"]).await;
    assert_eq!((code, &*said), (0, "second is cancelled\n"));
    feed.hears("second", "command.cancelled").await;

    let server = stand_in(address, &up.http, Race::Seeded).await;
    publish(&agent, "third", "third", &dial).await;
    feed.hears("third", "command.confirmed").await;
    // What was done cannot be taken back.
    let (code, said) = up.tool(&["call", "cancel", "third"]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.starts_with("third is confirmed, call CA"), "{said}");
    let dialled: Vec<_> = server
        .calls()
        .into_iter()
        .map(|dial| dial.intent_id)
        .collect();
    assert_eq!(dialled, [Some("third".to_owned())]);
    server.stop().await;
    up.stop().await;
}

/// One number is dialled once at a time; others are not held up by it.
#[tokio::test]
async fn a_slow_number_holds_up_nobody_else() {
    let (up, server) = up_with_server(Race::Seeded).await;
    let feed = up.observer.feed().await;
    let agent = up.connect("agent").await;
    let wish = async |intent: &str, number: &str, message: &str| {
        let dial = json!({ "to": number, "session": "s", "message": message });
        publish(&agent, intent, intent, &dial).await;
    };
    // Opens the way for several at once.
    wish("opener", "+12015550199", "Hello").await;
    feed.hears("opener", "command.confirmed").await;
    server.inject(Route::Dial, Fault::Delay(std::time::Duration::from_secs(6)));
    wish("slow", "+12015550123", "slow").await;
    reached("the slow call", async || match server.calls().len() {
        2 => Ok(()),
        other => Err(format!("{other} calls")),
    })
    .await;
    for number in 0..5 {
        wish(&format!("same-{number}"), "+12015550123", "Hello").await;
    }
    wish("other", "+12015550150", "Hello").await;
    feed.hears("other", "command.confirmed").await;
    let of_number = || {
        let dials = server.calls();
        let dials = dials.into_iter();
        dials
            .filter(|dial| dial.to.as_deref() == Some("+12015550123"))
            .count()
    };
    assert!(told(&feed, "slow").len() < 2, "it was not slow");
    assert_eq!(of_number(), 1);
    feed.hears("slow", "command.confirmed").await;
    for number in 0..5 {
        feed.hears(&format!("same-{number}"), "command.confirmed")
            .await;
    }
    assert_eq!(of_number(), 6);
    server.stop().await;
    up.stop().await;
}

/// Numbers that a policy of its own should refuse; whether there is one yet is not asked here.
const POLICY: [&str; 2] = ["premium", "satellite"];

#[tokio::test]
async fn what_is_no_number_is_refused_and_rings_nobody() {
    let (up, server) = up_with_server(Race::Seeded).await;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/badinputs/phone.json");
    let catalogue: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let rows = catalogue["requests"].as_array().unwrap();
    let mut judged = 0;
    let mut taken = Vec::new();
    for row in rows.iter().filter(|row| row["path"] == "/openclaw/call") {
        let name = row["name"].as_str().unwrap();
        let body = crate::bad_input::base64(row["body_base64"].as_str().unwrap());
        let json = [("content-type", "application/json")];
        let answer = up.http.send("POST", "/openclaw/call", &json, &body).await;
        judged += 1;
        if answer.status < 400 {
            taken.push(name);
            continue;
        }
        assert!(answer.status < 500, "{name}: {}", answer.text());
        answer.refusal();
    }
    assert!(judged >= 39);
    let surprising: Vec<_> = taken
        .iter()
        .filter(|name| !POLICY.iter().any(|word| name.contains(word)))
        .collect();
    assert!(surprising.is_empty(), "{surprising:?}");
    if !taken.is_empty() {
        eprintln!("not refused yet: {taken:?}");
    }
    assert_eq!(server.calls().len(), taken.len());
    assert_eq!(up.observer.messages("VOICE_CMD").await, taken.len() as u64);
    server.stop().await;
    up.stop().await;
}

/// As many dials wait as may wait at once, and then one.
#[tokio::test]
async fn dials_that_wait_do_not_hold_up_who_takes_one_back() {
    let (up, _address) = up_without_server().await;
    let feed = up.observer.feed().await;
    let provision = up.connect("provision").await;
    let ask = async |subject: &str, body: Value| {
        let answer = provision.request(subject.to_owned(), body.to_string().into());
        let answer = crate::harness::within("an answer", answer).await.unwrap();
        serde_json::from_slice::<Value>(&answer.payload).unwrap()
    };
    let info = ask("$JS.API.CONSUMER.INFO.VOICE_CMD.egress", json!({})).await;
    let mut config = info["config"].clone();
    config["max_ack_pending"] = 4.into();
    let change = json!({ "stream_name": "VOICE_CMD", "config": config, "action": "update" });
    let changed = ask(
        "$JS.API.CONSUMER.CREATE.VOICE_CMD.egress.voice.cmd.>",
        change,
    )
    .await;
    assert_eq!(changed["config"]["max_ack_pending"], 4, "{changed}");

    let agent = up.connect("agent").await;
    let later = (chrono::Utc::now() + chrono::TimeDelta::hours(1)).to_rfc3339();
    for number in 0..5 {
        let dial = json!({ "to": format!("+1201555012{number}"), "deadline": later });
        let intent = format!("wish-{number}");
        publish(&agent, &intent, &intent, &dial).await;
    }
    feed.hears("wish-3", "command.accepted").await;
    assert_eq!(told(&feed, "wish-4"), Vec::<String>::new());
    let (code, said) = up.tool(&["call", "cancel", "wish-0"]).await;
    assert_eq!((code, &*said), (0, "wish-0 is cancelled\n"));
    feed.hears("wish-0", "command.cancelled").await;
    // Its place is the next one's.
    feed.hears("wish-4", "command.accepted").await;
    up.stop().await;
}
