//! Atomic batches: many messages of one stream, stored all or none, with one flush of the disk.
//!
//! async-nats has no publisher for them, so the headers are written here. Only the last message
//! asks for an answer; the server keeps the others until it comes, ten seconds at most.
//!
//! - A batch that was refused has stored nothing: its messages can be sent one by one, and the
//!   one that the server objects to will then be refused alone.
//! - One id that the stream knows already is such an objection (code 10201).
//! - A batch without an answer may have been stored, whole.
//!
//! A permission that is missing for one of the subjects looks like no answer.

use async_nats::HeaderMap;
use async_nats::client::PublishErrorKind;
use async_nats::header::{
    NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL, NATS_BATCH_ID, NATS_BATCH_SEQUENCE,
};
use async_nats::jetstream::publish::PublishAck;
use tokio::time::Instant;

use super::Bus;
use super::publish::{self, Message, classify, headers_of};

/// Most messages in a batch. The server takes 1,000; half of that leaves the stream's other
/// publishers a turn, and was the size that was measured.
pub const BATCH_MAX: usize = 500;

/// Why a batch has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing was stored.
    #[error("JetStream refused a batch of {count}: {reason}")]
    Refused {
        /// How many messages it had.
        count: usize,
        /// What the server says.
        reason: String,
    },
    /// All or nothing was stored.
    #[error("no acknowledgement for a batch of {count}: {reason}")]
    Unclear {
        /// How many messages it had.
        count: usize,
        /// What is known.
        reason: String,
    },
}

impl Bus {
    /// Stores messages of one stream in their order, all or none. `id` names the batch and must
    /// never have been used before.
    ///
    /// # Errors
    /// See [`Error`]; after [`Error::Unclear`] it is safe to store the messages again.
    pub async fn store_batch(
        &self,
        id: &str,
        messages: &[Message],
        deadline: Instant,
    ) -> Result<(), Error> {
        let count = messages.len();
        let refused = |reason: String| Error::Refused { count, reason };
        let unclear = |reason: String| Error::Unclear { count, reason };
        // All headers are made before the first message leaves: a batch that stops half-way
        // would hold a place at the server until its time is up.
        let mut headers = Vec::with_capacity(count);
        for (sequence, message) in (1..).zip(messages) {
            let made = batch_headers(id, sequence, sequence == count, message);
            headers.push(made.map_err(|error| refused(error.to_string()))?);
        }
        let sent = tokio::time::timeout_at(deadline, self.send_batch(messages, headers)).await;
        let ack = match sent {
            Ok(Ok(ack)) => ack,
            Ok(Err(publish::Error::Unclear { reason, .. })) => return Err(unclear(reason)),
            Ok(Err(error)) => return Err(refused(error.to_string())),
            Err(_elapsed) => {
                self.connection().unanswered().await;
                return Err(unclear("no answer in time".to_owned()));
            }
        };
        self.connection().answered();
        if ack.batch_id.as_deref() == Some(id) && ack.batch_size == Some(count as u64) {
            crate::metrics::batch(count);
            Ok(())
        } else {
            // Only a server that does not know batches would say so.
            Err(unclear(format!(
                "the server speaks of {:?} messages",
                ack.batch_size
            )))
        }
    }

    async fn send_batch(
        &self,
        messages: &[Message],
        headers: Vec<HeaderMap>,
    ) -> Result<PublishAck, publish::Error> {
        let last = messages.len().saturating_sub(1);
        for (n, (message, headers)) in messages.iter().zip(headers).enumerate() {
            let (subject, payload) = (message.subject.clone(), message.payload.clone());
            if n == last {
                let jetstream = self.connection().jetstream();
                let asked = jetstream.publish_with_headers(subject, headers, payload);
                let answered = async { asked.await?.await };
                return answered
                    .await
                    .map_err(|error| classify(&message.subject, &error));
            }
            let client = self.connection().client();
            let sent = client.publish_with_headers(subject, headers, payload).await;
            // Without its last message the batch is never stored.
            sent.map_err(|error| publish::Error::Refused {
                subject: message.subject.clone(),
                reason: error.kind().to_string(),
                of_this_message: error.kind() != PublishErrorKind::Send,
            })?;
        }
        Err(publish::Error::Refused {
            subject: String::new(),
            reason: "the batch is empty".to_owned(),
            of_this_message: true,
        })
    }
}

fn batch_headers(
    id: &str,
    sequence: usize,
    last: bool,
    message: &Message,
) -> Result<HeaderMap, publish::Error> {
    let mut headers = headers_of(message)?;
    headers.insert(NATS_BATCH_ID, id);
    headers.insert(NATS_BATCH_SEQUENCE, sequence.to_string().as_str());
    if last {
        headers.insert(NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL);
    }
    Ok(headers)
}
