//! Egress: one careful pair of hands. Takes commands from VOICE_CMD, asks the phone-call server,
//! and tells the router what became of them.
//!
//! The server's `POST /call` rings a phone each time it is called, and its failures do not say
//! whether it did. So the record of a dial is written before anything leaves, one that says
//! `sending` is never sent again, and whatever is not certainly unsent is looked for, and ends as
//! `unknown` in front of a person when it cannot be found. What may be done when is decided in
//! [`crate::domain::dial`]; here it is done.

mod burial;
mod circuit;
mod clock;
mod conversation;
mod deed;
mod dialling;
mod flight;
mod gate;
mod guards;
mod hangup;
mod health;
mod high_water;
mod history;
mod intent;
mod last_look;
mod outcome;
mod recent_dials;
mod reconcile;
mod room;
mod sending;
mod service;
mod sessions;
mod tell;
mod traces;
mod voice_server;
mod wire;
mod worker;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use thiserror::Error;

use crate::bus::{Bus, advisory, bucket, consume, subjects, unreadable};
use crate::domain::guard::Rules;
use crate::domain::ids::AgentId;
use crate::domain::session::Policy;
use crate::supervise::Supervisor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use worker::Lane;

pub use health::{Health, VoiceServerState};
pub use high_water::Error as HighWaterError;
pub use room::Room;
pub use voice_server::{Error as VoiceServerError, VoiceServer};

/// Commands worked on at once. A dial waits for the server's answer, some seconds at most; the
/// server itself answers them one after the other.
const WORKERS: usize = 8;
/// Commands about what is there already, worked on at once. Each takes a moment, but for a sentence,
/// which may wait some seconds for the one that is being said.
const CONTROL_WORKERS: usize = 8;

/// How often the records in NATS are held against the high-water mark.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Why egress cannot start.
#[derive(Debug, Error)]
pub enum Error {
    /// A bucket is missing, or NATS does not answer.
    #[error(transparent)]
    Bucket(#[from] bucket::Error),
    /// The high-water mark cannot be kept.
    #[error(transparent)]
    HighWater(#[from] high_water::Error),
    /// The records cannot be held against the high-water mark.
    #[error("the records of dials cannot be checked: {0}")]
    Check(String),
}

/// An egress that is ready to start.
pub struct Egress {
    bus: Bus,
    server: VoiceServer,
    worker: worker::Worker,
    health: Health,
    agent: AgentId,
}

impl Egress {
    /// Opens what egress needs. The high-water mark is kept in `dir`; without one, a restored
    /// backup is noticed only by an egress that was running when it happened.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn build(
        bus: Bus,
        server: VoiceServer,
        policy: &Policy,
        rules: &Rules,
        dir: Option<&Path>,
    ) -> Result<Self, Error> {
        let health = Health::default();
        let teller = tell::Teller { bus: bus.clone() };
        let intents = intent::Intents::open(&bus).await?;
        let high_water = high_water::HighWater::open(dir)?;
        if !high_water.is_kept() {
            warn!(
                "no high-water mark is kept: set `dialling.data_dir`, so that a restored backup of NATS does not make phones ring again"
            );
        }
        // Before the first dial can leave.
        let checked = high_water.check(&bus, &intents).await;
        checked.map_err(|trouble| Error::Check(trouble.reason().to_owned()))?;
        let room = Room::default();
        room.look(&intents).await?;
        let clock = clock::Clock::start();
        let dialling = dialling::Dialling {
            flights: flight::Flights::open(&bus, &intents).await?,
            guards: guards::Guards::open(&bus, rules.clone()).await?,
            gate: gate::Gate::new(health.clone(), high_water.clone(), clock.clone(), WORKERS),
            room,
            clock,
            reconciler: reconcile::Reconciler {
                server: server.clone(),
                health: health.clone(),
                recent: recent_dials::RecentDials::open(&bus, &policy.own_numbers).await?,
            },
            teller: teller.clone(),
            intents,
            high_water,
        };
        let worker = worker::Worker {
            lane: Lane::Dials,
            dialling,
            hang_up: hangup::HangUp {
                server: server.clone(),
                health: health.clone(),
                teller: teller.clone(),
            },
            conversation: conversation::Conversation {
                server: server.clone(),
                teller: teller.clone(),
                agent: policy.agent.clone(),
            },
            links: sessions::Links::open(&bus).await?,
            teller,
            agent: policy.agent.clone(),
            in_flight: Arc::new(AtomicUsize::new(0)),
        };
        Ok(Self {
            bus,
            server,
            worker,
            health,
            agent: policy.agent.clone(),
        })
    }

    /// How the phone-call server is.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// How much of the room for records of dials is used.
    #[must_use]
    pub fn room(&self) -> Room {
        self.worker.dialling.room.clone()
    }

    /// How many commands are being carried out.
    #[must_use]
    pub fn in_flight(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.worker.in_flight)
    }

    /// Starts its tasks.
    ///
    /// # Errors
    /// When NATS does not let it offer its service.
    pub async fn start(self, tasks: &mut Supervisor) -> anyhow::Result<()> {
        let dials = (subjects::CONSUMER_EGRESS, Lane::Dials, WORKERS);
        let control = (subjects::CONSUMER_CONTROL, Lane::Control, CONTROL_WORKERS);
        let workers = [dials, control]
            .map(|(consumer, lane, count)| (0..count).map(move |number| (consumer, lane, number)));
        for (consumer, lane, number) in workers.into_iter().flatten() {
            let (bus, stop) = (self.bus.clone(), tasks.stop_token());
            let worker = worker::Worker {
                lane,
                ..self.worker.clone()
            };
            tasks.critical(format!("egress {consumer} {number}"), async move {
                consume::run(
                    &bus,
                    subjects::STREAM_CMD,
                    consumer,
                    worker::ACK_WAIT,
                    &stop,
                    worker,
                )
                .await?;
                Ok(())
            });
        }
        let (bus, worker, stop) = (self.bus.clone(), self.worker.clone(), tasks.stop_token());
        tasks.critical("egress advisories", async move {
            advisory::run(&bus, &stop, worker).await
        });
        let (bus, worker, stop) = (self.bus.clone(), self.worker.clone(), tasks.stop_token());
        tasks.critical("egress unreadable commands", async move {
            let ours = [subjects::CONSUMER_EGRESS, subjects::CONSUMER_CONTROL];
            let consumers = ours.map(str::to_owned).to_vec();
            unreadable::run(&bus, &stop, consumers, worker).await;
            Ok(())
        });
        let (bus, stop) = (self.bus.clone(), tasks.stop_token());
        tasks.critical("egress layout", async move {
            // Numbers are remembered under a salt that VOICE_IN holds, for the router to find.
            Ok(consume::watch_life(&bus, &stop).await?)
        });
        let (bus, health, server, stop) = (
            self.bus.clone(),
            self.health.clone(),
            self.server.clone(),
            tasks.stop_token(),
        );
        tasks.critical("egress health watch", async move {
            health.watch(&bus, &server, &stop).await;
            Ok(())
        });
        let (bus, dialling, stop) = (
            self.bus.clone(),
            self.worker.dialling.clone(),
            tasks.stop_token(),
        );
        tasks.critical("egress records watch", async move {
            watch_records(&bus, &dialling, &stop).await;
            Ok(())
        });
        service::start(&self, tasks).await
    }
}

/// Holds the records against the mark for as long as egress runs: NATS may be restored under it.
/// And looks whether there is room for more of them.
async fn watch_records(bus: &Bus, dialling: &dialling::Dialling, stop: &CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(CHECK_INTERVAL) => {}
        }
        if let Err(trouble) = dialling.high_water.check(bus, &dialling.intents).await {
            debug!(reason = trouble.reason(), "records of dials not checked");
        }
        if let Err(error) = dialling.room.look(&dialling.intents).await {
            debug!(%error, "room for records of dials not looked at");
        }
    }
}
