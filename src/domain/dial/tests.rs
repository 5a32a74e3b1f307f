use proptest::prelude::*;

use super::*;
use crate::domain::ids::AgentId;

/// The deadline of the wish, in seconds.
const DEADLINE: i64 = 60;

fn at(second: i64) -> Timestamp {
    Timestamp::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

fn wish(fingerprint: &str) -> Wish {
    Wish {
        fingerprint: fingerprint.to_owned(),
        to: E164::parse("+12015550123").unwrap(),
        session: SessionKey::main(&AgentId::parse("main").unwrap()),
        deadline: at(DEADLINE),
    }
}

fn reason(code: &str) -> Reason {
    Reason::new(code, "because")
}

fn attempt(nonce: &str, second: i64) -> Attempt {
    Attempt {
        nonce: nonce.to_owned(),
        at: at(second),
        calls_before: Vec::new(),
    }
}

fn call(id: &str) -> CallId {
    CallId::parse(id).unwrap()
}

/// One wish and everything that happens to it, one after the other.
#[derive(Default)]
struct Story {
    record: Option<Record>,
}

impl Story {
    fn happens(&mut self, second: i64, happened: Happened) -> (&'static str, Then) {
        let decision = next(self.record.as_ref(), &happened, at(second));
        if let Some(record) = decision.record {
            self.record = Some(record);
        }
        let state = self
            .record
            .as_ref()
            .map_or("none", |record| record.state.as_str());
        (state, decision.then)
    }

    fn asked(&mut self, second: i64) -> (&'static str, Then) {
        self.happens(second, Happened::Asked(wish("a")))
    }

    fn sent() -> Self {
        let mut story = Self::default();
        assert_eq!(story.asked(0), ("waiting", Then::Prepare));
        let ready = Happened::Ready(attempt("n", 1));
        assert_eq!(story.happens(1, ready), ("sending", Then::Send));
        story
    }

    fn answered(&mut self, second: i64, nonce: &str, meaning: Meaning) -> (&'static str, Then) {
        let nonce = nonce.to_owned();
        self.happens(second, Happened::Answered { nonce, meaning })
    }
}

#[test]
fn a_wish_is_sent_once_and_told_as_often_as_it_comes() {
    let mut story = Story::sent();
    assert_eq!(story.asked(2), ("sending", Then::ComeAgain));
    let placed = Meaning::Placed(call("CA1"));
    assert_eq!(
        story.answered(3, "n", placed.clone()),
        ("confirmed", Then::Tell)
    );
    for second in [4, 400, 400_000] {
        assert_eq!(story.asked(second), ("confirmed", Then::Tell));
        let ready = Happened::Ready(attempt("m", second));
        assert_eq!(story.happens(second, ready), ("confirmed", Then::Tell));
    }
}

#[test]
fn a_wish_found_sending_is_looked_for_and_never_sent() {
    let mut story = Story::sent();
    assert_eq!(story.asked(20), ("sending", Then::ComeAgain));
    assert_eq!(story.asked(21), ("unknown", Then::Look));
    let nothing = || Happened::Looked(Evidence::Nothing);
    assert_eq!(
        story.happens(22, nothing()),
        ("unknown", Then::TellAndLookAgain)
    );
    assert_eq!(story.asked(30), ("unknown", Then::Look));
    let found = Happened::Looked(Evidence::Found(call("CA1")));
    assert_eq!(story.happens(31, found), ("confirmed", Then::Tell));
}

#[test]
fn a_clock_that_was_set_back_keeps_nothing_sending_for_ever() {
    let mut story = Story::sent();
    assert_eq!(story.asked(-86_400), ("unknown", Then::Look));
    let nothing = Happened::Looked(Evidence::Nothing);
    assert_eq!(story.happens(-86_400, nothing), ("unknown", Then::Tell));
}

#[test]
fn what_cannot_be_found_stands_before_a_person() {
    let mut story = Story::sent();
    let lost = Meaning::Unknown(reason("answer-lost"));
    assert_eq!(story.answered(2, "n", lost), ("unknown", Then::Look));
    let nothing = || Happened::Looked(Evidence::Nothing);
    assert_eq!(
        story.happens(75, nothing()),
        ("unknown", Then::TellAndLookAgain)
    );
    assert!(story.record.as_ref().unwrap().state.holds_number());
    assert_eq!(story.happens(76, nothing()), ("unknown", Then::Tell));
    assert!(!story.record.as_ref().unwrap().state.holds_number());
    assert_eq!(story.asked(80), ("unknown", Then::Tell));
    let abandoned = Resolution::Abandoned(reason("by-hand"));
    assert_eq!(
        story.happens(90, Happened::Resolved(abandoned)),
        ("abandoned", Then::Tell)
    );
    let late = Meaning::Placed(call("CA1"));
    assert_eq!(story.answered(91, "n", late), ("abandoned", Then::Tell));
}

#[test]
fn a_person_decides_only_what_is_unknown() {
    let confirmed = || Happened::Resolved(Resolution::Confirmed(call("CA9")));
    let mut story = Story::default();
    assert_eq!(story.happens(0, confirmed()), ("none", Then::Nothing));
    story.asked(0);
    assert_eq!(story.happens(1, confirmed()), ("waiting", Then::Nothing));
    let mut story = Story::sent();
    assert_eq!(story.happens(2, confirmed()), ("sending", Then::Nothing));
    story.answered(3, "n", Meaning::Unknown(reason("lost")));
    assert_eq!(story.happens(4, confirmed()), ("confirmed", Then::Tell));
}

#[test]
fn only_what_has_not_left_can_be_taken_back() {
    let mut story = Story::default();
    assert_eq!(
        story.happens(0, Happened::Cancelled),
        ("cancelled", Then::Nothing)
    );
    assert_eq!(story.asked(1), ("cancelled", Then::Tell));

    let mut story = Story::default();
    story.asked(0);
    assert_eq!(
        story.happens(1, Happened::Cancelled),
        ("cancelled", Then::Tell)
    );
    let ready = Happened::Ready(attempt("n", 2));
    assert_eq!(story.happens(2, ready), ("cancelled", Then::Tell));

    let mut story = Story::sent();
    assert_eq!(
        story.happens(2, Happened::Cancelled),
        ("sending", Then::ComeAgain)
    );
    story.answered(3, "n", Meaning::Unknown(reason("lost")));
    story.happens(80, Happened::Looked(Evidence::Nothing));
    assert_eq!(
        story.happens(81, Happened::Cancelled),
        ("unknown", Then::Nothing)
    );
}

#[test]
fn another_wish_of_the_same_name_changes_nothing() {
    let mut story = Story::sent();
    let before = story.record.clone();
    let other = Happened::Asked(wish("b"));
    assert_eq!(story.happens(2, other), ("sending", Then::Conflict));
    assert_eq!(story.record, before);
}

#[test]
fn nothing_is_sent_after_the_deadline() {
    let mut late = Story::default();
    assert_eq!(late.asked(DEADLINE), ("expired", Then::Tell));
    for happened in [
        Happened::Ready(attempt("n", DEADLINE)),
        Happened::HeldUp(reason("server-away")),
        Happened::Asked(wish("a")),
    ] {
        let mut story = Story::default();
        story.asked(0);
        assert_eq!(story.happens(DEADLINE, happened), ("expired", Then::Tell));
    }
    let mut story = Story::sent();
    let not_sent = Happened::NotSent {
        nonce: "n".to_owned(),
        reason: reason("refused"),
    };
    assert_eq!(story.happens(DEADLINE, not_sent), ("expired", Then::Tell));
}

#[test]
fn only_the_attempt_itself_can_say_that_it_did_not_leave() {
    let mut story = Story::sent();
    let not_sent = |nonce: &str| Happened::NotSent {
        nonce: nonce.to_owned(),
        reason: reason("refused"),
    };
    assert_eq!(
        story.happens(2, not_sent("m")),
        ("sending", Then::ComeAgain)
    );
    assert_eq!(
        story.happens(3, not_sent("n")),
        ("waiting", Then::ComeAgain)
    );
    let ready = Happened::Ready(attempt("o", 4));
    assert_eq!(story.happens(4, ready), ("sending", Then::Send));
    assert_eq!(
        story.happens(5, not_sent("n")),
        ("sending", Then::ComeAgain)
    );
    let refused = Meaning::Refused(reason("bad-number"));
    assert_eq!(
        story.answered(6, "n", refused.clone()),
        ("sending", Then::ComeAgain)
    );
    assert_eq!(story.answered(7, "o", refused), ("refused", Then::Tell));
}

#[test]
fn a_guard_refuses_before_anything_is_sent_and_never_after() {
    let forbidden = || Happened::Forbidden {
        reason: reason("quiet-hours"),
        passes_at: Some(at(3_600)),
    };
    let mut story = Story::default();
    story.asked(0);
    assert_eq!(story.happens(1, forbidden()), ("refused", Then::Tell));
    let mut story = Story::sent();
    assert_eq!(story.happens(2, forbidden()), ("sending", Then::ComeAgain));
}

/// What a worker has in hand: the record as it read it, and what it may do next.
#[derive(Debug, Clone, Default)]
struct Worker {
    read: Option<(Option<Record>, u64)>,
    may: May,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum May {
    #[default]
    Nothing,
    Prepare,
    Send(String),
    /// It has sent, and this is what comes of it.
    Tell(Happened),
    Look,
}

/// One thing that happens next, to one of the workers.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Deliver,
    GoOn(Fate),
    Die,
    Wait(u8),
    Cancel,
    Resolve,
    GiveUp,
}

/// How what is tried turns out.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Good,
    Refused,
    /// It happens, and the word of it is lost.
    Lost,
    /// It does not happen, certainly.
    NotSent,
}

/// Workers that race for one record at a server that keeps no account: every request that reaches
/// it rings.
#[derive(Debug, Default)]
struct World {
    record: Option<Record>,
    revision: u64,
    second: i64,
    rings: u32,
    sent_late: u32,
    attempts: u32,
    workers: [Worker; 3],
    told: Vec<Status>,
}

impl World {
    fn does(&mut self, who: usize, deed: Deed) {
        match deed {
            Deed::Wait(seconds) => self.second += i64::from(seconds),
            Deed::Die => self.workers[who] = Worker::default(),
            Deed::Deliver => {
                self.read(who);
                self.happens(who, &Happened::Asked(wish("a")));
            }
            Deed::Cancel => {
                self.read(who);
                self.happens(who, &Happened::Cancelled);
            }
            Deed::Resolve => {
                self.read(who);
                let abandoned = Resolution::Abandoned(reason("by-hand"));
                self.happens(who, &Happened::Resolved(abandoned));
            }
            Deed::GiveUp => {
                self.read(who);
                self.happens(who, &Happened::GivenUp(reason("exhausted")));
            }
            Deed::GoOn(fate) => self.goes_on(who, fate),
        }
    }

    fn read(&mut self, who: usize) {
        self.workers[who].read = Some((self.record.clone(), self.revision));
    }

    fn goes_on(&mut self, who: usize, fate: Fate) {
        match std::mem::take(&mut self.workers[who].may) {
            May::Nothing => {}
            May::Prepare => {
                self.attempts += 1;
                let happened = match fate {
                    Fate::Good | Fate::Lost => {
                        let nonce = format!("n{}", self.attempts);
                        Happened::Ready(attempt(&nonce, self.second))
                    }
                    Fate::NotSent => Happened::HeldUp(reason("server-away")),
                    Fate::Refused => Happened::Forbidden {
                        reason: reason("guard"),
                        passes_at: None,
                    },
                };
                self.happens(who, &happened);
            }
            May::Send(nonce) => {
                let meaning = match fate {
                    Fate::NotSent => {
                        let reason = reason("no-connection");
                        self.workers[who].may = May::Tell(Happened::NotSent { nonce, reason });
                        return;
                    }
                    Fate::Good => {
                        self.rings += 1;
                        Meaning::Placed(call("CA1"))
                    }
                    Fate::Lost => {
                        self.rings += 1;
                        Meaning::Unknown(reason("lost"))
                    }
                    Fate::Refused => Meaning::Refused(reason("no-number")),
                };
                self.workers[who].may = May::Tell(Happened::Answered { nonce, meaning });
            }
            May::Tell(happened) => self.happens(who, &happened),
            May::Look => {
                let evidence = match fate {
                    Fate::Good if self.rings > 0 => Evidence::Found(call("CA1")),
                    _ => Evidence::Nothing,
                };
                self.happens(who, &Happened::Looked(evidence));
            }
        }
    }

    /// Decides on what the worker has read, and stores by compare-and-swap; who is too late reads
    /// again and says the same again.
    fn happens(&mut self, who: usize, happened: &Happened) {
        loop {
            let Some((read, revision)) = self.workers[who].read.clone() else {
                return;
            };
            let decision = next(read.as_ref(), happened, at(self.second));
            if let Some(record) = decision.record {
                if revision != self.revision {
                    self.read(who);
                    continue;
                }
                self.store(record);
                self.read(who);
            }
            self.then(who, decision.then);
            return;
        }
    }

    fn store(&mut self, record: Record) {
        if let Some(before) = &self.record {
            assert!(
                !before.state.is_final(),
                "an end was changed: {before:?} to {record:?}"
            );
            let is_first = |wish: &Wish| Some(wish) == record.wish.as_ref();
            assert!(before.wish.as_ref().is_none_or(is_first));
        }
        self.record = Some(record);
        self.revision += 1;
    }

    fn then(&mut self, who: usize, then: Then) {
        let state = self.record.as_ref().map(|record| record.state.clone());
        self.workers[who].may = match then {
            Then::Prepare => May::Prepare,
            Then::Send => {
                self.sent_late += u32::from(self.second >= DEADLINE);
                let Some(State::Sending(attempt)) = &state else {
                    panic!("sent without a record: {state:?}");
                };
                May::Send(attempt.nonce.clone())
            }
            Then::Look => May::Look,
            Then::Tell | Then::TellAndLookAgain => {
                self.told.extend(state.map(|state| state.status()));
                May::Nothing
            }
            Then::ComeAgain | Then::Conflict | Then::Nothing => May::Nothing,
        };
    }

    /// What is left of it: the command comes again and again, to a worker that lives.
    fn comes_to_rest(&mut self) -> bool {
        for who in 1..self.workers.len() {
            self.workers[who] = Worker::default();
        }
        let started = self.second;
        while self.second - started <= 120 {
            self.does(0, Deed::Deliver);
            for _ in 0..4 {
                self.does(0, Deed::GoOn(Fate::Lost));
            }
            let state = self.record.as_ref().map(|record| record.state.clone());
            if matches!(&state, Some(state) if state.is_final())
                || matches!(state, Some(State::Unknown { settled: true, .. }))
            {
                return true;
            }
            self.second += 5;
        }
        false
    }
}

fn deed() -> impl Strategy<Value = (usize, Deed)> {
    let fate = prop_oneof![
        4 => Just(Fate::Good),
        1 => Just(Fate::Refused),
        2 => Just(Fate::Lost),
        2 => Just(Fate::NotSent),
    ];
    let deed = prop_oneof![
        6 => Just(Deed::Deliver),
        8 => fate.prop_map(Deed::GoOn),
        1 => Just(Deed::Die),
        3 => (0..30_u8).prop_map(Deed::Wait),
        1 => Just(Deed::Cancel),
        1 => Just(Deed::Resolve),
        1 => Just(Deed::GiveUp),
    ];
    (0..3_usize, deed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_happens_the_phone_rings_once_at_most_and_the_wish_comes_to_rest(
        deeds in proptest::collection::vec(deed(), 0..60)
    ) {
        let mut world = World::default();
        for (who, deed) in deeds {
            world.does(who, deed);
            prop_assert!(world.rings <= 1, "rang_once: {world:?}");
            prop_assert_eq!(world.sent_late, 0, "never_late");
        }
        prop_assert!(world.comes_to_rest(), "never_vanishes: {:?}", world);
        prop_assert!(world.rings <= 1, "rang_once at rest: {world:?}");
        let ends = world.told.iter().filter(|status| status.is_final());
        let mut ends: Vec<_> = ends.collect();
        ends.dedup();
        prop_assert!(ends.len() <= 1, "one_end_is_told: {:?}", world.told);
    }
}
