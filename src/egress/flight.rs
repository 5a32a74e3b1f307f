//! One dial at a time to one number, across all workers.
//!
//! The phone-call server keeps nothing that tells two calls to one number apart. While a dial is
//! under way, or is being looked for, another one to the same number waits, so that what is found
//! can only be the one. Who holds a number is written down beside the recent dials of the number;
//! it is let go of with the holder's record, not with the holder: one that died holds nothing.

use chrono::TimeDelta;

use super::intent::Intents;
use crate::bus::bucket::{Bucket, Error as BucketError};
use crate::bus::envelope::FlightRecord;
use crate::bus::trouble::Trouble;
use crate::bus::{Bus, subjects};
use crate::domain::Timestamp;
use crate::domain::dial::State;
use crate::domain::ids::IntentId;
use crate::domain::phone::E164;

/// How long a holder may take from the number to its record: two looks at the server at most.
const PREPARES_WITHIN: TimeDelta = TimeDelta::seconds(30);

/// Says that a number was taken, by the worker that has this. Another worker of the same dial takes
/// it over with a hold of its own.
#[derive(Debug)]
#[must_use = "a number that is not let go of holds others up"]
pub(super) struct Hold {
    key: String,
    revision: u64,
}

/// Who dials which number.
#[derive(Clone)]
pub(super) struct Flights {
    bus: Bus,
    bucket: Bucket,
    intents: Intents,
}

impl Flights {
    pub async fn open(bus: &Bus, intents: &Intents) -> Result<Self, BucketError> {
        Ok(Self {
            bus: bus.clone(),
            bucket: bus.bucket(subjects::BUCKET_NUMBER).await?,
            intents: intents.clone(),
        })
    }

    /// Takes a number for a dial. `None` when another dial has it.
    pub async fn take(
        &self,
        number: &E164,
        intent: &IntentId,
        now: Timestamp,
    ) -> Result<Option<Hold>, Trouble> {
        let key = self.bus.subjects().flight_key(number);
        let entry = self.bucket.get(&key).await?;
        if let Some(entry) = &entry {
            match FlightRecord::decode(&entry.value) {
                Ok((Some(holder), since)) if holder != *intent => {
                    if self.is_held(&holder, since, now).await? {
                        return Ok(None);
                    }
                }
                Ok(_) => {}
                // It would hold the number for ever.
                Err(error) => tracing::error!(%error, "record of a dial under way is replaced"),
            }
        }
        let value = FlightRecord::encode(Some(intent), now)
            .map_err(|error| Trouble::Own(error.to_string()))?;
        match self.bucket.write(&key, value, entry.as_ref()).await {
            Ok(revision) => Ok(Some(Hold { key, revision })),
            Err(BucketError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets go of a number, unless somebody has taken it over since: another worker of the same
    /// dial needs it for itself.
    pub async fn release(&self, hold: Hold, now: Timestamp) -> Result<(), Trouble> {
        let free =
            FlightRecord::encode(None, now).map_err(|error| Trouble::Own(error.to_string()))?;
        match self.bucket.update(&hold.key, free, hold.revision).await {
            Ok(_) | Err(BucketError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn is_held(
        &self,
        holder: &IntentId,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<bool, Trouble> {
        let record = self.intents.find_at_leader(holder).await?.record;
        Ok(match record.map(|record| record.state) {
            Some(State::Waiting { .. }) | None => (now - since).abs() < PREPARES_WITHIN,
            Some(state) => state.holds_number(),
        })
    }
}
