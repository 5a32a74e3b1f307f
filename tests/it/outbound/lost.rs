//! When the answer to a dial is lost: the call is looked for, and never placed again.

use std::time::Duration;

use serde_json::{Value, json};
use voicebus::simulate::{Fault, Race, Route, Setup, StandIn, StandInConfig, Twilio, Version};

use super::{publish, told, up_with_server, up_without_server};
use crate::harness::{Feed, Up, reached_within};

/// The wishes that egress does not know the end of.
pub async fn unresolved(up: &Up) -> Vec<Value> {
    let (code, said) = up.tool(&["call", "unresolved", "--json"]).await;
    assert_eq!(code, 0, "{said}");
    let answer: Value = serde_json::from_str(&said).unwrap();
    answer["intents"].as_array().unwrap().clone()
}

async fn is_confirmed_with_its_call(feed: &Feed, server: &StandIn, intent: &str) {
    let confirmed = feed.hears(intent, "command.confirmed").await;
    let dials = server.calls().into_iter();
    let dials: Vec<_> = dials
        .filter(|dial| dial.intent_id.as_deref() == Some(intent))
        .collect();
    assert_eq!(dials.len(), 1, "{intent}");
    let call = dials[0].call_id.clone().unwrap();
    assert_eq!(confirmed.json["data"]["command"]["call"], *call);
    let initiated = feed.hears(&call, "state.initiated").await;
    assert_eq!(initiated.session(), "agent:main:s");
}

#[tokio::test]
async fn a_call_whose_answer_is_lost_is_found_by_the_event_of_its_beginning() {
    let (up, server) = up_with_server(Race::EventFirst).await;
    let feed = up.observer.feed().await;
    let agent = up.connect("agent").await;
    for (intent, number, fault) in [
        ("swallowed", "+12015550123", Fault::HangUpAfter),
        ("half", "+12015550124", Fault::HalfAnswer),
        (
            "slow",
            "+12015550125",
            Fault::Delay(Duration::from_secs(18)),
        ),
    ] {
        server.inject(Route::Dial, fault);
        let dial = json!({ "to": number, "session": "s", "message": "Hello" });
        publish(&agent, intent, intent, &dial).await;
        reached_within(Duration::from_secs(40), "the end of a dial", async || {
            let told = told(&feed, intent);
            let ended = told.iter().any(|what| what == "command.confirmed");
            ended.then_some(()).ok_or_else(|| format!("{told:?}"))
        })
        .await;
        is_confirmed_with_its_call(&feed, &server, intent).await;
    }
    assert_eq!(server.calls().len(), 3);
    server.stop().await;
    up.stop().await;
}

/// v1 and v3 send no events; their lists tell.
#[tokio::test]
async fn a_call_whose_answer_is_lost_is_found_in_the_lists_of_every_version() {
    for version in [Version::V1, Version::V2, Version::V3] {
        let (up, address) = up_without_server().await;
        let config = StandInConfig {
            listen: address,
            version,
            ..StandInConfig::default()
        };
        let server = StandIn::start(config).await.unwrap();
        let feed = up.observer.feed().await;
        let agent = up.connect("agent").await;
        let dial = json!({ "to": "+12015550123", "session": "s", "message": "Hello" });
        publish(&agent, "before", "before", &dial).await;
        feed.hears("before", "command.confirmed").await;
        server.inject(Route::Dial, Fault::HangUpAfter);
        publish(&agent, "wish", "wish", &dial).await;
        is_confirmed_with_its_call(&feed, &server, "wish").await;
        assert_eq!(server.calls().len(), 2, "{version}");
        server.stop().await;
        up.stop().await;
    }
}

/// What nobody can find out stands before a person within two minutes, and is never dialled again.
#[tokio::test]
async fn what_cannot_be_found_is_unknown_until_a_person_says_what_became_of_it() {
    let (up, server) = up_with_server(Race::Seeded).await;
    let feed = up.observer.feed().await;
    let agent = up.connect("agent").await;
    let html = Fault::Answer {
        status: 200,
        body: "<html>It works!</html>".to_owned(),
    };
    let nameless = Fault::Answer {
        status: 200,
        body: r#"{"status":"initiated"}"#.to_owned(),
    };
    let faults = [
        ("rang", Fault::Twilio(Twilio::ResetsAfter)),
        ("html", html),
        ("nameless", nameless),
        ("endless", Fault::EndlessAnswer),
    ];
    for (number, (intent, fault)) in faults.iter().enumerate() {
        server.inject(Route::Dial, fault.clone());
        let dial = json!({ "to": format!("+1201555012{number}"), "session": "s" });
        publish(&agent, intent, intent, &dial).await;
        // After three failures in a row egress leaves the server alone for ten seconds.
        reached_within(Duration::from_secs(40), "an unknown outcome", async || {
            let told = told(&feed, intent);
            let is_unknown = told == ["command.accepted", "command.unknown"];
            is_unknown.then_some(()).ok_or_else(|| format!("{told:?}"))
        })
        .await;
    }
    assert_eq!(server.calls().len(), 4);
    let body = json!({ "to": "+12015550129", "openclaw_session_id": "s", "message": "Hello" });
    server.inject(Route::Dial, Fault::Twilio(Twilio::ResetsAfter));
    let answer = up.http.post("/openclaw/call", &body).await;
    assert_eq!(
        (answer.status, &*answer.refusal()),
        (502, "outcome_unknown")
    );
    assert_eq!(answer.json()["retry"], false);

    // Asked again after a restart, by a sender that knows nothing of the first time.
    let up = up.restart().await;
    let agent = up.connect("agent").await;
    let dial = json!({ "to": "+12015550120", "session": "s" });
    publish(&agent, "rang", "second", &dial).await;
    reached_within(Duration::from_secs(120), "all to be settled", async || {
        let settled = unresolved(&up).await;
        let settled = settled.iter().filter(|one| one["settled"] == true).count();
        (settled == 5)
            .then_some(())
            .ok_or_else(|| format!("{settled}"))
    })
    .await;
    assert_eq!(server.calls().len(), 5);
    let status = up.http.get("/status").await.json();
    assert_eq!(status["egress"]["unresolved"], 5);

    let feed = up.observer.feed().await;
    let call = server.calls()[0].call_id.clone().unwrap();
    let (code, said) = up
        .tool(&["call", "resolve", "rang", "--confirmed", &call])
        .await;
    assert_eq!(
        (code, &*said),
        (0, &*format!("rang is confirmed, call {call}\n"))
    );
    let why = "nobody heard a phone ring";
    let (code, said) = up
        .tool(&["call", "resolve", "html", "--abandoned", why])
        .await;
    assert_eq!((code, &*said), (0, &*format!("html is abandoned: {why}\n")));
    feed.hears("rang", "command.confirmed").await;
    feed.hears("html", "command.abandoned").await;
    let initiated = feed.hears(&call, "state.initiated").await;
    assert_eq!(initiated.session(), "agent:main:s");
    assert_eq!(unresolved(&up).await.len(), 3);
    let (code, said) = up
        .tool(&["call", "resolve", "html", "--confirmed", &call])
        .await;
    assert_eq!((code, said.contains("abandoned")), (1, true), "{said}");
    assert_eq!(server.calls().len(), 5);
    server.stop().await;
    up.stop().await;
}

#[tokio::test]
async fn a_server_that_is_not_configured_refuses_for_good() {
    let (up, server) = up_with_server(Race::Seeded).await;
    server.set_setup(Setup {
        twilio: false,
        ..Setup::default()
    });
    let feed = up.observer.feed().await;
    let agent = up.connect("agent").await;
    let dial = json!({ "to": "+12015550123", "session": "s" });
    publish(&agent, "wish", "1", &dial).await;
    let refused = feed.hears("wish", "command.refused").await;
    assert_eq!(refused.json["data"]["command"]["code"], "not-configured");
    server.stop().await;
    up.stop().await;
}
