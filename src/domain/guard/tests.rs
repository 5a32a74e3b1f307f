use chrono::TimeDelta;
use chrono_tz::Tz;
use proptest::prelude::*;

use super::*;
use crate::domain::ids::{AgentId, IntentId, SessionKey};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

fn number(text: &str) -> E164 {
    E164::parse(text).unwrap()
}

fn intent(number: usize) -> IntentId {
    IntentId::parse(&format!("i-{number}")).unwrap()
}

fn dial(to: &str, caller_id: Option<&str>) -> Dial {
    let agent = AgentId::parse("main").unwrap();
    Dial {
        intent: intent(1),
        to: number(to),
        caller_id: caller_id.map(number),
        message: None,
        context: None,
        session: SessionKey::main(&agent),
        deadline: second(60),
    }
}

/// The guard that refuses, or nothing.
fn verdict(rules: &Rules, to: &str) -> &'static str {
    let checked = rules.check(&dial(to, None), second(0));
    checked.err().map_or("", |refusal| refusal.guard)
}

#[test]
fn what_no_deployment_dials_is_refused_by_its_guard() {
    let rules = Rules::default();
    for (to, guard) in [
        ("+12015550123", ""),
        ("+442079460123", ""),
        ("+390236618300", ""),
        ("+390669812345", ""),
        ("+15005550006", ""),
        ("+18005550199", ""),
        ("+210123456789", "invalid-number"),
        ("+1555123", "invalid-number"),
        ("+12015551", "invalid-number"),
        ("+979123456789", "premium-rate"),
        ("+19005551212", "premium-rate"),
        ("+12019765555", "premium-rate"),
        ("+611900123456", "premium-rate"),
        ("+449098790000", "premium-rate"),
        ("+881612345678", "country-not-allowed"),
        ("+870773111632", "country-not-allowed"),
        ("+80012345678", "country-not-allowed"),
    ] {
        assert_eq!(verdict(&rules, to), guard, "{to}");
    }
}

#[test]
fn a_short_number_behind_a_country_code_is_one_too() {
    // Tonga and Niue have numbers of few digits; their plans decide which are real.
    for to in ["+6834002", "+2901234"] {
        assert_ne!(verdict(&Rules::default(), to), "", "{to}");
    }
}

#[test]
fn places_are_what_the_configuration_says() {
    let rules = Rules {
        places: Places {
            refused_prefixes: vec![Prefix::parse("+1242").unwrap()],
            countries: ["us", "AT", "bs"]
                .map(|text| Country::parse(text).unwrap())
                .into(),
        },
        ..Rules::default()
    };
    assert_eq!(verdict(&rules, "+12015550123"), "");
    assert_eq!(verdict(&rules, "+4312345678"), "");
    assert_eq!(verdict(&rules, "+12423221234"), "refused-prefix");
    assert_eq!(verdict(&rules, "+442079460123"), "country-not-allowed");
    // One country code, another country.
    assert_eq!(verdict(&rules, "+16137827274"), "country-not-allowed");
    for bad in ["", "1", "+", "+0", "+1x", "+1234567890123456"] {
        assert_eq!(Prefix::parse(bad), None, "{bad}");
    }
    for bad in ["", "U", "USA", "ZZ", "00", "é"] {
        assert_eq!(Country::parse(bad), None, "{bad}");
    }
}

#[test]
fn only_our_own_numbers_are_shown_and_none_of_them_is_called() {
    let rules = Rules {
        own_numbers: vec![number("+12015550100")],
        ..Rules::default()
    };
    let checked = |rules: &Rules, to: &str, shown: Option<&str>| {
        let checked = rules.check(&dial(to, shown), second(0));
        checked.err().map_or("", |refusal| refusal.guard)
    };
    let other = "+12015550123";
    assert_eq!(checked(&rules, other, None), "");
    assert_eq!(checked(&rules, other, Some("+12015550100")), "");
    assert_eq!(
        checked(&rules, other, Some("+12015550199")),
        "caller-id-not-ours"
    );
    assert_eq!(checked(&rules, "+12015550100", None), "calls-itself");
    // Without a list the phone-call server decides, but nobody calls the number that is shown.
    let rules = Rules::default();
    assert_eq!(checked(&rules, other, Some("+12015550199")), "");
    assert_eq!(checked(&rules, other, Some(other)), "calls-itself");
}

fn quiet(hours: &str, zones: &[(&str, Tz)]) -> Rules {
    let zones = zones
        .iter()
        .map(|(prefix, zone)| (Prefix::parse(prefix).unwrap(), *zone));
    Rules {
        quiet: Some(Quiet {
            hours: Hours::parse(hours).unwrap(),
            zones: Zones(zones.collect()),
        }),
        ..Rules::default()
    }
}

/// When it passes: `now`, a time, or `never`.
fn passes(rules: &Rules, to: &str, now: &str) -> String {
    match rules.check(&dial(to, None), at(now)) {
        Ok(()) => "now".to_owned(),
        Err(Refusal {
            guard, passes_at, ..
        }) => {
            assert_eq!(guard, "quiet-hours");
            passes_at.map_or("never".to_owned(), |at| at.format("%FT%H:%M").to_string())
        }
    }
}

#[test]
fn it_is_quiet_by_the_clock_of_the_place() {
    let rules = quiet("21:00-08:00", &[]);
    let vienna = "+4312345678";
    assert_eq!(passes(&rules, vienna, "2026-11-22T12:00:00Z"), "now");
    assert_eq!(passes(&rules, vienna, "2026-11-22T19:59:59Z"), "now");
    assert_eq!(
        passes(&rules, vienna, "2026-11-22T20:00:00Z"),
        "2026-11-23T07:00"
    );
    assert_eq!(
        passes(&rules, vienna, "2026-11-23T06:59:59Z"),
        "2026-11-23T07:00"
    );
    assert_eq!(passes(&rules, vienna, "2026-11-23T07:00:00Z"), "now");
    // In summer the same hours are other ones.
    assert_eq!(passes(&rules, vienna, "2026-07-01T06:30:00Z"), "now");
    // Hours that do not go over midnight.
    let lunch = quiet("12:00-13:00", &[]);
    assert_eq!(
        passes(&lunch, vienna, "2026-11-22T11:30:00Z"),
        "2026-11-22T12:00"
    );
    assert_eq!(passes(&lunch, vienna, "2026-11-22T12:00:00Z"), "now");
}

#[test]
fn a_country_of_many_zones_is_quiet_while_one_of_them_is() {
    let rules = quiet("21:00-08:00", &[]);
    let new_jersey = "+12015550123";
    // 09:00 in New York, 04:00 in Honolulu and on Adak.
    assert_eq!(
        passes(&rules, new_jersey, "2026-11-22T14:00:00Z"),
        "2026-11-22T18:00"
    );
    assert_eq!(passes(&rules, new_jersey, "2026-11-22T18:00:00Z"), "now");
    let known = quiet(
        "21:00-08:00",
        &[("+1", Tz::UTC), ("+1201", Tz::America__New_York)],
    );
    assert_eq!(passes(&known, new_jersey, "2026-11-22T14:00:00Z"), "now");
    assert_eq!(
        passes(&known, new_jersey, "2026-11-22T12:59:00Z"),
        "2026-11-22T13:00"
    );
    // Russia reaches over ten hours: between 08:00 and 12:00 there is none that is free everywhere.
    let rules = quiet("12:00-08:00", &[]);
    assert_eq!(
        passes(&rules, "+79161234567", "2026-11-22T14:00:00Z"),
        "never"
    );
}

#[test]
fn an_hour_that_spring_leaves_out_ends_the_quiet_all_the_same() {
    // On 29 March 2026 clocks in Vienna go from 02:00 to 03:00.
    let rules = quiet("21:00-02:30", &[]);
    assert_eq!(
        passes(&rules, "+4312345678", "2026-03-29T00:00:00Z"),
        "2026-03-29T01:00"
    );
}

#[test]
fn hours_that_are_none_are_refused() {
    for bad in [
        "",
        "21:00",
        "21-08",
        "25:00-08:00",
        "08:00-08:00",
        "21:00-08:00-09:00",
    ] {
        assert_eq!(Hours::parse(bad), None, "{bad}");
    }
}

fn limits() -> Limits {
    Limits {
        per_minute: 3,
        per_hour: 5,
        per_day: 8,
        per_number: 2,
        concurrent: 100,
        call_length_max: TimeDelta::minutes(5),
    }
}

/// Takes one dial to a number; the guard that refuses, or nothing.
fn take(budget: &mut Budget, name: usize, number: &str, now: Timestamp) -> Option<Refusal> {
    match budget.take(&intent(name), number, now, &limits()) {
        Ok(next) => {
            *budget = next;
            None
        }
        Err(refusal) => Some(refusal),
    }
}

#[test]
fn each_limit_refuses_and_says_until_when() {
    let mut budget = Budget::default();
    for (name, number) in ["a", "a", "b"].into_iter().enumerate() {
        assert_eq!(take(&mut budget, name, number, second(0)), None);
    }
    let refusal = take(&mut budget, 3, "c", second(1)).unwrap();
    assert_eq!(refusal.guard, "limit-per-minute");
    assert_eq!(refusal.passes_at, Some(second(61)));
    // Of two limits the one that lasts longer is named.
    let refusal = take(&mut budget, 3, "a", second(1)).unwrap();
    assert_eq!(refusal.guard, "limit-per-number");
    assert_eq!(
        take(&mut budget, 3, "c", second(60)).unwrap().guard,
        "limit-per-minute"
    );
    assert_eq!(take(&mut budget, 3, "c", second(61)), None);
    assert_eq!(take(&mut budget, 4, "c", second(122)), None);
    assert_eq!(
        take(&mut budget, 5, "d", second(183)).unwrap().guard,
        "limit-per-hour"
    );
    for (name, after) in [(6, 4000), (7, 4100), (8, 4200)] {
        assert_eq!(
            take(&mut budget, name, "e", second(after)).map(|r| r.guard),
            match name {
                8 => Some("limit-per-number"),
                _ => None,
            }
        );
    }
    assert_eq!(take(&mut budget, 8, "f", second(4300)), None);
    assert_eq!(
        take(&mut budget, 9, "g", second(4400)).unwrap().guard,
        "limit-per-day"
    );
    assert_eq!(take(&mut budget, 9, "g", second(100_000)), None);
    assert!(budget.numbers.len() <= 2, "{budget:?}");
}

#[test]
fn a_wish_is_counted_once_and_given_back_once() {
    let mut budget = Budget::default();
    assert_eq!(take(&mut budget, 1, "a", second(0)), None);
    let once = budget.clone();
    // Its worker was stopped before it dialled; another takes it up.
    assert_eq!(take(&mut budget, 1, "a", second(30)), None);
    assert_eq!(budget, once);
    let back = budget.give_back(&intent(1)).unwrap();
    assert_eq!(back.give_back(&intent(1)), None);
    assert_eq!((back.minute, back.open), (Window::default(), vec![]));
}

#[test]
fn calls_at_once_are_bounded_until_they_end_or_their_time_is_over() {
    let limits = Limits {
        concurrent: 2,
        ..Limits::default()
    };
    let take = |budget: &Budget, name: usize, now| {
        budget.take(&intent(name), &format!("n-{name}"), now, &limits)
    };
    let budget = take(&Budget::default(), 1, second(0)).unwrap();
    let budget = take(&budget, 2, second(10)).unwrap();
    let refusal = take(&budget, 3, second(20)).unwrap_err();
    assert_eq!(refusal.guard, "limit-concurrent");
    assert_eq!(refusal.passes_at, Some(second(300)));
    assert!(take(&budget.without(&[intent(2)]), 3, second(20)).is_ok());
    assert!(take(&budget, 3, second(299)).is_err());
    assert!(take(&budget, 3, second(300)).is_ok());
}

#[test]
fn a_refusal_names_its_time_and_not_the_number() {
    let refusal = Refusal::until(
        "limit-per-hour",
        "5 calls already went out in an hour",
        second(0),
    );
    let reason = Reason::from(refusal);
    assert_eq!(reason.code, "limit-per-hour");
    assert_eq!(
        reason.text,
        "5 calls already went out in an hour; passes at 2027-01-15T08:00:00Z"
    );
}

proptest! {
    /// However dials come, no stretch of time holds more than its bound, and a refused one passes
    /// at the time said and not a moment before.
    #[test]
    fn no_stretch_of_time_holds_more_than_its_bound(
        steps in prop::collection::vec((0_i64..40_000, 0_usize..4), 1..300)
    ) {
        let limits = Limits { call_length_max: TimeDelta::seconds(1), ..limits() };
        let mut budget = Budget::default();
        let mut taken: Vec<(Timestamp, usize)> = Vec::new();
        let mut now = second(0);
        for (name, (pause, to)) in steps.into_iter().enumerate() {
            now += TimeDelta::milliseconds(pause);
            let number = format!("n-{to}");
            match budget.take(&intent(name), &number, now, &limits) {
                Ok(next) => {
                    budget = next;
                    taken.push((now, to));
                }
                Err(refusal) => {
                    let passes_at = refusal.passes_at.unwrap();
                    prop_assert!(passes_at > now);
                    let before = passes_at - TimeDelta::milliseconds(1);
                    prop_assert!(budget.take(&intent(name), &number, before, &limits).is_err());
                    prop_assert!(budget.take(&intent(name), &number, passes_at, &limits).is_ok());
                }
            }
            let within = |length: TimeDelta, to: Option<usize>| {
                let of = |(at, other): &&(Timestamp, usize)| {
                    now - *at <= length && to.is_none_or(|to| to == *other)
                };
                u32::try_from(taken.iter().filter(of).count()).unwrap()
            };
            prop_assert!(within(TimeDelta::minutes(1), None) <= limits.per_minute);
            prop_assert!(within(TimeDelta::hours(1), None) <= limits.per_hour);
            prop_assert!(within(TimeDelta::days(1), None) <= limits.per_day);
            prop_assert!(within(TimeDelta::hours(1), Some(to)) <= limits.per_number);
        }
    }
}
