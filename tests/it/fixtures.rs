//! What the real servers sent, byte for byte, from the door to the feed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::oracle::told;
use crate::harness::{Answer, Feed, Heard, Options, Up};

/// What a captured request went to is what voicebus stands in for.
const PREFIXES: [&str; 3] = ["bridge-", "derived-", "pybridge-post-webhook-forward-"];

/// A captured request.
struct Fixture {
    name: String,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Fixture {
    /// All of them in the order of their names.
    fn all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let entries = std::fs::read_dir(folder).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let name = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
        paths
            .iter()
            .map(|path| (name(path), std::fs::read(path).unwrap()))
            .filter(|(name, _)| PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
            .map(|(name, bytes)| Self::read(name, &serde_json::from_slice(&bytes).unwrap()))
            .collect()
    }

    fn named(name: &str) -> Self {
        Self::all()
            .into_iter()
            .find(|fixture| fixture.name == name)
            .unwrap()
    }

    fn read(name: String, fixture: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let headers = fixture["headers"].as_array().unwrap();
        let headers = headers.iter().map(|pair| (text(&pair[0]), text(&pair[1])));
        let ours = ["host", "content-length", "connection", "accept-encoding"];
        Self {
            name,
            // The bridge's own receiver took what the bridge's door takes.
            path: text(&fixture["path"]).replace("/python-webhook", "/webhook/forward"),
            headers: headers
                .filter(|(name, _)| !ours.contains(&&*name.to_ascii_lowercase()))
                .collect(),
            body: text(&fixture["body"]),
        }
    }

    /// The call it names, if it can be put into another one.
    fn call(&self) -> Option<String> {
        let body: Value = serde_json::from_str(&self.body).ok()?;
        let call = body
            .get("callId")
            .or_else(|| body.get("call_id"))?
            .as_str()?;
        (!call.is_empty()).then(|| call.to_owned())
    }

    /// The same request about a call of its own.
    fn about(&self, call: &str) -> Self {
        let (from, to) = (
            format!("\"{}\"", self.call().unwrap()),
            format!("\"{call}\""),
        );
        Self {
            name: self.name.clone(),
            path: self.path.clone(),
            headers: self.headers.clone(),
            body: self.body.replace(&from, &to),
        }
    }

    async fn post(&self, up: &Up) -> Answer {
        let headers: Vec<(&str, &str)> = self
            .headers
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        up.http
            .send("POST", &self.path, &headers, self.body.as_bytes())
            .await
    }
}

/// Posts a request and says in one line what was answered and what happened.
async fn line(up: &Up, feed: &Feed, fixture: &Fixture) -> String {
    let before = feed.len();
    let answer = fixture.post(up).await;
    up.settled().await;
    feed.catches_up(&up.observer).await;
    let body = answer.json();
    let mut line = match answer.status {
        200 if body["duplicate"] == true => "200 duplicate".to_owned(),
        200 => format!("200 {}", body["status"].as_str().unwrap_or("-")),
        status => format!("{status} {}", answer.refusal()),
    };
    for event in &feed.all()[before..] {
        let call = &event.json["data"]["call"];
        let word = |name: &str| call[name].as_str().unwrap_or("-").to_owned();
        let (what, number) = (event.what(), event.sequence());
        let rest = [
            event.session().to_owned(),
            word("direction"),
            word("number"),
        ]
        .join(" ");
        write!(line, "\n      {what} #{number} {rest}").unwrap();
    }
    line
}

#[tokio::test]
async fn every_captured_request_comes_to_this() {
    let up = Up::start(Options::default()).await;
    let feed = up.observer.feed().await;
    let fixtures = Fixture::all();
    let mut text = String::new();
    for (number, fixture) in fixtures.iter().enumerate() {
        writeln!(text, "{}", fixture.name).unwrap();
        writeln!(text, "  as it came: {}", line(&up, &feed, fixture).await).unwrap();
        // One that is refused never gets a call.
        let call = fixture.call().filter(|call| call.len() <= 128);
        if call.is_some() && fixture.path != "/sync-transcript" {
            let alone = fixture.about(&format!("rtc_alone{number}"));
            writeln!(
                text,
                "  in a call of its own: {}",
                line(&up, &feed, &alone).await
            )
            .unwrap();
        }
    }
    insta::assert_snapshot!(text);
    assert!(fixtures.len() >= 50, "only {}", fixtures.len());
    // Also asserts sound events, numbered without a hole.
    let stored = told(&up.observer.read_back().await);
    assert_eq!(told(&feed.all()), stored);
    up.stop().await;
}

/// Posts a `call_started` of the real emitter's form.
async fn start(up: &Up, call: &str, from: &str, timestamp: &str) -> Answer {
    let body = json!({
        "callId": call, "eventType": "call_started", "phoneNumber": from,
        "direction": "inbound", "timestamp": timestamp, "data": {},
    });
    let answer = up.http.post("/call-event", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

const AT: &str = "2026-11-22T12:32:16.172805";

#[tokio::test]
async fn the_number_in_a_from_header_names_the_session_and_nobody_shares_an_anonymous_one() {
    let up = Up::start(Options::default()).await;
    let feed = up.observer.feed().await;
    start(
        &up,
        "rtc_alice",
        r#""Alice" <sip:+15551234567@host>;tag=x1"#,
        AT,
    )
    .await;
    let alice = feed.hears("rtc_alice", "state.initiated").await;
    assert_eq!(alice.session(), "agent:main:voice:15551234567");
    assert!(!alice.subject.contains("15551234567"), "{}", alice.subject);

    let mut sessions = BTreeMap::new();
    let nobodies = [
        r#""Anonymous" <sip:anonymous@anonymous.invalid>;tag=abc"#,
        "sip:Restricted@sip.example.com",
        "unknown",
        "",
    ];
    for (number, from) in nobodies.iter().cycle().take(8).enumerate() {
        let call = format!("rtc_nobody{number}");
        start(&up, &call, from, AT).await;
        let event = feed.hears(&call, "state.initiated").await;
        sessions.insert(
            (event.session().to_owned(), event.token(3).to_owned()),
            call,
        );
    }
    assert_eq!(sessions.len(), 8, "{sessions:?}");
    up.stop().await;
}

#[tokio::test]
async fn a_request_sent_twice_is_one_event_and_the_second_answer_says_so() {
    let up = Up::start(Options::default()).await;
    let feed = up.observer.feed().await;
    for name in [
        "bridge-v2-inbound-plain",
        "pybridge-post-webhook-forward-call-answered",
    ] {
        let fixture = Fixture::named(name);
        let (first, second) = (
            fixture.post(&up).await.json(),
            fixture.post(&up).await.json(),
        );
        assert_eq!(
            (&first["duplicate"], &second["duplicate"]),
            (&json!(false), &json!(true))
        );
        assert_eq!(first["eventId"], second["eventId"]);
        up.settled().await;
        feed.catches_up(&up.observer).await;
        assert_eq!(feed.of(&fixture.call().unwrap()).len(), 1, "{name}");
    }
    assert_eq!(up.observer.inputs().await, 2);
    up.stop().await;
}

#[tokio::test]
async fn a_beginning_told_again_at_another_time_is_one_event() {
    let up = Up::start(Options::default()).await;
    let feed = up.observer.feed().await;
    for second in 10..15 {
        let answer = start(
            &up,
            "rtc_1",
            "+12015550142",
            &format!("2026-11-22T12:32:{second}"),
        )
        .await;
        assert_eq!(
            answer.json()["duplicate"],
            false,
            "each is an input of its own"
        );
    }
    up.settled().await;
    feed.catches_up(&up.observer).await;
    let all: Vec<String> = feed.all().iter().map(Heard::what).collect();
    assert_eq!(all, ["state.initiated"]);
    assert_eq!(up.observer.inputs().await, 5);
    up.stop().await;
}
