//! One wish to dial, from the moment it was asked for to its end: what may be done next, and what
//! must never be done.
//!
//! ```text
//! waiting ──ready──► sending ──answer──► confirmed | refused
//!    ▲                │  │
//!    └───not sent─────┘  └──lost, interrupted──► unknown ──found, or a person──► confirmed | refused
//!    │                                              └──a person──► abandoned
//!    ├── cancelled, before anything was sent
//!    └── expired, refused by a guard
//! ```
//!
//! The shell keeps one [`Record`] per wish and replaces it by compare-and-swap. It tells [`fn@next`]
//! what happened, stores what [`Decision::record`] says, and only then does what
//! [`Decision::then`] says. From that, and from that alone, follow the two promises:
//!
//! * **Nothing is sent twice.** [`Then::Send`] is said for one case only, a record that says
//!   `waiting`, and only after `sending` is stored. `waiting` comes back only when it is certain
//!   that nothing left.
//! * **Nothing vanishes.** A record that is not at its end says when it is to be looked at again; a
//!   wish whose fate cannot be found out is `unknown`, in front of a person.

mod next;

use chrono::TimeDelta;

use super::Timestamp;
use super::command::{Reason, Status};
use super::ids::{CallId, SessionKey};
use super::phone::E164;

pub use next::next;

/// Longest time the phone-call server is given to answer a dial. It waits for its carrier without
/// a time-out of its own; slow ones took 3 s.
pub const ANSWER_TIME_MAX: TimeDelta = TimeDelta::seconds(15);

/// A record found `sending` may belong to a worker that waits for the answer at this moment. After
/// the longest time that takes, and some for writing it down, nobody does.
pub const SENDING_TIME_MAX: TimeDelta = TimeDelta::seconds(20);

/// How long after it was sent the traces of a dial are looked for: the longest time for an answer,
/// and a minute in which a server that was frozen or slow shows what it did.
pub const SETTLE_TIME: TimeDelta = TimeDelta::seconds(75);

/// What is known of one wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What was asked for; `None` when it was cancelled before it came.
    pub wish: Option<Wish>,
    /// How far it has come.
    pub state: State,
    /// Since when.
    pub at: Timestamp,
}

/// What was asked for, as far as it decides anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Tells it from another wish under the same name.
    pub fingerprint: String,
    /// Whom to call.
    pub to: E164,
    /// The session of the call.
    pub session: SessionKey,
    /// After this instant nothing is dialled any more.
    pub deadline: Timestamp,
}

/// How far a wish has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Certainly nothing has left. It may be sent until the deadline.
    Waiting {
        /// What stands in the way, if anything did so far.
        reason: Option<Reason>,
    },
    /// The request is about to leave, is leaving or has left. Whoever finds this never sends.
    Sending(Attempt),
    /// The phone may have rung.
    Unknown {
        /// The attempt that it is about.
        attempt: Attempt,
        /// Why it is not known.
        reason: Reason,
        /// Whether everything that could be asked was asked, and a person must say.
        settled: bool,
    },
    /// The call has an id.
    Confirmed {
        /// The call.
        call: CallId,
    },
    /// No call was made.
    Refused {
        /// Why.
        reason: Reason,
        /// When the same wish would be taken, where that is known.
        passes_at: Option<Timestamp>,
    },
    /// Taken back before anything was sent.
    Cancelled,
    /// The deadline passed before anything was sent.
    Expired,
    /// A person has decided that nothing more will be known.
    Abandoned {
        /// Who, and why.
        reason: Reason,
    },
}

/// One request that is sent, or may have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Tells it from any other attempt, of whichever worker.
    pub nonce: String,
    /// When it was about to leave.
    pub at: Timestamp,
    /// The calls to the same number that the phone-call server had before.
    pub calls_before: Vec<CallId>,
}

/// What happened to a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// Its command came, for the first time or again.
    Asked(Wish),
    /// A guard does not let it pass.
    Forbidden {
        /// Why.
        reason: Reason,
        /// When it would let it pass, where that is known.
        passes_at: Option<Timestamp>,
    },
    /// Something else holds it up for now: the server is away, the number is busy.
    HeldUp(Reason),
    /// Everything is ready to send it.
    Ready(Attempt),
    /// The attempt of this nonce certainly did not reach the server.
    NotSent {
        /// The attempt.
        nonce: String,
        /// What was in the way.
        reason: Reason,
    },
    /// The server answered this attempt, or its answer is lost.
    Answered {
        /// The attempt.
        nonce: String,
        /// What that means.
        meaning: Meaning,
    },
    /// Its traces were looked for.
    Looked(Evidence),
    /// Somebody takes it back.
    Cancelled,
    /// A person says what became of it.
    Resolved(Resolution),
    /// Its command cannot be worked on for what it is.
    GivenUp(Reason),
}

/// What an answer of the phone-call server means for a dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// The call has an id.
    Placed(CallId),
    /// No call was made.
    Refused(Reason),
    /// A call may have been made.
    Unknown(Reason),
    /// The server says with certainty that it did not take the request, and that it may be asked
    /// again.
    NotTaken(Reason),
}

/// What was found of a dial whose outcome is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// The call that it made.
    Found(CallId),
    /// It was refused.
    Refused(Reason),
    /// It never reached the server, which will refuse it if it still comes: only a server that
    /// keeps account of intents can say so.
    NeverTaken,
    /// Nothing, or nothing certain.
    Nothing,
}

/// What a person says of a dial whose outcome is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// It made this call.
    Confirmed(CallId),
    /// Nothing more will be known.
    Abandoned(Reason),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What to store first, in place of the record that was decided on.
    pub record: Option<Record>,
    /// What to do when it is stored.
    pub then: Then,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Get ready: have the guards asked, hold the number, look at the server's calls. Then say
    /// [`Happened::Ready`], or what is in the way.
    Prepare,
    /// Send the request, once, now.
    Send,
    /// Look for its traces.
    Look,
    /// Tell what the record says.
    Tell,
    /// Tell what the record says, and look again later.
    TellAndLookAgain,
    /// Let it come again later.
    ComeAgain,
    /// Another wish has this name: it is refused, and the first is left as it is.
    Conflict,
    /// Nothing: it cannot be done any more, or not yet.
    Nothing,
}

impl State {
    /// Whether nothing can change it any more.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Waiting { .. } | Self::Sending(_) | Self::Unknown { .. } => false,
            Self::Confirmed { .. }
            | Self::Refused { .. }
            | Self::Cancelled
            | Self::Expired
            | Self::Abandoned { .. } => true,
        }
    }

    /// Whether a dial to its number may still be under way, so that another one to the same number
    /// could not be told from it.
    #[must_use]
    pub fn holds_number(&self) -> bool {
        match self {
            Self::Sending(_) => true,
            Self::Unknown { settled, .. } => !settled,
            _ => false,
        }
    }

    /// The word for people and programs.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Sending(_) => "sending",
            Self::Unknown { .. } => "unknown",
            Self::Confirmed { .. } => "confirmed",
            Self::Refused { .. } => "refused",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Abandoned { .. } => "abandoned",
        }
    }

    /// How the command stands.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Waiting { .. } | Self::Sending(_) => Status::Accepted,
            Self::Unknown { .. } => Status::Unknown,
            Self::Confirmed { .. } => Status::Confirmed,
            Self::Refused { .. } => Status::Refused,
            Self::Cancelled => Status::Cancelled,
            Self::Expired => Status::Expired,
            Self::Abandoned { .. } => Status::Abandoned,
        }
    }

    /// The call that came of it.
    #[must_use]
    pub fn call(&self) -> Option<&CallId> {
        match self {
            Self::Confirmed { call } => Some(call),
            _ => None,
        }
    }

    /// Why it is as it is.
    #[must_use]
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Waiting { reason } => reason.as_ref(),
            Self::Unknown { reason, .. }
            | Self::Refused { reason, .. }
            | Self::Abandoned { reason } => Some(reason),
            Self::Sending(_) | Self::Confirmed { .. } | Self::Cancelled | Self::Expired => None,
        }
    }
}

#[cfg(test)]
mod tests;
