//! `voicebus call` and `voicebus hangup`.

use std::time::Duration;

use serde_json::Value;
use voicebus::bus::envelope::DialRequest;
use voicebus::bus::subjects::STREAM_CMD;
use voicebus::cli::{Exit, call, calls, hangup};
use voicebus::domain::call::{CommandLog, Log, Progress};
use voicebus::domain::command::{Reason, Report, Status, Verb};
use voicebus::domain::event::{Change, Event};
use voicebus::domain::ids::{AgentId, CallId, EventId, IntentId, SessionKey};
use voicebus::domain::input::Position;

use super::{Stage, args, now};

/// Waits for a command and gives it this outcome, as egress and router would.
async fn answered(stage: &Stage, status: Status, call: Option<&str>, reason: Option<&str>) {
    let (subject, payload) = the_command(stage).await;
    let verb = if subject.contains(".dial.") {
        Verb::Dial
    } else {
        Verb::Hangup
    };
    let asked: Value = serde_json::from_slice(&payload).unwrap();
    let id = asked["intent"].as_str().or(asked["id"].as_str()).unwrap();
    let at = now();
    let event = EventId::parse(&format!("ev_{id}")).unwrap();
    let position = Position {
        epoch: stage.bus.epoch(),
        sequence: 1,
    };
    let report = Report {
        intent: IntentId::parse(id).unwrap(),
        verb,
        session: SessionKey::per_phone(&AgentId::parse("main").unwrap(), "12015550142"),
        to: None,
        call: call.map(|call| CallId::parse(call).unwrap()),
        status,
        reason: reason.map(|text| Reason {
            code: "because".to_owned(),
            text: text.to_owned(),
        }),
    };
    let event = Event {
        time: at,
        change: Change::Command,
        log: Log::Command(CommandLog {
            progress: Progress::default().next(&event, position),
            report,
            at,
        }),
        id: event,
    };
    stage.bus.commit(&event, None, 0).await.unwrap();
}

/// The first command in the stream, when there is one.
async fn the_command(stage: &Stage) -> (String, Vec<u8>) {
    let stream = stage
        .bus
        .connection()
        .jetstream()
        .get_stream(STREAM_CMD)
        .await
        .unwrap();
    for _ in 0..200 {
        if let Ok(message) = stream.get_raw_message(1).await {
            return (message.subject.to_string(), message.payload.to_vec());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nothing was asked");
}

async fn called(stage: &Stage, words: &[&str]) -> (String, Exit) {
    let mut out = Vec::new();
    let exit = call::run(args(&stage.nats, words), &mut out).await.unwrap();
    (String::from_utf8(out).unwrap(), exit)
}

#[tokio::test]
async fn a_confirmed_call_is_told_with_its_id() {
    let stage = Stage::set().await;
    let words = [
        "+12015550142",
        "--message",
        "Grüß Gott",
        "--deadline",
        "30s",
    ];
    let ((text, exit), ()) = tokio::join!(
        called(&stage, &words),
        answered(&stage, Status::Confirmed, Some("CA7"), None)
    );
    assert_eq!(
        text,
        "calling +1•••0142: call CA7 in session agent:main:voice:1•••0142\n"
    );
    assert_eq!(exit, Exit::Fine);
    let (subject, payload) = the_command(&stage).await;
    let request = DialRequest::decode(&payload).unwrap();
    let intent = request.intent.clone().unwrap();
    assert_eq!(subject, format!("voice.cmd.dial.{intent}"));
    assert!(intent.starts_with("i-"), "{intent}");
    assert_eq!(request.message.as_deref(), Some("Grüß Gott"));
    let left = request.deadline.unwrap() - now();
    assert!((1..=30).contains(&left.num_seconds()), "{left}");
}

#[tokio::test]
async fn a_refused_call_is_told_with_its_reason_and_fails() {
    let stage = Stage::set().await;
    let ((json, exit), ()) = tokio::join!(
        called(&stage, &["+12015550142", "--json"]),
        answered(&stage, Status::Refused, None, Some("busy"))
    );
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["status"], "refused");
    assert_eq!(json["command"]["reason"], "busy");
    assert_eq!(exit, Exit::Wrong);
}

#[tokio::test]
async fn a_queued_call_can_be_asked_for_later_as_it_says() {
    let stage = Stage::set().await;
    let (text, exit) = called(&stage, &["+12015550142", "--wait", "300ms"]).await;
    assert_eq!(exit, Exit::Fine);
    let (_, asked_for) = text.split_once("`voicebus calls show ").unwrap();
    let id = asked_for.trim_end().trim_end_matches('`');
    answered(&stage, Status::Unknown, None, Some("no answer")).await;
    let show = args(&stage.nats, &["show", id]);
    let mut out = Vec::new();
    calls::run(show, &mut out).await.unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("status     unknown\n"), "{text}");
}

#[tokio::test]
async fn a_call_is_told_to_end() {
    let stage = Stage::set().await;
    let mut out = Vec::new();
    let (exit, ()) = tokio::join!(
        hangup::run(args(&stage.nats, &["CA7"]), &mut out),
        answered(&stage, Status::Confirmed, Some("CA7"), None)
    );
    assert_eq!(exit.unwrap(), Exit::Fine);
    assert_eq!(String::from_utf8(out).unwrap(), "call CA7 is told to end\n");
    assert_eq!(the_command(&stage).await.0, "voice.cmd.hangup.CA7");
}
