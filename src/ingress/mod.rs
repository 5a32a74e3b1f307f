//! The ingress: verify, parse, normalise, publish, answer. No state, no business rule.
//!
//! An event is answered 200 only when JetStream has acknowledged it. What the senders say is read
//! in [`source`]; the routes and their limits stand on one screen in `routes`.

pub mod source;

pub mod spool;

mod body;
mod events;
mod openclaw;
mod routes;
mod status;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use chrono_tz::Tz;
use serde::Serialize;

use crate::bus::Bus;
use crate::domain::Timestamp;
use crate::domain::ids::AgentId;
use crate::http::auth::Tokens;

pub use routes::routes;

/// What an ingress needs to know.
#[derive(Clone)]
pub struct Settings {
    /// Opens the doors for events.
    pub event_tokens: Tokens,
    /// Opens the doors for commands.
    pub command_tokens: Tokens,
    /// Opens the doors for reading.
    pub read_tokens: Tokens,
    /// The zone of times that come without one.
    pub time_zone: Tz,
    /// Whose sessions are meant by a session id without an agent.
    pub agent: AgentId,
}

/// What the ingress has done since it started.
#[derive(Debug, Default, Serialize)]
pub struct Counters {
    /// Events that JetStream has acknowledged.
    pub accepted: AtomicU64,
    /// Of these, events that were there already.
    pub duplicates: AtomicU64,
    /// Events of an unknown type, kept in the dead letters.
    pub parked: AtomicU64,
    /// Requests that were refused for what they say.
    pub refused: AtomicU64,
    /// Events that could not be stored; their senders were told to come again.
    pub unavailable: AtomicU64,
}

/// An ingress.
#[derive(Clone)]
pub struct Ingress {
    bus: Bus,
    settings: Arc<Settings>,
    counters: Arc<Counters>,
    started_at: Timestamp,
}

impl Ingress {
    /// An ingress on a bus.
    #[must_use]
    pub fn new(bus: Bus, settings: Settings) -> Self {
        Self {
            bus,
            settings: Arc::new(settings),
            counters: Arc::default(),
            started_at: chrono::Utc::now(),
        }
    }
}
