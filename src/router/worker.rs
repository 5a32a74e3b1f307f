//! One partition's worker: load, apply, commit, acknowledge.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lru::LruCache;
use tracing::{debug, error, info, warn};

use super::Counters;
use super::facts::{Found, Memory};
use crate::bus::consume::{Delivery, Disposition, Handler};
use crate::bus::dead_letter::DeadLetter;
use crate::bus::envelope::{self, decode_input};
use crate::bus::log::{Error as LogError, Loaded};
use crate::bus::{Bus, bucket, publish, subjects};
use crate::crash_point;
use crate::domain::event::Event;
use crate::domain::ids::EventId;
use crate::domain::input::{Input, InputKind, Position};
use crate::domain::session::Policy;
use crate::domain::{Outcome, Rejection, apply, lookup_number, reject};

/// The consumers' `ack_wait`, as `nats/consumers` has it.
pub(super) const ACK_WAIT: Duration = Duration::from_secs(5);

/// Logs kept in memory per partition. A log not kept is read back, one round trip.
const CACHED_LOGS: NonZeroUsize = NonZeroUsize::new(256).expect("is not zero");

/// Tries to commit one input before it is handed back to the stream. Each try is one race lost
/// against another writer, so more than a few means something is wrong.
const COMMIT_TRIES_MAX: usize = 8;

/// Pause before an input that met a passing trouble comes again; it holds up its own partition
/// only.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

pub(super) struct Worker {
    bus: Bus,
    policy: Arc<Policy>,
    memory: Memory,
    counters: Arc<Counters>,
    logs: LruCache<String, Loaded>,
}

/// Trouble that may pass: the input stays in the stream.
struct Retry(String);

impl From<LogError> for Retry {
    fn from(error: LogError) -> Self {
        Self(crate::error_chain::Chain(&error).to_string())
    }
}

impl From<bucket::Error> for Retry {
    fn from(error: bucket::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<publish::Error> for Retry {
    fn from(error: publish::Error) -> Self {
        Self(error.to_string())
    }
}

impl Handler for Worker {
    async fn handle(&mut self, delivery: Delivery) -> Disposition {
        match self.take(&delivery).await {
            Ok(()) => Disposition::Ack,
            Err(Retry(reason)) => {
                warn!(
                    stream_sequence = delivery.stream_sequence,
                    attempt = delivery.attempt,
                    reason,
                    "input not done yet"
                );
                Disposition::Retry { after: RETRY_PAUSE }
            }
        }
    }
}

impl Worker {
    pub fn new(bus: Bus, policy: Arc<Policy>, memory: Memory, counters: Arc<Counters>) -> Self {
        Self {
            bus,
            policy,
            memory,
            counters,
            logs: LruCache::new(CACHED_LOGS),
        }
    }

    async fn take(&mut self, delivery: &Delivery) -> Result<(), Retry> {
        let position = Position {
            epoch: self.bus.epoch(),
            sequence: delivery.stream_sequence,
        };
        let (input, traceparent) = match decode_input(&delivery.payload, position) {
            Ok(decoded) => decoded,
            Err(error) => return self.bury_undecodable(delivery, position, &error).await,
        };
        self.route(delivery, &input, traceparent.as_deref()).await
    }

    /// Holds one input against its log until the outcome is in the log.
    async fn route(
        &mut self,
        delivery: &Delivery,
        input: &Input,
        traceparent: Option<&str>,
    ) -> Result<(), Retry> {
        let log_id = input.call.as_str();
        let cached = self.logs.pop(log_id);
        // A commit on an old log is refused. A decision without a commit (or with a dead letter
        // before it) is not, so it is only taken on a log that was read from the leader.
        let mut is_sure = false;
        let mut loaded = match cached {
            Some(cached) => cached,
            None => match self.bus.load(log_id).await {
                Err(error @ LogError::Unreadable { .. }) => {
                    return self.bury_for_log(delivery, &error).await;
                }
                other => other?,
            },
        };
        for _ in 0..COMMIT_TRIES_MAX {
            let log = loaded.log.as_ref();
            let found = match lookup_number(log, input) {
                Some(number) => self.memory.find(number).await?,
                None => Found::default(),
            };
            let (event, counter) = match apply(log, input, &found.facts, &self.policy) {
                Outcome::Duplicate | Outcome::Late | Outcome::Rejected(_) if !is_sure => {
                    loaded = self.bus.load_from_leader(log_id).await?;
                    is_sure = true;
                    continue;
                }
                Outcome::Duplicate => return self.settled(loaded, |counters| &counters.duplicate),
                Outcome::Late => return self.settled(loaded, |counters| &counters.late),
                Outcome::Rejected(rejection) => {
                    self.park(delivery, &rejection).await?;
                    let event = reject(log, input, &rejection, &self.policy);
                    (event, counter(|counters| &counters.dead_letters))
                }
                Outcome::Applied { event, claim } => {
                    if let Some(claim) = &claim {
                        match self.memory.claim(&found, claim, input.received_at).await {
                            Ok(()) => {}
                            Err(bucket::Error::Conflict { .. }) => continue,
                            Err(error) => return Err(error.into()),
                        }
                    }
                    (*event, counter(|counters| &counters.applied))
                }
            };
            crash_point::pass("router.before_commit");
            match self.bus.commit(&event, traceparent, loaded.last).await {
                Ok(last) => {
                    crash_point::pass("router.after_commit");
                    tell(&event, input);
                    return self.settled(
                        Loaded {
                            log: Some(event.log),
                            last,
                        },
                        counter,
                    );
                }
                Err(publish::Error::Envelope(error)) => {
                    let rejection = Rejection {
                        code: "too-large",
                        text: error.to_string(),
                    };
                    return self.park(delivery, &rejection).await;
                }
                Err(error @ publish::Error::Refused { .. }) => return Err(error.into()),
                // The event may be in the log, ours or another's: only the log knows.
                Err(publish::Error::Conflict { .. } | publish::Error::Unclear { .. }) => {
                    self.counters.conflicts.fetch_add(1, Ordering::Relaxed);
                    loaded = self.bus.load_from_leader(log_id).await?;
                    is_sure = true;
                }
            }
        }
        Err(Retry(format!(
            "lost {COMMIT_TRIES_MAX} races for the log of {log_id}"
        )))
    }

    fn settled(
        &mut self,
        loaded: Loaded,
        counter: impl Fn(&Counters) -> &AtomicU64,
    ) -> Result<(), Retry> {
        counter(&self.counters).fetch_add(1, Ordering::Relaxed);
        if let Some(log) = &loaded.log {
            self.logs.put(log.id().to_owned(), loaded);
        }
        Ok(())
    }

    async fn park(&self, delivery: &Delivery, rejection: &Rejection) -> Result<(), Retry> {
        warn!(
            stream_sequence = delivery.stream_sequence,
            code = rejection.code,
            reason = %rejection.text,
            "input goes to the dead letters"
        );
        let letter = DeadLetter {
            role: "router",
            code: rejection.code,
            reason: &rejection.text,
            id: &format!("{} {}", self.bus.epoch(), delivery.stream_sequence),
            subject: &delivery.subject,
            attempts: delivery.attempt,
            headers: Some(&delivery.headers),
            payload: delivery.payload.clone(),
        };
        self.bus.park(letter).await?;
        Ok(())
    }

    /// What cannot be read still belongs to the call that its subject names.
    async fn bury_undecodable(
        &mut self,
        delivery: &Delivery,
        position: Position,
        error: &envelope::Error,
    ) -> Result<(), Retry> {
        let rejection = Rejection {
            code: "undecodable",
            text: crate::error_chain::Chain(error).to_string(),
        };
        let named = subjects::call_of_input(&delivery.subject);
        let id = EventId::parse(&format!(
            "ev_poison-{}-{}",
            position.epoch, position.sequence
        ));
        let (Some(call), Ok(id)) = (named, id) else {
            self.counters.dead_letters.fetch_add(1, Ordering::Relaxed);
            return self.park(delivery, &rejection).await;
        };
        self.park(delivery, &rejection).await?;
        let input = Input {
            id,
            call,
            position,
            happened_at: None,
            received_at: delivery.stored_at,
            source_sequence: None,
            // Never applied: it only carries the place of what could not be read.
            kind: InputKind::Ringing,
        };
        self.tell_of_error(delivery, &input, &rejection).await
    }

    async fn tell_of_error(
        &mut self,
        delivery: &Delivery,
        input: &Input,
        rejection: &Rejection,
    ) -> Result<(), Retry> {
        let log_id = input.call.as_str();
        let mut loaded = match self.bus.load_from_leader(log_id).await {
            Err(error @ LogError::Unreadable { .. }) => {
                return self.bury_for_log(delivery, &error).await;
            }
            other => other?,
        };
        for _ in 0..COMMIT_TRIES_MAX {
            if loaded
                .log
                .as_ref()
                .is_some_and(|log| log.progress().has(&input.id, input.position))
            {
                return self.settled(loaded, |counters| &counters.duplicate);
            }
            let event = reject(loaded.log.as_ref(), input, rejection, &self.policy);
            match self.bus.commit(&event, None, loaded.last).await {
                Ok(last) => {
                    return self.settled(
                        Loaded {
                            log: Some(event.log),
                            last,
                        },
                        |counters| &counters.dead_letters,
                    );
                }
                Err(publish::Error::Conflict { .. } | publish::Error::Unclear { .. }) => {
                    loaded = self.bus.load_from_leader(log_id).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Retry(format!(
            "lost {COMMIT_TRIES_MAX} races for the log of {log_id}"
        )))
    }

    /// A log whose last event this program cannot read (a newer router wrote it, or somebody who
    /// should not have) must not be written to: its sequence is unknown.
    async fn bury_for_log(&self, delivery: &Delivery, error: &LogError) -> Result<(), Retry> {
        error!(error = %crate::error_chain::Chain(error), "a log cannot be continued");
        self.counters.dead_letters.fetch_add(1, Ordering::Relaxed);
        let text = crate::error_chain::Chain(error).to_string();
        self.park(
            delivery,
            &Rejection {
                code: "unreadable-log",
                text,
            },
        )
        .await
    }
}

/// Fixes the type of a counter's selector.
fn counter(select: fn(&Counters) -> &AtomicU64) -> fn(&Counters) -> &AtomicU64 {
    select
}

fn tell(event: &Event, input: &Input) {
    let (kind, action) = event.kind_and_action();
    let sequence = event.log.progress().sequence;
    match kind {
        "transcript" | "audio" => debug!(call.id = %input.call, kind, action, sequence, "event"),
        _ => info!(call.id = %input.call, kind, action, sequence, "event"),
    }
}
