//! Who gets in, and what is said to who may not, or is set up wrongly.

use rustix::process::Signal;
use serde_json::{Value, json};
use voicebus::bus::server::User;

use crate::harness::{Bus, Options, Process, Up, reached};

const EVENT: &str = "event-token-0123456789";
const EVENT_OLD: &str = "former-event-token-0123456789";
const COMMAND: &str = "command-token-0123456789";
const READ: &str = "read-token-0123456789";

/// Every route that is not open to everybody, with the token that opens it.
const ROUTES: [(&str, &str, &str); 11] = [
    ("POST", "/call-event", EVENT),
    ("POST", "/webhook/forward", EVENT),
    ("POST", "/v1/events", EVENT),
    ("POST", "/sync-transcript", EVENT),
    ("POST", "/openclaw/call", COMMAND),
    ("POST", "/openclaw/context", COMMAND),
    ("POST", "/openclaw/say", COMMAND),
    ("DELETE", "/openclaw/call/agent:main:nobody", COMMAND),
    ("GET", "/openclaw/sessions", READ),
    ("GET", "/openclaw/session/agent:main:nobody", READ),
    ("GET", "/status", READ),
];

#[tokio::test]
async fn each_group_of_routes_opens_to_its_own_token_only() {
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let up = Up::start(Options {
        env: vec![
            variable("VOICEBUS_EVENT_TOKEN", &format!("{EVENT},{EVENT_OLD}")),
            variable("VOICEBUS_COMMAND_TOKEN", COMMAND),
            variable("VOICEBUS_READ_TOKEN", READ),
        ],
        ..Options::default()
    })
    .await;
    let json = [("content-type", "application/json")];
    for (method, path, own) in ROUTES {
        let answer = up.http.send(method, path, &json, b"{}").await;
        assert_eq!(
            (answer.status, &*answer.refusal()),
            (401, "unauthorized"),
            "{path}"
        );
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        let wrong = [EVENT, COMMAND, READ]
            .into_iter()
            .filter(|token| *token != own);
        for token in wrong.chain(["", "x", "event-token-012345678"]) {
            let answer = up
                .http
                .with_token(token)
                .send(method, path, &json, b"{}")
                .await;
            assert_eq!(answer.status, 401, "{path} with {token}");
            assert!(
                token.len() < 2 || !answer.text().contains(token),
                "{}",
                answer.text()
            );
        }
        // Whatever `{}` comes to, it is the door's own answer.
        let answer = up
            .http
            .with_token(own)
            .send(method, path, &json, b"{}")
            .await;
        assert!(
            ![401, 403].contains(&answer.status),
            "{path}: {}",
            answer.text()
        );
    }
    assert_eq!(up.observer.inputs().await, 0);

    let started = json!({
        "callId": "rtc_1", "eventType": "call_started", "phoneNumber": "+12015550142",
        "direction": "inbound", "timestamp": "2026-11-22T12:00:00", "data": {},
    });
    for token in [EVENT, EVENT_OLD] {
        let answer = up
            .http
            .with_token(token)
            .post("/call-event", &started)
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    for path in ["/openclaw/sessions", "/status"] {
        assert_eq!(
            up.http.with_token(READ).get(path).await.status,
            200,
            "{path}"
        );
    }
    for path in ["/health", "/live", "/ready"] {
        assert_eq!(up.http.get(path).await.status, 200, "{path}");
    }
    let status: Value = up.http.with_token(READ).get("/status").await.json();
    assert_eq!(status["events"]["accepted"], 2);
    up.stop().await;
}

/// Runs to its end; exit code and words.
async fn run(args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let env: Vec<(String, String)> = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let mut process = Process::start("voicebus", folder.path(), args, &env);
    let status = process.ended().await;
    (status.code(), process.log())
}

#[tokio::test]
async fn a_door_that_others_can_reach_needs_every_token() {
    // Routers and egresses show their operations there.
    for role in ["up", "ingress", "router", "egress"] {
        let args = [role, "--check-config", "--listen", "0.0.0.0:8082"];
        let (code, words) = run(&args, &[]).await;
        assert_eq!(code, Some(64), "{words}");
        for name in [
            "VOICEBUS_EVENT_TOKEN",
            "VOICEBUS_COMMAND_TOKEN",
            "VOICEBUS_READ_TOKEN",
        ] {
            assert!(words.contains(name), "{name} is not named in: {words}");
        }
        let tokens = [
            ("VOICEBUS_EVENT_TOKEN", EVENT),
            ("VOICEBUS_COMMAND_TOKEN", COMMAND),
            ("VOICEBUS_READ_TOKEN", READ),
        ];
        let (code, words) = run(&args, &tokens).await;
        assert_eq!(code, Some(0), "{words}");
        let (code, words) = run(&args, &tokens[..2]).await;
        assert_eq!(code, Some(64), "{words}");
        assert!(
            words.contains(tokens[2].0) && !words.contains(tokens[1].0),
            "{words}"
        );
        assert!(!words.contains(COMMAND), "{words}");
    }
}

#[tokio::test]
async fn mistakes_in_usage_end_with_64_and_are_all_named() {
    for args in [&["up", "--no-such-flag"][..], &["no-such-role"], &[]] {
        let (code, words) = run(args, &[]).await;
        assert_eq!(code, Some(64), "{args:?}: {words}");
        assert!(!words.is_empty());
    }
    let args = [
        "router",
        "--session-scope",
        "per-person",
        "--time-zone",
        "Moon/Base",
    ];
    let (code, words) = run(&args, &[("VOICEBUS_EVENT_TOKEN", "short")]).await;
    assert_eq!(code, Some(64), "{words}");
    for wrong in ["per-person", "Moon/Base", "VOICEBUS_EVENT_TOKEN"] {
        assert!(words.contains(wrong), "{wrong} is not named in: {words}");
    }
}

#[tokio::test]
async fn a_role_that_waits_for_nats_says_so_and_leaves_when_told_to() {
    for role in ["router", "ingress", "egress"] {
        let folder = tempfile::tempdir().unwrap();
        let args = [
            role,
            "--nats-url",
            "nats://127.0.0.1:1",
            "--listen",
            "127.0.0.1:0",
        ];
        let mut process = Process::start(role, folder.path(), args, &[]);
        reached("a word about NATS", async || {
            let words = process.log();
            let told = words.contains("waiting for NATS") && words.contains("nobody listens there");
            if told { Ok(()) } else { Err(words) }
        })
        .await;
        // An ingress opens its door when it can take something.
        if role != "ingress" {
            let http = process.listens().await;
            assert_eq!(http.get("/live").await.status, 200);
            let ready = http.get("/ready").await;
            assert_eq!(ready.status, 503, "{}", ready.text());
        }
        process.signal(Signal::TERM);
        let status = process.ended().await;
        let words = process.log();
        assert_eq!(status.code(), Some(1), "{words}");
        let last = words.lines().last().unwrap();
        assert_eq!(last, "voicebus: stopped before NATS was there");
    }
}

#[tokio::test]
async fn a_role_may_be_told_its_password_in_the_url() {
    let bus = Bus::provisioned().await;
    let password = bus.server.credentials().password(User::Router).reveal();
    let wrong = format!(
        "nats://router:wrong@{}",
        &bus.server.url()["nats://".len()..]
    );
    let right = wrong.replace("wrong", password);
    let folder = tempfile::tempdir().unwrap();
    let start = |url: &str| {
        let url = ("VOICEBUS_NATS_URL".to_owned(), url.to_owned());
        let args = ["router", "--listen", "127.0.0.1:0"];
        Process::start("router", folder.path(), args, &[url])
    };
    let mut router = start(&right);
    router.ready().await;
    router.stop().await;

    let refused = start(&wrong);
    reached("a word about the password", async || {
        let words = refused.log();
        let told = words.contains("the server refuses user and password");
        if told { Ok(()) } else { Err(words) }
    })
    .await;
    assert!(
        !refused.log().contains("wrong@"),
        "the log shows the password"
    );
}
