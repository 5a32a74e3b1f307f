//! Publishing old events again, for whoever wants to see them once more: a new component that
//! catches up, a test, a demonstration.
//!
//! Nothing can mistake a replayed event for a new one. It goes under `replay.`, where no role
//! listens and no stream takes anything, in an account of its own; and it is marked. Its body is
//! the event as it was stored, byte for byte.

use std::time::Duration;

use async_nats::HeaderMap;
use thiserror::Error;

use super::Connection;
use super::connection::REQUEST_TIMEOUT;
use super::feed::Stored;
use super::subjects::ReplaySubject;

/// Marks a replayed event.
pub const REPLAY: &str = "Voicebus-Replay";
/// Where the event was published when it was new.
pub const ORIGINAL_SUBJECT: &str = "Voicebus-Original-Subject";
/// Its number in VOICE_EVENT.
pub const ORIGINAL_SEQUENCE: &str = "Voicebus-Original-Sequence";

/// The client tells of a denial in a task of its own, in the moment after it has read it.
const DENIAL_PAUSE: Duration = Duration::from_millis(50);

/// Why events are not published again.
#[derive(Debug, Error)]
pub enum Error {
    /// NATS does not let us.
    #[error("NATS does not let this user publish to `{subject}`; the user for it is `operator`")]
    Denied {
        /// Where.
        subject: String,
    },
    /// NATS does not take them.
    #[error("cannot publish to `{subject}`: {reason}")]
    Failed {
        /// Where.
        subject: String,
        /// What the client says.
        reason: String,
    },
}

/// Publishes events under one subject.
#[derive(Debug)]
pub struct Replay {
    connection: Connection,
    subject: ReplaySubject,
    denials: u64,
}

impl Replay {
    /// Events will go to this subject.
    #[must_use]
    pub fn new(connection: Connection, subject: ReplaySubject) -> Self {
        let denials = connection.denials();
        Self {
            connection,
            subject,
            denials,
        }
    }

    /// Publishes an event. Whether anybody listens is not known.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn publish(&self, event: &Stored) -> Result<(), Error> {
        let mut headers = HeaderMap::new();
        headers.insert(REPLAY, "true");
        headers.insert(ORIGINAL_SUBJECT, event.subject.as_str());
        headers.insert(ORIGINAL_SEQUENCE, event.sequence.to_string().as_str());
        headers.insert("content-type", "application/cloudevents+json");
        self.connection
            .client()
            .publish_with_headers(
                self.subject.as_str().to_owned(),
                headers,
                event.payload.clone(),
            )
            .await
            .map_err(|error| self.failed(error.to_string()))
    }

    /// Waits until the server has everything that was published, and has said what it thinks of
    /// it.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn flush(&self) -> Result<(), Error> {
        match tokio::time::timeout(REQUEST_TIMEOUT, self.connection.client().flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(self.failed(error.to_string())),
            Err(_elapsed) => return Err(self.failed("NATS takes nothing".to_owned())),
        }
        // `flush` only sends; an answer comes after everything that was said before it.
        let answer =
            tokio::time::timeout(REQUEST_TIMEOUT, self.connection.jetstream().query_account());
        drop(answer.await);
        tokio::time::sleep(DENIAL_PAUSE).await;
        if self.connection.denials() > self.denials {
            return Err(Error::Denied {
                subject: self.subject.as_str().to_owned(),
            });
        }
        Ok(())
    }

    fn failed(&self, reason: String) -> Error {
        Error::Failed {
            subject: self.subject.as_str().to_owned(),
            reason,
        }
    }
}
