//! The phone-call server's JSON, as its versions v1 to v3 send and take it.

use serde::{Deserialize, Serialize};

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
