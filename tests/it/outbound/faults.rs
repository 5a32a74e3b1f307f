//! When nobody can know whether the phone rang: nobody rings it again.

use std::time::Duration;

use serde_json::{Value, json};
use voicebus::bus::server::User;
use voicebus::simulate::{Fault, Race, Route};

use super::{publish, stand_in, told, up_with_server};
use crate::harness::{Bus, free_address, reached, reached_within};

#[tokio::test]
async fn a_lost_answer_leaves_the_outcome_unknown_and_the_phone_alone() {
    let (up, server) = up_with_server(Race::Seeded).await;
    let feed = up.observer.feed().await;
    server.inject(Route::Dial, Fault::HangUpAfter);
    let body = json!({ "to": "+12015550123", "openclaw_session_id": "s", "message": "Hello" });
    let answer = up.http.post("/openclaw/call", &body).await;
    assert_eq!(
        (answer.status, &*answer.refusal()),
        (502, "outcome_unknown")
    );
    assert_eq!(answer.json()["retry"], false);
    let intent = server.calls()[0].intent_id.clone().unwrap();
    feed.hears(&intent, "command.unknown").await;

    let agent = up.connect("agent").await;
    server.inject(Route::Dial, Fault::HangUpAfter);
    let dial = json!({ "to": "+12015550124", "session": "s" });
    publish(&agent, "wish", "first", &dial).await;
    feed.hears("wish", "command.unknown").await;
    assert_eq!(server.calls().len(), 2);

    // Asked again after a restart, by a sender that knows nothing of the first time.
    let up = up.restart().await;
    let agent = up.connect("agent").await;
    publish(&agent, "wish", "second", &dial).await;
    up.observer.worked_off("VOICE_CMD").await;
    up.settled().await;
    assert_eq!(server.calls().len(), 2);
    let stored = up.observer.read_back().await;
    let of_wish = stored.iter().filter(|event| event.log() == "wish");
    let of_wish: Vec<String> = of_wish.map(crate::harness::Heard::what).collect();
    assert_eq!(of_wish, ["command.accepted", "command.unknown"]);
    server.stop().await;
    up.stop().await;
}

#[tokio::test]
async fn an_egress_killed_while_it_dials_leaves_the_outcome_unknown_and_the_phone_alone() {
    let bus = Bus::provisioned().await;
    let feed = bus.observer().await.feed().await;
    let address = free_address();
    let url = format!("http://{address}");
    let egress_args = ["--voice-server", url.as_str()];
    let mut router = bus.role("router", &[]);
    let mut ingress = bus.role("ingress", &[]);
    let mut egress = bus.role("egress", &egress_args);
    router.ready().await;
    egress.ready().await;
    let server = stand_in(address, &ingress.ready().await, Race::Seeded).await;
    server.inject(Route::Dial, Fault::Delay(Duration::from_secs(5)));

    let agent = bus.connect(User::Agent).await.client;
    publish(
        &agent,
        "wish",
        "1",
        &json!({ "to": "+12015550123", "session": "s" }),
    )
    .await;
    reached("the phone to ring", async || {
        let calls = server.calls().len();
        if calls == 1 {
            Ok(())
        } else {
            Err(format!("{calls} calls"))
        }
    })
    .await;
    egress.kill().await;
    let mut egress = bus.role("egress", &egress_args);
    egress.ready().await;
    // The command comes back after `ack_wait`, 30 s.
    let unknown = reached_within(Duration::from_secs(45), "the wish to end", async || {
        let told = told(&feed, "wish");
        if told.len() > 1 {
            Ok(told)
        } else {
            Err(format!("{told:?}"))
        }
    })
    .await;
    assert_eq!(unknown, ["command.accepted", "command.unknown"]);
    let calls = server.calls();
    assert_eq!(calls.len(), 1);
    // The phone did ring, and its call is in the session that was asked for.
    let call = calls[0].call_id.clone().unwrap();
    let initiated = feed.hears(&call, "state.initiated").await;
    assert_eq!(initiated.session(), "agent:main:s");
    for process in [router, ingress, egress] {
        process.stop().await;
    }
    server.stop().await;
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
