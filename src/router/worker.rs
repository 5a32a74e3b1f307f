//! One partition's worker: load, apply, commit, acknowledge.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lru::LruCache;
use tracing::{debug, info, warn};

use super::Counters;
use super::burial::{self, Burial, Turn};
use super::facts::{Found, Memory};
use crate::bus::consume::{Delivery, Disposition, Handler};
use crate::bus::envelope::decode_input;
use crate::bus::log::{Error as LogError, Loaded};
use crate::bus::trouble::{Trouble, guarded, pause_after};
use crate::bus::{Bus, bucket, publish, subjects};
use crate::domain::event::Event;
use crate::domain::input::{Input, Position};
use crate::domain::session::Policy;
use crate::domain::{Outcome, Rejection, apply, lookup_number};

/// The consumers' `ack_wait`, as `nats/consumers` has it.
pub(super) const ACK_WAIT: Duration = Duration::from_secs(5);

/// Logs kept in memory per partition. A log not kept is read back, one round trip.
const CACHED_LOGS: NonZeroUsize = NonZeroUsize::new(256).expect("is not zero");

/// Tries to commit one input in one go. Each try is one race lost against another writer, so more
/// than a few means something is wrong.
const COMMIT_TRIES_MAX: usize = 8;

/// Pause before an input that waits for NATS comes again; it holds up its own partition only.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

pub(super) struct Worker {
    bus: Bus,
    policy: Arc<Policy>,
    memory: Memory,
    counters: Arc<Counters>,
    burial: Burial,
    logs: LruCache<String, Loaded>,
}

impl Handler for Worker {
    async fn handle(&mut self, delivery: Delivery) -> Disposition {
        let mut tries = 0;
        loop {
            let Err(trouble) = guarded(self.take(&delivery)).await else {
                return Disposition::Ack;
            };
            warn!(
                stream_sequence = delivery.stream_sequence,
                attempt = delivery.attempt,
                tries,
                reason = trouble.reason(),
                "input not done yet"
            );
            let again = Disposition::Retry { after: RETRY_PAUSE };
            let Trouble::Own(reason) = trouble else {
                return again;
            };
            tries += 1;
            if let Some(pause) = pause_after(tries) {
                tokio::time::sleep(pause).await;
                continue;
            }
            let exhausted = Rejection {
                code: "exhausted",
                text: format!("tried {tries} times: {reason}"),
            };
            return match self.bury(&delivery, &exhausted).await {
                Ok(()) => Disposition::Ack,
                Err(_) => again,
            };
        }
    }
}

impl Worker {
    pub fn new(bus: Bus, policy: Arc<Policy>, memory: Memory, counters: Arc<Counters>) -> Self {
        let burial = Burial {
            bus: bus.clone(),
            policy: Arc::clone(&policy),
            counters: Arc::clone(&counters),
        };
        Self {
            bus,
            policy,
            memory,
            counters,
            burial,
            logs: LruCache::new(CACHED_LOGS),
        }
    }

    async fn take(&mut self, delivery: &Delivery) -> Result<(), Trouble> {
        let position = Position {
            epoch: self.bus.epoch(),
            sequence: delivery.stream_sequence,
        };
        let (input, traceparent) = match decode_input(&delivery.payload, position) {
            Ok(decoded) => decoded,
            Err(error) => {
                let undecodable = Rejection {
                    code: "undecodable",
                    text: crate::error_chain::Chain(&error).to_string(),
                };
                return self.bury(delivery, &undecodable).await;
            }
        };
        let (subjects, subject) = (self.bus.subjects(), &delivery.subject);
        if let Some(text) = subjects::misrouted(subjects, subject, &input.call, &input.kind) {
            let code = "misrouted";
            return self.bury(delivery, &Rejection { code, text }).await;
        }
        self.route(delivery, &input, traceparent.as_deref()).await
    }

    /// Holds one input against its log until the outcome is in the log.
    async fn route(
        &mut self,
        delivery: &Delivery,
        input: &Input,
        traceparent: Option<&str>,
    ) -> Result<(), Trouble> {
        let log_id = input.call.as_str();
        let mut loaded = match self.logs.pop(log_id) {
            Some(cached) => cached,
            None => match self.bus.load(log_id).await {
                Err(error @ LogError::Unreadable { .. }) => {
                    return self.burial.bury_for_log(delivery, &error).await;
                }
                other => other?,
            },
        };
        let mut is_truth = false;
        for _ in 0..COMMIT_TRIES_MAX {
            let log = loaded.log.as_ref();
            if burial::is_buried(log, delivery, input) {
                return self.settled(loaded, |counters| &counters.duplicate);
            }
            let found = match lookup_number(log, input) {
                Some(number) => self.memory.find(number).await?,
                None => Found::default(),
            };
            let event = match apply(log, input, &found.facts, &self.policy) {
                Outcome::Duplicate => return self.settled(loaded, |counters| &counters.duplicate),
                Outcome::Late => return self.settled(loaded, |counters| &counters.late),
                // What is kept in memory may be behind, and a letter is not taken back.
                Outcome::Rejected(_) if !is_truth => {
                    loaded = self.bus.load_from_leader(log_id).await?;
                    is_truth = true;
                    continue;
                }
                Outcome::Rejected(rejection) => return self.bury(delivery, &rejection).await,
                Outcome::Applied { event, claim } => {
                    if let Some(claim) = &claim {
                        match self.memory.claim(&found, claim, input.received_at).await {
                            Ok(()) => {}
                            Err(bucket::Error::Conflict { .. }) => continue,
                            Err(error) => return Err(error.into()),
                        }
                    }
                    *event
                }
            };
            match self.bus.commit(&event, traceparent, loaded.last).await {
                Ok(last) => {
                    tell(&event, input);
                    return self.settled(
                        Loaded {
                            log: Some(event.log),
                            last,
                        },
                        |counters| &counters.applied,
                    );
                }
                Err(publish::Error::Envelope(error)) => {
                    let rejection = Rejection {
                        code: "too-large",
                        text: error.to_string(),
                    };
                    return self.bury(delivery, &rejection).await;
                }
                Err(error @ publish::Error::Refused { .. }) => return Err(error.into()),
                // The event may be in the log, ours or another's: only the log knows.
                Err(publish::Error::Conflict { .. } | publish::Error::Unclear { .. }) => {
                    self.counters.conflicts.fetch_add(1, Ordering::Relaxed);
                    loaded = self.bus.load_from_leader(log_id).await?;
                }
            }
        }
        Err(Trouble::Own(format!(
            "lost {COMMIT_TRIES_MAX} races for the log of {log_id}"
        )))
    }

    /// Puts an input into the dead letters and tells its call, whose log stands differently then.
    async fn bury(&mut self, delivery: &Delivery, rejection: &Rejection) -> Result<(), Trouble> {
        let loaded = self.burial.bury(delivery, rejection, Turn::Own).await?;
        self.remember(loaded);
        Ok(())
    }

    fn settled(
        &mut self,
        loaded: Loaded,
        counter: impl Fn(&Counters) -> &AtomicU64,
    ) -> Result<(), Trouble> {
        counter(&self.counters).fetch_add(1, Ordering::Relaxed);
        self.remember(Some(loaded));
        Ok(())
    }

    fn remember(&mut self, loaded: Option<Loaded>) {
        if let Some(loaded) = loaded
            && let Some(log) = &loaded.log
        {
            self.logs.put(log.id().to_owned(), loaded);
        }
    }
}

fn tell(event: &Event, input: &Input) {
    let (kind, action) = event.kind_and_action();
    let sequence = event.log.progress().sequence;
    match kind {
        "transcript" | "audio" => debug!(call.id = %input.call, kind, action, sequence, "event"),
        _ => info!(call.id = %input.call, kind, action, sequence, "event"),
    }
}
