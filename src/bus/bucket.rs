//! Key-value buckets, with compare-and-swap.

use std::time::Duration;

use async_nats::jetstream::kv::{self, CreateErrorKind, UpdateErrorKind};
use async_nats::jetstream::stream::RawMessageErrorKind;
use bytes::Bytes;
use futures_util::TryStreamExt;
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

/// Which life of a stream this is, and how far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// When it was made, in nanoseconds since 1970: made anew, it has another.
    pub created: i128,
    /// The number of its last message.
    pub last: u64,
}

impl Place {
    fn of(info: &async_nats::jetstream::stream::Info) -> Self {
        Self {
            created: info.created.unix_timestamp_nanos(),
            last: info.state.last_sequence,
        }
    }
}

/// Marks an entry that says that the key was removed.
const KV_OPERATION: &str = "KV-Operation";

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
    /// Which life of a stream this is, and how far it has come.
    ///
    /// # Errors
    /// [`Error::Away`].
    pub async fn place_of(&self, stream: &'static str) -> Result<Place, Error> {
        let away = |reason: String| Error::Away {
            bucket: stream,
            key: "*".to_owned(),
            reason,
        };
        let found = within(self.connection().jetstream().get_stream(stream)).await;
        let found = found.ok_or_else(|| away("no answer in time".to_owned()))?;
        let found = found.map_err(|error| away(error.to_string()))?;
        Ok(Place::of(found.cached_info()))
    }

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

    /// Reads a key from the leader: what is there, even right after a write that was not answered.
    ///
    /// # Errors
    /// [`Error::Away`].
    pub async fn get_from_leader(&self, key: &str) -> Result<Option<Entry>, Error> {
        let subject = format!("{}{key}", self.store.prefix);
        let found = within(self.store.stream.get_last_raw_message_by_subject(&subject)).await;
        match found.ok_or_else(|| self.away(key, "no answer in time"))? {
            Ok(message) if message.headers.get(KV_OPERATION).is_some() => Ok(None),
            Ok(message) => Ok(Some(Entry {
                value: message.payload,
                revision: message.sequence,
            })),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(self.away(key, error)),
        }
    }

    /// Writes a key, whatever it holds.
    ///
    /// # Errors
    /// [`Error::Away`].
    pub async fn put(&self, key: &str, value: Bytes) -> Result<u64, Error> {
        let put = within(self.store.put(key, value)).await;
        put.ok_or_else(|| self.away(key, "no answer in time"))?
            .map_err(|error| self.away(key, error))
    }

    /// Removes a key.
    ///
    /// # Errors
    /// [`Error::Away`].
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        let deleted = within(self.store.delete(key)).await;
        deleted
            .ok_or_else(|| self.away(key, "no answer in time"))?
            .map_err(|error| self.away(key, error))
    }

    /// The keys that pass a filter, those that were removed included.
    ///
    /// # Errors
    /// [`Error::Away`].
    pub async fn keys(&self, filter: &str) -> Result<Vec<String>, Error> {
        let prefix = &self.store.prefix;
        let subjects = async {
            let all = self
                .store
                .stream
                .info_with_subjects(format!("{prefix}{filter}"));
            all.await
                .map_err(|error| error.to_string())?
                .map_ok(|(subject, _count)| subject)
                .map_err(|error| error.to_string())
                .try_collect::<Vec<String>>()
                .await
        };
        let subjects = within(subjects).await;
        let subjects = subjects
            .ok_or_else(|| self.away(filter, "no answer in time"))?
            .map_err(|error| self.away(filter, error))?;
        let key = |subject: &String| subject.strip_prefix(prefix.as_str()).map(str::to_owned);
        Ok(subjects.iter().filter_map(key).collect())
    }

    /// How much of the bytes that it may hold are used, from 0 to 1; 0 where there is no bound.
    ///
    /// # Errors
    /// [`Error::Away`].
    pub async fn fullness(&self) -> Result<f64, Error> {
        let info = within(self.store.stream.get_info()).await;
        let info = info
            .ok_or_else(|| self.away("*", "no answer in time"))?
            .map_err(|error| self.away("*", error))?;
        let most = u64::try_from(info.config.max_bytes).unwrap_or(0);
        #[expect(clippy::cast_precision_loss, reason = "a share of some megabytes")]
        Ok(if most == 0 {
            0.0
        } else {
            info.state.bytes as f64 / most as f64
        })
    }

    /// When the bucket was made, and its last revision.
    ///
    /// # Errors
    /// [`Error::Away`].
    pub async fn place(&self) -> Result<Place, Error> {
        let info = within(self.store.stream.get_info()).await;
        let info = info
            .ok_or_else(|| self.away("*", "no answer in time"))?
            .map_err(|error| self.away("*", error))?;
        Ok(Place::of(&info))
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
