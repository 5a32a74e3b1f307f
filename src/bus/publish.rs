//! Publishing with an acknowledgement: events that are accepted, and commits of the router.

use std::time::Duration;

use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_ID};
use async_nats::jetstream::{self, context::PublishErrorKind, publish::PublishAck};
use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use tokio::time::Instant;

use super::connection::REQUEST_TIMEOUT;
use super::envelope::{self, PROGRESS_HEADER};
use super::{Bus, Connection, subjects};
use crate::domain::event::Event;
use crate::metrics;

/// Widens the expectation from the subject itself to a filter; async-nats has no name for it.
const EXPECTED_LAST_SUBJECT_SEQUENCE_FILTER: &str = "Nats-Expected-Last-Subject-Sequence-Subject";

/// async-nats waits [`REQUEST_TIMEOUT`] for the acknowledgement; the rest is for the way there.
pub(super) const PUBLISH_TIMEOUT: Duration =
    REQUEST_TIMEOUT.saturating_add(Duration::from_millis(500));

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

/// What a cluster or a single server says about a message that is larger than the stream takes,
/// and about headers that are.
const NEVER: [u64; 2] = [10054, 10097];

/// What is said of a subject that no stream takes.
const NO_STREAM: &str = "no stream takes this subject; run `voicebus provision`";

/// Why a publish has no good answer.
#[derive(Debug, thiserror::Error)]
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
    /// The server refuses, and would refuse the same message again whatever happens.
    #[error("JetStream will never take this message on `{subject}`: {reason}")]
    Unacceptable {
        /// Where.
        subject: String,
        /// What the server says.
        reason: String,
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
    /// For metrics.
    fn word(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "conflict",
            Self::Refused { .. } | Self::Unacceptable { .. } | Self::Envelope(_) => "refused",
            Self::Unclear { .. } => "unclear",
        }
    }

    /// Whether the trouble is of this message alone, so that waiting for the server is in vain.
    #[must_use]
    pub fn is_of_this_message(&self) -> bool {
        match self {
            Self::Conflict { .. } | Self::Unacceptable { .. } | Self::Envelope(_) => true,
            Self::Refused {
                of_this_message, ..
            } => *of_this_message,
            Self::Unclear { .. } => false,
        }
    }
}

/// A message that is to be stored, whole: it can be kept and sent again as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where.
    pub subject: String,
    /// Makes a repetition within the stream's duplicate window harmless.
    pub id: String,
    /// What goes beside the id.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub payload: Bytes,
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
        let message = Message {
            subject,
            id: id.to_owned(),
            headers: Vec::new(),
            payload,
        };
        self.store_message(&message).await
    }

    /// As [`Bus::store`].
    ///
    /// # Errors
    /// See [`Error`]; after [`Error::Unclear`] it is safe to store it again.
    pub async fn store_message(&self, message: &Message) -> Result<Stored, Error> {
        self.store_by(message, Instant::now() + PUBLISH_TIMEOUT)
            .await
    }

    /// Stores a message, or gives up at `deadline`.
    ///
    /// # Errors
    /// See [`Error`]; after [`Error::Unclear`] it is safe to store it again.
    pub async fn store_by(&self, message: &Message, deadline: Instant) -> Result<Stored, Error> {
        let Message {
            subject, payload, ..
        } = message;
        let stored = async {
            let headers = headers_of(message)?;
            publish(self.connection(), subject, headers, payload.clone()).await
        };
        match tokio::time::timeout_at(deadline, stored).await {
            Ok(ack) => ack.map(|ack| Stored {
                sequence: ack.sequence,
                duplicate: ack.duplicate,
            }),
            Err(_elapsed) => {
                self.connection().unanswered().await;
                Err(Error::Unclear {
                    subject: subject.clone(),
                    reason: "no answer in time".to_owned(),
                })
            }
        }
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
        Ok(publish(self.connection(), &subject, headers, payload)
            .await?
            .sequence)
    }
}

pub(super) async fn publish(
    connection: &Connection,
    subject: &str,
    headers: HeaderMap,
    payload: Bytes,
) -> Result<PublishAck, Error> {
    let published = async {
        connection
            .jetstream()
            .publish_with_headers(subject.to_owned(), headers, payload)
            .await?
            .await
    };
    // async-nats waits for the acknowledgement with a time-out of its own; this one also covers
    // the way into its buffer, which is unbounded while the server is away.
    let started = Instant::now();
    let outcome = match tokio::time::timeout(PUBLISH_TIMEOUT, published).await {
        Ok(Ok(ack)) => Ok(ack),
        Ok(Err(error)) => Err(classify(subject, &error)),
        Err(_elapsed) => Err(Error::Unclear {
            subject: subject.to_owned(),
            reason: "NATS takes nothing".to_owned(),
        }),
    };
    match &outcome {
        Err(Error::Unclear { .. }) => connection.unanswered().await,
        Ok(_) | Err(_) => connection.answered(),
    }
    let word = match &outcome {
        Ok(_ack) => "stored",
        Err(error) => error.word(),
    };
    metrics::publish(subjects::stream_of(subject), word, started.elapsed());
    outcome
}

/// A message's own headers and its id. What was kept on a disk is checked like anything else that
/// comes from outside: async-nats panics on a line break in a header that it is given unchecked.
///
/// # Errors
/// [`Error::Unacceptable`] when one of them cannot be a header.
pub(super) fn headers_of(message: &Message) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    let unfit = |name: &str| Error::Unacceptable {
        subject: message.subject.clone(),
        reason: format!("`{name}` cannot be a header"),
    };
    for (name, value) in &message.headers {
        let value: HeaderValue = value.parse().map_err(|_| unfit(name))?;
        let parsed: HeaderName = name.parse().map_err(|_| unfit(name))?;
        headers.append(parsed, value);
    }
    let id: HeaderValue = message.id.parse().map_err(|_| unfit("Nats-Msg-Id"))?;
    headers.insert(NATS_MESSAGE_ID, id);
    Ok(headers)
}

pub(super) fn classify(subject: &str, error: &jetstream::context::PublishError) -> Error {
    let subject = subject.to_owned();
    if let Some(refusal) = refusal_of(error) {
        let code = refusal.error_code().0;
        if code == WRONG_LAST_SEQUENCE || code == WRONG_LAST_SEQUENCE_IN_FLIGHT {
            return Error::Conflict { subject };
        }
        if NEVER.contains(&code) {
            return Error::Unacceptable {
                subject,
                reason: refusal.to_string(),
            };
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
            reason: NO_STREAM.to_owned(),
            of_this_message: false,
        },
        PublishErrorKind::MaxPayloadExceeded => Error::Unacceptable {
            subject,
            reason: "the message is larger than the server takes".to_owned(),
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

/// Whether there is no stream for the subject.
pub(super) fn is_of_no_stream(error: &Error) -> bool {
    matches!(error, Error::Refused { reason, .. } if reason == NO_STREAM)
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
