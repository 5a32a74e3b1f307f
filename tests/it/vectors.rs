//! Signatures that others have made and judged: each is judged by the scheme alone, and sent to an
//! ingress that has the vector's keys and the vector's clock.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use voicebus::bus::server::User;
use voicebus::bus::{Auth, Settings as NatsSettings, Tls};
use voicebus::domain::ids::AgentId;
use voicebus::http::auth::Tokens;
use voicebus::http::serve::Listener;
use voicebus::ingress::committer::{Grouping, Options};
use voicebus::ingress::door::{Clock, Door, Doors, Twilio};
use voicebus::ingress::verify::standard_webhooks::{self, Key, KeyError};
use voicebus::ingress::verify::{own_hmac, twilio};
use voicebus::ingress::{Ingress, Settings, routes};

use crate::harness::{Answer, Bus, Http, Observer};

/// The account of all vectors but those that are about another one.
const ACCOUNT: &str = "ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn file(name: &str) -> Value {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let folder = std::env::var_os("VOICEBUS_VECTORS_DIR").map_or(own, PathBuf::from);
    let path = folder.join(name).with_extension("json");
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    serde_json::from_slice(&bytes).unwrap()
}

struct Vector(Value);

impl Vector {
    fn all(name: &str) -> Vec<Self> {
        match file(name)["vectors"].take() {
            Value::Array(vectors) => vectors.into_iter().map(Self).collect(),
            other => panic!("{name} holds {other}"),
        }
    }

    fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_default()
    }

    fn list(&self, name: &str) -> Vec<&str> {
        let list = self.0[name].as_array();
        let texts = list.into_iter().flatten();
        texts.map(|text| text.as_str().unwrap()).collect()
    }

    fn body(&self) -> Vec<u8> {
        STANDARD.decode(self.text("body_base64")).unwrap()
    }

    /// The lines as HTTP carries them; `None` when it cannot.
    fn headers(&self) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        for (name, value) in self.lines() {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            headers.append(name, HeaderValue::from_bytes(&value).ok()?);
        }
        Some(headers)
    }

    fn lines(&self) -> Vec<(String, Vec<u8>)> {
        let pairs = self.0["headers"].as_array().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let lines = pairs.iter().map(|pair| {
            let value = text(&pair[1]).into_bytes();
            (text(&pair[0]), value)
        });
        lines.collect()
    }

    fn now(&self) -> DateTime<Utc> {
        let seconds = self.0["now"].as_i64().unwrap_or_default();
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn keys(&self) -> Arc<[Key]> {
        let secrets = self.list("secrets").into_iter();
        secrets.map(|secret| Key::parse(secret).unwrap()).collect()
    }

    /// Whether the scheme alone believes it.
    fn judge(&self, verdict: Result<(), impl std::fmt::Debug>) {
        let expected = self.text("expect") == "accept";
        let name = self.text("name");
        assert_eq!(verdict.is_ok(), expected, "{name}: {verdict:?}");
    }
}

/// A bus on which an ingress of any settings can be opened.
struct Site {
    bus: Bus,
    roles: voicebus::bus::Bus,
    observer: Observer,
}

impl Site {
    async fn start() -> Self {
        voicebus::install_crypto();
        let bus = Bus::provisioned().await;
        let password = bus.server.credentials().password(User::Ingress).reveal();
        let settings = NatsSettings {
            url: bus.server.url().to_owned(),
            auth: Auth::Password {
                user: User::Ingress.name().to_owned(),
                password: password.to_owned(),
            },
            tls: Tls::default(),
            role: "ingress",
        };
        let connection = voicebus::bus::connect(&settings).await.unwrap();
        let roles = voicebus::bus::Bus::open(connection).await.unwrap();
        let observer = bus.observer().await;
        Self {
            bus,
            roles,
            observer,
        }
    }

    /// Sends a vector to an ingress with these doors, which has its clock.
    async fn send(&self, vector: &Vector, doors: Doors, method: &str, target: &str) {
        let name = vector.text("name");
        if vector.headers().is_none() {
            // HTTP has no such line, so there is nothing to send; whoever builds one is refused.
            assert_eq!(vector.text("expect_status"), "400", "{name}");
            return;
        }
        let stop = CancellationToken::new();
        let now = vector.now();
        let settings = Settings {
            doors,
            clock: Clock::new(move || now),
            time_zone: chrono_tz::Tz::UTC,
            agent: AgentId::parse("main").unwrap(),
            rules: voicebus::domain::guard::Rules::default(),
        };
        let options = Options {
            spool: None,
            grouping: Grouping::Off,
            layout_is_remembered: false,
        };
        let (ingress, committer) =
            Ingress::new(self.roles.clone(), settings, options, stop.clone());
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let http = Http::at(listener.address());
        let serving = tokio::spawn(listener.serve(routes(ingress), stop.clone()));
        let committing = tokio::spawn(committer.run());

        let before = self.observer.inputs().await;
        let answer = knock(&http, vector, method, target).await;
        let words = format!("{name}: {} {}", answer.status, answer.text());
        let (status, rest) = vector.text("expect_status").split_at(3);
        if status == "2xx" {
            assert_eq!(answer.status, 200, "{words}");
            let again = knock(&http, vector, method, target).await;
            assert_eq!(again.status, 200, "{words}");
            assert_eq!(again.json()["duplicate"], true, "{words}{rest}");
        } else {
            assert_eq!(answer.status.to_string(), status, "{words}");
            answer.refusal();
            assert_eq!(self.observer.inputs().await, before, "{words}");
        }
        stop.cancel();
        serving.await.unwrap().unwrap();
        committing.await.unwrap().unwrap();
    }

    async fn stop(self) {
        drop(self.roles);
        drop(self.observer);
        self.bus.server.stop().await;
    }
}

async fn knock(http: &Http, vector: &Vector, method: &str, target: &str) -> Answer {
    let body = vector.body();
    let mut bytes = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    let received = &vector.0["received"];
    let host = received["host"].as_str().unwrap_or("hooks.example.com");
    let forwarded = received["forwarded"].as_object().into_iter().flatten();
    let forwarded = forwarded.map(|(name, value)| {
        let value = value.as_str().unwrap().as_bytes().to_vec();
        (name.clone(), value)
    });
    let own = [
        ("host".to_owned(), host.as_bytes().to_vec()),
        (
            "content-length".to_owned(),
            body.len().to_string().into_bytes(),
        ),
        ("connection".to_owned(), b"close".to_vec()),
    ];
    for (name, value) in own.into_iter().chain(forwarded).chain(vector.lines()) {
        bytes.extend([name.as_bytes(), b": ", &value, b"\r\n"].concat());
    }
    bytes.extend(b"\r\n");
    bytes.extend(body);
    http.raw(&bytes).await.expect("an answer")
}

#[tokio::test]
async fn openai_signs_by_standard_webhooks() {
    let site = Site::start().await;
    for vector in Vector::all("openai_standard_webhooks") {
        let keys = vector.keys();
        if let Some(headers) = vector.headers() {
            let body = vector.body();
            let verdict = standard_webhooks::verify(&keys, &headers, &body, vector.now());
            vector.judge(verdict.map(|message| assert_eq!(message.get().body, body)));
        }
        let doors = Doors {
            openai: keys,
            ..Doors::default()
        };
        site.send(&vector, doors, "POST", "/webhook/openai").await;
    }
    site.stop().await;
}

#[tokio::test]
async fn our_own_senders_sign_likewise() {
    for vector in Vector::all("own_hmac") {
        let keys = vector.keys();
        let uri = Uri::from_static("/webhook/forward");
        if let Some(headers) = vector.headers() {
            let target = (&Method::POST, &uri);
            let body = vector.body();
            let verdict = own_hmac::verify(&keys, target, &headers, &body, vector.now());
            vector.judge(verdict.map(drop));
        }
        let doors = Doors {
            events: Door {
                keys,
                ..Door::default()
            },
            ..Doors::default()
        };
        // An id stands for one body, and the vectors use theirs for many: none has met another.
        let site = Site::start().await;
        site.send(&vector, doors, "POST", uri.path()).await;
        site.stop().await;
    }
}

#[tokio::test]
async fn twilio_signs_the_url_and_the_form() {
    let site = Site::start().await;
    for vector in Vector::all("twilio") {
        let (url, query) = match vector.text("public_url").split_once('?') {
            Some((url, query)) => (url, Some(query)),
            None => (vector.text("public_url"), None),
        };
        let tokens = vector.list("auth_tokens").into_iter();
        let algorithm = if vector.list("tags").contains(&"sharedkey") {
            twilio::Algorithm::HmacSha256
        } else {
            twilio::Algorithm::HmacSha1
        };
        let scheme = twilio::Scheme {
            tokens: tokens.map(twilio::Token::new).collect(),
            algorithm,
            url: twilio::PublicUrl::parse(url).unwrap(),
        };
        // Two are signed well and refused for what they say.
        let refused_by_parser = ["account", "concat"]
            .iter()
            .any(|word| vector.text("name").starts_with(word));
        if let Some(headers) = vector.headers()
            && !refused_by_parser
        {
            let body = vector.body();
            let verdict = twilio::verify(&scheme, &headers, query, &body);
            vector.judge(verdict.map(drop));
        }
        let doors = Doors {
            twilio: Some(Twilio {
                scheme,
                account: Some(ACCOUNT.to_owned()),
            }),
            ..Doors::default()
        };
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let target = format!("/webhook/twilio{query}");
        let method = vector.text("method");
        site.send(&vector, doors, method, &target).await;
    }
    site.stop().await;
}

#[tokio::test]
async fn a_bearer_token_opens_its_door_and_nothing_like_it_does() {
    let site = Site::start().await;
    for mut vector in Vector::all("bearer") {
        let body = r#"{"call_id":"c1","event_type":"call.started","data":{}}"#;
        vector.0["body_base64"] = STANDARD.encode(body).into();
        let tokens = Tokens::new(vector.list("tokens"));
        let doors = Doors {
            events: Door {
                tokens,
                ..Door::default()
            },
            ..Doors::default()
        };
        let query = vector.text("query").to_owned();
        let target = format!("/webhook/forward?{query}");
        site.send(&vector, doors, "POST", &target).await;
    }
    site.stop().await;
}

#[test]
fn secrets_that_are_none_are_refused() {
    let file = file("openai_standard_webhooks");
    let vectors = file["config_vectors"].as_array().unwrap();
    assert!(!vectors.is_empty());
    for vector in vectors {
        assert_eq!(vector["expect"], "refuse-to-start");
        let secret = vector["secret"].as_str().unwrap();
        assert!(Key::parse(secret).is_err(), "{}", vector["name"]);
    }
    let long = format!("whsec_{}", STANDARD.encode([7; 65]));
    assert_eq!(Key::parse(&long).unwrap_err(), KeyError::Length);
    assert_eq!(Key::parse("whsec_").unwrap_err(), KeyError::Length);
    let fits = format!("whsec_{}", STANDARD.encode([7; 64]));
    Key::parse(&fits).unwrap();
    // Base64 has one spelling.
    let unpadded = fits.trim_end_matches('=');
    assert_eq!(Key::parse(unpadded).unwrap_err(), KeyError::Base64);
}
