//! Reading a log back: its last event is its state.

use async_nats::jetstream::stream::{DirectGetErrorKind, RawMessageErrorKind};
use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

use super::envelope::{self, EventEnvelope, PROGRESS_HEADER, decode_event};
use super::{Bus, subjects};
use crate::domain::call::Log;
use crate::domain::ids::EventId;

/// A log as the stream has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The state; `None` when the log has no event.
    pub log: Option<Log>,
    /// Stream sequence of the last event; 0 when there is none.
    pub last: u64,
}

/// Why a log cannot be read.
#[derive(Debug, Error)]
pub enum Error {
    /// The server does not answer.
    #[error("cannot read the log of {log_id}: {reason}")]
    Away {
        /// Which log.
        log_id: String,
        /// What the client says.
        reason: String,
    },
    /// The last event is not one that this program can read.
    #[error("the last event of {log_id} cannot be read")]
    Unreadable {
        /// Which log.
        log_id: String,
        /// Why.
        source: envelope::Error,
    },
}

impl Bus {
    /// Reads a log from whichever replica is near. It may lag behind; a commit on a state that is
    /// too old is refused, so this is safe as a first try.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn load(&self, log_id: &str) -> Result<Loaded, Error> {
        let stream = self
            .connection()
            .jetstream()
            .get_stream_no_info(subjects::STREAM_EVENT)
            .await;
        let away = |reason: String| Error::Away {
            log_id: log_id.to_owned(),
            reason,
        };
        let stream = stream.map_err(|error| away(error.to_string()))?;
        match stream
            .direct_get_last_for_subject(subjects::events_of(log_id))
            .await
        {
            Ok(message) => decode(log_id, &message.payload, &message.headers, message.sequence),
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => {
                Ok(Loaded { log: None, last: 0 })
            }
            Err(error) => Err(away(error.to_string())),
        }
    }

    /// Reads a log from the leader: the truth, after a conflict or an unclear commit.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn load_from_leader(&self, log_id: &str) -> Result<Loaded, Error> {
        let stream = self
            .connection()
            .jetstream()
            .get_stream_no_info(subjects::STREAM_EVENT)
            .await;
        let away = |reason: String| Error::Away {
            log_id: log_id.to_owned(),
            reason,
        };
        let stream = stream.map_err(|error| away(error.to_string()))?;
        match stream
            .get_last_raw_message_by_subject(&subjects::events_of(log_id))
            .await
        {
            Ok(message) => decode(log_id, &message.payload, &message.headers, message.sequence),
            Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => {
                Ok(Loaded { log: None, last: 0 })
            }
            Err(error) => Err(away(error.to_string())),
        }
    }

    /// What a call was given to know, each time, as JSON objects in their order.
    ///
    /// # Errors
    /// [`Error::Away`].
    pub async fn contexts_of(&self, log_id: &str) -> Result<Vec<Box<RawValue>>, Error> {
        let subject = subjects::contexts_of(log_id);
        let (mut contexts, mut next) = (Vec::new(), 1);
        loop {
            let page = self.page(&subject, next).await;
            let page = page.map_err(|reason| Error::Away {
                log_id: log_id.to_owned(),
                reason,
            })?;
            for (sequence, payload) in page.events {
                next = sequence + 1;
                let event: Result<EventEnvelope, _> = serde_json::from_slice(&payload);
                contexts.extend(event.ok().and_then(|event| event.data.context));
            }
            if !page.more {
                return Ok(contexts);
            }
        }
    }

    /// Whether a log has an event of this id, up to the one with the stream sequence `last`. Reads
    /// all of it.
    ///
    /// # Errors
    /// [`Error::Away`].
    pub async fn tells_of(&self, log_id: &str, id: &EventId, last: u64) -> Result<bool, Error> {
        let subject = subjects::events_of(log_id);
        let mut next = 1;
        while next <= last {
            let page = self.page(&subject, next).await;
            let page = page.map_err(|reason| Error::Away {
                log_id: log_id.to_owned(),
                reason,
            })?;
            for (sequence, payload) in page.events {
                next = sequence + 1;
                let event: Result<Named, _> = serde_json::from_slice(&payload);
                if event.is_ok_and(|event| event.id == id.as_str()) {
                    return Ok(true);
                }
            }
            if !page.more {
                break;
            }
        }
        Ok(false)
    }
}

/// As much of an event as says which one it is.
#[derive(Deserialize)]
struct Named {
    id: String,
}

fn decode(
    log_id: &str,
    payload: &[u8],
    headers: &async_nats::HeaderMap,
    sequence: u64,
) -> Result<Loaded, Error> {
    let progress = headers
        .get(PROGRESS_HEADER)
        .map(async_nats::HeaderValue::as_str);
    let log = decode_event(payload, progress).map_err(|source| Error::Unreadable {
        log_id: log_id.to_owned(),
        source,
    })?;
    Ok(Loaded {
        log: Some(log),
        last: sequence,
    })
}
