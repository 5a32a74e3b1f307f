//! `voice.svc.callers.get`: earlier calls with one person.

use serde_json::{Value, json};
use voicebus::bus::service::{self, CallerQuery};
use voicebus::domain::event::Change;
use voicebus::domain::phone::E164;

use super::calls::with_router;
use super::{Stage, call};
use crate::harness::within;

const SUBJECT: &str = "voice.svc.callers.get";

/// What the service says, or the code and the sentence that it refuses with.
async fn asked(stage: &Stage, query: &str) -> Result<Value, (String, String)> {
    let client = stage.bus.connection().client();
    let answer = within("answer", client.request(SUBJECT, query.to_owned().into()))
        .await
        .unwrap();
    let header = |name| Some(answer.headers.as_ref()?.get(name)?.as_str().to_owned());
    match header("Nats-Service-Error-Code") {
        Some(code) => Err((code, header("Nats-Service-Error").unwrap())),
        None => Ok(serde_json::from_slice(&answer.payload).unwrap()),
    }
}

#[tokio::test]
async fn earlier_calls_with_one_person_are_found_by_number_and_by_call() {
    let stage = Stage::set().await;
    let (mut one, mut two, mut other) = (call("CA1"), call("CA2"), call("CA3"));
    let mut withheld = call("CA4");
    other.number = Some(E164::parse("+12015550143").unwrap());
    withheld.number = None;
    for call in [&mut one, &mut two, &mut other, &mut withheld] {
        stage.happens(call, Change::Initiated).await;
    }
    stage.happens(&mut one, Change::Answered).await;
    stage.happens(&mut one, Change::Ended).await;
    let stop = with_router(&stage).await;

    let by_number = asked(&stage, r#"{"number":"+12015550142"}"#).await.unwrap();
    let calls = by_number["calls"].as_array().unwrap();
    let ids: Vec<_> = calls
        .iter()
        .map(|call| call["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["CA2", "CA1"]);
    assert_eq!(calls[1]["direction"], "inbound");
    assert_eq!(calls[1]["end_reason"], "hangup-user");
    assert_eq!(calls[1]["session"], "agent:main:voice:12015550142");
    assert!(calls[1]["seconds"].is_u64() && calls[1]["at"].is_string());
    assert_eq!(calls[0]["seconds"], Value::Null);

    let by_call = asked(&stage, r#"{"call":"CA2"}"#).await.unwrap();
    assert_eq!(by_call["calls"].as_array().unwrap().len(), 1);
    assert_eq!(by_call["calls"][0], calls[1]);
    let one = asked(&stage, r#"{"number":"+12015550142","limit":1}"#).await;
    assert_eq!(one.unwrap()["calls"].as_array().unwrap().len(), 1);
    let none = json!({ "calls": [] });
    assert_eq!(asked(&stage, r#"{"call":"CA4"}"#).await.unwrap(), none);
    assert_eq!(
        asked(&stage, r#"{"number":"+12015550199"}"#).await.unwrap(),
        none
    );

    let query = CallerQuery {
        call: Some("CA2".to_owned()),
        ..CallerQuery::default()
    };
    let typed = service::caller(stage.bus.connection(), &query)
        .await
        .unwrap();
    assert_eq!(typed.calls[0].id, "CA1");
    stop.cancel();
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_without_a_number_in_the_answer() {
    let stage = Stage::set().await;
    let stop = with_router(&stage).await;
    for (query, code) in [
        (r#"{"call":"CA9"}"#, "404"),
        ("", "400"),
        (r#"{"number":"+12015550142","call":"CA1"}"#, "400"),
        (r#"{"number":"2015550142"}"#, "400"),
        (r#"{"number":12015550142}"#, "400"),
        (r#"{"+12015550142":1}"#, "400"),
        ("12015550142", "400"),
    ] {
        let (told, sentence) = asked(&stage, query).await.unwrap_err();
        assert_eq!(told, code, "{query}");
        assert!(!sentence.contains("2015550142"), "{sentence}");
    }
    stop.cancel();
}
