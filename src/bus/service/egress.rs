//! What egress is asked.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Error, ask};
use crate::bus::{Connection, subjects};
use crate::domain::ids::CallId;
use crate::domain::timer::Presence;

/// How egress and the phone-call server are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EgressStatus {
    /// `healthy`, `unhealthy` or `unreachable`.
    pub voice_server: String,
    /// The contract it speaks, as far as known: `v1`, `v2`, `v3`.
    #[serde(default)]
    pub voice_server_version: Option<String>,
    /// Commands being worked on.
    pub in_flight: usize,
}

/// Names one call.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByCall {
    /// Its id.
    pub call: String,
}

/// Whether the phone-call server has a call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PresenceAnswer {
    /// `present`, `absent` or `unknown`.
    pub presence: String,
}

/// What the phone-call server's history has of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filled {
    /// Utterances in the history; all of them are inputs by the time of the answer.
    pub entries: usize,
    /// Those that had not been put into the stream of inputs lately.
    pub new: usize,
}

/// Asks egress how it is.
///
/// # Errors
/// See [`enum@Error`].
pub async fn egress_status(bus: &Connection) -> Result<EgressStatus, Error> {
    let timeout = Duration::from_millis(500);
    ask(
        bus,
        subjects::SERVICE_EGRESS_STATUS,
        "egress",
        &serde_json::json!({}),
        timeout,
    )
    .await
}

/// Asks egress whether the phone-call server has a call.
///
/// # Errors
/// See [`enum@Error`].
pub async fn call_presence(
    bus: &Connection,
    call: &CallId,
    timeout: Duration,
) -> Result<Presence, Error> {
    let query = ByCall {
        call: call.to_string(),
    };
    let answer: PresenceAnswer = ask(
        bus,
        subjects::SERVICE_EGRESS_CALL,
        "egress",
        &query,
        timeout,
    )
    .await?;
    Ok(Presence::read(&answer.presence))
}

/// Asks egress to put what the history has of a call into the stream of inputs.
///
/// # Errors
/// See [`enum@Error`].
pub async fn fill_transcript(
    bus: &Connection,
    call: &CallId,
    timeout: Duration,
) -> Result<Filled, Error> {
    let query = ByCall {
        call: call.to_string(),
    };
    ask(
        bus,
        subjects::SERVICE_EGRESS_TRANSCRIPT,
        "egress",
        &query,
        timeout,
    )
    .await
}
