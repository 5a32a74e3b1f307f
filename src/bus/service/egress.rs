//! What egress is asked.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ById, Error, ask, found};
use crate::bus::envelope::LinkRecord;
use crate::bus::{Connection, subjects};
use crate::domain::Timestamp;
use crate::domain::dial::{Record, State};
use crate::domain::ids::{CallId, IntentId};
use crate::domain::timer::Presence;

/// How long a question about records may take.
const RECORDS_TIMEOUT: Duration = Duration::from_secs(2);

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
    /// `open` while dials leave; else why they wait (`server-away`, `server-failing`, `safe-mode`) or
    /// are refused (`records-full`).
    #[serde(default)]
    pub dialling: String,
    /// Why nothing is dialled until a person says so: records of dials were lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safe_mode: Option<String>,
    /// Whether a high-water mark is kept outside NATS, by which lost records are noticed.
    #[serde(default)]
    pub high_water_mark: bool,
    /// Whether the phone-call server has a tap that refuses repeats of a dial.
    #[serde(default)]
    pub tap: bool,
    /// Dials whose outcome is unknown; `None` when NATS did not say.
    #[serde(default)]
    pub unresolved: Option<usize>,
}

/// How far one wish to dial has come, as its record has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntentAnswer {
    /// The intent.
    pub id: String,
    /// `waiting`, `sending`, `unknown`, `confirmed`, `refused`, `cancelled`, `expired` or
    /// `abandoned`.
    pub state: String,
    /// Since when.
    pub at: Timestamp,
    /// The call that came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// Why it is as it is: a stable word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The same, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of a refused one: when the same wish would be taken, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passes_at: Option<Timestamp>,
    /// Of an unknown one: whether it is no longer looked for, and a person must say.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub settled: bool,
    /// Whom to call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The session of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// After this instant nothing is dialled any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Tells this wish from another under the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

impl IntentAnswer {
    /// What a record says.
    #[must_use]
    pub fn of(intent: &IntentId, record: &Record) -> Self {
        let wish = record.wish.as_ref();
        let reason = record.state.reason();
        Self {
            id: intent.to_string(),
            state: record.state.as_str().to_owned(),
            at: record.at,
            call: record.state.call().map(ToString::to_string),
            code: reason.map(|reason| reason.code.clone()),
            reason: reason.map(|reason| reason.text.clone()),
            passes_at: match &record.state {
                State::Refused { passes_at, .. } => *passes_at,
                _ => None,
            },
            settled: matches!(record.state, State::Unknown { settled: true, .. }),
            to: wish.map(|wish| wish.to.to_string()),
            session: wish.map(|wish| wish.session.to_string()),
            deadline: wish.map(|wish| wish.deadline),
            fingerprint: wish.map(|wish| wish.fingerprint.clone()),
        }
    }
}

/// Dials whose outcome is unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnresolvedAnswer {
    /// They, at most some hundred.
    pub intents: Vec<IntentAnswer>,
}

/// Numbers that are linked to sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinksAnswer {
    /// They, by session and number.
    pub links: Vec<LinkRecord>,
    /// Whether there are more than fit.
    #[serde(default)]
    pub more: bool,
}

/// Names one call.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByCall {
    /// Its id.
    pub call: String,
}

/// Names a call whose history is wanted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FillQuery {
    /// Its id.
    pub call: String,
    /// Whether it goes on: what was said in the last seconds is then on its way, and left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub goes_on: bool,
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
    /// Utterances that the history was asked for; all are inputs by the time of the answer.
    pub entries: usize,
    /// Those that had not been put into the stream of inputs lately.
    pub new: usize,
}

/// Asks egress how it is.
///
/// # Errors
/// See [`enum@Error`].
pub async fn egress_status(bus: &Connection) -> Result<EgressStatus, Error> {
    let timeout = Duration::from_secs(1);
    ask(
        bus,
        subjects::SERVICE_EGRESS_STATUS,
        "egress",
        &serde_json::json!({}),
        timeout,
    )
    .await
}

/// Asks egress how far a wish to dial has come; `None` when it has never heard of it.
///
/// # Errors
/// See [`enum@Error`].
pub async fn intent(bus: &Connection, id: &IntentId) -> Result<Option<IntentAnswer>, Error> {
    let query = ById { id: id.to_string() };
    let subject = subjects::SERVICE_EGRESS_INTENT;
    found(ask(bus, subject, "egress", &query, RECORDS_TIMEOUT).await)
}

/// Asks egress for the dials whose outcome is unknown.
///
/// # Errors
/// See [`enum@Error`].
pub async fn unresolved(bus: &Connection) -> Result<UnresolvedAnswer, Error> {
    let subject = subjects::SERVICE_EGRESS_UNRESOLVED;
    let all = serde_json::json!({});
    ask(bus, subject, "egress", &all, RECORDS_TIMEOUT).await
}

/// Asks egress which numbers are linked to which sessions.
///
/// # Errors
/// See [`enum@Error`].
pub async fn links(bus: &Connection) -> Result<LinksAnswer, Error> {
    let subject = subjects::SERVICE_EGRESS_LINKS;
    let all = serde_json::json!({});
    ask(bus, subject, "egress", &all, RECORDS_TIMEOUT).await
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

/// Asks egress to put what the history has of a call into the stream of inputs; of a call that
/// goes on, without the last seconds.
///
/// # Errors
/// See [`enum@Error`].
pub async fn fill_transcript(
    bus: &Connection,
    call: &CallId,
    goes_on: bool,
    timeout: Duration,
) -> Result<Filled, Error> {
    let query = FillQuery {
        call: call.to_string(),
        goes_on,
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
