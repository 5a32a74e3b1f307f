//! Earlier calls with one person.

use serde::{Deserialize, Serialize};

use super::{ANSWER_TIMEOUT, Error, ask};
use crate::bus::{Connection, subjects};
use crate::domain::Timestamp;

/// Calls in an answer unless another number is asked for.
pub const CALLS_DEFAULT: usize = 10;
/// Calls in an answer at most.
pub const CALLS_MAX: usize = 100;

/// Whose calls are wanted: one of `number` and `call`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallerQuery {
    /// A number in E.164.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// A call: the person at its other end is meant, and it is not listed itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// At most so many, newest first: [`CALLS_DEFAULT`], and never more than [`CALLS_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// The calls with one person, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerAnswer {
    /// They, as far as the router's view goes back.
    pub calls: Vec<CallerCall>,
}

/// One of them. The number is what was asked with, and not repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerCall {
    /// Its id; of an outbound call, which has two, the first.
    pub id: String,
    /// `inbound` or `outbound`, once known.
    pub direction: Option<String>,
    /// `unknown`, `initiated`, `ringing`, `active` or `ended`.
    pub state: String,
    /// When it began, or when it was first heard of.
    pub at: Timestamp,
    /// From picking up to the end, in seconds; from the beginning where only the words tell that
    /// somebody picked up. `None` while it goes on, and when nobody did.
    pub seconds: Option<u64>,
    /// Why it ended.
    pub end_reason: Option<String>,
    /// Its session.
    pub session: String,
}

/// Asks the router for the calls with one person; empty when it knows of none, and for a call whose
/// caller withheld the number.
///
/// # Errors
/// See [`enum@Error`]; a call that the router does not know is refused with 404.
pub async fn caller(bus: &Connection, query: &CallerQuery) -> Result<CallerAnswer, Error> {
    let subject = subjects::SERVICE_CALLERS_GET;
    ask(bus, subject, "router", query, ANSWER_TIMEOUT).await
}
