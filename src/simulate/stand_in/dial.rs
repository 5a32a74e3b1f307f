//! `POST /call` and `DELETE /call/{id}`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Response};
use axum::response::IntoResponse as _;
use chrono::Utc;
use serde::Serialize;

use super::super::args::Version;
use super::super::record::RequestedDial;
use super::Shared;
use super::calls::{ActiveCall, Dial};
use super::fault::{Fault, Route, Twilio, twilio_error};
use super::leg::{self, Placed, Timing};
use super::reply::{DialRequest, Reply, endless, half, hang_up};
use super::rules;

/// `POST /call`. Runs in a task of its own, because the real server goes on when the client has gone: the call is
/// placed, listed and announced all the same.
pub async fn place(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let work = place_unwatched(Arc::clone(&shared), headers, body);
    shared
        .tasks
        .spawn(work)
        .await
        .unwrap_or_else(|_| Reply::detail(500, "Internal server error").into_response())
}

/// What will be answered, and whether a phone rings.
struct Verdict {
    answer: Option<Reply>,
    manner: Manner,
    rings: Option<String>,
    /// The call which the server knows of.
    placed: Option<Placed>,
    wait: Duration,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Whole,
    Half,
    Endless,
}

impl Verdict {
    fn refused(reply: Reply) -> Self {
        Self {
            answer: Some(reply),
            manner: Manner::Whole,
            rings: None,
            placed: None,
            wait: Duration::ZERO,
        }
    }
}

async fn place_unwatched(shared: Arc<Shared>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let request = DialRequest::parse(&headers, &body);
    let verdict = judge(&shared, &request);
    let dial = seen(&shared, request.ok(), &headers, &body, &verdict);
    if !recorded(&shared, &dial).await {
        return Reply::detail(500, "Internal server error").into_response();
    }
    shared.calls().saw(dial);
    if !verdict.wait.is_zero() {
        let waiting = tokio::time::sleep(verdict.wait);
        if shared.stop.run_until_cancelled(waiting).await.is_none() {
            return hang_up();
        }
    }
    if let Some(placed) = verdict.placed {
        shared.calls().active.insert(
            &placed.call_id,
            ActiveCall {
                outbound: true,
                to: Some(placed.to.clone()),
                from: Some(placed.from.clone()),
                status: "initiated",
                started_at: Utc::now(),
            },
        );
        let timing = shared.timing(&placed.call_id);
        if timing == Timing::BeforeAnswer {
            leg::announce(&shared, &placed).await;
        }
        shared
            .tasks
            .spawn(leg::follow(Arc::clone(&shared), placed, timing));
    }
    match (verdict.answer, verdict.manner) {
        (None, _) => hang_up(),
        (Some(reply), Manner::Whole) => reply.into_response(),
        (Some(reply), Manner::Half) => half(&reply),
        (Some(_), Manner::Endless) => endless(),
    }
}

fn judge(shared: &Shared, request: &Result<DialRequest, Reply>) -> Verdict {
    let injected = shared.take_fault(Route::Dial);
    let scripted = || {
        request
            .as_ref()
            .ok()
            .and_then(|request| Fault::scripted(request.message.as_deref()?))
    };
    let fault = injected.or_else(scripted);
    match &fault {
        Some(Fault::HangUp) => {
            return Verdict {
                answer: None,
                ..Verdict::refused(Reply::detail(500, ""))
            };
        }
        Some(Fault::Answer { status, body }) => {
            return Verdict::refused(Reply {
                status: *status,
                body: body.clone(),
            });
        }
        Some(Fault::EndlessAnswer) => {
            return Verdict {
                manner: Manner::Endless,
                ..Verdict::refused(Reply::detail(200, ""))
            };
        }
        Some(Fault::HangUpAfter | Fault::HalfAnswer | Fault::Delay(_) | Fault::Twilio(_))
        | None => {}
    }
    let checked = match request {
        Ok(request) => rules::check(shared.version, &shared.setup(), request),
        Err(reply) => Err(reply.clone()),
    };
    let checked = match checked {
        Ok(checked) => checked,
        Err(reply) => return Verdict::refused(reply),
    };
    if let Some(Fault::Twilio(twilio)) = fault {
        return match twilio {
            Twilio::Refuses { code } => {
                let (status, text) = twilio_error(code, &checked.to);
                let text =
                    format!("Call failed: HTTP {status} error: Unable to create record: {text}");
                Verdict::refused(Reply::detail(400, &text))
            }
            Twilio::ResetsBefore => Verdict::refused(Reply::detail(500, "Internal server error")),
            Twilio::ResetsAfter => {
                let rings = Some(shared.new_call_id());
                Verdict {
                    rings,
                    ..Verdict::refused(Reply::detail(500, "Internal server error"))
                }
            }
        };
    }
    let call_id = shared.new_call_id();
    let message = format!("Call initiated to {}", checked.to);
    let answer = Initiated {
        status: "initiated",
        call_id: &call_id,
        message: &message,
    };
    Verdict {
        answer: (fault != Some(Fault::HangUpAfter)).then(|| Reply::ok(&answer)),
        manner: match fault {
            Some(Fault::HalfAnswer) => Manner::Half,
            _ => Manner::Whole,
        },
        rings: Some(call_id.clone()),
        wait: if let Some(Fault::Delay(wait)) = fault {
            wait
        } else {
            Duration::ZERO
        },
        placed: Some(Placed {
            call_id,
            to: checked.to,
            from: checked.from,
            message: checked.message,
        }),
    }
}

fn seen(
    shared: &Shared,
    request: Option<DialRequest>,
    headers: &HeaderMap,
    body: &[u8],
    verdict: &Verdict,
) -> Dial {
    let text =
        |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let (to, caller_id, message) = match request {
        Some(request) => (Some(request.to), request.caller_id, request.message),
        None => (None, None, None),
    };
    tracing::debug!(call.id = verdict.rings, version = %shared.version, "asked to dial; dialling nobody");
    Dial {
        to,
        caller_id,
        message,
        call_id: verdict.rings.clone(),
        intent_id: headers.get("x-intent-id").map(text),
        status: verdict.answer.as_ref().map(|reply| reply.status),
        headers: headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect(),
        body: String::from_utf8_lossy(body).into_owned(),
        at: Utc::now(),
    }
}

/// Writes the dial down before anyone hears of it. Where that fails nothing is placed: a run without its record is
/// void, and the client may as well see it.
async fn recorded(shared: &Shared, dial: &Dial) -> bool {
    let Some(record) = shared.record.clone() else {
        return true;
    };
    let dial = dial.clone();
    let written = tokio::task::spawn_blocking(move || {
        record.dial(RequestedDial {
            to: dial.to.as_deref(),
            caller_id: dial.caller_id.as_deref(),
            message: dial.message.as_deref(),
            call_id: dial.call_id.as_deref(),
            intent_id: dial.intent_id.as_deref(),
            at: dial.at,
        })
    })
    .await;
    match written {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::error!(%error, "the record cannot be written; answering 500");
            false
        }
        Err(error) => {
            tracing::error!(%error, "writing the record ended in a panic; answering 500");
            false
        }
    }
}

#[derive(Serialize)]
struct Initiated<'a> {
    status: &'static str,
    call_id: &'a str,
    message: &'a str,
}

/// `DELETE /call/{id}`.
pub async fn cancel(
    State(shared): State<Arc<Shared>>,
    Path(call_id): Path<String>,
) -> Response<Body> {
    let fault = match shared.stumble(Route::Cancel).await {
        Ok(fault) => fault,
        Err(response) => return response,
    };
    if fault == Some(Fault::HangUpAfter) {
        cancel_call(&shared, &call_id, None);
        return hang_up();
    }
    cancel_call(&shared, &call_id, fault).into_response()
}

fn cancel_call(shared: &Shared, call_id: &str, fault: Option<Fault>) -> Reply {
    #[derive(Serialize)]
    struct Canceled<'a> {
        status: &'static str,
        call_id: &'a str,
    }
    if !shared.setup().twilio {
        let text = match shared.version {
            Version::V1 | Version::V2 => "Twilio not configured - cannot cancel calls",
            Version::V3 => "Twilio not configured",
        };
        return Reply::detail(503, text);
    }
    let mut calls = shared.calls();
    let Some(call) = calls.active.get(call_id) else {
        return Reply::detail(404, "Call not found");
    };
    if !call.outbound {
        return Reply::detail(400, "Can only cancel outbound calls");
    }
    let failed = |text: &str| Reply::detail(400, &format!("Failed to cancel: {text}"));
    if let Some(Fault::Twilio(Twilio::Refuses { .. })) = fault {
        return failed("HTTP 400 error: Unable to update record: Invalid call state");
    }
    if let Some(Fault::Twilio(Twilio::ResetsBefore | Twilio::ResetsAfter)) = fault {
        return Reply {
            status: 500,
            body: "Internal Server Error".to_owned(),
        };
    }
    // Twilio knows its own ids only, not the one which OpenAI gave to the answering leg.
    if !call_id.starts_with("CA") {
        return failed(
            "HTTP 404 error: Unable to update record: The requested resource was not found",
        );
    }
    calls.active.remove(call_id);
    Reply::ok(&Canceled {
        status: "canceled",
        call_id,
    })
}
