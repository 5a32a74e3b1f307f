//! Small stories about what a call waits for.

use chrono::TimeDelta;

use super::commands::report;
use super::*;
use crate::domain::call::Numbers;
use crate::domain::command::Status;
use crate::domain::input::Recorded;
use crate::domain::timer::Presence;

const ASK_FIRST: InputKind = InputKind::Timer(Timer::Finalize { filled: false });
const COMPLETE: InputKind = InputKind::Timer(Timer::Finalize { filled: true });

fn silent_since(sequence: u64) -> InputKind {
    InputKind::Timer(Timer::Stale {
        sequence: Some(sequence),
        gone: false,
    })
}

fn gone_since(sequence: u64) -> InputKind {
    InputKind::Timer(Timer::Stale {
        sequence: Some(sequence),
        gone: true,
    })
}

fn spoken_at(text: &str, second: u64) -> InputKind {
    let InputKind::Utterance(utterance) = said(text) else {
        panic!("not said");
    };
    InputKind::Utterance(Utterance {
        spoken_at: Some(at(second)),
        ..utterance
    })
}

fn recorded(text: &str, second: u64) -> InputKind {
    let InputKind::Utterance(utterance) = spoken_at(text, second) else {
        panic!("not said");
    };
    InputKind::Recorded(Recorded {
        utterance,
        before: Vec::new(),
    })
}

fn stale_timer(sequence: u64, after: u64) -> String {
    format!("rtc_1 Stale {{ sequence: Some({sequence}), gone: false }} after {after}")
}

fn finalize_timer(filled: bool, after: u64) -> String {
    format!("rtc_1 Finalize {{ filled: {filled} }} after {after}")
}

#[test]
fn a_call_waits_for_its_silence_from_its_first_event_on_and_no_other_event_arms_that_again() {
    let mut story = Story::new();
    story.feed(inbound("+12015550142"));
    assert_eq!(story.timers, [stale_timer(1, 1800)]);
    for kind in [InputKind::Ringing, InputKind::Answered, said("hello")] {
        story.feed(kind);
        assert_eq!(story.timers, [""; 0]);
    }
    let mut story = Story::new();
    story.feed(ended(EndReason::Completed));
    assert_eq!(story.timers, [finalize_timer(false, 5)]);
}

#[test]
fn a_call_of_a_stream_made_anew_is_waited_for_again() {
    let mut story = Story::new();
    story.feed(said("old"));
    let mut input = story.input(said("new"));
    input.position.epoch = 2;
    story.take(&input);
    assert_eq!(story.timers, [stale_timer(2, 1800)]);
}

#[test]
fn a_call_that_begins_with_a_dead_letter_is_waited_for_too() {
    let mut story = Story::new();
    let input = story.input(InputKind::Ringing);
    let rejection = Rejection {
        code: "x",
        text: String::new(),
    };
    let (_, timers) = reject(None, &input, &rejection, 7, &policy());
    story.note(&timers);
    assert_eq!(story.timers, [stale_timer(1, 1800)]);
}

#[test]
fn a_history_that_is_asked_for_before_the_end_completes_nothing() {
    let mut story = Story::new();
    story.feed(spoken_at("one", 10));
    assert_eq!(story.feed(InputKind::Sync), "waiting");
    assert_eq!(story.asked, Some(Question::History { completes: false }));
}

#[test]
fn a_timer_that_ends_as_a_dead_letter_is_followed_by_another() {
    let mut story = Story::new();
    story.feed(inbound("+12015550142"));
    let input = story.input(silent_since(1));
    let rejection = Rejection {
        code: "exhausted",
        text: String::new(),
    };
    let (_, timers) = reject(story.log.as_ref(), &input, &rejection, 7, &policy());
    story.note(&timers);
    assert_eq!(story.timers, [stale_timer(2, 1800)]);
}

#[test]
fn the_transcript_is_completed_once_in_the_order_of_speech() {
    let mut story = Story::new();
    story.feed(inbound("+12015550142"));
    story.feed(spoken_at("two", 20));
    story.feed(spoken_at("one", 10));
    assert_eq!(story.feed(ended(EndReason::Completed)), "state.ended");
    assert_eq!(story.timers, [finalize_timer(false, 5)]);
    assert_eq!(story.feed(ASK_FIRST), "waiting");
    assert_eq!(story.timers, [finalize_timer(true, 20)]);
    assert_eq!(story.asked, Some(Question::History { completes: true }));
    assert_eq!(story.feed(COMPLETE), "transcript.completed 1: one two");
    assert_eq!(story.timers, [""; 0]);
    assert_eq!(story.feed(COMPLETE), "duplicate");
    assert_eq!(story.feed(ASK_FIRST), "duplicate");
    assert_eq!(story.asked, None);
}

#[test]
fn a_call_in_which_nothing_was_said_is_completed_too() {
    let mut story = Story::new();
    story.feed(ended(EndReason::NoAnswer));
    assert_eq!(story.feed(COMPLETE), "transcript.completed 1: ");
}

#[test]
fn nothing_is_completed_before_the_end() {
    let mut story = Story::new();
    assert_eq!(story.feed(COMPLETE), "late");
    assert_eq!(story.log, None);
    story.feed(said("hello"));
    assert_eq!(story.feed(ASK_FIRST), "late");
    assert_eq!(story.feed(COMPLETE), "late");
}

#[test]
fn words_after_the_completion_come_out_and_make_a_second_one() {
    let mut story = Story::new();
    story.feed(spoken_at("one", 10));
    story.feed(ended(EndReason::Completed));
    story.feed(COMPLETE);
    assert_eq!(story.feed(spoken_at("zero", 5)), "transcript.user");
    assert!(story.transcript.spoken[1].said.after_end);
    assert_eq!(story.timers, [finalize_timer(false, 5)]);
    assert_eq!(story.feed(ASK_FIRST), "waiting");
    assert_eq!(story.feed(COMPLETE), "transcript.completed 2: zero one");
}

#[test]
fn words_of_the_day_after_tomorrow_are_taken_like_any_other() {
    let mut story = Story::new();
    story.feed(ended(EndReason::Completed));
    story.feed(COMPLETE);
    let mut input = story.input(said("late"));
    input.received_at += TimeDelta::days(2);
    assert_eq!(story.take(&input), "transcript.user");
    assert!(story.transcript.spoken[0].said.after_end);
    assert_eq!(story.feed(COMPLETE), "transcript.completed 2: late");
}

#[test]
fn numbers_that_nothing_came_with_are_holes() {
    let mut story = Story::new();
    let mut feed = |kind, number| {
        let mut input = story.input(kind);
        input.source_sequence = Some(number);
        story.take(&input)
    };
    feed(inbound("+12015550142"), 1);
    feed(said("three"), 3);
    feed(said("two"), 2);
    feed(ended(EndReason::Completed), 7);
    assert_eq!(
        story.feed(COMPLETE),
        "transcript.completed 1: two three hole 4-6"
    );
    let holes: Vec<_> = Numbers::holes(&story.call().progress.numbers).collect();
    assert_eq!(holes, [(4, 6)]);
}

#[test]
fn an_utterance_without_a_time_of_its_own_has_that_of_its_event() {
    let mut story = Story::new();
    story.feed(said("hello"));
    let spoken_at = story.transcript.spoken[0].said.utterance.spoken_at;
    assert_eq!(spoken_at, Some(at(1)));
}

#[test]
fn what_the_history_has_more_comes_out_marked_and_once() {
    let mut story = Story::new();
    story.feed(spoken_at("one", 10));
    story.feed(ended(EndReason::Completed));
    story.feed(ASK_FIRST);
    assert_eq!(story.feed(recorded("one", 10)), "duplicate");
    assert_eq!(story.feed(recorded("two", 20)), "transcript.user");
    assert!(story.transcript.spoken[1].said.backfilled);
    assert_eq!(story.timers, [finalize_timer(true, 1)]);
    assert_eq!(story.feed(recorded("two", 20)), "duplicate");
    assert_eq!(story.feed(COMPLETE), "transcript.completed 1: one two");
    assert_eq!(story.feed(recorded("two", 20)), "duplicate");
}

/// A sender of another kind stamps an utterance when it hears of it.
#[test]
fn what_was_fetched_after_the_end_is_known_when_it_comes_late_and_stamped_a_little_later() {
    let mut story = Story::new();
    story.feed(spoken_at("one", 10));
    story.feed(ended(EndReason::Completed));
    assert_eq!(story.feed(recorded("two", 20)), "transcript.user");
    assert_eq!(story.feed(spoken_at("two", 22)), "duplicate");
    assert_eq!(story.feed(spoken_at("two", 40)), "transcript.user");
}

/// While people talk, somebody may say the same again.
#[test]
fn what_was_fetched_before_the_end_is_not_taken_for_what_is_said_after_it() {
    let mut story = Story::new();
    story.feed(spoken_at("one", 10));
    assert_eq!(story.feed(recorded("yes", 20)), "transcript.user");
    assert_eq!(story.feed(spoken_at("yes", 22)), "transcript.user");
    assert_eq!(story.feed(spoken_at("yes", 20)), "duplicate");
}

#[test]
fn a_history_that_is_asked_for_later_makes_a_second_completion_if_it_has_more() {
    let mut story = Story::new();
    story.feed(spoken_at("one", 10));
    story.feed(ended(EndReason::Completed));
    story.feed(COMPLETE);
    assert_eq!(story.feed(InputKind::Sync), "waiting");
    assert_eq!(story.asked, Some(Question::History { completes: true }));
    assert_eq!(story.feed(COMPLETE), "duplicate");
    assert_eq!(story.feed(recorded("two", 20)), "transcript.user");
    assert_eq!(story.feed(COMPLETE), "transcript.completed 2: one two");
}

#[test]
fn a_history_says_nothing_about_the_state_of_a_call() {
    let mut story = Story::new();
    assert_eq!(story.feed(recorded("one", 10)), "transcript.user");
    assert_eq!(story.call().phase, Phase::Unknown);
    story.feed(InputKind::Ringing);
    assert_eq!(story.feed(recorded("two", 20)), "transcript.user");
    assert_eq!(story.call().phase, Phase::Ringing);
}

#[test]
fn what_was_fetched_before_it_came_live_is_a_duplicate_and_what_is_only_alike_is_not() {
    let mut story = Story::new();
    story.feed(InputKind::Answered);
    assert_eq!(story.feed(recorded("yes", 10)), "transcript.user");
    assert_eq!(story.feed(spoken_at("yes", 10)), "duplicate");
    assert_eq!(story.feed(spoken_at("yes", 11)), "transcript.user");
    assert_eq!((story.call().utterances, story.call().backfilled), (2, 1));
}

#[test]
fn without_the_transcript_nothing_is_guessed() {
    let mut story = Story::new();
    story.feed(spoken_at("hello", 1));
    story.feed(recorded("bye", 2));
    story.feed(ended(EndReason::Completed));
    for kind in [recorded("hello", 1), spoken_at("bye", 2), COMPLETE] {
        let input = story.input(kind);
        let outcome = apply(story.log.as_ref(), &input, &Known::default(), &policy());
        assert!(
            matches!(&outcome, Outcome::Rejected(rejection) if rejection.code == "no-transcript"),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_call_that_is_not_silent_is_looked_at_again_later() {
    let mut story = Story::new();
    story.feed(inbound("+12015550142"));
    story.feed(InputKind::Answered);
    assert_eq!(story.feed(silent_since(1)), "waiting");
    assert_eq!(story.timers, [stale_timer(2, 1800)]);
    assert_eq!(story.asked, None);
}

#[test]
fn a_silent_call_ends_only_when_the_server_does_not_have_it() {
    let mut story = Story::new();
    story.feed(InputKind::Answered);
    assert_eq!(story.feed(silent_since(1)), "waiting");
    assert_eq!(story.timers, [stale_timer(1, 1800)]);
    assert_eq!(story.asked, Some(Question::Presence { sequence: 1 }));
    // Present and unknown tell nothing; absent does.
    assert_eq!(Presence::Present.tell(1), None);
    assert_eq!(Presence::Unknown.tell(1), None);
    let gone = InputKind::Timer(Presence::Absent.tell(1).unwrap());
    assert_eq!(gone, gone_since(1));
    assert_eq!(story.feed(gone), "state.ended");
    let (_, end) = story.call().end.clone().unwrap();
    assert_eq!(end.reason, EndReason::Timeout);
    assert_eq!(story.timers, [finalize_timer(false, 5)]);
    assert_eq!(story.feed(silent_since(1)), "late");
}

#[test]
fn a_call_that_spoke_while_the_server_was_asked_goes_on() {
    let mut story = Story::new();
    story.feed(InputKind::Answered);
    story.feed(silent_since(1));
    story.feed(said("still here"));
    assert_eq!(story.feed(gone_since(1)), "waiting");
    assert_eq!(story.timers, [stale_timer(2, 1800)]);
    assert_eq!(story.call().phase, Phase::Active);
}

#[test]
fn a_silent_call_of_half_a_day_ends_without_asking_and_a_talking_one_never() {
    let mut story = Story::new();
    let first = story.input(InputKind::Answered);
    // The sender's clock says yesterday; that counts for nothing.
    let first = Input {
        happened_at: Some(first.received_at - TimeDelta::days(1)),
        ..first
    };
    story.take(&first);
    let mut later = |kind, hours| {
        let mut input = story.input(kind);
        input.received_at = first.received_at + TimeDelta::hours(hours);
        story.take(&input)
    };
    assert_eq!(later(silent_since(1), 11), "waiting");
    assert_eq!(later(silent_since(0), 13), "waiting");
    assert_eq!(later(silent_since(1), 12), "state.ended");
}

#[test]
fn the_end_of_one_leg_has_the_other_looked_at_soon() {
    let mut story = Story::new();
    story.facts.dials = vec![RecentDial {
        intent: None,
        session: SessionKey::main(&agent()),
        call: Some(CallId::parse("CA1").unwrap()),
        leg: None,
        at: at(0),
    }];
    story.feed(inbound("+12015550142"));
    story.feed(ended(EndReason::Completed));
    assert_eq!(
        story.timers,
        [
            finalize_timer(false, 5),
            "CA1 Stale { sequence: None, gone: false } after 60".to_owned()
        ]
    );

    // And the other leg, which counts its silence from then on.
    let mut other = Story::new();
    let end_of_other = InputKind::Timer(Timer::Stale {
        sequence: None,
        gone: false,
    });
    assert_eq!(other.feed(end_of_other.clone()), "late");
    other.feed(InputKind::Ringing);
    assert_eq!(other.feed(end_of_other), "waiting");
    assert_eq!(other.timers, [stale_timer(1, 60)]);
    assert_eq!(other.asked, None);
}

#[test]
fn the_timers_of_a_command_that_took_the_id_mean_nothing() {
    let mut story = Story::new();
    story.feed(report(Status::Accepted));
    assert_eq!(story.feed(silent_since(1)), "late");
    assert_eq!(story.feed(COMPLETE), "late");
}
