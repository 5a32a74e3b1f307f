//! What is remembered outside the logs, under a number: recent dials and links.

use crate::bus::bucket::{Bucket, Entry, Error};
use crate::bus::envelope::{LinkRecord, NumberRecord};
use crate::bus::{Bus, subjects};
use crate::domain::Timestamp;
use crate::domain::phone::E164;
use crate::domain::session::{Claim, Facts};

/// The two buckets that the session rules look into.
#[derive(Clone)]
pub(super) struct Memory {
    bus: Bus,
    numbers: Bucket,
    links: Bucket,
}

/// The facts of one number, and the entry that a claim must replace.
#[derive(Default)]
pub(super) struct Found {
    pub facts: Facts,
    key: Option<String>,
    entry: Option<Entry>,
}

impl Memory {
    pub async fn open(bus: &Bus) -> Result<Self, Error> {
        Ok(Self {
            bus: bus.clone(),
            numbers: bus.bucket(subjects::BUCKET_NUMBER).await?,
            links: bus.bucket(subjects::BUCKET_LINK).await?,
        })
    }

    /// Looks a number up. A record that cannot be read counts as none: it can only cost a call its
    /// better session, while waiting for it would hold up everybody.
    pub async fn find(&self, number: &E164) -> Result<Found, Error> {
        let key = self.bus.subjects().number_key(number);
        let (entry, link) = tokio::try_join!(self.numbers.get(&key), self.links.get(&key))?;
        let dials = entry
            .as_ref()
            .map(|entry| NumberRecord::decode(&entry.value));
        let dials = match dials {
            Some(Ok(dials)) => dials,
            Some(Err(error)) => {
                tracing::error!(%error, key, "record of a number cannot be read; going on without");
                Vec::new()
            }
            None => Vec::new(),
        };
        let link = link.and_then(|entry| LinkRecord::session(&entry.value));
        Ok(Found {
            facts: Facts { dials, link },
            key: Some(key),
            entry,
        })
    }

    /// Remembers a claim. [`Error::Conflict`] means that the facts have changed: look again.
    ///
    /// A dial that was made past voicebus is remembered under `own_numbers` too, because its second
    /// leg may come from one of them.
    pub async fn claim(
        &self,
        found: &Found,
        claim: &Claim,
        own_numbers: &[E164],
        now: Timestamp,
    ) -> Result<(), Error> {
        if matches!(claim, Claim::Dialled(_)) {
            for number in own_numbers {
                let own = self.find(number).await?;
                self.write(&own, claim, now).await?;
            }
        }
        self.write(found, claim, now).await
    }

    async fn write(&self, found: &Found, claim: &Claim, now: Timestamp) -> Result<(), Error> {
        let Some(key) = &found.key else { return Ok(()) };
        let dials = claim.perform(found.facts.dials.clone(), now);
        let value = NumberRecord::encode(&dials).map_err(|error| Error::Away {
            bucket: subjects::BUCKET_NUMBER,
            key: key.clone(),
            reason: error.to_string(),
        })?;
        self.numbers
            .write(key, value, found.entry.as_ref())
            .await
            .map(|_revision| ())
    }
}
