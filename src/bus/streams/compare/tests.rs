use serde_json::json;

use super::*;
use crate::bus::streams::Object;

const DAY: u64 = 86_400_000_000_000;

fn stream(config: Value) -> Wanted {
    Wanted {
        object: Object::stream("S"),
        config,
        is_age_decided: false,
    }
}

fn info(config: Value) -> Value {
    json!({
        "config": config,
        "ts": "2026-11-22T12:00:00Z",
        "state": { "messages": 10, "bytes": 1000, "first_ts": "2026-11-20T12:00:00Z" },
    })
}

#[track_caller]
fn verdict(wanted: Value, found: Value) -> bool {
    let all = differences(&stream(wanted), &info(found));
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].verdict == Verdict::Safe
}

#[test]
fn what_the_server_leaves_out_or_adds_is_no_difference() {
    let wanted = json!({
        "name": "S", "subjects": ["a", "b"], "sealed": false, "mirror": null, "max_age": 0,
        "republish": { "src": "a", "dest": "b" }, "metadata": { "k": "v" },
    });
    let found = json!({
        "name": "S", "subjects": ["b", "a"], "placement": { "cluster": "c" },
        "republish": { "src": "a", "dest": "b", "headers_only": false },
        "metadata": { "k": "v", "_nats.ver": "2.15.1" }, "compression": "none",
    });
    assert_eq!(differences(&stream(wanted), &info(found)), []);
}

#[test]
fn a_limit_may_shrink_only_down_to_what_is_held() {
    assert!(verdict(
        json!({ "max_bytes": 1000 }),
        json!({ "max_bytes": 5000 })
    ));
    assert!(!verdict(
        json!({ "max_bytes": 999 }),
        json!({ "max_bytes": 5000 })
    ));
    assert!(verdict(
        json!({ "max_bytes": -1 }),
        json!({ "max_bytes": 5 })
    ));
    assert!(!verdict(
        json!({ "max_msgs": 9 }),
        json!({ "max_msgs": -1 })
    ));
    assert!(!verdict(
        json!({ "max_msgs_per_subject": 8 }),
        json!({ "max_msgs_per_subject": 16 })
    ));
    assert!(!verdict(
        json!({ "max_msgs_per_subject": 8 }),
        json!({ "max_msgs_per_subject": -1 })
    ));
    assert!(verdict(
        json!({ "max_msgs_per_subject": 16 }),
        json!({ "max_msgs_per_subject": 8 })
    ));
}

#[test]
fn an_age_may_shrink_only_when_nothing_held_is_older() {
    assert!(verdict(
        json!({ "max_age": 3 * DAY }),
        json!({ "max_age": 9 * DAY })
    ));
    assert!(!verdict(
        json!({ "max_age": DAY }),
        json!({ "max_age": 9 * DAY })
    ));
    assert!(!verdict(json!({ "max_age": DAY }), json!({})));
    assert!(verdict(json!({ "max_age": 0 }), json!({ "max_age": DAY })));
}

#[test]
fn an_age_that_somebody_decided_counts_for_what_is_older_too() {
    let mut wanted = stream(json!({ "max_age": DAY }));
    wanted.is_age_decided = true;
    let all = differences(&wanted, &info(json!({ "max_age": 9 * DAY })));
    assert_eq!(all[0].verdict, Verdict::Safe);
    // Nothing else of the stream is freer for that.
    wanted.config = json!({ "max_bytes": 999 });
    let all = differences(&wanted, &info(json!({ "max_bytes": 5000 })));
    assert_ne!(all[0].verdict, Verdict::Safe);
}

#[test]
fn subjects_may_be_added_and_not_taken_away() {
    assert!(verdict(
        json!({ "subjects": ["a", "b"] }),
        json!({ "subjects": ["a"] })
    ));
    assert!(!verdict(
        json!({ "subjects": ["a"] }),
        json!({ "subjects": ["a", "b"] })
    ));
}

#[test]
fn a_transform_does_not_change_when_its_subjects_cannot() {
    let wanted =
        json!({ "subjects": ["c.>"], "subject_transform": { "src": "c.>", "dest": "e.>" } });
    let all = differences(&stream(wanted), &info(json!({ "subjects": ["e.>"] })));
    assert_eq!(all.len(), 2);
    assert!(
        all.iter()
            .all(|difference| difference.verdict != Verdict::Safe)
    );
}

#[test]
fn discard_old_is_safe_only_without_a_limit() {
    let found = json!({ "discard": "new", "max_bytes": 5000 });
    assert!(!verdict(
        json!({ "discard": "old", "max_bytes": 5000 }),
        found.clone()
    ));
    assert!(verdict(
        json!({ "discard": "new" }),
        json!({ "discard": "old" })
    ));
    let both = differences(
        &stream(json!({ "discard": "old", "max_bytes": -1 })),
        &info(found),
    );
    assert!(
        both.iter()
            .all(|difference| difference.verdict == Verdict::Safe)
    );
}

#[test]
fn replicas_grow_and_do_not_shrink() {
    assert!(verdict(
        json!({ "num_replicas": 3 }),
        json!({ "num_replicas": 1 })
    ));
    assert!(!verdict(
        json!({ "num_replicas": 1 }),
        json!({ "num_replicas": 3 })
    ));
}

#[test]
fn what_nobody_thought_of_is_left_to_a_person() {
    assert!(!verdict(
        json!({ "storage": "file" }),
        json!({ "storage": "memory" })
    ));
    assert!(!verdict(json!({ "invented": 1 }), json!({})));
}

#[test]
fn a_consumer_gets_its_one_pending_message_back_and_keeps_its_filter() {
    let wanted = Wanted {
        object: Object::consumer("S", "p0"),
        config: json!({ "max_ack_pending": 1, "filter_subject": "a.>" }),
        is_age_decided: false,
    };
    let found = json!({ "config": { "max_ack_pending": 1000, "filter_subject": "b.>" } });
    let all = differences(&wanted, &found);
    assert_eq!(all.len(), 2);
    for difference in all {
        assert_eq!(
            difference.verdict == Verdict::Safe,
            difference.field == "max_ack_pending"
        );
    }
}
