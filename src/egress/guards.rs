//! The guards at work: the rules for one wish, then room in the record of all dials.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::TimeDelta;

use crate::bus::bucket::{Bucket, Entry, Error as BucketError};
use crate::bus::envelope::BudgetRecord;
use crate::bus::service::{self, CallsQuery};
use crate::bus::trouble::Trouble;
use crate::bus::{Bus, subjects};
use crate::domain::Timestamp;
use crate::domain::command::Dial;
use crate::domain::guard::{Budget, Refusal, Rules};
use crate::domain::ids::IntentId;
use crate::domain::phone::E164;

/// Tries against other workers that count their dials. Each lost one is a dial of somebody else,
/// and a worker counts one dial at a time.
const TRIES_MAX: usize = 64;

/// How often the router is asked at most which calls are over. A flood of wishes must not become a
/// flood of questions.
const ASKED_AT_MOST_EVERY: TimeDelta = TimeDelta::seconds(1);

/// Newest calls looked at for those that are over: some 600 kB, below what one answer may hold.
const CALLS_LOOKED_AT: usize = 1_000;

/// The guards.
#[derive(Clone)]
pub(super) struct Guards {
    bus: Bus,
    rules: Arc<Rules>,
    bucket: Bucket,
    asked_at_ms: Arc<AtomicI64>,
}

/// Says that one dial is counted.
#[derive(Debug)]
#[must_use = "a dial that does not leave must be given back"]
pub(super) struct Counted {
    intent: IntentId,
}

/// Why a dial is not counted.
#[derive(Debug)]
pub(super) enum Stop {
    /// A guard says no.
    Refused(Refusal),
    /// What was dialled lately cannot be read: with an empty count everything would pass.
    Unreadable,
    /// The count cannot be written, so nothing may be dialled yet.
    Trouble(Trouble),
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl Guards {
    pub async fn open(bus: &Bus, rules: Rules) -> Result<Self, BucketError> {
        Ok(Self {
            bus: bus.clone(),
            rules: Arc::new(rules),
            bucket: bus.bucket(subjects::BUCKET_LIMIT).await?,
            asked_at_ms: Arc::default(),
        })
    }

    /// Looks at one wish alone.
    ///
    /// # Errors
    /// The guard that does not let it pass.
    pub fn look_at(&self, dial: &Dial, now: Timestamp) -> Result<(), Refusal> {
        self.rules.check(dial, now)
    }

    /// Counts a dial, if there is room for it. One that was counted and whose worker was stopped
    /// before it dialled is not counted twice.
    ///
    /// # Errors
    /// See [`Stop`].
    pub async fn count(&self, dial: &Dial, now: Timestamp) -> Result<Counted, Stop> {
        let number = self.key(&dial.to);
        for _ in 0..TRIES_MAX {
            let (budget, entry) = self.read().await?;
            let limits = &self.rules.limits;
            let taken = match budget.take(&dial.intent, &number, now, limits) {
                Err(refusal) if refusal.guard == "limit-concurrent" && self.may_ask(now) => {
                    let over = self.over(&budget).await;
                    let budget = budget.without(&over);
                    budget.take(&dial.intent, &number, now, limits)
                }
                taken => taken,
            };
            let taken = taken.map_err(Stop::Refused)?;
            if taken == budget || self.write(&taken, entry.as_ref()).await? {
                return Ok(Counted {
                    intent: dial.intent.clone(),
                });
            }
        }
        Err(Stop::Trouble(too_often()))
    }

    /// Takes a dial out of the count again. Only for one that certainly never left: it would be
    /// forgotten that a phone rang.
    pub async fn give_back(&self, permit: Counted) -> Result<(), Trouble> {
        self.change(|budget| budget.give_back(&permit.intent)).await
    }

    /// Tells that the server made no call of it. It counts as dialled, but no call is going on.
    pub async fn no_call(&self, permit: Counted) -> Result<(), Trouble> {
        self.change(|budget| {
            let next = budget.without(std::slice::from_ref(&permit.intent));
            (next != *budget).then_some(next)
        })
        .await
    }

    async fn change(&self, change: impl Fn(&Budget) -> Option<Budget>) -> Result<(), Trouble> {
        for _ in 0..TRIES_MAX {
            let (budget, entry) = match self.read().await {
                Ok(found) => found,
                Err(Stop::Trouble(trouble)) => return Err(trouble),
                // There is no count that it could be taken out of.
                Err(Stop::Unreadable | Stop::Refused(_)) => return Ok(()),
            };
            let Some(next) = change(&budget) else {
                return Ok(());
            };
            if self.write(&next, entry.as_ref()).await? {
                return Ok(());
            }
        }
        Err(too_often())
    }

    async fn read(&self) -> Result<(Budget, Option<Entry>), Stop> {
        let entry = self.bucket.get(subjects::KEY_DIALS).await;
        let entry = entry.map_err(Trouble::from)?;
        let budget = match &entry {
            Some(entry) => BudgetRecord::decode(&entry.value).map_err(|error| {
                tracing::error!(%error, "nothing is dialled: VOICE_LIMIT cannot be read; remove what is in it as the user `provision`");
                Stop::Unreadable
            })?,
            None => Budget::default(),
        };
        Ok((budget, entry))
    }

    /// Whether it was written; if not, another worker was first.
    async fn write(&self, budget: &Budget, found: Option<&Entry>) -> Result<bool, Trouble> {
        let value = BudgetRecord::encode(budget).map_err(own)?;
        match self.bucket.write(subjects::KEY_DIALS, value, found).await {
            Ok(_) => Ok(true),
            Err(BucketError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn may_ask(&self, now: Timestamp) -> bool {
        let now = now.timestamp_millis();
        let due = |last: i64| {
            let since = now.saturating_sub(last);
            // A clock that was set back must not keep us from asking.
            (since < 0 || since >= ASKED_AT_MOST_EVERY.num_milliseconds()).then_some(now)
        };
        self.asked_at_ms
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, due)
            .is_ok()
    }

    /// The wishes whose calls are over, as far as the router knows: one of the two ids of a call
    /// has ended. Without an answer none is.
    async fn over(&self, budget: &Budget) -> Vec<IntentId> {
        let query = CallsQuery {
            limit: Some(CALLS_LOOKED_AT),
            ..CallsQuery::default()
        };
        let answer = match service::calls(self.bus.connection(), &query).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(%error, "not known which calls are over");
                return Vec::new();
            }
        };
        let ended = |intent: &IntentId| {
            let of_intent = |call: &&service::CallView| {
                call.call.intent.as_deref() == Some(intent.as_str()) && call.call.state == "ended"
            };
            answer.calls.iter().any(|call| of_intent(&call))
        };
        let open = budget.open.iter().map(|open| &open.intent);
        open.filter(|intent| ended(intent)).cloned().collect()
    }

    fn key(&self, number: &E164) -> String {
        self.bus.subjects().number_key(number)
    }
}

fn own(error: impl std::fmt::Display) -> Trouble {
    Trouble::Own(error.to_string())
}

fn too_often() -> Trouble {
    Trouble::Own("the record of dials is changed too often".to_owned())
}
