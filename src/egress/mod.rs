//! Egress: one careful pair of hands. Takes commands from VOICE_CMD, asks the phone-call server,
//! and tells the router what became of them.
//!
//! The server's `POST /call` rings a phone each time it is called, and its failures do not say
//! whether it did. So the intent record is written before anything leaves, a record that says
//! `sending` is never sent again, and whatever is not certainly unsent ends as `unknown`.

mod burial;
mod health;
mod history;
mod intent;
mod outcome;
mod service;
mod voice_server;
mod wire;
mod worker;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::bus::{Bus, advisory, bucket, consume, subjects, unreadable};
use crate::domain::ids::AgentId;
use crate::domain::session::Policy;
use crate::supervise::Supervisor;

pub use health::{Health, VoiceServerState};
pub use voice_server::{Error as VoiceServerError, VoiceServer};

/// Commands worked on at once. A dial waits for the server's answer, some seconds at most; the
/// server itself answers them one after the other.
const WORKERS: usize = 8;

/// An egress that is ready to start.
pub struct Egress {
    bus: Bus,
    server: VoiceServer,
    worker: worker::Worker,
    health: Health,
    agent: AgentId,
    in_flight: Arc<AtomicUsize>,
}

impl Egress {
    /// Opens what egress needs.
    ///
    /// # Errors
    /// When a bucket is missing or NATS does not answer.
    pub async fn build(
        bus: Bus,
        server: VoiceServer,
        policy: &Policy,
    ) -> Result<Self, bucket::Error> {
        let in_flight = Arc::new(AtomicUsize::new(0));
        let worker =
            worker::Worker::open(&bus, server.clone(), policy, Arc::clone(&in_flight)).await?;
        Ok(Self {
            bus,
            server,
            worker,
            health: Health::default(),
            agent: policy.agent.clone(),
            in_flight,
        })
    }

    /// How the phone-call server is.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// How many commands are being carried out.
    #[must_use]
    pub fn in_flight(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.in_flight)
    }

    /// Starts its tasks.
    ///
    /// # Errors
    /// When NATS does not let it offer its service.
    pub async fn start(self, tasks: &mut Supervisor) -> anyhow::Result<()> {
        for number in 0..WORKERS {
            let (bus, worker, stop) = (self.bus.clone(), self.worker.clone(), tasks.stop_token());
            tasks.critical(format!("egress worker {number}"), async move {
                let consumer = subjects::CONSUMER_EGRESS;
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
            let consumers = vec![subjects::CONSUMER_EGRESS.to_owned()];
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
        service::start(
            &self.bus,
            &self.health,
            &self.server,
            &self.agent,
            &self.in_flight,
            tasks,
        )
        .await
    }
}
