//! Plays the rows of a catalogue at an ingress, as their senders would.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{COMMAND_TOKEN, EVENT_TOKEN, READ_TOKEN};
use crate::harness::{Answer, Http, PATIENCE, parse_answer};
use crate::signing;

/// Where Twilio is told that the ingress is, and its token.
pub const PUBLIC_URL: &str = "https://hooks.example.com";
pub const TWILIO_TOKEN: &str = "twilio-token-0123456789";

pub fn base64(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap()
}

pub fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The rows of one catalogue.
pub fn rows(catalogue: &str) -> Vec<Value> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/badinputs");
    let folder = std::env::var_os("VOICEBUS_BADINPUTS_DIR").map_or(own, PathBuf::from);
    let path = folder.join(catalogue).with_extension("json");
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let mut catalogue: Value = serde_json::from_slice(&bytes).unwrap();
    match catalogue["requests"].take() {
        Value::Array(rows) => rows,
        other => panic!("{path:?} holds {other}"),
    }
}

/// The token that opens the door of a row.
fn token(row: &Value) -> &'static str {
    let path = row["path"].as_str().unwrap();
    if !path.starts_with("/openclaw") {
        EVENT_TOKEN
    } else if row["method"] == "GET" {
        READ_TOKEN
    } else {
        COMMAND_TOKEN
    }
}

/// Sends what a row says; nothing comes back when the connection is just closed.
pub async fn send(http: &Http, row: &Value) -> Option<Answer> {
    let with_token = |bytes: Vec<u8>| fill_in(&bytes, token(row));
    if let Some(raw) = row["raw_request_base64"].as_str() {
        return http.raw(&with_token(base64(raw))).await;
    }
    if let Some(plan) = row["send_plan"].as_array() {
        return follow(http, plan, with_token).await;
    }
    let body = base64(row["body_base64"].as_str().unwrap());
    let headers = headers(row, &body);
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    let (method, path) = (
        row["method"].as_str().unwrap(),
        row["path"].as_str().unwrap(),
    );
    Some(http.send(method, path, &headers, &body).await)
}

fn headers(row: &Value, body: &[u8]) -> Vec<(String, String)> {
    let pairs = row["headers"].as_array().unwrap();
    let pair = |pair: &Value| {
        let text = |place: usize| pair[place].as_str().unwrap().to_owned();
        (text(0), text(1))
    };
    let raw: Vec<(String, String)> = pairs.iter().map(pair).collect();
    let id = raw.iter().find(|(name, _)| name == "webhook-id");
    let id = id.map_or("", |(_, id)| id.as_str());
    let now = chrono::Utc::now().timestamp().to_string();
    let url = format!("{PUBLIC_URL}{}", row["path"].as_str().unwrap());
    let fill = |value: &str| {
        value
            .replace("{{TOKEN}}", token(row))
            .replace("{{WEBHOOK_TOKEN}}", EVENT_TOKEN)
            .replace("{{NOW}}", &now)
            .replace(
                "{{SIGN_STANDARD_WEBHOOKS}}",
                &signing::standard_webhooks(id, &now, body),
            )
            .replace(
                "{{SIGN_TWILIO}}",
                &signing::twilio(TWILIO_TOKEN, &url, body),
            )
    };
    raw.iter()
        .map(|(name, value)| (name.clone(), fill(value)))
        .collect()
}

fn fill_in(bytes: &[u8], token: &str) -> Vec<u8> {
    const MARK: &[u8] = b"{{TOKEN}}";
    let mut filled = Vec::new();
    let mut rest = bytes;
    while let Some(place) = rest.windows(MARK.len()).position(|window| window == MARK) {
        filled.extend_from_slice(&rest[..place]);
        filled.extend_from_slice(token.as_bytes());
        rest = &rest[place + MARK.len()..];
    }
    filled.extend_from_slice(rest);
    filled
}

/// Follows a plan until there is an answer, or the connection is closed. Slowness is what some of
/// the plans are about; the answer ends it.
async fn follow(
    http: &Http,
    plan: &[Value],
    with_token: impl Fn(Vec<u8>) -> Vec<u8>,
) -> Option<Answer> {
    let stream = TcpStream::connect(http.address()).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let mut came = Came::default();
    let bytes = |value: &Value| with_token(base64(value.as_str().unwrap()));
    for step in plan {
        // Whoever is refused early may find the connection closed.
        match step[0].as_str().unwrap() {
            "send" => drop(write.write_all(&bytes(&step[1])).await),
            "repeat" => {
                let one = bytes(&step[2]);
                for _ in 0..step[1].as_u64().unwrap() {
                    drop(write.write_all(&one).await);
                }
            }
            "drip" => {
                let pause = Duration::from_secs_f64(step[2].as_f64().unwrap());
                for byte in bytes(&step[1]) {
                    drop(write.write_all(&[byte]).await);
                    if came.wait(&mut read, pause).await {
                        break;
                    }
                }
            }
            "sleep" => {
                let pause = Duration::from_secs_f64(step[1].as_f64().unwrap());
                came.wait(&mut read, pause).await;
            }
            "fin" => drop(write.shutdown().await),
            "rst" => return None,
            other => panic!("nobody knows how to `{other}`"),
        }
        if came.is_over {
            break;
        }
    }
    came.wait(&mut read, PATIENCE).await;
    assert!(came.is_over, "neither an answer nor an end");
    parse_answer(&came.bytes)
}

#[derive(Default)]
struct Came {
    bytes: Vec<u8>,
    is_over: bool,
}

impl Came {
    /// Reads until there is an answer or nothing more can come; whether that is so.
    async fn wait(&mut self, read: &mut (impl AsyncReadExt + Unpin), bound: Duration) -> bool {
        let reading = async {
            while parse_answer(&self.bytes).is_none() {
                if matches!(read.read_buf(&mut self.bytes).await, Ok(0) | Err(_)) {
                    break;
                }
            }
        };
        let in_time = tokio::time::timeout(bound, reading).await.is_ok();
        self.is_over |= in_time;
        self.is_over
    }
}

/// Whether an answer is one of those that a row allows.
pub fn is_allowed(expect: &str, answer: Option<&Answer>) -> bool {
    let Some(answer) = answer else {
        return expect.contains("close");
    };
    expect.split('|').any(|word| match word {
        "4xx" => (400..500).contains(&answer.status),
        "2xx-parked" => answer.status == 200 && answer.json()["status"] == "parked",
        "204-without-cors" => {
            answer.status == 204 && answer.header("access-control-allow-origin").is_none()
        }
        word if word.starts_with("2xx") => (200..300).contains(&answer.status),
        word => word.parse() == Ok(answer.status),
    })
}

/// Whether the HTTP library refuses it before anything of ours sees it: then without our body.
pub fn is_no_http(row: &Value, answer: &Answer) -> bool {
    let raw = row["raw_request_base64"].is_string();
    (raw || matches!(answer.status, 400 | 414 | 431)) && answer.body.is_empty()
}
