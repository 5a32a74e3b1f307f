//! What a tap does to a conversation that is going on: has the assistant say something, gives it
//! something to know. Each once per command.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::response::IntoResponse as _;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::super::Shared;
use super::super::fault::{Fault, Route};
use super::super::reply::hang_up;
use super::{header, state};

/// One thing that a conversation was told.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// The call.
    pub call_id: String,
    /// `say` or `context`.
    pub verb: String,
    /// The body of the request.
    pub body: Value,
    /// `X-Command-Id` of the request.
    pub command_id: String,
}

/// Everything that was told, and the answers by command.
#[derive(Debug, Default)]
pub struct Spoken {
    pub told: Vec<Told>,
    answers: BTreeMap<String, (Bytes, Value)>,
}

/// `POST /voicebus/calls/{id}/say` and `…/context`
pub async fn speak(
    State(shared): State<Arc<Shared>>,
    Path((call_id, verb)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let fault = match shared.stumble(Route::Speak).await {
        Ok(fault) => fault,
        Err(response) => return response,
    };
    let response = once(&shared, call_id, verb, &headers, body);
    if fault == Some(Fault::HangUpAfter) {
        return hang_up();
    }
    response
}

fn once(
    shared: &Shared,
    call_id: String,
    verb: String,
    headers: &HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let done = match verb.as_str() {
        "say" => "said",
        "context" => "injected",
        _ => {
            return (
                StatusCode::NOT_FOUND,
                Json(json!({ "detail": "Not Found" })),
            )
                .into_response();
        }
    };
    let (Some(command_id), Ok(asked)) = (
        header(headers, "x-command-id"),
        serde_json::from_slice::<Value>(&body),
    ) else {
        return state(StatusCode::BAD_REQUEST, "refused");
    };
    let deadline = header(headers, "x-command-deadline");
    let deadline = deadline.and_then(|text| DateTime::parse_from_rfc3339(&text).ok());
    let is_active = shared.calls().active.get(&call_id).is_some();
    let mut spoken = shared.spoken();
    if let Some((first, answer)) = spoken.answers.get(&command_id) {
        if first != &body {
            return state(StatusCode::CONFLICT, "conflict");
        }
        let mut response = Json(answer.clone()).into_response();
        let headers = response.headers_mut();
        headers.insert("x-voicebus-repeat", HeaderValue::from_static("1"));
        return response;
    }
    if deadline.is_some_and(|deadline| Utc::now() >= deadline) {
        return state(StatusCode::GONE, "expired");
    }
    if !is_active {
        return state(StatusCode::NOT_FOUND, "refused");
    }
    let answer = json!({ "status": done, "call_id": call_id });
    spoken
        .answers
        .insert(command_id.clone(), (body, answer.clone()));
    spoken.told.push(Told {
        call_id,
        verb,
        body: asked,
        command_id,
    });
    Json(answer).into_response()
}
