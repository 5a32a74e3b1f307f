//! The rules, one by one.

use super::*;

fn agent() -> AgentId {
    AgentId::parse("main").unwrap()
}

fn id(text: &str) -> CallId {
    CallId::parse(text).unwrap()
}

fn key(text: &str) -> SessionKey {
    SessionKey::parse(text, &agent()).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

fn policy(scope: Scope) -> Policy {
    Policy {
        agent: agent(),
        scope,
        times: Times::default(),
        own_numbers: vec![E164::parse("+15005550006").unwrap()],
    }
}

fn number() -> Party {
    Party::Number(E164::parse("+12015550142").unwrap())
}

fn dial(intent: &str, call: Option<&str>, leg: Option<&str>) -> RecentDial {
    RecentDial {
        intent: Some(IntentId::parse(intent).unwrap()),
        session: key("asked-for"),
        call: call.map(id),
        leg: leg.map(id),
        at: at(0),
    }
}

fn session(call: &str, direction: Direction, facts: &Facts, now: i64) -> Resolution {
    resolve(
        &id(call),
        Some(direction),
        Some(&number()),
        facts,
        &policy(Scope::PerPhone),
        at(now),
    )
}

#[test]
fn the_scope_decides_when_nothing_else_is_known() {
    let facts = Facts::default();
    let of = |scope, party: Option<&Party>| {
        resolve(
            &id("rtc_1"),
            Some(Direction::Inbound),
            party,
            &facts,
            &policy(scope),
            at(0),
        )
        .binding
        .key
        .to_string()
    };
    assert_eq!(
        of(Scope::PerPhone, Some(&number())),
        "agent:main:voice:12015550142"
    );
    assert_eq!(
        of(Scope::PerCall, Some(&number())),
        "agent:main:voice:call:rtc_1"
    );
    assert_eq!(of(Scope::Main, Some(&number())), "agent:main:main");
}

#[test]
fn anonymous_callers_share_no_session() {
    let of = |call| {
        let facts = Facts {
            link: Some(key("linked")),
            ..Facts::default()
        };
        let policy = policy(Scope::PerPhone);
        resolve(
            &id(call),
            Some(Direction::Inbound),
            Some(&Party::Anonymous),
            &facts,
            &policy,
            at(0),
        )
        .binding
    };
    assert_eq!(of("rtc_1").key.as_str(), "agent:main:voice:call:rtc_1");
    assert_ne!(of("rtc_1").key, of("rtc_2").key);
}

#[test]
fn a_link_beats_the_scope() {
    let facts = Facts {
        link: Some(key("linked")),
        ..Facts::default()
    };
    assert_eq!(
        session("rtc_1", Direction::Inbound, &facts, 0).binding,
        Binding {
            key: key("linked"),
            rule: Rule::Link
        }
    );
}

#[test]
fn both_ids_of_an_outbound_call_find_the_session_of_the_dial() {
    let mut facts = Facts {
        dials: vec![dial("i1", None, None)],
        link: Some(key("linked")),
    };
    let first = session("CA1", Direction::Outbound, &facts, 1);
    assert_eq!(
        first.binding,
        Binding {
            key: key("asked-for"),
            rule: Rule::PendingDial
        }
    );
    facts.dials = first.claim.unwrap().perform(facts.dials, at(1));

    let second = session("rtc_1", Direction::Inbound, &facts, 2);
    assert_eq!(
        second.binding,
        Binding {
            key: key("asked-for"),
            rule: Rule::OtherLeg
        }
    );
    assert_eq!(second.other_leg, Some(id("CA1")));
    facts.dials = second.claim.unwrap().perform(facts.dials, at(2));

    // Told again, each finds the same and claims nothing more.
    let again = session("rtc_1", Direction::Inbound, &facts, 3);
    assert_eq!((again.binding.key, again.claim), (key("asked-for"), None));
    assert_eq!(
        session("CA1", Direction::Outbound, &facts, 3).binding.rule,
        Rule::Command
    );

    // The callee calls back: that is another call.
    assert_eq!(
        session("rtc_2", Direction::Inbound, &facts, 4).binding.rule,
        Rule::Link
    );
}

#[test]
fn the_second_leg_may_come_before_anything_is_known_of_the_first() {
    let facts = Facts {
        dials: vec![dial("i1", None, None)],
        link: None,
    };
    let leg = session("rtc_1", Direction::Inbound, &facts, 1);
    assert_eq!(leg.binding.key, key("asked-for"));
    let facts = Facts {
        dials: leg.claim.unwrap().perform(facts.dials, at(1)),
        link: None,
    };
    assert_eq!(
        session("CA1", Direction::Outbound, &facts, 2).binding.key,
        key("asked-for")
    );
}

#[test]
fn an_old_dial_and_two_possible_dials_decide_nothing() {
    let facts = Facts {
        dials: vec![dial("i1", None, None)],
        link: None,
    };
    assert_eq!(
        session("CA1", Direction::Outbound, &facts, 121)
            .binding
            .rule,
        Rule::Scope
    );
    let facts = Facts {
        dials: vec![dial("i1", None, None), dial("i2", None, None)],
        link: None,
    };
    assert_eq!(
        session("CA1", Direction::Outbound, &facts, 1).binding.rule,
        Rule::Scope
    );
}

#[test]
fn a_call_dialled_past_voicebus_is_remembered_for_its_second_leg() {
    let policy = policy(Scope::PerCall);
    let first = resolve(
        &id("CA1"),
        Some(Direction::Outbound),
        Some(&number()),
        &Facts::default(),
        &policy,
        at(0),
    );
    let facts = Facts {
        dials: first.claim.unwrap().perform(vec![], at(0)),
        link: None,
    };
    let second = resolve(
        &id("rtc_1"),
        Some(Direction::Inbound),
        Some(&number()),
        &facts,
        &policy,
        at(1),
    );
    assert_eq!(second.binding.key, first.binding.key);
}

#[test]
fn a_leg_from_our_own_number_belongs_to_the_one_dial_under_way_and_else_to_nobody() {
    let own = Party::Number(E164::parse("+15005550006").unwrap());
    let leg = |dials: Vec<RecentDial>| {
        let facts = Facts { dials, link: None };
        let policy = policy(Scope::PerPhone);
        resolve(
            &id("rtc_1"),
            Some(Direction::Inbound),
            Some(&own),
            &facts,
            &policy,
            at(1),
        )
        .binding
    };
    assert_eq!(leg(vec![dial("i1", None, None)]).key, key("asked-for"));
    let two = leg(vec![dial("i1", None, None), dial("i2", None, None)]);
    assert_eq!(two.key.as_str(), "agent:main:voice:call:rtc_1");
    assert_eq!(leg(vec![]).key.as_str(), "agent:main:voice:call:rtc_1");
}

#[test]
fn the_memory_of_a_number_is_bounded() {
    let mut dials = vec![];
    for n in 0..20 {
        dials = Claim::Dialled(dial(&format!("i{n}"), None, None)).perform(dials, at(0));
    }
    assert_eq!(dials.len(), DIALS_PER_NUMBER_MAX);
}

#[test]
fn a_call_that_names_its_dial_is_told_from_another_to_the_same_number() {
    let dials = vec![
        dial("i1", None, None),
        dial("i2", None, None),
        dial("i3", Some("CA3"), None),
    ];
    let facts = Facts { dials, link: None };
    let resolved = |intent: &str, call: &str, now| {
        let intent = IntentId::parse(intent).unwrap();
        resolve_dial(&id(call), &intent, &facts, now)
    };
    let found = resolved("i2", "CA2", at(0)).unwrap();
    assert_eq!(found.intent.unwrap().as_str(), "i2");
    assert_eq!(found.binding.rule, Rule::Command);
    assert_eq!(found.claim, Some(Claim::Call(1, id("CA2"))));
    assert!(resolved("i3", "CA3", at(0)).is_some(), "again");
    assert_eq!(resolved("i3", "CA4", at(0)), None, "it has another call");
    assert_eq!(resolved("i4", "CA4", at(0)), None, "nobody asked for it");
    assert_eq!(resolved("i1", "CA1", at(100_000)), None, "long ago");
}
