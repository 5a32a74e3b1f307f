//! A key whose first wish no egress has taken yet: what it stands for is known all the same.

use serde_json::{Value, json};
use voicebus::bus::server::User;
use voicebus::simulate::{Race, StandIn};

use super::{JSON, body};
use crate::harness::{Answer, Bus, Http, free_address, reached, voicebus, within};
use crate::outbound::stand_in;

/// Asks and does not wait for the outcome.
async fn asked(http: &Http, key: &str, body: &Value) -> Answer {
    let headers = [JSON, ("idempotency-key", key), ("prefer", "wait=0")];
    let body = body.to_string();
    http.send("POST", "/openclaw/call", &headers, body.as_bytes())
        .await
}

/// `voicebus call` with a key, for a bus that somebody else runs.
async fn called(bus: &Bus, number: &str) -> (i32, String) {
    let mut command = tokio::process::Command::new(voicebus());
    command
        .args(["call", number, "--idempotency-key", "one", "--wait", "0s"])
        .args(["--nats-url", bus.server.url(), "--nats-user", "agent"])
        .env(
            "VOICEBUS_NATS_PASSWORD",
            bus.server.credentials().password(User::Agent).reveal(),
        );
    let output = within("a tool", command.output()).await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(said).unwrap(),
    )
}

async fn commands(bus: &Bus) -> u64 {
    bus.observer().await.messages("VOICE_CMD").await
}

#[tokio::test]
async fn another_wish_under_a_key_is_a_conflict_also_while_no_egress_runs() {
    let bus = Bus::provisioned().await;
    let mut router = bus.role("router", &[]);
    let mut ingress = bus.role("ingress", &[]);
    router.ready().await;
    let http = ingress.ready().await;

    let first = asked(&http, "one", &body("+12015550123")).await;
    assert_eq!(first.status, 202, "{}", first.text());
    let again = asked(&http, "one", &body("+12015550123")).await;
    assert_eq!((again.status, again.json()), (202, first.json()));
    let mut in_time = body("+12015550123");
    in_time["deadline"] = json!(300);
    assert_eq!(asked(&http, "one", &in_time).await.status, 202);
    for other in [body("+12015550124"), {
        let mut other = body("+12015550123");
        other["message"] = "Good bye".into();
        other
    }] {
        let answer = asked(&http, "one", &other).await;
        assert_eq!((answer.status, &*answer.refusal()), (409, "conflict"));
    }
    assert_eq!(commands(&bus).await, 1);

    let (code, said) = called(&bus, "+12015550125").await;
    assert_eq!(code, 0, "{said}");
    let (code, again) = called(&bus, "+12015550125").await;
    assert_eq!((code, again), (0, said));
    let (code, said) = called(&bus, "+12015550126").await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("another call was asked for"), "{said}");
    assert!(!said.contains("5550126"), "{said}");
    assert_eq!(commands(&bus).await, 2);

    // Two that are asked for at the same time: one of them stands.
    let mut both = tokio::task::JoinSet::new();
    for number in 0..10 {
        let http = http.clone();
        both.spawn(
            async move { asked(&http, "two", &body(&format!("+1201555013{number}"))).await },
        );
    }
    let answers = within("all answers", both.join_all()).await;
    let statuses = |wanted| answers.iter().filter(|one| one.status == wanted).count();
    assert_eq!((statuses(202), statuses(409)), (1, 9));
    assert_eq!(commands(&bus).await, 3);

    // When egress comes, the first is dialled, and the answers stay.
    let address = free_address();
    let server: StandIn = stand_in(address, &http, Race::Seeded).await;
    let url = format!("http://{address}");
    let mut egress = bus.role("egress", &["--voice-server", &url]);
    egress.ready().await;
    let intent = first.json()["intent_id"].as_str().unwrap().to_owned();
    reached("the first to be placed", async || {
        let answer = asked(&http, "one", &body("+12015550123")).await;
        (answer.status == 200)
            .then_some(())
            .ok_or_else(|| answer.text())
    })
    .await;
    let other = asked(&http, "one", &body("+12015550124")).await;
    assert_eq!((other.status, &*other.refusal()), (409, "conflict"));
    let agent = bus.connect(User::Agent).await.client;
    let other = json!({ "to": "+12015550124", "session": "s", "intent": intent });
    let answer = agent.request("voice.svc.dial", other.to_string().into());
    let answer = within("an answer", answer).await.unwrap();
    let code = answer.headers.unwrap();
    assert_eq!(code.get("Nats-Service-Error-Code").unwrap().as_str(), "409");

    let mut calls = Vec::new();
    reached("all three to be placed", async || {
        calls = server.calls();
        (calls.len() == 3)
            .then_some(())
            .ok_or_else(|| format!("{} calls", calls.len()))
    })
    .await;
    let to = |number: &str| calls.iter().any(|call| call.to.as_deref() == Some(number));
    assert!(to("+12015550123") && to("+12015550125"));
    assert!(!to("+12015550124") && !to("+12015550126"));
    assert_eq!(commands(&bus).await, 3);
    assert_eq!(bus.observer().await.messages("VOICE_DLQ").await, 0);
    for process in [router, ingress, egress] {
        process.stop().await;
    }
    server.stop().await;
}
