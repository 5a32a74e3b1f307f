//! What goes over the wire, and how it becomes domain values: versioned serde structs, one file
//! for each kind of message. Everything read back is parsed again; nothing is trusted because it
//! came from the bus.

mod budget;
pub mod command;
mod context;
mod event;
mod input;
mod link;
mod record;
mod say;
mod timer;

pub use budget::BudgetRecord;
pub use command::{DialRequest, HangupRequest, Outcome, ResolveRequest, id_in};
pub use context::ContextRequest;
pub use event::{
    CallSnapshot, CommandSnapshot, CompletedSnapshot, Conversation, ConversationHole,
    ConversationUtterance, EventData, EventEnvelope, PROGRESS_HEADER, Transcript, decode_event,
    decode_spoken, encode_event,
};
pub use input::{InputEnvelope, decode_input, encode_input};
pub use link::{LinkData, LinkRecord, LinkRequest};
pub use record::{FlightRecord, IntentRecord, NumberRecord, ResumeRecord};
pub use say::SayRequest;
pub use timer::{decode_timer, encode_timer};

use serde_json::error::Category;
use thiserror::Error;

/// Largest message that voicebus publishes, in bytes. The server's own limit is 1 MiB
/// (`max_payload`); one byte more closes the whole connection, so ours stays well below it.
pub const MESSAGE_SIZE_MAX: usize = 960 * 1024;

/// Why a message cannot be read or written.
#[derive(Debug, Error)]
pub enum Error {
    /// Not the JSON that was expected.
    #[error("message is not a valid {what}")]
    Json {
        /// What was expected.
        what: &'static str,
        /// Where, and what is wrong.
        source: NotReadable,
    },
    /// A field that cannot be used.
    #[error("field `{field}` of the {what} cannot be used: {reason}")]
    Field {
        /// What was read.
        what: &'static str,
        /// The field.
        field: &'static str,
        /// Why, without the content.
        reason: String,
    },
    /// Written by a newer version.
    #[error("{what} has version {found}, this program reads up to {known}")]
    Version {
        /// What was read.
        what: &'static str,
        /// The version found.
        found: u32,
        /// The newest version known.
        known: u32,
    },
    /// Larger than [`MESSAGE_SIZE_MAX`].
    #[error("message has {found} bytes, at most {MESSAGE_SIZE_MAX} are allowed")]
    TooLarge {
        /// Bytes found.
        found: usize,
    },
}

/// What is wrong with JSON, without what stands in it: serde shows the value that it did not expect,
/// which may be somebody's number or words, and this goes into logs and dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what} at line {line} column {column}")]
pub struct NotReadable {
    what: String,
    line: usize,
    column: usize,
}

impl Error {
    pub(super) fn json(what: &'static str, error: &serde_json::Error) -> Self {
        let text = error.to_string();
        // A field that is missing is one of ours; any other field may be anything.
        let missing = text.strip_prefix("missing field ").map(|rest| {
            let name = rest.split(" at line").next().unwrap_or_default();
            format!("the field {name} is missing")
        });
        let said = match error.classify() {
            Category::Syntax => "it is not JSON",
            Category::Eof => "it ends too early",
            Category::Data => "something is of another type than it must be",
            Category::Io => "it cannot be read",
        };
        let source = NotReadable {
            what: missing.unwrap_or_else(|| said.to_owned()),
            line: error.line(),
            column: error.column(),
        };
        Self::Json { what, source }
    }
}

fn to_bytes<T: serde::Serialize>(what: &'static str, value: &T) -> Result<bytes::Bytes, Error> {
    let bytes = serde_json::to_vec(value).map_err(|error| Error::json(what, &error))?;
    if bytes.len() > MESSAGE_SIZE_MAX {
        return Err(Error::TooLarge { found: bytes.len() });
    }
    Ok(bytes.into())
}

fn from_bytes<'a, T: serde::Deserialize<'a>>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::json(what, &error))
}

/// Parses a field with a domain parser.
fn field<T, E: std::fmt::Display>(
    what: &'static str,
    field: &'static str,
    parsed: Result<T, E>,
) -> Result<T, Error> {
    parsed.map_err(|error| Error::Field {
        what,
        field,
        reason: error.to_string(),
    })
}

/// Parses a field with a domain parser that only says no.
fn word<T>(what: &'static str, field: &'static str, parsed: Option<T>) -> Result<T, Error> {
    parsed.ok_or_else(|| Error::Field {
        what,
        field,
        reason: "unknown word".to_owned(),
    })
}
