//! What a plan promises, for some plans and for any.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::Value;

use super::*;

#[test]
fn same_seed_same_bytes_and_another_seed_other_calls() {
    let options = Options {
        reorder: 5,
        duplicate_percent: 20.0,
        ..options(20, 6)
    };
    assert_eq!(plan(7, options.clone()), plan(7, options.clone()));
    let ids = |seed| {
        Generator::new(seed, options.clone())
            .call_ids()
            .map(str::to_owned)
            .collect::<BTreeSet<_>>()
    };
    assert!(ids(7).is_disjoint(&ids(8)));
    assert_eq!(ids(7).len(), 20);
}

#[test]
fn one_call_is_a_start_the_utterances_in_order_and_an_end() {
    let events = plan(1, options(1, 3));
    let types: Vec<_> = events
        .iter()
        .map(|event| event.event_type.as_str())
        .collect();
    assert_eq!(
        types,
        [
            "call_started",
            "transcript_update",
            "transcript_update",
            "transcript_update",
            "call_ended"
        ]
    );
    let bodies: Vec<Value> = events
        .iter()
        .map(|event| serde_json::from_slice(&event.body).unwrap())
        .collect();
    let id = &*events[0].call_id;
    assert!(id.starts_with("rtc_"));
    for (index, speaker) in [(1, "user"), (2, "assistant"), (3, "user")] {
        let data = &bodies[index]["data"];
        assert_eq!(data["speaker"], speaker);
        assert!(
            data["content"]
                .as_str()
                .unwrap()
                .starts_with(&format!("[{id} {index}/3] ")),
            "{data}"
        );
    }
    assert_eq!(bodies[0]["phoneNumber"], bodies[4]["phoneNumber"]);
    assert_eq!(bodies[4]["direction"], "inbound");
    assert_eq!(events.iter().filter(|event| event.last).count(), 1);
}

#[test]
fn both_kinds_of_duplicates_occur_and_utterances_are_repeated_byte_for_byte() {
    let events = plan(
        2,
        Options {
            duplicate_percent: 40.0,
            ..options(50, 4)
        },
    );
    let copies = |wanted: Copy| {
        events
            .iter()
            .filter(|event| event.copy == wanted)
            .collect::<Vec<_>>()
    };
    for event in copies(Copy::SameBytes) {
        let same = events
            .iter()
            .filter(|other| other.body == event.body)
            .count();
        assert_eq!(same, 2);
    }
    let renewed = copies(Copy::NewTimestamp);
    assert!(!renewed.is_empty());
    assert!(
        renewed
            .iter()
            .all(|event| event.event_type != EventType::TranscriptUpdate)
    );
    assert!(
        renewed
            .iter()
            .any(|event| event.event_type == EventType::CallStarted)
    );
    assert!(!copies(Copy::SameBytes).is_empty());
}

#[test]
fn events_are_due_at_the_rate() {
    let events = plan(
        3,
        Options {
            rate: 100.0,
            ..options(10, 8)
        },
    );
    assert_eq!(events.len(), 100);
    assert_eq!(events[99].at, Duration::from_millis(990));
    assert!(
        plan(3, options(10, 8))
            .iter()
            .all(|event| event.at == Duration::ZERO)
    );
}

proptest! {
    #[test]
    fn the_plan_keeps_its_promises(
        seed in any::<u64>(), calls in 0usize..12, transcripts in 0usize..9, concurrent in 1usize..5,
        reorder in 0usize..14, duplicate_percent in 0.0f64..60.0,
    ) {
        let concurrent = NonZeroUsize::new(concurrent).unwrap();
        let options = Options { concurrent, reorder, duplicate_percent, rate: 40.0, ..options(calls, transcripts) };
        let events = plan(seed, options);

        let mut by_call: BTreeMap<usize, Vec<&PlannedEvent>> = BTreeMap::new();
        let mut open = BTreeSet::new();
        for event in &events {
            open.insert(event.call);
            prop_assert!(open.len() <= concurrent.get());
            if event.last {
                open.remove(&event.call);
            }
            by_call.entry(event.call).or_default().push(event);
        }
        prop_assert!(open.is_empty());
        prop_assert_eq!(by_call.len(), calls);
        let originals = events.iter().filter(|event| event.copy == Copy::Original);
        let stamps: BTreeSet<_> = originals.clone().map(|event| event.timestamp).collect();
        prop_assert_eq!(stamps.len(), originals.count());

        for sent in by_call.values() {
            let mut emitted: Vec<(usize, &PlannedEvent)> = sent.iter().copied().enumerate().collect();
            emitted.sort_by_key(|(_, event)| (event.sequence, event.copy != Copy::Original));
            for (turn, (place, _)) in emitted.iter().enumerate() {
                prop_assert!(turn.abs_diff(*place) <= reorder);
            }
            let stamps: Vec<_> = emitted.iter().map(|(_, event)| event.timestamp).collect();
            prop_assert!(stamps.is_sorted());
            let sequences: BTreeSet<_> = sent.iter().map(|event| event.sequence).collect();
            prop_assert_eq!(sequences.len(), transcripts + 2);
        }
    }
}

fn options(calls: usize, transcripts: usize) -> Options {
    Options {
        started_at: "2026-11-22T12:32:16.172805".parse().unwrap(),
        calls,
        transcripts,
        concurrent: NonZeroUsize::new(4).unwrap(),
        rate: 0.0,
        reorder: 0,
        duplicate_percent: 0.0,
    }
}
