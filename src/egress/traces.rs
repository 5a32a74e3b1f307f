//! Traces of a dial at the phone-call server: which of the calls that it knows may be the one that
//! was asked for. Pure: answers in, calls out.
//!
//! The server keeps nothing of ours with a call but the opening words (and those only in the
//! history of v1 and v2). So a call is taken for ours when it goes to the same number, was not
//! there before, and began while our request was on its way; when two are like that, neither is.

use chrono::{DateTime, NaiveDateTime, TimeDelta};

use super::voice_server::Answer;
use super::wire::{CallsListed, HistoryRow};
use crate::domain::Timestamp;
use crate::domain::dial::{ANSWER_TIME_MAX, Attempt};
use crate::domain::ids::CallId;
use crate::domain::phone::E164;

/// How far the clocks of the two may be apart, and a duration be rounded.
const CLOCK_SLACK: TimeDelta = TimeDelta::seconds(2);
/// How long after the request a call of it may begin: a server that was frozen takes it up when it
/// goes on.
const BEGINS_WITHIN: TimeDelta = TimeDelta::seconds(60);
/// Calls remembered from before a dial; to one number there are hardly ever more than a few.
const CALLS_BEFORE_MAX: usize = 64;

/// A call as the server tells of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trace {
    pub call: CallId,
    /// When it began, as far as the server says.
    pub began: Option<Timestamp>,
    /// What it opens with; `None` where that is not told.
    pub message: Option<Option<String>>,
}

/// The outbound calls to a number that `GET /calls` lists; `None` when the answer is none.
pub(super) fn listed(answer: &Answer, to: &E164, now: Timestamp) -> Option<Vec<Trace>> {
    if answer.status != 200 {
        return None;
    }
    let listed: CallsListed = serde_json::from_slice(&answer.body).ok()?;
    let of_number = listed.calls.into_iter().filter(|call| {
        call.kind.as_deref() == Some("outbound") && is_number(call.to.as_deref(), to)
    });
    let traces = of_number.filter_map(|call| {
        let seconds = call.duration.filter(|seconds| seconds.is_finite());
        #[expect(clippy::cast_possible_truncation, reason = "saturates")]
        let lasted =
            seconds.and_then(|seconds| TimeDelta::try_milliseconds((seconds * 1_000.0) as i64));
        Some(Trace {
            call: CallId::parse(call.call_id.as_str()?).ok()?,
            began: lasted.and_then(|lasted| now.checked_sub_signed(lasted)),
            message: None,
        })
    });
    Some(traces.collect())
}

/// The outbound calls to a number that `GET /history` remembers; `None` when the answer is none.
pub(super) fn remembered(answer: &Answer, to: &E164) -> Option<Vec<Trace>> {
    if answer.status != 200 {
        return None;
    }
    let rows: Vec<HistoryRow> = serde_json::from_slice(&answer.body).ok()?;
    let of_number = rows
        .into_iter()
        .filter(|row| is_number(row.callee_number.as_deref(), to));
    let traces = of_number.filter_map(|row| {
        let message = row.metadata.get("initial_message");
        Some(Trace {
            call: CallId::parse(row.call_id.as_str()?).ok()?,
            began: row.started_at.as_deref().and_then(utc),
            message: message.map(|message| message.as_str().map(str::to_owned)),
        })
    });
    Some(traces.collect())
}

/// What is remembered of the calls that were there before a dial.
pub(super) fn before(traces: Vec<Trace>) -> Vec<CallId> {
    let mut traces = traces;
    // The latest are those that could be taken for ours.
    traces.sort_by_key(|trace| std::cmp::Reverse(trace.began));
    traces.truncate(CALLS_BEFORE_MAX);
    traces.into_iter().map(|trace| trace.call).collect()
}

/// The one call that can be the attempt's; `None` when there is none, or more than one.
pub(super) fn of_attempt(
    traces: Vec<Trace>,
    attempt: &Attempt,
    message: Option<&str>,
) -> Option<CallId> {
    let (from, until) = (
        attempt.at - CLOCK_SLACK,
        attempt.at + ANSWER_TIME_MAX + BEGINS_WITHIN,
    );
    let says_other = |trace: &Trace| {
        let said = trace.message.as_ref();
        said.is_some_and(|said| said.as_deref() != message)
    };
    let others: Vec<CallId> = traces
        .iter()
        .filter(|trace| says_other(trace))
        .map(|trace| trace.call.clone())
        .chain(attempt.calls_before.iter().cloned())
        .collect();
    let mut found: Vec<CallId> = traces
        .into_iter()
        .filter(|trace| trace.began.is_some_and(|at| at >= from && at <= until))
        .map(|trace| trace.call)
        .filter(|call| !others.contains(call))
        .collect();
    found.sort();
    found.dedup();
    match found.as_slice() {
        [one] => Some(one.clone()),
        _ => None,
    }
}

/// v1 and v2 pass the number to the carrier as it came, less spaces, dashes and brackets.
fn is_number(told: Option<&str>, to: &E164) -> bool {
    told.is_some_and(|told| told.trim() == to.as_str())
}

fn utc(text: &str) -> Option<Timestamp> {
    if let Ok(zoned) = DateTime::parse_from_rfc3339(text) {
        return Some(zoned.to_utc());
    }
    let naive: NaiveDateTime = text.replacen(' ', "T", 1).parse().ok()?;
    Some(naive.and_utc())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    fn to() -> E164 {
        E164::parse("+12015550123").unwrap()
    }

    fn call(id: &str) -> CallId {
        CallId::parse(id).unwrap()
    }

    fn answer(status: u16, body: &Value) -> Answer {
        Answer {
            status,
            body: serde_json::to_vec(body).unwrap(),
            tapped: false,
        }
    }

    fn attempt(before: &[&str]) -> Attempt {
        Attempt {
            nonce: "n".to_owned(),
            at: at(100),
            calls_before: before.iter().map(|id| call(id)).collect(),
        }
    }

    fn trace(id: &str, second: i64) -> Trace {
        Trace {
            call: call(id),
            began: Some(at(second)),
            message: None,
        }
    }

    #[test]
    fn outbound_calls_to_the_number_are_read_from_the_lists_of_all_versions() {
        let v2 = json!({"active_calls": 3, "calls": [
            {"call_id": "CA1", "type": "outbound", "duration": 12.5, "status": "initiated", "agent": "Nia",
             "to": "+12015550123", "from": "+15005550006", "twilio_status": "unknown"},
            {"call_id": "CA2", "type": "outbound", "duration": 1.0, "to": "+12015550124", "from": "+15005550006"},
            {"call_id": "rtc_1", "type": "outbound", "duration": 1.0, "to": "unknown", "from": "unknown"},
            {"call_id": null, "type": "outbound", "duration": 1.0, "to": "+12015550123"},
            {"call_id": "rtc_2", "type": "inbound", "duration": 1.0, "caller": "+12015550123"},
        ]});
        let traces = listed(&answer(200, &v2), &to(), at(112)).unwrap();
        assert_eq!(traces.len(), 1);
        assert_eq!(traces[0].call, call("CA1"));
        assert_eq!(traces[0].began, Some(at(99) + TimeDelta::milliseconds(500)));
        let v3 = json!({"active_calls": 1, "calls": [
            {"call_id": "CA9", "type": "outbound", "status": "completed", "duration": 3.1,
             "to": "+12015550123", "from": "+15005550006"}]});
        assert_eq!(listed(&answer(200, &v3), &to(), at(0)).unwrap().len(), 1);
        for none in [answer(500, &v2), answer(200, &json!({"detail": "x"}))] {
            assert_eq!(listed(&none, &to(), at(0)), None);
        }
    }

    #[test]
    fn the_history_tells_the_opening_words_as_well() {
        let rows = json!([
            {"call_id": "CA1", "call_type": "outbound", "callee_number": "+12015550123",
             "started_at": "2027-01-15T08:01:40.5", "metadata": {"initial_message": "Hello", "twilio_call_sid": "CA1"}},
            {"call_id": "CA2", "call_type": "outbound", "callee_number": "+12015550123",
             "started_at": "2027-01-15T08:01:40+00:00", "metadata": {"initial_message": null}},
        ]);
        let traces = remembered(&answer(200, &rows), &to()).unwrap();
        assert_eq!(
            traces[0].began,
            Some(at(100) + TimeDelta::milliseconds(500))
        );
        let of = |message| of_attempt(traces.clone(), &attempt(&[]), message);
        assert_eq!(of(Some("Hello")), Some(call("CA1")));
        assert_eq!(of(None), Some(call("CA2")));
        assert_eq!(of(Some("Bye")), None);
        let none = json!({"detail": "Not Found"});
        assert_eq!(remembered(&answer(404, &none), &to()), None);
    }

    #[test]
    fn a_call_is_ours_when_it_is_new_and_began_with_our_request_and_is_the_only_one() {
        let of = |traces: &[Trace]| of_attempt(traces.to_vec(), &attempt(&["CA0"]), None);
        assert_eq!(of(&[trace("CA1", 101)]), Some(call("CA1")));
        assert_eq!(
            of(&[trace("CA1", 101), trace("CA1", 100)]),
            Some(call("CA1"))
        );
        assert_eq!(of(&[trace("CA1", 101), trace("CA2", 102)]), None);
        assert_eq!(of(&[trace("CA0", 101)]), None);
        let other_words = Trace {
            message: Some(Some("Bye".to_owned())),
            ..trace("CA1", 101)
        };
        assert_eq!(of(&[trace("CA1", 101), other_words]), None);
        assert_eq!(of(&[trace("CA1", 90)]), None);
        assert_eq!(of(&[trace("CA1", 200)]), None);
        let timeless = Trace {
            began: None,
            ..trace("CA1", 0)
        };
        assert_eq!(of(&[timeless]), None);
    }

    #[test]
    fn the_latest_calls_are_remembered() {
        let many: Vec<Trace> = (0..100)
            .map(|number| trace(&format!("CA{number}"), number))
            .collect();
        let kept = before(many);
        assert_eq!(kept.len(), CALLS_BEFORE_MAX);
        assert_eq!(kept[0], call("CA99"));
    }
}
