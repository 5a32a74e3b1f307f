//! Runs a plan: paces it, keeps the order within each call, and lets calls go in parallel.
//!
//! One loop walks the plan and hands each event, when it is due, to the task of its call; that task sends one event
//! after the other. So an event which has to be repeated holds up its own call and no other, until the
//! queue of that call is full: then the whole run waits, because a plan that runs ahead of its calls without
//! bound would only measure memory. A call takes a permit when it opens and returns it when its last event is settled.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::emitter::{Emitter, Fate, Outgoing};
use super::event;
use super::generator::{Copy, Generator, PlannedEvent};
use super::record;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Record(#[from] record::Error),
    #[error("a sending task ended in a panic")]
    Panicked(#[source] tokio::task::JoinError),
}

/// What a run came to, apart from the counts of its emitter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Calls that were opened.
    pub calls: u64,
    /// Copies among the events that were handed out.
    pub duplicates: u64,
    /// From the first event to the last answer.
    pub elapsed: Duration,
    /// Whether the plan was carried out to its end.
    pub complete: bool,
}

/// Sends all events of the plan.
///
/// At most as many calls are under way as the plan has open at a time. Fewer would not do: the plan would wait for a
/// call to end whose end comes later in the plan.
///
/// # Errors
/// When the record cannot be written: a run whose record is wrong is of no use to anyone.
pub async fn run(
    generator: &Generator,
    emitter: &Emitter,
    stop: &CancellationToken,
) -> Result<Outcome, Error> {
    let started = Instant::now();
    let permits = Arc::new(Semaphore::new(generator.concurrent().get()));
    let mut calls: JoinSet<Result<(), record::Error>> = JoinSet::new();
    let mut open: BTreeMap<usize, mpsc::Sender<PlannedEvent>> = BTreeMap::new();
    let mut outcome = Outcome {
        complete: true,
        ..Outcome::default()
    };
    // Ends the run when a call cannot go on; the caller's own token is not ours to cancel.
    let stop = stop.child_token();

    for event in generator.events() {
        let due = started + event.at;
        if stop
            .run_until_cancelled(tokio::time::sleep_until(due))
            .await
            .is_none()
        {
            outcome.complete = false;
            break;
        }
        while let Some(ended) = calls.try_join_next() {
            ended.map_err(Error::Panicked)??;
        }
        outcome.duplicates += u64::from(event.copy != Copy::Original);
        let (call, last) = (event.call, event.last);
        let queue = match open.entry(call) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let permit = Arc::clone(&permits).acquire_owned();
                let Some(permit) = stop.run_until_cancelled(permit).await else {
                    outcome.complete = false;
                    break;
                };
                outcome.calls += 1;
                let (queue, events) = mpsc::channel(QUEUE_LEN);
                let (emitter, stop) = (emitter.clone(), stop.clone());
                calls.spawn(async move {
                    let result = send_call(events, &emitter, &stop).await;
                    drop(permit);
                    result
                });
                new.insert(queue)
            }
        };
        // A closed queue means that the call's task has given up. Its result is collected below; the rest of the run
        // is pointless without it.
        if queue.send(event).await.is_err() {
            stop.cancel();
        }
        if last {
            open.remove(&call);
        }
    }
    drop(open);
    while let Some(ended) = calls.join_next().await {
        ended.map_err(Error::Panicked)??;
    }
    outcome.complete &= !stop.is_cancelled();
    outcome.elapsed = started.elapsed();
    Ok(outcome)
}

/// Room for a whole call of the usual length, so that one stuck call does not hold up the others at once.
const QUEUE_LEN: usize = 64;

/// Sends the events of one call, one after the other.
async fn send_call(
    mut events: mpsc::Receiver<PlannedEvent>,
    emitter: &Emitter,
    stop: &CancellationToken,
) -> Result<(), record::Error> {
    while let Some(event) = events.recv().await {
        let timestamp = event::timestamp(event.timestamp);
        let outgoing = Outgoing {
            call_id: &event.call_id,
            event_type: event.event_type,
            timestamp: &timestamp,
            body: event.body,
        };
        match emitter.emit(&outgoing, stop).await? {
            Fate::Accepted | Fate::Lost => {}
            Fate::Stopped => break,
        }
        if stop.is_cancelled() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
