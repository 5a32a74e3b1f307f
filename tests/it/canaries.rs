//! Private things are planted in every field of every route, with every role running and everything
//! logged, and looked for in all that voicebus says.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use futures_util::StreamExt;
use serde_json::{Map, Value, json};
use voicebus::app::document;
use voicebus::simulate::Race;

use crate::harness::{Answer, Http, Options, Up, free_address, reached};
use crate::openapi::{filled, operations};
use crate::outbound::stand_in;
use crate::signing;

/// What is planted as a number, and what no other number has in common with it.
const NUMBER: &str = "+12025550147";
const DIGITS: &str = "2025550147";
/// What is planted as words, names and secrets.
const WORD: &str = "kanarienvogel";

const EVENT: &str = "event-token-0123456789";
const COMMAND: &str = "command-token-0123456789";
const READ: &str = "read-token-0123456789";
const PATH: &str = "path-token-0123456789";
const TWILIO: &str = "twilio-token-0123456789";
const SECRETS: [&str; 5] = [EVENT, COMMAND, READ, PATH, TWILIO];

/// The lines that say what nobody shall read there.
fn leaks(text: &str) -> Vec<&str> {
    let private = |line: &&str| {
        let line = line.to_lowercase();
        let secret = SECRETS.iter().any(|secret| line.contains(secret));
        secret || line.contains(WORD) || line.contains(DIGITS)
    };
    text.lines().filter(private).collect()
}

async fn up_that_tells_all(voice_server: SocketAddr, args: &[&str]) -> Up {
    let pairs = [
        (
            "VOICEBUS_LOG",
            "trace,async_nats=trace,hyper_util=trace,reqwest=trace",
        ),
        ("VOICEBUS_EVENT_TOKEN", EVENT),
        ("VOICEBUS_COMMAND_TOKEN", COMMAND),
        ("VOICEBUS_READ_TOKEN", READ),
        ("VOICEBUS_EVENT_PATH_TOKEN", PATH),
        ("VOICEBUS_TWILIO_AUTH_TOKEN", TWILIO),
        ("VOICEBUS_OPENAI_WEBHOOK_SECRET", &signing::secret()),
        ("VOICEBUS_EVENT_SECRET", &signing::secret()),
        ("VOICEBUS_PUBLIC_URL", "https://hooks.example.com"),
    ];
    let env = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Up::start(Options {
        voice_server,
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: env.to_vec(),
    })
    .await
}

/// A value that a field takes, with something private in it wherever there is room for it.
fn value(name: &str, n: usize) -> Value {
    let words = format!("{WORD} {name} {NUMBER}");
    match name {
        "callId" | "call_id" | "subject" => json!(format!("rtc_c{n}")),
        "CallSid" => json!(format!("CA{n:032x}")),
        "CallStatus" => json!("ringing"),
        "eventType" | "event_type" | "type" => match n % 3 {
            0 => json!("call_started"),
            1 => json!("transcript_update"),
            _ => json!("call_kanarienvogelled"),
        },
        "specversion" => json!("1.0"),
        "direction" => json!("inbound"),
        "timestamp" | "time" => json!("2026-11-22T12:00:00Z"),
        "to" | "number" => json!(NUMBER),
        "phoneNumber" => json!(format!("\"{WORD}\" <sip:{NUMBER}@host>;tag={WORD}")),
        "created_at" => json!(1_795_348_798),
        "deadline" => json!(60),
        "context" => json!({ "name": words, WORD: NUMBER }),
        "openclaw_session_id" | "agent" | "caller_id" | "traceparent" | "datacontenttype" => {
            Value::Null
        }
        "data" => json!({
            "content": words, "transcript": words, "text": words, "speaker": WORD,
            "phone_number": NUMBER, "call_id": format!("rtc_c{n}"), "reason": words,
            "sip_headers": [
                { "name": "From", "value": format!("\"{WORD}\" <sip:{NUMBER}@host>") },
                { "name": format!("X-{WORD}"), "value": words },
            ],
        }),
        _ => json!(words),
    }
}

/// The names of the fields that the body of an operation may have.
fn fields(document: &Value, operation: &Value) -> Vec<String> {
    let content = operation["requestBody"]["content"].as_object();
    let schema = content.and_then(|content| Some(&content.values().next()?["schema"]));
    let name = schema.and_then(|schema| schema["$ref"].as_str()?.rsplit('/').next());
    let properties = name.map(|name| &document["components"]["schemas"][name]["properties"]);
    let properties = properties
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    properties.into_iter().map(|(name, _)| name).collect()
}

/// Bodies that are taken, bodies that are wrong in one field, and bodies that are none.
fn bodies(names: &[String]) -> Vec<Vec<u8>> {
    let of = |n: usize| -> Map<String, Value> {
        names
            .iter()
            .map(|name| (name.clone(), value(name, n)))
            .collect()
    };
    let mut bodies: Vec<Value> = (0..3).map(|n| Value::Object(of(n))).collect();
    for name in names {
        let mut wrong = of(7);
        wrong.insert(name.clone(), json!(format!("{WORD} {NUMBER}")));
        bodies.push(Value::Object(wrong.clone()));
        wrong.insert(name.clone(), json!([WORD, NUMBER, { WORD: NUMBER }]));
        bodies.push(Value::Object(wrong));
    }
    bodies.extend([json!([WORD]), json!({ WORD: NUMBER }), json!(WORD)]);
    let mut bytes: Vec<Vec<u8>> = bodies
        .iter()
        .map(|body| body.to_string().into_bytes())
        .collect();
    bytes.push(format!("{{\"{WORD}\": \"{NUMBER}").into_bytes());
    bytes.push(format!("{{\"{WORD}\": 1, \"{WORD}\": \"{NUMBER}\"}}").into_bytes());
    bytes.push(format!("{WORD}={NUMBER}&{WORD}=%zz").into_bytes());
    bytes.push([WORD.as_bytes(), &[0xff, 0xfe], NUMBER.as_bytes()].concat());
    bytes.push(Vec::new());
    bytes
}

fn refused_in_silence(answer: &Answer, what: &str) {
    if answer.status >= 400 {
        let head = format!("{:?}", answer.headers);
        let said = format!("{head}\n{}", answer.text());
        let found = leaks(&said);
        assert!(found.is_empty(), "{what}: {} says {found:?}", answer.status);
    }
}

async fn plant_in(http: &Http, document: &Value, path: &str, method: &str) {
    let operation = &document["paths"][path][method.to_lowercase()];
    let content = operation["requestBody"]["content"].as_object();
    let kinds: Vec<&String> = content.into_iter().flat_map(Map::keys).collect();
    let json = "application/json".to_owned();
    let kinds = if kinds.is_empty() { vec![&json] } else { kinds };
    let private_path = path
        .replace("{token}", &format!("{WORD}-token"))
        .replace("{id}", "voice:12025550147")
        .replace("{session}", &format!("{WORD}:12025550147"));
    let broken_path = path.replace('{', "%FF").replace('}', WORD);
    let query = format!("?{WORD}={DIGITS}&wait={WORD}");
    let paths = [
        filled(path),
        private_path,
        broken_path,
        format!("{}{query}", filled(path)),
    ];
    let waits = ["/openclaw/call", "/openclaw/context", "/openclaw/say"].contains(&path);
    let wait = if waits { "?wait=0" } else { "" };
    for (n, target) in paths.iter().enumerate() {
        for body in bodies(&fields(document, operation)) {
            for kind in &kinds {
                // All bodies to the right path, a few of them to the others.
                if n > 0 && body.len() % 4 > 0 {
                    continue;
                }
                let target = if n == 0 {
                    format!("{target}{wait}")
                } else {
                    target.clone()
                };
                let headers = [
                    ("content-type", kind.as_str()),
                    ("user-agent", WORD),
                    ("x-forwarded-for", WORD),
                    ("traceparent", WORD),
                    ("cookie", NUMBER),
                    ("x-kanarienvogel", NUMBER),
                ];
                let what = format!("{method} {target} {kind}");
                let answer = http.send(method, &target, &headers, &body).await;
                refused_in_silence(&answer, &what);
            }
        }
    }
    let headers = [
        ("content-type", "application/json"),
        ("authorization", "Bearer kanarienvogel"),
        // A well-formed id is logged, as call ids are: nobody finds a delivery again without it.
        ("webhook-id", "kanarienvogel!"),
        ("webhook-signature", WORD),
        ("webhook-timestamp", DIGITS),
        ("x-twilio-signature", WORD),
        ("content-encoding", WORD),
        ("idempotency-key", "kanarienvogel\u{e9}"),
        ("prefer", WORD),
    ];
    for dropped in 0..headers.len() {
        let mut some = headers.to_vec();
        some.remove(dropped);
        let answer = http
            .send(method, &filled(path), &some, NUMBER.as_bytes())
            .await;
        refused_in_silence(&answer, &format!("{method} {path} without {dropped}"));
    }
}

/// Webhooks that are believed.
async fn plant_signed(http: &Http) {
    let now = chrono::Utc::now().timestamp().to_string();
    for (n, kind) in ["realtime.call.incoming", "batch.kanarienvogelled"]
        .iter()
        .enumerate()
    {
        let event = json!({ "type": kind, "id": WORD, "data": value("data", n) }).to_string();
        let id = format!("wh_{n}");
        let signature = signing::standard_webhooks(&id, &now, event.as_bytes());
        let headers = [
            ("content-type", "application/json"),
            ("webhook-id", &*id),
            ("webhook-timestamp", &*now),
            ("webhook-signature", &*signature),
        ];
        let answer = http
            .send("POST", "/webhook/openai", &headers, event.as_bytes())
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    for status in [
        "CallStatus=initiated",
        "CallStatus=kanarienvogel",
        "DialCallStatus=x",
    ] {
        let form = format!(
            "{status}&CallSid=CA{:032x}&Direction=inbound&From=%2B12025550147&To=%2B12025550147\
             &CallerName={WORD}&FromCity={WORD}&SpeechResult={WORD}&Digits={DIGITS}&X{WORD}=1",
            77
        );
        let url = "https://hooks.example.com/webhook/twilio";
        let signature = signing::twilio(TWILIO, url, form.as_bytes());
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("x-twilio-signature", &*signature),
        ];
        let answer = http
            .send("POST", "/webhook/twilio", &headers, form.as_bytes())
            .await;
        assert_ne!(answer.status, 403, "{}", answer.text());
        refused_in_silence(&answer, status);
    }
}

/// Commands past HTTP, good and bad.
async fn plant_commands(agent: &async_nats::Client) {
    let jetstream = async_nats::jetstream::new(agent.clone());
    let dial = json!({ "to": NUMBER, "message": WORD, "session": format!("voice:{DIGITS}"), "context": { WORD: NUMBER } });
    let link = json!({ "number": NUMBER, "session": WORD });
    let words = json!({ "context": { WORD: NUMBER }, "to": WORD, "number": WORD, "call": WORD });
    for (verb, key) in [
        ("dial", "d1"),
        ("link", "l1"),
        ("unlink", "u1"),
        ("context", "rtc_c0"),
        ("hangup", "rtc_c0"),
        ("cancel", "d9"),
        ("nonsense", "x"),
    ] {
        for (n, body) in [&dial, &link, &words, &json!(WORD)].into_iter().enumerate() {
            let subject = format!("voice.cmd.{verb}.{key}{n}");
            let stored = jetstream.publish(subject, body.to_string().into()).await;
            stored.unwrap().await.unwrap();
        }
        let subject = format!("voice.cmd.{verb}.{key}z");
        let stored = jetstream
            .publish(subject, format!("{{{WORD} {NUMBER}").into())
            .await;
        stored.unwrap().await.unwrap();
    }
}

/// The subjects of all that is stored, and the headers of dead letters.
async fn names_on_the_bus(up: &Up) -> String {
    let provision = async_nats::jetstream::new(up.connect("provision").await);
    let mut said = String::new();
    let mut names = provision.stream_names();
    while let Some(name) = names.next().await {
        let stream = provision.get_stream(name.unwrap()).await.unwrap();
        let mut subjects = stream.info_with_subjects(">").await.unwrap();
        while let Some(subject) = subjects.next().await {
            said.push_str(&format!("{}\n", subject.unwrap().0));
        }
    }
    let letters = provision.get_stream("VOICE_DLQ").await.unwrap();
    let last = letters.get_info().await.unwrap().state.last_sequence;
    for id in 1..=last {
        let Ok(letter) = letters.get_raw_message(id).await else {
            continue;
        };
        for (name, values) in letter.headers.iter() {
            // What the message came with belongs to it, as its body does.
            if !name.to_string().starts_with("Voicebus-Original-") {
                said.push_str(&format!("{name}: {values:?}\n"));
            }
        }
    }
    said
}

/// What the files beside the store say: the log of nats-server, if it has one, and what runs.
fn files_beside_the_store(up: &Up) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![up.data_dir()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["jetstream", "spool"].contains(&&*name) {
                    folders.push(path);
                }
            } else {
                let text = std::fs::read(&path).unwrap_or_default();
                found.insert(name, String::from_utf8_lossy(&text).into_owned());
            }
        }
    }
    found
}

#[tokio::test]
async fn nothing_private_is_said_by_any_route_log_metric_or_subject() {
    let address = free_address();
    let up = up_that_tells_all(address, &["--calls-per-number=1000"]).await;
    let server = stand_in(address, &up.http, Race::AnswerFirst).await;
    let document = serde_json::to_value(document::of_ingress()).unwrap();
    plant_commands(&up.connect("agent").await).await;
    for (path, method) in operations(&document) {
        for token in [EVENT, COMMAND, READ, "kanarienvogel-token"] {
            // Most of a token's doors are closed; one look at those is enough.
            let http = up.http.with_token(token);
            let opens = http.send(&method, &filled(&path), &[], b"").await.status != 401;
            if opens {
                plant_in(&http, &document, &path, &method).await;
                break;
            }
        }
    }
    plant_signed(&up.http).await;
    up.settled().await;
    up.observer.worked_off("VOICE_CMD").await;
    reached("a dial at the phone-call server", async || {
        let calls = server.calls().len();
        (calls > 0)
            .then_some(())
            .ok_or_else(|| "none yet".to_owned())
    })
    .await;

    let reader = up.http.with_token(READ);
    for path in ["/metrics", "/status", "/health", "/ready", "/live"] {
        let said = reader.get(path).await.text();
        assert_eq!(leaks(&said), Vec::<&str>::new(), "{path}");
    }
    assert_eq!(leaks(&names_on_the_bus(&up).await), Vec::<&str>::new());
    for (name, text) in files_beside_the_store(&up) {
        if name != "credentials.json" {
            assert_eq!(leaks(&text), Vec::<&str>::new(), "{name}");
        }
    }
    let log = up.log();
    assert!(log.contains("\"DEBUG\"") && log.contains("\"target\":\"voicebus::"));
    let found = leaks(&log);
    assert!(
        found.is_empty(),
        "{} lines: {:#?}",
        found.len(),
        &found[..found.len().min(20)]
    );
    up.stop().await;
}

#[tokio::test]
async fn a_log_that_was_made_unsafe_says_so_and_shows_bodies() {
    let up = up_that_tells_all(free_address(), &["--log-unsafe"]).await;
    let body = json!({ "callId": "rtc_1", "eventType": "call_started", "phoneNumber": NUMBER });
    assert_eq!(
        up.http
            .with_token(EVENT)
            .post("/call-event", &body)
            .await
            .status,
        200
    );
    let log = up.log();
    let warned = log
        .lines()
        .position(|line| line.contains("\"WARN\"") && line.contains("--log-unsafe"));
    let shown = log
        .lines()
        .position(|line| line.contains("voicebus::private") && line.contains(NUMBER));
    assert!(warned.unwrap() < shown.unwrap());
    up.stop().await;
}
