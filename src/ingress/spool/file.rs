//! The spool's file: where it is, how it is opened, and how an entry lies in it.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use chrono::DateTime;
use redb::{Builder, Database, DatabaseError, StorageError};

use super::{Entry, Error};
use crate::bus::publish::Message;

const NAME: &str = "spool.redb";
/// What redb may keep in memory. Entries are written once and read once, so a cache has little
/// to do.
const CACHE_BYTES: usize = 8 * 1024 * 1024;
/// What an entry takes beside its texts: key, lengths, and its share of a page.
const ENTRY_OVERHEAD: u64 = 64;

type Text = &'static str;
/// Subject, message id, lane, headers, milliseconds since 1970, payload.
pub(super) type Row = (
    Text,
    Text,
    Option<Text>,
    Vec<(Text, Text)>,
    i64,
    &'static [u8],
);
/// The same, as it is written and read.
type RowRef<'a> = (
    &'a str,
    &'a str,
    Option<&'a str>,
    Vec<(&'a str, &'a str)>,
    i64,
    &'a [u8],
);

/// What the file lies on; tests put another one under it.
pub(super) trait Disk: Send + Sync {
    fn open(&self) -> Result<Database, DatabaseError>;

    fn free_bytes(&self) -> std::io::Result<u64>;
}

/// A directory of this machine.
struct Dir(PathBuf);

impl Disk for Dir {
    fn open(&self) -> Result<Database, DatabaseError> {
        builder_of_ours().create(self.0.join(NAME))
    }

    fn free_bytes(&self) -> std::io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.0)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

/// The file of a spool.
pub(super) struct File {
    dir: PathBuf,
    disk: Box<dyn Disk>,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("File").field(&self.dir).finish()
    }
}

impl File {
    /// The file of a directory, which is made if it is not there, for its owner only: bodies of
    /// events hold numbers and what was said.
    pub fn in_dir(dir: &Path) -> Result<Self, Error> {
        use std::os::unix::fs::DirBuilderExt;
        let failed = |source| Error::Directory {
            dir: dir.to_owned(),
            source,
        };
        let mut builder = std::fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(failed)?;
        // Made here, so that nobody else may read it from its first byte on.
        restricted(&dir.join(NAME)).map_err(failed)?;
        std::fs::File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(failed)?;
        let disk = Box::new(Dir(dir.to_owned()));
        Ok(Self::on(dir.to_owned(), disk))
    }

    pub fn on(dir: PathBuf, disk: Box<dyn Disk>) -> Self {
        Self { dir, disk }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn open(&self) -> Result<Database, Error> {
        let dir = self.dir.clone();
        self.disk.open().map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                Error::InUse { dir }
            }
            DatabaseError::Storage(StorageError::Io(source))
                if !matches!(
                    source.kind(),
                    std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
                ) =>
            {
                Error::Disk {
                    operation: "open",
                    dir,
                    source: Box::new(redb::Error::Io(source)),
                }
            }
            other => Error::Damaged {
                dir,
                source: Box::new(other.into()),
            },
        })
    }

    pub fn failed(&self, operation: &'static str, source: redb::Error) -> Error {
        let dir = self.dir.clone();
        match source {
            source @ redb::Error::Corrupted(_) => Error::Damaged {
                dir,
                source: Box::new(source),
            },
            source => Error::Disk {
                operation,
                dir,
                source: Box::new(source),
            },
        }
    }

    /// Free space on the disk that the file is on.
    pub fn free_bytes(&self) -> Result<u64, Error> {
        self.disk.free_bytes().map_err(|source| Error::Directory {
            dir: self.dir.clone(),
            source,
        })
    }
}

/// A file that is altered or cut short is refused; without the check redb may panic over it later.
pub(super) fn builder_of_ours() -> Builder {
    let mut builder = Builder::new();
    builder
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true);
    builder
}

fn restricted(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?
        .sync_all()
}

pub(super) fn borrowed(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

pub(super) fn to_row<'a>(entry: &'a Entry, headers: Vec<(&'a str, &'a str)>) -> RowRef<'a> {
    let Message {
        subject,
        id,
        payload,
        headers: _,
    } = &entry.message;
    (
        subject,
        id,
        entry.lane.as_deref(),
        headers,
        entry.accepted_at.timestamp_millis(),
        payload,
    )
}

pub(super) fn to_entry(row: &RowRef<'_>) -> Entry {
    let (subject, id, lane, headers, accepted_at, payload) = row;
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Entry {
        lane: lane.map(str::to_owned),
        message: Message {
            subject: (*subject).to_owned(),
            id: (*id).to_owned(),
            headers: headers.iter().map(owned).collect(),
            payload: Bytes::copy_from_slice(payload),
        },
        // Only a time beyond the calendar has no date, and `accepted_at` came from a clock.
        accepted_at: DateTime::from_timestamp_millis(*accepted_at).unwrap_or_default(),
    }
}

/// What an entry counts against the bound.
pub(super) fn size_of(entry: &Entry) -> u64 {
    size_of_row(&to_row(entry, borrowed(&entry.message.headers)))
}

pub(super) fn size_of_row(row: &RowRef<'_>) -> u64 {
    let (subject, id, lane, headers, _, payload) = row;
    let headers: usize = headers
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    let texts = subject.len() + id.len() + lane.map_or(0, str::len) + headers + payload.len();
    texts as u64 + ENTRY_OVERHEAD
}
