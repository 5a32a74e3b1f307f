//! The router: a pure core in a thin shell. Inputs come in, one at a time and in order for each
//! partition; [`crate::domain::apply`] says what they mean; the outcome is committed to the call's
//! log; then the input is acknowledged.
//!
//! Any number of routers work side by side on any machines. Nothing is shared between them but
//! NATS: there is no lease, no leader and no local state that matters. A router that was stopped,
//! frozen or cut off can do no harm when it wakes, because a commit on an old state is refused.

mod asker;
mod burial;
mod facts;
mod given_up;
mod history;
mod reading;
mod service;
mod spoken;
mod view;
mod worker;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, advisory, bucket, consume, subjects, unreadable};
use crate::domain::session::Policy;
use crate::supervise::Supervisor;

use given_up::GivenUpInputs;

pub use view::View;

/// What the router has done since it started.
#[derive(Debug, Default, Serialize)]
pub struct Counters {
    /// Inputs that had an effect.
    pub applied: AtomicU64,
    /// Inputs that had their effect before, or said nothing new.
    pub duplicate: AtomicU64,
    /// Inputs about a state that the call had left behind.
    pub late: AtomicU64,
    /// Inputs after which something is waited for: timers that were armed again, questions.
    pub waiting: AtomicU64,
    /// Inputs put into the dead letters.
    pub dead_letters: AtomicU64,
    /// Inputs that come again later because the dead letters took nothing.
    pub put_off: AtomicU64,
    /// Commits that had to be looked at again.
    pub conflicts: AtomicU64,
}

/// A router that is ready to start.
pub struct Router {
    bus: Bus,
    policy: Arc<Policy>,
    memory: facts::Memory,
    view: View,
    counters: Arc<Counters>,
}

impl Router {
    /// Opens what the router needs.
    ///
    /// # Errors
    /// When a bucket is missing or NATS does not answer.
    pub async fn build(bus: Bus, policy: Policy) -> Result<Self, bucket::Error> {
        let memory = facts::Memory::open(&bus).await?;
        Ok(Self {
            bus,
            policy: Arc::new(policy),
            memory,
            view: View::default(),
            counters: Arc::default(),
        })
    }

    /// What it has done.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Its read model.
    #[must_use]
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// Starts its tasks.
    ///
    /// # Errors
    /// When NATS does not let it offer its service.
    pub async fn start(self, tasks: &mut Supervisor) -> anyhow::Result<()> {
        let (asker, questions) = asker::queue();
        let (bus, stop) = (self.bus.clone(), tasks.stop_token());
        tasks.critical("router questions", async move {
            questions.ask_all(&bus, &stop).await;
            Ok(())
        });
        for partition in 0..self.bus.subjects().partitions() {
            let (bus, stop) = (self.bus.clone(), tasks.stop_token());
            let worker = worker::Worker::new(
                self.bus.clone(),
                Arc::clone(&self.policy),
                self.memory.clone(),
                Arc::clone(&self.counters),
                asker.clone(),
            );
            tasks.critical(format!("router partition {partition}"), async move {
                let consumer = subjects::partition_consumer(partition);
                consume::run(
                    &bus,
                    subjects::STREAM_IN,
                    &consumer,
                    worker::ACK_WAIT,
                    &stop,
                    worker,
                )
                .await?;
                Ok(())
            });
        }
        let (bus, stop) = (self.bus.clone(), tasks.stop_token());
        let given_up = GivenUpInputs(burial::Burial {
            bus: self.bus.clone(),
            policy: Arc::clone(&self.policy),
            counters: Arc::clone(&self.counters),
        });
        let hearing = given_up.clone();
        tasks.critical("router advisories", async move {
            advisory::run(&bus, &stop, hearing).await
        });
        let (bus, stop) = (self.bus.clone(), tasks.stop_token());
        let consumers = (0..bus.subjects().partitions())
            .map(subjects::partition_consumer)
            .collect();
        tasks.critical("router unreadable inputs", async move {
            unreadable::run(&bus, &stop, consumers, given_up).await;
            Ok(())
        });
        let (bus, view, stop) = (self.bus.clone(), self.view.clone(), tasks.stop_token());
        tasks.critical("router view", async move {
            view.follow(&bus, &stop).await;
            Ok(())
        });
        let stop: CancellationToken = tasks.stop_token();
        service::start(&self.bus, &self.view, tasks, &stop).await
    }
}
