//! Finding out what became of a dial whose answer is lost. Asks whoever may know, the surest first:
//! the server's tap, the router (which sees calls begin), the server's lists.

use chrono::Utc;
use tracing::{debug, info};

use super::health::Health;
use super::outcome::of_server;
use super::recent_dials::RecentDials;
use super::voice_server::{Answer, Error, VoiceServer};
use super::wire::{IntentSeen, SeenState};
use super::{traces, wire};
use crate::bus::trouble::Trouble;
use crate::domain::Timestamp;
use crate::domain::command::{Dial, Reason};
use crate::domain::dial::{Attempt, Evidence, Meaning};
use crate::domain::ids::CallId;
use crate::error_chain::Chain;

/// Who looks.
#[derive(Clone)]
pub(super) struct Reconciler {
    pub server: VoiceServer,
    pub health: Health,
    pub recent: RecentDials,
}

impl Reconciler {
    /// The calls to the dial's number that the server has, to be told from the one to come.
    pub async fn calls_before(&self, dial: &Dial) -> Result<Vec<CallId>, Reason> {
        let away = |text: &str| Reason::new("server-away", text);
        let answer = self.server.list_calls().await.map_err(|error| {
            debug!(error = %Chain(&error), "calls not listed");
            away("the voice server does not say which calls it has")
        })?;
        traces::listed(&answer, &dial.to, Utc::now())
            .map(traces::before)
            .ok_or_else(|| away("the voice server's list of calls cannot be read"))
    }

    /// Looks for the traces of an attempt.
    pub async fn look(&self, dial: &Dial, attempt: &Attempt) -> Result<Evidence, Trouble> {
        if self.health.tap().is_some()
            && let Some(evidence) = self.ask_tap(dial, attempt).await
        {
            return Ok(evidence);
        }
        if let Some(call) = self.recent.call_of(dial).await?
            && !attempt.calls_before.contains(&call)
        {
            info!(intent.id = %dial.intent, call.id = %call, "the router has seen the call begin");
            return Ok(Evidence::Found(call));
        }
        let now = Utc::now();
        let mut seen = Vec::new();
        seen.extend(read(self.server.list_calls().await, |answer| {
            traces::listed(answer, &dial.to, now)
        }));
        seen.extend(read(self.server.history().await, |answer| {
            traces::remembered(answer, &dial.to)
        }));
        let found = traces::of_attempt(seen, attempt, dial.message.as_deref());
        Ok(found.map_or(Evidence::Nothing, Evidence::Found))
    }

    /// What the tap says; `None` when others may know more.
    async fn ask_tap(&self, dial: &Dial, attempt: &Attempt) -> Option<Evidence> {
        let seen = match self.server.intent(&dial.intent).await {
            Ok(seen) => seen?,
            Err(error) => {
                debug!(error = %Chain(&error), "tap not asked");
                return None;
            }
        };
        of_tap(&seen, attempt, dial.deadline, Utc::now())
    }
}

fn of_tap(
    seen: &IntentSeen,
    attempt: &Attempt,
    deadline: Timestamp,
    now: Timestamp,
) -> Option<Evidence> {
    if let Some(call) = seen
        .call_id
        .as_deref()
        .and_then(|id| CallId::parse(id).ok())
    {
        return Some(Evidence::Found(call));
    }
    match &seen.state {
        wire::SeenState::Answered { status, body } => match of_server(*status, body.as_bytes()) {
            Meaning::Placed(call) => Some(Evidence::Found(call)),
            Meaning::Refused(reason) => Some(Evidence::Refused(reason)),
            Meaning::Unknown(_) | Meaning::NotTaken(_) => None,
        },
        SeenState::Open => Some(Evidence::Nothing),
        SeenState::Unknown => None,
        // The request may still be on its way. Before the deadline a repeat is safe, because the
        // tap lets only one of the two pass; after the tap's deadline it lets none. In between, by
        // two clocks that differ, neither is certain.
        SeenState::Unseen => {
            let is_complete = seen.complete_since <= attempt.at;
            let is_certain = now < deadline || seen.time >= deadline;
            (is_complete && is_certain).then_some(Evidence::NeverTaken)
        }
    }
}

fn read<T>(answer: Result<Answer, Error>, read: impl FnOnce(&Answer) -> Option<Vec<T>>) -> Vec<T> {
    match answer {
        Ok(answer) => read(&answer).unwrap_or_default(),
        Err(error) => {
            debug!(error = %Chain(&error), "the voice server was not asked");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    /// Asked at second 10 of a dial that was sent at 0 and has until 60.
    fn says(json: serde_json::Value, complete_since: i64, time: i64, now: i64) -> Option<Evidence> {
        let mut json = json;
        json["complete_since"] = serde_json::json!(at(complete_since));
        json["time"] = serde_json::json!(at(time));
        let attempt = Attempt {
            nonce: "n".to_owned(),
            at: at(0),
            calls_before: Vec::new(),
        };
        let seen = serde_json::from_value(json).unwrap();
        of_tap(&seen, &attempt, at(60), at(now))
    }

    #[test]
    fn what_a_tap_says_of_an_intent_has_its_meaning() {
        use serde_json::json;
        let call = || Some(Evidence::Found(CallId::parse("CA1").unwrap()));
        let says_now = |json| says(json, -100, 10, 10);
        let answered =
            |status: u16, body: &str| json!({"state": "answered", "status": status, "body": body});
        assert_eq!(says_now(answered(200, r#"{"call_id":"CA1"}"#)), call());
        assert!(matches!(
            says_now(answered(400, r#"{"detail":"Invalid phone number"}"#)),
            Some(Evidence::Refused(_))
        ));
        assert_eq!(says_now(answered(500, r#"{"detail":"x"}"#)), None);
        assert_eq!(says_now(json!({"state": "unknown"})), None);
        assert_eq!(
            says_now(json!({"state": "unknown", "call_id": "CA1"})),
            call()
        );
        assert_eq!(says_now(json!({"state": "open"})), Some(Evidence::Nothing));
    }

    #[test]
    fn unseen_is_certain_only_with_a_whole_journal_and_both_clocks_on_one_side() {
        let unseen = || serde_json::json!({"state": "unseen"});
        let never = Some(Evidence::NeverTaken);
        assert_eq!(says(unseen(), -100, 10, 10), never);
        assert_eq!(
            says(unseen(), 5, 10, 10),
            None,
            "the journal was begun anew"
        );
        assert_eq!(says(unseen(), -100, 61, 61), never);
        assert_eq!(says(unseen(), -100, 50, 61), None, "its clock is behind");
    }
}
