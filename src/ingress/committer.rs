//! The committer: the one way by which what an ingress accepts gets onto a disk.
//!
//! Whatever waits at the moment is stored together in one round: as an atomic batch where that is
//! faster, else one by one. What NATS does not take goes to the spool, and while anything is in
//! the spool, everything newer goes behind it; it drains in order, in rounds like any other.
//!
//! - Each event is answered once: stored, spooled, or not taken at all.
//! - The events of a call are stored in the order in which they came in.
//! - An event without a clear answer may be stored although it goes to the spool, or its sender is
//!   told to come again. It keeps its id, so it is stored once within the stream's duplicate
//!   window, and beyond that the router knows the ids that a call has had.
//! - One entry that NATS will never take does not hold up the others: it goes to the dead letters.
//!   If those refuse it too it is set aside, with an ERROR, until the next start tries it again.
//! - Everything is bounded: what waits, in number and in bytes, each round, and the spool.
//!
//! It runs until all [`Committer`]s are gone, so requests under way get their answers when the
//! process stops; what is in the spool then waits there.

mod drain;
mod inbox;
mod plan;
mod round;
mod running;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::Utc;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Counters;
use super::spool::{Depth, Entry, Spool};
use crate::bus::Bus;
use crate::bus::publish::Message;
use inbox::{Inbox, Job};

pub use plan::Grouping;
pub use running::{Fatal, Running};

/// Most events that wait. HTTP lets no more in than it has connections, 900.
const WAITING_MAX: usize = 1_024;
/// Most bytes of the events that wait. The doors let in bodies of 8 MiB together, and an event can
/// be larger than the body that it comes from.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What became of an accepted event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// JetStream has acknowledged it.
    Stored {
        /// It was there before.
        duplicate: bool,
    },
    /// It is on the disk of this ingress.
    Spooled,
}

/// Why an event was not accepted.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Too many events wait.
    #[error("too many events wait to be stored")]
    Busy,
    /// NATS is away and there is no spool.
    #[error("NATS is away")]
    Away,
    /// NATS did not store it, or it is unclear whether it did, and there is no spool.
    #[error("the event was not stored: {0}")]
    NotStored(String),
    /// NATS will never take it.
    #[error("the event cannot be stored: {0}")]
    Unacceptable(String),
    /// NATS does not take it and the spool is full.
    #[error("the spool is full")]
    Full,
    /// NATS does not take it and neither does the disk.
    #[error("the spool cannot be written")]
    Disk,
    /// The process is about to leave.
    #[error("the ingress is stopping")]
    Stopping,
}

/// How a committer is set up.
#[derive(Debug, Default)]
pub struct Options {
    /// Where to put what NATS does not take.
    pub spool: Option<Spool>,
    /// Whether to send batches.
    pub grouping: Grouping,
    /// The number of partitions was not read from NATS but from the spool.
    pub layout_is_remembered: bool,
}

/// Hands events to the committer.
#[derive(Debug, Clone)]
pub struct Committer {
    jobs: mpsc::Sender<Job>,
    room: Arc<Semaphore>,
    gauge: Arc<Gauge>,
}

/// How the committer is doing. Does not keep it running.
#[derive(Debug, Default)]
pub struct Gauge {
    spool: Option<Arc<Spool>>,
    stalled: Mutex<Option<String>>,
}

impl Gauge {
    /// How full the spool is, if there is one.
    #[must_use]
    pub fn depth(&self) -> Option<Depth> {
        self.spool.as_ref().map(|spool| spool.depth())
    }

    /// Why nothing leaves the spool, if that is so.
    #[must_use]
    pub fn stalled(&self) -> Option<String> {
        self.said().clone()
    }

    fn say(&self, stalled: Option<String>) {
        *self.said() = stalled;
    }

    fn said(&self) -> MutexGuard<'_, Option<String>> {
        self.stalled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a committer; the second part must be run for the first to be of any use.
#[must_use]
pub fn build(
    bus: Bus,
    options: Options,
    counters: Arc<Counters>,
    stop: CancellationToken,
) -> (Committer, Running) {
    let (jobs, waiting) = mpsc::channel(WAITING_MAX);
    let gauge = Arc::new(Gauge {
        spool: options.spool.map(Arc::new),
        stalled: Mutex::default(),
    });
    let committer = Committer {
        jobs,
        room: Arc::new(Semaphore::new(WAITING_BYTES_MAX)),
        gauge: Arc::clone(&gauge),
    };
    let inbox = Inbox::new(waiting, stop);
    let running = Running::new(bus, options.grouping, inbox, Arc::clone(&gauge), counters);
    (
        committer,
        if options.layout_is_remembered {
            running.with_a_remembered_layout()
        } else {
            running
        },
    )
}

impl Committer {
    /// Stores an event of a call, behind the events of the same call that came before. `None` is
    /// for what has no order and goes to another stream.
    ///
    /// # Errors
    /// See [`Error`]; after all but [`Error::Unacceptable`] the sender should come again.
    pub async fn store(&self, lane: Option<String>, message: Message) -> Result<Answer, Error> {
        let bytes = u32::try_from(message.payload.len()).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).try_acquire_many_owned(bytes);
        let room = room.map_err(|_| Error::Busy)?;
        let (reply, answer) = oneshot::channel();
        let accepted_at = Utc::now();
        let entry = Entry {
            lane,
            message,
            accepted_at,
        };
        let job = Job { entry, reply, room };
        self.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Busy,
            mpsc::error::TrySendError::Closed(_) => Error::Stopping,
        })?;
        answer.await.unwrap_or(Err(Error::Stopping))
    }

    /// How it is doing.
    #[must_use]
    pub fn gauge(&self) -> Arc<Gauge> {
        Arc::clone(&self.gauge)
    }
}
