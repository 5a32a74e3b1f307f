//! The intent record in its bucket: what was written last about one dial.

use chrono::TimeDelta;

use crate::bus::bucket::{Bucket, Entry, Error};
use crate::bus::envelope::{IntentRecord, IntentState};
use crate::bus::{Bus, subjects};
use crate::domain::Timestamp;
use crate::domain::ids::IntentId;

/// A record found `sending` may belong to a worker that is waiting for the server at this moment.
/// After the longest time that takes, and some, nobody is.
pub(super) const SENDING_SETTLES_AFTER: TimeDelta = TimeDelta::seconds(20);

/// The records.
#[derive(Clone)]
pub(super) struct Intents {
    bucket: Bucket,
}

/// A record as it was read, so that it can be replaced by whoever read it and by nobody else.
#[derive(Debug, Clone)]
pub(super) struct Found {
    entry: Option<Entry>,
    pub record: Option<IntentRecord>,
}

impl Intents {
    pub async fn open(bus: &Bus) -> Result<Self, Error> {
        Ok(Self {
            bucket: bus.bucket(subjects::BUCKET_INTENT).await?,
        })
    }

    /// Reads a record. One that cannot be read is taken for `sending`: it must not be dialled.
    pub async fn find(&self, intent: &IntentId) -> Result<Found, Error> {
        let entry = self.bucket.get(intent.as_str()).await?;
        let record = entry.as_ref().map(|entry| {
            IntentRecord::decode(&entry.value).unwrap_or_else(|error| {
                tracing::error!(%error, intent.id = %intent, "intent record cannot be read");
                IntentRecord {
                    state: IntentState::Sending {
                        attempt: String::new(),
                    },
                    body_hash: String::new(),
                    at: Timestamp::UNIX_EPOCH,
                }
            })
        });
        Ok(Found { entry, record })
    }

    /// Replaces what was found; [`Error::Conflict`] when somebody else has written since.
    pub async fn write(
        &self,
        intent: &IntentId,
        found: &Found,
        record: IntentRecord,
    ) -> Result<Found, Error> {
        let value = record.encode().map_err(|error| Error::Away {
            bucket: subjects::BUCKET_INTENT,
            key: intent.to_string(),
            reason: error.to_string(),
        })?;
        let revision = self
            .bucket
            .write(intent.as_str(), value.clone(), found.entry.as_ref())
            .await?;
        Ok(Found {
            entry: Some(Entry { value, revision }),
            record: Some(record),
        })
    }
}
