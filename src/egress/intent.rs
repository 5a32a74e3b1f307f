//! The records of dials in their bucket, and the list of those that wait for a person.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::bus::bucket::{Bucket, Entry, Error, Place};
use crate::bus::envelope::{IntentRecord, ResumeRecord};
use crate::bus::{Bus, subjects};
use crate::domain::Timestamp;
use crate::domain::command::Reason;
use crate::domain::dial::{Attempt, Record, State};
use crate::domain::ids::IntentId;

/// How long a write that was not answered is cleared up. Longer than a leader election, shorter
/// than any deadline worth the name.
const CLEARED_WITHIN: Duration = Duration::from_secs(10);

/// The records.
#[derive(Clone)]
pub(super) struct Intents {
    bucket: Bucket,
    /// Attempts of this process that may be written down as `sending` and certainly did not leave.
    unsent: Arc<Mutex<HashSet<String>>>,
}

/// A record as it was read, so that it can be replaced by whoever read it and by nobody else.
#[derive(Debug, Clone)]
pub(super) struct Found {
    entry: Option<Entry>,
    pub record: Option<Record>,
}

impl Found {
    /// How far the dial has come.
    pub fn state(&self) -> Option<&State> {
        self.record.as_ref().map(|record| &record.state)
    }

    /// The number of what was read; 0 when there was nothing.
    pub fn revision(&self) -> u64 {
        self.entry.as_ref().map_or(0, |entry| entry.revision)
    }
}

impl Intents {
    pub async fn open(bus: &Bus) -> Result<Self, Error> {
        Ok(Self {
            bucket: bus.bucket(subjects::BUCKET_INTENT).await?,
            unsent: Arc::default(),
        })
    }

    /// Reads a record from whichever replica is near; a write on one that is too old is refused.
    pub async fn find(&self, intent: &IntentId) -> Result<Found, Error> {
        Ok(read(intent, self.bucket.get(intent.as_str()).await?))
    }

    /// Reads a record as it is.
    pub async fn find_at_leader(&self, intent: &IntentId) -> Result<Found, Error> {
        let entry = self.bucket.get_from_leader(intent.as_str()).await?;
        Ok(read(intent, entry))
    }

    /// Replaces what was found; [`Error::Conflict`] when somebody else has written since.
    ///
    /// A write without an answer is written again, with the same bytes on the same revision, until
    /// it is known what became of it: refused because the leader has these very bytes, it was ours.
    pub async fn write(
        &self,
        intent: &IntentId,
        found: &Found,
        record: Record,
    ) -> Result<Found, Error> {
        let key = intent.as_str();
        let value = IntentRecord::encode(&record).map_err(|error| Error::Away {
            bucket: subjects::BUCKET_INTENT,
            key: key.to_owned(),
            reason: error.to_string(),
        })?;
        let deadline = Instant::now() + CLEARED_WITHIN;
        let mut is_unclear = false;
        let revision = loop {
            match self
                .bucket
                .write(key, value.clone(), found.entry.as_ref())
                .await
            {
                Ok(revision) => break revision,
                Err(Error::Away { .. }) if Instant::now() < deadline => is_unclear = true,
                Err(error @ Error::Conflict { .. }) if is_unclear => {
                    match self.bucket.get_from_leader(key).await {
                        Ok(Some(entry)) if entry.value == value => break entry.revision,
                        Err(Error::Away { .. }) if Instant::now() < deadline => {}
                        Ok(_) => return Err(error),
                        Err(error) => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }
        };
        Ok(Found {
            entry: Some(Entry { value, revision }),
            record: Some(record),
        })
    }

    /// Remembers that an attempt certainly did not leave, should its record stand without an end.
    pub fn did_not_leave(&self, nonce: &str) {
        self.unsent().insert(nonce.to_owned());
    }

    /// Whether an attempt is known not to have left.
    pub fn is_unsent(&self, nonce: &str) -> bool {
        self.unsent().contains(nonce)
    }

    /// Its record says what became of it.
    pub fn forget_unsent(&self, nonce: &str) {
        self.unsent().remove(nonce);
    }

    /// Puts a dial on the list of those that wait for a person.
    pub async fn list(&self, intent: &IntentId) -> Result<(), Error> {
        let key = subjects::unresolved_key(intent);
        match self.bucket.create(&key, bytes::Bytes::new()).await {
            Ok(_) | Err(Error::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes it off the list.
    pub async fn strike(&self, intent: &IntentId) -> Result<(), Error> {
        let key = subjects::unresolved_key(intent);
        match self.bucket.get(&key).await? {
            Some(_) => self.bucket.delete(&key).await,
            None => Ok(()),
        }
    }

    /// The dials whose outcome is unknown, at most `limit` of them, and how many there are.
    pub async fn unresolved(&self, limit: usize) -> Result<Vec<(IntentId, Record)>, Error> {
        let mut unresolved = Vec::new();
        for key in self.bucket.keys(&subjects::unresolved_keys()).await? {
            let Some(intent) = subjects::parse_unresolved_key(&key) else {
                continue;
            };
            if unresolved.len() >= limit {
                break;
            }
            if let Some(record) = self.find(&intent).await?.record
                && matches!(record.state, State::Unknown { .. })
            {
                unresolved.push((intent, record));
            }
        }
        Ok(unresolved)
    }

    /// When the bucket was made, and its last revision.
    pub async fn place(&self) -> Result<Place, Error> {
        self.bucket.place().await
    }

    /// How much of the bytes that the bucket may hold are used, from 0 to 1.
    pub async fn fullness(&self) -> Result<f64, Error> {
        self.bucket.fullness().await
    }

    /// When a person last let dialling go on. A record that cannot be read counts as none: nobody
    /// has said so then, and whoever says it again replaces it.
    pub async fn resumed(&self) -> Result<Option<Timestamp>, Error> {
        let entry = self.bucket.get_from_leader(subjects::KEY_RESUMED).await?;
        Ok(entry.and_then(|entry| match ResumeRecord::decode(&entry.value) {
            Ok(record) => Some(record.at),
            Err(error) => {
                tracing::error!(%error, "when dialling was last let go on cannot be read; after a loss of records, `voicebus call resume` writes it anew");
                None
            }
        }))
    }

    /// Writes down that a person lets dialling go on.
    pub async fn resume(&self, value: bytes::Bytes) -> Result<(), Error> {
        self.bucket.put(subjects::KEY_RESUMED, value).await?;
        Ok(())
    }

    fn unsent(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        // Insertions and removals leave it whole.
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that cannot be read may hide a dial that was sent: it is taken for unknown.
fn read(intent: &IntentId, entry: Option<Entry>) -> Found {
    let record = entry.as_ref().map(|entry| {
        IntentRecord::decode(&entry.value).unwrap_or_else(|error| {
            tracing::error!(%error, intent.id = %intent, "record of a dial cannot be read; it will not be dialled");
            unreadable()
        })
    });
    Found { entry, record }
}

fn unreadable() -> Record {
    Record {
        wish: None,
        state: State::Unknown {
            attempt: Attempt {
                nonce: String::new(),
                at: Timestamp::UNIX_EPOCH,
                calls_before: Vec::new(),
            },
            reason: Reason::new("unreadable", "the record of the dial cannot be read"),
            settled: true,
        },
        at: Timestamp::UNIX_EPOCH,
    }
}
