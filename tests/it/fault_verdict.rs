//! The judge of the fault suite finds what it is there to find. A suite that never fails because it
//! cannot see would look just like one that holds.

#[path = "../faults/verdict.rs"]
mod verdict;

use std::time::Duration;

use verdict::{Accepted, Committed, Evidence, Heard, Input, Said, judge, longest_stall, slowest};

const CALL: &str = "rtc_1";

fn accepted(said: Said) -> Accepted {
    Accepted {
        call: CALL.to_owned(),
        said,
    }
}

fn text(number: u32) -> String {
    format!("[{CALL} {number}/2] words")
}

fn committed(sequence: u64, what: &str, text: Option<String>) -> Committed {
    Committed {
        id: format!("ev_{sequence}"),
        call: CALL.to_owned(),
        what: what.to_owned(),
        sequence,
        input: (7, 10 * sequence),
        text,
        at: 100 * i128::from(sequence),
    }
}

/// A call as it should be: begun, two utterances, ended, and told twice that it has begun.
fn good() -> Evidence {
    let committed = vec![
        committed(1, "state.initiated", None),
        committed(2, "transcript.user", Some(text(1))),
        committed(3, "transcript.agent", Some(text(2))),
        committed(4, "state.ended", None),
    ];
    let input = |event: &Committed| {
        let (call, at) = (event.call.clone(), event.at - 30);
        (event.input.1, Input { call, at })
    };
    let heard = |event: &Committed| Heard {
        id: event.id.clone(),
        call: event.call.clone(),
        sequence: event.sequence,
        stored_as: event.sequence,
        at: event.at,
    };
    let said = [Said::Started, Said::Started, Said::Text(text(1))];
    let said = said.into_iter().chain([Said::Text(text(2)), Said::Ended]);
    Evidence {
        accepted: said.map(accepted).collect(),
        inputs: committed.iter().map(input).collect(),
        heard: committed.iter().map(heard).collect(),
        committed,
        heard_all: true,
        may_echo: false,
    }
}

/// How much is lost, doubled and out of order.
fn counts(evidence: &Evidence) -> [usize; 3] {
    let verdict = judge(evidence);
    [verdict.lost, verdict.doubled, verdict.disordered].map(|found| found.len())
}

#[test]
fn a_call_as_it_should_be_is_good() {
    assert_eq!(counts(&good()), [0, 0, 0]);
}

#[test]
fn an_event_without_effect_is_lost() {
    for place in 0..4 {
        let mut evidence = good();
        evidence.committed.remove(place);
        evidence.heard.remove(place);
        let [lost, ..] = counts(&evidence);
        assert_eq!(lost, 1, "{place}");
    }
}

#[test]
fn an_effect_that_is_there_twice_is_doubled() {
    for place in 0..4 {
        let mut evidence = good();
        let mut again = evidence.committed[place].clone();
        again.id.push_str("-again");
        again.sequence = 5;
        again.input.1 = 50;
        evidence.committed.push(again);
        let [_, doubled, _] = counts(&evidence);
        assert_eq!(doubled, 1, "{place}");
    }
    let mut evidence = good();
    evidence.committed[3].id = "ev_1".to_owned();
    assert_eq!(judge(&evidence).doubled.len(), 1);
}

#[test]
fn holes_and_other_orders_are_found() {
    let mut swapped = good();
    swapped.committed.swap(1, 2);
    let mut hole = good();
    hole.committed[3].sequence = 5;
    let mut older_input = good();
    older_input.committed[2].input.1 = 20;
    let mut foreign_input = good();
    foreign_input.inputs.remove(&30);
    let mut later_first = good();
    later_first.committed[1].text = Some(text(2));
    later_first.committed[2].text = Some(text(1));
    for (number, evidence) in [swapped, hole, older_input, foreign_input, later_first]
        .iter()
        .enumerate()
    {
        let [_, _, disordered] = counts(evidence);
        assert!(disordered > 0, "{number}");
    }
}

#[test]
fn a_subscriber_hears_each_event_once_in_order_and_only_what_is_stored() {
    let mut twice = good();
    twice.heard.push(twice.heard[3].clone());
    assert_eq!(counts(&twice), [0, 1, 0]);
    twice.may_echo = true;
    assert_eq!(counts(&twice), [0, 0, 0]);
    assert_eq!(judge(&twice).echoes.len(), 1);
    assert!(judge(&twice).is_good());
    twice.heard[4].stored_as = 5;
    assert_eq!(counts(&twice), [0, 1, 0]);
    assert!(!judge(&twice).is_good());
    let mut swapped = good();
    swapped.heard.swap(1, 2);
    assert_eq!(counts(&swapped), [0, 0, 1]);
    let mut phantom = good();
    phantom.heard[3].id = "ev_phantom".to_owned();
    phantom.heard_all = false;
    assert_eq!(counts(&phantom), [1, 0, 0]);
    let mut missed = good();
    missed.heard.remove(1);
    assert_eq!(counts(&missed), [1, 0, 0]);
    missed.heard_all = false;
    assert_eq!(counts(&missed), [0, 0, 0]);
}

#[test]
fn a_stall_is_the_longest_gap_with_both_ends_of_the_load() {
    let stall = |from, to| longest_stall([100, 200, 600].into_iter(), from, to);
    assert_eq!(stall(100, 600), Duration::from_nanos(400));
    assert_eq!(stall(100, 1_500), Duration::from_nanos(900));
    assert_eq!(stall(100, 250), Duration::from_nanos(100));
    assert_eq!(slowest(&good()), Duration::from_nanos(30));
}
