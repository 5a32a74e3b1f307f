//! The spool: accepted events on the ingress's own disk, while NATS is away or slow.
//!
//! One file in a directory of its own, which one process uses at a time. It holds entries in the
//! order in which they were accepted, and the number of partitions, without which no subject can
//! be built while NATS is away.
//!
//! - [`Spool::append`] returns after one flush of the disk, however many entries it was given.
//! - Entries leave only by [`Spool::remove`], after they were stored elsewhere, or by
//!   [`Spool::set_aside`], which keeps them out of the way; the next start tries those again.
//! - It is bounded in events, in bytes, and by the space that must stay free on the disk: what
//!   does not fit is refused, and what is there is never dropped for it.
//! - After a failure of the disk the file is closed and opened again, which checks and repairs it.
//!   Whether the entries of the failed call are in it is then unknown; they have ids, so either
//!   is right as long as their senders were told to come again.
//! - An entry whose removal could not be written is skipped all the same; the removal is tried
//!   again with the next one. So a full disk cannot hold up what leaves.
//!
//! Everything here blocks. Nothing here knows NATS.

mod error;
mod file;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use crate::bus::publish::Message;
use crate::domain::Timestamp;
pub use error::Error;
use file::{File, Row, borrowed, size_of, size_of_row, to_entry, to_row};

/// Entries on their way to NATS.
const QUEUE: TableDefinition<u64, Row> = TableDefinition::new("queue");
/// Entries that NATS refuses to take.
const ASIDE: TableDefinition<u64, Row> = TableDefinition::new("aside");
/// Numbers by name.
const FACTS: TableDefinition<&str, u64> = TableDefinition::new("facts");
const FORMAT: &str = "format";
const PARTITIONS: &str = "partitions";
/// What this program reads and writes.
const FORMAT_KNOWN: u64 = 1;

/// Space that must stay free on the disk beside what is about to be written. Removing entries
/// takes new pages before it frees old ones, so a spool that filled its disk could not be emptied.
const FREE_BYTES_MIN: u64 = 32 * 1024 * 1024;

/// How much a spool may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the entries; the file is up to about twice as large.
    pub bytes_max: u64,
    /// Entries.
    pub events_max: u64,
}

/// An event that is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The call, whose entries must stay in order; `None` for what has no order.
    pub lane: Option<String>,
    /// What is to be stored.
    pub message: Message,
    /// When it was accepted.
    pub accepted_at: Timestamp,
}

/// How full a spool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Entries on their way.
    pub events: u64,
    /// Entries that NATS refuses to take.
    pub aside: u64,
    /// Bytes of all entries.
    pub bytes: u64,
    /// When the oldest on its way was accepted.
    pub oldest: Option<Timestamp>,
}

/// A spool, and the file that it is in.
#[derive(Debug)]
pub struct Spool {
    file: File,
    bounds: Bounds,
    inner: Mutex<Inner>,
    /// Apart from `inner`, so that whoever asks does not wait for the disk.
    depth: Mutex<Depth>,
}

#[derive(Debug)]
struct Inner {
    /// `None` after a failure, until it is opened again.
    database: Option<Database>,
    next_key: u64,
    /// Of all that is in the file.
    bytes: u64,
    /// Stored elsewhere, but still in the file.
    done: BTreeSet<u64>,
}

impl Spool {
    /// Opens the spool of a directory, which is made if it is not there. Entries that were set
    /// aside are on their way again.
    ///
    /// # Errors
    /// When another process has it open, or it cannot be read or written.
    pub fn open(dir: &Path, bounds: Bounds) -> Result<Self, Error> {
        Self::open_file(File::in_dir(dir)?, bounds)
    }

    fn open_file(file: File, bounds: Bounds) -> Result<Self, Error> {
        let spool = Self {
            file,
            bounds,
            inner: Mutex::new(Inner {
                database: None,
                next_key: 0,
                bytes: 0,
                done: BTreeSet::new(),
            }),
            depth: Mutex::default(),
        };
        spool.with("take up", |database, _| {
            let transaction = database.begin_write()?;
            {
                let mut queue = transaction.open_table(QUEUE)?;
                let mut aside = transaction.open_table(ASIDE)?;
                for row in aside.extract_from_if::<u64, _>(.., |_, _| true)? {
                    let (key, row) = row?;
                    queue.insert(key.value(), row.value())?;
                }
            }
            transaction.commit()?;
            Ok(())
        })?;
        spool.shrink();
        Ok(spool)
    }

    /// A file only grows while it is open; one that an outage has filled gives back its space when
    /// it is opened empty.
    fn shrink(&self) {
        let mut inner = self.lock();
        if self.depth() == Depth::default()
            && let Some(database) = &mut inner.database
            && let Err(error) = database.compact()
        {
            tracing::warn!(%error, "spool not made smaller");
            inner.database = None;
        }
    }

    /// Keeps entries, in this order, behind those that are there. Returns how many of them fitted:
    /// the first so many are on the disk, the others are not kept at all.
    ///
    /// # Errors
    /// When the disk fails; then none of them counts as kept.
    pub fn append(&self, entries: &[Entry]) -> Result<usize, Error> {
        let fitting = self.fitting(entries)?;
        let entries = entries.get(..fitting).unwrap_or_default();
        if entries.is_empty() {
            return Ok(0);
        }
        self.with("write", |database, inner| {
            let transaction = database.begin_write()?;
            {
                let mut queue = transaction.open_table(QUEUE)?;
                for (key, entry) in (inner.next_key..).zip(entries) {
                    let headers = borrowed(&entry.message.headers);
                    queue.insert(key, to_row(entry, headers))?;
                }
            }
            transaction.commit()?;
            inner.next_key += fitting as u64;
            inner.bytes += entries.iter().map(size_of).sum::<u64>();
            Ok(fitting)
        })
    }

    /// The oldest entries, in order: at most `count`, and no more than one beyond `bytes`.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn head(&self, count: usize, bytes: u64) -> Result<Vec<(u64, Entry)>, Error> {
        self.with("read", |database, inner| {
            let transaction = database.begin_read()?;
            let queue = transaction.open_table(QUEUE)?;
            let mut entries = Vec::new();
            let mut total = 0;
            for row in queue.iter()? {
                let (key, row) = row?;
                if inner.done.contains(&key.value()) {
                    continue;
                }
                if entries.len() == count || total >= bytes {
                    break;
                }
                let entry = to_entry(&row.value());
                total += size_of(&entry);
                entries.push((key.value(), entry));
            }
            Ok(entries)
        })
    }

    /// Forgets entries that are stored elsewhere.
    ///
    /// # Errors
    /// When the disk fails. They are forgotten all the same until the next start, which would
    /// store them elsewhere once more.
    pub fn remove(&self, keys: &[u64]) -> Result<(), Error> {
        self.leave(keys, false)
    }

    /// Takes entries out of the way that nobody wants, until the next start.
    ///
    /// # Errors
    /// As [`Spool::remove`].
    pub fn set_aside(&self, keys: &[u64]) -> Result<(), Error> {
        self.leave(keys, true)
    }

    fn leave(&self, keys: &[u64], keep: bool) -> Result<(), Error> {
        self.lock().done.extend(keys);
        let left = self.with("write", |database, inner| {
            let mut bytes = 0;
            let transaction = database.begin_write()?;
            {
                let mut queue = transaction.open_table(QUEUE)?;
                let mut aside = transaction.open_table(ASIDE)?;
                for key in &inner.done {
                    let Some(row) = queue.remove(key)? else {
                        continue;
                    };
                    if keep && keys.contains(key) {
                        aside.insert(key, row.value())?;
                    } else {
                        bytes += size_of_row(&row.value());
                    }
                }
            }
            transaction.commit()?;
            inner.done.clear();
            inner.bytes = inner.bytes.saturating_sub(bytes);
            Ok(())
        });
        if left.is_err()
            && let Err(error) = self.with("read", |_, _| Ok(()))
        {
            tracing::debug!(%error, "spool not measured");
        }
        left
    }

    /// The number of partitions that was kept, if any was.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn partitions(&self) -> Result<Option<u32>, Error> {
        self.with("read", |database, _| {
            let facts = database.begin_read()?.open_table(FACTS)?;
            let found = facts.get(PARTITIONS)?.map(|found| found.value());
            Ok(found.and_then(|found| u32::try_from(found).ok()))
        })
    }

    /// Keeps the number of partitions for a start without NATS.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn keep_partitions(&self, partitions: u32) -> Result<(), Error> {
        self.with("write", |database, _| {
            let transaction = database.begin_write()?;
            transaction
                .open_table(FACTS)?
                .insert(PARTITIONS, u64::from(partitions))?;
            transaction.commit()?;
            Ok(())
        })
    }

    /// How full it is. Does not wait for the disk.
    #[must_use]
    pub fn depth(&self) -> Depth {
        *self.depth_mut()
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.file.dir()
    }

    fn fitting(&self, entries: &[Entry]) -> Result<usize, Error> {
        let depth = self.depth();
        let free = self.file.free_bytes()?.saturating_sub(FREE_BYTES_MIN);
        // A page may be written twice before an old one is freed.
        let bytes_left = self
            .bounds
            .bytes_max
            .saturating_sub(depth.bytes)
            .min(free / 2);
        let events_left = self
            .bounds
            .events_max
            .saturating_sub(depth.events + depth.aside);
        let mut bytes = 0;
        let fitting = entries.iter().zip(0..events_left).take_while(|(entry, _)| {
            bytes += size_of(entry);
            bytes <= bytes_left
        });
        Ok(fitting.count())
    }

    /// Runs one thing on the open file and measures it then. A failure, or a panic, leaves it
    /// closed.
    fn with<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Database, &mut Inner) -> Result<T, redb::Error>,
    ) -> Result<T, Error> {
        let mut inner = self.lock();
        let database = match inner.database.take() {
            Some(database) => database,
            None => self.reopen(&mut inner)?,
        };
        let worked =
            work(&database, &mut inner).and_then(|value| Ok((value, measure(&database, &inner)?)));
        match worked {
            Ok((value, depth)) => {
                inner.database = Some(database);
                *self.depth_mut() = depth;
                Ok(value)
            }
            Err(source) => Err(self.file.failed(operation, source)),
        }
    }

    fn reopen(&self, inner: &mut Inner) -> Result<Database, Error> {
        let database = self.file.open()?;
        let found = survey(&database).map_err(|source| self.file.failed("read", source))?;
        if found.format != FORMAT_KNOWN {
            return Err(Error::Format {
                dir: self.file.dir().to_owned(),
                found: found.format,
            });
        }
        inner.next_key = inner.next_key.max(found.next_key);
        inner.bytes = found.bytes;
        Ok(database)
    }

    /// What a panic left behind is closed, which is as good as new.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn depth_mut(&self) -> MutexGuard<'_, Depth> {
        self.depth.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a file holds when it is opened.
struct Survey {
    format: u64,
    next_key: u64,
    bytes: u64,
}

/// Reads everything, and makes what a new file lacks.
fn survey(database: &Database) -> Result<Survey, redb::Error> {
    let transaction = database.begin_write()?;
    let mut survey = Survey {
        format: FORMAT_KNOWN,
        next_key: 0,
        bytes: 0,
    };
    {
        let mut facts = transaction.open_table(FACTS)?;
        let found = facts.get(FORMAT)?.map(|found| found.value());
        match found {
            Some(found) => survey.format = found,
            None => {
                facts.insert(FORMAT, FORMAT_KNOWN)?;
            }
        }
        if survey.format == FORMAT_KNOWN {
            for table in [QUEUE, ASIDE] {
                for row in transaction.open_table(table)?.iter()? {
                    let (key, row) = row?;
                    survey.next_key = survey.next_key.max(key.value() + 1);
                    survey.bytes += size_of_row(&row.value());
                }
            }
        }
    }
    transaction.commit()?;
    Ok(survey)
}

fn measure(database: &Database, inner: &Inner) -> Result<Depth, redb::Error> {
    let transaction = database.begin_read()?;
    let queue = transaction.open_table(QUEUE)?;
    let mut oldest = None;
    for row in queue.iter()? {
        let (key, row) = row?;
        if !inner.done.contains(&key.value()) {
            oldest = Some(to_entry(&row.value()).accepted_at);
            break;
        }
    }
    Ok(Depth {
        events: queue.len()?.saturating_sub(inner.done.len() as u64),
        aside: transaction.open_table(ASIDE)?.len()?,
        bytes: inner.bytes,
        oldest,
    })
}

#[cfg(test)]
mod tests;
