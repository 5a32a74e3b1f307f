use proptest::prelude::*;

use super::*;
use crate::domain::input::Speaker;

/// How far the real emitter displaces an event.
const DISPLACEMENT_MAX: usize = 12;

fn at(milli: u64) -> Timestamp {
    Timestamp::from_timestamp_millis(1_800_000_000_000 + i64::try_from(milli).unwrap()).unwrap()
}

fn utterance(text: &str, spoken_at: Option<Timestamp>) -> Utterance {
    Utterance {
        speaker: Speaker::User,
        speaker_label: "user".into(),
        text: text.into(),
        spoken_at,
        confidence: None,
    }
}

/// What was said, under the number of its event: text, the sender's number, milliseconds.
fn heard(said: &[(&str, Option<u64>, Option<u64>)]) -> Transcript {
    let spoken = (1u64..).zip(said).map(|(sequence, (text, number, milli))| {
        let said = Said {
            utterance: utterance(text, milli.map(at)),
            source_sequence: *number,
            after_end: false,
            backfilled: false,
        };
        Spoken { sequence, said }
    });
    Transcript {
        spoken: spoken.collect(),
        unread: 0,
    }
}

fn texts(conversation: &Conversation) -> String {
    let texts: Vec<&str> = conversation
        .spoken
        .iter()
        .map(|one| one.said.utterance.text.as_str())
        .collect();
    texts.join(" ")
}

fn ordered(said: &[(&str, Option<u64>, Option<u64>)]) -> String {
    texts(&heard(said).complete(1, &Numbers::default()))
}

#[test]
fn the_senders_numbers_come_first_then_its_clock_then_the_order_of_arrival() {
    assert_eq!(
        ordered(&[("b", Some(2), Some(1)), ("a", Some(1), Some(9))]),
        "a b"
    );
    assert_eq!(
        ordered(&[("b", None, Some(2)), ("a", None, Some(1))]),
        "a b"
    );
    assert_eq!(ordered(&[("b", None, None), ("a", None, None)]), "b a");
    assert_eq!(
        ordered(&[("a", None, Some(5)), ("b", None, Some(5))]),
        "a b"
    );
}

#[test]
fn what_has_no_number_goes_between_those_that_have_one() {
    let mixed = [
        ("hm", None, None),
        ("c", Some(3), Some(30)),
        ("a", Some(1), Some(10)),
        ("after-a", None, None),
        ("b", None, Some(20)),
        ("d", None, Some(40)),
    ];
    assert_eq!(ordered(&mixed), "hm a after-a b c d");
}

#[test]
fn holes_are_named_and_say_what_they_come_after() {
    let mut numbers = Numbers::default();
    for number in [1, 2, 5, 9] {
        numbers.insert(number);
    }
    // 1 and 9 are the beginning and the end of the call.
    let transcript = heard(&[("five", Some(5), None), ("two", Some(2), None)]);
    let conversation = transcript.complete(1, &numbers);
    assert_eq!(texts(&conversation), "two five");
    assert_eq!(
        conversation.holes,
        [
            Hole {
                after: Some(2),
                from: 3,
                to: 4
            },
            Hole {
                after: Some(1),
                from: 6,
                to: 8
            }
        ]
    );
}

fn recorded(text: &str, milli: Option<u64>, before: &[Option<u64>]) -> Recorded {
    Recorded {
        utterance: utterance(text, milli.map(at)),
        before: before.iter().map(|milli| milli.map(at)).collect(),
    }
}

#[test]
fn the_history_is_held_against_what_was_heard_by_text_time_and_count() {
    let call = heard(&[
        ("yes", None, Some(0)),
        ("yes", None, Some(60_000)),
        ("no", None, None),
    ]);
    assert!(call.has(&recorded("yes", Some(1), &[])));
    assert!(!call.has(&recorded("yes", Some(2), &[Some(1)])));
    assert!(call.has(&recorded("yes", Some(59_000), &[])));
    assert!(!call.has(&recorded("yes", Some(30_000), &[])));
    assert!(call.has(&recorded("no", Some(30_000), &[])));
    assert!(!call.has(&recorded("no", None, &[None])));
    assert!(call.has(&recorded("yes", None, &[None])));
    assert!(!call.has(&recorded("yes", None, &[Some(30_000)])));
    let mut agent = recorded("yes", Some(0), &[]);
    agent.utterance.speaker = Speaker::Agent;
    assert!(!call.has(&agent));
}

#[test]
fn like_utterances_are_told_where_they_could_be_taken_for_each_other() {
    let history = [
        utterance("yes", Some(at(0))),
        utterance("no", Some(at(1))),
        utterance("yes", Some(at(9_000))),
        utterance("yes", Some(at(18_000))),
        utterance("yes", Some(at(40_000))),
        utterance("yes", None),
    ];
    let before: Vec<usize> = like_before(&history).iter().map(Vec::len).collect();
    assert_eq!(before, [0, 0, 1, 2, 0, 4]);
}

/// An order of `0..len` in which nothing is more than `reach` places from its turn.
fn displaced(len: usize, reach: usize) -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..=reach, len).prop_map(|leads| {
        let mut keyed: Vec<(usize, usize)> = leads
            .into_iter()
            .enumerate()
            .map(|(index, lead)| (index + lead, index))
            .collect();
        keyed.sort_unstable();
        keyed.into_iter().map(|(_, index)| index).collect()
    })
}

proptest! {
    #[test]
    fn whatever_order_they_come_in_the_conversation_is_the_same(
        order in displaced(40, DISPLACEMENT_MAX),
        numbered in any::<bool>(),
    ) {
        let said: Vec<_> = order
            .iter()
            .map(|place| *place as u64)
            .map(|place| (place, numbered.then_some(place * 2), (!numbered).then_some(place)))
            .map(|(place, number, milli)| (place.to_string(), number, milli))
            .collect();
        let said: Vec<_> = said.iter().map(|(text, n, m)| (text.as_str(), *n, *m)).collect();
        let in_order: Vec<String> = (0..40).map(|place| place.to_string()).collect();
        prop_assert_eq!(ordered(&said), in_order.join(" "));
    }

    #[test]
    fn nothing_is_lost_or_doubled_and_numbers_ascend(
        said in prop::collection::vec(
            (prop::option::of(0u64..20), prop::option::of(0u64..20)), 0..30),
    ) {
        let heard_all = heard(
            &said.iter().map(|(number, milli)| ("x", *number, *milli)).collect::<Vec<_>>());
        let all = heard_all.complete(1, &Numbers::default()).spoken;
        let mut sequences: Vec<u64> = all.iter().map(|one| one.sequence).collect();
        let numbers: Vec<u64> = all.iter().filter_map(|one| one.said.source_sequence).collect();
        prop_assert!(numbers.is_sorted());
        sequences.sort_unstable();
        prop_assert_eq!(sequences, (1..=said.len() as u64).collect::<Vec<_>>());
    }

    /// However much of a history had been heard live, each of its entries is there once after it
    /// was fetched, and fetching it again adds nothing.
    #[test]
    fn a_history_is_filled_in_once(
        history in prop::collection::vec((0usize..2, 0u64..30_000), 0..12),
        heard_of in prop::collection::vec((any::<bool>(), 0u64..50), 12),
    ) {
        let history: Vec<Utterance> = history
            .into_iter()
            .map(|(text, milli)| utterance(["yes", "no"][text], Some(at(milli))))
            .collect();
        let mut call = Transcript::default();
        for (one, (heard, delay)) in history.iter().zip(&heard_of) {
            if *heard {
                let spoken_at = one.spoken_at.map(|at| at + TimeDelta::milliseconds(i64::try_from(*delay).unwrap()));
                let said = Said {
                    utterance: Utterance { spoken_at, ..one.clone() },
                    source_sequence: None,
                    after_end: false,
                    backfilled: false,
                };
                call.spoken.push(Spoken { sequence: call.spoken.len() as u64 + 1, said });
            }
        }
        for round in 0..2 {
            let before = call.spoken.len();
            for (one, before) in history.iter().zip(like_before(&history)) {
                let recorded = Recorded { utterance: one.clone(), before };
                if !call.has(&recorded) {
                    let said = Said {
                        utterance: recorded.utterance,
                        source_sequence: None,
                        after_end: true,
                        backfilled: true,
                    };
                    call.spoken.push(Spoken { sequence: call.spoken.len() as u64 + 1, said });
                }
            }
            prop_assert!(round == 0 || call.spoken.len() == before, "added again");
            prop_assert_eq!(call.spoken.len(), history.len());
        }
    }
}
