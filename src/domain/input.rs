//! What arrived: an accepted event, normalised.

use super::Timestamp;
use super::command::Report;
use super::ids::{CallId, EventId, IntentId, SessionKey};
use super::phone::{E164, Party};
use super::session::Link;
use super::timer::Timer;

/// One accepted event about one call, or one report about one command.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Names the event for ever: sent twice, it has the same id twice.
    pub id: EventId,
    /// Whose log it belongs to: the call, or the command (a call to be).
    pub call: CallId,
    /// Where in the stream of inputs it stands.
    pub position: Position,
    /// When it happened, by the sender's clock; `None` when the sender does not say.
    pub happened_at: Option<Timestamp>,
    /// When the ingress took it. Never used to order events.
    pub received_at: Timestamp,
    /// The sender's own number for this event within the call, where it has one.
    pub source_sequence: Option<u64>,
    /// What it says.
    pub kind: InputKind,
}

impl Input {
    /// The best known time of the event.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.happened_at.unwrap_or(self.received_at)
    }
}

/// A place in the stream of inputs. The epoch names one life of the stream, so that a stream that
/// was made anew (and counts from 1 again) is never taken for the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// Which life of the stream: its creation time in nanoseconds.
    pub epoch: u64,
    /// Stream sequence, from 1.
    pub sequence: u64,
}

impl Position {
    /// Whether a log that has come to `self` has had `other` before. Only positions of one epoch
    /// can be compared.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.epoch == other.epoch && self.sequence >= other.sequence
    }
}

/// What an input says.
#[derive(Debug, Clone, PartialEq)]
pub enum InputKind {
    /// The call began. The two ids of one outbound call each begin once.
    Started {
        /// Who called whom, if said.
        direction: Option<Direction>,
        /// The other end, if said.
        party: Option<Party>,
        /// The dial that made the call, if said. Only one that is under way to that number counts.
        intent: Option<IntentId>,
    },
    /// The other end rings.
    Ringing,
    /// The other end picked up.
    Answered,
    /// The call is over.
    Ended(End),
    /// Something was said.
    Utterance(Utterance),
    /// The phone-call server's history has this; we may have it too.
    Recorded(Recorded),
    /// Somebody wants the transcript to be completed from the phone-call server's history.
    Sync,
    /// A timer of the call fired.
    Timer(Timer),
    /// Audio went by; the audio itself is not here.
    Audio(AudioMark),
    /// The phone-call server took a dial command and gave this call its id.
    Dialled {
        /// The command that made the call.
        intent: IntentId,
        /// The session that the command names.
        session: SessionKey,
        /// The number that was dialled.
        to: E164,
    },
    /// The phone-call server took a cancellation of this call.
    Cancelled,
    /// Somebody gave the call something to know.
    Context(Context),
    /// What became of a command.
    Command(Report),
    /// A command has linked a number to a session, or has taken its link away.
    Linked(Link),
}

/// Who called whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The other end called us.
    Inbound,
    /// We called the other end.
    Outbound,
}

impl Direction {
    /// `inbound` or `outbound`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }

    /// Reads `inbound` or `outbound`, in any case of letters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Inbound, Self::Outbound]
            .into_iter()
            .find(|d| d.as_str().eq_ignore_ascii_case(text))
    }
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub reason: EndReason,
    /// The sender's own word for it, where it says more than the reason.
    pub detail: Option<String>,
}

/// Why a call ended: the words of OpenClaw's voice calls, plus `canceled` of Twilio, and `rejected`
/// for a call that came in and was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the meaning")]
pub enum EndReason {
    Completed,
    HangupUser,
    HangupBot,
    Timeout,
    Error,
    Failed,
    NoAnswer,
    Busy,
    Canceled,
    Voicemail,
    Rejected,
}

impl EndReason {
    const ALL: [Self; 11] = [
        Self::Completed,
        Self::HangupUser,
        Self::HangupBot,
        Self::Timeout,
        Self::Error,
        Self::Failed,
        Self::NoAnswer,
        Self::Busy,
        Self::Canceled,
        Self::Voicemail,
        Self::Rejected,
    ];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::HangupUser => "hangup-user",
            Self::HangupBot => "hangup-bot",
            Self::Timeout => "timeout",
            Self::Error => "error",
            Self::Failed => "failed",
            Self::NoAnswer => "no-answer",
            Self::Busy => "busy",
            Self::Canceled => "canceled",
            Self::Voicemail => "voicemail",
            Self::Rejected => "rejected",
        }
    }

    /// Reads a reason; `_` counts as `-`, `cancelled` as `canceled`, in any case of letters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let word = text.trim().to_ascii_lowercase().replace('_', "-");
        if word == "cancelled" {
            return Some(Self::Canceled);
        }
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// Whether the call failed for a technical cause, rather than ended.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Error | Self::Failed)
    }
}

/// What a call was given to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// A JSON object, as text.
    pub json: String,
    /// Whether the conversation that is going on was told, certainly.
    pub live: bool,
}

/// One thing that one side said.
#[derive(Debug, Clone, PartialEq)]
pub struct Utterance {
    /// Which side.
    pub speaker: Speaker,
    /// The sender's own word for the speaker.
    pub speaker_label: String,
    /// What was said, unaltered.
    pub text: String,
    /// When it was said, by the sender's clock.
    pub spoken_at: Option<Timestamp>,
    /// How sure the recogniser is, 0 to 1, where it says so.
    pub confidence: Option<f64>,
}

/// An utterance of the phone-call server's history.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// What was said.
    pub utterance: Utterance,
    /// The times of the like ones before it in the history; see
    /// [`super::transcript::like_before`].
    pub before: Vec<Option<Timestamp>>,
}

/// Whose words an utterance holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// The person on the phone.
    User,
    /// The assistant.
    Agent,
    /// Neither: a note of the system.
    System,
}

impl Speaker {
    /// `user`, `agent` or `system`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Agent => "agent",
            Self::System => "system",
        }
    }

    /// Reads a speaker's label. The server's label is free text; whoever is neither the person
    /// nor the system is taken for the assistant, as the replaced bridge did.
    #[must_use]
    pub fn read(label: &str) -> Self {
        match label.trim().to_ascii_lowercase().as_str() {
            "user" | "caller" | "callee" | "human" | "customer" => Self::User,
            "system" | "tool" => Self::System,
            _ => Self::Agent,
        }
    }
}

/// Which way audio went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudioMark {
    /// From the person on the phone.
    Received,
    /// To the person on the phone.
    Sent,
}
