//! What lies in the key-value buckets.

mod flight;
mod intent;

pub use flight::{FlightRecord, ResumeRecord};
pub use intent::IntentRecord;

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
