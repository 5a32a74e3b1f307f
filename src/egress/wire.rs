//! The phone-call server's JSON, as its versions v1 to v3 send and take it.

use serde::{Deserialize, Serialize};

use crate::domain::Timestamp;

/// `POST /call`. The server ignores fields that it does not know.
#[derive(Debug, Serialize)]
pub(super) struct PlaceCall<'a> {
    pub to: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<&'a str>,
}

/// The good answer to `POST /call`.
#[derive(Debug, Deserialize)]
pub(super) struct CallPlaced {
    pub call_id: String,
}

/// Every bad answer: a string of the server's own, or a list of what is wrong with the request.
#[derive(Debug, Deserialize)]
pub(super) struct Failure {
    pub detail: serde_json::Value,
}

/// `GET /health`; which fields are there tells the version.
#[derive(Debug, Deserialize)]
pub(super) struct HealthAnswer {
    pub status: String,
    #[serde(default)]
    pub architecture: Option<String>,
    #[serde(default)]
    pub tools_enabled: Option<bool>,
}

/// `GET /calls`. What else is in an entry differs from version to version.
#[derive(Debug, Deserialize)]
pub(super) struct CallsListed {
    pub calls: Vec<ListedCall>,
}

/// One call of the list.
#[derive(Debug, Deserialize)]
pub(super) struct ListedCall {
    /// One that no name was given to is listed with `null`.
    pub call_id: serde_json::Value,
    #[serde(default)]
    pub status: Option<String>,
    /// `outbound`, `inbound` or `unknown`.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// Of an outbound call, the number dialled; `unknown` for its second leg.
    #[serde(default)]
    pub to: Option<String>,
    /// Seconds since it began.
    #[serde(default)]
    pub duration: Option<f64>,
}

/// One row of `GET /history`.
#[derive(Debug, Deserialize)]
pub(super) struct HistoryRow {
    #[serde(default)]
    pub call_id: serde_json::Value,
    #[serde(default)]
    pub callee_number: Option<String>,
    /// v2 writes UTC without saying so, later ones say `+00:00`.
    #[serde(default)]
    pub started_at: Option<String>,
    #[serde(default)]
    pub metadata: serde_json::Value,
}

/// `GET /voicebus/tap`.
#[derive(Debug, Deserialize)]
pub(super) struct TapAnswer {
    pub features: Vec<String>,
    pub complete_since: Timestamp,
}

impl TapAnswer {
    /// Whether it offers something.
    pub fn can(&self, feature: &str) -> bool {
        self.features.iter().any(|one| one == feature)
    }
}

/// `GET /voicebus/intents/{id}`.
#[derive(Debug, Deserialize)]
pub(super) struct IntentSeen {
    #[serde(flatten)]
    pub state: SeenState,
    /// The call that it made, wherever the tap knows it.
    #[serde(default)]
    pub call_id: Option<String>,
    pub complete_since: Timestamp,
    /// The tap's clock, by which it judges deadlines.
    pub time: Timestamp,
}

/// How far an intent has come at the tap.
#[derive(Debug, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub(super) enum SeenState {
    Open,
    Answered { status: u16, body: String },
    Unknown,
    Unseen,
}

/// What a tap says of a request that it did not hand on.
#[derive(Debug, Deserialize)]
pub(super) struct TapRefusal {
    pub state: String,
}

/// `GET /history/{id}/transcript`.
#[derive(Debug, Deserialize)]
pub(super) struct HistoryTranscript {
    pub transcript: Vec<HistoryEntry>,
}

/// One entry of it.
#[derive(Debug, Deserialize)]
pub(super) struct HistoryEntry {
    #[serde(default)]
    pub timestamp: Option<String>,
    #[serde(default)]
    pub speaker: String,
    #[serde(default)]
    pub content: String,
}
