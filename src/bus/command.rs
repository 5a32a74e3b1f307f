//! Every door's way to a command: store it, then wait for its outcome on the public feed.
//!
//! HTTP, the micro services and the command line all come through here, so that a command means
//! the same everywhere. A caller that stops waiting loses nothing: the outcome is an event.

mod conversation;
mod first;
mod session;

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use thiserror::Error;

use super::envelope::{CommandSnapshot, DialRequest, EventEnvelope, HangupRequest, Outcome};
use super::{Bus, envelope, publish, service, subjects};
use crate::domain::command::{Status, Verb};
use crate::domain::ids::{CallId, IntentId};

/// Longest wait for an outcome. A dial is answered when the phone-call server has answered, some
/// seconds at most.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// Where the id of a dial comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// It was made for this request: nobody can have asked under it before.
    Now,
    /// By whoever asks, perhaps again.
    ByCaller,
}

/// Why a command was not stored.
#[derive(Debug, Error)]
pub enum Error {
    /// The request says something that cannot be.
    #[error(transparent)]
    Request(#[from] envelope::Error),
    /// Another dial has this id, with another number, other words or another session; it is left
    /// as it is.
    #[error("another call was asked for under this id; use a new one")]
    Conflict,
    /// The bus did not take it; nothing will happen, unless [`publish::Error::Unclear`].
    #[error("the command was not stored")]
    Publish(#[from] publish::Error),
    /// The bus does not let us listen for the outcome; nothing was stored.
    #[error("cannot listen for the outcome: {0}")]
    Listen(String),
    /// Another command has this id, and it cannot be said which; nothing was stored.
    #[error("the command that has this id already cannot be read: {0}")]
    Read(String),
}

impl Bus {
    /// Stores a dial command and waits for its outcome, at most `wait` and [`WAIT_MAX`].
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn dial(
        &self,
        intent: &IntentId,
        named: Named,
        request: &DialRequest,
        wait: Duration,
    ) -> Result<Outcome, Error> {
        let stored = DialRequest {
            intent: Some(intent.to_string()),
            wait_ms: None,
            ..request.clone()
        };
        if named == Named::ByCaller
            && let Some(outcome) = self.told_of_dial(intent, &stored).await?
        {
            return Ok(outcome);
        }
        let command = self.store_first(intent, &stored);
        self.submit(intent, wait, command).await
    }

    /// What became of a dial that was asked for before, once there is an answer. Egress has its
    /// record for months; what it has not taken yet is in the stream.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the id is that of another dial.
    pub async fn told_of_dial(
        &self,
        intent: &IntentId,
        request: &DialRequest,
    ) -> Result<Option<Outcome>, Error> {
        let record = service::intent(self.connection(), intent).await;
        let Ok(Some(record)) = record else {
            let first = self.first_fingerprint(intent).await.ok().flatten();
            return match first {
                Some(first) if first != request.fingerprint() => Err(Error::Conflict),
                _ => Ok(None),
            };
        };
        if record
            .fingerprint
            .is_some_and(|known| known != request.fingerprint())
        {
            return Err(Error::Conflict);
        }
        let command = service::command(self.connection(), intent).await;
        let told = command.ok().flatten().filter(is_answer);
        Ok(told.map(Outcome::answered))
    }

    /// Stores that a dial is taken back. It is, unless it was sent already.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn cancel_dial(&self, intent: &IntentId) -> Result<(), Error> {
        let id = format!("cancel {intent}");
        let subject = subjects::cancel(intent);
        self.store(subject, &id, Bytes::from_static(b"{}")).await?;
        Ok(())
    }

    /// Stores a hang-up command and waits for its outcome.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn hang_up(
        &self,
        id: &IntentId,
        call: &CallId,
        session: Option<String>,
        wait: Duration,
    ) -> Result<Outcome, Error> {
        let request = HangupRequest {
            id: Some(id.to_string()),
            call: Some(call.to_string()),
            session,
            wait_ms: None,
        };
        let command = self.store_command(Verb::Hangup, call.as_str(), id, json(&request)?);
        self.submit(id, wait, command).await
    }

    /// Stores a command. Says whether it was there already.
    async fn store_command(
        &self,
        verb: Verb,
        key: &str,
        id: &IntentId,
        payload: Bytes,
    ) -> Result<bool, Error> {
        let message_id = format!("{} {id}", verb.as_str());
        let stored = self.store(subjects::command(verb, key), &message_id, payload);
        Ok(stored.await?.duplicate)
    }

    /// Has a command stored and waits for its outcome.
    async fn submit(
        &self,
        id: &IntentId,
        wait: Duration,
        command: impl Future<Output = Result<bool, Error>>,
    ) -> Result<Outcome, Error> {
        // Listening comes first: the outcome may be there before the acknowledgement.
        let listen = subjects::events_of_command(id);
        let mut outcomes = self
            .connection()
            .client()
            .subscribe(listen)
            .await
            .map_err(|error| Error::Listen(error.to_string()))?;
        let duplicate = match command.await {
            Ok(duplicate) => duplicate,
            // It may have been stored; then its outcome comes, and that is the better answer.
            Err(error @ Error::Publish(publish::Error::Unclear { .. })) => {
                let outcome =
                    tokio::time::timeout(wait.min(WAIT_MAX), next_answer(&mut outcomes)).await;
                return match outcome {
                    Ok(Some(command)) => Ok(Outcome::answered(command)),
                    Ok(None) | Err(_) => Err(error),
                };
            }
            Err(error) => return Err(error),
        };
        // The first answer is there, however short one wants to wait for it.
        if duplicate
            && let Ok(Some(known)) = service::command(self.connection(), id).await
            && is_answer(&known)
        {
            return Ok(Outcome::answered(known));
        }
        let waited = tokio::time::timeout(wait.min(WAIT_MAX), next_answer(&mut outcomes)).await;
        Ok(match waited {
            Ok(Some(command)) => Outcome::answered(command),
            Ok(None) | Err(_) => Outcome::queued(id),
        })
    }
}

fn json<T: serde::Serialize>(value: &T) -> Result<Bytes, envelope::Error> {
    let bytes = serde_json::to_vec(value).map_err(|source| envelope::Error::Json {
        what: "command",
        source,
    })?;
    Ok(bytes.into())
}

/// The next outcome; `None` when the connection is closed.
async fn next_answer(outcomes: &mut async_nats::Subscriber) -> Option<CommandSnapshot> {
    loop {
        let message = outcomes.next().await?;
        if let Some(command) = answer_in(&message.payload) {
            return Some(command);
        }
    }
}

fn answer_in(payload: &[u8]) -> Option<CommandSnapshot> {
    let event: EventEnvelope = serde_json::from_slice(payload).ok()?;
    event.data.command.filter(is_answer)
}

fn is_answer(command: &CommandSnapshot) -> bool {
    Status::parse(&command.status).is_some_and(Status::is_answer)
}
