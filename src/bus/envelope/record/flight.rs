//! VOICE_NUMBER, `flight.…`: the dial that is under way to a number; VOICE_INTENT,
//! `egress.resumed`: when a person last let dialling go on.

use serde::{Deserialize, Serialize};

use super::WHAT;
use crate::bus::envelope::{Error, field, from_bytes, to_bytes};
use crate::domain::Timestamp;
use crate::domain::ids::IntentId;

/// The wish whose dial to a number is under way.
#[derive(Debug, Serialize, Deserialize)]
pub struct FlightRecord {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    intent: Option<String>,
    at: Timestamp,
}

impl FlightRecord {
    /// Writes it; without a wish the number is free.
    ///
    /// # Errors
    /// None in practice: it is small.
    pub fn encode(intent: Option<&IntentId>, at: Timestamp) -> Result<bytes::Bytes, Error> {
        let intent = intent.map(ToString::to_string);
        to_bytes(WHAT, &Self { intent, at })
    }

    /// Reads the wish and since when it has the number.
    ///
    /// # Errors
    /// When it is not a record that voicebus has written.
    pub fn decode(bytes: &[u8]) -> Result<(Option<IntentId>, Timestamp), Error> {
        let record: Self = from_bytes(WHAT, bytes)?;
        let intent = record
            .intent
            .map(|text| field(WHAT, "intent", IntentId::parse(&text)));
        Ok((intent.transpose()?, record.at))
    }
}

/// When a person last let dialling go on after records were lost.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ResumeRecord {
    /// When the stream took the command.
    pub at: Timestamp,
}

impl ResumeRecord {
    /// Writes it.
    ///
    /// # Errors
    /// None in practice: it is small.
    pub fn encode(&self) -> Result<bytes::Bytes, Error> {
        to_bytes(WHAT, self)
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it is not a record that voicebus has written.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        from_bytes(WHAT, bytes)
    }
}
