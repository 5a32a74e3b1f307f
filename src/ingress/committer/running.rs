//! The committer at work: straight to NATS, or behind the spool.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;
use tracing::{error, warn};

use super::drain::{self, Drain};
use super::inbox::{Inbox, Reply, Waiting};
use super::round::{Fate, Rounds};
use super::{Answer, Error as NotTaken, Gauge, Grouping};
use crate::bus::Bus;
use crate::error_chain::Chain;
use crate::ingress::Counters;
use crate::ingress::spool::{self, Entry, Spool};

/// Why a committer cannot go on.
#[derive(Debug, Error)]
pub enum Fatal {
    /// The spool was filled for a VOICE_IN of another shape.
    #[error(
        "the spool in {dir} was filled for {kept} partitions, but VOICE_IN has {found}; its events would go astray: give this ingress another --spool-dir, and bring that one to the deployment it belongs to"
    )]
    OtherDeployment {
        /// Where.
        dir: PathBuf,
        /// What the spool says.
        kept: u32,
        /// What the stream says.
        found: u32,
    },
}

/// A committer at work.
pub struct Running {
    inbox: Inbox,
    waiting: Waiting,
    /// Away while a round of the spool is under way.
    pub(super) rounds: Option<Rounds>,
    pub(super) drain: Drain,
    pub(super) layout_known: bool,
    pub(super) bus: Bus,
    pub(super) spool: Option<Arc<Spool>>,
    pub(super) counters: Arc<Counters>,
    pub(super) gauge: Arc<Gauge>,
}

impl Running {
    pub(super) fn new(
        bus: Bus,
        grouping: Grouping,
        inbox: Inbox,
        gauge: Arc<Gauge>,
        counters: Arc<Counters>,
    ) -> Self {
        let rounds = Rounds::new(bus.clone(), grouping, Arc::clone(&counters));
        Self {
            inbox,
            waiting: Waiting::default(),
            rounds: Some(rounds),
            drain: Drain::default(),
            layout_known: true,
            bus,
            spool: gauge.spool.clone(),
            counters,
            gauge,
        }
    }

    /// The number of partitions was read from the spool, and is to be compared with NATS's.
    pub(super) fn with_a_remembered_layout(mut self) -> Self {
        self.layout_known = false;
        self
    }

    /// Works until all committers are gone.
    ///
    /// # Errors
    /// See [`Fatal`].
    pub async fn run(mut self) -> anyhow::Result<()> {
        loop {
            let more = if self.has_spooled() {
                self.behind_the_spool().await?
            } else {
                self.directly().await
            };
            if !more {
                return Ok(());
            }
        }
    }

    fn has_spooled(&self) -> bool {
        self.spool
            .as_ref()
            .is_some_and(|spool| spool.depth().events > 0)
    }

    /// A round from the senders straight to NATS.
    async fn directly(&mut self) -> bool {
        // Who came while the last round was under way.
        self.inbox.top_up(&mut self.waiting);
        let behind = self.waiting.entries.len();
        if behind == 0 && !self.inbox.wait(&mut self.waiting).await {
            return false;
        }
        if let Some((answered, patience)) = self.rounds.as_ref().and_then(Rounds::expected) {
            let wanted = behind + answered;
            self.inbox.gather(&mut self.waiting, wanted, patience).await;
        }
        self.inbox.top_up(&mut self.waiting);
        let rounds = match &mut self.rounds {
            Some(rounds) if self.layout_known && self.bus.connection().is_connected() => rounds,
            _ => {
                self.keep_waiting(&NotTaken::Away).await;
                return true;
            }
        };
        let fates = rounds.send(&self.waiting.entries, true).await;
        let mut kept = Vec::new();
        let mut silent = None;
        for ((entry, reply), fate) in self.waiting.first(fates.len()).zip(fates) {
            match fate {
                Fate::Stored { duplicate } => reply.send(Ok(Answer::Stored { duplicate })),
                Fate::Unacceptable(reason) => reply.send(Err(NotTaken::Unacceptable(reason))),
                Fate::Refused(reason) => kept.push((entry, reply, reason)),
                Fate::Unclear(reason) => {
                    silent = Some(reason.clone());
                    kept.push((entry, reply, reason));
                }
                Fate::Unsent => kept.push((entry, reply, "NATS takes nothing".to_owned())),
            }
        }
        if let Some((_, _, reason)) = kept.first() {
            warn!(events = kept.len(), reason, "NATS does not take events");
            if self.spool.is_some() {
                self.gauge.say(Some(reason.clone()));
            }
            let (entries, replies) = kept
                .into_iter()
                .map(|(entry, reply, reason)| (entry, (reply, NotTaken::NotStored(reason))))
                .unzip();
            self.keep(entries, replies).await;
        } else {
            self.gauge.say(None);
        }
        // Who came while NATS said nothing has waited as long as is bearable.
        if let Some(reason) = silent {
            self.inbox.top_up(&mut self.waiting);
            self.keep_waiting(&NotTaken::NotStored(reason)).await;
        }
        true
    }

    /// Everything that waits goes to the spool.
    async fn keep_waiting(&mut self, otherwise: &NotTaken) {
        let all = self.waiting.entries.len();
        let (entries, replies) = self
            .waiting
            .first(all)
            .map(|(entry, reply)| (entry, (reply, otherwise.clone())))
            .unzip();
        self.keep(entries, replies).await;
    }

    /// Puts events into the spool with one flush. Without a spool they are answered with their
    /// error.
    async fn keep(&mut self, entries: Vec<Entry>, replies: Vec<(Reply, NotTaken)>) {
        let Some(spool) = &self.spool else {
            for (reply, error) in replies {
                reply.send(Err(error));
            }
            return;
        };
        let kept = on_disk(spool, move |spool| spool.append(&entries)).await;
        let (fitting, otherwise) = match kept {
            Ok(fitting) => (fitting, NotTaken::Full),
            Err(error) => {
                error!(error = %Chain(&error), "events not spooled; their senders were told to come again");
                (0, NotTaken::Disk)
            }
        };
        let spooled = &self.counters.spooled;
        spooled.fetch_add(fitting as u64, Ordering::Relaxed);
        let refused = replies.len().saturating_sub(fitting) as u64;
        self.counters
            .spool_full
            .fetch_add(refused, Ordering::Relaxed);
        for (n, (reply, _)) in replies.into_iter().enumerate() {
            reply.send(if n < fitting {
                Ok(Answer::Spooled)
            } else {
                Err(otherwise.clone())
            });
        }
    }

    /// Takes events in while the spool drains, until it is empty.
    async fn behind_the_spool(&mut self) -> Result<bool, Fatal> {
        self.keep_waiting(&NotTaken::Full).await;
        let mut step: Option<drain::Step> = None;
        let mut pause = Box::pin(tokio::time::sleep(Duration::ZERO));
        while self.has_spooled() {
            tokio::select! {
                more = self.inbox.wait(&mut self.waiting) => {
                    self.keep_waiting(&NotTaken::Full).await;
                    if !more {
                        // What is under way is bounded in time.
                        if let Some(step) = step.take() {
                            self.settle(step.await).await?;
                        }
                        return Ok(false);
                    }
                }
                done = under_way(&mut step) => {
                    step = None;
                    let next = self.settle(done).await?;
                    pause.as_mut().reset(Instant::now() + next);
                }
                () = &mut pause, if step.is_none() => {
                    step = self.begin().await;
                    if step.is_none() {
                        pause.as_mut().reset(Instant::now() + drain::PAUSE_MIN);
                    }
                }
            }
        }
        self.gauge.say(None);
        Ok(true)
    }
}

async fn under_way(step: &mut Option<drain::Step>) -> drain::Done {
    match step {
        Some(step) => step.await,
        None => std::future::pending().await,
    }
}

/// Runs what waits for the disk where it holds up nobody.
pub(super) async fn on_disk<T: Send + 'static>(
    spool: &Arc<Spool>,
    work: impl FnOnce(&Spool) -> Result<T, spool::Error> + Send + 'static,
) -> Result<T, spool::Error> {
    let shared = Arc::clone(spool);
    match tokio::task::spawn_blocking(move || work(&shared)).await {
        Ok(done) => done,
        Err(join) => Err(spool::Error::Died {
            dir: spool.dir().to_owned(),
            reason: join.to_string(),
        }),
    }
}
