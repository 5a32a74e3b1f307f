//! Commands that nobody can use.

use tokio::process::Child;
use voicebus::bus::server::User;
use voicebus::cli::{Exit, dlq};
use voicebus::domain::phone::E164;
use voicebus::simulate::{StandIn, StandInConfig};

use super::Stage;
use crate::harness::eventually;

/// An egress whose phone-call server does not exist.
pub(super) async fn egress(stage: &Stage) -> Child {
    egress_of(stage, "http://127.0.0.1:9").await
}

async fn egress_of(stage: &Stage, voice_server: &str) -> Child {
    let egress = stage.process(User::Egress, &["--voice-server", voice_server]);
    let observer = stage.connect(User::Observer).await;
    eventually("an egress", async || {
        let asked = observer
            .client()
            .request("$SRV.PING.voicebus-egress", "".into());
        asked.await.ok()
    })
    .await;
    egress
}

#[tokio::test]
async fn bad_commands_are_kept_and_whoever_asked_hears_of_it() {
    let stage = Stage::set().await;
    let _router = stage.router().await;
    let _egress = egress(&stage).await;
    let agent = stage.connect(User::Agent).await;
    for (subject, body) in [
        ("voice.cmd.dial.i-bad", "not json"),
        ("voice.cmd.hangup.CA1", "{\"id\":\"h-1\",\"nonsense\":1}"),
        ("voice.cmd.dial.i!", "{}"),
        ("voice.cmd.dial.i.more", "{}"),
    ] {
        let sent = agent.jetstream().publish(subject, body.into()).await;
        sent.unwrap().await.unwrap();
    }
    let letters = stage.parked(4).await;
    let mut found: Vec<(&str, &str)> = letters
        .iter()
        .map(|letter| (letter.subject().unwrap(), letter.reason.as_str()))
        .collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            ("voice.cmd.dial.i!", "bad-id"),
            ("voice.cmd.dial.i-bad", "bad-command"),
            ("voice.cmd.dial.i.more", "unknown-command"),
            ("voice.cmd.hangup.CA1", "bad-command"),
        ]
    );
    let refused = stage.told("i-bad", "command.refused", 1).await;
    let of_dial = letters
        .iter()
        .find(|letter| letter.header("Voicebus-Call") == Some("i-bad"))
        .unwrap();
    let reason = refused["data"]["command"]["reason"].as_str().unwrap();
    assert!(
        reason.ends_with(&format!("(dead letter {})", of_dial.id)),
        "{reason}"
    );
    assert_eq!(of_dial.header("Voicebus-Stream"), Some("VOICE_CMD"));

    // A phone might ring that nobody expects: commands do not go back.
    let mut out = Vec::new();
    let id = of_dial.id.to_string();
    let args = stage.args(User::Operator, &["redrive", &id]);
    assert_eq!(dlq::run(args, &mut out).await.unwrap(), Exit::Wrong);
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("give the command anew"), "{text}");
    assert_eq!(stage.letters().await.len(), 4);
}

/// The record of its number cannot be read, and never will be: trouble of this dial alone, and not
/// a reason to try for ever.
#[tokio::test]
async fn a_dial_whose_trouble_does_not_pass_is_refused_for_good() {
    let stage = Stage::set().await;
    let _router = stage.router().await;
    let server = StandIn::start(StandInConfig::default()).await.unwrap();
    let _egress = egress_of(&stage, &server.url()).await;
    let number = E164::parse("+12015550142").unwrap();
    let key = stage.ingress.subjects().number_key(&number);
    let writer = stage.connect(User::Egress).await;
    let numbers = writer.jetstream().get_key_value("VOICE_NUMBER").await;
    numbers.unwrap().put(key, "garbage".into()).await.unwrap();

    let agent = stage.connect(User::Agent).await;
    let dial = r#"{"to":"+12015550142","session":"agent:main:x"}"#;
    let sent = agent.jetstream().publish("voice.cmd.dial.i-1", dial.into());
    sent.await.unwrap().await.unwrap();
    let refused = stage.told("i-1", "command.refused", 1).await;
    let letter = stage.parked(1).await.remove(0);
    assert_eq!(letter.reason, "exhausted");
    assert_eq!(refused["data"]["command"]["code"], "exhausted");
    let reason = refused["data"]["command"]["reason"].as_str().unwrap();
    assert!(
        reason.ends_with(&format!("(dead letter {})", letter.id)),
        "{reason}"
    );
    assert_eq!(refused["data"]["command"]["to"], "+12015550142");
    // The record is final: what comes later is not dialled.
    let intents = writer.jetstream().get_key_value("VOICE_INTENT").await;
    let record = intents.unwrap().get("i-1").await.unwrap().unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["state"], "refused");
    assert!(server.calls().is_empty());
}
