//! The stand-in against the answers which the real servers gave, and its behaviour around a dial.

mod harness;

use serde_json::Value;

use super::*;
use harness::{
    Bridge, cancel, client, dial, eventually, fixtures, get, normal, replay, silent, start,
};

/// The files of captured answers, by the setup of the server they came from.
const CAPTURED: &[(Version, &str)] = &[
    (Version::V1, "v1"),
    (Version::V2, "v2"),
    (Version::V3, "v3"),
];

#[tokio::test]
async fn every_captured_answer_is_given_byte_for_byte() {
    let mut compared = 0;
    for (version, name) in CAPTURED {
        for (setup_name, setup) in [
            ("full", Setup::default()),
            (
                "no-twilio",
                Setup {
                    twilio: false,
                    ..Setup::default()
                },
            ),
            (
                "no-project",
                Setup {
                    project: false,
                    ..Setup::default()
                },
            ),
            (
                "no-caller",
                Setup {
                    own_number: None,
                    ..Setup::default()
                },
            ),
        ] {
            for path in fixtures(&format!("server-{name}-{setup_name}-")) {
                let fixture: Value =
                    serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
                let stand_in = start(StandInConfig {
                    version: *version,
                    setup: setup.clone(),
                    ..silent()
                })
                .await;
                let (status, headers, body) = replay(&stand_in, &fixture).await;
                let (expected, captured) = (&fixture["response"], path.display());
                assert_eq!(status, expected["status"], "{captured}");
                assert_eq!(
                    normal(&body),
                    normal(expected["body"].as_str().unwrap()),
                    "{captured}"
                );
                assert_eq!(headers.get("server").unwrap(), "uvicorn", "{captured}");
                assert_eq!(
                    headers.get("content-type").unwrap(),
                    "application/json",
                    "{captured}"
                );
                assert_eq!(
                    headers.get("content-length").unwrap(),
                    &body.len().to_string(),
                    "{captured}"
                );
                stand_in.stop().await;
                compared += 1;
            }
        }
    }
    assert_eq!(
        compared,
        fixtures("server-").len(),
        "every file must have been compared"
    );
    assert!(compared >= 30, "{compared}");
}

#[tokio::test]
async fn an_address_others_can_reach_is_refused() {
    for addr in ["0.0.0.0:0", "192.0.2.4:8080", "[::]:0"] {
        let config = StandInConfig {
            listen: addr.parse().unwrap(),
            ..silent()
        };
        let error = StandIn::start(config).await.unwrap_err();
        assert!(error.to_string().contains("loopback"), "{error}");
    }
}

#[tokio::test]
async fn v2_announces_both_ids_and_ends_only_the_answering_leg() {
    for (race, event_first) in [(Race::EventFirst, true), (Race::AnswerFirst, false)] {
        let mut bridge = Bridge::start().await;
        let emitter = Some(bridge.emitter());
        let stand_in = start(StandInConfig {
            emitter,
            answer_calls: true,
            transcripts: 3,
            race,
            ..silent()
        })
        .await;
        let answer = dial(&stand_in, r#"{"to":"+1 (201) 555-0125","message":"hi"}"#)
            .await
            .unwrap();
        let arrived = bridge.waiting() > 0;
        let answer: Value = serde_json::from_str(&answer.1).unwrap();
        let mut events = Vec::new();
        while events
            .last()
            .is_none_or(|event: &Value| event["eventType"] != "call_ended")
        {
            events.push(bridge.next().await);
        }
        assert!(arrived || !event_first);
        assert_eq!(events.len(), 6);
        assert_eq!(events[0]["callId"], answer["call_id"]);
        assert_eq!(
            (&events[0]["direction"], &events[0]["phoneNumber"]),
            (&"outbound".into(), &"+12015550125".into())
        );
        let leg = events[1]["callId"].as_str().unwrap();
        assert!(leg.starts_with("rtc_"));
        assert!(events[1..].iter().all(|event| event["callId"] == leg));
        assert_eq!(events[1]["phoneNumber"], "sip:+12015550125@sip.example.com");
        assert_eq!(events[5]["direction"], "inbound");

        let (_, history) = get(&stand_in, &format!("/history/{leg}/transcript")).await;
        let history: Value = serde_json::from_str(&history).unwrap();
        assert_eq!(history["transcript"].as_array().unwrap().len(), 3);
        assert_eq!(history["call_info"]["status"], "completed");
        let (_, own) = get(
            &stand_in,
            &format!("/history/{}", answer["call_id"].as_str().unwrap()),
        )
        .await;
        let own: Value = serde_json::from_str(&own).unwrap();
        assert_eq!(
            (&own["status"], &own["metadata"]["initial_message"]),
            (&"active".into(), &"hi".into())
        );
        stand_in.stop().await;
    }
}

#[tokio::test]
async fn v1_and_v3_send_nothing_and_v3_never_removes_a_call() {
    for version in [Version::V1, Version::V3] {
        let bridge = Bridge::start().await;
        let emitter = Some(bridge.emitter());
        let stand_in = start(StandInConfig {
            version,
            emitter,
            answer_calls: true,
            transcripts: 1,
            ..silent()
        })
        .await;
        assert_eq!(
            dial(&stand_in, r#"{"to":"+12015550123"}"#).await.unwrap().0,
            200
        );
        // v3 has no history; v1 ends the answering leg there.
        let books = if version == Version::V3 {
            "/calls"
        } else {
            "/history"
        };
        eventually(async || get(&stand_in, books).await.1.contains("\"completed\"")).await;
        if version == Version::V3 {
            assert_eq!(
                get(&stand_in, "/history").await,
                (404, r#"{"detail":"Not Found"}"#.to_owned())
            );
        }
        assert_eq!(stand_in.active_calls(), 1);
        assert_eq!(bridge.waiting(), 0);
        stand_in.stop().await;
    }
}

#[tokio::test]
async fn a_dial_is_in_the_record_before_it_is_answered_and_even_when_it_never_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("record.jsonl");
    let record = Some(Recorder::open(&path).unwrap());
    let stand_in = start(StandInConfig { record, ..silent() }).await;
    let lines = || -> Vec<Value> {
        let text = std::fs::read_to_string(&path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };

    // While the answer is held back, the line is there already.
    stand_in.inject(Route::Dial, Fault::Delay(Duration::from_secs(600)));
    tokio::select! {
        _ = dial(&stand_in, r#"{"to":"+12015550123","message":"one"}"#) => panic!("the answer was to be held back"),
        () = eventually(async || lines().len() == 1) => {}
    }
    assert_eq!(
        (&lines()[0]["kind"], &lines()[0]["message"]),
        (&"dial".into(), &"one".into())
    );
    assert_eq!(lines()[0]["intent_id"], "intent-1");
    assert!(lines()[0]["call_id"].as_str().unwrap().starts_with("CA"));
    assert_eq!(stand_in.active_calls(), 0);

    stand_in.inject(Route::Dial, Fault::HangUpAfter);
    assert!(dial(&stand_in, r#"{"to":"+12015550124"}"#).await.is_err());
    assert!(lines()[1]["call_id"].is_string());
    assert_eq!(stand_in.active_calls(), 1);

    stand_in.inject(Route::Dial, Fault::HangUp);
    assert!(dial(&stand_in, r#"{"to":"+12015550125"}"#).await.is_err());
    assert!(lines()[2]["call_id"].is_null());

    stand_in.inject(Route::Dial, Fault::Twilio(Twilio::ResetsAfter));
    assert_eq!(
        dial(&stand_in, r#"{"to":"+12015550126"}"#).await.unwrap().0,
        500
    );
    assert!(lines()[3]["call_id"].is_string(), "the phone rings");
    assert_eq!(stand_in.active_calls(), 1, "and the server does not know");

    assert_eq!(dial(&stand_in, "{}").await.unwrap().0, 422);
    assert!(lines()[4]["to"].is_null());
    let seen = stand_in.calls();
    assert_eq!(seen.len(), 5);
    let statuses: Vec<_> = seen.iter().map(|dial| dial.status).collect();
    assert_eq!(statuses, [Some(200), None, None, Some(500), Some(422)]);
    stand_in.stop().await;
}

#[tokio::test]
async fn a_call_can_be_cancelled_once_and_a_restart_forgets_it() {
    let stand_in = start(silent()).await;
    let id = |answer: &str| {
        serde_json::from_str::<Value>(answer).unwrap()["call_id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let first = id(&dial(&stand_in, r#"{"to":"+12015550123"}"#).await.unwrap().1);
    let second = id(&dial(&stand_in, r#"{"to":"+12015550124"}"#).await.unwrap().1);
    stand_in.inject(
        Route::Cancel,
        Fault::Twilio(Twilio::Refuses { code: 20500 }),
    );
    let (status, body) = cancel(&stand_in, &first).await;
    assert_eq!((status, body.contains("Invalid call state")), (400, true));
    assert_eq!(cancel(&stand_in, &first).await.0, 200);
    assert_eq!(
        cancel(&stand_in, &first).await,
        (404, r#"{"detail":"Call not found"}"#.to_owned())
    );
    eventually(async || get(&stand_in, "/history?limit=1").await.1.contains(&second)).await;
    stand_in.forget_active_calls();
    assert_eq!(
        get(&stand_in, "/calls").await.1,
        r#"{"active_calls":0,"calls":[]}"#
    );
    assert_eq!(cancel(&stand_in, &second).await.0, 404);
    assert_eq!(get(&stand_in, "/history?call_type=inbound").await.1, "[]");
    assert_eq!(get(&stand_in, "/history?limit=101").await.0, 422);
    assert_eq!(
        get(&stand_in, &format!("/history/{second}/audio")).await.1,
        r#"{"detail":"Audio file not found"}"#
    );
    stand_in.stop().await;
}

#[tokio::test]
async fn ids_and_order_follow_from_the_seed() {
    let mut ids = Vec::new();
    for seed in [4, 4, 5] {
        let stand_in = start(StandInConfig { seed, ..silent() }).await;
        ids.push(dial(&stand_in, r#"{"to":"+12015550123"}"#).await.unwrap().1);
        stand_in.stop().await;
    }
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
}

#[tokio::test]
async fn reads_can_fail_too() {
    let stand_in = start(silent()).await;
    stand_in.always(
        Route::Calls,
        Some(Fault::Answer {
            status: 500,
            body: "Internal Server Error".to_owned(),
        }),
    );
    stand_in.inject(Route::Health, Fault::HangUp);
    assert_eq!(
        get(&stand_in, "/calls").await,
        (500, "Internal Server Error".to_owned())
    );
    assert!(
        client()
            .get(format!("{}/health", stand_in.url()))
            .send()
            .await
            .is_err()
    );
    stand_in.always(Route::Calls, None);
    assert_eq!(get(&stand_in, "/calls").await.0, 200);
    assert_eq!(get(&stand_in, "/health").await.0, 200);
    assert_eq!(
        get(&stand_in, "/call").await,
        (405, r#"{"detail":"Method Not Allowed"}"#.to_owned())
    );
    stand_in.stop().await;
}
