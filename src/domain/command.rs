//! What is asked of voicebus, and what became of it.
//!
//! Every command has an id and a log of its own: `accepted`, then one of `confirmed`, `refused`,
//! `cancelled`, `expired` or `unknown`. Only `unknown` may be followed by another: by one of these,
//! or by `abandoned`.

use super::Timestamp;
use super::ids::{CallId, IntentId, SessionKey};
use super::phone::E164;

/// Place one call to one number.
#[derive(Debug, Clone, PartialEq)]
pub struct Dial {
    /// Names the wish: the same id is dialled once, however often it is asked for.
    pub intent: IntentId,
    /// Whom to call.
    pub to: E164,
    /// Which of our numbers to show; the phone-call server's own when `None`.
    pub caller_id: Option<E164>,
    /// What the assistant opens with; the phone-call server's own greeting when `None`.
    pub message: Option<String>,
    /// What the call should know, as JSON text.
    pub context: Option<String>,
    /// The session that the call belongs to.
    pub session: SessionKey,
    /// After this instant nothing is dialled any more.
    pub deadline: Timestamp,
}

/// Have the assistant say something in a call that is going on.
#[derive(Debug, Clone, PartialEq)]
pub struct Say {
    /// Names the wish: the same id is said once, however often it is asked for.
    pub id: IntentId,
    /// The call.
    pub call: CallId,
    /// What to say.
    pub text: String,
    /// The session that the call must be in, if one is named.
    pub session: Option<SessionKey>,
    /// After this instant it is not said any more.
    pub deadline: Timestamp,
}

/// Which command a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Place a call.
    Dial,
    /// End a call.
    Hangup,
    /// Give a call something to know.
    Context,
    /// Have the assistant say something in a call.
    Say,
    /// Put the calls of a number into a session from now on.
    Link,
    /// Leave them to the rules again.
    Unlink,
}

impl Verb {
    const ALL: [Self; 6] = [
        Self::Dial,
        Self::Hangup,
        Self::Context,
        Self::Say,
        Self::Link,
        Self::Unlink,
    ];

    /// The word on the wire and in subjects.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dial => "dial",
            Self::Hangup => "hangup",
            Self::Context => "context",
            Self::Say => "say",
            Self::Link => "link",
            Self::Unlink => "unlink",
        }
    }

    /// Reads a verb.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == text)
    }
}

/// What became of a command, as egress tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The command.
    pub intent: IntentId,
    /// What it asks.
    pub verb: Verb,
    /// The session it names.
    pub session: SessionKey,
    /// The number it is about, if any.
    pub to: Option<E164>,
    /// The call it is about, as far as known.
    pub call: Option<CallId>,
    /// How far it has come.
    pub status: Status,
    /// Why, for people, when it was not confirmed, or not all of it was done.
    pub reason: Option<Reason>,
}

/// How far a command has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Taken; the outcome follows.
    Accepted,
    /// Done; for a dial, the call has an id.
    Confirmed,
    /// Not done, and nothing happened.
    Refused,
    /// Taken back before anything happened.
    Cancelled,
    /// Its deadline passed before anything happened.
    Expired,
    /// It may have happened: a person or a later look must decide. Never repeated by itself.
    Unknown,
    /// It was unknown, and a person has decided that nothing more will be known.
    Abandoned,
}

impl Status {
    const ALL: [Self; 7] = [
        Self::Accepted,
        Self::Confirmed,
        Self::Refused,
        Self::Cancelled,
        Self::Expired,
        Self::Unknown,
        Self::Abandoned,
    ];

    /// The word on the wire and in subjects.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Confirmed => "confirmed",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
            Self::Abandoned => "abandoned",
        }
    }

    /// Reads a status.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether nothing more can follow.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Accepted | Self::Unknown)
    }

    /// Whether a caller who waits has an answer.
    #[must_use]
    pub fn is_answer(self) -> bool {
        self != Self::Accepted
    }

    /// Whether a command at `self` may come to `next`.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Accepted => next != Self::Accepted,
            Self::Unknown => next.is_final(),
            Self::Confirmed | Self::Refused | Self::Cancelled | Self::Expired | Self::Abandoned => {
                false
            }
        }
    }
}

/// Why a command was not confirmed, or what of it was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// A stable word for programs.
    pub code: String,
    /// A sentence for people; may hold the phone-call server's own words.
    pub text: String,
}

impl Reason {
    /// A reason.
    #[must_use]
    pub fn new(code: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            text: text.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answered_command_changes_only_from_unknown() {
        for from in Status::ALL {
            for to in Status::ALL {
                let allowed = match from {
                    Status::Accepted => to != Status::Accepted,
                    Status::Unknown => to != Status::Accepted && to != Status::Unknown,
                    _ => false,
                };
                assert_eq!(
                    from.may_become(to),
                    allowed,
                    "{} → {}",
                    from.as_str(),
                    to.as_str()
                );
            }
        }
    }
}
