//! The vendors' webhooks and signed senders at a running `up`: what they say becomes events of the
//! right call.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::harness::{Answer, Bus, Heard, Http, Options, Up, reached};
use crate::signing;

const TOKEN: &str = "twilio-token-0123456789";
const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
const CALL: &str = "CA0123456789abcdef0123456789abcdef";
const PATH_TOKEN: &str = "path-token-0123456789";

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    owned.collect()
}

async fn started(pairs: &[(&str, &str)]) -> Up {
    Up::start(Options {
        env: env(pairs),
        ..Options::default()
    })
    .await
}

/// A request that is signed at this moment.
async fn signed(http: &Http, method: &str, path: &str, id: &str, body: &[u8]) -> Answer {
    let now = chrono::Utc::now().timestamp().to_string();
    let target = format!("{method} {path}");
    let content = if method == "POST" {
        body
    } else {
        target.as_bytes()
    };
    let signature = signing::standard_webhooks(id, &now, content);
    let headers = [
        ("content-type", "application/json"),
        ("webhook-id", id),
        ("webhook-timestamp", &now),
        ("webhook-signature", &signature),
    ];
    http.send(method, path, &headers, body).await
}

async fn openai(up: &Up, id: &str, event: &Value) -> Answer {
    let body = event.to_string();
    signed(&up.http, "POST", "/webhook/openai", id, body.as_bytes()).await
}

async fn twilio(up: &Up, form: &str) -> Answer {
    let url = "https://hooks.example.com/voice/webhook/twilio?tenant=1";
    let signature = signing::twilio(TOKEN, url, form.as_bytes());
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("x-twilio-signature", &*signature),
    ];
    let target = "/webhook/twilio?tenant=1";
    up.http
        .send("POST", target, &headers, form.as_bytes())
        .await
}

fn status(status: &str, sequence: u32) -> String {
    format!(
        "AccountSid={ACCOUNT}&CallSid={CALL}&CallStatus={status}&Direction=outbound-api\
         &From=%2B15005550001&To=%2B12015550123&SequenceNumber={sequence}\
         &CallbackSource=call-progress-events&Timestamp=Sun%2C+22+Nov+2026+12%3A00%3A0{sequence}+%2B0000"
    )
}

#[tokio::test]
async fn the_statuses_of_a_call_at_twilio_become_its_life() {
    let up = started(&[
        (
            "VOICEBUS_TWILIO_AUTH_TOKEN",
            &format!("new-{TOKEN}\n{TOKEN}"),
        ),
        ("VOICEBUS_TWILIO_ACCOUNT_SID", ACCOUNT),
        ("VOICEBUS_PUBLIC_URL", "https://hooks.example.com/voice/"),
    ])
    .await;
    let feed = up.observer.feed().await;
    let life = ["initiated", "ringing", "in-progress", "completed"];
    for (sequence, word) in life.into_iter().enumerate() {
        let form = status(word, u32::try_from(sequence).unwrap());
        for duplicate in [false, true] {
            let answer = twilio(&up, &form).await;
            assert_eq!(answer.status, 200, "{word}: {}", answer.text());
            assert_eq!(answer.json()["duplicate"], duplicate, "{word}");
        }
    }
    // A captured callback verifies for ever, but a call does not go back.
    assert_eq!(twilio(&up, &status("ringing", 7)).await.status, 200);
    up.settled().await;
    feed.catches_up(&up.observer).await;
    let told: Vec<_> = feed.of(CALL).iter().map(Heard::what).collect();
    let expected = [
        "state.initiated",
        "state.ringing",
        "state.answered",
        "state.ended",
    ];
    assert_eq!(told, expected);
    let first = &feed.of(CALL)[0].json;
    assert_eq!(first["data"]["call"]["number"], "+12015550123");
    assert_eq!(first["data"]["call"]["direction"], "outbound");
    assert_eq!(first["time"], "2026-11-22T12:00:00Z");

    let inputs = up.observer.inputs().await;
    let other = status("completed", 9).replace(ACCOUNT, &ACCOUNT.replace('0', "f"));
    assert_eq!(twilio(&up, &other).await.refusal(), "other_account");
    let missing = status("completed", 9).replace("AccountSid", "X");
    assert_eq!(twilio(&up, &missing).await.refusal(), "missing_field");
    let twice = format!("{}&CallStatus=busy", status("completed", 9));
    assert_eq!(twilio(&up, &twice).await.refusal(), "repeated_field");
    // What is signed and about something else is kept.
    let message = "MessageSid=SM1&SmsStatus=delivered";
    for _ in 0..2 {
        let answer = twilio(&up, message).await;
        assert_eq!(answer.json()["status"], "parked", "{}", answer.text());
    }
    assert_eq!(up.observer.inputs().await, inputs);
    assert_eq!(up.observer.messages("VOICE_DLQ").await, 1);
    up.stop().await;
}

#[tokio::test]
async fn a_call_that_openai_tells_of_begins_once() {
    let up = started(&[("VOICEBUS_OPENAI_WEBHOOK_SECRET", &signing::secret())]).await;
    let feed = up.observer.feed().await;
    let incoming = |event_type: &str, data: Value| {
        json!({
            "object": "event", "id": "evt_1", "type": event_type, "created_at": 1_795_348_798,
            "data": data,
        })
    };
    let from = json!([
        { "name": "from", "value": "\"Alice\" <sip:+12015550142@sip.example.com>;tag=x1" },
        { "name": "To", "value": "sip:proj_abc@sip.api.openai.com" },
    ]);
    let call = json!({ "call_id": "rtc_u1", "sip_headers": from });
    let first = openai(
        &up,
        "wh_1",
        &incoming("realtime.call.incoming", call.clone()),
    )
    .await;
    assert_eq!(first.json()["duplicate"], false, "{}", first.text());
    let other = openai(&up, "wh_2", &incoming("live.call.incoming", call)).await;
    assert_eq!(other.json()["duplicate"], true, "{}", other.text());
    // Two callers in one request are none, and who names the session otherwise names no call.
    let two = json!([
        { "name": "From", "value": "sip:+12015550142@x" },
        { "name": "From", "value": "sip:+12015550143@x" },
    ]);
    let two = json!({ "call_id": "rtc_u2", "sip_headers": two });
    openai(&up, "wh_3", &incoming("realtime.call.incoming", two)).await;
    for unknown in [
        incoming("live.transport.incoming", json!({ "session_id": "live_1" })),
        incoming("response.completed", json!({ "id": "resp_1" })),
        json!({}),
    ] {
        let id = format!("wh_{}", unknown["type"].as_str().map_or(0, str::len));
        let answer = openai(&up, &id, &unknown).await;
        assert_eq!(answer.json()["status"], "parked", "{}", answer.text());
    }
    up.settled().await;
    feed.catches_up(&up.observer).await;
    let [event] = &feed.of("rtc_u1")[..] else {
        panic!("not one event");
    };
    assert_eq!(event.what(), "state.initiated");
    assert_eq!(event.json["data"]["call"]["number"], "+12015550142");
    assert_eq!(event.json["data"]["call"]["direction"], "inbound");
    assert!(feed.of("rtc_u2")[0].json["data"]["call"]["number"].is_null());
    assert_eq!(up.observer.inputs().await, 2);
    assert_eq!(up.observer.messages("VOICE_DLQ").await, 3);
    up.stop().await;
}

#[tokio::test]
async fn without_a_secret_no_webhook_is_taken() {
    let up = Up::start(Options::default()).await;
    for path in ["/webhook/openai", "/webhook/twilio"] {
        let answer = signed(&up.http, "POST", path, "wh_1", b"{}").await;
        assert_eq!((answer.status, &*answer.refusal()), (404, "not_configured"));
    }
    let answer = up.http.post("/token/any/call-event", &json!({})).await;
    assert_eq!(answer.status, 404);
    let twice = [("idempotency-key", "a"), ("Idempotency-Key", "a")];
    let answer = up.http.send("POST", "/openclaw/call", &twice, b"{}").await;
    assert_eq!(
        (answer.status, &*answer.refusal()),
        (400, "duplicate_header")
    );
    up.stop().await;
}

#[tokio::test]
async fn our_own_senders_may_sign_or_be_known_by_their_path() {
    let secret = signing::secret();
    let up = started(&[
        ("VOICEBUS_EVENT_SECRET", &secret),
        ("VOICEBUS_EVENT_PATH_TOKEN", PATH_TOKEN),
        ("VOICEBUS_COMMAND_TOKEN", "command-token-0123456789"),
        ("VOICEBUS_READ_SECRET", &secret),
    ])
    .await;
    let event = |second: u32| {
        json!({
            "callId": "rtc_1", "eventType": "call_started", "phoneNumber": "+12015550142",
            "direction": "inbound", "timestamp": format!("2026-11-22T12:00:0{second}"), "data": {},
        })
    };
    let body = event(1).to_string();
    let post = async |id: &str| signed(&up.http, "POST", "/call-event", id, body.as_bytes()).await;
    assert_eq!(post("ev-1").await.json()["duplicate"], false);
    // The id of the sender is the event's; another id makes another event.
    assert_eq!(post("ev-1").await.json()["duplicate"], true);
    assert_eq!(post("ev-2").await.json()["duplicate"], false);
    assert_eq!(up.http.post("/call-event", &event(2)).await.status, 401);
    assert_eq!(post("not.an.id").await.status, 400);

    let path = format!("/token/{PATH_TOKEN}/call-event");
    assert_eq!(up.http.post(&path, &event(3)).await.status, 200);
    let wrong = "/token/path-token-012345678x/call-event";
    assert_eq!(up.http.post(wrong, &event(3)).await.status, 404);
    let command = format!("/token/{PATH_TOKEN}/openclaw/call");
    assert_eq!(up.http.post(&command, &json!({})).await.status, 404);

    // A request without a body signs where it goes, so it goes nowhere else.
    let get = async |path: &str| signed(&up.http, "GET", path, "r-1", b"").await;
    assert_eq!(get("/status").await.status, 200);
    // Metrics take tokens only.
    assert_eq!(up.http.get("/metrics").await.status, 401);
    let now = chrono::Utc::now().timestamp().to_string();
    for content in ["", "GET /openclaw/sessions", "DELETE /status"] {
        let signature = signing::standard_webhooks("r-1", &now, content.as_bytes());
        let headers = [
            ("webhook-id", "r-1"),
            ("webhook-timestamp", &now),
            ("webhook-signature", &signature),
        ];
        let answer = up.http.send("GET", "/status", &headers, b"").await;
        assert_eq!(answer.status, 401, "{content}");
    }
    // The keys of one door open no other.
    let answer = signed(&up.http, "POST", "/openclaw/call", "c-1", b"{}").await;
    assert_eq!(answer.status, 401);
    assert!(!up.log().contains(PATH_TOKEN));
    up.stop().await;
}

/// A configuration file with these lines.
fn file(lines: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines).unwrap();
    file
}

#[tokio::test]
async fn whoever_knocks_too_often_is_told_when_to_come_again() {
    let config = file(
        "[http]\nrate_per_address = \"20\"\nrate_per_sender = \"5\"\ntrusted_proxies = \"127.0.0.1\"",
    );
    let up = Up::start(Options {
        args: vec!["--config".to_owned(), config.path().display().to_string()],
        env: env(&[("VOICEBUS_EVENT_TOKEN", "event-token-0123456789")]),
        voice_server: SocketAddr::from(([127, 0, 0, 1], 1)),
    })
    .await;
    let knock = async |client: &str, token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("x-forwarded-for", client), ("authorization", &bearer)];
        up.http.send("POST", "/call-event", &headers, b"").await
    };
    // One sender from many addresses has one share.
    let mut refused = None;
    for client in 0..20 {
        let answer = knock(&format!("192.0.2.{client}"), "event-token-0123456789").await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("a share has an end");
    assert_eq!(refused.refusal(), "too_many_requests");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.json()["retry"], true);
    // One address that guesses has one share, and others are served meanwhile.
    let mut statuses = Vec::new();
    for _ in 0..60 {
        statuses.push(knock("198.51.100.7", "wrong").await.status);
    }
    assert!(
        statuses.contains(&429) && statuses[0] == 401,
        "{statuses:?}"
    );
    assert_eq!(knock("198.51.100.8", "wrong").await.status, 401);
    assert_eq!(up.http.get("/health").await.status, 200);
    // The time comes.
    reached("a share that has grown again", async || {
        match knock("203.0.113.1", "event-token-0123456789").await.status {
            429 => Err("429".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    up.stop().await;
}

fn ringing(call: &str) -> String {
    json!({
        "callId": call, "eventType": "call_ringing", "phoneNumber": "", "data": {},
        "timestamp": "2026-11-22T12:00:00",
    })
    .to_string()
}

#[tokio::test]
async fn a_signed_id_stands_for_one_body_at_all_ingresses() {
    let bus = Bus::provisioned().await;
    let secret = signing::secret();
    let env = [("VOICEBUS_EVENT_SECRET", &*secret)];
    let mut first = bus.role_with("ingress", &[], &env);
    let mut second = bus.role_with("ingress", &[], &env);
    let (one, other) = (first.ready().await, second.ready().await);
    let (mine, others) = (ringing("rtc_1"), ringing("rtc_2"));
    let post = async |http: &Http, id: &str, body: &str| {
        signed(http, "POST", "/call-event", id, body.as_bytes()).await
    };
    assert_eq!(post(&one, "wh_1", &mine).await.status, 200);
    for http in [&one, &other] {
        let again = post(http, "wh_1", &mine).await;
        assert_eq!(
            (again.status, again.json()["duplicate"].clone()),
            (200, json!(true))
        );
        let reused = post(http, "wh_1", &others).await;
        assert_eq!((reused.status, &*reused.refusal()), (409, "id_reused"));
        assert_eq!(post(http, "wh_1", &mine).await.status, 200);
    }
    // The one that has not seen the id meets the other body first.
    assert_eq!(post(&one, "wh_2", &mine).await.status, 200);
    assert_eq!(post(&other, "wh_2", &others).await.refusal(), "id_reused");
    assert_eq!(post(&other, "wh_3", &others).await.status, 200);
    let metrics = other.get("/metrics").await.text();
    assert!(
        metrics.contains("voicebus_ingress_signed_ids_reused_total 2"),
        "{metrics}"
    );
    for process in [first, second] {
        assert!(process.log().contains("comes again with another body"));
        process.stop().await;
    }
}
