//! VOICE_INTENT: the record of one wish to dial.

use serde::{Deserialize, Serialize};

use super::WHAT;
use crate::bus::envelope::input::session_key;
use crate::bus::envelope::{Error, field, from_bytes, to_bytes};
use crate::domain::Timestamp;
use crate::domain::command::Reason;
use crate::domain::dial::{Attempt, Record, State, Wish};
use crate::domain::ids::CallId;
use crate::domain::phone::E164;

/// How far one wish to dial has come, written before anything leaves.
#[derive(Debug, Serialize, Deserialize)]
pub struct IntentRecord {
    #[serde(skip_serializing_if = "Option::is_none")]
    wish: Option<WishRecord>,
    at: Timestamp,
    #[serde(flatten)]
    state: StateRecord,
}

#[derive(Debug, Serialize, Deserialize)]
struct WishRecord {
    fingerprint: String,
    to: String,
    session: String,
    deadline: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum StateRecord {
    Waiting {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<ReasonRecord>,
    },
    Sending {
        attempt: AttemptRecord,
    },
    Unknown {
        attempt: AttemptRecord,
        reason: ReasonRecord,
        settled: bool,
    },
    Confirmed {
        call: String,
    },
    Refused {
        reason: ReasonRecord,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        passes_at: Option<Timestamp>,
    },
    Cancelled,
    Expired,
    Abandoned {
        reason: ReasonRecord,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct AttemptRecord {
    nonce: String,
    at: Timestamp,
    #[serde(default)]
    calls_before: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ReasonRecord {
    code: String,
    text: String,
}

impl IntentRecord {
    /// Writes the record.
    ///
    /// # Errors
    /// When it is larger than a message may be.
    pub fn encode(record: &Record) -> Result<bytes::Bytes, Error> {
        let wish = record.wish.as_ref().map(|wish| WishRecord {
            fingerprint: wish.fingerprint.clone(),
            to: wish.to.to_string(),
            session: wish.session.to_string(),
            deadline: wish.deadline,
        });
        let state = StateRecord::of(&record.state);
        let at = record.at;
        to_bytes(WHAT, &Self { wish, at, state })
    }

    /// Reads the record.
    ///
    /// # Errors
    /// When it is not one that voicebus has written.
    pub fn decode(bytes: &[u8]) -> Result<Record, Error> {
        let record: Self = from_bytes(WHAT, bytes)?;
        let wish = record.wish.map(|wish| {
            Ok::<_, Error>(Wish {
                fingerprint: wish.fingerprint,
                to: field(WHAT, "to", E164::parse(&wish.to))?,
                session: session_key(WHAT, &wish.session)?,
                deadline: wish.deadline,
            })
        });
        Ok(Record {
            wish: wish.transpose()?,
            state: record.state.read()?,
            at: record.at,
        })
    }
}

impl StateRecord {
    fn of(state: &State) -> Self {
        match state {
            State::Waiting { reason } => Self::Waiting {
                reason: reason.as_ref().map(ReasonRecord::of),
            },
            State::Sending(attempt) => Self::Sending {
                attempt: AttemptRecord::of(attempt),
            },
            State::Unknown {
                attempt,
                reason,
                settled,
            } => Self::Unknown {
                attempt: AttemptRecord::of(attempt),
                reason: ReasonRecord::of(reason),
                settled: *settled,
            },
            State::Confirmed { call } => Self::Confirmed {
                call: call.to_string(),
            },
            State::Refused { reason, passes_at } => Self::Refused {
                reason: ReasonRecord::of(reason),
                passes_at: *passes_at,
            },
            State::Cancelled => Self::Cancelled,
            State::Expired => Self::Expired,
            State::Abandoned { reason } => Self::Abandoned {
                reason: ReasonRecord::of(reason),
            },
        }
    }

    fn read(self) -> Result<State, Error> {
        Ok(match self {
            Self::Waiting { reason } => State::Waiting {
                reason: reason.map(ReasonRecord::read),
            },
            Self::Sending { attempt } => State::Sending(attempt.read()?),
            Self::Unknown {
                attempt,
                reason,
                settled,
            } => State::Unknown {
                attempt: attempt.read()?,
                reason: reason.read(),
                settled,
            },
            Self::Confirmed { call } => State::Confirmed {
                call: field(WHAT, "call", CallId::parse(&call))?,
            },
            Self::Refused { reason, passes_at } => State::Refused {
                reason: reason.read(),
                passes_at,
            },
            Self::Cancelled => State::Cancelled,
            Self::Expired => State::Expired,
            Self::Abandoned { reason } => State::Abandoned {
                reason: reason.read(),
            },
        })
    }
}

impl AttemptRecord {
    fn of(attempt: &Attempt) -> Self {
        Self {
            nonce: attempt.nonce.clone(),
            at: attempt.at,
            calls_before: attempt
                .calls_before
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    }

    fn read(self) -> Result<Attempt, Error> {
        let calls = self.calls_before.iter();
        Ok(Attempt {
            nonce: self.nonce,
            at: self.at,
            calls_before: calls
                .map(|call| field(WHAT, "calls_before", CallId::parse(call)))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl ReasonRecord {
    fn of(reason: &Reason) -> Self {
        Self {
            code: reason.code.clone(),
            text: reason.text.clone(),
        }
    }

    fn read(self) -> Reason {
        Reason::new(self.code, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{AgentId, SessionKey};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    #[test]
    fn every_state_is_read_as_it_was_written() {
        let call = || CallId::parse("CA1").unwrap();
        let attempt = || Attempt {
            nonce: "n".to_owned(),
            at: at(1),
            calls_before: vec![call()],
        };
        let reason = || Reason::new("lost", "the answer was lost");
        let wish = Wish {
            fingerprint: "f".to_owned(),
            to: E164::parse("+12015550123").unwrap(),
            session: SessionKey::main(&AgentId::parse("main").unwrap()),
            deadline: at(60),
        };
        for state in [
            State::Waiting { reason: None },
            State::Waiting {
                reason: Some(reason()),
            },
            State::Sending(attempt()),
            State::Unknown {
                attempt: attempt(),
                reason: reason(),
                settled: true,
            },
            State::Confirmed { call: call() },
            State::Refused {
                reason: reason(),
                passes_at: Some(at(3_600)),
            },
            State::Cancelled,
            State::Expired,
            State::Abandoned { reason: reason() },
        ] {
            let named = state.as_str();
            let record = Record {
                wish: Some(wish.clone()).filter(|_| state != State::Cancelled),
                state,
                at: at(2),
            };
            let written = IntentRecord::encode(&record).unwrap();
            assert_eq!(IntentRecord::decode(&written).unwrap(), record);
            let json: serde_json::Value = serde_json::from_slice(&written).unwrap();
            assert_eq!(json["state"], named);
        }
    }
}
