//! Why a body is refused.

use thiserror::Error as ThisError;

use super::{json, timestamp};
use crate::domain::ids;

/// Why a request is refused. Its text is one sentence for the sender, which names the field and
/// never repeats what stood in it: phone numbers and transcripts must not come back or be logged.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub enum Error {
    /// Not JSON, or not JSON that has one meaning only.
    #[error(transparent)]
    Json(#[from] json::Error),
    /// The body is JSON, but not the container that the contract has.
    #[error("the body must be a JSON {expected}")]
    Body {
        /// `object` or `array`.
        expected: &'static str,
    },
    /// A field that the contract demands is not there, or is null.
    #[error("`{field}` is missing")]
    Missing {
        /// Path of the field.
        field: String,
    },
    /// A field is of another JSON type.
    #[error("`{field}` must be {expected}")]
    WrongType {
        /// Path of the field.
        field: String,
        /// The type it must have.
        expected: &'static str,
    },
    /// A text is longer than the bound.
    #[error("`{field}` is longer than {max} bytes")]
    TooLong {
        /// Path of the field.
        field: String,
        /// The bound.
        max: usize,
    },
    /// The call id cannot be one.
    #[error("`{field}` is not a call id: {reason}")]
    CallId {
        /// Path of the field.
        field: String,
        /// What is wrong with it.
        reason: ids::Error,
    },
    /// Not a call id of Twilio's.
    #[error("`CallSid` is not `CA` and 32 lower-case hex digits")]
    CallSid,
    /// Not a status of Twilio's.
    #[error("`CallStatus` is not a status that a call can have")]
    CallStatus,
    /// A callback of somebody else's account.
    #[error("`AccountSid` is not the account that is configured")]
    OtherAccount,
    /// A name that has two values.
    #[error("`{field}` is there twice, with different values")]
    Repeated {
        /// Its name.
        field: String,
    },
    /// The sender's own id of the event cannot be one.
    #[error("`{field}` is not an event id: it must be 1 to {max} bytes of visible text")]
    EventId {
        /// Path of the field, or what stands for it.
        field: String,
        /// The bound.
        max: usize,
    },
    /// The event type is malformed, which is more than unknown.
    #[error("`{field}` is not an event type: {expected}")]
    EventType {
        /// Path of the field.
        field: String,
        /// What a type looks like.
        expected: &'static str,
    },
    /// A time that cannot be read.
    #[error("`{field}` is not a timestamp: {reason}")]
    Timestamp {
        /// Path of the field.
        field: String,
        /// What is wrong with it.
        reason: timestamp::Error,
    },
    /// Neither `inbound` nor `outbound`.
    #[error("`{field}` must be `inbound` or `outbound`")]
    Direction {
        /// Path of the field.
        field: String,
    },
    /// Another version of CloudEvents.
    #[error("`specversion` must be `1.0`")]
    SpecVersion,
    /// An attribute of a CloudEvent that cannot be read.
    #[error("`{field}` is not a CloudEvents attribute: {reason}")]
    Attribute {
        /// Name of the attribute.
        field: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Data of a known event in a form that voicebus does not read.
    #[error("the data of this event type must be a JSON object, not {found}")]
    DataFormat {
        /// What it is instead.
        found: &'static str,
    },
    /// An encoding of events that voicebus does not read.
    #[error("the content type is not one of {expected}")]
    ContentType {
        /// The content types that are read.
        expected: &'static str,
    },
    /// More events than a batch may have.
    #[error("the batch has {found} events, at most {max} are allowed")]
    BatchTooLong {
        /// Events found.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// One event of a batch is refused, and with it all others.
    #[error("event {index} of the batch, counted from 0: {error}")]
    InBatch {
        /// Its place, from 0.
        index: usize,
        /// What is wrong with it.
        error: Box<Self>,
    },
}

impl Error {
    /// A stable word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Json(error) => error.code(),
            Self::Body { .. } => "invalid_body",
            Self::Missing { .. } => "missing_field",
            Self::WrongType { .. } => "wrong_type",
            Self::TooLong { .. } => "too_long",
            Self::CallId { .. } | Self::CallSid => "invalid_call_id",
            Self::CallStatus => "invalid_call_status",
            Self::OtherAccount => "other_account",
            Self::Repeated { .. } => "repeated_field",
            Self::EventId { .. } => "invalid_event_id",
            Self::EventType { .. } => "invalid_event_type",
            Self::Timestamp { .. } => "invalid_timestamp",
            Self::Direction { .. } => "invalid_direction",
            Self::SpecVersion => "unsupported_specversion",
            Self::Attribute { .. } => "invalid_attribute",
            Self::DataFormat { .. } => "unsupported_data",
            Self::ContentType { .. } => "unsupported_content_type",
            Self::BatchTooLong { .. } => "batch_too_long",
            Self::InBatch { error, .. } => error.code(),
        }
    }

    /// Whether an id is there but cannot be one.
    #[must_use]
    pub fn is_id_error(&self) -> bool {
        match self {
            Self::InBatch { error, .. } => error.is_id_error(),
            other => matches!(other, Self::CallId { .. } | Self::EventId { .. }),
        }
    }

    /// Whether the body could not even be read: not JSON, not strict JSON, or not the container
    /// that the contract has.
    #[must_use]
    pub fn is_syntax_error(&self) -> bool {
        match self {
            Self::InBatch { error, .. } => error.is_syntax_error(),
            other => matches!(other, Self::Json(_) | Self::Body { .. }),
        }
    }

    /// The place in the batch of the event that is refused.
    #[must_use]
    pub fn batch_index(&self) -> Option<usize> {
        match self {
            Self::InBatch { index, .. } => Some(*index),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_a_batch_keeps_its_code_and_names_its_place() {
        let inner = Error::CallId {
            field: "subject".to_owned(),
            reason: ids::Error::Empty { what: "call id" },
        };
        let error = Error::InBatch {
            index: 3,
            error: Box::new(inner),
        };
        assert_eq!(error.code(), "invalid_call_id");
        assert!(error.is_id_error());
        assert!(!error.is_syntax_error());
        assert_eq!(error.batch_index(), Some(3));
        assert_eq!(
            error.to_string(),
            "event 3 of the batch, counted from 0: `subject` is not a call id: call id is empty"
        );
    }
}
