//! NATS micro services: how to offer one, and how to ask the router's.
//!
//! Requests and answers are JSON. A failure comes as `Nats-Service-Error` with a code like HTTP's.

mod callers;
mod egress;

use std::time::Duration;

use async_nats::service::ServiceExt;
use async_nats::service::endpoint::Endpoint;
use bytes::Bytes;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

pub use async_nats::service::Service;
pub use callers::{CALLS_DEFAULT, CALLS_MAX, CallerAnswer, CallerCall, CallerQuery, caller};
pub use egress::{
    ByCall, EgressStatus, FillQuery, Filled, IntentAnswer, LinksAnswer, PresenceAnswer,
    UnresolvedAnswer, call_presence, egress_status, fill_transcript, intent, links, unresolved,
};

use super::envelope::{CallSnapshot, CommandSnapshot};
use super::{Bus, subjects};
use crate::domain::Timestamp;
use crate::domain::ids::IntentId;

/// Most calls in one answer.
pub const CALLS_PER_ANSWER_MAX: usize = 1_000;

/// How long a question to a service may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a service gave no answer.
#[derive(Debug, Error)]
pub enum Error {
    /// Nobody offers it at the moment.
    #[error("nobody answers `{subject}`; is the {role} running?")]
    Nobody {
        /// What was asked.
        subject: &'static str,
        /// Who should answer.
        role: &'static str,
    },
    /// No answer in time, or one that cannot be read.
    #[error("no usable answer from `{subject}`: {reason}")]
    Failed {
        /// What was asked.
        subject: &'static str,
        /// What is known.
        reason: String,
    },
    /// The service says no.
    #[error("{text}")]
    Refused {
        /// A code like HTTP's.
        code: u16,
        /// The service's own sentence.
        text: String,
    },
}

/// A call with what the router's view knows beside its snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallView {
    /// The call.
    #[serde(flatten)]
    pub call: CallSnapshot,
    /// When its last event happened.
    pub last_at: Timestamp,
    /// Number of its last event.
    pub sequence: u64,
    /// For calls of a session that are not over: what the call was given to know, all of it merged,
    /// as far as the view has heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<serde_json::Map<String, serde_json::Value>>,
}

/// A session and its calls, newest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionView {
    /// The session.
    pub session: String,
    /// Its calls that are not over, newest first.
    pub active: Vec<CallView>,
    /// Its calls that are over, newest first, as far as the view goes back.
    pub ended: Vec<CallView>,
    /// Intents of dials that egress has taken up and that have no outcome yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<String>,
}

/// Which calls are wanted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallsQuery {
    /// Only calls that are not over.
    #[serde(default)]
    pub active: bool,
    /// Only calls of this session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Only calls with this number, in E.164.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// At most so many, newest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// The calls.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CallsAnswer {
    /// Calls that are not over, whether or not they are listed.
    pub active: usize,
    /// The calls wanted, newest first.
    pub calls: Vec<CallView>,
}

/// Names one thing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ById {
    /// Its id or key.
    pub id: String,
}

/// Asks a service.
///
/// # Errors
/// See [`enum@Error`].
pub async fn ask<Q: Serialize + Sync, A: DeserializeOwned>(
    bus: &super::Connection,
    subject: &'static str,
    role: &'static str,
    query: &Q,
    timeout: Duration,
) -> Result<A, Error> {
    let failed = |reason: String| Error::Failed { subject, reason };
    let payload = serde_json::to_vec(query).map_err(|error| failed(error.to_string()))?;
    let request = bus.client().request(subject, payload.into());
    let answer = match tokio::time::timeout(timeout, request).await {
        Err(_elapsed) => return Err(failed("no answer in time".to_owned())),
        Ok(Err(error)) if error.kind() == async_nats::RequestErrorKind::NoResponders => {
            return Err(Error::Nobody { subject, role });
        }
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Ok(Ok(answer)) => answer,
    };
    if let Some(headers) = &answer.headers
        && let Some(code) = headers.get("Nats-Service-Error-Code")
    {
        let text = headers
            .get("Nats-Service-Error")
            .map(|text| text.as_str().to_owned())
            .unwrap_or_default();
        return Err(Error::Refused {
            code: code.as_str().parse().unwrap_or(500),
            text,
        });
    }
    serde_json::from_slice(&answer.payload).map_err(|error| failed(error.to_string()))
}

/// Asks the router for calls.
///
/// # Errors
/// See [`enum@Error`].
pub async fn calls(bus: &super::Connection, query: &CallsQuery) -> Result<CallsAnswer, Error> {
    ask(
        bus,
        subjects::SERVICE_CALLS_LIST,
        "router",
        query,
        ANSWER_TIMEOUT,
    )
    .await
}

/// Asks the router for one call; `None` when its view does not have it.
///
/// # Errors
/// See [`enum@Error`].
pub async fn call(bus: &super::Connection, id: &str) -> Result<Option<CallView>, Error> {
    found(
        ask(
            bus,
            subjects::SERVICE_CALLS_GET,
            "router",
            &ById { id: id.to_owned() },
            ANSWER_TIMEOUT,
        )
        .await,
    )
}

/// Asks the router for sessions that have a call that is not over.
///
/// # Errors
/// See [`enum@Error`].
pub async fn sessions(bus: &super::Connection) -> Result<Vec<SessionView>, Error> {
    ask(
        bus,
        subjects::SERVICE_SESSIONS_LIST,
        "router",
        &serde_json::json!({}),
        ANSWER_TIMEOUT,
    )
    .await
}

/// Asks the router for one session; `None` when its view does not have it.
///
/// # Errors
/// See [`enum@Error`].
pub async fn session(bus: &super::Connection, key: &str) -> Result<Option<SessionView>, Error> {
    let query = ById { id: key.to_owned() };
    found(
        ask(
            bus,
            subjects::SERVICE_SESSIONS_GET,
            "router",
            &query,
            ANSWER_TIMEOUT,
        )
        .await,
    )
}

/// Asks the router what became of a command; `None` when nothing is known of it.
///
/// # Errors
/// See [`enum@Error`].
pub async fn command(
    bus: &super::Connection,
    id: &IntentId,
) -> Result<Option<CommandSnapshot>, Error> {
    let query = ById { id: id.to_string() };
    found(
        ask(
            bus,
            subjects::SERVICE_COMMANDS_GET,
            "router",
            &query,
            ANSWER_TIMEOUT,
        )
        .await,
    )
}

fn found<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(Error::Refused { code: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What an endpoint answers: JSON, or a code like HTTP's and a sentence.
pub type Answer = Result<Bytes, (u16, String)>;

/// Offers a service.
///
/// # Errors
/// When the server does not let us.
pub async fn offer(bus: &Bus, name: &str, description: &str) -> Result<Service, String> {
    bus.connection()
        .client()
        .service_builder()
        .description(description)
        .start(name, env!("CARGO_PKG_VERSION"))
        .await
        .map_err(|error| error.to_string())
}

/// Adds an endpoint on a subject of ours.
///
/// # Errors
/// When the server does not let us.
pub async fn endpoint(
    service: &Service,
    name: &str,
    subject: &'static str,
) -> Result<Endpoint, String> {
    service
        .endpoint_builder()
        .name(name)
        .add(subject)
        .await
        .map_err(|error| error.to_string())
}

/// Answers the requests of an endpoint until `stop`, at most `concurrency` at once.
pub async fn answer<H, F>(
    mut endpoint: Endpoint,
    concurrency: usize,
    stop: &CancellationToken,
    handle: H,
) where
    H: Fn(Bytes) -> F,
    F: Future<Output = Answer>,
{
    let mut at_work = futures_util::stream::FuturesUnordered::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(()) = at_work.next(), if !at_work.is_empty() => {}
            request = endpoint.next(), if at_work.len() < concurrency => {
                let Some(request) = request else { return };
                let answer = handle(request.message.payload.clone());
                at_work.push(async move {
                    let answer = answer.await.map_err(|(code, text)| {
                        async_nats::service::error::Error { status: text, code: usize::from(code) }
                    });
                    if let Err(error) = request.respond(answer).await {
                        tracing::debug!(%error, "answer not sent");
                    }
                });
            }
        }
    }
}

/// An answer in JSON.
///
/// # Errors
/// When the value cannot be written, which is a mistake of ours.
pub fn json<T: Serialize>(value: &T) -> Answer {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| (500, error.to_string()))
}
