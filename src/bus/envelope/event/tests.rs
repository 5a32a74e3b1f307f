use super::*;
use crate::domain::ids::{AgentId, EventId, SessionKey};
use crate::domain::input::{Speaker, Utterance};

fn at(second: i64) -> Timestamp {
    Timestamp::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

fn call() -> Call {
    let agent = AgentId::parse("main").unwrap();
    let binding = Binding {
        key: SessionKey::per_phone(&agent, "12015550142"),
        rule: Rule::Scope,
    };
    let mut call = Call::unknown(CallId::parse("rtc_1").unwrap(), binding);
    call.progress = Progress::restore(
        3,
        Position {
            epoch: 5,
            sequence: 77,
        },
        [1, u64::MAX],
    );
    call.phase = Phase::Ended;
    call.direction = Some(Direction::Inbound);
    call.number = Some(E164::parse("+12015550142").unwrap());
    call.initiated_at = Some(at(0));
    call.end = Some((
        at(9),
        End {
            reason: EndReason::HangupUser,
            detail: None,
        },
    ));
    call.utterances = 1;
    call
}

fn event(change: Change, log: Log) -> Event {
    Event {
        id: EventId::parse("ev_0123").unwrap(),
        time: at(4),
        change,
        log,
    }
}

#[test]
fn the_last_event_of_a_log_is_its_state() {
    let log = Log::Call(call());
    let (body, header) = encode_event(&event(Change::Ended, log.clone()), None).unwrap();
    assert_eq!(decode_event(&body, Some(&header)).unwrap(), log);
}

#[test]
fn a_command_reads_back_too() {
    let log = Log::Command(CommandLog {
        progress: Progress::restore(
            2,
            Position {
                epoch: 5,
                sequence: 78,
            },
            [9],
        ),
        report: Report {
            intent: IntentId::parse("i1").unwrap(),
            verb: Verb::Dial,
            session: SessionKey::parse("s", &AgentId::parse("main").unwrap()).unwrap(),
            to: Some(E164::parse("+12015550142").unwrap()),
            call: None,
            status: Status::Refused,
            reason: Some(Reason {
                code: "bad-number".into(),
                text: "no".into(),
            }),
        },
        at: at(4),
    });
    let (body, header) = encode_event(&event(Change::Command, log.clone()), None).unwrap();
    assert_eq!(decode_event(&body, Some(&header)).unwrap(), log);
}

#[test]
fn without_its_bookkeeping_an_event_is_no_state() {
    let (body, _) = encode_event(&event(Change::Ended, Log::Call(call())), None).unwrap();
    assert!(decode_event(&body, None).is_err());
}

/// What subscribers rely on. When this fails, the public contract has changed: raise the number in
/// `dataschema` if a field changed its meaning.
#[test]
fn the_public_form_of_an_event() {
    let said = Said {
        utterance: Utterance {
            speaker: Speaker::User,
            speaker_label: "user".into(),
            text: "Grüß Gott — 你好".into(),
            spoken_at: Some(at(3)),
            confidence: None,
        },
        source_sequence: None,
        after_end: false,
    };
    let (body, _) = encode_event(&event(Change::Said(said), Log::Call(call())), None).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&value).unwrap());
}
