//! Publishing with an acknowledgement: events that are accepted, and commits of the router.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_ID};
use async_nats::jetstream::{self, context::PublishErrorKind, publish::PublishAck};
use bytes::Bytes;
use thiserror::Error;

use super::connection::REQUEST_TIMEOUT;
use super::envelope::{self, PROGRESS_HEADER};
use super::{Bus, subjects};
use crate::domain::event::Event;

/// Widens the expectation from the subject itself to a filter; async-nats has no name for it.
const EXPECTED_LAST_SUBJECT_SEQUENCE_FILTER: &str = "Nats-Expected-Last-Subject-Sequence-Subject";

/// `wrong last sequence` as a single server and a leader at rest say it.
const WRONG_LAST_SEQUENCE: u64 = 10071;
/// The same as a cluster says it about writers that meet in flight; async-nats does not map it.
const WRONG_LAST_SEQUENCE_IN_FLIGHT: u64 = 10164;

/// Refusals that every message would get: JetStream or the stream is not there or not available,
/// it is full, sealed or offline, or the account has no room left. Any other is about the message.
const EVERYBODYS: [u64; 14] = [
    10002, 10004, 10008, 10009, 10023, 10028, 10035, 10039, 10047, 10059, 10076, 10077, 10109,
    10118,
];

/// Why a publish has no good answer.
#[derive(Debug, Error)]
pub enum Error {
    /// Somebody else committed to this log in the meantime; nothing was stored.
    #[error("another writer was first on `{subject}`")]
    Conflict {
        /// Where.
        subject: String,
    },
    /// The server refuses; nothing was stored.
    #[error("JetStream refused `{subject}`: {reason}")]
    Refused {
        /// Where.
        subject: String,
        /// What the server says.
        reason: String,
        /// Whether others would be taken.
        of_this_message: bool,
    },
    /// It may or may not have been stored.
    #[error("no acknowledgement for `{subject}`: {reason}")]
    Unclear {
        /// Where.
        subject: String,
        /// What is known.
        reason: String,
    },
    /// The message cannot be written.
    #[error(transparent)]
    Envelope(#[from] envelope::Error),
}

impl Error {
    /// Whether the trouble is of this message alone, so that waiting for the server is in vain.
    #[must_use]
    pub fn is_of_this_message(&self) -> bool {
        match self {
            Self::Conflict { .. } | Self::Envelope(_) => true,
            Self::Refused {
                of_this_message, ..
            } => *of_this_message,
            Self::Unclear { .. } => false,
        }
    }
}

/// A stored message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its number in the stream.
    pub sequence: u64,
    /// Whether the stream had it already.
    pub duplicate: bool,
}

impl Bus {
    /// Stores a message under an id: doing it again within the stream's duplicate window stores
    /// nothing and says so.
    ///
    /// # Errors
    /// See [`enum@Error`]; after [`Error::Unclear`] it is safe to publish again with the same id.
    pub async fn store(&self, subject: String, id: &str, payload: Bytes) -> Result<Stored, Error> {
        self.store_with(subject, id, HeaderMap::new(), payload)
            .await
    }

    pub(super) async fn store_with(
        &self,
        subject: String,
        id: &str,
        mut headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Stored, Error> {
        headers.insert(NATS_MESSAGE_ID, id);
        let ack = publish(self.connection().jetstream(), &subject, headers, payload).await?;
        Ok(Stored {
            sequence: ack.sequence,
            duplicate: ack.duplicate,
        })
    }

    /// Commits an event to its log, which must still end with the stream sequence `last` (0: it
    /// has no event yet). Returns the stream sequence of the event.
    ///
    /// # Errors
    /// After [`Error::Conflict`] and [`Error::Unclear`] the log must be read again before anything
    /// else is done: the event may be there.
    pub async fn commit(
        &self,
        event: &Event,
        traceparent: Option<&str>,
        last: u64,
    ) -> Result<u64, Error> {
        let (payload, progress) = envelope::encode_event(event, traceparent)?;
        let mut headers = HeaderMap::new();
        headers.insert(
            NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
            last.to_string().as_str(),
        );
        headers.insert(
            EXPECTED_LAST_SUBJECT_SEQUENCE_FILTER,
            subjects::events_of(event.log.id()).as_str(),
        );
        headers.insert(PROGRESS_HEADER, progress.as_str());
        headers.insert("content-type", "application/cloudevents+json");
        let subject = self.subjects().commit(event);
        Ok(
            publish(self.connection().jetstream(), &subject, headers, payload)
                .await?
                .sequence,
        )
    }
}

pub(super) async fn publish(
    jetstream: &jetstream::Context,
    subject: &str,
    headers: HeaderMap,
    payload: Bytes,
) -> Result<PublishAck, Error> {
    let published = async {
        jetstream
            .publish_with_headers(subject.to_owned(), headers, payload)
            .await?
            .await
    };
    // async-nats waits for the acknowledgement with a time-out of its own; this one also covers
    // the way into its buffer, which is unbounded while the server is away.
    match tokio::time::timeout(REQUEST_TIMEOUT + Duration::from_millis(500), published).await {
        Ok(Ok(ack)) => Ok(ack),
        Ok(Err(error)) => Err(classify(subject, &error)),
        Err(_elapsed) => Err(Error::Unclear {
            subject: subject.to_owned(),
            reason: "NATS takes nothing".to_owned(),
        }),
    }
}

fn classify(subject: &str, error: &jetstream::context::PublishError) -> Error {
    let subject = subject.to_owned();
    if let Some(refusal) = refusal_of(error) {
        let code = refusal.error_code().0;
        if code == WRONG_LAST_SEQUENCE || code == WRONG_LAST_SEQUENCE_IN_FLIGHT {
            return Error::Conflict { subject };
        }
        return Error::Refused {
            subject,
            reason: refusal.to_string(),
            of_this_message: !EVERYBODYS.contains(&code),
        };
    }
    match error.kind() {
        PublishErrorKind::WrongLastSequence => Error::Conflict { subject },
        PublishErrorKind::StreamNotFound => Error::Refused {
            subject,
            reason: "no stream takes this subject; run `voicebus provision`".to_owned(),
            of_this_message: false,
        },
        PublishErrorKind::MaxPayloadExceeded => Error::Refused {
            subject,
            reason: "the message is larger than the server takes".to_owned(),
            of_this_message: true,
        },
        PublishErrorKind::WrongLastMessageId
        | PublishErrorKind::TimedOut
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::MaxAckPending
        | PublishErrorKind::Other => Error::Unclear {
            subject,
            reason: error.kind().to_string(),
        },
    }
}

/// The server's own words, when it has answered with an error.
fn refusal_of(error: &jetstream::context::PublishError) -> Option<jetstream::Error> {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(refusal) = cause.downcast_ref::<jetstream::Error>() {
            return Some(refusal.clone());
        }
        source = cause.source();
    }
    None
}
