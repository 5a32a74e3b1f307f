//! What the senders say, one file for each; pure.

pub mod json;
pub mod timestamp;
pub mod traceparent;

use crate::domain::Timestamp;
use crate::domain::ids::{CallId, EventId};
use crate::domain::input::InputKind;

/// An accepted event, normalised; not yet on the bus.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// Which contract it came by.
    pub source: Source,
    /// The call it is about.
    pub call: CallId,
    /// The sender's id scoped to the source, or a digest of what makes the event itself.
    pub id: EventId,
    /// When it happened, by the sender's clock.
    pub happened_at: Option<Timestamp>,
    /// The sender's number for it within the call.
    pub source_sequence: Option<u64>,
    /// What it says.
    pub kind: InputKind,
    /// W3C trace context of the sender, when it is well formed.
    pub traceparent: Option<String>,
}

/// Which contract an event came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `POST /call-event`.
    CallEvent,
    /// `POST /webhook/forward`.
    WebhookForward,
    /// `POST /v1/events`.
    CloudEvents,
}

/// A well-formed event of a type that nobody knows: kept in the dead letters, never guessed at.
#[derive(Debug, Clone, PartialEq)]
pub struct Parked {
    /// Which contract it came by.
    pub source: Source,
    /// The call it is about.
    pub call: CallId,
    /// Its id, as for a known event.
    pub id: EventId,
    /// The type it names.
    pub event_type: String,
}

/// What a request holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Parsed {
    /// An event to publish.
    Event(Box<NewEvent>),
    /// An event to park.
    Parked(Parked),
}
