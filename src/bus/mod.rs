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
use std::sync::{Arc, OnceLock};

use canary::Canaries;
use durability::Durability;
use subjects::Subjects;

/// A connection to a provisioned NATS: what every role works with.
#[derive(Clone, Debug)]
pub struct Bus {
    connection: Connection,
    subjects: Subjects,
    epoch: u64,
    canaries: Canaries,
    durability: Arc<OnceLock<Durability>>,
}

impl Bus {
    /// A bus of a deployment whose layout was read.
    #[must_use]
    pub fn new(connection: Connection, subjects: Subjects, epoch: u64) -> Self {
        Self {
            connection,
            subjects,
            epoch,
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
        // `read_layout` refuses a stream without partitions.
        let partitions = NonZeroU32::new(layout.partitions).unwrap_or(NonZeroU32::MIN);
        let subjects = Subjects::new(partitions, layout.salt.as_bytes());
        Ok(Self::new(
            connection,
            subjects,
            layout.epoch.as_unix_nanos(),
        ))
    }

    /// The connection.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Builds the subjects of this deployment.
    #[must_use]
    pub fn subjects(&self) -> &Subjects {
        &self.subjects
    }

    /// Which life of VOICE_IN this is.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
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
