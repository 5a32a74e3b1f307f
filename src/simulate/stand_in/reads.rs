//! Everything that only reads, and `DELETE /history/{id}`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::Response;
use axum::middleware::Next;
use axum::response::IntoResponse as _;
use chrono::Utc;

use super::super::args::Version;
use super::Shared;
use super::calls::Row;
use super::fault::{Fault, Route};
use super::page::Page;
use super::reply::{Reply, hang_up};
use super::wire::{
    Deleted, EndpointsV2, EndpointsV3, HealthV2, HealthV3, List, Listed, Record, RootV2, RootV3,
    Stats, Transcript,
};

/// Puts the faults of reading routes in front of them.
pub async fn with_faults(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let route = match request.uri().path() {
        "/calls" => Route::Calls,
        "/health" => Route::Health,
        path if path.starts_with("/history") => Route::History,
        _ => return next.run(request).await,
    };
    match shared.stumble(route).await {
        Err(response) => response,
        Ok(fault) => {
            let response = next.run(request).await;
            if fault == Some(Fault::HangUpAfter) {
                hang_up()
            } else {
                response
            }
        }
    }
}

/// `GET /`
pub async fn root(State(shared): State<Arc<Shared>>) -> Reply {
    let twilio = shared.setup().twilio;
    if shared.version == Version::V3 {
        let stream_url = shared.stream_url();
        return Reply::ok(&RootV3 {
            service: "Nia Voice Server",
            architecture: "Twilio Media Streams + OpenAI Realtime",
            agent: AGENT,
            voice: VOICE,
            endpoints: EndpointsV3 {
                voice_incoming: "POST /voice/incoming — Twilio voice webhook (TwiML)",
                media_stream: format!("WS   {stream_url} — audio bridge"),
                outbound_call: "POST /call — initiate outbound call",
                cancel_call: "DELETE /call/{id} — cancel outbound call",
                calls: "GET  /calls — list active calls",
                health: "GET  /health — health check",
            },
            stream_url,
        });
    }
    Reply::ok(&RootV2 {
        service: "OpenAI Voice Server",
        agent: AGENT,
        outbound_calls_enabled: twilio,
        recording_enabled: true,
        transcription_enabled: true,
        total_recorded_calls: shared.calls().history.len(),
        endpoints: EndpointsV2 {
            webhook: "POST /webhook - Handle OpenAI/Twilio webhooks",
            calls: "GET /calls - List active calls",
            health: "GET /health - Health check",
            history: "GET /history - Get call history",
            call_details: "GET /history/{call_id} - Get call details",
            transcript: "GET /history/{call_id}/transcript - Get call transcript",
            audio: "GET /history/{call_id}/audio - Download call audio",
            initiate_call: twilio.then_some("POST /call - Initiate outbound call"),
            cancel_call: twilio.then_some("DELETE /call/{call_id} - Cancel outbound call"),
        },
    })
}

/// `GET /health`
pub async fn health(State(shared): State<Arc<Shared>>) -> Reply {
    let active_calls = shared.calls().active.len();
    let setup = shared.setup();
    match shared.version {
        Version::V1 | Version::V2 => {
            let tools = (shared.version == Version::V2).then_some(());
            Reply::ok(&HealthV2 {
                status: "ok",
                agent: AGENT,
                active_calls,
                config_loaded: true,
                tools_enabled: tools.map(|()| true),
                tool_count: tools.map(|()| 1),
            })
        }
        Version::V3 => Reply::ok(&HealthV3 {
            status: "ok",
            architecture: "twilio-media-streams + openai-realtime",
            agent: AGENT,
            voice: VOICE,
            active_calls,
            audioop: "stdlib",
            twilio_configured: setup.twilio,
            openai_configured: setup.openai_key,
            stream_url: shared.stream_url(),
            inbound_calls_enabled: false,
        }),
    }
}

/// `GET /calls`
pub async fn calls(State(shared): State<Arc<Shared>>) -> Reply {
    let (calls, v3, now) = (shared.calls(), shared.version == Version::V3, Utc::now());
    let listed: Vec<Listed<'_>> = calls
        .active
        .iter()
        .map(|(call_id, call)| {
            #[expect(clippy::cast_precision_loss, reason = "seconds since a call began")]
            let duration = (now - call.started_at)
                .num_microseconds()
                .unwrap_or(0)
                .max(0) as f64
                / 1e6;
            let kind = if call.outbound { "outbound" } else { "inbound" };
            let (to, from, status) = (call.to.as_deref(), call.from.as_deref(), call.status);
            if v3 {
                let duration = (duration * 10.0).round() / 10.0;
                return Listed::V3 {
                    call_id,
                    kind,
                    status,
                    duration,
                    to,
                    from,
                };
            }
            let unknown = "unknown";
            let (to, from) = (to.unwrap_or(unknown), from.unwrap_or(unknown));
            if call.outbound {
                Listed::Outbound {
                    call_id,
                    kind,
                    duration,
                    status,
                    agent: AGENT,
                    to,
                    from,
                    twilio_status: unknown,
                }
            } else {
                Listed::Inbound {
                    call_id,
                    kind,
                    duration,
                    status,
                    agent: AGENT,
                    caller: from,
                }
            }
        })
        .collect();
    Reply::ok(&List {
        active_calls: listed.len(),
        calls: listed,
    })
}

/// `GET /history`
pub async fn history(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<Vec<(String, String)>>,
) -> Reply {
    let asked = match Page::parse(&query) {
        Ok(page) => page,
        Err(mistakes) => return Reply::invalid(mistakes),
    };
    let calls = shared.calls();
    let wanted = calls
        .history
        .iter()
        .rev()
        .filter(|(_, row)| asked.call_type.is_none_or(|kind| kind == row.call_type));
    let rows: Vec<Record<'_>> = wanted
        .skip(asked.offset)
        .take(asked.limit)
        .map(|(call_id, row)| Record::of(call_id, row))
        .collect();
    Reply::ok(&rows)
}

/// `GET /history/{id}`
pub async fn details(State(shared): State<Arc<Shared>>, Path(call_id): Path<String>) -> Reply {
    match shared.calls().history.get(&call_id) {
        Some(row) => Reply::ok(&Record::of(&call_id, row)),
        None => Reply::detail(404, NO_CALL),
    }
}

/// `GET /history/{id}/transcript`
pub async fn transcript(State(shared): State<Arc<Shared>>, Path(call_id): Path<String>) -> Reply {
    match shared.calls().history.get(&call_id) {
        Some(row) => Reply::ok(&Transcript {
            transcript: &row.transcript,
            call_info: Record::of(&call_id, row),
        }),
        None => Reply::detail(404, NO_CALL),
    }
}

/// `GET /history/{id}/audio`: a path is on record, a file never is.
pub async fn audio(State(shared): State<Arc<Shared>>, Path(call_id): Path<String>) -> Reply {
    let known = shared.calls().history.get(&call_id).is_some();
    Reply::detail(
        404,
        if known {
            "Audio file not found"
        } else {
            NO_CALL
        },
    )
}

/// `DELETE /history/{id}`
pub async fn forget(State(shared): State<Arc<Shared>>, Path(call_id): Path<String>) -> Reply {
    match shared.calls().history.remove(&call_id) {
        Some(_) => Reply::ok(&Deleted {
            status: "deleted",
            call_id: &call_id,
        }),
        None => Reply::detail(404, NO_CALL),
    }
}

/// `GET /storage/stats`
pub async fn stats(State(shared): State<Arc<Shared>>) -> Reply {
    let calls = shared.calls();
    let count =
        |wanted: fn(&Row) -> bool| calls.history.iter().filter(|(_, row)| wanted(row)).count();
    Reply::ok(&Stats {
        total_calls: calls.history.len(),
        active_calls: count(|row| row.status == "active"),
        calls_with_audio: 0,
        calls_with_transcripts: count(|row| !row.transcript.is_empty()),
        recordings_directory: "recordings",
        recordings_size_mb: 0.0,
        recording_enabled: true,
        transcription_enabled: true,
    })
}

pub async fn not_found() -> Response<Body> {
    Reply::detail(404, "Not Found").into_response()
}

pub async fn method_not_allowed() -> Response<Body> {
    Reply::detail(405, "Method Not Allowed").into_response()
}

const AGENT: &str = "Nia";
const VOICE: &str = "shimmer";
const NO_CALL: &str = "Call not found";
