//! The doors for commands: one key is one wish, and a wish means the same at each door.

mod unattended;

use serde_json::{Value, json};
use voicebus::simulate::{Fault, Race, Route, StandIn};

use crate::harness::{Answer, Http, Options, Up, free_address, reached, within};
use crate::outbound::{stand_in, told};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn up() -> (Up, StandIn) {
    let voice_server = free_address();
    let up = Up::start(Options {
        voice_server,
        ..Options::default()
    })
    .await;
    let server = stand_in(voice_server, &up.http, Race::Seeded).await;
    (up, server)
}

fn body(to: &str) -> Value {
    json!({ "to": to, "openclaw_session_id": "s", "message": "Hello" })
}

async fn call(http: &Http, key: &str, body: &Value) -> Answer {
    let headers = [JSON, ("idempotency-key", key)];
    let body = body.to_string();
    http.send("POST", "/openclaw/call", &headers, body.as_bytes())
        .await
}

#[tokio::test]
async fn fifty_clients_with_one_key_are_one_call_and_get_one_answer() {
    let (up, server) = up().await;
    let wish = body("+12015550123");
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (http, wish) = (up.http.clone(), wish.clone());
        clients.spawn(async move { call(&http, "one", &wish).await });
    }
    let answers = within("all answers", clients.join_all()).await;
    let first = answers[0].json();
    assert_eq!(first["status"], "initiated");
    for answer in &answers {
        assert_eq!((answer.status, &answer.json()), (200, &first));
    }
    assert_eq!(server.calls().len(), 1);
    // One command, too.
    assert_eq!(up.observer.messages("VOICE_CMD").await, 1);

    // The same after a restart, without any wait.
    let up = up.restart().await;
    let headers = [JSON, ("idempotency-key", "one"), ("prefer", "wait=0")];
    let again = up
        .http
        .send(
            "POST",
            "/openclaw/call",
            &headers,
            wish.to_string().as_bytes(),
        )
        .await;
    assert_eq!((again.status, &again.json()), (200, &first));
    assert_eq!(server.calls().len(), 1);
    server.stop().await;
    up.stop().await;
}

/// Who asks again says what was said the first time, also when that could not be asked for any
/// more.
#[tokio::test]
async fn who_asks_again_too_late_for_a_call_gets_the_first_answer() {
    let (up, server) = up().await;
    let deadline = chrono::Utc::now() + chrono::TimeDelta::seconds(10);
    let mut wish = body("+12015550123");
    wish["deadline"] = json!(deadline.to_rfc3339());
    let first = call(&up.http, "one", &wish).await;
    assert_eq!(first.status, 200, "{}", first.text());
    reached("the deadline", async || {
        let left = deadline - chrono::Utc::now();
        (left < chrono::TimeDelta::zero())
            .then_some(())
            .ok_or_else(|| left.to_string())
    })
    .await;
    let again = call(&up.http, "one", &wish).await;
    assert_eq!((again.status, again.json()), (200, first.json()));
    let new = call(&up.http, "two", &wish).await;
    assert_eq!((new.status, &*new.refusal()), (422, "invalid_deadline"));
    assert_eq!(server.calls().len(), 1);
    server.stop().await;
    up.stop().await;
}

/// The stream knows a command again for ten minutes; the key is good for days.
#[tokio::test]
async fn a_key_is_known_for_longer_than_its_command() {
    let (up, server) = up().await;
    let provision = async_nats::jetstream::new(up.connect("provision").await);
    let stream = provision.get_stream("VOICE_CMD").await.unwrap();
    let mut config = stream.cached_info().config.clone();
    config.duplicate_window = std::time::Duration::from_millis(100);
    provision.update_stream(config).await.unwrap();
    let wish = body("+12015550123");
    let first = call(&up.http, "one", &wish).await;
    assert_eq!(first.status, 200, "{}", first.text());
    // Until the stream takes an id again that it has had.
    let agent = async_nats::jetstream::new(up.connect("agent").await);
    let probe = async || {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Msg-Id", "probe");
        let sent = agent.publish_with_headers("voice.cmd.cancel.probe", headers, "{}".into());
        sent.await.unwrap().await.unwrap().duplicate
    };
    assert!(!probe().await);
    reached("the stream to forget", async || {
        (!probe().await)
            .then_some(())
            .ok_or_else(|| "it knows the id".to_owned())
    })
    .await;
    let again = call(&up.http, "one", &wish).await;
    assert_eq!((again.status, again.json()), (200, first.json()));
    assert_eq!(server.calls().len(), 1);
    server.stop().await;
    up.stop().await;
}

#[tokio::test]
async fn another_wish_under_the_same_key_is_a_conflict() {
    let (up, server) = up().await;
    let wish = body("+12015550123");
    assert_eq!(call(&up.http, "one", &wish).await.status, 200);
    let mut other_words = wish.clone();
    other_words["message"] = "Good bye".into();
    let mut with_context = wish.clone();
    with_context["context"] = json!({ "k": "v" });
    for other in [body("+12015550124"), other_words, with_context] {
        let answer = call(&up.http, "one", &other).await;
        assert_eq!((answer.status, &*answer.refusal()), (409, "conflict"));
    }
    // Neither the order of fields nor a later deadline makes another wish.
    let mut later = json!({ "message": "Hello", "to": "+12015550123", "openclaw_session_id": "s" });
    later["deadline"] = json!(300);
    assert_eq!(call(&up.http, "one", &later).await.status, 200);
    assert_eq!(call(&up.http, "two", &wish).await.status, 200);
    assert_eq!(server.calls().len(), 2);
    server.stop().await;
    up.stop().await;
}

/// A call that waits for its server is taken back, and one that is taken back before it is asked
/// for is never placed.
#[tokio::test]
async fn a_call_is_taken_back_by_its_intent() {
    let voice_server = free_address();
    let up = Up::start(Options {
        voice_server,
        ..Options::default()
    })
    .await;
    let feed = up.observer.feed().await;
    let headers = [JSON, ("idempotency-key", "one"), ("prefer", "wait=0")];
    let wish = body("+12015550123").to_string();
    let answer = up
        .http
        .send("POST", "/openclaw/call", &headers, wish.as_bytes())
        .await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let intent = answer.json()["intent_id"].as_str().unwrap().to_owned();
    feed.hears(&intent, "command.accepted").await;
    let path = format!("/openclaw/call/{intent}");
    let answer = up.http.send("DELETE", &path, &[], b"").await;
    assert_eq!(
        (answer.status, &answer.json()["status"]),
        (202, &json!("canceling"))
    );
    feed.hears(&intent, "command.cancelled").await;
    // The router's view follows the feed.
    let outcome = reached("the outcome", async || {
        let outcome = up.http.get(&path).await;
        (outcome.status >= 400)
            .then_some(())
            .ok_or_else(|| outcome.text())?;
        Ok::<_, String>(outcome)
    })
    .await;
    assert_eq!((outcome.status, &*outcome.refusal()), (409, "cancelled"));

    let server = stand_in(voice_server, &up.http, Race::Seeded).await;
    // The same wish stays taken back; another is placed.
    let again = call(&up.http, "one", &body("+12015550123")).await;
    assert_eq!((again.status, &*again.refusal()), (409, "cancelled"));
    assert_eq!(
        call(&up.http, "two", &body("+12015550124")).await.status,
        200
    );
    assert_eq!(server.calls().len(), 1);
    server.stop().await;
    up.stop().await;
}

/// Who is done with a session wants no call of it any more, also none that is still to come.
#[tokio::test]
async fn a_session_that_is_ended_takes_back_the_calls_that_wait() {
    let voice_server = free_address();
    let up = Up::start(Options {
        voice_server,
        ..Options::default()
    })
    .await;
    let feed = up.observer.feed().await;
    let mut intents = Vec::new();
    for (number, session) in [
        ("+12015550123", "s"),
        ("+12015550124", "s"),
        ("+12015550125", "t"),
    ] {
        let mut wish = body(number);
        wish["openclaw_session_id"] = session.into();
        let wish = wish.to_string();
        let path = "/openclaw/call?wait=0";
        let answer = up.http.send("POST", path, &[JSON], wish.as_bytes()).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        let intent = answer.json()["intent_id"].as_str().unwrap().to_owned();
        feed.hears(&intent, "command.accepted").await;
        intents.push(intent);
    }
    let ended = reached("the view to have both", async || {
        let view = up.connect("agent").await;
        let ask = json!({ "id": "agent:main:s" }).to_string();
        let answer = view.request("voice.svc.sessions.get", ask.into()).await;
        let view: Value = serde_json::from_slice(&answer.unwrap().payload).unwrap_or_default();
        match view["waiting"].as_array().map(Vec::len) {
            Some(2) => Ok(up.http.send("DELETE", "/openclaw/call/s", &[], b"").await),
            _ => Err(view.to_string()),
        }
    })
    .await;
    assert_eq!(ended.status, 202, "{}", ended.text());
    for intent in &intents[..2] {
        feed.hears(intent, "command.cancelled").await;
    }
    let server = stand_in(voice_server, &up.http, Race::Seeded).await;
    feed.hears(&intents[2], "command.confirmed").await;
    let dialled = server.calls().into_iter().map(|call| call.intent_id);
    assert_eq!(dialled.collect::<Vec<_>>(), [Some(intents[2].clone())]);
    server.stop().await;
    up.stop().await;
}

#[tokio::test]
async fn a_key_stays_the_same_wish_when_the_token_is_replaced() {
    let voice_server = free_address();
    let tokens = ["token-that-is-to-go-soon", "token-that-comes-next"];
    let up = Up::start(Options {
        voice_server,
        env: vec![("VOICEBUS_COMMAND_TOKEN".to_owned(), tokens.join(","))],
        ..Options::default()
    })
    .await;
    let server = stand_in(voice_server, &up.http, Race::Seeded).await;
    let mut answers = Vec::new();
    for (token, to) in [
        (tokens[0], "+12015550123"),
        (tokens[1], "+12015550123"),
        (tokens[1], "+12015550124"),
    ] {
        answers.push(call(&up.http.with_token(token), "one", &body(to)).await);
    }
    assert_eq!(answers[0].status, 200, "{}", answers[0].text());
    assert_eq!(answers[1].status, 200, "{}", answers[1].text());
    assert_eq!(
        answers[0].json()["intent_id"],
        answers[1].json()["intent_id"]
    );
    assert_eq!(answers[2].status, 409, "{}", answers[2].text());
    assert_eq!(server.calls().len(), 1);
    server.stop().await;
    up.stop().await;
}

#[tokio::test]
async fn who_does_not_wait_asks_later() {
    let (up, server) = up().await;
    let feed = up.observer.feed().await;
    server.inject(Route::Dial, Fault::Delay(std::time::Duration::from_secs(1)));
    let wish = body("+12015550123").to_string();
    let answer = up
        .http
        .send("POST", "/openclaw/call?wait=0", &[JSON], wish.as_bytes())
        .await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let queued = answer.json();
    assert_eq!(queued["status"], "queued");
    assert_eq!(queued["openclaw_session_id"], "s");
    assert_eq!(queued["session_key"], "agent:main:s");
    let intent = queued["intent_id"].as_str().unwrap();
    let path = format!("/openclaw/call/{intent}");
    feed.hears(intent, "command.accepted").await;
    feed.hears(intent, "command.confirmed").await;
    let outcome = reached("the outcome", async || {
        let answer = up.http.get(&path).await;
        match answer.status {
            200 => Ok(answer.json()),
            status => Err(format!("{status}: {}", answer.text())),
        }
    })
    .await;
    assert_eq!(outcome["status"], "initiated");
    assert_eq!(
        outcome["call_id"].as_str(),
        server.calls()[0].call_id.as_deref()
    );
    assert_eq!(
        told(&feed, intent),
        ["command.accepted", "command.confirmed"]
    );
    let nobody = up.http.get("/openclaw/call/i-nobody").await;
    assert_eq!((nobody.status, &*nobody.refusal()), (404, "no_such_intent"));
    server.stop().await;
    up.stop().await;
}

#[tokio::test]
async fn an_agent_and_a_deadline_can_be_named() {
    let (up, server) = up().await;
    let feed = up.observer.feed().await;
    let mut wish = body("+12015550123");
    wish["agent"] = "Front-Desk".into();
    wish["context"] = json!({ "order": 4711 });
    wish["deadline"] = "2026-01-01T00:00:00Z".into();
    let answer = up.http.post("/openclaw/call", &wish).await;
    assert_eq!(
        (answer.status, &*answer.refusal()),
        (422, "invalid_deadline")
    );
    wish["deadline"] = json!(30);
    let answer = up.http.post("/openclaw/call", &wish).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["session_key"], "agent:front-desk:s");
    // What the call should know is told of the call.
    let call = answer.json()["call_id"].as_str().unwrap().to_owned();
    let injected = feed.hears(&call, "context.injected").await;
    assert_eq!(injected.json["data"]["context"], json!({ "order": 4711 }));
    assert_eq!(injected.session(), "agent:front-desk:s");
    // Without a session it is the agent's own for the number.
    wish["openclaw_session_id"] = Value::Null;
    let answer = up.http.post("/openclaw/call", &wish).await;
    assert_eq!(
        answer.json()["session_key"],
        "agent:front-desk:voice:12015550123"
    );
    wish["agent"] = "front desk".into();
    assert_eq!(up.http.post("/openclaw/call", &wish).await.status, 422);
    assert_eq!(server.calls().len(), 2);
    server.stop().await;
    up.stop().await;
}

/// The rows of the catalogue that are about keys, and its flood.
#[tokio::test]
async fn keys_that_are_none_and_a_flood_are_refused() {
    let (up, server) = up().await;
    let wish = body("+12015550123");
    for key in ["", &"k".repeat(129), "caf\u{e9}"] {
        let answer = call(&up.http, key, &wish).await;
        assert_eq!(
            (answer.status, &*answer.refusal()),
            (400, "invalid_idempotency_key"),
            "{key:?}"
        );
    }
    let two = [JSON, ("idempotency-key", "a"), ("idempotency-key", "a")];
    let wish_text = wish.to_string();
    let answer = up
        .http
        .send("POST", "/openclaw/call", &two, wish_text.as_bytes())
        .await;
    assert_eq!(
        (answer.status, &*answer.refusal()),
        (400, "duplicate_header")
    );
    assert_eq!(up.observer.messages("VOICE_CMD").await, 0);

    let mut placed = 0;
    for number in 0..20 {
        let answer = call(&up.http, &format!("flood-{number}"), &wish).await;
        match answer.status {
            200 => placed += 1,
            status => {
                assert_eq!((status, &*answer.refusal()), (429, "limit-per-number"));
                assert!(answer.text().contains("passes at"), "{}", answer.text());
                let seconds: u32 = answer.header("retry-after").unwrap().parse().unwrap();
                assert!((3000..=3700).contains(&seconds), "{seconds}");
            }
        }
    }
    assert_eq!((placed, server.calls().len()), (10, 10));
    // What was refused once under a key stays refused.
    let again = call(&up.http, "flood-19", &wish).await;
    assert_eq!((again.status, &*again.refusal()), (429, "limit-per-number"));
    server.stop().await;
    up.stop().await;
}
