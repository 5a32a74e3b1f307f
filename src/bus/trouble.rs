//! What stands in the way of a message, and how long one waits for it to pass.
//!
//! There are two kinds. When NATS is away, or a stream is full, every message is in the same
//! trouble: it waits for as long as that takes, and giving up would only fill the dead letters
//! with messages that nothing is wrong with. Trouble of one message alone (lost races for its log,
//! a refusal that others do not get) is waited for a little, and then the message is parked, so
//! that those behind it go on.
//!
//! The tries of such a message follow one another within one delivery rather than by redelivery.
//! The count of deliveries also counts outages and workers that were stopped, and with many workers
//! each of them would have tries of its own; so the bound on how long the messages behind it wait
//! would be none.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;

use super::{bucket, log, publish, transcript};

/// Tries of a message in trouble of its own.
pub const TRIES_MAX: u32 = 5;
/// Pause after the first try; each later one is twice as long. With [`TRIES_MAX`] the pauses sum up
/// to 1.5 s, which leaves half a second for the tries: other calls wait 2 s at most.
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// Why a message is not done yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Everybody's, or known to end by itself. The message stays in the stream.
    Wait(String),
    /// Of this message alone.
    Own(String),
}

impl Trouble {
    /// What is in the way.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Wait(reason) | Self::Own(reason) => reason,
        }
    }
}

impl From<log::Error> for Trouble {
    fn from(error: log::Error) -> Self {
        let reason = crate::error_chain::Chain(&error).to_string();
        match error {
            log::Error::Away { .. } => Self::Wait(reason),
            log::Error::Unreadable { .. } => Self::Own(reason),
        }
    }
}

impl From<bucket::Error> for Trouble {
    fn from(error: bucket::Error) -> Self {
        let reason = crate::error_chain::Chain(&error).to_string();
        match error {
            bucket::Error::Away { .. } => Self::Wait(reason),
            bucket::Error::Conflict { .. } => Self::Own(reason),
        }
    }
}

impl From<publish::Error> for Trouble {
    fn from(error: publish::Error) -> Self {
        let reason = crate::error_chain::Chain(&error).to_string();
        if error.is_of_this_message() {
            Self::Own(reason)
        } else {
            Self::Wait(reason)
        }
    }
}

impl From<transcript::Error> for Trouble {
    /// A replica that lags behind catches up.
    fn from(error: transcript::Error) -> Self {
        Self::Wait(crate::error_chain::Chain(&error).to_string())
    }
}

/// Lets a mistake of ours that one message meets be the trouble of that message, and not the end of
/// every worker that it comes to.
///
/// # Errors
/// As `work`, and when it panics. What `work` has changed in memory by then must not be relied on.
pub async fn guarded<T>(work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .unwrap_or_else(|_panic| Err(Trouble::Own("the worker panicked; see its log".to_owned())))
}

/// The pause after so many tries, or `None` when there were enough. Its length is drawn, so that
/// two that are in each other's way do not meet again.
#[must_use]
pub fn pause_after(tries: u32) -> Option<Duration> {
    pause(tries, uuid::Uuid::new_v4().as_bytes()[0])
}

fn pause(tries: u32, drawn: u8) -> Option<Duration> {
    if tries >= TRIES_MAX {
        return None;
    }
    let longest = PAUSE_FIRST * 2u32.saturating_pow(tries.saturating_sub(1));
    // Between half of it and the whole.
    Some(longest / 2 + longest * u32::from(drawn) / 510)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_before_other_calls_have_waited_two_seconds() {
        let sum = |drawn| (1..TRIES_MAX).filter_map(|tries| pause(tries, drawn)).sum();
        let (shortest, longest): (Duration, Duration) = (sum(0), sum(255));
        assert_eq!(shortest, Duration::from_millis(750));
        assert_eq!(longest, Duration::from_millis(1_500));
        assert_eq!(pause(TRIES_MAX, 0), None);
        assert_eq!(pause(u32::MAX, 0), None);
    }

    #[tokio::test]
    async fn a_panic_is_the_trouble_of_one_message() {
        let nothing: Vec<u8> = Vec::new();
        let work = async { Ok(nothing[usize::from(nothing.is_empty())]) };
        assert!(matches!(guarded(work).await, Err(Trouble::Own(_))));
        assert_eq!(guarded(async { Ok(7) }).await, Ok(7));
    }

    #[test]
    fn a_server_that_is_away_is_waited_for_and_a_lost_race_is_not() {
        let away = bucket::Error::Away {
            bucket: "B",
            key: "k".to_owned(),
            reason: "gone".to_owned(),
        };
        assert!(matches!(Trouble::from(away), Trouble::Wait(_)));
        let subject = || "voicebus.commit.x".to_owned();
        let reason = || "no".to_owned();
        let own = |error| matches!(Trouble::from(error), Trouble::Own(_));
        assert!(own(publish::Error::Conflict { subject: subject() }));
        assert!(!own(publish::Error::Unclear {
            subject: subject(),
            reason: reason()
        }));
        for (of_this_message, expected) in [(true, true), (false, false)] {
            assert_eq!(
                own(publish::Error::Refused {
                    subject: subject(),
                    reason: reason(),
                    of_this_message,
                }),
                expected
            );
        }
    }
}
