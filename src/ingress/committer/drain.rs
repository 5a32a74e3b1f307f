//! The way out of the spool.
//!
//! While NATS takes nothing, one entry alone knocks, another call's each time; when it is stored,
//! full rounds follow. An entry that gets no answer several times while others do is treated like
//! one that is refused for good: a permission that is missing for one kind of event looks so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tracing::{error, info, warn};

use super::plan::probe;
use super::round::{Fate, Rounds};
use super::running::{Fatal, Running, on_disk};
use crate::bus::batch::BATCH_MAX;
use crate::bus::dead_letter::DeadLetter;
use crate::bus::publish;
use crate::bus::streams::{self, Layout};
use crate::error_chain::Chain;
use crate::ingress::spool::{Entry, Spool};

/// Pause after the first failure; doubled each time.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause: a sender's first event after NATS is back should not wait longer.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Most bytes that are read from the spool for a round.
const CHUNK_BYTES: u64 = 4 * 1024 * 1024;
/// So often an entry may get no answer while others do.
const SILENCES_MAX: u32 = 5;

/// What a step out of the spool came to.
pub(super) enum Done {
    /// What VOICE_IN is like, which must be known before the first round.
    Layout(Result<Layout, streams::Error>),
    /// A round.
    Round(Box<Round>),
}

pub(super) struct Round {
    rounds: Rounds,
    keys: Vec<u64>,
    entries: Vec<Entry>,
    fates: Vec<Fate>,
}

pub(super) type Step = BoxFuture<'static, Done>;

/// What is remembered from one round of the spool to the next.
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// Rounds in a row in which NATS took nothing.
    failures: u32,
    /// The next full round goes one by one: a batch may have failed for one of its messages.
    one_by_one: bool,
    /// How many entries were stored so far.
    stored: u64,
    /// How often an entry got no answer while others did, and how many had been stored then.
    silences: BTreeMap<u64, (u32, u64)>,
}

impl Drain {
    fn pause(&self) -> Duration {
        match self.failures {
            0 => Duration::ZERO,
            failures => PAUSE_MIN
                .saturating_mul(1 << failures.min(10).saturating_sub(1))
                .min(PAUSE_MAX),
        }
    }

    /// Of entries without an answer, those that had none so often that it must be their own fault.
    fn too_silent(&mut self, silent: Vec<(u64, Entry)>) -> Vec<(u64, Entry, String)> {
        let mut given_up = Vec::new();
        for (key, entry) in silent {
            let (times, stored) = self.silences.entry(key).or_default();
            if *stored < self.stored {
                *stored = self.stored;
                *times += 1;
            }
            if *times >= SILENCES_MAX {
                self.silences.remove(&key);
                let reason = "NATS gives no answer to it, but does to others".to_owned();
                given_up.push((key, entry, reason));
            }
        }
        given_up
    }
}

impl Running {
    /// Begins a step out of the spool, if NATS is there.
    pub(super) async fn begin(&mut self) -> Option<Step> {
        let spool = self.spool.clone()?;
        if !self.bus.connection().is_connected() {
            self.stall("NATS is away".to_owned(), &spool);
            return None;
        }
        if !self.layout_known {
            let bus = self.bus.clone();
            let layout = async move { streams::read_layout(bus.connection().jetstream()).await };
            return Some(layout.map(Done::Layout).boxed());
        }
        let head = on_disk(&spool, |spool| spool.head(BATCH_MAX, CHUNK_BYTES)).await;
        let mut head = match head {
            Ok(head) => head,
            Err(error) => {
                self.stall(Chain(&error).to_string(), &spool);
                return None;
            }
        };
        let knocking = self.drain.failures > 0;
        if knocking && let Some(n) = probe(&head, self.drain.failures as usize - 1) {
            head = vec![head.swap_remove(n)];
        }
        let mut rounds = self.rounds.take()?;
        let may_group = !self.drain.one_by_one;
        if !knocking {
            self.drain.one_by_one = false;
        }
        let (keys, entries): (Vec<u64>, Vec<Entry>) = head.into_iter().unzip();
        let round = async move {
            let fates = rounds.send(&entries, may_group).await;
            Done::Round(Box::new(Round {
                rounds,
                keys,
                entries,
                fates,
            }))
        };
        Some(round.boxed())
    }

    /// Draws the conclusions from a step. Returns how long to wait before the next one.
    pub(super) async fn settle(&mut self, done: Done) -> Result<Duration, Fatal> {
        let Some(spool) = self.spool.clone() else {
            return Ok(PAUSE_MAX);
        };
        match done {
            Done::Round(round) => Ok(self.settle_round(&spool, *round).await),
            Done::Layout(layout) => self.settle_layout(&spool, layout),
        }
    }

    /// Checks that the events in the spool go where they were meant to go.
    fn settle_layout(
        &mut self,
        spool: &Arc<Spool>,
        layout: Result<Layout, streams::Error>,
    ) -> Result<Duration, Fatal> {
        let kept = self.bus.subjects().partitions();
        match layout {
            Ok(layout) if layout.partitions == kept => {
                self.layout_known = true;
                Ok(Duration::ZERO)
            }
            Ok(layout) => Err(Fatal::OtherDeployment {
                dir: spool.dir().to_owned(),
                kept,
                found: layout.partitions,
            }),
            Err(error) => {
                self.stall(Chain(&error).to_string(), spool);
                Ok(PAUSE_MAX)
            }
        }
    }

    /// Nothing leaves the spool; logged when it begins.
    fn stall(&self, reason: String, spool: &Spool) {
        if self.gauge.stalled().is_none() {
            let events = spool.depth().events;
            warn!(reason, events, "the spool does not drain");
        }
        self.gauge.say(Some(reason));
    }

    /// Takes out of the spool what is stored or will never be.
    async fn settle_round(&mut self, spool: &Arc<Spool>, done: Round) -> Duration {
        self.rounds = Some(done.rounds);
        let mut stored = Vec::new();
        let mut unwanted = Vec::new();
        let mut silent = Vec::new();
        let mut trouble = None;
        for ((key, entry), fate) in done.keys.into_iter().zip(done.entries).zip(done.fates) {
            match fate {
                Fate::Stored { .. } => stored.push(key),
                Fate::Unacceptable(reason) => unwanted.push((key, entry, reason)),
                Fate::Unclear(reason) => {
                    trouble = Some(reason);
                    silent.push((key, entry));
                }
                Fate::Refused(reason) => trouble = Some(reason),
                Fate::Unsent => {}
            }
        }
        let moved = !stored.is_empty() || !unwanted.is_empty();
        self.drain.one_by_one |= !silent.is_empty();
        self.drain.stored += stored.len() as u64;
        unwanted.extend(self.drain.too_silent(silent));
        let drained = &self.counters.drained;
        drained.fetch_add(stored.len() as u64, Ordering::Relaxed);
        self.remove(spool, stored).await;
        for (key, entry, reason) in unwanted {
            self.bury(spool, key, entry, &reason).await;
        }
        if moved {
            self.drain.failures = 0;
            self.gauge.say(None);
            if spool.depth().events == 0 {
                info!("the spool is empty");
            }
        } else {
            self.drain.failures = self.drain.failures.saturating_add(1);
            let reason = trouble.unwrap_or_else(|| "NATS takes nothing".to_owned());
            self.stall(reason, spool);
        }
        self.drain.pause()
    }

    /// Puts an entry that NATS will never take with the dead letters.
    async fn bury(&mut self, spool: &Arc<Spool>, key: u64, entry: Entry, reason: &str) {
        let message = entry.message;
        if entry.lane.is_some() {
            let letter = DeadLetter {
                role: "ingress",
                code: "refused",
                reason,
                id: &message.id,
                subject: &message.subject,
                attempts: 1,
                headers: None,
                payload: message.payload,
            };
            match self.bus.park(letter).await {
                Ok(_) => {
                    warn!(
                        reason,
                        subject = message.subject,
                        "spooled event refused; it is with the dead letters"
                    );
                    self.counters.buried.fetch_add(1, Ordering::Relaxed);
                    return self.remove(spool, vec![key]).await;
                }
                Err(error @ publish::Error::Unclear { .. }) => {
                    return warn!(error = %Chain(&error), "dead letter not stored; tried again later");
                }
                Err(error) => error!(error = %Chain(&error), "dead letter refused"),
            }
        }
        error!(
            reason,
            subject = message.subject,
            "NATS takes an accepted event neither as such nor as a dead letter; it stays in the spool and is tried again at the next start"
        );
        self.counters.set_aside.fetch_add(1, Ordering::Relaxed);
        let aside = on_disk(spool, move |spool| spool.set_aside(&[key])).await;
        if let Err(error) = aside {
            error!(error = %Chain(&error), "spool not written");
        }
    }

    async fn remove(&mut self, spool: &Arc<Spool>, keys: Vec<u64>) {
        if keys.is_empty() {
            return;
        }
        if let Err(error) = on_disk(spool, move |spool| spool.remove(&keys)).await {
            error!(error = %Chain(&error), "drained events not removed from the spool; a restart would send them again");
        }
    }
}
