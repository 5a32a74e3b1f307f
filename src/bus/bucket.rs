//! Key-value buckets, with compare-and-swap.

use std::time::Duration;

use async_nats::jetstream::kv::{self, CreateErrorKind, UpdateErrorKind};
use bytes::Bytes;
use thiserror::Error;

use super::Bus;
use super::connection::REQUEST_TIMEOUT;

/// One bucket.
#[derive(Clone)]
pub struct Bucket {
    name: &'static str,
    store: kv::Store,
}

/// What a key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Bytes,
    /// Names this value; an update must show it.
    pub revision: u64,
}

/// Why a bucket did not do it.
#[derive(Debug, Error)]
pub enum Error {
    /// Another writer was first; nothing was written.
    #[error("another writer changed `{key}` in {bucket} first")]
    Conflict {
        /// Which bucket.
        bucket: &'static str,
        /// Which key.
        key: String,
    },
    /// The server does not answer, or not as expected; a write may have happened.
    #[error("cannot reach `{key}` in {bucket}: {reason}")]
    Away {
        /// Which bucket.
        bucket: &'static str,
        /// Which key.
        key: String,
        /// What the client says.
        reason: String,
    },
}

impl Bus {
    /// Opens a bucket that provisioning has made.
    ///
    /// # Errors
    /// When it is not there or the server does not answer.
    pub async fn bucket(&self, name: &'static str) -> Result<Bucket, Error> {
        let store = self
            .connection()
            .jetstream()
            .get_key_value(name)
            .await
            .map_err(|error| Error::Away {
                bucket: name,
                key: "*".to_owned(),
                reason: error.to_string(),
            })?;
        Ok(Bucket { name, store })
    }
}

impl Bucket {
    /// Reads a key; `None` when it was never written or was deleted.
    ///
    /// # Errors
    /// [`Error::Away`].
    pub async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        let entry = within(self.store.entry(key.to_owned())).await;
        let entry = entry.ok_or_else(|| self.away(key, "no answer in time"))?;
        let entry = entry.map_err(|error| self.away(key, error))?;
        Ok(entry
            .filter(|entry| entry.operation == kv::Operation::Put)
            .map(|entry| Entry {
                value: entry.value,
                revision: entry.revision,
            }))
    }

    /// Writes a key that must not be there. Returns its revision.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is there; [`Error::Away`] when that is not known.
    pub async fn create(&self, key: &str, value: Bytes) -> Result<u64, Error> {
        match within(self.store.create(key, value)).await {
            None => Err(self.away(key, "no answer in time")),
            Some(Ok(revision)) => Ok(revision),
            Some(Err(error)) if error.kind() == CreateErrorKind::AlreadyExists => {
                Err(self.conflict(key))
            }
            Some(Err(error)) => Err(self.away(key, error)),
        }
    }

    /// Replaces the value that has `revision`. Returns the new revision.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the key has another; [`Error::Away`] when that is not known.
    pub async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, Error> {
        match within(self.store.update(key, value, revision)).await {
            None => Err(self.away(key, "no answer in time")),
            Some(Ok(revision)) => Ok(revision),
            Some(Err(error)) if error.kind() == UpdateErrorKind::WrongLastRevision => {
                Err(self.conflict(key))
            }
            Some(Err(error)) => Err(self.away(key, error)),
        }
    }

    /// Creates or replaces, depending on what [`Bucket::get`] has found.
    ///
    /// # Errors
    /// As [`Bucket::create`] and [`Bucket::update`].
    pub async fn write(
        &self,
        key: &str,
        value: Bytes,
        found: Option<&Entry>,
    ) -> Result<u64, Error> {
        match found {
            Some(entry) => self.update(key, value, entry.revision).await,
            None => self.create(key, value).await,
        }
    }

    fn conflict(&self, key: &str) -> Error {
        Error::Conflict {
            bucket: self.name,
            key: key.to_owned(),
        }
    }

    fn away(&self, key: &str, reason: impl ToString) -> Error {
        Error::Away {
            bucket: self.name,
            key: key.to_owned(),
            reason: reason.to_string(),
        }
    }
}

async fn within<F: Future>(work: F) -> Option<F::Output> {
    tokio::time::timeout(REQUEST_TIMEOUT + Duration::from_millis(500), work)
        .await
        .ok()
}
