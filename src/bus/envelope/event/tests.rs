use super::*;
use crate::domain::call::{Call, Completed, Phase, Progress};
use crate::domain::command::{Reason, Report, Status, Verb};
use crate::domain::event::Said;
use crate::domain::ids::{AgentId, CallId, EventId, IntentId, SessionKey};
use crate::domain::input::{Direction, End, EndReason, Position, Speaker, Utterance};
use crate::domain::phone::E164;
use crate::domain::session::{Binding, Rule};
use crate::domain::transcript::{self, Hole, Spoken};

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
    call.progress.since = Some(at(-1));
    for number in [1, 2, 5] {
        call.progress.numbers.insert(number);
    }
    call.completed = Some(Completed {
        revision: 1,
        utterances: 1,
    });
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

#[test]
fn a_log_without_a_sender_that_counts_reads_back_too() {
    let mut call = call();
    call.progress = Progress::restore(1, Position::default(), []);
    let log = Log::Call(call);
    let (body, header) = encode_event(&event(Change::Ringing, log.clone()), None).unwrap();
    assert_eq!(header, "2 0 0 - -");
    assert_eq!(decode_event(&body, Some(&header)).unwrap(), log);
}

fn said(text: &str) -> Said {
    Said {
        utterance: Utterance {
            speaker: Speaker::User,
            speaker_label: "user".into(),
            text: text.into(),
            spoken_at: Some(at(3)),
            confidence: None,
        },
        source_sequence: None,
        after_end: false,
        backfilled: false,
    }
}

fn public(change: Change) -> String {
    let (body, _) = encode_event(&event(change, Log::Call(call())), None).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
    serde_json::to_string_pretty(&value).unwrap()
}

/// What subscribers rely on. When this fails, the public contract has changed: raise the number in
/// `dataschema` if a field changed its meaning.
#[test]
fn the_public_form_of_an_event() {
    insta::assert_snapshot!(public(Change::Said(said("Grüß Gott — 你好"))));
}

#[test]
fn the_public_form_of_a_whole_transcript() {
    let late = Said {
        source_sequence: Some(5),
        after_end: true,
        backfilled: true,
        ..said("bye")
    };
    let conversation = transcript::Conversation {
        revision: 1,
        spoken: vec![
            Spoken {
                sequence: 2,
                said: said("hello"),
            },
            Spoken {
                sequence: 4,
                said: late,
            },
        ],
        holes: vec![Hole {
            after: Some(2),
            from: 3,
            to: 4,
        }],
        left_out: 0,
    };
    insta::assert_snapshot!(public(Change::Completed(Box::new(conversation))));
}

#[test]
fn an_utterance_reads_back_from_its_event_and_nothing_else_does() {
    let read = |change| {
        let (body, _) = encode_event(&event(change, Log::Call(call())), None).unwrap();
        decode_spoken(&body).unwrap()
    };
    let (spoken, count) = read(Change::Said(said("hello"))).unwrap();
    assert_eq!((spoken.sequence, count), (3, 1));
    assert_eq!(spoken.said, said("hello"));
    assert_eq!(read(Change::Ended), None);
}

#[test]
fn a_transcript_larger_than_a_message_is_cut_in_the_middle() {
    // Each is some 300 kB, the quotes escaped included.
    let texts: Vec<String> = (0..5)
        .map(|n| format!("{n}{}", "\"".repeat(150_000)))
        .collect();
    let spoken = (1..).zip(&texts).map(|(sequence, text)| Spoken {
        sequence,
        said: said(text),
    });
    let conversation = transcript::Conversation {
        revision: 1,
        spoken: spoken.collect(),
        holes: Vec::new(),
        left_out: 7,
    };
    let change = Change::Completed(Box::new(conversation));
    let (body, _) = encode_event(&event(change, Log::Call(call())), None).unwrap();
    let read: EventEnvelope = serde_json::from_slice(&body).unwrap();
    let conversation = read.data.conversation.unwrap();
    let kept: Vec<u64> = conversation
        .utterances
        .iter()
        .map(|one| one.sequence)
        .collect();
    assert_eq!(kept, [1, 4, 5]);
    assert_eq!(conversation.left_out, 9);
}
