//! What the senders say, one file for each door: bytes in, domain input out.
//!
//! Pure: no HTTP, no bus, no clock, no randomness. The same bytes always give the same
//! [`Parsed`], its event id included, so a sender may repeat itself as often as it likes.
//!
//! | file | owns |
//! |---|---|
//! | [`call_event`] | `POST /call-event`, the phone-call server's own emitter |
//! | [`forward`] | `POST /webhook/forward`, the contract of the replaced Python bridge |
//! | [`cloudevents`] | `POST /v1/events`, CloudEvents 1.0 |
//! | [`openai`], [`twilio`] | `POST /webhook/openai` and `/webhook/twilio`, the vendors' webhooks |
//! | `words` | which event types there are, and what each one says |
//! | [`identity`] | ids of events |
//! | [`json`], [`timestamp`], [`traceparent`], `fields` | reading, strictly |
//!
//! Three rules hold at every door. What is malformed is refused as a whole, with an [`Error`] that
//! names the field and never repeats its content. What is well formed but of an unknown type is
//! [`Parsed::Parked`]: kept, never guessed at. And `data` says nothing about identity: the call id
//! comes from the envelope. Fields that nobody asked for are ignored; the caller stores the
//! original body beside the event.

pub mod call_event;
pub mod cloudevents;
pub mod forward;
pub mod identity;
pub mod json;
pub mod openai;
pub mod timestamp;
pub mod traceparent;
pub mod twilio;

mod error;
mod fields;
mod words;

#[cfg(test)]
mod tests;

pub use error::Error;

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
    /// `POST /webhook/openai`.
    OpenAi,
    /// `POST /webhook/twilio`.
    Twilio,
}

impl Source {
    /// The word that stands for the contract in digests and dead letters; part of every event id,
    /// so it never changes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CallEvent => "call-event",
            Self::WebhookForward => "webhook-forward",
            Self::CloudEvents => "cloudevents",
            Self::OpenAi => "openai",
            Self::Twilio => "twilio",
        }
    }
}

/// A well-formed event of a type that nobody knows: kept in the dead letters, never guessed at.
#[derive(Debug, Clone, PartialEq)]
pub struct Parked {
    /// Which contract it came by.
    pub source: Source,
    /// The call it is about, if it is about one.
    pub call: Option<CallId>,
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

impl Parsed {
    /// The call it is about, if it is about one.
    #[must_use]
    pub fn call(&self) -> Option<&CallId> {
        match self {
            Self::Event(event) => Some(&event.call),
            Self::Parked(parked) => parked.call.as_ref(),
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &EventId {
        match self {
            Self::Event(event) => &event.id,
            Self::Parked(parked) => &parked.id,
        }
    }
}

/// What is known of an event besides what it says.
struct Head<'a> {
    source: Source,
    call: CallId,
    id: EventId,
    event_type: &'a str,
    happened_at: Option<Timestamp>,
    source_sequence: Option<u64>,
    traceparent: Option<String>,
}

impl Head<'_> {
    /// An event when somebody knows what it says, else one to park.
    fn complete(self, kind: Option<InputKind>) -> Parsed {
        match kind {
            Some(kind) => Parsed::Event(Box::new(NewEvent {
                source: self.source,
                call: self.call,
                id: self.id,
                happened_at: self.happened_at,
                source_sequence: self.source_sequence,
                kind,
                traceparent: self.traceparent,
            })),
            None => Parsed::Parked(Parked {
                source: self.source,
                call: Some(self.call),
                id: self.id,
                event_type: self.event_type.to_owned(),
            }),
        }
    }
}
