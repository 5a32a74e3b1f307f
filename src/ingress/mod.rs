//! The ingress: verify, parse, normalise, publish, answer. No state, no business rule.
//!
//! An event is answered 200 only when JetStream has acknowledged it, or when it is on the disk of
//! the [`spool`]; the [`committer`] sees to either. Who may come in is in [`door`] and [`verify`], what
//! the senders say is read in [`source`]; the routes stand on one screen in `routes`.

pub mod door;
pub mod source;
pub mod verify;

pub mod committer;
pub mod spool;

mod body;
mod events;
mod openclaw;
mod routes;
mod status;
mod webhooks;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use body::Bodies;
use chrono_tz::Tz;
use committer::Committer;
use door::{Clock, Doors};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::bus::Bus;
use crate::domain::Timestamp;
use crate::domain::guard::Rules;
use crate::domain::ids::AgentId;

pub use routes::routes;

/// What an ingress needs to know.
#[derive(Clone)]
pub struct Settings {
    /// Who may come in.
    pub doors: Doors,
    /// What time it is, for signatures that carry one.
    pub clock: Clock,
    /// The zone of times that come without one.
    pub time_zone: Tz,
    /// What egress would refuse to dial is refused at the door.
    pub rules: Rules,
    /// Whose sessions are meant by a session id without an agent.
    pub agent: AgentId,
}

/// What the ingress has done since it started.
#[derive(Debug, Default, Serialize)]
pub struct Counters {
    /// Events that were answered 200.
    pub accepted: AtomicU64,
    /// Of these, events that were there already.
    pub duplicates: AtomicU64,
    /// Events of an unknown type, kept in the dead letters.
    pub parked: AtomicU64,
    /// Requests whose signature was not believed. Many at once mean a key or a clock that is wrong.
    pub unverified: AtomicU64,
    /// Of these, requests that were signed with a key of ours at another time than now: a clock is
    /// wrong, ours or the sender's, or somebody repeats what was sent before.
    pub stale: AtomicU64,
    /// Requests that were refused for what they say.
    pub refused: AtomicU64,
    /// Events that could not be stored; their senders were told to come again.
    pub unavailable: AtomicU64,
    /// Of the accepted, events that went to the spool first.
    pub spooled: AtomicU64,
    /// Events that went from the spool to JetStream.
    pub drained: AtomicU64,
    /// Events that the spool had no room for, or that its disk did not take.
    pub spool_full: AtomicU64,
    /// Events that JetStream refused for good after they were accepted; they are dead letters.
    pub buried: AtomicU64,
    /// Of these, events that could not be dead letters either; they stay in the spool.
    pub set_aside: AtomicU64,
    /// Atomic batches that were stored.
    pub batches: AtomicU64,
    /// Events in these batches.
    pub batched: AtomicU64,
    /// Batches that were refused, so that their events went one by one.
    pub batch_fallbacks: AtomicU64,
}

/// An ingress.
#[derive(Clone)]
pub struct Ingress {
    bus: Bus,
    settings: Arc<Settings>,
    committer: Committer,
    bodies: Bodies,
    counters: Arc<Counters>,
    skew_told: Arc<Mutex<Option<Instant>>>,
    started_at: Timestamp,
}

impl Ingress {
    /// An ingress on a bus, and the part of it that must be run for its events to be stored.
    #[must_use]
    pub fn new(
        bus: Bus,
        settings: Settings,
        options: committer::Options,
        stop: CancellationToken,
    ) -> (Self, committer::Running) {
        let counters = Arc::<Counters>::default();
        let (committer, running) =
            committer::build(bus.clone(), options, Arc::clone(&counters), stop);
        let ingress = Self {
            bus,
            settings: Arc::new(settings),
            committer,
            bodies: Bodies::default(),
            counters,
            skew_told: Arc::default(),
            started_at: chrono::Utc::now(),
        };
        (ingress, running)
    }

    /// What it has done.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// How its committer is doing.
    #[must_use]
    pub fn gauge(&self) -> Arc<committer::Gauge> {
        self.committer.gauge()
    }
}
