//! What is known of a call, or of a command: the state that the last event of a log carries.

mod numbers;
mod progress;

pub use numbers::Numbers;
pub use progress::{Progress, RECENT_INPUTS_MAX};

use super::Timestamp;
use super::command::Report;
use super::ids::{CallId, IntentId};
use super::input::{Direction, End};
use super::phone::E164;
use super::session::Binding;

/// One log of the public feed: a call's, or a command's.
#[derive(Debug, Clone, PartialEq)]
pub enum Log {
    /// The log of a call.
    Call(Call),
    /// The log of a command.
    Command(CommandLog),
}

impl Log {
    /// How far the log has come, and what it has had lately.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        match self {
            Self::Call(call) => &call.progress,
            Self::Command(log) => &log.progress,
        }
    }

    /// The id of the log: the call's, or the command's.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Call(call) => call.id.as_str(),
            Self::Command(log) => log.report.intent.as_str(),
        }
    }

    /// The session that the log is in.
    #[must_use]
    pub fn session(&self) -> &super::ids::SessionKey {
        match self {
            Self::Call(call) => &call.binding.key,
            Self::Command(log) => &log.report.session,
        }
    }
}

/// A command's log.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandLog {
    /// How far the log has come.
    pub progress: Progress,
    /// What is known of the command.
    pub report: Report,
    /// When its status last changed.
    pub at: Timestamp,
}

/// What is known of one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Its id at the phone-call server.
    pub id: CallId,
    /// How far its log has come.
    pub progress: Progress,
    /// How far it has come itself.
    pub phase: Phase,
    /// Who called whom, if said.
    pub direction: Option<Direction>,
    /// The other end's number, if it has one.
    pub number: Option<E164>,
    /// Its session and why.
    pub binding: Binding,
    /// The command that made it.
    pub intent: Option<IntentId>,
    /// The other id of the same call.
    pub other_leg: Option<CallId>,
    /// When it began; `None` until a beginning was heard of.
    pub initiated_at: Option<Timestamp>,
    /// When the other end picked up.
    pub answered_at: Option<Timestamp>,
    /// When and how it ended.
    pub end: Option<(Timestamp, End)>,
    /// Utterances so far.
    pub utterances: u64,
    /// Those of them that were fetched from the phone-call server's history.
    pub backfilled: u64,
    /// What its transcript was completed with, once it was.
    pub completed: Option<Completed>,
}

/// How often the transcript of a call was completed, and when last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completed {
    /// How often, from 1.
    pub revision: u64,
    /// With how many utterances last.
    pub utterances: u64,
}

impl Call {
    /// A call of which nothing is known but that it exists.
    #[must_use]
    pub fn unknown(id: CallId, binding: Binding) -> Self {
        Self {
            id,
            progress: Progress::default(),
            phase: Phase::Unknown,
            direction: None,
            number: None,
            binding,
            intent: None,
            other_leg: None,
            initiated_at: None,
            answered_at: None,
            end: None,
            utterances: 0,
            backfilled: 0,
            completed: None,
        }
    }

    /// Whether a beginning of the call was heard of.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.initiated_at.is_some()
    }

    /// Whether its transcript has something that no `transcript.completed` has told of.
    #[must_use]
    pub fn awaits_completion(&self) -> bool {
        self.completed
            .is_none_or(|completed| completed.utterances != self.utterances)
    }
}

/// How far a call has come; later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Something was heard of the call, but not its state.
    Unknown,
    /// It began.
    Initiated,
    /// The other end rings.
    Ringing,
    /// Both ends talk.
    Active,
    /// It is over.
    Ended,
}

impl Phase {
    const ALL: [Self; 5] = [
        Self::Unknown,
        Self::Initiated,
        Self::Ringing,
        Self::Active,
        Self::Ended,
    ];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Initiated => "initiated",
            Self::Ringing => "ringing",
            Self::Active => "active",
            Self::Ended => "ended",
        }
    }

    /// Reads a phase.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == text)
    }
}
