//! Requests that nobody would think of, at a running `up`: whatever comes, it is answered in order,
//! stays on its own subjects, and costs no memory that is kept.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::bad_input::{PUBLIC_URL, TWILIO_TOKEN};
use crate::harness::{Options, Up};
use crate::signing;

const REQUESTS: u32 = 600;
/// Requests after which everything that is kept for good is there: pools, tables, buffers.
const WARM_UP: u32 = 100;
const GROWTH_MAX_MB: u64 = 32;

#[derive(Debug, Clone)]
enum Request {
    Built {
        method: &'static str,
        path: String,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
        sign: bool,
    },
    Raw(Vec<u8>),
}

fn paths() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "/call-event",
        "/webhook/forward",
        "/v1/events",
        "/sync-transcript",
        "/webhook/openai",
        "/webhook/twilio",
        "/openclaw/context",
        "/openclaw/sessions",
        "/openclaw/session/a",
        "/token/x/call-event",
        "/status",
        "/health",
        "/live",
        "/",
    ]);
    let of_events = prop::sample::select(vec![
        "/call-event",
        "/webhook/forward",
        "/webhook/openai",
        "/webhook/twilio",
    ]);
    prop_oneof![
        8 => of_events.prop_map(str::to_owned),
        4 => known.clone().prop_map(str::to_owned),
        1 => (known, "[!-~]{0,20}").prop_map(|(path, rest)| format!("{path}{rest}")),
        1 => "/[!-~]{0,40}",
    ]
}

fn headers() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop::sample::select(vec![
        "content-type",
        "content-encoding",
        "authorization",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "x-twilio-signature",
        "x-forwarded-for",
        "traceparent",
        "idempotency-key",
        "ce-id",
        "ce-source",
        "ce-type",
        "ce-specversion",
        "transfer-encoding",
        "expect",
        "host",
        "x-any",
    ]);
    let value = prop_oneof![
        Just("application/json".to_owned()),
        Just("application/cloudevents+json".to_owned()),
        Just("application/cloudevents-batch+json".to_owned()),
        Just("application/x-www-form-urlencoded".to_owned()),
        Just("chunked".to_owned()),
        Just("1.0".to_owned()),
        Just("v1,AAAA v1,".to_owned()),
        "[ -~\u{80}-\u{ff}]{0,30}",
    ];
    let any = prop::collection::vec((name.prop_map(str::to_owned), value), 0..5);
    let json = ("content-type".to_owned(), "application/json".to_owned());
    prop_oneof![Just(vec![json]), Just(Vec::new()), any]
}

/// What senders say, and what is like it.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let call = prop_oneof![2 => "rtc_[0-9]{1,2}", 1 => "[a-zA-Z0-9_.*>$ -]{0,12}"];
    let word = prop_oneof![
        Just("call_started".to_owned()),
        Just("call.ended".to_owned()),
        Just("transcript_update".to_owned()),
        Just("realtime.call.incoming".to_owned()),
        Just("audio.sent".to_owned()),
        "[a-z._>*]{0,12}",
    ];
    let leaf = prop_oneof![
        1 => Just(json!(null)),
        1 => Just(json!({})),
        1 => any::<i64>().prop_map(|number| json!(number)),
        4 => any::<String>().prop_map(|text| json!(text)),
    ];
    let sane = (call, word, leaf).prop_map(|(call, word, leaf)| {
        let event: Value = json!({
            "callId": call, "call_id": call, "eventType": word, "event_type": word, "type": word,
            "phoneNumber": leaf, "data": { "call_id": call, "content": leaf, "transcript": leaf },
            "specversion": "1.0", "id": call, "source": "/s", "subject": call,
            "openclaw_session_id": call, "context": leaf,
        });
        event.to_string().into_bytes()
    });
    let form = "CallSid=CA[0-9a-f]{32}&CallStatus=(ringing|busy|x)(&[a-zA-Z]{1,5}=[!-~]{0,9}){0,4}";
    let form = form.prop_map(String::into_bytes);
    prop_oneof![
        8 => sane.clone(),
        2 => form,
        2 => (sane, any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut body, at, byte)| {
            let at = at.index(body.len());
            body[at] = byte;
            body
        }),
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => (1..400_000_usize).prop_map(|length| vec![b'['; length]),
    ]
}

fn requests() -> impl Strategy<Value = Request> {
    let method = prop::sample::select(vec![
        "POST", "POST", "POST", "GET", "DELETE", "PUT", "OPTIONS",
    ]);
    let built = (method, paths(), headers(), bodies(), any::<bool>());
    let built = built.prop_map(|(method, path, headers, body, sign)| Request::Built {
        method,
        path,
        headers,
        body,
        sign,
    });
    let lines = "(POST|GET|[A-Z]{1,9}) (/call-event|[!-~]{0,20}) HTTP/1\\.[019]\r\n(Host: x\r\n|[!-~]{0,9}:? ?[ -~]{0,20}\r?\n){0,6}\r\n[ -~]{0,50}";
    prop_oneof![
        8 => built,
        1 => lines.prop_map(|text| Request::Raw(text.into_bytes())),
        1 => prop::collection::vec(any::<u8>(), 0..300).prop_map(Request::Raw),
    ]
}

impl Request {
    fn bytes(&self) -> Vec<u8> {
        let (method, path, headers, body, sign) = match self {
            Self::Raw(bytes) => return bytes.clone(),
            Self::Built {
                method,
                path,
                headers,
                body,
                sign,
            } => (method, path, headers, body, *sign),
        };
        let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n").into_bytes();
        let mut line = |name: &str, value: &str| {
            let value = value.chars().map(|c| u8::try_from(c).unwrap_or(b'?'));
            bytes.extend_from_slice(format!("{name}: ").as_bytes());
            bytes.extend(value);
            bytes.extend_from_slice(b"\r\n");
        };
        for (name, value) in headers {
            line(name, value);
        }
        if sign {
            let now = chrono::Utc::now().timestamp().to_string();
            let url = format!("{PUBLIC_URL}{path}");
            line("webhook-id", "wh_1");
            line("webhook-timestamp", &now);
            line(
                "webhook-signature",
                &signing::standard_webhooks("wh_1", &now, body),
            );
            line(
                "x-twilio-signature",
                &signing::twilio(TWILIO_TOKEN, &url, body),
            );
        }
        line("content-length", &body.len().to_string());
        bytes.extend_from_slice(b"Connection: close\r\n\r\n");
        bytes.extend_from_slice(body);
        bytes
    }
}

/// The memory of a process, in MB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<u64>().unwrap() / 1_000
}

#[cfg(target_os = "linux")]
#[test]
fn whatever_is_sent_is_answered_in_order_and_stays_in_its_place() {
    let runtime = Runtime::new().unwrap();
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let up = runtime.block_on(Up::start(Options {
        env: vec![
            variable("VOICEBUS_OPENAI_WEBHOOK_SECRET", &signing::secret()),
            variable("VOICEBUS_TWILIO_AUTH_TOKEN", TWILIO_TOKEN),
            variable("VOICEBUS_PUBLIC_URL", PUBLIC_URL),
        ],
        ..Options::default()
    }));
    let send = |request: &Request| {
        // A raw request may ask for more than it sends; then the sender's own end is the end.
        let answer = match request {
            Request::Raw(bytes) => runtime.block_on(up.http.raw_and_gone(bytes)),
            built @ Request::Built { .. } => runtime.block_on(up.http.raw(&built.bytes())),
        };
        let status = answer.map_or(0, |answer| answer.status);
        prop_assert!(
            status < 500 || [501, 503, 505].contains(&status),
            "answered {status}"
        );
        Ok(())
    };
    let run = |requests_wanted: u32, seed: u8| {
        let config = Config {
            cases: requests_wanted,
            failure_persistence: None,
            ..Config::default()
        };
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
        let mut runner = TestRunner::new_with_rng(config, random);
        runner
            .run(&requests(), |request| send(&request))
            .unwrap_or_else(|error| panic!("{error}"));
    };
    run(WARM_UP, 1);
    let before = resident(up.pid());
    run(REQUESTS, 2);
    let grown = resident(up.pid()).saturating_sub(before);
    assert!(grown <= GROWTH_MAX_MB, "grown by {grown} MB");
    assert!(!up.log().contains("panicked"), "{}", up.log());
    runtime.block_on(async {
        let status = up.http.get("/status").await.json();
        assert_eq!(status["nats"]["disconnects"], 0, "{status}");
        assert_eq!(status["nats"]["denials"], 0, "{status}");
        assert!(
            status["events"]["accepted"].as_u64().unwrap() > 10,
            "{status}"
        );
        assert!(
            status["events"]["refused"].as_u64().unwrap() > 10,
            "{status}"
        );
        let subjects = up.observer.input_subjects().await;
        assert!(!subjects.is_empty());
        for subject in subjects.keys() {
            assert!(is_an_input(subject), "{subject}");
        }
        up.settled().await;
        up.stop().await;
    });
}

/// `voice.in.<partition>.<call>.<type>`
fn is_an_input(subject: &str) -> bool {
    let tokens: Vec<&str> = subject.split('.').collect();
    let ["voice", "in", partition, call, kind] = tokens[..] else {
        return false;
    };
    let is_id = |text: &str| {
        (1..=128).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
    };
    partition
        .parse::<u32>()
        .is_ok_and(|partition| partition < 32)
        && is_id(call)
        && kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}
