//! Requests, captured files, and a bridge to receive events.

use std::path::PathBuf;

use serde_json::Value;
use tokio::net::TcpListener;

use super::super::super::emitter::{self, Retry};
use super::super::*;

pub fn silent() -> StandInConfig {
    StandInConfig {
        answer_calls: false,
        pace: Duration::from_millis(1),
        ..StandInConfig::default()
    }
}

pub async fn start(config: StandInConfig) -> StandIn {
    StandIn::start(config).await.unwrap()
}

pub fn client() -> reqwest::Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().no_proxy().build().unwrap()
}

pub async fn dial(stand_in: &StandIn, body: &'static str) -> Result<(u16, String), reqwest::Error> {
    let request = client().post(format!("{}/call", stand_in.url())).body(body);
    let request = request
        .header("content-type", "application/json")
        .header("x-intent-id", "intent-1");
    let response = request.send().await?;
    Ok((response.status().as_u16(), response.text().await?))
}

pub async fn get(stand_in: &StandIn, path: &str) -> (u16, String) {
    let response = client()
        .get(format!("{}{path}", stand_in.url()))
        .send()
        .await
        .unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

pub async fn cancel(stand_in: &StandIn, call_id: &str) -> (u16, String) {
    let response = client()
        .delete(format!("{}/call/{call_id}", stand_in.url()))
        .send()
        .await
        .unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// Asks the stand-in what the driver of the capture asked the real server.
pub async fn replay(stand_in: &StandIn, fixture: &Value) -> (u16, axum::http::HeaderMap, String) {
    let method = fixture["method"].as_str().unwrap();
    let mut path = fixture["path"].as_str().unwrap().to_owned();
    let mut body = fixture["body"].as_str().unwrap().to_owned();
    if method == "POST" && body.is_empty() {
        // The captures of servers with something missing do not show the body, but it was a good one.
        body = r#"{"to":"+12015550123","message":"m"}"#.to_owned();
    }
    if path.contains("{id}") {
        let known = fixture["response"]["status"] == 200;
        let placed = dial(stand_in, r#"{"to":"+12015550123"}"#).await.unwrap().1;
        let placed: Value = serde_json::from_str(&placed).unwrap();
        path = path.replace(
            "{id}",
            if known {
                placed["call_id"].as_str().unwrap()
            } else {
                "CA0"
            },
        );
    }
    let url = format!("{}{path}", stand_in.url());
    let mut request = client()
        .request(method.parse().unwrap(), url)
        .body(body.clone());
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    let response = request.send().await.unwrap();
    (
        response.status().as_u16(),
        response.headers().clone(),
        response.text().await.unwrap(),
    )
}

/// A body without what differs from run to run: Twilio's ids, the number of calls, the port.
pub fn normal(body: &str) -> String {
    let mut normal = String::new();
    let mut rest = body;
    while let Some(start) = rest.find("\"CA") {
        normal.push_str(&rest[..start]);
        normal.push_str("\"CA…");
        rest = &rest[start + 35..];
    }
    normal.push_str(rest);
    for (before, after) in [("\"active_calls\":", ","), ("ws://127.0.0.1:", "/")] {
        let parts: Vec<&str> = normal.split(before).collect();
        let stripped = parts[1..]
            .iter()
            .map(|part| part.find(after).map_or(*part, |end| &part[end..]));
        normal = std::iter::once(parts[0])
            .chain(stripped)
            .collect::<Vec<_>>()
            .join(before);
    }
    normal
}

pub fn fixtures(prefix: &str) -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let all = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    all.filter(|path| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with(prefix)
    })
    .collect()
}

/// Waits for a state, for ten seconds at most.
pub async fn eventually(mut reached: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !reached().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .expect("the state was not reached in time");
}

/// Takes events as an ingress would.
pub struct Bridge {
    url: String,
    events: tokio::sync::mpsc::UnboundedReceiver<Value>,
    _stop: tokio_util::sync::DropGuard,
}

impl Bridge {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, events) = tokio::sync::mpsc::unbounded_channel();
        let take = move |body: String| async move {
            sender.send(serde_json::from_str(&body).unwrap()).unwrap();
        };
        let router = Router::new().route("/call-event", post(take));
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(stopped)
                .await
        });
        Self {
            url,
            events,
            _stop: stop.drop_guard(),
        }
    }

    pub fn emitter(&self) -> Emitter {
        let target = self.url.clone();
        let config = emitter::Config {
            target,
            token: None,
            retry: Retry::UntilStopped,
            record: None,
        };
        Emitter::new(config).unwrap()
    }

    pub fn waiting(&self) -> usize {
        self.events.len()
    }

    pub async fn next(&mut self) -> Value {
        let next = tokio::time::timeout(Duration::from_secs(10), self.events.recv());
        next.await
            .expect("no event in time")
            .expect("the bridge is gone")
    }
}
