use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use redb::backends::InMemoryBackend;
use redb::{DatabaseError, StorageBackend};

use super::file::builder_of_ours;
use super::*;

const WIDE: Bounds = Bounds {
    bytes_max: 1 << 30,
    events_max: 1 << 20,
};

fn entry(n: u64, size: usize) -> Entry {
    Entry {
        lane: Some(format!("CA{}", n % 3)),
        message: Message {
            subject: format!("voice.in.1.CA{}.ringing", n % 3),
            id: format!("ev_{n}"),
            headers: vec![("Voicebus-Reason".to_owned(), "because".to_owned())],
            payload: Bytes::from(vec![7; size]),
        },
        accepted_at: chrono::DateTime::from_timestamp_millis(1_700_000_000_000 + n as i64).unwrap(),
    }
}

fn entries(range: std::ops::Range<u64>) -> Vec<Entry> {
    range.map(|n| entry(n, 100)).collect()
}

fn all(spool: &Spool) -> Vec<Entry> {
    let head = spool.head(usize::MAX, u64::MAX).unwrap();
    assert!(head.is_sorted_by_key(|(key, _)| *key));
    head.into_iter().map(|(_, entry)| entry).collect()
}

#[test]
fn entries_come_out_as_they_went_in_and_in_order_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), WIDE).unwrap();
    assert_eq!(spool.append(&entries(0..5)).unwrap(), 5);
    assert_eq!(spool.append(&entries(5..7)).unwrap(), 2);
    assert_eq!(all(&spool), entries(0..7));
    let before = spool.depth();
    assert_eq!(before.events, 7);
    assert_eq!(before.oldest, Some(entry(0, 0).accepted_at));
    drop(spool);

    let spool = Spool::open(dir.path(), WIDE).unwrap();
    assert_eq!(spool.depth(), before);
    let first: Vec<u64> = spool
        .head(3, u64::MAX)
        .unwrap()
        .iter()
        .map(|(key, _)| *key)
        .collect();
    spool.remove(&first).unwrap();
    spool.append(&entries(7..9)).unwrap();
    assert_eq!(all(&spool), entries(3..9));
    assert_eq!(spool.depth().oldest, Some(entry(3, 0).accepted_at));
}

#[test]
fn a_chunk_is_bounded_in_events_and_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), WIDE).unwrap();
    spool.append(&entries(0..9)).unwrap();
    assert_eq!(spool.head(4, u64::MAX).unwrap().len(), 4);
    assert_eq!(spool.head(9, 1).unwrap().len(), 1);
}

#[test]
fn what_does_not_fit_is_refused_and_what_is_there_stays() {
    let dir = tempfile::tempdir().unwrap();
    let events = Bounds {
        events_max: 3,
        ..WIDE
    };
    let spool = Spool::open(dir.path(), events).unwrap();
    assert_eq!(spool.append(&entries(0..5)).unwrap(), 3);
    assert_eq!(spool.append(&entries(5..6)).unwrap(), 0);
    assert_eq!(all(&spool), entries(0..3));
    let key = spool.head(1, 1).unwrap()[0].0;
    spool.remove(&[key]).unwrap();
    assert_eq!(spool.append(&entries(5..7)).unwrap(), 1);

    let dir = tempfile::tempdir().unwrap();
    let bytes = Bounds {
        bytes_max: 2 * file::size_of(&entry(0, 100)) + 1,
        ..WIDE
    };
    let spool = Spool::open(dir.path(), bytes).unwrap();
    assert_eq!(spool.append(&entries(0..5)).unwrap(), 2);
    assert_eq!(spool.append(&entries(5..6)).unwrap(), 0);
    // Bytes are counted, not remembered: an empty spool takes as much as a new one.
    let keys: Vec<u64> = spool.head(9, 9999).unwrap().iter().map(|e| e.0).collect();
    spool.remove(&keys).unwrap();
    assert_eq!(spool.depth(), Depth::default());
    assert_eq!(spool.append(&entries(5..9)).unwrap(), 2);
}

#[test]
fn what_was_set_aside_is_out_of_the_way_until_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), WIDE).unwrap();
    spool.append(&entries(0..3)).unwrap();
    let key = spool.head(1, 1).unwrap()[0].0;
    let bytes = spool.depth().bytes;
    spool.set_aside(&[key]).unwrap();
    assert_eq!(all(&spool), entries(1..3));
    let depth = spool.depth();
    assert_eq!((depth.events, depth.aside, depth.bytes), (2, 1, bytes));
    drop(spool);
    let spool = Spool::open(dir.path(), WIDE).unwrap();
    assert_eq!(all(&spool), entries(0..3));
    let depth = spool.depth();
    assert_eq!((depth.events, depth.aside, depth.bytes), (3, 0, bytes));
}

#[test]
fn the_number_of_partitions_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), WIDE).unwrap();
    assert_eq!(spool.partitions().unwrap(), None);
    spool.keep_partitions(32).unwrap();
    drop(spool);
    let spool = Spool::open(dir.path(), WIDE).unwrap();
    assert_eq!(spool.partitions().unwrap(), Some(32));
}

#[test]
fn two_spools_in_one_directory_are_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Spool::open(dir.path(), WIDE).unwrap();
    let error = Spool::open(dir.path(), WIDE).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    assert!(error.to_string().contains("--spool-dir"), "{error}");
}

#[test]
fn a_damaged_file_is_an_error_and_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), WIDE).unwrap();
    spool.append(&entries(0..200)).unwrap();
    drop(spool);
    let path = dir.path().join("spool.redb");
    let whole = std::fs::read(&path).unwrap();
    let refused = |bytes: &[u8], what: &str| {
        std::fs::write(&path, bytes).unwrap();
        match Spool::open(dir.path(), WIDE) {
            Err(Error::Damaged { .. }) => {}
            Err(other) => panic!("{what}: {other}"),
            // A flipped bit in a page that nobody uses does no harm.
            Ok(spool) => assert_eq!(all(&spool), entries(0..200), "{what}"),
        }
    };
    refused(b"this is no database, but long enough to be one", "text");
    refused(&whole[..whole.len() / 2], "half");
    refused(&whole[..100], "head");
    for place in (0..whole.len()).step_by(whole.len() / 97) {
        let mut bent = whole.clone();
        bent[place] ^= 0xff;
        refused(&bent, &format!("byte {place}"));
    }
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Spool::open(dir.path(), WIDE).unwrap());
    let database = Database::open(dir.path().join("spool.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut facts = transaction.open_table(FACTS).unwrap();
    facts.insert(FORMAT, 2).unwrap();
    drop(facts);
    transaction.commit().unwrap();
    drop(database);
    let error = Spool::open(dir.path(), WIDE).unwrap_err();
    assert!(matches!(error, Error::Format { found: 2, .. }), "{error}");
}

#[test]
fn entries_that_come_together_share_a_flush() {
    let disk = Disk::default();
    let spool = disk.spool();
    spool.append(&entries(0..1)).unwrap();
    let before = disk.flushes.load(Ordering::Relaxed);
    spool.append(&entries(1..300)).unwrap();
    // A second one when the file has to grow.
    let flushes = disk.flushes.load(Ordering::Relaxed) - before;
    assert!((1..=2).contains(&flushes), "{flushes}");
}

#[test]
fn a_full_disk_refuses_what_is_new_and_keeps_what_is_there() {
    let disk = Disk::default();
    let spool = disk.spool();
    spool.append(&entries(0..10)).unwrap();
    disk.full.store(1, Ordering::Relaxed);
    for _ in 0..3 {
        let error = spool.append(&entries(10..11)).unwrap_err();
        assert!(matches!(error, Error::Disk { .. }), "{error}");
    }
    disk.full.store(0, Ordering::Relaxed);
    assert_eq!(all(&spool)[..10], entries(0..10));
    spool.append(&entries(11..12)).unwrap();
    assert_eq!(all(&spool).last(), Some(&entry(11, 100)));
}

#[test]
fn some_of_the_disk_is_left_free() {
    let disk = Disk::default();
    let spool = disk.spool();
    assert_eq!(spool.append(&entries(0..1)).unwrap(), 1);
    // Room for four small entries, were it not that each may be written twice.
    let room = 4 * file::size_of(&entry(0, 100));
    disk.used
        .store((1 << 30) - FREE_BYTES_MIN - room, Ordering::Relaxed);
    assert_eq!(spool.append(&entries(1..9)).unwrap(), 2);
    disk.used.store(1 << 30, Ordering::Relaxed);
    assert_eq!(spool.append(&entries(9..10)).unwrap(), 0);
    assert_eq!(all(&spool), entries(0..3));
}

#[test]
fn a_removal_that_cannot_be_written_is_made_up_for() {
    let disk = Disk::default();
    let spool = disk.spool();
    spool.append(&entries(0..4)).unwrap();
    let head = spool.head(2, u64::MAX).unwrap();
    disk.full.store(1, Ordering::Relaxed);
    assert!(spool.remove(&[head[0].0]).is_err());
    disk.full.store(0, Ordering::Relaxed);
    assert_eq!(all(&spool), entries(1..4));
    assert_eq!(spool.depth().events, 3);
    spool.remove(&[head[1].0]).unwrap();
    assert_eq!(all(&spool), entries(2..4));
    let bytes: u64 = entries(2..4).iter().map(file::size_of).sum();
    assert_eq!(spool.depth().bytes, bytes);
}

/// A disk in memory that outlives the database on it, counts flushes, and can be full.
#[derive(Debug, Clone, Default)]
struct Disk {
    memory: Arc<InMemoryBackend>,
    flushes: Arc<AtomicU64>,
    full: Arc<AtomicU64>,
    used: Arc<AtomicU64>,
}

impl file::Disk for Disk {
    fn open(&self) -> Result<Database, DatabaseError> {
        builder_of_ours().create_with_backend(self.clone())
    }

    fn free_bytes(&self) -> std::io::Result<u64> {
        Ok((1 << 30) - self.used.load(Ordering::Relaxed))
    }
}

impl Disk {
    fn spool(&self) -> Spool {
        let disk = Box::new(self.clone());
        Spool::open_file(File::on("memory".into(), disk), WIDE).unwrap()
    }

    fn room(&self) -> std::io::Result<()> {
        match self.full.load(Ordering::Relaxed) {
            0 => Ok(()),
            _ => Err(std::io::ErrorKind::StorageFull.into()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> std::io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.room()?;
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.memory.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.room()?;
        self.memory.write(offset, data)
    }
}
