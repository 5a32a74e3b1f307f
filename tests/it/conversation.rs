//! Speaking into a conversation that is going on: only with a tap, once, and only in calls that are
//! there.

use serde_json::{Value, json};
use voicebus::simulate::{Fault, Route, Setup, StandIn, StandInConfig};

use crate::harness::{Feed, Options, Up, free_address, reached, within};

const WORDS: &str = "One moment, please.";

/// `up`, and a server with a call that nobody ends.
async fn with_a_call(tap: bool) -> (Up, StandIn, Feed, String) {
    let listen = free_address();
    let server = StandIn::start(StandInConfig {
        listen,
        answer_calls: false,
        setup: Setup {
            tap,
            ..Setup::default()
        },
        ..StandInConfig::default()
    });
    let server = server.await.unwrap();
    let up = Up::start(Options {
        voice_server: listen,
        ..Options::default()
    });
    let up = up.await;
    let feed = up.observer.feed().await;
    let dial = json!({ "to": "+12015550123", "openclaw_session_id": "s", "message": "Hello" });
    let placed = up.http.post("/openclaw/call", &dial).await.json();
    let call = placed["call_id"].as_str().unwrap().to_owned();
    feed.hears(&call, "state.initiated").await;
    (up, server, feed, call)
}

async fn asked(up: &Up, request: &Value) -> Value {
    let agent = up.connect("agent").await;
    let answer = agent.request("voice.svc.say", request.to_string().into());
    let answer = within("an answer over NATS", answer).await.unwrap();
    serde_json::from_slice(&answer.payload)
        .unwrap_or_else(|_| json!({ "headers": format!("{:?}", answer.headers) }))
}

/// Stores a command beside all doors; `message_id` tells it from a repetition by accident.
async fn store(up: &Up, subject: &str, message_id: &str, body: &Value) {
    let agent = async_nats::jetstream::new(up.connect("agent").await);
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", message_id);
    let sent = agent.publish_with_headers(subject.to_owned(), headers, body.to_string().into());
    assert!(!sent.await.unwrap().await.unwrap().duplicate);
}

fn words(server: &StandIn) -> Vec<(String, String)> {
    let text = |told: voicebus::simulate::Told| {
        let text = told.body["text"].as_str().unwrap_or("?").to_owned();
        (told.call_id, text)
    };
    server.told().into_iter().map(text).collect()
}

#[tokio::test]
async fn a_sentence_is_said_once_however_often_it_is_asked_for() {
    let (up, server, feed, call) = with_a_call(true).await;
    let request = json!({ "call": call, "text": WORDS, "id": "say-1" });
    let told = asked(&up, &request).await;
    assert_eq!(
        (
            &told["status"],
            &told["command"]["verb"],
            &told["command"]["call"]
        ),
        (&json!("confirmed"), &json!("say"), &json!(call))
    );
    assert_eq!(told["command"]["session"], "agent:main:s");

    // The same command once more, which the stream takes for another.
    let subject = format!("voice.cmd.say.{call}");
    store(&up, &subject, "again", &request).await;
    // One whose answer is lost is asked for again; so is one that the voice server did not get.
    server.inject(Route::Speak, Fault::HangUpAfter);
    store(
        &up,
        &subject,
        "lost",
        &json!({ "id": "say-2", "text": "Two." }),
    )
    .await;
    feed.hears("say-2", "command.confirmed").await;
    server.inject(Route::Speak, Fault::HangUp);
    store(
        &up,
        &subject,
        "not-sent",
        &json!({ "id": "say-3", "text": "Three." }),
    )
    .await;
    feed.hears("say-3", "command.confirmed").await;

    // By the other doors.
    let body = json!({ "call_id": call, "text": "Four.", "openclaw_session_id": "s" });
    for _ in 0..2 {
        let headers = [
            ("content-type", "application/json"),
            ("idempotency-key", "four"),
        ];
        let body = body.to_string();
        let answer = up
            .http
            .send("POST", "/openclaw/say", &headers, body.as_bytes())
            .await;
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({ "status": "said", "call_id": call }))
        );
    }
    let (code, text) = up.tool(&["say", &call, "Five."]).await;
    assert_eq!(
        (code, text),
        (0, format!("the assistant says it in call {call}\n"))
    );

    let said: Vec<_> = [WORDS, "Two.", "Three.", "Four.", "Five."]
        .map(|text| (call.clone(), text.to_owned()))
        .into();
    assert_eq!(words(&server), said);
    up.settled().await;
    feed.catches_up(&up.observer).await;
    assert_eq!(feed.of("say-1").len(), 1, "an outcome is told once");
    for text in ["One moment", "Two.", "Four."] {
        assert!(
            !up.log().contains(text),
            "what is said is nobody's business"
        );
    }
    server.stop().await;
    up.stop().await;
}

#[tokio::test]
async fn without_a_tap_nobody_speaks_and_it_says_why() {
    let (up, server, feed, call) = with_a_call(false).await;
    let told = asked(&up, &json!({ "call": call, "text": WORDS })).await;
    assert_eq!(
        (&told["status"], &told["command"]["code"]),
        (&json!("refused"), &json!("unsupported"))
    );
    let reason = told["command"]["reason"].as_str().unwrap();
    assert!(reason.contains("no tap"), "{reason}");
    let body = json!({ "call_id": call, "text": WORDS });
    let answer = up.http.post("/openclaw/say", &body).await;
    assert_eq!((answer.status, &*answer.refusal()), (501, "unsupported"));
    let (code, text) = up.tool(&["say", &call, WORDS]).await;
    assert!(code == 1 && text.contains("no tap"), "{code} {text}");

    // Who reads of the call learns what it was given to know; the conversation does not.
    let body = json!({ "call_id": call, "openclaw_session_id": "s", "context": { "order": 4711 } });
    let answer = up.http.post("/openclaw/context", &body).await;
    assert_eq!(
        (answer.status, answer.json()),
        (
            200,
            json!({ "status": "context_injected", "call_id": call, "live": false })
        )
    );
    let injected = feed.hears(&call, "context.injected").await;
    assert_eq!(injected.json["data"]["live"], false);
    let (code, text) = up.tool(&["context", &call, r#"{"paid":true}"#]).await;
    assert!(code == 0 && text.contains("no tap"), "{code} {text}");

    // The server itself would say that it has ended a call that is talked on, and forget it.
    let answered = json!({
        "specversion": "1.0", "id": "1", "source": "/test", "type": "call.answered", "subject": call,
    });
    let headers = [("content-type", "application/cloudevents+json")];
    let answered = answered.to_string();
    let answer = up
        .http
        .send("POST", "/v1/events", &headers, answered.as_bytes())
        .await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("voicebus-version").is_some());
    feed.hears(&call, "state.answered").await;
    up.settled().await;
    let (code, text) = reached("the router's view", async || {
        let (code, text) = up.tool(&["calls", "show", &call]).await;
        text.contains("active").then_some(()).ok_or(text)?;
        Ok::<_, String>((code, up.tool(&["hangup", &call]).await.1))
    })
    .await;
    assert!(code == 0 && text.contains("unsupported"), "{code} {text}");
    assert_eq!(server.active_calls(), 1);
    let answer = up.http.send("DELETE", "/openclaw/call/s", &[], b"").await;
    assert_eq!((answer.status, &*answer.refusal()), (501, "refused"));
    server.stop().await;
    up.stop().await;
}

#[tokio::test]
async fn a_conversation_is_given_something_to_know_once() {
    let (up, server, feed, call) = with_a_call(true).await;
    let context = json!({ "order": 4711 });
    let body = json!({ "call_id": call, "openclaw_session_id": "s", "context": context });
    let answer = up.http.post("/openclaw/context", &body).await;
    assert_eq!((answer.status, &answer.json()["live"]), (200, &json!(true)));
    let injected = feed.hears(&call, "context.injected").await;
    assert_eq!(
        (
            &injected.json["data"]["context"],
            &injected.json["data"]["live"]
        ),
        (&context, &json!(true))
    );

    server.inject(Route::Speak, Fault::HangUpAfter);
    let give = json!({ "id": "c-1", "context": { "paid": true } });
    let subject = format!("voice.cmd.context.{call}");
    store(&up, &subject, "lost", &give).await;
    feed.hears("c-1", "command.confirmed").await;
    store(&up, &subject, "again", &give).await;
    up.observer.worked_off("VOICE_CMD").await;
    up.settled().await;
    feed.catches_up(&up.observer).await;
    let told: Vec<Value> = server.told().into_iter().map(|told| told.body).collect();
    assert_eq!(
        told,
        [
            json!({ "context": context }),
            json!({ "context": { "paid": true } })
        ]
    );
    let injected = feed.of(&call);
    let injected = injected
        .iter()
        .filter(|event| event.what() == "context.injected");
    let live: Vec<&Value> = injected.map(|event| &event.json["data"]["live"]).collect();
    assert_eq!(live, [&json!(true), &json!(true)]);
    server.stop().await;
    up.stop().await;
}

#[tokio::test]
async fn nothing_is_said_in_a_call_that_is_not_meant() {
    let (up, server, feed, call) = with_a_call(true).await;
    let over = json!({
        "callId": "rtc_over", "eventType": "call_started", "phoneNumber": "+12015550142",
        "direction": "inbound", "timestamp": "2026-11-22T12:00:00", "data": {},
    });
    assert_eq!(up.http.post("/call-event", &over).await.status, 200);
    let mut ended = over.clone();
    ended["eventType"] = json!("call_ended");
    assert_eq!(up.http.post("/call-event", &ended).await.status, 200);
    feed.hears("rtc_over", "state.ended").await;
    // The server knows this one no more, the bus does: it is asked.
    let mut gone = over.clone();
    gone["callId"] = json!("rtc_gone");
    assert_eq!(up.http.post("/call-event", &gone).await.status, 200);
    feed.hears("rtc_gone", "state.initiated").await;

    let say = |call: &str| json!({ "call_id": call, "text": WORDS });
    let mut elsewhere = say(&call);
    elsewhere["openclaw_session_id"] = json!("other");
    let mut nothing = say(&call);
    nothing["text"] = json!("  ");
    for (body, status, code) in [
        (say("never"), 404, "no_such_call"),
        (say("rtc_over"), 409, "call_ended"),
        (say("rtc_gone"), 404, "no_such_call"),
        (elsewhere, 409, "other_session"),
        (nothing, 422, "invalid_command"),
        (say("a.b"), 400, "invalid_call_id"),
        (json!({ "call_id": call }), 422, "invalid_command"),
    ] {
        let answer = up.http.post("/openclaw/say", &body).await;
        assert_eq!(
            (answer.status, &*answer.refusal()),
            (status, code),
            "{body}"
        );
    }
    // The same by the door that looks at nothing itself.
    for (call, session, code) in [
        ("never", None, "no-such-call"),
        ("rtc_over", None, "call-ended"),
        (call.as_str(), Some("other"), "other-session"),
    ] {
        let told = asked(
            &up,
            &json!({ "call": call, "text": WORDS, "session": session }),
        )
        .await;
        assert_eq!(
            (&told["status"], &told["command"]["code"]),
            (&json!("refused"), &json!(code))
        );
    }
    // A service request that cannot be used is refused at once.
    for bad in [
        json!({ "call": call }),
        json!({ "call": call, "text": "" }),
        json!({ "call": call, "text": WORDS, "loud": true }),
    ] {
        let answer = asked(&up, &bad).await;
        assert!(
            answer["headers"].as_str().unwrap().contains("400"),
            "{answer}"
        );
    }
    // One that nobody can use is told of under its own id.
    let subject = format!("voice.cmd.say.{call}");
    store(
        &up,
        &subject,
        "bad",
        &json!({ "id": "bad", "words": WORDS }),
    )
    .await;
    let refused = feed.hears("bad", "command.refused").await;
    assert_eq!(refused.json["data"]["command"]["code"], "bad-command");
    assert_eq!(server.told(), []);
    server.stop().await;
    up.stop().await;
}
