//! What stands between a wish to dial and a phone that rings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use voicebus::simulate::{Race, StandIn, StandInConfig};

use crate::harness::{Options, Up, free_address, reached, reached_within, within};
use crate::outbound::{publish, stand_in};

async fn up(args: &[&str]) -> (Up, StandIn) {
    let voice_server = free_address();
    let up = Up::start(Options {
        voice_server,
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        ..Options::default()
    })
    .await;
    let server = stand_in(voice_server, &up.http, Race::Seeded).await;
    (up, server)
}

/// Asks for a call over NATS; what became of it, and why.
async fn ask(agent: &async_nats::Client, dial: Value) -> (String, String) {
    let request = agent.request("voice.svc.dial", dial.to_string().into());
    let answer = within("an answer over NATS", request).await.unwrap();
    let outcome: Value = serde_json::from_slice(&answer.payload).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&outcome["status"]), text(&outcome["command"]["code"]))
}

#[tokio::test]
async fn each_guard_refuses_by_its_name_and_rings_nobody() {
    let args = [
        "--call-countries=US,GB,BS",
        "--refused-prefixes=+1242",
        "--own-numbers=+12015550100",
    ];
    let (up, server) = up(&args).await;
    let agent = up.connect("agent").await;
    let refused = |code: &str| ("refused".to_owned(), code.to_owned());
    for (dial, code) in [
        (json!({ "to": "+19005551212" }), "premium-rate"),
        (json!({ "to": "+12423221234" }), "refused-prefix"),
        (json!({ "to": "+4312345678" }), "country-not-allowed"),
        (json!({ "to": "+881612345678" }), "country-not-allowed"),
        (
            json!({ "to": "+12015550123", "caller_id": "+12015550199" }),
            "caller-id-not-ours",
        ),
        (json!({ "to": "+12015550100" }), "calls-itself"),
    ] {
        assert_eq!(ask(&agent, dial.clone()).await, refused(code), "{dial}");
    }
    assert_eq!(server.calls().len(), 0);
    let fine = json!({ "to": "+12015550123", "caller_id": "+12015550100" });
    assert_eq!(ask(&agent, fine).await.0, "confirmed");
    assert_eq!(server.calls().len(), 1);
    server.stop().await;
    up.stop().await;
}

#[tokio::test]
async fn at_night_nobody_is_called_and_the_morning_is_named() {
    // All hours but the one that ended an hour ago are quiet: it is quiet now, and not for ever.
    let hour = |ago: i64| {
        let at = chrono::Utc::now() - chrono::TimeDelta::hours(ago);
        at.format("%H:%M").to_string()
    };
    let hours = format!("--quiet-hours={}-{}", hour(1), hour(2));
    // London keeps UTC in winter; Iceland does so all year.
    let (up, server) = up(&[&hours]).await;
    let feed = up.observer.feed().await;
    let agent = up.connect("agent").await;
    let dial = json!({ "to": "+3545101234", "session": "s", "intent": "wish" });
    assert_eq!(ask(&agent, dial).await.1, "quiet-hours");
    let refused = feed.hears("wish", "command.refused").await;
    let reason = refused.json["data"]["command"]["reason"].as_str().unwrap();
    assert!(reason.contains("Atlantic/Reykjavik"), "{reason}");
    assert!(reason.contains("passes at 20"), "{reason}");
    assert_eq!(server.calls().len(), 0);
    server.stop().await;
    up.stop().await;
}

#[tokio::test]
async fn a_person_is_not_called_again_and_again() {
    let (up, server) = up(&["--calls-per-number=2"]).await;
    let agent = up.connect("agent").await;
    let dial = json!({ "to": "+12015550123", "session": "s" });
    for _ in 0..2 {
        assert_eq!(ask(&agent, dial.clone()).await.0, "confirmed");
    }
    let refused = ask(&agent, dial).await;
    assert_eq!(
        refused,
        ("refused".to_owned(), "limit-per-number".to_owned())
    );
    let other = json!({ "to": "+12015550124", "session": "s" });
    assert_eq!(ask(&agent, other).await.0, "confirmed");
    assert_eq!(server.calls().len(), 3);
    server.stop().await;
    up.stop().await;
}

/// A dial that certainly never left does not count, so that a server that is away costs nobody
/// their calls.
#[tokio::test]
async fn a_dial_that_never_left_is_given_back() {
    let voice_server = free_address();
    let up = Up::start(Options {
        voice_server,
        args: vec!["--calls-per-hour=1".to_owned()],
        ..Options::default()
    })
    .await;
    let feed = up.observer.feed().await;
    let agent = up.connect("agent").await;
    let deadline = (chrono::Utc::now() + chrono::TimeDelta::seconds(2)).to_rfc3339();
    let dial = json!({ "to": "+12015550123", "session": "s", "deadline": deadline });
    publish(&agent, "away", "1", &dial).await;
    feed.hears("away", "command.expired").await;
    let server = stand_in(voice_server, &up.http, Race::Seeded).await;
    let dial = json!({ "to": "+12015550123", "session": "s" });
    assert_eq!(ask(&agent, dial.clone()).await.0, "confirmed");
    assert_eq!(ask(&agent, dial).await.1, "limit-per-hour");
    assert_eq!(server.calls().len(), 1);
    server.stop().await;
    up.stop().await;
}

#[tokio::test]
async fn a_call_that_is_over_makes_room_for_another() {
    let (up, server) = up(&["--calls-at-once=1"]).await;
    let feed = up.observer.feed().await;
    let agent = up.connect("agent").await;
    let mut tries = 0;
    for _ in 0..3 {
        let wish = reached("room for a call", async || {
            tries += 1;
            let wish = format!("wish-{tries}");
            let dial = json!({ "to": "+12015550123", "session": "s", "intent": wish });
            match ask(&agent, dial).await {
                (status, _) if status == "confirmed" => Ok(wish),
                (_, code) => {
                    assert_eq!(code, "limit-concurrent");
                    Err(code)
                }
            }
        })
        .await;
        reached("the call to end", async || {
            let ended = feed.all().iter().any(|event| {
                event.what() == "state.ended" && event.json["data"]["call"]["intent"] == *wish
            });
            ended.then_some(()).ok_or_else(|| format!("{wish} goes on"))
        })
        .await;
    }
    assert_eq!(server.calls().len(), 3);
    server.stop().await;
    up.stop().await;
}

#[tokio::test]
async fn a_call_without_an_end_keeps_its_place() {
    // It tells nothing of its calls.
    let server = StandIn::start(StandInConfig::default()).await.unwrap();
    let up = Up::start(Options {
        voice_server: server.addr(),
        args: vec!["--calls-at-once=1".to_owned()],
        ..Options::default()
    })
    .await;
    let agent = up.connect("agent").await;
    let dial = json!({ "to": "+12015550123", "session": "s" });
    assert_eq!(ask(&agent, dial.clone()).await.0, "confirmed");
    assert_eq!(ask(&agent, dial.clone()).await.1, "limit-concurrent");
    // Nor does a restart make room.
    let up = up.restart().await;
    let agent = up.connect("agent").await;
    assert_eq!(ask(&agent, dial).await.1, "limit-concurrent");
    assert_eq!(server.calls().len(), 1);
    server.stop().await;
    up.stop().await;
}

/// The caps of all windows hold for a flood of wishes, whatever becomes of the workers.
#[tokio::test]
async fn a_flood_with_restarts_in_the_middle_stays_below_the_caps() {
    const WISHES: usize = 1_000;
    let (up, server) = up(&[
        "--calls-per-minute=500",
        "--calls-per-hour=20",
        "--calls-per-number=3",
    ])
    .await;
    let agent = async_nats::jetstream::new(up.connect("agent").await);
    let mut stored = Vec::new();
    for wish in 0..WISHES {
        let dial = json!({ "to": format!("+1201555{:04}", 100 + wish % 50), "session": "s" });
        let subject = format!("voice.cmd.dial.wish-{wish}");
        stored.push(
            agent
                .publish(subject, dial.to_string().into())
                .await
                .unwrap(),
        );
    }
    for sent in stored {
        within("a command to be stored", sent.into_future())
            .await
            .unwrap();
    }
    drop(agent);
    let up = up.restart().await.restart().await;
    // What was at work when its egress was stopped comes again after `ack_wait`, 30 s.
    reached_within(Duration::from_secs(90), "the wishes to end", async || {
        let consumers = up.observer.consumers("VOICE_CMD").await;
        let consumer = consumers
            .iter()
            .find(|one| one["name"] == "egress")
            .unwrap();
        let left = ["num_pending", "num_ack_pending"].map(|what| consumer[what].as_u64());
        (left == [Some(0); 2])
            .then_some(())
            .ok_or_else(|| format!("{left:?}"))
    })
    .await;
    up.settled().await;
    let stored = up.observer.read_back().await;
    let ends = |what: &str| stored.iter().filter(|event| event.what() == what).count();
    let (confirmed, unknown) = (ends("command.confirmed"), ends("command.unknown"));
    assert_eq!(confirmed + unknown + ends("command.refused"), WISHES);
    let calls = server.calls();
    assert!(calls.len() <= 20, "{} calls", calls.len());
    assert!(
        calls.len() + unknown >= 20,
        "{} calls, {unknown} unknown",
        calls.len()
    );
    server.stop().await;
    up.stop().await;
}

/// Every number of the catalogue that must not be dialled.
#[tokio::test]
async fn nothing_of_the_catalogue_rings() {
    let (up, server) = up(&[]).await;
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/badinputs");
    let folder = std::env::var_os("VOICEBUS_BADINPUTS_DIR").map_or(own, PathBuf::from);
    let bytes = std::fs::read(folder.join("phone.json")).unwrap();
    let catalogue: Value = serde_json::from_slice(&bytes).unwrap();
    let mut judged = 0;
    for row in catalogue["requests"].as_array().unwrap() {
        if row["path"] != "/openclaw/call" {
            continue;
        }
        let body = crate::bad_input::base64(row["body_base64"].as_str().unwrap());
        let json = [("content-type", "application/json")];
        let answer = up.http.send("POST", "/openclaw/call", &json, &body).await;
        assert!(
            (400..500).contains(&answer.status),
            "{}: {}",
            row["name"],
            answer.text()
        );
        answer.refusal();
        judged += 1;
    }
    assert!(judged >= 39, "{judged}");
    assert_eq!(server.calls().len(), 0);
    // Refused at the door: no command, and no record of one.
    assert_eq!(up.observer.messages("VOICE_CMD").await, 0);
    assert_eq!(up.observer.messages("KV_VOICE_INTENT").await, 0);
    server.stop().await;
    up.stop().await;
}
