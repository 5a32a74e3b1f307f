//! The JSON of answers, with its keys in the server's order.

use chrono::NaiveDateTime;
use serde::Serialize;
use serde_json::Value;

use super::super::event;
use super::calls::{Row, Utterance};

#[derive(Serialize)]
pub struct RootV2 {
    pub service: &'static str,
    pub agent: &'static str,
    pub outbound_calls_enabled: bool,
    pub recording_enabled: bool,
    pub transcription_enabled: bool,
    pub total_recorded_calls: usize,
    pub endpoints: EndpointsV2,
}

#[derive(Serialize)]
pub struct EndpointsV2 {
    pub webhook: &'static str,
    pub calls: &'static str,
    pub health: &'static str,
    pub history: &'static str,
    pub call_details: &'static str,
    pub transcript: &'static str,
    pub audio: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initiate_call: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel_call: Option<&'static str>,
}

#[derive(Serialize)]
pub struct RootV3 {
    pub service: &'static str,
    pub architecture: &'static str,
    pub agent: &'static str,
    pub voice: &'static str,
    pub stream_url: String,
    pub endpoints: EndpointsV3,
}

#[derive(Serialize)]
pub struct EndpointsV3 {
    pub voice_incoming: &'static str,
    pub media_stream: String,
    pub outbound_call: &'static str,
    pub cancel_call: &'static str,
    pub calls: &'static str,
    pub health: &'static str,
}

#[derive(Serialize)]
pub struct HealthV2 {
    pub status: &'static str,
    pub agent: &'static str,
    pub active_calls: usize,
    pub config_loaded: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools_enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_count: Option<u32>,
}

#[derive(Serialize)]
pub struct HealthV3 {
    pub status: &'static str,
    pub architecture: &'static str,
    pub agent: &'static str,
    pub voice: &'static str,
    pub active_calls: usize,
    pub audioop: &'static str,
    pub twilio_configured: bool,
    pub openai_configured: bool,
    pub stream_url: String,
    pub inbound_calls_enabled: bool,
}

#[derive(Serialize)]
pub struct List<'a> {
    pub active_calls: usize,
    pub calls: Vec<Listed<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
pub enum Listed<'a> {
    Outbound {
        call_id: &'a str,
        #[serde(rename = "type")]
        kind: &'static str,
        duration: f64,
        status: &'static str,
        agent: &'static str,
        to: &'a str,
        from: &'a str,
        twilio_status: &'static str,
    },
    Inbound {
        call_id: &'a str,
        #[serde(rename = "type")]
        kind: &'static str,
        duration: f64,
        status: &'static str,
        agent: &'static str,
        caller: &'a str,
    },
    V3 {
        call_id: &'a str,
        #[serde(rename = "type")]
        kind: &'static str,
        status: &'static str,
        duration: f64,
        to: Option<&'a str>,
        from: Option<&'a str>,
    },
}

#[derive(Serialize)]
pub struct Record<'a> {
    pub call_id: &'a str,
    pub call_type: &'static str,
    pub caller_number: Option<&'a str>,
    pub callee_number: Option<&'a str>,
    pub started_at: String,
    pub ended_at: Option<String>,
    pub duration_seconds: Option<f64>,
    pub status: &'static str,
    pub has_audio: bool,
    pub has_transcript: bool,
    pub metadata: &'a Value,
}

impl<'a> Record<'a> {
    pub fn of(call_id: &'a str, row: &'a Row) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "the length of a call")]
        let seconds = |end: NaiveDateTime| {
            (end - row.started_at).num_microseconds().unwrap_or(0) as f64 / 1e6
        };
        Self {
            call_id,
            call_type: row.call_type,
            caller_number: row.caller_number.as_deref(),
            callee_number: row.callee_number.as_deref(),
            started_at: event::timestamp(row.started_at),
            ended_at: row.ended_at.map(event::timestamp),
            duration_seconds: row.ended_at.map(seconds),
            status: row.status,
            has_audio: false,
            has_transcript: !row.transcript.is_empty(),
            metadata: &row.metadata,
        }
    }
}

#[derive(Serialize)]
pub struct Transcript<'a> {
    pub transcript: &'a [Utterance],
    pub call_info: Record<'a>,
}

#[derive(Serialize)]
pub struct Deleted<'a> {
    pub status: &'static str,
    pub call_id: &'a str,
}

#[derive(Serialize)]
pub struct Stats {
    pub total_calls: usize,
    pub active_calls: usize,
    pub calls_with_audio: usize,
    pub calls_with_transcripts: usize,
    pub recordings_directory: &'static str,
    pub recordings_size_mb: f64,
    pub recording_enabled: bool,
    pub transcription_enabled: bool,
}
