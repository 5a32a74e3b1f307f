//! What the history is asked for while the call goes on.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use proptest::prelude::*;

use super::*;
use crate::domain::input::Recorded;
use crate::domain::timer::hole_patience;
use crate::domain::transcript::{HISTORY_TOLERANCE, like_before};

fn hole(asked_to: u64, known_to: u64) -> InputKind {
    InputKind::Timer(Timer::Hole { asked_to, known_to })
}

fn hole_timer(asked_to: u64, known_to: u64) -> String {
    format!("rtc_1 Hole {{ asked_to: {asked_to}, known_to: {known_to} }} after 5")
}

impl Story {
    /// An utterance with the sender's number.
    fn hear(&mut self, number: u64, text: &str) -> String {
        let mut input = self.input(said(text));
        input.source_sequence = Some(number);
        self.take(&input)
    }
}

#[test]
fn a_hole_is_asked_about_once_when_it_is_still_there_after_a_while() {
    let mut story = Story::new();
    story.hear(1, "one");
    story.hear(3, "three");
    assert_eq!(story.timers, [hole_timer(0, 3)]);
    story.hear(4, "four");
    // Armed with each event, it would be put off for as long as somebody speaks.
    assert_eq!(story.timers, [""; 0]);
    assert_eq!(story.feed(hole(0, 3)), "waiting");
    assert_eq!(story.asked, Some(Question::History { completes: false }));
    assert_eq!(story.timers, [hole_timer(3, 4)]);

    assert_eq!(story.feed(hole(3, 4)), "waiting");
    assert_eq!(story.asked, None);
    assert_eq!(story.timers, [hole_timer(3, 4)]);
    story.hear(6, "six");
    assert_eq!(story.timers, [""; 0]);
    // The new one may still come by itself.
    assert_eq!(story.feed(hole(3, 4)), "waiting");
    assert_eq!(story.asked, None);
    assert_eq!(story.timers, [hole_timer(3, 6)]);
    assert_eq!(story.feed(hole(3, 6)), "waiting");
    assert_eq!(story.asked, Some(Question::History { completes: false }));
    assert_eq!(story.timers, [hole_timer(6, 6)]);
}

#[test]
fn what_comes_by_itself_is_not_asked_for() {
    let mut story = Story::new();
    story.hear(1, "one");
    story.hear(3, "three");
    story.hear(2, "two");
    assert_eq!(story.feed(hole(0, 3)), "late");
    story.hear(5, "five");
    assert_eq!(story.timers, [hole_timer(0, 5)]);
    story.feed(ended(EndReason::Completed));
    assert_eq!(story.feed(hole(0, 5)), "late");
}

#[test]
fn a_hole_is_waited_for_again_when_its_timer_is_gone() {
    let mut story = Story::new();
    story.hear(1, "one");
    story.hear(3, "three");
    let mut input = story.input(said("of a stream made anew"));
    input.position.epoch = 2;
    story.take(&input);
    assert!(
        story.timers.contains(&hole_timer(0, 3)),
        "{:?}",
        story.timers
    );

    let input = story.input(hole(0, 3));
    let rejection = Rejection {
        code: "exhausted",
        text: String::new(),
    };
    let (_, timers) = reject(story.log.as_ref(), &input, &rejection, 7, &policy());
    story.note(&timers);
    assert!(
        story.timers.contains(&hole_timer(0, 3)),
        "{:?}",
        story.timers
    );
}

#[test]
fn the_history_of_an_old_call_is_asked_rarely() {
    assert_eq!(hole_patience(TimeDelta::zero()), TimeDelta::seconds(5));
    assert_eq!(hole_patience(TimeDelta::seconds(-9)), TimeDelta::seconds(5));
    assert_eq!(hole_patience(TimeDelta::hours(1)), TimeDelta::minutes(3));
    let (mut age, mut times) = (TimeDelta::zero(), 0);
    while age < TimeDelta::hours(12) {
        age += hole_patience(age);
        times += 1;
    }
    assert!((100..150).contains(&times), "{times}");
}

/// The clocks of history and sender are not one: only the numbers tell that it was missing.
#[test]
fn what_was_fetched_and_then_comes_by_itself_is_known_by_its_number() {
    let late = |number, text: &str, milli: i64| {
        let mut story = Story::new();
        story.hear(1, "one");
        story.hear(3, "three");
        let fetched = Recorded {
            utterance: Utterance {
                spoken_at: Some(at(2)),
                ..utterance("yes")
            },
            before: Vec::new(),
        };
        assert_eq!(story.feed(InputKind::Recorded(fetched)), "transcript.user");
        let mut input = story.input(InputKind::Utterance(Utterance {
            spoken_at: Some(at(2) + TimeDelta::milliseconds(milli)),
            ..utterance(text)
        }));
        input.source_sequence = Some(number);
        story.take(&input)
    };
    assert_eq!(late(2, "yes", 1_500), "duplicate");
    assert_eq!(late(2, "no", 1_500), "transcript.user");
    assert_eq!(late(2, "yes", 6_000), "transcript.user");
    // Said after all that had been heard then: another one.
    assert_eq!(late(4, "yes", 1_500), "transcript.user");
    assert_eq!(late(4, "yes", 50), "duplicate");
}

fn utterance(text: &str) -> Utterance {
    match said(text) {
        InputKind::Utterance(utterance) => utterance,
        other => panic!("{other:?}"),
    }
}

/// What becomes of one utterance on its way.
#[derive(Debug, Clone)]
struct Way {
    /// From the one before it, in milliseconds.
    pause: i64,
    /// Whether it is the word that is said again and again; but not within seconds, when nobody
    /// could say which of them is missing.
    is_again: bool,
    /// How long it takes; `None` when it is lost.
    takes: Option<i64>,
    /// How far the history's clock is from the sender's.
    skew: i64,
}

fn way() -> impl Strategy<Value = Way> {
    let takes = prop_oneof![
        6 => (0i64..100).prop_map(Some),
        2 => (0i64..30_000).prop_map(Some),
        2 => Just(None),
    ];
    (300i64..3_000, any::<bool>(), takes, -45i64..=45).prop_map(|(pause, is_again, takes, skew)| {
        Way {
            pause,
            is_again,
            takes,
            skew,
        }
    })
}

/// How far apart the same word is said: two that could be taken for a third lie nearer.
const AGAIN_AFTER: i64 = 3 * 5_000;

/// What was said: in which millisecond, and what became of it.
#[derive(Debug, Clone)]
struct Word {
    at: i64,
    text: String,
    takes: Option<i64>,
    skew: i64,
}

fn spoken(ways: Vec<Way>) -> Vec<Word> {
    let (mut at, mut last) = (0, -AGAIN_AFTER);
    let words = (1..).zip(ways).map(|(number, way)| {
        at += way.pause;
        let again = way.is_again && at - last >= AGAIN_AFTER;
        if again {
            last = at;
        }
        Word {
            at,
            text: if again {
                "yes".to_owned()
            } else {
                format!("word {number}")
            },
            takes: way.takes,
            skew: way.skew,
        }
    });
    words.collect()
}

/// A call whose utterances are on their way, a history that has them all, and a timer.
struct Phone {
    story: Story,
    said: Vec<Word>,
    /// When it fires, and what it was armed with.
    timer: Option<(i64, Timer)>,
    asked_at: Vec<i64>,
    /// What the stream of inputs has from the history, and takes once.
    fetched: BTreeSet<usize>,
}

impl Phone {
    fn instant(milli: i64) -> Timestamp {
        at(0) + TimeDelta::milliseconds(milli)
    }

    fn take(&mut self, now: i64, number: Option<u64>, kind: InputKind) {
        let mut input = self.story.input(kind);
        input.received_at = Self::instant(now);
        input.happened_at = None;
        input.source_sequence = number;
        let known = Known {
            facts: Facts::default(),
            transcript: wanted(self.story.log.as_ref(), &input)
                .transcript
                .then(|| Arc::new(self.story.transcript.clone())),
        };
        let armed = match apply(self.story.log.as_ref(), &input, &known, &policy()) {
            Outcome::Applied { event, timers, .. } => {
                if let Change::Said(said) = &event.change {
                    self.story.transcript.spoken.push(Spoken {
                        sequence: event.log.progress().sequence,
                        said: said.clone(),
                    });
                }
                self.story.log = Some(event.log);
                timers
            }
            Outcome::Waiting { timers, ask } => {
                self.note(now, &timers);
                if let Some(Question::History { completes }) = ask {
                    self.asked_at.push(now);
                    self.fetch(now, completes);
                }
                return;
            }
            Outcome::Duplicate | Outcome::Late => return,
            Outcome::Rejected(rejection) => panic!("{rejection:?}"),
        };
        self.note(now, &armed);
    }

    fn note(&mut self, now: i64, armed: &[Arm]) {
        for arm in armed {
            if matches!(arm.timer, Timer::Hole { .. }) {
                self.timer = Some((now + arm.after.num_milliseconds(), arm.timer));
            }
        }
    }

    /// As egress does it.
    fn fetch(&mut self, now: i64, is_over: bool) {
        let reach = if is_over {
            i64::MAX
        } else {
            now - HISTORY_TOLERANCE.num_milliseconds() - 50
        };
        let history: Vec<Utterance> = self
            .said
            .iter()
            .filter(|word| word.at <= now.min(reach))
            .map(|word| Utterance {
                spoken_at: Some(Self::instant(word.at + word.skew)),
                ..utterance(&word.text)
            })
            .collect();
        let before = like_before(&history);
        for (index, (utterance, before)) in history.into_iter().zip(before).enumerate() {
            if self.fetched.insert(index) {
                self.take(
                    now,
                    None,
                    InputKind::Recorded(Recorded { utterance, before }),
                );
            }
        }
    }
}

fn count<'a>(texts: impl Iterator<Item = &'a str>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for text in texts {
        *counts.entry(text.to_owned()).or_default() += 1;
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever is lost, late or out of order on its way to us: it is told once.
    #[test]
    fn what_is_said_is_told_once_however_it_comes(ways in prop::collection::vec(way(), 1..25)) {
        let said = spoken(ways);
        let mut arrivals: Vec<(i64, Option<usize>)> = said
            .iter()
            .enumerate()
            .filter_map(|(index, word)| Some((word.at + word.takes?, Some(index))))
            .collect();
        arrivals.sort_unstable();
        let over_at = said.last().map_or(0, |word| word.at) + 100_000;
        arrivals.push((over_at, None));
        let mut phone = Phone {
            story: Story::new(),
            said: said.clone(),
            timer: None,
            asked_at: Vec::new(),
            fetched: BTreeSet::new(),
        };
        for (arrives, index) in arrivals {
            while let Some((due, timer)) = phone.timer.filter(|(due, _)| *due <= arrives) {
                phone.timer = None;
                phone.take(due, None, InputKind::Timer(timer));
            }
            if let Some(index) = index {
                let word = &said[index];
                let live = Utterance {
                    spoken_at: Some(Phone::instant(word.at)),
                    ..utterance(&word.text)
                };
                phone.take(arrives, Some(index as u64 + 1), InputKind::Utterance(live));
            }
        }
        let in_all = count(said.iter().map(|word| word.text.as_str()));
        let told = |phone: &Phone| {
            count(phone.story.transcript.spoken.iter().map(|one| one.said.utterance.text.as_str()))
        };
        let so_far = told(&phone);
        for (text, times) in &so_far {
            prop_assert!(*times <= in_all[text], "{text} is told {times} times");
        }
        // While the call goes on, everything is there that lies between two that came.
        let first = said.iter().position(|word| word.takes.is_some());
        let last = said.iter().rposition(|word| word.takes.is_some());
        if let (Some(first), Some(last)) = (first, last) {
            for (text, times) in count(said[first..=last].iter().map(|word| word.text.as_str())) {
                prop_assert!(so_far.get(&text).copied() >= Some(times), "{text} is missing");
            }
        }
        prop_assert!(phone.asked_at.is_sorted_by(|one, next| next - one >= 5_000), "asked too often");
        prop_assert!(phone.asked_at.len() <= said.len(), "asked about more than there is");

        phone.take(over_at, None, ended(EndReason::Completed));
        phone.fetch(over_at, true);
        prop_assert_eq!(told(&phone), in_all);
    }
}
