//! A tap beside the server, as `docs/tap-contract.md` has it: keeps account of intents, and lets each
//! of them through once. Kept in memory only; a stand-in is not killed.

mod speech;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::middleware::Next;
use axum::response::IntoResponse as _;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::Shared;
use super::reply::HangUp;
pub use speech::{Spoken, Told, speak};

/// What is known of one intent.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Open,
    Answered { status: u16, body: Bytes },
    Unknown,
}

/// The journal.
#[derive(Debug)]
pub struct Journal {
    began: DateTime<Utc>,
    seen: BTreeMap<String, (Bytes, Seen)>,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            began: Utc::now(),
            seen: BTreeMap::new(),
        }
    }
}

/// `GET /voicebus/tap`
pub async fn tap(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({
        "tap": 1,
        "version": env!("CARGO_PKG_VERSION"),
        "features": ["intents", "context", "say"],
        "complete_since": shared.journal().began,
        "time": Utc::now(),
    }))
}

/// `GET /voicebus/intents/{id}`
pub async fn intent(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Json<Value> {
    let journal = shared.journal();
    let mut answer = match journal.seen.get(&id) {
        None => json!({ "state": "unseen" }),
        Some((_, Seen::Open)) => json!({ "state": "open" }),
        Some((_, Seen::Unknown)) => json!({ "state": "unknown" }),
        Some((_, Seen::Answered { status, body })) => json!({
            "state": "answered",
            "status": status,
            "body": String::from_utf8_lossy(body),
        }),
    };
    answer["intent"] = json!(id);
    answer["complete_since"] = json!(journal.began);
    answer["time"] = json!(Utc::now());
    Json(answer)
}

/// Stands before every route: nothing is done when there is no tap.
pub async fn stand_before(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    if !shared.setup().tap {
        return if request.uri().path().starts_with("/voicebus/") {
            super::reads::not_found().await
        } else {
            next.run(request).await
        };
    }
    let intent = header(request.headers(), "x-intent-id");
    let mut response = match intent {
        Some(intent) if request.uri().path() == "/call" => {
            once(shared, intent, request, next).await
        }
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert("x-voicebus-tap", HeaderValue::from_static("1"));
    response
}

/// Lets an intent through once, and goes on when the client has gone.
async fn once(shared: Arc<Shared>, intent: String, request: Request, next: Next) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_SIZE_MAX).await else {
        return state(StatusCode::BAD_REQUEST, "refused");
    };
    let deadline = header(&parts.headers, "x-intent-deadline");
    let deadline = deadline.and_then(|text| DateTime::parse_from_rfc3339(&text).ok());
    {
        let mut journal = shared.journal();
        if let Some((first, seen)) = journal.seen.get(&intent) {
            return repeat(first == &body, seen);
        }
        if deadline.is_none_or(|deadline| Utc::now() >= deadline) {
            return state(StatusCode::GONE, "expired");
        }
        journal
            .seen
            .insert(intent.clone(), (body.clone(), Seen::Open));
    }
    let request = Request::from_parts(parts, Body::from(body.clone()));
    let tasks = shared.tasks.clone();
    let asked = tasks.spawn(async move {
        let response = next.run(request).await;
        let (parts, answer) = response.into_parts();
        // What closes the connection is between the server and its client; a tap in the server's
        // own process knows the answer. Here there is none to know.
        let broke_off = parts.extensions.get::<HangUp>().is_some();
        let answer = axum::body::to_bytes(answer, BODY_SIZE_MAX).await;
        let seen = match &answer {
            Ok(answer) if !broke_off => Seen::Answered {
                status: parts.status.as_u16(),
                body: answer.clone(),
            },
            _ => Seen::Unknown,
        };
        shared.journal().seen.insert(intent, (body, seen));
        Response::from_parts(parts, Body::from(answer.unwrap_or_default()))
    });
    asked
        .await
        .unwrap_or_else(|_| state(StatusCode::INTERNAL_SERVER_ERROR, "unknown"))
}

fn repeat(is_same: bool, seen: &Seen) -> Response<Body> {
    let mut response = match seen {
        _ if !is_same => state(StatusCode::CONFLICT, "conflict"),
        Seen::Open => state(StatusCode::CONFLICT, "open"),
        Seen::Unknown => state(StatusCode::CONFLICT, "unknown"),
        Seen::Answered { status, body } => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY);
            (status, body.clone()).into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert("x-voicebus-repeat", HeaderValue::from_static("1"));
    response
}

fn state(status: StatusCode, state: &str) -> Response<Body> {
    (status, Json(json!({ "state": state }))).into_response()
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// A dial is some hundred bytes.
const BODY_SIZE_MAX: usize = 64 * 1024;
