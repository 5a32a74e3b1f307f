//! What is known of a call, or of a command: the state that the last event of a log carries.

use std::collections::VecDeque;

use super::Timestamp;
use super::command::Report;
use super::ids::{CallId, EventId, IntentId};
use super::input::{Direction, End, Position};
use super::phone::E164;
use super::session::Binding;

/// Fingerprints of recent inputs kept per log. The real emitter displaces events by up to 12
/// places and repeats them at once, so 32 catches its repeats with room; older repeats are caught
/// by what they say.
pub const RECENT_INPUTS_MAX: usize = 32;

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

/// How far a log has come: the router's own bookkeeping.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Number of the last event, from 1, without a hole.
    pub sequence: u64,
    /// The last input that had an effect.
    pub position: Position,
    recent: VecDeque<u64>,
}

impl Progress {
    /// Rebuilds the bookkeeping that an event carries.
    #[must_use]
    pub fn restore(
        sequence: u64,
        position: Position,
        recent: impl IntoIterator<Item = u64>,
    ) -> Self {
        let mut recent: VecDeque<u64> = recent.into_iter().collect();
        while recent.len() > RECENT_INPUTS_MAX {
            recent.pop_front();
        }
        Self {
            sequence,
            position,
            recent,
        }
    }

    /// Fingerprints of the inputs that had an effect lately, oldest first.
    pub fn recent(&self) -> impl Iterator<Item = u64> {
        self.recent.iter().copied()
    }

    /// Whether an input had its effect already.
    #[must_use]
    pub fn has(&self, id: &EventId, position: Position) -> bool {
        self.position.covers(position) || self.recent.contains(&id.fingerprint())
    }

    /// The bookkeeping after one more event.
    #[must_use]
    pub fn next(&self, id: &EventId, position: Position) -> Self {
        let mut recent = self.recent.clone();
        if recent.len() == RECENT_INPUTS_MAX {
            recent.pop_front();
        }
        recent.push_back(id.fingerprint());
        Self {
            sequence: self.sequence + 1,
            position,
            recent,
        }
    }
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
        }
    }

    /// Whether a beginning of the call was heard of.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.initiated_at.is_some()
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
