//! One round: some entries go to NATS, and each one's fate comes back.
//!
//! - Two entries of a call are never under way apart from each other: the second is sent when the
//!   first is stored, or in one batch with it. So whatever fails, what comes behind it is unsent.
//! - A round is over when NATS has said nothing for [`ANSWER_TIMEOUT`], or is lost.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lru::LruCache;
use tokio::time::Instant;
use tracing::debug;

use super::plan::{Costs, Grouping, lanes, parts};
use crate::bus::batch::{self, BATCH_MAX};
use crate::bus::publish::{self, Message};
use crate::bus::{Bus, REQUEST_TIMEOUT};
use crate::error_chain::Chain;
use crate::ingress::Counters;
use crate::ingress::spool::Entry;

/// How long NATS may say nothing. The sender of an event waits this long, and then for the spool.
const ANSWER_TIMEOUT: Duration = REQUEST_TIMEOUT;
/// Most single messages under way at once. More gained nothing at any setting of the server, and
/// with fewer a slow disk still answers all of them in time.
const SINGLES_MAX: usize = 64;
/// Most bytes of a batch. The server holds them in memory until the last one is there.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Ids that are remembered as stored, so that a repetition does not fail a batch; a few minutes of
/// a busy ingress, 2 MB.
const KNOWN_MAX: NonZeroUsize = NonZeroUsize::new(16_384).expect("it is not zero");

/// What became of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// NATS has it.
    Stored {
        /// And had it before.
        duplicate: bool,
    },
    /// NATS will never take it.
    Unacceptable(String),
    /// NATS does not take it at the moment.
    Refused(String),
    /// NATS may have it.
    Unclear(String),
    /// It was not sent, because something before it was not stored.
    Unsent,
}

impl Fate {
    /// Whether what comes behind it in its call may go on.
    fn settles(&self) -> bool {
        matches!(self, Self::Stored { .. } | Self::Unacceptable(_))
    }
}

/// Sends rounds, and learns from them.
#[derive(Debug)]
pub(super) struct Rounds {
    bus: Bus,
    costs: Costs,
    known: LruCache<String, ()>,
    counters: Arc<Counters>,
    /// How many went in the last round, if that was a batch.
    last_batch: Option<usize>,
}

impl Rounds {
    pub fn new(bus: Bus, grouping: Grouping, counters: Arc<Counters>) -> Self {
        Self {
            bus,
            costs: Costs::new(grouping),
            known: LruCache::new(KNOWN_MAX),
            counters,
            last_batch: None,
        }
    }

    /// How many were answered by the last round, if it was a batch, and how long they are worth
    /// waiting for. Senders that wait for their answers get them together and come back together a
    /// moment later; a round that begins without them makes them wait for a second one.
    pub fn expected(&self) -> Option<(usize, Duration)> {
        let count = self.last_batch?;
        Some((count, self.costs.patience()))
    }

    /// Stores the first of these entries, as many as fit into a round, in the order of each call.
    /// Returns the fates of these.
    pub async fn send(&mut self, entries: &[Entry], may_group: bool) -> Vec<Fate> {
        let entries = within_bounds(entries);
        let split = parts(entries, |id| self.known.contains(id));
        let grouped = may_group && self.costs.choose_batch(split.together.len());
        self.last_batch = grouped.then_some(split.together.len());
        let fates = if grouped {
            let mut fates = vec![Fate::Unsent; entries.len()];
            self.singles(entries, &split.apart, &mut fates).await;
            if !holds_up(entries, &fates, &split.apart) {
                self.batch(entries, &split.together, &mut fates).await;
            }
            if !holds_up(entries, &fates, &split.together) {
                self.singles(entries, &split.echoes, &mut fates).await;
            }
            fates
        } else {
            let entries = entries.get(..SINGLES_MAX).unwrap_or(entries);
            let mut fates = vec![Fate::Unsent; entries.len()];
            let all: Vec<usize> = (0..entries.len()).collect();
            self.singles(entries, &all, &mut fates).await;
            fates
        };
        for (entry, fate) in entries.iter().zip(&fates) {
            if matches!(fate, Fate::Stored { .. }) {
                self.known.put(entry.message.id.clone(), ());
            }
        }
        fates
    }

    async fn batch(&mut self, entries: &[Entry], places: &[usize], fates: &mut [Fate]) {
        let messages: Vec<Message> = places
            .iter()
            .filter_map(|&n| entries.get(n))
            .map(|entry| entry.message.clone())
            .collect();
        let id = format!("b-{}", uuid::Uuid::now_v7().simple());
        let started = Instant::now();
        let stored = tokio::select! {
            stored = self.bus.store_batch(&id, &messages, started + ANSWER_TIMEOUT) => stored,
            () = self.bus.connection().lost() => Err(batch::Error::Unclear {
                count: messages.len(),
                reason: "NATS is away".to_owned(),
            }),
        };
        let fate = match stored {
            Ok(()) => {
                self.costs.saw_batch(started.elapsed());
                self.counters.batches.fetch_add(1, Ordering::Relaxed);
                let count = messages.len() as u64;
                self.counters.batched.fetch_add(count, Ordering::Relaxed);
                Fate::Stored { duplicate: false }
            }
            Err(error @ batch::Error::Refused { .. }) => {
                debug!(error = %Chain(&error), "batch goes one by one");
                self.counters
                    .batch_fallbacks
                    .fetch_add(1, Ordering::Relaxed);
                return self.singles(entries, places, fates).await;
            }
            Err(batch::Error::Unclear { reason, .. }) => Fate::Unclear(reason),
        };
        for &n in places {
            set(fates, n, fate.clone());
        }
    }

    /// Breaks off after a chunk in which something was not stored that others must wait for.
    async fn singles(&mut self, entries: &[Entry], places: &[usize], fates: &mut [Fate]) {
        for chunk in places.chunks(SINGLES_MAX) {
            let started = Instant::now();
            self.chunk(entries, chunk, fates).await;
            if holds_up(entries, fates, chunk) {
                return;
            }
            self.costs.saw_singles(chunk.len(), started.elapsed());
        }
    }

    async fn chunk(&self, entries: &[Entry], places: &[usize], fates: &mut [Fate]) {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let mut lanes: Vec<_> = lanes(entries, places)
            .into_iter()
            .map(Vec::into_iter)
            .collect();
        let lost = self.bus.connection().lost();
        tokio::pin!(lost);
        let mut under_way = FuturesUnordered::new();
        let mut free: Vec<usize> = (0..lanes.len()).collect();
        loop {
            for lane in free.drain(..) {
                let Some(n) = lanes.get_mut(lane).and_then(Iterator::next) else {
                    continue;
                };
                let Some(entry) = entries.get(n) else {
                    continue;
                };
                // What it is if nothing more is heard of it.
                set(fates, n, Fate::Unclear("NATS is away".to_owned()));
                let stored = self.bus.store_by(&entry.message, deadline);
                under_way.push(async move { (lane, n, fate_of(stored.await)) });
            }
            tokio::select! {
                next = under_way.next() => {
                    let Some((lane, n, fate)) = next else {
                        return;
                    };
                    if fate.settles() {
                        free.push(lane);
                    }
                    set(fates, n, fate);
                }
                () = &mut lost => return,
            }
        }
    }
}

fn fate_of(stored: Result<publish::Stored, publish::Error>) -> Fate {
    match stored {
        Ok(stored) => Fate::Stored {
            duplicate: stored.duplicate,
        },
        Err(error) => {
            let reason = Chain(&error).to_string();
            match error {
                publish::Error::Unacceptable { .. } | publish::Error::Envelope(_) => {
                    Fate::Unacceptable(reason)
                }
                publish::Error::Refused { .. } | publish::Error::Conflict { .. } => {
                    Fate::Refused(reason)
                }
                publish::Error::Unclear { .. } => Fate::Unclear(reason),
            }
        }
    }
}

fn set(fates: &mut [Fate], n: usize, fate: Fate) {
    if let Some(place) = fates.get_mut(n) {
        *place = fate;
    }
}

/// Whether others must wait for what became of these. A dead letter that its own stream refuses
/// holds up nobody.
fn holds_up(entries: &[Entry], fates: &[Fate], places: &[usize]) -> bool {
    places
        .iter()
        .any(|&n| match (fates.get(n), entries.get(n)) {
            (Some(Fate::Refused(_)), Some(entry)) => entry.lane.is_some(),
            (fate, _) => !fate.is_some_and(Fate::settles),
        })
}

/// At least one entry, and no more than fit into a batch.
fn within_bounds(entries: &[Entry]) -> &[Entry] {
    let mut bytes = 0;
    let fitting = entries.iter().take(BATCH_MAX).take_while(|entry| {
        let before = bytes;
        bytes += entry.message.payload.len();
        before == 0 || bytes <= BATCH_BYTES_MAX
    });
    let count = fitting.count();
    entries.get(..count).unwrap_or(entries)
}
