//! The read model: calls, sessions and commands as the public feed has them. It is built from the
//! stream at start and follows it; nothing else is stored. It lags behind the stream by the time
//! that a message takes, some milliseconds.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::bus::envelope::{CommandSnapshot, EventEnvelope, command};
use crate::bus::feed::{Feed, Start, Step};
use crate::bus::service::{
    CALLS_DEFAULT, CALLS_MAX, CALLS_PER_ANSWER_MAX, CallView, CallerAnswer, CallsAnswer,
    CallsQuery, SessionView,
};
use crate::bus::{Bus, subjects};
use crate::domain::command::{Status, Verb};
use crate::domain::phone::E164;

use super::history;

/// Ended calls kept. Those that are not over are all kept.
const ENDED_CALLS_MAX: usize = 10_000;
/// Commands kept.
const COMMANDS_MAX: usize = 10_000;
/// Longest context that is kept of one call, in bytes of JSON: what one command may give.
const CONTEXT_LENGTH_MAX: usize = command::CONTEXT_LENGTH_MAX;
/// Bytes of contexts in one answer at most, so that it stays below what one message may hold.
const CONTEXTS_PER_ANSWER_MAX: usize = 256 * 1024;
/// Pause before the stream is followed anew.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// A handle on the read model.
#[derive(Clone, Default)]
pub struct View {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    ready: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    calls: HashMap<String, CallView>,
    active: BTreeSet<String>,
    /// What the calls that are not over were given to know.
    contexts: HashMap<String, Map<String, Value>>,
    ended: VecDeque<String>,
    commands: HashMap<String, (u64, CommandSnapshot)>,
    commands_by_age: VecDeque<String>,
}

impl View {
    /// Whether the view has caught up with the stream once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.ready.load(Ordering::Relaxed)
    }

    /// Calls, newest first.
    #[must_use]
    pub fn calls(&self, query: &CallsQuery) -> CallsAnswer {
        let state = self.state();
        let limit = query
            .limit
            .unwrap_or(CALLS_PER_ANSWER_MAX)
            .min(CALLS_PER_ANSWER_MAX);
        let mut calls: Vec<&CallView> = state
            .calls
            .values()
            .filter(|call| !query.active || call.call.state != "ended")
            .filter(|call| {
                query
                    .session
                    .as_ref()
                    .is_none_or(|session| *session == call.call.session)
            })
            .filter(|call| query.number.is_none() || query.number == call.call.number)
            .collect();
        calls.sort_by(|a, b| {
            b.last_at
                .cmp(&a.last_at)
                .then_with(|| a.call.id.cmp(&b.call.id))
        });
        CallsAnswer {
            active: state.active.len(),
            calls: calls.into_iter().take(limit).cloned().collect(),
        }
    }

    /// One call.
    #[must_use]
    pub fn call(&self, id: &str) -> Option<CallView> {
        self.state().calls.get(id).cloned()
    }

    /// The call of an id: of the two that an outbound call has, the first leg.
    #[must_use]
    pub fn first_leg(&self, id: &str) -> Option<CallView> {
        let call = self.call(id)?;
        let first = match &call.call.other_leg {
            Some(first) if history::is_second_leg(&call) => self.call(first),
            Some(_) | None => None,
        };
        Some(first.unwrap_or(call))
    }

    /// The calls with a number, newest first, but for one, which is named by its first leg.
    #[must_use]
    pub fn caller(&self, number: &E164, but: Option<&str>, limit: Option<usize>) -> CallerAnswer {
        let state = self.state();
        let is_other = |view: &&CallView| {
            let legs = [Some(view.call.id.as_str()), view.call.other_leg.as_deref()];
            but.is_none() || !legs.contains(&but)
        };
        let limit = limit.unwrap_or(CALLS_DEFAULT).min(CALLS_MAX);
        CallerAnswer {
            calls: history::calls_with(number, state.calls.values().filter(is_other), limit),
        }
    }

    /// One command.
    #[must_use]
    pub fn command(&self, id: &str) -> Option<CommandSnapshot> {
        self.state()
            .commands
            .get(id)
            .map(|(_, command)| command.clone())
    }

    /// One session with its calls; `None` when it has none.
    #[must_use]
    pub fn session(&self, key: &str) -> Option<SessionView> {
        let query = CallsQuery {
            session: Some(key.to_owned()),
            ..CallsQuery::default()
        };
        let (ended, active): (Vec<_>, Vec<_>) = self
            .calls(&query)
            .calls
            .into_iter()
            .partition(|call| call.call.state == "ended");
        let waiting = self.waiting(key);
        let is_known = !active.is_empty() || !ended.is_empty() || !waiting.is_empty();
        is_known.then(|| {
            let mut view = SessionView {
                session: key.to_owned(),
                active,
                ended,
                waiting,
            };
            self.add_contexts(std::slice::from_mut(&mut view));
            view
        })
    }

    /// The dials of a session that have no outcome yet.
    fn waiting(&self, session: &str) -> Vec<String> {
        let state = self.state();
        let is_waiting = |command: &CommandSnapshot| {
            command.session == session
                && command.verb == Verb::Dial.as_str()
                && command.status == Status::Accepted.as_str()
        };
        let mut waiting: Vec<String> = state
            .commands
            .values()
            .filter(|(_, command)| is_waiting(command))
            .map(|(_, command)| command.id.clone())
            .collect();
        waiting.sort();
        waiting
    }

    /// The sessions that have a call which is not over.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionView> {
        let mut sessions: BTreeMap<String, SessionView> = BTreeMap::new();
        let query = CallsQuery {
            active: true,
            ..CallsQuery::default()
        };
        for call in self.calls(&query).calls {
            let key = call.call.session.clone();
            let empty = || SessionView {
                session: key.clone(),
                active: vec![],
                ended: vec![],
                waiting: vec![],
            };
            sessions
                .entry(key.clone())
                .or_insert_with(empty)
                .active
                .push(call);
        }
        let mut sessions: Vec<SessionView> = sessions.into_values().collect();
        self.add_contexts(&mut sessions);
        sessions
    }

    /// Adds what the calls were given to know, as long as there is room.
    fn add_contexts(&self, sessions: &mut [SessionView]) {
        let state = self.state();
        let mut room = CONTEXTS_PER_ANSWER_MAX;
        for call in sessions.iter_mut().flat_map(|session| &mut session.active) {
            let Some(context) = state.contexts.get(&call.call.id) else {
                continue;
            };
            let length = serde_json::to_vec(context).map_or(usize::MAX, |bytes| bytes.len());
            if let Some(left) = room.checked_sub(length) {
                room = left;
                call.context = Some(context.clone());
            }
        }
    }

    /// Follows the stream until `stop`.
    pub async fn follow(&self, bus: &Bus, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let followed = tokio::select! {
                () = stop.cancelled() => return,
                followed = self.follow_once(bus) => followed,
            };
            if let Err(error) = followed {
                warn!(%error, "view cannot read the stream; trying again");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RETRY_PAUSE) => {}
            }
        }
    }

    async fn follow_once(&self, bus: &Bus) -> Result<(), String> {
        let all = subjects::EVENTS_ALL.to_owned();
        let feed = Feed::open(bus.connection(), "view", all, Start::LastOfEach).await;
        let mut feed = feed.map_err(|error| error.to_string())?;
        let mut ahead = Some(feed.stored());
        loop {
            if ahead == Some(0) {
                ahead = None;
                self.read_contexts(bus).await?;
                self.caught_up();
            }
            match feed.next().await {
                Step::Event(stored) => {
                    ahead = ahead.map(|ahead| ahead.saturating_sub(1));
                    match serde_json::from_slice::<EventEnvelope>(&stored.payload) {
                        Ok(event) => self.state().take(event),
                        Err(error) => warn!(%error, "event cannot be read; left out of the view"),
                    }
                }
                Step::Interrupted(reason) => warn!(reason, "view lost the stream"),
                Step::Resumed { whole: true } => info!("view follows the stream again"),
                // What is missing may be the end of a call: only the whole stream knows.
                Step::Resumed { whole: false } => return Ok(()),
            }
        }
    }

    /// What was taken in so far is the last of each kind of event. A call that is given something
    /// to know more than once has more events of that kind, and all of them count.
    async fn read_contexts(&self, bus: &Bus) -> Result<(), String> {
        let calls: Vec<String> = self.state().contexts.keys().cloned().collect();
        for call in calls {
            let events = bus.contexts_of(&call).await;
            let events = events.map_err(|error| error.to_string())?;
            let mut state = self.state();
            state.contexts.remove(&call);
            for event in events {
                state.take_context(call.clone(), event.get());
            }
        }
        Ok(())
    }

    fn caught_up(&self) {
        if !self.shared.ready.swap(true, Ordering::Relaxed) {
            let calls = self.state().calls.len();
            info!(calls, "view is ready");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held leaves a map that is whole, at worst one event behind.
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, event: EventEnvelope) {
        if let Some(call) = event.data.call {
            let view = CallView {
                call,
                last_at: event.time,
                sequence: event.sequence,
                context: None,
            };
            let id = view.call.id.clone();
            self.take_call(view);
            if let Some(context) = event.data.context
                && self.active.contains(&id)
            {
                self.take_context(id, context.get());
            }
        } else if let Some(command) = event.data.command {
            self.take_command(event.sequence, command);
        }
    }

    fn take_call(&mut self, view: CallView) {
        let id = view.call.id.clone();
        let known = self.calls.get(&id);
        if known.is_some_and(|known| known.sequence >= view.sequence) {
            return;
        }
        let was_ended = known.is_some_and(|known| known.call.state == "ended");
        if view.call.state == "ended" {
            self.active.remove(&id);
            self.contexts.remove(&id);
            if !was_ended {
                self.ended.push_back(id.clone());
            }
        } else {
            self.active.insert(id.clone());
        }
        self.calls.insert(id, view);
        while self.ended.len() > ENDED_CALLS_MAX {
            if let Some(oldest) = self.ended.pop_front() {
                self.calls.remove(&oldest);
            }
        }
    }

    /// Merges what a call was given to know: of two values under one name the later holds.
    fn take_context(&mut self, id: String, context: &str) {
        let Ok(new) = serde_json::from_str::<Map<String, Value>>(context) else {
            return;
        };
        let mut merged = self.contexts.remove(&id).unwrap_or_default();
        merged.extend(new);
        let length = serde_json::to_vec(&merged).map_or(usize::MAX, |bytes| bytes.len());
        if length <= CONTEXT_LENGTH_MAX {
            self.contexts.insert(id, merged);
        } else {
            warn!(
                call.id = id,
                "context of a call is too large for the view; left out"
            );
        }
    }

    fn take_command(&mut self, sequence: u64, command: CommandSnapshot) {
        let id = command.id.clone();
        match self.commands.get(&id) {
            Some((known, _)) if *known >= sequence => return,
            Some(_) => {}
            None => self.commands_by_age.push_back(id.clone()),
        }
        self.commands.insert(id, (sequence, command));
        while self.commands_by_age.len() > COMMANDS_MAX {
            if let Some(oldest) = self.commands_by_age.pop_front() {
                self.commands.remove(&oldest);
            }
        }
    }
}
