//! One partition's worker: load, look up, apply, arm, commit, acknowledge.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use lru::LruCache;
use tracing::{debug, info};

use super::Counters;
use super::asker::Asker;
use super::burial::{self, Burial, Turn};
use super::facts::{Found, Memory};
use super::reading::read;
use super::spoken::Kept;
use crate::bus::consume::{Delivery, Disposition, Handler};
use crate::bus::log::{Error as LogError, Loaded};
use crate::bus::trouble::Trouble;
use crate::bus::{Bus, bucket, publish, subjects};
use crate::crash_point;
use crate::domain::call::{Call, Log, RECENT_INPUTS_MAX};
use crate::domain::event::Event;
use crate::domain::input::{Input, InputKind};
use crate::domain::session::Policy;
use crate::domain::timer::Arm;
use crate::domain::transcript::Transcript;
use crate::domain::{Known, Outcome, Rejection, apply, wanted};

/// The consumers' `ack_wait`, as `nats/consumers` has it.
pub(super) const ACK_WAIT: Duration = Duration::from_secs(5);

/// Logs kept in memory per partition. A log not kept is read back, one round trip.
const CACHED_LOGS: NonZeroUsize = NonZeroUsize::new(256).expect("is not zero");

/// Tries to commit one input in one go. Each try is one race lost against another writer, so more
/// than a few means something is wrong.
const COMMIT_TRIES_MAX: usize = 8;

/// Pause before an input that waits for NATS comes again; it holds up its own partition only.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Deliveries of one input after which a transcript is taken as far as it is there. A replica that
/// lags behind has caught up long before.
const TRANSCRIPT_TRIES_MAX: u64 = 20;

/// For so long VOICE_IN surely knows the ids of its inputs: half of its `duplicate_window`, which
/// leaves room for the clocks of senders.
const REMEMBERED: TimeDelta = TimeDelta::minutes(5);

pub(super) struct Worker {
    bus: Bus,
    policy: Arc<Policy>,
    memory: Memory,
    counters: Arc<Counters>,
    asker: Asker,
    burial: Burial,
    logs: LruCache<String, Loaded>,
    spoken: Option<Kept>,
}

impl Handler for Worker {
    const RETRY_PAUSE: Duration = RETRY_PAUSE;

    async fn take(&mut self, delivery: &Delivery) -> Result<Disposition, Trouble> {
        self.taken(delivery).await.map(|()| Disposition::Ack)
    }

    async fn give_up(&mut self, delivery: &Delivery, reason: &str) -> Result<(), Trouble> {
        let exhausted = Rejection {
            code: "exhausted",
            text: reason.to_owned(),
        };
        self.bury(delivery, &exhausted).await
    }
}

impl Worker {
    pub fn new(
        bus: Bus,
        policy: Arc<Policy>,
        memory: Memory,
        counters: Arc<Counters>,
        asker: Asker,
    ) -> Self {
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
            asker,
            burial,
            logs: LruCache::new(CACHED_LOGS),
            spoken: None,
        }
    }

    async fn taken(&mut self, delivery: &Delivery) -> Result<(), Trouble> {
        let position = burial::position(delivery);
        let (input, traceparent) = match read(delivery, position) {
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
        if let Some(text) = subjects::misrouted(&subjects, subject, &input.call, &input.kind) {
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
        let cached = self.logs.pop(log_id);
        // A commit on an old log is refused. A decision without a commit (or with a dead letter
        // before it, which is not taken back) is not, so it is only taken on a log that was read
        // from the leader.
        let mut is_sure = false;
        let mut loaded = match cached {
            Some(cached) => cached,
            None => match self.bus.load(log_id).await {
                Err(error @ LogError::Unreadable { .. }) => {
                    return self.burial.bury_for_log(delivery, &error).await;
                }
                other => other?,
            },
        };
        for _ in 0..COMMIT_TRIES_MAX {
            if burial::is_buried(loaded.log.as_ref(), delivery, input) {
                if is_sure {
                    return self.settled(loaded, |counters| &counters.duplicate);
                }
                loaded = self.bus.load_from_leader(log_id).await?;
                is_sure = true;
                continue;
            }
            let (known, found) = self.look_up(&loaded, input, delivery).await?;
            let log = loaded.log.as_ref();
            let (event, timers) = match apply(log, input, &known, &self.policy) {
                Outcome::Duplicate
                | Outcome::Late
                | Outcome::Waiting { .. }
                | Outcome::Rejected(_)
                    if !is_sure =>
                {
                    loaded = self.bus.load_from_leader(log_id).await?;
                    is_sure = true;
                    continue;
                }
                Outcome::Duplicate => return self.settled(loaded, |counters| &counters.duplicate),
                Outcome::Late => return self.settled(loaded, |counters| &counters.late),
                Outcome::Waiting { timers, ask } => {
                    self.arm(&timers, delivery).await?;
                    if let Some(question) = ask {
                        self.asker.ask(&input.call, question);
                    }
                    return self.settled(loaded, |counters| &counters.waiting);
                }
                Outcome::Rejected(rejection) => return self.bury(delivery, &rejection).await,
                Outcome::Applied {
                    event,
                    claim,
                    timers,
                } => {
                    if may_be_forgotten(log, input, delivery)
                        && self.bus.tells_of(log_id, &event.id, loaded.last).await?
                    {
                        return self.settled(loaded, |counters| &counters.duplicate);
                    }
                    if let Some(claim) = &claim {
                        match self
                            .memory
                            .claim(&found, claim, &self.policy.own_numbers, input.received_at)
                            .await
                        {
                            Ok(()) => {}
                            Err(bucket::Error::Conflict { .. }) => continue,
                            Err(error) => return Err(error.into()),
                        }
                    }
                    (*event, timers)
                }
            };
            drop(known);
            self.arm(&timers, delivery).await?;
            crash_point::pass("router.before_commit");
            match self.bus.commit(&event, traceparent, loaded.last).await {
                Ok(last) => {
                    crash_point::pass("router.after_commit");
                    tell(&event, input);
                    self.keep_up(&event, loaded.last, last);
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
                Err(
                    error @ (publish::Error::Refused { .. } | publish::Error::Unacceptable { .. }),
                ) => return Err(error.into()),
                // The event may be in the log, ours or another's: only the log knows.
                Err(publish::Error::Conflict { .. } | publish::Error::Unclear { .. }) => {
                    self.counters.conflicts.fetch_add(1, Ordering::Relaxed);
                    loaded = self.bus.load_from_leader(log_id).await?;
                    is_sure = true;
                }
            }
        }
        Err(Trouble::Own(format!(
            "lost {COMMIT_TRIES_MAX} races for the log of {log_id}"
        )))
    }

    /// Finds what the domain wants to be told for this input.
    async fn look_up(
        &mut self,
        loaded: &Loaded,
        input: &Input,
        delivery: &Delivery,
    ) -> Result<(Known, Found), Trouble> {
        let wanted = wanted(loaded.log.as_ref(), input);
        let found = match wanted.number {
            Some(number) => self.memory.find(number).await?,
            None => Found::default(),
        };
        let transcript = match &loaded.log {
            Some(Log::Call(call)) if wanted.transcript => {
                let whatever_is_there = delivery.attempt > TRANSCRIPT_TRIES_MAX;
                Some(
                    self.transcript(call, loaded.last, whatever_is_there)
                        .await?,
                )
            }
            _ => None,
        };
        let known = Known {
            facts: found.facts.clone(),
            transcript,
        };
        Ok((known, found))
    }

    async fn transcript(
        &mut self,
        call: &Call,
        last: u64,
        whatever_is_there: bool,
    ) -> Result<Arc<Transcript>, Trouble> {
        if let Some(kept) = self
            .spoken
            .as_ref()
            .and_then(|kept| kept.of(&call.id, last))
        {
            return Ok(Arc::clone(kept));
        }
        let transcript = self
            .bus
            .transcript(&call.id, call.utterances, last, whatever_is_there)
            .await?;
        let transcript = Arc::new(transcript);
        self.spoken = Some(Kept::new(call.id.clone(), last, Arc::clone(&transcript)));
        Ok(transcript)
    }

    /// A history comes one utterance after the other; the transcript that each is held against
    /// must not be read for each.
    fn keep_up(&mut self, event: &Event, before: u64, last: u64) {
        if let Some(kept) = self.spoken.take() {
            self.spoken = kept.after(event, before, last);
        }
    }

    async fn arm(&self, timers: &[Arm], delivery: &Delivery) -> Result<(), Trouble> {
        for timer in timers {
            self.bus.arm(timer, Utc::now(), delivery.stored_at).await?;
        }
        Ok(())
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

/// Whether the input may have had its effect so long ago that neither the stream nor the log knows
/// its id by heart. Then all ids of the log are looked at, which nobody would do for each input.
///
/// Only what a repetition would tell twice is looked at: states are known by what they say, and so
/// is what comes from the history.
fn may_be_forgotten(log: Option<&Log>, input: &Input, delivery: &Delivery) -> bool {
    let tells_twice = matches!(
        input.kind,
        InputKind::Utterance(_) | InputKind::Audio(_) | InputKind::Context(_)
    );
    let has_forgotten = log.is_some_and(|log| log.progress().recent().count() == RECENT_INPUTS_MAX);
    let age = delivery.stored_at - input.time().min(input.received_at);
    tells_twice && has_forgotten && (age > REMEMBERED || delivery.redriven_from().is_some())
}

fn tell(event: &Event, input: &Input) {
    let (kind, action) = event.kind_and_action();
    let sequence = event.log.progress().sequence;
    match kind {
        "transcript" | "audio" => debug!(call.id = %input.call, kind, action, sequence, "event"),
        _ => info!(call.id = %input.call, kind, action, sequence, "event"),
    }
}
