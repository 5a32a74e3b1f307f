//! What happened: the one output that an input can have.

use super::Timestamp;
use super::call::Log;
use super::ids::{EventId, SessionKey};
use super::input::{AudioMark, Context, Utterance};
use super::session::Link;
use super::transcript::Conversation;

/// An event of the public feed, with the log as it stands after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Derived from the input, never random.
    pub id: EventId,
    /// When it happened, as far as known.
    pub time: Timestamp,
    /// What changed.
    pub change: Change,
    /// The call or command after it. The last event of a log *is* its state.
    pub log: Log,
}

/// What changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// First word of the call, or what was missing about its beginning.
    Initiated,
    /// The other end rings.
    Ringing,
    /// The other end picked up.
    Answered,
    /// The call is over.
    Ended,
    /// The call is over for a technical cause.
    Failed,
    /// Something was said.
    Said(Said),
    /// The transcript is complete, as far as anybody can tell.
    Completed(Box<Conversation>),
    /// The call moved to another session, because more became known about it.
    Rebound {
        /// The session it was in.
        from: SessionKey,
    },
    /// Audio went by.
    Audio(AudioMark),
    /// The call was given something to know.
    Context(Context),
    /// A number was linked to a session, or its link was taken away.
    Linked(Link),
    /// A command came a step further; the step is in the log.
    Command,
    /// An input about this call could not be used; it lies in the dead letters.
    Error {
        /// A stable word for programs.
        code: String,
        /// A sentence for people.
        text: String,
        /// The number of the dead letter.
        letter: u64,
    },
}

/// An utterance and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// What was said.
    pub utterance: Utterance,
    /// The sender's own number for it, where there is one.
    pub source_sequence: Option<u64>,
    /// Whether it came after the end of the call.
    pub after_end: bool,
    /// Whether it was fetched from the phone-call server's history, because nobody had sent it.
    pub backfilled: bool,
}

impl Event {
    /// The last two tokens of the subject: kind and action.
    #[must_use]
    pub fn kind_and_action(&self) -> (&'static str, &'static str) {
        match &self.change {
            Change::Initiated => ("state", "initiated"),
            Change::Ringing => ("state", "ringing"),
            Change::Answered => ("state", "answered"),
            Change::Ended => ("state", "ended"),
            Change::Failed => ("state", "failed"),
            Change::Said(said) => ("transcript", said.utterance.speaker.as_str()),
            Change::Completed(_) => ("transcript", "completed"),
            Change::Rebound { .. } => ("session", "rebound"),
            Change::Audio(AudioMark::Received) => ("audio", "received"),
            Change::Audio(AudioMark::Sent) => ("audio", "sent"),
            Change::Context(_) => ("context", "injected"),
            Change::Linked(Link { to: Some(_), .. }) => ("session", "linked"),
            Change::Linked(Link { to: None, .. }) => ("session", "unlinked"),
            Change::Command => match &self.log {
                Log::Command(log) => ("command", log.report.status.as_str()),
                Log::Call(_) => ("error", "occurred"),
            },
            Change::Error { .. } => ("error", "occurred"),
        }
    }
}
