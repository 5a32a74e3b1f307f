//! VOICE_LIMIT: what was dialled lately, so that the limits hold for all workers and over restarts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Error, field, from_bytes, to_bytes};
use crate::domain::Timestamp;
use crate::domain::guard::{Budget, Open, Window};
use crate::domain::ids::IntentId;

const WHAT: &str = "record of dials";

/// The wire form of a [`Budget`].
#[derive(Debug, Serialize, Deserialize)]
pub struct BudgetRecord {
    minute: Slots,
    hour: Slots,
    day: Slots,
    numbers: BTreeMap<String, Slots>,
    open: Vec<OpenRecord>,
}

/// Dials by the number of their slot.
type Slots = Vec<(i64, u32)>;

#[derive(Debug, Serialize, Deserialize)]
struct OpenRecord {
    intent: String,
    number: String,
    at: Timestamp,
}

impl BudgetRecord {
    /// Writes a budget.
    ///
    /// # Errors
    /// When it is larger than a message may be.
    pub fn encode(budget: &Budget) -> Result<bytes::Bytes, Error> {
        let slots = |window: &Window| window.slots.iter().map(|(k, v)| (*k, *v)).collect();
        let record = Self {
            minute: slots(&budget.minute),
            hour: slots(&budget.hour),
            day: slots(&budget.day),
            numbers: budget
                .numbers
                .iter()
                .map(|(number, window)| (number.clone(), slots(window)))
                .collect(),
            open: budget
                .open
                .iter()
                .map(|open| OpenRecord {
                    intent: open.intent.to_string(),
                    number: open.number.clone(),
                    at: open.at,
                })
                .collect(),
        };
        to_bytes(WHAT, &record)
    }

    /// Reads a budget.
    ///
    /// # Errors
    /// When the record is not one that voicebus has written.
    pub fn decode(bytes: &[u8]) -> Result<Budget, Error> {
        let record: Self = from_bytes(WHAT, bytes)?;
        let window = |slots: Slots| Window {
            slots: slots.into_iter().collect(),
        };
        let open = record.open.into_iter().map(|open| {
            Ok(Open {
                intent: field(WHAT, "intent", IntentId::parse(&open.intent))?,
                number: open.number,
                at: open.at,
            })
        });
        Ok(Budget {
            minute: window(record.minute),
            hour: window(record.hour),
            day: window(record.day),
            numbers: record
                .numbers
                .into_iter()
                .map(|(number, slots)| (number, window(slots)))
                .collect(),
            open: open.collect::<Result<_, Error>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::guard::{CONCURRENT_MAX, LIMIT_MAX};
    use crate::domain::ids::ID_LENGTH_MAX;

    #[test]
    fn the_fullest_budget_there_can_be_fits_a_message_and_reads_back() {
        let at = Timestamp::from_timestamp(1_800_000_000, 123_456_789).unwrap();
        let slots = |count: i64| Window {
            slots: (30_000_000..30_000_000 + count)
                .map(|k| (k, 9_999))
                .collect(),
        };
        let open = |count: u32| Open {
            intent: IntentId::parse(&format!("{count:0>ID_LENGTH_MAX$}")).unwrap(),
            number: format!("n-{count:016x}"),
            at,
        };
        let budget = Budget {
            minute: slots(61),
            hour: slots(61),
            day: slots(61),
            // Each of the most dials of an hour to a number of its own.
            numbers: (0..LIMIT_MAX)
                .map(|count| (format!("n-{count:016x}"), slots(1)))
                .collect(),
            open: (0..CONCURRENT_MAX).map(open).collect(),
        };
        let bytes = BudgetRecord::encode(&budget).unwrap();
        assert_eq!(BudgetRecord::decode(&bytes).unwrap(), budget);
    }
}
