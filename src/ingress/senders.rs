//! What senders may say, for the OpenAPI document alone: the bodies themselves are read field by
//! field, by [`super::source`], because what real senders send is wider than any type. A test holds
//! both against each other.

use serde_json::Value;
use utoipa::ToSchema;

/// An event of the phone-call server's own emitter.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes, and is never made")]
pub(super) struct CallEvent {
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]{1,128}$")]
    call_id: String,
    /// `call_started`, `call_ringing`, `call_answered`, `call_ended`, `transcript_update`, …
    #[schema(
        min_length = 1,
        max_length = 64,
        pattern = "^[A-Za-z][A-Za-z0-9_]{0,63}$"
    )]
    event_type: String,
    /// A number or a SIP `From`; must be there when a call begins, be it empty.
    #[schema(max_length = 1024)]
    phone_number: Option<String>,
    direction: Option<Direction>,
    /// RFC 3339, or without a zone.
    #[schema(format = DateTime)]
    timestamp: Option<String>,
    /// Words are in `content`, who said them in `speaker`.
    #[schema(value_type = Option<Object>)]
    data: Option<Value>,
}

/// An event of the replaced webhook bridge.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes, and is never made")]
pub(super) struct ForwardedEvent {
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]{1,128}$")]
    call_id: String,
    #[schema(
        min_length = 1,
        max_length = 64,
        pattern = "^[A-Za-z][A-Za-z0-9_]{0,63}$"
    )]
    event_type: String,
    /// RFC 3339, or without a zone.
    #[schema(format = DateTime)]
    timestamp: Option<String>,
    /// Words are in `transcript`, who said them in `speaker`.
    #[schema(value_type = Object)]
    data: Value,
}

/// A CloudEvents 1.0 event, structured.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes, and is never made")]
pub(super) struct CloudEvent {
    /// `1.0`.
    #[schema(pattern = "^1\\.0$")]
    specversion: String,
    #[schema(min_length = 1, max_length = 512)]
    id: String,
    #[schema(min_length = 1, max_length = 2048)]
    source: String,
    /// `call.started`, `call.ended`, `transcript.user`, …
    #[schema(rename = "type", min_length = 1, max_length = 256)]
    event_type: String,
    /// The call.
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]{1,128}$")]
    subject: Option<String>,
    #[schema(format = DateTime)]
    time: Option<String>,
    /// The sender's number of the event in its call.
    sequence: Option<String>,
    traceparent: Option<String>,
    datacontenttype: Option<String>,
    #[schema(value_type = Option<Object>)]
    data: Option<Value>,
}

/// Which call's transcript shall be completed.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes, and is never made")]
pub(super) struct SyncTranscript {
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]{1,128}$")]
    call_id: String,
}

/// A webhook event of OpenAI.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes, and is never made")]
pub(super) struct OpenAiEvent {
    /// `realtime.call.incoming`, `realtime.call.ended`; others are parked.
    #[schema(rename = "type")]
    event_type: String,
    id: Option<String>,
    object: Option<String>,
    /// Seconds since 1970.
    created_at: Option<i64>,
    /// `call_id`, and `sip_headers` of `name` and `value`.
    #[schema(value_type = Option<Object>)]
    data: Option<Value>,
}

/// A status callback of Twilio: these, and whatever else it adds.
#[derive(ToSchema)]
#[schema(rename_all = "PascalCase")]
#[expect(dead_code, reason = "it describes, and is never made")]
pub(super) struct TwilioCallback {
    #[schema(pattern = "^CA[0-9a-f]{32}$")]
    call_sid: String,
    /// `queued`, `initiated`, `ringing`, `in-progress`, `completed`, `busy`, `no-answer`, `canceled`
    /// or `failed`.
    call_status: String,
    account_sid: Option<String>,
    direction: Option<String>,
    from: Option<String>,
    to: Option<String>,
    sequence_number: Option<String>,
    callback_source: Option<String>,
    /// RFC 2822.
    timestamp: Option<String>,
}

/// Who called whom.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "it describes, and is never made")]
pub(super) enum Direction {
    Inbound,
    Outbound,
}
