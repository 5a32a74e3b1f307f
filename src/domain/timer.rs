//! What a call waits for, and what is asked in the meantime.
//!
//! A timer is armed before the event that needs it is committed: a crash in between leaves a timer
//! that fires into nothing, never an event whose timer is missing. Arming one again replaces it.
//! None is ever taken back: one that is no longer needed finds so when it fires.
//!
//! | timer | armed | when it fires |
//! |---|---|---|
//! | `finalize` | when the call ends, and with each utterance after that | the history is asked for what is missing, then the transcript is completed |
//! | `hole` | when the first of the sender's numbers is missing, then again as long as one is | when the history was not asked about one that is missing, it is asked |
//! | `stale` | with the first event of the call, then again each time it fires | when nothing has happened since it was armed, the phone-call server is asked whether it has the call |

use chrono::TimeDelta;

use super::Timestamp;
use super::ids::CallId;

/// How soon the transcript is completed after an utterance was fetched. The others that were
/// fetched with it lie in the stream already; a second lets them go by first.
pub const FILLED_AFTER: TimeDelta = TimeDelta::seconds(1);

/// How long the history is waited for before the transcript is completed without it. Egress gives
/// the phone-call server 5 s, and stores what it fetched at some thousand utterances a second.
pub const FILL_PATIENCE: TimeDelta = TimeDelta::seconds(20);

/// How long a number of the sender may be missing before the history is asked for what it stood
/// for. The real emitter displaces events by up to 12 places, which it sends within a second or two.
const HOLE_PATIENCE: TimeDelta = TimeDelta::seconds(5);

/// The older the call, the longer: by this part of its age. So the history of a call is asked once in
/// five seconds at most, some fourteen times while its age doubles, and some 150 times in half a day.
const HOLE_PATIENCE_PART: i32 = 20;

/// How long what is missing from a call of this age may still come by itself.
#[must_use]
pub fn hole_patience(age: TimeDelta) -> TimeDelta {
    (age / HOLE_PATIENCE_PART).max(HOLE_PATIENCE)
}

/// A timer and what it was armed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// Completes the transcript.
    Finalize {
        /// Whether the history was asked already.
        filled: bool,
    },
    /// Looks whether what is missing of the sender's numbers has come by itself.
    Hole {
        /// What is missing up to this number, the history was asked about.
        asked_to: u64,
        /// The last number that was known when the timer was armed. What is missing after it has not
        /// been waited for yet.
        known_to: u64,
    },
    /// Looks whether the call has gone silent.
    Stale {
        /// The number of the call's last event when the timer was armed; `None` when it was armed
        /// by another call. While the number is the same, nothing has happened.
        sequence: Option<u64>,
        /// Whether the phone-call server has said since that it does not have the call.
        gone: bool,
    },
}

impl Timer {
    /// The word in subjects: arming replaces the call's timer of the same name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Finalize { .. } => "finalize",
            Self::Hole { .. } => "hole",
            Self::Stale { .. } => "stale",
        }
    }
}

/// A timer to arm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arm {
    /// Whose timer.
    pub call: CallId,
    /// Which one.
    pub timer: Timer,
    /// How long from the moment of arming.
    pub after: TimeDelta,
}

/// What is asked of egress. The answer comes back as a timer that fires at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Does the phone-call server have the call?
    Presence {
        /// The number of the call's last event when this was asked.
        sequence: u64,
    },
    /// What does the history have that we lack? The utterances come as inputs.
    History {
        /// Whether the transcript is completed with the answer. One to a question that was asked
        /// before the end must not be: the timer that it would replace has yet to ask for the rest.
        completes: bool,
    },
}

/// Whether the phone-call server has a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It has, and the call is going on there.
    Present,
    /// It has not, or the call is over there.
    Absent,
    /// Nobody knows.
    Unknown,
}

impl Presence {
    const ALL: [Self; 3] = [Self::Present, Self::Absent, Self::Unknown];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Absent => "absent",
            Self::Unknown => "unknown",
        }
    }

    /// Reads a word; what is none of ours is not known.
    #[must_use]
    pub fn read(text: &str) -> Self {
        Self::ALL
            .into_iter()
            .find(|one| one.as_str() == text)
            .unwrap_or(Self::Unknown)
    }

    /// The timer that tells the call of the answer; a call that is there keeps the timer it has.
    #[must_use]
    pub fn tell(self, sequence: u64) -> Option<Timer> {
        (self == Self::Absent).then_some(Timer::Stale {
            sequence: Some(sequence),
            gone: true,
        })
    }
}

/// How long what is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// From the end of a call (or an utterance after it) until its transcript is completed.
    pub finalize_after: TimeDelta,
    /// How long a call may be silent before the phone-call server is asked.
    pub stale_after: TimeDelta,
    /// The same for the other leg of a call that has ended.
    pub other_leg_after: TimeDelta,
    /// A silent call older than this is over, whatever the phone-call server says.
    pub age_max: TimeDelta,
}

impl Default for Times {
    /// The defaults of the configuration, which gives the reasons.
    fn default() -> Self {
        Self {
            finalize_after: TimeDelta::seconds(5),
            stale_after: TimeDelta::minutes(30),
            other_leg_after: TimeDelta::minutes(1),
            age_max: TimeDelta::hours(12),
        }
    }
}

impl Times {
    /// Whether a call that was first heard of at `since` is over for its age alone.
    #[must_use]
    pub fn is_too_old(&self, since: Option<Timestamp>, now: Timestamp) -> bool {
        since.is_some_and(|since| now - since >= self.age_max)
    }
}
