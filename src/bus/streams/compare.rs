//! Pure: what differs between a wanted and a found configuration, and whether it may be changed on a live system.

use std::cmp::Ordering;

use chrono::{DateTime, TimeDelta};
use serde_json::Value;

use super::Kind;
use super::wanted::Wanted;

/// One field that is not as wanted. A key of the metadata is `metadata.<key>`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Difference {
    pub(super) field: String,
    pub(super) wanted: Value,
    pub(super) found: Value,
    pub(super) verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Safe,
    Blocked(String),
}

/// Only fields that the wanted configuration mentions are looked at: the rest is not ours.
pub(super) fn differences(wanted: &Wanted, info: &Value) -> Vec<Difference> {
    let found = &info["config"];
    let mut all = Vec::new();
    for (field, value) in wanted.config.as_object().into_iter().flatten() {
        match field.as_str() {
            "metadata" => all.extend(metadata(value, &found["metadata"])),
            _ if same(value, &found[field]) => {}
            _ => all.push(Difference {
                verdict: match wanted.object.kind {
                    Kind::Consumer => consumer_verdict(field),
                    Kind::Stream | Kind::Bucket if field == "max_age" && wanted.is_age_decided => {
                        Verdict::Safe
                    }
                    Kind::Stream | Kind::Bucket => stream_verdict(field, &wanted.config, info),
                },
                field: field.clone(),
                wanted: value.clone(),
                found: found[field].clone(),
            }),
        }
    }
    keep_routing_together(&mut all);
    all
}

fn metadata<'a>(wanted: &'a Value, found: &'a Value) -> impl Iterator<Item = Difference> + 'a {
    let keys = wanted.as_object().into_iter().flatten();
    keys.filter(|(key, value)| found[key.as_str()] != **value)
        .map(|(key, value)| Difference {
            field: format!("metadata.{key}"),
            wanted: value.clone(),
            found: found[key.as_str()].clone(),
            verdict: Verdict::Safe,
        })
}

/// A subject list that stays while transform and republish change could send a message round in circles.
fn keep_routing_together(all: &mut [Difference]) {
    let stuck = all
        .iter()
        .any(|difference| difference.field == "subjects" && difference.verdict != Verdict::Safe);
    if !stuck {
        return;
    }
    for difference in all {
        if matches!(difference.field.as_str(), "subject_transform" | "republish") {
            difference.verdict =
                Verdict::Blocked("it goes with `subjects`, which cannot change".to_owned());
        }
    }
}

fn stream_verdict(field: &str, wanted: &Value, info: &Value) -> Verdict {
    let (found, state) = (&info["config"], &info["state"]);
    let (want, have) = (&wanted[field], &found[field]);
    match field {
        "description"
        | "duplicate_window"
        | "max_msg_size"
        | "no_ack"
        | "discard_new_per_subject"
        | "allow_direct"
        | "allow_atomic"
        | "allow_msg_schedules"
        | "allow_msg_ttl"
        | "allow_rollup_hdrs"
        | "subject_transform"
        | "republish" => Verdict::Safe,
        "subjects" => unless(!contains_all(want, have), || {
            "it would no longer take what it takes; move what is stored and the publishers first"
                .to_owned()
        }),
        "discard" => unless(want == "old" && is_limited(wanted), || {
            "it would begin to push out its oldest messages".to_owned()
        }),
        "max_bytes" => unless(exceeds(&state["bytes"], want), || {
            format!(
                "it holds {} bytes, and the oldest would be deleted",
                state["bytes"]
            )
        }),
        "max_msgs" => unless(exceeds(&state["messages"], want), || {
            format!(
                "it holds {} messages, and the oldest would be deleted",
                state["messages"]
            )
        }),
        "max_msgs_per_subject" => unless(
            is_smaller_limit(want, have) && state["messages"] != 0,
            || "it holds messages, and older ones of a subject would be deleted".to_owned(),
        ),
        "max_age" => unless(would_expire(want, info), || {
            format!(
                "it holds messages since {}, and the oldest would be deleted",
                state["first_ts"]
            )
        }),
        "num_replicas" => unless(want.as_u64() < have.as_u64(), || {
            "it would be kept in fewer places; say how many replicas are wanted, or lower it by hand".to_owned()
        }),
        "deny_delete" | "deny_purge" => unless(want != true, cannot),
        _ => Verdict::Blocked(cannot()),
    }
}

fn consumer_verdict(field: &str) -> Verdict {
    match field {
        "description" | "ack_wait" | "max_ack_pending" | "max_deliver" | "headers_only" | "backoff"
        | "inactive_threshold" => Verdict::Safe,
        "filter_subject" | "filter_subjects" => Verdict::Blocked(
            "messages it has already passed over would never be delivered; delete the consumer and provision \
             again, it then reads from the start"
                .to_owned(),
        ),
        _ => Verdict::Blocked(
            "the server cannot change this; delete the consumer and provision again, it then reads from the start"
                .to_owned(),
        ),
    }
}

fn unless(harm: bool, reason: impl FnOnce() -> String) -> Verdict {
    if harm {
        Verdict::Blocked(reason())
    } else {
        Verdict::Safe
    }
}

fn cannot() -> String {
    "the server cannot change this on an existing stream".to_owned()
}

/// Equal as the server sees it: it leaves out what is empty, and the order of subjects means nothing.
fn same(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len() && wanted.iter().all(|value| found.contains(value))
        }
        (Value::Object(wanted), Value::Object(found)) => {
            let mut keys = wanted.keys().chain(found.keys());
            keys.all(|key| same(&at(wanted.get(key)), &at(found.get(key))))
        }
        _ => wanted == found || (is_empty(wanted) && is_empty(found)),
    }
}

fn at(value: Option<&Value>) -> Value {
    value.cloned().unwrap_or(Value::Null)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

fn contains_all(wanted: &Value, found: &Value) -> bool {
    let wanted = wanted.as_array();
    let mut found = found.as_array().into_iter().flatten();
    found.all(|subject| wanted.is_some_and(|wanted| wanted.contains(subject)))
}

fn is_limited(config: &Value) -> bool {
    ["max_bytes", "max_msgs", "max_msgs_per_subject"]
        .iter()
        .any(|limit| as_limit(&config[*limit]).is_some())
}

/// 0 and -1 mean no limit.
fn as_limit(value: &Value) -> Option<u64> {
    value.as_u64().filter(|limit| *limit > 0)
}

fn exceeds(held: &Value, limit: &Value) -> bool {
    as_limit(limit).is_some_and(|limit| held.as_u64().unwrap_or(u64::MAX) > limit)
}

fn is_smaller_limit(wanted: &Value, found: &Value) -> bool {
    let as_size = |value| as_limit(value).unwrap_or(u64::MAX);
    as_size(wanted).cmp(&as_size(found)) == Ordering::Less
}

/// Measured by the server's own clock, which is the one that expires. What cannot be read counts as too old.
fn would_expire(wanted: &Value, info: &Value) -> bool {
    let Some(age_max) = as_limit(wanted) else {
        return false;
    };
    if info["state"]["messages"] == 0 {
        return false;
    }
    let time = |value: &Value| DateTime::parse_from_rfc3339(value.as_str()?).ok();
    match (time(&info["ts"]), time(&info["state"]["first_ts"])) {
        (Some(now), Some(first)) => {
            let age_max = i64::try_from(age_max).map_or(TimeDelta::MAX, TimeDelta::nanoseconds);
            now - first > age_max
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests;
