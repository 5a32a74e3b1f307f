//! A timer as it lies in VOICE_IN until it fires, and as it comes back.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Error, field, from_bytes, to_bytes};
use crate::domain::Timestamp;
use crate::domain::ids::{CallId, EventId};
use crate::domain::input::{Input, InputKind, Position};
use crate::domain::timer::Timer;

const WHAT: &str = "timer";
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct TimerEnvelope {
    version: u32,
    #[serde(flatten)]
    timer: Wire,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "timer", rename_all = "snake_case")]
enum Wire {
    Finalize {
        filled: bool,
    },
    Hole {
        asked_to: u64,
        known_to: u64,
    },
    Stale {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sequence: Option<u64>,
        gone: bool,
    },
}

/// Writes a timer.
///
/// # Errors
/// When it cannot be written, which is a mistake of ours.
pub fn encode_timer(timer: Timer) -> Result<Bytes, Error> {
    let timer = match timer {
        Timer::Finalize { filled } => Wire::Finalize { filled },
        Timer::Hole { asked_to, known_to } => Wire::Hole { asked_to, known_to },
        Timer::Stale { sequence, gone } => Wire::Stale { sequence, gone },
    };
    to_bytes(
        WHAT,
        &TimerEnvelope {
            version: VERSION,
            timer,
        },
    )
}

/// Reads a timer that fired. Whose it is says the subject on which it came, and its id is where it
/// stands: one that fires twice is two inputs. Its headers say nothing: they are those with which
/// it was armed.
///
/// # Errors
/// When the message is not a timer of a version that this program knows.
pub fn decode_timer(
    bytes: &[u8],
    call: CallId,
    position: Position,
    fired_at: Timestamp,
) -> Result<Input, Error> {
    let envelope: TimerEnvelope = from_bytes(WHAT, bytes)?;
    if envelope.version > VERSION {
        return Err(Error::Version {
            what: WHAT,
            found: envelope.version,
            known: VERSION,
        });
    }
    let timer = match envelope.timer {
        Wire::Finalize { filled } => Timer::Finalize { filled },
        Wire::Hole { asked_to, known_to } => Timer::Hole { asked_to, known_to },
        Wire::Stale { sequence, gone } => Timer::Stale { sequence, gone },
    };
    let id = format!("ev_timer-{}-{}", position.epoch, position.sequence);
    Ok(Input {
        id: field(WHAT, "id", EventId::parse(&id))?,
        call,
        position,
        happened_at: None,
        received_at: fired_at,
        source_sequence: None,
        kind: InputKind::Timer(timer),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_comes_back_as_it_was_armed_named_by_where_it_stands() {
        let position = Position {
            epoch: 7,
            sequence: 9,
        };
        let at = Timestamp::from_timestamp(1_800_000_000, 0).unwrap();
        for timer in [
            Timer::Finalize { filled: true },
            Timer::Hole {
                asked_to: 7,
                known_to: 9,
            },
            Timer::Stale {
                sequence: None,
                gone: false,
            },
            Timer::Stale {
                sequence: Some(3),
                gone: true,
            },
        ] {
            let bytes = encode_timer(timer).unwrap();
            let call = CallId::parse("rtc_1").unwrap();
            let input = decode_timer(&bytes, call, position, at).unwrap();
            assert_eq!(input.kind, InputKind::Timer(timer));
            assert_eq!(input.id.as_str(), "ev_timer-7-9");
        }
    }
}
