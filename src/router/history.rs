//! Earlier calls with one person, out of what the view has.

use std::collections::HashMap;

use crate::bus::service::{CallView, CallerCall};
use crate::domain::phone::E164;

/// The calls with a number, newest first. The two ids of an outbound call are one call: what its
/// first leg does not tell, which is often its end, is taken from the second.
pub(super) fn calls_with<'a>(
    number: &E164,
    calls: impl Iterator<Item = &'a CallView> + Clone,
    limit: usize,
) -> Vec<CallerCall> {
    let second_legs: HashMap<&str, &CallView> = calls
        .clone()
        .filter(|view| is_second_leg(view))
        .filter_map(|view| Some((view.call.other_leg.as_deref()?, view)))
        .collect();
    let mut with: Vec<CallerCall> = calls
        .filter(|view| view.call.number.as_deref() == Some(number.as_str()))
        .filter(|view| !is_second_leg(view))
        .map(|view| entry(view, second_legs.get(view.call.id.as_str()).copied()))
        .collect();
    with.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.id.cmp(&b.id)));
    with.truncate(limit);
    with
}

/// The second id of an outbound call arrives as a call from somebody.
pub(super) fn is_second_leg(view: &CallView) -> bool {
    view.call.direction.as_deref() == Some("inbound") && view.call.other_leg.is_some()
}

fn entry(view: &CallView, second: Option<&CallView>) -> CallerCall {
    let ended = [Some(view), second]
        .into_iter()
        .flatten()
        .find(|leg| leg.call.state == "ended");
    let teller = ended.unwrap_or(view);
    let call = &view.call;
    let spoken = (teller.call.utterances > 0).then_some(teller.call.initiated_at);
    let connected = teller.call.answered_at.or(spoken.flatten());
    let length = teller.call.ended_at.zip(connected);
    CallerCall {
        id: call.id.clone(),
        direction: call.direction.clone(),
        state: teller.call.state.clone(),
        at: call
            .initiated_at
            .or(call.answered_at)
            .unwrap_or(view.last_at),
        // Two clocks may have told them.
        seconds: length.map(|(ended, connected)| {
            u64::try_from((ended - connected).num_seconds()).unwrap_or(0)
        }),
        end_reason: teller.call.end_reason.clone(),
        session: call.session.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn view(id: &str, minute: u32, more: Value) -> CallView {
        let mut call = json!({
            "id": id, "state": "ended", "direction": "inbound", "number": "+12015550142",
            "session": "agent:main:voice:12015550142", "session_rule": "scope", "utterances": 3,
            "initiated_at": format!("2026-11-22T14:{minute:02}:00Z"),
            "answered_at": format!("2026-11-22T14:{minute:02}:02Z"),
            "ended_at": format!("2026-11-22T14:{minute:02}:32Z"),
            "end_reason": "hangup-user",
            "last_at": format!("2026-11-22T14:{minute:02}:40Z"), "sequence": 5,
        });
        for (name, value) in more.as_object().unwrap() {
            call[name] = value.clone();
        }
        serde_json::from_value(call).unwrap()
    }

    fn with(calls: &[CallView], limit: usize) -> Vec<CallerCall> {
        calls_with(&E164::parse("+12015550142").unwrap(), calls.iter(), limit)
    }

    #[test]
    fn calls_with_a_number_are_told_newest_first_and_no_others() {
        let calls = [
            view("rtc_1", 1, json!({})),
            view("rtc_2", 2, json!({ "number": "+12015550143" })),
            view("rtc_3", 3, json!({ "number": null })),
            view(
                "rtc_4",
                4,
                json!({ "answered_at": null, "utterances": 0, "end_reason": "no-answer" }),
            ),
            view(
                "rtc_5",
                5,
                json!({ "state": "active", "ended_at": null, "end_reason": null }),
            ),
        ];
        let told = with(&calls, 10);
        let ids: Vec<&str> = told.iter().map(|call| call.id.as_str()).collect();
        assert_eq!(ids, ["rtc_5", "rtc_4", "rtc_1"]);
        let lengths: Vec<_> = told.iter().map(|call| call.seconds).collect();
        assert_eq!(lengths, [None, None, Some(30)]);
        assert_eq!(told[1].end_reason.as_deref(), Some("no-answer"));
        assert_eq!(with(&calls, 2).len(), 2);
        let json = serde_json::to_string(&told[0]).unwrap();
        assert!(!json.contains("+1201"), "{json}");
    }

    #[test]
    fn an_outbound_call_is_one_and_its_second_leg_tells_the_end() {
        let calls = [
            view(
                "CA1",
                1,
                json!({ "direction": "outbound", "state": "initiated", "answered_at": null,
                        "ended_at": null, "end_reason": null }),
            ),
            view(
                "rtc_1",
                1,
                json!({ "other_leg": "CA1", "number": "+15005550006" }),
            ),
        ];
        let told = with(&calls, 10);
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].id.as_str(), told[0].seconds), ("CA1", Some(30)));
        assert_eq!(told[0].state, "ended");
        assert_eq!(told[0].direction.as_deref(), Some("outbound"));
    }

    #[test]
    fn words_tell_that_somebody_picked_up() {
        let calls = [view("rtc_1", 1, json!({ "answered_at": null }))];
        assert_eq!(with(&calls, 10)[0].seconds, Some(32));
    }

    #[test]
    fn a_call_that_ended_before_it_was_answered_has_no_length_below_nothing() {
        let calls = [view(
            "rtc_1",
            1,
            json!({ "ended_at": "2026-11-22T14:00:00Z" }),
        )];
        assert_eq!(with(&calls, 10)[0].seconds, Some(0));
    }
}
