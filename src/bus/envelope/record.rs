//! What lies in the key-value buckets.

use serde::{Deserialize, Serialize};

use super::input::session_key;
use super::{Error, field, from_bytes, to_bytes};
use crate::domain::Timestamp;
use crate::domain::ids::{CallId, IntentId};
use crate::domain::session::RecentDial;

const WHAT: &str = "record";

/// VOICE_NUMBER: recent outbound dials to (or from) one number, oldest first.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct NumberRecord {
    dials: Vec<DialRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
struct DialRecord {
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<String>,
    session: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leg: Option<String>,
    at: Timestamp,
}

impl NumberRecord {
    /// Writes the dials of a number.
    ///
    /// # Errors
    /// When the whole is larger than a message may be.
    pub fn encode(dials: &[RecentDial]) -> Result<bytes::Bytes, Error> {
        let dials = dials
            .iter()
            .map(|dial| DialRecord {
                intent: dial.intent.as_ref().map(ToString::to_string),
                session: dial.session.to_string(),
                call: dial.call.as_ref().map(ToString::to_string),
                leg: dial.leg.as_ref().map(ToString::to_string),
                at: dial.at,
            })
            .collect();
        to_bytes(WHAT, &Self { dials })
    }

    /// Reads the dials of a number.
    ///
    /// # Errors
    /// When the record is not one that voicebus has written.
    pub fn decode(bytes: &[u8]) -> Result<Vec<RecentDial>, Error> {
        let record: Self = from_bytes(WHAT, bytes)?;
        let call = |text: Option<String>| {
            text.map(|text| field(WHAT, "call", CallId::parse(&text)))
                .transpose()
        };
        record
            .dials
            .into_iter()
            .map(|dial| {
                Ok(RecentDial {
                    intent: dial
                        .intent
                        .map(|text| field(WHAT, "intent", IntentId::parse(&text)))
                        .transpose()?,
                    session: session_key(WHAT, &dial.session)?,
                    call: call(dial.call)?,
                    leg: call(dial.leg)?,
                    at: dial.at,
                })
            })
            .collect()
    }
}

/// VOICE_INTENT: how far one dial command has come, written before anything leaves.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct IntentRecord {
    /// How far it has come.
    pub state: IntentState,
    /// SHA-256 of the command's body: the same intent with another body is another wish.
    pub body_hash: String,
    /// When the state was entered.
    pub at: Timestamp,
}

/// How far a dial has come.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum IntentState {
    /// A worker is about to write, is writing or has written the request. Nobody ever sends again
    /// what is found in this state: the phone may be ringing.
    Sending {
        /// Tells the worker that wrote the record from any other.
        attempt: String,
    },
    /// Certainly nothing has left yet; it may be tried until the deadline.
    Unsent {
        /// What stood in the way.
        reason: String,
    },
    /// The server gave the call an id.
    Confirmed {
        /// The call.
        call: String,
    },
    /// The server did not place the call.
    Refused {
        /// A stable word.
        code: String,
        /// A sentence.
        reason: String,
    },
    /// The call may have been placed.
    Unknown {
        /// A stable word.
        code: String,
        /// A sentence.
        reason: String,
    },
}

impl IntentRecord {
    /// Writes the record.
    ///
    /// # Errors
    /// When it is larger than a message may be.
    pub fn encode(&self) -> Result<bytes::Bytes, Error> {
        to_bytes(WHAT, self)
    }

    /// Reads the record.
    ///
    /// # Errors
    /// When it is not one that voicebus has written.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        from_bytes(WHAT, bytes)
    }
}
