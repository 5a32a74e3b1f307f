//! Runs against a target which answers as it is told.

use std::num::NonZeroUsize;
use std::sync::Mutex;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;

use super::super::args::Token;
use super::super::emitter::{self, Retry};
use super::super::generator::Options;
use super::super::record::Recorder;
use super::*;

#[tokio::test]
async fn everything_arrives_in_the_planned_order_of_each_call() {
    let target = Target::start(|_| StatusCode::OK).await;
    let generator = generator(Options {
        reorder: 4,
        duplicate_percent: 15.0,
        ..options(30)
    });
    let emitter = target.emitter(Retry::UntilStopped, None);
    let outcome = run(&generator, &emitter, &CancellationToken::new())
        .await
        .unwrap();
    assert!(outcome.complete);
    assert_eq!(outcome.calls, 30);
    assert!(outcome.duplicates > 0);

    let by_call = |bodies: Vec<Bytes>| {
        let mut calls: BTreeMap<String, Vec<Bytes>> = BTreeMap::new();
        for body in bodies {
            let event: Value = serde_json::from_slice(&body).unwrap();
            calls
                .entry(event["callId"].as_str().unwrap().to_owned())
                .or_default()
                .push(body);
        }
        calls
    };
    let planned = by_call(generator.events().map(|event| event.body).collect());
    assert_eq!(by_call(target.bodies()), planned);
    let counts = emitter.counts();
    assert_eq!(
        (counts.sent, counts.accepted),
        (generator.len() as u64, generator.len() as u64)
    );
}

#[tokio::test]
async fn refused_events_are_repeated_with_the_same_bytes_and_recorded_once() {
    let target = Target::start(|number| {
        if number % 3 == 0 {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::ACCEPTED
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("record.jsonl");
    let generator = generator(options(6));
    let emitter = target.emitter(Retry::UntilStopped, Some(Recorder::open(&path).unwrap()));
    run(&generator, &emitter, &CancellationToken::new())
        .await
        .unwrap();

    let counts = emitter.counts();
    assert_eq!(counts.accepted as usize, generator.len());
    assert_eq!(counts.retried, counts.refused);
    assert!(counts.refused > 0);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut recorded: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut planned: Vec<Value> = generator
        .events()
        .map(|event| serde_json::from_slice(&event.body).unwrap())
        .collect();
    assert!(
        recorded
            .iter()
            .all(|line| line["kind"] == "event" && line["status"] == 202)
    );
    recorded.sort_by_key(|line| line["body"].to_string());
    planned.sort_by_key(Value::to_string);
    let bodies: Vec<Value> = recorded
        .into_iter()
        .map(|line| line["body"].clone())
        .collect();
    assert_eq!(bodies, planned);
}

#[tokio::test]
async fn without_retries_a_refused_event_is_lost_as_with_the_real_emitter() {
    let target = Target::start(|number| {
        if number == 1 {
            StatusCode::INTERNAL_SERVER_ERROR
        } else {
            StatusCode::OK
        }
    })
    .await;
    let generator = generator(options(2));
    let emitter = target.emitter(Retry::Never, None);
    let outcome = run(&generator, &emitter, &CancellationToken::new())
        .await
        .unwrap();
    assert!(outcome.complete);
    let counts = emitter.counts();
    assert_eq!(
        (counts.sent as usize, counts.lost, counts.retried),
        (generator.len(), 1, 0)
    );
}

#[tokio::test]
async fn a_stop_ends_a_run_whose_target_is_gone() {
    // A port that was free a moment ago and that nobody listens on.
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let config = |retry| emitter::Config {
        target: format!("http://{free}"),
        token: None,
        retry,
        record: None,
    };
    let emitter = Emitter::new(config(Retry::UntilStopped)).unwrap();
    let (stop, generator) = (CancellationToken::new(), generator(options(20)));
    let running = run(&generator, &emitter, &stop);
    let stopping = async {
        while emitter.counts().unanswered < 3 {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    let both = async { tokio::join!(running, stopping).0 };
    let outcome = tokio::time::timeout(Duration::from_secs(20), both)
        .await
        .unwrap()
        .unwrap();
    assert!(!outcome.complete);
    assert_eq!(emitter.counts().accepted, 0);
}

#[tokio::test]
async fn requests_look_like_those_of_the_real_emitter() {
    let target = Target::start(|_| StatusCode::OK).await;
    let emitter = target.emitter(Retry::Never, None);
    run(&generator(options(1)), &emitter, &CancellationToken::new())
        .await
        .unwrap();
    let headers = target.seen.lock().unwrap()[0].0.clone();
    let names: Vec<&str> = headers.keys().map(|name| name.as_str()).collect();
    let header = |name: &str| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(header("user-agent").as_deref(), Some("python-httpx/0.28.1"));
    assert_eq!(header("accept-encoding").as_deref(), Some("gzip, deflate"));
    assert_eq!(header("content-type").as_deref(), Some("application/json"));
    assert_eq!(header("authorization").as_deref(), Some("Bearer t0ken"));
    assert_eq!(names.len(), 8, "{names:?}");
}

fn options(calls: usize) -> Options {
    Options {
        started_at: "2026-11-22T12:32:16.172805".parse().unwrap(),
        calls,
        transcripts: 3,
        concurrent: NonZeroUsize::new(5).unwrap(),
        rate: 0.0,
        reorder: 0,
        duplicate_percent: 0.0,
    }
}

fn generator(options: Options) -> Generator {
    Generator::new(11, options)
}

/// An ingress which keeps what it was sent and answers as it is told.
struct Target {
    url: String,
    seen: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    _stop: tokio_util::sync::DropGuard,
}

impl Target {
    async fn start(answer: impl Fn(usize) -> StatusCode + Clone + Send + Sync + 'static) -> Self {
        let seen: Arc<Mutex<Vec<(HeaderMap, Bytes)>>> = Arc::default();
        let take = {
            let seen = Arc::clone(&seen);
            move |headers: HeaderMap, body: Bytes| async move {
                let mut seen = seen.lock().unwrap();
                seen.push((headers, body));
                answer(seen.len())
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let router = Router::new().route("/call-event", post(take));
        tokio::spawn(async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(stopped)
                .await
        });
        Self {
            url,
            seen,
            _stop: stop.drop_guard(),
        }
    }

    fn emitter(&self, retry: Retry, record: Option<Recorder>) -> Emitter {
        let token = Token::parse("t0ken");
        Emitter::new(emitter::Config {
            target: self.url.clone(),
            token,
            retry,
            record,
        })
        .unwrap()
    }

    fn bodies(&self) -> Vec<Bytes> {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .map(|(_, body)| body.clone())
            .collect()
    }
}
