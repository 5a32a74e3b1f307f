//! Asking egress without waiting for it.
//!
//! A partition takes one input at a time, so an input must not wait for the phone-call server. The
//! question goes to a task of its own, and the answer comes back as a timer that fires at once: an
//! input like any other, in order and durable. The call has a timer armed already for the case
//! that no answer comes, so a question that is lost with the process is only late.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::bus::Bus;
use crate::bus::service::{call_presence, fill_transcript};
use crate::domain::ids::CallId;
use crate::domain::timer::{Arm, Presence, Question, Timer};
use crate::error_chain::Chain;

/// Questions that may wait. Each belongs to a call that has just ended or has long been silent;
/// beyond this, calls get their answer from their own timer.
const QUEUE_LENGTH: usize = 1024;
/// Questions asked at once: the phone-call server answers them one after the other.
const CONCURRENCY: usize = 8;
/// How long egress may take; it gives the phone-call server 5 s, and then stores what it fetched.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Where questions go.
#[derive(Clone)]
pub(super) struct Asker {
    queue: mpsc::Sender<(CallId, Question)>,
}

/// Where they come out.
pub(super) struct Questions {
    queue: mpsc::Receiver<(CallId, Question)>,
}

pub(super) fn queue() -> (Asker, Questions) {
    let (queue, questions) = mpsc::channel(QUEUE_LENGTH);
    (Asker { queue }, Questions { queue: questions })
}

impl Asker {
    /// Asks, some time soon.
    pub fn ask(&self, call: &CallId, question: Question) {
        if self.queue.try_send((call.clone(), question)).is_err() {
            warn!(call.id = %call, ?question, "egress is not asked: too many questions are waiting");
        }
    }
}

impl Questions {
    /// Asks what comes until `stop`.
    pub async fn ask_all(mut self, bus: &Bus, stop: &CancellationToken) {
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(()) = under_way.next(), if !under_way.is_empty() => {}
                asked = self.queue.recv(), if under_way.len() < CONCURRENCY => {
                    let Some((call, question)) = asked else { return };
                    under_way.push(ask(bus, call, question));
                }
            }
        }
    }
}

async fn ask(bus: &Bus, call: CallId, question: Question) {
    let timer = match question {
        Question::Presence { sequence } => {
            let presence = match call_presence(bus.connection(), &call, ANSWER_TIMEOUT).await {
                Ok(presence) => presence,
                Err(error) => {
                    debug!(call.id = %call, error = %Chain(&error), "nobody knows whether the call goes on");
                    Presence::Unknown
                }
            };
            presence.tell(sequence)
        }
        Question::History { completes } => {
            match fill_transcript(bus.connection(), &call, !completes, ANSWER_TIMEOUT).await {
                Ok(filled) => {
                    debug!(call.id = %call, entries = filled.entries, new = filled.new, "history asked");
                }
                Err(error) => {
                    warn!(call.id = %call, error = %Chain(&error), "the history was not asked; going on without");
                }
            }
            completes.then_some(Timer::Finalize { filled: true })
        }
    };
    let Some(timer) = timer else { return };
    let at_once = Arm {
        call,
        timer,
        after: TimeDelta::zero(),
    };
    if let Err(error) = bus.arm(&at_once, Utc::now(), DateTime::UNIX_EPOCH).await {
        warn!(call.id = %at_once.call, error = %Chain(&error), "answer not told; the call waits for its own timer");
    }
}
