//! What the ingress answers, in the shapes that the replaced bridges gave.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Counters;
use crate::bus::canary::Watched;
use crate::bus::durability::Durability;
use crate::bus::envelope::LinkRecord;
use crate::bus::service::EgressStatus;
use crate::domain::Timestamp;

/// An event was taken: it is on disk.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct EventTaken {
    /// `accepted`, or what the replaced bridge said; `parked` when nobody knows its type.
    pub status: String,
    /// Its id, the same however often it is sent.
    pub event_id: String,
    /// Whether it was there already.
    pub duplicate: bool,
    /// Whether it waits on the disk of the ingress, because NATS is away.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub spooled: bool,
}

/// Events were taken.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventsTaken {
    /// `accepted`.
    pub status: &'static str,
    /// They, in the order of the batch.
    pub events: Vec<EventTaken>,
}

/// The transcript of a call will be completed, as far as the phone-call server has more of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SyncAsked {
    pub success: bool,
    /// 0: what is found comes out on the feed.
    pub messages_injected: u32,
    pub call_id: String,
}

/// A call was placed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CallPlaced {
    /// `initiated`.
    pub status: &'static str,
    /// The id that the phone-call server gave it.
    pub call_id: Option<String>,
    /// The session as it was named.
    pub openclaw_session_id: String,
    /// The session as it is.
    pub session_key: String,
    /// Names the wish, for asking again.
    pub intent_id: String,
    /// The same for people.
    pub message: String,
}

/// A call to place is stored, and what becomes of it is not known yet.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CommandStored {
    /// `queued`.
    pub status: &'static str,
    /// Ask for it at `/openclaw/call/{id}`.
    pub intent_id: String,
    /// The session as it was named.
    pub openclaw_session_id: String,
    /// The session as it is.
    pub session_key: String,
    /// The same for people.
    pub message: String,
}

/// Calls were ended.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CallsEnded {
    /// `canceled`.
    pub status: &'static str,
    /// One of them.
    pub call_id: String,
    /// How many.
    pub calls: usize,
    /// The dials that were taken back beside them.
    pub intent_ids: Vec<String>,
}

/// Calls are taken back that were not placed yet.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TakenBack {
    /// `canceling`.
    pub status: &'static str,
    /// The one that was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub intent_id: Option<String>,
    /// All that a session waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub intent_ids: Option<Vec<String>>,
    /// The same for people.
    pub message: String,
}

/// The links from numbers to sessions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Links {
    #[schema(value_type = Vec<Object>)]
    pub links: Vec<LinkRecord>,
    /// Whether there are more than are listed.
    pub more: bool,
}

/// What became of a link.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LinkSet {
    /// `linked`, `unlinked`, or `queued` while that is not known.
    pub status: &'static str,
    /// The session as it is.
    pub session_key: Option<String>,
    /// Names the command in the events about it.
    pub command_id: String,
}

/// A call was given something to know.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ContextInjected {
    /// `context_injected`.
    pub status: &'static str,
    pub call_id: String,
    /// Whether the conversation that is going on knows it, too.
    pub live: bool,
}

/// The assistant has said something.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Said {
    /// `said`.
    pub status: &'static str,
    pub call_id: String,
}

/// A command about a call is stored, and what becomes of it is not known yet.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CallCommandStored {
    /// `queued`.
    pub status: &'static str,
    pub call_id: String,
    /// Names the command in the events about it.
    pub intent_id: String,
}

/// The sessions that have a call which is not over.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Sessions {
    /// How many.
    pub active_sessions: usize,
    pub sessions: Vec<Session>,
}

/// A session by its newest call.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Session {
    /// The session as it was named.
    pub openclaw_session_id: String,
    /// The session as it is.
    pub session_key: String,
    /// The other end, in E.164.
    pub phone_number: Option<String>,
    /// Always null.
    pub caller_id: Option<String>,
    /// What its call was given to know.
    #[schema(value_type = Option<Object>)]
    pub context: Option<Map<String, Value>>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_at: Option<Timestamp>,
    /// How the call is.
    pub status: String,
    /// The same.
    pub current_status: String,
    pub call_id: String,
    /// `inbound` or `outbound`, once known.
    pub direction: Option<String>,
    /// All its calls, newest first.
    pub call_ids: Vec<String>,
}

/// How voicebus is, in one word for each part.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `healthy` or `degraded`.
    pub status: &'static str,
    pub nats: &'static str,
    pub router: &'static str,
    /// The phone-call server, as egress sees it.
    pub main_server: String,
    /// Whether dials leave, or why not.
    pub dialling: String,
    /// `off`, `empty` or `waiting`.
    pub spool: &'static str,
    #[serde(rename = "activeCalls")]
    pub active_calls: Option<usize>,
    pub timestamp: String,
}

/// What an ingress has done, and what it sees of the others.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status<'a> {
    pub version: &'static str,
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    pub nats: NatsStatus,
    /// Whether the server flushes before it acknowledges, as far as it says.
    #[schema(value_type = Option<Object>)]
    pub acknowledged: Option<Durability>,
    /// Whether its streams take messages.
    #[schema(value_type = Vec<Object>)]
    pub streams: Vec<Watched>,
    /// Events by what became of them.
    #[schema(value_type = std::collections::BTreeMap<String, u64>)]
    pub events: &'a Counters,
    pub spool: Option<SpoolStatus>,
    pub active_calls: Option<usize>,
    /// What egress says of itself.
    #[schema(value_type = Option<Object>)]
    pub egress: Option<EgressStatus>,
}

/// How the connection to NATS is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NatsStatus {
    pub connected: bool,
    /// How often it was lost.
    pub disconnects: u64,
    /// What the server did not permit.
    pub denials: u64,
}

/// How the spool is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SpoolStatus {
    pub events: u64,
    pub bytes: u64,
    /// Events that NATS refuses for good.
    pub set_aside: u64,
    pub oldest_age_seconds: Option<f64>,
    /// Why nothing leaves it.
    pub stalled: Option<String>,
}
