//! `GET /metrics`: it can be read, it counts what happens, and it gives nobody away.

use std::collections::{BTreeMap, BTreeSet};

use async_nats::jetstream;
use serde_json::json;

use crate::harness::{Bus, Http, Options, Up, reached, said, within};

/// One scrape, read as strictly as the text format asks for.
struct Scrape {
    /// Kinds by the names of metrics.
    kinds: BTreeMap<String, String>,
    /// Values by their names and labels, as they are written.
    values: BTreeMap<String, f64>,
    text: String,
}

impl Scrape {
    async fn of(door: &Http) -> Self {
        let answer = door.get("/metrics").await;
        assert_eq!(answer.status, 200);
        let kind = answer
            .headers
            .iter()
            .find(|(name, _)| name == "content-type");
        assert!(kind.unwrap().1.starts_with("application/openmetrics-text"));
        Self::read(String::from_utf8(answer.body).unwrap())
    }

    fn read(text: String) -> Self {
        let (mut kinds, mut values) = (BTreeMap::new(), BTreeMap::new());
        let body = text.strip_suffix("# EOF\n").expect("the end of the text");
        let mut current = String::new();
        for line in body.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (what, name) = (words.next().unwrap(), words.next().unwrap());
                assert!(name.starts_with("voicebus_"), "{line}");
                if what == "TYPE" {
                    current = name.to_owned();
                    let before = kinds.insert(current.clone(), words.next().unwrap().to_owned());
                    assert_eq!(before, None, "twice: {line}");
                } else {
                    assert_eq!(what, "HELP", "{line}");
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let suffix = name
                .strip_prefix(&current)
                .expect("a value of the metric above");
            let known: &[&str] = match kinds[&current].as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_bucket", "_sum", "_count"],
                other => panic!("{other}"),
            };
            assert!(known.contains(&suffix), "{line}");
            for label in labels.strip_suffix('}').unwrap().split_terminator("\",") {
                let (name, value) = label.split_once("=\"").expect("a label");
                assert!(
                    name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_'),
                    "{line}"
                );
                assert!(!value.trim_end_matches('"').contains('"'), "{line}");
            }
            let value: f64 = value.parse().expect("a number");
            let before = values.insert(series.to_owned(), value);
            assert_eq!(before, None, "twice: {line}");
        }
        Self {
            kinds,
            values,
            text,
        }
    }

    /// The sum of all values whose names and labels contain these words.
    fn sum(&self, name: &str, words: &[&str]) -> f64 {
        let of = self.values.iter().filter(|(series, _)| {
            let (found, labels) = series.split_once('{').unwrap_or((series.as_str(), ""));
            found == name && words.iter().all(|word| labels.contains(word))
        });
        of.map(|(_, value)| value).sum()
    }

    /// The names of all metrics, as their values have them.
    fn names(&self) -> BTreeSet<String> {
        let named = self.kinds.iter().map(|(name, kind)| match kind.as_str() {
            "counter" => format!("{name}_total"),
            _ => name.clone(),
        });
        named.collect()
    }
}

/// A number of nobody, as it may be written.
const NUMBER: &str = "+12015550123";

/// Calls with numbers, a poison event, an unknown one, and a dial that cannot be carried out.
async fn busy() -> Up {
    let up = Up::start(Options::default()).await;
    let from = format!("\"Alice\" <sip:{NUMBER}@host>;tag=x1");
    for call in ["rtc_1", "rtc_2"] {
        for body in [
            json!({ "callId": call, "eventType": "call_started", "phoneNumber": from }),
            said(call, "my number is +12015550123"),
            json!({ "callId": call, "eventType": "call_ended", "data": {} }),
        ] {
            assert_eq!(up.http.post("/call-event", &body).await.status, 200);
        }
    }
    let bad = json!({ "callId": NUMBER, "eventType": "call_started" });
    assert_eq!(up.http.post("/call-event", &bad).await.status, 400);
    let unknown = json!({ "callId": "rtc_1", "eventType": "call_2015550123" });
    assert_eq!(up.http.post("/call-event", &unknown).await.status, 200);
    assert_eq!(
        up.http.get("/openclaw/session/12015550123").await.status,
        404
    );
    assert_eq!(up.http.get("/12015550123").await.status, 404);

    let agent = jetstream::new(up.connect("agent").await);
    let dial = json!({ "to": NUMBER, "message": "Hello", "session": "voice:12015550123" });
    let sent = agent.publish("voice.cmd.dial.i-12015550123", dial.to_string().into());
    within("a command", sent.await.unwrap().into_future())
        .await
        .unwrap();
    up.settled().await;
    reached("a dial that is tried again", async || {
        let scrape = Scrape::of(&up.http).await;
        let again = scrape.sum("voicebus_redeliveries_total", &["VOICE_CMD"]);
        (again >= 1.0).then_some(()).ok_or(scrape.text)
    })
    .await;
    up
}

#[tokio::test]
async fn what_happens_is_counted() {
    let up = busy().await;
    let scrape = Scrape::of(&up.http).await;
    let sum = |name: &str, words: &[&str]| scrape.sum(&format!("voicebus_{name}"), words);
    for (name, words, expected) in [
        (
            "ingress_requests_total",
            &["/call-event", "accepted"][..],
            7.0,
        ),
        (
            "ingress_requests_total",
            &["/call-event", "refused", "invalid_call_id"],
            1.0,
        ),
        (
            "ingress_requests_total",
            &["/openclaw/session/{session}", "refused"],
            1.0,
        ),
        ("ingress_requests_total", &["other", "not_found"], 1.0),
        (
            "ingress_request_duration_seconds_count",
            &["/call-event"],
            8.0,
        ),
        ("ingress_events_accepted_total", &[], 6.0),
        ("ingress_events_parked_total", &[], 1.0),
        ("dead_letters_total", &["ingress", "unknown-type"], 1.0),
        ("nats_connected", &[], 3.0),
        ("nats_disconnects_total", &[], 0.0),
        ("nats_denials_total", &[], 0.0),
        ("voice_server", &[], 1.0),
        ("spool_events", &[], 0.0),
        ("ready", &[], 1.0),
        ("nats_server_restarts_total", &[], 0.0),
        ("build_info", &[env!("CARGO_PKG_VERSION")], 1.0),
    ] {
        assert_eq!(
            sum(name, words),
            expected,
            "{name} {words:?}\n{}",
            scrape.text
        );
    }
    // Six events, and what egress says of the dial, once or more.
    let inputs = sum("router_inputs_total", &[]);
    let deliveries = sum("deliveries_total", &["VOICE_IN", "done"]);
    assert!(inputs >= 7.0, "{}", scrape.text);
    assert_eq!(inputs, deliveries, "{}", scrape.text);
    assert_eq!(sum("delivery_age_seconds_count", &["VOICE_IN"]), deliveries);
    let committed = sum("publish_duration_seconds_count", &["VOICE_EVENT", "stored"]);
    assert_eq!(committed, sum("router_inputs_total", &["applied"]));
    assert!(sum("timers_armed_total", &[]) >= 2.0, "{}", scrape.text);
    assert!(sum("commands_total", &["dial", "accepted"]) >= 1.0);
    up.stop().await;
}

#[tokio::test]
async fn no_metric_gives_a_number_away() {
    let up = busy().await;
    let scrape = Scrape::of(&up.http).await;
    for secret in ["2015550123", "Alice", "rtc_", "i-1", "agent:main"] {
        assert!(!scrape.text.contains(secret), "{secret}: {}", scrape.text);
    }
    up.stop().await;
}

#[tokio::test]
async fn the_table_in_the_readme_has_each_metric() {
    let up = busy().await;
    // Those that tell of a canary are there once the first one was sent.
    let scrape = reached("a canary", async || {
        let scrape = Scrape::of(&up.http).await;
        let all = scrape.sum("voicebus_stream_writable", &[]);
        if all == 7.0 {
            Ok(scrape)
        } else {
            Err(scrape.text)
        }
    })
    .await;
    let readme = include_str!("../../README.md");
    let named = readme.lines().filter_map(|line| {
        let name = line.strip_prefix("| `voicebus_")?.split('`').next()?;
        Some(format!("voicebus_{name}"))
    });
    let named: BTreeSet<String> = named.collect();
    assert_eq!(scrape.names(), named);
    up.stop().await;
}

#[tokio::test]
async fn each_role_shows_its_own_to_whoever_has_the_token() {
    const TOKEN: &str = "0123456789abcdef0123";
    let bus = Bus::provisioned().await;
    for (role, own) in [
        ("ingress", "voicebus_ingress_events_accepted_total"),
        ("router", "voicebus_router_inputs_total"),
        ("egress", "voicebus_egress_in_flight"),
    ] {
        let env = [("VOICEBUS_READ_TOKEN", TOKEN)];
        let mut process = bus.role_with(role, &[], &env);
        let door = process.listens().await;
        for path in ["/metrics", "/status"] {
            assert_eq!(door.get(path).await.status, 401, "{role} {path}");
            let wrong = door.with_token("fedcba9876543210").get(path).await;
            assert_eq!(wrong.status, 401, "{role} {path}");
            let right = door.with_token(TOKEN).get(path).await;
            assert_eq!(right.status, 200, "{role} {path}");
        }
        reached("its metrics", async || {
            let scrape = Scrape::of(&door.with_token(TOKEN)).await;
            let role = format!("role=\"{role}\"");
            let connected = scrape.sum("voicebus_nats_connected", &[&role]);
            let is_there = scrape.names().contains(own) && connected == 1.0;
            is_there.then_some(()).ok_or(scrape.text)
        })
        .await;
        process.stop().await;
    }
}
