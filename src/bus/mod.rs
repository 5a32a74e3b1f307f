//! The only module that knows NATS: one connection for each role, and the few things that
//! voicebus does with it.
//!
//! async-nats hides a failed permission behind a time-out and a time-out behind a longer wait.
//! Everything here therefore has a time-out of its own, and what the server complains about is
//! logged by [`connect`].

pub mod advisory;
pub mod batch;
pub mod bucket;
pub mod canary;
pub mod command;
pub mod consume;
pub mod dead_letter;
pub mod durability;
pub mod envelope;
pub mod feed;
pub mod idempotency;
pub mod inspect;
pub mod letters;
pub mod log;
pub mod publish;
mod put_off;
pub mod replay;
pub mod server;
pub mod service;
pub mod streams;
pub mod subjects;
pub mod timer;
pub mod transcript;
pub mod trouble;
pub mod unreadable;
pub mod version;

mod connection;
mod identity;
mod refusal;

pub use connection::{
    Connection, Error, REQUEST_TIMEOUT, Settings, connect, connect_later, without_secrets,
};
pub use identity::{Auth, Error as IdentityError, Tls};

use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use canary::Canaries;
use durability::Durability;
use streams::Layout;
use subjects::Subjects;
use thiserror::Error as ThisError;

/// A connection to a provisioned NATS: what every role works with.
#[derive(Clone, Debug)]
pub struct Bus {
    connection: Connection,
    life: Arc<RwLock<Life>>,
    canaries: Canaries,
    durability: Arc<OnceLock<Durability>>,
}

/// What holds for one life of VOICE_IN: a stream that is made anew has another salt and epoch.
#[derive(Clone, Debug)]
struct Life {
    subjects: Arc<Subjects>,
    epoch: u64,
}

/// A process has a worker for each partition that was there when it started.
#[derive(Debug, ThisError)]
#[error(
    "VOICE_IN was made anew with {found} partitions, and this process works on {known}; start it again"
)]
pub struct OtherPartitions {
    found: u32,
    known: u32,
}

impl Bus {
    /// A bus of a deployment whose layout was read.
    #[must_use]
    pub fn new(connection: Connection, subjects: Subjects, epoch: u64) -> Self {
        let subjects = Arc::new(subjects);
        Self {
            connection,
            life: Arc::new(RwLock::new(Life { subjects, epoch })),
            canaries: Canaries::default(),
            durability: Arc::default(),
        }
    }

    /// Reads the layout of the deployment that a connection leads to.
    ///
    /// # Errors
    /// When VOICE_IN is not provisioned or NATS does not answer.
    pub async fn open(connection: Connection) -> Result<Self, streams::Error> {
        let layout = streams::read_layout(connection.jetstream()).await?;
        let epoch = layout.epoch.as_unix_nanos();
        Ok(Self::new(connection, subjects_of(&layout), epoch))
    }

    /// Goes on with VOICE_IN as it was made anew, here and in all clones.
    ///
    /// # Errors
    /// When it has another number of partitions.
    fn begin_again(&self, layout: &Layout) -> Result<(), OtherPartitions> {
        let subjects = subjects_of(layout);
        let (found, known) = (subjects.partitions(), self.subjects().partitions());
        if found != known {
            return Err(OtherPartitions { found, known });
        }
        let epoch = layout.epoch.as_unix_nanos();
        let mut life = self.life.write().unwrap_or_else(PoisonError::into_inner);
        if life.epoch != epoch {
            tracing::warn!("VOICE_IN was made anew; going on with the new one");
            let subjects = Arc::new(subjects);
            *life = Life { subjects, epoch };
        }
        Ok(())
    }

    fn life(&self) -> Life {
        let life = self.life.read().unwrap_or_else(PoisonError::into_inner);
        life.clone()
    }

    /// The connection.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Builds the subjects of this deployment.
    #[must_use]
    pub fn subjects(&self) -> Arc<Subjects> {
        self.life().subjects
    }

    /// Which life of VOICE_IN this is. What a message belongs to is told by its
    /// [`consume::Delivery`], not by this: it may have come before the stream was made anew.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.life().epoch
    }

    /// How the streams are that are written to from here, once somebody runs them.
    #[must_use]
    pub fn canaries(&self) -> &Canaries {
        &self.canaries
    }

    /// Publishes without storing, for health changes. Lost when NATS is away, which is why nothing
    /// that must arrive goes this way.
    pub async fn announce(&self, subject: String, payload: bytes::Bytes) {
        if let Err(error) = self.connection.client().publish(subject, payload).await {
            tracing::debug!(%error, "announcement not sent");
        }
    }
}

fn subjects_of(layout: &Layout) -> Subjects {
    // `read_layout` refuses a stream without partitions.
    let partitions = NonZeroU32::new(layout.partitions).unwrap_or(NonZeroU32::MIN);
    Subjects::new(partitions, layout.salt.as_bytes())
}
